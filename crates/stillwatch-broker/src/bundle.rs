//! Files that belong together, as chunks that fit into messages.
//!
//! In a bucket each chunk is a value under the hash of its content, and one *head* names
//! the chunks of each file. Chunks are there before the head is, so that whoever reads a
//! head finds all of it, and what is cut, mixed or changed is told by its hash.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Bytes of a chunk; below the 1 MiB that a server takes by default.
pub const CHUNK_BYTES: usize = 512 << 10;
/// Bytes of all files of a bundle together.
pub const BUNDLE_BYTES_MAX: u64 = 512 << 20;
/// Files of a bundle.
const FILES_MAX: usize = 16;

const VERSION: u32 = 1;
/// The first line of a bundle that is kept in a file.
const FILE_HEADER: &[u8] = b"stillwatch bundle 1\n";

/// Files by their names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bundle(pub Vec<(String, Bytes)>);

/// What names the chunks of a bundle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    version: u32,
    files: Vec<File>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    name: String,
    bytes: u64,
    sha256: String,
    /// SHA-256 of each chunk's content, in hex.
    chunks: Vec<String>,
}

/// SHA-256 in hex.
pub(crate) fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Bundle {
    /// The file of that name.
    #[must_use]
    pub fn file(&self, name: &str) -> Option<&Bytes> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, bytes)| bytes)
    }

    /// Its head, and its chunks by their hashes.
    ///
    /// # Errors
    /// It is too large.
    pub fn divided(&self) -> Result<(Head, BTreeMap<String, Bytes>), String> {
        let total: u64 = self.0.iter().map(|(_, bytes)| bytes.len() as u64).sum();
        if total > BUNDLE_BYTES_MAX || self.0.len() > FILES_MAX {
            return Err(format!("{total} bytes are more than the {BUNDLE_BYTES_MAX} of a bundle"));
        }
        let mut chunks = BTreeMap::new();
        let files = self.0.iter().map(|(name, bytes)| {
            let mut names = Vec::new();
            let mut rest = bytes.clone();
            while !rest.is_empty() {
                let chunk = rest.split_to(rest.len().min(CHUNK_BYTES));
                let name = hash(&chunk);
                chunks.insert(name.clone(), chunk);
                names.push(name);
            }
            let (name, length) = (name.clone(), bytes.len() as u64);
            File { name, bytes: length, sha256: hash(bytes), chunks: names }
        });
        Ok((Head { version: VERSION, files: files.collect() }, chunks))
    }

    /// The whole in one piece, for a file.
    ///
    /// # Errors
    /// It is too large.
    pub fn to_bytes(&self) -> Result<Vec<u8>, String> {
        let (head, _) = self.divided()?;
        let mut bytes = FILE_HEADER.to_vec();
        bytes.extend_from_slice(&head.to_bytes());
        bytes.push(b'\n');
        self.0.iter().for_each(|(_, file)| bytes.extend_from_slice(file));
        Ok(bytes)
    }

    /// Reads what [`to_bytes`](Self::to_bytes) has made.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn from_bytes(mut bytes: Bytes) -> Result<Self, String> {
        if !bytes.starts_with(FILE_HEADER) {
            return Err("it is no bundle, or one of another version".to_owned());
        }
        let _ = bytes.split_to(FILE_HEADER.len());
        let end = bytes.iter().position(|byte| *byte == b'\n').ok_or("its head is cut off")?;
        let head = Head::parse(&bytes.split_to(end))?;
        let _ = bytes.split_to(1);
        let mut files = Vec::new();
        for file in &head.files {
            let length = usize::try_from(file.bytes).unwrap_or(usize::MAX);
            if bytes.len() < length {
                return Err(format!("{} is cut off", file.name));
            }
            files.push((file.name.clone(), file.checked(bytes.split_to(length))?));
        }
        if bytes.is_empty() { Ok(Bundle(files)) } else { Err("it is too long".to_owned()) }
    }
}

impl File {
    fn checked(&self, bytes: Bytes) -> Result<Bytes, String> {
        if bytes.len() as u64 == self.bytes && hash(&bytes) == self.sha256 {
            return Ok(bytes);
        }
        Err(format!("{} is not what was published", self.name))
    }
}

impl Head {
    /// Reads a head.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let head: Head = serde_json::from_slice(bytes)
            .map_err(|error| format!("the head of the findings can't be read: {error}"))?;
        if head.version != VERSION {
            return Err(format!("the findings are of version {}, not {VERSION}", head.version));
        }
        let total = head.files.iter().try_fold(0_u64, |sum, file| sum.checked_add(file.bytes));
        let chunks: usize = head.files.iter().map(|file| file.chunks.len()).sum();
        let is_hash = |text: &String| {
            text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        };
        let chunks_max = (BUNDLE_BYTES_MAX as usize).div_ceil(CHUNK_BYTES) + FILES_MAX;
        if total.is_none_or(|total| total > BUNDLE_BYTES_MAX)
            || head.files.len() > FILES_MAX
            || chunks > chunks_max
            || !head.chunks().all(is_hash)
        {
            return Err("the head of the findings names what no bundle has".to_owned());
        }
        Ok(head)
    }

    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        // Texts and numbers always become JSON.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// The hashes of all chunks.
    pub fn chunks(&self) -> impl Iterator<Item = &String> {
        self.files.iter().flat_map(|file| &file.chunks)
    }

    /// Puts the files together of their chunks.
    ///
    /// # Errors
    /// A chunk is missing, or is not what was published.
    pub fn assembled(&self, chunks: &BTreeMap<String, Bytes>) -> Result<Bundle, String> {
        let mut files = Vec::new();
        for file in &self.files {
            let mut bytes = BytesMut::new();
            for (number, name) in file.chunks.iter().enumerate() {
                let part =
                    || format!("part {} of {} of {}", number + 1, file.chunks.len(), file.name);
                let chunk = chunks.get(name).ok_or_else(|| format!("{} is missing", part()))?;
                if hash(chunk) != *name {
                    return Err(format!("{} is not what was published", part()));
                }
                bytes.extend_from_slice(chunk);
            }
            files.push((file.name.clone(), file.checked(bytes.freeze())?));
        }
        Ok(Bundle(files))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bundle(sizes: &[usize]) -> Bundle {
        let file = |(number, size): (usize, &usize)| {
            let bytes: Vec<u8> = (0..*size).map(|at| (at / 7 + number) as u8).collect();
            (format!("file {number}"), Bytes::from(bytes))
        };
        Bundle(sizes.iter().enumerate().map(file).collect())
    }

    #[test]
    fn what_is_divided_is_put_together_again() {
        for sizes in [&[][..], &[0], &[1, CHUNK_BYTES, CHUNK_BYTES + 1], &[5 * CHUNK_BYTES, 3]] {
            let bundle = bundle(sizes);
            let (head, chunks) = bundle.divided().unwrap();
            assert!(chunks.values().all(|chunk| chunk.len() <= CHUNK_BYTES));
            assert_eq!(
                Head::parse(&head.to_bytes()).unwrap().assembled(&chunks),
                Ok(bundle.clone())
            );
            assert_eq!(Bundle::from_bytes(bundle.to_bytes().unwrap().into()), Ok(bundle));
        }
    }

    #[test]
    fn what_is_missing_or_changed_is_named() {
        let (head, mut chunks) = bundle(&[9, 2 * CHUNK_BYTES]).divided().unwrap();
        let second = head.files[1].chunks[1].clone();
        let held = chunks.insert(second.clone(), Bytes::from_static(b"other")).unwrap();
        let told = "part 2 of 2 of file 1 is not what was published";
        assert_eq!(head.assembled(&chunks).unwrap_err(), told);
        chunks.remove(&second);
        assert_eq!(head.assembled(&chunks).unwrap_err(), "part 2 of 2 of file 1 is missing");
        chunks.insert(second, held);
        assert!(head.assembled(&chunks).is_ok());
    }

    proptest! {
        #[test]
        fn a_file_that_was_cut_or_changed_is_refused(at in 0_usize..400, byte in 1_u8..=255) {
            let whole = bundle(&[40, 100]).to_bytes().unwrap();
            let at = at % whole.len();
            prop_assert!(Bundle::from_bytes(Bytes::from(whole[..at].to_vec())).is_err());
            let mut changed = whole.clone();
            changed[at] ^= byte;
            // Names are not contents.
            if let Ok(read) = Bundle::from_bytes(changed.into()) {
                let contents = |bundle: Bundle| bundle.0.into_iter().map(|(_, bytes)| bytes);
                prop_assert!(contents(read).eq(contents(bundle(&[40, 100]))));
            }
        }
    }

    #[test]
    fn fuzz_heads_and_files() {
        bolero::check!().for_each(|bytes: &[u8]| {
            let _ = Head::parse(bytes);
            let _ = Bundle::from_bytes(Bytes::copy_from_slice(bytes));
            let file = [FILE_HEADER, bytes].concat();
            let _ = Bundle::from_bytes(file.into());
        });
    }
}

//! Spool: what comes from a source that can't be read again is written to files in the
//! folder of the state first, and followed there like any other file.
//!
//! A segment is closed at [`SEGMENT_BYTES`]; closed segments are removed by the checkpoint
//! that covers them, but of what was delivered the last [`Spool::kept_bytes`]. Bound: what
//! has come and is not covered yet; where the disk is full the watch ends.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::deliveries;

/// Bytes of a segment before another is begun.
const SEGMENT_BYTES: u64 = 64 << 20;
/// Bytes that are read at once.
const READ_BYTES: usize = 1 << 16;

/// Writes lines to segments.
#[derive(Debug)]
pub struct Spool {
    folder: PathBuf,
    name: &'static str,
    number: u64,
    file: File,
    bytes: u64,
}

impl Spool {
    /// Goes on after the segments that a folder holds of that name.
    ///
    /// # Errors
    /// The folder can't be written.
    pub fn open(folder: &Path, name: &'static str) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let last = segments(folder, name)?.pop();
        if let Some((_, path)) = &last {
            cut_half_line(path)?;
        }
        let number = last.map_or(0, |(number, _)| number) + 1;
        let file = segment(folder, name, number)?;
        Ok(Spool { folder: folder.to_owned(), name, number, file, bytes: 0 })
    }

    /// Bytes of the last segments of a name that stay, read out or not: what was delivered
    /// last is known by them when it is sent again.
    pub(crate) fn kept_bytes(name: &str) -> u64 {
        if name == deliveries::NAME { SEGMENT_BYTES } else { 0 }
    }

    /// Appends lines that belong together; they end with a newline each.
    ///
    /// # Errors
    /// They can't be written; nothing is kept of them.
    pub fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        if self.bytes >= SEGMENT_BYTES {
            self.file.sync_data()?;
            self.file = segment(&self.folder, self.name, self.number + 1)?;
            self.number += 1;
            self.bytes = 0;
        }
        if let Err(error) = self.file.write_all(lines) {
            self.file.set_len(self.bytes)?;
            return Err(error);
        }
        self.bytes += lines.len() as u64;
        Ok(())
    }

    /// Writing fails from now on, as on a full disk.
    #[cfg(test)]
    pub fn close_for_writing(&mut self) {
        self.file = File::open(self.folder.join("."))
            .or_else(|_| File::open(&self.folder))
            .unwrap_or_else(|error| panic!("{error}"));
    }

    /// Returns when what was appended would survive the machine.
    ///
    /// # Errors
    /// The disk says that it would not.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Appends all that a stream has, as it comes, up to its end. Lines are written whole.
    ///
    /// # Errors
    /// It can't be read, or not be written.
    pub fn take_all(&mut self, mut stream: impl Read) -> io::Result<()> {
        let mut bytes = vec![0; READ_BYTES];
        let mut begun: Vec<u8> = Vec::new();
        loop {
            let count = match stream.read(&mut bytes) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let read = bytes.get(..count).unwrap_or_default();
            match memchr::memrchr(b'\n', read) {
                Some(end) => {
                    let (whole, rest) = read.split_at(end + 1);
                    begun.extend_from_slice(whole);
                    self.append(&begun)?;
                    begun.clear();
                    begun.extend_from_slice(rest);
                }
                None => begun.extend_from_slice(read),
            }
            // A line without end is some other stream; it is refused where it is read.
            if begun.len() > stillwatch_ingest::validity::BATCH_LINE_BYTES_MAX {
                self.append(&std::mem::take(&mut begun))?;
            }
        }
        if !begun.is_empty() {
            begun.push(b'\n');
            self.append(&begun)?;
        }
        self.sync()
    }
}

/// The segments of a name with their numbers, in order.
pub(crate) fn segments(folder: &Path, name: &str) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let file = entry.file_name();
        let number = file
            .to_str()
            .and_then(|n| n.strip_prefix(name)?.strip_prefix('-')?.strip_suffix(".jsonl"));
        if let Some(number) = number.and_then(|number| number.parse().ok()) {
            all.push((number, entry.path()));
        }
    }
    all.sort_unstable();
    Ok(all)
}

/// Takes away a last line that a killed process has not written to its end.
fn cut_half_line(path: &Path) -> io::Result<()> {
    let mut file = OpenOptions::new().read(true).write(true).open(path)?;
    let mut end = file.metadata()?.len();
    let mut bytes = vec![0; READ_BYTES];
    while end > 0 {
        let begin = end.saturating_sub(READ_BYTES as u64);
        let Some(part) = bytes.get_mut(..(end - begin) as usize) else { break };
        file.seek(SeekFrom::Start(begin))?;
        file.read_exact(part)?;
        if let Some(at) = memchr::memrchr(b'\n', part) {
            end = begin + at as u64 + 1;
            break;
        }
        end = begin;
    }
    file.set_len(end)
}

fn segment(folder: &Path, name: &str, number: u64) -> io::Result<File> {
    let path = folder.join(format!("{name}-{number:012}.jsonl"));
    let file = OpenOptions::new().create_new(true).append(true).open(path)?;
    // A file's name is on the disk when its folder is.
    #[cfg(unix)]
    File::open(folder)?.sync_all()?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_written_whole_and_segments_go_on() {
        let folder = tempfile::tempdir().unwrap();
        for text in ["one\ntwo", "three\n"] {
            let mut spool = Spool::open(folder.path(), "stdin").unwrap();
            spool.take_all(text.as_bytes()).unwrap();
        }
        let mut names: Vec<_> =
            fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().path()).collect();
        names.sort();
        let texts: Vec<String> = names.iter().map(|p| fs::read_to_string(p).unwrap()).collect();
        assert_eq!(texts, ["one\ntwo\n", "three\n"]);
        assert!(names[1].ends_with("stdin-000000000002.jsonl"));
    }
}

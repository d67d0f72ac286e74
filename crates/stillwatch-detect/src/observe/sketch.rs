//! The keyed sketch that stands for a prompt where its text may not leave its owner.
//!
//! Layout, little-endian, [`SKETCH_BYTES`] bytes, golden file
//! `tests/golden/sketch_v1.txt`:
//!
//! | bytes | what |
//! | --- | --- |
//! | 1 | version, 1 |
//! | 4 | check of the key: the first bytes of SHA-256("stillwatch key check" ‖ key) |
//! | 8 × 5 | whole, skeleton, opening, closing, system |
//! | 8 × 4 | bands |
//! | 16 | topic |
//! | 2 | words |
//! | 1 | capability |
//! | 1 | asks |
//!
//! Every 8-byte value is SipHash-1-3 (Aumasson, Bernstein 2012) of an inner hash
//! under the key: without the key a value can't be tried against guessed prompts.
//! The topic bytes come from hashes that the key is mixed into. Whoever holds the key
//! can test guesses; a sketch hides text from those without the key, not from its
//! owner. The length in words, the capability and what is asked for are in the clear.

use std::hash::Hasher;

use sha2::{Digest, Sha256};
use siphasher::sip::SipHasher13;

use super::lexicon::{Asks, Capability, Tally};
use super::text::{self, BANDS, TOPIC_BUCKETS};

/// Length of a stored sketch.
pub const SKETCH_BYTES: usize = 1 + 4 + 8 * (5 + BANDS) + TOPIC_BUCKETS + 2 + 1 + 1;
const VERSION: u8 = 1;

/// What the hashes of one owner are keyed with; made from any secret bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key {
    halves: [u64; 2],
    inner: u64,
    check: [u8; 4],
}

impl Key {
    /// Derives a key from secret bytes with SHA-256.
    #[must_use]
    pub fn derive(secret: &[u8]) -> Self {
        let digest = |label: &str| {
            let mut hash = Sha256::new();
            hash.update(label.as_bytes());
            hash.update(secret);
            let bytes: [u8; 32] = hash.finalize().into();
            bytes
        };
        let key = digest("stillwatch sketch key");
        let check = digest("stillwatch key check");
        let word = |at: usize| {
            let mut bytes = [0u8; 8];
            bytes.copy_from_slice(&key[at..at + 8]);
            u64::from_le_bytes(bytes)
        };
        Key {
            halves: [word(0), word(8)],
            inner: word(16),
            check: [check[0], check[1], check[2], check[3]],
        }
    }

    /// The key used where none is given. It is public: sketches under it can be
    /// tried against guessed prompts by anyone.
    #[must_use]
    pub fn public() -> Self {
        Key::derive(b"")
    }

    /// A keyed hash of a value of one kind; never 0, which stands for «absent».
    #[inline]
    #[must_use]
    pub(crate) fn hash(&self, kind: u64, value: u64) -> u64 {
        let mut hasher = SipHasher13::new_with_keys(self.halves[0], self.halves[1] ^ kind);
        hasher.write_u64(value);
        hasher.finish().max(1)
    }

    /// A keyed hash of what links exchanges, for use within a run: nobody gets to see
    /// it, so that one multiplication in place of SipHash will do. Never 0.
    #[inline]
    #[must_use]
    pub(crate) fn link(&self, kind: u64, value: u64) -> u64 {
        text::mix(value ^ self.halves[0], (self.halves[1] ^ kind.rotate_left(32)) | 1).max(1)
    }

    /// The same of bytes.
    #[inline]
    #[must_use]
    pub(crate) fn link_bytes(&self, kind: u64, bytes: &[u8]) -> u64 {
        self.link(kind, xxhash_rust::xxh3::xxh3_64_with_seed(bytes, self.inner))
    }

    /// A keyed hash of bytes of one kind; never 0.
    #[inline]
    #[must_use]
    pub(crate) fn hash_bytes(&self, kind: u64, bytes: &[u8]) -> u64 {
        self.hash(kind, xxhash_rust::xxh3::xxh3_64_with_seed(bytes, self.inner))
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(…)")
    }
}

/// Why bytes are not a usable sketch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SketchError {
    #[error(
        "prompt_sketch has {0} bytes, expected {SKETCH_BYTES}: it was not written by `stillwatch sketch`"
    )]
    Length(usize),
    #[error("prompt_sketch has version {0}, this program reads version {VERSION}")]
    Version(u8),
    #[error("prompt_sketch was made under another key: give the key it was made with")]
    OtherKey,
}

/// A prompt and its system prompt as keyed hashes; 0 where there is nothing to hash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sketch {
    pub whole: u64,
    pub skeleton: u64,
    pub opening: u64,
    pub closing: u64,
    pub system: u64,
    pub bands: [u64; BANDS],
    pub topic: [u8; TOPIC_BUCKETS],
    pub words: u16,
    pub capability: Capability,
    pub asks: Asks,
}

/// Kinds of hashes; part of the stored format.
pub(crate) mod kind {
    pub const WHOLE: u64 = 1;
    pub const SKELETON: u64 = 2;
    pub const OPENING: u64 = 3;
    pub const CLOSING: u64 = 4;
    pub const SYSTEM: u64 = 5;
    pub const BAND: u64 = 16;
}

/// Makes sketches; remembers what it has just read, since templates, system prompts
/// and common questions recur.
#[derive(Clone, Debug)]
pub(crate) struct Sketcher {
    key: Key,
    tally: Tally,
    prompts: Memo<Sketch>,
    systems: Memo<u64>,
}

/// A direct-mapped cache of [`MEMO_SLOTS`] places: a newer text takes the place of an
/// older one. It changes speed, never results. Small, so that it stays in the
/// processor's own.
#[derive(Clone, Debug)]
struct Memo<T> {
    slots: Vec<Option<(u128, T)>>,
}

const MEMO_SLOTS: usize = 1 << 12;

impl<T: Copy> Memo<T> {
    fn new() -> Self {
        Memo { slots: Vec::new() }
    }

    #[inline]
    fn get_or_make(&mut self, text: &str, make: impl FnOnce() -> T) -> T {
        if self.slots.is_empty() {
            self.slots.resize(MEMO_SLOTS, None);
        }
        let hash = xxhash_rust::xxh3::xxh3_128(text.as_bytes());
        let slot = &mut self.slots[hash as usize & (MEMO_SLOTS - 1)];
        match slot {
            Some((known, value)) if *known == hash => *value,
            _ => {
                let value = make();
                *slot = Some((hash, value));
                value
            }
        }
    }
}

impl Sketcher {
    pub(crate) fn new(key: Key) -> Self {
        Sketcher { key, tally: Tally::new(), prompts: Memo::new(), systems: Memo::new() }
    }

    pub(crate) fn sketch(&mut self, prompt: &str, system: Option<&str>) -> Sketch {
        let Sketcher { key, tally, prompts, .. } = self;
        let mut sketch = prompts.get_or_make(prompt, || read(key, tally, prompt));
        sketch.system = system.map_or(0, |system| self.system(system));
        sketch
    }

    /// The sketch of a prompt alone, from scratch.
    pub(crate) fn read(&self, prompt: &str) -> Sketch {
        read(&self.key, &self.tally, prompt)
    }

    /// The hash of a system prompt, as sketches have it.
    pub(crate) fn system(&mut self, system: &str) -> u64 {
        if system.is_empty() {
            return 0;
        }
        let Sketcher { key, systems, .. } = self;
        systems.get_or_make(system, || key.hash(kind::SYSTEM, text::head(system)))
    }
}

fn read(key: &Key, tally: &Tally, prompt: &str) -> Sketch {
    let traits = text::read(prompt, key.inner, tally);
    let keyed = |kind, value| if value == 0 { 0 } else { key.hash(kind, value) };
    let mut bands = traits.bands;
    for (index, band) in bands.iter_mut().enumerate() {
        *band = keyed(kind::BAND + index as u64, *band);
    }
    Sketch {
        whole: key.hash_bytes(kind::WHOLE, prompt.as_bytes()),
        skeleton: keyed(kind::SKELETON, traits.skeleton),
        opening: keyed(kind::OPENING, traits.opening),
        closing: keyed(kind::CLOSING, traits.closing),
        system: 0,
        bands,
        topic: traits.topic,
        words: traits.words,
        capability: traits.capability,
        asks: traits.asks,
    }
}

impl Sketch {
    /// The stored form; see the module's head.
    #[must_use]
    pub fn to_bytes(&self, key: &Key) -> [u8; SKETCH_BYTES] {
        let mut bytes = [0u8; SKETCH_BYTES];
        bytes[0] = VERSION;
        bytes[1..5].copy_from_slice(&key.check);
        let mut at = 5;
        let values = [self.whole, self.skeleton, self.opening, self.closing, self.system];
        for value in values.iter().chain(&self.bands) {
            bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
            at += 8;
        }
        bytes[at..at + TOPIC_BUCKETS].copy_from_slice(&self.topic);
        at += TOPIC_BUCKETS;
        bytes[at..at + 2].copy_from_slice(&self.words.to_le_bytes());
        bytes[at + 2] = self.capability as u8;
        bytes[at + 3] = self.asks.0;
        bytes
    }

    /// Reads the stored form.
    ///
    /// # Errors
    /// Wrong length or version, or made under another key.
    pub fn from_bytes(bytes: &[u8], key: &Key) -> Result<Self, SketchError> {
        let bytes: &[u8; SKETCH_BYTES] =
            bytes.try_into().map_err(|_| SketchError::Length(bytes.len()))?;
        if bytes[0] != VERSION {
            return Err(SketchError::Version(bytes[0]));
        }
        if bytes[1..5] != key.check {
            return Err(SketchError::OtherKey);
        }
        let word = |index: usize| {
            let at = 5 + 8 * index;
            let mut value = [0u8; 8];
            value.copy_from_slice(&bytes[at..at + 8]);
            u64::from_le_bytes(value)
        };
        let mut bands = [0u64; BANDS];
        for (index, band) in bands.iter_mut().enumerate() {
            *band = word(5 + index);
        }
        let at = 5 + 8 * (5 + BANDS);
        let mut topic = [0u8; TOPIC_BUCKETS];
        topic.copy_from_slice(&bytes[at..at + TOPIC_BUCKETS]);
        let at = at + TOPIC_BUCKETS;
        Ok(Sketch {
            whole: word(0),
            skeleton: word(1),
            opening: word(2),
            closing: word(3),
            system: word(4),
            bands,
            topic,
            words: u16::from_le_bytes([bytes[at], bytes[at + 1]]),
            capability: Capability::from_number(bytes[at + 2]),
            asks: Asks(bytes[at + 3]),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_go_there_and_back_under_the_same_key_only() {
        let key = Key::derive(b"secret");
        let mut sketcher = Sketcher::new(key);
        let sketch = sketcher.sketch(
            "Explain step by step how a transformer attends to its input tokens.",
            Some("You are a patient teacher."),
        );
        let bytes = sketch.to_bytes(&key);
        assert_eq!(Sketch::from_bytes(&bytes, &key), Ok(sketch));
        assert_eq!(Sketch::from_bytes(&bytes, &Key::public()), Err(SketchError::OtherKey));
        assert_eq!(
            Sketch::from_bytes(&bytes[1..], &key),
            Err(SketchError::Length(SKETCH_BYTES - 1))
        );
    }

    #[test]
    fn another_key_shares_no_value() {
        let text = "Explain step by step how a transformer attends to its input tokens.";
        let a = Sketcher::new(Key::derive(b"a")).sketch(text, None);
        let b = Sketcher::new(Key::derive(b"b")).sketch(text, None);
        assert_ne!(a.whole, b.whole);
        assert_ne!(a.opening, b.opening);
        assert_ne!(a.topic, b.topic);
        assert!(a.bands.iter().all(|band| !b.bands.contains(band)));
    }

    #[test]
    fn remembering_changes_nothing() {
        let key = Key::public();
        let mut warm = Sketcher::new(key);
        for round in 0..3 {
            for text in ["one two three four five six seven eight", "hello", "", "eins zwei"] {
                let fresh = Sketcher::new(key).sketch(text, Some("be brief"));
                assert_eq!(warm.sketch(text, Some("be brief")), fresh, "round {round}");
            }
        }
    }
}

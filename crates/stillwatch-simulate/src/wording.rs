//! The same thing said in other words: a corpus is far smaller than a world, and
//! used again and again as it stands it would make strangers look alike.
//!
//! Words are replaced by other words of the corpus, numbers by other numbers, always
//! the same way under one key: a conversation keeps its subject from turn to turn,
//! two conversations made from one record share little.

use hashbrown::{HashMap, HashSet};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::draws::scale;

const WORD_BYTES_MIN: usize = 4;
const WORD_BYTES_MAX: usize = 14;
/// The most frequent words hold the grammar of a text and stay as they are.
const COMMON_WORDS: usize = 250;
const WORDS_KEPT_MAX: usize = 30_000;

/// The words and characters of a corpus that may stand for one another.
#[derive(Debug, Default)]
pub(crate) struct Vocabulary {
    common: HashSet<Box<[u8]>>,
    /// By length in bytes.
    words: Vec<Vec<Box<str>>>,
    ideographs: Vec<char>,
}

/// How far and in which way a text is said differently.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wording {
    /// The share of the replaceable words that are replaced, 0 to 1.
    pub strength: f64,
    pub key: u64,
}

impl Wording {
    pub(crate) const VERBATIM: Wording = Wording { strength: 0.0, key: 0 };
}

impl Vocabulary {
    pub(crate) fn learn<'a>(texts: impl Iterator<Item = &'a str>) -> Self {
        let mut counts: HashMap<&[u8], u32> = HashMap::new();
        let mut ideographs: HashMap<char, u32> = HashMap::new();
        for text in texts {
            for word in text.as_bytes().split(|b| !b.is_ascii_alphabetic()) {
                if (WORD_BYTES_MIN..=WORD_BYTES_MAX).contains(&word.len())
                    && word.iter().all(u8::is_ascii_lowercase)
                {
                    *counts.entry(word).or_default() += 1;
                }
            }
            for character in text.chars().filter(|c| is_ideograph(*c)) {
                *ideographs.entry(character).or_default() += 1;
            }
        }
        let mut counted: Vec<(&[u8], u32)> = counts.into_iter().collect();
        counted.sort_unstable_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
        let common = counted.iter().take(COMMON_WORDS).map(|(w, _)| Box::from(*w)).collect();
        let mut words = vec![Vec::new(); WORD_BYTES_MAX + 1];
        for (word, _) in counted.iter().skip(COMMON_WORDS).take(WORDS_KEPT_MAX) {
            if let Ok(text) = std::str::from_utf8(word) {
                words[word.len()].push(Box::from(text));
            }
        }
        let mut kept: Vec<(char, u32)> = ideographs.into_iter().collect();
        kept.sort_unstable_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
        let ideographs = kept.into_iter().skip(60).take(1500).map(|(c, _)| c).collect();
        Vocabulary { common, words, ideographs }
    }

    /// Appends `text` to `out`, worded as asked for.
    pub(crate) fn write(&self, text: &str, wording: Wording, out: &mut String) {
        if wording.strength <= 0.0 {
            out.push_str(text);
            return;
        }
        let threshold = (wording.strength.min(1.0) * 256.0) as u64;
        let bytes = text.as_bytes();
        let mut copied = 0;
        let mut at = 0;
        while let Some(byte) = bytes.get(at) {
            let start = at;
            if byte.is_ascii_alphabetic() {
                at += run(&bytes[at..], u8::is_ascii_alphabetic);
                let word = &bytes[start..at];
                if (WORD_BYTES_MIN..=WORD_BYTES_MAX).contains(&word.len())
                    && let Some(other) = self.replacement(word, wording.key, threshold)
                {
                    out.push_str(&text[copied..start]);
                    if word[0].is_ascii_uppercase() {
                        out.extend(other.chars().take(1).map(|c| c.to_ascii_uppercase()));
                        out.push_str(other.get(1..).unwrap_or_default());
                    } else {
                        out.push_str(other);
                    }
                    copied = at;
                }
            } else if byte.is_ascii_digit() {
                at += run(&bytes[at..], u8::is_ascii_digit);
                let hash = xxh3_64_with_seed(&bytes[start..at], wording.key);
                // Short list numbers stay, so that lists stay lists.
                if at - start >= 2 && hash & 0xff < threshold {
                    out.push_str(&text[copied..start]);
                    for (place, _) in bytes[start..at].iter().enumerate() {
                        let digit = (hash >> (8 + 3 * (place as u32 % 16))) & 7;
                        out.push(char::from(b'1' + digit as u8));
                    }
                    copied = at;
                }
            } else if (0xe4..=0xe9).contains(byte) && at + 3 <= bytes.len() {
                at += 3;
                let hash = xxh3_64_with_seed(&bytes[start..at], wording.key);
                if hash & 0xff < threshold / 2 && !self.ideographs.is_empty() {
                    out.push_str(&text[copied..start]);
                    let n = self.ideographs.len() as u64;
                    out.push(self.ideographs[scale(hash, n) as usize]);
                    copied = at;
                }
            } else {
                at += 1;
            }
        }
        out.push_str(&text[copied..]);
    }

    fn replacement(&self, word: &[u8], key: u64, threshold: u64) -> Option<&str> {
        let mut lower = [0u8; WORD_BYTES_MAX];
        let lower = &mut lower[..word.len()];
        lower.copy_from_slice(word);
        lower[0].make_ascii_lowercase();
        let hash = xxh3_64_with_seed(lower, key);
        if hash & 0xff >= threshold || self.common.contains(&*lower) {
            return None;
        }
        let others = self.words.get(word.len())?;
        others.get(scale(hash, others.len() as u64) as usize).map(AsRef::as_ref)
    }
}

fn run(bytes: &[u8], belongs: impl Fn(&u8) -> bool) -> usize {
    bytes.iter().position(|b| !belongs(b)).unwrap_or(bytes.len())
}

fn is_ideograph(character: char) -> bool {
    ('\u{4e00}'..='\u{9fff}').contains(&character)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn vocabulary() -> Vocabulary {
        let text: String = (0..2000)
            .map(|i| {
                let letter = |n: usize| char::from(b'a' + ((i / n) % 26) as u8);
                format!("wor{}{}{} ", letter(1), letter(26), letter(676))
            })
            .collect();
        Vocabulary::learn(std::iter::once(text.as_str()))
    }

    fn worded(text: &str, strength: f64, key: u64) -> String {
        let mut out = String::new();
        vocabulary().write(text, Wording { strength, key }, &mut out);
        out
    }

    #[test]
    fn words_change_consistently_and_little_words_stay() {
        let text = "Explain turbines to a turbine engineer, then explain turbines in 2031";
        let one = worded(text, 1.0, 7);
        assert_ne!(one, text);
        assert_eq!(one, worded(text, 1.0, 7));
        assert_ne!(one, worded(text, 1.0, 8));
        assert!(one.contains(" to a "), "{one}");
        assert_eq!(worded(text, 0.0, 7), text);
    }

    proptest! {
        #[test]
        fn any_text_can_be_worded(text: String, key: u64) {
            let worded = worded(&text, 0.7, key);
            prop_assert_eq!(worded.chars().count(), text.chars().count());
        }
    }
}

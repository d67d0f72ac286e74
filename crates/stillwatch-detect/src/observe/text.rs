//! What one prompt tells: its skeleton, its shingles in bands, its topic, what it
//! asks for. One pass over the bytes; the text itself is not kept.
//!
//! The skeleton is the sequence of the prompt's words with what varies masked:
//! numbers and identifiers, quoted text, fenced blocks. Scripts without spaces
//! (Chinese, Japanese, Korean) are read one character a word. Shingles of three
//! words go into a one-permutation MinHash (Li, Owen, Zhang 2012, arXiv 1208.1259)
//! of [`SHINGLE_BUCKETS`] buckets, read out as [`BANDS`] bands.

use super::lexicon::{self, Asks, Capability};

/// Bands that the shingle MinHash is read out in; two prompts of Jaccard
/// similarity J share a given band with probability about J⁴.
pub const BANDS: usize = 4;
const ROWS: usize = 4;
const SHINGLE_BUCKETS: usize = BANDS * ROWS;
/// Buckets of the topic sketch, one byte each.
pub const TOPIC_BUCKETS: usize = 16;
/// Words that the opening and the closing of a prompt are made of.
const EDGE_WORDS: usize = 6;
/// At least [`EDGE_WORDS`], and a power of two.
const RING: usize = 8;
/// Words of a system prompt that its link is made of; what follows is often filled
/// in (dates, folders, user names).
const SYSTEM_WORDS: usize = 32;
/// Bytes read from the start and from the end of a longer text; what lies between
/// is covered by the hash of the whole only.
const HEAD_BYTES: usize = 16 << 10;
const TAIL_BYTES: usize = 4 << 10;

/// The traits of a prompt before they are keyed; see [`super::sketch::Sketch`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TextTraits {
    /// Hash of the whole skeleton; 0 for prompts of fewer than six words.
    pub skeleton: u64,
    /// Hash of the first six words; 0 where there are fewer.
    pub opening: u64,
    /// Hash of the last six words; 0 for prompts of fewer than twelve.
    pub closing: u64,
    /// Hash of the first 32 words, however few there are.
    pub head: u64,
    /// Shingle bands; 0 for prompts of fewer than eight words.
    pub bands: [u64; BANDS],
    /// One-permutation MinHash of the content words, one byte a bucket, 0 = empty.
    pub topic: [u8; TOPIC_BUCKETS],
    pub words: u16,
    pub capability: Capability,
    pub asks: Asks,
}

const SEPARATOR: u8 = 0;
const LETTER: u8 = 1;
const DIGIT: u8 = 2;
const HIGH: u8 = 3;
const QUOTE: u8 = 4;
const TICK: u8 = 5;

const CLASS: [u8; 256] = {
    let mut class = [SEPARATOR; 256];
    let mut b = 0;
    while b < 256 {
        class[b] = match b as u8 {
            b'a'..=b'z' | b'A'..=b'Z' => LETTER,
            b'0'..=b'9' | b'_' => DIGIT,
            b'"' => QUOTE,
            b'`' => TICK,
            0x80..=0xff => HIGH,
            _ => SEPARATOR,
        };
        b += 1;
    }
    class
};

const SKELETON_SEED: u64 = 0x51_7c_c1_b7_27_22_0a_95;
const MASK_NUMBER: u64 = 0x9e6c_63d0_676a_9a99;
const MASK_QUOTE: u64 = 0xd6e8_feb8_6659_fd93;
const MASK_FENCE: u64 = 0xa076_1d64_78bd_642f;
/// Letters-only words longer than this are identifiers or encoded data.
const WORD_BYTES_MAX: usize = 28;

/// Multiplies and folds; the mixing step of wyhash (public domain, Wang Yi).
#[inline(always)]
pub(crate) fn mix(a: u64, b: u64) -> u64 {
    let wide = u128::from(a) * u128::from(b);
    (wide as u64) ^ ((wide >> 64) as u64)
}

/// The hash of words with one more behind them.
#[inline(always)]
fn followed(words: u64, next: u64) -> u64 {
    mix(words ^ next, 0x9fb2_1c65_1e98_df25)
}

/// The hash of one lower-case ASCII word, as the lexicon uses it.
#[inline]
pub(crate) fn word_hash(word: &[u8]) -> u64 {
    let mut h = WORD_SEED;
    for &b in word {
        h = word_step(h, b | 0x20);
    }
    word_finish(h)
}

/// The hash of one character that stands for a word, as the lexicon uses it.
pub(crate) fn sign_hash(sign: &[u8]) -> u64 {
    word_finish(sign.iter().fold(WORD_SEED, |h, &b| word_step(h, b)))
}

const WORD_SEED: u64 = 0x2d35_8dcc_aa6c_78a5;

#[inline(always)]
fn word_step(h: u64, b: u8) -> u64 {
    (h ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23)
}

#[inline(always)]
fn word_finish(h: u64) -> u64 {
    mix(h ^ 0x8bb8_4b93_962e_acc9, 0x4b33_a62e_d433_d4a3)
}

/// Where the words of a text go, in order.
trait WordSink {
    /// `content` says that the word is long enough to carry a topic. False to stop.
    fn word(&mut self, hash: u64, content: bool) -> bool;
}

/// Cuts bytes into masked words; false where the sink stopped it.
#[inline(always)]
fn cut<S: WordSink>(text: &[u8], sink: &mut S) -> bool {
    let mut at = 0;
    while at < text.len() {
        let b = text[at];
        match CLASS[b as usize] {
            LETTER | DIGIT | HIGH => {
                let start = at;
                let mut h = WORD_SEED;
                let mut masked = false;
                let mut ideogram = false;
                // Most words are of letters alone.
                for &b in &text[at..] {
                    if CLASS[b as usize] != LETTER {
                        break;
                    }
                    h = word_step(h, b | 0x20);
                    at += 1;
                }
                while at < text.len() {
                    let b = text[at];
                    match CLASS[b as usize] {
                        LETTER => h = word_step(h, b | 0x20),
                        DIGIT => masked = true,
                        HIGH => {
                            if is_ideogram_lead(b) {
                                ideogram = true;
                                break;
                            }
                            h = word_step(h, b);
                        }
                        _ => break,
                    }
                    at += 1;
                }
                let length = at - start;
                if length > 0 {
                    let goes_on = if masked || length > WORD_BYTES_MAX {
                        sink.word(MASK_NUMBER, false)
                    } else {
                        sink.word(word_finish(h), length >= 4)
                    };
                    if !goes_on {
                        return false;
                    }
                }
                if ideogram {
                    let end = (at + 3).min(text.len());
                    if !sink.word(sign_hash(&text[at..end]), true) {
                        return false;
                    }
                    at = end;
                }
            }
            QUOTE => {
                // A quotation is payload; an unpaired mark is punctuation.
                let rest = &text[at + 1..];
                let window = &rest[..rest.len().min(4096)];
                match window.iter().position(|&b| b == b'"') {
                    Some(close) => {
                        if !sink.word(MASK_QUOTE, false) {
                            return false;
                        }
                        at += close + 2;
                    }
                    None => at += 1,
                }
            }
            TICK if text[at..].starts_with(b"```") => {
                let rest = &text[at + 3..];
                if !sink.word(MASK_FENCE, false) {
                    return false;
                }
                match find_fence(rest) {
                    Some(close) => at += 3 + close + 3,
                    None => at = text.len(),
                }
            }
            _ => at += 1,
        }
    }
    true
}

/// First byte of a three-byte character from U+3000 up to U+D7FF: kana, Han, Hangul.
#[inline(always)]
fn is_ideogram_lead(b: u8) -> bool {
    (0xe3..=0xed).contains(&b)
}

fn find_fence(text: &[u8]) -> Option<usize> {
    text.windows(3).position(|w| w == b"```")
}

struct Reader<'k> {
    key: u64,
    lexicon: &'k lexicon::Tally,
    words: u32,
    /// The latest words, by their number modulo [`RING`].
    recent: [u64; RING],
    skeleton: u64,
    opening: u64,
    head: u64,
    shingles: [u32; SHINGLE_BUCKETS],
    topic: [u32; TOPIC_BUCKETS],
    counts: lexicon::Counts,
}

impl WordSink for Reader<'_> {
    #[inline(always)]
    fn word(&mut self, hash: u64, content: bool) -> bool {
        let index = self.words as usize;
        self.words += 1;
        self.skeleton = followed(self.skeleton, hash);
        if index + 1 == EDGE_WORDS {
            self.opening = self.skeleton;
        }
        if index < SYSTEM_WORDS {
            self.head = self.skeleton;
        }
        let previous = self.recent[(index + RING - 1) % RING];
        let before = self.recent[(index + RING - 2) % RING];
        self.recent[index % RING] = hash;
        if index >= 2 {
            let shingle = mix(
                hash ^ self.key,
                previous.rotate_left(21) ^ before.rotate_left(42) ^ 0x94d0_49bb_1331_11eb,
            );
            let bucket = (shingle >> 60) as usize;
            self.shingles[bucket] = self.shingles[bucket].min(shingle as u32);
        }
        if content {
            let keyed = mix(hash ^ self.key, 0xe703_7ed1_a0b4_28db);
            let bucket = (keyed >> 60) as usize;
            self.topic[bucket] = self.topic[bucket].min(keyed as u32);
        }
        self.lexicon.count(hash, &mut self.counts);
        true
    }
}

/// Reads a prompt. `key` separates sketches of different owners.
pub(crate) fn read(text: &str, key: u64, lexicon: &lexicon::Tally) -> TextTraits {
    let bytes = text.as_bytes();
    let mut reader = Reader {
        key,
        lexicon,
        words: 0,
        recent: [0; RING],
        skeleton: SKELETON_SEED,
        opening: 0,
        head: 0,
        shingles: [u32::MAX; SHINGLE_BUCKETS],
        topic: [u32::MAX; TOPIC_BUCKETS],
        counts: lexicon::Counts::default(),
    };
    parts(bytes, |part| cut(part, &mut reader));
    let words = reader.words as usize;
    let mut closing = 0u64;
    if words >= 2 * EDGE_WORDS {
        for back in (0..EDGE_WORDS).rev() {
            let word = reader.recent[(words - 1 - back) % RING];
            closing = followed(closing, word);
        }
    }
    let mut bands = [0u64; BANDS];
    if words >= 8 {
        for (band, rows) in bands.iter_mut().zip(reader.shingles.chunks_exact(ROWS)) {
            // A band that no shingle fell into says nothing.
            if rows.iter().all(|&r| r == u32::MAX) {
                continue;
            }
            let mut h = 0xc3a5_c85c_97cb_3127u64;
            for &row in rows {
                h = mix(h ^ u64::from(row), 0x9ae1_6a3b_2f90_404f);
            }
            *band = h;
        }
    }
    let mut topic = [0u8; TOPIC_BUCKETS];
    for (byte, &value) in topic.iter_mut().zip(&reader.topic) {
        if value != u32::MAX {
            *byte = 1 + (value % 255) as u8;
        }
    }
    TextTraits {
        skeleton: if words >= EDGE_WORDS { reader.skeleton } else { 0 },
        opening: reader.opening,
        closing,
        head: reader.head,
        bands,
        topic,
        words: words.min(u16::MAX as usize) as u16,
        capability: reader.counts.capability(),
        asks: reader.counts.asks(),
    }
}

struct Head {
    words: usize,
    hash: u64,
}

impl WordSink for Head {
    #[inline(always)]
    fn word(&mut self, hash: u64, _: bool) -> bool {
        self.words += 1;
        self.hash = followed(self.hash, hash);
        self.words < SYSTEM_WORDS
    }
}

/// [`TextTraits::head`] of a text, for which the rest of it is not read.
pub(crate) fn head(text: &str) -> u64 {
    let mut head = Head { words: 0, hash: SKELETON_SEED };
    parts(text.as_bytes(), |part| cut(part, &mut head));
    if head.words == 0 { 0 } else { head.hash }
}

/// Gives the parts of a text that are read, until one says to stop.
fn parts(text: &[u8], mut take: impl FnMut(&[u8]) -> bool) {
    if text.len() <= HEAD_BYTES + TAIL_BYTES {
        take(text);
    } else if take(&text[..HEAD_BYTES]) {
        take(&text[text.len() - TAIL_BYTES..]);
    }
}

/// How alike two topics are, 0 to 1: the share of equal buckets among those that
/// either fills; an estimate of the Jaccard similarity of their content words.
/// `None` where both are empty.
#[must_use]
pub fn topic_similarity(a: &[u8; TOPIC_BUCKETS], b: &[u8; TOPIC_BUCKETS]) -> Option<f64> {
    let mut filled = 0u32;
    let mut equal = 0u32;
    for (&x, &y) in a.iter().zip(b) {
        if x != 0 || y != 0 {
            filled += 1;
            equal += u32::from(x == y);
        }
    }
    (filled > 0).then(|| f64::from(equal) / f64::from(filled))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn traits(text: &str) -> TextTraits {
        read(text, 7, &lexicon::Tally::new())
    }

    #[test]
    fn what_varies_in_a_template_is_masked() {
        let a =
            traits("Order 1234 of user u_99 says \"where is it\". Write a short polite answer.");
        let b =
            traits("Order 77 of user x81 says \"I want a refund!\". Write a short polite answer.");
        assert_eq!(a.skeleton, b.skeleton);
    }

    #[test]
    fn case_and_spacing_do_not_matter_to_the_skeleton() {
        let a = traits("Please   Explain the Rules of Chess\n\nto me");
        let b = traits("please explain the rules of chess to me");
        assert_eq!(a.skeleton, b.skeleton);
    }

    #[test]
    fn openings_and_closings_outlive_the_middle() {
        let a = traits(
            "You are a careful tutor of children. Topic: volcanoes and lava. Answer in exactly three short sentences please.",
        );
        let b = traits(
            "You are a careful tutor of children. Topic: the long history of bread. Answer in exactly three short sentences please.",
        );
        assert_eq!(a.opening, b.opening);
        assert_eq!(a.closing, b.closing);
        assert_ne!(a.skeleton, b.skeleton);
    }

    #[test]
    fn a_head_needs_no_more_of_the_text() {
        let word = "You are a careful tutor, of 3 children. ";
        for text in ["", "...", "Be brief.", &word.repeat(4), &word.repeat(5), &word.repeat(2_000)]
        {
            assert_eq!(head(text), traits(text).head, "{text}");
        }
    }

    #[test]
    fn near_duplicates_share_a_band_and_strangers_do_not() {
        let fixed = "You are asked to come up with a set of diverse task instructions. These task instructions will be given to a model and we will evaluate the model for completing the instructions. Here are the requirements: try not to repeat the verb for each instruction to maximise diversity.";
        let a = traits(&format!("{fixed} Task one is about gardens"));
        let b = traits(&format!("{fixed} Task one is about rockets"));
        let c = traits(
            "My grandmother left me a recipe for plum cake, but it only lists ingredients and no amounts. Can you guess sensible amounts for a small round tin?",
        );
        let shared = |x: &TextTraits, y: &TextTraits| {
            x.bands.iter().zip(&y.bands).filter(|(p, q)| p == q && **p != 0).count()
        };
        assert!(shared(&a, &b) >= 2);
        assert_eq!(shared(&a, &c), 0);
    }

    #[test]
    fn chinese_is_read_by_the_character() {
        let a = traits("肝癌的早期症状有哪些？需要做什么检查？");
        assert!(a.words >= 15, "{}", a.words);
        assert_ne!(a.opening, 0);
    }

    #[test]
    fn topics_of_a_follow_up_are_closer_than_those_of_a_stranger() {
        let first = traits("How do I prune apple trees in winter without hurting the fruit buds?");
        let next =
            traits("And which apple trees should not be pruned in winter because of their buds?");
        let other = traits("Write a haiku about distributed databases losing consensus overnight");
        let near = topic_similarity(&first.topic, &next.topic).unwrap();
        let far = topic_similarity(&first.topic, &other.topic).unwrap();
        assert!(near > far + 0.1, "{near} {far}");
    }

    #[test]
    fn unpaired_quotes_and_fences_are_harmless() {
        for text in ["\"", "``", "```", "say \"hello", "code ```rust fn", "\"\"\"\"\"", "a\"b\"c"] {
            let _ = traits(text);
        }
    }
}

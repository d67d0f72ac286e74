//! Prompts as vectors, for the detectors that compare them by distance.
//!
//! Their papers use neural encoders. In their place stands feature hashing (Weinberger et
//! al., «Feature Hashing for Large Scale Multitask Learning», ICML 2009) of words and of
//! neighbouring words: it needs no trained weights and gives the same bytes everywhere.
//! It sees shared wording as well as they do and shared meaning less well.

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// Numbers in a vector.
pub const DIMENSIONS: usize = 128;

/// A text's direction: a unit vector times 127, rounded.
pub type Vector = [i8; DIMENSIONS];

/// A text's vector. Texts without a word have the vector of zeros.
///
/// Linear in the text, of which the first 4,096 bytes are read.
#[must_use]
pub fn vector_of(text: &str) -> Vector {
    let mut sums = [0.0f32; DIMENSIONS];
    let end = (0..=text.len().min(4096)).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    let mut previous = 0u64;
    let mut lower = String::new();
    for word in text[..end].split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty()) {
        // Scripts without spaces between words: characters by threes.
        if word.len() > 24 && !word.is_ascii() {
            let characters: Vec<char> = word.chars().collect();
            for three in characters.windows(3.min(characters.len())) {
                lower.clear();
                lower.extend(three);
                add(&mut sums, xxh3_64(lower.as_bytes()), 1.0);
            }
            continue;
        }
        lower.clear();
        lower.extend(word.chars().flat_map(char::to_lowercase));
        let hash = xxh3_64(lower.as_bytes());
        // Short words carry grammar and little else.
        add(&mut sums, hash, if lower.len() > 3 { 1.0 } else { 0.3 });
        if previous != 0 {
            add(&mut sums, xxh3_64_with_seed(&previous.to_le_bytes(), hash), 0.5);
        }
        previous = hash | 1;
    }
    let norm = sums.iter().map(|s| s * s).sum::<f32>().sqrt();
    let mut vector = [0i8; DIMENSIONS];
    if norm > 0.0 {
        for (cell, sum) in vector.iter_mut().zip(sums) {
            *cell = (sum / norm * 127.0).round() as i8;
        }
    }
    vector
}

fn add(sums: &mut [f32; DIMENSIONS], hash: u64, weight: f32) {
    let sign = if hash >> 63 == 0 { weight } else { -weight };
    sums[(hash % DIMENSIONS as u64) as usize] += sign;
}

/// The cosine of two vectors, -1 to 1.
#[must_use]
pub fn cosine(a: &Vector, b: &Vector) -> f64 {
    let dot: i32 = a.iter().zip(b).map(|(x, y)| i32::from(*x) * i32::from(*y)).sum();
    f64::from(dot) / (127.0 * 127.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_nearest_to_itself_and_near_its_paraphrase() {
        let a = vector_of("Explain step by step how photosynthesis stores the energy of light");
        let b = vector_of("Explain step by step how photosynthesis keeps the energy of sunlight");
        let c = vector_of("Write a polite refusal to a wedding invitation from distant cousins");
        assert!(cosine(&a, &a) > 0.97);
        assert!(cosine(&a, &b) > cosine(&a, &c) + 0.3, "{} {}", cosine(&a, &b), cosine(&a, &c));
    }

    #[test]
    fn fuzz_any_text_has_a_direction_of_length_one_or_none() {
        bolero::check!().with_type::<String>().for_each(|text| {
            let vector = vector_of(text);
            let own = cosine(&vector, &vector);
            assert!(vector == [0; DIMENSIONS] || (own - 1.0).abs() < 0.1, "{own}");
        });
    }

    #[test]
    fn texts_without_spaces_and_without_words_have_vectors_too() {
        let a = vector_of("请解释光合作用如何储存光的能量以及植物如何利用它们");
        let b = vector_of("请解释光合作用如何储存光的能量以及动物如何利用它们");
        assert!(cosine(&a, &b) > 0.5);
        assert_eq!(vector_of("?! …"), [0; DIMENSIONS]);
        assert_eq!(cosine(&a, &vector_of("")), 0.0);
    }
}

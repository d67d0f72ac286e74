//! Randomness by counter: every draw is named by what it is for, so that any part
//! of a world can be made again without the parts before it.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Exp1, Poisson, StandardNormal};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// What a stream of draws is for; streams of different purposes never meet.
#[derive(Clone, Copy, Debug)]
#[repr(u32)]
pub(crate) enum Purpose {
    World = 1,
    Crowd,
    Campaign,
    Day,
    Window,
    Session,
    Exchange,
    Prompts,
}

/// A stream of draws that depends on nothing but its name.
pub(crate) struct Draws(ChaCha8Rng);

impl Draws {
    pub(crate) fn new(seed: u64, purpose: Purpose, a: u64, b: u64) -> Self {
        let mut key = [0u8; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        key[8..12].copy_from_slice(&(purpose as u32).to_le_bytes());
        key[12..20].copy_from_slice(&a.to_le_bytes());
        key[20..28].copy_from_slice(&b.to_le_bytes());
        Draws(ChaCha8Rng::from_seed(key))
    }

    pub(crate) fn bits(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// Uniform in 0..1.
    pub(crate) fn unit(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    pub(crate) fn range(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    pub(crate) fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// Uniform in 0..n, 0 where n is 0.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        scale(self.0.next_u64(), n as u64) as usize
    }

    /// Uniform in low..=high.
    pub(crate) fn between(&mut self, low: usize, high: usize) -> usize {
        low + self.below(high.saturating_sub(low) + 1)
    }

    /// One of `items`, which must not be empty: callers pass constant lists.
    pub(crate) fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }

    /// One of some constant words, of which there must be any.
    pub(crate) fn word(&mut self, words: &[&'static str]) -> &'static str {
        words[self.below(words.len())]
    }

    /// An index with probability in proportion to its weight.
    pub(crate) fn weighted(&mut self, weights: &[f64]) -> usize {
        let total: f64 = weights.iter().sum();
        let mut at = self.unit() * total;
        for (index, weight) in weights.iter().enumerate() {
            at -= weight;
            if at < 0.0 {
                return index;
            }
        }
        weights.len().saturating_sub(1)
    }

    pub(crate) fn normal(&mut self) -> f64 {
        StandardNormal.sample(&mut self.0)
    }

    /// Lognormal with the given median and the standard deviation of its logarithm.
    pub(crate) fn lognormal(&mut self, median: f64, sigma: f64) -> f64 {
        median * (sigma * self.normal()).exp()
    }

    pub(crate) fn exponential(&mut self, mean: f64) -> f64 {
        let draw: f64 = Exp1.sample(&mut self.0);
        mean * draw
    }

    pub(crate) fn poisson(&mut self, mean: f64) -> u32 {
        if mean <= 0.0 {
            return 0;
        }
        if mean < 12.0 {
            // Knuth's product: cheaper than setting up the general sampler.
            let limit = (-mean).exp();
            let mut product = self.unit();
            let mut count = 0;
            while product > limit {
                product *= self.unit();
                count += 1;
            }
            return count;
        }
        match Poisson::new(mean.min(1.0e7)) {
            Ok(distribution) => {
                let draw: f64 = distribution.sample(&mut self.0);
                draw as u32
            }
            Err(_) => 0,
        }
    }

    /// Trials until the first failure, at least 1, with the given mean, at most `max`.
    pub(crate) fn geometric(&mut self, mean: f64, max: u32) -> u32 {
        if mean <= 1.0 {
            return 1;
        }
        let draw = self.unit().max(1e-12).ln() / (1.0 - 1.0 / mean).ln();
        (1 + draw as u32).min(max)
    }

    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            let j = self.below(i + 1);
            items.swap(i, j);
        }
    }
}

/// A hash of a few numbers, for choices that must be the same wherever they are made.
pub(crate) fn mix(seed: u64, a: u64, b: u64) -> u64 {
    let mut bytes = [0u8; 16];
    bytes[..8].copy_from_slice(&a.to_le_bytes());
    bytes[8..].copy_from_slice(&b.to_le_bytes());
    xxh3_64_with_seed(&bytes, seed)
}

/// A hash scaled to 0..n.
pub(crate) fn scale(bits: u64, n: u64) -> u64 {
    ((u128::from(bits) * u128::from(n)) >> 64) as u64
}

/// A hash scaled to 0..1.
pub(crate) fn unit(bits: u64) -> f64 {
    (bits >> 11) as f64 / (1u64 << 53) as f64
}

/// A keyed shuffle of 0..n that needs no table: a four-round Feistel network over
/// the next even power of two, walked until it lands inside.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Permutation {
    n: u64,
    half_bits: u32,
    key: u64,
}

impl Permutation {
    pub(crate) fn new(n: u64, key: u64) -> Self {
        let bits = 64 - n.max(2).saturating_sub(1).leading_zeros();
        Permutation { n, half_bits: bits.div_ceil(2), key }
    }

    /// Where `index` (taken modulo n) goes; 0 where n is 0.
    pub(crate) fn at(&self, index: u64) -> u64 {
        if self.n < 2 {
            return 0;
        }
        let mask = (1u64 << self.half_bits) - 1;
        let mut value = index % self.n;
        loop {
            let (mut left, mut right) = (value >> self.half_bits, value & mask);
            for round in 0..4 {
                let next = left ^ (mix(self.key, right, round) & mask);
                left = right;
                right = next;
            }
            value = (left << self.half_bits) | right;
            if value < self.n {
                return value;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_permutation_visits_every_place_once(n in 1u64..400, key: u64) {
            let permutation = Permutation::new(n, key);
            let mut seen: Vec<u64> = (0..n).map(|i| permutation.at(i)).collect();
            seen.sort_unstable();
            prop_assert_eq!(seen, (0..n).collect::<Vec<_>>());
        }
    }

    #[test]
    fn streams_with_other_names_differ() {
        let first = Draws::new(1, Purpose::Day, 2, 3).bits();
        assert_eq!(first, Draws::new(1, Purpose::Day, 2, 3).bits());
        for other in [
            Draws::new(2, Purpose::Day, 2, 3).bits(),
            Draws::new(1, Purpose::Session, 2, 3).bits(),
            Draws::new(1, Purpose::Day, 3, 3).bits(),
            Draws::new(1, Purpose::Day, 2, 2).bits(),
        ] {
            assert_ne!(first, other);
        }
    }

    #[test]
    fn means_are_as_asked_for() {
        let mut draws = Draws::new(9, Purpose::World, 0, 0);
        let n = 20_000;
        for mean in [0.4, 5.0, 40.0] {
            let total: f64 = (0..n).map(|_| f64::from(draws.poisson(mean))).sum();
            assert!((total / f64::from(n) / mean - 1.0).abs() < 0.05, "{mean}");
        }
        let total: f64 = (0..n).map(|_| f64::from(draws.geometric(4.0, 1000))).sum();
        assert!((total / f64::from(n) - 4.0).abs() < 0.2, "{}", total / f64::from(n));
    }
}

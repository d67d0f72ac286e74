//! SEAT: an account that asks many pairs of similar queries.
//!
//! What it is: pairs of an account's queries that an encoder puts closer together than
//! a threshold are counted, and the account is cancelled at a number of pairs. Source:
//! Zhang, Chen, Wagner, «SEAT: Similarity Encoder by Adversarial Training for Detecting
//! Model Extraction Attack Queries», AISec 2021. Settings: as in the paper both come
//! from benign queries: similar is what at most one in ten thousand pairs of different
//! benign accounts is, and the number of pairs is the threshold. Its encoder is trained
//! on images; vectors in its place: `text.rs`. Complexity: an account's queries times
//! its latest 500.

use rayon::prelude::*;

use crate::detector::{Detector, Suspicion, rise};
use crate::text::cosine;
use crate::traffic::{Needs, Traffic};

pub struct Seat;

/// Queries that a new one is compared with.
const HISTORY: usize = 500;
/// Share of benign pairs that count as similar.
const SIMILAR_SHARE: f64 = 1e-4;
/// Benign queries that pairs are made of.
const BENIGN: usize = 1_500;

impl Detector for Seat {
    fn name(&self) -> &'static str {
        "SEAT"
    }

    fn needs(&self) -> Needs {
        Needs { vectors: true, ..Needs::default() }
    }

    /// The cosine from which queries are similar.
    fn learn(&self, clean: &Traffic) -> Vec<f64> {
        let step = (clean.exchanges.len() / BENIGN).max(1);
        let some: Vec<usize> = (0..clean.exchanges.len()).step_by(step).collect();
        let mut cosines: Vec<f64> = Vec::with_capacity(some.len() * some.len() / 2);
        for (i, a) in some.iter().enumerate() {
            for b in &some[..i] {
                if clean.exchanges[*a].account != clean.exchanges[*b].account {
                    cosines.push(cosine(&clean.vectors[*a], &clean.vectors[*b]));
                }
            }
        }
        cosines.sort_unstable_by(f64::total_cmp);
        let place = (cosines.len() as f64 * (1.0 - SIMILAR_SHARE)) as usize;
        cosines.get(place.min(cosines.len().saturating_sub(1))).copied().into_iter().collect()
    }

    fn suspicions(&self, traffic: &Traffic, learned: &[f64]) -> Vec<Suspicion> {
        let similar = learned.first().copied().unwrap_or(1.0);
        traffic
            .by_account()
            .into_par_iter()
            .enumerate()
            .map(|(account, queries)| {
                let mut course = Vec::new();
                let mut pairs = 0u64;
                for (i, query) in queries.iter().enumerate() {
                    let vector = &traffic.vectors[*query as usize];
                    let found = queries[i.saturating_sub(HISTORY)..i]
                        .iter()
                        .filter(|k| cosine(vector, &traffic.vectors[**k as usize]) > similar)
                        .count() as u64;
                    if found > 0 {
                        pairs += found;
                        let time_us = traffic.exchanges[*query as usize].time_us;
                        rise(&mut course, time_us, pairs as f64);
                    }
                }
                Suspicion { accounts: vec![account as u32], course }
            })
            .filter(|suspicion| !suspicion.course.is_empty())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detectors::made::{asked, words};

    #[test]
    fn it_counts_similar_pairs_and_sees_none_across_accounts() {
        let clean = asked((0..600).map(|i| ((i % 60) as u32, words(i, 30))));
        let learned = Seat.learn(&clean);
        assert!(learned[0] > 0.2 && learned[0] < 0.8, "{learned:?}");
        // Account 0 varies one query; accounts 1 to 40 share forty queries among them.
        let varied = (0..40).map(|i| (0, words(7_000_000, 30) + &words(i, 2)));
        let divided = (0..40).map(|i| (1 + i, words(8_000_000, 30) + &words(u64::from(i), 2)));
        let natural = (0..40).map(|i| (41, words(9_000_000 + i, 30)));
        let suspicions = Seat.suspicions(&asked(varied.chain(divided).chain(natural)), &learned);
        assert_eq!(suspicions.len(), 1);
        assert_eq!(suspicions[0].accounts, [0]);
        assert_eq!(suspicions[0].peak(), 40.0 * 39.0 / 2.0);
    }
}

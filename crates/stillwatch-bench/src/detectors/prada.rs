//! PRADA: the distances between an account's queries are normal in ordinary use.
//!
//! What it is: each query's distance to the nearest of the account's earlier, sufficiently
//! different queries; from a hundred distances on an account is accused once they are no
//! longer normally distributed (Shapiro and Wilk's W). Source: Juuti, Szyller, Marchal,
//! Asokan, «PRADA: Protecting Against DNN Model Stealing Attacks», EuroS&P 2019,
//! algorithm 3. Settings, all the paper's: more than 100 distances, outliers beyond three
//! standard deviations left out, a query kept when it is farther away than the mean less
//! one standard deviation of the kept ones' distances, δ = 0.95. There is one class of
//! answers where the paper has several. Vectors in place of its images' pixels: `text.rs`.
//! Complexity: an account's queries times its kept queries, of which the latest 500 stay.

use std::collections::VecDeque;

use rayon::prelude::*;

use super::shapiro::w;
use crate::detector::{Detector, Suspicion, rise};
use crate::text::cosine;
use crate::traffic::{Needs, Traffic};

pub struct Prada;

/// Distances before the first test.
const DISTANCES_MIN: usize = 100;
/// New distances between two tests; the paper tests at each.
const TEST_EVERY: usize = 10;
/// Kept queries of an account; the oldest give way.
const KEPT_MAX: usize = 500;
/// Distances of an account that are tested; the oldest give way.
const DISTANCES_MAX: usize = 2_000;
/// The paper's δ, for the score 1 − W.
const DELTA: f64 = 0.95;

impl Detector for Prada {
    fn name(&self) -> &'static str {
        "PRADA"
    }

    fn needs(&self) -> Needs {
        Needs { vectors: true, ..Needs::default() }
    }

    fn suspicions(&self, traffic: &Traffic, _: &[f64]) -> Vec<Suspicion> {
        traffic
            .by_account()
            .into_par_iter()
            .enumerate()
            .map(|(account, queries)| Suspicion {
                accounts: vec![account as u32],
                course: course(traffic, &queries),
            })
            .filter(|suspicion| !suspicion.course.is_empty())
            .collect()
    }

    fn paper_threshold(&self) -> Option<f64> {
        Some(1.0 - DELTA)
    }
}

fn course(traffic: &Traffic, queries: &[u32]) -> Vec<(i64, f64)> {
    let mut course = Vec::new();
    if queries.len() <= DISTANCES_MIN {
        return course;
    }
    let mut kept: VecDeque<u32> = VecDeque::new();
    let mut kept_distances: VecDeque<f64> = VecDeque::new();
    let mut distances: VecDeque<f64> = VecDeque::new();
    let mut untested = 0;
    let mut far_enough = 0.0f64;
    for &query in queries {
        let vector = &traffic.vectors[query as usize];
        // Of unit vectors: the Euclidean distance.
        let nearest = kept
            .iter()
            .map(|k| cosine(vector, &traffic.vectors[*k as usize]))
            .max_by(f64::total_cmp)
            .map(|cosine| (2.0 - 2.0 * cosine).max(0.0).sqrt());
        let Some(distance) = nearest else {
            kept.push_back(query);
            // As in the paper, so that the second query does not set the measure.
            kept_distances.push_back(0.0);
            continue;
        };
        distances.push_back(distance);
        if distances.len() > DISTANCES_MAX {
            distances.pop_front();
        }
        if distance > far_enough {
            kept.push_back(query);
            kept_distances.push_back(distance);
            if kept.len() > KEPT_MAX {
                kept.pop_front();
                kept_distances.pop_front();
            }
            let (mean, deviation) = moments(kept_distances.iter().copied());
            far_enough = far_enough.max(mean - deviation);
        }
        untested += 1;
        if distances.len() > DISTANCES_MIN && untested >= TEST_EVERY {
            untested = 0;
            let (mean, deviation) = moments(distances.iter().copied());
            let mut inner: Vec<f64> =
                distances.iter().copied().filter(|d| (d - mean).abs() <= 3.0 * deviation).collect();
            inner.sort_unstable_by(f64::total_cmp);
            if let Some(w) = w(&inner) {
                rise(&mut course, traffic.exchanges[query as usize].time_us, 1.0 - w);
            }
        }
    }
    course
}

fn moments(values: impl ExactSizeIterator<Item = f64> + Clone) -> (f64, f64) {
    let count = values.len().max(1) as f64;
    let mean = values.clone().sum::<f64>() / count;
    (mean, (values.map(|v| (v - mean).powi(2)).sum::<f64>() / count).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detectors::made::{asked, words};

    #[test]
    fn it_sees_synthetic_neighbours_and_not_natural_ones() {
        // Account 0 asks what it likes. Account 1 asks seeds, and then each one again and
        // again with one word changed, as the attacks that the paper detects do.
        let natural = (0..400).map(|i| (0, words(i, 30)));
        let synthetic = (0..400).map(|i| {
            let seed = if i < 60 { i } else { i % 60 };
            let change = if i < 60 { String::new() } else { words(900_000 + i, 1) };
            (1, words(1_000_000 + seed, 30) + &change)
        });
        let suspicions = Prada.suspicions(&asked(natural.chain(synthetic)), &[]);
        let peak = |account| suspicions.iter().find(|s| s.accounts == [account]).unwrap().peak();
        assert!(peak(1) > 1.0 - DELTA, "{}", peak(1));
        assert!(peak(0) < 1.0 - DELTA, "{}", peak(0));
    }

    #[test]
    fn it_can_not_judge_who_asks_little() {
        // Ten thousand synthetic queries, spread over a hundred accounts.
        let spread = (0..10_000).map(|i| ((i % 100) as u32, words(i / 100 % 7, 30)));
        assert_eq!(Prada.suspicions(&asked(spread), &[]), []);
    }
}

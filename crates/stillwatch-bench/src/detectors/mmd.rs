//! MMD: an account's queries, a window at a time, against what was benign before.
//!
//! What it is: a kernel two-sample test. The squared maximum mean discrepancy between a
//! window of queries and a sample of historical benign traffic; above a threshold, set on
//! benign windows alone, the window is an attack's. Source: Liu, Guo, Dong, «An
//! Embarrassingly Simple Detector for Model Extraction Attacks in Large Language Model
//! API Traffic», arXiv 2606.05725, 2026, in its form for the traffic of one user; the
//! statistic is that of Gretton et al., JMLR 13, 2012. Settings: a Gaussian kernel as wide
//! as the median distance, by random Fourier features (Rahimi and Recht, NeurIPS 2007).
//! The paper's windows have 1,500 queries and hardly an account here asks that many, so a
//! window has 50, and moves on by 25. Its encoder is a sentence transformer; vectors in
//! its place: `text.rs`. Complexity: linear in the exchanges, 256 features each.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;
use rayon::prelude::*;

use crate::detector::{Detector, Suspicion, rise};
use crate::text::{DIMENSIONS, Vector, cosine};
use crate::traffic::{Needs, Traffic};

pub struct Mmd;

const STEP: usize = 25;
const WINDOW: usize = 2 * STEP;
/// Pairs of a cosine and a sine.
const PAIRS: usize = 128;
const FEATURES: usize = 2 * PAIRS;
/// Benign queries for the reference and, fewer, for the kernel's width.
const REFERENCE: usize = 20_000;
const MEDIAN_OF: usize = 400;
/// Names the random features; any number does.
const SEED: u64 = 260_605_725;

impl Detector for Mmd {
    fn name(&self) -> &'static str {
        "MMD"
    }

    fn needs(&self) -> Needs {
        Needs { vectors: true, ..Needs::default() }
    }

    /// The kernel's width, and the reference's mean features.
    fn learn(&self, clean: &Traffic) -> Vec<f64> {
        let every = |count: usize| {
            let step = (clean.vectors.len() / count).max(1);
            clean.vectors.iter().step_by(step).take(count)
        };
        let some: Vec<&Vector> = every(MEDIAN_OF).collect();
        let mut distances: Vec<f64> = Vec::new();
        for (i, a) in some.iter().enumerate() {
            distances.extend(some[..i].iter().map(|b| (2.0 - 2.0 * cosine(a, b)).max(0.0).sqrt()));
        }
        distances.sort_unstable_by(f64::total_cmp);
        let width = distances.get(distances.len() / 2).copied().unwrap_or(1.0).max(1e-3);
        let kernel = Kernel::of(width);
        let mut mean = vec![0.0f64; FEATURES];
        let mut count = 0.0f64;
        let mut features = [0.0f32; FEATURES];
        for vector in every(REFERENCE) {
            kernel.features(vector, &mut features);
            mean.iter_mut().zip(features).for_each(|(sum, f)| *sum += f64::from(f));
            count += 1.0;
        }
        let mut learned = vec![width];
        learned.extend(mean.into_iter().map(|sum| sum / count.max(1.0)));
        learned
    }

    fn suspicions(&self, traffic: &Traffic, learned: &[f64]) -> Vec<Suspicion> {
        let [width, reference @ ..] = learned else { return Vec::new() };
        if reference.len() != FEATURES {
            return Vec::new();
        }
        let kernel = Kernel::of(*width);
        traffic
            .by_account()
            .into_par_iter()
            .enumerate()
            .filter(|(_, queries)| queries.len() >= WINDOW)
            .map(|(account, queries)| {
                let mut course = Vec::new();
                let mut before: Option<Vec<f64>> = None;
                for half in queries.chunks_exact(STEP) {
                    let sums = kernel.sums(traffic, half);
                    if let Some(before) = &before {
                        let whole: Vec<f64> =
                            before.iter().zip(&sums).map(|(a, b)| a + b).collect();
                        let last = half[STEP - 1] as usize;
                        let score = discrepancy(&whole, reference);
                        rise(&mut course, traffic.exchanges[last].time_us, score);
                    }
                    before = Some(sums);
                }
                Suspicion { accounts: vec![account as u32], course }
            })
            .collect()
    }
}

/// A Gaussian kernel as the inner product of random features.
struct Kernel {
    directions: Vec<[f32; DIMENSIONS]>,
}

impl Kernel {
    fn of(width: f64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(SEED);
        let directions = (0..PAIRS)
            .map(|_| {
                std::array::from_fn(|_| {
                    let draw: f64 = rng.sample(StandardNormal);
                    (draw / width / 127.0) as f32
                })
            })
            .collect();
        Kernel { directions }
    }

    fn features(&self, vector: &Vector, out: &mut [f32; FEATURES]) {
        let scale = (1.0 / PAIRS as f32).sqrt();
        for (direction, pair) in self.directions.iter().zip(out.chunks_exact_mut(2)) {
            let angle: f32 = direction.iter().zip(vector).map(|(d, v)| d * f32::from(*v)).sum();
            pair[0] = angle.cos() * scale;
            pair[1] = angle.sin() * scale;
        }
    }

    /// The features of some queries, added up.
    fn sums(&self, traffic: &Traffic, queries: &[u32]) -> Vec<f64> {
        let mut sums = vec![0.0f64; FEATURES];
        let mut features = [0.0f32; FEATURES];
        for query in queries {
            self.features(&traffic.vectors[*query as usize], &mut features);
            sums.iter_mut().zip(features).for_each(|(sum, f)| *sum += f64::from(f));
        }
        sums
    }
}

/// The unbiased estimate of the squared discrepancy between a window, given by the sums
/// of its features, and the reference, which is taken as known.
fn discrepancy(sums: &[f64], reference: &[f64]) -> f64 {
    let n = WINDOW as f64;
    let square = |v: &[f64]| v.iter().map(|x| x * x).sum::<f64>();
    // A query's features have the length 1.
    let within = (square(sums) - n) / (n * (n - 1.0));
    let across = sums.iter().zip(reference).map(|(s, r)| s * r).sum::<f64>() / n;
    within - 2.0 * across + square(reference)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detectors::made::{asked, words};

    #[test]
    fn it_sees_a_window_of_another_kind_and_none_of_the_same() {
        let clean = asked((0..2_000).map(|i| ((i % 20) as u32, words(i, 30))));
        let learned = Mmd.learn(&clean);
        let template = words(5_000_000, 20);
        let ordinary = (0..100).map(|i| (0, words(10_000 + i, 30)));
        let harvest = (0..100).map(|i| (1, template.clone() + &words(20_000 + i, 20)));
        // The same template, but three exchanges for each account.
        let spread =
            (0..300u64).map(|i| (2 + (i / 3) as u32, template.clone() + &words(30_000 + i, 20)));
        let suspicions = Mmd.suspicions(&asked(ordinary.chain(harvest).chain(spread)), &learned);
        assert_eq!(suspicions.len(), 2);
        let null = threshold_of(&clean, &learned);
        assert!(suspicions[0].peak() < 2.0 * null, "{} {null}", suspicions[0].peak());
        assert!(suspicions[1].peak() > 5.0 * null, "{} {null}", suspicions[1].peak());
    }

    fn threshold_of(clean: &Traffic, learned: &[f64]) -> f64 {
        crate::detector::threshold(&Mmd.suspicions(clean, learned), 0)
    }
}

//! Sharding: a pool of questions divided without overlap.
//!
//! What it sees: how likely another member asked a member's question too, as far as
//! that one's sets could show it (sets keep the smallest hashes, so what one keeps of a
//! common question the other keeps too). Near 1 for a benchmark that each runs whole,
//! high for an assignment, near 0 for shards, also where each question is asked a set
//! number of times. Why it matters: paying twice for one answer is waste. It clears
//! benchmarks and classes more than it accuses.
//! Innocent explanations: one customer's data set. Evaded by asking some questions
//! twice, at the price of doing so.

use hashbrown::HashMap;

use super::{ACTIVE_MIN, Estimate, M, Measured, View};

pub(super) fn measure(view: &View<'_>, out: &mut Measured) {
    let mut askers: HashMap<u64, u32> = HashMap::new();
    let mut thresholds: Vec<u64> = Vec::with_capacity(view.members.len());
    for features in view.features() {
        for &question in &features.questions {
            *askers.entry(question).or_default() += 1;
        }
        thresholds.push(features.questions_below);
    }
    thresholds.sort_unstable();
    let mut pairs = 0usize;
    let mut common = 0usize;
    for features in view.features() {
        for question in &features.questions {
            // Members whose sets would show the question had they asked it.
            let witnesses =
                thresholds.len() - thresholds.partition_point(|threshold| threshold <= question);
            pairs += witnesses.saturating_sub(1);
            common += askers[question] as usize - 1;
        }
    }
    if pairs >= 16 * ACTIVE_MIN {
        out[M::Repeats as usize] =
            Some(Estimate { value: common as f64 / pairs as f64, error: 0.0 });
    }
}

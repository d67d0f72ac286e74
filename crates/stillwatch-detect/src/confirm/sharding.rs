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

use super::{ACTIVE_MIN, Estimate, M, Measured, View};

pub(super) fn measure(view: &View<'_>, out: &mut Measured) {
    let mut questions: Vec<u64> =
        view.features().flat_map(|f| f.questions.iter().copied()).collect();
    questions.sort_unstable();
    let mut thresholds: Vec<u64> = view.features().map(|f| f.questions_below).collect();
    thresholds.sort_unstable();
    let mut pairs = 0usize;
    let mut common = 0usize;
    for run in questions.chunk_by(|a, b| a == b) {
        // Members whose sets would show the question had they asked it.
        let witnesses =
            thresholds.len() - thresholds.partition_point(|&threshold| threshold <= run[0]);
        pairs += run.len() * witnesses.saturating_sub(1);
        common += run.len() * (run.len() - 1);
    }
    if pairs >= 16 * ACTIVE_MIN {
        out[M::Repeats as usize] =
            Some(Estimate { value: common as f64 / pairs as f64, error: 0.0 });
    }
}

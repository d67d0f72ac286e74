//! Sharding: a pool of questions divided without overlap.
//!
//! # What it sees
//!
//! How likely another member asked a member's question too, as far as that one's sets
//! could show it (sets keep the smallest hashes, so what one keeps of a common question
//! the other keeps too). Questions are what conversations begin with: everybody goes on
//! alike. Near 1 for a benchmark that each runs whole, high for an
//! assignment, near 0 for shards, also where each question is asked a set number of
//! times. What was asked before the freezing counts as well: it can only clear, and who
//! works through an assignment at a pace of his own asks in one week what others ask in
//! another.
//!
//! # Why it matters
//!
//! Paying twice for one answer is waste. It clears benchmarks and classes more than it
//! accuses.
//!
//! # Innocent explanations
//!
//! One customer's data set; strangers do not repeat each other either, so it accuses
//! nobody.
//!
//! # How it is evaded, and at what cost
//!
//! By asking some questions twice, at the price of doing so.
//!
//! # References
//!
//! * Beyer et al. (2007), «On synopses for distinct-value estimation under multiset
//!   operations», SIGMOD
//! * MITRE ATLAS AML.T0024.002, Extract AI Model

use super::{
    ACTIVE_MIN, Confirm, Estimate, Explains, M, Measure, Measured, Role, Sum, Tail, View, percent,
};
use crate::link::LinkChannel;

pub(super) const CHANNEL: Confirm = Confirm {
    name: "sharding",
    role: Role::Clears,
    needs_occasion: false,
    lasts: false,
    sum: Sum::Mean,
    spent_by: &[LinkChannel::Pool],
    measure,
    measures: &[Measure {
        id: M::Repeats,
        name: "chance that another member asked the same question",
        high: false,
        resolution: 0.05,
        weight: 1.0,
        tail: Tail::Heavy,
        corroborates: false,
        explains: &[Explains::FarOut, Explains::Mostly, Explains::InBursts],
        statement: |value, ordinary, _| {
            format!(
                "A question of one account was asked by another given one of the group with a chance of {}; in ordinary groups it is {}.",
                percent(value),
                percent(ordinary)
            )
        },
    }],
    ruled_out: "One customer's data set is divided too; the accounts do not belong to one organisation. Benchmarks and assignments overlap instead.",
    cost_to_avoid: "Ask part of the questions twice: as many more requests.",
};

fn measure(view: &View<'_>, out: &mut Measured) {
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
            Some(Estimate { value: common as f64 / pairs as f64, ..Estimate::default() });
    }
}

//! Script: accounts that use one wording again and again: a system prompt, opening or
//! closing words, a template.
//!
//! Innocent sharers: popular templates, coding agents, assignments, evaluation
//! harnesses. Evaded by paraphrase, at the price of a model that writes the wrappers.

use super::joint;
use crate::population::Member;
use crate::profile::Kind;

pub(super) fn values(member: &Member, freeze: usize, emit: &mut dyn FnMut(u64)) {
    let mut recurring: Vec<u64> = Vec::new();
    for (_, epoch) in member.profile.epochs(0..freeze) {
        for entry in epoch.entries(Kind::System) {
            if entry.count > 1 {
                emit(joint(&[7, entry.hash]));
            }
        }
        for s in epoch.sample() {
            recurring.extend(s.wordings());
        }
    }
    // A wording that an account used once is chance; twice in a sample of its
    // exchanges it is a habit.
    recurring.sort_unstable();
    for run in recurring.chunk_by(|a, b| a == b) {
        if run.len() > 1 {
            emit(joint(&[run[0]]));
        }
    }
}

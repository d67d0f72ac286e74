//! Script: accounts that use one wording again and again.
//!
//! # What it sees
//!
//! System prompts that came twice, and wordings (openings, closings, bands of a MinHash
//! over the skeleton) that recur within an account's sample of exchanges.
//!
//! # Why it matters
//!
//! Questions of a campaign are filled into templates, and the templates are fewer than
//! the accounts.
//!
//! # Innocent explanations
//!
//! Popular templates, coding agents, assignments, evaluation harnesses.
//!
//! # How it is evaded, and at what cost
//!
//! By paraphrase, at the price of a model that writes the wrappers.
//!
//! # References
//!
//! * Broder (1997), «On the resemblance and containment of documents», SEQUENCES
//! * Wang et al. (2023), «Self-Instruct», ACL, arXiv 2212.10560: how questions are made
//!   from few seeds
//! * Anthropic (2026-02-23), «Detecting and preventing distillation attacks»

use super::{Gather, Link, joint};
use crate::calendar::Calendar;
use crate::population::Member;
use crate::profile::Kind;

pub(super) const CHANNEL: Link = Link {
    name: "script",
    shared_thing: "wording or system prompt",
    gather: Gather::Values(values),
    grows: true,
    joins: true,
};

fn values(member: &Member, _: &Calendar, freeze: usize, emit: &mut dyn FnMut(u64)) {
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

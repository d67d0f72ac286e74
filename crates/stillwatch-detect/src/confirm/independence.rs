//! Independence: question after question without a follow-up.
//!
//! # What it sees
//!
//! The share of follow-up turns, and how much more alike consecutive questions are than
//! any two of the same account.
//!
//! A group passes where it stands out among ordinary groups of its kind, or where it never
//! goes on at all: among machines nobody stands out by that.
//!
//! # Why it matters
//!
//! People in chats go on from an answer. It clears people more surely than it accuses
//! machines: nothing is a harvest without it, and it never accuses.
//!
//! # Innocent explanations
//!
//! Batch jobs, tools and evaluations ask independent questions too.
//!
//! # How it is evaded, and at what cost
//!
//! By feigned conversations, at the price of the turns.
//!
//! # References
//!
//! * Zhao et al. (2024), «WildChat: 1M ChatGPT interaction logs in the wild», ICLR, arXiv
//!   2405.01470: how people go on
//! * Juuti et al. (2019), «PRADA: protecting against DNN model stealing attacks»,
//!   EuroS&P: extraction as an odd sequence of queries

use super::{Confirm, M, Measure, Measured, Role, Sum, Tail, View, percent, points};
use crate::link::LinkChannel;

pub(super) const CHANNEL: Confirm = Confirm {
    name: "independence",
    role: Role::Clears,
    needs_occasion: false,
    lasts: false,
    sum: Sum::Mean,
    spent_by: &[LinkChannel::Habit],
    measure,
    measures: &[
        Measure {
            id: M::FollowUps,
            name: "share of follow-up turns",
            high: false,
            resolution: 0.05,
            weight: 1.0,
            tail: Tail::Heavy,
            corroborates: false,
            explains: &[],
            statement: |value, ordinary, _| {
                format!(
                    "{} of the exchanges go on from an earlier answer; in ordinary groups it is {}.",
                    percent(value),
                    percent(ordinary)
                )
            },
        },
        Measure {
            id: M::Thread,
            name: "likeness of consecutive questions beyond any two",
            high: false,
            resolution: 0.02,
            weight: 1.0,
            tail: Tail::Heavy,
            corroborates: false,
            explains: &[],
            statement: |value, ordinary, _| {
                format!(
                    "Consecutive questions of one account are {} points more alike than any two of its questions; in ordinary groups it is {} points.",
                    points(value),
                    points(ordinary)
                )
            },
        },
    ],
    ruled_out: "Batch jobs and evaluations do not go on from answers either; this only says that no people are talking here, and never stands alone.",
    cost_to_avoid: "Feign conversations: a follow-up for each question, paid for and thrown away.",
};

fn measure(view: &View<'_>, out: &mut Measured) {
    out[M::FollowUps as usize] = view.mean(|f| Some(f.follow_ups));
    out[M::Thread as usize] = view.mean(|f| f.thread);
}

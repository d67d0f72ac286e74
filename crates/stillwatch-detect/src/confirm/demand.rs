//! Demand: what a student model needs.
//!
//! # What it sees
//!
//! The shares of exchanges that ask for the reasoning, for token probabilities and for
//! grading, and the length of answers. Any one of them makes a demand.
//!
//! # Why it matters
//!
//! Reasoning, token probabilities and grades are what a student is trained on; most
//! customers want the answer alone.
//!
//! # Innocent explanations
//!
//! Power users, evaluation, reward models of a customer's own; so it accuses nobody.
//!
//! # How it is evaded, and at what cost
//!
//! By asking for less, at the price of what was wanted.
//!
//! # References
//!
//! * Carlini et al. (2024), «Stealing part of a production language model», ICML, arXiv
//!   2403.06634
//! * Finlayson, Ren, Swayamdipta (2024), «Logits of API-protected LLMs leak proprietary
//!   information», arXiv 2403.09539
//! * Anthropic (2026-02-23), «Detecting and preventing distillation attacks»: reasoning
//!   elicited step by step, and rubric-based grading

use super::{Confirm, M, Measure, Measured, Role, Sum, Tail, View, percent};
use crate::link::LinkChannel;

pub(super) const CHANNEL: Confirm = Confirm {
    name: "demand",
    role: Role::Corroborates,
    needs_occasion: false,
    lasts: false,
    sum: Sum::HalfTheMost,
    spent_by: &[LinkChannel::Client],
    measure,
    measures: &[
        Measure {
            id: M::Reasoning,
            name: "share that asks for the reasoning",
            high: true,
            resolution: 0.15,
            weight: 1.0,
            tail: Tail::Heavy,
            corroborates: false,
            explains: &[],
            statement: |value, ordinary, _| {
                format!(
                    "{} of the exchanges ask for the reasoning; in ordinary groups it is {}.",
                    percent(value),
                    percent(ordinary)
                )
            },
        },
        Measure {
            id: M::Probabilities,
            name: "share that asks for token probabilities",
            high: true,
            resolution: 0.15,
            weight: 1.0,
            tail: Tail::Heavy,
            corroborates: false,
            explains: &[],
            statement: |value, ordinary, _| {
                format!(
                    "{} of the exchanges ask for token probabilities or bias tokens; in ordinary groups it is {}.",
                    percent(value),
                    percent(ordinary)
                )
            },
        },
        Measure {
            id: M::Grading,
            name: "share that asks for grading",
            high: true,
            resolution: 0.15,
            weight: 1.0,
            tail: Tail::Heavy,
            corroborates: false,
            explains: &[],
            statement: |value, ordinary, _| {
                format!(
                    "{} of the exchanges ask for something to be graded; in ordinary groups it is {}.",
                    percent(value),
                    percent(ordinary)
                )
            },
        },
        Measure {
            id: M::Length,
            name: "tokens of an answer (natural log)",
            high: true,
            resolution: 0.30,
            weight: 1.0,
            tail: Tail::Heavy,
            corroborates: false,
            explains: &[],
            statement: |value, ordinary, _| {
                format!(
                    "An answer has {:.0} tokens on average; in ordinary groups it has {:.0}.",
                    value.exp(),
                    ordinary.exp()
                )
            },
        },
    ],
    ruled_out: "Power users ask for it too; a whole group that shares other things as well is compared with groups linked the same way.",
    cost_to_avoid: "Do without the reasoning, probabilities or grades that the harvest is for.",
};

fn measure(view: &View<'_>, out: &mut Measured) {
    out[M::Reasoning as usize] = view.mean(|f| Some(f.reasoning));
    out[M::Probabilities as usize] = view.mean(|f| Some(f.probabilities));
    out[M::Grading as usize] = view.mean(|f| Some(f.grading));
    out[M::Length as usize] = view.mean(|f| f.length);
}

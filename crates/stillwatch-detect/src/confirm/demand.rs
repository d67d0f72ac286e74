//! Demand: what a student model needs: the reasoning, token probabilities, grades,
//! long answers.
//!
//! Innocent explanations: power users, evaluation. Evaded by asking for less, at the
//! price of what was wanted.

use super::{M, Measured, View};

pub(super) fn measure(view: &View<'_>, out: &mut Measured) {
    out[M::Reasoning as usize] = view.mean(|f| Some(f.reasoning));
    out[M::Probabilities as usize] = view.mean(|f| Some(f.probabilities));
    out[M::Grading as usize] = view.mean(|f| Some(f.grading));
    out[M::Length as usize] = view.mean(|f| f.length);
}

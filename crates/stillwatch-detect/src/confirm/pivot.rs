//! Pivot: members move to a new model within a day of its release.
//!
//! # What it sees
//!
//! Of the exchanges in the first day after a release, by members that were there before
//! it, the share on the new model, less the crowd's share.
//!
//! # Why it matters
//!
//! A harvest wants the best teacher, and one scheduler moves all its accounts at once. In
//! a published case nearly half of the traffic moved within a day.
//!
//! # Innocent explanations
//!
//! Evaluation teams, agents whose default moves. So nothing is said before three days have
//! passed after that day: evaluation teams are gone then, which explains them.
//!
//! # How it is evaded, and at what cost
//!
//! By waiting, at the price of days of the better model.
//!
//! # References
//!
//! * Anthropic (2026-02-23), «Detecting and preventing distillation attacks»: traffic
//!   redirected to a new model within 24 hours of its release

use super::{Confirm, Estimate, M, Measure, Measured, Role, Sum, Tail, View, percent};

pub(super) const CHANNEL: Confirm = Confirm {
    name: "pivot",
    role: Role::Accuses,
    needs_occasion: true,
    lasts: false,
    sum: Sum::Mean,
    spent_by: &[],
    measure,
    measures: &[Measure {
        id: M::Moved,
        name: "share moved to a new model within a day, beyond the crowd's",
        high: true,
        resolution: 0.05,
        weight: 1.0,
        tail: Tail::Heavy,
        corroborates: false,
        explains: &[],
        statement: |value, ordinary, _| {
            format!(
                "Within a day of a release the accounts moved {} more of their traffic to the new model than everybody else did; ordinary groups moved {} more.",
                percent(value),
                percent(ordinary)
            )
        },
    }],
    ruled_out: "Evaluation teams and agents whose default model moves do so as well; everybody's own move to the new model is taken off.",
    cost_to_avoid: "Wait days for a better model.",
};

fn measure(view: &View<'_>, out: &mut Measured) {
    for (release, crowd) in view.crowd.moved.iter().enumerate() {
        let Some(crowd) = crowd else { continue };
        let moved = view.mean_of(|i| {
            let pivot = view.population.members()[i as usize].profile.pivots()[release];
            (pivot.before > 0 && pivot.after > 0)
                .then(|| f64::from(pivot.moved) / f64::from(pivot.after) - crowd)
        });
        let most = &mut out[M::Moved as usize];
        if let Some(moved) = moved
            && most.is_none_or(|m: Estimate| moved.value > m.value)
        {
            *most = Some(moved);
        }
    }
}

//! Pivot: members move to a new model within a day of its release.
//!
//! What it sees: of the exchanges in the first day after a release, by members that
//! were there before it, the share on the new model, less the crowd's share. Innocent
//! explanations: evaluation teams, agents whose default moves. Evaded by waiting, at
//! the price of days of the better model.

use super::{Estimate, M, Measured, View};

pub(super) fn measure(view: &View<'_>, out: &mut Measured) {
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

//! Pivot: members move to a new model within a day of its release.
//!
//! What it sees: of the exchanges in the first day after a release, by members that
//! were there before it, the share on the new model, less the crowd's share. Innocent
//! explanations: evaluation teams, agents whose default moves. Evaded by waiting, at
//! the price of days of the better model.

use super::{ACTIVE_MIN, M, Measured, View};

pub(super) fn measure(view: &View<'_>, out: &mut Measured) {
    let mut most: Option<f64> = None;
    for (release, crowd) in view.crowd.moved.iter().enumerate() {
        let Some(crowd) = crowd else { continue };
        let shares: Vec<f64> = view
            .members
            .iter()
            .map(|&i| view.population.members()[i as usize].profile.pivots()[release])
            .filter(|p| p.before > 0 && p.after > 0)
            .map(|p| f64::from(p.moved) / f64::from(p.after))
            .collect();
        if shares.len() >= ACTIVE_MIN {
            let beyond = shares.iter().sum::<f64>() / shares.len() as f64 - crowd;
            most = Some(most.map_or(beyond, |m: f64| m.max(beyond)));
        }
    }
    out[M::Moved as usize] = most;
}

//! Coverage: each member asks about the same mixture of subjects as the whole.
//!
//! What it sees: the distance between a member's subjects and the group's (total
//! variation), less what chance gives samples of that size. Shards of one pool are
//! alike; people have their own subjects. Innocent explanations: evaluation suites, one
//! narrow app. Evaded by giving each account a subject, at the price of a plan.

use super::{M, Measured, View};
use crate::observe::CAPABILITIES;

pub(super) fn measure(view: &View<'_>, out: &mut Measured) {
    let mut group = [0.0f64; CAPABILITIES];
    for features in view.features() {
        for (sum, &share) in group.iter_mut().zip(&features.capabilities) {
            *sum += f64::from(share);
        }
    }
    let members = view.members.len() as f64;
    for share in &mut group {
        *share /= members;
    }
    out[M::Sameness as usize] = view.mean(|f| {
        if f.exchanges < 8.0 {
            return None;
        }
        let mut distance = 0.0;
        let mut chance = 0.0;
        for (&own, &all) in f.capabilities.iter().zip(&group) {
            distance += (f64::from(own) - all).abs() / 2.0;
            // Mean absolute deviation of a share of n draws, normal approximation.
            chance += (2.0 / std::f64::consts::PI * all * (1.0 - all) / f.exchanges).sqrt() / 2.0;
        }
        Some(distance - chance)
    });
}

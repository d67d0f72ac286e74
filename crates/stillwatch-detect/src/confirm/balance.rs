//! Balance: volumes too equal for a crowd.
//!
//! # What it sees
//!
//! How far the members' volumes spread, and how far each one's goes up and down over
//! time, beyond what chance gives equal rates.
//!
//! # Why it matters
//!
//! A load balancer hands out work evenly; customers' needs are heavy-tailed.
//!
//! # Innocent explanations
//!
//! Equal seats of one firm, automations on one timetable. Classes and evaluation days
//! have a far greater drift than a crowd, which explains a group.
//!
//! # How it is evaded, and at what cost
//!
//! By uneven use of accounts, at the price of the capacity left unused.
//!
//! # References
//!
//! * Anthropic (2026-02-23), «Detecting and preventing distillation attacks»: load
//!   balancing over many accounts
//! * Clauset, Shalizi, Newman (2009), «Power-law distributions in empirical data», SIAM
//!   Review 51(4): what crowds' volumes are like, and how to tell

use super::{
    ACTIVE_MIN, Confirm, Estimate, Explains, M, Measure, Measured, Role, Sum, View, times,
};
use crate::link::LinkChannel;

pub(super) const CHANNEL: Confirm = Confirm {
    name: "balance",
    role: Role::Accuses,
    needs_occasion: false,
    sum: Sum::Corroborated,
    spent_by: &[LinkChannel::Habit],
    measure,
    measures: &[
        Measure {
            id: M::Spread,
            name: "spread of the members' volumes (natural log)",
            high: false,
            resolution: 0.10,
            weight: 1.0,
            corroborates: false,
            explains: &[],
            statement: |value, ordinary, accounts| {
                format!(
                    "The {accounts} accounts' volumes lie within a factor of {} of each other (two thirds of them); in ordinary groups of this kind the factor is {}.",
                    times(2.0 * value),
                    times(2.0 * ordinary)
                )
            },
        },
        Measure {
            id: M::Drift,
            name: "spread of each member's volume over time (natural log)",
            high: false,
            resolution: 0.10,
            weight: 0.5,
            corroborates: true,
            explains: &[Explains::FarOut],
            statement: |value, ordinary, _| {
                format!(
                    "Each account's own volume stays within a factor of {} from one slice of time to the next; in ordinary groups of this kind the factor is {}.",
                    times(2.0 * value),
                    times(2.0 * ordinary)
                )
            },
        },
    ],
    ruled_out: "Equal seats of one firm, or automations on one timetable: the accounts do not belong to one organisation, and their requests do not keep to the clock.",
    cost_to_avoid: "Use accounts unevenly: with a crowd's volumes most accounts stand nearly idle, so that several times as many are needed.",
};

fn measure(view: &View<'_>, out: &mut Measured) {
    out[M::Spread as usize] = evenness(view.features().map(|f| f.exchanges));
    out[M::Drift as usize] = view.mean(|f| f.drift);
}

/// How far volumes spread beyond chance: the standard deviation of their natural logs less
/// that of Poisson counts. `None` for fewer than [`ACTIVE_MIN`].
pub(super) fn evenness(volumes: impl Iterator<Item = f64> + Clone) -> Option<Estimate> {
    let logs: Vec<f64> = volumes.clone().map(f64::ln).collect();
    let members = logs.len() as f64;
    let chance = volumes.map(|v| 1.0 / v).sum::<f64>() / members;
    spread(logs).map(|s| Estimate {
        value: (s * s - chance).max(0.0).sqrt(),
        // Of half the distance of these percentiles in a normal sample: 0.96 σ / √n.
        error: 0.96 * s / members.sqrt(),
    })
}

/// Half the distance between the 16th and the 84th percentile: the standard deviation
/// of a normal crowd, unmoved by a few strays.
pub(crate) fn spread(mut values: Vec<f64>) -> Option<f64> {
    if values.len() < ACTIVE_MIN {
        return None;
    }
    values.sort_unstable_by(f64::total_cmp);
    let at = |q: f64| {
        let place = q * (values.len() - 1) as f64;
        let low = place.floor() as usize;
        let high = place.ceil() as usize;
        values[low] + (values[high] - values[low]) * (place - low as f64)
    };
    Some((at(0.8413) - at(0.1587)) / 2.0)
}

//! Balance: volumes too equal for a crowd.
//!
//! What it sees: how far the members' volumes spread, and how far each one's goes up
//! and down over time, beyond what chance gives equal rates. Why it matters: a load
//! balancer hands out work evenly; customers' needs are heavy-tailed. Innocent
//! explanations: equal seats of one firm, automations on one timetable. Evaded by
//! uneven use of accounts, at the price of the capacity left unused.

use super::{ACTIVE_MIN, Estimate, M, Measured, View};

pub(super) fn measure(view: &View<'_>, out: &mut Measured) {
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

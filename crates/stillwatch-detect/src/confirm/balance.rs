//! Balance: volumes too equal for a crowd.
//!
//! What it sees: how far the members' volumes spread, and how far each one's goes up
//! and down over time, beyond what chance gives equal rates. Why it matters: a load
//! balancer hands out work evenly; customers' needs are heavy-tailed. Innocent
//! explanations: equal seats of one firm, automations on one timetable. Evaded by
//! uneven use of accounts, at the price of the capacity left unused.

use super::{ACTIVE_MIN, Estimate, M, Measured, View};

pub(super) fn measure(view: &View<'_>, out: &mut Measured) {
    let logs: Vec<f64> = view.features().map(|f| f.exchanges.ln()).collect();
    let chance = view.features().map(|f| 1.0 / f.exchanges).sum::<f64>() / logs.len() as f64;
    let members = logs.len() as f64;
    out[M::Spread as usize] = spread(logs).map(|s| Estimate {
        value: (s * s - chance).max(0.0).sqrt(),
        // Of half the distance of these percentiles in a normal sample: 0.96 σ / √n.
        error: 0.96 * s / members.sqrt(),
    });
    out[M::Drift as usize] = view.mean(|f| f.drift);
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

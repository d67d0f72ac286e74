//! Balance: volumes too equal for a crowd.
//!
//! # What it sees
//!
//! How far the members' volumes spread, and how far each one's goes up and down over
//! time, beyond what chance gives equal rates. A customer counts once, however many of the
//! accounts are its own.
//!
//! # Why it matters
//!
//! A load balancer hands out work evenly; customers' needs are heavy-tailed.
//!
//! # Innocent explanations
//!
//! Equal seats of one firm, automations on one timetable. Classes and evaluation days
//! have a far greater drift than a crowd, which explains all that they do but even volumes.
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

use std::sync::LazyLock;

use super::{
    ACTIVE_MIN, Confirm, Estimate, Explains, M, Measure, Measured, Role, Sum, Tail, View, times,
};
use crate::link::LinkChannel;

pub(super) const CHANNEL: Confirm = Confirm {
    name: "balance",
    role: Role::Accuses,
    needs_occasion: false,
    lasts: false,
    sum: Sum::Corroborated,
    spent_by: &[LinkChannel::Habit],
    measure,
    measures: &[
        Measure {
            id: M::Spread,
            name: "spread of the members' volumes beyond chance (natural log)",
            high: false,
            resolution: 0.10,
            weight: 1.0,
            tail: Tail::Light,
            corroborates: false,
            explains: &[],
            statement: |value, ordinary, accounts| {
                format!(
                    "Beyond what chance alone does to equal rates, two thirds of the {accounts} measured accounts' volumes lie within a factor of {} of each other; in ordinary groups of this kind the factor is {}.",
                    times(2.0 * value),
                    times(2.0 * ordinary)
                )
            },
        },
        Measure {
            id: M::Drift,
            name: "spread of each member's volume over time beyond chance (natural log)",
            high: false,
            resolution: 0.10,
            weight: 0.5,
            tail: Tail::Heavy,
            corroborates: true,
            explains: &[Explains::Burst],
            statement: |value, ordinary, _| {
                format!(
                    "Beyond what chance alone does to a steady rate, an account's own volume stays within a factor of {} in two thirds of the slices of time (eight an epoch); in ordinary groups of this kind the factor is {}.",
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
    let shares = crate::owner::shares(view.owners, view.members);
    out[M::Spread as usize] = evenness(view.features().map(|f| f.exchanges).zip(shares));
    out[M::Drift as usize] = view.mean(|f| f.drift);
}

/// The factor within which two thirds of some volumes lie, chance included: what a person who
/// counts them finds. `None` for fewer than [`ACTIVE_MIN`].
#[must_use]
pub fn counted_factor(volumes: &[f64]) -> Option<f64> {
    spread(volumes.iter().map(|v| (v.ln(), 1.0)).collect()).map(|s| (2.0 * s).exp())
}

/// How far volumes spread beyond chance: the standard deviation of their natural logs less
/// that of Poisson counts. Each volume has a weight, 1 for a customer in all. The error is
/// that of one nat of spread. `None` for fewer than [`ACTIVE_MIN`].
pub(super) fn evenness(volumes: impl Iterator<Item = (f64, f64)>) -> Option<Estimate> {
    let mut logs: Vec<(f64, f64)> = Vec::new();
    let mut chance = 0.0;
    let mut customers = 0.0;
    for (volume, weight) in volumes {
        logs.push((volume.ln(), weight));
        chance += weight * counting(volume);
        customers += weight;
    }
    let chance = chance / customers;
    spread(logs).map(|s| Estimate {
        value: (s * s - chance).max(0.0).sqrt(),
        // Of half the distance of these percentiles in a normal sample: 0.96 σ / √n.
        error: 0.96 / customers.sqrt(),
        chance,
    })
}

/// The variance that chance gives to the natural log of a count, where one that is none is
/// not seen: of Poisson counts of this mean. For many it is the inverse of the mean, for one
/// to three only a fifth to nine tenths of it.
fn counting(mean: f64) -> f64 {
    static OF: LazyLock<[f64; COUNTED_MAX]> = LazyLock::new(|| {
        std::array::from_fn(|mean| {
            let mean = mean as f64;
            let (mut part, mut sums) = (1.0, [0.0f64; 3]);
            for count in 1..4 * COUNTED_MAX {
                let count = count as f64;
                part *= mean / count;
                let log = count.ln();
                sums.iter_mut().zip([1.0, log, log * log]).for_each(|(sum, of)| *sum += part * of);
            }
            let [all, log, squared] = sums;
            if all > 0.0 { squared / all - (log / all).powi(2) } else { 0.0 }
        })
    });
    OF.get(mean.round() as usize).copied().unwrap_or(1.0 / mean)
}

/// Means from here on are far enough from none.
const COUNTED_MAX: usize = 64;

/// Half the distance between the 16th and the 84th percentile: the standard deviation
/// of a normal crowd, unmoved by a few strays. Of values with their weights; with equal
/// ones a value's place is its rank, from 0 for the least to 1. `None` for fewer than
/// [`ACTIVE_MIN`].
fn spread(mut values: Vec<(f64, f64)>) -> Option<f64> {
    if values.len() < ACTIVE_MIN {
        return None;
    }
    values.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
    let (first, last) = (values.first()?.1, values.last()?.1);
    let whole = values.iter().map(|v| v.1).sum::<f64>() - (first + last) / 2.0;
    let at = |q: f64| {
        let (mut below, mut sum) = ((f64::MIN, 0.0), -first / 2.0);
        for &(value, weight) in &values {
            let place = (sum + weight / 2.0) / whole;
            if place >= q {
                let way = (q - below.0) / (place - below.0);
                return if below.0 == f64::MIN { value } else { below.1 + (value - below.1) * way };
            }
            below = (place, value);
            sum += weight;
        }
        below.1
    };
    Some((at(0.8413) - at(0.1587)) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chance_is_that_of_counts_that_are_seen() {
        // By hand, of 1 to 6 with the probabilities of a Poisson law of mean 2.
        assert!((counting(2.0) - 0.29).abs() < 0.01, "{}", counting(2.0));
        for mean in [30.0, 63.0, 64.0, 1000.0] {
            assert!((counting(mean) * mean - 1.0).abs() < 0.06, "{mean}: {}", counting(mean));
        }
        // Volumes of one to seven that differ are not taken for even.
        let volumes = [1.0, 1.0, 1.0, 2.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 7.0, 7.0];
        let few = evenness(volumes.iter().map(|&v| (v, 1.0))).unwrap();
        assert!(few.value > 0.5, "{few:?}");
    }

    #[test]
    fn what_is_measured_is_beyond_chance_and_what_is_counted_is_not() {
        // As chance spreads equal rates of 25: two thirds within 20 to 30.
        let volumes: Vec<f64> = (0..101).map(|i| 25.0 + 0.15 * f64::from(i - 50)).collect();
        let measured = evenness(volumes.iter().map(|&v| (v, 1.0))).unwrap().value;
        let counted = counted_factor(&volumes).unwrap();
        assert!(measured < 0.05, "{measured}");
        assert!((1.4..1.6).contains(&counted), "{counted}");
        assert_eq!(counted_factor(&volumes[..ACTIVE_MIN - 1]), None);
        let said = (CHANNEL.measures[0].statement)(measured, 0.8, 101);
        assert!(said.contains("Beyond what chance alone does"), "{said}");
        assert!(said.contains("the 101 measured accounts' volumes"), "{said}");
    }
}

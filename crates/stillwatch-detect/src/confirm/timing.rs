//! Timing: members active at the same moments beyond each one's own rhythm.
//!
//! What it sees: with p the probability that a member is active in a bin, from its own
//! hours and the crowd's days, the excess of pairs active together over what the p
//! give, as a part of that. 0 for independent members, also where all keep office
//! hours. Innocent explanations: classes, meetings, cron on the hour. Evaded by random
//! delays, at the price of throughput.

use super::features::ones;
use super::{Estimate, M, Measured, View};
use crate::calendar::BINS;

pub(super) fn measure(view: &View<'_>, out: &mut Measured) {
    out[M::Clock as usize] = view.mean(|f| Some(f.on_the_mark));
    let calendar = view.population.calendar();
    let window = view.crowd.window;
    let mut excess = 0.0;
    let mut expected_pairs = 0.0;
    for epoch in window.freeze..window.look {
        let crowd = &view.crowd.bins[epoch - window.freeze];
        // The crowd's share of the hour's activity by day: weekends, holidays, outages.
        let hours: Vec<usize> = (0..BINS).map(|b| calendar.hour_of_bin(epoch, b)).collect();
        let mut by_hour = [(0.0f64, 0usize); 24];
        for (bin, &hour) in hours.iter().enumerate() {
            by_hour[hour].0 += f64::from(crowd[bin]);
            by_hour[hour].1 += 1;
        }
        let day: Vec<f64> = hours
            .iter()
            .enumerate()
            .map(|(bin, &hour)| {
                let mean = by_hour[hour].0 / by_hour[hour].1.max(1) as f64;
                (f64::from(crowd[bin]) + 1.0) / (mean + 1.0)
            })
            .collect();
        let mut together = [0.0f64; BINS];
        let mut sum_p = [0.0f64; BINS];
        let mut sum_p2 = [0.0f64; BINS];
        for (&index, features) in view.members.iter().zip(view.features()) {
            let profile = &view.population.members()[index as usize].profile;
            let Some((_, e)) = profile.epochs(epoch..epoch + 1).next() else { continue };
            let mut active = 0.0;
            for bin in ones(&e.active) {
                together[bin] += 1.0;
                active += 1.0;
            }
            let weights: f64 =
                (0..BINS).map(|b| f64::from(features.hours[hours[b]]) * day[b]).sum();
            let scale = active / weights.max(f64::MIN_POSITIVE);
            for bin in 0..BINS {
                let p = (f64::from(features.hours[hours[bin]]) * day[bin] * scale).min(0.98);
                sum_p[bin] += p;
                sum_p2[bin] += p * p;
            }
        }
        for bin in 0..BINS {
            let chance = sum_p[bin] - sum_p2[bin];
            excess += (together[bin] - sum_p[bin]).powi(2) - chance;
            expected_pairs += sum_p[bin] * sum_p[bin] - sum_p2[bin];
        }
    }
    // Fewer pairs than members were together even by chance: too thin to say.
    if expected_pairs >= view.members.len() as f64 {
        out[M::Together as usize] = Some(Estimate { value: excess / expected_pairs, error: 0.0 });
    }
}

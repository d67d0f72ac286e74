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
    let window = view.crowd.window;
    let mut excess = 0.0;
    let mut expected_pairs = 0.0;
    for epoch in window.freeze..window.look {
        let days = &view.crowd.days[epoch - window.freeze];
        let mut together = [0.0f32; BINS];
        let mut sum_p = [0.0f32; BINS];
        let mut sum_p2 = [0.0f32; BINS];
        for (&index, features) in view.members.iter().zip(view.features()) {
            let profile = &view.population.members()[index as usize].profile;
            let Some((_, e)) = profile.epochs(epoch..epoch + 1).next() else { continue };
            let mut active = 0.0;
            for bin in ones(&e.active) {
                together[bin] += 1.0;
                active += 1.0;
            }
            let mut weights = [0.0f32; BINS];
            for (weight, &(hour, day)) in weights.iter_mut().zip(days) {
                *weight = features.hours[usize::from(hour) % 24] * day;
            }
            let scale = active / weights.iter().sum::<f32>().max(f32::MIN_POSITIVE);
            for (bin, weight) in weights.iter().enumerate() {
                let p = (weight * scale).min(0.98);
                sum_p[bin] += p;
                sum_p2[bin] += p * p;
            }
        }
        for bin in 0..BINS {
            let (together, p, p2) =
                (f64::from(together[bin]), f64::from(sum_p[bin]), f64::from(sum_p2[bin]));
            excess += (together - p).powi(2) - (p - p2);
            expected_pairs += p * p - p2;
        }
    }
    // Fewer pairs than members were together even by chance: too thin to say.
    if expected_pairs >= view.members.len() as f64 {
        out[M::Together as usize] = Some(Estimate { value: excess / expected_pairs, error: 0.0 });
    }
}

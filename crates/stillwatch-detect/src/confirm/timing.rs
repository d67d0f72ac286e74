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
        let hours = &view.crowd.hours[epoch - window.freeze];
        let mut together = [0.0f64; BINS];
        // By hour, the members' probabilities on an ordinary day, and their squares.
        let mut sums = [(0.0f64, 0.0f64); 24];
        for (&index, features) in view.members.iter().zip(view.features()) {
            let profile = &view.population.members()[index as usize].profile;
            let Some((_, e)) = profile.epochs(epoch..epoch + 1).next() else { continue };
            let mut active = 0.0;
            for bin in ones(&e.active) {
                together[bin] += 1.0;
                active += 1.0;
            }
            let weights: f32 = features.hours.iter().zip(hours).map(|(own, busy)| own * busy).sum();
            let scale = active / weights.max(f32::MIN_POSITIVE);
            for (sum, own) in sums.iter_mut().zip(&features.hours) {
                let p = f64::from((own * scale).min(0.98));
                sum.0 += p;
                sum.1 += p * p;
            }
        }
        for (together, &(hour, busy)) in together.iter().zip(days) {
            let busy = f64::from(busy);
            let (p, p2) = sums[usize::from(hour) % 24];
            let (p, p2) = (p * busy, p2 * busy * busy);
            excess += (together - p).powi(2) - (p - p2);
            expected_pairs += p * p - p2;
        }
    }
    // Fewer pairs than members were together even by chance: too thin to say.
    if expected_pairs >= view.members.len() as f64 {
        out[M::Together as usize] = Some(Estimate { value: excess / expected_pairs, error: 0.0 });
    }
}

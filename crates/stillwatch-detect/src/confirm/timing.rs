//! Timing: members active at the same moments beyond each one's own rhythm.
//!
//! # What it sees
//!
//! With p the probability that a member is active in a bin, from its own hours and the
//! crowd's days, the excess of pairs active together over what the p give, as a part of
//! that: 0 for independent members, also where all keep office hours. And the share of
//! exchanges within seconds of a full five minutes.
//!
//! # Why it matters
//!
//! Innocent groups that act at once, classes, meetings, evaluation days, and programs
//! that a clock starts, are told apart by it: it explains them and accuses nobody.
//!
//! # Innocent explanations
//!
//! Classes, meetings, cron on the hour: what it is there to show.
//!
//! # How it is evaded, and at what cost
//!
//! By imitating bursts or a clock, at the price of accounts that stand idle between.
//!
//! # References
//!
//! * Cao et al. (2014), «Uncovering large groups of active malicious accounts in online
//!   social networks» (SynchroTrap), CCS, doi 10.1145/2660267.2660269
//! * Beutel et al. (2013), «CopyCatch: stopping group attacks by spotting lockstep
//!   behavior in social networks», WWW
//! * Zhang, Paxson (2011), «Detecting and analyzing automated activity on Twitter», PAM:
//!   the marks of a clock

use super::{
    Confirm, Estimate, Explains, Features, M, MEASURED_MAX, Measure, Measured, Role, Sum, Tail,
    View, percent, percent_more,
};
use crate::calendar::BINS;
use crate::profile::Epoch;

pub(super) const CHANNEL: Confirm = Confirm {
    name: "timing",
    role: Role::Clears,
    needs_occasion: false,
    lasts: false,
    sum: Sum::Mean,
    spent_by: &[],
    measure,
    measures: &[
        Measure {
            id: M::Together,
            name: "co-activity beyond each member's own rhythm",
            high: true,
            resolution: 0.05,
            weight: 1.0,
            tail: Tail::Heavy,
            corroborates: false,
            explains: &[],
            statement: |value, ordinary, _| {
                format!(
                    "Two of the accounts are active at the same moments {} more often than their own daily rhythms explain; in ordinary groups it is {}.",
                    percent_more(value),
                    percent_more(ordinary)
                )
            },
        },
        Measure {
            id: M::Clock,
            name: "share within seconds of a full five minutes",
            high: false,
            resolution: 0.10,
            weight: 1.0,
            tail: Tail::Heavy,
            corroborates: false,
            explains: &[Explains::FarOut, Explains::Mostly],
            statement: |value, ordinary, _| {
                format!(
                    "{} of the exchanges come within seconds of a full five minutes, where chance gives 5 %; in ordinary groups it is {}.",
                    percent(value),
                    percent(ordinary)
                )
            },
        },
    ],
    ruled_out: "Classes, meetings and timetables act together too; each account's own daily rhythm and the crowd's days are taken out before comparing.",
    cost_to_avoid: "Delay each request at random: throughput, and state to keep for each account.",
};

fn measure(view: &View<'_>, out: &mut Measured) {
    out[M::Clock as usize] = view.mean(|f| Some(f.on_the_mark));
    let window = view.crowd.window;
    let mut excess = 0.0;
    let mut expected_pairs = 0.0;
    for epoch in window.start..window.look {
        let days = &view.crowd.days[epoch - window.start];
        let hours = &view.crowd.hours[epoch - window.start];
        let mut together = Together::default();
        // Nothing of one account is near anything of another: what is needed of them is
        // called for all at once, before the first of it is worked on.
        let epochs: Vec<(&Features, &Epoch)> = view
            .members
            .iter()
            .zip(view.features())
            .filter_map(|(&index, features)| {
                let profile = &view.population.members()[index as usize].profile;
                profile.epochs(epoch..epoch + 1).next().map(|(_, e)| (features, e))
            })
            .collect();
        epochs.iter().for_each(|(_, e)| together.add(&e.active));
        // By hour, the members' probabilities on an ordinary day, and their squares.
        let (mut sums, mut squares) = ([0.0f64; 24], [0.0f64; 24]);
        for (features, e) in epochs {
            let active = e.active.iter().map(|word| word.count_ones()).sum::<u32>() as f32;
            let weights: f32 = features.hours.iter().zip(hours).map(|(own, busy)| own * busy).sum();
            let scale = active / weights.max(f32::MIN_POSITIVE);
            for ((sum, square), own) in sums.iter_mut().zip(&mut squares).zip(&features.hours) {
                let p = f64::from((own * scale).min(0.98));
                *sum += p;
                *square += p * p;
            }
        }
        for (bin, &(hour, busy)) in days.iter().enumerate() {
            let busy = f64::from(busy);
            let hour = usize::from(hour) % 24;
            let (p, p2) = (sums[hour] * busy, squares[hour] * busy * busy);
            excess += (f64::from(together.members(bin)) - p).powi(2) - (p - p2);
            expected_pairs += p * p - p2;
        }
    }
    // Fewer pairs than members were together even by chance: too thin to say.
    if expected_pairs >= view.members.len() as f64 {
        out[M::Together as usize] =
            Some(Estimate { value: excess / expected_pairs, ..Estimate::default() });
    }
}

/// How many members were active in each bin: the digits of the counts of 64 bins side by
/// side, so that a member's bins are added all at once and not one by one.
#[derive(Default)]
struct Together {
    digits: [[u64; BINS / 64]; DIGITS],
}

const DIGITS: usize = MEASURED_MAX.ilog2() as usize + 1;

impl Together {
    fn add(&mut self, active: &[u64; BINS / 64]) {
        let mut carry = *active;
        for digit in &mut self.digits {
            for (digit, carry) in digit.iter_mut().zip(&mut carry) {
                (*digit, *carry) = (*digit ^ *carry, *digit & *carry);
            }
            if carry == [0; BINS / 64] {
                return;
            }
        }
    }

    fn members(&self, bin: usize) -> u32 {
        let digits = self.digits.iter().enumerate();
        digits.map(|(place, digit)| (digit[bin / 64] >> (bin % 64) & 1) << place).sum::<u64>()
            as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_counted_up_to_as_many_as_are_measured() {
        let mut together = Together::default();
        let mut counts = [0; BINS];
        for member in 0..MEASURED_MAX as u64 {
            let active = std::array::from_fn(|word| {
                (member * 4 + word as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1
            });
            together.add(&active);
            for bin in 0..BINS {
                counts[bin] += (active[bin / 64] >> (bin % 64) & 1) as u32;
            }
        }
        assert_eq!(counts[64], MEASURED_MAX as u32);
        assert_eq!(std::array::from_fn(|bin| together.members(bin)), counts);
    }
}

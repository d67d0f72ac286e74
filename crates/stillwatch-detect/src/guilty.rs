//! Guilty: how many of a reported group's members can't be ordinary.
//!
//! The group's own members are held against those of its references, account by account,
//! in two ways that are fixed beforehand: what an account asks for and when, and how close
//! its volume is to the middle of its group's.

use hashbrown::HashSet;
use rayon::prelude::*;

use crate::confirm::{ACTIVE_MIN, Features, Window};
use crate::population::Population;

/// The confidence of [`Finding::guilty_members_at_least`](crate::find::Finding).
pub const GUILTY_LEVEL: f64 = 0.95;

/// Accounts of references that are looked at.
const OTHERS_MAX: usize = 20_000;

/// How accounts behave in a window, by index into the population; not a number without
/// traffic, and where nobody asks.
#[derive(Clone, Debug)]
pub(crate) struct Behaviours {
    /// Grows with suspicion.
    demand: Vec<f32>,
    /// The natural log of the exchanges.
    volume: Vec<f32>,
}

impl Behaviours {
    /// Works them out for those accounts that are wanted. Where nothing came before the
    /// window, an account's quiet hours are learned from the first of its epochs and looked
    /// for in the others, as far as it goes on for so long.
    pub(crate) fn of(
        population: &Population,
        window: Window,
        wanted: &[bool],
        features: &[Features],
    ) -> Self {
        let later = Window { start: 1, look: window.look };
        let demand = population.members().par_iter().zip(features).zip(wanted).map(
            |((member, own), wanted)| {
                let later = (window.start == 0 && *wanted)
                    .then(|| demand(&Features::of(member, later)))
                    .filter(|b| !b.is_nan());
                later.unwrap_or_else(|| demand(own))
            },
        );
        let volume = features
            .iter()
            .map(|f| if f.exchanges > 0.0 { f.exchanges.ln() as f32 } else { f32::NAN });
        Behaviours { demand: demand.collect(), volume: volume.collect() }
    }

    /// How far volumes lie from the middle of their group's, nearest last; none for fewer
    /// than [`ACTIVE_MIN`].
    fn nearness(&self, group: impl Iterator<Item = u32>) -> Vec<f64> {
        let mut volumes = values(&self.volume, group);
        if volumes.len() < ACTIVE_MIN {
            return Vec::new();
        }
        volumes.sort_unstable_by(f64::total_cmp);
        let middle = volumes[volumes.len() / 2];
        volumes.iter().map(|v| -(v - middle).abs()).collect()
    }
}

/// What an account asks for and when, in one number that grows with suspicion.
fn demand(f: &Features) -> f32 {
    if f.exchanges > 0.0 {
        (f.quiet.unwrap_or(0.0) * 3.0 - 3.0 * f.follow_ups + f.reasoning + f.probabilities) as f32
    } else {
        f32::NAN
    }
}

fn values(of: &[f32], accounts: impl Iterator<Item = u32>) -> Vec<f64> {
    accounts.map(|m| f64::from(of[m as usize])).filter(|v| !v.is_nan()).collect()
}

/// A lower bound on the members that are not ordinary, at [`GUILTY_LEVEL`]; each of the two
/// comparisons has half of the error.
pub(crate) fn guilty_at_least<'a>(
    behaviours: &Behaviours,
    members: &[u32],
    references: impl Iterator<Item = &'a [u32]>,
) -> usize {
    let mut seen: HashSet<u32> = members.iter().copied().collect();
    let mut demand = Vec::new();
    let mut nearness = Vec::new();
    for group in references {
        if demand.len().max(nearness.len()) >= OTHERS_MAX {
            break;
        }
        // Each account once.
        let others: Vec<u32> = group.iter().copied().filter(|m| seen.insert(*m)).collect();
        demand.extend(values(&behaviours.demand, others.iter().copied()));
        nearness.extend(behaviours.nearness(others.iter().copied()));
    }
    let by_demand = not_ordinary(values(&behaviours.demand, members.iter().copied()), demand);
    let by_nearness = not_ordinary(behaviours.nearness(members.iter().copied()), nearness);
    (by_demand.max(by_nearness) * members.len() as f64).floor() as usize
}

/// The least share of `ours` that does not come from where `theirs` come from, by the
/// Dvoretzky-Kiefer-Wolfowitz inequality (Massart 1990): if at least a share x of ours were
/// ordinary, their distribution function would lie above x times that of theirs.
fn not_ordinary(mut ours: Vec<f64>, mut theirs: Vec<f64>) -> f64 {
    ours.sort_unstable_by(f64::total_cmp);
    theirs.sort_unstable_by(f64::total_cmp);
    // Half of the error for each comparison, and of that half for each side.
    let margin = |n: usize| ((4.0 / (1.0 - GUILTY_LEVEL)).ln() / (2.0 * n as f64)).sqrt();
    let (our_margin, their_margin) = (margin(ours.len()), margin(theirs.len()));
    let mut ordinary_most = 1.0f64;
    for (i, &t) in ours.iter().enumerate() {
        let ours_below = (i + 1) as f64 / ours.len() as f64 + our_margin;
        let theirs_below =
            theirs.partition_point(|&x| x <= t) as f64 / theirs.len() as f64 - their_margin;
        if theirs_below > 0.0 {
            ordinary_most = ordinary_most.min(ours_below / theirs_below);
        }
    }
    (1.0 - ordinary_most).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Accounts `0..80` ask for ordinary things; volumes of `0..40` are even.
    fn behaviours() -> Behaviours {
        let volume = |i: u32| if i < 40 { 4.0 } else { (i * 7 % 40) as f32 / 8.0 };
        Behaviours {
            demand: (0..400).map(|i| (i * 13 % 100) as f32 / 100.0).collect(),
            volume: (0..400).map(volume).collect(),
        }
    }

    #[test]
    fn the_even_are_not_ordinary_and_the_ordinary_are() {
        let behaviours = behaviours();
        let others: Vec<u32> = (80..400).collect();
        let references = || others.chunks(40);
        let even: Vec<u32> = (0..40).collect();
        let uneven: Vec<u32> = (40..80).collect();
        assert!(guilty_at_least(&behaviours, &even, references()) > 15);
        assert_eq!(guilty_at_least(&behaviours, &uneven, references()), 0);
        assert_eq!(guilty_at_least(&behaviours, &even, std::iter::empty()), 0);
        assert_eq!(guilty_at_least(&behaviours, &[], references()), 0);
    }

    #[test]
    fn what_is_asked_for_tells_as_well() {
        let mut behaviours = behaviours();
        behaviours.demand[40..80].fill(3.0);
        let others: Vec<u32> = (80..400).collect();
        let asking: Vec<u32> = (40..80).collect();
        assert!(guilty_at_least(&behaviours, &asking, others.chunks(40)) > 15);
    }
}

//! What every detector of other people has in common: it gives suspicions with scores,
//! and a threshold, set on traffic without campaigns, decides which of them are
//! accusations.

use hashbrown::{HashMap, HashSet};

use crate::traffic::{Needs, Traffic};

/// Accounts that are suspected together, or one alone.
#[derive(Clone, Debug, PartialEq)]
pub struct Suspicion {
    /// Indices into the traffic's accounts.
    pub accounts: Vec<u32>,
    /// How the score rose: moments in microseconds since the epoch, in their order, each
    /// with a higher score than the one before.
    pub course: Vec<(i64, f64)>,
}

impl Suspicion {
    /// The highest score that it reached.
    #[must_use]
    pub fn peak(&self) -> f64 {
        self.course.last().map_or(f64::NEG_INFINITY, |(_, score)| *score)
    }

    /// When the score rose above a threshold.
    #[must_use]
    pub fn when_above(&self, threshold: f64) -> Option<i64> {
        self.course.iter().find(|(_, score)| *score > threshold).map(|(time_us, _)| *time_us)
    }
}

/// A detector of other people. Its file says what it is, where it comes from, with which
/// settings it runs and what it costs.
pub trait Detector: Sync {
    /// The name in the table.
    fn name(&self) -> &'static str;

    /// What it reads of the traffic.
    fn needs(&self) -> Needs;

    /// What it takes from traffic without campaigns before it is used: numbers of its own
    /// kind, handed back to it.
    fn learn(&self, _clean: &Traffic) -> Vec<f64> {
        Vec::new()
    }

    /// Whom it suspects, and how much. The same traffic gives the same suspicions.
    fn suspicions(&self, traffic: &Traffic, learned: &[f64]) -> Vec<Suspicion>;

    /// The threshold that its paper gives as a number, where it gives one.
    fn paper_threshold(&self) -> Option<f64> {
        None
    }
}

/// How often a detector that needs the whole of the traffic looks at what there is so
/// far: after each quarter of the period.
const LOOKS: i64 = 4;

/// The ends of the looks, in microseconds since the epoch.
#[must_use]
pub fn looks(traffic: &Traffic) -> Vec<i64> {
    let (start, end) = traffic.period();
    // The last exchange belongs to the last look.
    (1..=LOOKS).map(|look| start + (end + 1 - start) * look / LOOKS).collect()
}

/// Adds a score to a course, if it is a new height.
pub fn rise(course: &mut Vec<(i64, f64)>, time_us: i64, score: f64) {
    if score.is_finite() && course.last().is_none_or(|(_, height)| score > *height) {
        course.push((time_us, score));
    }
}

/// The lowest threshold at which the suspicions accuse at most so many accounts.
#[must_use]
pub fn threshold(suspicions: &[Suspicion], accounts_max: u64) -> f64 {
    let mut order: Vec<&Suspicion> = suspicions.iter().collect();
    order.sort_by(|a, b| b.peak().total_cmp(&a.peak()));
    let mut accused: HashSet<u32> = HashSet::new();
    for suspicion in order {
        accused.extend(&suspicion.accounts);
        if accused.len() as u64 > accounts_max {
            return suspicion.peak();
        }
    }
    f64::NEG_INFINITY
}

/// What is shared by accounts, with those who share it: at least two, and at most
/// `shared_by_max`; what more of them share says nothing.
#[must_use]
pub fn sharers(
    pairs: impl Iterator<Item = (u64, u32)>,
    shared_by_max: usize,
) -> Vec<(u64, Vec<u32>)> {
    let mut by_value: HashMap<u64, Vec<u32>> = HashMap::new();
    for (value, account) in pairs.filter(|(value, _)| *value != 0) {
        let list = by_value.entry(value).or_default();
        // Most neighbours in time are one account's; the rest of the repeats goes below.
        if list.last() != Some(&account) {
            list.push(account);
        }
    }
    let mut shared: Vec<(u64, Vec<u32>)> = by_value
        .into_iter()
        .map(|(value, mut accounts)| {
            accounts.sort_unstable();
            accounts.dedup();
            (value, accounts)
        })
        .filter(|(_, accounts)| (2..=shared_by_max).contains(&accounts.len()))
        .collect();
    shared.sort_unstable();
    shared
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn suspicion(accounts: &[u32], score: f64) -> Suspicion {
        Suspicion { accounts: accounts.to_vec(), course: vec![(1, score)] }
    }

    #[test]
    fn a_threshold_keeps_to_the_budget() {
        let suspicions =
            [suspicion(&[1], 3.0), suspicion(&[2, 3, 4], 2.0), suspicion(&[1, 5], 1.0)];
        assert_eq!(threshold(&suspicions, 0), 3.0);
        assert_eq!(threshold(&suspicions, 1), 2.0);
        assert_eq!(threshold(&suspicions, 3), 2.0);
        assert_eq!(threshold(&suspicions, 4), 1.0);
        assert_eq!(threshold(&suspicions, 5), f64::NEG_INFINITY);
    }

    #[test]
    fn a_course_only_rises() {
        let mut course = Vec::new();
        for (time, score) in [(1, 2.0), (2, 1.0), (3, 4.0), (4, 4.0), (5, f64::NAN)] {
            rise(&mut course, time, score);
        }
        assert_eq!(course, [(1, 2.0), (3, 4.0)]);
        let suspicion = Suspicion { accounts: vec![0], course };
        assert_eq!(suspicion.when_above(1.0), Some(1));
        assert_eq!(suspicion.when_above(2.0), Some(3));
        assert_eq!(suspicion.when_above(4.0), None);
    }

    proptest! {
        #[test]
        fn no_more_are_accused_than_the_budget_says(
            groups in prop::collection::vec((prop::collection::vec(0u32..50, 1..6), 0u8..10), 0..30),
            budget in 0u64..60,
        ) {
            let suspicions: Vec<Suspicion> =
                groups.iter().map(|(a, s)| suspicion(a, f64::from(*s))).collect();
            let threshold = threshold(&suspicions, budget);
            let accused: HashSet<u32> = suspicions
                .iter()
                .filter(|s| s.when_above(threshold).is_some())
                .flat_map(|s| s.accounts.iter().copied())
                .collect();
            prop_assert!(accused.len() as u64 <= budget);
        }
    }
}

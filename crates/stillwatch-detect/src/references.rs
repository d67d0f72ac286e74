//! References: what is known to be innocent, and kept from run to run.
//!
//! Three things may be known: a group that a person has looked at and cleared, the course
//! of a group that one customer or verified organisations stand behind, and a shared thing
//! that is harmless, such as a university's e-mail domain. The first and the last take
//! groups out of what can be accused; the courses stand beside the groups of a run as
//! further [references](crate::judge).

use std::collections::{BTreeMap, BTreeSet};

use stillwatch_exchange::Time;

use crate::calendar::EPOCHS;
use crate::confirm::{MEASURES, Measured};
use crate::link::LinkChannel;
use crate::population::Population;

/// What is known to be innocent.
#[derive(Clone, Debug, Default)]
pub struct References {
    /// Accounts of groups that were cleared, a list for each.
    pub cleared: Vec<Vec<String>>,
    /// Courses of innocent groups in this and other periods.
    pub courses: Vec<KnownCourse>,
    pub harmless: BTreeSet<Harmless>,
}

/// A thing that may be shared without suspicion.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Harmless {
    EmailDomain(String),
    Organization(String),
    Payment(String),
}

/// What was measured of a group after its freezing.
#[derive(Clone, Debug, PartialEq)]
pub struct KnownCourse {
    pub stratum: &'static str,
    pub links: Vec<LinkChannel>,
    /// The accounts that it was frozen with, by id.
    pub accounts: Vec<String>,
    pub frozen_at: Time,
    /// Length of an epoch in days: only courses of like length are compared.
    pub epoch_days: f64,
    /// By epochs since the freezing, members measured and their measures.
    pub ages: BTreeMap<usize, (usize, Measured)>,
}

/// Courses whose epochs differ in length by more than this factor are not compared.
const LIKE_LENGTH: f64 = 2.0;

impl KnownCourse {
    /// Whether a course of epochs of this length in days can be compared with it.
    #[must_use]
    pub fn is_like(&self, epoch_days: f64) -> bool {
        let longer = self.epoch_days.max(epoch_days);
        longer <= LIKE_LENGTH * self.epoch_days.min(epoch_days)
    }

    /// Whether it was measured in this period: most of its accounts are there, and so is
    /// its freezing.
    #[must_use]
    pub fn is_of(&self, population: &Population) -> bool {
        let calendar = population.calendar();
        let period = calendar.epoch_start(0)..calendar.epoch_start(EPOCHS);
        let there = self.accounts.iter().filter(|a| population.find(a).is_some()).count();
        period.contains(&self.frozen_at) && 2 * there > self.accounts.len()
    }
}

/// The accounts that belong to each cleared group of a run, and the shared things that are
/// harmless, by account.
pub(crate) struct Known {
    /// By account, the cleared groups and harmless things that it has, as numbers.
    of_account: Vec<Vec<u32>>,
}

impl Known {
    pub(crate) fn of(references: &References, population: &Population) -> Self {
        let mut of_account = vec![Vec::new(); population.members().len()];
        for (number, accounts) in references.cleared.iter().enumerate() {
            for account in accounts.iter().filter_map(|a| population.find(a)) {
                of_account[account].push(number as u32);
            }
        }
        let first = references.cleared.len() as u32;
        let numbers: BTreeMap<&Harmless, u32> = references.harmless.iter().zip(first..).collect();
        if !numbers.is_empty() {
            for (of_account, member) in of_account.iter_mut().zip(population.members()) {
                let Some(record) = &member.record else { continue };
                let things = [
                    record.email_domain.clone().map(Harmless::EmailDomain),
                    record.organization_id.clone().map(Harmless::Organization),
                    record.payment_fingerprint.clone().map(Harmless::Payment),
                ];
                let known = things.iter().flatten().filter_map(|thing| numbers.get(thing));
                of_account.extend(known.copied());
            }
        }
        Known { of_account }
    }

    /// By group, whether at least this share of its members has one cleared group or one
    /// harmless thing in common.
    pub(crate) fn covers(&self, members: &[u32], share: f64) -> bool {
        let mut counts: BTreeMap<u32, usize> = BTreeMap::new();
        for &m in members {
            for &number in &self.of_account[m as usize] {
                *counts.entry(number).or_default() += 1;
            }
        }
        counts.values().any(|&n| n as f64 >= share * members.len() as f64)
    }
}

/// A measure by its name in stored courses.
#[must_use]
pub fn measure_named(name: &str) -> Option<usize> {
    MEASURES.iter().position(|m| m.id.name() == name)
}

/// A stratum by its name.
#[must_use]
pub fn stratum_named(name: &str) -> Option<&'static str> {
    let links = LinkChannel::ALL.iter().map(|channel| channel.name());
    links.chain([crate::gather::JOINED]).find(|stratum| *stratum == name)
}

/// A link channel by its name.
#[must_use]
pub fn link_named(name: &str) -> Option<LinkChannel> {
    LinkChannel::ALL.into_iter().find(|channel| channel.name() == name)
}

//! The accounts under study: their profiles, and what else is known of them.

use std::collections::BTreeMap;

use stillwatch_exchange::{Account, Time};

use crate::calendar::{Calendar, EPOCHS};
use crate::profile::{Kind, Profile};

/// One account: its traffic and, where the accounts table has it, its record.
#[derive(Clone, Debug)]
pub struct Member {
    pub account_id: String,
    pub profile: Profile,
    pub record: Option<Account>,
}

/// All accounts, by id, and how their period is cut.
#[derive(Clone, Debug)]
pub struct Population {
    members: Vec<Member>,
    calendar: Calendar,
}

impl Population {
    /// Puts the accounts in the order of their ids, on which everything after depends.
    #[must_use]
    pub fn new(mut members: Vec<Member>, calendar: Calendar) -> Self {
        members.sort_unstable_by(|a, b| a.account_id.cmp(&b.account_id));
        Population { members, calendar }
    }

    #[must_use]
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    #[must_use]
    pub fn calendar(&self) -> &Calendar {
        &self.calendar
    }

    /// Sets when an account was closed, for what did not happen.
    pub fn close(&mut self, account: usize, closed_at: Option<Time>) {
        if let Some(record) = &mut self.members[account].record {
            record.closed_at = closed_at;
        }
    }

    /// The account with that id.
    #[must_use]
    pub fn find(&self, account_id: &str) -> Option<usize> {
        self.members.binary_search_by(|m| m.account_id.as_str().cmp(account_id)).ok()
    }
}

impl Member {
    /// The customer that the account belongs to: from the accounts table, else a hash
    /// of what its exchanges say.
    #[must_use]
    pub fn organization(&self) -> Option<Organization<'_>> {
        let named = self.record.as_ref().and_then(|r| r.organization_id.as_deref());
        match named {
            Some(name) if !name.is_empty() => Some(Organization::Named(name)),
            _ => self
                .profile
                .epochs(0..EPOCHS)
                .find_map(|(_, e)| e.entries(Kind::Organization).next())
                .map(|e| Organization::Hashed(e.hash)),
        }
    }

    /// The payment instrument's fingerprint, where known.
    #[must_use]
    pub fn payment(&self) -> Option<&str> {
        let payment = self.record.as_ref().and_then(|r| r.payment_fingerprint.as_deref());
        payment.filter(|p| !p.is_empty())
    }

    /// The network that most of the account's exchanges come from, if most do.
    #[must_use]
    pub fn main_network(&self) -> Option<u64> {
        let mut counts: BTreeMap<u64, u64> = BTreeMap::new();
        for (_, epoch) in self.profile.epochs(0..EPOCHS) {
            for entry in epoch.entries(Kind::Network) {
                *counts.entry(entry.hash).or_default() += u64::from(entry.count);
            }
        }
        let all = self.profile.exchanges(0..EPOCHS);
        counts.into_iter().find(|&(_, count)| 2 * count > all).map(|(network, _)| network)
    }

    /// Whether the provider has verified the organisation behind the account.
    #[must_use]
    pub fn is_verified_organization(&self) -> bool {
        self.record.as_ref().is_some_and(|r| r.verification.as_deref() == Some("organization"))
    }

    /// When the account was made, where known.
    #[must_use]
    pub fn created_at(&self) -> Option<Time> {
        self.record.as_ref().and_then(|r| r.created_at)
    }

    /// When the account was closed, where it was.
    #[must_use]
    pub fn closed_at(&self) -> Option<Time> {
        self.record.as_ref().and_then(|r| r.closed_at)
    }
}

/// A customer, by name where the source has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Organization<'a> {
    Named(&'a str),
    Hashed(u64),
}

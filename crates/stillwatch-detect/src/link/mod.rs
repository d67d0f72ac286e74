//! Link: accounts that share rare things, as buckets.
//!
//! One file a channel; each names the values that an account could share with others,
//! from its traffic before the freezing only. A value that enough accounts share, but
//! not too many, makes a bucket. What many unrelated customers share says little, so a
//! bucket may hold at most [`SHARE_MAX`] of the accounts, and what it says is weighed
//! by its surprise, minus the log of the probability that an account has the value.

mod birth;
mod client;
mod conversation;
mod habit;
mod network;
mod payment;
mod pool;
mod script;

use hashbrown::{HashMap, HashSet};
use rayon::prelude::*;

use crate::calendar::Calendar;
use crate::population::{Member, Population};

pub use pool::mostly_shared;

/// Fewer accounts than this are not a group whose course can be compared with others'.
pub const GROUP_MIN: usize = 8;
/// The part of all active accounts that a bucket may hold; beyond it a value is common.
pub const SHARE_MAX: f64 = 0.25;
/// Exchanges that an account must have before a freezing to be linked there.
pub const EXCHANGES_MIN: u64 = 3;

/// What linked accounts share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum LinkChannel {
    Payment = 0,
    Birth = 1,
    Network = 2,
    Client = 3,
    Script = 4,
    Pool = 5,
    Conversation = 6,
    Habit = 7,
}

/// How many link channels there are.
pub const LINK_CHANNELS: usize = 8;

impl LinkChannel {
    /// In the order in which a person would look.
    pub const ALL: [LinkChannel; LINK_CHANNELS] = [
        LinkChannel::Payment,
        LinkChannel::Birth,
        LinkChannel::Network,
        LinkChannel::Client,
        LinkChannel::Script,
        LinkChannel::Pool,
        LinkChannel::Conversation,
        LinkChannel::Habit,
    ];

    /// The name in findings.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            LinkChannel::Payment => "payment",
            LinkChannel::Birth => "birth",
            LinkChannel::Network => "network",
            LinkChannel::Client => "client",
            LinkChannel::Script => "script",
            LinkChannel::Pool => "pool",
            LinkChannel::Conversation => "conversation",
            LinkChannel::Habit => "habit",
        }
    }

    /// What is shared, for a sentence: «… accounts share one ….»
    #[must_use]
    pub fn shared_thing(self) -> &'static str {
        match self {
            LinkChannel::Payment => "payment instrument",
            LinkChannel::Birth => "day of signing up with one e-mail domain",
            LinkChannel::Network => "network address or address block",
            LinkChannel::Client => "client build with the same parameters",
            LinkChannel::Script => "wording or system prompt",
            LinkChannel::Pool => "pool of questions",
            LinkChannel::Conversation => "conversation carried on across accounts",
            LinkChannel::Habit => "rare combination of habits",
        }
    }

    /// Names the values that an account may share, from its epochs before `freeze`.
    pub(crate) fn values(
        self,
        member: &Member,
        calendar: &Calendar,
        freeze: usize,
        emit: &mut dyn FnMut(u64),
    ) {
        match self {
            LinkChannel::Payment => payment::values(member, emit),
            LinkChannel::Birth => birth::values(member, calendar, freeze, emit),
            LinkChannel::Network => network::values(member, freeze, emit),
            LinkChannel::Client => client::values(member, freeze, emit),
            LinkChannel::Script => script::values(member, freeze, emit),
            // Pools are not shared values but chains of them; see `pool`.
            LinkChannel::Pool => {}
            LinkChannel::Conversation => conversation::values(member, freeze, emit),
            LinkChannel::Habit => habit::values(member, calendar, freeze, emit),
        }
    }
}

/// Mixes numbers into the value of a joint trait.
pub(crate) fn joint<const N: usize>(parts: &[u64; N]) -> u64 {
    let bytes = (*parts).map(u64::to_le_bytes);
    xxhash_rust::xxh3::xxh3_64(bytes.as_flattened())
}

/// Accounts that share one value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bucket {
    pub channel: LinkChannel,
    pub value: u64,
    /// Indices into the population, ascending.
    pub members: Vec<u32>,
}

/// All buckets at a freezing, and the number of accounts that took part.
#[derive(Clone, Debug)]
pub struct Links {
    pub buckets: Vec<Bucket>,
    pub active: usize,
}

/// The accounts that take part in linking at the end of the epochs before `until`.
fn active(population: &Population, until: usize) -> Vec<u32> {
    (0..population.members().len() as u32)
        .filter(|&i| population.members()[i as usize].profile.exchanges(0..until) >= EXCHANGES_MIN)
        .collect()
}

/// Accounts whose values are listed one after the other.
const ACCOUNTS_AT_ONCE: usize = 256;

/// The values of some channels that are wanted, with the accounts that have them, in
/// their order.
fn pairs(
    population: &Population,
    active: &[u32],
    channels: &[LinkChannel],
    until: usize,
    wanted: impl Fn(u64) -> bool + Sync,
) -> Vec<(u64, u32)> {
    let mut pairs: Vec<(u64, u32)> = active
        .par_chunks(ACCOUNTS_AT_ONCE)
        .flat_map_iter(|accounts| {
            let mut of_accounts = Vec::new();
            for &i in accounts {
                let member = &population.members()[i as usize];
                for channel in channels {
                    channel.values(member, population.calendar(), until, &mut |value| {
                        if wanted(value) {
                            of_accounts.push((value, i));
                        }
                    });
                }
            }
            of_accounts
        })
        .collect();
    pairs.par_sort_unstable();
    pairs.dedup();
    pairs
}

/// Who has each of some values by the epochs before `until`, ascending.
#[must_use]
pub fn holders(
    population: &Population,
    until: usize,
    wanted: &HashSet<u64>,
) -> HashMap<u64, Vec<u32>> {
    let active = active(population, until);
    let pairs =
        pairs(population, &active, &LinkChannel::ALL, until, |value| wanted.contains(&value));
    pairs
        .chunk_by(|a, b| a.0 == b.0)
        .map(|run| (run[0].0, run.iter().map(|p| p.1).collect()))
        .collect()
}

/// Buckets the accounts by what they share in the epochs before `freeze`.
///
/// Bound: an account names at most about forty values, so the work is linear in the
/// accounts; one channel is held in memory at a time, 16 bytes a value.
#[must_use]
pub fn link(population: &Population, freeze: usize) -> Links {
    let active = active(population, freeze);
    let most = ((active.len() as f64 * SHARE_MAX) as usize).max(GROUP_MIN);
    let mut buckets = Vec::new();
    for channel in LinkChannel::ALL {
        let pairs = pairs(population, &active, &[channel], freeze, |_| true);
        for run in pairs.chunk_by(|a, b| a.0 == b.0) {
            if run.len() >= GROUP_MIN && run.len() <= most {
                buckets.push(Bucket {
                    channel,
                    value: run[0].0,
                    members: run.iter().map(|p| p.1).collect(),
                });
            }
        }
    }
    buckets.extend(pool::buckets(population, &active, freeze, most));
    Links { buckets, active: active.len() }
}

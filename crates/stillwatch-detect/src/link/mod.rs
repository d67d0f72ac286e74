//! Link: accounts that share rare things, as buckets.
//!
//! One file a channel and one line in the registry; each names the values that an account
//! could share with others, from its traffic before the freezing only. A value that enough accounts share, but
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

use crate::calendar::{Calendar, EPOCHS};
use crate::observe::BANDS;
use crate::population::{Member, Population};
use crate::profile::{Kind, SAMPLE};
use crate::without::Without;

pub use pool::mostly_shared;

/// Fewer accounts than this are not a group whose course can be compared with others'.
pub const GROUP_MIN: usize = 8;
/// The part of all active accounts that a bucket may hold; beyond it a value is common.
pub const SHARE_MAX: f64 = 0.25;
/// Exchanges that an account must have before a freezing to be linked there.
pub const EXCHANGES_MIN: u64 = 3;
/// Values and pools that one account can be in: an instrument, three of birth, three
/// habits, a pool, what its profile's sets keep, and wordings that came twice in its sample.
pub const VALUES_MAX: usize = {
    let sets = Kind::Address.bound()
        + Kind::Network.bound()
        + Kind::Client.bound()
        + Kind::System.bound()
        + Kind::Conversation.bound();
    let wordings = SAMPLE * (2 + BANDS) / 2;
    1 + 3 + 3 + 1 + EPOCHS * (sets + wordings)
};

/// What a channel's file says of it.
pub(crate) struct Link {
    /// The name in findings.
    name: &'static str,
    /// What is shared, for a sentence: «… accounts share one ….»
    shared_thing: &'static str,
    gather: Gather,
    /// Whether who takes up a frozen value later belongs to its group too, such as the
    /// successors of closed accounts; else a group stays with the accounts it was frozen
    /// with.
    pub(crate) grows: bool,
    /// Whether its buckets may be put together with others that they overlap; not where
    /// they are made of what others share already.
    pub(crate) joins: bool,
}

/// How a channel finds its buckets.
enum Gather {
    /// Names the values that an account may share, from its epochs before a freezing.
    Values(fn(&Member, &Calendar, usize, &mut dyn FnMut(u64))),
    /// What is shared is no value: the buckets of the active accounts at a freezing, each
    /// of at most so many.
    Groups(fn(&Population, &[u32], usize, usize) -> Vec<Bucket>),
}

macro_rules! registry {
    ($($channel:ident: $file:ident,)*) => {
        /// What linked accounts share.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum LinkChannel { $($channel),* }

        /// How many link channels there are.
        pub const LINK_CHANNELS: usize = LinkChannel::ALL.len();

        impl LinkChannel {
            /// In the order in which a person would look.
            pub const ALL: [LinkChannel; [$(stringify!($channel)),*].len()] =
                [$(LinkChannel::$channel),*];

            pub(crate) fn link(self) -> &'static Link {
                match self { $(LinkChannel::$channel => &$file::CHANNEL),* }
            }
        }
    };
}

registry! {
    Payment: payment,
    Birth: birth,
    Network: network,
    Client: client,
    Script: script,
    Pool: pool,
    Conversation: conversation,
    Habit: habit,
}

impl LinkChannel {
    /// The name in findings.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.link().name
    }

    /// What is shared, for a sentence: «… accounts share one ….»
    #[must_use]
    pub fn shared_thing(self) -> &'static str {
        self.link().shared_thing
    }

    /// Names the values that an account may share, from its epochs before `freeze`.
    pub(crate) fn values(
        self,
        member: &Member,
        calendar: &Calendar,
        freeze: usize,
        emit: &mut dyn FnMut(u64),
    ) {
        if let Gather::Values(values) = self.link().gather {
            values(member, calendar, freeze, emit);
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

/// Accounts whose profiles are called for before the first of them is read.
pub(crate) const AHEAD: usize = 16;

/// Calls for the profiles of some accounts, as far as `until`: they lie anywhere, and one
/// by one each would be waited for.
pub(crate) fn call_for(population: &Population, accounts: &[u32], until: usize) {
    let touched = accounts
        .iter()
        .fold(0, |all, &i| all ^ population.members()[i as usize].profile.touch_epochs(0..until));
    std::hint::black_box(touched);
}

/// By channel, the values that are wanted with the accounts that have them, in their order.
/// Account by account, so that each profile is fetched from memory once for all channels.
fn pairs(
    population: &Population,
    active: &[u32],
    channels: &[LinkChannel],
    until: usize,
    wanted: impl Fn(u64) -> bool + Sync,
) -> Vec<Vec<(u64, u32)>> {
    let none = || vec![Vec::new(); channels.len()];
    let of_accounts = |mut pairs: Vec<Vec<(u64, u32)>>, accounts: &[u32]| {
        for accounts in accounts.chunks(AHEAD) {
            call_for(population, accounts, until);
            for &i in accounts {
                let member = &population.members()[i as usize];
                for (channel, pairs) in channels.iter().zip(&mut pairs) {
                    channel.values(member, population.calendar(), until, &mut |value| {
                        if wanted(value) {
                            pairs.push((value, i));
                        }
                    });
                }
            }
        }
        pairs
    };
    let together = |mut all: Vec<Vec<(u64, u32)>>, more: Vec<Vec<(u64, u32)>>| {
        all.iter_mut().zip(more).for_each(|(all, mut more)| all.append(&mut more));
        all
    };
    let mut pairs: Vec<Vec<(u64, u32)>> =
        active.par_chunks(ACCOUNTS_AT_ONCE).fold(none, of_accounts).reduce(none, together);
    for pairs in &mut pairs {
        pairs.par_sort_unstable();
        pairs.dedup();
    }
    pairs
}

/// Who has each of some values that groups grow by, by the epochs before `until`, ascending.
#[must_use]
pub fn holders(
    population: &Population,
    until: usize,
    wanted: &HashSet<u64>,
) -> HashMap<u64, Vec<u32>> {
    let active = active(population, until);
    let growing: Vec<LinkChannel> =
        LinkChannel::ALL.into_iter().filter(|channel| channel.link().grows).collect();
    let pairs = pairs(population, &active, &growing, until, |value| wanted.contains(&value));
    pairs
        .iter()
        .flat_map(|pairs| pairs.chunk_by(|a, b| a.0 == b.0))
        .map(|run| (run[0].0, run.iter().map(|p| p.1).collect()))
        .collect()
}

/// Buckets the accounts by what they share in the epochs before `freeze`.
///
/// Bound: an account is in at most [`VALUES_MAX`] buckets, so the work is linear in the
/// accounts; all of their values are held in memory together, 16 bytes each.
#[must_use]
pub fn link(population: &Population, freeze: usize, without: Without) -> Links {
    let active = active(population, freeze);
    let most = ((active.len() as f64 * SHARE_MAX) as usize).max(GROUP_MIN);
    let mut buckets = Vec::new();
    let channels = without.links(&LinkChannel::ALL);
    let of_channels = pairs(population, &active, &channels, freeze, |_| true);
    for (&channel, pairs) in channels.iter().zip(of_channels) {
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
    for channel in channels {
        if let Gather::Groups(groups) = channel.link().gather {
            buckets.extend(groups(population, &active, freeze, most));
        }
    }
    Links { buckets, active: active.len() }
}

//! Network: accounts that use one address or one address block.
//!
//! # What it sees
//!
//! Each address and each block (the first 24 bits of an IPv4 address, 48 of an IPv6 one)
//! that an account keeps in its profile.
//!
//! # Why it matters
//!
//! A campaign leaves from machines that it rents, and there are fewer of these than of
//! its accounts.
//!
//! # Innocent explanations
//!
//! Campuses, offices, mobile carriers, the egress of automations and clouds.
//!
//! # How it is evaded, and at what cost
//!
//! By an address for each account, at the price of residential proxies.
//!
//! # References
//!
//! * Zhao et al. (2009), «BotGraph: large scale spamming botnet detection», NSDI
//! * Stringhini et al. (2015), «EvilCohort: detecting communities of malicious accounts
//!   on online services», USENIX Security
//! * Mi et al. (2019), «Resident evil: understanding residential IP proxy as a dark
//!   service», IEEE S&P: what evasion is bought from

use super::{Gather, Link, joint};
use crate::calendar::Calendar;
use crate::population::Member;
use crate::profile::Kind;

pub(super) const CHANNEL: Link = Link {
    name: "network",
    shared_thing: "network address or address block",
    gather: Gather::Values(values),
    grows: true,
    joins: true,
};

fn values(member: &Member, _: &Calendar, freeze: usize, emit: &mut dyn FnMut(u64)) {
    for (_, epoch) in member.profile.epochs(0..freeze) {
        for entry in epoch.entries(Kind::Address) {
            emit(joint(&[4, entry.hash]));
        }
        for entry in epoch.entries(Kind::Network) {
            emit(joint(&[5, entry.hash]));
        }
    }
}

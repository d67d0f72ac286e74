//! Network: accounts that use one address or one address block.
//!
//! Innocent sharers: campuses, offices, mobile carriers, egress of automations. Evaded
//! by an address for each account, at the price of residential proxies.

use super::joint;
use crate::population::Member;
use crate::profile::Kind;

pub(super) fn values(member: &Member, freeze: usize, emit: &mut dyn FnMut(u64)) {
    for (_, epoch) in member.profile.epochs(0..freeze) {
        for entry in epoch.entries(Kind::Address) {
            emit(joint(&[4, entry.hash]));
        }
        for entry in epoch.entries(Kind::Network) {
            emit(joint(&[5, entry.hash]));
        }
    }
}

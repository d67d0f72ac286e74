//! Client: accounts with one TLS fingerprint, user agent and set of parameters, jointly.
//!
//! Innocent sharers: the defaults of popular SDKs. Evaded by a client for each account,
//! at the price of keeping many of them in repair.

use super::joint;
use crate::population::Member;
use crate::profile::Kind;

pub(super) fn values(member: &Member, freeze: usize, emit: &mut dyn FnMut(u64)) {
    for (_, epoch) in member.profile.epochs(0..freeze) {
        for entry in epoch.entries(Kind::Client) {
            // Once is a trial, not a client.
            if entry.count > 1 {
                emit(joint(&[6, entry.hash]));
            }
        }
    }
}

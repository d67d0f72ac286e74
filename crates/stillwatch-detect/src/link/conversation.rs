//! Conversation: one conversation carried on from several accounts.
//!
//! Innocent sharers: keys that a team shares. Evaded by ending the conversation with
//! the account, at the price of its context.

use super::joint;
use crate::population::Member;
use crate::profile::Kind;

pub(super) fn values(member: &Member, freeze: usize, emit: &mut dyn FnMut(u64)) {
    for (_, epoch) in member.profile.epochs(0..freeze) {
        for entry in epoch.entries(Kind::Conversation) {
            emit(joint(&[10, entry.hash]));
        }
    }
}

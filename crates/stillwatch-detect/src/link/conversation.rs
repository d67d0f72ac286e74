//! Conversation: one conversation carried on from several accounts.
//!
//! # What it sees
//!
//! The identifiers of conversations that an account keeps in its profile.
//!
//! # Why it matters
//!
//! A scheduler that meets a limit on one account goes on with the next, and an agent's
//! long task does not fit into one account's allowance.
//!
//! # Innocent explanations
//!
//! Keys and seats that a team shares.
//!
//! # How it is evaded, and at what cost
//!
//! By ending the conversation with the account, at the price of its context.
//!
//! # References
//!
//! * Anthropic (2026-02-23), «Detecting and preventing distillation attacks»: traffic of
//!   one actor spread over many accounts
//! * MITRE ATLAS AML.T0040, AI Model Inference API Access

use super::{Gather, Link, joint};
use crate::calendar::Calendar;
use crate::population::Member;
use crate::profile::Kind;

pub(super) const CHANNEL: Link = Link {
    name: "conversation",
    shared_thing: "conversation carried on across accounts",
    gather: Gather::Values(values),
    grows: true,
    joins: true,
};

fn values(member: &Member, _: &Calendar, freeze: usize, emit: &mut dyn FnMut(u64)) {
    for (_, epoch) in member.profile.epochs(0..freeze) {
        for entry in epoch.entries(Kind::Conversation) {
            emit(joint(&[10, entry.hash]));
        }
    }
}

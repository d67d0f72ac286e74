//! Client: accounts with one TLS fingerprint, user agent and set of parameters, jointly.
//!
//! # What it sees
//!
//! The joint trait of fingerprint, user agent and the parameters as sent (temperature,
//! limits, streaming, reasoning, tools, token probabilities), where an account used it
//! more than once in an epoch.
//!
//! # Why it matters
//!
//! One program drives a campaign's accounts. None of its parts is rare; together they may
//! be.
//!
//! # Innocent explanations
//!
//! The defaults of popular SDKs, and of applications with many users.
//!
//! # How it is evaded, and at what cost
//!
//! By a client for each account, at the price of keeping many of them in repair.
//!
//! # References
//!
//! * Eckersley (2010), «How unique is your web browser?», PETS: common parts make rare
//!   wholes
//! * Laperdrix et al. (2020), «Browser fingerprinting: a survey», ACM TWEB
//! * Anthropic (2026-02-23), «Detecting and preventing distillation attacks»

use super::{Gather, Link, joint};
use crate::calendar::Calendar;
use crate::population::Member;
use crate::profile::Kind;

pub(super) const CHANNEL: Link = Link {
    name: "client",
    shared_thing: "client build with the same parameters",
    gather: Gather::Values(values),
    grows: true,
    joins: true,
};

fn values(member: &Member, _: &Calendar, freeze: usize, emit: &mut dyn FnMut(u64)) {
    for (_, epoch) in member.profile.epochs(0..freeze) {
        for entry in epoch.entries(Kind::Client) {
            // Once is a trial, not a client.
            if entry.count > 1 {
                emit(joint(&[6, entry.hash]));
            }
        }
    }
}

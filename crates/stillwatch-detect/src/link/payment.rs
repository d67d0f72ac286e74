//! Payment: accounts paid for with one instrument.
//!
//! # What it sees
//!
//! The payment processor's token for the instrument, from the accounts table.
//!
//! # Why it matters
//!
//! Cards and wallets are the part of a campaign that is hardest to multiply: whoever
//! opens thousands of accounts pays for them with far fewer instruments.
//!
//! # Innocent explanations
//!
//! Firms with many seats, families, promotions that were paid for by somebody else.
//!
//! # How it is evaded, and at what cost
//!
//! By an instrument for each account, at the price of as many cards.
//!
//! # References
//!
//! * Levchenko et al. (2011), «Click trajectories: end-to-end analysis of the spam value
//!   chain», IEEE S&P: payment is where many accounts meet in few hands
//! * MITRE ATLAS AML.T0021, Establish Accounts

use super::{Gather, Link, joint};
use crate::calendar::Calendar;
use crate::population::Member;

pub(super) const CHANNEL: Link = Link {
    name: "payment",
    shared_thing: "payment instrument",
    gather: Gather::Values(values),
    grows: true,
    joins: true,
};

fn values(member: &Member, _: &Calendar, _: usize, emit: &mut dyn FnMut(u64)) {
    if let Some(payment) = member.payment() {
        emit(joint(&[1, xxhash_rust::xxh3::xxh3_64(payment.as_bytes())]));
    }
}

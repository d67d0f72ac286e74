//! Payment: accounts paid for with one instrument.
//!
//! Innocent sharers: firms, families, promotions. Evaded by an instrument for each
//! account, at the price of as many cards.

use super::joint;
use crate::population::Member;

pub(super) fn values(member: &Member, emit: &mut dyn FnMut(u64)) {
    if let Some(payment) = member.payment() {
        emit(joint(&[1, xxhash_rust::xxh3::xxh3_64(payment.as_bytes())]));
    }
}

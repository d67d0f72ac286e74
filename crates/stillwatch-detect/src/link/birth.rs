//! Birth: accounts made with one rare e-mail domain, or on one day with one domain, plan
//! and verification.
//!
//! Innocent sharers: hackathons, universities, days of marketing. Evaded by signing up
//! slowly and with many domains, at the price of time.

use stillwatch_exchange::time::DAY_US;

use super::joint;
use crate::calendar::Calendar;
use crate::population::Member;

pub(super) fn values(
    member: &Member,
    calendar: &Calendar,
    freeze: usize,
    emit: &mut dyn FnMut(u64),
) {
    let Some(record) = &member.record else { return };
    let Some(created) = record.created_at.filter(|c| *c < calendar.epoch_start(freeze)) else {
        return;
    };
    let text =
        |t: &Option<String>| xxhash_rust::xxh3::xxh3_64(t.as_deref().unwrap_or("").as_bytes());
    let domain = text(&record.email_domain);
    // A domain of one's own is rare on any day; a free mailer's is too common for a
    // bucket.
    if record.email_domain.as_deref().is_some_and(|d| !d.is_empty()) {
        emit(joint(&[15, domain]));
    }
    let day = created.0.div_euclid(DAY_US) as u64;
    emit(joint(&[2, day, domain]));
    emit(joint(&[3, day, domain, text(&record.verification), text(&record.plan)]));
}

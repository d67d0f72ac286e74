//! Birth: accounts made with one rare e-mail domain, or on one day with one domain.
//!
//! # What it sees
//!
//! The e-mail domain alone, the day of signing up with the domain, and both with the plan
//! and the way of verification. Only accounts made before the freezing.
//!
//! # Why it matters
//!
//! Accounts that are bought or made in bulk are made in batches: the same day, the same
//! domain, the same answers in the form.
//!
//! # Innocent explanations
//!
//! Hackathons, universities, days of marketing; firms that take up the service at once.
//!
//! # How it is evaded, and at what cost
//!
//! By signing up slowly and with many domains, at the price of time.
//!
//! # References
//!
//! * Thomas et al. (2013), «Trafficking fraudulent accounts: the role of the underground
//!   market in Twitter spam and abuse», USENIX Security
//! * Xiao, Freeman, Hwa (2015), «Detecting clusters of fake accounts in online social
//!   networks», AISec
//! * MITRE ATLAS AML.T0021, Establish Accounts

use stillwatch_exchange::time::DAY_US;

use super::{Gather, Link, joint};
use crate::calendar::Calendar;
use crate::population::Member;

pub(super) const CHANNEL: Link = Link {
    name: "birth",
    shared_thing: "day of signing up with one e-mail domain",
    gather: Gather::Values(values),
    grows: true,
    joins: true,
};

fn values(member: &Member, calendar: &Calendar, freeze: usize, emit: &mut dyn FnMut(u64)) {
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

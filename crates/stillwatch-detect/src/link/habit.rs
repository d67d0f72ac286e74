//! Habit: accounts with one rare combination of habits where no single one is rare.
//!
//! # What it sees
//!
//! The client, how much is asked, in what shape of conversation, at which hours, from how
//! many networks, and the week of birth, three combinations of these; for accounts with
//! at least twenty exchanges.
//!
//! # Why it matters
//!
//! Accounts that share no thing are still driven by one program, which gives all of them
//! the same habits.
//!
//! # Innocent explanations
//!
//! Segments of the market: office hours, hobbyists, nightly jobs.
//!
//! # How it is evaded, and at what cost
//!
//! By habits as varied as a crowd's, at the price of capacity left unused.
//!
//! # References
//!
//! * Viswanath et al. (2014), «Towards detecting anomalous user behavior in online social
//!   networks», USENIX Security
//! * Xiao, Freeman, Hwa (2015), «Detecting clusters of fake accounts in online social
//!   networks», AISec

use stillwatch_exchange::time::DAY_US;

use super::{Gather, Link, joint};
use crate::calendar::Calendar;
use crate::population::Member;
use crate::profile::Kind;

pub(super) const CHANNEL: Link = Link {
    name: "habit",
    shared_thing: "rare combination of habits",
    gather: Gather::Values(values),
    grows: false,
    joins: false,
};

fn values(member: &Member, calendar: &Calendar, freeze: usize, emit: &mut dyn FnMut(u64)) {
    let profile = &member.profile;
    let exchanges = profile.exchanges(0..freeze);
    // Habits need something to be seen in.
    if exchanges < 20 {
        return;
    }
    let mut follow_ups = 0u64;
    let mut hours = [0u32; 24];
    let mut client = 0u64;
    let mut days = 0f64;
    for (_, epoch) in profile.epochs(0..freeze) {
        days += calendar.epoch_days();
        follow_ups += u64::from(epoch.follow_ups);
        for (sum, &hour) in hours.iter_mut().zip(&epoch.hours) {
            *sum += u32::from(hour);
        }
        if let Some(most) = epoch.entries(Kind::Client).max_by_key(|e| (e.count, e.hash)) {
            client = most.hash;
        }
    }
    let volume = ((exchanges as f64 / days).ln() * 1.5).round() as i64 as u64;
    let turns = (follow_ups * 4 / exchanges).min(3);
    let waking = u64::from(quiet_share(&hours) > 0.15);
    let networks = profile.distinct(Kind::Network, 0..freeze).max(1.0).log2().round() as u64;
    let week = member.created_at().map_or(u64::MAX, |c| c.0.div_euclid(7 * DAY_US) as u64);
    emit(joint(&[11, client, volume, turns, waking]));
    emit(joint(&[12, client, volume, turns, waking, week]));
    emit(joint(&[13, volume, turns, waking, networks, week]));
}

/// The part of the exchanges that falls into the quietest eight hours in a row.
fn quiet_share(hours: &[u32; 24]) -> f64 {
    let total: u32 = hours.iter().sum();
    let least = (0..24)
        .map(|start| (0..8).map(|h| hours[(start + h) % 24]).sum::<u32>())
        .min()
        .unwrap_or(0);
    f64::from(least) / f64::from(total.max(1))
}

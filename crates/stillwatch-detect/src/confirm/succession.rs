//! Succession: accounts born just after others of the group were closed.
//!
//! # What it sees
//!
//! Of the members born in the window, the share born within two days after a closure of
//! another member, less the share of the window's time that lies so close after closures.
//! 0 where births know nothing of closures.
//!
//! # Why it matters
//!
//! A campaign that loses an account replaces it, and its plan can't wait.
//!
//! # Innocent explanations
//!
//! Growth after marketing, people who open another account when one is closed.
//!
//! # How it is evaded, and at what cost
//!
//! By keeping accounts in reserve, at the price of their upkeep.
//!
//! # References
//!
//! * Thomas et al. (2011), «Suspended accounts in retrospect: an analysis of Twitter
//!   spam», IMC: those who are suspended come back with new accounts
//! * Anthropic (2026-02-23), «Detecting and preventing distillation attacks»: banned
//!   accounts replaced by new ones
//! * MITRE ATLAS AML.T0021, Establish Accounts

use stillwatch_exchange::time::DAY_US;

use super::{Confirm, Estimate, M, Measure, Measured, Role, Sum, Tail, View, percent};
use crate::link::LinkChannel;

pub(super) const CHANNEL: Confirm = Confirm {
    name: "succession",
    role: Role::Accuses,
    needs_occasion: true,
    lasts: false,
    sum: Sum::Mean,
    spent_by: &[LinkChannel::Birth],
    measure,
    measures: &[Measure {
        id: M::Successors,
        name: "births soon after closures, beyond chance",
        high: true,
        resolution: 0.10,
        weight: 1.0,
        tail: Tail::Heavy,
        corroborates: false,
        explains: &[],
        statement: |value, ordinary, _| {
            format!(
                "Of the accounts that were opened in the time, {} more than chance gives came within two days after another account of the group was closed; in ordinary groups it is {} more.",
                percent(value),
                percent(ordinary)
            )
        },
    }],
    ruled_out: "Growth after marketing brings births too; here they keep to the closures, and the time that lies close after closures is taken off.",
    cost_to_avoid: "Keep accounts in reserve, each paid for and used from time to time, or stand still after a closure.",
};

/// A successor is expected within this time.
const SOON_US: i64 = 2 * DAY_US;
/// Births and closures without which their order says nothing.
const EVENTS_MIN: usize = 4;

fn measure(view: &View<'_>, out: &mut Measured) {
    let calendar = view.population.calendar();
    let window = view.crowd.window;
    let (start, end) = (calendar.epoch_start(window.start).0, calendar.look_at(window.look).0);
    let within = |time: Option<stillwatch_exchange::Time>| {
        time.map(|t| t.0).filter(|t| (start..end).contains(t))
    };
    let members = || view.all.iter().map(|&i| &view.population.members()[i as usize]);
    let mut closures: Vec<i64> = members().filter_map(|m| within(m.closed_at())).collect();
    let births: Vec<i64> = members().filter_map(|m| within(m.created_at())).collect();
    if closures.len() < EVENTS_MIN || births.len() < EVENTS_MIN {
        return;
    }
    closures.sort_unstable();
    let mut covered = 0;
    let mut until = start;
    for &closure in &closures {
        let last = (closure + SOON_US).min(end);
        covered += (last - closure.max(until)).max(0);
        until = until.max(last);
    }
    let chance = covered as f64 / (end - start) as f64;
    let soon = births
        .iter()
        .filter(|&&birth| {
            let before = closures.partition_point(|&c| c < birth);
            before > 0 && birth - closures[before - 1] <= SOON_US
        })
        .count() as f64
        / births.len() as f64;
    out[M::Successors as usize] = Some(Estimate {
        value: soon - chance,
        error: (chance * (1.0 - chance) / births.len() as f64).sqrt(),
        ..Estimate::default()
    });
}

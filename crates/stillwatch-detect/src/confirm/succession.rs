//! Succession: accounts born just after others of the group were closed.
//!
//! What it sees: of the members born in the window, the share born within two days after
//! a closure of another member, less the share of the window's time that lies so close
//! after closures. 0 where births know nothing of closures. Why it matters: a campaign
//! that loses an account replaces it, and its plan can't wait. Innocent explanations:
//! growth after marketing, people who open another account when one is closed. Evaded by
//! keeping accounts in reserve, at the price of their upkeep.

use stillwatch_exchange::time::DAY_US;

use super::{Estimate, M, Measured, View};

/// A successor is expected within this time.
const SOON_US: i64 = 2 * DAY_US;
/// Births and closures without which their order says nothing.
const EVENTS_MIN: usize = 4;

pub(super) fn measure(view: &View<'_>, out: &mut Measured) {
    let calendar = view.population.calendar();
    let window = view.crowd.window;
    let (start, end) = (calendar.epoch_start(window.freeze).0, calendar.epoch_start(window.look).0);
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
    });
}

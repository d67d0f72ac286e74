//! Rhythm: work at the hours when the accounts themselves used to rest.
//!
//! # What it sees
//!
//! The share of a member's exchanges in the eight hours that were its quietest before the
//! freezing; about 0 for people, a third for a machine that knows no night. The hours are
//! learned before and tested after, so few exchanges do not make them look fuller than
//! they are.
//!
//! # Why it matters
//!
//! Capacity that stands idle at night is paid for all the same.
//!
//! # Innocent explanations
//!
//! Automations, which work at night as well; so it accuses nobody.
//!
//! # How it is evaded, and at what cost
//!
//! By keeping office hours, at the price of two thirds of the capacity.
//!
//! # References
//!
//! * Zhang, Paxson (2011), «Detecting and analyzing automated activity on Twitter», PAM

use super::{Confirm, M, Measure, Measured, Role, Sum, Tail, View, percent};
use crate::link::LinkChannel;

pub(super) const CHANNEL: Confirm = Confirm {
    name: "rhythm",
    role: Role::Corroborates,
    needs_occasion: false,
    lasts: false,
    sum: Sum::Mean,
    spent_by: &[LinkChannel::Habit],
    measure,
    measures: &[Measure {
        id: M::Quiet,
        name: "share of exchanges in the members' own quiet hours",
        high: true,
        resolution: 0.03,
        weight: 1.0,
        tail: Tail::Heavy,
        corroborates: false,
        explains: &[],
        statement: |value, ordinary, _| {
            format!(
                "{} of the exchanges fall into the eight hours in which the same accounts were quietest before; in ordinary groups it is {}, and a machine that knows no night reaches 33 %.",
                percent(value),
                percent(ordinary)
            )
        },
    }],
    ruled_out: "Automations work at night too; they ask the same thing again and again, at full minutes, and are among the groups it was compared with.",
    cost_to_avoid: "Keep the hours of people: about two thirds of the day's capacity.",
};

fn measure(view: &View<'_>, out: &mut Measured) {
    out[M::Quiet as usize] = view.mean(|f| f.quiet);
}

//! Rhythm: work at the hours when the accounts themselves used to rest.
//!
//! What it sees: the share of a member's exchanges in the eight hours that were its
//! quietest before the freezing; about 0 for people, a third for a machine that knows
//! no night. The hours are learned before and tested after, so few exchanges do not
//! make them look fuller than they are. Innocent explanations: automations. Evaded by
//! keeping office hours, at the price of two thirds of the capacity.

use super::{M, Measured, View};

pub(super) fn measure(view: &View<'_>, out: &mut Measured) {
    out[M::Quiet as usize] = view.mean(|f| f.quiet);
}

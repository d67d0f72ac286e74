//! Independence: question after question without a follow-up.
//!
//! What it sees: the share of follow-up turns, and how much more alike consecutive
//! questions are than any two of the same account. People in chats go on from an
//! answer. It clears people more surely than it accuses machines: batch jobs, tools
//! and evaluations ask independent questions too. Evaded by feigned conversations, at
//! the price of the turns.

use super::{M, Measured, View};

pub(super) fn measure(view: &View<'_>, out: &mut Measured) {
    out[M::FollowUps as usize] = view.mean(|f| Some(f.follow_ups));
    out[M::Thread as usize] = view.mean(|f| f.thread);
}

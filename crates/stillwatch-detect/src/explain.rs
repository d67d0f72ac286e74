//! Explain: each piece of evidence as a sentence that a person who was not there can
//! follow, the innocent explanation that was looked at, and what it would cost an
//! attacker to avoid it.

use crate::confirm::{ConfirmChannel, MEASURES};
use crate::judge::Scale;
use crate::link::LinkChannel;

/// The sentence for a measure of a group beside its references.
#[must_use]
pub fn statement(measure: usize, value: f64, scale: &Scale, accounts: usize) -> String {
    (MEASURES[measure].statement)(value, scale.median, accounts)
}

/// The sentence for what linked a group.
#[must_use]
pub fn link_statement(
    channel: LinkChannel,
    sharing: usize,
    accounts: usize,
    everybody: usize,
) -> String {
    let thing = channel.shared_thing();
    format!(
        "{sharing} of the {accounts} accounts share one {thing} with at least seven others of the group; of all {everybody} accounts it is a part too small for chance."
    )
}

/// The innocent explanation that a channel looks at, and why a finding rules it out.
#[must_use]
pub fn ruled_out(channel: ConfirmChannel) -> &'static str {
    channel.channel().ruled_out
}

/// What it would cost an attacker not to be seen in a channel.
#[must_use]
pub fn cost_to_avoid(channel: ConfirmChannel) -> &'static str {
    channel.channel().cost_to_avoid
}

/// The name of a measure's axis.
#[must_use]
pub fn axis(measure: usize) -> &'static str {
    MEASURES.get(measure).map_or("", |m| m.name)
}

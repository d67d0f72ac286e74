//! Explain: each piece of evidence as a sentence that a person who was not there can
//! follow, the innocent explanation that was looked at, and what it would cost an
//! attacker to avoid it.

use stillwatch_exchange::Time;

use crate::calendar::EPOCHS;
use crate::confirm::{ConfirmChannel, M, MEASURED_MAX, MEASURES, Window, counted_factor};
use crate::find::Finding;
use crate::judge::Scale;
use crate::link::LinkChannel;
use crate::population::Population;

/// Which accounts a finding's measures are of, and from when to when.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Basis {
    /// All of the finding.
    pub accounts: usize,
    /// Those of its gravest group that were measured.
    pub measured: usize,
    pub from: Time,
    pub to: Time,
    /// How many of all had exchanges in that time, and the factor within which two thirds of
    /// their volumes lie, chance included.
    pub counted: Option<(usize, f64)>,
}

impl Basis {
    /// What was measured of a finding at its last look.
    #[must_use]
    pub fn of(finding: &Finding, population: &Population) -> Self {
        let calendar = population.calendar();
        let last = finding.course.ages.last_key_value();
        let (age, measured) = last.map_or((0, 0), |(age, measured)| (*age, measured.0));
        let window = Window::of(EPOCHS - age.min(EPOCHS), EPOCHS);
        let volumes: Vec<f64> = finding
            .members
            .iter()
            .map(|m| &population.members()[m.account as usize].profile)
            .map(|profile| profile.exchanges(window.start..window.look) as f64)
            .filter(|&exchanges| exchanges > 0.0)
            .collect();
        Basis {
            accounts: finding.members.len(),
            measured,
            from: calendar.look_at(window.start),
            to: calendar.look_at(window.look),
            counted: counted_factor(&volumes).map(|factor| (volumes.len(), factor)),
        }
    }

    /// The sentences that say so.
    fn told(&self) -> String {
        let Basis { accounts, measured, .. } = *self;
        let picked = if measured == MEASURED_MAX { ", the most that are," } else { "" };
        format!(
            "Of the {accounts} accounts, the {measured}{picked} of the gravest linked group with exchanges from {} to {} UTC were measured.",
            minute(self.from),
            minute(self.to)
        )
    }
}

/// `2026-03-16 00:00`
fn minute(time: Time) -> String {
    time.to_string().chars().take(16).map(|c| if c == 'T' { ' ' } else { c }).collect()
}

/// The sentences for a measure of a group beside its references: what it is, of which
/// accounts, and what a person who counts finds.
#[must_use]
pub fn statement(measure: usize, value: f64, scale: &Scale, basis: &Basis) -> String {
    let said = (MEASURES[measure].statement)(value, scale.median, basis.measured);
    let mut text = format!("{said} {}", basis.told());
    if measure == M::Spread as usize
        && let Some((counted, factor)) = basis.counted
    {
        text.push_str(&format!(
            " As counted, chance included, two thirds of the {counted} with exchanges in that time lie within a factor of {factor:.1}."
        ));
    }
    text
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_says_how_many_were_measured_when_and_what_is_counted() {
        let time = |text| Time::parse(text).unwrap();
        let basis = Basis {
            accounts: 912,
            measured: 118,
            from: time("2026-03-16T00:00:00Z"),
            to: time("2026-03-30T12:00:00Z"),
            counted: Some((903, 2.64)),
        };
        let scale = Scale { median: 0.8, spread: 0.2, groups: 99 };
        let spread = statement(M::Spread as usize, 0.1, &scale, &basis);
        for words in [
            "the 118 measured accounts' volumes lie within a factor of 1.2",
            "in ordinary groups of this kind the factor is 5.0. Of the 912 accounts, the 118 of",
            "from 2026-03-16 00:00 to 2026-03-30 12:00 UTC were measured.",
            "two thirds of the 903 with exchanges in that time lie within a factor of 2.6.",
        ] {
            assert!(spread.contains(words), "`{words}` is not said in: {spread}");
        }
        let quiet = statement(M::Quiet as usize, 0.33, &scale, &basis);
        assert!(quiet.ends_with("were measured."), "volumes are not what it is about: {quiet}");
        let most = Basis { measured: MEASURED_MAX, ..basis };
        assert!(
            most.told().contains("the 128, the most that are, of the gravest"),
            "{}",
            most.told()
        );
    }
}

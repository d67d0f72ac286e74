//! Confirm: what a group does after its freezing, in channels that did not link it.
//!
//! One file a channel. Each takes a group's members after the freezing and returns
//! measures that do not depend on the group's size, so that groups can be compared;
//! whether a value is ordinary is for [`crate::judge`] to say, against the other
//! groups of the same linking.

mod balance;
mod coverage;
mod demand;
mod features;
mod independence;
mod pivot;
mod rhythm;
mod sharding;
mod succession;
mod timing;

use crate::link::LinkChannel;
use crate::population::Population;

pub use features::{Crowd, Features, Window};

/// A way in which a campaign's course differs from that of an ordinary group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum ConfirmChannel {
    Balance = 0,
    Rhythm = 1,
    Timing = 2,
    Sharding = 3,
    Independence = 4,
    Coverage = 5,
    Pivot = 6,
    Demand = 7,
    Succession = 8,
}

impl ConfirmChannel {
    /// The name in findings.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            ConfirmChannel::Balance => "balance",
            ConfirmChannel::Rhythm => "rhythm",
            ConfirmChannel::Timing => "timing",
            ConfirmChannel::Sharding => "sharding",
            ConfirmChannel::Independence => "independence",
            ConfirmChannel::Coverage => "coverage",
            ConfirmChannel::Pivot => "pivot",
            ConfirmChannel::Demand => "demand",
            ConfirmChannel::Succession => "succession",
        }
    }

    /// Whether what linked a group already says what this channel measures.
    #[must_use]
    pub fn is_spent_by(self, link: LinkChannel) -> bool {
        use ConfirmChannel as C;
        matches!(
            (link, self),
            (LinkChannel::Habit, C::Balance | C::Rhythm | C::Independence)
                | (LinkChannel::Script, C::Coverage)
                | (LinkChannel::Pool, C::Sharding)
                | (LinkChannel::Client, C::Demand)
                | (LinkChannel::Birth, C::Succession)
        )
    }
}

/// One number about a group.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measure {
    pub channel: ConfirmChannel,
    /// Its name in stored courses.
    pub id: &'static str,
    /// What is measured, for the axis of a picture.
    pub name: &'static str,
    /// Whether a campaign's value is higher than an ordinary group's, or lower.
    pub high: bool,
    /// Differences below this are not worth telling apart, whatever the references'
    /// spread: the resolution of the measure in its own unit.
    pub resolution: f64,
    /// Its part in what its channel says. That accounts are equal is a balancer's mark;
    /// that each is steady is any machine's, and says half as much.
    pub weight: f64,
}

macro_rules! measures {
    ($($id:ident, $channel:ident, $high:literal, $resolution:literal, $weight:literal, $name:literal;)*) => {
        /// The measures by name of their place in [`MEASURES`].
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(usize)]
        pub enum M { $($id),* }
        /// All measures, in the order of [`M`].
        pub const MEASURES: &[Measure] = &[$(Measure {
            channel: ConfirmChannel::$channel,
            id: stringify!($id),
            name: $name,
            high: $high,
            resolution: $resolution,
            weight: $weight,
        }),*];
    };
}

measures! {
    Spread, Balance, false, 0.10, 2.0, "spread of the members' volumes (natural log)";
    Drift, Balance, false, 0.10, 1.0, "spread of each member's volume over time (natural log)";
    Quiet, Rhythm, true, 0.03, 1.0, "share of exchanges in the members' own quiet hours";
    Together, Timing, true, 0.05, 1.0, "co-activity beyond each member's own rhythm";
    Repeats, Sharding, false, 0.05, 1.0, "chance that another member asked the same question";
    Clock, Timing, false, 0.10, 1.0, "share within seconds of a full five minutes";
    FollowUps, Independence, false, 0.05, 1.0, "share of follow-up turns";
    Thread, Independence, false, 0.02, 1.0, "likeness of consecutive questions beyond any two";
    Own, Coverage, false, 0.10, 1.0, "share of a member's questions in a wording of its own";
    Moved, Pivot, true, 0.05, 1.0, "share moved to a new model within a day, beyond the crowd's";
    Reasoning, Demand, true, 0.15, 1.0, "share that asks for the reasoning";
    Probabilities, Demand, true, 0.15, 1.0, "share that asks for token probabilities";
    Grading, Demand, true, 0.15, 1.0, "share that asks for grading";
    Length, Demand, true, 0.30, 1.0, "tokens of an answer (natural log)";
    Successors, Succession, true, 0.10, 1.0, "births soon after closures, beyond chance";
}

/// How many measures there are.
pub const MEASURE_COUNT: usize = MEASURES.len();

/// What was measured, and the standard error that so many members leave.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Estimate {
    pub value: f64,
    pub error: f64,
}

/// A group's measures in one window; `None` where there was too little to measure.
pub type Measured = [Option<Estimate>; MEASURE_COUNT];

/// What the channels see of a group.
#[derive(Clone, Copy)]
pub struct View<'a> {
    pub population: &'a Population,
    pub crowd: &'a Crowd,
    pub features: &'a [Features],
    /// All members, by index into the population.
    pub all: &'a [u32],
    /// Those with traffic in the window; at most [`MEASURED_MAX`].
    pub members: &'a [u32],
}

/// A larger group is measured on this many members, picked by a hash of their ids.
pub const MEASURED_MAX: usize = 128;
/// With fewer active members there is nothing to compare.
pub const ACTIVE_MIN: usize = 6;

impl View<'_> {
    /// The features of the members, in their order.
    fn features(&self) -> impl Iterator<Item = &Features> + Clone + '_ {
        self.members.iter().map(|&i| &self.features[i as usize])
    }

    /// The mean of a figure over the members that have it, each counting once; `None`
    /// for fewer than [`ACTIVE_MIN`].
    fn mean(&self, figure: impl Fn(&Features) -> Option<f64>) -> Option<Estimate> {
        self.mean_of(|i| figure(&self.features[i as usize]))
    }

    /// The same for a figure that depends on the member's place in the population.
    fn mean_of(&self, figure: impl Fn(u32) -> Option<f64>) -> Option<Estimate> {
        Estimate::mean(self.members.iter().filter_map(|&i| figure(i)))
    }
}

impl Estimate {
    /// The mean of values and its standard error; `None` for fewer than [`ACTIVE_MIN`].
    fn mean(values: impl Iterator<Item = f64>) -> Option<Self> {
        let mut sum = 0.0;
        let mut squares = 0.0;
        let mut count = 0.0;
        for value in values {
            sum += value;
            squares += value * value;
            count += 1.0;
        }
        (count >= ACTIVE_MIN as f64).then(|| {
            let value = sum / count;
            let variance = (squares / count - value * value).max(0.0) * count / (count - 1.0);
            Estimate { value, error: (variance / count).sqrt() }
        })
    }
}

/// What may be known of a group at its freezing at little cost: how even its volumes had
/// been, and how often its members went on from an answer.
#[must_use]
pub fn measure_before(population: &Population, freeze: usize, members: &[u32]) -> Measured {
    let before: Vec<(f64, f64)> = members
        .iter()
        .map(|&m| {
            let epochs = population.members()[m as usize].profile.epochs(0..freeze);
            epochs.fold((0.0, 0.0), |(all, further), (_, epoch)| {
                (all + f64::from(epoch.exchanges), further + f64::from(epoch.follow_ups))
            })
        })
        .filter(|&(all, _)| all > 0.0)
        .collect();
    let mut measured: Measured = [None; MEASURE_COUNT];
    measured[M::Spread as usize] = balance::evenness(before.iter().map(|b| b.0));
    measured[M::FollowUps as usize] =
        Estimate::mean(before.iter().map(|(all, further)| further / all));
    measured
}

/// Picks the members that were active in the window, at most [`MEASURED_MAX`].
#[must_use]
pub fn active_members(population: &Population, features: &[Features], members: &[u32]) -> Vec<u32> {
    let mut active: Vec<u32> =
        members.iter().copied().filter(|&i| features[i as usize].exchanges > 0.0).collect();
    if active.len() > MEASURED_MAX {
        active.sort_by_cached_key(|&i| {
            xxhash_rust::xxh3::xxh3_64(population.members()[i as usize].account_id.as_bytes())
        });
        active.truncate(MEASURED_MAX);
        active.sort_unstable();
    }
    active
}

/// Measures a group. Fewer than [`ACTIVE_MIN`] active members give no measures.
#[must_use]
pub fn measure(view: &View<'_>) -> Measured {
    let mut measured: Measured = [None; MEASURE_COUNT];
    if view.members.len() < ACTIVE_MIN {
        return measured;
    }
    balance::measure(view, &mut measured);
    rhythm::measure(view, &mut measured);
    timing::measure(view, &mut measured);
    sharding::measure(view, &mut measured);
    independence::measure(view, &mut measured);
    coverage::measure(view, &mut measured);
    pivot::measure(view, &mut measured);
    demand::measure(view, &mut measured);
    succession::measure(view, &mut measured);
    measured
}

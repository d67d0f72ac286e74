//! Confirm: what a group does after its freezing, in channels that did not link it; or,
//! once all of the period has linked it, in that same time (see [`Window`]).
//!
//! One file a channel and one line in the registry. Each takes a group's members after the freezing and returns
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
mod ties;
mod timing;

use crate::link::LinkChannel;
use crate::owner::Owner;
use crate::population::Population;
use crate::signature::Values;

pub use balance::counted_factor;
pub use features::{Crowd, Features, Window};
pub(crate) use ties::{WHAT, WHO};

/// What a channel's file says of it.
pub struct Confirm {
    /// The name in findings.
    pub name: &'static str,
    pub role: Role,
    /// Whether it takes an occasion, a release or a closure, that may not come.
    pub needs_occasion: bool,
    /// Whether it says the same of a group that comes in bursts: what accounts are, and not
    /// what they do.
    pub lasts: bool,
    /// How its measures' deviations become one.
    pub sum: Sum,
    /// Link channels that already say what this channel measures.
    pub spent_by: &'static [LinkChannel],
    measure: fn(&View<'_>, &mut Measured),
    pub measures: &'static [Measure],
    /// The innocent explanation that it looks at, and why a finding rules it out.
    pub ruled_out: &'static str,
    /// What it would cost an attacker not to be seen in it.
    pub cost_to_avoid: &'static str,
}

/// What a channel may do to a group.
///
/// Most clear or explain groups and are told of, and accuse none: acting together is what
/// classes, offices and timetables do, asking nothing twice is what strangers do. To work at
/// night, to ask for the reasoning and to be tied twice is what some innocents do as well,
/// and each of them corroborates. Nor are even volumes enough: tenants of one application can
/// be as even as a balancer's accounts, and then rest at night and share a program alone. On
/// 58 worlds without campaigns from two simulators that know nothing of each other (2,000
/// to 50,000 accounts, 640,000 in all) nobody is accused; by even volumes alone it was two in
/// a hundred in the worlds of the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Its evidence is part of the score.
    Accuses,
    /// Its evidence is part of the score where others accuse, for a campaign at most as much
    /// as theirs; and without any that speaks nobody is accused.
    Corroborates,
    /// It is told of, may explain a group, and never accuses one.
    Clears,
}

/// How a channel's measures' deviations become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sum {
    /// Their weighted mean: they are views of one thing.
    Mean,
    /// The same, but what they say is added up, and what only
    /// [`corroborates`](Measure::corroborates) says at most as much as the others.
    Corroborated,
    /// Half of the largest: any one will do, and by chance one of several is large.
    HalfTheMost,
}

/// When a measure's innocent side explains a group, whatever else it does. An attacker
/// who imitates that pays for the same answers again and again, or leaves accounts idle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Explains {
    /// Where it lies far on the innocent side: benchmarks and assignments ask the same
    /// questions, automations keep to the clock, classes, hackathons and evaluation days
    /// come in bursts.
    FarOut,
    /// Where it, a share of what members do, is most of it, however ordinary that is among
    /// groups of its kind: automations keep to the clock, apps, pipelines and monitors have
    /// a template each, and who runs a benchmark or has an assignment asks what others ask.
    Mostly,
    /// Where it lies far on the innocent side it explains all but even volumes: the group
    /// comes in bursts.
    Burst,
    /// Where it lies on the innocent side, of a group that comes in bursts: who asks what
    /// others ask in the hours in which they ask is a class.
    InBursts,
}

/// How innocents' deviations are spread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tail {
    /// As Student's t with three degrees of freedom: there are odd innocents, and a robust
    /// spread does not see them.
    Heavy,
    /// As a normal, but for one odd group in a hundred that may lie anywhere (Huber 1964,
    /// «Robust estimation of a location parameter»). For the spread of volumes: what chance
    /// does to that is known, and its error is that of a group as ordinary as the
    /// references; the [`Estimate::error`] is of a value of one. Of 46,549 groups of
    /// innocents that nothing explains, in forty worlds of real prompts, 1 % lie beyond 1.8,
    /// 0.1 % beyond 2.3 and none beyond 2.8; a normal has 2.3, 3.1 and 4.1.
    Light,
}

/// The part of innocent groups that may lie anywhere.
const ODD: f64 = 0.01;

impl Tail {
    /// The probability density at a deviation of at most `most` on either side.
    #[must_use]
    pub fn density(self, deviation: f64, most: f64) -> f64 {
        let squared = deviation * deviation;
        match self {
            Tail::Heavy => 0.367_552_596_947_861 / (1.0 + squared / 3.0).powi(2),
            Tail::Light => {
                let ordinary = (-squared / 2.0).exp() / core::f64::consts::TAU.sqrt();
                (1.0 - ODD) * ordinary + ODD / (2.0 * most)
            }
        }
    }
}

/// One number about a group.
#[derive(Clone, Copy, Debug)]
pub struct Measure {
    pub id: M,
    /// What is measured, for the axis of a picture.
    pub name: &'static str,
    /// Whether a campaign's value is higher than an ordinary group's, or lower.
    pub high: bool,
    /// Differences below this are not worth telling apart, whatever the references'
    /// spread: the resolution of the measure in its own unit.
    pub resolution: f64,
    /// Its part in what its channel says.
    pub weight: f64,
    /// How far innocents' deviations reach.
    pub tail: Tail,
    /// Whether it says nothing by itself. That accounts are equal is a balancer's mark;
    /// that each is steady is any machine's, but the innocents whose volumes happen to be
    /// equal are no steadier than others.
    pub corroborates: bool,
    pub explains: &'static [Explains],
    /// The sentence for a value beside the ordinary one, of so many accounts that were measured.
    pub statement: fn(f64, f64, usize) -> String,
}

macro_rules! registry {
    ($($channel:ident: $file:ident [$($measure:ident)*],)*) => {
        /// A way in which a campaign's course differs from that of an ordinary group.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum ConfirmChannel { $($channel),* }

        /// How many confirm channels there are.
        pub const CONFIRM_CHANNELS: usize = ConfirmChannel::ALL.len();

        impl ConfirmChannel {
            /// In the order of the registry.
            pub const ALL: [ConfirmChannel; [$(stringify!($channel)),*].len()] =
                [$(ConfirmChannel::$channel),*];

            /// What its file says of it.
            #[must_use]
            pub const fn channel(self) -> &'static Confirm {
                match self { $(ConfirmChannel::$channel => &$file::CHANNEL),* }
            }
        }

        /// The measures by name of their place in [`MEASURES`].
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(usize)]
        pub enum M { $($($measure),*),* }

        impl M {
            /// Its name in stored courses.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $($(M::$measure => stringify!($measure)),*),* }
            }

            /// The channel that it is a part of.
            #[must_use]
            pub const fn channel(self) -> ConfirmChannel {
                match self { $($(M::$measure => ConfirmChannel::$channel),*),* }
            }
        }

        /// How many measures there are.
        pub const MEASURE_COUNT: usize = [$($(stringify!($measure)),*),*].len();
    };
}

// A channel, its file and its measures.
registry! {
    Balance: balance [Spread Drift],
    Rhythm: rhythm [Quiet],
    Timing: timing [Together Clock],
    Sharding: sharding [Repeats],
    Independence: independence [FollowUps Thread],
    Coverage: coverage [Own],
    Pivot: pivot [Moved],
    Demand: demand [Reasoning Probabilities Grading Length],
    Succession: succession [Successors],
    Ties: ties [Ties],
}

/// All measures, in the order of [`M`].
pub const MEASURES: [Measure; MEASURE_COUNT] = {
    let mut all = [balance::CHANNEL.measures[0]; MEASURE_COUNT];
    let mut place = 0;
    let mut channel = 0;
    while channel < CONFIRM_CHANNELS {
        let measures = ConfirmChannel::ALL[channel].channel().measures;
        let mut i = 0;
        while i < measures.len() {
            assert!(measures[i].id as usize == place, "a file's measures differ from its line");
            all[place] = measures[i];
            place += 1;
            i += 1;
        }
        channel += 1;
    }
    assert!(place == MEASURE_COUNT, "a file lacks a measure of its line");
    all
};

impl ConfirmChannel {
    /// The name in findings.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.channel().name
    }

    /// Whether what linked a group already says what this channel measures.
    #[must_use]
    pub fn is_spent_by(self, link: LinkChannel) -> bool {
        self.channel().spent_by.contains(&link)
    }
}

// ---- wordings for statements -----------------------------------------------------

fn percent(share: f64) -> String {
    format!("{:.0} %", (share * 100.0).clamp(-100.0, 100.0))
}

fn percent_more(ratio: f64) -> String {
    format!("{:.0} %", (ratio * 100.0).max(0.0))
}

fn points(likeness: f64) -> String {
    format!("{:.1}", likeness * 100.0)
}

fn times(log: f64) -> String {
    format!("{:.1}", log.exp())
}

/// What was measured, and the standard error that so many members leave; see also
/// [`Tail::Light`].
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Estimate {
    pub value: f64,
    pub error: f64,
    /// The variance that chance alone gives, and the value is beyond; 0 where that is no
    /// matter. Where it is much, the value is known less well than so many members tell.
    pub chance: f64,
}

/// A group's measures in one window; `None` where there was too little to measure.
pub type Measured = [Option<Estimate>; MEASURE_COUNT];

/// What the channels see of a group.
#[derive(Clone, Copy)]
pub struct View<'a> {
    pub population: &'a Population,
    /// Whose the accounts are, by index into the population; empty where that is no matter.
    pub owners: &'a [Owner],
    /// What accounts share, where that is looked at.
    pub values: Option<&'a Values>,
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
            Estimate { value, error: (variance / count).sqrt(), chance: 0.0 }
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
    measured[M::Spread as usize] = balance::evenness(before.iter().map(|b| (b.0, 1.0)));
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
    for channel in ConfirmChannel::ALL {
        (channel.channel().measure)(view, &mut measured);
    }
    measured
}

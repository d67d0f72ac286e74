//! Judge: a candidate's course against those of the other groups of its stratum.
//!
//! First every measure is put on one scale: how far a group's value lies from the
//! stratum's median on the suspicious side, in robust standard deviations (the
//! median absolute deviation, but never less than the measure's resolution). The
//! scale comes from all groups of the stratum alike, the candidate included, so that
//! under the promise's assumption (an innocent group is exchangeable with its
//! references) the scores are exchangeable too.

use std::collections::BTreeMap;

use crate::confirm::{ConfirmChannel, M, MEASURE_COUNT, MEASURES, Measured};
use crate::link::LinkChannel;

/// Members' variance within a group, as a multiple of the variance between groups:
/// chosen so that a group of 16 counts for 0.7 of a very large one.
const WITHIN: f64 = 16.0;

/// How many confirm channels there are.
pub const CONFIRM_CHANNELS: usize = 8;

/// One measure's deviation is cut here: beyond it a value is just «not ordinary», and
/// no single measure may decide alone.
pub const DEVIATION_MAX: f64 = 5.0;
/// What speaks for a group counts too, up to here.
pub const DEVIATION_MIN: f64 = -2.0;

/// One group in one window.
#[derive(Clone, Debug)]
pub struct Subject {
    pub stratum: &'static str,
    /// The accounts that it stands for: each account shared out evenly over the groups
    /// that it is in, so that a campaign that falls into many buckets does not become
    /// the measure of what is ordinary.
    pub mass: f64,
    /// Members that were measured.
    pub active: usize,
    pub links: Vec<LinkChannel>,
    pub measured: Measured,
}

/// A group on the common scale.
#[derive(Clone, Debug, Default)]
pub struct Scored {
    /// Robust deviations by measure; `None` where there was no value or the channel is
    /// spent.
    pub deviations: [Option<f64>; MEASURE_COUNT],
    /// By confirm channel.
    pub channels: [Option<f64>; CONFIRM_CHANNELS],
    /// The confirmation score S: the channels' sum.
    pub score: f64,
    /// A measure shows an innocent explanation at work; see [`EXPLAINS`].
    pub is_explained: bool,
}

/// Measures that explain a group when they lie far on the innocent side, whatever else
/// it does: benchmarks and assignments ask the same questions, automations keep to the
/// clock, classes, hackathons and evaluation days come in bursts. An attacker who
/// imitates them pays for the same answers again and again, or leaves accounts idle.
pub const EXPLAINS: [M; 3] = [M::Repeats, M::Clock, M::Drift];

/// The median and spread of the groups of a stratum, by measure.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    pub median: f64,
    pub spread: f64,
    pub groups: usize,
}

/// Scales of all strata.
pub type Scales = BTreeMap<(&'static str, usize), Scale>;

/// With fewer groups a stratum's median means little, and all groups serve.
const GROUPS_MIN: usize = 12;
/// The stratum that stands for all groups together.
const ALL: &str = "all";

/// Works out the scales from all groups of a window.
#[must_use]
pub fn scales(subjects: &[Subject]) -> Scales {
    let mut values: BTreeMap<(&'static str, usize), Vec<(f64, f64)>> = BTreeMap::new();
    for subject in subjects {
        for (m, value) in subject.measured.iter().enumerate() {
            if let Some(value) = value {
                values.entry((subject.stratum, m)).or_default().push((*value, subject.mass));
                values.entry((ALL, m)).or_default().push((*value, subject.mass));
            }
        }
    }
    values
        .into_iter()
        .map(|(at, mut values)| {
            let groups = values.len();
            let median = median(&mut values);
            for (value, _) in &mut values {
                *value = (*value - median).abs();
            }
            let spread = (1.4826 * self::median(&mut values)).max(MEASURES[at.1].resolution);
            (at, Scale { median, spread, groups })
        })
        .collect()
}

/// The weighted median of `(value, mass)`: the least value with half of the mass at or
/// below it.
fn median(values: &mut [(f64, f64)]) -> f64 {
    values.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
    let half = values.iter().map(|v| v.1).sum::<f64>() / 2.0;
    let mut below = 0.0;
    for (value, mass) in values.iter() {
        below += mass;
        if below >= half {
            return *value;
        }
    }
    0.0
}

/// The scale that a stratum's groups are held against.
#[must_use]
pub fn scale(scales: &Scales, stratum: &'static str, measure: usize) -> Option<Scale> {
    scales
        .get(&(stratum, measure))
        .filter(|s| s.groups >= GROUPS_MIN)
        .or_else(|| scales.get(&(ALL, measure)))
        .copied()
}

/// Scores one group.
#[must_use]
pub fn score(subject: &Subject, scales: &Scales) -> Scored {
    let mut scored = Scored::default();
    for (m, measure) in MEASURES.iter().enumerate() {
        let Some(value) = subject.measured[m] else { continue };
        let Some(scale) = scale(scales, subject.stratum, m) else { continue };
        let side = if measure.high { 1.0 } else { -1.0 };
        let deviation = side * (value - scale.median) / scale.spread;
        scored.is_explained |=
            EXPLAINS.iter().any(|&e| e as usize == m) && deviation <= DEVIATION_MIN;
        if subject.links.iter().any(|&link| measure.channel.is_spent_by(link)) {
            continue;
        }
        scored.deviations[m] = Some(deviation.clamp(DEVIATION_MIN, DEVIATION_MAX));
    }
    for (c, channel) in scored.channels.iter_mut().enumerate() {
        let of_channel: Vec<f64> = MEASURES
            .iter()
            .zip(&scored.deviations)
            .filter(|(measure, _)| measure.channel as usize == c)
            .filter_map(|(_, deviation)| *deviation)
            .collect();
        if of_channel.is_empty() {
            continue;
        }
        // Any one demand makes a demand, and power users make demands too; the other
        // channels' measures are views of one thing.
        let deviation = if c == ConfirmChannel::Demand as usize {
            of_channel.iter().copied().fold(0.0, f64::max) / 2.0
        } else {
            of_channel.iter().sum::<f64>() / of_channel.len() as f64
        };
        *channel = Some(deviation * certainty(subject.active));
    }
    // Classes, hackathons and evaluation days come in bursts: members coincide more than
    // twice as often as their rhythms explain, each with a volume of its own. A load
    // balancer that works in bursts still hands out even shares.
    let bursts = subject.measured[M::Together as usize].is_some_and(|t| t > BURSTS);
    let balanced = scored.channels[ConfirmChannel::Balance as usize].is_some_and(|d| d >= STRONG);
    scored.is_explained |= bursts && !balanced;
    // Acting together is what classes, offices and timetables do. It is told of, but
    // what it adds to a score is nothing.
    scored.score = scored
        .channels
        .iter()
        .enumerate()
        .filter(|(c, _)| *c != ConfirmChannel::Timing as usize)
        .filter_map(|(_, deviation)| *deviation)
        .sum();
    scored
}

/// Excess of coincidences, as a part of those expected, from which a group comes in
/// bursts: twice as many as expected.
const BURSTS: f64 = 1.0;

/// A group's value strays from its kind's the more the fewer members it comes from:
/// with between-group variance 1 and a within-group variance of [`WITHIN`], the part of
/// a deviation that is the group's own has standard deviation √(n / (n + WITHIN)).
fn certainty(active: usize) -> f64 {
    (active as f64 / (active as f64 + WITHIN)).sqrt()
}

/// A measure's place, for callers that read one.
#[must_use]
pub const fn at(measure: M) -> usize {
    measure as usize
}

/// A channel that stands this far out speaks for a campaign.
pub const STRONG: f64 = 2.0;

// ---- the promise -------------------------------------------------------------

/// A candidate at one look: its score, and those of its references.
#[derive(Clone, Debug)]
pub struct Look {
    pub look: usize,
    pub scored: Scored,
    /// How many reference groups there are, and their f(S) added up.
    pub references: usize,
    pub others: f64,
}

/// A candidate over all looks.
#[derive(Clone, Debug)]
pub struct Trial {
    /// Not one customer's own accounts.
    pub is_accusable: bool,
    pub looks: Vec<Look>,
}

/// What stands behind a report.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Promise {
    /// The e-value, and the false-discovery level at which e-BH reports it.
    Kept { evidence_value: f64, discovery_rate: f64 },
    /// Too few references for a promise: a rank only.
    #[default]
    TooFewReferences,
}

impl Promise {
    /// The e-value, 0 where there is none.
    #[must_use]
    pub fn value(&self) -> f64 {
        match self {
            Promise::Kept { evidence_value, .. } => *evidence_value,
            Promise::TooFewReferences => 0.0,
        }
    }
}

/// Whether a candidate is reported, why, and when it could first have been.
#[derive(Clone, Copy, Debug, Default)]
pub struct Verdict {
    pub is_reported: bool,
    pub promise: Promise,
    /// The first look at which the same rule reports it.
    pub first_look: Option<usize>,
}

/// The f of the e-value: grows with the score and is bounded, so that a reference that
/// is itself guilty makes the test more cautious but can't blind it.
#[must_use]
pub fn weight(score: f64) -> f64 {
    score.clamp(0.0, WEIGHT_SCORE_MAX).exp()
}

const WEIGHT_SCORE_MAX: f64 = 12.0;
/// Channels without which nothing is reported, whatever the sum: one can be an accident
/// of one kind of customer, two that did not link the group are hard to have by chance.
const STRONG_CHANNELS_MIN: usize = 2;
/// The score from which a group is no ordinary one. Five channels of unit variance that
/// know nothing of each other add up to a standard deviation of 2.2; this is 2.7 of them,
/// and nearly all that exceeds it by accident lacks independence or is explained.
pub const SCORE_MIN: f64 = 6.0;

/// Independence without which nothing is a harvest; it clears people and never accuses.
const INDEPENDENT: f64 = 1.0;

/// Whether a look's channels agree that this is no ordinary group and nothing explains
/// it.
#[must_use]
pub fn is_suspicious(scored: &Scored) -> bool {
    let strong = scored
        .channels
        .iter()
        .enumerate()
        .filter(|(c, _)| *c != ConfirmChannel::Timing as usize)
        .filter(|(_, deviation)| deviation.is_some_and(|d| d >= STRONG))
        .count();
    // Whoever goes on from answers is talking to the model, whatever else is odd: agents
    // whose default model moves, resellers with even volumes.
    let independent =
        scored.channels[ConfirmChannel::Independence as usize].is_some_and(|d| d >= INDEPENDENT);
    strong >= STRONG_CHANNELS_MIN
        && scored.score >= SCORE_MIN
        && independent
        && !scored.is_explained
}

/// Judges all candidates of a period.
///
/// Candidates in the order of freezing share the error budget equally. The e-value of
/// a look is (R + 1) f(S) / (f(S) + Σ f(S_r)); M is the mean over the candidate's looks;
/// the list is e-BH (Wang, Ramdas 2022) on M.
#[must_use]
pub fn judge(trials: &[Trial], level: f64) -> Vec<Verdict> {
    let accusable = trials.iter().filter(|t| t.is_accusable && !t.looks.is_empty()).count();
    let values: Vec<f64> = trials
        .iter()
        .map(|trial| {
            let planned = trial.looks.len().max(1) as f64;
            let mut sum = 0.0;
            for look in &trial.looks {
                let own = weight(look.scored.score);
                sum += (look.references + 1) as f64 * own / (own + look.others) / planned;
            }
            sum
        })
        .collect();
    // e-BH: the largest k such that k candidates have M ≥ K / (k α).
    let mut ranked: Vec<usize> = (0..trials.len())
        .filter(|&i| trials[i].is_accusable && !trials[i].looks.is_empty())
        .collect();
    ranked.sort_by(|&a, &b| values[b].total_cmp(&values[a]).then(a.cmp(&b)));
    let rate = |place: usize| {
        // The level at which the list up to this place is reported.
        accusable as f64 / ((place + 1) as f64 * values[ranked[place]].max(f64::MIN_POSITIVE))
    };
    let mut rates = vec![f64::INFINITY; trials.len()];
    let mut best = f64::INFINITY;
    for place in (0..ranked.len()).rev() {
        best = best.min(rate(place));
        rates[ranked[place]] = best;
    }
    trials
        .iter()
        .enumerate()
        .map(|(i, trial)| {
            let first_look = trial.looks.iter().find(|l| is_suspicious(&l.scored)).map(|l| l.look);
            let suspicious = trial.looks.last().is_some_and(|l| is_suspicious(&l.scored));
            let promise = if trial.is_accusable && rates[i] <= level {
                Promise::Kept { evidence_value: values[i], discovery_rate: rates[i] }
            } else {
                Promise::TooFewReferences
            };
            Verdict { is_reported: suspicious, promise, first_look }
        })
        .collect()
}

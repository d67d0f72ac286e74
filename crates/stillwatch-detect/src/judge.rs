//! Judge: a candidate's course against those of the other groups of its stratum.
//!
//! First every measure is put on one scale: how far a group's value lies from the
//! stratum's median on the suspicious side, in robust standard deviations (the median
//! absolute deviation, but never less than the measure's resolution) and standard errors.
//! The scale comes from the groups of the stratum that nothing explains, each account
//! counting once over all its groups; where a candidate's own accounts are much of them,
//! from the others. Then each channel's deviation becomes [`evidence`], in nats, and the
//! sum of what may accuse, with what corroborates it, is the score: how much more likely the
//! course is from a campaign than from innocents. Its exponential is the f of the promise's
//! e-value. How even volumes are accuses nobody alone: a second fact has to speak.

use crate::confirm::{
    CONFIRM_CHANNELS, ConfirmChannel, Estimate, Explains, M, MEASURE_COUNT, MEASURES, Measured,
    Role, Sum, Tail, WHAT, WHO,
};
use crate::link::LinkChannel;
use crate::scales::Row;
pub use crate::scales::{Scale, Scales};

/// Deviations are cut here, on either side.
pub const DEVIATION_MAX: f64 = 8.0;
/// From here on the innocent side a measure may explain a group; see [`Explains`].
const EXPLAINED: f64 = -2.0;

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
    /// Whether one customer or verified organisations stand behind it.
    pub is_known_customers: bool,
    pub links: Vec<LinkChannel>,
    pub measured: Measured,
}

/// A group on the common scale.
#[derive(Clone, Debug, Default)]
pub struct Scored {
    /// Robust deviations by measure; `None` where there was no value or the channel is
    /// spent.
    pub deviations: [Option<f64>; MEASURE_COUNT],
    /// By confirm channel, the mean of its measures' deviations.
    pub channels: [Option<f64>; CONFIRM_CHANNELS],
    /// The confirmation score S: what the channels that accuse say, added up, and what
    /// corroborates them, in nats.
    pub score: f64,
    /// A channel other than that of volumes speaks for a campaign.
    pub has_second_fact: bool,
    /// A measure shows an innocent explanation at work; see [`Explains`].
    pub is_explained: bool,
    /// It comes in bursts, which explain all but even volumes.
    pub is_burst: bool,
    /// The deviation that perfectly even volumes would have.
    pub even: f64,
    /// Members hardly ever go on from an answer.
    pub never_goes_on: bool,
    /// Members whose course it comes from.
    pub active: usize,
}

/// What a channel's deviation d says, in nats: the log of its likelihood ratio between
/// a campaign and an innocent group.
///
/// Innocent groups' deviations are spread as their [`Tail`] says. A campaign shows the habit
/// with probability `shown`, and then the deviation is anything up to the `most` that it can
/// be;
/// otherwise it looks like the innocents. So a habit that half of the campaigns have costs
/// a group without it at most ln 2.
#[must_use]
pub fn evidence(deviation: f64, shown: f64, tail: Tail, most: f64) -> f64 {
    let d = deviation.clamp(-DEVIATION_MAX, most);
    let innocent = tail.density(d, DEVIATION_MAX);
    let guilty = if d > 0.0 { 1.0 / most } else { 0.0 };
    (1.0 - shown + shown * guilty / innocent).ln()
}

/// Of campaigns, the part that shows a habit: one half, and half of those again where it
/// takes an occasion, a release or a closure, that may not come.
fn shown(channel: usize) -> f64 {
    if ConfirmChannel::ALL[channel].channel().needs_occasion { 0.25 } else { 0.5 }
}

/// Scores one group.
#[must_use]
pub fn score(subject: &Subject, scales: &Scales) -> Scored {
    let row = scales.row(subject.stratum);
    let is_burst = is_burst(subject, row);
    let mut scored = Scored {
        deviations: std::array::from_fn(|m| deviation(subject, row, m)),
        is_explained: explains(subject, row, Explains::Mostly)
            || explains(subject, row, Explains::FarOut)
            || (is_burst && explains(subject, row, Explains::InBursts)),
        is_burst,
        even: even(subject, row),
        never_goes_on: never_goes_on(subject),
        active: subject.active,
        ..Scored::default()
    };
    for (c, channel) in scored.channels.iter_mut().enumerate() {
        *channel = channel_deviation(c, |m| scored.deviations[m]);
    }
    let of = |role: Role| {
        (0..CONFIRM_CHANNELS)
            .filter(|&c| ConfirmChannel::ALL[c].channel().role == role)
            .filter_map(|c| said(subject, &scored, c))
            .sum::<f64>()
    };
    let accused = of(Role::Accuses);
    // Classes and hackathons come in bursts and are tied: what only corroborates can speak
    // against such a group, and be the second fact, but adds nothing to how even it is.
    let bound = if scored.is_burst { 0.0 } else { accused.max(0.0) };
    let score = accused + of(Role::Corroborates).min(bound);
    scored.has_second_fact = (0..CONFIRM_CHANNELS).any(|c| {
        ConfirmChannel::ALL[c] != ConfirmChannel::Balance
            && ConfirmChannel::ALL[c].channel().role != Role::Clears
            && said(subject, &scored, c).is_some()
            && scored.channels[c].is_some_and(|d| d >= STRONG)
    });
    scored.score = score;
    scored
}

/// How far a measure lies from its scale on the suspicious side; `None` where there is no
/// value, or the channel is spent.
fn deviation(subject: &Subject, row: &Row, m: usize) -> Option<f64> {
    let Estimate { value, error, chance } = subject.measured[m]?;
    let scale = row[m]?;
    let measure = &MEASURES[m];
    if subject.links.iter().any(|&link| measure.id.channel().is_spent_by(link)) {
        return None;
    }
    // What two ties have gathered is not confirmed by them.
    let is_by = |family: &[LinkChannel]| subject.links.iter().any(|link| family.contains(link));
    if measure.id as usize == M::Ties as usize && is_by(&WHO) && is_by(&WHAT) {
        return None;
    }
    let side = if measure.high { 1.0 } else { -1.0 };
    let error = match measure.tail {
        Tail::Heavy => error,
        // Of the spread s of what is counted it is `error` times s, and of what is beyond
        // chance, v² = s² - c, s / v times that.
        Tail::Light => {
            let ordinary = scale.median.max(value).max(measure.resolution);
            error * (ordinary * ordinary + chance) / ordinary
        }
    };
    let deviation = side * (value - scale.median) / scale.spread.hypot(error);
    Some(deviation.clamp(-DEVIATION_MAX, DEVIATION_MAX))
}

/// How far a group of perfectly even volumes would lie out.
fn even(subject: &Subject, row: &Row) -> f64 {
    let mut even = Subject { measured: [None; MEASURE_COUNT], ..subject.clone() };
    even.measured[M::Spread as usize] =
        subject.measured[M::Spread as usize].map(|spread| Estimate { value: 0.0, ..spread });
    deviation(&even, row, M::Spread as usize).map_or(DEVIATION_MAX, |most| most.max(1.0))
}

/// A channel's deviation from those of its measures.
fn channel_deviation(channel: usize, deviations: impl Fn(usize) -> Option<f64>) -> Option<f64> {
    let mut weights = 0.0;
    let mut sum = 0.0;
    let mut most = 0.0f64;
    let channel = ConfirmChannel::ALL[channel].channel();
    for measure in channel.measures {
        if let Some(deviation) = deviations(measure.id as usize) {
            weights += measure.weight;
            sum += measure.weight * deviation;
            most = most.max(deviation);
        }
    }
    (weights > 0.0).then(|| match channel.sum {
        Sum::Mean | Sum::Corroborated => sum / weights,
        Sum::HalfTheMost => most / 2.0,
    })
}

/// Whether a measure shows an innocent explanation at work, of all or of some of what a
/// group does; see [`Explains`]. Looks at the scales of those measures only that
/// [`may_explain`].
pub(crate) fn is_explained(subject: &Subject, row: &Row) -> bool {
    explains(subject, row, Explains::Mostly)
        || explains(subject, row, Explains::FarOut)
        || is_burst(subject, row)
}

fn explains(subject: &Subject, row: &Row, how: Explains) -> bool {
    let explaining = MEASURES.iter().enumerate().filter(|(_, m)| m.explains.contains(&how));
    explaining.filter_map(|(m, measure)| Some((measure, subject.measured[m]?.value, row[m]))).any(
        |(measure, value, scale)| {
            let side = if measure.high { 1.0 } else { -1.0 };
            let lies = |far: f64| {
                scale.is_some_and(|s: Scale| side * (value - s.median) <= far * s.spread)
            };
            match how {
                Explains::Mostly => value > 0.5,
                Explains::FarOut | Explains::Burst => lies(EXPLAINED),
                Explains::InBursts => lies(-1.0),
            }
        },
    )
}

/// Whether a group comes in bursts.
fn is_burst(subject: &Subject, row: &Row) -> bool {
    explains(subject, row, Explains::Burst)
        || subject.measured[M::Together as usize].is_some_and(|t| t.value > BURSTS)
        || deviation(subject, row, M::Together as usize).is_some_and(|d| d >= FAR)
}

/// Whether it depends on a measure's scale if something explains a group.
pub(crate) fn may_explain(m: usize) -> bool {
    m == M::Together as usize || MEASURES[m].explains.iter().any(|how| *how != Explains::Mostly)
}

/// What a channel says of a group, in nats: its deviation's [`evidence`], or where its
/// measures are of two kinds, what the first say and what the others add to it. One
/// customer's machines are alike in everything, and then nothing is added.
///
/// Classes, hackathons and evaluation days come in bursts, and evaluation teams burst onto a
/// new model on the day of its release; but each account has a volume of its own. A load
/// balancer that works in bursts still hands out even shares. So of a group in bursts only
/// how even it is says anything.
fn said(subject: &Subject, scored: &Scored, channel: usize) -> Option<f64> {
    if scored.is_burst {
        let spread = scored.deviations[M::Spread as usize];
        let is_balance = channel == ConfirmChannel::Balance as usize;
        if is_balance {
            return spread.map(|d| evidence(d, shown(channel), Tail::Light, scored.even));
        }
        if !ConfirmChannel::ALL[channel].channel().lasts {
            return None;
        }
    }
    let whole = evidence(scored.channels[channel]?, shown(channel), Tail::Heavy, DEVIATION_MAX);
    let sum = ConfirmChannel::ALL[channel].channel().sum;
    if sum != Sum::Corroborated || subject.is_known_customers {
        return Some(whole);
    }
    let of = |corroborates: bool| {
        let measures = MEASURES.iter().zip(&scored.deviations);
        measures
            .filter(|(measure, _)| measure.id.channel() as usize == channel)
            .filter(|(measure, _)| measure.corroborates == corroborates)
            .filter_map(|(measure, d)| {
                let most = match measure.tail {
                    Tail::Heavy => DEVIATION_MAX,
                    Tail::Light => scored.even,
                };
                Some(measure.weight * evidence((*d)?, shown(channel), measure.tail, most))
            })
            .sum::<f64>()
    };
    let own = of(false);
    Some(own + of(true).min(own.max(0.0)))
}

/// Excess of coincidences, as a part of those expected, from which a group comes in
/// bursts: twice as many as expected.
const BURSTS: f64 = 1.0;
/// Deviations from which a group lies far out in a measure, whatever its value.
const FAR: f64 = 4.0;

/// A channel that stands this far out speaks for a campaign.
pub const STRONG: f64 = 2.0;

// ---- the promise -------------------------------------------------------------

/// A candidate at one look: its score, and those of its references.
#[derive(Clone, Debug)]
pub struct Look {
    pub look: usize,
    pub scored: Scored,
    /// How many reference groups there are, and their [`weight`] added up.
    pub references: usize,
    pub others: f64,
}

/// A candidate over all looks.
#[derive(Clone, Debug)]
pub struct Trial {
    /// Its share γ of the error budget, fixed when it was frozen; 0 where nobody is to be
    /// accused. All candidates' together are at most 1.
    pub budget: f64,
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

/// The f of the e-value. The score is a log-likelihood ratio, this is the ratio; 0 for a
/// group that is explained or goes on from answers, since nothing else it does accuses it.
/// Bounded where evidence is called decisive (Jeffreys 1961, appendix B): a reference that
/// is itself guilty makes the test more cautious but can't blind it.
#[must_use]
pub fn weight(scored: &Scored) -> f64 {
    if scored.is_explained || !is_independent(scored) || !scored.has_second_fact {
        return 0.0;
    }
    scored.score.exp().min(WEIGHT_MAX)
}

const WEIGHT_MAX: f64 = 100.0;
/// The score from which a group that nothing explains is no ordinary one: ten times as
/// likely from a campaign as from innocents, where evidence begins to be called strong
/// (Jeffreys 1961, «Theory of probability», appendix B).
pub const SCORE_MIN: f64 = core::f64::consts::LN_10;
/// Members on whose course an accusation must rest, and without which nobody is accused:
/// fewer may be a customer's few accounts, and take little.
pub const ACCUSED_MIN: usize = 20;
/// Independence without which nothing is a harvest; it clears people and never accuses.
const INDEPENDENT: f64 = 1.5;

/// Whether a look's channels agree that this is no ordinary group and nothing explains
/// it.
#[must_use]
pub fn is_suspicious(scored: &Scored) -> bool {
    scored.active >= ACCUSED_MIN && is_odd(scored)
}

/// The same, however few the members are.
#[must_use]
pub fn is_odd(scored: &Scored) -> bool {
    scored.score >= SCORE_MIN
        && scored.has_second_fact
        && is_independent(scored)
        && !scored.is_explained
}

/// Whoever goes on from answers is talking to the model, whatever else is odd: agents
/// whose default model moves, resellers with even volumes. Conversations that know no night
/// may be made up: but resellers have customers all over the world, so that then a further
/// fact has to speak, and who goes on far more than others do is talking.
fn is_independent(scored: &Scored) -> bool {
    let stands_out = |c: ConfirmChannel, least: f64| {
        scored.channels[c as usize].is_some_and(|deviation| deviation >= least)
    };
    let is_made_up = || {
        !scored.is_burst
            && scored.deviations[M::FollowUps as usize].is_none_or(|d| d > EXPLAINED)
            && stands_out(ConfirmChannel::Rhythm, STRONG)
            && [ConfirmChannel::Ties, ConfirmChannel::Demand, ConfirmChannel::Pivot]
                .iter()
                .any(|&c| stands_out(c, STRONG))
    };
    scored.never_goes_on || stands_out(ConfirmChannel::Independence, INDEPENDENT) || is_made_up()
}

/// Whether a group's members hardly ever go on from an answer, whatever ordinary groups of
/// its kind do: where these are machines it does not stand out among them.
fn never_goes_on(subject: &Subject) -> bool {
    let is_none = |m: M| {
        subject.measured[m as usize]
            .map(|e| e.value - 2.0 * e.error <= MEASURES[m as usize].resolution)
    };
    is_none(M::FollowUps) == Some(true) && is_none(M::Thread) != Some(false)
}

/// Shares of the error budget for candidates that are frozen at one time: the more one
/// looks like a harvest by then, the more. `None` gets nothing. What was known before the
/// freezing may choose where to look; it is no part of the e-value.
#[must_use]
pub fn budgets(known: &[Option<Subject>]) -> Vec<f64> {
    let scales = Scales::of(known.iter().flatten());
    let expected: Vec<f64> = known
        .iter()
        .map(|subject| {
            let Some(subject) = subject else { return 0.0 };
            let scored = score(subject, &scales);
            (0..CONFIRM_CHANNELS).filter_map(|c| said(subject, &scored, c)).sum::<f64>().exp()
        })
        .collect();
    let all: f64 = expected.iter().sum();
    expected.into_iter().map(|e| if all > 0.0 { e / all } else { 0.0 }).collect()
}

/// Judges all candidates of a period.
///
/// The e-value of a look is (R + 1) f(S) / (f(S) + Σ f(S_r)); M is the mean over the
/// candidate's looks; the list is e-BH (Wang, Ramdas 2022) on M, each candidate weighed by
/// its share of the error budget.
#[must_use]
pub fn judge(trials: &[Trial], level: f64) -> Vec<Verdict> {
    let values: Vec<f64> = trials
        .iter()
        .map(|trial| {
            let planned = trial.looks.len().max(1) as f64;
            let mut sum = 0.0;
            for look in &trial.looks {
                let own = weight(&look.scored);
                if own > 0.0 {
                    sum += (look.references + 1) as f64 * own / (own + look.others) / planned;
                }
            }
            sum
        })
        .collect();
    // e-BH: the largest k such that k candidates have M ≥ 1 / (k α γ).
    let weighed = |i: usize| values[i] * trials[i].budget;
    let mut ranked: Vec<usize> = (0..trials.len()).filter(|&i| weighed(i) > 0.0).collect();
    ranked.sort_by(|&a, &b| weighed(b).total_cmp(&weighed(a)).then(a.cmp(&b)));
    // The level at which the list up to this place is reported.
    let rate = |place: usize| 1.0 / ((place + 1) as f64 * weighed(ranked[place]));
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
            let promise = if rates[i] <= level {
                Promise::Kept { evidence_value: values[i], discovery_rate: rates[i] }
            } else {
                Promise::TooFewReferences
            };
            Verdict { is_reported: suspicious, promise, first_look }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::confirm::Measured;

    fn group(measures: &[(M, f64)]) -> Subject {
        let mut measured: Measured = [None; MEASURE_COUNT];
        for &(m, value) in measures {
            measured[m as usize] = Some(Estimate { value, error: 0.01, ..Estimate::default() });
        }
        Subject {
            stratum: "client",
            mass: 1.0,
            active: 60,
            is_known_customers: false,
            links: vec![LinkChannel::Client],
            measured,
        }
    }

    /// Twenty groups of people, none like the other.
    fn crowd() -> Vec<Subject> {
        (0..20)
            .map(|i| {
                let stray = f64::from(i % 5) / 10.0;
                group(&[
                    (M::Spread, 1.4 + stray),
                    (M::Drift, 0.8 + stray),
                    (M::FollowUps, 0.5 + stray / 2.0),
                    (M::Clock, 0.05),
                    (M::Moved, stray / 10.0),
                    (M::Quiet, 0.05 + stray / 4.0),
                ])
            })
            .collect()
    }

    const HARVEST: [(M, f64); 6] = [
        (M::Spread, 0.1),
        (M::Drift, 0.1),
        (M::FollowUps, 0.0),
        (M::Clock, 0.05),
        (M::Moved, 0.02),
        (M::Quiet, 0.33),
    ];

    fn scored(of: &[(M, f64)]) -> Scored {
        let mut all = crowd();
        all.push(group(of));
        score(all.last().unwrap(), &Scales::of(&all))
    }

    #[test]
    fn evidence_grows_and_absence_costs_little() {
        for (tail, most) in [(Tail::Heavy, DEVIATION_MAX), (Tail::Light, 5.0)] {
            let evidence = |d: f64| evidence(d, 0.5, tail, most);
            let d: Vec<f64> = (-10..=10).map(|d| evidence(f64::from(d))).collect();
            assert!(d.windows(2).all(|w| w[0] <= w[1] + 1e-12 || w[1] < 0.0), "{d:?}");
            assert!(evidence(-100.0) >= -core::f64::consts::LN_2 - 1e-12);
            assert!(evidence(0.0) < 0.0 && evidence(3.0) > 1.0);
            assert_eq!(evidence(100.0), evidence(most));
        }
        // One odd group in a hundred bounds what evenness can say.
        assert!(evidence(DEVIATION_MAX, 0.5, Tail::Light, DEVIATION_MAX) < 101f64.ln());
    }

    #[test]
    fn even_volumes_without_conversations_are_suspicious() {
        assert!(is_suspicious(&scored(&HARVEST)));
        for subject in crowd() {
            let all = crowd();
            assert!(!is_suspicious(&score(&subject, &Scales::of(&all))));
        }
    }

    #[test]
    fn even_volumes_alone_accuse_nobody() {
        let tenants = scored(&HARVEST[..5]);
        assert!(tenants.score >= SCORE_MIN && !is_suspicious(&tenants));
        assert_eq!(weight(&tenants), 0.0);
        // People behind an application rest at night, which speaks against a campaign.
        let mut by_day = HARVEST;
        by_day[5] = (M::Quiet, 0.02);
        assert!(scored(&by_day).score < tenants.score);
        // A second fact of any kind will do.
        for second in [(M::Ties, 1.0), (M::Moved, 0.9), (M::Reasoning, 1.0)] {
            let mut of = HARVEST[..5].to_vec();
            of.push(second);
            let mut all = crowd();
            all.iter_mut().for_each(|g| {
                g.links = vec![LinkChannel::Network];
                for m in [M::Ties, M::Reasoning] {
                    g.measured[m as usize] =
                        Some(Estimate { value: 0.0, error: 0.01, ..Estimate::default() });
                }
            });
            let mut harvest = group(&of);
            harvest.links = vec![LinkChannel::Network];
            all.push(harvest);
            let scored = score(all.last().unwrap(), &Scales::of(&all));
            assert!(is_suspicious(&scored), "{second:?}: {scored:?}");
        }
    }

    #[test]
    fn what_corroborates_adds_at_most_as_much_as_what_accuses() {
        let mut of = HARVEST;
        let with = |of: &[(M, f64)]| scored(of).score;
        of[0] = (M::Spread, 1.6);
        assert!(with(&of) <= 0.0, "machines of all sizes work at night");
        assert!(with(&HARVEST) <= 2.0 * with(&HARVEST[..5]) + 1e-12);
        assert!(with(&HARVEST) > with(&HARVEST[..5]));
    }

    #[test]
    fn two_ties_that_gathered_a_group_do_not_confirm_it() {
        let mut tied = group(&HARVEST);
        tied.measured[M::Ties as usize] =
            Some(Estimate { value: 1.0, error: 0.01, ..Estimate::default() });
        let mut all = crowd();
        all.iter_mut().for_each(|g| {
            g.measured[M::Ties as usize] =
                Some(Estimate { value: 0.0, error: 0.01, ..Estimate::default() });
        });
        for (links, says) in [
            (vec![LinkChannel::Client], true),
            (vec![LinkChannel::Birth], true),
            (vec![LinkChannel::Birth, LinkChannel::Client], false),
        ] {
            tied.links = links.clone();
            let scored = score(&tied, &Scales::of(&all));
            assert_eq!(scored.deviations[M::Ties as usize].is_some(), says, "{links:?}");
        }
    }

    #[test]
    fn steadiness_corroborates_and_never_carries() {
        let with = |spread: f64, drift: f64| {
            let mut of = HARVEST.to_vec();
            of[0] = (M::Spread, spread);
            of[1] = (M::Drift, drift);
            scored(&of).score
        };
        let (equal, ordinary) = (0.9, 1.6);
        assert!(with(equal, 0.1) > with(equal, 1.0), "it adds to what equality says");
        assert!(with(ordinary, 0.1) <= 0.0, "steady machines of all sizes");
        let mut firm = group(&HARVEST);
        let mut all = crowd();
        all.push(firm.clone());
        let hidden = score(&firm, &Scales::of(&all)).score;
        firm.is_known_customers = true;
        assert!(score(&firm, &Scales::of(&all)).score < hidden);
    }

    #[test]
    fn who_goes_on_from_answers_is_no_harvest() {
        let mut people = HARVEST;
        people[2] = (M::FollowUps, 0.6);
        assert!(!is_suspicious(&scored(&people)));
    }

    #[test]
    fn what_explains_a_group_clears_it() {
        for explanation in [(M::Clock, 0.9), (M::Own, 0.9)] {
            let mut automations = HARVEST.to_vec();
            automations.push(explanation);
            let scored = scored(&automations);
            assert!(scored.is_explained && !is_suspicious(&scored), "{explanation:?}");
        }
    }

    #[test]
    fn what_linked_a_group_does_not_confirm_it() {
        let mut subject = group(&HARVEST);
        subject.links = vec![LinkChannel::Habit];
        let mut all = crowd();
        all.push(subject.clone());
        let scored = score(&subject, &Scales::of(&all));
        assert_eq!(scored.channels[ConfirmChannel::Balance as usize], None);
        assert!(!is_suspicious(&scored));
    }

    #[test]
    fn nobody_is_accused_on_the_course_of_a_few() {
        let mut few = group(&HARVEST);
        few.active = ACCUSED_MIN - 1;
        let mut all = crowd();
        all.push(few.clone());
        assert!(!is_suspicious(&score(&few, &Scales::of(&all))));
    }

    #[test]
    fn bursts_explain_all_but_even_volumes() {
        let mut day = HARVEST.to_vec();
        day[0] = (M::Spread, 1.4);
        day[1] = (M::Drift, 0.8);
        day[4] = (M::Moved, 0.9);
        assert!(is_suspicious(&scored(&day)));
        for burst in [(M::Together, 3.0), (M::Drift, 3.0)] {
            let mut day = day.clone();
            day.push(burst);
            assert!(!is_suspicious(&scored(&day)), "an evaluation day: {burst:?}");
            day[0] = (M::Spread, 0.1);
            assert!(!is_suspicious(&scored(&day)), "its hours say nothing then: {burst:?}");
            // What accounts are goes on saying what it says.
            day.push((M::Ties, 1.0));
            let mut all = crowd();
            all.iter_mut().for_each(|g| {
                g.measured[M::Ties as usize] =
                    Some(Estimate { value: 0.0, error: 0.01, ..Estimate::default() });
            });
            all.push(group(&day));
            let hurry = score(all.last().unwrap(), &Scales::of(&all));
            assert!(is_suspicious(&hurry), "a balancer in a hurry: {burst:?}");
            // Classes are tied too, so that it adds nothing.
            let even = day.iter().filter(|of| of.0 != M::Ties).copied().collect::<Vec<_>>();
            assert!((hurry.score - scored(&even).score).abs() < 1e-9, "{burst:?}");
            // And they ask what others ask, if only now and then.
            let with = |repeats: f64| {
                let mut all = all.clone();
                let asked = |value| Some(Estimate { value, ..Estimate::default() });
                all.iter_mut().for_each(|g| g.measured[M::Repeats as usize] = asked(0.01));
                all.last_mut().unwrap().measured[M::Repeats as usize] = asked(repeats);
                is_suspicious(&score(all.last().unwrap(), &Scales::of(&all)))
            };
            assert!(with(0.01) && !with(0.08), "a class: {burst:?}");
        }
    }

    #[test]
    fn conversations_that_may_be_made_up_are_no_longer_than_others() {
        let with = |follow_ups: f64| {
            let mut all = crowd();
            let mut resale = group(&HARVEST);
            resale.measured[M::FollowUps as usize] =
                Some(Estimate { value: follow_ups, error: 0.01, ..Estimate::default() });
            resale.measured[M::Ties as usize] =
                Some(Estimate { value: 1.0, error: 0.01, ..Estimate::default() });
            all.iter_mut().for_each(|g| {
                g.measured[M::Ties as usize] = Some(Estimate { value: 0.0, ..Estimate::default() });
            });
            all.push(resale);
            let scored = score(all.last().unwrap(), &Scales::of(&all));
            assert!(scored.score >= SCORE_MIN && scored.has_second_fact, "{scored:?}");
            is_suspicious(&scored)
        };
        assert!(with(0.6));
        assert!(!with(1.3), "who goes on far more than others is talking");
    }

    #[test]
    fn evenness_of_few_exchanges_is_hardly_known() {
        let with = |chance: f64| {
            let mut all = crowd();
            let mut few = group(&HARVEST[..5]);
            let error = 0.96 / 12f64.sqrt();
            few.measured[M::Spread as usize] = Some(Estimate { value: 0.1, error, chance });
            all.push(few.clone());
            score(&few, &Scales::of(&all)).score
        };
        let scores = [0.02, 0.1, 0.5, 1.0, 4.0].map(with);
        assert!(scores.is_sorted_by(|a, b| a > b), "{scores:?}");
        assert!(scores[0] > SCORE_MIN && scores[4] < SCORE_MIN, "{scores:?}");
    }

    #[test]
    fn among_machines_a_harvest_does_not_stand_out_by_its_questions() {
        let machines = |m: &mut Subject| {
            m.measured[M::FollowUps as usize] =
                Some(Estimate { value: 0.01, error: 0.01, ..Estimate::default() });
        };
        let mut all = crowd();
        all.iter_mut().for_each(machines);
        all.push(group(&HARVEST));
        let scored = score(all.last().unwrap(), &Scales::of(&all));
        let independence = scored.channels[ConfirmChannel::Independence as usize];
        assert!(independence.is_some_and(|d| d < INDEPENDENT) && is_suspicious(&scored));
    }

    #[test]
    fn how_even_a_few_customers_are_says_little() {
        let with = |error: f64| {
            let mut all = crowd();
            let mut few = group(&HARVEST[..5]);
            few.measured[M::Spread as usize] = Some(Estimate { value: 0.1, error, chance: 0.0 });
            all.push(few.clone());
            score(&few, &Scales::of(&all)).score
        };
        assert!(with(0.96 / 80f64.sqrt()) > SCORE_MIN);
        assert!(with(0.96 / 2f64.sqrt()) < SCORE_MIN, "their own evenness is no measure of it");
    }

    #[test]
    fn a_few_members_say_less() {
        let mut few = group(&HARVEST);
        for estimate in few.measured.iter_mut().flatten() {
            estimate.error = 1.0;
        }
        let mut all = crowd();
        all.push(group(&HARVEST));
        let scales = Scales::of(&all);
        assert!(score(&few, &scales).score < score(all.last().unwrap(), &scales).score);
    }

    #[test]
    fn the_promise_needs_references() {
        let trial = |score: f64, references: usize, others: f64| {
            let mut channels = [None; CONFIRM_CHANNELS];
            channels[ConfirmChannel::Independence as usize] = Some(INDEPENDENT);
            Trial {
                budget: 0.05,
                looks: vec![Look {
                    look: 4,
                    scored: Scored {
                        score,
                        channels,
                        active: 60,
                        has_second_fact: true,
                        ..Scored::default()
                    },
                    references,
                    others,
                }],
            }
        };
        // 20 trials at 0.05 need an e-value of 400 for one, which 99 references can't
        // give and 999 can.
        for (references, is_kept) in [(99, false), (999, true)] {
            let mut trials: Vec<Trial> =
                (0..19).map(|_| trial(-2.0, references, references as f64 * 0.1)).collect();
            trials.push(trial(12.0, references, references as f64 * 0.1));
            let kept = |trials: &[Trial]| judge(trials, 0.05).pop().unwrap().promise;
            let promise = kept(&trials);
            assert_eq!(matches!(promise, Promise::Kept { .. }), is_kept, "{references}");
            assert_eq!(judge(&trials, 0.05)[0].promise, Promise::TooFewReferences);
            // Whoever has even volumes and nothing else, goes on from answers, or has no budget
            // gets none.
            trials[19].looks[0].scored.has_second_fact = false;
            assert_eq!(kept(&trials), Promise::TooFewReferences);
            trials[19].looks[0].scored.has_second_fact = true;
            let looks = trials[19].looks.clone();
            trials[19].looks[0].scored.channels = [None; CONFIRM_CHANNELS];
            assert_eq!(kept(&trials), Promise::TooFewReferences);
            trials[19] = Trial { budget: 0.0, looks };
            assert_eq!(kept(&trials), Promise::TooFewReferences);
        }
    }

    #[test]
    fn the_budget_goes_where_a_harvest_is_likely() {
        let mut known: Vec<Option<Subject>> = crowd().into_iter().map(Some).collect();
        known.push(None);
        known.push(Some(group(&HARVEST)));
        let budgets = budgets(&known);
        assert!((budgets.iter().sum::<f64>() - 1.0).abs() < 1e-9);
        assert_eq!(budgets[20], 0.0);
        assert!(budgets[21] > 0.5, "{budgets:?}");
    }
}

//! Find: all stages from profiles to judged campaigns, at every freezing.

use std::collections::{BTreeMap, BTreeSet};

use hashbrown::{HashMap, HashSet};
use stillwatch_exchange::{CampaignKind, Time};

use crate::calendar::EPOCHS;
use crate::confirm::{
    self, ACTIVE_MIN, Crowd, Features, M, MEASURE_COUNT, View, Window, active_members,
};
use crate::gather::{Candidate, gather};
use crate::judge::{self, Promise, Scale, Scored, Subject};
use crate::link::link;
use crate::population::{Organization, Population};
use crate::signature::{HarvestSignature, Membership, Values, extend};

/// What the caller decides.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// The false-discovery level α of the list of findings.
    pub level: f64,
}

/// A stage of finding, for progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Link,
    Confirm,
    Judge,
}

/// One candidate at one freezing, judged.
#[derive(Clone, Debug)]
pub struct Group {
    pub candidate: Candidate,
    pub freeze: usize,
    /// The score at the last look.
    pub score: f64,
    /// Members active after the freezing.
    pub active: usize,
    /// Belongs to one customer: a reference, never accused of hiding.
    pub is_known_customers: bool,
    /// Place in [`Found::findings`].
    pub finding: Option<usize>,
}

/// A measure of a finding that speaks against it.
#[derive(Clone, Debug)]
pub struct Spoken {
    pub measure: usize,
    pub value: f64,
    pub deviation: f64,
    pub scale: Scale,
    /// The same measure of the reference groups.
    pub references: Vec<f64>,
}

/// A reported campaign.
#[derive(Clone, Debug)]
pub struct Finding {
    pub kind: CampaignKind,
    /// The frozen groups behind it, as places in [`Found::groups`], gravest first.
    pub groups: Vec<usize>,
    pub members: Vec<Membership>,
    pub harvest: HarvestSignature,
    pub promise: Promise,
    pub strata: Vec<&'static str>,
    pub references: usize,
    /// Among all candidates, gravest = 1.
    pub rank: usize,
    pub guilty_members_at_least: usize,
    pub first_detectable: Time,
    pub frozen_at: Time,
    pub spoken: Vec<Spoken>,
    pub score: f64,
}

/// What was found, and among what.
#[derive(Clone, Debug, Default)]
pub struct Found {
    pub findings: Vec<Finding>,
    pub groups: Vec<Group>,
}

/// The confidence of [`Finding::guilty_members_at_least`].
pub const GUILTY_LEVEL: f64 = 0.95;

struct Course {
    candidate: Candidate,
    freeze: usize,
    is_known_customers: bool,
    is_verified: bool,
    /// By look: what was measured, and how it scored.
    looks: Vec<(usize, Subject, Scored, usize)>,
}

/// Finds the campaigns of a population. `progress` is told how far a step is and may
/// stop the run by returning `false`; then what was found so far is dropped.
pub fn find(
    population: &Population,
    settings: &Settings,
    progress: &mut dyn FnMut(Step, usize, usize) -> bool,
) -> Option<Found> {
    let accounts = population.members().len();
    let mut courses: Vec<Course> = Vec::new();
    let mut scales_of: BTreeMap<(usize, usize), judge::Scales> = BTreeMap::new();
    let windows = Window::all().count();
    let mut measured = 0;
    for freeze in 1..EPOCHS {
        if !progress(Step::Link, freeze - 1, EPOCHS - 1) {
            return None;
        }
        let links = link(population, freeze);
        let candidates = gather(&links, accounts);
        let start = courses.len();
        courses.extend(candidates.into_iter().map(|candidate| {
            let customer = known_customers(population, &candidate.members);
            Course {
                candidate,
                freeze,
                is_known_customers: customer.is_some(),
                is_verified: customer == Some(true),
                looks: Vec::new(),
            }
        }));
        for look in freeze + 1..=EPOCHS {
            let window = Window { freeze, look };
            let mut wanted: Vec<bool> = vec![false; accounts];
            for course in &courses[start..] {
                for &m in &course.candidate.members {
                    wanted[m as usize] = true;
                }
            }
            let features: Vec<Features> = population
                .members()
                .iter()
                .zip(&wanted)
                .map(
                    |(member, &w)| {
                        if w { Features::of(member, window) } else { Features::default() }
                    },
                )
                .collect();
            let crowd = Crowd::of(population, window);
            let masses = masses(&courses[start..], accounts);
            let subjects: Vec<(Subject, usize)> = courses[start..]
                .iter()
                .zip(masses)
                .map(|(course, mass)| {
                    let active = active_members(population, &features, &course.candidate.members);
                    let view =
                        View { population, crowd: &crowd, features: &features, members: &active };
                    let subject = Subject {
                        stratum: course.candidate.stratum(),
                        mass,
                        active: active.len(),
                        links: course.candidate.channels.clone(),
                        measured: confirm::measure(&view),
                    };
                    (subject, active.len())
                })
                .collect();
            let all: Vec<Subject> = subjects.iter().map(|s| s.0.clone()).collect();
            let scales = judge::scales(&all);
            for (course, (subject, active)) in courses[start..].iter_mut().zip(subjects) {
                if active >= ACTIVE_MIN {
                    let scored = judge::score(&subject, &scales);
                    course.looks.push((look, subject, scored, active));
                }
            }
            scales_of.insert((freeze, look), scales);
            measured += 1;
            if !progress(Step::Confirm, measured, windows) {
                return None;
            }
        }
    }
    if !progress(Step::Judge, 0, 1) {
        return None;
    }
    let found = report(population, settings, &courses, &scales_of);
    progress(Step::Judge, 1, 1).then_some(found)
}

/// The accounts that each group stands for; see [`Subject::mass`].
fn masses(courses: &[Course], accounts: usize) -> Vec<f64> {
    let mut groups_of: Vec<u32> = vec![0; accounts];
    for course in courses {
        for &m in &course.candidate.members {
            groups_of[m as usize] += 1;
        }
    }
    courses
        .iter()
        .map(|c| c.candidate.members.iter().map(|&m| 1.0 / f64::from(groups_of[m as usize])).sum())
        .collect()
}

/// Whether a group is explained by who its accounts belong to: nearly all to one
/// customer, or most to organisations that the provider has verified. `Some` says
/// whether they are verified.
fn known_customers(population: &Population, members: &[u32]) -> Option<bool> {
    let mut of: HashMap<Organization<'_>, usize> = HashMap::new();
    let mut verified = 0;
    for &m in members {
        let member = &population.members()[m as usize];
        verified += usize::from(member.is_verified_organization());
        if let Some(organization) = member.organization() {
            *of.entry(organization).or_default() += 1;
        }
    }
    let is_verified = verified as f64 >= VERIFIED * members.len() as f64;
    let is_one = of.values().any(|&count| count as f64 >= ONE_CUSTOMER * members.len() as f64);
    (is_one || is_verified).then_some(is_one && is_verified)
}

/// The part of a group that one customer must hold to be the explanation of it.
const ONE_CUSTOMER: f64 = 0.8;
/// The part of a group that verified organisations must hold to be no hidden campaign.
const VERIFIED: f64 = 0.5;
/// Members without which nobody is accused: fewer may be a customer's few accounts, and
/// take little.
pub const ACCUSED_MIN: usize = 20;
/// A reported group with more than this part of its members in graver findings is not
/// another campaign.
const ONE_CAMPAIGN: f64 = 0.5;

fn report(
    population: &Population,
    settings: &Settings,
    courses: &[Course],
    scales_of: &BTreeMap<(usize, usize), judge::Scales>,
) -> Found {
    // Every candidate beside the other groups of its stratum at the same freezing.
    let mut strata: BTreeMap<(&str, usize, usize), (usize, f64)> = BTreeMap::new();
    for course in courses {
        for (look, subject, scored, _) in &course.looks {
            let all = strata.entry((subject.stratum, course.freeze, *look)).or_default();
            all.0 += 1;
            all.1 += judge::weight(scored.score);
        }
    }
    let trials: Vec<judge::Trial> = courses
        .iter()
        .map(|course| judge::Trial {
            is_accusable: !course.is_known_customers,
            looks: course
                .looks
                .iter()
                .map(|(look, subject, scored, _)| {
                    let all = strata[&(subject.stratum, course.freeze, *look)];
                    judge::Look {
                        look: *look,
                        scored: scored.clone(),
                        references: all.0 - 1,
                        others: (all.1 - judge::weight(scored.score)).max(0.0),
                    }
                })
                .collect(),
        })
        .collect();
    let verdicts = judge::judge(&trials, settings.level);

    let mut order: Vec<usize> =
        (0..courses.len()).filter(|&i| !courses[i].looks.is_empty()).collect();
    let final_score = |i: usize| courses[i].looks.last().map_or(f64::MIN, |l| l.2.score);
    order.sort_by(|&a, &b| {
        final_score(b)
            .total_cmp(&final_score(a))
            .then(courses[b].candidate.members.len().cmp(&courses[a].candidate.members.len()))
            .then(courses[a].freeze.cmp(&courses[b].freeze))
            .then(a.cmp(&b))
    });
    let rank_of: HashMap<usize, usize> =
        order.iter().enumerate().map(|(r, &i)| (i, r + 1)).collect();

    let mut groups: Vec<Group> = courses
        .iter()
        .enumerate()
        .map(|(i, course)| Group {
            candidate: course.candidate.clone(),
            freeze: course.freeze,
            score: if course.looks.is_empty() { 0.0 } else { final_score(i) },
            active: course.looks.last().map_or(0, |l| l.3),
            is_known_customers: course.is_known_customers,
            finding: None,
        })
        .collect();

    let values = Values::of(population);
    struct Draft {
        groups: Vec<usize>,
        members: Vec<Membership>,
        accounts: HashSet<u32>,
        is_open: bool,
    }
    let mut drafts: Vec<Draft> = Vec::new();
    for &i in order.iter().filter(|&&i| verdicts[i].is_reported) {
        let course = &courses[i];
        // One customer's accounts hide nothing; of those only the verified are told of.
        // And balanced volumes at all hours are what any large service has: an open
        // harvest must also ask its questions without going on from an answer.
        let independent = course
            .looks
            .last()
            .and_then(|l| l.2.channels[crate::confirm::ConfirmChannel::Independence as usize]);
        if course.is_known_customers
            && !(course.is_verified && independent.is_some_and(|d| d >= judge::STRONG))
        {
            continue;
        }
        let members = if course.is_known_customers {
            course
                .candidate
                .members
                .iter()
                .map(|&account| Membership { account, membership: 1.0 })
                .collect()
        } else {
            extend(&values, &course.candidate.members).0
        };
        if members.len() < ACCUSED_MIN {
            continue;
        }
        // The gravest first: a group most of whose members are in graver findings adds
        // its weight to the one it shares most with, not its strays.
        let shared_with =
            |d: &Draft| members.iter().filter(|m| d.accounts.contains(&m.account)).count();
        let unclaimed: Vec<Membership> = members
            .iter()
            .filter(|m| drafts.iter().all(|d| !d.accounts.contains(&m.account)))
            .copied()
            .collect();
        if (unclaimed.len() as f64) < ONE_CAMPAIGN * members.len() as f64
            || unclaimed.len() < ACCUSED_MIN
        {
            let most =
                drafts.iter().enumerate().max_by_key(|(at, d)| (shared_with(d), usize::MAX - at));
            if let Some((at, _)) = most.filter(|(_, d)| shared_with(d) > 0) {
                drafts[at].groups.push(i);
            }
            continue;
        }
        let accounts = unclaimed.iter().map(|m| m.account).collect();
        drafts.push(Draft {
            groups: vec![i],
            members: unclaimed,
            accounts,
            is_open: course.is_known_customers,
        });
    }

    let mut findings = Vec::new();
    for draft in drafts {
        let place = findings.len();
        let lead = draft.groups[0];
        let course = &courses[lead];
        let Some((look, subject, scored, _)) = course.looks.last() else { continue };
        let scales = &scales_of[&(course.freeze, *look)];
        let references: Vec<&Course> = courses
            .iter()
            .enumerate()
            .filter(|(j, other)| {
                !draft.groups.contains(j)
                    && other.freeze == course.freeze
                    && other.candidate.stratum() == subject.stratum
            })
            .map(|(_, other)| other)
            .collect();
        let mut spoken: Vec<Spoken> = (0..MEASURE_COUNT)
            .filter_map(|m| {
                let (value, deviation) = (subject.measured[m]?, scored.deviations[m]?);
                let scale = judge::scale(scales, subject.stratum, m)?;
                (deviation >= judge::STRONG && m != M::Together as usize && m != M::Clock as usize)
                    .then(|| Spoken {
                        measure: m,
                        value,
                        deviation,
                        scale,
                        references: references
                            .iter()
                            .filter_map(|r| r.looks.iter().find(|l| l.0 == *look)?.1.measured[m])
                            .collect(),
                    })
            })
            .collect();
        spoken.sort_by(|a, b| b.deviation.total_cmp(&a.deviation).then(a.measure.cmp(&b.measure)));
        let at = |m: M| subject.measured[m as usize].unwrap_or(0.0);
        let kind = if draft.is_open {
            CampaignKind::OpenHarvest
        } else if at(M::Probabilities) > 0.5 {
            CampaignKind::LogitExtraction
        } else if at(M::Grading) > 0.5 {
            CampaignKind::RewardGrading
        } else {
            CampaignKind::Distillation
        };
        let first = draft
            .groups
            .iter()
            .filter_map(|&g| verdicts[g].first_look.map(|look| (look, courses[g].freeze)))
            .min();
        let (first_look, first_freeze) = first.unwrap_or((*look, course.freeze));
        let strata: BTreeSet<&'static str> =
            draft.groups.iter().map(|&g| courses[g].candidate.stratum()).collect();
        let calendar = population.calendar();
        let best = draft
            .groups
            .iter()
            .map(|&g| verdicts[g].promise)
            .max_by(|a, b| a.value().total_cmp(&b.value()))
            .unwrap_or_default();
        for &g in &draft.groups {
            groups[g].finding = Some(place);
        }
        findings.push(Finding {
            kind,
            members: draft.members.clone(),
            harvest: HarvestSignature::learn(population, &draft.members),
            promise: best,
            strata: strata.into_iter().collect(),
            references: references.iter().filter(|r| !r.looks.is_empty()).count(),
            rank: rank_of.get(&lead).copied().unwrap_or(0),
            guilty_members_at_least: guilty_at_least(
                population,
                course,
                &references,
                &draft.members,
            ),
            first_detectable: calendar.epoch_start(first_look),
            frozen_at: calendar.epoch_start(first_freeze),
            spoken,
            score: scored.score,
            groups: draft.groups,
        });
    }
    Found { findings, groups }
}

/// A lower bound on the members that are not ordinary: the members' own behaviour
/// against that of the references' members, by the Dvoretzky-Kiefer-Wolfowitz
/// inequality (Massart 1990), half the error for each side. If at least a share x of
/// members were ordinary, their distribution function would lie above x times the
/// references'.
fn guilty_at_least(
    population: &Population,
    course: &Course,
    references: &[&Course],
    members: &[Membership],
) -> usize {
    let window = Window { freeze: course.freeze, look: EPOCHS };
    let guilty: HashSet<u32> = members.iter().map(|m| m.account).collect();
    let behaviour = |m: u32| {
        let f = Features::of(&population.members()[m as usize], window);
        (f.exchanges > 0.0).then(|| {
            f.quiet.unwrap_or(0.0) * 3.0 - 3.0 * f.follow_ups + f.reasoning + f.probabilities
        })
    };
    let ours: Vec<f64> = members.iter().filter_map(|m| behaviour(m.account)).collect();
    let others: BTreeSet<u32> = references
        .iter()
        .flat_map(|r| r.candidate.members.iter().copied())
        .filter(|m| !guilty.contains(m))
        .take(20_000)
        .collect();
    let mut theirs: Vec<f64> = others.into_iter().filter_map(behaviour).collect();
    if ours.is_empty() || theirs.is_empty() {
        return 0;
    }
    let mut mine = ours.clone();
    mine.sort_unstable_by(f64::total_cmp);
    theirs.sort_unstable_by(f64::total_cmp);
    let margin = |n: usize| ((2.0 / (1.0 - GUILTY_LEVEL)).ln() / (2.0 * n as f64)).sqrt();
    let (our_margin, their_margin) = (margin(mine.len()), margin(theirs.len()));
    let mut ordinary_most = 1.0f64;
    for (i, &t) in mine.iter().enumerate() {
        let ours_below = (i + 1) as f64 / mine.len() as f64 + our_margin;
        let theirs_below =
            theirs.partition_point(|&x| x <= t) as f64 / theirs.len() as f64 - their_margin;
        if theirs_below > 0.0 {
            ordinary_most = ordinary_most.min(ours_below / theirs_below);
        }
    }
    ((1.0 - ordinary_most).max(0.0) * members.len() as f64).floor() as usize
}

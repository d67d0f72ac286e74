//! Find: all stages from profiles to judged campaigns, at every freezing.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hashbrown::{HashMap, HashSet};
use rayon::prelude::*;
use stillwatch_exchange::{CampaignKind, Time};

use crate::calendar::EPOCHS;
use crate::confirm::{
    self, ACTIVE_MIN, Crowd, Features, M, MEASURE_COUNT, View, Window, active_members,
};
use crate::gather::{Candidate, gather};
pub use crate::guilty::GUILTY_LEVEL;
use crate::guilty::{Behaviours, guilty_at_least};
use crate::harvest::HarvestSignature;
use crate::judge::{self, ACCUSED_MIN, Promise, Scale, Scales, Scored, Subject};
use crate::link::{LinkChannel, holders, link};
use crate::owner::{Owner, known_customers, owners};
use crate::population::Population;
use crate::references::{Known, KnownCourse, References};
use crate::scales::{Ordered, Work};
use crate::signature::{Membership, Values, extend, leave_out_riders};
use crate::without::Without;

/// What the caller decides.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// The false-discovery level α of the list of findings.
    pub level: f64,
    /// A null day: what accounts do after a freezing is shuffled, in an order that the
    /// number names, between accounts of a stratum.
    pub shuffle: Option<u64>,
    /// Channels that are left out, to see what they are worth.
    pub without: Without,
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
    /// What its gravest group did.
    pub course: KnownCourse,
}

/// What was found, and among what.
#[derive(Clone, Debug, Default)]
pub struct Found {
    pub findings: Vec<Finding>,
    pub groups: Vec<Group>,
    /// The courses of groups that one customer or verified organisations stand behind;
    /// at most [`CUSTOMERS_MAX`], those that were gathered first.
    pub customers: Vec<KnownCourse>,
}

/// Courses of known customers that are told of.
pub const CUSTOMERS_MAX: usize = 4_096;

struct Course {
    candidate: Candidate,
    freeze: usize,
    is_known_customers: bool,
    is_verified: bool,
    /// A person has cleared it, or what it shares; see [`References`].
    is_cleared: bool,
    /// Its share of the error budget; see [`judge::Trial`].
    budget: f64,
    /// Who shares what was frozen, by the last look so far; see [`sharers`].
    sharers: Vec<u32>,
    looks: Vec<Looked>,
}

impl Course {
    /// The groups that it is one of.
    fn place(&self) -> (usize, &'static str) {
        (self.freeze, self.candidate.stratum())
    }

    /// Whose courses accounts are shown with: their own, but on null days.
    fn shown<'a>(&self, accounts: &'a [u32], shown: &Shown) -> Cow<'a, [u32]> {
        match shown.get(&self.place()) {
            Some(shown) => accounts.iter().map(|m| shown.get(m).copied().unwrap_or(*m)).collect(),
            None => Cow::Borrowed(accounts),
        }
    }

    /// Whether a part of it is suspicious by itself at the last look.
    fn holds_for(
        &self,
        part: &[u32],
        population: &Population,
        owners: &[Owner],
        values: &Values,
        shown: &Shown,
        without: Without,
    ) -> bool {
        let Some(Looked { look, subject, scales, .. }) = self.looks.last() else { return false };
        let window = Window::of(self.freeze, *look);
        let all = self.shown(part, shown);
        let mut features = vec![Features::default(); population.members().len()];
        for &m in all.iter() {
            features[m as usize] = Features::of(&population.members()[m as usize], window);
        }
        let active = active_members(population, &features, &all);
        let crowd = Crowd::of(population, window);
        let view = View {
            population,
            owners,
            values: Some(values),
            crowd: &crowd,
            features: &features,
            all: &all,
            members: &active,
        };
        let part = Subject {
            active: active.len(),
            measured: without.measured(confirm::measure(&view)),
            ..subject.clone()
        };
        judge::is_suspicious(&judge::score(&part, scales))
    }
}

/// What was measured of a candidate at one look, and how it scored.
struct Looked {
    look: usize,
    subject: Subject,
    scored: Scored,
    /// What it was held against.
    scales: Arc<Scales>,
    /// The groups that stand for ordinary ones, and their weights added up.
    references: usize,
    others: f64,
}

/// Finds the campaigns of a population. `progress` is told how far a step is and may
/// stop the run by returning `false`; then what was found so far is dropped.
pub fn find(
    population: &Population,
    settings: &Settings,
    known: &References,
    progress: &mut dyn FnMut(Step, usize, usize) -> bool,
) -> Option<Found> {
    let innocent = Known::of(known, population);
    let accounts = population.members().len();
    let calendar = population.calendar();
    let owners = owners(population);
    // A course of this very period is among the groups anyway.
    let elsewhere: Vec<&KnownCourse> = known
        .courses
        .iter()
        .filter(|c| c.is_like(calendar.epoch_days()) && !c.is_of(population))
        .collect();
    let mut courses: Vec<Course> = Vec::new();
    for freeze in 1..=EPOCHS {
        if !progress(Step::Link, freeze - 1, EPOCHS) {
            return None;
        }
        let links = link(population, freeze, settings.without);
        let candidates = few_references(gather(&links, accounts));
        let customers: Vec<Option<bool>> =
            candidates.par_iter().map(|c| known_customers(&owners, &c.members)).collect();
        let is_cleared: Vec<bool> =
            candidates.iter().map(|c| innocent.covers(&c.members, CLEARED)).collect();
        let is_accusable: Vec<bool> =
            customers.iter().zip(&is_cleared).map(|(c, cleared)| c.is_none() && !cleared).collect();
        // What is linked by all of the period is confirmed in the time that linked it: that
        // is no course after a freezing, and nothing is promised of it.
        let budgets = if freeze < EPOCHS {
            budgets(population, freeze, &candidates, &is_accusable, settings.without)
        } else {
            vec![0.0; candidates.len()]
        };
        courses.extend(candidates.into_iter().zip(customers).zip(is_cleared).zip(budgets).map(
            |(((candidate, customer), is_cleared), budget)| Course {
                sharers: candidate.members.clone(),
                candidate,
                freeze,
                is_known_customers: customer.is_some(),
                is_verified: customer == Some(true),
                is_cleared,
                budget,
                looks: Vec::new(),
            },
        ));
    }
    if !progress(Step::Link, EPOCHS, EPOCHS) {
        return None;
    }

    let mut measured = 0;
    let mut behaviours: BTreeMap<usize, Behaviours> = BTreeMap::new();
    let mut shown = Shown::new();
    let windows = Window::all().count();
    for look in 2..=EPOCHS {
        extend_sharers(population, &mut courses, look);
        let tying = settings.without.links(&[confirm::WHO, confirm::WHAT].concat());
        let values = Values::until(population, look, &tying);
        for window in Window::all().filter(|w| w.look == look) {
            if !progress(Step::Confirm, measured, windows) {
                return None;
            }
            let freeze = window.freeze();
            let of_freeze: Vec<usize> =
                (0..courses.len()).filter(|&i| courses[i].freeze == freeze).collect();
            if let Some(order) = settings.shuffle {
                shuffled(population, &courses, &of_freeze, order, &mut shown);
            }
            // Accounts are shuffled among themselves: those that are wanted stay the same.
            let mut wanted: Vec<bool> = vec![false; accounts];
            for &i in &of_freeze {
                for &m in &courses[i].sharers {
                    wanted[m as usize] = true;
                }
            }
            let features: Vec<Features> = population
                .members()
                .par_iter()
                .zip(&wanted)
                .map(|(m, &w)| if w { Features::of(m, window) } else { Features::default() })
                .collect();
            if look == EPOCHS {
                behaviours.insert(freeze, Behaviours::of(population, window, &wanted, &features));
            }
            let crowd = Crowd::of(population, window);
            let masses = masses(of_freeze.iter().map(|&i| courses[i].sharers.as_slice()), accounts);
            let subjects: Vec<Subject> = of_freeze
                .par_iter()
                .zip(masses)
                .map(|(&i, mass)| {
                    let course = &courses[i];
                    let all = course.shown(&course.sharers, &shown);
                    let active = active_members(population, &features, &all);
                    let view = View {
                        population,
                        owners: &owners,
                        values: Some(&values),
                        crowd: &crowd,
                        features: &features,
                        all: &all,
                        members: &active,
                    };
                    Subject {
                        stratum: course.candidate.stratum(),
                        mass,
                        active: active.len(),
                        is_known_customers: course.is_known_customers,
                        links: course.candidate.channels.clone(),
                        measured: settings.without.measured(confirm::measure(&view)),
                    }
                })
                .collect();
            let groups: Vec<&[u32]> =
                of_freeze.iter().map(|&i| courses[i].sharers.as_slice()).collect();
            let ordered = Ordered::new(&subjects);
            let scales = Arc::new(ordered.scales());
            let same = same_accounts(&subjects, &groups, accounts);
            let own = own_scales(&subjects, &ordered, &same);
            drop(ordered);
            let scored: Vec<Scored> = subjects
                .iter()
                .zip(&own)
                .map(|(subject, own)| judge::score(subject, own.as_ref().unwrap_or(&scales)))
                .collect();
            let is_reference: Vec<bool> = of_freeze
                .iter()
                .zip(&subjects)
                .map(|(&i, subject)| {
                    courses[i].candidate.members.len() >= ACCUSED_MIN
                        && subject.active >= ACTIVE_MIN
                })
                .collect();
            let mut strata: BTreeMap<&'static str, (usize, f64)> = BTreeMap::new();
            for (g, _) in is_reference.iter().enumerate().filter(|r| *r.1) {
                let all = strata.entry(subjects[g].stratum).or_default();
                *all = (all.0 + 1, all.1 + judge::weight(&scored[g]));
            }
            for course in &elsewhere {
                let Some((active, measured)) = course.ages.get(&(look - freeze)) else { continue };
                let all = strata.entry(course.stratum).or_default();
                let subject = Subject {
                    stratum: course.stratum,
                    mass: 0.0,
                    active: *active,
                    is_known_customers: false,
                    links: course.links.clone(),
                    measured: *measured,
                };
                let weight = judge::weight(&judge::score(&subject, &scales));
                *all = (all.0 + 1, all.1 + weight);
            }
            let references: Vec<(usize, f64)> = same
                .iter()
                .enumerate()
                .map(|(g, same)| {
                    let all = strata.get(subjects[g].stratum).copied().unwrap_or_default();
                    same.iter()
                        .map(|&other| other as usize)
                        .filter(|&o| is_reference[o])
                        .fold(all, |all, other| {
                            (all.0 - 1, (all.1 - judge::weight(&scored[other])).max(0.0))
                        })
                })
                .collect();
            let looked = subjects.into_iter().zip(scored).zip(own).zip(references);
            for (&i, (((subject, scored), own), (references, others))) in
                of_freeze.iter().zip(looked)
            {
                if subject.active >= ACTIVE_MIN {
                    let scales = own.unwrap_or_else(|| Arc::clone(&scales));
                    courses[i].looks.push(Looked {
                        look,
                        subject,
                        scored,
                        scales,
                        references,
                        others,
                    });
                }
            }
            measured += 1;
        }
    }
    if !progress(Step::Confirm, windows, windows) {
        return None;
    }
    report(population, settings, &owners, courses, &behaviours, &shown, progress)
}

/// Groups of a stratum, too small to be accused, that are kept at a freezing to compare
/// with.
const REFERENCES_MAX: usize = 500;

/// Leaves out small groups where there are more of them than a median needs: those whose
/// values have the smallest hashes stay.
fn few_references(candidates: Vec<Candidate>) -> Vec<Candidate> {
    let mut small: BTreeMap<&'static str, Vec<(u64, usize)>> = BTreeMap::new();
    for (i, candidate) in candidates.iter().enumerate() {
        if candidate.members.len() < ACCUSED_MIN {
            let first = candidate.values.first().map_or(0, |v| v.1);
            small.entry(candidate.stratum()).or_default().push((first, i));
        }
    }
    let mut surplus: HashSet<usize> = HashSet::new();
    for groups in small.values_mut() {
        groups.sort_unstable();
        surplus.extend(groups.iter().skip(REFERENCES_MAX).map(|g| g.1));
    }
    candidates
        .into_iter()
        .enumerate()
        .filter(|(i, _)| !surplus.contains(i))
        .map(|(_, candidate)| candidate)
        .collect()
}

/// What was frozen is what accounts share, not a list of them: whoever takes it up
/// later, such as the successors of closed accounts, belongs to the group too. By a
/// look, adds those that share any of a group's values by then. What is no single
/// value, a pool or a habit, stays with its list.
fn extend_sharers(population: &Population, courses: &mut [Course], look: usize) {
    let frozen = |channel: LinkChannel| channel.link().grows;
    let wanted: HashSet<u64> = courses
        .iter()
        .filter(|c| c.freeze < look)
        .flat_map(|c| c.candidate.values.iter().filter(|v| frozen(v.0)).map(|v| v.1))
        .collect();
    let holders = holders(population, look, &wanted);
    courses.par_iter_mut().filter(|c| c.freeze < look).for_each(|course| {
        for (channel, value, _) in &course.candidate.values {
            if frozen(*channel)
                && let Some(accounts) = holders.get(value)
            {
                course.sharers.extend_from_slice(accounts);
            }
        }
        course.sharers.sort_unstable();
        course.sharers.dedup();
    });
}

/// What was known of each candidate at its freezing decides its share of the error budget:
/// how even its volumes had been, and how often its members went on from an answer. Of
/// those who may be accused; all freezings get the same.
fn budgets(
    population: &Population,
    freeze: usize,
    candidates: &[Candidate],
    is_accusable: &[bool],
    without: Without,
) -> Vec<f64> {
    let masses =
        masses(candidates.iter().map(|c| c.members.as_slice()), population.members().len());
    let known: Vec<Option<Subject>> = candidates
        .par_iter()
        .zip(is_accusable)
        .zip(masses)
        .map(|((candidate, is_accusable), mass)| {
            (*is_accusable && candidate.members.len() >= ACCUSED_MIN).then(|| Subject {
                stratum: candidate.stratum(),
                mass,
                active: candidate.members.len(),
                is_known_customers: false,
                links: candidate.channels.clone(),
                measured: without.measured(confirm::measure_before(
                    population,
                    freeze,
                    &candidate.members,
                )),
            })
        })
        .collect();
    judge::budgets(&known).into_iter().map(|b| b / (EPOCHS - 1) as f64).collect()
}

/// The part of a group that must have been cleared, or share one harmless thing, for the
/// group to be cleared.
const CLEARED: f64 = 0.5;

/// On a null day, whose course each account of a stratum's groups is shown with: another
/// one's of that stratum. What a group has in common beyond its links is gone then.
type Shown = HashMap<(usize, &'static str), HashMap<u32, u32>>;

fn shuffled(
    population: &Population,
    courses: &[Course],
    of_freeze: &[usize],
    order: u64,
    shown: &mut Shown,
) {
    let mut strata: BTreeMap<(usize, &'static str), BTreeSet<u32>> = BTreeMap::new();
    for course in of_freeze.iter().map(|&i| &courses[i]) {
        strata.entry(course.place()).or_default().extend(&course.sharers);
    }
    for (place, accounts) in strata {
        let mut others: Vec<u32> = accounts.iter().copied().collect();
        others.sort_by_cached_key(|&m| {
            let id = population.members()[m as usize].account_id.as_bytes();
            (xxhash_rust::xxh3::xxh3_64_with_seed(id, order), m)
        });
        shown.insert(place, accounts.into_iter().zip(others).collect());
    }
}

/// By group of [`ACCUSED_MIN`] members or more, the groups of its stratum, itself
/// included, that are mostly the same accounts: of the two, at least half of the smaller.
fn same_accounts(subjects: &[Subject], groups: &[&[u32]], accounts: usize) -> Vec<Vec<u32>> {
    let mut groups_of: Vec<Vec<u32>> = vec![Vec::new(); accounts];
    for (g, members) in groups.iter().enumerate() {
        for &m in *members {
            groups_of[m as usize].push(g as u32);
        }
    }
    groups
        .par_iter()
        .enumerate()
        .map_init(
            || vec![0u32; groups.len()],
            |shared, (g, members)| {
                if members.len() < ACCUSED_MIN || subjects[g].active < ACTIVE_MIN {
                    return Vec::new();
                }
                let mut met: Vec<u32> = Vec::new();
                for &m in *members {
                    for &other in &groups_of[m as usize] {
                        if shared[other as usize] == 0 {
                            met.push(other);
                        }
                        shared[other as usize] += 1;
                    }
                }
                met.retain(|&other| {
                    let other = other as usize;
                    let n = std::mem::take(&mut shared[other]) as usize;
                    2 * n >= groups[other].len().min(members.len())
                        && subjects[other].stratum == subjects[g].stratum
                });
                met.sort_unstable();
                met
            },
        )
        .collect()
}

/// A group whose own accounts hold this part of its stratum's mass is held against the
/// rest of it.
const OWN_MASS: f64 = 0.1;

/// Scales of their own for groups whose accounts make up much of their stratum. A proxy
/// network puts its campaign into hundreds of network buckets; seen from there, a
/// campaign would be the ordinary.
fn own_scales(
    subjects: &[Subject],
    ordered: &Ordered<'_>,
    same: &[Vec<u32>],
) -> Vec<Option<Arc<Scales>>> {
    let mut masses: BTreeMap<&'static str, f64> = BTreeMap::new();
    for subject in subjects {
        *masses.entry(subject.stratum).or_default() += subject.mass;
    }
    // Groups of the same accounts often have the same scales.
    let mut number_of: HashMap<&[u32], u32> = HashMap::new();
    let mut distinct: Vec<(&'static str, &[u32])> = Vec::new();
    let numbers: Vec<Option<u32>> = same
        .iter()
        .zip(subjects)
        .map(|(same, subject)| {
            let mass: f64 = same.iter().map(|&other| subjects[other as usize].mass).sum();
            (!same.is_empty() && mass >= OWN_MASS * masses[subject.stratum]).then(|| {
                *number_of.entry(same).or_insert_with(|| {
                    distinct.push((subject.stratum, same));
                    distinct.len() as u32 - 1
                })
            })
        })
        .collect();
    let scales: Vec<Arc<Scales>> = distinct
        .into_par_iter()
        .map_init(Work::default, |work, (stratum, same)| {
            Arc::new(ordered.without(stratum, same, work))
        })
        .collect();
    numbers.into_iter().map(|n| n.map(|n| Arc::clone(&scales[n as usize]))).collect()
}

/// The accounts that each group stands for; see [`Subject::mass`].
fn masses<'a>(groups: impl Iterator<Item = &'a [u32]> + Clone, accounts: usize) -> Vec<f64> {
    let mut groups_of: Vec<u32> = vec![0; accounts];
    for &m in groups.clone().flatten() {
        groups_of[m as usize] += 1;
    }
    groups.map(|g| g.iter().map(|&m| 1.0 / f64::from(groups_of[m as usize])).sum()).collect()
}

/// A reported group with more than this part of its members in graver findings is not
/// another campaign.
const ONE_CAMPAIGN: f64 = 0.5;
/// A reported group that holds this part of a graver finding's members widens it.
const HELD: f64 = 0.8;

fn report(
    population: &Population,
    settings: &Settings,
    owners: &[Owner],
    courses: Vec<Course>,
    behaviours: &BTreeMap<usize, Behaviours>,
    shown: &Shown,
    progress: &mut dyn FnMut(Step, usize, usize) -> bool,
) -> Option<Found> {
    let trials: Vec<judge::Trial> = courses
        .iter()
        .map(|course| judge::Trial {
            budget: course.budget,
            looks: course
                .looks
                .iter()
                .map(|l| judge::Look {
                    look: l.look,
                    scored: l.scored.clone(),
                    references: l.references,
                    others: l.others,
                })
                .collect(),
        })
        .collect();
    let verdicts = judge::judge(&trials, settings.level);

    let mut order: Vec<usize> =
        (0..courses.len()).filter(|&i| !courses[i].looks.is_empty()).collect();
    let final_score = |i: usize| courses[i].looks.last().map_or(f64::MIN, |l| l.scored.score);
    order.sort_by(|&a, &b| {
        final_score(b)
            .total_cmp(&final_score(a))
            .then(courses[b].candidate.members.len().cmp(&courses[a].candidate.members.len()))
            .then(courses[a].freeze.cmp(&courses[b].freeze))
            .then(a.cmp(&b))
    });
    let rank_of: HashMap<usize, usize> =
        order.iter().enumerate().map(|(r, &i)| (i, r + 1)).collect();

    let reported: Vec<usize> = order.iter().copied().filter(|&i| verdicts[i].is_reported).collect();
    let values = Values::until(population, EPOCHS, &settings.without.links(&LinkChannel::ALL));
    let mut customers =
        Customers { population, owners, shown, without: settings.without, crowds: BTreeMap::new() };
    struct Draft {
        groups: Vec<usize>,
        members: Vec<Membership>,
        accounts: HashSet<u32>,
        is_open: bool,
    }
    let mut drafts: Vec<Draft> = Vec::new();
    // Groups that are several things come last: the parts are found by groups of their
    // own, and what these leave over is reported as it is.
    let mut several: Vec<usize> = Vec::new();
    let mut wide: Vec<Wide> = Vec::new();
    let mut at = 0;
    while at < reported.len() + several.len() {
        if !progress(Step::Judge, at.min(reported.len()), reported.len()) {
            return None;
        }
        let is_again = at >= reported.len();
        let i = if is_again { several[at - reported.len()] } else { reported[at] };
        at += 1;
        let course = &courses[i];
        if course.is_cleared {
            continue;
        }
        // One customer's accounts hide nothing; of those only the verified are told of.
        // And balanced volumes at all hours are what any large service has: an open
        // harvest must also ask its questions without going on from an answer.
        let independent = course
            .looks
            .last()
            .and_then(|l| l.scored.channels[confirm::ConfirmChannel::Independence as usize]);
        if course.is_known_customers
            && !(course.is_verified && independent.is_some_and(|d| d >= judge::STRONG))
        {
            continue;
        }
        // The gravest first: a group most of whose accounts are in graver findings adds
        // its weight to the one it shares most with, not its strays.
        let rest = |accounts: &mut dyn Iterator<Item = u32>| {
            accounts.filter(|a| drafts.iter().all(|d| !d.accounts.contains(a))).count()
        };
        let attach = |drafts: &mut [Draft], accounts: &[u32]| {
            let most = drafts
                .iter_mut()
                .rev()
                .max_by_key(|d| accounts.iter().filter(|a| d.accounts.contains(*a)).count());
            if let Some(draft) = most
                && accounts.iter().any(|a| draft.accounts.contains(a))
            {
                draft.groups.push(i);
            }
        };
        let is_another = |rest: usize, all: usize| {
            rest as f64 >= ONE_CAMPAIGN * all as f64 && rest >= ACCUSED_MIN
        };
        if !is_another(rest(&mut course.sharers.iter().copied()), course.sharers.len()) {
            attach(&mut drafts, &course.sharers);
            continue;
        }
        if !is_again && wide.iter().any(|w| w.holds_some_of(&course.sharers)) {
            several.push(i);
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
            let (mut members, signature) = extend(&values, &course.sharers);
            let spared = customers.ordinary(course, &members);
            members.retain(|m| {
                !spared.contains(&m.account) && !owners[m.account as usize].is_verified
            });
            if members.len() < ACCUSED_MIN {
                continue;
            }
            let mut parts = signature.parts(&values, members);
            // What the frozen group grew into may hold others that share something with
            // it; it is the part that is mostly itself.
            let is_itself = |part: &Vec<Membership>| {
                let frozen =
                    part.iter().filter(|m| course.sharers.binary_search(&m.account).is_ok());
                frozen.count() as f64 >= ONE_CAMPAIGN * part.len() as f64
            };
            let mut own = (0..parts.len()).filter(|&p| is_itself(&parts[p]));
            match (parts.len(), own.next(), own.next()) {
                (1, ..) => parts.swap_remove(0),
                (_, Some(part), None) => parts.swap_remove(part),
                _ if !is_again => {
                    if wide.len() < WIDE_MAX {
                        wide.push(Wide::of(&parts));
                    }
                    several.push(i);
                    continue;
                }
                _ => {
                    // Those that are left over are campaigns of their own, if each does by
                    // itself what the whole did.
                    for part in parts {
                        let unclaimed: Vec<Membership> = part
                            .iter()
                            .filter(|m| drafts.iter().all(|d| !d.accounts.contains(&m.account)))
                            .copied()
                            .collect();
                        let accounts: Vec<u32> = unclaimed.iter().map(|m| m.account).collect();
                        if is_another(unclaimed.len(), part.len())
                            && course.holds_for(
                                &accounts,
                                population,
                                owners,
                                &values,
                                shown,
                                settings.without,
                            )
                        {
                            drafts.push(Draft {
                                groups: vec![i],
                                accounts: unclaimed.iter().map(|m| m.account).collect(),
                                members: unclaimed,
                                is_open: false,
                            });
                        }
                    }
                    continue;
                }
            }
        };
        let mut members = members;
        if !course.is_known_customers {
            leave_out_riders(&values, &mut members);
        }
        let unclaimed: Vec<Membership> = members
            .iter()
            .filter(|m| drafts.iter().all(|d| !d.accounts.contains(&m.account)))
            .copied()
            .collect();
        // One that holds a graver finding nearly whole is that finding seen wider, such as
        // by what an account and its successors share.
        let is_inside = |d: &&mut Draft| {
            let inside = members.iter().filter(|m| d.accounts.contains(&m.account)).count();
            inside as f64 >= HELD * d.accounts.len() as f64
        };
        let mut held: Vec<&mut Draft> = drafts.iter_mut().filter(is_inside).collect();
        if let [draft] = held.as_mut_slice()
            && !course.is_known_customers
        {
            draft.accounts.extend(unclaimed.iter().map(|m| m.account));
            draft.members.extend(unclaimed);
            draft.members.sort_unstable_by_key(|m| m.account);
            draft.groups.push(i);
            continue;
        }
        // Or one that shares so much with a graver finding that it grew into it.
        let own = unclaimed.iter().filter(|m| course.sharers.binary_search(&m.account).is_ok());
        if !is_another(unclaimed.len(), members.len()) && !is_another(own.count(), unclaimed.len())
        {
            let accounts: Vec<u32> = members.iter().map(|m| m.account).collect();
            attach(&mut drafts, &accounts);
            continue;
        }
        // What was judged is the frozen group. Where others have claimed much of it, or only
        // a part of it is left, that must do by itself what the whole did.
        let accounts: Vec<u32> = unclaimed.iter().map(|m| m.account).collect();
        let judged = accounts.iter().filter(|a| course.sharers.binary_search(a).is_ok()).count();
        if !course.is_known_customers
            && (judged as f64) < HELD * course.sharers.len() as f64
            && !course.holds_for(&accounts, population, owners, &values, shown, settings.without)
        {
            continue;
        }
        drafts.push(Draft {
            groups: vec![i],
            members: unclaimed,
            accounts: accounts.into_iter().collect(),
            is_open: course.is_known_customers,
        });
    }
    drop(values);
    let groups_of: Vec<&[Membership]> = drafts.iter().map(|d| d.members.as_slice()).collect();
    let harvests = HarvestSignature::learn_all(population, &groups_of);

    let mut findings = Vec::new();
    let mut finding_of: HashMap<usize, usize> = HashMap::new();
    for (draft, harvest) in drafts.into_iter().zip(harvests) {
        let place = findings.len();
        let lead = draft.groups[0];
        let course = &courses[lead];
        let Some(Looked { look, subject, scored, scales, references: ordinary, .. }) =
            course.looks.last()
        else {
            continue;
        };
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
                let (value, deviation) = (subject.measured[m]?.value, scored.deviations[m]?);
                let scale = scales.get(subject.stratum, m)?;
                (deviation >= judge::STRONG && m != M::Together as usize && m != M::Clock as usize)
                    .then(|| Spoken {
                        measure: m,
                        value,
                        deviation,
                        scale,
                        references: references
                            .iter()
                            .filter_map(|r| {
                                r.looks.iter().find(|l| l.look == *look)?.subject.measured[m]
                                    .map(|e| e.value)
                            })
                            .collect(),
                    })
            })
            .collect();
        spoken.sort_by(|a, b| b.deviation.total_cmp(&a.deviation).then(a.measure.cmp(&b.measure)));
        let at = |m: M| subject.measured[m as usize].map_or(0.0, |e| e.value);
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
        let shown_as = |accounts: &[u32]| course.shown(accounts, shown).into_owned();
        let accounts: Vec<u32> = draft.members.iter().map(|m| m.account).collect();
        let others: Vec<Vec<u32>> =
            references.iter().map(|r| shown_as(&r.candidate.members)).collect();
        let guilty_members_at_least = behaviours.get(&course.freeze).map_or(0, |behaviours| {
            let others = others.iter().map(Vec::as_slice);
            guilty_at_least(behaviours, &shown_as(&accounts), others)
        });
        // Where not one member need be anything but ordinary, the group is odd and no
        // finding.
        if guilty_members_at_least == 0 {
            continue;
        }
        finding_of.extend(draft.groups.iter().map(|&g| (g, place)));
        findings.push(Finding {
            kind,
            members: draft.members.clone(),
            harvest,
            promise: best,
            strata: strata.into_iter().collect(),
            references: *ordinary,
            rank: rank_of.get(&lead).copied().unwrap_or(0),
            guilty_members_at_least,
            first_detectable: calendar.look_at(first_look),
            frozen_at: calendar.look_at(first_freeze),
            spoken,
            score: scored.score,
            course: known_course(population, course),
            groups: draft.groups,
        });
    }
    let customers = courses
        .iter()
        .filter(|c| c.is_known_customers && c.freeze == 1 && !c.looks.is_empty())
        .filter(|c| c.candidate.members.len() >= ACCUSED_MIN)
        .take(CUSTOMERS_MAX)
        .map(|course| known_course(population, course))
        .collect();
    let groups = courses
        .into_iter()
        .enumerate()
        .map(|(i, mut course)| {
            let last = course.looks.pop();
            Group {
                candidate: course.candidate,
                freeze: course.freeze,
                score: last.as_ref().map_or(0.0, |l| l.scored.score),
                active: last.as_ref().map_or(0, |l| l.subject.active),
                is_known_customers: course.is_known_customers || course.is_cleared,
                finding: finding_of.get(&i).copied(),
            }
        })
        .collect();
    progress(Step::Judge, reported.len(), reported.len()).then_some(Found {
        findings,
        groups,
        customers,
    })
}

/// What groups grew into that is kept: that of the gravest. What others grow into is worked
/// out for each.
const WIDE_MAX: usize = 64;

/// What a group grew into that is several groups.
struct Wide {
    part_of: HashMap<u32, usize>,
    sizes: Vec<usize>,
}

impl Wide {
    fn of(parts: &[Vec<Membership>]) -> Self {
        let numbered = parts.iter().enumerate();
        Wide {
            part_of: numbered
                .flat_map(|(p, part)| part.iter().map(move |m| (m.account, p)))
                .collect(),
            sizes: parts.iter().map(Vec::len).collect(),
        }
    }

    /// Whether a group is some of its accounts and none of its parts. Such a group, of those
    /// who came by one address of many, grows into the same again.
    fn holds_some_of(&self, accounts: &[u32]) -> bool {
        let mut within = vec![0; self.sizes.len()];
        accounts.iter().filter_map(|a| self.part_of.get(a)).for_each(|&p| within[p] += 1);
        within.iter().sum::<usize>() as f64 >= HELD * accounts.len() as f64
            && within
                .iter()
                .zip(&self.sizes)
                .all(|(&w, &size)| (w as f64) < ONE_CAMPAIGN * size as f64)
    }
}

/// Customers among the accounts of reported groups.
struct Customers<'a> {
    population: &'a Population,
    owners: &'a [Owner],
    shown: &'a Shown,
    without: Without,
    /// What everybody did.
    crowds: BTreeMap<Window, Crowd>,
}

impl Customers<'_> {
    /// Members of a reported group that belong to customers whose own accounts, measured
    /// by themselves on the group's scales, do nothing suspicious. Whoever copies a
    /// customer's program and template comes into one group with it, and must not have it
    /// accused. A customer with too few active accounts to measure is left where it is.
    fn ordinary(&mut self, course: &Course, members: &[Membership]) -> HashSet<u32> {
        let mut of: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for account in members.iter().map(|m| m.account) {
            let owner = &self.owners[account as usize];
            for customer in [owner.organization, owner.payer].into_iter().flatten() {
                of.entry(customer).or_default().push(account);
            }
        }
        of.retain(|_, accounts| accounts.len() >= ACTIVE_MIN && accounts.len() < members.len());
        let mut ordinary = HashSet::new();
        let Some(last) = course.looks.last().filter(|_| !of.is_empty()) else { return ordinary };
        let population = self.population;
        let window = Window::of(course.freeze, last.look);
        let crowd = self.crowds.entry(window).or_insert_with(|| Crowd::of(population, window));
        let mut features = vec![Features::default(); population.members().len()];
        let shown = self.shown.get(&course.place());
        let shown = |m: &u32| shown.and_then(|shown| shown.get(m)).copied().unwrap_or(*m);
        for accounts in of.values() {
            let all: Vec<u32> = accounts.iter().map(shown).collect();
            for &m in &all {
                features[m as usize] = Features::of(&population.members()[m as usize], window);
            }
            let active = active_members(population, &features, &all);
            let view = View {
                population,
                // By itself the customer is no stranger among others.
                owners: &[],
                values: None,
                crowd,
                features: &features,
                all: &all,
                members: &active,
            };
            let subject = Subject {
                mass: 0.0,
                active: active.len(),
                measured: self.without.measured(confirm::measure(&view)),
                ..last.subject.clone()
            };
            let scored = judge::score(&subject, &last.scales);
            // A few accounts can't be odd by themselves, however alike they are: nor are they
            // spared if they are nearer to even than to ordinary.
            let is_ordinary = !judge::is_odd(&scored)
                && scored.deviations[M::Spread as usize]
                    .map_or(scored.score <= 0.0, |deviation| 2.0 * deviation < scored.even);
            if active.len() >= ACTIVE_MIN && is_ordinary {
                ordinary.extend(accounts);
            }
        }
        ordinary
    }
}

fn known_course(population: &Population, course: &Course) -> KnownCourse {
    let account = |&m: &u32| population.members()[m as usize].account_id.clone();
    let age = |l: &Looked| (l.look - course.freeze, (l.subject.active, l.subject.measured));
    let calendar = population.calendar();
    KnownCourse {
        stratum: course.candidate.stratum(),
        links: course.candidate.channels.clone(),
        accounts: course.candidate.members.iter().map(account).collect(),
        frozen_at: calendar.look_at(course.freeze),
        epoch_days: calendar.epoch_days(),
        ages: course.looks.iter().map(age).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_of_a_wide_group_grow_into_it_again_and_its_parts_do_not() {
        let part = |accounts: std::ops::Range<u32>| {
            accounts.map(|account| Membership { account, membership: 1.0 }).collect::<Vec<_>>()
        };
        let wide = Wide::of(&[part(0..100), part(100..300)]);
        let holds =
            |accounts: std::ops::Range<u32>| wide.holds_some_of(&accounts.collect::<Vec<_>>());
        assert!(holds(0..30) && holds(90..150));
        assert!(!holds(0..60), "most of a part");
        assert!(!holds(290..340), "others");
    }
}

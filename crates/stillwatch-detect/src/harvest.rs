//! Harvest: which exchanges of a campaign's members belong to it.
//!
//! Accounts that harvest may carry strangers' traffic too (a proxy that resells access,
//! a key that was stolen). Their sampled exchanges are then a mixture of two kinds:
//! harvest, which looks however it does in this campaign, and other traffic, which is
//! worded as everybody else's is. Expectation maximisation (Dempster, Laird, Rubin 1977)
//! tells them apart without being told of any exchange what it is; what holds it in
//! place are the wordings that several members share and others don't have, and the
//! rest of the population, which other traffic must resemble. Where there is no other
//! traffic, the share of it comes out near nothing.
//!
//! What an exchange shows is taken as independent given its kind (naive Bayes), but for
//! its text: of its wordings, which depend on each other, the one that says most counts,
//! and only where none is known its capability, its length and what it asks for, told
//! apart by whether it goes on from an answer. A later turn belongs to a conversation
//! that somebody opened: there is as much of either kind as its openings account for.
//!
//! What it can't do: the rounds find the best account of the exchanges near where they
//! start. Where strangers send well over half of all conversations, and these are long,
//! they may take all of it for harvest.

use hashbrown::{HashMap, HashSet};
use rayon::prelude::*;

use crate::calendar::EPOCHS;
use crate::observe::{BANDS, CAPABILITIES, Flags, Traits};
use crate::population::{Member, Population};
use crate::profile::{Sampled, tag};
use crate::signature::Membership;

/// What one trait says is cut here, in nats: no single one decides alone.
const SAY_MAX: f64 = 6.0;
/// Nats from which a wording is the campaign's: nearly three times as common in it.
const WORDING_SAY: f64 = 1.0;
/// Exchanges that must have a wording, by as many members if there are.
const WORDING_SEEN: u32 = 3;
/// Exchanges that an account's own share of harvest starts from, at the group's share.
const SHARE_PRIOR: f64 = 2.0;
/// Rounds of sharing out and learning, at most.
const ROUNDS: usize = 40;
/// The mean change of an exchange's score at which they end.
const SETTLED: f64 = 1e-4;
/// Classes of a prompt's length: powers of two, in words.
const LENGTHS: usize = 12;
/// What an exchange asks for beside an answer.
const ASKS: u16 = Flags::LOGPROBS
    | Flags::BIASED
    | Flags::REASONING
    | Flags::GRADING
    | Flags::TOOLS
    | Flags::CHOICES;

/// A trait of an exchange beside its wordings. What is put into words has a value for
/// openings and one for later turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Trait {
    Capability,
    Length,
    Asks,
    System,
    Client,
    Model,
}

const TRAITS: usize = 6;

impl Trait {
    /// Whether it follows from how the exchange is worded, and adds nothing where a
    /// wording is known.
    fn is_of_text(self) -> bool {
        matches!(self, Trait::Capability | Trait::Length | Trait::Asks)
    }
}

const WORDINGS: usize = 2 + BANDS;

/// A wording: which part of a text, and its hash; 0 = absent.
type Wording = (u8, u32);

/// What is looked at in an exchange, sampled or whole.
struct Seen {
    is_later: bool,
    traits: [(Trait, u32); TRAITS],
    wordings: [Wording; WORDINGS],
}

impl Seen {
    fn new(
        flags: u16,
        capability: u8,
        words: u16,
        tags: [u16; 3],
        edges: [u32; 2],
        bands: [u32; BANDS],
    ) -> Self {
        let is_later = Flags(flags).has(Flags::FOLLOW_UP);
        let turn = u32::from(is_later) << 16;
        let length = (u32::from(words) + 1).ilog2().min(LENGTHS as u32 - 1);
        let [system, client, model] = tags.map(u32::from);
        Seen {
            is_later,
            traits: [
                (Trait::Capability, turn | u32::from(capability)),
                (Trait::Length, turn | length),
                (Trait::Asks, turn | u32::from(flags & ASKS)),
                (Trait::System, system),
                (Trait::Client, client),
                (Trait::Model, model),
            ],
            wordings: std::array::from_fn(|i| {
                (i as u8, if i < 2 { edges[i] } else { bands[i - 2] })
            }),
        }
    }

    fn wordings(&self) -> impl Iterator<Item = &Wording> {
        self.wordings.iter().filter(|wording| wording.1 != 0)
    }
}

impl From<&Sampled> for Seen {
    fn from(s: &Sampled) -> Self {
        let tags = [s.system, s.client, s.model];
        Seen::new(s.flags(), s.capability(), s.words, tags, [s.opening, s.closing], s.bands)
    }
}

impl From<&Traits> for Seen {
    fn from(t: &Traits) -> Self {
        let text = &t.text;
        Seen::new(
            t.flags.0,
            text.capability as u8,
            text.words,
            [text.system, t.client, t.model].map(tag),
            [text.opening as u32, text.closing as u32],
            text.bands.map(|band| band as u32),
        )
    }
}

/// What the harvest of a group looks like, exchange by exchange.
///
/// Bound: what its members' sampled exchanges show, and a number for each member.
#[derive(Clone, Debug, Default)]
pub struct HarvestSignature {
    wordings: HashMap<Wording, f64>,
    /// Log-likelihood ratio of an exchange with none of these wordings, by whether it is
    /// a later turn.
    unworded: [f64; 2],
    traits: HashMap<(Trait, u32), f64>,
    /// Log-odds of harvest among each member's openings and later turns, by account id.
    members: HashMap<String, [f64; 2]>,
    /// The same of a member without a sample.
    prior: [f64; 2],
}

impl HarvestSignature {
    /// Learns, for each group, from its members' samples against everybody else's. One
    /// pass over the population, whatever the number of groups.
    #[must_use]
    pub fn learn_all(population: &Population, groups: &[&[Membership]]) -> Vec<Self> {
        let mut known = Known::default();
        let ours: Vec<Mixture> =
            groups.iter().map(|members| Mixture::of(population, members, &mut known)).collect();
        let all = population
            .members()
            .par_iter()
            .fold(Counts::default, |mut counts, member| {
                counts.add(member, &known);
                counts
            })
            .reduce(Counts::default, Counts::and);
        groups
            .iter()
            .zip(ours)
            .map(|(members, mixture)| {
                let mut own = Counts::default();
                for m in *members {
                    own.add(&population.members()[m.account as usize], &known);
                }
                mixture.part(population, members, &Others { all: &all, own: &own })
            })
            .collect()
    }

    /// How surely an exchange of a member is harvest, 0 to 1.
    #[must_use]
    pub fn score(&self, account_id: &str, traits: &Traits) -> f64 {
        let seen = Seen::from(traits);
        let turn = usize::from(seen.is_later);
        let mut odds = self.members.get(account_id).unwrap_or(&self.prior)[turn];
        let worded = seen.wordings().filter_map(|w| self.wordings.get(w)).copied();
        let worded = worded.reduce(f64::max);
        odds += worded.unwrap_or(self.unworded[turn]);
        let speaking = seen.traits.iter().filter(|t| worded.is_none() || !t.0.is_of_text());
        odds += speaking.filter_map(|t| self.traits.get(t)).sum::<f64>();
        probability(odds)
    }
}

fn probability(odds: f64) -> f64 {
    1.0 / (1.0 + (-odds).exp())
}

/// Values that some group's members have: of the others', no more is of interest.
#[derive(Default)]
struct Known {
    wordings: HashSet<Wording>,
    systems: HashSet<u32>,
}

/// Sampled exchanges counted by what they show. Counts are whole numbers, so that a part
/// can be taken away again.
#[derive(Default)]
struct Counts {
    /// Openings and later turns.
    turns: [u64; 2],
    /// The same, of accounts that have later turns.
    conversations: [u64; 2],
    traits: HashMap<(Trait, u32), u64>,
    wordings: HashMap<Wording, u64>,
}

impl Counts {
    fn add(&mut self, member: &Member, known: &Known) {
        let mut turns = [0; 2];
        for (_, epoch) in member.profile.epochs(0..EPOCHS) {
            for seen in epoch.sample().iter().map(Seen::from) {
                turns[usize::from(seen.is_later)] += 1;
                for (of, value) in seen.traits {
                    let is_of_interest =
                        of.is_of_text() || (of == Trait::System && known.systems.contains(&value));
                    if is_of_interest {
                        *self.traits.entry((of, value)).or_default() += 1;
                    }
                }
                for wording in seen.wordings().filter(|w| known.wordings.contains(*w)) {
                    *self.wordings.entry(*wording).or_default() += 1;
                }
            }
        }
        for turn in 0..2 {
            self.turns[turn] += turns[turn];
            self.conversations[turn] += if turns[1] > 0 { turns[turn] } else { 0 };
        }
    }

    /// These and others, whole numbers that add up alike in any order.
    fn and(mut self, other: Self) -> Self {
        for turn in 0..2 {
            self.turns[turn] += other.turns[turn];
            self.conversations[turn] += other.conversations[turn];
        }
        for (of, count) in other.traits {
            *self.traits.entry(of).or_default() += count;
        }
        for (wording, count) in other.wordings {
            *self.wordings.entry(wording).or_default() += count;
        }
        self
    }
}

/// Everybody but a group.
struct Others<'a> {
    all: &'a Counts,
    own: &'a Counts,
}

impl Others<'_> {
    fn turns(&self, turn: usize) -> f64 {
        (self.all.turns[turn] - self.own.turns[turn]) as f64
    }

    fn sampled(&self) -> f64 {
        self.turns(0) + self.turns(1)
    }

    fn having(&self, of: (Trait, u32)) -> f64 {
        let count = |counts: &Counts| counts.traits.get(&of).copied().unwrap_or(0);
        (count(self.all) - count(self.own)) as f64
    }

    fn worded(&self, as_: &Wording) -> f64 {
        let count = |counts: &Counts| counts.wordings.get(as_).copied().unwrap_or(0);
        (count(self.all) - count(self.own)) as f64
    }

    /// Later turns for each opening, where people converse, with one imaginary opening
    /// that is as the members' are.
    fn later_turns(&self, of_members: f64) -> f64 {
        let [openings, later] =
            [0, 1].map(|t| (self.all.conversations[t] - self.own.conversations[t]) as f64);
        (later + of_members) / (openings + 1.0)
    }
}

/// One sampled exchange of a member, its values by number.
struct Row {
    member: u32,
    is_later: bool,
    traits: [u32; TRAITS],
    /// Shared wordings; the first `worded` count.
    wordings: [u32; WORDINGS],
    worded: u8,
}

/// The sampled exchanges of a group's members, in the order of the members.
struct Mixture {
    rows: Vec<Row>,
    traits: Vec<(Trait, u32)>,
    wordings: Vec<Wording>,
}

impl Mixture {
    fn of(population: &Population, members: &[Membership], known: &mut Known) -> Self {
        let mut seen: Vec<(u32, Seen)> = Vec::new();
        // How many exchanges have a wording, how many members, and the latest of them.
        let mut shared: HashMap<Wording, (u32, u32, u32)> = HashMap::new();
        for (member, m) in (0u32..).zip(members) {
            let profile = &population.members()[m.account as usize].profile;
            for (_, epoch) in profile.epochs(0..EPOCHS) {
                for exchange in epoch.sample().iter().map(Seen::from) {
                    for wording in exchange.wordings() {
                        let (exchanges, by, last) = shared.entry(*wording).or_default();
                        *exchanges += 1;
                        if *by == 0 || *last != member {
                            (*by, *last) = (*by + 1, member);
                        }
                    }
                    seen.push((member, exchange));
                }
            }
        }
        let by_min = WORDING_SEEN.min(members.len() as u32);
        shared.retain(|_, (exchanges, by, _)| *exchanges >= WORDING_SEEN && *by >= by_min);
        let mut wordings: Vec<Wording> = shared.into_keys().collect();
        wordings.sort_unstable();
        let wording_number: HashMap<Wording, u32> = wordings.iter().copied().zip(0..).collect();
        let mut traits: Vec<(Trait, u32)> = Vec::new();
        let mut trait_number: HashMap<(Trait, u32), u32> = HashMap::new();
        let rows = seen
            .into_iter()
            .map(|(member, exchange)| {
                let mut row = Row {
                    member,
                    is_later: exchange.is_later,
                    traits: exchange.traits.map(|of| {
                        *trait_number.entry(of).or_insert_with(|| {
                            traits.push(of);
                            traits.len() as u32 - 1
                        })
                    }),
                    wordings: [0; WORDINGS],
                    worded: 0,
                };
                for &number in exchange.wordings().filter_map(|w| wording_number.get(w)) {
                    row.wordings[usize::from(row.worded)] = number;
                    row.worded += 1;
                }
                row
            })
            .collect();
        known.wordings.extend(&wordings);
        known.systems.extend(traits.iter().filter(|t| t.0 == Trait::System).map(|t| t.1));
        Mixture { rows, traits, wordings }
    }

    /// Tells the two kinds apart.
    fn part(
        &self,
        population: &Population,
        members: &[Membership],
        others: &Others<'_>,
    ) -> HarvestSignature {
        let sampled = self.rows.len() as f64;
        let mut turns = [0f64; 2];
        let mut turns_of = vec![[0f64; 2]; members.len()];
        let mut having = vec![0f64; self.traits.len()];
        for row in &self.rows {
            turns[usize::from(row.is_later)] += 1.0;
            turns_of[row.member as usize][usize::from(row.is_later)] += 1.0;
            row.traits.iter().for_each(|&t| having[t as usize] += 1.0);
        }
        // How common a value is among the members, and among everybody else, with one
        // imaginary exchange that is as the members' are.
        let among: Vec<f64> = self
            .traits
            .iter()
            .zip(&having)
            .map(|(of, count)| count / of_turn(*of).map_or(sampled, |turn| turns[turn]))
            .collect();
        let elsewhere: Vec<f64> = self
            .traits
            .iter()
            .zip(&among)
            .map(|(of, among)| {
                let all = of_turn(*of).map_or_else(|| others.sampled(), |turn| others.turns(turn));
                (others.having(*of) + among) / (all + 1.0)
            })
            .collect();
        let worded_elsewhere: Vec<f64> = self
            .wordings
            .iter()
            .map(|wording| (others.worded(wording) + 0.5) / (others.sampled() + 1.0))
            .collect();
        let later_elsewhere = others.later_turns((turns[1] + 0.5) / (turns[0] + 1.0));

        // All that have a wording of the campaign's are harvest to start with, and of the
        // rest nothing is known.
        let mut worded = vec![0u32; self.wordings.len()];
        for row in &self.rows {
            row.shared().for_each(|w| worded[w] += 1);
        }
        let is_own = |w: usize| {
            let within = (f64::from(worded[w]) + 0.5) / (sampled + 1.0);
            (within / worded_elsewhere[w]).ln() > WORDING_SAY
        };
        let mut scores: Vec<f64> =
            self.rows.iter().map(|r| if r.shared().any(is_own) { 1.0 } else { 0.5 }).collect();

        let mut says = Says::default();
        for _ in 0..ROUNDS {
            says = self.learn(&scores, &among, &elsewhere, &worded_elsewhere);
            says.weigh_members(self, &scores, &turns_of, later_elsewhere);
            let mut changed = 0.0;
            for (row, score) in self.rows.iter().zip(&mut scores) {
                let next = says.score(self, row);
                changed += (next - *score).abs();
                *score = next;
            }
            if changed <= SETTLED * sampled {
                break;
            }
        }

        let account = |m: &Membership| population.members()[m.account as usize].account_id.clone();
        let own = self.wordings.iter().copied().zip(says.wordings);
        HarvestSignature {
            wordings: own.filter_map(|(wording, say)| Some((wording, say?))).collect(),
            unworded: says.unworded,
            traits: self.traits.iter().copied().zip(says.traits).collect(),
            members: members.iter().map(account).zip(says.members).collect(),
            prior: says.prior,
        }
    }

    /// What everything says, as the exchanges are shared out.
    fn learn(
        &self,
        scores: &[f64],
        among: &[f64],
        elsewhere: &[f64],
        worded_elsewhere: &[f64],
    ) -> Says {
        let harvest: f64 = scores.iter().sum();
        let other = self.rows.len() as f64 - harvest;
        let mut worded = vec![0f64; self.wordings.len()];
        for (row, &score) in self.rows.iter().zip(scores) {
            row.shared().for_each(|w| worded[w] += score);
        }
        let wordings: Vec<Option<f64>> = worded
            .iter()
            .zip(worded_elsewhere)
            .map(|(count, elsewhere)| ((count + 0.5) / (harvest + 1.0) / elsewhere).ln())
            .map(|say| (say > WORDING_SAY).then(|| say.min(SAY_MAX)))
            .collect();

        let mut turns = [0f64; 2];
        let mut unworded = [0f64; 2];
        let mut with = vec![0f64; self.traits.len()];
        let mut without = vec![0f64; self.traits.len()];
        for (row, &score) in self.rows.iter().zip(scores) {
            let is_worded = row.shared().any(|w| wordings[w].is_some());
            turns[usize::from(row.is_later)] += score;
            unworded[usize::from(row.is_later)] += if is_worded { 0.0 } else { score };
            for &t in &row.traits {
                if !is_worded || !self.traits[t as usize].0.is_of_text() {
                    with[t as usize] += score;
                    without[t as usize] += 1.0 - score;
                }
            }
        }
        let traits = (0..self.traits.len())
            .map(|t| {
                let of = self.traits[t];
                let mine = of_turn(of).map_or(harvest, |turn| unworded[turn]);
                let like = if of.0.is_of_text() { elsewhere[t] } else { among[t] };
                let mine = (with[t] + like) / (mine + 1.0);
                // Strangers come by the same door, so that their clients and models are
                // the members' own affair; what they ask is what others ask.
                let theirs = match of.0 {
                    Trait::Capability | Trait::Length | Trait::Asks => elsewhere[t],
                    Trait::System => (without[t] + elsewhere[t]) / (other + 1.0),
                    Trait::Client | Trait::Model => (without[t] + among[t]) / (other + 1.0),
                };
                (mine / theirs).ln().clamp(-SAY_MAX, SAY_MAX)
            })
            .collect();
        // That a wording is missing says less than that one is there: campaigns take up
        // new ones.
        let unworded = [0, 1].map(|turn| {
            ((unworded[turn] + 0.5) / (turns[turn] + 1.0)).ln().clamp(-SAY_MAX / 2.0, 0.0)
        });
        Says { traits, wordings, unworded, ..Says::default() }
    }
}

/// The turn that a value is told apart by, if it is.
fn of_turn((kind, value): (Trait, u32)) -> Option<usize> {
    matches!(kind, Trait::Capability | Trait::Length | Trait::Asks)
        .then_some((value >> 16) as usize)
}

impl Row {
    fn shared(&self) -> impl Iterator<Item = usize> + '_ {
        self.wordings[..usize::from(self.worded)].iter().map(|&w| w as usize)
    }
}

/// What everything says in one round, in nats, by number.
#[derive(Default)]
struct Says {
    traits: Vec<f64>,
    /// `None` where a wording is not the campaign's.
    wordings: Vec<Option<f64>>,
    unworded: [f64; 2],
    members: Vec<[f64; 2]>,
    prior: [f64; 2],
}

impl Says {
    /// How much of each member's traffic is harvest, as its openings are shared out. If
    /// there are fewer later turns than these call for there is more harvest than that,
    /// for strangers converse; if there are more, less. That is told of the group:
    /// conversations differ too much to tell it of one member.
    fn weigh_members(
        &mut self,
        mixture: &Mixture,
        scores: &[f64],
        turns_of: &[[f64; 2]],
        later_elsewhere: f64,
    ) {
        let mut harvest_of = vec![0f64; turns_of.len()];
        let (mut harvest, mut later) = (0.0, 0.0);
        for (row, score) in mixture.rows.iter().zip(scores) {
            if row.is_later {
                later += score;
            } else {
                harvest += score;
                harvest_of[row.member as usize] += score;
            }
        }
        let [openings, turns] = [0, 1].map(|t| turns_of.iter().map(|turns| turns[t]).sum::<f64>());
        let share = (harvest + 1.0) / (openings + 2.0);
        // Later turns for each opening of harvest, and how much rarer an opening that
        // nothing follows is among the others', where lengths are geometric.
        let later_harvest = (later + 0.5) / (harvest + 1.0);
        let more_later = (later_harvest / later_elsewhere).ln();
        let alone = ((1.0 + later_elsewhere) / (1.0 + later_harvest)).ln();
        let called_for = later_harvest * harvest + later_elsewhere * (openings - harvest);
        let lacking = 1.0 - turns / called_for.max(f64::MIN_POSITIVE);
        let alone = alone * lacking.clamp(-1.0, 1.0);
        let by_turn = |share: f64| {
            let odds = (share / (1.0 - share)).ln();
            [odds + alone, odds + more_later]
        };
        self.prior = by_turn(share);
        self.members = harvest_of
            .iter()
            .zip(turns_of)
            .map(|(mine, [all, _])| by_turn((mine + SHARE_PRIOR * share) / (all + SHARE_PRIOR)))
            .collect();
    }

    fn score(&self, mixture: &Mixture, row: &Row) -> f64 {
        let mut odds = self.members[row.member as usize][usize::from(row.is_later)];
        let worded = row.shared().filter_map(|w| self.wordings[w]).reduce(f64::max);
        odds += worded.unwrap_or(self.unworded[usize::from(row.is_later)]);
        let speaking = row.traits.iter().map(|&t| t as usize);
        let speaking = speaking.filter(|&t| worded.is_none() || !mixture.traits[t].0.is_of_text());
        odds += speaking.map(|t| self.traits[t]).sum::<f64>();
        probability(odds)
    }
}

// Capabilities are numbered below the turn's bit.
const _: () = assert!(CAPABILITIES < 1 << 16);

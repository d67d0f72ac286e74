//! Signature: what a judged group has in common, and who else has it.
//!
//! A frozen group is what could be linked by then. Accounts that came later, or that
//! one channel alone could not link, are found by what the group shares in all
//! channels together; accounts that were in a bucket by accident are left out the same
//! way. Each shared value speaks by its log-likelihood ratio, how much more common it
//! is in the group than outside. Values of one channel depend on each other, so of a
//! channel only the one that says most counts.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

use hashbrown::{HashMap, HashSet};
use petgraph::unionfind::UnionFind;
use rayon::prelude::*;

use crate::calendar::EPOCHS;
use crate::judge::SCORE_MIN;
use crate::link::{AHEAD, LinkChannel, call_for};
use crate::population::Population;

/// Counters by which values that too few accounts have are told; where more values than
/// this are about, some pass that are left out later.
const COUNTERS: usize = 1 << 24;
/// A channel's say is cut here, in nats: no single value makes or breaks a membership.
const SAY_MAX: f64 = 6.0;
/// Nats from which a value speaks for a membership: what is ten times as common within
/// as without says 2.3.
const SPEAKS: f64 = 1.0;
/// A value must be seen in this many accounts of a group to belong to its signature.
const SEEN_MIN: u8 = 3;
/// The most rounds of finding members and learning from them again.
const ROUNDS: usize = 8;
/// Values that an account is known by, of one channel; the smallest stay.
const VALUES_MAX: usize = 64;

/// A value of a link channel.
type Value = (LinkChannel, u64);

/// What accounts share, over the whole period: the values that at least three of them
/// have, who has each, and what each has. A value that fewer have can't be part of a
/// signature.
///
/// Bound: 8 bytes for each of at most 64 values a channel of each account; some twenty
/// values are usual.
#[derive(Debug)]
pub struct Values {
    values: Vec<Value>,
    /// Accounts of each value, ascending, one list after the other.
    holders: Lists,
    /// Numbers of the values of each account, one list after the other.
    of_account: Lists,
}

/// Lists of numbers in one allocation.
#[derive(Debug, Default)]
struct Lists {
    ends: Vec<u32>,
    items: Vec<u32>,
}

impl Lists {
    fn close(&mut self) {
        self.ends.push(self.items.len() as u32);
    }

    fn get(&self, list: usize) -> &[u32] {
        let Some(&end) = self.ends.get(list) else { return &[] };
        let start = if list == 0 { 0 } else { self.ends[list - 1] };
        &self.items[start as usize..end as usize]
    }
}

impl Values {
    /// Collects what some link channels see of each account by the epochs before `until`.
    #[must_use]
    pub fn until(population: &Population, until: usize, channels: &[LinkChannel]) -> Self {
        let accounts: Vec<u32> = (0..population.members().len() as u32).collect();
        // Counted roughly first: nearly all values are nobody else's, and need not be kept
        // to be found so.
        let counts: Vec<AtomicU8> = (0..COUNTERS).map(|_| AtomicU8::new(0)).collect();
        let count_of = |value: u64| &counts[value as usize % COUNTERS];
        accounts.par_chunks(ACCOUNTS_AT_ONCE).for_each(|accounts| {
            each_value(population, until, channels, accounts, |value, _| {
                let more = |count| (count < SEEN_MIN).then_some(count + 1);
                // An error says that there are enough.
                let _ = count_of(value).fetch_update(Relaxed, Relaxed, more);
            });
        });
        Values::collect(population, channels, |channel| {
            let mut pairs: Vec<(u64, u32)> = accounts
                .par_chunks(ACCOUNTS_AT_ONCE)
                .flat_map_iter(|accounts| {
                    let mut pairs = Vec::new();
                    each_value(population, until, &[channel], accounts, |value, account| {
                        if count_of(value).load(Relaxed) == SEEN_MIN {
                            pairs.push((value, account));
                        }
                    });
                    pairs
                })
                .collect();
            pairs.par_sort_unstable();
            pairs
        })
    }

    /// The same for some accounts only, in ascending order; the others have no values.
    #[must_use]
    pub fn of_some(population: &Population, wanted: &[u32]) -> Self {
        Values::collect(population, &LinkChannel::ALL, |channel| {
            let mut pairs = Vec::new();
            each_value(population, EPOCHS, &[channel], wanted, |value, account| {
                pairs.push((value, account));
            });
            pairs.sort_unstable();
            pairs
        })
    }

    /// The shared values of one account, by channel.
    pub fn account(&self, account: u32) -> impl Iterator<Item = Value> + '_ {
        self.of_account.get(account as usize).iter().map(|&v| self.values[v as usize])
    }

    /// Of some accounts, how many share a value of each family of channels with others of
    /// them. A value counts if it speaks for a membership, as in a [`Signature`], and is had
    /// by [`SEEN_MIN`] customers: accounts of one organisation are one.
    #[must_use]
    pub(crate) fn tied<const N: usize>(
        &self,
        members: &[u32],
        families: &[&[LinkChannel]; N],
        organization: impl Fn(u32) -> Option<u32>,
    ) -> [usize; N] {
        let (inside, all) = (members.len() as f64, self.accounts() as f64);
        families.map(|family| {
            let mut had: Vec<(u32, u32)> = Vec::new();
            for (place, &m) in (0u32..).zip(members) {
                let values = self.of_account.get(m as usize).iter();
                had.extend(
                    values
                        .filter(|v| family.contains(&self.values[**v as usize].0))
                        .map(|&v| (v, place)),
                );
            }
            had.sort_unstable();
            let mut is_tied = vec![false; members.len()];
            let mut customers: Vec<(bool, u32)> = Vec::new();
            for run in had.chunk_by(|a, b| a.0 == b.0) {
                if run.len() < usize::from(SEEN_MIN) {
                    continue;
                }
                let outside = (self.holders.get(run[0].0 as usize).len() - run.len()) as f64;
                if say(run.len() as f64, inside, outside, all - inside) < SPEAKS {
                    continue;
                }
                customers.clear();
                customers.extend(run.iter().map(|&(_, place)| {
                    match organization(members[place as usize]) {
                        Some(organization) => (true, organization),
                        None => (false, place),
                    }
                }));
                customers.sort_unstable();
                customers.dedup();
                if customers.len() >= usize::from(SEEN_MIN) {
                    run.iter().for_each(|&(_, place)| is_tied[place as usize] = true);
                }
            }
            is_tied.into_iter().filter(|tied| *tied).count()
        })
    }

    fn accounts(&self) -> usize {
        self.of_account.ends.len()
    }

    /// From the values of each channel with the accounts that have them, in their order;
    /// one channel at a time.
    fn collect(
        population: &Population,
        channels: &[LinkChannel],
        pairs_of: impl Fn(LinkChannel) -> Vec<(u64, u32)>,
    ) -> Self {
        let mut values: Vec<Value> = Vec::new();
        let mut holders = Lists::default();
        for &channel in channels {
            for run in pairs_of(channel).chunk_by(|a, b| a.0 == b.0) {
                if run.len() >= usize::from(SEEN_MIN) {
                    values.push((channel, run[0].0));
                    holders.items.extend(run.iter().map(|p| p.1));
                    holders.close();
                }
            }
        }
        // The same the other way round.
        let mut counts = vec![0u32; population.members().len()];
        for &account in &holders.items {
            counts[account as usize] += 1;
        }
        let mut of_account = Lists::default();
        let mut sum = 0;
        let mut next: Vec<u32> = Vec::with_capacity(counts.len());
        for count in counts {
            next.push(sum);
            sum += count;
            of_account.ends.push(sum);
        }
        of_account.items = vec![0; sum as usize];
        for value in 0..values.len() {
            for &account in holders.get(value) {
                let at = &mut next[account as usize];
                of_account.items[*at as usize] = value as u32;
                *at += 1;
            }
        }
        Values { values, holders, of_account }
    }
}

/// Accounts whose values are listed one after the other.
const ACCOUNTS_AT_ONCE: usize = 256;

/// Gives the values that accounts are known by in some channels, account by account.
fn each_value(
    population: &Population,
    until: usize,
    channels: &[LinkChannel],
    accounts: &[u32],
    mut take: impl FnMut(u64, u32),
) {
    let mut values: Vec<u64> = Vec::new();
    for accounts in accounts.chunks(AHEAD) {
        call_for(population, accounts, until);
        for &account in accounts {
            let member = &population.members()[account as usize];
            for channel in channels {
                values.clear();
                channel
                    .values(member, population.calendar(), until, &mut |value| values.push(value));
                values.sort_unstable();
                values.dedup();
                values.truncate(VALUES_MAX);
                values.iter().for_each(|&value| take(value, account));
            }
        }
    }
}

/// How much more common a value is within a group, of which so many have it, than among the
/// others, as the log of a ratio. One imaginary account on each side keeps a rare value from
/// saying more than its count can bear.
fn say(count: f64, inside: f64, others_count: f64, outside: f64) -> f64 {
    let within = count / (inside + 1.0);
    let without = (others_count + 1.0) / (outside + 1.0);
    (within / without).ln()
}

/// What a group has in common.
#[derive(Clone, Debug)]
pub struct Signature {
    /// Values that say something, by number, with their log-likelihood ratio where
    /// present; 0 for all others.
    says: Vec<f32>,
    present: Vec<u32>,
    /// By channel, what it says when none of the values that most members have is
    /// there.
    absent: [f64; crate::link::LINK_CHANNELS],
    prior: f64,
}

/// A member of a judged group.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Membership {
    pub account: u32,
    /// 0 to 1.
    pub membership: f64,
}

impl Signature {
    /// Learns what `members` share that others don't.
    #[must_use]
    pub fn learn(values: &Values, members: &[u32]) -> Self {
        let inside = members.len() as f64;
        let outside = (values.accounts() - members.len()) as f64;
        let mut seen: HashMap<u32, u32> = HashMap::new();
        for &m in members {
            for &value in values.of_account.get(m as usize) {
                *seen.entry(value).or_default() += 1;
            }
        }
        let mut says = vec![0.0f32; values.values.len()];
        let mut present = Vec::new();
        let mut known: [bool; crate::link::LINK_CHANNELS] = Default::default();
        for (&value, &count) in &seen {
            if count < u32::from(SEEN_MIN) {
                continue;
            }
            let all = values.holders.get(value as usize).len() as u32;
            let say = say(f64::from(count), inside, f64::from(all - count), outside);
            // What is hardly more common within is no sign, and no excuse for lacking one.
            if say >= SPEAKS {
                says[value as usize] = say.min(SAY_MAX) as f32;
                present.push(value);
                known[values.values[value as usize].0 as usize] = true;
            }
        }
        // A channel speaks by absence too, as far as its values are what members have:
        // p(no value | member) against p(no value | other).
        let mut has = [0usize; crate::link::LINK_CHANNELS];
        for &m in members {
            let mut of_member = [false; crate::link::LINK_CHANNELS];
            for value in values.of_account.get(m as usize) {
                if says[*value as usize] > 0.0 {
                    of_member[values.values[*value as usize].0 as usize] = true;
                }
            }
            for (count, has) in has.iter_mut().zip(of_member) {
                *count += usize::from(has);
            }
        }
        let mut absent = [0.0; crate::link::LINK_CHANNELS];
        for ((say, known), has) in absent.iter_mut().zip(known).zip(has) {
            if known {
                let without_inside = inside - has as f64;
                *say = ((without_inside + 1.0) / (inside + 2.0)).ln().max(-SAY_MAX / 2.0);
            }
        }
        Signature { says, present, absent, prior: (inside / (outside + 1.0)).ln() }
    }

    /// The log-odds that an account belongs, and how many channels speak for it.
    fn odds(&self, values: &Values, account: u32) -> (f64, u32) {
        let mut best = [f64::MIN; crate::link::LINK_CHANNELS];
        for value in values.of_account.get(account as usize) {
            let say = f64::from(self.says[*value as usize]);
            if say > 0.0 {
                let channel = &mut best[values.values[*value as usize].0 as usize];
                *channel = channel.max(say);
            }
        }
        let mut odds = self.prior;
        let mut speaking = 0;
        for (say, absent) in best.into_iter().zip(self.absent) {
            if say > f64::MIN {
                odds += say;
                speaking += u32::from(say >= SPEAKS);
            } else {
                odds += absent;
            }
        }
        (odds, speaking)
    }

    /// Everybody who has it. An account that was not in the group needs two channels
    /// that speak for it, and to belong at ten to one. Linear in the accounts that share anything rare with the group.
    #[must_use]
    pub fn members(&self, values: &Values, frozen: &HashSet<u32>) -> Vec<Membership> {
        let speaking = self.present.iter().filter(|v| f64::from(self.says[**v as usize]) >= SPEAKS);
        let mut sharing: Vec<u32> =
            speaking.flat_map(|&value| values.holders.get(value as usize)).copied().collect();
        sharing.par_sort_unstable();
        sharing.dedup();
        sharing
            .into_par_iter()
            .filter_map(|account| {
                let (odds, speaking) = self.odds(values, account);
                let known = frozen.contains(&account);
                let enough = if known { 0.0 } else { SCORE_MIN };
                (odds > enough && (speaking >= 2 || (known && speaking >= 1)))
                    .then(|| Membership { account, membership: 1.0 / (1.0 + (-odds).exp()) })
            })
            .collect()
    }
}

/// Members that are looked at to see whether a group falls apart, evenly picked.
const COMMUNITY_PROBES: usize = 512;
/// A bit for each of them.
type Probes = [u64; COMMUNITY_PROBES / 64];
/// Likeness of two accounts' neighbours from which they belong together; SCAN's usual ε
/// lies between 0.5 and 0.8, a campaign's many proxies leave its neighbours sparser.
const COMMUNITY_SIMILARITY: f64 = 0.3;
/// A community with less than this part of the members is its strays.
const COMMUNITY_MIN: f64 = 0.1;

impl Signature {
    /// The groups that the members fall into if they are several that have one thing in
    /// common: two campaigns that use one template, or a campaign and a class that signed
    /// up on one day. Two accounts are neighbours if they share rare values of two
    /// channels (habits, which are made of the rest, don't count), and belong together if
    /// they also have their neighbours in common (SCAN: Xu, Yuruk, Feng, Schweiger 2007).
    /// Of several, members without neighbours in any are left out; one keeps them all.
    #[must_use]
    pub fn parts(&self, values: &Values, members: Vec<Membership>) -> Vec<Vec<Membership>> {
        let probes = members.len().min(COMMUNITY_PROBES);
        let account = |probe: usize| members[probe * members.len() / probes].account;
        // Who has each value that speaks, as bits; habits don't count.
        let mut having: HashMap<u32, Probes> = HashMap::new();
        let speaks = |value: &u32| {
            f64::from(self.says[*value as usize]) >= SPEAKS
                && values.values[*value as usize].0 != LinkChannel::Habit
        };
        for probe in 0..probes {
            for value in values.of_account.get(account(probe) as usize) {
                if speaks(value) {
                    having.entry(*value).or_default()[probe / 64] |= 1 << (probe % 64);
                }
            }
        }
        // Neighbours: who is met in two channels. Values are numbered by channel, so those
        // of one channel come one after the other.
        let neighbours_of = |account: u32| {
            let (mut once, mut twice) = (Probes::default(), Probes::default());
            let of_account = values.of_account.get(account as usize);
            let channel = |value: &u32| values.values[*value as usize].0;
            for of_channel in of_account.chunk_by(|a, b| channel(a) == channel(b)) {
                let mut met = Probes::default();
                for others in of_channel.iter().filter_map(|value| having.get(value)) {
                    met.iter_mut().zip(others).for_each(|(m, o)| *m |= o);
                }
                for ((once, twice), met) in once.iter_mut().zip(&mut twice).zip(met) {
                    *twice |= *once & met;
                    *once |= met;
                }
            }
            twice
        };
        let neighbours: Vec<Probes> = (0..probes)
            .map(|probe| {
                let mut neighbours = neighbours_of(account(probe));
                neighbours[probe / 64] |= 1 << (probe % 64);
                neighbours
            })
            .collect();
        let mut communities: UnionFind<usize> = UnionFind::new(probes);
        for i in 0..probes {
            for j in i + 1..probes {
                if neighbours[i][j / 64] >> (j % 64) & 1 == 0 {
                    continue;
                }
                let of_each = f64::from(count(&neighbours[i])) * f64::from(count(&neighbours[j]));
                let both = common(&neighbours[i], &neighbours[j]);
                if f64::from(both) >= COMMUNITY_SIMILARITY * of_each.sqrt() {
                    communities.union(i, j);
                }
            }
        }
        let mut probes_of: BTreeMap<usize, Probes> = BTreeMap::new();
        for i in 0..probes {
            probes_of.entry(communities.find(i)).or_default()[i / 64] |= 1 << (i % 64);
        }
        let communities: Vec<Probes> = probes_of
            .into_values()
            .filter(|of| f64::from(count(of)) >= COMMUNITY_MIN * probes as f64)
            .collect();
        if communities.len() < 2 {
            return vec![members];
        }
        let mut parts: Vec<Vec<Membership>> = vec![Vec::new(); communities.len()];
        for member in members {
            let neighbours = neighbours_of(member.account);
            let most = communities
                .iter()
                .enumerate()
                .map(|(part, of)| (common(&neighbours, of), part))
                .max_by_key(|&(met, part)| (met, std::cmp::Reverse(part)));
            if let Some((1.., part)) = most {
                parts[part].push(member);
            }
        }
        parts
    }
}

/// Leaves out who came along by one thing, where most members share more: a customer's few
/// accounts that use a campaign's template share client, network and instrument with each
/// other only. What is shared counts by channel, if a tenth of the members have it
/// ([`COMMUNITY_MIN`]); habits, which are made of the rest, don't.
pub(crate) fn leave_out_riders(values: &Values, members: &mut Vec<Membership>) {
    let mut having: HashMap<u32, u32> = HashMap::new();
    for value in members.iter().flat_map(|m| values.of_account.get(m.account as usize)) {
        *having.entry(*value).or_default() += 1;
    }
    let inside = members.len() as f64;
    let outside = values.accounts() as f64 - inside;
    let is_wide = |value: &u32| {
        let count = f64::from(having[value]);
        let all = values.holders.get(*value as usize).len() as f64;
        count >= COMMUNITY_MIN * inside && say(count, inside, all - count, outside) >= SPEAKS
    };
    let channel = |value: &u32| values.values[*value as usize].0;
    let shares_much = |member: &Membership| {
        let of_account = values.of_account.get(member.account as usize);
        of_account
            .chunk_by(|a, b| channel(a) == channel(b))
            .filter(|values| channel(&values[0]) != LinkChannel::Habit)
            .filter(|values| values.iter().any(is_wide))
            .count()
            >= 2
    };
    if 2 * members.iter().filter(|m| shares_much(m)).count() > members.len() {
        members.retain(shares_much);
    }
}

fn count(bits: &Probes) -> u32 {
    bits.iter().map(|word| word.count_ones()).sum()
}

fn common(a: &Probes, b: &Probes) -> u32 {
    a.iter().zip(b).map(|(a, b)| (a & b).count_ones()).sum()
}

/// Finds the members of a judged group: learns from the frozen ones, finds who has the
/// same, and learns again. Returns the members by account and the last signature.
#[must_use]
pub fn extend(values: &Values, frozen: &[u32]) -> (Vec<Membership>, Signature) {
    let known: HashSet<u32> = frozen.iter().copied().collect();
    let mut members: Vec<u32> = frozen.to_vec();
    let mut signature = Signature::learn(values, &members);
    let mut found = signature.members(values, &known);
    for _ in 1..ROUNDS {
        let next: Vec<u32> = found.iter().map(|m| m.account).collect();
        if next == members || next.len() < crate::link::GROUP_MIN {
            break;
        }
        members = next;
        signature = Signature::learn(values, &members);
        found = signature.members(values, &known);
    }
    (found, signature)
}

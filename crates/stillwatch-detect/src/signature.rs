//! Signature: what a judged group has in common, and who else has it.
//!
//! A frozen group is what could be linked by then. Accounts that came later, or that
//! one channel alone could not link, are found by what the group shares in all
//! channels together; accounts that were in a bucket by accident are left out the same
//! way. Each shared value speaks by its log-likelihood ratio, how much more common it
//! is in the group than outside. Values of one channel depend on each other, so of a
//! channel only the one that says most counts.

use hashbrown::{HashMap, HashSet};

use crate::calendar::EPOCHS;
use crate::link::LinkChannel;
use crate::observe::{Flags, Traits};
use crate::population::{Member, Population};
use crate::profile::{Kind, Sampled};

/// A channel's say is cut here, in nats: no single value makes or breaks a membership.
const SAY_MAX: f64 = 6.0;
/// A value must be seen in this many accounts of a group to belong to its signature.
const SEEN_MIN: u32 = 3;
/// The rounds of finding members and learning from them again.
const ROUNDS: usize = 3;
/// Values that an account is known by, of one channel; the smallest stay.
const VALUES_MAX: usize = 64;

/// Values of every account by channel, over the whole period.
#[derive(Debug)]
pub struct Values {
    /// For each account, sorted `(channel, value)`.
    of_account: Vec<Vec<(LinkChannel, u64)>>,
    /// In how many accounts a value is.
    accounts: HashMap<(LinkChannel, u64), u32>,
}

impl Values {
    /// Collects what the link channels see of each account at the end of the period.
    #[must_use]
    pub fn of(population: &Population) -> Self {
        Values::collect(population, |_| true)
    }

    /// The same for some accounts only; the others have no values.
    #[must_use]
    pub fn of_some(population: &Population, wanted: &HashSet<u32>) -> Self {
        Values::collect(population, |account| wanted.contains(&account))
    }

    /// The values of one account, by channel.
    #[must_use]
    pub fn account(&self, account: u32) -> &[(LinkChannel, u64)] {
        self.of_account.get(account as usize).map_or(&[], Vec::as_slice)
    }

    fn collect(population: &Population, wanted: impl Fn(u32) -> bool) -> Self {
        let mut accounts: HashMap<(LinkChannel, u64), u32> = HashMap::new();
        let of_account: Vec<Vec<(LinkChannel, u64)>> = population
            .members()
            .iter()
            .enumerate()
            .map(|(account, member)| {
                let mut values = Vec::new();
                if !wanted(account as u32) {
                    return values;
                }
                for channel in LinkChannel::ALL {
                    let mut of_channel: Vec<u64> = Vec::new();
                    channel
                        .values(member, population.calendar(), EPOCHS, &mut |v| of_channel.push(v));
                    of_channel.sort_unstable();
                    of_channel.dedup();
                    of_channel.truncate(VALUES_MAX);
                    values.extend(of_channel.into_iter().map(|v| (channel, v)));
                }
                for &value in &values {
                    *accounts.entry(value).or_default() += 1;
                }
                values.shrink_to_fit();
                values
            })
            .collect();
        Values { of_account, accounts }
    }
}

/// What a group has in common.
#[derive(Clone, Debug)]
pub struct Signature {
    /// Values that say something, with their log-likelihood ratio where present.
    present: HashMap<(LinkChannel, u64), f64>,
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
        let outside = (values.of_account.len() - members.len()) as f64;
        let mut seen: HashMap<(LinkChannel, u64), u32> = HashMap::new();
        for &m in members {
            for &value in &values.of_account[m as usize] {
                *seen.entry(value).or_default() += 1;
            }
        }
        let mut present = HashMap::new();
        let mut covered: [Vec<(LinkChannel, u64)>; crate::link::LINK_CHANNELS] = Default::default();
        for (&value, &count) in &seen {
            if count < SEEN_MIN {
                continue;
            }
            let all = values.accounts.get(&value).copied().unwrap_or(count);
            // One imaginary account on each side keeps a rare value from saying more
            // than its count can bear.
            let within = f64::from(count) / (inside + 1.0);
            let without = (f64::from(all - count) + 1.0) / (outside + 1.0);
            let say = (within / without).ln();
            if say > 0.0 {
                present.insert(value, say.min(SAY_MAX));
                covered[value.0 as usize].push(value);
            }
        }
        // A channel speaks by absence too, as far as its values are what members have:
        // p(no value | member) against p(no value | other).
        let mut absent = [0.0; crate::link::LINK_CHANNELS];
        for (channel, known) in covered.iter().enumerate() {
            let known: HashSet<u64> = known.iter().map(|v| v.1).collect();
            if known.is_empty() {
                continue;
            }
            let has = |m: usize| {
                values.of_account[m].iter().any(|v| v.0 as usize == channel && known.contains(&v.1))
            };
            let without_inside = members.iter().filter(|&&m| !has(m as usize)).count() as f64;
            let say = ((without_inside + 1.0) / (inside + 2.0)).ln();
            absent[channel] = say.max(-SAY_MAX / 2.0);
        }
        Signature { present, absent, prior: (inside / (outside + 1.0)).ln() }
    }

    /// The log-odds that an account belongs, and how many channels speak for it.
    fn odds(&self, values: &[(LinkChannel, u64)]) -> (f64, u32) {
        let mut best = [f64::MIN; crate::link::LINK_CHANNELS];
        for value in values {
            if let Some(&say) = self.present.get(value) {
                let channel = &mut best[value.0 as usize];
                *channel = channel.max(say);
            }
        }
        let mut odds = self.prior;
        let mut speaking = 0;
        for (say, absent) in best.into_iter().zip(self.absent) {
            if say > f64::MIN {
                odds += say;
                speaking += u32::from(say >= 1.0);
            } else {
                odds += absent;
            }
        }
        (odds, speaking)
    }

    /// Everybody who has it. An account that was not in the group needs two channels
    /// that speak for it.
    #[must_use]
    pub fn members(&self, values: &Values, frozen: &HashSet<u32>) -> Vec<Membership> {
        let mut members = Vec::new();
        for (account, of_account) in values.of_account.iter().enumerate() {
            let account = account as u32;
            let (odds, speaking) = self.odds(of_account);
            let known = frozen.contains(&account);
            if odds > 0.0 && (speaking >= 2 || (known && speaking >= 1)) {
                members.push(Membership { account, membership: 1.0 / (1.0 + (-odds).exp()) });
            }
        }
        members
    }
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

// ---- exchanges ---------------------------------------------------------------

/// Values of one exchange that tell harvest from an account's other traffic.
fn exchange_values(s: &Sampled) -> impl Iterator<Item = (u8, u64)> {
    let words = [(0u8, u64::from(s.opening)), (1, u64::from(s.closing))];
    let bands = s.bands;
    words
        .into_iter()
        .chain(bands.into_iter().enumerate().map(|(i, b)| (2 + i as u8, u64::from(b))))
        .filter(|v| v.1 != 0)
}

/// What the harvest of a group looks like, exchange by exchange.
#[derive(Clone, Debug, Default)]
pub struct HarvestSignature {
    wording: HashMap<(u8, u64), f64>,
    systems: HashMap<u64, f64>,
    clients: HashMap<u64, f64>,
    /// Log-likelihood ratio of an exchange with none of the known wordings.
    unworded: f64,
    follow_up: f64,
    opening: f64,
    capabilities: [f64; crate::observe::CAPABILITIES],
    prior: f64,
}

impl HarvestSignature {
    /// Learns from the members' samples against everybody else's.
    #[must_use]
    pub fn learn(population: &Population, members: &[Membership]) -> Self {
        let inside: HashSet<u32> = members.iter().map(|m| m.account).collect();
        let mut ours = Tally::default();
        for m in members {
            ours.add(&population.members()[m.account as usize], None);
        }
        // Of the others' values only those that members have too are of interest.
        let mut others = Tally::default();
        for (i, member) in population.members().iter().enumerate() {
            if !inside.contains(&(i as u32)) {
                others.add(member, Some(&ours));
            }
        }
        let ratio = |a: f64, a_all: f64, b: f64, b_all: f64| {
            (((a + 0.5) / (a_all + 1.0)) / ((b + 0.5) / (b_all + 1.0)))
                .ln()
                .clamp(-SAY_MAX, SAY_MAX)
        };
        let mut signature = HarvestSignature::default();
        let mut worded = 0f64;
        for (&value, &count) in &ours.wording {
            let say = ratio(
                f64::from(count),
                ours.sampled,
                f64::from(others.wording.get(&value).copied().unwrap_or(0)),
                others.sampled,
            );
            // A wording that one member alone uses may be a stranger's.
            if count >= 3 && say > 1.0 {
                signature.wording.insert(value, say);
                if value.0 == 0 {
                    worded += f64::from(count);
                }
            }
        }
        let worded_share = (worded / ours.sampled.max(1.0)).min(0.98);
        signature.unworded = (1.0 - worded_share).ln();
        for (into, mine, theirs) in [
            (&mut signature.systems, &ours.systems, &others.systems),
            (&mut signature.clients, &ours.clients, &others.clients),
        ] {
            for (&value, &count) in mine {
                let say = ratio(
                    count,
                    ours.exchanges,
                    theirs.get(&value).copied().unwrap_or(0.0),
                    others.exchanges,
                );
                if say.abs() > 0.5 {
                    into.insert(value, say);
                }
            }
        }
        signature.follow_up =
            ratio(ours.follow_ups, ours.exchanges, others.follow_ups, others.exchanges);
        signature.opening = ratio(
            ours.exchanges - ours.follow_ups,
            ours.exchanges,
            others.exchanges - others.follow_ups,
            others.exchanges,
        );
        for (say, (mine, theirs)) in signature
            .capabilities
            .iter_mut()
            .zip(ours.capabilities.iter().zip(&others.capabilities))
        {
            *say = ratio(*mine, ours.exchanges, *theirs, others.exchanges).clamp(-2.0, 2.0);
        }
        // Half of a member's traffic is harvest until something speaks.
        signature.prior = 0.5;
        signature
    }

    /// How surely an exchange of a member is harvest, 0 to 1.
    #[must_use]
    pub fn score(&self, traits: &Traits) -> f64 {
        let text = &traits.text;
        let words = [(0u8, text.opening as u32), (1, text.closing as u32)];
        let wording = words
            .into_iter()
            .chain(text.bands.iter().enumerate().map(|(i, &b)| (2 + i as u8, b as u32)))
            .filter_map(|(kind, value)| self.wording.get(&(kind, u64::from(value))))
            .copied()
            .fold(f64::MIN, f64::max);
        let mut odds = self.prior;
        odds += if wording > f64::MIN { wording } else { self.unworded };
        odds += self.systems.get(&crate::profile::set_hash(text.system)).copied().unwrap_or(0.0);
        odds += self.clients.get(&crate::profile::set_hash(traits.client)).copied().unwrap_or(0.0);
        odds += if traits.flags.has(Flags::FOLLOW_UP) { self.follow_up } else { self.opening };
        odds += self.capabilities[text.capability as usize];
        1.0 / (1.0 + (-odds).exp())
    }
}

#[derive(Default)]
struct Tally {
    exchanges: f64,
    follow_ups: f64,
    sampled: f64,
    wording: HashMap<(u8, u64), u32>,
    systems: HashMap<u64, f64>,
    clients: HashMap<u64, f64>,
    capabilities: [f64; crate::observe::CAPABILITIES],
}

impl Tally {
    fn add(&mut self, member: &Member, known: Option<&Tally>) {
        for (_, epoch) in member.profile.epochs(0..EPOCHS) {
            self.exchanges += f64::from(epoch.exchanges);
            self.follow_ups += f64::from(epoch.follow_ups);
            for (sum, &count) in self.capabilities.iter_mut().zip(&epoch.capabilities) {
                *sum += f64::from(count);
            }
            for entry in epoch.entries(Kind::System) {
                if known.is_none_or(|k| k.systems.contains_key(&entry.hash)) {
                    *self.systems.entry(entry.hash).or_default() += f64::from(entry.count);
                }
            }
            for entry in epoch.entries(Kind::Client) {
                if known.is_none_or(|k| k.clients.contains_key(&entry.hash)) {
                    *self.clients.entry(entry.hash).or_default() += f64::from(entry.count);
                }
            }
            for s in epoch.sample() {
                self.sampled += 1.0;
                for value in exchange_values(s) {
                    if known.is_none_or(|k| k.wording.contains_key(&value)) {
                        *self.wording.entry(value).or_default() += 1;
                    }
                }
            }
        }
    }
}

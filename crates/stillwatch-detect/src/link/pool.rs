//! Pool: accounts most of whose questions were asked by others as well.
//!
//! # What it sees
//!
//! Chains of accounts of which each asked more than half of its kept questions together
//! with a few others (at most 32 askers of a question, at least four questions).
//!
//! # Why it matters
//!
//! People repeat each other in 5 to 19 % of their opening questions; accounts that ask
//! each question of a pool a set number of times repeat each other nearly always.
//!
//! # Innocent explanations
//!
//! Benchmarks, assignments, tenants of one app.
//!
//! # How it is evaded, and at what cost
//!
//! By asking each question once, at the price of one answer to each.
//!
//! # References
//!
//! * Zhang, Chen, Wagner (2021), «SEAT: similarity encoder by adversarial training for
//!   detecting model extraction attack queries», AISec: accounts are tied by the likeness
//!   of their queries
//! * Beyer et al. (2007), «On synopses for distinct-value estimation under multiset
//!   operations», SIGMOD: why the smallest hashes of two accounts can be compared

use petgraph::unionfind::UnionFind;

use super::{Bucket, GROUP_MIN, Gather, Link, LinkChannel, joint};
use crate::population::{Member, Population};
use crate::profile::Kind;

pub(super) const CHANNEL: Link = Link {
    name: "pool",
    shared_thing: "pool of questions",
    gather: Gather::Groups(buckets),
    grows: false,
    joins: true,
};

/// A question asked by more accounts than this is common.
const ASKERS_MAX: usize = 32;
/// Questions of an account that must be kept before their sharing can be judged.
const QUESTIONS_MIN: usize = 4;

fn questions(member: &Member, freeze: usize) -> Vec<u64> {
    let mut hashes: Vec<u64> = member
        .profile
        .epochs(0..freeze)
        .flat_map(|(_, e)| e.entries(Kind::Prompt).map(|p| p.hash))
        .collect();
    hashes.sort_unstable();
    hashes.dedup();
    hashes
}

/// Accounts more than half of whose kept questions a few others asked too, with the
/// pairs `(question, account)` that say so.
#[must_use]
pub fn mostly_shared(population: &Population, active: &[u32], freeze: usize) -> Vec<(u64, u32)> {
    let mut pairs: Vec<(u64, u32)> = Vec::new();
    let mut kept: Vec<(u32, usize)> = Vec::with_capacity(active.len());
    for &i in active {
        let questions = questions(&population.members()[i as usize], freeze);
        kept.push((i, questions.len()));
        pairs.extend(questions.into_iter().map(|q| (q, i)));
    }
    pairs.sort_unstable();
    let shared: Vec<(u64, u32)> = pairs
        .chunk_by(|a, b| a.0 == b.0)
        .filter(|run| (2..=ASKERS_MAX).contains(&run.len()))
        .flatten()
        .copied()
        .collect();
    let mut by_account: hashbrown::HashMap<u32, usize> = hashbrown::HashMap::new();
    for &(_, i) in &shared {
        *by_account.entry(i).or_default() += 1;
    }
    let mostly: hashbrown::HashSet<u32> = kept
        .into_iter()
        .filter(|(i, total)| {
            *total >= QUESTIONS_MIN && by_account.get(i).is_some_and(|n| 2 * n > *total)
        })
        .map(|(i, _)| i)
        .collect();
    shared.into_iter().filter(|(_, i)| mostly.contains(i)).collect()
}

fn buckets(population: &Population, active: &[u32], freeze: usize, most: usize) -> Vec<Bucket> {
    let shared = mostly_shared(population, active, freeze);
    let mut accounts: Vec<u32> = shared.iter().map(|p| p.1).collect();
    accounts.sort_unstable();
    accounts.dedup();
    let place = |i: u32| accounts.binary_search(&i).unwrap_or(0);
    let mut sets: UnionFind<usize> = UnionFind::new(accounts.len());
    for run in shared.chunk_by(|a, b| a.0 == b.0) {
        for pair in run.windows(2) {
            sets.union(place(pair[0].1), place(pair[1].1));
        }
    }
    let mut groups: std::collections::BTreeMap<usize, Vec<u32>> = std::collections::BTreeMap::new();
    for (index, &account) in accounts.iter().enumerate() {
        groups.entry(sets.find(index)).or_default().push(account);
    }
    groups
        .into_values()
        .filter(|members| (GROUP_MIN..=most).contains(&members.len()))
        .map(|members| Bucket {
            channel: LinkChannel::Pool,
            value: joint(&[14, u64::from(members[0])]),
            members,
        })
        .collect()
}

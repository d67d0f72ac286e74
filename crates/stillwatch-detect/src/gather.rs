//! Gather: buckets that hold the same accounts become candidates, each alone and, where
//! they overlap far beyond chance, together.
//!
//! Both are kept: a campaign may be scattered over many buckets that only together show
//! it, and a component that grew by accident must not hide the parts it grew from. So
//! nothing has to be split again; every part is judged beside the whole.

use hashbrown::HashMap;
use petgraph::unionfind::UnionFind;
use rayon::prelude::*;

use crate::link::{Bucket, LinkChannel, Links};

/// Accounts of a bucket whose other buckets are looked at, evenly picked. With 64 the
/// standard error of an overlap of one half is 0.06.
const PROBES: usize = 64;
/// Buckets remembered for an account; the smallest, which say most, stay.
const BUCKETS_PER_ACCOUNT: usize = 32;
/// Overlap from which two buckets are one thing seen twice.
const SAME: f64 = 0.8;
/// Overlap, as a part of the smaller, from which two buckets belong together…
const BELONGS: f64 = 0.5;
/// …if it is also this many times what chance gives.
const LIFT: f64 = 4.0;

/// The stratum of groups that were put together from several buckets.
pub const JOINED: &str = "joined";

/// A group of accounts that may be a campaign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Indices into the population, ascending.
    pub members: Vec<u32>,
    /// The link channels that formed it, without repeats, in their order.
    pub channels: Vec<LinkChannel>,
    /// The values that formed it: channel, value and how many accounts share it.
    pub values: Vec<(LinkChannel, u64, u32)>,
    /// Whether it was put together from several different buckets.
    pub is_joined: bool,
}

impl Candidate {
    /// The kind of linking, within which groups are compared with each other.
    #[must_use]
    pub fn stratum(&self) -> &'static str {
        if self.is_joined { JOINED } else { self.channels.first().map_or("none", |c| c.name()) }
    }

    /// The surprise of its rarest value: minus the natural log of the part of the
    /// active accounts that share it.
    #[must_use]
    pub fn surprise(&self, active: usize) -> f64 {
        self.values
            .iter()
            .map(|&(_, _, count)| (active.max(1) as f64 / f64::from(count.max(1))).ln())
            .fold(0.0, f64::max)
    }
}

/// How one bucket lies to another.
#[derive(Clone, Copy)]
enum Near {
    Same,
    Belongs,
}

/// Makes candidates from buckets. Linear in the buckets' sizes; deterministic.
#[must_use]
pub fn gather(links: &Links, accounts: usize) -> Vec<Candidate> {
    let buckets = &links.buckets;
    let mut of_account: Vec<Vec<u32>> = vec![Vec::new(); accounts];
    let mut by_size: Vec<u32> = (0..buckets.len() as u32).collect();
    by_size.sort_by_key(|&b| (buckets[b as usize].members.len(), b));
    for &b in &by_size {
        for &account in &buckets[b as usize].members {
            let list = &mut of_account[account as usize];
            if list.len() < BUCKETS_PER_ACCOUNT {
                list.push(b);
            }
        }
    }

    let near = |counts: &mut HashMap<u32, u32>, (a, bucket): (usize, &Bucket)| {
        let size = bucket.members.len();
        let probes = size.min(PROBES);
        counts.clear();
        for probe in 0..probes {
            let account = bucket.members[probe * size / probes];
            for &b in &of_account[account as usize] {
                *counts.entry(b).or_default() += 1;
            }
        }
        let mut others: Vec<(u32, u32)> =
            counts.iter().map(|(&b, &n)| (b, n)).filter(|&(b, _)| b as usize != a).collect();
        others.sort_unstable();
        let near = others.into_iter().filter_map(|(b, hits)| {
            let overlap = f64::from(hits) / probes as f64;
            let other = buckets[b as usize].members.len();
            if overlap >= SAME && size as f64 >= SAME * other as f64 {
                Some((a as u32, b, Near::Same))
            } else if overlap >= BELONGS
                && bucket.channel.link().joins
                && buckets[b as usize].channel.link().joins
                && overlap * links.active as f64 / other as f64 >= LIFT
            {
                Some((a as u32, b, Near::Belongs))
            } else {
                None
            }
        });
        near.collect::<Vec<_>>()
    };
    let near: Vec<Vec<(u32, u32, Near)>> =
        buckets.par_iter().enumerate().map_init(HashMap::new, near).collect();
    let mut same: UnionFind<u32> = UnionFind::new(buckets.len());
    let mut belongs: Vec<(u32, u32)> = Vec::new();
    for (a, b, how) in near.into_iter().flatten() {
        match how {
            Near::Same => {
                same.union(a, b);
            }
            Near::Belongs => belongs.push((a, b)),
        }
    }

    let mut candidates = Vec::new();
    let mut classes: std::collections::BTreeMap<u32, Vec<u32>> = std::collections::BTreeMap::new();
    for b in 0..buckets.len() as u32 {
        classes.entry(same.find(b)).or_default().push(b);
    }
    let mut joined: UnionFind<u32> = UnionFind::new(buckets.len());
    for (a, b) in belongs {
        joined.union(same.find(a), same.find(b));
    }
    let mut components: std::collections::BTreeMap<u32, Vec<u32>> =
        std::collections::BTreeMap::new();
    for (&class, parts) in &classes {
        components.entry(joined.find(class)).or_default().push(class);
        candidates.push(candidate(links, parts, false));
    }
    for parts in components.values().filter(|parts| parts.len() > 1) {
        let all: Vec<u32> = parts.iter().flat_map(|class| &classes[class]).copied().collect();
        let whole = candidate(links, &all, true);
        let most = links.active as f64 * crate::link::SHARE_MAX;
        let largest = parts.iter().map(|c| buckets[*c as usize].members.len()).max().unwrap_or(0);
        // Hardly larger than its largest part: the part says it already.
        if (whole.members.len() as f64) <= most
            && largest as f64 <= SAME * whole.members.len() as f64
        {
            candidates.push(whole);
        }
    }
    candidates
}

fn candidate(links: &Links, parts: &[u32], is_joined: bool) -> Candidate {
    let mut members = Vec::new();
    let mut channels = Vec::new();
    let mut values = Vec::new();
    // One set of accounts found in several ways stands by any of them: a habit, which
    // would spend what the group can be confirmed by, is left out.
    let of = |b: u32| &links.buckets[b as usize];
    let is_more_than_habit = parts.iter().any(|&b| of(b).channel.link().joins);
    for &b in parts {
        let bucket = of(b);
        if is_more_than_habit && !bucket.channel.link().joins {
            continue;
        }
        members.extend_from_slice(&bucket.members);
        channels.push(bucket.channel);
        values.push((bucket.channel, bucket.value, bucket.members.len() as u32));
    }
    members.sort_unstable();
    members.dedup();
    channels.sort_unstable();
    channels.dedup();
    values.sort_unstable();
    Candidate { members, channels, values, is_joined }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn links(buckets: &[(LinkChannel, std::ops::Range<u32>)]) -> Links {
        let buckets = buckets
            .iter()
            .enumerate()
            .map(|(i, (channel, range))| Bucket {
                channel: *channel,
                value: i as u64,
                members: range.clone().collect(),
            })
            .collect();
        Links { buckets, active: 1000 }
    }

    #[test]
    fn one_thing_seen_twice_is_one_candidate() {
        let candidates =
            gather(&links(&[(LinkChannel::Payment, 0..20), (LinkChannel::Network, 0..21)]), 1000);
        assert_eq!(candidates.len(), 1);
        assert_eq!(candidates[0].channels, [LinkChannel::Payment, LinkChannel::Network]);
        assert_eq!(candidates[0].members.len(), 21);
    }

    #[test]
    fn fragments_are_judged_alone_and_together() {
        // Three instruments, and a script that each group shares in part.
        let candidates = gather(
            &links(&[
                (LinkChannel::Payment, 0..20),
                (LinkChannel::Payment, 20..40),
                (LinkChannel::Script, 8..32),
                (LinkChannel::Payment, 500..520),
            ]),
            1000,
        );
        assert_eq!(candidates.iter().filter(|c| !c.is_joined).count(), 4);
        let whole: Vec<_> = candidates.iter().filter(|c| c.is_joined).collect();
        assert_eq!(whole.len(), 1);
        assert_eq!(whole[0].members, (0..40).collect::<Vec<u32>>());
    }

    #[test]
    fn what_many_share_joins_nobody() {
        // Half of a firm uses a client that a quarter of everybody uses.
        let candidates =
            gather(&links(&[(LinkChannel::Payment, 0..20), (LinkChannel::Client, 10..260)]), 1000);
        assert!(candidates.iter().all(|c| !c.is_joined));
    }
}

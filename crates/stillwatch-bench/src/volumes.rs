//! Balance, account by account: more accounts at nearly the same volumes than a smooth
//! crowd explains.
//!
//! The crowd is the smoothest one with the accounts' own spread: log-normal in tokens
//! and in transactions, one apart from the other, as the joint habits of links are held
//! against the product of their parts. Around each account its likes are counted, those
//! with as many transactions whose tokens differ by less than a factor, at several
//! factors from none (the same value) to the crowd's own spread. How many times more they
//! are than the crowd explains is evidence in nats; the mean over the factors is the
//! account's, so that no factor has to be chosen. Nothing here has seen a label.

use std::collections::BTreeMap;

use statrs::distribution::{Continuous, ContinuousCDF, Normal};
use stillwatch_detect::gather::{Candidate, gather};
use stillwatch_detect::link::{Bucket, GROUP_MIN, LinkChannel, Links, SHARE_MAX};

/// One account's volumes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Volume {
    /// More than 0.
    pub tokens: f64,
    /// `None` where not known.
    pub transactions: Option<u32>,
}

/// Values that differ by less are the same: a millionth, the precision of the source.
const SAME: f64 = 1e-6;
/// How many factors there are beside the one for the same value, each so many times
/// narrower than the one before, beginning with the crowd's spread.
const FACTORS: i32 = 8;
const NARROWER: f64 = 3.162_277_660_168_379_5;
/// How many times wider than a bucket its surroundings are.
const AROUND: f64 = 10.0;
/// How many times denser than its surroundings a smooth crowd may be somewhere.
const RISE: f64 = 2.0;

/// The smooth crowd, and how far apart likes may be.
struct Crowd {
    accounts: f64,
    tokens: Normal,
    spread: f64,
    transactions: Option<Normal>,
    /// Share of the accounts whose transactions are known.
    known: f64,
}

impl Crowd {
    fn of(volumes: &[Volume]) -> Option<Self> {
        let logs = volumes.iter().map(|v| v.tokens.ln());
        let counts: Vec<f64> = volumes
            .iter()
            .filter_map(|v| v.transactions)
            .map(|t| f64::from(t.max(1)).ln())
            .collect();
        let (tokens, spread) = normal(logs)?;
        let known = counts.len() as f64 / volumes.len() as f64;
        let transactions = normal(counts.into_iter()).map(|(n, _)| n);
        Some(Crowd { accounts: volumes.len() as f64, tokens, spread, transactions, known })
    }

    /// The likes that the crowd gives an account, by half width in log tokens.
    fn expected(&self, volume: &Volume, width: f64) -> f64 {
        let density = self.tokens.pdf(volume.tokens.ln());
        (self.accounts - 1.0) * self.share(volume.transactions) * (density * 2.0 * width).min(1.0)
    }

    /// The share of the crowd with so many transactions.
    fn share(&self, transactions: Option<u32>) -> f64 {
        let Some(count) = transactions else { return 1.0 - self.known };
        let Some(normal) = &self.transactions else { return self.known };
        let below = |edge: f64| normal.cdf(edge.ln());
        let count = f64::from(count.max(1));
        let low = if count <= 1.0 { 0.0 } else { below(count - 0.5) };
        self.known * (below(count + 0.5) - low)
    }

    fn widths(&self) -> impl Iterator<Item = f64> {
        let spread = self.spread;
        (0..FACTORS).map(move |k| spread / NARROWER.powi(k)).chain([SAME])
    }
}

/// The normal distribution with the moments of some values; `None` without any spread.
fn normal(values: impl Iterator<Item = f64> + Clone) -> Option<(Normal, f64)> {
    let count = values.clone().count() as f64;
    let mean = values.clone().sum::<f64>() / count;
    let spread = (values.map(|v| (v - mean).powi(2)).sum::<f64>() / count).sqrt();
    let is_usable = spread.is_finite() && spread > SAME;
    is_usable.then(|| Normal::new(mean, spread).ok()).flatten().map(|n| (n, spread))
}

/// Accounts with the same transactions, in the order of their tokens.
fn by_transactions(volumes: &[Volume]) -> BTreeMap<Option<u32>, Vec<u32>> {
    let mut lists: BTreeMap<Option<u32>, Vec<u32>> = BTreeMap::new();
    for (index, volume) in volumes.iter().enumerate() {
        lists.entry(volume.transactions).or_default().push(index as u32);
    }
    for list in lists.values_mut() {
        list.sort_by(|a, b| {
            volumes[*a as usize].tokens.total_cmp(&volumes[*b as usize].tokens).then(a.cmp(b))
        });
    }
    lists
}

/// By account: the evidence, in nats, that it is one of an even group. 0 for all where
/// the volumes have no spread.
///
/// Linear in the accounts, after sorting.
#[must_use]
pub fn evenness(volumes: &[Volume]) -> Vec<f64> {
    let mut evidence = vec![0.0; volumes.len()];
    let Some(crowd) = Crowd::of(volumes) else { return evidence };
    let widths: Vec<f64> = crowd.widths().collect();
    for list in by_transactions(volumes).values() {
        let logs: Vec<f64> = list.iter().map(|i| volumes[*i as usize].tokens.ln()).collect();
        for width in &widths {
            let (mut first, mut after) = (0, 0);
            for (place, index) in list.iter().enumerate() {
                while logs[place] - logs[first] > *width {
                    first += 1;
                }
                while after < logs.len() && logs[after] - logs[place] <= *width {
                    after += 1;
                }
                let likes = (after - first - 1) as f64;
                let expected = crowd.expected(&volumes[*index as usize], *width);
                // One more on either side: what is not there says little.
                evidence[*index as usize] +=
                    ((likes + 1.0) / (expected + 1.0)).ln() / widths.len() as f64;
            }
        }
    }
    evidence
}

/// Groups of accounts whose joint volumes are too equal for their surroundings, at a
/// level: buckets of the same transactions and nearly the same tokens, by the rules that
/// links have (size, and the part of all accounts that a bucket may hold), gathered as
/// links are. A bucket is held against those with the same transactions and tokens within
/// a span ten times as wide, which reaches no farther than the crowd's own spread, so that
/// the crowd need have no known form. Where its density nowhere rises to more than twice
/// that of the surroundings, the expected number of buckets that chance alone puts here is
/// at most `level`; of a bucket that is put here, most accounts are not explained.
#[must_use]
pub fn even_groups(volumes: &[Volume], level: f64) -> Vec<Candidate> {
    let Some(crowd) = Crowd::of(volumes) else { return Vec::new() };
    let most = (volumes.len() as f64 * SHARE_MAX) as usize;
    let widths: Vec<f64> = crowd.widths().filter(|w| AROUND * w <= crowd.spread).collect();
    let mut cells: Vec<(Vec<u32>, f64)> = Vec::new();
    for list in by_transactions(volumes).values() {
        let log = |i: &u32| volumes[*i as usize].tokens.ln();
        for width in &widths {
            let cell = |i: &u32| (log(i) / (2.0 * width)).floor();
            for run in list.chunk_by(|a, b| cell(a) == cell(b)).filter(|run| run.len() > 1) {
                let middle = (cell(&run[0]) + 0.5) * 2.0 * width;
                let wide = AROUND * width;
                let first = list.partition_point(|i| log(i) < middle - wide);
                let after = list.partition_point(|i| log(i) < middle + wide);
                // What the bucket itself holds is no measure of its surroundings.
                let others = (after - first).saturating_sub(run.len()) as f64;
                cells.push((run.to_vec(), RISE * (others + 1.0) / (AROUND - 1.0)));
            }
        }
    }
    let tests = cells.len().max(1) as f64;
    let buckets = cells
        .into_iter()
        .filter(|(members, expected)| {
            (GROUP_MIN..=most).contains(&members.len())
                && surprise(members.len() as f64, *expected) >= (tests / level).ln()
        })
        .enumerate()
        .map(|(value, (mut members, _))| {
            members.sort_unstable();
            Bucket { channel: LinkChannel::Habit, value: value as u64, members }
        })
        .collect();
    gather(&Links { buckets, active: volumes.len() }, volumes.len())
}

/// Chernoff's bound on minus the log of the probability that a Poisson number of this
/// mean is so large.
fn surprise(count: f64, mean: f64) -> f64 {
    if count <= mean { 0.0 } else { count * (count / mean).ln() - (count - mean) }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;
    use rand_distr::StandardNormal;

    use super::*;

    /// A log-normal crowd, and behind it a group of forty at nearly the same volumes.
    fn crowd(group: usize) -> Vec<Volume> {
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let mut normal = || -> f64 { rng.sample(StandardNormal) };
        let mut volumes: Vec<Volume> = (0..5_000)
            .map(|_| Volume {
                tokens: (6.0 + normal()).exp(),
                transactions: Some((1.5 + normal()).exp().round().max(1.0) as u32),
            })
            .collect();
        volumes.extend(
            (0..group)
                .map(|_| Volume { tokens: (6.5 + 0.002 * normal()).exp(), transactions: Some(23) }),
        );
        volumes
    }

    #[test]
    fn an_even_group_stands_out_of_a_crowd() {
        let volumes = crowd(40);
        let evidence = evenness(&volumes);
        let least = evidence[5_000..].iter().copied().fold(f64::INFINITY, f64::min);
        let louder = evidence[..5_000].iter().filter(|e| **e >= least).count();
        assert!(louder < 5, "{louder} of the crowd above {least}");
        let groups = even_groups(&volumes, 0.05);
        assert!(!groups.is_empty());
        for group in &groups {
            let strangers = group.members.iter().filter(|m| **m < 5_000).count();
            assert!(strangers * 10 < group.members.len(), "{strangers} strangers");
        }
        let members: std::collections::BTreeSet<u32> =
            groups.iter().flat_map(|g| g.members.iter().copied()).collect();
        assert!(members.iter().filter(|m| **m >= 5_000).count() >= 36);
    }

    #[test]
    fn a_smooth_crowd_has_no_even_groups() {
        assert_eq!(even_groups(&crowd(0), 0.05), []);
    }

    #[test]
    fn volumes_without_spread_say_nothing() {
        let same = vec![Volume { tokens: 5.0, transactions: None }; 20];
        assert_eq!(evenness(&same), vec![0.0; 20]);
        assert_eq!(even_groups(&same, 0.05), []);
        assert!(evenness(&[]).is_empty());
    }
}

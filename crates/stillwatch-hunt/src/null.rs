//! Null runs: how many groups are reported where there is nothing to report.
//!
//! On a null day the accounts of a log keep what links them, and what they did after each
//! freezing is shuffled between accounts that are linked in the same ways; whatever is
//! reported then is a false report. Placebo bans close other accounts than were closed, and
//! placebo releases happen at other times; whatever is reported that is not reported
//! without them is false too.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use serde::Serialize;
use statrs::distribution::{ContinuousCDF, Gamma};
use stillwatch_detect::calendar::EPOCHS;
use stillwatch_detect::find::Found;
use stillwatch_detect::population::Population;
use stillwatch_detect::references::References;
use stillwatch_exchange::time::DAY_US;
use stillwatch_exchange::{Release, Time};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::references::read;
use crate::run::{Input, discovered, find_all, profiled, runtime};
use crate::settings::{HuntError, HuntSettings, Progress, Stage};

/// What a null run is asked to do.
#[derive(Clone, Debug)]
pub struct NullSettings {
    /// The hunt whose false reports are counted; nothing is written into its folder.
    pub hunt: HuntSettings,
    /// Null days, and placebo bans.
    pub days: u32,
    /// Names the shuffles.
    pub seed: u64,
}

/// Placebo releases that are tried at most: each reads all exchanges again.
pub const PLACEBO_RELEASES_MAX: u32 = 4;

/// `null.json`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NullRecord {
    pub days: u32,
    /// The false-discovery level α of the hunt.
    pub level: f64,
    /// Groups that may be reported by chance in all days together: α a day.
    pub promised: f64,
    /// Groups that were reported, all of them falsely.
    pub reported: u64,
    /// Of those, the ones that came with a promise and not with a rank alone.
    pub reported_with_promise: u64,
    /// 95 % confidence interval of the number that is to be expected in as many days
    /// (Garwood 1936).
    pub interval_95: (f64, f64),
    pub placebo_bans: Placebo,
    /// `None` where no release is known.
    pub placebo_releases: Option<Placebo>,
    pub seed: u64,
}

/// Runs with something that did not happen.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Placebo {
    pub runs: u32,
    /// Groups that were reported then, and are not without it.
    pub reported: u64,
    pub interval_95: (f64, f64),
}

impl Placebo {
    fn new(runs: u32, reported: u64) -> Self {
        Placebo { runs, reported, interval_95: interval_95(reported) }
    }
}

/// The exact interval of a Poisson mean, by its count (Garwood 1936, «Fiducial limits for
/// the Poisson distribution»).
fn interval_95(count: u64) -> (f64, f64) {
    let quantile = |shape: f64, p: f64| Gamma::new(shape, 1.0).map_or(0.0, |g| g.inverse_cdf(p));
    let low = if count == 0 { 0.0 } else { quantile(count as f64, 0.025) };
    (low, quantile(count as f64 + 1.0, 0.975))
}

/// Passes on the wish to stop, and no news: the stages of a single day are too short.
struct Silent<'a>(&'a dyn Progress);

impl Progress for Silent<'_> {
    fn begin(&self, _: Stage, _: Option<u64>, _: &'static str) {}
    fn at(&self, _: Stage, _: u64) {}
    fn end(&self, _: Stage) {}
    fn is_stopped(&self) -> bool {
        self.0.is_stopped()
    }
}

/// Runs the null days and placebos of a log. Blocks until the end.
///
/// # Errors
/// As [`crate::hunt`].
pub fn null(settings: &NullSettings, progress: Arc<dyn Progress>) -> Result<NullRecord, HuntError> {
    let runtime = runtime(settings.hunt.threads)?;
    let result = runtime.block_on(runs(settings, progress.as_ref(), runtime.handle().clone()));
    // Readers that still wait for a channel end with the runtime.
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    result
}

async fn runs(
    settings: &NullSettings,
    progress: &dyn Progress,
    handle: tokio::runtime::Handle,
) -> Result<NullRecord, HuntError> {
    let hunt = &settings.hunt;
    let known =
        hunt.references.as_deref().map_or_else(|| Ok(References::default()), |p: &Path| read(p))?;
    let mut input = discovered(hunt, progress, handle).await?;
    let releases = std::mem::take(&mut input.releases);
    let accounts = input.accounts.clone();
    let mut population = profiled(&mut input, &releases, hunt, progress).await?;
    let silent = Silent(progress);
    let real = reported(&population, &find_all(&population, hunt, &known, None, progress)?);

    let tried = if releases.is_empty() { 0 } else { settings.days.min(PLACEBO_RELEASES_MAX) };
    let runs = u64::from(settings.days) * 2 + u64::from(tried);
    progress.begin(Stage::Null, Some(runs), "runs");
    let mut done = 0;
    let mut step = || {
        done += 1;
        progress.at(Stage::Null, done);
    };
    let mut false_reports = 0;
    let mut with_promise = 0;
    for day in 0..settings.days {
        let shuffle = xxh3_64_with_seed(&day.to_le_bytes(), settings.seed);
        let found = find_all(&population, hunt, &known, Some(shuffle), &silent)?;
        false_reports += found.findings.len() as u64;
        with_promise += found.findings.iter().filter(|f| f.promise.value() > 0.0).count() as u64;
        step();
    }

    let closures: Vec<Option<Time>> = population.members().iter().map(|m| m.closed_at()).collect();
    let mut after_bans = 0;
    for run in 0..settings.days {
        let seed = xxh3_64_with_seed(&run.to_le_bytes(), !settings.seed);
        move_closures(&mut population, &closures, seed);
        let found = find_all(&population, hunt, &known, None, &silent)?;
        after_bans += new_reports(&population, &found, &real);
        step();
    }

    let mut after_releases = 0;
    for run in 0..tried {
        let seed = xxh3_64_with_seed(&run.to_le_bytes(), settings.seed);
        let moved = move_releases(&input, &releases, seed);
        input.accounts = accounts.clone();
        let population = profiled(&mut input, &moved, hunt, &silent).await?;
        let found = find_all(&population, hunt, &known, None, &silent)?;
        after_releases += new_reports(&population, &found, &real);
        step();
    }
    progress.end(Stage::Null);
    Ok(NullRecord {
        days: settings.days,
        level: hunt.level,
        promised: hunt.level * f64::from(settings.days),
        reported: false_reports,
        reported_with_promise: with_promise,
        interval_95: interval_95(false_reports),
        placebo_bans: Placebo::new(settings.days, after_bans),
        placebo_releases: (tried > 0).then(|| Placebo::new(tried, after_releases)),
        seed: settings.seed,
    })
}

/// The accounts of all findings.
fn reported(population: &Population, found: &Found) -> HashSet<String> {
    let members = found.findings.iter().flat_map(|f| &f.members);
    members.map(|m| population.members()[m.account as usize].account_id.clone()).collect()
}

/// Findings most of whose accounts are not reported without the placebo.
fn new_reports(population: &Population, found: &Found, real: &HashSet<String>) -> u64 {
    let is_new = |finding: &&stillwatch_detect::find::Finding| {
        let known = finding
            .members
            .iter()
            .filter(|m| real.contains(&population.members()[m.account as usize].account_id));
        2 * known.count() < finding.members.len()
    };
    found.findings.iter().filter(is_new).count() as u64
}

/// Gives the closures to other accounts, in an order that the seed names. An account that
/// is open at a closure it gets has traffic after it, as a placebo's has.
fn move_closures(population: &mut Population, closures: &[Option<Time>], seed: u64) {
    let mut order: Vec<(u64, usize)> = population
        .members()
        .iter()
        .enumerate()
        .map(|(i, m)| (xxh3_64_with_seed(m.account_id.as_bytes(), seed), i))
        .collect();
    order.sort_unstable();
    for ((_, to), closed_at) in order.into_iter().zip(closures) {
        population.close(to, *closed_at);
    }
}

/// Moves each release to another moment of the period, days from where it was.
fn move_releases(input: &Input, releases: &[Release], seed: u64) -> Vec<Release> {
    let (start, end) = (input.period.0.0, input.period.1.0);
    let span = (end - start).max(1);
    let least = (2 * DAY_US).min(span / EPOCHS as i64);
    releases
        .iter()
        .map(|release| {
            let drawn = xxh3_64_with_seed(release.model.as_bytes(), seed) >> 11;
            let part = drawn as f64 / (1u64 << 53) as f64;
            let by = least + (part * (span - 2 * least).max(0) as f64) as i64;
            let moved = start + (release.released_at.0 - start + by).rem_euclid(span);
            Release { released_at: Time(moved), model: release.model.clone() }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_of_counts() {
        // Garwood's table.
        for (count, low, high) in [(0, 0.0, 3.689), (1, 0.025, 5.572), (10, 4.795, 18.390)] {
            let interval = interval_95(count);
            assert!((interval.0 - low).abs() < 0.001 && (interval.1 - high).abs() < 0.001);
        }
    }
}

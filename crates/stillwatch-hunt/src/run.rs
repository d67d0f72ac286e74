//! One hunt from its arguments to its findings: the order of the stages.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hashbrown::HashMap;
use serde::Serialize;
use stillwatch_detect::calendar::Calendar;
use stillwatch_detect::find::{self, Found, Step};
use stillwatch_detect::observe::Observer;
use stillwatch_detect::population::{Member, Population};
use stillwatch_detect::references::References;
use stillwatch_exchange::time::HOUR_US;
use stillwatch_exchange::{Account, Campaign, MemberRow, Release, Time};
use stillwatch_ingest::{
    AccountFilter, Discovery, Meter, Source, Table, discover, read_accounts, read_releases,
};

use crate::conclude::{Known, conclude};
use crate::engine;
use crate::functions::OBSERVED;
use crate::references::{Entry, read};
use crate::settings::{HuntError, HuntSettings, Period, Progress, Stage};
use crate::source::{Pass, Unread, locked};
use crate::write::HarvestFile;

/// What a hunt found.
#[derive(Debug)]
pub struct Hunted {
    pub campaigns: Vec<Campaign>,
    pub members: Vec<MemberRow>,
    pub harvest: HarvestFile,
    pub picture: stillwatch_exchange::picture::Picture,
    /// `groups.jsonl`: what `clear` needs to know of each campaign, and the known
    /// customers that stand beside them.
    pub groups: Vec<Entry>,
    pub run: RunRecord,
}

/// `run.json`: what was read and how the run went.
#[derive(Clone, Debug, Default, Serialize)]
pub struct RunRecord {
    pub rows_read: u64,
    /// Rows and cells that could not be read, by reason.
    pub rows_refused: BTreeMap<String, u64>,
    /// Rows that lie outside of the period that was asked for.
    pub rows_outside_period: u64,
    pub files: Vec<String>,
    pub file_problems: Vec<String>,
    pub unknown_columns: Vec<String>,
    pub accounts: u64,
    pub candidates: u64,
    pub references: u64,
    pub stage_rows: BTreeMap<String, u64>,
    pub settings: serde_json::Value,
    /// By stage; filled by whoever has a clock.
    pub wall_seconds: BTreeMap<String, f64>,
    /// Filled by whoever can ask the system.
    pub peak_memory_bytes: u64,
    pub versions: BTreeMap<String, String>,
}

/// How often progress is asked of a running pass.
const TICK: Duration = Duration::from_millis(200);
/// The part of all exchanges that may lie outside the period at each end: a few rows
/// with a broken clock must not stretch it.
const STRAY_SHARE: f64 = 0.0005;

pub(crate) fn runtime(threads: usize) -> Result<tokio::runtime::Runtime, HuntError> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads.max(1))
        .enable_all()
        .build()
        .map_err(|source| HuntError::Io { path: "threads".into(), source })
}

/// Hunts. Blocks until the end; its own threads do the work.
///
/// # Errors
/// Unusable arguments, nothing to read, stopped, or the engine failed. A row or a file
/// that can't be read is no error; it is counted in [`RunRecord`].
pub fn hunt(settings: &HuntSettings, progress: Arc<dyn Progress>) -> Result<Hunted, HuntError> {
    let runtime = runtime(settings.threads)?;
    let result = runtime.block_on(stages(settings, progress, runtime.handle().clone()));
    // Readers that still wait for a channel end with the runtime.
    runtime.shutdown_timeout(Duration::from_secs(2));
    result
}

/// Runs a pass, telling of its rows, until it ends or is stopped.
pub(crate) async fn watched<T>(
    pass: impl Future<Output = datafusion::common::Result<T>>,
    stage: Stage,
    meter: &Meter,
    progress: &dyn Progress,
) -> Result<T, HuntError> {
    let before = meter.rows();
    tokio::pin!(pass);
    let result = loop {
        tokio::select! {
            result = &mut pass => break result,
            () = tokio::time::sleep(TICK) => {
                progress.at(stage, meter.rows() - before);
                if progress.is_stopped() {
                    return Err(HuntError::Stopped);
                }
            }
        }
    };
    if progress.is_stopped() {
        return Err(HuntError::Stopped);
    }
    progress.at(stage, meter.rows() - before);
    progress.end(stage);
    result.map_err(HuntError::engine(stage))
}

/// The first and the last hour that the period begins and ends with.
fn period(hours: &[(i64, u64)]) -> (Time, Time) {
    let all: u64 = hours.iter().map(|h| h.1).sum();
    let strays = (all as f64 * STRAY_SHARE) as u64;
    let end = |hours: &mut dyn Iterator<Item = &(i64, u64)>| {
        let mut passed = 0;
        for (hour, exchanges) in hours {
            passed += exchanges;
            if passed > strays {
                return *hour;
            }
        }
        0
    };
    let first = end(&mut hours.iter());
    let last = end(&mut hours.iter().rev());
    (Time(first * HOUR_US), Time((last + 1) * HOUR_US - 1))
}

/// What there is to read, and in which period.
pub(crate) struct Input {
    readable: Readable,
    /// By id.
    pub accounts: HashMap<String, Account>,
    pub releases: Vec<Release>,
    /// Exchanges by hour since the epoch.
    hours: Vec<(i64, u64)>,
    exchanges: u64,
    /// Beginning and end.
    pub period: (Time, Time),
    observer: Observer,
    file_problems: BTreeSet<String>,
    unknown_columns: BTreeSet<String>,
    record: RunRecord,
}

/// Exchanges that can be read as often as need be.
pub(crate) struct Readable {
    pub sources: Vec<Source>,
    pub meter: Arc<Meter>,
    pub period: Option<Period>,
}

impl Readable {
    /// A pass over the exchanges: its columns, and whose rows it takes.
    pub(crate) fn pass(
        &self,
        columns: &'static [&'static str],
        accounts: Option<AccountFilter>,
    ) -> Pass {
        Pass {
            columns,
            accounts,
            period: self.period,
            meter: Arc::clone(&self.meter),
            unread: Arc::new(Mutex::new(Unread::default())),
        }
    }
}

/// Finds what there is to read, and the period.
pub(crate) async fn discovered(
    settings: &HuntSettings,
    progress: &dyn Progress,
    handle: tokio::runtime::Handle,
) -> Result<Input, HuntError> {
    let mut read = settings.read.clone();
    read.runtime = Some(handle);
    let mut record = RunRecord::default();

    progress.begin(Stage::Discover, None, "files");
    let paths = settings.exchanges.clone();
    let account_paths = settings.accounts.clone();
    let release_paths: Vec<String> = settings.releases.iter().cloned().collect();
    let options = read.clone();
    let tables = tokio::task::spawn_blocking(move || {
        let exchanges = discover(&paths, Table::Exchanges, &options)?;
        let accounts = if account_paths.is_empty() {
            Default::default()
        } else {
            read_accounts(&account_paths, &options)?
        };
        let releases = if release_paths.is_empty() {
            Default::default()
        } else {
            read_releases(&release_paths, &options)?
        };
        Ok::<_, stillwatch_ingest::IngestError>((exchanges, accounts, releases))
    });
    let (
        Discovery { sources, problems, unknown_columns, .. },
        (accounts, account_problems),
        (releases, release_problems),
    ) = tables.await.map_err(|e| HuntError::NothingToRead(e.to_string()))??;
    let file_problems: BTreeSet<String> = problems
        .iter()
        .chain(&account_problems.files)
        .chain(&release_problems.files)
        .map(ToString::to_string)
        .collect();
    record.files = sources.iter().map(|s| s.name().to_owned()).collect();
    for (table, refused) in
        [("accounts", &account_problems.refused), ("releases", &release_problems.refused)]
    {
        for (reason, count) in refused.named() {
            *record.rows_refused.entry(format!("{table}: {reason}")).or_default() += count;
        }
    }
    progress.at(Stage::Discover, sources.len() as u64);
    progress.end(Stage::Discover);
    if sources.is_empty() {
        return Err(HuntError::NothingToRead(match file_problems.iter().next() {
            Some(first) if file_problems.len() == 1 => first.clone(),
            Some(first) => {
                format!("none of {} files can be read; the first: {first}", file_problems.len())
            }
            None => "the paths hold no files".to_owned(),
        }));
    }
    let expected: Option<u64> = sources.iter().map(Source::rows).sum();

    let mut input = Input {
        readable: Readable { sources, meter: Arc::new(Meter::default()), period: settings.period },
        accounts: accounts.into_iter().map(|a| (a.account_id.clone(), a)).collect(),
        releases,
        hours: Vec::new(),
        exchanges: 0,
        period: (Time(0), Time(0)),
        observer: Observer::new(settings.key),
        file_problems,
        unknown_columns,
        record,
    };
    progress.begin(Stage::Period, expected, "exchanges");
    let pass = input.readable.pass(&["time"], None);
    let unread = Arc::clone(&pass.unread);
    input.hours = watched(
        engine::hours(&input.readable.sources, pass, settings.threads),
        Stage::Period,
        &input.readable.meter,
        progress,
    )
    .await?;
    input.exchanges = input.hours.iter().map(|h| h.1).sum();
    {
        // Counted once, in this pass; later passes meet the same problems again.
        let unread = locked(&unread);
        for (reason, count) in unread.refused.named() {
            *input.record.rows_refused.entry(reason).or_default() += count;
        }
        input.record.rows_outside_period = unread.outside;
        input.file_problems.extend(unread.files.iter().map(ToString::to_string));
    }
    if input.exchanges == 0 {
        let why = input
            .record
            .rows_refused
            .iter()
            .map(|(reason, count)| format!("{count} × {reason}"))
            .chain(input.file_problems.iter().cloned())
            .next()
            .unwrap_or_else(|| match input.record.rows_outside_period {
                0 => "the files have no rows".to_owned(),
                outside => format!("{outside} lie outside of the period"),
            });
        return Err(HuntError::NothingToRead(format!("not one exchange can be read ({why})")));
    }
    input.period = match settings.period {
        Some(asked) => (asked.from, Time(asked.end.0 - 1)),
        None => period(&input.hours),
    };
    Ok(input)
}

/// Reads all exchanges into profiles. What is known of an account moves to its member.
pub(crate) async fn profiled(
    input: &mut Input,
    releases: &[Release],
    settings: &HuntSettings,
    progress: &dyn Progress,
) -> Result<Population, HuntError> {
    let released: Vec<(Time, u64)> =
        releases.iter().map(|r| (r.released_at, input.observer.model(&r.model))).collect();
    let mut calendar = Calendar::new(input.period.0, input.period.1, &released);
    if let Some(asked) = settings.period {
        calendar = calendar.known_until(asked.to);
    }
    progress.begin(Stage::Profile, Some(input.exchanges), "exchanges");
    let pass = input.readable.pass(OBSERVED, None);
    let unread = Arc::clone(&pass.unread);
    let mut members = watched(
        engine::profiles(&input.readable.sources, pass, settings.threads, settings.key, &calendar),
        Stage::Profile,
        &input.readable.meter,
        progress,
    )
    .await?;
    input.file_problems.extend(locked(&unread).files.iter().map(ToString::to_string));
    add_records(&mut members, std::mem::take(&mut input.accounts));
    Ok(Population::new(members, calendar))
}

/// Puts what the accounts table says beside each account.
pub(crate) fn add_records(members: &mut [Member], mut records: HashMap<String, Account>) {
    for member in members {
        member.record = records.remove(&member.account_id).map(|record| Account {
            // What is known already, or not asked for again, would cost memory for each.
            account_id: String::new(),
            closed_reason: None,
            ..record
        });
    }
}

async fn stages(
    settings: &HuntSettings,
    progress: Arc<dyn Progress>,
    handle: tokio::runtime::Handle,
) -> Result<Hunted, HuntError> {
    let progress = progress.as_ref();
    let known = settings.references.as_deref().map_or_else(|| Ok(References::default()), read)?;
    let mut input = discovered(settings, progress, handle).await?;
    let releases = std::mem::take(&mut input.releases);
    let population = profiled(&mut input, &releases, settings, progress).await?;
    let found = find_all(&population, settings, &known, None, progress)?;

    let Input {
        readable,
        exchanges,
        hours,
        period,
        file_problems,
        unknown_columns,
        mut record,
        ..
    } = input;
    record.file_problems = file_problems.into_iter().collect();
    record.unknown_columns = unknown_columns.into_iter().collect();
    let known = Known { population, releases, hours, exchanges, period, record };
    conclude(known, found, Some(&readable), settings, progress).await
}

/// Links, confirms and judges, on as many threads as are asked for.
pub(crate) fn find_all(
    population: &Population,
    settings: &HuntSettings,
    known: &References,
    shuffle: Option<u64>,
    progress: &dyn Progress,
) -> Result<Found, HuntError> {
    let mut current: Option<Stage> = None;
    let mut hear = |step: Step, done: usize, total: usize| {
        let stage = match step {
            Step::Link => Stage::Link,
            Step::Confirm => Stage::Confirm,
            Step::Judge => Stage::Judge,
        };
        if current != Some(stage) {
            if let Some(last) = current {
                progress.end(last);
            }
            progress.begin(stage, Some(total as u64), "steps");
            current = Some(stage);
        }
        progress.at(stage, done as u64);
        !progress.is_stopped()
    };
    let workers = rayon::ThreadPoolBuilder::new()
        .num_threads(settings.threads.max(1))
        .build()
        .map_err(|e| HuntError::Io { path: "threads".into(), source: std::io::Error::other(e) })?;
    let found = tokio::task::block_in_place(|| {
        workers.install(|| {
            let settings =
                find::Settings { level: settings.level, shuffle, without: settings.without };
            find::find(population, &settings, known, &mut hear)
        })
    });
    if let Some(last) = current {
        progress.end(last);
    }
    found.ok_or(HuntError::Stopped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strays_do_not_stretch_the_period() {
        let mut hours: Vec<(i64, u64)> = (0..100).map(|h| (480_000 + h, 1_000)).collect();
        hours.insert(0, (300_000, 1));
        hours.push((900_000, 1));
        let (first, last) = period(&hours);
        assert_eq!(first.0, 480_000 * HOUR_US);
        assert_eq!(last.0, 480_100 * HOUR_US - 1);
    }

    #[test]
    fn one_exchange_is_a_period() {
        assert_eq!(period(&[(7, 1)]), (Time(7 * HOUR_US), Time(8 * HOUR_US - 1)));
    }
}

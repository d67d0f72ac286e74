//! One hunt from its arguments to its findings: the order of the stages.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hashbrown::HashMap;
use serde::Serialize;
use sha2::{Digest, Sha256};
use stillwatch_detect::calendar::Calendar;
use stillwatch_detect::find::{self, Found, Step};
use stillwatch_detect::observe::Observer;
use stillwatch_detect::population::Population;
use stillwatch_detect::references::References;
use stillwatch_exchange::time::HOUR_US;
use stillwatch_exchange::{Account, Campaign, MemberRow, Release, Time};
use stillwatch_ingest::{
    AccountFilter, Discovery, Meter, Source, Table, discover, read_accounts, read_releases,
};
use tokio::sync::mpsc;

use crate::engine;
use crate::findings;
use crate::functions::OBSERVED;
use crate::harvest::{self, Reaper};
use crate::references::{Entry, read, told_groups};
use crate::settings::{HuntError, HuntSettings, Progress, Stage};
use crate::source::{BATCHES_AHEAD, Pass, Unread, locked};
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
async fn watched<T>(
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
    sources: Vec<Source>,
    /// By id.
    pub accounts: HashMap<String, Account>,
    pub releases: Vec<Release>,
    /// Exchanges by hour since the epoch.
    hours: Vec<(i64, u64)>,
    exchanges: u64,
    /// Beginning and end.
    pub period: (Time, Time),
    observer: Observer,
    meter: Arc<Meter>,
    file_problems: BTreeSet<String>,
    unknown_columns: BTreeSet<String>,
    record: RunRecord,
}

impl Input {
    /// A pass over the exchanges: its columns, and whose rows it takes.
    fn pass(&self, columns: &'static [&'static str], accounts: Option<AccountFilter>) -> Pass {
        Pass {
            columns,
            accounts,
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
        sources,
        accounts: accounts.into_iter().map(|a| (a.account_id.clone(), a)).collect(),
        releases,
        hours: Vec::new(),
        exchanges: 0,
        period: (Time(0), Time(0)),
        observer: Observer::new(settings.key),
        meter: Arc::new(Meter::default()),
        file_problems,
        unknown_columns,
        record,
    };
    progress.begin(Stage::Period, expected, "exchanges");
    let pass = input.pass(&["time"], None);
    let unread = Arc::clone(&pass.unread);
    input.hours = watched(
        engine::hours(&input.sources, pass, settings.threads),
        Stage::Period,
        &input.meter,
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
            .unwrap_or_else(|| "the files have no rows".to_owned());
        return Err(HuntError::NothingToRead(format!("not one exchange can be read ({why})")));
    }
    input.period = period(&input.hours);
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
    let calendar = Calendar::new(input.period.0, input.period.1, &released);
    progress.begin(Stage::Profile, Some(input.exchanges), "exchanges");
    let pass = input.pass(OBSERVED, None);
    let unread = Arc::clone(&pass.unread);
    let mut members = watched(
        engine::profiles(&input.sources, pass, settings.threads, settings.key, &calendar),
        Stage::Profile,
        &input.meter,
        progress,
    )
    .await?;
    input.file_problems.extend(locked(&unread).files.iter().map(ToString::to_string));
    let mut records = std::mem::take(&mut input.accounts);
    for member in &mut members {
        member.record = records.remove(&member.account_id).map(|record| Account {
            // What is known already, or not asked for again, would cost memory for each.
            account_id: String::new(),
            closed_reason: None,
            ..record
        });
    }
    Ok(Population::new(members, calendar))
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

    let ids: Vec<String> = found
        .findings
        .iter()
        .map(|f| {
            campaign_id(
                f.members
                    .iter()
                    .map(|m| population.members()[m.account as usize].account_id.as_str()),
            )
        })
        .collect();
    let mut finding_of: HashMap<String, usize> = HashMap::new();
    for (place, finding) in found.findings.iter().enumerate() {
        for m in &finding.members {
            // An account of two campaigns counts for the graver one.
            finding_of
                .entry(population.members()[m.account as usize].account_id.clone())
                .or_insert(place);
        }
    }
    let finding_of = Arc::new(finding_of);
    let wanted = Arc::clone(&finding_of);
    let filter: AccountFilter = Arc::new(move |account: &str| wanted.contains_key(account));
    let reaper = Reaper::new(&found.findings, &finding_of, input.period);
    let expected: u64 = found
        .findings
        .iter()
        .flat_map(|f| &f.members)
        .map(|m| {
            population.members()[m.account as usize]
                .profile
                .exchanges(0..stillwatch_detect::calendar::EPOCHS)
        })
        .sum();
    progress.begin(Stage::Harvest, Some(expected), "exchanges");
    let (sender, harvested) = mpsc::channel(BATCHES_AHEAD);
    let (taken, harvest) = tokio::try_join!(
        async {
            if found.findings.is_empty() {
                return Ok(reaper.taken);
            }
            let rows = engine::member_exchanges(
                &input.sources,
                input.pass(HARVEST_COLUMNS, Some(filter)),
                settings.threads,
                settings.key,
                settings.quote,
            )
            .await
            .map_err(HuntError::engine(Stage::Harvest))?;
            reaper.read(rows, sender, || progress.is_stopped()).await
        },
        async {
            let rows = engine::in_order(harvested, &settings.out)
                .await
                .map_err(HuntError::engine(Stage::Harvest))?;
            harvest::write(rows, &ids, &settings.out).await
        }
    )?;
    progress.at(Stage::Harvest, taken.iter().map(|t| t.exchanges).sum());
    progress.end(Stage::Harvest);

    let Input { exchanges, hours, file_problems, unknown_columns, meter, mut record, .. } = input;
    record.rows_read = exchanges;
    record.accounts = population.members().len() as u64;
    record.file_problems = file_problems.into_iter().collect();
    let unknown: BTreeSet<String> =
        unknown_columns.into_iter().chain(meter.unknown_columns()).collect();
    record.unknown_columns = unknown.into_iter().collect();
    record.candidates = found.groups.iter().filter(|g| !g.is_known_customers).count() as u64;
    record.references = found.groups.len() as u64;
    for (stage, rows) in [
        (Stage::Period, exchanges),
        (Stage::Profile, exchanges),
        (Stage::Harvest, taken.iter().map(|t| t.exchanges).sum()),
    ] {
        record.stage_rows.insert(stage.name().to_owned(), rows);
    }
    record.settings = serde_json::json!({
        "exchanges": settings.exchanges,
        "accounts": settings.accounts,
        "releases": settings.releases,
        "level": settings.level,
        "references": settings.references,
        "quote": settings.quote,
        "threads": settings.threads,
    });
    record.versions.insert("stillwatch".to_owned(), env!("CARGO_PKG_VERSION").to_owned());
    record.versions.insert("datafusion".to_owned(), datafusion::DATAFUSION_VERSION.to_owned());

    let told =
        findings::tell(&population, &found, &ids, &taken, &hours, &record, settings, &releases);
    Ok(Hunted {
        campaigns: told.campaigns,
        members: told.members,
        harvest,
        picture: told.picture,
        groups: told_groups(&population, &found, &ids),
        run: record,
    })
}

/// The columns of the harvest pass: what a signature of harvest looks at, and what is
/// told of an exchange. Addresses, conversations and the like have linked by now.
const HARVEST_COLUMNS: &[&str] = &[
    "exchange_id",
    "time",
    "account_id",
    "turn",
    "request_model",
    "response_model",
    "route",
    "system_instructions",
    "prompt",
    "prompt_sketch",
    "request_temperature",
    "request_top_p",
    "request_max_tokens",
    "request_choice_count",
    "request_seed",
    "request_stream",
    "request_top_logprobs",
    "request_logit_bias_count",
    "request_reasoning",
    "request_tool_count",
    "usage_output_tokens",
    "usage_reasoning_tokens",
    "client_asn",
    "client_country",
    "tls_fingerprint",
    "user_agent",
    "cost_usd",
];

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
            let settings = find::Settings { level: settings.level, shuffle };
            find::find(population, &settings, known, &mut hear)
        })
    });
    if let Some(last) = current {
        progress.end(last);
    }
    found.ok_or(HuntError::Stopped)
}

/// Stable for the same members: the first 16 hex digits of SHA-256 over their ids.
fn campaign_id<'a>(accounts: impl Iterator<Item = &'a str>) -> String {
    let mut hash = Sha256::new();
    for account in accounts {
        hash.update((account.len() as u64).to_le_bytes());
        hash.update(account.as_bytes());
    }
    let digest = hash.finalize();
    let hex: String = digest.iter().take(8).map(|b| format!("{b:02x}")).collect();
    format!("campaign-{hex}")
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

    #[test]
    fn campaign_ids_depend_on_the_members_alone() {
        assert_eq!(campaign_id(["a", "b"].into_iter()), campaign_id(["a", "b"].into_iter()));
        assert_ne!(campaign_id(["a", "b"].into_iter()), campaign_id(["ab"].into_iter()));
    }
}

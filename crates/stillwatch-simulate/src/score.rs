//! Findings held against the truth of the world they were made in.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use arrow::array::{Array, RecordBatch, StringViewArray, TimestampMicrosecondArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde::{Deserialize, Serialize};
use stillwatch_exchange::Time;
use stillwatch_exchange::time::DAY_US;

use crate::write::WorldFile;

/// Findings that could not be held against a world.
#[derive(Debug, thiserror::Error)]
pub enum ScoreError {
    #[error("cannot read {path}: {why}; give the folder that {maker} wrote")]
    Read { path: PathBuf, why: String, maker: &'static str },
    #[error("{path} has no column {column} of the kind that the contract says")]
    Column { path: PathBuf, column: &'static str },
}

/// How well a hunt did on a world.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// In the order of the world's plans.
    pub campaigns: Vec<CampaignScore>,
    /// Findings most of whose members belong to no campaign.
    pub innocent: Vec<InnocentFinding>,
    /// Open harvests by single accounts, declared customers or one organisation:
    /// right, and not counted as campaigns.
    pub open_harvests: Vec<InnocentFinding>,
    pub totals: Totals,
}

/// What became of one campaign.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CampaignScore {
    pub campaign: String,
    /// Accounts that made at least one harvested exchange.
    pub accounts: u64,
    pub harvested_exchanges: u64,
    pub found: bool,
    /// The findings that hold some of it and no more of another campaign.
    pub findings: Vec<String>,
    /// Share of its accounts that are members of those findings.
    pub recall: f64,
    /// Share of those findings' members that are its accounts.
    pub precision: f64,
    /// Of its harvested exchanges, the share in `harvest.parquet`; `None` without it.
    pub exchange_recall: Option<f64>,
    /// Of the exchanges named for those findings, the share that it harvested.
    pub exchange_precision: Option<f64>,
    /// Days from the campaign's first harvested exchange to its detection.
    pub days_to_detection: Option<f64>,
    /// Its harvested exchanges before its detection.
    pub exchanges_before_detection: Option<u64>,
    /// Days from its first harvested exchange until half of its accounts were accused;
    /// `None` where fewer ever were.
    #[serde(default)]
    pub days_to_half: Option<f64>,
    /// Its harvested exchanges that came before their own account was accused; all of
    /// those of accounts that never were.
    #[serde(default)]
    pub lost_exchanges: u64,
    /// Whatever the members of its findings did, harvested or not.
    #[serde(default)]
    pub member_exchanges: u64,
    /// Of those, what the campaign harvested.
    #[serde(default)]
    pub member_harvest: u64,
}

/// A finding that is not a campaign.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct InnocentFinding {
    pub campaign_id: String,
    pub kind: String,
    pub members: u64,
    /// Its members by kind of crowd, the most numerous first.
    pub crowds: Vec<(String, u64)>,
}

/// The whole at a glance.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Totals {
    pub findings: u64,
    pub campaigns: u64,
    pub campaigns_found: u64,
    /// Found with at least nine of ten accounts.
    pub campaigns_found_whole: u64,
    pub innocent_findings: u64,
    pub open_harvests: u64,
    /// Over the accounts of all campaigns.
    pub recall: f64,
    /// Over the members of all findings but open harvests.
    pub precision: f64,
    /// Accounts in the world, and those that belong to a campaign.
    #[serde(default)]
    pub accounts: u64,
    #[serde(default)]
    pub guilty: u64,
    /// Distinct members of findings that are mostly a campaign's, who belong to one.
    #[serde(default)]
    pub accused_guilty: u64,
    /// Distinct members of all findings but open harvests who belong to no campaign;
    /// customers who harvest in the open are neither right nor wrong.
    #[serde(default)]
    pub accused_innocent: u64,
}

/// What is read of a finding; everything else in `campaigns.json` is passed over.
#[derive(Deserialize)]
struct Finding {
    campaign_id: String,
    kind: String,
    #[serde(default)]
    first_detectable: Option<Time>,
}

/// The crowd whose customers say that they harvest, and may.
const DECLARED: &str = "declared_synthetic";

struct Truth {
    /// By account: its crowd and its campaign's index.
    accounts: HashMap<String, (String, Option<usize>)>,
    /// By harvested exchange.
    exchanges: HashMap<String, usize>,
    harvested: Vec<u64>,
}

/// Scores the findings in a folder against the world in another.
///
/// Memory is bounded by the world's accounts and harvested exchanges.
///
/// # Errors
/// One of the two folders lacks a file, or it can't be read.
pub fn score(world_dir: &Path, findings_dir: &Path) -> Result<Score, ScoreError> {
    let read = |path: PathBuf, maker| {
        fs::read_to_string(&path)
            .map_err(|e| ScoreError::Read { path: path.clone(), why: e.to_string(), maker })
            .map(|t| (path, t))
    };
    let (path, text) = read(world_dir.join("world.json"), "`stillwatch simulate`")?;
    let world: WorldFile = serde_json::from_str(&text).map_err(|e| ScoreError::Read {
        path,
        why: e.to_string(),
        maker: "`stillwatch simulate`",
    })?;
    let names: Vec<String> = world.campaigns.iter().map(|c| c.name.clone()).collect();
    let truth = read_truth(world_dir, &names)?;

    let (path, text) = read(findings_dir.join("campaigns.json"), "`stillwatch hunt`")?;
    let findings: Vec<Finding> = serde_json::from_str(&text).map_err(|e| ScoreError::Read {
        path,
        why: e.to_string(),
        maker: "`stillwatch hunt`",
    })?;
    let members = read_members(&findings_dir.join("members.parquet"))?;
    let harvest_path = findings_dir.join("harvest.parquet");
    let harvest = if harvest_path.exists() {
        Some(read_harvest(&harvest_path, &truth, names.len())?)
    } else {
        None
    };

    let mut score = Score::default();
    let mut taken: Vec<Vec<usize>> = vec![Vec::new(); names.len()];
    let none = Vec::new();
    let (mut accused_guilty, mut accused_innocent) = (HashSet::new(), HashSet::new());
    let wrong = |account: &str| {
        truth.accounts.get(account).is_none_or(|(crowd, c)| c.is_none() && crowd != DECLARED)
    };
    for (index, finding) in findings.iter().enumerate() {
        let accounts = members.get(&finding.campaign_id).unwrap_or(&none);
        let mut by_campaign = vec![0u64; names.len()];
        let mut crowds: BTreeMap<&str, u64> = BTreeMap::new();
        for account in accounts {
            match truth.accounts.get(account) {
                Some((_, Some(campaign))) => by_campaign[*campaign] += 1,
                Some((crowd, None)) => *crowds.entry(crowd).or_default() += 1,
                None => *crowds.entry("unknown").or_default() += 1,
            }
        }
        let guilty: u64 = by_campaign.iter().sum();
        let innocent = accounts.len() as u64 - guilty;
        if guilty > innocent {
            let most =
                by_campaign.iter().enumerate().max_by_key(|(i, n)| (**n, std::cmp::Reverse(*i)));
            if let Some((campaign, _)) = most {
                taken[campaign].push(index);
            }
            for account in accounts {
                if truth.accounts.get(account).is_some_and(|(_, c)| c.is_some()) {
                    accused_guilty.insert(account.as_str());
                } else if wrong(account) {
                    accused_innocent.insert(account.as_str());
                }
            }
            continue;
        }
        let mut crowds: Vec<(String, u64)> =
            crowds.into_iter().map(|(c, n)| (c.to_owned(), n)).collect();
        crowds.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
        let declared = accounts.len() == 1 || crowds.first().is_some_and(|(c, _)| c == DECLARED);
        let what = InnocentFinding {
            campaign_id: finding.campaign_id.clone(),
            kind: finding.kind.clone(),
            members: accounts.len() as u64,
            crowds,
        };
        if finding.kind == "open_harvest" && declared {
            score.open_harvests.push(what);
        } else {
            accused_innocent.extend(accounts.iter().map(String::as_str).filter(|a| wrong(a)));
            score.innocent.push(what);
        }
    }

    let courses = if taken.iter().any(|t| !t.is_empty()) {
        let accused = taken
            .iter()
            .map(|indices| accused_at(indices.iter().map(|i| &findings[*i]), &members))
            .collect::<Vec<_>>();
        courses(world_dir, &truth, &accused)?
    } else {
        truth.harvested.iter().map(|n| Course { lost: *n, ..Course::default() }).collect()
    };
    let (mut caught_all, mut accounts_all, mut members_all) = (0u64, 0u64, 0u64);
    for (campaign, name) in names.iter().enumerate() {
        let accounts = truth.accounts.values().filter(|(_, c)| *c == Some(campaign)).count() as u64;
        let mut seen: BTreeMap<&str, bool> = BTreeMap::new();
        for index in &taken[campaign] {
            for account in members.get(&findings[*index].campaign_id).unwrap_or(&none) {
                let guilty = truth.accounts.get(account).is_some_and(|(_, c)| *c == Some(campaign));
                seen.insert(account, guilty);
            }
        }
        let caught = seen.values().filter(|guilty| **guilty).count() as u64;
        let ids: Vec<String> =
            taken[campaign].iter().map(|i| findings[*i].campaign_id.clone()).collect();
        let named = harvest.as_ref().map(|h| {
            let mut named = vec![0u64; names.len() + 1];
            for (id, counts) in h.iter().filter(|(id, _)| ids.contains(id)) {
                let _ = id;
                named.iter_mut().zip(counts).for_each(|(a, b)| *a += b);
            }
            named
        });
        let course = &courses[campaign];
        let found = !ids.is_empty();
        accounts_all += accounts;
        caught_all += caught;
        members_all += seen.len() as u64;
        score.campaigns.push(CampaignScore {
            campaign: name.clone(),
            accounts,
            harvested_exchanges: truth.harvested[campaign],
            found,
            findings: ids,
            recall: ratio(caught, accounts),
            precision: ratio(caught, seen.len() as u64),
            exchange_recall: named.as_ref().map(|n| ratio(n[campaign], truth.harvested[campaign])),
            exchange_precision: named
                .as_ref()
                .filter(|_| found)
                .map(|n| ratio(n[campaign], n.iter().sum())),
            days_to_detection: course.days_until(course.detected_us),
            exchanges_before_detection: course.detected_us.map(|_| course.before),
            days_to_half: course.days_until(course.half_us(accounts)),
            lost_exchanges: course.lost,
            member_exchanges: course.member_exchanges,
            member_harvest: course.member_harvest,
        });
    }
    members_all += score.innocent.iter().map(|f| f.members).sum::<u64>();
    score.totals = Totals {
        findings: findings.len() as u64,
        campaigns: names.len() as u64,
        campaigns_found: score.campaigns.iter().filter(|c| c.found).count() as u64,
        campaigns_found_whole: score.campaigns.iter().filter(|c| c.recall >= 0.9).count() as u64,
        innocent_findings: score.innocent.len() as u64,
        open_harvests: score.open_harvests.len() as u64,
        recall: ratio(caught_all, accounts_all),
        precision: ratio(caught_all, members_all),
        accounts: truth.accounts.len() as u64,
        guilty: accounts_all,
        accused_guilty: accused_guilty.len() as u64,
        accused_innocent: accused_innocent.len() as u64,
    };
    Ok(score)
}

fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// Reads some text columns of a Parquet file, batch by batch.
fn read_columns(
    path: &Path,
    maker: &'static str,
    columns: &'static [&'static str],
    mut each: impl FnMut(&[StringViewArray], &RecordBatch),
) -> Result<(), ScoreError> {
    let failed = |why: String| ScoreError::Read { path: path.to_owned(), why, maker };
    let file = File::open(path).map_err(|e| failed(e.to_string()))?;
    let builder =
        ParquetRecordBatchReaderBuilder::try_new(file).map_err(|e| failed(e.to_string()))?;
    let mut wanted = columns.to_vec();
    wanted.push("time");
    let mask = ProjectionMask::columns(builder.parquet_schema(), wanted.iter().copied());
    let reader = builder.with_projection(mask).build().map_err(|e| failed(e.to_string()))?;
    for batch in reader {
        let batch = batch.map_err(|e| failed(e.to_string()))?;
        let texts = columns
            .iter()
            .map(|column| {
                let array = batch.column_by_name(column)?;
                cast(array, &DataType::Utf8View)
                    .ok()?
                    .as_any()
                    .downcast_ref::<StringViewArray>()
                    .cloned()
            })
            .zip(columns)
            .map(|(array, column)| {
                array.ok_or(ScoreError::Column { path: path.to_owned(), column })
            })
            .collect::<Result<Vec<_>, _>>()?;
        each(&texts, &batch);
    }
    Ok(())
}

fn cell(column: &StringViewArray, row: usize) -> Option<&str> {
    column.is_valid(row).then(|| column.value(row))
}

fn read_truth(dir: &Path, names: &[String]) -> Result<Truth, ScoreError> {
    let index = |name: &str| names.iter().position(|n| n == name);
    let mut truth = Truth {
        accounts: HashMap::new(),
        exchanges: HashMap::new(),
        harvested: vec![0; names.len()],
    };
    let maker = "`stillwatch simulate`";
    read_columns(
        &dir.join("truth_accounts.parquet"),
        maker,
        &["account_id", "kind", "campaign"],
        |texts, batch| {
            for row in 0..batch.num_rows() {
                if let (Some(id), Some(kind)) = (cell(&texts[0], row), cell(&texts[1], row)) {
                    truth.accounts.insert(
                        id.to_owned(),
                        (kind.to_owned(), cell(&texts[2], row).and_then(index)),
                    );
                }
            }
        },
    )?;
    read_columns(
        &dir.join("truth_exchanges.parquet"),
        maker,
        &["exchange_id", "campaign"],
        |texts, batch| {
            for row in 0..batch.num_rows() {
                if let (Some(id), Some(campaign)) =
                    (cell(&texts[0], row), cell(&texts[1], row).and_then(index))
                {
                    truth.exchanges.insert(id.to_owned(), campaign);
                    truth.harvested[campaign] += 1;
                }
            }
        },
    )?;
    Ok(truth)
}

fn read_members(path: &Path) -> Result<HashMap<String, Vec<String>>, ScoreError> {
    let mut members: HashMap<String, Vec<String>> = HashMap::new();
    read_columns(path, "`stillwatch hunt`", &["campaign_id", "account_id"], |texts, batch| {
        for row in 0..batch.num_rows() {
            if let (Some(id), Some(account)) = (cell(&texts[0], row), cell(&texts[1], row)) {
                members.entry(id.to_owned()).or_default().push(account.to_owned());
            }
        }
    })?;
    for accounts in members.values_mut() {
        accounts.sort_unstable();
        accounts.dedup();
    }
    Ok(members)
}

/// By finding: how many of its named exchanges each campaign harvested; the last
/// number counts those that nobody did.
fn read_harvest(
    path: &Path,
    truth: &Truth,
    campaigns: usize,
) -> Result<HashMap<String, Vec<u64>>, ScoreError> {
    let mut named: HashMap<String, Vec<u64>> = HashMap::new();
    read_columns(path, "`stillwatch hunt`", &["campaign_id", "exchange_id"], |texts, batch| {
        for row in 0..batch.num_rows() {
            if let (Some(id), Some(exchange)) = (cell(&texts[0], row), cell(&texts[1], row)) {
                let counts = named.entry(id.to_owned()).or_insert_with(|| vec![0; campaigns + 1]);
                counts[truth.exchanges.get(exchange).copied().unwrap_or(campaigns)] += 1;
            }
        }
    })?;
    Ok(named)
}

/// When each account was first accused by one of some findings, in microseconds since
/// the epoch. A finding that does not say when it could be made accuses nobody in time.
fn accused_at<'a>(
    findings: impl Iterator<Item = &'a Finding>,
    members: &'a HashMap<String, Vec<String>>,
) -> HashMap<&'a str, i64> {
    let mut at: HashMap<&str, i64> = HashMap::new();
    for finding in findings {
        let Some(time) = finding.first_detectable else { continue };
        for account in members.get(&finding.campaign_id).into_iter().flatten() {
            at.entry(account).and_modify(|first| *first = (*first).min(time.0)).or_insert(time.0);
        }
    }
    at
}

/// How a campaign went, beside when it was accused.
#[derive(Default)]
struct Course {
    /// Its first harvested exchange, and when the first of its findings was made.
    first_us: Option<i64>,
    detected_us: Option<i64>,
    /// When each of its own accounts was accused, in order.
    accused_us: Vec<i64>,
    before: u64,
    lost: u64,
    member_exchanges: u64,
    member_harvest: u64,
}

impl Course {
    fn days_until(&self, time_us: Option<i64>) -> Option<f64> {
        Some((time_us? - self.first_us?).max(0) as f64 / DAY_US as f64)
    }

    /// When half of so many accounts were accused.
    fn half_us(&self, accounts: u64) -> Option<i64> {
        self.accused_us.get((accounts.max(1).div_ceil(2) - 1) as usize).copied()
    }
}

/// By campaign: what passes by in the exchanges, in one reading; `accused` says by
/// campaign when its findings accused an account.
fn courses(
    dir: &Path,
    truth: &Truth,
    accused: &[HashMap<&str, i64>],
) -> Result<Vec<Course>, ScoreError> {
    let mut courses: Vec<Course> = Vec::new();
    for (campaign, accused) in accused.iter().enumerate() {
        let is_own = |account: &&str| {
            truth.accounts.get(*account).is_some_and(|(_, c)| *c == Some(campaign))
        };
        let mut accused_us: Vec<i64> =
            accused.iter().filter(|(account, _)| is_own(account)).map(|(_, at)| *at).collect();
        accused_us.sort_unstable();
        let detected_us = accused.values().min().copied();
        courses.push(Course { detected_us, accused_us, ..Course::default() });
    }
    let exchanges = dir.join("exchanges");
    let failed = |e: std::io::Error| ScoreError::Read {
        path: exchanges.clone(),
        why: e.to_string(),
        maker: "`stillwatch simulate`",
    };
    let mut files: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(&exchanges).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|e| e == "parquet") {
            files.push(path);
        }
    }
    files.sort();
    for path in files {
        let columns = &["exchange_id", "account_id"];
        read_columns(&path, "`stillwatch simulate`", columns, |texts, batch| {
            let times = batch
                .column_by_name("time")
                .and_then(|t| t.as_any().downcast_ref::<TimestampMicrosecondArray>());
            let Some(times) = times else { return };
            for row in 0..batch.num_rows() {
                let Some(account) = cell(&texts[1], row) else { continue };
                let own = cell(&texts[0], row).and_then(|id| truth.exchanges.get(id)).copied();
                for (campaign, accused) in accused.iter().enumerate() {
                    if accused.contains_key(account) {
                        courses[campaign].member_exchanges += 1;
                        courses[campaign].member_harvest += u64::from(own == Some(campaign));
                    }
                }
                let Some(campaign) = own else { continue };
                let (time, course) = (times.value(row), &mut courses[campaign]);
                course.first_us = Some(course.first_us.map_or(time, |f| f.min(time)));
                course.before += u64::from(course.detected_us.is_some_and(|at| time < at));
                course.lost +=
                    u64::from(accused[campaign].get(account).is_none_or(|at| time < *at));
            }
        })?;
    }
    Ok(courses)
}

impl fmt::Display for Score {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let share = |s: f64| format!("{:.1} %", 100.0 * s);
        let maybe = |s: Option<f64>| s.map_or_else(|| "-".to_owned(), share);
        writeln!(
            f,
            "{:<20} {:>8} {:>10} {:>8} {:>8} {:>9} {:>9} {:>9} {:>6} {:>9}",
            "campaign",
            "accounts",
            "exchanges",
            "findings",
            "recall",
            "precision",
            "ex recall",
            "ex prec",
            "days",
            "before"
        )?;
        for c in &self.campaigns {
            writeln!(
                f,
                "{:<20} {:>8} {:>10} {:>8} {:>8} {:>9} {:>9} {:>9} {:>6} {:>9}",
                c.campaign,
                c.accounts,
                c.harvested_exchanges,
                if c.found { c.findings.len().to_string() } else { "missed".to_owned() },
                share(c.recall),
                share(c.precision),
                maybe(c.exchange_recall),
                maybe(c.exchange_precision),
                c.days_to_detection.map_or_else(|| "-".to_owned(), |d| format!("{d:.1}")),
                c.exchanges_before_detection.map_or_else(|| "-".to_owned(), |n| n.to_string()),
            )?;
        }
        let list = |f: &mut fmt::Formatter<'_>,
                    title: &str,
                    findings: &[InnocentFinding]|
         -> fmt::Result {
            for finding in findings {
                let crowds: Vec<String> =
                    finding.crowds.iter().take(3).map(|(c, n)| format!("{n} {c}")).collect();
                writeln!(
                    f,
                    "{title}: {} ({}) of {} accounts: {}",
                    finding.campaign_id,
                    finding.kind,
                    finding.members,
                    crowds.join(", ")
                )?;
            }
            Ok(())
        };
        list(f, "innocent", &self.innocent)?;
        list(f, "open harvest", &self.open_harvests)?;
        let t = &self.totals;
        write!(
            f,
            "{} of {} campaigns found, {} with at least 90 % of their accounts; {} innocent findings, {} open harvests; accounts: recall {}, precision {}",
            t.campaigns_found,
            t.campaigns,
            t.campaigns_found_whole,
            t.innocent_findings,
            t.open_harvests,
            share(t.recall),
            share(t.precision)
        )
    }
}

//! The two optional tables that accompany exchanges, read whole: accounts and
//! model releases.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::TimestampMicrosecondType;
use stillwatch_exchange::{Account, Release, Time};

use crate::discovery::{Discovery, Options, discover_companion};
use crate::problems::{FileProblem, IngestError, RefusedCounts};
use crate::read::Meter;
use crate::table::Table;
use crate::validity;

/// What was passed over while a table was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problems {
    pub files: Vec<FileProblem>,
    pub refused: RefusedCounts,
}

/// Reads all accounts below the paths, sorted by `account_id`. They are held in
/// memory, some 300 bytes each.
///
/// An account that is there several times is one account: of each field the smallest
/// value counts, of `closed_at` the latest, so that the order of files and rows
/// changes nothing. The surplus rows are counted as `account_id_duplicate`.
///
/// # Errors
/// As [`discover`](crate::discover), and where below one of the paths there is nothing that
/// could be read as such a table.
pub fn read_accounts(
    paths: &[String],
    options: &Options,
) -> Result<(Vec<Account>, Problems), IngestError> {
    let mut accounts: BTreeMap<String, Account> = BTreeMap::new();
    let mut duplicates = 0;
    let mut problems = each_batch(Table::Accounts, paths, options, |rows| {
        let text = |row, name| text(rows, name, row).map(str::to_owned);
        for row in 0..rows.num_rows() {
            let Some(account_id) = text(row, "account_id") else {
                continue;
            };
            let account = Account {
                account_id: account_id.clone(),
                organization_id: text(row, "organization_id"),
                created_at: time(rows, "created_at", row),
                closed_at: time(rows, "closed_at", row),
                closed_reason: text(row, "closed_reason"),
                payment_fingerprint: text(row, "payment_fingerprint"),
                email_domain: text(row, "email_domain"),
                verification: text(row, "verification"),
                plan: text(row, "plan"),
            };
            match accounts.entry(account_id) {
                std::collections::btree_map::Entry::Vacant(entry) => {
                    entry.insert(account);
                }
                std::collections::btree_map::Entry::Occupied(mut entry) => {
                    duplicates += 1;
                    merge(entry.get_mut(), account);
                }
            }
        }
    })?;
    problems.refused.row(validity::ACCOUNT_ID_DUPLICATE, duplicates);
    Ok((accounts.into_values().collect(), problems))
}

/// Reads all releases below the paths, sorted by time, then model. Of a model that
/// is there several times the earliest release counts; the surplus rows are counted
/// as `model_duplicate`.
///
/// # Errors
/// As [`discover`](crate::discover), and where below one of the paths there is nothing that
/// could be read as such a table.
pub fn read_releases(
    paths: &[String],
    options: &Options,
) -> Result<(Vec<Release>, Problems), IngestError> {
    let mut earliest: BTreeMap<String, Time> = BTreeMap::new();
    let mut duplicates = 0;
    let mut problems = each_batch(Table::Releases, paths, options, |rows| {
        for row in 0..rows.num_rows() {
            let model = text(rows, "model", row);
            let Some((model, released_at)) = model.zip(time(rows, "released_at", row)) else {
                continue;
            };
            earliest
                .entry(model.to_owned())
                .and_modify(|there| {
                    duplicates += 1;
                    *there = released_at.min(*there);
                })
                .or_insert(released_at);
        }
    })?;
    problems.refused.row(validity::MODEL_DUPLICATE, duplicates);
    let mut releases: Vec<Release> =
        earliest.into_iter().map(|(model, released_at)| Release { released_at, model }).collect();
    releases.sort();
    Ok((releases, problems))
}

/// Adds what another row says of the same account; commutative and associative.
fn merge(account: &mut Account, other: Account) {
    fn smallest<T: Ord>(there: &mut Option<T>, other: Option<T>) {
        *there = there.take().into_iter().chain(other).min();
    }
    smallest(&mut account.organization_id, other.organization_id);
    smallest(&mut account.created_at, other.created_at);
    account.closed_at = account.closed_at.max(other.closed_at);
    smallest(&mut account.closed_reason, other.closed_reason);
    smallest(&mut account.payment_fingerprint, other.payment_fingerprint);
    smallest(&mut account.email_domain, other.email_domain);
    smallest(&mut account.verification, other.verification);
    smallest(&mut account.plan, other.plan);
}

/// Gives every batch of a table below paths. Each path must lead to a table, if only to one
/// without rows.
fn each_batch(
    table: Table,
    paths: &[String],
    options: &Options,
    mut take: impl FnMut(&RecordBatch),
) -> Result<Problems, IngestError> {
    let mut all = Problems::default();
    let mut seen = HashSet::new();
    for path in paths {
        let (discovery, files) = discover_companion(path, table, options, &mut seen)?;
        let (rows, problems) = each_batch_below(table, discovery, &mut take);
        if rows == 0
            && let Some(what) = why_nothing(path, files, &problems)
        {
            return Err(IngestError::Unusable { path: path.clone(), table, what });
        }
        all.files.extend(problems.files);
        all.refused.merge(&problems.refused);
    }
    all.files.sort();
    Ok(all)
}

/// Why not one row could be taken below a path of so many files; `None` where nothing is
/// wrong: there are no rows, or another path leads to the same files.
fn why_nothing(path: &str, files: usize, problems: &Problems) -> Option<String> {
    let most = problems.refused.rows.iter().max_by_key(|(_, count)| **count);
    match (problems.files.first(), most) {
        (Some(first), _) if first.file == path => Some(first.what.clone()),
        (Some(first), _) if files == 1 => Some(first.to_string()),
        (Some(first), _) => Some(format!("none of {files} files is one; the first: {first}")),
        (None, Some((reason, count))) => Some(format!("{reason} in {count} rows")),
        (None, None) => (files == 0).then(|| "there are no files".to_owned()),
    }
}

/// Gives every batch below one path; says how many rows there were, and what was passed over.
fn each_batch_below(
    table: Table,
    discovery: Discovery,
    take: &mut impl FnMut(&RecordBatch),
) -> (u64, Problems) {
    let mut rows = 0;
    let mut problems = Problems { files: discovery.problems, ..Problems::default() };
    let columns: Vec<&str> = table.columns().iter().map(|c| c.name).collect();
    let meter = Arc::new(Meter::default());
    for split in discovery.sources.iter().flat_map(|source| source.splits()) {
        let batches = match split.read(&columns, None, &meter) {
            Ok(batches) => batches,
            Err(problem) => {
                problems.files.push(problem);
                continue;
            }
        };
        for batch in batches {
            match batch {
                Ok(batch) => {
                    take(&batch.rows);
                    rows += batch.rows.num_rows() as u64;
                    problems.refused.merge(&batch.refused);
                }
                Err(problem) => problems.files.push(problem),
            }
        }
    }
    problems.files.sort();
    (rows, problems)
}

fn text<'a>(rows: &'a RecordBatch, name: &str, row: usize) -> Option<&'a str> {
    let texts = rows.column_by_name(name)?.as_string_view_opt()?;
    texts.is_valid(row).then(|| texts.value(row))
}

fn time(rows: &RecordBatch, name: &str, row: usize) -> Option<Time> {
    let times = rows.column_by_name(name)?.as_primitive_opt::<TimestampMicrosecondType>()?;
    times.is_valid(row).then(|| Time(times.value(row)))
}

//! The files that a guard reads and reads again: policy, findings, credentials.

use std::fs::{self, File, Metadata};
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type};
use hashbrown::HashMap;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::reader::ChunkReader;
use serde::Deserialize;
use stillwatch_broker::Bundle;
use stillwatch_decide::{Finding, Member, Policy, PolicyError};
use stillwatch_exchange::Campaign;

use crate::bind::ReasoningKeys;
use crate::keys::{CredentialHash, Credentials, Owner};
use crate::settings::Source;

/// A file that can't be used: its name, and what is wrong with it.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    #[error("cannot read {}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{} {source}", path.display())]
    Policy { path: PathBuf, source: PolicyError },
    #[error("{}: {what}", path.display())]
    Content { path: PathBuf, what: String },
}

fn content(path: &Path, what: impl Into<String>) -> InputError {
    InputError::Content { path: path.to_owned(), what: what.into() }
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> InputError + '_ {
    |source| InputError::Io { path: path.to_owned(), source }
}

/// Reads the policy file.
///
/// # Errors
/// It can't be read, or something in it can't be used.
pub fn read_policy(path: &Path) -> Result<Policy, InputError> {
    let text = fs::read_to_string(path).map_err(io_error(path))?;
    Policy::parse(&text).map_err(|source| InputError::Policy { path: path.to_owned(), source })
}

/// Reads the keys that reasoning blocks are bound with.
///
/// # Errors
/// It can't be read, others can read it, or a line is no key; the line is named, never what
/// is in it.
pub fn read_reasoning_keys(path: &Path) -> Result<ReasoningKeys, InputError> {
    #[cfg(unix)]
    {
        let metadata = fs::metadata(path).map_err(io_error(path))?;
        if std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o077 != 0 {
            return Err(content(path, "others can read the keys; chmod 600 it"));
        }
    }
    let text = fs::read_to_string(path).map_err(io_error(path))?;
    ReasoningKeys::parse(&text).map_err(|what| content(path, what))
}

/// Reads what a hunt has written: its campaigns and their members.
///
/// # Errors
/// A file is missing or broken, or the two don't belong together, as while a hunt is
/// replacing them.
pub fn read_findings(folder: &Source) -> Result<Vec<Finding>, InputError> {
    let Source(folder) = folder;
    let path = folder.join(CAMPAIGNS);
    let text = fs::read(&path).map_err(io_error(&path))?;
    let path = folder.join(MEMBERS);
    let members = File::open(&path).map_err(io_error(&path))?;
    findings(folder, &text, members)
}

/// Reads what was kept of a bucket.
///
/// # Errors
/// It can't be read or used.
pub fn read_bundle(path: &Path) -> Result<Vec<Finding>, InputError> {
    let bytes = fs::read(path).map_err(io_error(path))?;
    let bundle = Bundle::from_bytes(bytes.into()).map_err(|what| content(path, what))?;
    findings_of(&bundle, path)
}

/// Reads the findings of a bundle; errors name files below `place`.
///
/// # Errors
/// A file is missing or can't be used.
pub fn findings_of(bundle: &Bundle, place: &Path) -> Result<Vec<Finding>, InputError> {
    let file = |name: &str| {
        bundle.file(name).cloned().ok_or_else(|| content(&place.join(name), "is missing"))
    };
    findings(place, &file(CAMPAIGNS)?, file(MEMBERS)?)
}

const CAMPAIGNS: &str = "campaigns.json";
const MEMBERS: &str = "members.parquet";

fn findings<R: ChunkReader + 'static>(
    place: &Path,
    campaigns: &[u8],
    members: R,
) -> Result<Vec<Finding>, InputError> {
    let path = place.join(CAMPAIGNS);
    let campaigns: Vec<Campaign> = serde_json::from_slice(campaigns)
        .map_err(|error| content(&path, format!("is not what a hunt writes: {error}")))?;
    let mut places = HashMap::new();
    let mut findings: Vec<Finding> = Vec::with_capacity(campaigns.len());
    for campaign in campaigns {
        places.insert(campaign.campaign_id.clone(), findings.len());
        findings.push(Finding { campaign, members: Vec::new() });
    }
    let path = place.join(MEMBERS);
    for batch in read_parquet(&path, members, &["campaign_id", "account_id", "membership"])? {
        let (campaigns, accounts) = (texts(&path, &batch, 0)?, texts(&path, &batch, 1)?);
        let memberships = column(&path, &batch, 2, &DataType::Float64)?;
        let memberships = memberships.as_primitive::<Float64Type>();
        for row in 0..batch.num_rows() {
            if campaigns.is_null(row) || accounts.is_null(row) || memberships.is_null(row) {
                return Err(content(&path, "a member lacks its campaign, account or membership"));
            }
            let place = places.get(campaigns.value(row));
            let Some(finding) = place.and_then(|place| findings.get_mut(*place)) else {
                let what = "names a campaign that campaigns.json does not have; \
                            is a hunt still writing?";
                return Err(content(&path, what));
            };
            finding.members.push(Member {
                account_id: accounts.value(row).to_owned(),
                membership: memberships.value(row),
            });
        }
    }
    Ok(findings)
}

/// The batches of these columns, in this order.
fn read_parquet<R: ChunkReader + 'static>(
    path: &Path,
    file: R,
    columns: &[&str],
) -> Result<Vec<RecordBatch>, InputError> {
    let broken = |what: &dyn std::fmt::Display| content(path, format!("can't be read: {what}"));
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(|e| broken(&e))?;
    let schema = Arc::clone(builder.schema());
    let places = columns
        .iter()
        .map(|name| {
            schema.index_of(name).map_err(|_| content(path, format!("has no column {name}")))
        })
        .collect::<Result<Vec<usize>, _>>()?;
    let mask = ProjectionMask::roots(builder.parquet_schema(), places);
    let reader = builder.with_projection(mask).build().map_err(|e| broken(&e))?;
    reader
        .map(|batch| {
            let batch = batch.map_err(|e| broken(&e))?;
            // A projection keeps the file's order.
            let order: Result<Vec<usize>, _> =
                columns.iter().map(|name| batch.schema().index_of(name)).collect();
            order.and_then(|order| batch.project(&order)).map_err(|e| broken(&e))
        })
        .collect()
}

fn column(
    path: &Path,
    batch: &RecordBatch,
    place: usize,
    kind: &DataType,
) -> Result<Arc<dyn Array>, InputError> {
    cast(batch.column(place), kind).map_err(|error| content(path, error.to_string()))
}

fn texts(
    path: &Path,
    batch: &RecordBatch,
    place: usize,
) -> Result<arrow::array::StringArray, InputError> {
    Ok(column(path, batch, place, &DataType::Utf8)?.as_string::<i32>().clone())
}

/// A line of a credentials table.
#[derive(Deserialize)]
struct CredentialRow {
    credential_hash: String,
    account_id: String,
    organization_id: Option<String>,
}

/// Reads the table of credentials, Parquet or JSON Lines by content: `credential_hash`
/// (SHA-256 of the key in hex), `account_id` and, if there is one, `organization_id`.
///
/// # Errors
/// The file can't be read, or a row of it can't be used; which row is said, never what
/// is in it.
pub fn read_credentials(path: &Path) -> Result<Credentials, InputError> {
    let file = File::open(path).map_err(io_error(path))?;
    let mut reader = BufReader::new(file);
    let is_parquet = reader.fill_buf().map_err(io_error(path))?.starts_with(b"PAR1");
    let mut table = Table { path, ids: HashMap::new(), credentials: Credentials::default() };
    if is_parquet {
        let required = ["credential_hash", "account_id"];
        let all = ["credential_hash", "account_id", "organization_id"];
        let open = || File::open(path).map_err(io_error(path));
        let batches = match read_parquet(path, open()?, &all) {
            Err(InputError::Content { what, .. }) if what.ends_with("organization_id") => {
                read_parquet(path, open()?, &required)?
            }
            other => other?,
        };
        let mut row_number = 0;
        for batch in batches {
            let (hashes, accounts) = (texts(path, &batch, 0)?, texts(path, &batch, 1)?);
            let organizations =
                (batch.num_columns() > 2).then(|| texts(path, &batch, 2)).transpose()?;
            for row in 0..batch.num_rows() {
                row_number += 1;
                let organization = organizations.as_ref().filter(|o| o.is_valid(row));
                if hashes.is_null(row) || accounts.is_null(row) {
                    return Err(content(
                        path,
                        format!("row {row_number} lacks a hash or an account"),
                    ));
                }
                table.add(
                    row_number,
                    hashes.value(row),
                    accounts.value(row),
                    organization.map(|o| o.value(row)),
                )?;
            }
        }
    } else {
        for (index, line) in reader.lines().enumerate() {
            let line = line.map_err(io_error(path))?;
            if line.trim().is_empty() {
                continue;
            }
            let row: CredentialRow = serde_json::from_str(&line).map_err(|error| {
                let category = error.classify();
                content(
                    path,
                    format!(
                        "row {} is no credential: {category:?} error at column {}",
                        index + 1,
                        error.column()
                    ),
                )
            })?;
            table.add(
                index + 1,
                &row.credential_hash,
                &row.account_id,
                row.organization_id.as_deref(),
            )?;
        }
    }
    Ok(table.credentials)
}

/// A table of credentials that is being read; equal ids are kept once.
struct Table<'a> {
    path: &'a Path,
    ids: HashMap<String, Arc<str>>,
    credentials: Credentials,
}

impl Table<'_> {
    fn add(
        &mut self,
        row: usize,
        hash: &str,
        account_id: &str,
        organization_id: Option<&str>,
    ) -> Result<(), InputError> {
        let wrong = |what: &str| content(self.path, format!("row {row}: {what}"));
        let Some(hash) = CredentialHash::parse(hash) else {
            return Err(wrong("credential_hash is not SHA-256 in 64 hex digits"));
        };
        if account_id.is_empty() {
            return Err(wrong("account_id is empty"));
        }
        let mut id =
            |text: &str| Arc::clone(self.ids.entry_ref(text).or_insert_with(|| text.into()));
        let owner = Owner {
            account_id: id(account_id),
            organization_id: organization_id.filter(|id| !id.is_empty()).map(id),
        };
        match self.credentials.0.insert(hash, owner.clone()) {
            Some(other) if other != owner => {
                Err(wrong("the credential is there twice, for different owners"))
            }
            _ => Ok(()),
        }
    }
}

/// What tells that a file has changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stamps(Vec<Option<(u64, std::time::SystemTime, u64)>>);

impl Stamps {
    /// The stamps of these files as they are now.
    #[must_use]
    pub fn of(paths: &[PathBuf]) -> Self {
        Stamps(paths.iter().map(|path| Some(stamp(&fs::metadata(path).ok()?))).collect())
    }
}

fn stamp(metadata: &Metadata) -> (u64, std::time::SystemTime, u64) {
    #[cfg(unix)]
    let inode = std::os::unix::fs::MetadataExt::ino(metadata);
    #[cfg(not(unix))]
    let inode = 0;
    (metadata.len(), metadata.modified().unwrap_or(std::time::SystemTime::UNIX_EPOCH), inode)
}

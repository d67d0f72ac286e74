//! `stillwatch guard --rehearse`: a policy tried on traffic that has been. What a policy
//! does to an exchange is `stillwatch-decide`'s; here it is read, put in order and told.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{TimestampMicrosecondType, UInt16Type, UInt32Type};
use clap::Args;
use serde::Serialize;
use stillwatch_decide::{Finding, InForceFrom, Known, Passed, Rehearsal, Rehearser};
use stillwatch_exchange::Time;
use stillwatch_guard::{
    CredentialHash, Credentials, GuardError, InputError, Owner, read_credentials, read_findings,
    read_history, read_policy, records_folder,
};
use stillwatch_hunt::Entry;
use stillwatch_ingest::{Format, Meter, RefusedCounts, Table, discover, read_accounts};

use super::guard::{Guard, source};
use super::hunt::format_help;
use crate::failure::Failure;
use crate::session::Session;
use crate::{output, rehearsed};

/// Exchanges of accounts that a finding names which are held to be put in order, 80 bytes
/// each; with more the rehearsal ends and says so.
const EXCHANGES_MAX: usize = 20_000_000;

/// The stage that a rehearsal is in while it reads.
const STAGE: &str = "rehearse";

/// A rehearsal instead of a guard.
#[derive(Debug, Args)]
pub struct Rehearse {
    /// Try the policy on exchanges that have been, say who would have been touched, and
    /// end. Nothing is listened to and nothing begins; the policy counts as in force even
    /// where it only observes.
    #[arg(long, requires = "policy", requires = "verdicts")]
    rehearse: bool,

    /// The exchanges to rehearse on, in any format that `hunt` reads [default: the records
    /// below --state].
    #[arg(long, value_name = "PATH", num_args = 1.., requires = "rehearse")]
    exchanges: Vec<String>,

    /// What is known of the accounts; those that organisations have verified count as
    /// innocent.
    #[arg(long, value_name = "PATH", num_args = 1.., requires = "rehearse")]
    accounts: Vec<String>,

    /// Groups that are known to be innocent; see `stillwatch clear`.
    #[arg(long, value_name = "FILE", requires = "rehearse")]
    references: Option<PathBuf>,

    /// Since when the findings count: from the start of the exchanges, or each from when
    /// it could have been known (`first_detectable`).
    #[arg(long, value_name = "WHEN", default_value = "start", value_parser = when, requires = "rehearse")]
    in_force_from: InForceFrom,

    /// Where the result goes as JSON, with every account that would have been touched.
    #[arg(long, value_name = "FILE", requires = "rehearse")]
    out: Option<PathBuf>,

    /// The format of the exchanges, where it should not be recognised.
    #[arg(long, value_name = "FORMAT", help = format_help(), requires = "rehearse")]
    format: Option<Format>,

    /// An OpenTelemetry attribute that names the account, before the usual ones.
    #[arg(long, value_name = "NAME", num_args = 1.., requires = "rehearse")]
    account_attribute: Vec<String>,
}

impl Rehearse {
    pub fn is_asked(&self) -> bool {
        self.rehearse
    }
}

fn when(text: &str) -> Result<InForceFrom, String> {
    match text {
        "start" => Ok(InForceFrom::Start),
        "detected" => Ok(InForceFrom::Detected),
        _ => Err("start or detected".to_owned()),
    }
}

/// A rehearsal and what it was made of.
#[derive(Debug, Serialize)]
pub struct Rehearsed {
    /// When the first and the last exchange came.
    pub first: Option<Time>,
    pub last: Option<Time>,
    pub files: u64,
    /// Of all accounts, whether a finding names them or not.
    pub exchanges: u64,
    pub accounts: u64,
    pub output_tokens: u64,
    /// By reason.
    pub rows_refused: BTreeMap<String, u64>,
    pub file_problems: Vec<String>,
    #[serde(flatten)]
    pub rehearsal: Rehearsal,
}

/// Rehearses and tells what came of it.
pub fn run(guard: &Guard, session: &Session) -> Result<(), Failure> {
    let args = &guard.rehearse;
    let policy = match &guard.policy {
        Some(path) => read_policy(path)?,
        None => return Err(Failure::Usage("--rehearse needs a --policy to try".to_owned())),
    };
    let mut findings = Vec::new();
    for path in &guard.verdicts {
        findings.extend(read_findings(&source(path)?)?);
    }
    let credentials = match &guard.credentials {
        Some(path) => read_credentials(path)?,
        None => Credentials::default(),
    };
    let history = read_history(&guard.state)?;
    let known = known(args, &findings, session)?;

    let traffic = Traffic::read(guard, &findings, &credentials, session)?;
    let began = traffic.first.unwrap_or_default();
    let mut rehearser = Rehearser::new(&policy, &findings, &history, args.in_force_from, began);
    traffic.rows.iter().for_each(|row| rehearser.pass(&row.passed(&traffic.names)));
    let rehearsed = Rehearsed {
        first: traffic.first,
        last: traffic.last,
        files: traffic.files,
        exchanges: traffic.exchanges,
        accounts: traffic.accounts.len() as u64,
        output_tokens: traffic.output_tokens,
        rows_refused: traffic.refused.named(),
        file_problems: traffic.problems,
        rehearsal: rehearser.finish(&known),
    };
    if let Some(path) = &args.out {
        let mut json = serde_json::to_vec_pretty(&rehearsed)
            .map_err(|error| Failure::Other(format!("cannot make JSON: {error}")))?;
        json.push(b'\n');
        fs::write(path, json).map_err(Failure::at("write", path))?;
    }
    output::print(&rehearsed::render(&rehearsed, output::has_colours()))
}

/// What is known of the accounts that findings name, beside the findings.
fn known(
    args: &Rehearse,
    findings: &[Finding],
    session: &Session,
) -> Result<BTreeMap<String, BTreeSet<Known>>, Failure> {
    let mut known: BTreeMap<String, BTreeSet<Known>> = BTreeMap::new();
    if !args.accounts.is_empty() {
        let named: HashSet<&str> = findings
            .iter()
            .flat_map(|finding| &finding.members)
            .map(|member| member.account_id.as_str())
            .collect();
        let options = session.read_options(None, &[]);
        let (accounts, problems) = read_accounts(&args.accounts, &options)?;
        for problem in &problems.files {
            output::note(&format!("accounts: {problem}"));
        }
        let is_verified = |how: Option<&str>| how == Some("organization");
        for account in accounts {
            if is_verified(account.verification.as_deref())
                && named.contains(account.account_id.as_str())
            {
                known.entry(account.account_id).or_default().insert(Known::VerifiedOrganization);
            }
        }
    }
    if let Some(path) = &args.references {
        for entry in stillwatch_hunt::read_references(path)? {
            let (accounts, why) = match entry {
                Entry::Cleared { accounts, .. } => (accounts, Known::Cleared),
                Entry::Customer { group } => (group.accounts, Known::Customer),
                Entry::Campaign { .. } | Entry::Harmless { .. } => continue,
            };
            for account in accounts {
                known.entry(account).or_default().insert(why);
            }
        }
    }
    Ok(known)
}

/// What is read of an exchange.
const COLUMNS: [&str; 12] = [
    "time",
    "account_id",
    "organization_id",
    "credential_id",
    "operation_name",
    "request_max_tokens",
    "request_choice_count",
    "request_top_logprobs",
    "request_logit_bias_count",
    "usage_output_tokens",
    "status",
    "request_stream",
];

/// An exchange of an account that a finding names. The order of the fields is that of the
/// rehearsal, so that files may be split, ordered and named in any way.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Row {
    time: Time,
    /// Its place among the names.
    account: u32,
    organization_id: Option<Arc<str>>,
    max_tokens: Option<u32>,
    choices: Option<u16>,
    output_tokens: Option<u32>,
    asks_probabilities: bool,
    is_stream: bool,
    is_embedding: bool,
    is_failed: bool,
}

impl Row {
    fn passed<'a>(&'a self, names: &[&'a str]) -> Passed<'a> {
        Passed {
            time: self.time,
            account_id: names.get(self.account as usize).copied().unwrap_or_default(),
            organization_id: self.organization_id.as_deref(),
            max_tokens: self.max_tokens,
            choices: self.choices,
            output_tokens: self.output_tokens,
            asks_probabilities: self.asks_probabilities,
            is_stream: self.is_stream,
            is_embedding: self.is_embedding,
            is_failed: self.is_failed,
        }
    }
}

/// The exchanges to rehearse on.
#[derive(Default)]
struct Traffic<'f> {
    /// The accounts that findings name, sorted.
    names: Vec<&'f str>,
    places: HashMap<&'f str, u32>,
    organizations: HashMap<String, Arc<str>>,
    /// In the order of time.
    rows: Vec<Row>,
    accounts: HashSet<String>,
    exchanges: u64,
    output_tokens: u64,
    first: Option<Time>,
    last: Option<Time>,
    files: u64,
    refused: RefusedCounts,
    problems: Vec<String>,
}

impl<'f> Traffic<'f> {
    fn read(
        guard: &Guard,
        findings: &'f [Finding],
        credentials: &Credentials,
        session: &Session,
    ) -> Result<Self, Failure> {
        let args = &guard.rehearse;
        let records = records_folder(&guard.state);
        let paths = match args.exchanges.as_slice() {
            [] if !records.is_dir() => {
                return Err(Failure::Usage(format!(
                    "{} has no records to rehearse on; give --exchanges",
                    guard.state.display()
                )));
            }
            [] => vec![records.display().to_string()],
            paths => paths.to_vec(),
        };
        let options = session.read_options(args.format, &args.account_attribute);
        let found = discover(&paths, Table::Exchanges, &options)?;
        let names: BTreeSet<&str> = findings
            .iter()
            .flat_map(|finding| &finding.members)
            .map(|member| member.account_id.as_str())
            .collect();
        let names: Vec<&str> = names.into_iter().collect();
        let places = names.iter().zip(0..).map(|(name, place)| (*name, place)).collect();
        let mut traffic = Traffic {
            names,
            places,
            files: found.sources.len() as u64,
            problems: found.problems.iter().map(ToString::to_string).collect(),
            ..Traffic::default()
        };
        if found.sources.is_empty() {
            let first = traffic.problems.first().map_or("the paths hold no files", String::as_str);
            return Err(Failure::Usage(format!("nothing to rehearse on: {first}")));
        }
        session.stages.begin(STAGE, None, "exchanges");
        let meter = Arc::new(Meter::default());
        for split in found.sources.iter().flat_map(stillwatch_ingest::Source::splits) {
            let batches = match split.read(&COLUMNS, None, &meter) {
                Ok(batches) => batches,
                Err(problem) => {
                    traffic.problems.push(problem.to_string());
                    continue;
                }
            };
            for batch in batches {
                session.stop.check()?;
                match batch {
                    Ok(batch) => {
                        traffic.refused.merge(&batch.refused);
                        traffic.take(&batch.rows, credentials)?;
                    }
                    Err(problem) => traffic.problems.push(problem.to_string()),
                }
                session.stages.at(STAGE, meter.rows());
            }
        }
        traffic.rows.sort_unstable();
        traffic.problems.sort();
        session.stages.end(STAGE);
        Ok(traffic)
    }

    fn take(&mut self, rows: &RecordBatch, credentials: &Credentials) -> Result<(), Failure> {
        let columns = Columns(rows);
        for row in 0..rows.num_rows() {
            let (Some(time), Some(account_id)) = (columns.time(row), columns.text(1, row)) else {
                continue;
            };
            let hash = columns.text(3, row).and_then(CredentialHash::parse);
            let owner: Option<&Owner> = hash.and_then(|hash| credentials.0.get(&hash));
            let account_id = owner.map_or(account_id, |owner| &owner.account_id);
            let output_tokens = columns.u32(9, row);
            self.exchanges += 1;
            self.output_tokens += u64::from(output_tokens.unwrap_or(0));
            self.first = Some(self.first.map_or(time, |first| first.min(time)));
            self.last = self.last.max(Some(time));
            if !self.accounts.contains(account_id) {
                self.accounts.insert(account_id.to_owned());
            }
            let Some(&account) = self.places.get(account_id) else { continue };
            if self.rows.len() >= EXCHANGES_MAX {
                return Err(Failure::Usage(format!(
                    "the findings' accounts have more than {EXCHANGES_MAX} exchanges there; \
                     rehearse on fewer days"
                )));
            }
            let organization = owner
                .and_then(|owner| owner.organization_id.as_deref())
                .or_else(|| columns.text(2, row));
            let row = Row {
                time,
                account,
                organization_id: organization.map(|id| self.organization(id)),
                max_tokens: columns.u32(5, row),
                choices: columns.u16(6, row),
                output_tokens,
                asks_probabilities: [7, 8]
                    .into_iter()
                    .any(|place| columns.u16(place, row).is_some_and(|count| count > 0)),
                is_stream: columns.is_set(11, row),
                is_embedding: columns.text(4, row) == Some("embeddings"),
                is_failed: columns.u16(10, row).is_some_and(|status| status >= 400),
            };
            self.rows.push(row);
        }
        Ok(())
    }

    fn organization(&mut self, id: &str) -> Arc<str> {
        if let Some(held) = self.organizations.get(id) {
            return Arc::clone(held);
        }
        let held: Arc<str> = id.into();
        self.organizations.insert(id.to_owned(), Arc::clone(&held));
        held
    }
}

/// The columns of a batch, in the order of [`COLUMNS`].
struct Columns<'a>(&'a RecordBatch);

impl<'a> Columns<'a> {
    fn time(&self, row: usize) -> Option<Time> {
        let times = self.0.column(0).as_primitive_opt::<TimestampMicrosecondType>()?;
        times.is_valid(row).then(|| Time(times.value(row)))
    }

    fn text(&self, column: usize, row: usize) -> Option<&'a str> {
        let texts = self.0.column(column).as_string_view_opt()?;
        texts.is_valid(row).then(|| texts.value(row))
    }

    fn is_set(&self, column: usize, row: usize) -> bool {
        let values = self.0.column(column).as_boolean_opt();
        values.is_some_and(|values| values.is_valid(row) && values.value(row))
    }

    fn u32(&self, column: usize, row: usize) -> Option<u32> {
        let values = self.0.column(column).as_primitive_opt::<UInt32Type>()?;
        values.is_valid(row).then(|| values.value(row))
    }

    fn u16(&self, column: usize, row: usize) -> Option<u16> {
        let values = self.0.column(column).as_primitive_opt::<UInt16Type>()?;
        values.is_valid(row).then(|| values.value(row))
    }
}

impl From<InputError> for Failure {
    fn from(error: InputError) -> Self {
        GuardError::from(error).into()
    }
}

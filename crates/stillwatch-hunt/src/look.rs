//! Look: a watch hunts in the profiles that it keeps, as a hunt does in those it has just
//! made.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use stillwatch_detect::calendar::{Calendar, EPOCHS};
use stillwatch_detect::population::{Member, Population};
use stillwatch_detect::references::References;
use stillwatch_exchange::{Account, Release, Time};
use stillwatch_ingest::{Discovery, Meter, Problems, Table, discover, read_accounts};

use crate::conclude::{Known, conclude};
use crate::references::read;
use crate::run::{Hunted, Readable, RunRecord, add_records, find_all, runtime};
use crate::settings::{HuntError, HuntSettings, Progress};
use crate::source::locked;

/// What a watch has counted of the exchanges of a period.
#[derive(Debug)]
pub struct Counted {
    /// Without their records, which are read from the accounts table.
    pub members: Vec<Member>,
    pub calendar: Calendar,
    pub releases: Vec<Release>,
    /// Exchanges by hour since the Unix epoch, in order.
    pub hours: Vec<(i64, u64)>,
    pub exchanges: u64,
    /// Rows and cells that could not be read, by reason.
    pub refused: BTreeMap<String, u64>,
    pub file_problems: Vec<String>,
    /// The files that hold the exchanges, all of them, where they can be read again.
    pub files: Option<Vec<String>>,
}

/// The accounts table as it was last read, for the looks at which it can't be: without it
/// other groups would be found, and those that were would be gone.
#[derive(Debug, Default)]
pub struct KeptAccounts(Mutex<Vec<Account>>);

impl KeptAccounts {
    /// Reads the table for the first time.
    ///
    /// # Errors
    /// There is one, and it can't be used.
    pub fn read(settings: &HuntSettings) -> Result<Self, HuntError> {
        let kept = KeptAccounts::default();
        if !settings.accounts.is_empty() {
            *locked(&kept.0) = read_accounts(&settings.accounts, &settings.read)?.0;
        }
        Ok(kept)
    }

    /// What is read now, or where it can't be, what was read before.
    fn or_read(
        &self,
        read: Result<(Vec<Account>, Problems), stillwatch_ingest::IngestError>,
    ) -> (Vec<Account>, Problems, Option<String>) {
        let mut kept = locked(&self.0);
        match read {
            Ok((accounts, problems)) => {
                kept.clone_from(&accounts);
                (accounts, problems, None)
            }
            Err(error) => {
                let problem = format!("{error}; this look has what was there before");
                (kept.clone(), Problems::default(), Some(problem))
            }
        }
    }
}

/// Hunts in what was counted. [`HuntSettings::exchanges`] only goes into the record of the
/// run, and [`HuntSettings::period`] says which exchanges of the files were counted.
/// Blocks until the end.
///
/// # Errors
/// As [`crate::hunt`].
pub fn look(
    counted: Counted,
    accounts: &KeptAccounts,
    settings: &HuntSettings,
    progress: &Arc<dyn Progress>,
) -> Result<Hunted, HuntError> {
    let runtime = runtime(settings.threads)?;
    let handle = runtime.handle().clone();
    let result = runtime.block_on(stages(counted, accounts, settings, progress.as_ref(), handle));
    // Readers that still wait for a channel end with the runtime.
    runtime.shutdown_timeout(Duration::from_secs(2));
    result
}

async fn stages(
    counted: Counted,
    kept: &KeptAccounts,
    settings: &HuntSettings,
    progress: &dyn Progress,
    handle: tokio::runtime::Handle,
) -> Result<Hunted, HuntError> {
    let Counted {
        mut members,
        calendar,
        releases,
        hours,
        exchanges,
        refused,
        mut file_problems,
        files,
    } = counted;
    let known = settings.references.as_deref().map_or_else(|| Ok(References::default()), read)?;
    let mut options = settings.read.clone();
    options.runtime = Some(handle);
    let account_paths = settings.accounts.clone();
    let tables = tokio::task::spawn_blocking(move || {
        let accounts = if account_paths.is_empty() {
            Ok(Default::default())
        } else {
            read_accounts(&account_paths, &options)
        };
        let found = match &files {
            Some(files) => Some(discover(files, Table::Exchanges, &options)?),
            None => None,
        };
        Ok::<_, stillwatch_ingest::IngestError>((accounts, found))
    });
    let (accounts, found) = tables.await.map_err(|e| HuntError::NothingToRead(e.to_string()))??;
    let (accounts, account_problems, unread) = kept.or_read(accounts);
    file_problems.extend(unread);
    let mut record = RunRecord { rows_refused: refused, ..RunRecord::default() };
    for (reason, count) in account_problems.refused.named() {
        *record.rows_refused.entry(format!("accounts: {reason}")).or_default() += count;
    }
    file_problems.extend(account_problems.files.iter().map(ToString::to_string));
    file_problems.sort();
    file_problems.dedup();
    record.file_problems = file_problems;
    add_records(&mut members, accounts.into_iter().map(|a| (a.account_id.clone(), a)).collect());
    let readable = found.map(|Discovery { sources, .. }| Readable {
        sources,
        meter: Arc::new(Meter::default()),
        period: settings.period,
    });
    if let Some(readable) = &readable {
        record.files = readable.sources.iter().map(|s| s.name().to_owned()).collect();
    }

    let period = (calendar.epoch_start(0), Time(calendar.epoch_start(EPOCHS).0 - 1));
    let population = Population::new(members, calendar);
    let found = find_all(&population, settings, &known, None, progress)?;
    let known = Known { population, releases, hours, exchanges, period, record };
    conclude(known, found, readable.as_ref(), settings, progress).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_without_its_table_has_what_was_there_before() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("accounts.jsonl");
        let paths = [path.to_str().unwrap().to_owned()];
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            read_accounts(&paths, &stillwatch_ingest::Options::default())
        };
        let ids = |kept: &KeptAccounts, text: &str| {
            let (accounts, _, problem) = kept.or_read(read(text));
            let ids: Vec<String> = accounts.into_iter().map(|a| a.account_id).collect();
            (ids.join(" "), problem)
        };
        let kept = KeptAccounts::default();
        assert_eq!(ids(&kept, "{\"account_id\":\"a\"}\n"), ("a".to_owned(), None));
        let (before, problem) = ids(&kept, "half of a ta");
        assert_eq!(before, "a");
        assert!(problem.is_some_and(|p| p.contains("accounts.jsonl") && p.contains("before")));
        assert_eq!(ids(&kept, "{\"account_id\":\"b\"}\n"), ("b".to_owned(), None));
    }
}

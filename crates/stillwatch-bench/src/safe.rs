//! Real accounts that people have judged: our idea of balance on accounts of which only
//! volumes are known.
//!
//! The data are those of the Safe token's review of 2022 (safe-global,
//! safe-user-allocation-reports, CC0): accounts with a volume in tokens and a number of
//! transactions, reported by people as farms and removed, or not. An account that nobody
//! reported counts as innocent, so precision is a lower bound. The labels are read here to
//! hold the result against them, and nowhere else.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::ranking::{Ranking, ranking};
use crate::volumes::{Volume, even_groups, evenness};

/// Accounts that could not be read.
#[derive(Debug, thiserror::Error)]
pub enum SafeError {
    #[error("cannot read {path}: {why}; give the folder with accounts.csv.gz or accounts.csv")]
    Read { path: PathBuf, why: String },
    #[error("{path}, line {line}: {why}")]
    Line { path: PathBuf, line: u64, why: String },
    #[error("{path} has no removed or no remaining accounts to hold a ranking against")]
    Labels { path: PathBuf },
}

/// One account of the file.
#[derive(Clone, Debug, PartialEq)]
pub struct Reviewed {
    pub volume: Volume,
    pub is_removed: bool,
    /// The accepted report that names it.
    pub report: Option<String>,
}

/// Reads `accounts.csv.gz` or `accounts.csv` of a folder, with the columns `tokens`,
/// `n_transactions`, `farmer_removed` and `report`.
///
/// # Errors
/// There is no such file, or a line of it can't be read.
pub fn read(dir: &Path) -> Result<Vec<Reviewed>, SafeError> {
    let packed = dir.join("accounts.csv.gz");
    let path = if packed.exists() { packed } else { dir.join("accounts.csv") };
    let failed = |why: String| SafeError::Read { path: path.clone(), why };
    let file = File::open(&path).map_err(|e| failed(e.to_string()))?;
    let input: Box<dyn Read> = if path.extension().is_some_and(|e| e == "gz") {
        Box::new(flate2::read::GzDecoder::new(file))
    } else {
        Box::new(file)
    };
    parse(input, &path)
}

fn parse(input: impl Read, path: &Path) -> Result<Vec<Reviewed>, SafeError> {
    let failed = |why: String| SafeError::Read { path: path.to_owned(), why };
    let mut reader = csv::Reader::from_reader(input);
    let headers = reader.headers().map_err(|e| failed(e.to_string()))?.clone();
    let place = |name: &str| {
        headers.iter().position(|h| h == name).ok_or_else(|| failed(format!("no column {name}")))
    };
    let (tokens, transactions) = (place("tokens")?, place("n_transactions")?);
    let (removed, report) = (place("farmer_removed")?, place("report")?);
    let mut accounts = Vec::new();
    for (index, record) in reader.records().enumerate() {
        let bad =
            |why: String| SafeError::Line { path: path.to_owned(), line: index as u64 + 2, why };
        let record = record.map_err(|e| bad(e.to_string()))?;
        let cell = |at: usize| record.get(at).unwrap_or_default().trim();
        let tokens = cell(tokens).parse::<f64>().ok().filter(|t| t.is_finite() && *t > 0.0);
        let transactions = match cell(transactions) {
            "" => None,
            text => Some(text.parse::<f64>().ok().filter(|n| (0.0..4e9).contains(n)).ok_or_else(
                || bad("n_transactions is no number of 0 or more, and not blank".to_owned()),
            )? as u32),
        };
        accounts.push(Reviewed {
            volume: Volume {
                tokens: tokens.ok_or_else(|| bad("tokens is no number above 0".to_owned()))?,
                transactions,
            },
            is_removed: match cell(removed) {
                "0" => false,
                "1" => true,
                _ => return Err(bad("farmer_removed is neither 0 nor 1".to_owned())),
            },
            report: Some(cell(report)).filter(|r| !r.is_empty()).map(str::to_owned),
        });
    }
    Ok(accounts)
}

/// How it went.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SafeCheck {
    pub accounts: u64,
    pub removed: u64,
    /// Of the evidence, account by account.
    pub ranking: Ranking,
    /// Even groups, their members, and how many of these were removed.
    pub groups: u64,
    pub members: u64,
    pub members_removed: u64,
    /// Reports of eight accounts or more, and those half of whose accounts are members.
    pub reports: u64,
    pub reports_found: u64,
}

/// The level of the even groups.
const LEVEL: f64 = 0.05;
/// Smaller reports are not a group.
const REPORT_MIN: usize = stillwatch_detect::link::GROUP_MIN;

/// Ranks the accounts and gathers groups by their volumes, then holds both against what
/// people decided.
///
/// # Errors
/// The accounts can't be read, or were all judged alike.
pub fn check(dir: &Path) -> Result<SafeCheck, SafeError> {
    let accounts = read(dir)?;
    let volumes: Vec<Volume> = accounts.iter().map(|a| a.volume).collect();
    let evidence = evenness(&volumes);
    let groups = even_groups(&volumes, LEVEL);

    let removed: Vec<bool> = accounts.iter().map(|a| a.is_removed).collect();
    let ranking =
        ranking(&evidence, &removed).ok_or_else(|| SafeError::Labels { path: dir.to_owned() })?;
    let members: BTreeSet<u32> = groups.iter().flat_map(|g| g.members.iter().copied()).collect();
    let mut reports: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for (index, account) in accounts.iter().enumerate().filter(|(_, a)| a.is_removed) {
        if let Some(report) = &account.report {
            let (size, found) = reports.entry(report).or_default();
            *size += 1;
            *found += usize::from(members.contains(&(index as u32)));
        }
    }
    let large = || reports.values().filter(|(size, _)| *size >= REPORT_MIN);
    Ok(SafeCheck {
        accounts: accounts.len() as u64,
        removed: removed.iter().filter(|r| **r).count() as u64,
        ranking,
        groups: groups.len() as u64,
        members: members.len() as u64,
        members_removed: members.iter().filter(|m| removed[**m as usize]).count() as u64,
        reports: large().count() as u64,
        reports_found: large().filter(|(size, found)| 2 * found >= *size).count() as u64,
    })
}

impl fmt::Display for SafeCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let r = &self.ranking;
        let percent = |part: u64, whole: u64| 100.0 * part as f64 / whole.max(1) as f64;
        writeln!(f, "{} accounts, {} of them removed by people", self.accounts, self.removed)?;
        writeln!(f, "                     ours  nearest neighbours")?;
        writeln!(f, "AUC                 {:.3}               0.907", r.auc)?;
        writeln!(f, "average precision   {:.3}               0.760", r.average_precision)?;
        writeln!(f, "best F1             {:.3}               0.738", r.best_f1)?;
        writeln!(
            f,
            "{} even groups of {} accounts, {:.1} % of them removed: {:.1} % of all removed",
            self.groups,
            self.members,
            percent(self.members_removed, self.members),
            percent(self.members_removed, self.removed),
        )?;
        write!(f, "{} of {} reports found, at least by half", self.reports_found, self.reports)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "acct,tokens,n_transactions,farmer_removed,report\n";

    fn parsed(rows: &str) -> Result<Vec<Reviewed>, SafeError> {
        parse((HEADER.to_owned() + rows).as_bytes(), Path::new("accounts.csv"))
    }

    #[test]
    fn a_farm_is_ranked_first_and_found() {
        let mut rows = String::new();
        for i in 0..2_000u32 {
            // A smooth crowd, from the quantiles of two independent numbers.
            let (a, b) = (f64::from(i % 50) / 50.0 + 0.01, f64::from(i / 50) / 40.0 + 0.01);
            let spread = |u: f64| (u / (1.02 - u)).ln();
            let jitter = f64::from(i.wrapping_mul(2_654_435_761) >> 20) / 40_960.0;
            let tokens = (6.0 + spread(a) + jitter).exp();
            rows += &format!("{i},{tokens},{},0,\n", (2.0 + spread(b)).exp().ceil());
        }
        for i in 0..30 {
            rows += &format!("{},{},17,1,9\n", 2_000 + i, 700.0 + f64::from(i) / 10.0);
        }
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("accounts.csv"), HEADER.to_owned() + &rows).unwrap();
        let check = check(dir.path()).unwrap();
        assert_eq!((check.accounts, check.removed, check.reports), (2_030, 30, 1));
        assert!(check.ranking.auc > 0.99 && check.ranking.average_precision > 0.9, "{check}");
        assert_eq!(check.reports_found, 1, "{check}");
        assert!(check.members_removed * 10 >= 8 * check.members, "{check}");
    }

    #[test]
    fn blanks_are_not_known_and_bad_lines_are_named() {
        let accounts = parsed("0,320.5,11,0,\n1,203.3,,1,124\n").unwrap();
        assert_eq!(accounts[0].volume, Volume { tokens: 320.5, transactions: Some(11) });
        assert_eq!((accounts[1].volume.transactions, accounts[1].is_removed), (None, true));
        assert_eq!(accounts[1].report.as_deref(), Some("124"));
        for (rows, wanted) in [
            ("0,1,1,0,\n1,-3,1,0,\n", "line 3: tokens"),
            ("0,1,many,0,\n", "line 2: n_transactions"),
            ("0,1,1,perhaps,\n", "line 2: farmer_removed"),
            ("0,1\n", "line 2"),
        ] {
            let error = parsed(rows).unwrap_err().to_string();
            assert!(error.contains(wanted), "{error}");
            assert!(!error.contains("-3") && !error.contains("perhaps"), "{error}");
        }
        let error = parse(&b"a,b\n1,2\n"[..], Path::new("x")).unwrap_err().to_string();
        assert!(error.contains("tokens"), "{error}");
    }

    #[test]
    fn fuzz_accounts() {
        bolero::check!().with_type::<Vec<u8>>().for_each(|bytes| {
            let mut text = HEADER.as_bytes().to_vec();
            text.extend_from_slice(bytes);
            for input in [bytes.as_slice(), text.as_slice()] {
                if let Ok(accounts) = parse(input, Path::new("fuzz")) {
                    let volumes: Vec<Volume> = accounts.iter().map(|a| a.volume).collect();
                    assert!(evenness(&volumes).iter().all(|e| e.is_finite()));
                    let _ = even_groups(&volumes, LEVEL);
                }
            }
        });
    }

    /// The check on the real file, where somebody has it beside the repository.
    #[test]
    fn the_real_accounts() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/coordination/safe");
        if !dir.is_dir() {
            eprintln!("skipped: no accounts at {}", dir.display());
            return;
        }
        let check = check(&dir).unwrap();
        assert_eq!((check.accounts, check.removed), (55_719, 12_168));
        assert!(check.ranking.auc > 0.90, "{check}");
        assert!(check.ranking.average_precision > 0.76, "{check}");
        assert!(check.members_removed * 10 > check.members * 6, "{check}");
    }
}

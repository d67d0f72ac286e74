//! The references file: JSON Lines, one known innocent a line, that its owner keeps
//! between runs and may edit. A hunt writes lines of the same shape into its
//! `groups.jsonl`, from which `clear` takes them.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};
use stillwatch_detect::confirm::{Estimate, MEASURE_COUNT, MEASURES, Measured};
use stillwatch_detect::find::Found;
use stillwatch_detect::population::Population;
use stillwatch_detect::references::{
    Harmless, KnownCourse, References, link_named, measure_named, stratum_named,
};
use stillwatch_detect::signature::Membership;
use stillwatch_exchange::Time;

use crate::settings::HuntError;

/// One line of a references file, or of `groups.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Entry {
    /// A campaign of a hunt; in `groups.jsonl` alone.
    Campaign { campaign_id: String, accounts: Vec<String>, group: GroupEntry },
    /// A campaign that a person has cleared: all its accounts, and the course of the group
    /// that was judged.
    Cleared { campaign_id: String, why: String, accounts: Vec<String>, group: GroupEntry },
    /// A group that one customer or verified organisations stand behind.
    Customer { group: GroupEntry },
    /// Something that accounts may share without suspicion.
    Harmless { what: Shared, value: String, why: String },
}

/// What is harmless to share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shared {
    EmailDomain,
    OrganizationId,
    PaymentFingerprint,
}

/// The course of a group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupEntry {
    pub stratum: String,
    pub links: Vec<String>,
    pub frozen_at: Time,
    pub epoch_days: f64,
    pub accounts: Vec<String>,
    pub looks: Vec<LookEntry>,
}

/// What was measured at one look.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LookEntry {
    /// Epochs since the freezing.
    pub epochs: usize,
    /// Members that were measured.
    pub members: usize,
    /// By measure, its value and standard error.
    pub measures: BTreeMap<String, (f64, f64)>,
}

impl From<&KnownCourse> for GroupEntry {
    fn from(course: &KnownCourse) -> Self {
        let measures = |measured: &Measured| {
            MEASURES
                .iter()
                .zip(measured)
                .filter_map(|(m, e)| e.map(|e| (m.id.name().to_owned(), (e.value, e.error))))
                .collect()
        };
        GroupEntry {
            stratum: course.stratum.to_owned(),
            links: course.links.iter().map(|link| link.name().to_owned()).collect(),
            frozen_at: course.frozen_at,
            epoch_days: course.epoch_days,
            accounts: course.accounts.clone(),
            looks: course
                .ages
                .iter()
                .map(|(&epochs, (members, measured))| LookEntry {
                    epochs,
                    members: *members,
                    measures: measures(measured),
                })
                .collect(),
        }
    }
}

impl GroupEntry {
    /// The course, or what is wrong with it.
    fn course(self) -> Result<KnownCourse, String> {
        let unknown = |what: &str, name: &str| format!("there is no {what} called {name}");
        let mut ages = BTreeMap::new();
        for look in self.looks {
            let mut measured: Measured = [None; MEASURE_COUNT];
            for (name, (value, error)) in look.measures {
                let measure = measure_named(&name).ok_or_else(|| unknown("measure", &name))?;
                if !value.is_finite() || !error.is_finite() || error < 0.0 {
                    return Err(format!("the value of {name} is no number with an error"));
                }
                // What chance did is not kept: without it a reference seems odder than it is,
                // which makes the test more cautious.
                measured[measure] = Some(Estimate { value, error, chance: 0.0 });
            }
            ages.insert(look.epochs, (look.members, measured));
        }
        if !self.epoch_days.is_finite() || self.epoch_days <= 0.0 {
            return Err("epoch_days must be more than 0".to_owned());
        }
        Ok(KnownCourse {
            stratum: stratum_named(&self.stratum)
                .ok_or_else(|| unknown("stratum", &self.stratum))?,
            links: self
                .links
                .iter()
                .map(|name| link_named(name).ok_or_else(|| unknown("link channel", name)))
                .collect::<Result<_, _>>()?,
            accounts: self.accounts,
            frozen_at: self.frozen_at,
            epoch_days: self.epoch_days,
            ages,
        })
    }
}

/// What a hunt tells of its groups: the campaigns in the order of `ids`, and the known
/// customers.
pub(crate) fn told_groups(population: &Population, found: &Found, ids: &[String]) -> Vec<Entry> {
    let account = |m: &Membership| population.members()[m.account as usize].account_id.clone();
    let campaigns = found.findings.iter().zip(ids).map(|(finding, id)| Entry::Campaign {
        campaign_id: id.clone(),
        accounts: finding.members.iter().map(account).collect(),
        group: GroupEntry::from(&finding.course),
    });
    let customers = found.customers.iter().map(|c| Entry::Customer { group: c.into() });
    campaigns.chain(customers).collect()
}

/// The entries of a file, each with its line.
fn entries(path: &Path) -> Result<Vec<(usize, Entry)>, HuntError> {
    let file = File::open(path).map_err(HuntError::io(path))?;
    let mut entries = Vec::new();
    for (number, line) in BufReader::new(file).lines().enumerate() {
        let line = line.map_err(HuntError::io(path))?;
        if line.trim().is_empty() {
            continue;
        }
        let entry = serde_json::from_str(&line).map_err(|error| HuntError::References {
            path: path.to_owned(),
            line: number + 1,
            // The error's own text may quote what is in the file.
            problem: format!("not a reference (column {})", error.column()),
        })?;
        entries.push((number + 1, entry));
    }
    Ok(entries)
}

/// Reads a references file.
///
/// # Errors
/// It can't be read, or a line is no reference; the line is named.
pub(crate) fn read(path: &Path) -> Result<References, HuntError> {
    let mut references = References::default();
    for (line, entry) in entries(path)? {
        let bad = |problem: String| HuntError::References { path: path.to_owned(), line, problem };
        match entry {
            Entry::Campaign { .. } => {
                return Err(
                    bad("a campaign is no reference until `clear` makes it one".to_owned()),
                );
            }
            Entry::Cleared { accounts, group, .. } => {
                references.cleared.push(accounts);
                references.courses.push(group.course().map_err(bad)?);
            }
            Entry::Customer { group } => references.courses.push(group.course().map_err(bad)?),
            Entry::Harmless { what, value, .. } => {
                references.harmless.insert(match what {
                    Shared::EmailDomain => Harmless::EmailDomain(value),
                    Shared::OrganizationId => Harmless::Organization(value),
                    Shared::PaymentFingerprint => Harmless::Payment(value),
                });
            }
        }
    }
    Ok(references)
}

/// The entries of a references file, as they stand there.
///
/// # Errors
/// It can't be read, or a line is no reference; the line is named.
pub fn read_references(path: &Path) -> Result<Vec<Entry>, HuntError> {
    read(path)?;
    Ok(entries(path)?.into_iter().map(|(_, entry)| entry).collect())
}

/// The groups that a hunt wrote beside its findings.
///
/// # Errors
/// The file can't be read, or is not what a hunt writes.
pub fn read_groups(findings: &Path) -> Result<Vec<Entry>, HuntError> {
    Ok(entries(&findings.join(GROUPS))?.into_iter().map(|(_, entry)| entry).collect())
}

/// The file of groups beside the findings.
pub const GROUPS: &str = "groups.jsonl";

/// Adds entries to a references file, which is made where there is none. Those that are
/// there already are left out; returns how many were added. The file is replaced whole, so
/// that one that can't be written stays as it was.
///
/// # Errors
/// The file can't be read or written, or a line in it is no reference.
pub fn add(path: &Path, new: Vec<Entry>) -> Result<usize, HuntError> {
    let mut text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(HuntError::io(path)(error)),
    };
    let mut there: Vec<Entry> = Vec::new();
    if !text.is_empty() {
        read(path)?;
        there = entries(path)?.into_iter().map(|(_, entry)| entry).collect();
        if !text.ends_with('\n') {
            text.push('\n');
        }
    }
    let mut added = 0;
    for entry in new {
        if !there.contains(&entry) {
            text.push_str(&line(&entry, path)?);
            there.push(entry);
            added += 1;
        }
    }
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".part");
    let part = path.with_file_name(name);
    let written = File::create(&part).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()
    });
    written.and_then(|()| fs::rename(&part, path)).map_err(|error| {
        // Gone already where it was moved to its name.
        let _ = fs::remove_file(&part);
        HuntError::io(path)(error)
    })?;
    Ok(added)
}

/// An entry as a line of JSON.
pub(crate) fn line(entry: &Entry, path: &Path) -> Result<String, HuntError> {
    let json = serde_json::to_string(entry)
        .map_err(|e| HuntError::Io { path: path.to_owned(), source: e.into() })?;
    Ok(json + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group() -> GroupEntry {
        GroupEntry {
            stratum: "script".to_owned(),
            links: vec!["script".to_owned(), "birth".to_owned()],
            frozen_at: Time(1_772_409_600_000_000),
            epoch_days: 7.0,
            accounts: vec!["a".to_owned(), "b".to_owned()],
            looks: vec![LookEntry {
                epochs: 1,
                members: 2,
                measures: BTreeMap::from([("Spread".to_owned(), (0.5, 0.125))]),
            }],
        }
    }

    fn cleared() -> Entry {
        Entry::Cleared {
            campaign_id: "campaign-1".to_owned(),
            why: "a class".to_owned(),
            accounts: vec!["a".to_owned(), "b".to_owned(), "c".to_owned()],
            group: group(),
        }
    }

    /// The stored form: files that users keep must stay readable.
    #[test]
    fn golden() {
        let text = line(&cleared(), Path::new("f")).unwrap();
        assert_eq!(
            text,
            concat!(
                r#"{"kind":"cleared","campaign_id":"campaign-1","why":"a class","accounts":["a","b","c"],"#,
                r#""group":{"stratum":"script","links":["script","birth"],"#,
                r#""frozen_at":"2026-03-02T00:00:00Z","epoch_days":7.0,"accounts":["a","b"],"#,
                r#""looks":[{"epochs":1,"members":2,"measures":{"Spread":[0.5,0.125]}}]}}"#,
                "\n"
            )
        );
    }

    #[test]
    fn what_is_added_is_read_again_and_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("references.jsonl");
        let harmless = Entry::Harmless {
            what: Shared::EmailDomain,
            value: "university.example".to_owned(),
            why: "a campus".to_owned(),
        };
        let new = vec![cleared(), Entry::Customer { group: group() }, harmless];
        assert_eq!(add(&path, new.clone()).unwrap(), 3);
        assert_eq!(add(&path, new).unwrap(), 0);
        let references = read(&path).unwrap();
        assert_eq!(references.cleared, [["a", "b", "c"]]);
        assert_eq!(references.courses.len(), 2);
        assert_eq!(GroupEntry::from(&references.courses[0]), group());
        let domain = Harmless::EmailDomain("university.example".to_owned());
        assert!(references.harmless.contains(&domain));
    }

    #[test]
    fn a_broken_line_is_named_and_not_quoted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("references.jsonl");
        let good = line(&cleared(), &path).unwrap();
        for (bad, says) in [
            ("{\"kind\":\"secret\"}", "not a reference"),
            (&good.replace("Spread", "Spred"), "no measure called Spred"),
            (&good.replace("\"stratum\":\"script\"", "\"stratum\":\"x\""), "no stratum called x"),
            (&good.replace("0.125", "-1"), "no number with an error"),
            (&good.replace("7.0", "0"), "epoch_days"),
        ] {
            fs::write(&path, format!("{good}\n{bad}")).unwrap();
            let error = read(&path).unwrap_err();
            assert!(error.is_usage());
            let text = error.to_string();
            assert!(text.contains("line 3: ") && text.contains(says), "{text}");
            assert!(!text.contains("secret"));
            assert!(add(&path, vec![cleared()]).is_err(), "a broken file stays as it is");
        }
    }
}

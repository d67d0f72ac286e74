//! The folder that a guard keeps: one guard at a time, its journal and records, and the
//! history of its verdicts.
//!
//! | below `--state` | what |
//! | --- | --- |
//! | `lock` | held while a guard runs |
//! | `journal/` | exchanges that are not in a Parquet file yet; see the module `journal` |
//! | `records/` | Parquet files in the exchange format, for `stillwatch hunt --exchanges` |
//! | `outbox.json` | how far the records have been published |
//! | `findings/` | the last good findings of each bucket that is followed |
//! | `verdicts.jsonl` | what began, what was lifted and cleared, with times and reasons |
//! | `admin.key` | the key for administration, where none was given |

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use stillwatch_decide::{Event, History};

use crate::settings::GuardError;

/// Where a state folder has the records of exchanges.
#[must_use]
pub fn records_folder(folder: &Path) -> PathBuf {
    folder.join("records")
}

/// Reads what began and what was undone in a state folder, whether a guard uses it or not.
///
/// # Errors
/// It can't be read, or is broken.
pub fn read_history(folder: &Path) -> Result<History, GuardError> {
    history(&folder.join("verdicts.jsonl")).map(|(history, _)| history)
}

/// The history in a file, and how many bytes of it are whole; empty where there is none.
fn history(path: &Path) -> Result<(History, usize), GuardError> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(GuardError::at("read", path)(error)),
    };
    History::parse(&text).map_err(|error| GuardError::Usage(format!("{}: {error}", path.display())))
}

/// A state folder that this process alone uses.
#[derive(Debug)]
pub struct State {
    pub journal: PathBuf,
    pub records: PathBuf,
    pub findings: PathBuf,
    verdicts: PathBuf,
    events: File,
    _lock: File,
}

impl State {
    /// Opens a state folder, making it where there is none, and reads the history.
    ///
    /// # Errors
    /// It can't be written, another guard uses it, or the history is broken.
    pub fn open(folder: &Path) -> Result<(Self, History), GuardError> {
        let (journal, records) = (folder.join("journal"), records_folder(folder));
        for folder in [&journal, &records] {
            fs::create_dir_all(folder).map_err(GuardError::at("make the folder", folder))?;
        }
        let path = folder.join("lock");
        let lock = File::create(&path).map_err(GuardError::at("write", &path))?;
        lock.try_lock().map_err(|_| {
            GuardError::Usage(format!(
                "another guard uses {}; give each its own --state",
                folder.display()
            ))
        })?;
        let verdicts = folder.join("verdicts.jsonl");
        let (history, whole) = history(&verdicts)?;
        let events = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&verdicts)
            .and_then(|mut events| {
                // Half a line that a killed process has left.
                events.set_len(whole as u64)?;
                io::Seek::seek(&mut events, io::SeekFrom::End(0))?;
                Ok(events)
            })
            .map_err(GuardError::at("write", &verdicts))?;
        let findings = folder.join("findings");
        Ok((State { journal, records, findings, verdicts, events, _lock: lock }, history))
    }

    /// Stores events; they are on the disk when this returns.
    ///
    /// # Errors
    /// The disk is full or failing; none of them counts.
    pub fn store(&mut self, events: &[Event]) -> Result<(), GuardError> {
        if events.is_empty() {
            return Ok(());
        }
        let mut lines = Vec::new();
        for event in events {
            // Texts and times always become JSON.
            let _ = serde_json::to_writer(&mut lines, event);
            lines.push(b'\n');
        }
        let before = self.events.metadata().map(|metadata| metadata.len());
        let stored = self.events.write_all(&lines).and_then(|()| self.events.sync_data());
        stored.map_err(|error| {
            if let Ok(before) = before {
                let _ = self.events.set_len(before);
                let _ = io::Seek::seek(&mut self.events, io::SeekFrom::Start(before));
            }
            GuardError::at("write", &self.verdicts)(error)
        })
    }
}

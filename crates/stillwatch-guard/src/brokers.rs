//! What a guard has to do with NATS: which servers it needs, and which of them are away.
//!
//! Nothing that is asked of a server is waited for by an exchange's way to the model.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use stillwatch_broker::{Address, BrokerError, Bundle, News, Server, follow, latest};
use xxhash_rust::xxh3::xxh3_64;

use crate::inputs;
use crate::settings::{Broker, GuardError};

impl From<BrokerError> for GuardError {
    fn from(error: BrokerError) -> Self {
        GuardError::Usage(error.to_string())
    }
}

/// Which servers are away, and why.
#[derive(Debug)]
pub struct Away {
    away: Mutex<BTreeMap<String, String>>,
    say: fn(&str),
}

impl Away {
    pub fn new(say: fn(&str)) -> Self {
        Away { away: Mutex::default(), say }
    }

    fn locked(&self) -> MutexGuard<'_, BTreeMap<String, String>> {
        self.away.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something can't be had from a server; `meanwhile` says what is done without it.
    pub fn gone(&self, what: &str, error: &dyn std::fmt::Display, meanwhile: &str) {
        let told = format!("{what}: {error}; {meanwhile}");
        if self.locked().insert(what.to_owned(), told.clone()).is_none() {
            (self.say)(&told);
        }
    }

    /// It can be had again.
    pub fn back(&self, what: &str, place: &str) {
        if self.locked().remove(what).is_some() {
            (self.say)(&format!("{what}: {place} answers again"));
        }
    }

    /// How many things can't be had now.
    pub fn count(&self) -> usize {
        self.locked().len()
    }

    /// A line for each of them.
    pub fn lines(&self) -> String {
        self.locked().values().map(|told| format!("{told}\n")).collect()
    }
}

/// A bucket whose findings are followed, and the file in which the last good ones are kept.
#[derive(Debug)]
pub struct Followed {
    server: Server,
    kept: PathBuf,
    what: String,
}

/// Where the findings of a bucket are kept below a folder.
fn kept(folder: &Path, address: &Address) -> PathBuf {
    let hash = xxh3_64(address.to_string().as_bytes());
    folder.join(format!("{}-{hash:016x}.bundle", address.name()))
}

/// Connects to the buckets and keeps what is in them now below `folder`. One that can't be
/// had is gone on without, where an earlier run has kept its findings.
///
/// # Errors
/// A bucket can't be had, and nothing of it was kept; or the server refuses the guard.
pub async fn begin(
    broker: &Broker,
    folder: &Path,
    away: &Away,
    say: fn(&str),
) -> Result<Vec<Followed>, GuardError> {
    if !broker.verdicts.is_empty() {
        fs::create_dir_all(folder).map_err(GuardError::at("make the folder", folder))?;
    }
    let mut all = Vec::new();
    for address in &broker.verdicts {
        let followed = Followed {
            server: Server::connect(address, &broker.access).await?,
            kept: kept(folder, address),
            what: format!("verdicts of {address}"),
        };
        let news = latest(&followed.server).await.unwrap_or_else(News::Away);
        let trouble = match &news {
            News::Bundle(bundle) => followed.keep(bundle).err().map(|error| error.to_string()),
            News::Empty => {
                say(&format!("{address} has no findings yet"));
                None
            }
            News::Refused(error) | News::Away(error) => Some(error.to_string()),
            News::Back => None,
        };
        if let Some(trouble) = trouble {
            if !followed.kept.exists() {
                return Err(GuardError::Usage(format!(
                    "no verdicts: {trouble}, and none of an earlier run are kept; `stillwatch \
                     watch --publish` makes the bucket"
                )));
            }
            match &news {
                News::Away(error) => away.gone(&followed.what, error, MEANWHILE),
                _ => say(&format!("{trouble}; {MEANWHILE}")),
            }
        }
        all.push(followed);
    }
    Ok(all)
}

const MEANWHILE: &str = "the last verdicts stay in force";

impl Followed {
    /// Where its findings are kept.
    pub fn kept(&self) -> &Path {
        &self.kept
    }

    /// Keeps a bundle, if it can be used.
    fn keep(&self, bundle: &Bundle) -> Result<(), GuardError> {
        inputs::findings_of(bundle, Path::new(self.server.place()))?;
        let bytes = bundle.to_bytes().map_err(GuardError::Other)?;
        let written = Bytes::from(bytes);
        if fs::read(&self.kept).is_ok_and(|there| there == written) {
            return Ok(());
        }
        let part = self.kept.with_extension("part");
        let write = || {
            let mut file = File::create(&part)?;
            file.write_all(&written)?;
            file.sync_all()?;
            fs::rename(&part, &self.kept)
        };
        write().map_err(GuardError::at("write", &self.kept))
    }

    /// Follows the bucket for as long as the guard runs. `changed` is called after what is
    /// kept has changed, `refused` with what could not be used.
    pub async fn follow(
        self,
        away: &Away,
        changed: impl Fn() + Clone + Send + 'static,
        refused: impl Fn(String) + Clone + Send + 'static,
    ) {
        let mut news = follow(self.server.clone());
        let place = self.server.place().to_owned();
        let followed = std::sync::Arc::new(self);
        while let Some(news) = news.recv().await {
            match news {
                News::Away(error) => {
                    away.gone(&followed.what, &error, MEANWHILE);
                    continue;
                }
                News::Refused(error) => refused(error.to_string()),
                News::Empty | News::Back => {}
                News::Bundle(bundle) => {
                    let (followed, changed) = (std::sync::Arc::clone(&followed), changed.clone());
                    let refused = refused.clone();
                    let kept = tokio::task::spawn_blocking(move || match followed.keep(&bundle) {
                        Ok(()) => changed(),
                        Err(error) => refused(error.to_string()),
                    });
                    let _ = kept.await;
                }
            }
            away.back(&followed.what, &place);
        }
    }
}

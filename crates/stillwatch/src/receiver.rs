//! Where a watch receives OpenTelemetry.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::mpsc::sync_channel;

use clap::Args;
use stillwatch_hunt::HuntSettings;
use stillwatch_receive::{Key, ReceiveError, Running, Settings, start};
use stillwatch_watch::Deliveries;

use crate::failure::Failure;
use crate::output;
use crate::secret::{checked, is_open_to_others};
use crate::summary::counted;

/// Deliveries that wait to be written; senders of further ones are told to send again.
const WAITING_MAX: usize = 64;
/// Threads that receive: taking exports apart has others.
const THREADS: usize = 2;

const GRPC: &str = "otlp-grpc://";
const HTTP: &str = "otlp-http://";

/// Where the key is, unless a file is named.
const VARIABLE: &str = "STILLWATCH_RECEIVE_KEY";

/// Who may send.
#[derive(Debug, Args)]
pub struct ReceiveKey {
    /// A file with the key that senders of OpenTelemetry have to have, as `authorization:
    /// Bearer KEY`; or else what STILLWATCH_RECEIVE_KEY holds. Without one anybody may send.
    #[arg(long, value_name = "FILE")]
    receive_key_file: Option<PathBuf>,
}

impl ReceiveKey {
    fn read(&self) -> Result<Option<Key>, Failure> {
        let refused = |place: &str, why: &dyn std::fmt::Display| {
            Failure::Usage(format!(
                "the key for senders in {place} can't be used: {why}; `openssl rand -hex 32` \
                 makes one"
            ))
        };
        let (place, key) = match &self.receive_key_file {
            Some(path) => {
                let shown = path.display().to_string();
                let key = fs::read_to_string(path).map_err(|error| refused(&shown, &error))?;
                if is_open_to_others(path) {
                    return Err(refused(&shown, &"others can read the file; chmod 600 it"));
                }
                (shown, key)
            }
            None => match std::env::var(VARIABLE) {
                Ok(key) => (VARIABLE.to_owned(), key),
                Err(std::env::VarError::NotPresent) => return Ok(None),
                Err(error) => return Err(refused(VARIABLE, &error)),
            },
        };
        let key = checked(key.trim_end().to_owned()).map_err(|why| refused(&place, &why))?;
        Ok(Some(Key::new(&key)))
    }
}

/// A receiver that is to be started.
#[derive(Debug)]
pub struct Receiver(Settings);

/// A receiver with what it runs on.
#[derive(Debug)]
pub struct Receiving {
    runtime: tokio::runtime::Runtime,
    running: Running,
}

impl Receiver {
    /// Takes the addresses among the paths of exchanges away, if there are any.
    pub fn asked(hunt: &mut HuntSettings, key: &ReceiveKey) -> Result<Option<Self>, Failure> {
        let mut asked = Settings { grpc: None, http: None, key: None, read: hunt.read.clone() };
        let mut paths = Vec::new();
        for path in std::mem::take(&mut hunt.exchanges) {
            let (place, address) = if let Some(address) = path.strip_prefix(GRPC) {
                (&mut asked.grpc, address)
            } else if let Some(address) = path.strip_prefix(HTTP) {
                (&mut asked.http, address)
            } else {
                paths.push(path);
                continue;
            };
            let parsed: SocketAddr = address.parse().map_err(|_| {
                Failure::Usage(format!(
                    "{path}: give an address and a port, such as 127.0.0.1:4317"
                ))
            })?;
            if place.replace(parsed).is_some() {
                return Err(Failure::Usage(format!(
                    "{path}: another address of this kind is given"
                )));
            }
        }
        hunt.exchanges = paths;
        if asked.grpc.is_some() || asked.http.is_some() {
            asked.key = key.read()?;
            return Ok(Some(Receiver(asked)));
        }
        if key.receive_key_file.is_some() {
            let what = "--receive-key-file: nothing is received without an address such as \
                        otlp-grpc://127.0.0.1:4317 among --exchanges";
            return Err(Failure::Usage(what.to_owned()));
        }
        Ok(None)
    }

    /// Listens.
    pub fn start(self) -> Result<(Receiving, Deliveries), Failure> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(THREADS)
            .enable_all()
            .build()
            .map_err(|error| Failure::Other(format!("cannot start a runtime: {error}")))?;
        let (to, deliveries) = sync_channel(WAITING_MAX);
        let running = runtime.block_on(start(self.0, to))?;
        for (name, address) in [(GRPC, running.grpc), (HTTP, running.http)] {
            if let Some(address) = address {
                output::note(&format!("receiving on {name}{address}"));
            }
        }
        Ok((Receiving { runtime, running }, deliveries))
    }
}

impl Receiving {
    /// Answers what is under way, ends, and says what was received.
    pub fn stop(self) {
        let counts = self.runtime.block_on(self.running.stop());
        output::note(&format!(
            "received {} in {}; {} lack something, {} are none, {} were sent back",
            counted(counts.exchanges, "exchange"),
            counted(counts.exports, "export"),
            counts.rejected,
            counted(counts.passed_over, "record"),
            counted(counts.refused, "export"),
        ));
    }
}

impl From<ReceiveError> for Failure {
    fn from(error: ReceiveError) -> Self {
        Failure::Usage(error.to_string())
    }
}

//! Where a watch receives OpenTelemetry.

use std::net::SocketAddr;
use std::sync::mpsc::sync_channel;

use stillwatch_hunt::HuntSettings;
use stillwatch_receive::{ReceiveError, Running, Settings, start};
use stillwatch_watch::Deliveries;

use crate::failure::Failure;
use crate::output;
use crate::summary::counted;

/// Deliveries that wait to be written; senders of further ones are told to send again.
const WAITING_MAX: usize = 64;
/// Threads that receive: taking exports apart has others.
const THREADS: usize = 2;

const GRPC: &str = "otlp-grpc://";
const HTTP: &str = "otlp-http://";

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
    pub fn asked(hunt: &mut HuntSettings) -> Result<Option<Self>, Failure> {
        let mut asked = Settings { grpc: None, http: None, read: hunt.read.clone() };
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
        let is_asked = asked.grpc.is_some() || asked.http.is_some();
        Ok(is_asked.then_some(Receiver(asked)))
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

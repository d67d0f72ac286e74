//! From an export to a delivery, and from there to what its sender is told.

use std::io::Read as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::SyncSender;

use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use http::HeaderMap;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message as _;
use serde_json::Value;
use stillwatch_ingest::{Delivery, Options, received};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::access::Key;

/// The longest export, in bytes, compressed or not.
pub const EXPORT_BYTES_MAX: usize = 16 << 20;
/// What all exports together may hold in memory as they came, in KiB.
const EXPORTS_KIB_MAX: usize = 256 << 10;
/// Exports that are taken apart at once: in memory they are some times as large.
const AT_ONCE_MAX: usize = 8;

/// What an export is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    Traces,
    Logs,
}

/// How an export is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    Protobuf,
    Json,
}

/// Why an export is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Too much is under way, or the disk does not take it: send it again.
    Busy,
    TooLong,
    Malformed,
    /// The sender does not have the key.
    NoKey,
}

impl Refused {
    /// The sentence for people.
    pub fn message(self) -> &'static str {
        match self {
            Refused::Busy => "more comes than can be written down; send it again",
            Refused::TooLong => "the export is longer than 16 MiB; send smaller batches",
            Refused::Malformed => "the export can't be read as OTLP",
            Refused::NoKey => "the key is missing or wrong; send it as authorization: Bearer KEY",
        }
    }
}

/// An export that is on the disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// Its exchanges that lack something, which are never counted as exchanges.
    pub rejected: u64,
    /// What they lack; empty where there are none.
    pub why: String,
}

/// What has been received.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Exports that were taken.
    pub exports: u64,
    /// Exchanges in them, those that were sent again included.
    pub exchanges: u64,
    /// Exchanges that lack something.
    pub rejected: u64,
    /// Spans and log records that are none.
    pub passed_over: u64,
    /// Exports that were not taken.
    pub refused: u64,
}

#[derive(Debug, Default)]
struct Counters {
    exports: AtomicU64,
    exchanges: AtomicU64,
    rejected: AtomicU64,
    passed_over: AtomicU64,
    refused: AtomicU64,
}

/// Takes exports.
#[derive(Debug)]
pub struct Intake {
    options: Options,
    key: Option<Key>,
    to: SyncSender<Delivery>,
    room: Arc<Semaphore>,
    at_once: Arc<Semaphore>,
    counters: Counters,
}

impl Intake {
    pub fn new(options: Options, key: Option<Key>, to: SyncSender<Delivery>) -> Self {
        Intake {
            options,
            key,
            to,
            room: Arc::new(Semaphore::new(EXPORTS_KIB_MAX)),
            at_once: Arc::new(Semaphore::new(AT_ONCE_MAX)),
            counters: Counters::default(),
        }
    }

    pub fn counts(&self) -> Counts {
        let Counters { exports, exchanges, rejected, passed_over, refused } = &self.counters;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            exports: read(exports),
            exchanges: read(exchanges),
            rejected: read(rejected),
            passed_over: read(passed_over),
            refused: read(refused),
        }
    }

    /// Whether its sender may send an export.
    pub fn let_in(&self, headers: &HeaderMap) -> Result<(), Refused> {
        match &self.key {
            Some(key) if !key.is_in(headers) => Err(self.refuse(Refused::NoKey)),
            _ => Ok(()),
        }
    }

    /// Room for an export of so many bytes.
    pub fn room(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Refused> {
        let kib = u32::try_from(bytes.min(EXPORT_BYTES_MAX).div_ceil(1 << 10)).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.room).try_acquire_many_owned(kib);
        room.map_err(|_| self.refuse(Refused::Busy))
    }

    /// Counts an export that is not taken.
    pub fn refuse(&self, refused: Refused) -> Refused {
        self.counters.refused.fetch_add(1, Ordering::Relaxed);
        refused
    }

    /// Takes an export that `read` gives as OTLP JSON. Returns once it is on the disk.
    ///
    /// # Errors
    /// It is not taken, and has been counted as refused.
    pub async fn take(
        &self,
        read: impl FnOnce() -> Result<Value, Refused> + Send + 'static,
    ) -> Result<Taken, Refused> {
        self.taken(read).await.map_err(|refused| self.refuse(refused))
    }

    async fn taken(
        &self,
        read: impl FnOnce() -> Result<Value, Refused> + Send + 'static,
    ) -> Result<Taken, Refused> {
        let turn = self.at_once.acquire().await.map_err(|_| Refused::Busy)?;
        let options = self.options.clone();
        let divided = tokio::task::spawn_blocking(move || {
            received(&read()?, &options).map_err(|_| Refused::Malformed)
        });
        let all = divided.await.map_err(|_| Refused::Malformed)??;
        drop(turn);
        let exchanges = all.exchanges.len() as u64;
        if exchanges > 0 {
            let (done, is_safe) = oneshot::channel();
            let done = Box::new(move |is_safe| {
                // Whoever has gone will send it again.
                let _ = done.send(is_safe);
            });
            let delivery = Delivery { exchanges: all.exchanges, done };
            self.to.try_send(delivery).map_err(|_| Refused::Busy)?;
            if !is_safe.await.unwrap_or(false) {
                return Err(Refused::Busy);
            }
        }
        let rejected = all.refused.rows.values().sum();
        let counters = &self.counters;
        counters.exports.fetch_add(1, Ordering::Relaxed);
        counters.exchanges.fetch_add(exchanges, Ordering::Relaxed);
        counters.passed_over.fetch_add(all.passed_over, Ordering::Relaxed);
        counters.rejected.fetch_add(rejected, Ordering::Relaxed);
        let why: Vec<String> =
            all.refused.rows.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
        Ok(Taken { rejected, why: why.join(", ") })
    }
}

/// An export as OTLP JSON.
pub fn decoded(
    bytes: &[u8],
    is_gzip: bool,
    encoding: Encoding,
    signal: Signal,
) -> Result<Value, Refused> {
    let mut inflated = Vec::new();
    let bytes = if is_gzip {
        let most = EXPORT_BYTES_MAX as u64 + 1;
        let read = MultiGzDecoder::new(bytes).take(most).read_to_end(&mut inflated);
        read.map_err(|_| Refused::Malformed)?;
        &inflated
    } else {
        bytes
    };
    if bytes.len() > EXPORT_BYTES_MAX {
        return Err(Refused::TooLong);
    }
    if encoding == Encoding::Json {
        let value: Result<Value, _> = serde_json::from_slice(bytes);
        return value.ok().filter(Value::is_object).ok_or(Refused::Malformed);
    }
    let bytes = Bytes::copy_from_slice(bytes);
    match signal {
        Signal::Traces => ExportTraceServiceRequest::decode(bytes).ok().and_then(json),
        Signal::Logs => ExportLogsServiceRequest::decode(bytes).ok().and_then(json),
    }
    .ok_or(Refused::Malformed)
}

/// A message as OTLP JSON.
pub fn json(message: impl serde::Serialize) -> Option<Value> {
    serde_json::to_value(message).ok()
}

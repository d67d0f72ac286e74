//! What a guard is started with, and why it could not be.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use stillwatch_broker::{Access, Address};
use stillwatch_exchange::Time;

use crate::inputs::InputError;

/// Where verdicts come from: the folder that a hunt wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source(pub PathBuf);

/// What a guard has to do with NATS; by default nothing.
#[derive(Clone, Debug, Default)]
pub struct Broker {
    pub access: Access,
    /// Buckets with a watch's findings.
    pub verdicts: Vec<Address>,
    /// The stream for what is on record.
    pub publish: Option<Address>,
    /// The bucket in which guards share the limit of slowed campaigns.
    pub limits: Option<Address>,
}

/// All that a guard is started with.
#[derive(Clone)]
pub struct Settings {
    /// Where clients connect.
    pub listen: SocketAddr,
    /// The model API's base URL, `http` or `https`; a path prefix is kept.
    pub upstream: http::Uri,
    /// Where administration connects.
    pub admin: SocketAddr,
    /// Where Envoy asks over gRPC, if it does.
    pub grpc: Option<SocketAddr>,
    /// Whether what passes through Envoy's `ext_proc` is on record; then all of it is sent to
    /// the guard.
    pub records_grpc: bool,
    /// The policy file; without one the guard only observes.
    pub policy: Option<PathBuf>,
    /// Where records and what was undone are kept.
    pub state: PathBuf,
    /// Whose account a credential is: a Parquet or JSON Lines file.
    pub credentials: Option<PathBuf>,
    pub verdicts: Vec<Source>,
    /// The keys that reasoning blocks are bound with, one a line, the current one first.
    pub reasoning_keys: Option<PathBuf>,
    pub broker: Broker,
    /// What administration proves itself with, at least [`ADMIN_KEY_BYTES_MIN`] bytes.
    pub admin_key: String,
    /// Random; the ids of this run's exchanges begin with it.
    pub run_id: u64,
    /// The wall clock.
    pub clock: fn() -> Time,
    /// Nanoseconds of a clock that never runs backwards, by which token buckets fill; the
    /// machine's own where there is none. Whoever passes event time for the wall clock
    /// passes it here too.
    pub monotonic: Option<fn() -> i64>,
    /// Where a line for people goes: a reload, a refused file, a full disk.
    pub say: fn(&str),
    /// How long a request's head may take to arrive, and a connection stay idle.
    pub head_timeout: Duration,
    /// How often records become Parquet, in seconds; sooner where there are many.
    pub seal_seconds: u64,
    /// Where traces go; nowhere without it.
    pub traces: Option<TraceSettings>,
}

/// Where a trace of exchanges goes.
#[derive(Clone, Debug, PartialEq)]
pub struct TraceSettings {
    /// An OTLP collector over gRPC, `http`.
    pub collector: http::Uri,
    /// The part of exchanges that is traced where the client has not decided, 0 to 1.
    pub ratio: f64,
}

/// A shorter key could be found by trying.
pub const ADMIN_KEY_BYTES_MIN: usize = 16;

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("listen", &self.listen)
            .field("admin", &self.admin)
            .finish_non_exhaustive()
    }
}

/// Why a guard could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum GuardError {
    /// A file or address that was named can't be used as it is.
    #[error("{0}")]
    Usage(String),
    #[error(transparent)]
    Input(#[from] InputError),
    #[error("cannot {doing} {}: {source}", path.display())]
    Io { doing: &'static str, path: PathBuf, source: io::Error },
    #[error("{0}")]
    Other(String),
}

impl GuardError {
    /// An error about a file or folder: `cannot write STATE: disk full`.
    pub(crate) fn at<'a>(
        doing: &'static str,
        path: &'a Path,
    ) -> impl FnOnce(io::Error) -> GuardError + use<'a> {
        move |source| GuardError::Io { doing, path: path.to_owned(), source }
    }
}

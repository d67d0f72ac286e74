//! What a hunt is asked to do, how it tells of its progress, and how it can fail.

use std::path::PathBuf;

use serde::Serialize;
use stillwatch_detect::observe::Key;
use stillwatch_detect::without::Without;
use stillwatch_exchange::Time;

/// What a hunt is asked to do.
#[derive(Clone, Debug)]
pub struct HuntSettings {
    /// Files, folders, globs or object-store URLs.
    pub exchanges: Vec<String>,
    pub accounts: Vec<String>,
    pub releases: Option<String>,
    /// The period to hunt in; that of the exchanges where none is asked for.
    pub period: Option<Period>,
    pub read: stillwatch_ingest::Options,
    /// A file of groups and things that are known to be innocent.
    pub references: Option<PathBuf>,
    /// What text and links are hashed with; sketches are readable under their own.
    pub key: Key,
    /// The false-discovery level, between 0 and 1.
    pub level: f64,
    /// Channels that are left out, to see what they are worth.
    pub without: Without,
    /// Put excerpts of prompts into the report.
    pub quote: bool,
    /// Threads that work on exchanges; at least 1.
    pub threads: usize,
    /// The folder of the findings; sorting spills into it.
    pub out: PathBuf,
}

/// A period that is asked for. Exchanges outside of it are counted and passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Period {
    /// The first moment of it.
    pub from: Time,
    /// The first moment after the exchanges that count.
    pub to: Time,
    /// The first moment after the last epoch; later than `to` where that epoch is not over.
    pub end: Time,
}

/// The stages of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    Discover,
    Period,
    Profile,
    Link,
    Confirm,
    Judge,
    Harvest,
    Write,
    /// Null days and placebos; in no hunt.
    Null,
}

impl Stage {
    /// Those of a hunt, in their order.
    pub const ALL: [Stage; 8] = [
        Stage::Discover,
        Stage::Period,
        Stage::Profile,
        Stage::Link,
        Stage::Confirm,
        Stage::Judge,
        Stage::Harvest,
        Stage::Write,
    ];

    /// The name in `run.json` and on the terminal.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Stage::Discover => "discover",
            Stage::Period => "period",
            Stage::Profile => "profile",
            Stage::Link => "link",
            Stage::Confirm => "confirm",
            Stage::Judge => "judge",
            Stage::Harvest => "harvest",
            Stage::Write => "write",
            Stage::Null => "null days",
        }
    }
}

/// Hears how far a hunt is, and may stop it.
pub trait Progress: Send + Sync {
    /// A stage begins; `total` counts `unit`s where it is known.
    fn begin(&self, stage: Stage, total: Option<u64>, unit: &'static str);
    fn at(&self, stage: Stage, done: u64);
    fn end(&self, stage: Stage);
    /// Whether the run is to end now.
    fn is_stopped(&self) -> bool;
}

/// Why a hunt did not run to its end.
#[derive(Debug, thiserror::Error)]
pub enum HuntError {
    #[error(transparent)]
    Arguments(#[from] stillwatch_ingest::IngestError),
    #[error("{}, line {line}: {problem}", path.display())]
    References { path: PathBuf, line: usize, problem: String },
    #[error("nothing to hunt: {0}")]
    NothingToRead(String),
    #[error("stopped before the end; no findings were written")]
    Stopped,
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: std::io::Error },
    #[error("while working on {stage}: {source}")]
    Engine { stage: &'static str, source: datafusion::common::DataFusionError },
    #[error("{}: {source}", path.display())]
    Parquet { path: PathBuf, source: parquet::errors::ParquetError },
}

impl HuntError {
    /// Whether the arguments were at fault, not the run.
    #[must_use]
    pub fn is_usage(&self) -> bool {
        matches!(self, HuntError::Arguments(_) | HuntError::References { .. })
    }

    pub(crate) fn io(path: &std::path::Path) -> impl FnOnce(std::io::Error) -> HuntError + '_ {
        move |source| HuntError::Io { path: path.to_owned(), source }
    }

    pub(crate) fn engine(
        stage: Stage,
    ) -> impl FnOnce(datafusion::common::DataFusionError) -> HuntError {
        move |source| HuntError::Engine { stage: stage.name(), source }
    }
}

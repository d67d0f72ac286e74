//! What a watch is asked to do, and how it can fail.

use std::path::{Path, PathBuf};

use stillwatch_broker::{Access, Address};
use stillwatch_detect::calendar::{GRID_GRAIN_US, Grid};
use stillwatch_exchange::time::HOUR_US;
use stillwatch_hunt::{HuntError, HuntSettings};

/// What a watch is asked to do.
#[derive(Clone, Debug)]
pub struct WatchSettings {
    /// Where exchanges come from, and how a look hunts in them. The period is the watch's.
    pub hunt: HuntSettings,
    /// The folder of the state.
    pub state: PathBuf,
    pub pace: Pace,
    /// Accounts of an epoch that are kept; beyond it those with the greatest keyed hashes
    /// give way, which leaves a fair sample.
    pub accounts_max: u64,
    /// Streams of NATS servers that are followed beside `hunt.exchanges`; they need the
    /// runtime of `hunt.read`.
    pub streams: Vec<Address>,
    pub access: Access,
    /// End when all that is there has been read, with a last look.
    pub once: bool,
}

/// How event time is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    pub grid: Grid,
    /// Time between looks in microseconds; goes into an epoch without a rest.
    pub look_us: i64,
    /// How much later than others an exchange may come and still be in the first look
    /// that it could be in, in microseconds.
    pub lateness_us: i64,
}

/// Looks that an epoch can be divided into.
const LOOKS_MAX: i64 = 64;

impl Pace {
    /// # Errors
    /// The lengths don't go into each other.
    pub fn new(epoch_us: i64, look_us: i64, lateness_us: Option<i64>) -> Result<Self, WatchError> {
        let minutes = "must be a whole number of minutes, at least one";
        let usage = |text: String| Err(WatchError::Usage(text));
        let Some(grid) = Grid::new(epoch_us) else { return usage(format!("an epoch {minutes}")) };
        if look_us <= 0 || look_us % GRID_GRAIN_US != 0 {
            return usage(format!("the time between looks {minutes}"));
        }
        if epoch_us % look_us != 0 || epoch_us / look_us > LOOKS_MAX {
            return usage(format!(
                "the time between looks must go into an epoch without a rest, at most \
                 {LOOKS_MAX} times"
            ));
        }
        let lateness_us = lateness_us.unwrap_or_else(|| HOUR_US.min(look_us / 8));
        if !(0..epoch_us).contains(&lateness_us) {
            return usage("the allowance for lateness must be shorter than an epoch".to_owned());
        }
        Ok(Pace { grid, look_us, lateness_us })
    }

    /// Steps from look to look in an epoch.
    #[must_use]
    pub fn looks(self) -> i64 {
        self.grid.epoch_us() / self.look_us
    }
}

/// Why a watch did not go on.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    #[error("{0}")]
    Usage(String),
    #[error("the state in {}: {what}", path.display())]
    State { path: PathBuf, what: String },
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: std::io::Error },
    #[error(transparent)]
    Hunt(#[from] HuntError),
    /// What the caller was to do with findings failed.
    #[error("{0}")]
    Findings(String),
}

impl WatchError {
    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> WatchError + '_ {
        move |source| WatchError::Io { path: path.to_owned(), source }
    }
}

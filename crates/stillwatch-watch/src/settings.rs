//! What a watch is asked to do, and how it can fail.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use stillwatch_broker::{Access, Address, Part};
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
    /// Which share of the stream this process counts; all of it where there is none.
    pub share: Option<Share>,
    /// End when all that is there has been read, with a last look.
    pub once: bool,
}

/// One of several processes that count a stream together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    pub number: ShareNumber,
    /// The stream through which they speak with each other.
    pub through: Address,
}

/// The number of a share, from 1, and how many there are. The first one looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShareNumber {
    pub number: u32,
    pub of: u32,
}

/// Parts into which guards divide a stream by account; there can't be more shares.
pub const PARTITIONS: u32 = 16;

impl Share {
    /// What of a stream it reads.
    pub(crate) fn part(&self, address: &Address) -> Part {
        let ShareNumber { number, of } = self.number;
        let own = (0..PARTITIONS).filter(|partition| partition % of == number - 1);
        let subjects = own.map(|partition| format!("{}.{partition}.*", address.name())).collect();
        Part { subjects, is_marked: true }
    }
}

impl fmt::Display for ShareNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.of)
    }
}

impl FromStr for ShareNumber {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('/').map(|(number, of)| (number.parse(), of.parse()));
        match parts {
            Some((Ok(number), Ok(of))) if (1..=of).contains(&number) && of <= PARTITIONS => {
                Ok(ShareNumber { number, of })
            }
            _ => Err(format!(
                "must be K/N, such as 2/4: the share's number, and how many there are, at most {PARTITIONS}"
            )),
        }
    }
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

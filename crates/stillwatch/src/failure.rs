//! What ends a run early, and the exit status that it has.

use std::fmt;
use std::io;
use std::path::Path;

use stillwatch_duel::DuelError;
use stillwatch_hunt::HuntError;
use stillwatch_ingest::IngestError;
use stillwatch_report::ReportError;
use stillwatch_simulate::{SettingsError, SimulateError};

/// Why a run ended early. Shown as one line.
#[derive(Debug)]
pub enum Failure {
    /// The arguments can't be used.
    Usage(String),
    /// Somebody pressed Ctrl-C.
    Stopped,
    Other(String),
}

impl Failure {
    /// The exit status of the process.
    pub fn status(&self) -> u8 {
        match self {
            Failure::Usage(_) => 2,
            Failure::Stopped | Failure::Other(_) => 1,
        }
    }

    /// A file or folder that could not be used: `cannot write DIR: disk full`.
    pub fn at<'a>(doing: &'a str, path: &'a Path) -> impl FnOnce(io::Error) -> Failure + 'a {
        move |error| Failure::Other(format!("cannot {doing} {}: {error}", path.display()))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Failure::Usage(text) | Failure::Other(text) => text,
            Failure::Stopped => "stopped before the end; what was unfinished is removed",
        };
        let lines: Vec<&str> = text.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
        f.write_str(&lines.join("; "))
    }
}

/// An error with its causes, as far as they say anything new.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}

impl From<HuntError> for Failure {
    fn from(error: HuntError) -> Self {
        match &error {
            HuntError::Stopped => Failure::Stopped,
            HuntError::NothingToRead(_) => Failure::Usage(chain(&error)),
            usage if usage.is_usage() => Failure::Usage(chain(&error)),
            _ => Failure::Other(chain(&error)),
        }
    }
}

impl From<IngestError> for Failure {
    fn from(error: IngestError) -> Self {
        Failure::Usage(chain(&error))
    }
}

impl From<ReportError> for Failure {
    fn from(error: ReportError) -> Self {
        Failure::Other(chain(&error))
    }
}

impl From<SettingsError> for Failure {
    fn from(error: SettingsError) -> Self {
        Failure::Usage(chain(&error))
    }
}

impl From<SimulateError> for Failure {
    fn from(error: SimulateError) -> Self {
        match error {
            SimulateError::Settings(_) | SimulateError::Prompts(_) => Failure::Usage(chain(&error)),
            _ => Failure::Other(chain(&error)),
        }
    }
}

impl From<DuelError> for Failure {
    fn from(error: DuelError) -> Self {
        match error {
            DuelError::Settings(error) => error.into(),
            DuelError::Simulate(error) => error.into(),
            DuelError::Stopped => Failure::Stopped,
        }
    }
}

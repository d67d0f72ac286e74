//! Addresses on NATS servers in arguments, and what proves who this process is there.

use std::path::PathBuf;

use clap::Args;
use stillwatch_broker::{Access, Address, BrokerError};

use crate::failure::Failure;

/// What every command that speaks with NATS is given.
#[derive(Debug, Args)]
pub struct Nats {
    /// Credentials file (.creds) for nats:// and tls:// addresses; or else what
    /// STILLWATCH_NATS_CREDENTIALS names.
    #[arg(long, value_name = "FILE")]
    nats_credentials: Option<PathBuf>,
}

impl Nats {
    pub fn access(&self) -> Access {
        let of_environment = || std::env::var_os("STILLWATCH_NATS_CREDENTIALS").map(PathBuf::from);
        Access { credentials: self.nats_credentials.clone().or_else(of_environment) }
    }
}

/// Reads an address; what can't be read is not shown, for it may hold a password.
pub fn address(flag: &str, text: &str) -> Result<Address, Failure> {
    text.parse().map_err(|error| Failure::Usage(format!("{flag}: {error}")))
}

impl From<BrokerError> for Failure {
    fn from(error: BrokerError) -> Self {
        match error {
            BrokerError::Usage(_) | BrokerError::Refused { .. } => {
                Failure::Usage(error.to_string())
            }
            BrokerError::Away { .. } | BrokerError::Failed { .. } | BrokerError::Broken { .. } => {
                Failure::Other(error.to_string())
            }
        }
    }
}

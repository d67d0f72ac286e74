//! A connection to a server, and the errors of what is asked over it.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use async_nats::connection::State;
use async_nats::jetstream::context::{GetStreamError, GetStreamErrorKind};
use async_nats::jetstream::stream::{Config, Stream};
use async_nats::jetstream::{self, Context, ErrorCode};
use async_nats::{Client, ConnectErrorKind, ConnectOptions};

use crate::address::{Address, Proof};

/// How long a request may take before the server counts as away.
pub(crate) const REQUEST: Duration = Duration::from_secs(5);
/// How often a connection is looked at.
const LOOK: Duration = Duration::from_millis(500);
/// The first and the longest pause before something is tried again.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// The pause before the next attempt after so many that have failed.
pub(crate) fn pause(attempts: usize) -> Duration {
    PAUSE_MIN.saturating_mul(1 << attempts.min(16)).min(PAUSE_MAX)
}

/// What proves who this process is, besides the address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// A credentials file (`.creds`) of NATS.
    pub credentials: Option<PathBuf>,
}

/// Why something could not be said or read. Has neither passwords nor contents.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BrokerError {
    /// The server can't be reached now, or doesn't answer; it may later.
    #[error("{place} does not answer ({what})")]
    Away { place: String, what: String },
    /// The server answers that it is not there, or not possible now; it may be later.
    #[error("{place}: {what}")]
    Failed { place: String, what: String },
    /// The server answers that it can't be done.
    #[error("{place}: {what}")]
    Refused { place: String, what: String },
    /// What is there can't be used.
    #[error("{place}: {what}")]
    Broken { place: String, what: String },
    /// What this process was given can't be used.
    #[error("{0}")]
    Usage(String),
}

/// A connection that is made again whenever it breaks; clones share it.
#[derive(Clone)]
pub struct Server {
    pub(crate) client: Client,
    pub(crate) jetstream: Context,
    place: String,
    name: String,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Server").field(&self.place).finish()
    }
}

impl Server {
    /// Connects; a server that can't be reached now is tried again in the background, and
    /// until then everything asked of it fails as [`BrokerError::Away`].
    ///
    /// # Errors
    /// The credentials can't be read, or the server refuses them.
    pub async fn connect(address: &Address, access: &Access) -> Result<Self, BrokerError> {
        let place = address.to_string();
        let first = options(address, access).await?.connect(address.servers.as_slice()).await;
        let client = match first {
            Ok(client) => client,
            Err(error) => match error.kind() {
                ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => {
                    let what = "the server does not accept user, token or credentials".to_owned();
                    return Err(BrokerError::Refused { place, what });
                }
                _ => {
                    let options = options(address, access).await?.retry_on_initial_connect();
                    let connected = options.connect(address.servers.as_slice()).await;
                    connected.map_err(|error| BrokerError::Away {
                        place: place.clone(),
                        what: error.kind().to_string(),
                    })?
                }
            },
        };
        let mut jetstream = jetstream::new(client.clone());
        jetstream.set_timeout(REQUEST);
        Ok(Server { client, jetstream, place, name: address.name().to_owned() })
    }

    /// The bucket's or stream's name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The address, as it may be shown.
    #[must_use]
    pub fn place(&self) -> &str {
        &self.place
    }

    /// The longest message that the server takes, in bytes.
    pub(crate) fn payload_bytes_max(&self) -> usize {
        match self.client.server_info().max_payload {
            0 => 1 << 20,
            most => most,
        }
    }

    /// Whether there is a connection now; nothing is asked.
    ///
    /// # Errors
    /// There is none.
    pub fn connected(&self) -> Result<(), BrokerError> {
        match self.client.connection_state() {
            State::Connected => Ok(()),
            State::Pending | State::Disconnected => Err(self.away("there is no connection")),
        }
    }

    /// Waits until there is no connection, and says so.
    pub(crate) async fn lost(&self) -> BrokerError {
        loop {
            match self.connected() {
                Ok(()) => tokio::time::sleep(LOOK).await,
                Err(away) => return away,
            }
        }
    }

    /// Waits for an answer as long as an answer may take and the connection lasts.
    pub(crate) async fn asked<T, E: fmt::Display>(
        &self,
        answer: impl Future<Output = Result<T, E>>,
    ) -> Result<Result<T, E>, BrokerError> {
        tokio::select! {
            answer = tokio::time::timeout(REQUEST, answer) => {
                answer.map_err(|_| self.away("no answer in time"))
            }
            away = self.lost() => Err(away),
        }
    }

    /// As [`asked`](Self::asked), where any error of the answer is one that may pass.
    pub(crate) async fn answered<T, E: fmt::Display>(
        &self,
        answer: impl Future<Output = Result<T, E>>,
    ) -> Result<T, BrokerError> {
        self.asked(answer).await?.map_err(|error| self.failed(&error))
    }

    /// The stream of the address's name, which is made where there is none; messages are kept
    /// for so long, or for ever where that is zero.
    pub(crate) async fn stream(&self, kept: Duration) -> Result<Stream, BrokerError> {
        let name = self.name();
        let known = self.asked(self.jetstream.get_stream(name)).await?;
        if let Ok(stream) = known {
            return Ok(stream);
        }
        let config = Config {
            name: name.to_owned(),
            description: Some("stillwatch".to_owned()),
            subjects: vec![format!("{name}.*.*")],
            max_age: kept,
            ..Config::default()
        };
        self.answered(self.jetstream.create_stream(config)).await
    }

    pub(crate) fn away(&self, what: impl fmt::Display) -> BrokerError {
        BrokerError::Away { place: self.place.clone(), what: what.to_string() }
    }

    pub(crate) fn refused(&self, what: impl fmt::Display) -> BrokerError {
        BrokerError::Refused { place: self.place.clone(), what: what.to_string() }
    }

    pub(crate) fn failed(&self, what: impl fmt::Display) -> BrokerError {
        BrokerError::Failed { place: self.place.clone(), what: what.to_string() }
    }

    pub(crate) fn broken(&self, what: impl fmt::Display) -> BrokerError {
        BrokerError::Broken { place: self.place.clone(), what: what.to_string() }
    }
}

/// Whether an answer says that there is no such stream; a bucket is one, too.
pub(crate) fn is_missing(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<GetStreamError>()
            && let GetStreamErrorKind::JetStream(why) = error.kind()
        {
            return why.error_code() == ErrorCode::STREAM_NOT_FOUND;
        }
        cause = error.source();
    }
    false
}

async fn options(address: &Address, access: &Access) -> Result<ConnectOptions, BrokerError> {
    let mut options = ConnectOptions::new()
        .name("stillwatch")
        .connection_timeout(REQUEST)
        .request_timeout(Some(REQUEST))
        .reconnect_delay_callback(pause)
        .require_tls(address.is_tls());
    options = match &address.proof {
        Proof::None => options,
        Proof::Token(token) => options.token(token.clone()),
        Proof::User { name, password } => options.user_and_password(name.clone(), password.clone()),
    };
    let Some(path) = &access.credentials else { return Ok(options) };
    let usage = |what: String| {
        BrokerError::Usage(format!("the credentials for NATS in {}: {what}", path.display()))
    };
    // Errors of reading the content may show it.
    let text = std::fs::read_to_string(path).map_err(|error| usage(error.kind().to_string()))?;
    options.credentials(&text).map_err(|_| usage("no credentials file of NATS".to_owned()))
}

//! Who else is told of a watch's findings: a file of OCSF events, a webhook.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Args;
use stillwatch_announce::{AnnounceError, Announcer, Endpoint, Key, Ledger, Settings, event};
use stillwatch_exchange::Time;
use stillwatch_hunt::Hunted;

use crate::failure::Failure;
use crate::output;
use crate::session::Session;

/// The version that events name.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// How long a watch that ends waits for messages to be taken.
const PATIENCE: Duration = Duration::from_secs(10);
/// Where the key for signatures is, unless a file is named.
const VARIABLE: &str = "STILLWATCH_WEBHOOK_KEY";

/// Who is told.
#[derive(Debug, Args)]
pub struct Tell {
    /// A file that gets an OCSF detection finding, one line of JSON, for each campaign
    /// that is found, found again with changes, or not found any more.
    #[arg(long, value_name = "FILE")]
    ocsf: Option<PathBuf>,

    /// Where each new campaign is announced, once, by a POST that is signed as Standard
    /// Webhooks says, with the key in STILLWATCH_WEBHOOK_KEY or --webhook-key-file.
    #[arg(long, value_name = "URL")]
    webhook: Option<String>,

    /// A file with that key: whsec_ and the base64 of 24 to 64 bytes.
    #[arg(long, value_name = "FILE", requires = "webhook")]
    webhook_key_file: Option<PathBuf>,

    /// Where people can read the report; goes into announcements as it is.
    #[arg(long, value_name = "URL", requires = "webhook")]
    webhook_report: Option<String>,
}

/// Tells of looks, if anybody is to be told.
pub struct Teller(Option<Arc<Announcer>>);

impl Tell {
    /// Whether anybody is to be told.
    pub fn is_asked(&self) -> bool {
        self.ocsf.is_some() || self.webhook.is_some()
    }

    /// Goes on where an earlier run of the watch was, and begins to deliver.
    pub fn begin(&self, state: &Path, session: &Session) -> Result<Teller, Failure> {
        if !self.is_asked() {
            return Ok(Teller(None));
        }
        let endpoint = self.webhook.as_ref().map(|url| {
            // The URL itself is not repeated: those of some services are secrets.
            Endpoint::new(url, self.key()?)
                .map_err(|why| Failure::Usage(format!("what --webhook names {why}")))
        });
        let announcer = Announcer::open(Settings {
            state: state.to_owned(),
            ocsf: self.ocsf.clone(),
            endpoint: endpoint.transpose()?,
            report: self.webhook_report.clone(),
            version: VERSION,
            clock: now,
            say: output::note,
        })?;
        let delivering = Arc::clone(&announcer);
        session.spawn(async move { delivering.deliver().await });
        Ok(Teller(Some(announcer)))
    }

    fn key(&self) -> Result<Key, Failure> {
        let refused = |place: &str, why: &dyn std::fmt::Display| {
            Failure::Usage(format!("the key for --webhook in {place} can't be used: {why}"))
        };
        if let Some(path) = &self.webhook_key_file {
            let shown = path.display().to_string();
            let text = fs::read_to_string(path).map_err(|error| refused(&shown, &error))?;
            return Key::parse(&text).map_err(|error| refused(&shown, &error));
        }
        match std::env::var(VARIABLE) {
            Ok(text) => Key::parse(&text).map_err(|error| refused(VARIABLE, &error)),
            Err(_) => Err(Failure::Usage(format!(
                "--webhook wants a key to sign with, in {VARIABLE} or --webhook-key-file; \
                 `echo whsec_$(openssl rand -base64 32)` makes one"
            ))),
        }
    }
}

impl Teller {
    /// Tells of a look.
    pub fn look(&self, hunted: &Hunted) -> Result<(), String> {
        let Some(announcer) = &self.0 else { return Ok(()) };
        let until = hunted.run.settings["period"]["to"].as_str();
        let until = until.and_then(|text| Time::parse(text).ok()).unwrap_or_default();
        announcer.look(until, &hunted.campaigns, &hunted.members).map_err(|error| error.to_string())
    }

    /// Waits a little for what is not delivered; what is left then is sent by the next run.
    pub fn end(&self, session: &Session) {
        let Some(announcer) = &self.0 else { return };
        let drained = || tokio::time::timeout(PATIENCE, announcer.drained());
        // What was not taken in that time is told of below.
        let _ = session.wait_for(drained);
        match announcer.undelivered() {
            (0, 0) => {}
            (lost, waiting) => output::note(&format!(
                "webhook: {waiting} announcements wait for the next run, {lost} were given up"
            )),
        }
    }
}

/// Writes an event for each campaign of a hunt, in place of what the file held. Their time
/// is that of the last exchange.
pub fn write_ocsf(path: &Path, hunted: &Hunted) -> Result<(), Failure> {
    let until = hunted.picture.run.last_seen;
    let changes = Ledger::new().look(until, &hunted.campaigns, &hunted.members);
    let lines: String = changes.iter().map(|change| event(change, VERSION) + "\n").collect();
    fs::write(path, lines).map_err(Failure::at("write", path))
}

/// Seconds since 1970.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

impl From<AnnounceError> for Failure {
    fn from(error: AnnounceError) -> Self {
        match error {
            AnnounceError::Ledger { .. } => Failure::Usage(error.to_string()),
            AnnounceError::Io { .. } => Failure::Other(error.to_string()),
        }
    }
}

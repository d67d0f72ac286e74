//! Plan: what all shares of a watch have to agree about, and what each keeps of itself.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use stillwatch_broker::{StreamPlace, Through};

use crate::settings::{Share, WatchError, WatchSettings};
use crate::store::Meta;

const VERSION: u32 = 1;

/// See the module's head.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Plan {
    version: u32,
    shares: u32,
    epoch_us: i64,
    look_us: i64,
    accounts_max: u64,
    /// What tells keys apart.
    key_check: String,
    /// The stream that is counted, and when it was made.
    stream: String,
    made_ns: i64,
}

impl Plan {
    pub fn new(
        settings: &WatchSettings,
        share: &Share,
        key_check: &str,
        stream: &str,
        place: StreamPlace,
    ) -> Self {
        Plan {
            version: VERSION,
            shares: share.number.of,
            epoch_us: settings.pace.grid.epoch_us(),
            look_us: settings.pace.look_us,
            accounts_max: settings.accounts_max,
            key_check: key_check.to_owned(),
            stream: stream.to_owned(),
            made_ns: place.made_ns,
        }
    }

    pub fn to_bytes(&self) -> Bytes {
        // Texts and numbers always become JSON.
        serde_json::to_vec(self).unwrap_or_default().into()
    }

    /// Compares with what was agreed.
    ///
    /// # Errors
    /// What differs.
    pub fn agrees(&self, agreed: &[u8], through: &Through) -> Result<(), WatchError> {
        let place = through.place();
        let usage = |what: String| WatchError::Usage(format!("{place}: {what}"));
        let agreed: Plan = serde_json::from_slice(agreed)
            .map_err(|error| usage(format!("the plan of the shares can't be read: {error}")))?;
        let minutes = |us: i64| (us / 60_000_000).to_string();
        for (what, theirs, ours) in [
            ("versions", agreed.version.to_string(), self.version.to_string()),
            ("numbers of shares", agreed.shares.to_string(), self.shares.to_string()),
            ("lengths of an epoch, in minutes", minutes(agreed.epoch_us), minutes(self.epoch_us)),
            ("times between looks, in minutes", minutes(agreed.look_us), minutes(self.look_us)),
            ("--accounts-max", agreed.accounts_max.to_string(), self.accounts_max.to_string()),
            ("keys", agreed.key_check, self.key_check.clone()),
            ("streams of exchanges", agreed.stream, self.stream.clone()),
        ] {
            if theirs != ours {
                return Err(usage(format!(
                    "the shares that speak through it have other {what} ({theirs}, not {ours}); \
                     use theirs, or another --through and a new --state for each share"
                )));
            }
        }
        if agreed.made_ns != self.made_ns {
            return Err(usage(format!(
                "{} was made anew since its shares began; begin with another --through and a new \
                 --state for each share",
                self.stream
            )));
        }
        Ok(())
    }
}

/// What a share keeps of itself, in the same transaction as what it has counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Counting {
    pub number: u32,
    pub of: u32,
    /// When the stream was made through which the shares speak.
    pub through_ns: i64,
    /// The number of the last message that is or was in the outbox.
    pub written: u64,
    /// The last cut for which all was written.
    pub answered: u64,
}

impl Counting {
    /// What the state has, or what it begins with.
    ///
    /// # Errors
    /// The state is another share's, or no share's.
    pub fn of(
        meta: &Meta,
        is_new: bool,
        share: &Share,
        through: &Through,
    ) -> Result<Self, WatchError> {
        let asked = share.number;
        let fresh = Counting {
            number: asked.number,
            of: asked.of,
            through_ns: through.made_ns(),
            ..Counting::default()
        };
        let Some(known) = meta.counting.clone() else {
            if is_new {
                return Ok(fresh);
            }
            return Err(WatchError::Usage(format!(
                "--share {asked}: the state is that of a watch that counts everything; give this \
                 one a --state of its own"
            )));
        };
        if (known.number, known.of) != (asked.number, asked.of) {
            return Err(WatchError::Usage(format!(
                "--share {asked}: the state is that of share {}/{}; use that number, or a --state \
                 of its own",
                known.number, known.of
            )));
        }
        same_stream(known.through_ns, through)?;
        Ok(known)
    }
}

/// # Errors
/// The stream through which shares speak is not the one that it was.
pub(super) fn same_stream(made_ns: i64, through: &Through) -> Result<(), WatchError> {
    if made_ns == through.made_ns() {
        return Ok(());
    }
    Err(WatchError::Usage(format!(
        "{} is not the stream through which this share has spoken before, and what it has sent \
         there is gone; begin with a new --state for each share",
        through.place()
    )))
}

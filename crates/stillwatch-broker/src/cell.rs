//! Values that several processes change by turns: each is replaced only as it was read.

use std::time::Duration;

use async_nats::jetstream::kv::{CreateErrorKind, Operation, Store, UpdateErrorKind};
use bytes::Bytes;

use crate::bucket::store_or_new;
use crate::server::{BrokerError, Server};

/// What is stored to learn the time.
const CLOCK: &str = "clock";

/// The values of a bucket.
#[derive(Clone, Debug)]
pub struct Cells {
    server: Server,
    store: Store,
}

/// A value as it was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cell {
    /// None where there was none.
    pub value: Option<Bytes>,
    revision: u64,
}

/// What came of replacing a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Swap {
    /// It is stored.
    Done,
    /// Somebody else was faster; nothing was stored.
    Lost,
}

impl Cells {
    /// Opens the bucket, which is made where there is none, and then removes values that
    /// nobody has touched for `kept`.
    ///
    /// # Errors
    /// The server or the bucket can't be had.
    pub async fn open(server: &Server, kept: Duration) -> Result<Self, BrokerError> {
        let store = store_or_new(server, kept).await?;
        Ok(Cells { server: server.clone(), store })
    }

    /// Reads a value.
    ///
    /// # Errors
    /// The server doesn't answer.
    pub async fn read(&self, key: &str) -> Result<Cell, BrokerError> {
        let Some(entry) = self.server.answered(self.store.entry(key)).await? else {
            return Ok(Cell::default());
        };
        let value = (entry.operation == Operation::Put).then_some(entry.value);
        Ok(Cell { value, revision: entry.revision })
    }

    /// The server's clock at a moment between the call and the answer, in nanoseconds since
    /// the Unix epoch: when a value was stored that is stored for this.
    ///
    /// # Errors
    /// The server doesn't answer.
    pub async fn time(&self) -> Result<i64, BrokerError> {
        let server = &self.server;
        let revision = server.answered(self.store.put(CLOCK, Bytes::new())).await?;
        let entry = server.answered(self.store.entry(CLOCK)).await?;
        // A replica may not have it yet; what somebody stored later will do.
        let entry = entry.filter(|entry| entry.revision >= revision);
        let stored = entry.and_then(|e| i64::try_from(e.created.unix_timestamp_nanos()).ok());
        stored.ok_or_else(|| server.away("what was stored is not there yet"))
    }

    /// Replaces a value, if it is still as it was read.
    ///
    /// # Errors
    /// The server doesn't answer: the value may have been replaced, or may be yet.
    pub async fn replace(&self, key: &str, read: &Cell, value: Bytes) -> Result<Swap, BrokerError> {
        let place = &self.server;
        if read.revision == 0 {
            return match place.asked(self.store.create(key, value)).await? {
                Ok(_) => Ok(Swap::Done),
                Err(error) if error.kind() == CreateErrorKind::AlreadyExists => Ok(Swap::Lost),
                Err(error) => Err(place.failed(error)),
            };
        }
        match place.asked(self.store.update(key, value, read.revision)).await? {
            Ok(_) => Ok(Swap::Done),
            Err(error) if error.kind() == UpdateErrorKind::WrongLastRevision => Ok(Swap::Lost),
            Err(error) => Err(place.failed(error)),
        }
    }
}

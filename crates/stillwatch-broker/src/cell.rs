//! Values that several processes change by turns: each is replaced only as it was read.

use async_nats::jetstream::kv::{CreateErrorKind, Operation, Store, UpdateErrorKind};
use bytes::Bytes;

use crate::bucket::store_or_new;
use crate::server::{BrokerError, Server};

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
    /// When it was stored, in nanoseconds since the Unix epoch of the server's clock.
    pub stored_ns: Option<i64>,
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
    /// Opens the bucket, which is made where there is none.
    ///
    /// # Errors
    /// The server or the bucket can't be had.
    pub async fn open(server: &Server) -> Result<Self, BrokerError> {
        let store = store_or_new(server).await?;
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
        let stored_ns = i64::try_from(entry.created.unix_timestamp_nanos()).ok();
        let value = (entry.operation == Operation::Put).then_some(entry.value);
        Ok(Cell { value, stored_ns, revision: entry.revision })
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
                Err(error) => Err(place.away(error)),
            };
        }
        match place.asked(self.store.update(key, value, read.revision)).await? {
            Ok(_) => Ok(Swap::Done),
            Err(error) if error.kind() == UpdateErrorKind::WrongLastRevision => Ok(Swap::Lost),
            Err(error) => Err(place.away(error)),
        }
    }
}

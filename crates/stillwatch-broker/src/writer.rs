//! Messages that a stream stores once, whatever is killed and whenever.
//!
//! A writer has subjects of its own, one for each partition: `STREAM.PARTITION.WRITER`.
//! On each it has one message under way at a time, and each message says how far it
//! reaches. So the last message of a subject tells what has arrived, also of what was sent
//! before a crash and never confirmed, and also after the time in which the server drops
//! what comes twice (which it does by the message's id).

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use async_nats::jetstream::context::PublishErrorKind;
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::{LastRawMessageErrorKind, Stream};
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;

use crate::server::{BrokerError, Server};

/// A message's header that says how far it reaches.
const REACHES: &str = "Stillwatch-Reaches";
/// How long a stream that is made here keeps messages.
const KEPT: Duration = Duration::from_secs(7 * 86_400);
/// What headers and framing of a message may take of the longest that the server takes.
const HEADERS_BYTES: usize = 4 << 10;

/// A message for a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub partition: u32,
    /// The server drops a second message with the same id for some minutes.
    pub id: String,
    /// A file's number and that of a message of it: grows from message to message of a
    /// partition.
    pub reaches: (u64, u32),
    pub payload: Bytes,
}

/// Writes to a stream.
#[derive(Clone, Debug)]
pub struct Writer {
    server: Server,
    stream: Stream,
    writer: String,
}

impl Writer {
    /// Opens the stream, which is made where there is none. `writer` is this writer's own
    /// name, of letters and digits.
    ///
    /// # Errors
    /// The server or the stream can't be had.
    pub async fn open(server: &Server, writer: &str) -> Result<Self, BrokerError> {
        let stream = server.stream(KEPT).await?;
        Ok(Self::of(server, stream, writer))
    }

    pub(crate) fn of(server: &Server, stream: Stream, writer: &str) -> Self {
        Writer { server: server.clone(), stream, writer: writer.to_owned() }
    }

    /// The address of the stream, as it may be shown.
    #[must_use]
    pub fn place(&self) -> &str {
        self.server.place()
    }

    /// The longest payload of a message, in bytes.
    #[must_use]
    pub fn payload_bytes_max(&self) -> usize {
        self.server.payload_bytes_max().saturating_sub(HEADERS_BYTES)
    }

    fn subject(&self, partition: u32) -> String {
        format!("{}.{partition}.{}", self.server.name(), self.writer)
    }

    /// How far the last message of each partition reaches, where there is one.
    ///
    /// # Errors
    /// The server doesn't answer, or somebody else has written there.
    pub async fn reached(&self, partitions: u32) -> Result<BTreeMap<u32, (u64, u32)>, BrokerError> {
        self.reached_in(0..partitions).await
    }

    async fn reached_in(
        &self,
        partitions: Range<u32>,
    ) -> Result<BTreeMap<u32, (u64, u32)>, BrokerError> {
        let mut reached = BTreeMap::new();
        for partition in partitions {
            let subject = self.subject(partition);
            let asked = self.stream.get_last_raw_message_by_subject(&subject);
            let last = match self.server.asked(asked).await? {
                Ok(message) => message,
                Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => continue,
                Err(error) => return Err(self.server.failed(error)),
            };
            let reaches = last.headers.get(REACHES).and_then(|said| {
                let (file, message) = said.as_str().split_once('/')?;
                Some((file.parse().ok()?, message.parse().ok()?))
            });
            let reaches = reaches.ok_or_else(|| {
                let what = format!("{subject} has messages that are not of this writer");
                self.server.broken(what)
            })?;
            reached.insert(partition, reaches);
        }
        Ok(reached)
    }

    /// Stores messages: those of a partition one after the other, partitions beside each
    /// other. Returns when all are stored.
    ///
    /// # Errors
    /// Some are not, or may not be: [`reached`](Self::reached) tells.
    pub async fn write(&self, messages: Vec<Line>) -> Result<(), BrokerError> {
        let mut partitions: BTreeMap<u32, Vec<Line>> = BTreeMap::new();
        for message in messages {
            partitions.entry(message.partition).or_default().push(message);
        }
        let mut under_way: FuturesUnordered<_> =
            partitions.into_values().map(|messages| self.write_in_turn(messages)).collect();
        while let Some(written) = under_way.next().await {
            written?;
        }
        Ok(())
    }

    /// How far the last message of one partition reaches; (0, 0) where there is none.
    ///
    /// # Errors
    /// As [`reached`](Self::reached).
    pub async fn reached_of(&self, partition: u32) -> Result<(u64, u32), BrokerError> {
        Ok(self.reached_in(partition..partition + 1).await?.remove(&partition).unwrap_or_default())
    }

    async fn write_in_turn(&self, messages: Vec<Line>) -> Result<(), BrokerError> {
        for Line { partition, id, reaches, payload } in messages {
            let message = PublishMessage::build()
                .message_id(id)
                .expected_stream(self.server.name())
                .header(REACHES, format!("{}/{}", reaches.0, reaches.1).as_str())
                .payload(payload);
            let subject = self.subject(partition);
            let stored =
                async { self.server.jetstream.send_publish(subject, message).await?.await };
            self.server.asked(stored).await?.map_err(|error| match error.kind() {
                PublishErrorKind::StreamNotFound => self.server.failed(format_args!(
                    "no stream takes {}.*.*: add it to the subjects of the stream",
                    self.server.name()
                )),
                _ => self.server.failed(error),
            })?;
        }
        Ok(())
    }
}

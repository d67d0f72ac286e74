//! The stream through which the shares of one watch speak with each other.
//!
//! | subject | who writes | what |
//! | --- | --- | --- |
//! | `STREAM.lead.plan` | the first who comes | what all have to agree about, for good |
//! | `STREAM.K.share` | share number K | what it has counted, each message once ([`Writer`]) |
//! | `STREAM.lead.word` | the one that looks | how far it is; the last message counts |
//!
//! What the messages say is the shares' own business. Messages of shares stay until the one
//! that looks has [taken](Through::forget) them; there is no age at which they go.

use std::time::Duration;

use async_nats::jetstream::context::PublishErrorKind;
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::{RawMessageErrorKind, Stream};
use bytes::Bytes;
use futures::StreamExt;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::reader::{Part, StreamPlace};
use crate::server::{BrokerError, Server, pause};
use crate::writer::Writer;

/// The name under which shares write.
const SHARE: &str = "share";
/// How often the last word is read although none was heard.
const READ_AGAIN: Duration = Duration::from_secs(1);

/// Subjects that are looked at.
const SUBJECTS_MAX: usize = 100_000;

/// Where a stream is, and how far it goes.
///
/// # Errors
/// The server or the stream can't be had.
pub async fn extent(server: &Server) -> Result<StreamPlace, BrokerError> {
    let asked = server.jetstream.get_stream(server.name());
    let stream = server.asked(asked).await?.map_err(|error| {
        server.away(format_args!("no such stream, or it may not be read: {error}"))
    })?;
    Ok(StreamPlace {
        made_ns: made_ns(&stream),
        sequence: stream.cached_info().state.last_sequence,
    })
}

/// How many messages of a stream are on no partition's subject, `STREAM.P.NAME`: what none of
/// several readers of [parts](Part) is sent. Looks at `SUBJECTS_MAX` subjects at most.
///
/// # Errors
/// The server or the stream can't be had.
pub async fn outside(server: &Server, partitions: u32) -> Result<u64, BrokerError> {
    let asked = server.jetstream.get_stream(server.name());
    let stream = server.answered(asked).await?;
    let mut subjects = server.answered(stream.info_with_subjects(">")).await?;
    let mut messages = 0;
    for _ in 0..SUBJECTS_MAX {
        let next = server.answered(async { subjects.next().await.transpose() }).await?;
        let Some((subject, count)) = next else { break };
        if !is_within(&subject, server.name(), partitions) {
            messages += count as u64;
        }
    }
    Ok(messages)
}

fn is_within(subject: &str, stream: &str, partitions: u32) -> bool {
    let mut parts = subject.split('.');
    let is_stream = parts.next() == Some(stream);
    let partition = parts.next().unwrap_or_default();
    // As it is written, without zeros before it.
    let is_known = (0..partitions).any(|known| known.to_string() == partition);
    is_stream && is_known && parts.next().is_some() && parts.next().is_none()
}

fn made_ns(stream: &Stream) -> i64 {
    i64::try_from(stream.cached_info().created.unix_timestamp_nanos()).unwrap_or(0)
}

/// See the module's head.
#[derive(Clone, Debug)]
pub struct Through {
    server: Server,
    stream: Stream,
}

impl Through {
    /// Opens the stream, which is made where there is none.
    ///
    /// # Errors
    /// The server or the stream can't be had.
    pub async fn open(server: &Server) -> Result<Self, BrokerError> {
        let stream = server.stream(Duration::ZERO).await?;
        Ok(Through { server: server.clone(), stream })
    }

    /// When the stream was made, in nanoseconds since the Unix epoch.
    #[must_use]
    pub fn made_ns(&self) -> i64 {
        made_ns(&self.stream)
    }

    /// The address of the stream, as it may be shown.
    #[must_use]
    pub fn place(&self) -> &str {
        self.server.place()
    }

    /// The part of the stream that shares write.
    #[must_use]
    pub fn of_shares(&self) -> Part {
        Part { subjects: vec![format!("{}.*.{SHARE}", self.server.name())], is_marked: false }
    }

    /// Writes as a share: to the partition that is its number.
    #[must_use]
    pub fn writer(&self) -> Writer {
        Writer::of(&self.server, self.stream.clone(), SHARE)
    }

    fn subject(&self, what: &str) -> String {
        format!("{}.lead.{what}", self.server.name())
    }

    async fn last(&self, what: &str) -> Result<Option<Bytes>, BrokerError> {
        let subject = self.subject(what);
        let asked = self.stream.get_last_raw_message_by_subject(&subject);
        match self.server.asked(asked).await? {
            Ok(message) => Ok(Some(message.payload)),
            Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => Ok(None),
            Err(error) => Err(self.server.away(error)),
        }
    }

    /// What all agree about: this, if nobody has said anything else before.
    ///
    /// # Errors
    /// The server doesn't answer.
    pub async fn agree(&self, plan: Bytes) -> Result<Bytes, BrokerError> {
        loop {
            if let Some(agreed) = self.last("plan").await? {
                return Ok(agreed);
            }
            let message = PublishMessage::build()
                .expected_stream(self.server.name())
                .expected_last_subject_sequence(0)
                .payload(plan.clone());
            let subject = self.subject("plan");
            let stored =
                async { self.server.jetstream.send_publish(subject, message).await?.await };
            match self.server.asked(stored).await? {
                Ok(_) => return Ok(plan),
                // Somebody else was faster.
                Err(error) if error.kind() == PublishErrorKind::WrongLastSequence => {}
                Err(error) => return Err(self.server.away(error)),
            }
        }
    }

    /// Tells all shares, in place of what was told before.
    ///
    /// # Errors
    /// The server doesn't answer.
    pub async fn tell(&self, word: Bytes) -> Result<(), BrokerError> {
        let message = PublishMessage::build().expected_stream(self.server.name()).payload(word);
        let subject = self.subject("word");
        let told =
            async { self.server.jetstream.send_publish(subject.clone(), message).await?.await };
        self.server.answered(told).await?;
        let purged = async { self.stream.purge().filter(subject).keep(1).await };
        self.server.answered(purged).await.map(drop)
    }

    /// Removes what a share has written before the message with this number in the stream.
    ///
    /// # Errors
    /// The server doesn't answer.
    pub async fn forget(&self, share: u32, before: u64) -> Result<(), BrokerError> {
        let subject = format!("{}.{share}.{SHARE}", self.server.name());
        let purged = async { self.stream.purge().filter(subject).sequence(before).await };
        self.server.answered(purged).await.map(drop)
    }

    /// Follows what is told, until the follower is dropped.
    #[must_use]
    pub fn follow(&self, runtime: &Handle) -> Follower {
        let (heard, last) = watch::channel(Bytes::new());
        let through = self.clone();
        let task = runtime.spawn(async move {
            let mut attempts = 0;
            while through.hear(&heard, &mut attempts).await.is_err() {
                tokio::time::sleep(pause(attempts)).await;
                attempts += 1;
            }
        });
        Follower { last, task, runtime: runtime.clone() }
    }

    /// Passes on what is told until the server is away or nobody listens.
    async fn hear(
        &self,
        heard: &watch::Sender<Bytes>,
        attempts: &mut usize,
    ) -> Result<(), BrokerError> {
        let subscribed = self.server.client.subscribe(self.subject("word"));
        let mut words = self.server.answered(subscribed).await?;
        let mut word = self.last("word").await?;
        loop {
            if let Some(word) = word {
                heard.send_if_modified(|known| {
                    let is_new = *known != word;
                    *known = word;
                    is_new
                });
            }
            *attempts = 0;
            word = tokio::select! {
                // It comes here before it can be read.
                word = words.next() => match word {
                    Some(word) => Some(word.payload),
                    None => return Err(self.server.away("the subscription has ended")),
                },
                () = tokio::time::sleep(READ_AGAIN) => self.last("word").await?,
                () = heard.closed() => return Ok(()),
            };
        }
    }
}

/// Hears what is told to all shares.
#[derive(Debug)]
pub struct Follower {
    last: watch::Receiver<Bytes>,
    task: JoinHandle<()>,
    runtime: Handle,
}

impl Follower {
    /// The last word, if it was not taken yet.
    #[must_use]
    pub fn news(&mut self) -> Option<Bytes> {
        // Where the other end is gone there is nothing new either.
        if !self.last.has_changed().unwrap_or(false) {
            return None;
        }
        Some(self.last.borrow_and_update().clone())
    }

    /// Waits for another word, at most so long.
    pub fn wait(&mut self, at_most: Duration) {
        let Follower { last, runtime, .. } = self;
        // Too late, or the end: both are found by asking.
        let _ = runtime.block_on(async {
            let mut last = last.clone();
            tokio::time::timeout(at_most, last.changed()).await
        });
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_of_partitions_are_those_that_readers_of_parts_ask_for() {
        for (subject, is_one) in [
            ("exchanges.0.guard", true),
            ("exchanges.15.guard", true),
            ("exchanges.16.guard", false),
            ("exchanges.07.guard", false),
            ("exchanges.7", false),
            ("exchanges.7.a.b", false),
            ("exchanges.app.1", false),
            ("others.7.guard", false),
        ] {
            assert_eq!(is_within(subject, "exchanges", 16), is_one, "{subject}");
        }
    }
}

//! Reads a stream's messages from a known place on, in the order in which the server has
//! stored them, each once.
//!
//! Nothing is acknowledged and the server keeps no place for the reader: whoever reads
//! keeps it, beside what was made of the messages, and says where to begin.
//!
//! A reader of a [part](Part) of a stream is sent the messages of its subjects alone, and
//! where they end it is told how far the stream goes on without any for it: a message
//! without content.
//!
//! Bound: [`WAITING_MAX`] messages that nobody has taken yet, and as many as one request
//! asks for, about [`BYTES_AT_ONCE`].

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use async_nats::jetstream::stream::{Info, RawMessageErrorKind, Stream};
use bytes::Bytes;
use futures::StreamExt;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::address::Address;
use crate::server::{Access, BrokerError, REQUEST, Server, is_missing, pause};

/// Messages that wait to be taken.
const WAITING_MAX: usize = 16;
/// Messages that one request asks for.
const AT_ONCE: std::ops::RangeInclusive<usize> = 8..=512;
/// Bytes that one request asks for, unless a single message is longer.
const BYTES_AT_ONCE: usize = 8 << 20;
/// How long the server keeps a request for messages that are not there yet.
const EXPIRES: Duration = Duration::from_secs(5);
/// The same for a part that is told how far the stream goes.
const MARKED: Duration = Duration::from_secs(1);
/// How long the server remembers a reader that has gone.
const FORGOTTEN: Duration = Duration::from_secs(60);

/// A place in a stream: everything up to it was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamPlace {
    /// When the stream was made, in nanoseconds since the Unix epoch: another stream of the
    /// same name has its own places.
    pub made_ns: i64,
    pub sequence: u64,
}

/// A message, and the place after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub place: StreamPlace,
    pub payload: Bytes,
}

/// A part of a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// Of which subjects; all where there are none.
    pub subjects: Vec<String>,
    /// Tell with messages without content how far the stream goes where it holds nothing
    /// more of these subjects.
    pub is_marked: bool,
}

/// What is known of the stream.
#[derive(Debug, Default)]
struct Known {
    /// Messages that were there when the reader came and have not come yet; none while the
    /// server is away.
    to_come: Option<u64>,
    /// What went wrong since it was asked last.
    problems: Vec<String>,
}

/// See the module's head.
#[derive(Debug)]
pub struct Reader {
    inbox: Mutex<Inbox>,
    runtime: Handle,
    known: Arc<Mutex<Known>>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Inbox {
    messages: mpsc::Receiver<Message>,
    ahead: Option<Message>,
}

impl Inbox {
    fn has_next(&mut self) -> bool {
        if self.ahead.is_none() {
            self.ahead = self.messages.try_recv().ok();
        }
        self.ahead.is_some()
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Reader {
    /// Begins after a place, or at the first message that is there.
    ///
    /// # Errors
    /// The credentials can't be used, or the server refuses them.
    pub fn begin(
        runtime: &Handle,
        address: &Address,
        access: &Access,
        after: Option<StreamPlace>,
    ) -> Result<Self, BrokerError> {
        Self::begin_part(runtime, address, access, after, Part::default())
    }

    /// As [`begin`](Self::begin), with the messages of a part.
    ///
    /// # Errors
    /// As [`begin`](Self::begin).
    pub fn begin_part(
        runtime: &Handle,
        address: &Address,
        access: &Access,
        after: Option<StreamPlace>,
        part: Part,
    ) -> Result<Self, BrokerError> {
        let server = runtime.block_on(Server::connect(address, access))?;
        let (sender, messages) = mpsc::channel(WAITING_MAX);
        let known = Arc::<Mutex<Known>>::default();
        let after = after.unwrap_or_default();
        let waiting = VecDeque::new();
        let reading = Reading { server, sender, known: Arc::clone(&known), after, part, waiting };
        let task = runtime.spawn(run(reading));
        let inbox = Mutex::new(Inbox { messages, ahead: None });
        Ok(Reader { inbox, runtime: runtime.clone(), known, task })
    }

    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a message is at hand.
    #[must_use]
    pub fn has_next(&self) -> bool {
        self.inbox().has_next()
    }

    /// The next message, if it is at hand and not longer than that.
    #[must_use]
    pub fn next_up_to(&self, bytes: usize) -> Option<Message> {
        let mut inbox = self.inbox();
        inbox.has_next();
        inbox.ahead.take_if(|message| message.payload.len() <= bytes)
    }

    /// Waits until a message is at hand, at most so long.
    pub fn wait(&self, at_most: Duration) {
        let mut inbox = self.inbox();
        if !inbox.has_next() {
            let next = inbox.messages.recv();
            let next = async { tokio::time::timeout(at_most, next).await.ok().flatten() };
            let next = self.runtime.block_on(next);
            inbox.ahead = next;
        }
    }

    /// Whether more messages are on their way of those that were there when the reader came.
    #[must_use]
    pub fn is_coming(&self) -> bool {
        self.known().to_come.is_some_and(|left| left > 0)
    }

    /// Whether all was taken that was there when the reader came; never while the server is
    /// away.
    #[must_use]
    pub fn is_caught_up(&self) -> bool {
        // In this order: a message is at hand before it is counted.
        let to_come = self.known().to_come;
        to_come == Some(0) && !self.has_next()
    }

    /// What went wrong since this was asked last, and what is well again.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        std::mem::take(&mut self.known().problems)
    }
}

struct Reading {
    server: Server,
    sender: mpsc::Sender<Message>,
    known: Arc<Mutex<Known>>,
    after: StreamPlace,
    part: Part,
    /// What has come and was not passed on, each with how many were to come after it.
    waiting: VecDeque<(Message, Option<u64>)>,
}

async fn run(mut reading: Reading) {
    let mut attempts = 0;
    let mut is_away = false;
    while let Err(error) = reading.once(&mut attempts, &mut is_away).await {
        reading.known.lock().unwrap_or_else(PoisonError::into_inner).to_come = None;
        if !is_away {
            reading.tell(error.to_string());
            is_away = true;
        }
        tokio::time::sleep(pause(attempts)).await;
        attempts += 1;
    }
}

impl Reading {
    fn tell(&self, problem: String) {
        const PROBLEMS_MAX: usize = 16;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.problems.len() < PROBLEMS_MAX {
            known.problems.push(problem);
        }
    }

    /// Where to begin in the stream as it is now.
    fn begin(&mut self, info: &Info) {
        let made_ns = i64::try_from(info.created.unix_timestamp_nanos()).unwrap_or(0);
        let (first, last) = (info.state.first_sequence, info.state.last_sequence);
        let place = self.server.place().to_owned();
        if self.after.sequence > 0 && self.after.made_ns != made_ns {
            self.tell(format!(
                "{place} is not the stream that was read before; it is read from its beginning"
            ));
            self.after.sequence = 0;
        } else if self.after.sequence > last {
            // A server that lost power has lost what it had not forced to its disk.
            self.tell(format!(
                "{place} has lost {} messages that were read; what is sent again of them is \
                 counted again",
                self.after.sequence - last
            ));
            self.after.sequence = last;
        }
        self.after.made_ns = made_ns;
        let next = self.after.sequence + 1;
        if self.after.sequence > 0 && first > next && last >= next {
            let gone = first - next;
            self.tell(format!("{place} has dropped {gone} messages that were not read yet"));
        }
    }

    /// How far the stream goes, if it holds nothing more for this part up to there.
    async fn mark(&mut self, stream: &Stream) -> Result<(), BrokerError> {
        // A consumer learns late what was stored; the stream itself knows. Its end is asked
        // for first, so that nothing falls between.
        let last = self.server.answered(stream.get_info()).await?.state.last_sequence;
        if last <= self.after.sequence {
            return Ok(());
        }
        for subject in &self.part.subjects {
            let next = self.after.sequence + 1;
            let asked = stream.get_first_raw_message_by_subject(subject, next);
            match self.server.asked(asked).await? {
                Ok(message) if message.sequence <= last => return Ok(()),
                Ok(_) => {}
                Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => {}
                Err(error) => return Err(self.server.away(error)),
            }
        }
        self.after.sequence = last;
        self.waiting.push_back((Message { place: self.after, payload: Bytes::new() }, None));
        Ok(())
    }

    /// Passes on what waits; says whether anybody still listens.
    async fn pass_on(&mut self) -> bool {
        while let Some((message, pending)) = self.waiting.pop_front() {
            if self.sender.send(message).await.is_err() {
                return false;
            }
            passed(&self.known, pending);
        }
        true
    }

    /// Reads until something errs; ends well when nobody takes messages any more.
    async fn once(&mut self, attempts: &mut usize, is_away: &mut bool) -> Result<(), BrokerError> {
        if !self.pass_on().await {
            return Ok(());
        }
        let server = self.server.clone();
        let asked = server.jetstream.get_stream(server.name());
        let stream = server.asked(asked).await?.map_err(|error| {
            if is_missing(&error) {
                return server.failed(format_args!(
                    "there is no stream {}; `stillwatch guard --publish {}` makes it",
                    server.name(),
                    server.place()
                ));
            }
            server.failed(format_args!("the stream {} can't be read: {error}", server.name()))
        })?;
        self.begin(stream.cached_info());
        let start_sequence = self.after.sequence + 1;
        let config = pull::Config {
            deliver_policy: DeliverPolicy::ByStartSequence { start_sequence },
            ack_policy: AckPolicy::None,
            inactive_threshold: FORGOTTEN,
            description: Some("stillwatch".to_owned()),
            memory_storage: true,
            num_replicas: 1,
            filter_subjects: self.part.subjects.clone(),
            ..pull::Config::default()
        };
        let consumer = server.answered(stream.create_consumer(config)).await?;
        self.known.lock().unwrap_or_else(PoisonError::into_inner).to_come =
            Some(consumer.cached_info().num_pending);
        if std::mem::take(is_away) {
            self.tell(format!("{} answers again", server.place()));
        }
        let (mut delivered, mut longest) = (0, BYTES_AT_ONCE / AT_ONCE.start());
        let expires = if self.part.is_marked { MARKED } else { EXPIRES };
        loop {
            if self.part.is_marked {
                self.mark(&stream).await?;
            }
            // Nothing is asked for until what came before was taken.
            if !self.pass_on().await {
                return Ok(());
            }
            let most = (BYTES_AT_ONCE / longest).clamp(*AT_ONCE.start(), *AT_ONCE.end());
            let batch = consumer.batch().max_messages(most).expires(expires).messages();
            let mut batch = server.answered(batch).await?;
            longest = 1;
            loop {
                // A request that has ended drops what was not fetched of it: all that comes
                // is fetched at once, however long it then waits.
                let next = tokio::select! {
                    next = tokio::time::timeout(expires + REQUEST, batch.next()) => next,
                    place = self.sender.reserve(), if !self.waiting.is_empty() => {
                        let Ok(place) = place else { return Ok(()) };
                        if let Some((message, pending)) = self.waiting.pop_front() {
                            place.send(message);
                            passed(&self.known, pending);
                        }
                        continue;
                    }
                };
                let message = match next {
                    Err(_) => return Err(server.away("no answer in time")),
                    Ok(None) => break,
                    Ok(Some(message)) => message.map_err(|error| server.away(error))?,
                };
                let info = message.info().map_err(|error| server.broken(error))?;
                delivered += 1;
                // One was lost on its way: the reader is made anew where it was.
                if info.consumer_sequence != delivered {
                    return Err(server.away("a message was lost on its way"));
                }
                let (sequence, pending) = (info.stream_sequence, info.pending);
                let payload = message.payload.clone();
                longest = longest.max(payload.len());
                self.after.sequence = sequence;
                self.waiting.push_back((Message { place: self.after, payload }, Some(pending)));
                *attempts = 0;
                if pending == 0 && self.part.is_marked {
                    self.mark(&stream).await?;
                }
            }
            // Many messages at a stroke only once they were seen to be short.
            longest = longest.max(1 << 10);
        }
    }
}

/// Counts a message that was passed on, and after which so many were to come.
fn passed(known: &Mutex<Known>, pending: Option<u64>) {
    let Some(pending) = pending else { return };
    let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
    known.to_come = known.to_come.map(|left| left.saturating_sub(1).min(pending));
}

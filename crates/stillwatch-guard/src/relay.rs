//! Bodies on their way to the client.
//!
//! hyper gives an answer's pieces one by one, as its connection's task reads them, and
//! would write each of them by itself. A relay collects what is ready and gives it on in
//! one piece, so that a burst of events costs one write. It never waits for more: when
//! nothing further is ready at once, what is there goes out.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

use crate::answer::{Answer, Measured};
use crate::bind::Binder;
use crate::cut::Cutter;
use crate::thin::{NotThinned, Thinner};
use crate::underway::Underway;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Collected pieces of this many bytes go out even if more is ready.
const WRITE_BYTES: usize = 64 << 10;

/// How often a relay steps back before it takes it that nothing more is ready. hyper's
/// server asks a body twice before it lets other tasks run, so that of two times one is
/// a turn for the upstream's connection.
const TURNS: u8 = 2;

/// Has the task polled again when other tasks and sockets have had their turn. To wake it
/// here would only poll it again ([`crate::steady`]).
fn step_back(cx: &mut Context<'_>) {
    let _ = std::pin::pin!(tokio::task::yield_now()).poll(cx);
}

/// What a client is answered.
#[derive(Debug)]
pub enum Reply {
    Whole(Full<Bytes>),
    Relay(Box<Relay>),
}

impl Body for Reply {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.get_mut() {
            Reply::Whole(body) => Pin::new(body).poll_frame(cx).map_err(|never| match never {}),
            Reply::Relay(relay) => relay.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Reply::Whole(body) => body.is_end_stream(),
            Reply::Relay(relay) => relay.is_ended,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Reply::Whole(body) => body.size_hint(),
            // Before the first poll, which is when it is asked.
            Reply::Relay(relay) => match &relay.incoming {
                Some(incoming) if !relay.changes.is_any() => incoming.size_hint(),
                _ => SizeHint::default(),
            },
        }
    }
}

/// What may be changed of an answer on its way.
#[derive(Debug, Default)]
pub struct Changes {
    pub thinner: Option<Thinner>,
    /// Marks reasoning blocks.
    pub binder: Option<Binder>,
    /// Holds a stream to its cap, or counts it.
    pub cutter: Option<Cutter>,
    /// Whether the stream's tokens are taken from the campaign's bucket as they come.
    pub is_paced: bool,
    /// Whether a verdict that changes may end the stream.
    pub follows_verdict: bool,
}

impl Changes {
    /// Whether the length may become another.
    #[must_use]
    pub fn is_any(&self) -> bool {
        let Changes { thinner, binder, cutter, is_paced: _, follows_verdict } = self;
        thinner.is_some() || binder.is_some() || cutter.is_some() || *follows_verdict
    }
}

/// An exchange that is recorded when its answer ends.
#[derive(Debug)]
pub struct Recorded {
    pub underway: Underway,
    pub answer: Answer,
    pub status: u16,
    /// Whether a verdict has ended it.
    pub is_shut_out: bool,
}

/// An answer that passes.
#[derive(Debug)]
pub struct Relay {
    /// None once the upstream has said all, or nothing more of it is wanted.
    incoming: Option<Incoming>,
    /// None for what is no exchange, and once the end is recorded.
    recorded: Option<Recorded>,
    changes: Changes,
    /// Events that wait for tokens, with how many each still wants; those of one piece.
    waiting: VecDeque<(Bytes, u64)>,
    /// Until when they wait.
    room: Option<Pin<Box<Sleep>>>,
    /// What ends the stream at the next event's end.
    ending: Option<Bytes>,
    /// How long the upstream may pause.
    pause: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    is_paused: bool,
    /// How often the upstream's connection was given a turn to bring more.
    turns: u8,
    gathered: Gathered,
    trailers: Option<Frame<Bytes>>,
    failure: Option<BoxError>,
    /// All has been said, and the end is recorded.
    is_complete: bool,
    is_ended: bool,
}

/// Pieces that wait to go out together; a single one is not copied.
#[derive(Debug, Default)]
enum Gathered {
    #[default]
    None,
    One(Bytes),
    More(BytesMut),
}

impl Gathered {
    fn push(&mut self, piece: Bytes) {
        *self = match std::mem::take(self) {
            Gathered::None => Gathered::One(piece),
            Gathered::One(first) => {
                let mut more = BytesMut::with_capacity((first.len() + piece.len()).max(4096));
                more.extend_from_slice(&first);
                more.extend_from_slice(&piece);
                Gathered::More(more)
            }
            Gathered::More(mut more) => {
                more.extend_from_slice(&piece);
                Gathered::More(more)
            }
        };
    }

    fn len(&self) -> usize {
        match self {
            Gathered::None => 0,
            Gathered::One(piece) => piece.len(),
            Gathered::More(more) => more.len(),
        }
    }

    fn take(&mut self) -> Option<Bytes> {
        match std::mem::take(self) {
            Gathered::None => None,
            Gathered::One(piece) => Some(piece),
            Gathered::More(more) => Some(more.freeze()),
        }
        .filter(|bytes| !bytes.is_empty())
    }
}

impl Relay {
    /// An answer's body from the upstream.
    pub fn new(
        incoming: Incoming,
        recorded: Option<Recorded>,
        changes: Changes,
        pause: Duration,
    ) -> Self {
        let is_empty = incoming.is_end_stream();
        let mut relay = Relay {
            incoming: Some(incoming),
            recorded,
            changes,
            waiting: VecDeque::new(),
            room: None,
            ending: None,
            pause,
            timer: None,
            is_paused: false,
            turns: 0,
            gathered: Gathered::None,
            trailers: None,
            failure: None,
            is_complete: false,
            is_ended: false,
        };
        if is_empty {
            relay.complete();
            relay.is_ended = relay.gathered.len() == 0 && relay.failure.is_none();
        }
        relay
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.is_ended {
            return Poll::Ready(None);
        }
        self.follow_verdict();
        while !self.is_complete && self.failure.is_none() {
            if self.has_to_wait(cx) {
                if self.gathered.len() == 0 {
                    return Poll::Pending;
                }
                break;
            }
            if self.gathered.len() >= WRITE_BYTES {
                break;
            }
            let Some(incoming) = &mut self.incoming else {
                self.complete();
                continue;
            };
            match Pin::new(&mut *incoming).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    let is_last = incoming.is_end_stream();
                    self.is_paused = false;
                    self.take_in(frame);
                    if is_last {
                        self.incoming = None;
                    }
                }
                Poll::Ready(Some(Err(error))) => self.fail(error.into()),
                Poll::Ready(None) => self.incoming = None,
                Poll::Pending if self.gathered.len() == 0 => {
                    if self.has_paused_too_long(cx) {
                        self.fail("the upstream paused for too long".into());
                    } else {
                        return Poll::Pending;
                    }
                }
                Poll::Pending if self.turns == TURNS => break,
                Poll::Pending => {
                    self.turns += 1;
                    step_back(cx);
                    return Poll::Pending;
                }
            }
        }
        self.turns = 0;
        if let Some(bytes) = self.gathered.take() {
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        }
        self.is_ended = true;
        if let Some(failure) = self.failure.take() {
            return Poll::Ready(Some(Err(failure)));
        }
        Poll::Ready(self.trailers.take().map(Ok))
    }

    fn take_in(&mut self, frame: Frame<Bytes>) {
        self.turns = 0;
        let piece = match frame.into_data() {
            Ok(piece) => piece,
            Err(trailers) => {
                self.trailers = Some(trailers);
                return;
            }
        };
        let Some(cutter) = &mut self.changes.cutter else {
            return self.give(piece);
        };
        let (is_paced, waiting) = (self.changes.is_paced, &mut self.waiting);
        let mut passed = Vec::with_capacity(piece.len());
        let fed = cutter.feed(&piece, |event, tokens| {
            if is_paced {
                waiting.push_back((Bytes::copy_from_slice(event), tokens));
            } else {
                passed.extend_from_slice(event);
            }
        });
        if cutter.is_cut() {
            self.incoming = None;
        }
        if !passed.is_empty() {
            self.give(passed.into());
        }
        if fed.is_err() {
            self.fail("the answer can't be counted".into());
        }
    }

    /// Whether events wait for tokens that are not there yet; those that need not wait go.
    fn has_to_wait(&mut self, cx: &mut Context<'_>) -> bool {
        while let Some((event, tokens)) = self.waiting.pop_front() {
            let taken = self.recorded.as_mut().map_or(Ok(()), |r| r.underway.take(tokens));
            let Err(short) = taken else {
                self.give(event);
                continue;
            };
            self.waiting.push_front((event, short.tokens));
            let until = Instant::now() + short.duration;
            let room = self.room.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
            room.as_mut().reset(until);
            if room.as_mut().poll(cx).is_pending() {
                return true;
            }
        }
        false
    }

    /// Ends the stream where the account's verdict has become one that shuts it out.
    fn follow_verdict(&mut self) {
        if !self.changes.follows_verdict || self.ending.is_some() || self.is_complete {
            return;
        }
        let Some(ending) = self.recorded.as_mut().and_then(|r| r.underway.shut_out()) else {
            return;
        };
        self.waiting.clear();
        // Changed streams are given in whole events; others may be within one.
        let is_between = self.changes.cutter.is_some()
            || self.changes.thinner.is_some()
            || self.changes.binder.is_some()
            || self.recorded.as_ref().is_some_and(|r| r.answer.unfinished_bytes() == Some(0));
        if is_between {
            self.end_with(&ending);
        } else {
            self.ending = Some(ending);
        }
    }

    /// Gives the events that end the stream, and nothing after them.
    fn end_with(&mut self, ending: &Bytes) {
        self.gathered.push(ending.clone());
        (self.incoming, self.changes) = (None, Changes::default());
        self.is_complete = true;
        if let Some(mut recorded) = self.recorded.take() {
            recorded.is_shut_out = true;
            recorded.end(false);
        }
    }

    /// Measures a piece and gives it on.
    fn give(&mut self, mut piece: Bytes) {
        if let Some(recorded) = &mut self.recorded {
            recorded.answer.feed(&piece);
            if let Some(ending) = self.ending.clone() {
                match recorded.answer.unfinished_bytes() {
                    Some(rest) if rest < piece.len() => {
                        piece.truncate(piece.len() - rest);
                        self.gathered.push(piece);
                        return self.end_with(&ending);
                    }
                    Some(_) => {}
                    None => return self.fail("a verdict has ended the answer".into()),
                }
            }
        }
        let thinned = match &mut self.changes.thinner {
            None => Ok(piece),
            Some(thinner) => thinner.feed(&piece).map(Bytes::from),
        };
        let bound = thinned.and_then(|piece| match &mut self.changes.binder {
            None => Ok(piece),
            Some(binder) => binder.feed(&piece).map(Bytes::from),
        });
        match bound {
            Ok(piece) => self.gathered.push(piece),
            Err(NotThinned) => self.fail("the answer can't be changed as it has to be".into()),
        }
    }

    fn has_paused_too_long(&mut self, cx: &mut Context<'_>) -> bool {
        let until = Instant::now() + self.pause;
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
        if !self.is_paused {
            self.is_paused = true;
            timer.as_mut().reset(until);
        }
        timer.as_mut().poll(cx).is_ready()
    }

    /// All has been said.
    fn complete(&mut self) {
        if self.is_complete {
            return;
        }
        let rest = self.changes.cutter.take().map(Cutter::finish).unwrap_or_default();
        if !rest.is_empty() {
            self.give(rest.into());
        }
        if self.failure.is_some() || self.is_complete {
            return;
        }
        self.is_complete = true;
        let rest = self.changes.thinner.take().map_or(Ok(Vec::new()), Thinner::finish);
        let bound = rest.and_then(|rest| match self.changes.binder.take() {
            None => Ok(rest),
            Some(mut binder) => {
                let mut bound = binder.feed(&rest)?;
                bound.extend(binder.finish());
                Ok(bound)
            }
        });
        match bound {
            Ok(rest) => {
                self.gathered.push(rest.into());
                self.record(false);
            }
            Err(NotThinned) => self.fail("the answer can't be changed as it has to be".into()),
        }
    }

    /// The answer breaks off; the client's connection is cut, so that it can't take
    /// what came for the whole.
    fn fail(&mut self, why: BoxError) {
        self.failure.get_or_insert(why);
        self.record(true);
    }

    fn record(&mut self, is_aborted: bool) {
        if let Some(recorded) = self.recorded.take() {
            recorded.end(is_aborted);
        }
    }
}

impl Drop for Relay {
    /// The client has gone before the end.
    fn drop(&mut self) {
        self.record(true);
    }
}

impl Recorded {
    fn end(self, is_aborted: bool) {
        let Recorded { mut underway, answer, status, is_shut_out } = self;
        let mut measured: Measured = answer.finish();
        if is_aborted || is_shut_out {
            let reason = if is_shut_out { "refused" } else { "aborted" };
            measured.response_finish_reason = Some(reason.to_owned());
        }
        underway.end(Some(status), &measured);
    }
}

use std::future::Future as _;

//! Bodies on their way to the client.
//!
//! hyper gives an answer's pieces one by one, as its connection's task reads them, and
//! would write each of them by itself. A relay collects what is ready and gives it on in
//! one piece, so that a burst of events costs one write. It never waits for more: when
//! nothing further is ready at once, what is there goes out.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

use crate::answer::{Answer, Measured};
use crate::gateway::Underway;
use crate::thin::Thinner;

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
            Reply::Relay(relay) if relay.thinner.is_none() => relay.incoming.size_hint(),
            Reply::Relay(_) => SizeHint::default(),
        }
    }
}

/// An exchange that is recorded when its answer ends.
#[derive(Debug)]
pub struct Recorded {
    pub underway: Underway,
    pub answer: Answer,
    pub status: u16,
}

/// An answer that passes.
#[derive(Debug)]
pub struct Relay {
    incoming: Incoming,
    /// None for what is no exchange, and once the end is recorded.
    recorded: Option<Recorded>,
    thinner: Option<Thinner>,
    /// How long the upstream may pause.
    pause: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    is_paused: bool,
    /// How often the upstream's connection was given a turn to bring more.
    turns: u8,
    gathered: Gathered,
    trailers: Option<Frame<Bytes>>,
    failure: Option<BoxError>,
    /// The upstream has said all.
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
        thinner: Option<Thinner>,
        pause: Duration,
    ) -> Self {
        let mut relay = Relay {
            is_complete: incoming.is_end_stream(),
            incoming,
            recorded,
            thinner,
            pause,
            timer: None,
            is_paused: false,
            turns: 0,
            gathered: Gathered::None,
            trailers: None,
            failure: None,
            is_ended: false,
        };
        if relay.is_complete {
            relay.record(false);
            relay.is_ended = relay.thinner.is_none();
        }
        relay
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.is_ended {
            return Poll::Ready(None);
        }
        while !self.is_complete && self.failure.is_none() {
            match Pin::new(&mut self.incoming).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    self.is_paused = false;
                    self.take_in(frame);
                    if self.incoming.is_end_stream() {
                        self.complete();
                    }
                    if self.gathered.len() >= WRITE_BYTES {
                        break;
                    }
                }
                Poll::Ready(Some(Err(error))) => self.fail(error.into()),
                Poll::Ready(None) => self.complete(),
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
        match frame.into_data() {
            Ok(piece) => {
                if let Some(recorded) = &mut self.recorded {
                    recorded.answer.feed(&piece);
                }
                match &mut self.thinner {
                    None => self.gathered.push(piece),
                    Some(thinner) => match thinner.feed(&piece) {
                        Ok(thinned) => self.gathered.push(thinned.into()),
                        Err(_) => self.fail("the answer can't be thinned".into()),
                    },
                }
            }
            Err(trailers) => self.trailers = Some(trailers),
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

    /// The upstream has said all.
    fn complete(&mut self) {
        if self.is_complete {
            return;
        }
        self.is_complete = true;
        match self.thinner.take().map(Thinner::finish) {
            None => self.record(false),
            Some(Ok(rest)) => {
                self.gathered.push(rest.into());
                self.record(false);
            }
            Some(Err(_)) => self.fail("the answer can't be thinned".into()),
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
        let Recorded { mut underway, answer, status } = self;
        let mut measured: Measured = answer.finish();
        if is_aborted {
            measured.response_finish_reason = Some("aborted".to_owned());
        }
        underway.end(Some(status), &measured);
    }
}

use std::future::Future as _;

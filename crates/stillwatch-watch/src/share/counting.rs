//! Counting: one share's part of a watch. It counts what is its own, says how far it has
//! come, and gives its pieces to the one that looks when that one asks for them.
//!
//! A share may be faster than others. Once its own exchanges show that the step before the
//! next look is over it reads on only as far as all others have come, so that what it
//! keeps of later steps stays about that of one.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use stillwatch_broker::{Follower, StreamPlace};
use xxhash_rust::xxh3::xxh3_64;

use super::outbox::write;
use super::words::{Entry, Report, Word};
use crate::feed::Chunk;
use crate::settings::{ShareNumber, WatchError};
use crate::watch::{Watch, Watched};

/// How long another word is waited for before it is looked whether to end.
const WAIT: Duration = Duration::from_millis(50);
/// How often others are waited for before that is told.
const WAITS_UNTOLD: u32 = 200;

/// See the module's head.
pub(super) struct Counter<'a> {
    pub share: ShareNumber,
    pub watch: Watch<'a>,
    pub workers: &'a rayon::ThreadPool,
    pub follower: Follower,
    /// The last message that is to be sent, and what wakes who sends it.
    pub written: &'a AtomicU64,
    pub wake: SyncSender<()>,
    /// The last message that has arrived.
    pub sent: &'a AtomicU64,
    /// When the stream was made that is counted.
    pub made_ns: i64,
    pub word: Word,
    pub entries: Vec<Entry>,
    /// The message of the stream up to which is counted.
    pub reached: u64,
    /// The releases that are counted around, as a hash.
    pub releases: u64,
}

/// A hash of releases: what shares have to have alike.
pub(super) fn releases_hash(releases: &[(stillwatch_exchange::Time, u64)]) -> u64 {
    let mut releases: Vec<(i64, u64)> = releases.iter().map(|(time, m)| (time.0, *m)).collect();
    releases.sort_unstable();
    let bytes: Vec<u8> =
        releases.iter().flat_map(|(t, m)| [t.to_le_bytes(), m.to_le_bytes()].concat()).collect();
    xxh3_64(&bytes)
}

impl Counter<'_> {
    pub fn run(mut self) -> Result<Watched, WatchError> {
        let mut first = true;
        // What is there at the beginning goes to the end of the stream as it was then.
        let mut end = None;
        loop {
            self.watch.feed.scan(first)?;
            first = false;
            self.obey()?;
            let mut has_read = false;
            while {
                let feed = &mut self.watch.feed;
                self.workers.install(|| feed.refill())
            } {
                while let Some(chunk) = self.watch.feed.pop() {
                    has_read = true;
                    self.count(&chunk)?;
                    if !self.hold()? || self.watch.host.is_stopped() {
                        return self.end();
                    }
                }
            }
            self.watch.tell_problems();
            self.commit(None)?;
            if has_read {
                continue;
            }
            if self.watch.feed.is_caught_up() {
                end = end.or(Some(self.reached));
            }
            if self.watch.settings.once && end.is_some_and(|end| self.is_over(end)) {
                return self.end();
            }
            if self.watch.host.is_stopped() {
                return self.end();
            }
            self.follower.wait(WAIT);
        }
    }

    /// Whether the last look has all that it needs of this share.
    fn is_over(&self, end: u64) -> bool {
        let counting = self.watch.meta.counting.as_ref();
        let has_said_all = counting.is_some_and(|counting| {
            counting.answered >= self.word.cut
                && counting.written <= self.sent.load(Ordering::Acquire)
        });
        self.word.ended.is_some_and(|ended| ended >= end) && has_said_all
    }

    fn end(mut self) -> Result<Watched, WatchError> {
        self.commit(None)?;
        self.watch.watched.counts = self.watch.meta.counts.clone();
        Ok(self.watch.watched)
    }

    fn count(&mut self, chunk: &Chunk) -> Result<(), WatchError> {
        let ticks = self.watch.count(chunk, self.workers);
        let Some(StreamPlace { made_ns, sequence }) = chunk.stream_place() else { return Ok(()) };
        if made_ns != self.made_ns {
            return Err(WatchError::Usage(
                "the stream was made anew while its shares counted it; begin with another \
                 --through and a new --state for each share"
                    .to_owned(),
            ));
        }
        self.reached = sequence;
        if !ticks.is_empty() {
            self.entries.push((sequence, ticks.into_iter().collect()));
        }
        Ok(())
    }

    /// Whether this share's own exchanges show that the next look may be due.
    fn is_ahead(&self) -> bool {
        self.word.next.is_none() || self.watch.clock.due().is_some()
    }

    /// Waits for the others where this share is ahead of them; false where it is to end.
    fn hold(&mut self) -> Result<bool, WatchError> {
        if self.watch.is_full() {
            self.commit(None)?;
        }
        if !self.is_ahead() {
            return Ok(true);
        }
        self.commit(None)?;
        for waits in 0_u32.. {
            self.obey()?;
            // The one that is behind all others goes on in any case.
            let is_last = self.word.ended.is_some();
            if !self.is_ahead() || self.reached <= self.word.counted || is_last {
                return Ok(true);
            }
            if self.watch.host.is_stopped() {
                return Ok(false);
            }
            self.watch.tell_problems();
            if waits == WAITS_UNTOLD {
                let others = match self.word.next {
                    Some(_) => "others, which have not come as far",
                    None => "the first, which looks",
                };
                self.watch.host.say(&format!("share {} waits for {others}", self.share));
            }
            self.follower.wait(WAIT);
        }
        Ok(true)
    }

    /// Does what the one that looks has said last.
    fn obey(&mut self) -> Result<(), WatchError> {
        let Some(word) = self.follower.news() else { return Ok(()) };
        let word = Word::parse(&word).map_err(WatchError::Usage)?;
        if word == self.word {
            return Ok(());
        }
        if let Some(next) = word.next
            && self.watch.clock.state.next != Some(next)
        {
            self.watch.clock.go_to(next);
        }
        let answered = self.watch.meta.counting.as_ref().map_or(0, |c| c.answered);
        self.word = word;
        if self.word.cut > answered {
            self.commit(Some(self.word.cut))?;
            self.watch.meta.looked = self.word.next;
        }
        Ok(())
    }

    /// Stores what was counted, with the report of it and the answer to a cut.
    fn commit(&mut self, cut: Option<u64>) -> Result<(), WatchError> {
        let watch = &mut self.watch;
        let files = watch.feed.changes();
        if cut.is_none() && watch.deltas.is_empty() && files.is_empty() && self.entries.is_empty() {
            return Ok(());
        }
        let bounds = watch.bounds(false);
        watch.meta.clock = watch.clock.state.clone();
        let report = Report {
            reached: self.reached,
            entries: std::mem::take(&mut self.entries),
            counts: watch.meta.counts.clone(),
            releases: self.releases,
        };
        let sent = self.sent.load(Ordering::Acquire);
        let (store, deltas, meta) = (&watch.store, &watch.deltas, &mut watch.meta);
        self.workers.install(|| {
            store.commit_with(deltas, &files, meta, &bounds, |transaction, meta| {
                write(store, transaction, meta, Some(report), cut, sent)
            })
        })?;
        watch.deltas.clear();
        watch.since_checkpoint = 0;
        let written = watch.meta.counting.as_ref().map_or(0, |counting| counting.written);
        self.written.store(written, Ordering::Release);
        // Where it is full, the sender is awake.
        let _ = self.wake.try_send(());
        Ok(())
    }
}

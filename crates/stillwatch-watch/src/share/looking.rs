//! Looking: the part of the first share that hears of all of them. From what they report it
//! knows how far event time has come in the whole stream, asks for their pieces when a
//! look is due, puts them together in a store of its own and hunts in them.
//!
//! The reports of all shares are taken in the order of the stream, up to the message that
//! the slowest has reached, so that looks are due where they would be if one process had
//! read it. A look is taken when every share has answered; nothing is guessed from how long
//! one is silent.
//!
//! Bound: the pieces of the window, as in any watch, and [`ENTRIES_MAX`] reported parts of
//! the stream of each share; beyond it neighbours are put together.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use stillwatch_broker::{
    BrokerError, Message as Sent, Reader, Server, StreamPlace, Through, outside,
};
use stillwatch_detect::observe::{Link, Observer};
use stillwatch_detect::piece::Piece;
use stillwatch_hunt::{KeptAccounts, Progress};
use tokio::runtime::Handle;

use super::words::{Entry, Message, What, Word, halved, read_rows};
use crate::clock::Clock;
use crate::deltas::Deltas;
use crate::settings::{PARTITIONS, ShareNumber, WatchError, WatchSettings};
use crate::store::{Bounds, Counts, Meta, Store, decoded};
use crate::watch::{DELTA_BYTES_MAX, Host, Watched};
use crate::window::{Known, Look, Releases, Window};

/// Reported parts of the stream that are kept of a share.
const ENTRIES_MAX: usize = 1 << 16;
/// How long a message is waited for before it is looked whether to end.
const WAIT: Duration = Duration::from_millis(50);
/// How often nothing comes before it is told for whom is waited.
const WAITS_UNTOLD: u32 = 200;
/// Messages after which what was taken is removed from the stream.
const TAKEN_MAX: u64 = 256;

/// What is kept of the shares, in the same transaction as their pieces.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Looking {
    /// When the stream was made through which they speak, and the last message taken.
    pub through_ns: i64,
    pub taken: u64,
    pub shares: Vec<Heard>,
    /// The last look for which shares were asked for their pieces.
    pub cut: u64,
    /// It is not over.
    pub is_cut: bool,
    /// Where the stream ended when the last look was taken because no more was to come.
    pub ended: Option<u64>,
}

/// What a share has said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Heard {
    /// The number of its last message; 0 for none.
    pub number: u64,
    /// The place of that message in the stream of messages.
    pub place: u64,
    pub reached: u64,
    pub counts: Counts,
    /// What it has reported of parts of the stream that not all have reached.
    pub entries: VecDeque<Entry>,
    /// Where it was when it answered the last cut.
    pub done: Option<u64>,
}

/// See the module's head.
pub(super) struct Looker<'a> {
    pub settings: &'a WatchSettings,
    pub share: ShareNumber,
    pub host: &'a dyn Host,
    pub progress: &'a Arc<dyn Progress>,
    pub workers: &'a rayon::ThreadPool,
    pub releases: &'a Releases,
    pub accounts: KeptAccounts,
    /// The releases, as shares tell them.
    pub releases_hash: u64,
    pub runtime: &'a Handle,
    /// Where the stream of exchanges is.
    pub exchanges: &'a Server,
    pub through: &'a Through,
    pub reader: Reader,
    pub store: Store,
    pub meta: Meta,
    pub clock: Clock,
    pub deltas: Deltas,
    /// Where the stream ended at the beginning.
    pub end: u64,
    pub told: Option<Word>,
    pub is_changed: bool,
    /// Messages that were taken and not removed from the stream.
    pub taken: u64,
    pub watched: Watched,
    pub said: Option<String>,
    pub has_said_outside: bool,
}

impl Looking {
    pub fn new(shares: u32, through: &Through) -> Self {
        Looking {
            through_ns: through.made_ns(),
            shares: vec![Heard::default(); shares as usize],
            ..Looking::default()
        }
    }

    /// How far all shares have come; none while there is one that was never heard.
    fn counted(&self) -> Option<u64> {
        let reached = |share: &Heard| (share.number > 0).then_some(share.reached);
        self.shares.iter().map(reached).collect::<Option<Vec<u64>>>()?.into_iter().min()
    }

    /// The next reported part of the stream that all shares have reached.
    fn next_entry(&mut self, counted: u64) -> Option<Entry> {
        let first = |share: &Heard| share.entries.front().map(|entry| entry.0);
        let (place, end) = self
            .shares
            .iter()
            .enumerate()
            .filter_map(|(place, share)| Some((place, first(share)?)))
            .min_by_key(|(_, end)| *end)?;
        if end <= counted { self.shares[place].entries.pop_front() } else { None }
    }

    /// Numbers of shares, for people.
    fn numbers(&self, is_one: impl Fn(&Heard) -> bool) -> Option<String> {
        let numbers = self.shares.iter().zip(1_u32..).filter(|(share, _)| is_one(share));
        let numbers: Vec<String> = numbers.map(|(_, number)| number.to_string()).collect();
        match numbers.as_slice() {
            [] => None,
            [one] => Some(format!("share {one}")),
            several => Some(format!("shares {}", several.join(", "))),
        }
    }
}

/// Adds the pieces of a message's rows.
pub(super) fn merge(rows: &[u8], observer: &Observer, deltas: &mut Deltas) -> Result<(), String> {
    let rows = read_rows(rows)?;
    let pieces: Result<Vec<(u64, Piece)>, String> = rows
        .par_iter()
        .map(|(_, account, piece)| Ok((observer.hash(Link::Account, account), decoded(piece)?)))
        .collect();
    for ((epoch, account, _), (hash, piece)) in rows.iter().zip(pieces?) {
        deltas.merge(hash, account, (*epoch, 0), &piece);
    }
    Ok(())
}

/// What came of going on.
#[derive(PartialEq, Eq)]
enum Gone {
    /// Shares have to say more first.
    Waits,
    /// There is nothing more to do.
    Over,
}

impl Looker<'_> {
    pub fn run(mut self) -> Result<Watched, WatchError> {
        let mut waits = 0;
        self.say_what_is_outside();
        loop {
            let mut has_read = false;
            while let Some(sent) = self.reader.next_up_to(usize::MAX) {
                has_read = true;
                self.take(&sent)?;
                if self.deltas.bytes() >= DELTA_BYTES_MAX {
                    self.commit(false)?;
                }
                if self.host.is_stopped() {
                    break;
                }
            }
            self.reader.problems().iter().for_each(|problem| self.host.say(problem));
            let is_over = self.go_on()? == Gone::Over;
            if is_over || self.host.is_stopped() {
                self.commit(false)?;
                self.watched.counts = self.counts();
                return Ok(self.watched);
            }
            if has_read {
                waits = 0;
                continue;
            }
            self.tell();
            self.commit(false)?;
            waits += 1;
            if waits == WAITS_UNTOLD {
                self.say_who_is_waited_for();
            }
            self.reader.wait(WAIT);
        }
    }

    fn looking(&mut self) -> &mut Looking {
        self.meta.looking.get_or_insert_default()
    }

    /// What has become of all rows of all shares.
    fn counts(&self) -> Counts {
        let mut sum = Counts::default();
        let shares = self.meta.looking.iter().flat_map(|looking| &looking.shares);
        for Counts { exchanges, late, before_window, ahead, accounts_full, refused } in
            shares.map(|share| &share.counts)
        {
            sum.exchanges += exchanges;
            sum.late += late;
            sum.before_window += before_window;
            sum.ahead += ahead;
            sum.accounts_full += accounts_full;
            for (reason, count) in refused {
                *sum.refused.entry(reason.clone()).or_default() += count;
            }
        }
        // Accounts that are too many here gave way in no share.
        sum.accounts_full += self.meta.counts.accounts_full;
        sum
    }

    /// Takes a share's message.
    fn take(&mut self, sent: &Sent) -> Result<(), WatchError> {
        let place = self.through.place().to_owned();
        let broken = |what: String| WatchError::Usage(format!("{place}: {what}"));
        let StreamPlace { made_ns, sequence } = sent.place;
        if made_ns != self.looking().through_ns {
            return Err(broken(
                "it was made anew, and what shares have sent there is gone; begin with a new \
                 --state for each share"
                    .to_owned(),
            ));
        }
        let message = Message::parse(&sent.payload)
            .map_err(|what| broken(format!("message {sequence}: {what}")))?;
        let Message { share, of, number, what, rows } = message;
        if of != self.share.of || !(1..=of).contains(&share) {
            return Err(broken(format!("message {sequence} is of share {share}/{of}")));
        }
        let known = &mut self.looking().shares[share as usize - 1];
        if number == known.number && number > 0 {
            // Its arrival was not confirmed for so long that the server has forgotten its id.
            self.looking().taken = sequence;
            self.is_changed = true;
            return Ok(());
        }
        if number != known.number + 1 {
            return Err(broken(format!(
                "message {number} of share {share} comes after its message {}: its state was \
                 lost, or messages were removed. Begin with another --through and a new --state \
                 for each share",
                known.number
            )));
        }
        (known.number, known.place) = (number, sequence);
        match what {
            What::Report(report) => {
                known.reached = report.reached;
                known.counts = report.counts;
                known.entries.extend(report.entries);
                if known.entries.len() > ENTRIES_MAX {
                    known.entries = halved(std::mem::take(&mut known.entries).into()).into();
                }
                if report.releases != self.releases_hash {
                    self.say_once(format!(
                        "share {share} counts around other --releases than the one that looks"
                    ));
                }
            }
            What::Done { cut } => {
                known.done = Some(known.reached);
                let asked = self.looking().cut;
                if cut != asked {
                    return Err(broken(format!(
                        "share {share} has answered for look {cut}, and was asked for {asked}"
                    )));
                }
            }
            What::Pieces { .. } => {
                let (observer, deltas) = (&self.store.observer, &mut self.deltas);
                let merged = self.workers.install(|| merge(&rows, observer, deltas));
                merged.map_err(|what| broken(format!("message {sequence}: {what}")))?;
            }
        }
        self.looking().taken = sequence;
        self.taken += 1;
        self.is_changed = true;
        Ok(())
    }

    fn bounds(&self, is_exact: bool) -> Bounds {
        Bounds::of(&self.clock, self.settings, is_exact)
    }

    fn commit(&mut self, is_exact: bool) -> Result<(), WatchError> {
        if !self.is_changed && !is_exact {
            return Ok(());
        }
        let bounds = self.bounds(is_exact);
        self.meta.clock = self.clock.state.clone();
        let files = BTreeMap::<String, Option<()>>::new();
        let (store, deltas, meta) = (&self.store, &self.deltas, &mut self.meta);
        self.workers.install(|| store.commit(deltas, &files, meta, &bounds))?;
        self.deltas.clear();
        self.is_changed = false;
        if self.taken >= TAKEN_MAX {
            self.forget();
        }
        Ok(())
    }

    /// Removes from the stream what is in the store, all but the last message of each share,
    /// which tells how far it is.
    fn forget(&mut self) {
        for (share, number) in self.meta.looking.iter().flat_map(|l| &l.shares).zip(1_u32..) {
            let gone = self.through.forget(number, share.place);
            // Another time, if the server is away.
            if self.runtime.block_on(gone).is_err() {
                return;
            }
        }
        self.taken = 0;
    }

    /// Goes on with the clock and with looks, as far as what shares have said allows.
    fn go_on(&mut self) -> Result<Gone, WatchError> {
        loop {
            if self.host.is_stopped() {
                return Ok(Gone::Waits);
            }
            if self.looking().is_cut {
                let is_all = self.looking().shares.iter().all(|share| share.done.is_some());
                if !is_all || !self.look()? {
                    return Ok(Gone::Waits);
                }
                if self.looking().ended.is_some() && self.is_at_end() {
                    return Ok(Gone::Over);
                }
                continue;
            }
            let Some(counted) = self.looking().counted() else { return Ok(Gone::Waits) };
            if let Some(next) = self.clock.due() {
                self.turn_to(next)?;
                continue;
            }
            if let Some((_, ticks)) = self.looking().next_entry(counted) {
                for (tick, exchanges) in ticks {
                    self.clock.count(tick, exchanges);
                }
                self.clock.begin(false);
                self.is_changed = true;
                continue;
            }
            if !self.is_at_end() {
                self.looking().ended = None;
                return Ok(Gone::Waits);
            }
            // Nothing more will come.
            self.clock.begin(true);
            match (self.clock.state.next, self.clock.end()) {
                (Some(next), Some(end)) if next < end => self.turn_to(next)?,
                // It was taken, and nothing has come since.
                _ if self.looking().ended == Some(counted) => {
                    self.look()?;
                    return Ok(Gone::Over);
                }
                _ => {
                    self.looking().ended = Some(counted);
                    self.cut()?;
                }
            }
        }
    }

    /// Whether all shares have counted what was there at the beginning, and that is to be
    /// all.
    fn is_at_end(&mut self) -> bool {
        let end = self.end;
        self.settings.once && self.looking().counted().is_some_and(|counted| counted >= end)
    }

    /// The step before `next` is over: asks for what the look there has to see, or goes on
    /// where that is nothing.
    fn turn_to(&mut self, next: i64) -> Result<(), WatchError> {
        self.is_changed = true;
        if self.clock.has_news() {
            return self.cut();
        }
        self.meta.looked = Some(next);
        self.clock.went_on();
        Ok(())
    }

    /// Asks all shares for what they have counted before the next look.
    fn cut(&mut self) -> Result<(), WatchError> {
        let looking = self.looking();
        looking.cut += 1;
        looking.is_cut = true;
        looking.shares.iter_mut().for_each(|share| share.done = None);
        // What was asked stays so, whatever happens.
        self.is_changed = true;
        self.commit(false)?;
        self.tell();
        Ok(())
    }

    /// Takes the look for which all shares have answered; says whether it came to its end.
    fn look(&mut self) -> Result<bool, WatchError> {
        let Some(next) = self.clock.state.next else {
            // Nothing has come at all.
            self.looking().is_cut = false;
            self.is_changed = true;
            return Ok(true);
        };
        self.host.looking();
        self.commit(true)?;
        let known =
            Known { hours: self.hours(next), refused: self.counts().refused, problems: Vec::new() };
        let look = Look {
            store: &self.store,
            settings: self.settings,
            releases: self.releases,
            accounts: &self.accounts,
            workers: self.workers,
            progress: self.progress,
        };
        match look.hunt(&self.clock, next, known, |_| None)? {
            Window::Stopped => return Ok(false),
            Window::Empty => {}
            Window::Hunted(hunted) => {
                self.host.found(*hunted).map_err(WatchError::Findings)?;
                self.watched.looks += 1;
                self.watched.until = Some(self.clock.start(next));
            }
        }
        self.looking().is_cut = false;
        if self.looking().ended.is_none() {
            self.meta.looked = Some(next);
            self.clock.went_on();
        }
        self.is_changed = true;
        self.commit(false)?;
        self.forget();
        self.tell();
        self.say_what_is_outside();
        Ok(true)
    }

    /// Says what no share is sent.
    fn say_what_is_outside(&mut self) {
        // Where the server is away, another time.
        let outside = self.runtime.block_on(outside(self.exchanges, PARTITIONS)).unwrap_or(0);
        if outside > 0 && !std::mem::replace(&mut self.has_said_outside, true) {
            self.host.say(&format!(
                "{} has {outside} messages that no share counts: their subject is not \
                 STREAM.P.NAME with P from 0 to {}",
                self.exchanges.place(),
                PARTITIONS - 1
            ));
        }
    }

    /// Exchanges by hour, as the shares' pieces hold them: also what was counted beyond the
    /// part of the stream that all have reached.
    fn hours(&self, next: i64) -> Vec<(i64, u64)> {
        let mut clock = self.clock.clone();
        for share in self.meta.looking.iter().flat_map(|looking| &looking.shares) {
            let is_in = |entry: &&Entry| share.done.is_some_and(|done| entry.0 <= done);
            for (tick, exchanges) in share.entries.iter().filter(is_in).flat_map(|e| &e.1) {
                if *tick < clock.end_tick(next) {
                    clock.count(*tick, *exchanges);
                }
            }
        }
        clock.hours(next)
    }

    /// Tells shares how far it is, if that has changed.
    fn tell(&mut self) {
        let looking = self.looking();
        let (counted, cut, ended) =
            (looking.counted().unwrap_or_default(), looking.cut, looking.ended);
        let next = self.clock.state.next;
        let word = Word { next, counted, cut, ended, ..Word::default() };
        if self.told.as_ref() == Some(&word) {
            return;
        }
        let told: Result<(), BrokerError> =
            self.runtime.block_on(self.through.tell(word.to_bytes().into()));
        match told {
            Ok(()) => self.told = Some(word),
            // It is told when nothing else is to be done.
            Err(error) => self.say_once(format!("shares can't be told what to do yet: {error}")),
        }
    }

    fn say_once(&mut self, what: String) {
        if self.said.as_ref() != Some(&what) {
            self.host.say(&what);
            self.said = Some(what);
        }
    }

    fn say_who_is_waited_for(&mut self) {
        let is_cut = self.looking().is_cut;
        let next = self.clock.state.next.map(|next| self.clock.start(next));
        let looking = self.looking();
        let furthest = looking.shares.iter().map(|share| share.reached).max();
        let what = if let Some(missing) = looking.numbers(|share| share.number == 0) {
            format!("{missing} of {} has not come yet", looking.shares.len())
        } else if is_cut {
            let Some(missing) = looking.numbers(|share| share.done.is_none()) else { return };
            let until = next.map_or_else(String::new, |time| format!(" until {time}"));
            format!("the look waits for what {missing} has counted{until}")
        } else if let Some(behind) = looking.numbers(|share| Some(share.reached) != furthest) {
            format!("{behind} has not come as far as the others")
        } else {
            return;
        };
        self.say_once(what);
    }
}

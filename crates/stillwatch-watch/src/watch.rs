//! The watch itself: what is read is counted, and looked at when event time has come far
//! enough.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;

use stillwatch_broker::{Part, Reader};
use stillwatch_detect::observe::Glance;
use stillwatch_detect::piece::releases_near;
use stillwatch_exchange::Time;
use stillwatch_hunt::{Hunted, KeptAccounts, Progress};

use crate::clock::Clock;
use crate::deliveries::{self, Deliveries, Trouble};
use crate::deltas::{Deltas, Placed};
use crate::feed::{Chunk, Feed, Position};
use crate::settings::{WatchError, WatchSettings};
use crate::share;
use crate::spool::Spool;
use crate::store::{Bounds, Counts, Meta, Store};
use crate::window::{Known, Look, Releases, Window};

/// Memory for what came since the last checkpoint, beyond which one is taken, in bytes.
pub(crate) const DELTA_BYTES_MAX: usize = 512 << 20;
/// Exchanges after which a checkpoint is taken: what a process that was killed has to read
/// again.
const CHECKPOINT_EXCHANGES: u64 = 2_000_000;
/// Releases near an epoch are remembered for so many epochs.
const RELEASE_EPOCHS: i64 = 8;

/// Who runs a watch: whoever has a clock, a terminal and a place for findings.
pub trait Host: Sync {
    /// Called when all that is there has been read: waits until there may be more. `false`
    /// ends the watch.
    fn wait(&self) -> bool;

    /// Whether the watch is to end now.
    fn is_stopped(&self) -> bool;

    /// A look begins.
    fn looking(&self) {}

    /// A look was taken. The findings go where they are followed.
    ///
    /// # Errors
    /// They can't be put there; the watch ends, and takes this look again when it is run
    /// again.
    fn found(&self, hunted: Hunted) -> Result<(), String>;

    /// So many exchanges have been counted since the state was begun.
    fn counted(&self, exchanges: u64);

    /// Something that whoever runs it should know.
    fn say(&self, what: &str);
}

/// What a watch did until it ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Watched {
    pub counts: Counts,
    pub looks: u64,
    /// The end of the last look's window.
    pub until: Option<Time>,
}

/// What a state takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StateSize {
    /// Pieces of accounts, each of one epoch or a part of one.
    pub pieces: u64,
    /// Bytes of the pieces in the database, what it needs to find them included.
    pub piece_bytes: u64,
    /// Bytes of its file.
    pub file_bytes: u64,
}

/// Measures the state of a watch that has ended.
///
/// # Errors
/// As [`watch`].
pub fn state_size(settings: &WatchSettings) -> Result<StateSize, WatchError> {
    let (store, _) = Store::open(&settings.state, settings.pace, settings.hunt.key)?;
    store.size()
}

/// A stream that can't be read again.
pub type Stream = Box<dyn Read + Send>;

/// What is counted beside files.
#[derive(Default)]
pub struct Inputs {
    /// Its end ends the watch, unless there are deliveries.
    pub stream: Option<Stream>,
    /// They never end.
    pub deliveries: Option<Deliveries>,
}

pub(crate) struct Watch<'a> {
    pub settings: &'a WatchSettings,
    pub host: &'a dyn Host,
    progress: Arc<dyn Progress>,
    pub store: Arc<Store>,
    pub feed: Feed,
    pub clock: Clock,
    pub meta: Meta,
    pub deltas: Deltas,
    pub releases: Releases,
    accounts: KeptAccounts,
    /// The releases near each epoch.
    near: BTreeMap<i64, Vec<(i64, u64)>>,
    spool: PathBuf,
    pub since_checkpoint: u64,
    /// None where nothing is delivered.
    trouble: Option<Trouble>,
    pub watched: Watched,
    said: std::collections::BTreeSet<String>,
}

/// Watches until there is nothing more or the host ends it. `inputs` are followed beside
/// the paths. Blocks; its own threads do the work.
///
/// # Errors
/// Unusable arguments or state, or the machine fails. A row or a file that can't be read
/// is counted or told of, and the watch goes on.
pub fn watch(
    settings: &WatchSettings,
    inputs: Inputs,
    host: &dyn Host,
    progress: Arc<dyn Progress>,
) -> Result<Watched, WatchError> {
    let workers = rayon::ThreadPoolBuilder::new()
        .num_threads(settings.hunt.threads.max(1))
        .build()
        .map_err(|e| WatchError::Io { path: "threads".into(), source: std::io::Error::other(e) })?;
    if settings.hunt.exchanges.iter().any(|path| path.contains("://")) {
        return Err(WatchError::Usage(
            "files and folders of this machine and streams nats://HOST:PORT/STREAM can be followed, \
             other URLs can not".to_owned(),
        ));
    }
    let Inputs { stream, deliveries } = inputs;
    if settings.once && deliveries.is_some() {
        return Err(WatchError::Usage(
            "what is received never ends: leave out either --once or the receiver".to_owned(),
        ));
    }
    let is_spooled = stream.is_some() || deliveries.is_some();
    if let Some(share) = &settings.share {
        if is_spooled || !settings.hunt.exchanges.is_empty() || settings.streams.len() != 1 {
            return Err(WatchError::Usage(
                "what is shared is one stream: --exchanges nats://HOST:PORT/STREAM and nothing else"
                    .to_owned(),
            ));
        }
        return share::run(settings, share, host, &progress, &workers);
    }
    let mut watch = Watch::begin(settings, host, progress, is_spooled)?;
    watch.trouble = deliveries.map(|d| deliveries::begin(d, &watch.spool)).transpose()?;
    let stream = stream.map(|stream| Spooling::begin(stream, &watch.spool)).transpose()?;
    watch.run(&workers, stream)
}

/// A thread that takes a stream.
struct Spooling {
    thread: JoinHandle<std::io::Result<()>>,
    is_over: Arc<AtomicBool>,
}

impl Spooling {
    fn begin(stream: Stream, folder: &std::path::Path) -> Result<Self, WatchError> {
        let mut spool = Spool::open(folder, "stdin").map_err(WatchError::io(folder))?;
        let is_over = Arc::new(AtomicBool::new(false));
        let over = Arc::clone(&is_over);
        let thread = std::thread::Builder::new()
            .name("spool".to_owned())
            .spawn(move || {
                let taken = spool.take_all(stream);
                over.store(true, Ordering::Release);
                taken
            })
            .map_err(WatchError::io(folder))?;
        Ok(Spooling { thread, is_over })
    }
}

/// How a stream that is over has ended.
fn joined(stream: Option<Spooling>) -> Result<(), WatchError> {
    match stream.map(|stream| stream.thread.join()) {
        Some(Ok(Err(source))) => Err(WatchError::Io { path: "standard input".into(), source }),
        _ => Ok(()),
    }
}

impl<'a> Watch<'a> {
    pub fn begin(
        settings: &'a WatchSettings,
        host: &'a dyn Host,
        progress: Arc<dyn Progress>,
        has_stream: bool,
    ) -> Result<Self, WatchError> {
        let hunt = &settings.hunt;
        let (store, mut meta) = Store::open(&settings.state, settings.pace, hunt.key)?;
        if let (Some(counting), None) = (&meta.counting, &settings.share) {
            return Err(WatchError::Usage(format!(
                "the state in {} is that of share {}/{}; use it with --share, or another --state",
                settings.state.display(),
                counting.number,
                counting.of
            )));
        }
        meta.is_spooled |= has_stream || !settings.streams.is_empty();
        let positions: BTreeMap<String, Position> = store.files()?;
        let spool = settings.state.join("spool");
        fs::create_dir_all(&spool).map_err(WatchError::io(&spool))?;
        let mut paths = hunt.exchanges.clone();
        paths.push(spool.display().to_string());
        let mut feed =
            Feed::new(paths, spool.clone(), hunt.read.clone(), hunt.key, hunt.threads, positions);
        for address in &settings.streams {
            let Some(runtime) = &hunt.read.runtime else {
                return Err(WatchError::Usage("a stream needs a runtime to be read in".to_owned()));
            };
            // Shares have agreed which stream it is, whatever its server is called.
            let name = match settings.share {
                Some(_) => address.name().to_owned(),
                None => address.to_string(),
            };
            feed.follow(&name, |place| {
                let part = settings.share.as_ref().map_or_else(Part::default, |s| s.part(address));
                Reader::begin_part(runtime, address, &settings.access, place, part)
                    .map_err(|error| WatchError::Usage(error.to_string()))
            })?;
        }
        let releases = Releases::read(settings)?;
        for problem in &releases.problems {
            host.say(&format!("releases: {problem}"));
        }
        // A share that looks reads the table itself.
        let accounts = match settings.share {
            None => KeptAccounts::read(hunt)?,
            Some(_) => KeptAccounts::default(),
        };
        Ok(Watch {
            settings,
            host,
            progress,
            store: Arc::new(store),
            feed,
            clock: Clock::new(settings.pace, meta.clock.clone()),
            meta,
            deltas: Deltas::new(hunt.threads),
            releases,
            accounts,
            near: BTreeMap::new(),
            spool,
            since_checkpoint: 0,
            trouble: None,
            watched: Watched::default(),
            said: std::collections::BTreeSet::new(),
        })
    }

    fn run(
        mut self,
        workers: &rayon::ThreadPool,
        mut stream: Option<Spooling>,
    ) -> Result<Watched, WatchError> {
        let mut first = true;
        loop {
            // Asked before the look at what is there, which then is all.
            let was_over = stream.as_ref().is_some_and(|s| s.is_over.load(Ordering::Acquire));
            self.feed.scan(first)?;
            first = false;
            let never_ends = self.trouble.is_some();
            if never_ends && was_over {
                joined(stream.take())?;
            }
            let is_over = self.settings.once && stream.is_none() || was_over;
            let is_last = !never_ends && is_over && self.feed.is_caught_up();
            self.feed.to_the_end = is_last;
            let mut has_read = false;
            while {
                let feed = &mut self.feed;
                workers.install(|| feed.refill())
            } {
                while let Some(chunk) = self.feed.pop() {
                    has_read = true;
                    let _ = self.count(&chunk, workers);
                    self.checkpoint_if_full(workers)?;
                    self.look_if_due(workers)?;
                    if self.host.is_stopped() {
                        return self.end(workers);
                    }
                }
            }
            self.tell_problems();
            self.checkpoint(workers)?;
            if has_read {
                continue;
            }
            if is_last {
                self.last_looks(workers)?;
                joined(stream.take())?;
                return self.end(workers);
            }
            if self.host.is_stopped() || !self.host.wait() {
                return self.end(workers);
            }
        }
    }

    fn end(mut self, workers: &rayon::ThreadPool) -> Result<Watched, WatchError> {
        self.checkpoint(workers)?;
        self.watched.counts = self.meta.counts.clone();
        Ok(self.watched)
    }

    pub fn tell_problems(&mut self) {
        let trouble = self.trouble.as_ref();
        let trouble = trouble
            .and_then(|trouble| trouble.lock().unwrap_or_else(PoisonError::into_inner).clone());
        if let Some(trouble) = trouble
            && self.said.insert(trouble.clone())
        {
            self.host.say(&trouble);
        }
        for note in self.feed.notes.drain(..) {
            self.host.say(&note);
        }
        for problem in &self.feed.problems {
            if self.said.insert(problem.clone()) {
                self.host.say(problem);
            }
        }
    }

    /// Counts rows. What lies before the next look goes into its epoch at once, what lies
    /// after it is kept apart until the look is over. Returns how many there are by tick.
    pub fn count(&mut self, chunk: &Chunk, workers: &rayon::ThreadPool) -> BTreeMap<i64, u64> {
        let mut ticks: BTreeMap<i64, u64> = BTreeMap::new();
        let counts = &mut self.meta.counts;
        for (reason, count) in chunk.refused.named() {
            *counts.refused.entry(reason).or_default() += count;
        }
        let (next, looked) = (self.clock.state.next, self.meta.looked);
        let oldest = self.clock.oldest_epoch().unwrap_or(i64::MIN);
        let grid = self.settings.pace.grid;
        let (mut all, mut before, mut late, mut full) = (0, 0, 0, 0);
        for glance in chunk.seen.iter().flat_map(|seen| &seen.glances) {
            all += 1;
            let epoch = grid.epoch(glance.time);
            if epoch < oldest {
                before += 1;
                continue;
            }
            if self.meta.limits.get(&epoch).is_some_and(|limit| glance.account >= *limit) {
                full += 1;
            }
            late += u64::from(looked.is_some_and(|looked| self.clock.step(glance.time) < looked));
            *ticks.entry(self.clock.tick(glance.time)).or_default() += 1;
            if !self.near.contains_key(&epoch) {
                self.near.insert(epoch, releases_near(grid, epoch, &self.releases.times));
                while self.near.len() as i64 > RELEASE_EPOCHS
                    && self.near.keys().next().is_some_and(|first| *first < oldest)
                {
                    self.near.pop_first();
                }
            }
        }
        counts.exchanges += all;
        counts.before_window += before;
        counts.accounts_full += full;
        // Before the first look nothing is late.
        counts.late +=
            if self.watched.until.is_some() || self.meta.clock.next.is_some() { late } else { 0 };
        self.since_checkpoint += all;
        let (clock, limits, near) = (&self.clock, &self.meta.limits, &self.near);
        let looks = self.settings.pace.looks();
        let place = |glance: &Glance| {
            let epoch = grid.epoch(glance.time);
            if epoch < oldest || limits.get(&epoch).is_some_and(|l| glance.account >= *l) {
                return None;
            }
            let step = clock.step(glance.time);
            let part = match next {
                Some(next) if step < next => 0,
                _ => 1 + step.rem_euclid(looks) as u32,
            };
            let releases = near.get(&epoch).map_or(&[][..], Vec::as_slice);
            Some(Placed { part: (epoch, part), releases })
        };
        workers.install(|| self.deltas.add(&chunk.seen, grid, &place));
        for (&tick, &exchanges) in &ticks {
            self.clock.count(tick, exchanges);
        }
        self.host.counted(self.meta.counts.exchanges);
        ticks
    }

    pub fn bounds(&self, is_exact: bool) -> Bounds {
        Bounds::of(&self.clock, self.settings, is_exact)
    }

    /// Whether a checkpoint has to be taken before more is counted.
    pub fn is_full(&self) -> bool {
        self.since_checkpoint >= CHECKPOINT_EXCHANGES || self.deltas.bytes() >= DELTA_BYTES_MAX
    }

    fn checkpoint_if_full(&mut self, workers: &rayon::ThreadPool) -> Result<(), WatchError> {
        if self.is_full() {
            self.checkpoint(workers)?;
        }
        Ok(())
    }

    fn checkpoint(&mut self, workers: &rayon::ThreadPool) -> Result<(), WatchError> {
        self.commit(workers, false, false)
    }

    /// Stores all that has changed; `always` even where nothing has.
    fn commit(
        &mut self,
        workers: &rayon::ThreadPool,
        is_exact: bool,
        always: bool,
    ) -> Result<(), WatchError> {
        let files = self.feed.changes();
        if !always && self.deltas.is_empty() && files.is_empty() {
            return Ok(());
        }
        let bounds = self.bounds(is_exact);
        self.meta.clock = self.clock.state.clone();
        self.meta.lost_us = self.meta.lost_us.max(self.feed.lost);
        let (store, deltas, meta) = (&self.store, &self.deltas, &mut self.meta);
        workers.install(|| store.commit(deltas, &files, meta, &bounds))?;
        self.deltas.clear();
        self.since_checkpoint = 0;
        for path in self.feed.read_out() {
            fs::remove_file(&path).map_err(WatchError::io(path.as_ref()))?;
        }
        Ok(())
    }

    fn look_if_due(&mut self, workers: &rayon::ThreadPool) -> Result<(), WatchError> {
        if self.clock.begin(false) {
            self.commit(workers, false, true)?;
        }
        while let Some(next) = self.clock.due() {
            let end = self.clock.start(next);
            // Files that are behind the others catch up first.
            if self.feed.head().is_some_and(|head| head < end.0) {
                break;
            }
            if !self.look_and_go_on(workers, next)? {
                break;
            }
        }
        Ok(())
    }

    /// The looks that are left when nothing more will come. The last one may be in the
    /// middle of its step, and is taken again if the watch goes on.
    fn last_looks(&mut self, workers: &rayon::ThreadPool) -> Result<(), WatchError> {
        if self.clock.begin(true) {
            self.commit(workers, false, true)?;
        }
        let Some(end) = self.clock.end() else { return Ok(()) };
        while let Some(next) = self.clock.state.next
            && next < end
        {
            if !self.look_and_go_on(workers, next)? {
                return Ok(());
            }
        }
        if let Some(next) = self.clock.state.next {
            self.look(workers, next)?;
        }
        Ok(())
    }

    /// Takes the look before `next`, if there is anything new to see, and turns to the
    /// next one; says whether it came to that.
    fn look_and_go_on(
        &mut self,
        workers: &rayon::ThreadPool,
        next: i64,
    ) -> Result<bool, WatchError> {
        if self.clock.has_news() && !self.look(workers, next)? {
            return Ok(false);
        }
        self.meta.looked = Some(next);
        self.clock.went_on();
        self.commit(workers, false, true)?;
        Ok(!self.host.is_stopped())
    }

    /// Hunts in the window before `next`; says whether it came to its end.
    fn look(&mut self, workers: &rayon::ThreadPool, next: i64) -> Result<bool, WatchError> {
        if self.host.is_stopped() {
            return Ok(false);
        }
        self.host.looking();
        self.commit(workers, true, true)?;
        let known = Known {
            hours: self.clock.hours(next),
            refused: self.meta.counts.refused.clone(),
            problems: self.feed.problems.iter().cloned().collect(),
        };
        let has_files = |from: Time| {
            !self.meta.is_spooled && self.meta.lost_us.is_none_or(|lost| lost < from.0)
        };
        let looked = Look {
            store: &self.store,
            settings: self.settings,
            releases: &self.releases,
            accounts: &self.accounts,
            workers,
            progress: &self.progress,
        };
        let files = |from| has_files(from).then(|| self.feed.reaching(from));
        let hunted = match looked.hunt(&self.clock, next, known, files)? {
            Window::Empty => return Ok(true),
            Window::Stopped => return Ok(false),
            Window::Hunted(hunted) => *hunted,
        };
        self.host.found(hunted).map_err(WatchError::Findings)?;
        self.watched.looks += 1;
        self.watched.until = Some(self.clock.start(next));
        Ok(true)
    }
}

//! Share: several processes that count one stream together.
//!
//! Each reads the messages of its own partitions of the accounts alone (`counting`), in a
//! store of its own. The first also hears of all of them through another stream (`words`),
//! and takes the looks (`looking`). Pieces of an account add up in any order, so that what
//! is found is what one process would have found, and it does not matter who has counted
//! which exchange, as long as each was counted once: what a share says is written in the
//! transaction in which it became true (`outbox`), carries a number, and is taken in the
//! transaction in which it is counted.

mod counting;
mod looking;
mod outbox;
mod plan;
#[cfg(test)]
mod tests;
mod words;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::sync_channel;
use std::thread::ScopedJoinHandle;

use stillwatch_broker::{BrokerError, Reader, Server, StreamPlace, Through, extent};
use stillwatch_hunt::{Hunted, KeptAccounts, Progress};
use tokio::runtime::Handle;

use self::counting::{Counter, releases_hash};
use self::looking::Looker;
use self::outbox::Sender;
use self::plan::{Plan, same_stream};
use self::words::{HEAD_BYTES, ROW_BYTES_MAX, Word};
use crate::clock::Clock;
use crate::deltas::Deltas;
use crate::settings::{Share, WatchError, WatchSettings};
use crate::store::Store;
use crate::watch::{Host, Watch, Watched};
use crate::window::Releases;

pub(crate) use self::looking::Looking;
pub(crate) use self::plan::Counting;

/// The folder of what the share that looks has heard, below its state.
const LOOKING: &str = "looking";

/// What both ends of a share need.
struct Setting<'a> {
    settings: &'a WatchSettings,
    share: &'a Share,
    host: &'a dyn Host,
    progress: &'a Arc<dyn Progress>,
    workers: &'a rayon::ThreadPool,
    runtime: &'a Handle,
    through: Through,
    exchanges: Server,
    /// How far the stream of exchanges goes at the beginning.
    stream: StreamPlace,
}

/// Counts a share of the stream; the first share looks as well.
///
/// # Errors
/// As [`crate::watch`]; or the shares don't agree.
pub(crate) fn run(
    settings: &WatchSettings,
    share: &Share,
    host: &dyn Host,
    progress: &Arc<dyn Progress>,
    workers: &rayon::ThreadPool,
) -> Result<Watched, WatchError> {
    let Some(runtime) = &settings.hunt.read.runtime else {
        return Err(WatchError::Usage("a stream needs a runtime to be read in".to_owned()));
    };
    let is_over = AtomicBool::new(false);
    let host = &Together { host, is_over: &is_over };
    let Some(stream) = settings.streams.first() else { return Ok(Watched::default()) };
    let connect = |address| {
        let server = Server::connect(address, &settings.access);
        runtime.block_on(server).map_err(|error| WatchError::Usage(error.to_string()))
    };
    let (exchanges, server) = (connect(stream)?, connect(&share.through)?);
    let Some(place) = patiently(host, || runtime.block_on(extent(&exchanges)))? else {
        return Ok(Watched::default());
    };
    let Some(through) = patiently(host, || runtime.block_on(Through::open(&server)))? else {
        return Ok(Watched::default());
    };
    let longest = through.writer().payload_bytes_max();
    if longest < ROW_BYTES_MAX + HEAD_BYTES {
        return Err(WatchError::Usage(format!(
            "{} takes messages of {longest} bytes, and shares need {}",
            through.place(),
            ROW_BYTES_MAX + HEAD_BYTES
        )));
    }
    let mut watch = Watch::begin(settings, host, Arc::clone(progress), true)?;
    let is_new = watch.store.is_new()?;
    watch.meta.counting = Some(Counting::of(&watch.meta, is_new, share, &through)?);
    let plan = Plan::new(settings, share, &watch.meta.key_check, stream.name(), place);
    let agreed = patiently(host, || runtime.block_on(through.agree(plan.to_bytes())))?;
    let Some(agreed) = agreed else { return Ok(Watched::default()) };
    plan.agrees(&agreed, &through)?;
    let stream = place;
    let setting =
        Setting { settings, share, host, progress, workers, runtime, through, exchanges, stream };
    setting.run(watch, &is_over)
}

/// Asks again while a server is away; none if that is for longer than the host wants.
fn patiently<T>(
    host: &dyn Host,
    mut asked: impl FnMut() -> Result<T, BrokerError>,
) -> Result<Option<T>, WatchError> {
    let mut is_told = false;
    loop {
        match asked() {
            Ok(answer) => return Ok(Some(answer)),
            Err(error)
                if matches!(error, BrokerError::Away { .. } | BrokerError::Failed { .. }) =>
            {
                if !std::mem::replace(&mut is_told, true) {
                    host.say(&format!("{error}; it is asked again"));
                }
                if !host.wait() {
                    return Ok(None);
                }
            }
            Err(error) => return Err(WatchError::Usage(error.to_string())),
        }
    }
}

impl Setting<'_> {
    fn run(&self, watch: Watch<'_>, is_over: &AtomicBool) -> Result<Watched, WatchError> {
        let Setting { share, host, through, .. } = self;
        let written = watch.meta.counting.as_ref().map_or(0, |counting| counting.written);
        let (written, sent) = (AtomicU64::new(written), AtomicU64::new(0));
        let store = Arc::clone(&watch.store);
        let writer = through.writer();
        let sender = Sender {
            store: &store,
            writer: &writer,
            runtime: self.runtime,
            host: *host,
            share: share.number,
            written: &written,
            sent: &sent,
            is_over,
        };
        let Some(arrived) = patiently(*host, || sender.arrived())? else {
            return Ok(Watched::default());
        };
        arrived?;
        let releases = watch.releases.clone();
        let looker = match share.number.number {
            1 => Some(self.looker(&releases)?),
            _ => None,
        };
        let (wake, woken) = sync_channel(1);
        let counter = Counter {
            share: share.number,
            reached: watch.feed.stream_reached(),
            releases: releases_hash(&releases.times),
            watch,
            workers: self.workers,
            follower: through.follow(self.runtime),
            written: &written,
            wake,
            sent: &sent,
            made_ns: self.stream.made_ns,
            word: Word::default(),
            entries: Vec::new(),
        };
        // Whoever fails ends the others; who comes to an end does not.
        let ending = |result: Result<Watched, WatchError>| {
            if result.is_err() {
                is_over.store(true, Ordering::Release);
            }
            result
        };
        let (sender, ending) = (&sender, &ending);
        std::thread::scope(|scope| {
            let named = |name: &str| std::thread::Builder::new().name(name.to_owned());
            let sending = named("outbox").spawn_scoped(scope, move || {
                ending(sender.run(&woken).map(|()| Watched::default()))
            });
            let looking = looker
                .map(|looker| named("looks").spawn_scoped(scope, move || ending(looker.run())));
            let counted = ending(counter.run());
            let looked = looking.map(joined).transpose();
            let sent = joined(sending);
            let (counted, looked, _) = (counted?, looked?, sent?);
            Ok(looked.unwrap_or(counted))
        })
    }

    /// The part of the first share that looks.
    fn looker<'s>(&'s self, releases: &'s Releases) -> Result<Looker<'s>, WatchError> {
        let Setting { settings, share, host, through, .. } = self;
        let folder = settings.state.join(LOOKING);
        let (store, mut meta) = Store::open(&folder, settings.pace, settings.hunt.key)?;
        let looking = match meta.looking.take() {
            Some(looking) => looking,
            None => Looking::new(share.number.of, through),
        };
        same_stream(looking.through_ns, through)?;
        meta.is_spooled = true;
        let place = StreamPlace { made_ns: looking.through_ns, sequence: looking.taken };
        let after = (place.sequence > 0).then_some(place);
        meta.looking = Some(looking);
        let part = through.of_shares();
        let reader =
            Reader::begin_part(self.runtime, &share.through, &settings.access, after, part)
                .map_err(|error| WatchError::Usage(error.to_string()))?;
        Ok(Looker {
            settings,
            share: share.number,
            host: *host,
            progress: self.progress,
            workers: self.workers,
            releases,
            accounts: KeptAccounts::read(&settings.hunt)?,
            releases_hash: releases_hash(&releases.times),
            runtime: self.runtime,
            exchanges: &self.exchanges,
            through,
            reader,
            store,
            clock: Clock::new(settings.pace, meta.clock.clone()),
            meta,
            deltas: Deltas::new(settings.hunt.threads),
            end: self.stream.sequence,
            told: None,
            is_changed: false,
            taken: 0,
            watched: Watched::default(),
            said: None,
            has_said_outside: false,
        })
    }
}

fn joined(
    thread: std::io::Result<ScopedJoinHandle<'_, Result<Watched, WatchError>>>,
) -> Result<Watched, WatchError> {
    let failed = |what: &str| WatchError::Io {
        path: "threads".into(),
        source: std::io::Error::other(what.to_owned()),
    };
    match thread.map(ScopedJoinHandle::join) {
        Ok(Ok(result)) => result,
        Ok(Err(_)) => Err(failed("one of them broke off")),
        Err(source) => Err(WatchError::Io { path: "threads".into(), source }),
    }
}

/// The host of both parts of a share: what ends one of them by an error ends both.
struct Together<'a> {
    host: &'a dyn Host,
    is_over: &'a AtomicBool,
}

impl Host for Together<'_> {
    fn wait(&self) -> bool {
        self.host.wait() && !self.is_over.load(Ordering::Acquire)
    }

    fn is_stopped(&self) -> bool {
        self.host.is_stopped() || self.is_over.load(Ordering::Acquire)
    }

    fn looking(&self) {
        self.host.looking();
    }

    fn found(&self, hunted: Hunted) -> Result<(), String> {
        self.host.found(hunted)
    }

    fn counted(&self, exchanges: u64) {
        self.host.counted(exchanges);
    }

    fn say(&self, what: &str) {
        self.host.say(what);
    }
}

//! Listening, housekeeping, and the end.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulConnection, GracefulShutdown};
use hyper_util::service::TowerToHyperService;
use stillwatch_broker::Server;
use stillwatch_exchange::time::SECOND_US;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet};

use crate::admin::{self, Admin};
use crate::brokers::{self, Away, Followed};
use crate::gateway::{self, Guard};
use crate::grpc;
use crate::journal::{self, Closed, Journal};
use crate::lease::Leases;
use crate::live::{Live, Reload};
use crate::metrics::Metrics;
use crate::outbox::Outbox;
use crate::seal;
use crate::settings::{ADMIN_KEY_BYTES_MIN, GuardError, Settings};
use crate::state::State;
use crate::steady::Steady;
use crate::traces::Traces;
use crate::upstream::Upstream;

/// Connections at once, on each listener; further ones wait to be accepted.
const CONNECTIONS_MAX: usize = 10_000;
/// The longest head of a request, in bytes.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// The most headers of a request.
const HEADERS_MAX: usize = 128;
/// Requests at once on a connection that speaks HTTP/2; further ones wait.
const STREAMS_MAX: u32 = 1_000;
/// How often files are looked at, and the journal is forced to the disk.
const TICK: Duration = Duration::from_secs(1);
/// A clock that goes back by more was set, and not only slowed down.
const SET_BACK_US: i64 = 5 * SECOND_US;
/// How long the last records may take to be published at the end.
const PUBLISH: Duration = Duration::from_secs(10);
/// How long to wait when the system has no room for another connection.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);

/// A guard that runs until it is stopped.
#[derive(Debug)]
pub struct Running {
    /// Where clients connect.
    pub listen: SocketAddr,
    /// Where administration connects.
    pub admin: SocketAddr,
    /// Where Envoy asks over gRPC, if it does.
    pub grpc: Option<SocketAddr>,
    guard: Arc<Guard>,
    keeper: Arc<Keeper>,
    stop: watch::Sender<bool>,
    listeners: Vec<JoinHandle<()>>,
    keeping: JoinHandle<()>,
    following: JoinSet<()>,
    /// Ends once nothing is under way any more.
    leasing: Option<JoinHandle<()>>,
    drain: watch::Sender<bool>,
}

/// Starts a guard: seals what an earlier one left, reads all files, and listens.
///
/// # Errors
/// Something that was named can't be used.
pub async fn start(settings: Settings) -> Result<Running, GuardError> {
    if settings.admin_key.len() < ADMIN_KEY_BYTES_MIN {
        let what = format!("the key for administration needs at least {ADMIN_KEY_BYTES_MIN} bytes");
        return Err(GuardError::Usage(what));
    }
    let upstream = Upstream::new(&settings.upstream, settings.say)?;
    let now = (settings.clock)();
    let (state, history) = State::open(&settings.state)?;
    let (journal_folder, records) = (state.journal.clone(), state.records.clone());
    let metrics = Metrics::new();
    let (last, recovered) = seal::recover(&journal_folder, &records)?;
    metrics.records_sealed.inc_by(recovered.exchanges);
    metrics.records_unfinished.inc_by(recovered.unfinished);
    if recovered.broken > 0 {
        (settings.say)(&format!("{} lines of the journal could not be read", recovered.broken));
    }
    let away = Away::new(settings.say);
    let followed = brokers::begin(&settings.broker, &state.findings, &away, settings.say).await?;
    let kept = followed.iter().map(|followed| followed.kept().to_owned()).collect();
    let live = Live::begin(&settings, kept, state, history, now)?;
    metrics.accounts_named.set(live.now().table.accounts_named().try_into().unwrap_or(i64::MAX));
    let outbox = match &settings.broker.publish {
        Some(address) => {
            let server = Server::connect(address, &settings.broker.access).await?;
            Some(Outbox::open(server, &settings.state, &records, settings.run_id)?)
        }
        None => None,
    };
    let leases = match &settings.broker.limits {
        Some(address) => {
            let server = Server::connect(address, &settings.broker.access).await?;
            Some(Leases::new(server, settings.run_id))
        }
        None => None,
    };
    let number = (last + 1).max(journal::number_at(now));
    let journal = Journal::begin(&journal_folder, number, now)
        .map_err(GuardError::at("write", &journal_folder))?;

    let bind = async |address: SocketAddr| {
        let listener = TcpListener::bind(address).await;
        listener.map_err(|error| GuardError::Usage(format!("cannot listen on {address}: {error}")))
    };
    let clients = bind(settings.listen).await?;
    let administration = bind(settings.admin).await?;
    let asked = match settings.grpc {
        Some(address) => Some(bind(address).await?),
        None => None,
    };
    let address = |listener: &TcpListener| {
        listener.local_addr().map_err(|error| GuardError::Other(error.to_string()))
    };
    let (listen, admin) = (address(&clients)?, address(&administration)?);
    let grpc = asked.as_ref().map(address).transpose()?;
    let traces = settings.traces.as_ref();
    let traces = traces.map(|to| Traces::begin(to, settings.run_id, &metrics)).transpose()?;
    let guard = Arc::new(Guard::new(live, journal, upstream, metrics, traces, &settings));
    let keeper = Arc::new(Keeper {
        guard: Arc::clone(&guard),
        journal_folder,
        records,
        seal_us: i64::try_from(settings.seal_seconds).unwrap_or(i64::MAX / SECOND_US) * SECOND_US,
        say: settings.say,
        looked: AtomicI64::new(now.0),
        waiting: Mutex::default(),
        away,
        sealed: Notify::new(),
        sent: Notify::new(),
        is_published: settings.broker.publish.is_some(),
    });
    let (stop, stopped) = watch::channel(false);
    let administrator = Admin::new(Arc::clone(&guard), Arc::clone(&keeper), &settings.admin_key);
    let http1 = http1(settings.head_timeout);
    let mut listeners = Vec::new();
    let (service, gateway_guard) = (http1.clone(), Arc::clone(&guard));
    let connect = move |stream, peer| {
        let guard = Arc::clone(&gateway_guard);
        let answer = service_fn(move |request: Request<Incoming>| {
            let guard = Arc::clone(&guard);
            async move { Ok::<_, Infallible>(gateway::answer(guard, request, peer).await) }
        });
        service.serve_connection(stream, answer)
    };
    listeners.push(tokio::spawn(serve(clients, connect, stopped.clone(), Arc::clone(&guard))));
    let router = admin::router(administrator.clone());
    let connect =
        move |stream, _| http1.serve_connection(stream, TowerToHyperService::new(router.clone()));
    let listener = serve(administration, connect, stopped.clone(), Arc::clone(&guard));
    listeners.push(tokio::spawn(listener));
    if let Some(asked) = asked {
        let http2 = http2(settings.head_timeout);
        let connect = move |stream, _| {
            let admin = administrator.clone();
            let answer = service_fn(move |request: Request<Incoming>| {
                let admin = admin.clone();
                async move { Ok::<_, Infallible>(grpc::answer(admin, request).await) }
            });
            http2.serve_connection(stream, answer)
        };
        listeners.push(tokio::spawn(serve(asked, connect, stopped.clone(), Arc::clone(&guard))));
    }
    let mut following = JoinSet::new();
    let mut leasing = None;
    let (drain, drained) = watch::channel(false);
    for followed in followed {
        following.spawn(follow(followed, Arc::clone(&keeper)));
    }
    if let Some(outbox) = outbox {
        following.spawn(publish(outbox, Arc::clone(&keeper)));
    }
    if let Some(leases) = leases {
        let (keeper, until) = (Arc::clone(&keeper), drained.clone());
        leasing = Some(tokio::spawn(async move {
            leases.run(Arc::clone(&keeper.guard), &keeper.away, until).await;
        }));
    }
    let keeping = tokio::spawn(keep(Arc::clone(&keeper), stopped));
    Ok(Running {
        listen,
        admin,
        grpc,
        guard,
        keeper,
        stop,
        listeners,
        keeping,
        following,
        leasing,
        drain,
    })
}

impl Running {
    /// Reads policy, verdicts and credentials again, changed or not.
    pub async fn reload(&self) {
        let keeper = Arc::clone(&self.keeper);
        let _ = tokio::task::spawn_blocking(move || keeper.reload(true)).await;
    }

    /// Makes Parquet of what is recorded by now, though it is not time for it yet.
    ///
    /// # Errors
    /// The records can't be written; they stay in the journal, and are tried again.
    pub async fn seal(&self) -> Result<(), GuardError> {
        let keeper = Arc::clone(&self.keeper);
        let sealed = tokio::task::spawn_blocking(move || keeper.seal_now()).await;
        sealed.unwrap_or_else(|error| Err(GuardError::Other(error.to_string())))
    }

    /// Ends: no connection is accepted any more, answers under way are drained for as
    /// long as the policy gives them, and what is recorded becomes Parquet.
    ///
    /// # Errors
    /// The last records could not be sealed; they stay in the journal, and the next
    /// start seals them.
    pub async fn stop(mut self) -> Result<(), GuardError> {
        // Nobody listens where all have ended already.
        let _ = self.stop.send(true);
        for listener in self.listeners {
            let _ = listener.await;
        }
        let _ = self.drain.send(true);
        if let Some(leasing) = self.leasing {
            let _ = leasing.await;
        }
        let _ = self.keeping.await;
        let keeper = Arc::clone(&self.keeper);
        let finished = tokio::task::spawn_blocking(move || {
            if let Some(traces) = &keeper.guard.traces {
                traces.stop();
            }
            keeper.seal_now()
        });
        let finished = finished.await;
        let waiting = self.guard.journal.waiting();
        if waiting > 0 {
            (self.keeper.say)(&format!(
                "{waiting} lines of the journal have found no room on the disk and are lost"
            ));
        }
        self.keeper.published().await;
        self.following.shutdown().await;
        drop(self.guard);
        finished.unwrap_or_else(|error| Err(GuardError::Other(error.to_string())))
    }
}

/// HTTP/1 with its bounds.
fn http1(head_timeout: Duration) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(head_timeout)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_header_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .auto_date_header(false);
    builder
}

/// HTTP/2 with its bounds, for gRPC. A connection that says nothing is asked whether it
/// still lives.
fn http2(head_timeout: Duration) -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEAD_BYTES_MAX as u32)
        .keep_alive_interval(head_timeout)
        .keep_alive_timeout(head_timeout)
        .auto_date_header(false);
    builder
}

/// Accepts connections until the guard is stopped, then drains them.
async fn serve<C>(
    listener: TcpListener,
    connect: impl Fn(TokioIo<TcpStream>, SocketAddr) -> C,
    mut stopped: watch::Receiver<bool>,
    guard: Arc<Guard>,
) where
    C: GracefulConnection + Send + 'static,
    C::Error: Send,
{
    let graceful = GracefulShutdown::new();
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut is_stopped = pin!(stopped.wait_for(|stopped| *stopped));
    loop {
        let accepted = async {
            let permit = Arc::clone(&room).acquire_owned().await;
            (permit, listener.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            _ = &mut is_stopped => break,
            accepted = accepted => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) if is_of_one_connection(&error) => continue,
            Err(_) => {
                tokio::time::sleep(ACCEPT_AGAIN).await;
                continue;
            }
        };
        // Where it can't be set the connection is gone already.
        let _ = stream.set_nodelay(true);
        let connection = Steady::new(graceful.watch(connect(TokioIo::new(stream), peer)));
        let guard = Arc::clone(&guard);
        guard.metrics.connections.inc();
        tokio::spawn(async move {
            // What went wrong is the client's, and told to it as far as HTTP can.
            let _ = connection.await;
            guard.metrics.connections.dec();
            drop(permit);
        });
    }
    drop(listener);
    let drain = guard.live.now().table.policy().limits.drain_seconds;
    let _ = tokio::time::timeout(Duration::from_secs(drain.into()), graceful.shutdown()).await;
}

fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
    )
}

/// Follows a bucket's findings.
async fn follow(followed: Followed, keeper: Arc<Keeper>) {
    let (changed, refused) = (Arc::clone(&keeper), Arc::clone(&keeper));
    followed
        .follow(&keeper.away, move || changed.reload(false), move |why| refused.refused(&why))
        .await;
}

/// Sends what is on record to a stream.
async fn publish(outbox: Outbox, keeper: Arc<Keeper>) {
    outbox.run(&keeper.sealed, &keeper.sent, &keeper.away, &keeper.guard.metrics).await;
}

/// Looks after files until the guard is stopped.
async fn keep(keeper: Arc<Keeper>, mut stopped: watch::Receiver<bool>) {
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut is_stopped = pin!(stopped.wait_for(|stopped| *stopped));
    loop {
        tokio::select! {
            _ = &mut is_stopped => break,
            _ = tick.tick() => {}
        }
        let keeper = Arc::clone(&keeper);
        let _ = tokio::task::spawn_blocking(move || {
            keeper.reload(keeper.is_set_back());
            keeper.records();
        })
        .await;
    }
}

/// What a guard does beside answering.
#[derive(Debug)]
pub struct Keeper {
    guard: Arc<Guard>,
    journal_folder: std::path::PathBuf,
    records: std::path::PathBuf,
    seal_us: i64,
    say: fn(&str),
    /// The time of the last look at files, in microseconds.
    looked: AtomicI64,
    waiting: Mutex<Waiting>,
    /// What NATS doesn't give or take at present.
    pub away: Away,
    /// Something was sealed, and nothing more waits to be published.
    sealed: Notify,
    sent: Notify,
    is_published: bool,
}

/// Closed segments that wait to be sealed, and what is wrong.
#[derive(Debug, Default)]
struct Waiting {
    closed: Vec<Closed>,
    trouble: Option<String>,
}

impl Keeper {
    /// Whether the clock was set back since this was asked last: what began meanwhile has to
    /// begin anew.
    fn is_set_back(&self) -> bool {
        let now = (self.guard.clock)().0;
        let back_us = self.looked.swap(now, Ordering::Relaxed).saturating_sub(now);
        if back_us < SET_BACK_US {
            return false;
        }
        (self.say)(&format!("the clock was set back by {} seconds", back_us / SECOND_US));
        true
    }

    fn reload(&self, always: bool) {
        let guard = &self.guard;
        match guard.live.reload((guard.clock)(), always) {
            Reload::Unchanged => {}
            Reload::Done { campaigns, accounts } => {
                guard.metrics.reloads.inc();
                guard.metrics.accounts_named.set(accounts.try_into().unwrap_or(i64::MAX));
                (self.say)(&format!("reloaded: {campaigns} campaigns, {accounts} accounts named"));
            }
            Reload::Refused(error) => {
                self.refused(&error.to_string());
            }
        }
    }

    fn refused(&self, why: &str) {
        self.guard.metrics.reloads_refused.inc();
        (self.say)(&format!("not reloaded, what was in force stays: {why}"));
    }

    /// Forces the journal to the disk, and seals what is due.
    fn records(&self) {
        let guard = &self.guard;
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let journal = &guard.journal;
        let mut outcome = journal.sync().map_err(GuardError::at("write", &self.journal_folder));
        let now = (guard.clock)();
        if outcome.is_ok() && journal.is_due(now, self.seal_us) {
            outcome = self.rotate(&mut waiting, now);
        }
        let outcome = outcome.and_then(|()| self.seal(&mut waiting));
        guard.metrics.records_lost.set(journal.lost());
        guard.metrics.brokers_away.set(self.away.count().try_into().unwrap_or(i64::MAX));
        let trouble = outcome.err().map(|error| error.to_string());
        if trouble != waiting.trouble {
            match &trouble {
                Some(what) => (self.say)(&format!("records are not safe: {what}")),
                None => (self.say)("records are safe again"),
            }
            waiting.trouble = trouble;
        }
    }

    fn rotate(
        &self,
        waiting: &mut Waiting,
        now: stillwatch_exchange::Time,
    ) -> Result<(), GuardError> {
        let closed = self
            .guard
            .journal
            .rotate(now)
            .map_err(GuardError::at("write", &self.journal_folder))?;
        waiting.closed.push(closed);
        Ok(())
    }

    fn seal(&self, waiting: &mut Waiting) -> Result<(), GuardError> {
        while let Some(closed) = waiting.closed.first() {
            let sealed = seal::seal(&self.journal_folder, &self.records, closed)?;
            self.guard.metrics.records_sealed.inc_by(sealed.exchanges);
            waiting.closed.remove(0);
            self.sealed.notify_one();
        }
        Ok(())
    }

    /// Seals everything that has ended. What has not is carried on, and at the end sealed
    /// at the next start.
    fn seal_now(&self) -> Result<(), GuardError> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        self.rotate(&mut waiting, (self.guard.clock)())?;
        self.seal(&mut waiting)
    }

    /// Waits until all that is sealed is published, though not for long: the next start goes
    /// on with what is not.
    async fn published(&self) {
        if !self.is_published {
            return;
        }
        // What was told before the last seal counts no more.
        let _ = tokio::time::timeout(Duration::ZERO, self.sent.notified()).await;
        let all = async {
            // The first may have begun before the last seal.
            for _ in 0..2 {
                self.sealed.notify_one();
                self.sent.notified().await;
            }
        };
        if tokio::time::timeout(PUBLISH, all).await.is_err() {
            (self.say)("not all records are published; the next start goes on with them");
        }
    }

    /// What is wrong with the records, if anything is.
    pub fn trouble(&self) -> Option<String> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).trouble.clone()
    }
}

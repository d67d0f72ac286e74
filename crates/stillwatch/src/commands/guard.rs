use std::fs;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Args;
use stillwatch_broker::Address;
use stillwatch_exchange::Time;
use stillwatch_guard::{Broker, GuardError, Running, Settings, Source, TraceSettings};

use super::rehearse::{self, Rehearse};
use crate::broker::{Nats, address};
use crate::failure::Failure;
use crate::output;
use crate::secret::{checked, is_open_to_others};
use crate::session::{Session, threads};

/// Stands before a model API and answers campaigns by a policy
///
/// Passes requests of OpenAI- and Anthropic-compatible clients on, streams included,
/// records every exchange below --state, and does what the policy says about accounts
/// that a hunt has found. Without a policy it only observes. docs/guard.md has a policy
/// to begin with.
///
/// Administration wants a key: what STILLWATCH_ADMIN_KEY holds, or else one that is made
/// and kept in admin.key below --state.
///
/// Prints `listening on ADDR` when it is ready. SIGTERM drains streams and ends; SIGHUP,
/// or a file that changes, reloads policy, verdicts and credentials.
#[derive(Debug, Args)]
pub struct Guard {
    /// Where clients connect.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,

    /// The model API's base URL; a path prefix is kept.
    #[arg(long, value_name = "URL", required_unless_present = "rehearse")]
    upstream: Option<String>,

    /// Where administration connects: decisions, metrics, undoing.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8081")]
    admin: SocketAddr,

    /// Where Envoy asks over gRPC, by ext_authz or ext_proc; nowhere by default.
    #[arg(long, value_name = "ADDR")]
    grpc: Option<SocketAddr>,

    /// Record what passes through ext_proc too; Envoy then sends all of it here.
    #[arg(long, requires = "grpc")]
    record_grpc: bool,

    /// The policy file; without one the guard only observes.
    #[arg(long, value_name = "FILE")]
    pub policy: Option<PathBuf>,

    /// Folder for records and for what was undone.
    #[arg(long, value_name = "DIR", default_value = "./stillwatch")]
    pub state: PathBuf,

    /// Table of credential_hash (SHA-256 in hex), account_id, organization_id; Parquet or
    /// JSON Lines. A key that is not in it is its own account.
    #[arg(long, value_name = "PATH")]
    pub credentials: Option<PathBuf>,

    /// Findings of a hunt or a watch: the folder it wrote, or the bucket that a watch
    /// publishes in, nats://HOST:PORT/BUCKET. May be given several times.
    #[arg(long, value_name = "PATH|URL")]
    pub verdicts: Vec<String>,

    /// Keys that reasoning blocks are bound with, one a line, the current one first; see
    /// «reasoning» in the policy. Guards of one service share them.
    #[arg(long, value_name = "FILE")]
    reasoning_keys: Option<PathBuf>,

    /// Where exchanges on record are published as well: a stream that a watch reads,
    /// nats://HOST:PORT/STREAM.
    #[arg(long, value_name = "URL")]
    publish: Option<String>,

    /// Where several guards share the limit of slowed campaigns: a bucket that is the same
    /// for all of them, nats://HOST:PORT/BUCKET.
    #[arg(long, value_name = "URL")]
    limits: Option<String>,

    #[command(flatten)]
    nats: Nats,

    /// How often records become Parquet, in seconds; sooner where there are many.
    #[arg(long, value_name = "SECONDS", default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seal_every: u64,

    /// An OpenTelemetry collector that gets a trace of exchanges, by OTLP over gRPC.
    #[arg(long, value_name = "URL")]
    traces: Option<String>,

    /// The part of exchanges that is traced, 0 to 1, where the client's traceparent does
    /// not say.
    #[arg(long, value_name = "SHARE", default_value_t = 1.0, value_parser = ratio, requires = "traces")]
    traces_ratio: f64,

    /// Threads to work with; one for each processor by default.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: Option<u16>,

    #[command(flatten)]
    pub rehearse: Rehearse,
}

/// How long a request's head may take to arrive, and a connection stay idle.
const HEAD: Duration = Duration::from_secs(30);

/// Guards until it is told to end.
pub fn run(args: &Guard, session: &Session) -> Result<(), Failure> {
    if args.rehearse.is_asked() {
        return rehearse::run(args, session);
    }
    let upstream = args.upstream.as_deref().unwrap_or_default();
    let upstream = upstream
        .parse()
        .map_err(|error| Failure::Usage(format!("--upstream {upstream} is no URL: {error}")))?;
    let (mut verdicts, mut buckets) = (Vec::new(), Vec::new());
    for place in &args.verdicts {
        if Address::is_one(place) {
            buckets.push(address("--verdicts", place)?);
        } else {
            verdicts.push(source(place)?);
        }
    }
    let publish = args.publish.as_deref().map(|url| address("--publish", url)).transpose()?;
    let limits = args.limits.as_deref().map(|url| address("--limits", url)).transpose()?;
    let broker = Broker { access: args.nats.access(), verdicts: buckets, publish, limits };
    let mut run_id = [0; 8];
    random(&mut run_id)?;
    fs::create_dir_all(&args.state).map_err(Failure::at("make the folder", &args.state))?;
    let settings = Settings {
        listen: args.listen,
        upstream,
        admin: args.admin,
        grpc: args.grpc,
        records_grpc: args.record_grpc,
        policy: args.policy.clone(),
        state: args.state.clone(),
        credentials: args.credentials.clone(),
        verdicts,
        reasoning_keys: args.reasoning_keys.clone(),
        broker,
        admin_key: admin_key(&args.state)?,
        run_id: u64::from_le_bytes(run_id),
        clock: now,
        monotonic: None,
        say: output::note,
        head_timeout: HEAD,
        seal_seconds: args.seal_every,
        traces: args.traces()?,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads(args.threads))
        .enable_all()
        .build()
        .map_err(|error| Failure::Other(format!("cannot start a runtime: {error}")))?;
    runtime.block_on(async {
        let mut signals = Signals::listen()
            .map_err(|error| Failure::Other(format!("cannot listen for signals: {error}")))?;
        let running = stillwatch_guard::start(settings).await?;
        output::print(&format!("listening on {}\n", running.listen))?;
        output::note(&format!("administration on {}", running.admin));
        if let Some(grpc) = running.grpc {
            output::note(&format!("gRPC for Envoy on {grpc}"));
        }
        signals.until_stopped(&running).await;
        running.stop().await?;
        Ok(())
    })
}

impl Guard {
    fn traces(&self) -> Result<Option<TraceSettings>, Failure> {
        let Some(url) = &self.traces else { return Ok(None) };
        let wrong = |why: &str| Failure::Usage(format!("--traces {url}: {why}"));
        let collector: http::Uri = url.parse().map_err(|_| wrong("is no URL"))?;
        match collector.scheme_str() {
            Some("http") if collector.host().is_some_and(|host| !host.is_empty()) => {}
            Some("https") => {
                return Err(wrong("send to a collector on this machine, http, and let it go on"));
            }
            _ => return Err(wrong("is no URL such as http://127.0.0.1:4317")),
        }
        Ok(Some(TraceSettings { collector, ratio: self.traces_ratio }))
    }
}

fn ratio(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(ratio) if (0.0..=1.0).contains(&ratio) => Ok(ratio),
        _ => Err("must be a number from 0 to 1".to_owned()),
    }
}

/// The wishes of whoever runs the guard. They are listened for before it says that it
/// is ready: one that came between would be lost, or end the process.
#[cfg(unix)]
struct Signals {
    hangup: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn listen() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Signals {
            hangup: signal(SignalKind::hangup())?,
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// Waits for the wish to stop, reloading whenever asked to.
    async fn until_stopped(&mut self, running: &Running) {
        loop {
            tokio::select! {
                _ = self.hangup.recv() => running.reload().await,
                _ = self.interrupt.recv() => return,
                _ = self.terminate.recv() => return,
            }
        }
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Signals)
    }

    async fn until_stopped(&mut self, _: &Running) {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

pub fn source(path: &str) -> Result<Source, Failure> {
    if path.contains("://") {
        return Err(Failure::Usage(format!(
            "--verdicts {path}: only a folder that a hunt wrote and a bucket nats://HOST:PORT/BUCKET can be followed"
        )));
    }
    Ok(Source(PathBuf::from(path)))
}

fn now() -> Time {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Time(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

fn random(bytes: &mut [u8]) -> Result<(), Failure> {
    getrandom::fill(bytes)
        .map_err(|error| Failure::Other(format!("the system gives no random bytes: {error}")))
}

/// The key for administration: from the environment, or from a file that is made where
/// there is none.
fn admin_key(state: &Path) -> Result<String, Failure> {
    const VARIABLE: &str = "STILLWATCH_ADMIN_KEY";
    let refused = |place: &str, why: &str| {
        Failure::Usage(format!(
            "the key in {place} can't be used: {why}; `openssl rand -hex 32` makes one"
        ))
    };
    if let Some(key) = std::env::var_os(VARIABLE) {
        let key = key.into_string().map_err(|_| refused(VARIABLE, "it is not UTF-8"))?;
        return checked(key).map_err(|why| refused(VARIABLE, &why));
    }
    let path = state.join("admin.key");
    let shown = path.display().to_string();
    match fs::read_to_string(&path) {
        Ok(key) => {
            if is_open_to_others(&path) {
                return Err(refused(&shown, "others can read the file; chmod 600 it"));
            }
            checked(key.trim_end().to_owned()).map_err(|why| refused(&shown, &why))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let mut secret = [0; 32];
            random(&mut secret)?;
            let key: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
            write_secret(&path, &key).map_err(Failure::at("write", &path))?;
            output::note(&format!("a key for administration is in {shown}"));
            Ok(key)
        }
        Err(error) => Err(Failure::at("read", &path)(error)),
    }
}

fn write_secret(path: &Path, key: &str) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    let written = writeln!(file, "{key}").and_then(|()| file.sync_all());
    // The next start would take a part of it for the key.
    written.inspect_err(|_| drop(fs::remove_file(path)))
}

impl From<GuardError> for Failure {
    fn from(error: GuardError) -> Self {
        match &error {
            GuardError::Usage(_) | GuardError::Input(_) => Failure::Usage(error.to_string()),
            GuardError::Io { .. } | GuardError::Other(_) => Failure::Other(error.to_string()),
        }
    }
}

//! What a guard costs beside a minimal hyper proxy: CPU and latency of small exchanges
//! and of burst streams, with everything switched on.
//!
//! ```console
//! $ cargo run --release --workspace --example gateway_cost -- [EXCHANGES] [ROUNDS]
//! ```
//!
//! The model's API, the two contestants and the clients are processes of their own, so
//! that a contestant's CPU is its own; the contestants take turns. Linux only: CPU is
//! read from `/proc`.

#![allow(clippy::disallowed_methods, reason = "a benchmark measures time")]

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::error::Error;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use http::uri::Scheme;
use http::{Request, Response, Uri};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use sha2::{Digest, Sha256};
use stillwatch_exchange::Time;
use stillwatch_guard::{Settings, start};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

const EXCHANGES: usize = 20_000;
const ROUNDS: usize = 3;
const CONNECTIONS: usize = 8;
/// Accounts in the table of credentials.
const ACCOUNTS: usize = 100_000;
/// Events of a burst stream.
const EVENTS: usize = 64;
/// `sysconf(_SC_CLK_TCK)` on Linux, per second.
const TICKS: f64 = 100.0;

#[tokio::main]
async fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("mock") => mock().await,
        Some("proxy") => proxy(arguments[1].parse()?).await,
        Some("guard") => guard(&arguments[1]).await,
        _ => {
            let number =
                |at: usize, default| arguments.get(at).map_or(Ok(default), |text| text.parse());
            compare(number(0, EXCHANGES)?, number(1, ROUNDS)?).await
        }
    }
}

fn clock() -> Time {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Time(since.as_micros() as i64)
}

/// A model's API that answers from memory.
async fn mock() -> Outcome<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    let answer = r#"{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"It is four."},"finish_reason":"stop"}],"usage":{"prompt_tokens":12,"completion_tokens":4,"total_tokens":16}}"#;
    let small = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{answer}",
        answer.len()
    );
    let mut burst =
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
            .to_owned();
    for _ in 0..EVENTS {
        let event = "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\" four\"},\"finish_reason\":null}]}\n\n";
        write!(burst, "{:x}\r\n{event}\r\n", event.len())?;
    }
    burst.push_str("0\r\n\r\n");
    loop {
        let (mut stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let (small, burst) = (small.clone(), burst.clone());
        tokio::spawn(async move {
            let mut held = Vec::new();
            while let Ok(Some(request)) = message(&mut stream, &mut held).await {
                let is_stream = memchr::memmem::find(&request, b"\"stream\":true").is_some();
                let answer = if is_stream { &burst } else { &small };
                if stream.write_all(answer.as_bytes()).await.is_err() {
                    return;
                }
            }
        });
    }
}

/// The next message on a connection; none at its end.
async fn message(stream: &mut TcpStream, held: &mut Vec<u8>) -> Outcome<Option<Vec<u8>>> {
    let mut length = None;
    loop {
        if length.is_none()
            && let Some(end) = memchr::memmem::find(held, b"\r\n\r\n")
        {
            let head = String::from_utf8_lossy(&held[..end]).to_ascii_lowercase();
            let body = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
            // Without a length it is chunked.
            length = Some(body.map(|body: usize| end + 4 + body));
        }
        let whole = match length {
            None => None,
            Some(Some(whole)) => (held.len() >= whole).then_some(whole),
            Some(None) => held.ends_with(b"0\r\n\r\n").then_some(held.len()),
        };
        if let Some(whole) = whole {
            return Ok(Some(held.drain(..whole).collect()));
        }
        if stream.read_buf(held).await? == 0 {
            return Ok(None);
        }
    }
}

/// As little as a proxy on hyper can be: no accounts, no verdicts, no measuring, no
/// records.
async fn proxy(upstream: SocketAddr) -> Outcome<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let client: Client<HttpConnector, Incoming> =
        Client::builder(TokioExecutor::new()).build(connector);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let client = client.clone();
        let service = service_fn(move |mut request: Request<Incoming>| {
            let client = client.clone();
            async move {
                let path = request.uri().path_and_query().cloned().unwrap();
                let authority = upstream.to_string();
                let uri =
                    Uri::builder().scheme(Scheme::HTTP).authority(authority).path_and_query(path);
                *request.uri_mut() = uri.build().unwrap();
                request.headers_mut().remove("host");
                let answer: Response<Incoming> = client.request(request).await.unwrap();
                Ok::<_, Infallible>(answer)
            }
        });
        tokio::spawn(async move {
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

/// A guard with a table of credentials, a policy, and records.
async fn guard(upstream: &str) -> Outcome<()> {
    let folder = tempfile::tempdir()?;
    let credentials = folder.path().join("credentials.jsonl");
    let mut rows = String::new();
    for account in 0..ACCOUNTS {
        let hash = Sha256::digest(format!("sk-{account}").as_bytes());
        let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        writeln!(rows, "{{\"credential_hash\":\"{hash}\",\"account_id\":\"acct_{account}\"}}")?;
    }
    std::fs::write(&credentials, rows)?;
    let policy = folder.path().join("policy.toml");
    std::fs::write(
        &policy,
        "mode = \"enforce\"\n[[rule]]\nsteps = [{ do = \"slow\", for = \"1 day\" }]\n",
    )?;
    let running = start(Settings {
        listen: "127.0.0.1:0".parse()?,
        upstream: format!("http://{upstream}").parse()?,
        admin: "127.0.0.1:0".parse()?,
        policy: Some(policy),
        state: folder.path().join("state"),
        credentials: Some(credentials),
        verdicts: vec![],
        admin_key: "a key for the benchmark".to_owned(),
        run_id: 1,
        clock,
        say: |text| eprintln!("{text}"),
        head_timeout: Duration::from_secs(30),
        seal_seconds: 300,
    })
    .await?;
    println!("{}", running.listen);
    std::future::pending().await
}

struct Process(Child, SocketAddr);

impl Process {
    fn start(arguments: &[&str]) -> Outcome<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        let mut child = command.args(arguments).stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().ok_or("no output")?).read_line(&mut line)?;
        Ok(Process(child, line.trim().parse()?))
    }

    /// Seconds of CPU so far.
    fn cpu(&self) -> Outcome<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.0.id()))?;
        let fields: Vec<&str> =
            stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks: f64 = fields[11].parse::<f64>()? + fields[12].parse::<f64>()?;
        Ok(ticks / TICKS)
    }

    /// Memory in MiB.
    fn memory(&self) -> Outcome<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no VmHWM")?;
        Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Sends so many exchanges; their latencies in microseconds, sorted.
async fn load(address: SocketAddr, is_stream: bool, exchanges: usize) -> Outcome<Vec<f64>> {
    let clients: Vec<_> = (0..CONNECTIONS)
        .map(|client| {
            tokio::spawn(async move {
                let mut stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                let mut held = Vec::new();
                let mut latencies = Vec::with_capacity(exchanges / CONNECTIONS);
                for turn in 0..exchanges / CONNECTIONS {
                    let body = format!(
                        "{{\"model\":\"m\",\"stream\":{is_stream},\"max_tokens\":100,\"messages\":[\
                         {{\"role\":\"system\",\"content\":\"You are a helpful assistant.\"}},\
                         {{\"role\":\"user\",\"content\":\"What is two and two, for the {turn}th time?\"}}]}}"
                    );
                    let request = format!(
                        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer sk-{}\r\n\
                         content-type: application/json\r\nuser-agent: bench/1\r\ncontent-length: {}\r\n\r\n{body}",
                        (client * 9973 + turn) % ACCOUNTS,
                        body.len()
                    );
                    let begun = Instant::now();
                    stream.write_all(request.as_bytes()).await?;
                    message(&mut stream, &mut held).await?.ok_or("closed")?;
                    latencies.push(begun.elapsed().as_secs_f64() * 1e6);
                }
                Outcome::Ok(latencies)
            })
        })
        .collect();
    let mut all = Vec::new();
    for client in clients {
        all.extend(client.await??);
    }
    all.sort_by(f64::total_cmp);
    Ok(all)
}

async fn compare(exchanges: usize, rounds: usize) -> Outcome<()> {
    let mock = Process::start(&["mock"])?;
    let upstream = mock.1.to_string();
    let contestants = [
        ("hyper proxy", Process::start(&["proxy", &upstream])?),
        ("guard", Process::start(&["guard", &upstream])?),
    ];
    let mut best: BTreeMap<(bool, &str), (f64, f64)> = BTreeMap::new();
    for round in 0..=rounds {
        for is_stream in [false, true] {
            let exchanges = if is_stream { exchanges / 4 } else { exchanges };
            for (name, process) in &contestants {
                let before = process.cpu()?;
                let latencies = load(process.1, is_stream, exchanges).await?;
                let cpu = (process.cpu()? - before) * 1e6 / exchanges as f64;
                let p50 = latencies[latencies.len() / 2];
                let kind = if is_stream { "stream of 64" } else { "small" };
                println!("{round} {kind:<13} {name:<12} {cpu:7.1} µs CPU  {p50:7.0} µs p50");
                // The first round warms up.
                if round > 0 {
                    let held = best.entry((is_stream, name)).or_insert((f64::MAX, f64::MAX));
                    *held = (held.0.min(cpu), held.1.min(p50));
                }
            }
        }
    }
    println!();
    for ((is_stream, name), (cpu, p50)) in best {
        let kind = if is_stream { "stream of 64" } else { "small" };
        println!("best of {rounds}: {kind:<13} {name:<12} {cpu:7.1} µs CPU  {p50:7.0} µs p50");
    }
    for (name, process) in &contestants {
        println!("{name}: {:.0} MiB at most", process.memory()?);
    }
    Ok(())
}

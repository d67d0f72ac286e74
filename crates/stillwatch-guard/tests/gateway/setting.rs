//! A mock upstream whose answers are scripts, a guard before it, and clients that speak
//! HTTP as bytes.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow::array::{ArrayRef, Float64Array, RecordBatch, StringArray};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Value, json};
use stillwatch_exchange::Time;
use stillwatch_guard::{Broker, GuardError, Running, Settings, Source, start};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// 2026-03-02T00:00:00Z, when all tests happen.
pub const NOW: Time = Time(1_772_409_600_000_000);
pub const ADMIN_KEY: &str = "k3y-for-the-tests-0123456789";

/// What the mock does, in order.
#[derive(Clone, Debug)]
pub enum Act {
    Send(Vec<u8>),
    Pause(u64),
    /// Says no more and keeps the connection.
    Hang,
}

/// A request as the mock saw it.
#[derive(Clone, Debug)]
pub struct Seen {
    pub head: String,
    pub body: Vec<u8>,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.head, name)
    }
}

pub fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

type Script = Arc<dyn Fn(&Seen) -> Vec<Act> + Send + Sync>;

/// A model's API that does as it is told.
pub struct Mock {
    pub address: SocketAddr,
    pub seen: Arc<Mutex<Vec<Seen>>>,
    /// Connections that the guard has closed.
    pub closed: Arc<Mutex<usize>>,
}

impl Mock {
    pub async fn start(script: impl Fn(&Seen) -> Vec<Act> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (seen, closed): (Arc<Mutex<Vec<Seen>>>, Arc<Mutex<usize>>) = Default::default();
        let script: Script = Arc::new(script);
        let (all_seen, all_closed) = (Arc::clone(&seen), Arc::clone(&closed));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (script, seen) = (Arc::clone(&script), Arc::clone(&all_seen));
                let closed = Arc::clone(&all_closed);
                tokio::spawn(async move {
                    converse(stream, script, seen).await;
                    *closed.lock().unwrap() += 1;
                });
            }
        });
        Mock { address, seen, closed }
    }

    /// A mock that answers every request with this status, type and body.
    pub async fn saying(content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        let answer = plain(content_type, &body.into());
        Mock::start(move |_| vec![Act::Send(answer.clone())]).await
    }

    pub fn last(&self) -> Seen {
        self.seen.lock().unwrap().last().unwrap().clone()
    }

    pub fn count(&self) -> usize {
        self.seen.lock().unwrap().len()
    }
}

/// A whole answer.
pub fn plain(content_type: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\ncontent-length: {}\r\nx-of-vendor: 1\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// The head of an answer in chunks.
pub fn chunked_head(content_type: &str) -> Act {
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\ntransfer-encoding: chunked\r\n\r\n"
    );
    Act::Send(head.into_bytes())
}

pub fn chunk(text: &str) -> Act {
    Act::Send(format!("{:x}\r\n{text}\r\n", text.len()).into_bytes())
}

pub fn last_chunk() -> Act {
    Act::Send(b"0\r\n\r\n".to_vec())
}

async fn converse(mut stream: TcpStream, script: Script, seen: Arc<Mutex<Vec<Seen>>>) {
    let mut held = Vec::new();
    'next: loop {
        let end = loop {
            if let Some(end) = held.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break end + 4;
            }
            if stream.read_buf(&mut held).await.unwrap_or(0) == 0 {
                return;
            }
        };
        let head = String::from_utf8(held.drain(..end).collect()).unwrap();
        let length = header(&head, "content-length").map_or(0, |text| text.parse().unwrap());
        while held.len() < length {
            if stream.read_buf(&mut held).await.unwrap_or(0) == 0 {
                return;
            }
        }
        let body = held.drain(..length).collect();
        let request = Seen { head, body };
        seen.lock().unwrap().push(request.clone());
        for act in script(&request) {
            match act {
                Act::Send(bytes) if bytes.is_empty() => return,
                Act::Send(bytes) => {
                    if stream.write_all(&bytes).await.is_err() {
                        return;
                    }
                }
                Act::Pause(ms) => tokio::time::sleep(Duration::from_millis(ms)).await,
                Act::Hang => {
                    // Until the guard closes the connection.
                    while stream.read_buf(&mut held).await.unwrap_or(0) > 0 {}
                    break 'next;
                }
            }
        }
    }
}

/// The folder of a guard, and what its files say.
pub struct World {
    pub folder: TempDir,
    pub settings: Settings,
}

impl World {
    /// A guard before this upstream, with a policy.
    pub fn new(upstream: SocketAddr, policy: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("policy.toml"), policy).unwrap();
        let settings = Settings {
            listen: "127.0.0.1:0".parse().unwrap(),
            upstream: format!("http://{upstream}/api").parse().unwrap(),
            admin: "127.0.0.1:0".parse().unwrap(),
            grpc: None,
            records_grpc: false,
            policy: Some(at("policy.toml")),
            state: at("state"),
            credentials: None,
            verdicts: vec![],
            reasoning_keys: None,
            broker: Broker::default(),
            admin_key: ADMIN_KEY.to_owned(),
            run_id: 7,
            clock: || NOW,
            monotonic: None,
            say: |_| {},
            head_timeout: Duration::from_millis(500),
            seal_seconds: 300,
            traces: None,
        };
        World { folder, settings }
    }

    /// With a finding that names the accounts of these keys.
    pub fn with_finding(mut self, campaign_id: &str, keys: &[&str]) -> Self {
        let accounts: Vec<String> = keys.iter().map(|key| account_of(key)).collect();
        let folder = self.folder.path().join("findings");
        write_findings(&folder, campaign_id, &accounts);
        self.settings.verdicts = vec![Source(folder)];
        self
    }

    pub async fn start(&self) -> Running {
        self.try_start().await.unwrap()
    }

    pub async fn try_start(&self) -> Result<Running, GuardError> {
        start(self.settings.clone()).await
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Stops the guard; what is on record then, each exchange as its columns in text.
    pub async fn records_of(&self, running: Running) -> Vec<BTreeMap<String, String>> {
        running.stop().await.unwrap();
        records(&self.settings.state.join("records"))
    }
}

/// The account of a key that is in no table.
pub fn account_of(key: &str) -> String {
    use sha2::{Digest, Sha256};
    let hash = Sha256::digest(key.as_bytes());
    format!("key_{}", hash[..16].iter().map(|byte| format!("{byte:02x}")).collect::<String>())
}

pub fn write_findings(folder: &Path, campaign_id: &str, accounts: &[String]) {
    fs::create_dir_all(folder).unwrap();
    let campaign = json!([{
        "campaign_id": campaign_id, "kind": "distillation", "evidence_value": 50.0,
        "discovery_rate": 0.05, "strata": [], "references": 300, "rank": 1,
        "guilty_members_at_least": { "members": accounts.len(), "level": 0.95 },
        "accounts": accounts.len(), "exchanges": 9, "output_tokens": 9, "reasoning_tokens": 0,
        "cost_usd": 0.0, "first_seen": "2026-03-01T00:00:00Z", "last_seen": "2026-03-01T12:00:00Z",
        "first_detectable": "2026-03-01T06:00:00Z", "exchanges_before_detection": 3,
        "capabilities": [], "routes": [], "models": [], "techniques": [], "evidence": [],
    }]);
    fs::write(folder.join("campaigns.json"), campaign.to_string()).unwrap();
    let members = RecordBatch::try_from_iter([
        ("campaign_id", Arc::new(StringArray::from(vec![campaign_id; accounts.len()])) as ArrayRef),
        ("account_id", Arc::new(StringArray::from_iter_values(accounts))),
        ("membership", Arc::new(Float64Array::from(vec![1.0; accounts.len()]))),
    ])
    .unwrap();
    let file = File::create(folder.join("members.parquet")).unwrap();
    let mut writer = ArrowWriter::try_new(file, members.schema(), None).unwrap();
    writer.write(&members).unwrap();
    writer.close().unwrap();
}

/// All exchanges in a folder of Parquet files, by time and id.
pub fn records(folder: &Path) -> Vec<BTreeMap<String, String>> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let file = File::open(entry.unwrap().path()).unwrap();
        let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap();
        for batch in reader {
            let batch = batch.unwrap();
            let options = FormatOptions::default();
            for row in 0..batch.num_rows() {
                let mut record = BTreeMap::new();
                for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
                    if column.is_valid(row) {
                        let text = ArrayFormatter::try_new(column, &options).unwrap();
                        record.insert(field.name().clone(), text.value(row).to_string());
                    }
                }
                all.push(record);
            }
        }
    }
    all.sort_by_key(|record| record["exchange_id"].clone());
    all
}

/// A POST with a JSON body by the owner of a key, on a connection of its own.
pub fn post(path: &str, key: &str, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nhost: guard\r\nauthorization: Bearer {key}\r\n\
         content-type: application/json\r\nuser-agent: tests/1\r\naccept-encoding: gzip\r\n\
         connection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
    /// Whether its framing says that it is whole.
    pub is_whole: bool,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.head, name)
    }
}

/// Sends bytes and reads until the connection closes.
pub async fn send(address: SocketAddr, request: &str) -> Answer {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // A guard that refuses may close before all is sent.
    let _ = stream.write_all(request.as_bytes()).await;
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes).await;
    parse(&bytes)
}

pub fn parse(bytes: &[u8]) -> Answer {
    let text = String::from_utf8_lossy(bytes).into_owned();
    let Some((head, rest)) = text.split_once("\r\n\r\n") else {
        return Answer { status: 0, head: text, body: String::new(), is_whole: false };
    };
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let (body, is_whole) = match header(head, "transfer-encoding") {
        None => {
            let length = header(head, "content-length").map(|text| text.parse().unwrap());
            (rest.to_owned(), length.is_none_or(|length: usize| length == rest.len()))
        }
        Some(_) => dechunked(rest),
    };
    Answer { status, head: head.to_owned(), body, is_whole }
}

fn dechunked(mut rest: &str) -> (String, bool) {
    let mut body = String::new();
    while let Some((length, after)) = rest.split_once("\r\n") {
        let length = usize::from_str_radix(length, 16).unwrap();
        if length == 0 {
            return (body, true);
        }
        let Some(piece) = after.get(..length) else { break };
        body.push_str(piece);
        rest = after.get(length + 2..).unwrap_or_default();
    }
    (body, false)
}

/// Waits until something holds, at most ten seconds.
#[track_caller]
pub fn eventually(mut holds: impl FnMut() -> bool) -> impl Future<Output = ()> {
    let place = std::panic::Location::caller();
    async move {
        for _ in 0..1000 {
            if holds() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("never came to hold: {place}");
    }
}

/// Asks administration.
pub async fn ask(running: &Running, method: &str, path: &str, body: &str) -> Answer {
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: guard\r\nauthorization: Bearer {ADMIN_KEY}\r\n\
         connection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    send(running.admin, &request).await
}

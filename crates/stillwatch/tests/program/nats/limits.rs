//! One limit for several guards, one of which is killed, and a server that goes away.

use std::fs;
use std::io::{BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use arrow::array::{ArrayRef, Float64Array, RecordBatch, StringArray};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use stillwatch_broker::{Cells, Swap};
use xxhash_rust::xxh3::xxh3_64;

use super::server::{Nats, wait};
use crate::guard::{Guard, Model, read_message};
use crate::setting::{folder, text, write_rows};

const RATE: u64 = 240_000;
const BURST: u64 = 24_000;
/// What each exchange costs.
const TOKENS: u64 = 20;
const POLICY: &str = r#"
mode = "enforce"
[slow]
output_tokens_per_minute = 240000
burst_tokens = 24000
[[rule]]
steps = [{ do = "slow", for = "1 day" }]
"#;

/// A model's API that uses all that it may, and adds it up.
fn model(used: &Arc<AtomicU64>) -> Model {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let used = Arc::clone(used);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (stream, used) = (stream.unwrap(), Arc::clone(&used));
            thread::spawn(move || {
                let mut reader = BufReader::new(&stream);
                while read_message(&mut reader).is_some() {
                    used.fetch_add(TOKENS, Ordering::Relaxed);
                    let answer = format!(
                        "{{\"choices\":[],\"usage\":{{\"prompt_tokens\":1,\"completion_tokens\":{TOKENS}}}}}"
                    );
                    let head = format!(
                        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
                        answer.len()
                    );
                    if (&mut &stream).write_all((head + &answer).as_bytes()).is_err() {
                        return;
                    }
                }
            });
        }
    });
    Model { address, prompts: Arc::default() }
}

fn write_findings(folder: &Path, campaign_id: &str, keys: &[String]) {
    fs::create_dir_all(folder).unwrap();
    let accounts: Vec<String> = keys
        .iter()
        .map(|key| {
            let hash = Sha256::digest(key.as_bytes());
            let half: String = hash[..16].iter().map(|byte| format!("{byte:02x}")).collect();
            format!("key_{half}")
        })
        .collect();
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
        ("account_id", Arc::new(StringArray::from_iter_values(&accounts))),
        ("membership", Arc::new(Float64Array::from(vec![1.0; accounts.len()]))),
    ])
    .unwrap();
    write_rows(&folder.join("members.parquet"), &members, 1000);
}

/// Asks; the status.
fn ask(stream: &mut TcpStream, key: &str) -> Option<u16> {
    let body = format!(
        "{{\"max_tokens\":{TOKENS},\"messages\":[{{\"role\":\"user\",\"content\":\"hello\"}}]}}"
    );
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: guard\r\nauthorization: Bearer {key}\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).ok()?;
    let mut reader = BufReader::new(&*stream);
    let status = std::io::BufRead::lines(&mut reader).next()?.ok()?;
    let status = status.split(' ').nth(1)?.parse().ok()?;
    read_message(&mut reader)?;
    Some(status)
}

#[test]
#[cfg(unix)]
fn three_guards_stay_below_one_limit_and_use_nearly_all_of_it() {
    let Some(mut nats) = Nats::start() else { return };
    let folder = folder();
    let findings = folder.path().join("findings");
    let keys: Vec<String> = (0..3).map(|client| format!("sk-{client}")).collect();
    write_findings(&findings, "c1", &keys);
    let policy = folder.path().join("policy.toml");
    fs::write(&policy, POLICY).unwrap();
    let used = Arc::<AtomicU64>::default();
    let model = model(&used);
    let url = nats.url("limits");
    let start = |number: usize| {
        let state = folder.path().join(format!("guard{number}"));
        let more = ["--verdicts", text(&findings), "--policy", text(&policy), "--limits", &url];
        Guard::start(&model, &state, &more)
    };
    let mut guards: Vec<Guard> = (0..3).map(start).collect();
    let addresses: Vec<Arc<Mutex<SocketAddr>>> =
        guards.iter().map(|guard| Arc::new(Mutex::new(guard.address))).collect();

    // It begins empty, so that all of it is what is filled in from a moment that is known.
    let key = format!("slow.{:016x}.{RATE}.{BURST}", xxh3_64(b"c1"));
    let month = Duration::from_secs(30 * 86_400);
    let began = wait(async {
        let cells = Cells::open(&nats.connect("limits").await, month).await.unwrap();
        let began = cells.time().await.unwrap();
        let empty = json!({
            "tokens_per_minute": RATE, "burst_tokens": BURST, "level": 0, "at_ns": began,
            "holders": {},
        });
        let none = cells.read(&key).await.unwrap();
        let made = cells.replace(&key, &none, empty.to_string().into()).await.unwrap();
        assert_eq!(made, Swap::Done);
        began
    });
    let is_over = Arc::new(AtomicBool::new(false));
    let (admitted, slowed) = (Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default());
    let clients: Vec<_> = (0..6)
        .map(|client| {
            let address = Arc::clone(&addresses[client % 3]);
            let key = keys[client % 3].clone();
            let is_over = Arc::clone(&is_over);
            let (admitted, slowed) = (Arc::clone(&admitted), Arc::clone(&slowed));
            thread::spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    let at = *address.lock().unwrap();
                    let Ok(mut stream) = TcpStream::connect(at) else {
                        thread::sleep(Duration::from_millis(5));
                        continue;
                    };
                    while !is_over.load(Ordering::Relaxed) {
                        match ask(&mut stream, &key) {
                            Some(200) => drop(admitted.fetch_add(1, Ordering::Relaxed)),
                            Some(429) => {
                                slowed.fetch_add(1, Ordering::Relaxed);
                                thread::sleep(Duration::from_millis(5));
                            }
                            Some(status) => panic!("{status}"),
                            None => break,
                        }
                    }
                }
            })
        })
        .collect();
    let until = |tokens: u64| {
        while used.load(Ordering::Relaxed) < tokens {
            thread::sleep(Duration::from_millis(5));
        }
    };
    until(15_000);
    guards[1].child.kill().unwrap();
    guards[1].child.wait().unwrap();
    guards[1] = start(1);
    *addresses[1].lock().unwrap() = guards[1].address;
    until(25_000);
    nats.kill();
    guards[0].says("slowed accounts get what this guard holds, and then wait");
    thread::sleep(Duration::from_millis(500));
    let without = used.load(Ordering::Relaxed);
    thread::sleep(Duration::from_millis(500));
    assert_eq!(used.load(Ordering::Relaxed), without, "what they held is used up");
    nats.run();
    guards[0].says("answers again");
    until(45_000);
    is_over.store(true, Ordering::Relaxed);
    clients.into_iter().for_each(|client| client.join().unwrap());
    for guard in &mut guards {
        guard.signal("-TERM");
        assert!(guard.child.wait().unwrap().success());
    }
    let (record, ended) = wait(async {
        let cells = Cells::open(&nats.connect("limits").await, month).await.unwrap();
        let record = cells.read(&key).await.unwrap().value.unwrap();
        (serde_json::from_slice::<Value>(&record).unwrap(), cells.time().await.unwrap())
    });
    let used = used.load(Ordering::Relaxed);
    let filled_by = |at_ns: i64| RATE as f64 * (at_ns - began) as f64 / 60e9;
    assert!(used as f64 <= filled_by(ended), "{used} of {}", filled_by(ended));
    let filled = filled_by(record["at_ns"].as_i64().unwrap());
    let left = record["level"].as_i64().unwrap() as f64;
    let share = (used as f64 + left) / filled;
    assert!(share >= 0.99, "{used} used and {left} left of {filled}: {record}");
    assert!(share <= 1.0, "{used} used and {left} left of {filled}: {record}");
    let turns: u64 = record["holders"]
        .as_object()
        .unwrap()
        .values()
        .map(|holder| holder["serial"].as_u64().unwrap())
        .sum();
    let asked = admitted.load(Ordering::Relaxed) + slowed.load(Ordering::Relaxed);
    println!("{share:.4} of the limit could be used, {turns} turns, {asked} asked");
    let admitted = admitted.load(Ordering::Relaxed);
    assert!(turns < admitted / 2, "{turns} turns for {admitted} exchanges");
}

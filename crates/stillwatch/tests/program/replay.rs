//! A simulated campaign replayed through a guard under the documented policy: what comes
//! after the look that found it, at speed, each exchange with its account's own key.
//!
//! The clock is that of the exchanges. The model stands in for the one that was asked
//! then: it answers with as many tokens as are on record, or fewer where it is told to.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};
use std::thread;
use std::time::Duration;

use arrow::array::{AsArray, BooleanArray, RecordBatch};
use arrow::compute::{cast, filter_record_batch};
use arrow::datatypes::{DataType, Float64Type, TimestampMicrosecondType};
use serde_json::{Value, json};
use stillwatch_exchange::Time;
use stillwatch_guard::{Broker, CredentialHash, Settings, Source};

use crate::setting::{folder, parts, rows, run, text, world, write_rows};

const LOOK: &str = "2026-03-23T00:00:00Z";

static NOW_US: AtomicI64 = AtomicI64::new(0);

/// An exchange of the log.
struct Logged {
    time: i64,
    account: String,
    is_embedding: bool,
    max_tokens: Option<u64>,
    choices: u64,
    top_logprobs: Option<u64>,
    output_tokens: u64,
    status: u64,
    /// The campaign that harvested it.
    campaign: Option<String>,
}

fn texts(rows: &RecordBatch, name: &str) -> Vec<Option<String>> {
    let column = cast(rows.column_by_name(name).unwrap(), &DataType::Utf8).unwrap();
    column.as_string::<i32>().iter().map(|text| text.map(str::to_owned)).collect()
}

fn numbers(rows: &RecordBatch, name: &str) -> Vec<Option<u64>> {
    let column = cast(rows.column_by_name(name).unwrap(), &DataType::Float64).unwrap();
    column.as_primitive::<Float64Type>().iter().map(|n| n.map(|n| n as u64)).collect()
}

/// The exchanges of a batch in the order of time, with what the truth says of them.
fn logged(rows: &RecordBatch, harvested: &BTreeMap<String, String>) -> Vec<Logged> {
    let times = rows.column_by_name("time").unwrap().as_primitive::<TimestampMicrosecondType>();
    let (ids, accounts) = (texts(rows, "exchange_id"), texts(rows, "account_id"));
    let operations = texts(rows, "operation_name");
    let [max_tokens, choices, top_logprobs, tokens, status] = [
        "request_max_tokens",
        "request_choice_count",
        "request_top_logprobs",
        "usage_output_tokens",
        "status",
    ]
    .map(|name| numbers(rows, name));
    let mut all: Vec<Logged> = (0..rows.num_rows())
        .map(|row| Logged {
            time: times.value(row),
            account: accounts[row].clone().unwrap(),
            is_embedding: operations[row].as_deref() == Some("embeddings"),
            max_tokens: max_tokens[row],
            choices: choices[row].unwrap_or(1).max(1),
            top_logprobs: top_logprobs[row].filter(|n| *n > 0),
            output_tokens: tokens[row].unwrap_or(0),
            status: status[row].unwrap_or(200),
            campaign: ids[row].as_ref().and_then(|id| harvested.get(id).cloned()),
        })
        .collect();
    all.sort_by(|a, b| (a.time, &a.account).cmp(&(b.time, &b.account)));
    all
}

/// One HTTP message: its head and its body.
fn read_message(stream: &mut BufReader<TcpStream>) -> Option<(String, Vec<u8>)> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("content-length").then(|| value.parse().unwrap())
    });
    let mut body = vec![0; length.unwrap_or(0)];
    if length.is_none() && head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
        loop {
            let mut size = String::new();
            stream.read_line(&mut size).ok()?;
            let size = usize::from_str_radix(size.trim(), 16).ok()?;
            let mut piece = vec![0; size + 2];
            stream.read_exact(&mut piece).ok()?;
            if size == 0 {
                return Some((head, body));
            }
            body.extend_from_slice(&piece[..size]);
        }
    }
    stream.read_exact(&mut body).ok()?;
    Some((head, body))
}

/// What a request of an exchange is.
fn asked(exchange: &Logged) -> Value {
    // What the model would say to it, for the stand-in to know.
    let said = json!({
        "tokens": exchange.output_tokens,
        "choices": exchange.choices,
        "asked": exchange.max_tokens,
        "status": exchange.status,
    });
    let mut body = json!({
        "model": "m",
        "n": exchange.choices,
        "messages": [{ "role": "user", "content": said.to_string() }],
    });
    if let Some(tokens) = exchange.max_tokens {
        body["max_completion_tokens"] = tokens.into();
    }
    if let Some(count) = exchange.top_logprobs {
        body["logprobs"] = true.into();
        body["top_logprobs"] = count.into();
    }
    body
}

/// A model that answers as on record: `seen` is what it was asked, hashed.
fn answered(body: &[u8]) -> (u64, Value) {
    let asked: Value = serde_json::from_slice(body).unwrap();
    let said: Value =
        serde_json::from_str(asked["messages"][0]["content"].as_str().unwrap()).unwrap();
    let number = |value: &Value| value.as_u64().unwrap();
    let (tokens, choices) = (number(&said["tokens"]), number(&said["choices"]));
    let mut each = tokens.div_ceil(choices);
    if asked.get("max_completion_tokens") != said.get("asked").filter(|asked| !asked.is_null()) {
        each = each.min(number(&asked["max_completion_tokens"]));
    }
    let given = tokens.min(each * number(&asked["n"]));
    let seen = CredentialHash::of(body).hex();
    let answer = json!({ "model": "m", "seen": seen, "choices": [],
        "usage": { "prompt_tokens": 1, "completion_tokens": given } });
    (number(&said["status"]), answer)
}

fn model() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || {
                stream.set_nodelay(true).unwrap();
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                let mut stream = stream;
                while let Some((_, body)) = read_message(&mut reader) {
                    let (status, answer) = answered(&body);
                    let answer = answer.to_string();
                    let head = format!(
                        "HTTP/1.1 {status} x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
                        answer.len()
                    );
                    if stream.write_all([head, answer].concat().as_bytes()).is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

/// A guard in this process with the documented policy, whose clock is [`NOW_US`].
fn settings(folder: &Path, findings: &Path, credentials: &Path) -> Settings {
    let page = include_str!("../../../../docs/guard.md");
    let policy = page.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    fs::write(folder.join("policy.toml"), policy).unwrap();
    Settings {
        listen: "127.0.0.1:0".parse().unwrap(),
        upstream: format!("http://{}", model()).parse().unwrap(),
        admin: "127.0.0.1:0".parse().unwrap(),
        grpc: None,
        records_grpc: false,
        policy: Some(folder.join("policy.toml")),
        state: folder.join("state"),
        credentials: Some(credentials.to_owned()),
        verdicts: vec![Source(findings.to_owned())],
        broker: Broker::default(),
        reasoning_keys: None,
        admin_key: "k3y-for-the-tests-0123456789".to_owned(),
        run_id: 7,
        clock: || Time(NOW_US.load(Ordering::SeqCst)),
        monotonic: Some(|| NOW_US.load(Ordering::SeqCst).saturating_mul(1000)),
        say: |_| {},
        head_timeout: Duration::from_secs(30),
        seal_seconds: 86_400,
        traces: None,
    }
}

fn key_of(account: &str) -> String {
    format!("sk-of-{account}")
}

/// What came back for an exchange.
struct Came {
    /// Output tokens that were given.
    tokens: u64,
    /// Whether request and answer went through unchanged.
    is_same: bool,
}

fn replay(address: SocketAddr, exchanges: &[Logged]) -> Vec<Came> {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut stream = stream;
    let mut all = Vec::with_capacity(exchanges.len());
    for exchange in exchanges {
        NOW_US.store(exchange.time, Ordering::SeqCst);
        let body = asked(exchange).to_string();
        let path = if exchange.is_embedding { "embeddings" } else { "chat/completions" };
        let request = format!(
            "POST /v1/{path} HTTP/1.1\r\nhost: guard\r\nauthorization: Bearer {}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            key_of(&exchange.account),
            body.len()
        );
        stream.write_all(request.as_bytes()).unwrap();
        let (head, answer) = read_message(&mut reader).expect("a whole answer");
        let status: u64 = head.split(' ').nth(1).unwrap().parse().unwrap();
        let (expected_status, expected) = answered(body.as_bytes());
        let is_same = answer == expected.to_string().as_bytes() && status == expected_status;
        let answer: Value = serde_json::from_slice(&answer).unwrap();
        let tokens = answer["usage"]["completion_tokens"].as_u64().unwrap_or(0);
        all.push(Came { tokens, is_same });
    }
    all
}

#[test]
fn over_95_percent_of_a_found_campaigns_harvest_is_kept_from_it() {
    let folder = folder();
    let path = |name: &str| folder.path().join(name);
    let (accounts, releases) = (world().join("accounts.parquet"), world().join("releases.parquet"));
    let findings = path("findings");
    run(&[
        "hunt",
        "--exchanges",
        text(&world().join("exchanges")),
        "--accounts",
        text(&accounts),
        "--releases",
        text(&releases),
        "--from",
        "2026-03-02T00:00:00Z",
        "--to",
        LOOK,
        "--epoch",
        "7d",
        "--out",
        text(&findings),
    ])
    .succeeded();

    let look = Time::parse(LOOK).unwrap().0;
    let all = rows(&parts(&world().join("exchanges")));
    let times = all.column_by_name("time").unwrap().as_primitive::<TimestampMicrosecondType>();
    let is_after: BooleanArray = times.values().iter().map(|time| Some(*time >= look)).collect();
    let after = filter_record_batch(&all, &is_after).unwrap();
    write_rows(&path("after.parquet"), &after, 4096);
    let truth = rows(&[world().join("truth_exchanges.parquet")]);
    let of_truth = texts(&truth, "exchange_id").into_iter().zip(texts(&truth, "campaign"));
    let harvested = of_truth.filter_map(|(id, campaign)| Some((id?, campaign?))).collect();
    let exchanges = logged(&after, &harvested);
    let truth = rows(&[world().join("truth_accounts.parquet")]);
    let of_truth = texts(&truth, "account_id").into_iter().zip(texts(&truth, "campaign"));
    let guilty: BTreeMap<String, String> =
        of_truth.filter_map(|(account, campaign)| Some((account?, campaign?))).collect();

    let mut credentials = String::new();
    for account in exchanges.iter().map(|e| &e.account).collect::<BTreeSet<_>>() {
        let hash = CredentialHash::of(key_of(account).as_bytes()).hex();
        writeln!(credentials, "{}", json!({ "credential_hash": hash, "account_id": account }))
            .unwrap();
    }
    fs::write(path("credentials.jsonl"), credentials).unwrap();

    NOW_US.store(exchanges[0].time, Ordering::SeqCst);
    let settings = settings(folder.path(), &findings, &path("credentials.jsonl"));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let running = runtime.block_on(stillwatch_guard::start(settings)).unwrap();
    let came = replay(running.listen, &exchanges);
    runtime.block_on(running.stop()).unwrap();

    // The crowd: every account that is in no campaign, found or not.
    let crowd = exchanges.iter().zip(&came).filter(|(e, _)| !guilty.contains_key(&e.account));
    let (count, touched) =
        crowd.fold((0, 0), |(n, t), (_, came)| (n + 1, t + u64::from(!came.is_same)));
    assert!(count > 5_000, "{count} exchanges of the crowd");
    assert_eq!(touched, 0, "refused, slowed or changed, of {count}");

    // A campaign counts as found when a finding has half of its accounts; then all that it
    // harvests counts, that of accounts that no finding names included.
    let members = rows(&[findings.join("members.parquet")]);
    let named: BTreeSet<String> = texts(&members, "account_id").into_iter().flatten().collect();
    let mut found = 0;
    for campaign in guilty.values().collect::<BTreeSet<_>>() {
        let own: Vec<&String> =
            guilty.iter().filter(|(_, c)| *c == campaign).map(|(a, _)| a).collect();
        let known = own.iter().filter(|account| named.contains(**account)).count();
        let (wanted, given) = exchanges
            .iter()
            .zip(&came)
            .filter(|(exchange, _)| exchange.campaign.as_ref() == Some(campaign))
            .fold((0, 0), |(w, g), (e, came)| (w + e.output_tokens, g + came.tokens));
        let kept = 1.0 - given as f64 / wanted as f64;
        println!(
            "{campaign}: {known} of {} accounts named, {wanted} tokens wanted, {given} given, {:.2} % kept",
            own.len(),
            100.0 * kept
        );
        if 2 * known >= own.len() {
            found += 1;
            assert!(wanted > 100_000 && kept > 0.95, "{kept}");
        } else {
            assert_eq!(given, wanted, "nothing is done without a finding");
        }
    }
    assert!(found > 0);

    // A rehearsal on the same exchanges tells beforehand what the guard has done.
    let out = path("rehearsal.json");
    run(&[
        "guard",
        "--rehearse",
        "--policy",
        text(&path("policy.toml")),
        "--verdicts",
        text(&findings),
        "--exchanges",
        text(&path("after.parquet")),
        "--state",
        text(&path("none")),
        "--out",
        text(&out),
    ])
    .succeeded();
    let told: Value = serde_json::from_slice(&fs::read(out).unwrap()).unwrap();
    let kept = exchanges.iter().zip(&came).map(|(e, came)| e.output_tokens - came.tokens);
    assert_eq!(told["named"]["kept_output_tokens"], kept.sum::<u64>());
}

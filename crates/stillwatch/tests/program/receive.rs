//! `stillwatch watch` as a receiver of OpenTelemetry: what it has acknowledged is counted,
//! and counted once, whatever happens to the process.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Stdio};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::setting::{Ran, folder, run, stillwatch, text};

/// 2026-03-02T00:00:00Z.
const START_NS: u64 = 1_772_409_600_000_000_000;
const BATCHES: u64 = 600;
const IN_A_BATCH: u64 = 20;

/// An export of a batch's exchanges.
pub fn export(batch: u64) -> String {
    let attribute =
        |key: &str, value: &str| json!({ "key": key, "value": { "stringValue": value } });
    let span = |number: u64| {
        json!({
            "traceId": format!("{batch:032x}"),
            "spanId": format!("{number:016x}"),
            "name": "chat",
            "startTimeUnixNano": (START_NS + batch * 60_000_000_000 + number).to_string(),
            "attributes": [
                attribute("gen_ai.request.model", "m"),
                attribute("gen_ai.prompt", &format!("Question {number} of {batch}?")),
                attribute("user.id", &format!("acct_{}", batch % 50)),
            ],
        })
    };
    let spans: Vec<Value> = (1..=IN_A_BATCH).map(span).collect();
    json!({ "resourceSpans": [{ "scopeSpans": [{ "spans": spans }] }] }).to_string()
}

/// Sends an export; whether it was acknowledged.
pub fn is_taken(to: SocketAddr, export: &str) -> bool {
    let Ok(mut stream) = TcpStream::connect(to) else { return false };
    let head = format!(
        "POST /v1/traces HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n",
        export.len()
    );
    let mut answer = String::new();
    stream.write_all(head.as_bytes()).is_ok()
        && stream.write_all(export.as_bytes()).is_ok()
        && stream.read_to_string(&mut answer).is_ok()
        && answer.starts_with("HTTP/1.1 200 ")
}

/// A watch, killed when dropped.
struct Watching(Child);

impl Drop for Watching {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn arguments(exchanges: &str, folder: &Path, more: &[&str]) -> Vec<String> {
    let (out, state) = (folder.join("found"), folder.join("state"));
    let fixed = ["watch", "--exchanges", exchanges, "--out", text(&out), "--state", text(&state)];
    fixed.iter().chain(more).map(|argument| (*argument).to_owned()).collect()
}

fn watching(exchanges: &str, folder: &Path) -> Watching {
    let arguments = arguments(exchanges, folder, &["--quiet"]);
    let mut command = stillwatch(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    Watching(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
}

fn watched(exchanges: &str, folder: &Path, more: &[&str]) -> Ran {
    let arguments = arguments(exchanges, folder, more);
    run(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
}

#[test]
fn killed_at_any_moment_what_was_acknowledged_is_counted_once() {
    let folder = folder();
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let source = format!("otlp-http://{address}");
    let mut random = 88_172_645_463_325_252_u64;
    let mut next = |below: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % below
    };
    let send = move |sender: u64| {
        for batch in (sender..BATCHES).step_by(3) {
            let export = export(batch);
            // Some are sent again although they were acknowledged.
            for _ in 0..=u64::from(batch % 10 == 0) {
                while !is_taken(address, &export) {
                    thread::sleep(Duration::from_millis(5));
                }
            }
        }
    };
    let senders: Vec<_> = (0..3).map(|sender| thread::spawn(move || send(sender))).collect();
    let mut kills = 0;
    while senders.iter().any(|sender| !sender.is_finished()) {
        let watching = watching(&source, folder.path());
        thread::sleep(Duration::from_millis(200 + next(500)));
        drop(watching);
        kills += 1;
    }
    senders.into_iter().for_each(|sender| sender.join().unwrap());
    assert!(kills > 1);
    // What was written down is read to its end, whatever the format of files is said to be.
    let nothing = folder.path().join("nothing");
    fs::create_dir(&nothing).unwrap();
    let all =
        watched(text(&nothing), folder.path(), &["--once", "--format", "litellm"]).succeeded();
    assert!(all.stdout.contains("Counted 12,000 exchanges in all"), "{}", all.stdout);
}

#[test]
fn addresses_that_can_not_be_used() {
    let folder = folder();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = format!("otlp-grpc://{}", taken.local_addr().unwrap());
    watched(&taken, folder.path(), &[]).failed(2, &["cannot listen on"]);
    watched("otlp-http://here", folder.path(), &[]).failed(2, &["127.0.0.1:4317"]);
    let source = "otlp-http://127.0.0.1:0";
    watched(source, folder.path(), &["--once"]).failed(2, &["--once"]);
    watched(source, folder.path(), &["--exchanges", source]).failed(2, &["another address"]);
}

#[test]
#[cfg(unix)]
fn keys_that_can_not_be_used() {
    use std::os::unix::fs::PermissionsExt;
    let folder = folder();
    let (path, source) = (folder.path().join("key"), "otlp-http://127.0.0.1:0");
    let with = |exchanges: &str, key: &str, mode: u32| {
        fs::write(&path, key).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        watched(exchanges, folder.path(), &["--receive-key-file", text(&path)])
    };
    for (key, mode, why) in [
        ("t3nantkey", 0o600, "16 bytes"),
        ("changeme-changeme", 0o600, "guessed"),
        ("t3nantkey-0123456789", 0o644, "chmod 600"),
    ] {
        let ran = with(source, key, mode).failed(2, &["the key for senders", why]);
        assert!(!ran.stderr.contains("t3nantkey"), "{}", ran.stderr);
    }
    with(text(folder.path()), "t3nantkey-0123456789", 0o600).failed(2, &["nothing is received"]);
    let mut command = stillwatch(&["watch", "--exchanges", source, "--out", text(folder.path())]);
    let ran = command.env("STILLWATCH_RECEIVE_KEY", "short").output().unwrap();
    Ran::from(ran).failed(2, &["STILLWATCH_RECEIVE_KEY", "16 bytes"]);
}

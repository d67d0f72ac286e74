//! Exchanges in a stream: published by guards, counted by a watch, each once, whatever is
//! killed and whenever.

use std::collections::BTreeMap;
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::Value;
use stillwatch_broker::{Access, Line, Part, Reader, StreamPlace, Writer};

use super::server::{Nats, wait};
use crate::guard::{Guard, Model, ask, recorded};
use crate::setting::{Ran, folder, run, stillwatch, text, world};
use crate::watch::all_lines;

/// The lines of all messages of a stream, by partition.
fn published(nats: &Nats, stream: &str) -> Vec<Value> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let address = nats.url(stream).parse().unwrap();
    let reader = Reader::begin(runtime.handle(), &address, &Access::default(), None).unwrap();
    let mut lines = Vec::new();
    let mut last = StreamPlace::default();
    while !reader.is_caught_up() {
        reader.wait(Duration::from_millis(100));
        while let Some(message) = reader.next_up_to(usize::MAX) {
            assert!(message.place.sequence > last.sequence);
            last = message.place;
            let text = std::str::from_utf8(&message.payload).unwrap();
            lines.extend(text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()));
        }
    }
    lines
}

/// A watch that counts to the end of a stream; what it counted in all.
fn counted(nats: &Nats, stream: &str, folder: &Path) -> u64 {
    let (out, state) = (folder.join("found"), folder.join("watch"));
    let url = nats.url(stream);
    let ran = run(&[
        "watch",
        "--once",
        "--exchanges",
        &url,
        "--out",
        text(&out),
        "--state",
        text(&state),
    ])
    .succeeded();
    let line = ran.stdout.lines().find(|line| line.starts_with("Counted ")).unwrap().to_owned();
    let number = line["Counted ".len()..].split(' ').next().unwrap().replace(',', "");
    number.parse().unwrap()
}

#[test]
fn a_stream_gives_what_standard_input_gives() {
    let Some(nats) = Nats::start() else { return };
    let folder = folder();
    let lines = all_lines();
    wait(async {
        let server = nats.connect("world").await;
        let writer = Writer::open(&server, "test").await.unwrap();
        // Several lines a message, one without its end, and one line of nonsense.
        let mut messages = Vec::new();
        for (number, lines) in lines.chunks(300).enumerate() {
            let payload = lines.concat().trim_end().to_owned();
            let reaches = (1, number as u32 + 1);
            let id = number.to_string();
            messages.push(Line { partition: 3, id, reaches, payload: payload.into() });
        }
        let id = "nonsense".to_owned();
        messages.push(Line { partition: 3, id, reaches: (2, 1), payload: "nonsense".into() });
        writer.write(messages.clone()).await.unwrap();
        // What is sent a second time is dropped.
        writer.write(messages).await.unwrap();
        assert_eq!(writer.reached(16).await.unwrap(), BTreeMap::from([(3, (2, 1))]));
    });
    let accounts = world().join("accounts.parquet");
    let found = |exchanges: &str, name: &str| -> Ran {
        let (out, state) = (folder.path().join(name), folder.path().join(format!("{name}-state")));
        let arguments = [
            &["watch", "--once", "--look-every", "7d", "--exchanges", exchanges, "--accounts"][..],
            &[text(&accounts), "--out", text(&out), "--state", text(&state), "--quiet"],
        ]
        .concat();
        let mut command = stillwatch(&arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        if exchanges == "-" {
            std::io::Write::write_all(&mut stdin, lines.concat().as_bytes()).unwrap();
            std::io::Write::write_all(&mut stdin, b"nonsense\n").unwrap();
        }
        drop(stdin);
        Ran::from(child.wait_with_output().unwrap()).succeeded()
    };
    found("-", "stdin");
    let url = nats.url("world");
    let ran = found(&url, "stream");
    assert!(ran.stdout.contains("        1  rows or cells could not be read"), "{}", ran.stdout);
    for file in ["campaigns.json", "members.parquet", "groups.jsonl"] {
        let read = |name: &str| fs::read(folder.path().join(name).join(file)).unwrap();
        assert!(read("stdin") == read("stream"), "{file} differs");
    }
    let total = |ran: &Ran| {
        let line = ran.stdout.lines().find(|line| line.starts_with("Counted ")).unwrap();
        line.split(" in all").next().unwrap().to_owned()
    };
    let again = found(&url, "stream");
    assert_eq!(total(&again), total(&ran), "nothing is counted twice");
}

#[test]
fn a_reader_that_takes_its_time_is_sent_everything_once() {
    let Some(nats) = Nats::start() else { return };
    let message = |number: u32, payload: Vec<u8>| Line {
        partition: 1 + number % 2,
        id: number.to_string(),
        reaches: (u64::from(number), 1),
        payload: payload.into(),
    };
    wait(async {
        let server = nats.connect("slow").await;
        let writer = Writer::open(&server, "test").await.unwrap();
        let all = (1..=400).map(|number| message(number, vec![b'x'; 9_000])).collect();
        writer.write(all).await.unwrap();
    });
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let address = nats.url("slow").parse().unwrap();
    let part = Part { subjects: vec!["slow.2.*".to_owned()], is_marked: true };
    let access = Access::default();
    let reader = Reader::begin_part(runtime.handle(), &address, &access, None, part).unwrap();
    let (mut places, mut messages) = (Vec::new(), 0);
    while places.last() != Some(&400) {
        reader.wait(Duration::from_secs(10));
        while let Some(message) = reader.next_up_to(usize::MAX) {
            places.push(message.place.sequence);
            messages += usize::from(!message.payload.is_empty());
            // Longer than the server keeps a request.
            if messages == 20 || messages == 60 {
                thread::sleep(Duration::from_millis(2_500));
            }
        }
    }
    assert_eq!(messages, 200);
    assert!(places.is_sorted_by(|one, other| one < other), "{places:?}");
    assert_eq!(reader.problems(), Vec::<String>::new());
}

/// Numbers from a seed (SplitMix64).
pub struct Numbers(pub u64);

impl Numbers {
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }
}

/// A watch that goes on until it is killed.
fn watch(nats: &Nats, folder: &Path) -> Child {
    let (out, state) = (folder.join("found"), folder.join("watch"));
    let url = nats.url("exchanges");
    stillwatch(&["watch", "--quiet", "--exchanges", &url, "--out", text(&out)])
        .args(["--state", text(&state)])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Guard, watch and server are killed at random moments; `STILLWATCH_TEST_KILLS` says how
/// often (12), and `STILLWATCH_TEST_SEED` when.
#[test]
#[cfg(unix)]
fn whatever_is_killed_every_exchange_is_recorded_and_counted_once() {
    let Some(mut nats) = Nats::start() else { return };
    let variable = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let kills: u64 = variable("STILLWATCH_TEST_KILLS").unwrap_or(12);
    let mut numbers = Numbers(variable("STILLWATCH_TEST_SEED").unwrap_or(1));
    let model = Model::start();
    let folder = folder();
    let state = folder.path().join("guard");
    let url = nats.url("exchanges");
    let start = || Guard::start(&model, &state, &["--publish", &url]);

    let mut guard = start();
    let address = Arc::new(Mutex::new(guard.address));
    let is_over = Arc::new(AtomicBool::new(false));
    let answered = Arc::<Mutex<Vec<String>>>::default();
    let clients: Vec<_> = (0..3)
        .map(|client| {
            let address: Arc<Mutex<SocketAddr>> = Arc::clone(&address);
            let (is_over, answered) = (Arc::clone(&is_over), Arc::clone(&answered));
            thread::spawn(move || {
                let mut turn = 0;
                while !is_over.load(Ordering::Relaxed) {
                    let at = *address.lock().unwrap();
                    let Ok(mut stream) = TcpStream::connect(at) else {
                        thread::sleep(Duration::from_millis(5));
                        continue;
                    };
                    while !is_over.load(Ordering::Relaxed) {
                        turn += 1;
                        let prompt = format!("client {client} turn {turn}");
                        if ask(&mut stream, &prompt).is_none() {
                            break;
                        }
                        answered.lock().unwrap().push(prompt);
                        thread::sleep(Duration::from_millis(1));
                    }
                }
            })
        })
        .collect();
    let mut watching = watch(&nats, folder.path());
    for _ in 0..kills {
        thread::sleep(Duration::from_millis(50 + numbers.below(1200)));
        match numbers.below(4) {
            0 => {
                guard.child.kill().unwrap();
                guard.child.wait().unwrap();
                guard = start();
                *address.lock().unwrap() = guard.address;
            }
            1 => {
                watching.kill().unwrap();
                watching.wait().unwrap();
                watching = watch(&nats, folder.path());
            }
            2 => {
                nats.kill();
                thread::sleep(Duration::from_millis(numbers.below(1500)));
                nats.run();
            }
            _ => {
                nats.kill();
                guard.child.kill().unwrap();
                guard.child.wait().unwrap();
                guard = start();
                *address.lock().unwrap() = guard.address;
                thread::sleep(Duration::from_millis(numbers.below(800)));
                nats.run();
            }
        }
    }
    is_over.store(true, Ordering::Relaxed);
    clients.into_iter().for_each(|client| client.join().unwrap());
    watching.kill().unwrap();
    watching.wait().unwrap();
    guard.signal("-TERM");
    assert!(guard.child.wait().unwrap().success());
    // What the end did not give time for is published by the next run.
    let again = start();
    thread::sleep(Duration::from_secs(1));
    again.signal("-TERM");
    assert!(again.child.wait_with_output().unwrap().status.success());

    let records = recorded(&state);
    let answered = answered.lock().unwrap();
    assert!(answered.len() > 500, "{} answered", answered.len());
    for prompt in model.prompts.lock().unwrap().iter().chain(answered.iter()) {
        assert_eq!(records.get(prompt), Some(&1), "{prompt} is on record once");
    }
    let mut in_stream = BTreeMap::<String, usize>::new();
    let mut ids = BTreeMap::<String, usize>::new();
    for line in published(&nats, "exchanges") {
        *in_stream.entry(line["prompt"].as_str().unwrap().to_owned()).or_default() += 1;
        *ids.entry(line["exchange_id"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    assert!(ids.values().all(|count| *count == 1), "an exchange is published twice");
    assert_eq!(in_stream, records, "what is on record is published");
    let all: usize = records.values().sum();
    assert_eq!(counted(&nats, "exchanges", folder.path()), all as u64);
}

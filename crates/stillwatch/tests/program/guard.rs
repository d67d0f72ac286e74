//! `stillwatch guard` as a process: killed at any moment, told to end, told to reload.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use arrow::array::{Array, StringViewArray};

use crate::setting::{folder, hunt, parts, rows, run, stillwatch, text};

/// A model's API that answers every prompt and remembers it.
pub struct Model {
    pub address: SocketAddr,
    pub prompts: Arc<Mutex<Vec<String>>>,
}

impl Model {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let prompts = Arc::<Mutex<Vec<String>>>::default();
        let seen = Arc::clone(&prompts);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, seen) = (stream.unwrap(), Arc::clone(&seen));
                thread::spawn(move || answer(&stream, &seen));
            }
        });
        Model { address, prompts }
    }
}

/// Answers requests on a connection, in two pieces with a pause between them.
fn answer(stream: &TcpStream, seen: &Mutex<Vec<String>>) -> Option<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let body = String::from_utf8(read_message(&mut reader)?).unwrap();
        let prompt = body.split("\"content\":\"").nth(1)?.split('"').next()?.to_owned();
        seen.lock().unwrap().push(prompt);
        let answer = r#"{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}"#;
        let (first, second) = answer.split_at(20);
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{first}",
            answer.len()
        );
        (&mut &*stream).write_all(head.as_bytes()).ok()?;
        thread::sleep(Duration::from_millis(3));
        (&mut &*stream).write_all(second.as_bytes()).ok()?;
    }
}

/// The body of a message with a length.
pub fn read_message(reader: &mut impl BufRead) -> Option<Vec<u8>> {
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line == "\r\n" {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(body)
}

pub struct Guard {
    pub child: Child,
    stderr: BufReader<ChildStderr>,
    pub address: SocketAddr,
}

impl Guard {
    pub fn start(model: &Model, state: &Path, more: &[&str]) -> Self {
        Guard::run(Guard::command(&format!("http://{}", model.address), state, more))
    }

    /// The program as a guard before this API.
    pub fn command(upstream: &str, state: &Path, more: &[&str]) -> Command {
        let arguments = [
            &["guard", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"][..],
            &["--seal-every", "1", "--upstream", upstream, "--state", text(state)],
            more,
        ]
        .concat();
        let mut command = stillwatch(&arguments);
        command.env_remove("STILLWATCH_ADMIN_KEY");
        command
    }

    pub fn run(mut command: Command) -> Self {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let Some(address) = line.trim().strip_prefix("listening on ") else {
            let mut why = String::new();
            stderr.read_to_string(&mut why).unwrap();
            panic!("{line}{why}");
        };
        Guard { child, stderr, address: address.parse().unwrap() }
    }

    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([name, &self.child.id().to_string()]).status();
        assert!(sent.unwrap().success());
    }

    /// Waits for its end; what else it has said.
    pub fn ended(mut self) -> (ExitStatus, String) {
        let mut rest = String::new();
        self.stderr.read_to_string(&mut rest).unwrap();
        (self.child.wait().unwrap(), rest)
    }

    /// Waits for a line on standard error; returns it and what came before.
    pub fn says(&mut self, what: &str) -> String {
        let mut all = String::new();
        while !all.contains(what) {
            assert!(self.stderr.read_line(&mut all).unwrap() > 0, "never said {what}: {all}");
        }
        all
    }
}

/// Asks on a connection; whether a whole answer came.
pub fn ask(stream: &mut TcpStream, prompt: &str) -> Option<Vec<u8>> {
    let body = format!("{{\"messages\":[{{\"role\":\"user\",\"content\":\"{prompt}\"}}]}}");
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: guard\r\nauthorization: Bearer sk-{}\r\n\
         content-length: {}\r\n\r\n{body}",
        prompt.len(),
        body.len()
    );
    stream.write_all(request.as_bytes()).ok()?;
    read_message(&mut BufReader::new(&*stream))
}

/// How often each prompt is on record.
pub fn recorded(state: &Path) -> BTreeMap<String, usize> {
    let rows = rows(&parts(&state.join("records")));
    let prompts = rows.column_by_name("prompt").unwrap();
    let prompts = prompts.as_any().downcast_ref::<StringViewArray>().unwrap();
    let mut counts = BTreeMap::new();
    for prompt in prompts.iter().flatten() {
        *counts.entry(prompt.to_owned()).or_default() += 1;
    }
    counts
}

#[test]
#[cfg(unix)]
fn killed_at_any_moment_every_exchange_has_one_record() {
    let model = Model::start();
    let folder = folder();
    let state = folder.path().join("state");
    let answered = Arc::<Mutex<Vec<String>>>::default();
    for round in 0..10_u64 {
        let mut guard = Guard::start(&model, &state, &[]);
        let clients: Vec<_> = (0..4)
            .map(|client| {
                let (address, answered) = (guard.address, Arc::clone(&answered));
                thread::spawn(move || {
                    let Ok(mut stream) = TcpStream::connect(address) else { return };
                    for turn in 0.. {
                        let prompt = format!("round {round} client {client} turn {turn}");
                        if ask(&mut stream, &prompt).is_none() {
                            return;
                        }
                        answered.lock().unwrap().push(prompt);
                    }
                })
            })
            .collect();
        // Moments spread over two periods of sealing.
        thread::sleep(Duration::from_millis(100 + round * 7919 % 2000));
        guard.child.kill().unwrap();
        guard.child.wait().unwrap();
        clients.into_iter().for_each(|client| client.join().unwrap());
    }
    let guard = Guard::start(&model, &state, &[]);
    guard.signal("-TERM");
    assert!(guard.child.wait_with_output().unwrap().status.success());

    let records = recorded(&state);
    let twice: Vec<_> = records.iter().filter(|(_, count)| **count > 1).collect();
    assert!(twice.is_empty(), "{twice:?}");
    let answered = answered.lock().unwrap();
    assert!(answered.len() > 1000, "{} answered", answered.len());
    for prompt in model.prompts.lock().unwrap().iter().chain(answered.iter()) {
        assert!(records.contains_key(prompt), "{prompt} is not on record");
    }
    let out = folder.path().join("findings");
    let hunted = hunt(&[&state.join("records")], &out).succeeded();
    assert!(hunted.stdout.starts_with("Read "), "{}", hunted.stdout);
    assert!(!hunted.stdout.contains("unknown"), "{}", hunted.stdout);
    let read = fs::read_to_string(out.join("run.json")).unwrap();
    let read: serde_json::Value = serde_json::from_str(&read).unwrap();
    assert_eq!(
        read["rows_read"].as_u64().unwrap(),
        records.len() as u64,
        "a hunt reads all of them"
    );
}

#[test]
#[cfg(unix)]
fn told_to_reload_and_to_end() {
    let model = Model::start();
    let folder = folder();
    let state = folder.path().join("state");
    let policy = folder.path().join("policy.toml");
    fs::write(&policy, "mode = \"enforce\"\n").unwrap();
    let mut guard = Guard::start(&model, &state, &["--policy", text(&policy)]);
    guard.says("a key for administration is in ");
    use std::os::unix::fs::PermissionsExt;
    let key = fs::metadata(state.join("admin.key")).unwrap();
    assert_eq!((key.permissions().mode() & 0o777, key.len()), (0o600, 65));
    guard.signal("-HUP");
    guard.says("reloaded: 0 campaigns");
    fs::write(&policy, "mode = \"enforce\"\nmood = 3\n").unwrap();
    guard.says("policy.toml line 2: unknown field `mood`");
    let mut stream = TcpStream::connect(guard.address).unwrap();
    assert!(ask(&mut stream, "after all that").is_some());
    guard.signal("-TERM");
    assert!(guard.child.wait().unwrap().success());
    assert_eq!(recorded(&state)["after all that"], 1);
}

#[test]
fn arguments_that_can_not_be_used() {
    let folder = folder();
    let state = folder.path().join("state");
    let policy = folder.path().join("policy.toml");
    fs::write(&policy, "\n[[rule]]\nsteps = []").unwrap();
    let refused = |more: &[&str]| {
        let base =
            ["guard", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--state", text(&state)];
        run(&[&base[..], more].concat())
    };
    refused(&["--upstream", "example.com"]).failed(2, &["--upstream example.com"]);
    refused(&["--upstream", "http://x", "--policy", text(&policy)])
        .failed(2, &["policy.toml line 2", "no steps"]);
    refused(&["--upstream", "http://x", "--policy", "/none"]).failed(2, &["/none", "No such file"]);
    refused(&["--upstream", "http://x", "--verdicts", text(folder.path())])
        .failed(2, &["campaigns.json"]);
    refused(&["--upstream", "http://x", "--verdicts", "nats://x"])
        .failed(2, &["--verdicts", "names no bucket"]);
    refused(&["--upstream", "http://x", "--verdicts", "nats://u:pa55@127.0.0.1:1/V"])
        .failed(2, &["nats://127.0.0.1:1/V does not answer", "none of an earlier run"]);
    refused(&["--upstream", "http://x", "--verdicts", "s3://x/V"])
        .failed(2, &["s3://x/V", "bucket"]);
    let traces = |more: &[&str]| refused(&[&["--upstream", "http://x"], more].concat());
    traces(&["--traces", "collector:4317"]).failed(2, &["--traces collector:4317"]);
    traces(&["--traces", "https://collector:4317"]).failed(2, &["on this machine"]);
    let ratio = traces(&["--traces", "http://127.0.0.1:4317", "--traces-ratio", "2"]);
    assert_eq!(ratio.status, Some(2), "{}", ratio.stderr);
    assert!(ratio.stderr.contains("0 to 1"), "{}", ratio.stderr);
    for (key, why) in [
        ("short", "16 bytes"),
        ("changeme-changeme", "guessed"),
        ("aaaaaaaaaaaaaaaaaaaaaa", "guessed"),
    ] {
        let arguments = ["guard", "--upstream", "http://x", "--state", text(&state), "--quiet"];
        let ran = stillwatch(&arguments).env("STILLWATCH_ADMIN_KEY", key).output().unwrap();
        let ran = crate::setting::Ran::from(ran).failed(2, &["STILLWATCH_ADMIN_KEY", why]);
        assert!(!ran.stderr.contains(key), "a key is never shown");
    }
}

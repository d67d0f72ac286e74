//! Advice to other gateways: what is answered, and the configurations of docs/gateways in
//! the real programs. nginx and Envoy are used where they are found, which `.ci/run` sees
//! to; elsewhere their tests say that they skip.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::json;
use stillwatch_guard::Running;

use crate::setting::{ADMIN_KEY, Answer, Mock, World, post, send};

pub const CHAT: &str = "/v1/chat/completions";
pub const SLOW: &str = r#"
mode = "enforce"
[slow]
output_tokens_per_minute = 6000
burst_tokens = 6000
[[rule]]
steps = [{ do = ["slow", "cap", "withhold"], for = "1 day" }]
"#;
pub const REFUSE: &str = r#"
mode = "enforce"
[appeal]
contact = "abuse@example.com"
[[rule]]
steps = [{ do = "refuse", for = "1 day" }]
"#;

/// Asks as a gateway does, with these headers.
async fn advise(address: SocketAddr, target: &str, headers: &[(&str, &str)]) -> Answer {
    let headers: String =
        headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let request = format!("GET {target} HTTP/1.1\r\nhost: x\r\n{headers}connection: close\r\n\r\n");
    send(address, &request).await
}

#[tokio::test]
async fn a_gateway_is_told_by_status_and_headers() {
    let mock = Mock::saying("application/json", "{}").await;
    let world = World::new(mock.address, SLOW).with_finding("c1", &["sk-bad"]);
    let running = world.start().await;
    let key = ("stillwatch-key", ADMIN_KEY);
    let bad = ("authorization", "Bearer sk-bad");

    for headers in [&[bad][..], &[bad, ("stillwatch-key", "wrong")]] {
        assert_eq!(advise(running.admin, "/v1/authorize", headers).await.status, 401);
    }
    // The administration's key is no way in where the client's credential is expected.
    let admin = format!("Bearer {ADMIN_KEY}");
    let own = [("authorization", admin.as_str())];
    assert_eq!(advise(running.admin, "/v1/authorize", &own).await.status, 401);

    let good = [key, ("x-api-key", "sk-good")];
    let answer = advise(running.admin, "/v1/authorize", &good).await;
    assert_eq!((answer.status, answer.header("stillwatch-verdict")), (200, Some("allow")));
    assert_eq!(answer.header("stillwatch-until"), None);

    let answer = advise(running.admin, "/v1/authorize?tokens=6000", &[key, bad]).await;
    assert_eq!((answer.status, answer.header("stillwatch-verdict")), (200, Some("withhold")));
    assert_eq!(answer.header("stillwatch-until"), Some("2026-03-03T00:00:00Z"));
    assert_eq!(answer.header("stillwatch-max-output-tokens"), Some("512"));
    assert_eq!(answer.header("stillwatch-max-choices"), Some("1"));
    assert!(answer.header("stillwatch-withhold").is_some_and(|what| what.contains("logprobs")));
    let answer = advise(running.admin, "/v1/authorize?tokens=6000", &[key, bad]).await;
    assert_eq!((answer.status, answer.header("stillwatch-status")), (429, Some("429")));
    assert!(answer.header("retry-after").is_some_and(|wait| wait.parse::<u64>().unwrap() > 50));
    assert_eq!(answer.json()["error"]["code"], "rate_limit_exceeded");
    let answer = advise(running.admin, "/v1/authorize?deny=403", &[key, bad]).await;
    assert_eq!((answer.status, answer.header("stillwatch-status")), (403, Some("429")));
    // What is no request to a model costs nothing.
    let list = "/v1/authorize/v1/models";
    assert_eq!(advise(running.admin, list, &[key, bad]).await.status, 200);
    // The dialect is the client's.
    let uri = ("x-original-uri", "/v1/messages");
    let answer = advise(running.admin, "/v1/authorize", &[key, bad, uri]).await;
    assert_eq!(answer.json()["type"], "error");
    let two = [key, bad, ("x-api-key", "sk-good")];
    assert_eq!(advise(running.admin, "/v1/authorize", &two).await.status, 400);
    let metrics = advise(running.admin, "/metrics", &own).await.body;
    assert!(!metrics.contains("sk-"), "{metrics}");
    running.stop().await.unwrap();
}

#[tokio::test]
async fn who_only_observes_refuses_nobody() {
    let mock = Mock::saying("application/json", "{}").await;
    let observe = REFUSE.replace("mode = \"enforce\"", "");
    let world = World::new(mock.address, &observe).with_finding("c1", &["sk-bad"]);
    let running = world.start().await;
    let headers = [("stillwatch-key", ADMIN_KEY), ("authorization", "Bearer sk-bad")];
    let answer = advise(running.admin, "/v1/authorize", &headers).await;
    assert_eq!((answer.status, answer.header("stillwatch-verdict")), (200, Some("record")));
    running.stop().await.unwrap();
}

/// What LiteLLM sends before a request to a model, as its documentation shows it.
fn guardrail(hash: &str, input_type: &str) -> String {
    let body = json!({
        "input_type": input_type, "texts": ["secret words"], "images": null, "tools": [],
        "structured_messages": [{ "role": "user", "content": "secret words" }],
        "litellm_call_id": "1", "litellm_trace_id": "2",
        "request_data": { "user_api_key_hash": hash, "user_api_key_alias": "a", "user_api_key_team_id": null },
    })
    .to_string();
    format!(
        "POST /beta/litellm_basic_guardrail_api HTTP/1.1\r\nhost: x\r\nx-api-key: {ADMIN_KEY}\r\n\
         content-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn sha256(key: &str) -> String {
    use sha2::{Digest, Sha256};
    Sha256::digest(key.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn litellm_is_told_in_its_own_words() {
    let mock = Mock::saying("application/json", "{}").await;
    let world = World::new(mock.address, REFUSE).with_finding("c1", &["sk-bad"]);
    let running = world.start().await;
    let ask = async |hash: &str, kind| send(running.admin, &guardrail(hash, kind)).await;
    let refused = ask(&sha256("sk-bad"), "request").await.json();
    assert_eq!(refused["action"], "BLOCKED");
    let why = refused["blocked_reason"].as_str().unwrap();
    assert!(why.contains("abuse@example.com") && !why.contains("secret"), "{why}");
    for (hash, kind) in
        [(sha256("sk-bad"), "response"), (sha256("sk-good"), "request"), ("x".into(), "request")]
    {
        assert_eq!(ask(&hash, kind).await.json(), json!({ "action": "NONE" }));
    }
    let unkeyed = guardrail("x", "request").replace(ADMIN_KEY, "wrong");
    assert_eq!(send(running.admin, &unkeyed).await.status, 401);
    let broken = guardrail("x", "request").replace("{\"", "[\"");
    assert_eq!(send(running.admin, &broken).await.status, 400);
    running.stop().await.unwrap();
}

/// A gateway that somebody else wrote, stopped when dropped.
pub struct Gateway {
    process: Child,
    pub listen: SocketAddr,
}

impl Gateway {
    /// Waits until it takes connections.
    pub async fn ready(&self) {
        for _ in 0..600 {
            if tokio::net::TcpStream::connect(self.listen).await.is_ok() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The program of a name, on the path or in one of these folders.
fn program(name: &str, folders: &[PathBuf]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let all: Vec<PathBuf> = std::env::split_paths(&path).chain(folders.iter().cloned()).collect();
    all.into_iter().map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// A configuration of docs/gateways, for this model and this guard.
pub fn configuration(name: &str, model: SocketAddr, guard: SocketAddr) -> (String, SocketAddr) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/gateways").join(name);
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let text = fs::read_to_string(file)
        .unwrap()
        .replace("KEY", ADMIN_KEY)
        .replace("server 127.0.0.1:9000", &format!("server {model}"))
        .replace("server 127.0.0.1:8081", &format!("server {guard}"))
        .replace("http://127.0.0.1:8081", &format!("http://{guard}"))
        .replace("listen 127.0.0.1:8080", &format!("listen {free}"))
        .replace("port_value: 9000", &format!("port_value: {}", model.port()))
        .replace("port_value: 8081", &format!("port_value: {}", guard.port()))
        .replace("port_value: 8082", &format!("port_value: {}", guard.port()))
        .replace("port_value: 8080", &format!("port_value: {}", free.port()));
    (text, free)
}

fn nginx(folder: &Path, model: SocketAddr, guard: &Running) -> Option<Gateway> {
    let program = program("nginx", &["/usr/sbin".into()])?;
    let (text, listen) = configuration("nginx.conf", model, guard.admin);
    fs::write(folder.join("gateway.conf"), text).unwrap();
    let at = folder.display();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|name| format!("{name}_temp_path {at}/{name};\n"))
        .collect();
    let main = format!(
        "daemon off; master_process off; pid {at}/nginx.pid; error_log {at}/error.log;\n\
         events {{}}\nhttp {{ access_log off;\n{temporary}include {at}/gateway.conf; }}\n"
    );
    fs::write(folder.join("nginx.conf"), main).unwrap();
    let mut command = Command::new(program);
    command.arg("-p").arg(folder).arg("-c").arg(folder.join("nginx.conf"));
    Some(Gateway { process: quietly(command), listen })
}

/// Envoy with a configuration of docs/gateways.
pub fn envoy_with(
    name: &str,
    folder: &Path,
    model: SocketAddr,
    guard: SocketAddr,
) -> Option<Gateway> {
    let (text, listen) = configuration(name, model, guard);
    envoy_on(folder, &text, listen)
}

/// Envoy with a configuration that listens there.
pub fn envoy_on(folder: &Path, text: &str, listen: SocketAddr) -> Option<Gateway> {
    // PyPI's package puts it beside the Python that it was installed for.
    let python = std::env::var_os("STILLWATCH_TEST_PYTHON").map(PathBuf::from);
    let beside = python.and_then(|python| Some(python.parent()?.to_owned()));
    let program = program("envoy", &beside.into_iter().collect::<Vec<_>>())?;
    let file = folder.join("envoy.yaml");
    fs::write(&file, text).unwrap();
    let mut command = Command::new(program);
    command.arg("-c").arg(file).args([
        "--use-dynamic-base-id",
        "--concurrency",
        "1",
        "--log-level",
        "error",
    ]);
    Some(Gateway { process: quietly(command), listen })
}

fn quietly(mut command: Command) -> Child {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

fn envoy(folder: &Path, model: SocketAddr, guard: &Running) -> Option<Gateway> {
    envoy_with("envoy.yaml", folder, model, guard.admin)
}

pub type Start = fn(&Path, SocketAddr, &Running) -> Option<Gateway>;

/// What every gateway does with the advice, tried on the real program.
pub async fn heeds(name: &str, start: Start) {
    for policy in [SLOW, REFUSE] {
        let mock = Mock::saying("application/json", r#"{"id":"1"}"#).await;
        let mut world = World::new(mock.address, policy).with_finding("c1", &["sk-bad"]);
        world.settings.grpc = Some("127.0.0.1:0".parse().unwrap());
        let running = world.start().await;
        let Some(gateway) = start(world.folder.path(), mock.address, &running) else {
            eprintln!("skipped: no {name} on this machine");
            return;
        };
        gateway.ready().await;
        let asks = async |key| send(gateway.listen, &post(CHAT, key, r#"{"model":"m"}"#)).await;

        let answer = asks("sk-good").await;
        assert_eq!(
            (answer.status, answer.body.contains("\"id\"")),
            (200, true),
            "{name}: {answer:?}"
        );
        assert_eq!(mock.last().body, br#"{"model":"m"}"#, "{name}: what the model gets");
        if policy == SLOW {
            // Three times 2,000 tokens, and then there are none.
            for _ in 0..3 {
                assert_eq!(asks("sk-bad").await.status, 200, "{name}");
            }
            let slowed = asks("sk-bad").await;
            assert_eq!(slowed.status, 429, "{name}: {slowed:?}");
            assert!(slowed.header("retry-after").is_some(), "{name}: {slowed:?}");
            assert_eq!(slowed.json()["error"]["code"], "rate_limit_exceeded");
            assert_eq!(mock.count(), 4, "{name}: refused requests do not reach the model");
        } else {
            let refused = asks("sk-bad").await;
            assert_eq!((refused.status, mock.count()), (403, 1), "{name}: {refused:?}");
            assert_eq!(refused.json()["error"]["code"], "access_suspended");
        }
        assert_eq!(asks("sk-good").await.status, 200, "{name}");
        // A guard that is gone stops no traffic.
        running.stop().await.unwrap();
        assert_eq!(asks("sk-bad").await.status, 200, "{name} without the guard");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nginx_heeds_the_advice() {
    heeds("nginx", nginx).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn envoy_heeds_the_advice() {
    heeds("envoy", envoy).await;
}

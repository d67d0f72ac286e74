//! Reasoning blocks that come back: from whom they were issued to, and from others.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use stillwatch_guard::Running;

use crate::setting::{
    Act, Answer, Mock, Seen, World, chunk, chunked_head, last_chunk, plain, post, send,
};

const MESSAGES: &str = "/v1/messages";
const RESPONSES: &str = "/v1/responses";

/// A vendor that thinks, and whose blocks are `c2ln` and `ZW5j`.
fn vendor(seen: &Seen) -> Vec<Act> {
    let is_stream = String::from_utf8_lossy(&seen.body).contains("\"stream\":true");
    if is_stream {
        let event = |data: &str| chunk(&format!("event: x\ndata: {data}\n\n"));
        return vec![
            chunked_head("text/event-stream"),
            event(
                r#"{"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"c2ln"}}"#,
            ),
            event(
                r#"{"type":"response.output_item.done","item":{"type":"reasoning","encrypted_content":"ZW5j"}}"#,
            ),
            last_chunk(),
        ];
    }
    let answer = r#"{"model":"m", "content":[{"type":"thinking","thinking":"t","signature":"c2ln"}],
        "output":[{"type":"reasoning","encrypted_content":"ZW5j"}]}"#;
    vec![Act::Send(plain("application/json", answer.as_bytes()))]
}

const BIND: &str = "mode = \"enforce\"\n[reasoning]\nbind = true\n";

fn write_keys(path: &Path, lines: &[&str]) {
    let keys: Vec<String> = lines.iter().map(|line| line.repeat(32)).collect();
    fs::write(path, keys.join("\n")).unwrap();
    #[cfg(unix)]
    fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
}

async fn world(policy: &str) -> (Mock, World) {
    let mock = Mock::start(vendor).await;
    let mut world = World::new(mock.address, policy);
    let keys = world.path("keys");
    write_keys(&keys, &["a"]);
    world.settings.reasoning_keys = Some(keys);
    (mock, world)
}

fn ask(model: &str, session: &str, signature: &str) -> String {
    json!({ "model": model, "metadata": { "session_id": session }, "messages": [
        { "role": "user", "content": "x" },
        { "role": "assistant", "content": [
            { "type": "thinking", "thinking": "t", "signature": signature }] },
        { "role": "user", "content": "y" }] })
    .to_string()
}

fn ask_responses(model: &str, content: &str) -> String {
    json!({ "model": model, "input": [
        { "type": "reasoning", "summary": [], "encrypted_content": content },
        { "role": "user", "content": "y" }] })
    .to_string()
}

async fn issue(running: &Running, key: &str) -> String {
    let body = r#"{"model":"m","metadata":{"session_id":"s"},"messages":[]}"#;
    let answer = send(running.listen, &post(MESSAGES, key, body)).await;
    answer.json()["content"][0]["signature"].as_str().unwrap().to_owned()
}

async fn messages(running: &Running, key: &str, body: &str) -> Answer {
    send(running.listen, &post(MESSAGES, key, body)).await
}

#[tokio::test]
async fn a_block_replayed_by_another_account_is_refused() {
    let (mock, world) = world(BIND).await;
    let running = world.start().await;
    let block = issue(&running, "sk-1").await;
    assert!(block.starts_with("sw1.") && block.ends_with(".c2ln"), "{block}");
    let own = messages(&running, "sk-1", &ask("m", "s", &block)).await;
    assert_eq!(own.status, 200);
    let sent = String::from_utf8(mock.last().body).unwrap();
    assert_eq!(sent, ask("m", "s", "c2ln"), "the vendor gets what it has given");
    let count = mock.count();
    for (key, model, session, signature) in [
        ("sk-2", "m", "s", block.as_str()),
        ("sk-1", "n", "s", &block),
        ("sk-1", "m", "t", &block),
        ("sk-1", "m", "s", "c2ln"),
        ("sk-1", "m", "s", &block.replace("c2ln", "c2lo")),
    ] {
        let answer = messages(&running, key, &ask(model, session, signature)).await;
        assert_eq!(answer.status, 400, "{key} {model} {session}");
        assert_eq!(answer.json()["error"]["type"], "invalid_request_error");
    }
    assert_eq!(mock.count(), count, "nothing of it reaches the vendor");
    let records = world.records_of(running).await;
    assert_eq!(records.iter().filter(|record| record["status"] == "400").count(), 5);
}

#[tokio::test]
async fn streams_and_responses_are_bound_alike() {
    let (mock, world) = world(BIND).await;
    let running = world.start().await;
    let marked = |body: &str, name: &str| -> String {
        let events = body.split("data: ").skip(1);
        let mut values = events.filter_map(|data| {
            serde_json::from_str::<Value>(data.trim().split("\n\n").next().unwrap()).ok()
        });
        values
            .find_map(|value| {
                ["delta", "item"].iter().find_map(|at| Some(value[at][name].as_str()?.to_owned()))
            })
            .unwrap()
    };
    let stream = r#"{"model":"m","stream":true,"messages":[]}"#;
    let answer = send(running.listen, &post(MESSAGES, "sk-1", stream)).await;
    let block = marked(&answer.body, "signature");
    // Without a session it is bound to account and model alone.
    assert_eq!(messages(&running, "sk-1", &ask("m", "any", &block)).await.status, 200);
    assert_eq!(messages(&running, "sk-2", &ask("m", "any", &block)).await.status, 400);

    let answer = send(running.listen, &post(RESPONSES, "sk-1", stream)).await;
    assert!(answer.is_whole && answer.body.contains("\"signature\":\"c2ln\""), "not its block");
    let block = marked(&answer.body, "encrypted_content");
    let own = send(running.listen, &post(RESPONSES, "sk-1", &ask_responses("m", &block))).await;
    assert_eq!(own.status, 200);
    assert_eq!(mock.last().body, ask_responses("m", "ZW5j").into_bytes());
    let other = send(running.listen, &post(RESPONSES, "sk-2", &ask_responses("m", &block))).await;
    assert_eq!(
        (other.status, other.json()["error"]["code"].as_str()),
        (400, Some("foreign_reasoning"))
    );

    // Beside the exchanges marks go too; nothing else changes there.
    let body = ask(
        "m",
        "any",
        &marked(&send(running.listen, &post(MESSAGES, "sk-1", stream)).await.body, "signature"),
    );
    send(running.listen, &post("/v1/messages/count_tokens", "sk-1", &body)).await;
    assert_eq!(mock.last().body, ask("m", "any", "c2ln").into_bytes());
    running.stop().await.unwrap();
}

#[tokio::test]
async fn guards_share_keys_and_keys_change() {
    let (mock, first) = world(BIND).await;
    let mut second = World::new(mock.address, BIND);
    second.settings.reasoning_keys = first.settings.reasoning_keys.clone();
    let (one, two) = (first.start().await, second.start().await);
    let block = issue(&one, "sk-1").await;
    assert_eq!(messages(&two, "sk-1", &ask("m", "s", &block)).await.status, 200);
    write_keys(&first.path("keys"), &["b", "a"]);
    two.reload().await;
    assert_eq!(messages(&two, "sk-1", &ask("m", "s", &block)).await.status, 200);
    let newer = issue(&two, "sk-1").await;
    assert_ne!(newer, block);
    write_keys(&first.path("keys"), &["b"]);
    two.reload().await;
    assert_eq!(messages(&two, "sk-1", &ask("m", "s", &block)).await.status, 400);
    assert_eq!(messages(&two, "sk-1", &ask("m", "s", &newer)).await.status, 200);
    one.stop().await.unwrap();
    two.stop().await.unwrap();
}

#[tokio::test]
async fn what_the_policy_leaves_open() {
    // Until this time blocks pass that were issued before they were bound, after it not.
    for (until, status) in [("2026-03-03T00:00:00Z", 200), ("2026-03-01T00:00:00Z", 400)] {
        let (_mock, world) = world(&format!("{BIND}unbound_until = \"{until}\"\n")).await;
        let running = world.start().await;
        assert_eq!(messages(&running, "sk-1", &ask("m", "s", "c2ln")).await.status, status);
        let block = issue(&running, "sk-1").await;
        assert_eq!(messages(&running, "sk-2", &ask("m", "s", &block)).await.status, 400);
        running.stop().await.unwrap();
    }
    // Other models and sessions may go on where the policy says so; other accounts not.
    let (_mock, world) = world(&format!("{BIND}to_model = false\nto_session = false\n")).await;
    let running = world.start().await;
    let block = issue(&running, "sk-1").await;
    assert_eq!(messages(&running, "sk-1", &ask("n", "t", &block)).await.status, 200);
    assert_eq!(messages(&running, "sk-2", &ask("m", "s", &block)).await.status, 400);
    // Switched off, what was marked goes on without its mark.
    fs::write(world.path("policy.toml"), "").unwrap();
    running.reload().await;
    assert_eq!(issue(&running, "sk-1").await, "c2ln");
    assert_eq!(messages(&running, "sk-2", &ask("m", "s", &block)).await.status, 200);
    assert_eq!(_mock.last().body, ask("m", "s", "c2ln").into_bytes());
    running.stop().await.unwrap();
}

#[tokio::test]
async fn keys_that_can_not_be_used_are_refused() {
    let (_mock, mut world) = world(BIND).await;
    let refused = async |world: &World| world.try_start().await.unwrap_err().to_string();
    fs::write(world.path("keys"), "a secret that is short\n").unwrap();
    let error = refused(&world).await;
    assert!(error.contains("keys: line 1: a key needs at least 32 bytes"), "{error}");
    assert!(!error.contains("secret"), "{error}");
    #[cfg(unix)]
    {
        write_keys(&world.path("keys"), &["a"]);
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        fs::set_permissions(world.path("keys"), open).unwrap();
        assert!(refused(&world).await.contains("others can read"));
    }
    world.settings.reasoning_keys = None;
    assert!(refused(&world).await.contains("policy.toml: [reasoning] bind needs keys"));
}

//! What each verdict does, in each dialect.

use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::setting::{Act, Mock, World, chunk, chunked_head, eventually, last_chunk, post, send};

const CHAT: &str = "/v1/chat/completions";
const MESSAGES: &str = "/v1/messages";
const ANSWER: &str = r#"{"choices":[{"logprobs":{"content":[]},"message":{"content":"a","reasoning_content":"b"}}],"usage":{"prompt_tokens":1,"completion_tokens":40}}"#;

fn policy(step: &str) -> String {
    format!(
        r#"
mode = "enforce"
say_verdict = true
[appeal]
contact = "abuse@example.com"
verify_link = "https://example.com/verify"
[slow]
output_tokens_per_minute = 60
burst_tokens = 100
[cap]
output_tokens = 50
[[rule]]
steps = [{{ do = {step}, for = "1 day" }}]
"#
    )
}

async fn world(step: &str) -> (Mock, World) {
    let mock = Mock::saying("application/json", ANSWER).await;
    let world =
        World::new(mock.address, &policy(step)).with_finding("c1", &["sk-bad", "sk-bad-too"]);
    (mock, world)
}

#[tokio::test]
async fn refuse() {
    let (mock, world) = world("\"refuse\"").await;
    let running = world.start().await;
    let answer = send(running.listen, &post(CHAT, "sk-bad", r#"{"prompt":1}"#)).await;
    assert_eq!(answer.status, 403);
    let message =
        "Access of this account is suspended. If this is a mistake, contact abuse@example.com .";
    let expected = json!({ "error": { "message": message, "type": "permission_error", "param": null,
        "code": "access_suspended" } });
    assert_eq!(answer.json(), expected);
    assert_eq!(answer.header("stillwatch-verdict"), Some("refuse; until=2026-03-03T00:00:00Z"));

    let answer = send(running.listen, &post(MESSAGES, "sk-bad", "{}")).await;
    let expected =
        json!({ "type": "error", "error": { "type": "permission_error", "message": message } });
    assert_eq!((answer.status, answer.json()), (403, expected));
    let models = send(running.listen, &post("/v1/files", "sk-bad", "{}")).await;
    assert_eq!(models.status, 403, "no way around it");
    assert_eq!(mock.count(), 0);

    let other = send(running.listen, &post(CHAT, "sk-good", "{}")).await;
    assert_eq!(
        (other.status, other.body.as_str(), other.header("stillwatch-verdict")),
        (200, ANSWER, None)
    );
    let statuses: Vec<String> =
        world.records_of(running).await.iter().map(|record| record["status"].clone()).collect();
    assert_eq!(statuses, ["403", "403", "200"], "what was refused is on record too");
}

#[tokio::test]
async fn verify() {
    let (_, world) = world("\"verify\"").await;
    let running = world.start().await;
    let answer = send(running.listen, &post(CHAT, "sk-bad", "{}")).await;
    assert_eq!(answer.status, 403);
    assert_eq!(answer.json()["error"]["code"], "verification_required");
    let message = answer.json()["error"]["message"].as_str().unwrap().to_owned();
    assert!(message.contains("https://example.com/verify"), "{message}");
    running.stop().await.unwrap();
}

#[tokio::test]
async fn slow_is_shared_by_the_campaign() {
    let (mock, world) = world("\"slow\"").await;
    let running = world.start().await;
    let body = r#"{"max_tokens":60}"#;
    // 60 are taken of 100, and 20 given back: the answer cost 40.
    assert_eq!(send(running.listen, &post(CHAT, "sk-bad", body)).await.status, 200);
    assert_eq!(send(running.listen, &post(CHAT, "sk-bad-too", body)).await.status, 200);
    let answer = send(running.listen, &post(MESSAGES, "sk-bad", body)).await;
    assert_eq!(answer.status, 429);
    assert_eq!(answer.json()["error"]["type"], "rate_limit_error");
    let seconds: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((30..=40).contains(&seconds), "{seconds}");
    assert_eq!(send(running.listen, &post(CHAT, "sk-good", body)).await.status, 200);
    assert_eq!(mock.count(), 3);
    running.stop().await.unwrap();
}

#[tokio::test]
async fn cap_and_withhold() {
    let (mock, world) = world(r#"["cap", "withhold"]"#).await;
    let running = world.start().await;
    let body = r#"{"model":"m","max_tokens":900,"n":4,"logprobs":true,"top_logprobs":5,"logit_bias":{"1":9},"keep":[1.0]}"#;
    let answer = send(running.listen, &post(CHAT, "sk-bad", body)).await;
    assert_eq!(mock.last().body, br#"{"model":"m","max_tokens":50,"n":1,"keep":[1.0]}"#);
    assert_eq!(
        answer.body,
        r#"{"choices":[{"logprobs":null,"message":{"content":"a"}}],"usage":{"prompt_tokens":1,"completion_tokens":40}}"#
    );
    assert!(answer.is_whole);
    for unreadable in ["not json", "[]", "\u{1f}\u{8b}"] {
        let answer = send(running.listen, &post(CHAT, "sk-bad", unreadable)).await;
        assert_eq!((answer.status, mock.count()), (400, 1), "{unreadable}");
    }
    assert_eq!(send(running.listen, &post(CHAT, "sk-good", "not json")).await.status, 200);
    let records = world.records_of(running).await;
    assert_eq!(records[0]["request_max_tokens"], "900", "the record has what was asked for");
    assert_eq!(records[0]["request_top_logprobs"], "5");
}

#[tokio::test]
async fn capped_though_the_upstream_keeps_to_no_cap() {
    let text = "0123456789".repeat(40);
    let document = |choices: &str| {
        format!(
            r#"{{"choices":[{choices}],"usage":{{"prompt_tokens":1,"completion_tokens":100}}}}"#
        )
    };
    let choice = |text: &str, reason: &str, more: &str| {
        format!(r#"{{"message":{{"content":"{text}"}},"finish_reason":"{reason}"{more}}}"#)
    };
    let whole = document(&choice(&text, "stop", ""));
    let mock = Mock::saying("application/json; charset=utf-8", whole.clone()).await;
    let world = World::new(mock.address, &policy("\"cap\"")).with_finding("c1", &["sk-bad"]);
    let running = world.start().await;
    let answer = send(running.listen, &post(CHAT, "sk-bad", "{}")).await;
    assert_eq!(answer.body, document(&choice(&text[..200], "length", r#","logprobs":null"#)));
    assert!(answer.is_whole);
    let other = send(running.listen, &post(CHAT, "sk-good", "{}")).await;
    assert_eq!(other.body, whole);
    let records = world.records_of(running).await;
    assert_eq!(records[0]["response_finish_reason"], "length");
    assert_eq!(records[0]["usage_output_tokens"], "100", "the vendor's figure");
}

#[tokio::test]
async fn breaking_off_before_the_answer_is_not_free() {
    let mock = Mock::start(|_| vec![Act::Hang]).await;
    let world = World::new(mock.address, &policy("\"slow\"")).with_finding("c1", &["sk-bad"]);
    let running = world.start().await;
    // 60 of the 100 tokens of a burst.
    let request = post(CHAT, "sk-bad", r#"{"max_tokens":60}"#);
    let mut stream = TcpStream::connect(running.listen).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    eventually(|| mock.count() == 1).await;
    drop(stream);
    eventually(|| *mock.closed.lock().unwrap() == 1).await;
    assert_eq!(send(running.listen, &request).await.status, 429);
    running.stop().await.unwrap();
}

#[tokio::test]
async fn withheld_in_a_stream() {
    let mock = Mock::start(|_| {
        vec![
            chunked_head("text/event-stream"),
            chunk("event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"delta\":{\"type\":\"thinking_delta\",\"think"),
            chunk("ing\":\"secret\"}}\n\nevent: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"delta\":{\"text\":\"a\"}}\n\n"),
            last_chunk(),
        ]
    })
    .await;
    let world = World::new(mock.address, &policy("\"withhold\"")).with_finding("c1", &["sk-bad"]);
    let running = world.start().await;
    let answer = send(running.listen, &post(MESSAGES, "sk-bad", "{}")).await;
    assert!(
        !answer.body.contains("secret") && answer.body.contains("\"text\":\"a\""),
        "{}",
        answer.body
    );
    assert!(answer.is_whole);
    let other = send(running.listen, &post(MESSAGES, "sk-good", "{}")).await;
    assert!(other.body.contains("secret"));
    running.stop().await.unwrap();
}

#[tokio::test]
async fn observing_changes_nothing() {
    let mock = Mock::saying("application/json", ANSWER).await;
    let policy = policy("\"refuse\"").replace("enforce", "observe");
    let world = World::new(mock.address, &policy).with_finding("c1", &["sk-bad"]);
    let running = world.start().await;
    let answer = send(running.listen, &post(CHAT, "sk-bad", "{}")).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, ANSWER));
    assert_eq!(answer.header("stillwatch-verdict"), None);
    running.stop().await.unwrap();
}

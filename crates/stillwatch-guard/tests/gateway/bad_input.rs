//! Clients and upstreams that are broken or mean harm.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::setting::{Act, Mock, World, post, send};

const CHAT: &str = "/v1/chat/completions";

#[tokio::test]
async fn no_request_is_smuggled() {
    let mock = Mock::saying("application/json", "{}").await;
    let world = World::new(mock.address, "");
    let running = world.start().await;
    let inner = "GET /smuggled HTTP/1.1\r\nhost: x\r\n\r\n";
    let with = |headers: &str, body: &str| {
        format!("POST {CHAT} HTTP/1.1\r\nhost: x\r\n{headers}connection: close\r\n\r\n{body}")
    };
    let chunks = format!("0\r\n\r\n{inner}");
    for request in [
        with("content-length: 5\r\ntransfer-encoding: chunked\r\n", &chunks),
        with("transfer-encoding: chunked\r\ncontent-length: 5\r\n", &chunks),
        with("content-length: 2\r\ncontent-length: 50\r\n", &format!("{{}}{inner}")),
        with("content-length: 2, 50\r\n", &format!("{{}}{inner}")),
        with("content-length: +2\r\n", &format!("{{}}{inner}")),
        with("content-length : 2\r\n", &format!("{{}}{inner}")),
        with("transfer-encoding: xchunked\r\n", &chunks),
        with("transfer-encoding: chunked, identity\r\n", &chunks),
        with("transfer-encoding:\u{b}chunked\r\n", &chunks),
        with("transfer-encoding: chunked\r\n", &format!("-1\r\n{inner}")),
        with("transfer-encoding: chunked\r\n", &format!("0xa\r\n{inner}")),
        with("transfer-encoding: chunked\r\n", &format!("fffffffffffffffff\r\n{inner}")),
        with("transfer-encoding: chunked\r\n", &format!("2\n{{}}0\r\n\r\n{inner}")),
        with("x: 1\r\n y\r\ncontent-length: 2\r\n", &format!("{{}}{inner}")),
    ] {
        let answer = send(running.listen, &request).await;
        assert!(matches!(answer.status, 0 | 200 | 400), "{request}: {answer:?}");
        assert_eq!(
            answer.head.matches("HTTP/1.1").count(),
            1.min(usize::from(answer.status)),
            "{request}"
        );
        for seen in mock.seen.lock().unwrap().iter() {
            assert!(
                seen.head.starts_with("POST /api/v1/chat/completions"),
                "{request}: {}",
                seen.head
            );
            assert_eq!(seen.header("transfer-encoding"), None, "framing is our own");
        }
    }
    running.stop().await.unwrap();
}

#[tokio::test]
async fn targets_that_are_none() {
    let mock = Mock::saying("application/json", "{}").await;
    let world = World::new(mock.address, "");
    let running = world.start().await;
    for target in ["CONNECT example.com:443", "OPTIONS *"] {
        let answer = send(
            running.listen,
            &format!("{target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"),
        )
        .await;
        assert_eq!(answer.status, 400, "{target}");
    }
    assert_eq!(mock.count(), 0);
    // A proxy's form of target leads to the upstream and nowhere else.
    let answer = send(running.listen, "GET http://example.com/v1/models HTTP/1.1\r\nhost: example.com\r\nconnection: close\r\n\r\n").await;
    assert_eq!(answer.status, 200);
    assert_eq!(mock.last().header("host"), Some(mock.address.to_string().as_str()));
    running.stop().await.unwrap();
}

#[tokio::test]
async fn a_flood_of_headers() {
    let mock = Mock::saying("application/json", "{}").await;
    let world = World::new(mock.address, "");
    let running = world.start().await;
    let many: String = (0..200).map(|i| format!("x-{i}: 1\r\n")).collect();
    let long = format!("x: {}\r\n", "y".repeat(100 << 10));
    for headers in [many, long] {
        let request = format!("GET /v1/models HTTP/1.1\r\nhost: x\r\n{headers}\r\n");
        let answer = send(running.listen, &request).await;
        assert_eq!(answer.status, 431, "{} bytes: {answer:?}", request.len());
    }
    assert_eq!(mock.count(), 0);
    running.stop().await.unwrap();
}

#[tokio::test]
async fn a_client_that_sends_its_head_slowly_is_let_go() {
    let mock = Mock::saying("application/json", "{}").await;
    let world = World::new(mock.address, "");
    let running = world.start().await;
    let mut stream = TcpStream::connect(running.listen).await.unwrap();
    stream.write_all(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n").await.unwrap();
    let mut rest = Vec::new();
    let closed = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut rest)).await;
    assert!(closed.is_ok(), "still connected");
    assert_eq!(mock.count(), 0);
    running.stop().await.unwrap();
}

#[tokio::test]
async fn a_body_of_100_mib_is_refused_and_on_record() {
    let mock = Mock::saying("application/json", "{}").await;
    let world = World::new(mock.address, "[limits]\nbody_mib = 2");
    let running = world.start().await;
    let body = format!("{{\"x\":\"{}\"}}", "y".repeat(100 << 20));
    let answer = send(running.listen, &post("/v1/messages", "sk-1", &body)).await;
    assert_eq!(
        (answer.status, &answer.json()["error"]["type"]),
        (413, &"request_too_large".into())
    );
    assert_eq!(mock.count(), 0);
    let below = format!("{{\"x\":\"{}\"}}", "y".repeat(1 << 20));
    assert_eq!(send(running.listen, &post("/v1/messages", "sk-1", &below)).await.status, 200);
    assert_eq!(mock.last().body.len(), below.len());
    let records = world.records_of(running).await;
    assert_eq!(records.iter().map(|r| r["status"].as_str()).collect::<Vec<_>>(), ["413", "200"]);
}

#[tokio::test]
async fn half_a_body_is_no_exchange() {
    let mock = Mock::saying("application/json", "{}").await;
    let world = World::new(mock.address, "");
    let running = world.start().await;
    let mut stream = TcpStream::connect(running.listen).await.unwrap();
    stream
        .write_all(b"POST /v1/messages HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{")
        .await
        .unwrap();
    drop(stream);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(world.records_of(running).await.is_empty());
    assert_eq!(mock.count(), 0);
}

#[tokio::test]
async fn bodies_and_streams_that_are_no_json_pass_and_are_on_record() {
    let broken = "data: {\"usage\":\n\n\u{0}\r\rdata: x\n: \n\ndata: {\"usage\":{\"completion_tokens\":-5}}\n\n";
    let mock = Mock::saying("text/event-stream", broken).await;
    let world = World::new(mock.address, "");
    let running = world.start().await;
    for body in ["", "not json", "{\"messages\":", "[1]", "{\"messages\":{\"role\":[]},\"n\":{}}"] {
        let answer = send(running.listen, &post(CHAT, "sk-1", body)).await;
        assert_eq!((answer.status, answer.body.as_str()), (200, broken));
        assert_eq!(mock.last().body, body.as_bytes());
    }
    let records = world.records_of(running).await;
    assert_eq!(records.len(), 5);
    assert!(
        records.iter().all(
            |record| record["prompt"].is_empty() && !record.contains_key("usage_output_tokens")
        )
    );
}

#[tokio::test]
async fn upstreams_that_are_away_or_hang() {
    let mock = Mock::start(|_| vec![Act::Hang]).await;
    let world = World::new(mock.address, "[limits]\nfirst_byte_seconds = 1");
    let running = world.start().await;
    let answer = send(running.listen, &post(CHAT, "sk-1", "{}")).await;
    assert_eq!((answer.status, &answer.json()["error"]["code"]), (504, &"upstream_timeout".into()));
    assert_eq!(world.records_of(running).await[0]["status"], "504");

    let gone = {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap()
    };
    let world = World::new(gone, "");
    let running = world.start().await;
    let answer = send(running.listen, &post("/v1/messages", "sk-1", "{}")).await;
    assert_eq!((answer.status, &answer.json()["error"]["type"]), (502, &"api_error".into()));
    let nonsense =
        Mock::start(|_| vec![Act::Send(b"SSH-2.0-x\r\n\r\n".to_vec()), Act::Send(vec![])]).await;
    assert_eq!(world.records_of(running).await[0]["status"], "502");
    let world = World::new(nonsense.address, "");
    let running = world.start().await;
    assert_eq!(send(running.listen, &post(CHAT, "sk-1", "{}")).await.status, 502);
    running.stop().await.unwrap();
}

#[tokio::test]
async fn several_credentials_are_not_guessed_at() {
    let mock = Mock::saying("application/json", "{}").await;
    let world = World::new(mock.address, "");
    let running = world.start().await;
    let request = post(CHAT, "sk-1", "{}").replace("user-agent:", "x-api-key: sk-2\r\nuser-agent:");
    let answer = send(running.listen, &request).await;
    assert_eq!(
        (answer.status, &answer.json()["error"]["code"]),
        (400, &"ambiguous_credentials".into())
    );
    assert_eq!(mock.count(), 0);
    running.stop().await.unwrap();
}

#[tokio::test]
async fn one_guard_for_one_folder() {
    let mock = Mock::saying("application/json", "{}").await;
    let world = World::new(mock.address, "");
    let running = world.start().await;
    let refused = world.try_start().await.unwrap_err().to_string();
    assert!(refused.starts_with("another guard uses"), "{refused}");
    running.stop().await.unwrap();
}

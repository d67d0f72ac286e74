//! What passes, passes unchanged, and is measured and recorded.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::setting::{
    Act, Mock, World, account_of, chunk, chunked_head, eventually, last_chunk, parse, plain, post,
    send,
};

const CHAT: &str = "/v1/chat/completions";
const HELLO: &str =
    r#"{ "model":"m-1", "messages":[{"role":"user","content":"Hi"}], "x_unknown": 1e400 }"#;
const ANSWER: &str = r#"{"model":"m-1-0301", "choices":[{"message":{"content":"Hello"},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":5}, "y": [ ]}"#;

#[tokio::test]
async fn a_message_passes_byte_by_byte_and_is_recorded() {
    let mock = Mock::saying("application/json", ANSWER).await;
    let world = World::new(mock.address, "");
    let running = world.start().await;
    let answer = send(running.listen, &post(&format!("{CHAT}?a=%20b"), "sk-1", HELLO)).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, ANSWER));
    assert_eq!(answer.header("x-of-vendor"), Some("1"));
    assert_eq!(answer.header("stillwatch-verdict"), None);

    let seen = mock.last();
    assert!(
        seen.head.starts_with("POST /api/v1/chat/completions?a=%20b HTTP/1.1\r\n"),
        "{}",
        seen.head
    );
    assert_eq!(String::from_utf8(seen.body.clone()).unwrap(), HELLO);
    assert_eq!(seen.header("authorization"), Some("Bearer sk-1"));
    assert_eq!(seen.header("host"), Some(mock.address.to_string().as_str()));
    assert_eq!(
        seen.header("accept-encoding"),
        Some("identity"),
        "what is compressed can't be measured"
    );
    assert_eq!(seen.header("connection"), None);

    let records = world.records_of(running).await;
    assert_eq!(records.len(), 1);
    let record = &records[0];
    let expected = [
        ("account_id", account_of("sk-1").as_str()),
        ("client_address", "127.0.0.1"),
        ("exchange_id", "00000000000000070000000000000000"),
        ("operation_name", "chat"),
        ("prompt", "Hi"),
        ("provider_name", "openai"),
        ("request_model", "m-1"),
        ("response_finish_reason", "stop"),
        ("response_model", "m-1-0301"),
        ("status", "200"),
        ("time", "2026-03-02T00:00:00Z"),
        ("turn", "1"),
        ("usage_input_tokens", "3"),
        ("usage_output_tokens", "5"),
        ("user_agent", "tests/1"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()));
    let mut held = record.clone();
    assert_eq!(held.remove("credential_id").unwrap().len(), 64);
    assert_eq!(held.remove("response_digest").unwrap().len(), 64);
    assert_eq!(held.into_iter().collect::<Vec<_>>(), expected);
    assert!(!format!("{records:?}").contains("sk-1"), "no key is kept");
}

fn stream_acts() -> Vec<Act> {
    vec![
        chunked_head("text/event-stream"),
        chunk(
            "data: {\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hel\"}}]}\n\nda",
        ),
        Act::Pause(30),
        chunk(
            "ta: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"lo\"},\"finish_reason\":\"stop\"}]}\n\n",
        ),
        chunk("data: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":5}}\n\n"),
        chunk("data: [DONE]\n\n"),
    ]
}

const STREAMED: &str = "data: {\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hel\"}}]}\n\n\
    data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"lo\"},\"finish_reason\":\"stop\"}]}\n\n\
    data: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":5}}\n\n\
    data: [DONE]\n\n";

#[tokio::test]
async fn a_stream_passes_and_is_measured() {
    let mock = Mock::start(|_| [stream_acts(), vec![last_chunk()]].concat()).await;
    let world = World::new(mock.address, "");
    let running = world.start().await;
    let answer = send(running.listen, &post(CHAT, "sk-1", r#"{"stream":true}"#)).await;
    assert_eq!((answer.body.as_str(), answer.is_whole), (STREAMED, true));
    let records = world.records_of(running).await;
    assert_eq!(records.len(), 1);
    assert_eq!(records[0]["usage_output_tokens"], "5");
    assert_eq!(records[0]["response_finish_reason"], "stop");
    assert_eq!(records[0]["request_stream"], "true");
}

#[tokio::test]
async fn a_burst_of_events_comes_in_few_pieces() {
    let burst: Vec<Act> = (0..64)
        .map(|i| {
            chunk(&format!("data: {{\"choices\":[{{\"delta\":{{\"content\":\"{i}\"}}}}]}}\n\n"))
        })
        .collect();
    let all: Vec<u8> = std::iter::once(chunked_head("text/event-stream"))
        .chain(burst)
        .chain([last_chunk()])
        .flat_map(|act| match act {
            Act::Send(bytes) => bytes,
            _ => vec![],
        })
        .collect();
    let mock = Mock::start(move |_| vec![Act::Send(all.clone())]).await;
    let world = World::new(mock.address, "");
    let running = world.start().await;
    let mut stream = TcpStream::connect(running.listen).await.unwrap();
    stream.write_all(post(CHAT, "sk-1", "{}").as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.unwrap();
    let answer = parse(&bytes);
    assert_eq!(answer.body.matches("data: ").count(), 64);
    let text = String::from_utf8(bytes).unwrap();
    let pieces = text
        .lines()
        .filter(|line| !line.is_empty() && line.len() < 6 && u32::from_str_radix(line, 16).is_ok())
        .count();
    assert!(pieces < 32, "64 events came in {pieces} pieces");
    running.stop().await.unwrap();
}

#[tokio::test]
async fn a_client_that_goes_away_ends_the_exchange() {
    let mock = Mock::start(|_| [stream_acts(), vec![Act::Hang]].concat()).await;
    let world = World::new(mock.address, "");
    let running = world.start().await;
    let mut stream = TcpStream::connect(running.listen).await.unwrap();
    stream.write_all(post(CHAT, "sk-1", "{}").as_bytes()).await.unwrap();
    let mut held = vec![0; 64];
    assert!(stream.read(&mut held).await.unwrap() > 0);
    drop(stream);
    eventually(|| *mock.closed.lock().unwrap() == 1).await;
    let records = world.records_of(running).await;
    assert_eq!(records.len(), 1);
    assert_eq!(records[0]["response_finish_reason"], "aborted");
    assert_eq!(records[0]["status"], "200");
}

#[tokio::test]
async fn a_client_that_goes_away_before_the_answer() {
    let mock = Mock::start(|_| vec![Act::Hang]).await;
    let world = World::new(mock.address, "");
    let running = world.start().await;
    let mut stream = TcpStream::connect(running.listen).await.unwrap();
    stream.write_all(post(CHAT, "sk-1", "{}").as_bytes()).await.unwrap();
    eventually(|| mock.count() == 1).await;
    drop(stream);
    eventually(|| *mock.closed.lock().unwrap() == 1).await;
    let records = world.records_of(running).await;
    assert_eq!(records[0]["response_finish_reason"], "aborted");
    assert_eq!(records[0].get("status"), None);
}

#[tokio::test]
async fn an_upstream_that_dies_in_mid_stream_does_not_look_whole() {
    let mock = Mock::start(|_| [stream_acts(), vec![Act::Send(vec![])]].concat()).await;
    let world = World::new(mock.address, "");
    let running = world.start().await;
    let answer = send(running.listen, &post(CHAT, "sk-1", "{}")).await;
    assert_eq!((answer.status, answer.is_whole), (200, false));
    assert!(STREAMED.starts_with(&answer.body), "{}", answer.body);
    let records = world.records_of(running).await;
    assert_eq!(records[0]["response_finish_reason"], "aborted");
}

#[tokio::test]
async fn an_upstream_that_pauses_for_too_long_is_given_up() {
    let mock = Mock::start(|_| [stream_acts(), vec![Act::Hang]].concat()).await;
    let world = World::new(mock.address, "[limits]\npause_seconds = 1");
    let running = world.start().await;
    let answer = send(running.listen, &post(CHAT, "sk-1", "{}")).await;
    assert_eq!((answer.body.as_str(), answer.is_whole), (STREAMED, false));
    assert_eq!(world.records_of(running).await[0]["response_finish_reason"], "aborted");
}

#[tokio::test]
async fn other_requests_pass_and_are_no_exchanges() {
    let mock = Mock::saying("application/json", r#"{"data":[]}"#).await;
    let world = World::new(mock.address, "");
    let running = world.start().await;
    let get =
        "GET /v1/models HTTP/1.1\r\nhost: x\r\naccept-encoding: gzip\r\nconnection: close\r\n\r\n";
    let answer = send(running.listen, get).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, r#"{"data":[]}"#));
    assert_eq!(mock.last().header("accept-encoding"), Some("gzip"));
    assert!(world.records_of(running).await.is_empty());
}

#[tokio::test]
async fn errors_of_the_upstream_pass() {
    let body = r#"{"type":"error","error":{"type":"overloaded_error","message":"x"}}"#;
    let answer = String::from_utf8(plain("application/json", body.as_bytes())).unwrap();
    let answer = answer.replace("200 OK", "529 Overloaded");
    let mock = Mock::start(move |_| vec![Act::Send(answer.clone().into_bytes())]).await;
    let world = World::new(mock.address, "");
    let running = world.start().await;
    let answer = send(running.listen, &post("/v1/messages", "sk-1", "{}")).await;
    assert_eq!((answer.status, answer.body.as_str()), (529, body));
    let records = world.records_of(running).await;
    assert_eq!(
        (records[0]["status"].as_str(), records[0]["provider_name"].as_str()),
        ("529", "anthropic")
    );
}

#[tokio::test]
async fn stopping_drains_streams() {
    let mock = Mock::start(|_| [stream_acts(), vec![Act::Pause(500), last_chunk()]].concat()).await;
    let world = World::new(mock.address, "");
    let running = world.start().await;
    let listen = running.listen;
    let client = tokio::spawn(async move { send(listen, &post(CHAT, "sk-1", "{}")).await });
    eventually(|| mock.count() == 1).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    let records = world.records_of(running).await;
    let answer = client.await.unwrap();
    assert_eq!((answer.body.as_str(), answer.is_whole), (STREAMED, true));
    assert_eq!(records[0]["response_finish_reason"], "stop");
    assert!(TcpStream::connect(listen).await.is_err(), "nobody listens any more");
}

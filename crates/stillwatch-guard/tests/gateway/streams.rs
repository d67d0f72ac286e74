//! What verdicts do to streams that are under way.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::setting::{
    Act, Answer, Mock, World, account_of, chunk, chunked_head, eventually, last_chunk, parse, post,
    send, write_findings,
};

const CHAT: &str = "/v1/chat/completions";
const STREAM: &str = r#"{"stream":true,"messages":[{"role":"user","content":"x"}]}"#;

fn policy(head: &str, step: &str) -> String {
    format!(
        "mode = \"enforce\"\n{head}\n[appeal]\ncontact = \"abuse@example.com\"\n[cap]\n\
         output_tokens = 20\n[[rule]]\nsteps = [{{ do = {step}, for = \"1 day\" }}]\n"
    )
}

fn word(number: usize) -> String {
    format!(
        "data: {{\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\
         \"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"word {number:02} \"}},\"finish_reason\":null}}]}}\n\n"
    )
}

/// A stream of so many words, a token each, cut in odd places.
fn words(count: usize, pause_ms: u64) -> Vec<Act> {
    let mut acts = vec![chunked_head("text/event-stream")];
    for number in 0..count {
        let word = word(number);
        let (first, second) = word.split_at(number * 7 % word.len());
        acts.extend([first, second].into_iter().filter(|part| !part.is_empty()).map(chunk));
        if pause_ms > 0 {
            acts.push(Act::Pause(pause_ms));
        }
    }
    acts.extend([chunk("data: [DONE]\n\n"), last_chunk()]);
    acts
}

#[tokio::test]
async fn a_cap_holds_where_the_upstream_ignores_it() {
    // What comes after the cap would never end.
    let mock = Mock::start(|_| {
        let mut acts = words(60, 0);
        acts.truncate(acts.len() - 2);
        acts.push(Act::Hang);
        acts
    })
    .await;
    let world = World::new(mock.address, &policy("", "\"cap\"")).with_finding("c1", &["sk-bad"]);
    let running = world.start().await;
    let answer = send(running.listen, &post(CHAT, "sk-bad", STREAM)).await;
    let passed: String = (0..20).map(word).collect();
    let rest = answer.body.strip_prefix(&passed).expect("what is within passes as it is");
    let end = "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\
               \"choices\":[{\"index\":0,\"delta\":{},\"logprobs\":null,\"finish_reason\":\"length\"}]}\n\n\
               data: [DONE]\n\n";
    assert_eq!((rest, answer.is_whole), (end, true));
    eventually(|| *mock.closed.lock().unwrap() == 1).await;
    let records = world.records_of(running).await;
    assert_eq!(records[0]["response_finish_reason"], "length");
    assert_eq!(records[0]["status"], "200");
}

#[tokio::test]
async fn a_capped_stream_that_keeps_to_its_cap_is_not_touched() {
    let mock = Mock::start(|_| words(20, 0)).await;
    let world = World::new(mock.address, &policy("", "\"cap\"")).with_finding("c1", &["sk-bad"]);
    let running = world.start().await;
    let capped = send(running.listen, &post(CHAT, "sk-bad", STREAM)).await;
    let free = send(running.listen, &post(CHAT, "sk-good", STREAM)).await;
    assert_eq!(capped.body, free.body);
    assert_eq!(capped.body, (0..20).map(word).collect::<String>() + "data: [DONE]\n\n");
    running.stop().await.unwrap();
}

#[tokio::test]
async fn messages_and_responses_are_ended_in_their_own_way() {
    let mock = Mock::start(|seen| {
        let delta = |body: &str| chunk(&format!("data: {body}\n\n"));
        let mut acts = vec![chunked_head("text/event-stream")];
        if seen.head.contains("/messages") {
            acts.push(delta(r#"{"type":"message_start","message":{"model":"m","usage":{"input_tokens":3,"output_tokens":1}}}"#));
            acts.push(delta(r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#));
            acts.extend((0..40).map(|_| delta(r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"four"}}"#)));
        } else {
            acts.push(delta(r#"{"type":"response.created","sequence_number":0,"response":{"id":"r","model":"m","status":"in_progress"}}"#));
            acts.extend((0..40).map(|_| delta(r#"{"type":"response.output_text.delta","delta":"four"}"#)));
        }
        acts.push(last_chunk());
        acts
    })
    .await;
    let world = World::new(mock.address, &policy("", "\"cap\"")).with_finding("c1", &["sk-bad"]);
    let running = world.start().await;
    let messages =
        send(running.listen, &post("/v1/messages", "sk-bad", r#"{"stream":true}"#)).await;
    assert_eq!(messages.body.matches("text_delta").count(), 20);
    assert!(messages.body.ends_with(
        "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\n\
         event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"max_tokens\",\
         \"stop_sequence\":null},\"usage\":{\"output_tokens\":20}}\n\n\
         event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"
    ));
    let responses =
        send(running.listen, &post("/v1/responses", "sk-bad", r#"{"stream":true}"#)).await;
    assert_eq!(responses.body.matches("output_text.delta").count(), 20);
    assert!(responses.body.contains("event: response.incomplete\n"), "{}", responses.body);
    assert!(messages.is_whole && responses.is_whole);
    let records = world.records_of(running).await;
    for record in &records {
        assert_eq!(record["response_finish_reason"], "length", "{record:?}");
    }
    assert_eq!(records[0]["usage_output_tokens"], "20", "the guard's own count");
}

#[tokio::test]
async fn a_paced_stream_comes_at_the_campaigns_rate() {
    let mock = Mock::start(|_| words(50, 0)).await;
    let slow = "[slow]\noutput_tokens_per_minute = 6000\nburst_tokens = 10\npace_streams = true";
    let policy = policy("", "\"slow\"") + slow;
    let world = World::new(mock.address, &policy).with_finding("c1", &["sk-bad", "sk-too"]);
    let running = world.start().await;
    let began = Instant::now();
    let address = running.listen;
    let two = ["sk-bad", "sk-too"]
        .map(|key| tokio::spawn(async move { send(address, &post(CHAT, key, STREAM)).await }));
    let mut bodies = Vec::new();
    for answer in two {
        let answer = answer.await.unwrap();
        assert_eq!((answer.status, answer.is_whole), (200, true));
        bodies.push(answer.body);
    }
    // A hundred tokens at a hundred a second, but for a burst.
    assert!(began.elapsed().as_millis() >= 850, "{:?}", began.elapsed());
    let free = send(running.listen, &post(CHAT, "sk-good", STREAM)).await;
    assert!(bodies.iter().all(|body| *body == free.body), "only later");
    running.stop().await.unwrap();
}

/// Begins a stream and, once some of it came, lets a finding name the account.
async fn accused_in_mid_stream(head: &str, step: &str) -> (World, Answer, Answer, Mock) {
    let mock = Mock::start(|_| words(40, 20)).await;
    let mut world = World::new(mock.address, &policy(head, step));
    let findings = world.path("findings");
    write_findings(&findings, "c1", &[]);
    world.settings.verdicts = vec![stillwatch_guard::Source(findings.clone())];
    let running = world.start().await;
    let mut stream = TcpStream::connect(running.listen).await.unwrap();
    stream.write_all(post(CHAT, "sk-bad", STREAM).as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    while !String::from_utf8_lossy(&bytes).contains("word 03") {
        assert!(stream.read_buf(&mut bytes).await.unwrap() > 0);
    }
    write_findings(&findings, "c1", &[account_of("sk-bad")]);
    running.reload().await;
    stream.read_to_end(&mut bytes).await.unwrap();
    let next = send(running.listen, &post(CHAT, "sk-bad", STREAM)).await;
    running.stop().await.unwrap();
    (world, parse(&bytes), next, mock)
}

#[tokio::test]
async fn a_new_verdict_ends_a_stream_where_the_policy_says_so() {
    let (world, answer, next, mock) =
        accused_in_mid_stream("cut_streams = true", "\"refuse\"").await;
    assert!(answer.is_whole, "{}", answer.body);
    let events: Vec<&str> = answer.body.split_inclusive("\n\n").collect();
    let (last, events) = events.split_last().unwrap();
    let (error, events) = events.split_last().unwrap();
    assert_eq!(*last, "data: [DONE]\n\n");
    assert!(error.contains("\"code\":\"access_suspended\"") && error.contains("abuse@example.com"));
    assert!(events.len() < 40 && !events.is_empty());
    for (number, event) in events.iter().enumerate() {
        assert_eq!(*event, word(number), "whole events, unchanged");
    }
    assert_eq!(next.status, 403);
    eventually(|| *mock.closed.lock().unwrap() == 1).await;
    let records = crate::setting::records(&world.settings.state.join("records"));
    assert_eq!(records[0]["response_finish_reason"], "refused");
    assert_eq!(records[0]["status"], "200");
}

#[tokio::test]
async fn otherwise_an_answer_that_has_begun_is_given_to_its_end() {
    for (head, step, then) in [("", "\"refuse\"", 403), ("cut_streams = true", "\"withhold\"", 200)]
    {
        let (_, answer, next, _) = accused_in_mid_stream(head, step).await;
        assert_eq!(answer.body, (0..40).map(word).collect::<String>() + "data: [DONE]\n\n");
        assert_eq!(next.status, then);
    }
}

//! Envoy's `ext_authz` and `ext_proc` over gRPC: asked as Envoy asks, and by Envoy itself
//! with the configurations of docs/gateways, where it is found.

use envoy_types::ext_authz::v3::pb::{CheckRequest, CheckResponse, HeaderValue, HttpResponse};
use envoy_types::pb::envoy::config::core::v3::HeaderMap;
use envoy_types::pb::envoy::service::auth::v3::AttributeContext;
use envoy_types::pb::envoy::service::auth::v3::attribute_context::{HttpRequest, Request as Asked};
use envoy_types::pb::envoy::service::auth::v3::authorization_client::AuthorizationClient;
use envoy_types::pb::envoy::service::ext_proc::v3::external_processor_client::ExternalProcessorClient;
use envoy_types::pb::envoy::service::ext_proc::v3::processing_request::Request as Said;
use envoy_types::pb::envoy::service::ext_proc::v3::processing_response::Response as Reply;
use envoy_types::pb::envoy::service::ext_proc::v3::{
    HttpBody, HttpHeaders, ProcessingRequest, ProcessingResponse,
};
use serde_json::json;
use stillwatch_guard::Running;
use tonic::codegen::tokio_stream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

use crate::advice::{CHAT, Gateway, REFUSE, SLOW, configuration, envoy_on, envoy_with, heeds};
use crate::setting::{
    ADMIN_KEY, Act, Answer, Mock, Seen, World, account_of, chunk, chunked_head, last_chunk, plain,
    post, send,
};

async fn started(policy: &str, mock: &Mock) -> (World, Running) {
    guard(policy, mock, false).await
}

/// A guard that records what passes through Envoy.
async fn recording(policy: &str, mock: &Mock) -> (World, Running) {
    guard(policy, mock, true).await
}

async fn guard(policy: &str, mock: &Mock, records_grpc: bool) -> (World, Running) {
    let mut world = World::new(mock.address, policy).with_finding("c1", &["sk-bad"]);
    world.settings.grpc = Some("127.0.0.1:0".parse().unwrap());
    world.settings.records_grpc = records_grpc;
    let running = world.start().await;
    (world, running)
}

async fn channel(running: &Running) -> Channel {
    let address = format!("http://{}", running.grpc.unwrap());
    Endpoint::from_shared(address).unwrap().connect().await.unwrap()
}

fn keyed<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("stillwatch-key", ADMIN_KEY.parse().unwrap());
    request
}

fn header_map(pairs: &[(&str, &str)]) -> HeaderMap {
    let header = |(name, value): &(&str, &str)| HeaderValue {
        key: (*name).to_owned(),
        raw_value: value.as_bytes().to_vec(),
        ..HeaderValue::default()
    };
    HeaderMap { headers: pairs.iter().map(header).collect() }
}

/// A question about a request with these headers and this body.
fn check(path: &str, headers: &[(&str, &str)], body: &str) -> CheckRequest {
    let http = HttpRequest {
        method: "POST".to_owned(),
        path: path.to_owned(),
        header_map: Some(header_map(headers)),
        raw_body: body.as_bytes().to_vec(),
        ..HttpRequest::default()
    };
    let request = Some(Asked { http: Some(http), ..Asked::default() });
    CheckRequest { attributes: Some(AttributeContext { request, ..AttributeContext::default() }) }
}

/// The status to the client and what is said to it, or the headers to the model.
fn said(answer: CheckResponse) -> (i32, String, Vec<(String, String)>) {
    let (status, body, headers) = match answer.http_response.unwrap() {
        HttpResponse::OkResponse(ok) => (200, String::new(), ok.headers),
        HttpResponse::DeniedResponse(no) => (no.status.unwrap().code, no.body, no.headers),
        HttpResponse::ErrorResponse(_) => panic!("no such answer is given"),
    };
    let pair = |header: HeaderValue| (header.key, String::from_utf8(header.raw_value).unwrap());
    (status, body, headers.into_iter().filter_map(|o| o.header.map(pair)).collect())
}

const BAD: (&str, &str) = ("authorization", "Bearer sk-bad");

#[tokio::test]
async fn authorization_is_answered_as_over_http() {
    let mock = Mock::saying("application/json", "{}").await;
    let (_world, running) = started(SLOW, &mock).await;
    let mut client = AuthorizationClient::new(channel(&running).await);

    let unkeyed = Request::new(check(CHAT, &[BAD], ""));
    assert_eq!(client.check(unkeyed).await.unwrap_err().code(), Code::Unauthenticated);
    let mut wrong = Request::new(check(CHAT, &[BAD], ""));
    wrong.metadata_mut().insert("stillwatch-key", "wrong".parse().unwrap());
    assert_eq!(client.check(wrong).await.unwrap_err().code(), Code::Unauthenticated);
    let nothing = client.check(keyed(CheckRequest::default())).await.unwrap_err();
    assert_eq!(nothing.code(), Code::InvalidArgument);

    let good = check(CHAT, &[("x-api-key", "sk-good")], "");
    let answer = client.check(keyed(good)).await.unwrap().into_inner();
    assert_eq!(answer.status.as_ref().unwrap().code, 0);
    assert_eq!(
        said(answer),
        (200, String::new(), vec![("stillwatch-verdict".into(), "allow".into())])
    );

    // What the body says that it can cost is taken: 6,000 are there, in tokens.
    let costly = |tokens: u32| check(CHAT, &[BAD], &format!(r#"{{"max_tokens":{tokens}}}"#));
    for _ in 0..2 {
        let answer = client.check(keyed(costly(3000))).await.unwrap().into_inner();
        let (status, _, headers) = said(answer);
        assert_eq!(status, 200);
        assert!(headers.contains(&("stillwatch-max-output-tokens".into(), "512".into())));
        assert!(headers.contains(&("stillwatch-max-choices".into(), "1".into())));
    }
    let answer = client.check(keyed(costly(3000))).await.unwrap().into_inner();
    assert_eq!(answer.status.as_ref().unwrap().code, Code::PermissionDenied as i32);
    let (status, body, headers) = said(answer);
    assert_eq!(status, 429);
    assert!(body.contains("rate_limit_exceeded"), "{body}");
    assert!(headers.iter().any(|(name, wait)| name == "retry-after" && wait != "0"));
    // In its own dialect, and by the client's own headers.
    let messages = check("/v1/messages?beta=true", &[BAD], "");
    let (status, body, _) = said(client.check(keyed(messages)).await.unwrap().into_inner());
    assert!(status == 429 && body.contains(r#""type":"error""#), "{body}");
    let two = check(CHAT, &[BAD, ("authorization", "Bearer sk-good")], "");
    assert_eq!(said(client.check(keyed(two)).await.unwrap().into_inner()).0, 400);
    running.stop().await.unwrap();
}

/// Sends messages of one exchange and gives what is answered to each.
async fn process(
    running: &Running,
    messages: Vec<ProcessingRequest>,
) -> Vec<Result<ProcessingResponse, Status>> {
    let mut client = ExternalProcessorClient::new(channel(running).await);
    let answered = client.process(keyed(tokio_stream::iter(messages))).await;
    let mut answers = answered.unwrap().into_inner();
    let mut all = Vec::new();
    while let Some(answer) = answers.message().await.transpose() {
        let is_error = answer.is_err();
        all.push(answer);
        if is_error {
            break;
        }
    }
    all
}

fn message(request: Said) -> ProcessingRequest {
    ProcessingRequest { request: Some(request), ..ProcessingRequest::default() }
}

fn head(headers: &[(&str, &str)], end_of_stream: bool) -> HttpHeaders {
    HttpHeaders { headers: Some(header_map(headers)), end_of_stream, ..HttpHeaders::default() }
}

fn body(text: &str, end_of_stream: bool) -> HttpBody {
    HttpBody { body: text.as_bytes().to_vec(), end_of_stream, ..HttpBody::default() }
}

#[tokio::test]
async fn processing_keeps_to_what_it_was_told() {
    let mock = Mock::saying("application/json", "{}").await;
    let (_world, running) = started(SLOW, &mock).await;
    let asks = |key: &str, end| {
        let key = format!("Bearer {key}");
        let headers = [(":method", "POST"), (":path", CHAT), ("authorization", key.as_str())];
        message(Said::RequestHeaders(head(&headers, end)))
    };
    let status =
        |answer: &Result<ProcessingResponse, Status>| match &answer.as_ref().unwrap().response {
            Some(Reply::ImmediateResponse(refusal)) => refusal.status.unwrap().code,
            _ => 0,
        };
    // Nothing more of an exchange that nothing is done about; all of the others.
    let answers = process(&running, vec![asks("sk-good", false)]).await;
    let mode = answers[0].as_ref().unwrap().mode_override.unwrap();
    assert_eq!(
        (mode.request_body_mode, mode.response_header_mode, mode.response_body_mode),
        (0, 2, 0)
    );
    let answers = process(&running, vec![asks("sk-bad", false)]).await;
    let mode = answers[0].as_ref().unwrap().mode_override.unwrap();
    assert_eq!(
        (mode.request_body_mode, mode.response_header_mode, mode.response_body_mode),
        (2, 1, 1)
    );
    // A body in pieces, none at all, or one that is no JSON can't be capped.
    for bodies in [&["{}", "{}"][..], &["{\"n\":"], &[""]] {
        let pieces = bodies.iter().map(|text| message(Said::RequestBody(body(text, false))));
        let answers =
            process(&running, std::iter::once(asks("sk-bad", false)).chain(pieces).collect()).await;
        assert_eq!(status(answers.last().unwrap()), 400, "{bodies:?}");
    }
    assert_eq!(status(&process(&running, vec![asks("sk-bad", true)]).await[0]), 400);
    // A message longer than a body may be is refused before it is read.
    let long = "x".repeat((64 << 20) + (1 << 20));
    let too_long = vec![asks("sk-bad", false), message(Said::RequestBody(body(&long, true)))];
    let answers = process(&running, too_long).await;
    assert!(answers.last().unwrap().is_err());
    // Who only looks on is not answered, and takes nothing.
    let mut looks_on = asks("sk-bad", false);
    looks_on.observability_mode = true;
    assert!(process(&running, vec![looks_on]).await.is_empty());
    // Messages that come in no order are answered or not, and end nothing else.
    for odd in [
        Said::RequestBody(body("{}", true)),
        Said::ResponseBody(body("{}", true)),
        Said::ResponseHeaders(head(&[(":status", "x")], true)),
        Said::ResponseTrailers(Default::default()),
        Said::RequestTrailers(Default::default()),
    ] {
        assert_eq!(process(&running, vec![message(odd)]).await.len(), 1);
    }
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn envoy_heeds_the_advice_over_grpc() {
    heeds("envoy", |folder, model, guard| {
        envoy_with("envoy-ext-authz.yaml", folder, model, guard.grpc.unwrap())
    })
    .await;
}

/// A guard and Envoy before this model; none where there is no Envoy.
async fn through_envoy(policy: &str, mock: &Mock) -> Option<(World, Running, Gateway)> {
    let started = started(policy, mock).await;
    through(started, mock, "allow_mode_override: true").await
}

/// The same with a guard that runs, and another line for that of overrides.
async fn through(
    (world, running): (World, Running),
    mock: &Mock,
    overrides: &str,
) -> Option<(World, Running, Gateway)> {
    let (text, listen) = configuration("envoy-ext-proc.yaml", mock.address, running.grpc.unwrap());
    let text = text.replace("allow_mode_override: true", overrides);
    let Some(envoy) = envoy_on(world.folder.path(), &text, listen) else {
        eprintln!("skipped: no envoy on this machine");
        return None;
    };
    envoy.ready().await;
    Some((world, running, envoy))
}

/// A model that answers with what the request's path asks for.
fn model(seen: &Seen) -> Vec<Act> {
    let answer = |tokens: u32| {
        let choice = json!({ "logprobs": { "content": [1] }, "message": { "content": "a", "reasoning": "secret" } });
        json!({ "choices": [choice], "usage": { "prompt_tokens": 1, "completion_tokens": tokens } })
            .to_string()
    };
    if seen.head.contains("/costly/") {
        return vec![Act::Send(plain("application/json", answer(9000).as_bytes()))];
    }
    if seen.head.contains("/html/") {
        return vec![Act::Send(plain("text/html", b"<p>"))];
    }
    if seen.head.contains("/broken/") {
        return vec![
            chunked_head("application/json"),
            chunk("{\"choices\":"),
            Act::Pause(50),
            chunk("[}"),
            last_chunk(),
        ];
    }
    if seen.head.contains("/stream/") {
        let event =
            |delta: &str| chunk(&format!("data: {{\"choices\":[{{\"delta\":{delta}}}]}}\n\n"));
        return vec![
            chunked_head("text/event-stream"),
            event("{\"reasoning\":\"secret\"}"),
            Act::Pause(20),
            event("{\"content\":\"a\"}"),
            chunk("data: {\"choices\":[],\"usage\":{\"completion_tokens\":3}}\n\ndata: [DONE]\n\n"),
            last_chunk(),
        ];
    }
    vec![Act::Send(plain("application/json", answer(10).as_bytes()))]
}

#[tokio::test(flavor = "multi_thread")]
async fn envoy_changes_exchanges_as_the_guard_does() {
    let mock = Mock::start(model).await;
    let policy = format!("say_verdict = true\n{SLOW}");
    let Some((_world, running, envoy)) = through_envoy(&policy, &mock).await else { return };
    let asked = r#"{"model":"m","max_tokens":3000,"n":3,"logprobs":true,"x":[ 1 ]}"#;
    let ask = async |path: &str, key: &str| -> Answer {
        send(envoy.listen, &post(path, key, asked)).await
    };

    // Nothing of an innocent exchange changes.
    let answer = ask(CHAT, "sk-good").await;
    assert_eq!((answer.status, answer.is_whole), (200, true), "{answer:?}");
    assert!(answer.body.contains("secret") && answer.header("stillwatch-verdict").is_none());
    assert_eq!(mock.last().body, asked.as_bytes());
    assert_eq!(mock.last().header("accept-encoding"), Some("gzip"));

    // Of the others what is asked for is capped, and what is withheld does not come back.
    let answer = ask(CHAT, "sk-bad").await;
    assert_eq!((answer.status, answer.is_whole), (200, true), "{answer:?}");
    assert!(!answer.body.contains("secret"), "{answer:?}");
    assert_eq!(
        answer.json()["choices"][0],
        json!({ "logprobs": null, "message": { "content": "a" } })
    );
    assert!(answer.header("stillwatch-verdict").unwrap().starts_with("withhold; until="));
    let sent = mock.last();
    let expected = br#"{"model":"m","max_tokens":512,"n":1,"x":[ 1 ]}"#;
    assert_eq!(sent.body, expected, "{}", String::from_utf8_lossy(&sent.body));
    assert_eq!(sent.header("content-length"), Some(expected.len().to_string().as_str()));
    assert_eq!(sent.header("transfer-encoding"), None);
    assert_eq!(sent.header("accept-encoding"), Some("identity"));
    assert!(!sent.head.contains("stillwatch"), "{}", sent.head);

    // 512 tokens are taken each time, of 6,000, and settled with 10 or 3.
    for _ in 0..20 {
        assert_eq!(ask(CHAT, "sk-bad").await.status, 200);
        let answer = ask("/stream/v1/chat/completions", "sk-bad").await;
        assert_eq!((answer.status, answer.is_whole), (200, true), "{answer:?}");
        assert!(answer.body.contains("[DONE]") && answer.body.contains("\"content\":\"a\""));
        assert!(!answer.body.contains("secret"), "{answer:?}");
    }

    // What can't be thinned does not pass.
    let answer = ask("/html/v1/chat/completions", "sk-bad").await;
    assert_eq!(
        (answer.status, &*answer.json()["error"]["code"].to_string()),
        (502, "\"unreadable_answer\"")
    );
    let answer = ask("/broken/v1/chat/completions", "sk-bad").await;
    assert!(answer.status == 502 || !answer.is_whole, "{answer:?}");
    assert!(!answer.body.contains("choices"), "{answer:?}");

    let count = mock.count();
    assert_eq!(ask("/costly/v1/chat/completions", "sk-bad").await.status, 200);
    let slowed = ask(CHAT, "sk-bad").await;
    assert_eq!(slowed.status, 429, "{slowed:?}");
    assert!(slowed.header("retry-after").is_some_and(|wait| wait.parse::<u64>().unwrap() > 10));
    assert_eq!(slowed.json()["error"]["code"], "rate_limit_exceeded");
    assert_eq!(mock.count(), count + 1, "what is refused does not reach the model");
    assert_eq!(send(envoy.listen, &post(CHAT, "sk-bad", "no JSON")).await.status, 400);

    running.stop().await.unwrap();
    assert_eq!(ask(CHAT, "sk-bad").await.status, 200, "a guard that is gone stops no traffic");
}

#[tokio::test(flavor = "multi_thread")]
async fn envoy_refuses_what_the_processor_refuses() {
    let mock = Mock::start(model).await;
    let Some((_world, running, envoy)) = through_envoy(REFUSE, &mock).await else { return };
    let answer = send(envoy.listen, &post(CHAT, "sk-bad", "{}")).await;
    assert_eq!((answer.status, mock.count()), (403, 0), "{answer:?}");
    assert_eq!(answer.json()["error"]["code"], "access_suspended");
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let answer = send(envoy.listen, &post("/v1/messages", "sk-bad", "{}")).await;
    assert_eq!(answer.json()["error"]["type"], "permission_error");
    assert_eq!(send(envoy.listen, &post(CHAT, "sk-good", "{}")).await.status, 200);
    running.stop().await.unwrap();
}

/// Without overrides, everything is sent and the same is changed.
#[tokio::test(flavor = "multi_thread")]
async fn envoy_without_overrides() {
    let mock = Mock::start(model).await;
    let overrides = "allow_mode_override: false";
    let started = started(SLOW, &mock).await;
    let Some((_world, running, envoy)) = through(started, &mock, overrides).await else { return };
    for (key, tokens) in [("sk-good", 3000), ("sk-bad", 512)] {
        let asked = json!({ "max_tokens": 3000 });
        let answer = send(envoy.listen, &post(CHAT, key, &asked.to_string())).await;
        assert_eq!((answer.status, answer.is_whole), (200, true), "{answer:?}");
        assert_eq!(answer.body.contains("secret"), key == "sk-good", "{answer:?}");
        let got: serde_json::Value = serde_json::from_slice(&mock.last().body).unwrap();
        assert_eq!(got["max_tokens"], tokens);
        assert_eq!(send(envoy.listen, &post("/v1/models", key, "{}")).await.status, 200);
    }
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn long_bodies_pass_through_envoy() {
    let mock = Mock::saying("application/json", "{}").await;
    let Some((_world, running, envoy)) = through_envoy(SLOW, &mock).await else { return };
    let text = "x".repeat(8 << 20);
    for (key, tokens) in [("sk-good", 600), ("sk-bad", 512)] {
        let asked = json!({ "max_tokens": 600, "messages": [{ "role": "user", "content": text }] });
        let answer = send(envoy.listen, &post(CHAT, key, &asked.to_string())).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let got: serde_json::Value = serde_json::from_slice(&mock.last().body).unwrap();
        assert_eq!(got["max_tokens"], tokens);
        assert_eq!(got["messages"], asked["messages"]);
    }
    running.stop().await.unwrap();
}

/// The columns of a record, in this order; «-» where one is empty.
fn columns(record: &std::collections::BTreeMap<String, String>, names: &[&str]) -> Vec<String> {
    let column = |name: &&str| record.get(*name).map_or("-", String::as_str).to_owned();
    names.iter().map(column).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_passes_through_envoy_is_on_record_once() {
    let mock = Mock::start(model).await;
    let started = recording(SLOW, &mock).await;
    let overrides = "allow_mode_override: true";
    let Some((world, running, envoy)) = through(started, &mock, overrides).await else { return };
    let asks = |text: &str| {
        json!({ "model": "m", "max_tokens": 3000, "messages": [{ "role": "user", "content": text }] })
            .to_string()
    };
    // What is not changed passes as it came.
    let body = asks("one");
    let answer = send(envoy.listen, &post(CHAT, "sk-good", &body)).await;
    assert_eq!((answer.status, answer.is_whole), (200, true), "{answer:?}");
    assert!(answer.body.contains("secret"), "{answer:?}");
    assert_eq!(mock.last().body, body.as_bytes());
    let stream = "/stream/v1/chat/completions";
    let answer = send(envoy.listen, &post(stream, "sk-good", &asks("two"))).await;
    assert!(answer.is_whole && answer.body.contains("[DONE]"), "{answer:?}");
    let answer = send(envoy.listen, &post(CHAT, "sk-bad", &asks("three"))).await;
    assert!(answer.status == 200 && !answer.body.contains("secret"), "{answer:?}");
    assert_eq!(send(envoy.listen, &post(CHAT, "sk-bad", "no JSON")).await.status, 400);
    let listed = send(envoy.listen, &post("/v1/models", "sk-good", "{}")).await;
    assert_eq!(listed.status, 200, "{listed:?}");

    let records = world.records_of(running).await;
    let names = ["status", "prompt", "usage_output_tokens", "account_id", "client_address"];
    let told: Vec<_> = records.iter().map(|record| columns(record, &names)).collect();
    let [good, bad] = ["sk-good", "sk-bad"].map(account_of);
    let here = "127.0.0.1";
    assert_eq!(
        told,
        [
            ["200", "one", "10", &good, here],
            ["200", "two", "3", &good, here],
            ["200", "three", "10", &bad, here],
            ["400", "", "-", &bad, here],
        ]
    );
    let first = &records[0];
    assert_eq!(
        columns(first, &["user_agent", "request_model", "request_max_tokens", "response_digest"])
            [..3],
        ["tests/1", "m", "3000"]
    );
    assert!(first.contains_key("response_digest") && first.contains_key("credential_id"));
    assert!(records.iter().all(|record| record.get("response_finish_reason").is_none()));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_envoy_is_told_to_refuse_is_on_record_with_its_prompt() {
    let mock = Mock::start(model).await;
    let started = recording(REFUSE, &mock).await;
    let overrides = "allow_mode_override: true";
    let Some((world, running, envoy)) = through(started, &mock, overrides).await else { return };
    let body = r#"{"messages":[{"role":"user","content":"four"}]}"#;
    let answer = send(envoy.listen, &post(CHAT, "sk-bad", body)).await;
    assert_eq!((answer.status, mock.count()), (403, 0), "{answer:?}");
    let records = world.records_of(running).await;
    assert_eq!(columns(&records[0], &["status", "prompt"]), ["403", "four"]);
    assert_eq!(records.len(), 1);
}

/// What Envoy says of exchanges that do not come to their end, or have no answer.
#[tokio::test]
async fn exchanges_that_break_off_are_on_record_as_aborted() {
    let mock = Mock::saying("application/json", "{}").await;
    let (world, running) = recording(SLOW, &mock).await;
    let asks = |length: &str, end| {
        let headers = [
            (":method", "POST"),
            (":path", CHAT),
            ("authorization", "Bearer sk-good"),
            ("content-length", length),
        ];
        message(Said::RequestHeaders(head(&headers, end)))
    };
    let asked = |text: &str| {
        let text = json!({ "messages": [{ "role": "user", "content": text }] }).to_string();
        message(Said::RequestBody(body(&text, true)))
    };
    let answered = || {
        let headers = [(":status", "200"), ("content-type", "text/event-stream")];
        message(Said::ResponseHeaders(head(&headers, false)))
    };
    let piece = || {
        let event = "data: {\"choices\":[],\"usage\":{\"completion_tokens\":3}}\n\n";
        message(Said::ResponseBody(body(event, false)))
    };
    // The request never came whole: there is nothing to record.
    process(&running, vec![asks("9", false)]).await;
    // It broke off before there was an answer, and within it.
    process(&running, vec![asks("9", false), asked("a")]).await;
    process(&running, vec![asks("9", false), asked("b"), answered(), piece()]).await;
    // What has trailers ends with them, and goes on being one exchange.
    let trailers = message(Said::ResponseTrailers(Default::default()));
    process(&running, vec![asks("9", false), asked("c"), answered(), piece(), trailers]).await;
    // Longer than a body may be, by its own word.
    process(&running, vec![asks("999999999", false)]).await;
    // Who only looks on has nothing recorded.
    let mut looks_on = asks("9", false);
    looks_on.observability_mode = true;
    process(&running, vec![looks_on]).await;

    let mode = process(&running, vec![asks("9", false)]).await.remove(0).unwrap();
    let mode = mode.mode_override.unwrap();
    assert_eq!(
        (mode.request_body_mode, mode.response_header_mode, mode.response_body_mode),
        (2, 1, 1),
        "all of an exchange is wanted, whoever asks"
    );
    let records = world.records_of(running).await;
    let names = ["status", "prompt", "usage_output_tokens", "response_finish_reason"];
    let told: Vec<_> = records.iter().map(|record| columns(record, &names)).collect();
    assert_eq!(
        told,
        [
            ["-", "a", "-", "aborted"],
            ["200", "b", "3", "aborted"],
            ["200", "c", "3", "-"],
            ["413", "", "-", "-"],
        ]
    );
}

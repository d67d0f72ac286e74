//! What senders of OpenTelemetry are told, over gRPC and HTTP, and what is handed over.
//! The real Python exporters are used where they are found, which `.ci/run` sees to;
//! elsewhere their test says that it skips.

use std::io::Write as _;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex};

use flate2::Compression;
use flate2::write::GzEncoder;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::logs::v1::logs_service_client::LogsServiceClient;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, KeyValueList};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message as _;
use serde_json::{Value, json};
use stillwatch_ingest::{Delivery, Options, ReceivedExchange};
use stillwatch_receive::{Counts, Key, Running, Settings, start};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::Code;
use tonic::codec::CompressionEncoding;

/// 2026-03-02T00:00:00Z.
const NOW_NS: u64 = 1_772_409_600_000_000_000;

fn settings() -> Settings {
    let any = Some("127.0.0.1:0".parse().unwrap());
    Settings { grpc: any, http: any, key: None, read: Options::default() }
}

type Written = Arc<Mutex<Vec<ReceivedExchange>>>;

/// A receiver, and what is written of what it receives.
async fn started() -> (Running, Written) {
    started_with(settings()).await
}

async fn started_with(settings: Settings) -> (Running, Written) {
    let (to, deliveries) = sync_channel(8);
    let written = Written::default();
    let all = Arc::clone(&written);
    std::thread::spawn(move || {
        while let Ok(Delivery { exchanges, done }) = deliveries.recv() {
            all.lock().unwrap().extend(exchanges);
            done(true);
        }
    });
    (start(settings, to).await.unwrap(), written)
}

/// A receiver of which nothing is taken unless the test takes it.
async fn held(waiting: usize) -> (Running, Receiver<Delivery>) {
    let (to, deliveries) = sync_channel(waiting);
    (start(settings(), to).await.unwrap(), deliveries)
}

fn text(value: &str) -> Option<AnyValue> {
    Some(AnyValue { value: Some(Any::StringValue(value.to_owned())) })
}

fn attribute(key: &str, value: Option<AnyValue>) -> KeyValue {
    KeyValue { key: key.to_owned(), value, ..KeyValue::default() }
}

fn span(number: u8, attributes: Vec<KeyValue>) -> Span {
    Span {
        trace_id: vec![7; 16],
        span_id: vec![number; 8],
        start_time_unix_nano: NOW_NS + u64::from(number),
        attributes,
        ..Span::default()
    }
}

/// Of the spans, the first two are exchanges, the third lacks an account, and the fourth is
/// one of a database.
fn traces() -> ExportTraceServiceRequest {
    let call = |account: &str, prompt: &str| {
        vec![
            attribute("gen_ai.request.model", text("m")),
            attribute("gen_ai.prompt", text(prompt)),
            attribute("user.id", text(account)),
            attribute(
                "gen_ai.usage.output_tokens",
                Some(AnyValue { value: Some(Any::IntValue(5)) }),
            ),
            attribute("empty", Some(AnyValue { value: None })),
        ]
    };
    let spans = vec![
        span(1, call("a", "One?")),
        span(2, call("b", "Two?")),
        span(3, call("", "Whose?")),
        span(4, vec![attribute("db.system", text("x"))]),
    ];
    let scope = ScopeSpans { spans, ..ScopeSpans::default() };
    let resource =
        Resource { attributes: vec![attribute("tenant.id", text("t"))], ..Resource::default() };
    let spans = ResourceSpans {
        resource: Some(resource),
        scope_spans: vec![scope],
        ..ResourceSpans::default()
    };
    ExportTraceServiceRequest { resource_spans: vec![spans] }
}

/// A question and its answer in a log record each.
fn logs() -> ExportLogsServiceRequest {
    let record = |name: &str, key: &str, value: Option<AnyValue>| {
        let list = KeyValueList { values: vec![attribute(key, value)] };
        LogRecord {
            time_unix_nano: NOW_NS,
            trace_id: vec![7; 16],
            span_id: vec![1; 8],
            event_name: name.to_owned(),
            attributes: vec![attribute("user.id", text("a"))],
            body: Some(AnyValue { value: Some(Any::KvlistValue(list)) }),
            ..LogRecord::default()
        }
    };
    let log_records = vec![
        record("gen_ai.user.message", "content", text("One?")),
        record("gen_ai.choice", "finish_reason", text("stop")),
    ];
    let scope_logs = vec![ScopeLogs { log_records, ..ScopeLogs::default() }];
    let resource_logs = vec![ResourceLogs { scope_logs, ..ResourceLogs::default() }];
    ExportLogsServiceRequest { resource_logs }
}

/// Posts a body; the answer's status, head and body.
async fn post(
    address: SocketAddr,
    path: &str,
    headers: &str,
    body: &[u8],
) -> (u16, String, Vec<u8>) {
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}content-length: {}\r\n\r\n",
        body.len()
    );
    ask(address, &[head.as_bytes(), body].concat()).await
}

async fn ask(address: SocketAddr, request: &[u8]) -> (u16, String, Vec<u8>) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // Who refuses may close before all is sent.
    let _ = stream.write_all(request).await;
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes).await;
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap().to_ascii_lowercase();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), head, bytes[end + 4..].to_vec())
}

const PROTOBUF: &str = "content-type: application/x-protobuf\r\n";
const JSON: &str = "content-type: application/json\r\n";

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test]
async fn exchanges_are_handed_over_and_the_others_told_of() {
    let (running, written) = started().await;
    let (grpc, http) = (running.grpc.unwrap(), running.http.unwrap());
    let client = TraceServiceClient::connect(format!("http://{grpc}")).await.unwrap();
    let mut client = client.send_compressed(CompressionEncoding::Gzip);
    let partial = client.export(traces()).await.unwrap().into_inner().partial_success.unwrap();
    assert_eq!(partial.rejected_spans, 1);
    assert!(partial.error_message.contains("account_id_missing 1"), "{}", partial.error_message);
    let mut client = LogsServiceClient::connect(format!("http://{grpc}")).await.unwrap();
    assert_eq!(client.export(logs()).await.unwrap().into_inner().partial_success, None);
    let by_grpc = std::mem::take(&mut *written.lock().unwrap());

    // The same by HTTP, in every form.
    let bytes = traces().encode_to_vec();
    let (status, head, body) = post(http, "/v1/traces", PROTOBUF, &bytes).await;
    assert!(status == 200 && head.contains("content-type: application/x-protobuf"), "{head}");
    let told = ExportTraceServiceResponse::decode(body.as_slice()).unwrap();
    assert_eq!(told.partial_success, Some(partial));
    let headers = format!("{PROTOBUF}content-encoding: gzip\r\n");
    let (status, _, body) = post(http, "/v1/logs", &headers, &gzip(&logs().encode_to_vec())).await;
    assert_eq!((status, body.as_slice()), (200, &b""[..]));
    assert_eq!(*written.lock().unwrap(), by_grpc, "the same exchanges have the same ids");

    let export = serde_json::to_vec(&traces()).unwrap();
    let headers = "content-type: application/json; charset=utf-8\r\n";
    let (status, _, body) = post(http, "/v1/traces", headers, &export).await;
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((status, &body["partialSuccess"]["rejectedSpans"]), (200, &json!("1")));
    let (status, _, body) =
        post(http, "/v1/logs", JSON, &serde_json::to_vec(&logs()).unwrap()).await;
    assert_eq!((status, body.as_slice()), (200, &b"{}"[..]));
    let counts = running.stop().await;
    let expected = Counts { exports: 6, exchanges: 12, rejected: 3, passed_over: 3, refused: 0 };
    assert_eq!(counts, expected);
    // Numbers are written alike, so that these have the same ids too.
    assert_eq!(written.lock().unwrap()[4..], by_grpc);
}

#[tokio::test]
async fn what_is_no_export_is_refused_for_good() {
    let (running, written) = started().await;
    let http = running.http.unwrap();
    for (path, headers, body, expected) in [
        ("/v1/traces", JSON, &b"{"[..], 400),
        ("/v1/traces", JSON, b"[]", 400),
        ("/v1/traces", PROTOBUF, b"\xff\xff", 400),
        ("/v1/logs", "content-type: application/json\r\ncontent-encoding: gzip\r\n", b"{}", 400),
        ("/v1/traces", "content-type: application/json\r\ncontent-encoding: br\r\n", b"{}", 415),
        ("/v1/traces", "content-type: text/plain\r\n", b"{}", 415),
        ("/v1/traces", "", b"{}", 415),
        ("/v1/metrics", JSON, b"{}", 404),
    ] {
        let (status, head, _) = post(http, path, headers, body).await;
        assert_eq!(status, expected, "{path} {headers}");
        assert!(!head.contains("retry-after"), "{head}");
    }
    let get = b"GET /v1/traces HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let (status, head, _) = ask(http, get).await;
    assert!(status == 405 && head.contains("allow: post"), "{head}");

    // Too long as it is, or when it is unpacked.
    let long = vec![b' '; (16 << 20) + 1];
    let (status, _, body) = post(http, "/v1/traces", JSON, &long).await;
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert!(status == 413 && body["message"].as_str().unwrap().contains("16 MiB"), "{body}");
    let headers = format!("{JSON}content-encoding: gzip\r\n");
    assert_eq!(post(http, "/v1/traces", &headers, &gzip(&long)).await.0, 413);
    let client = LogsServiceClient::connect(format!("http://{}", running.grpc.unwrap()));
    let mut long = logs();
    long.resource_logs[0].schema_url = "x".repeat(16 << 20);
    let refused = client.await.unwrap().export(long).await.unwrap_err();
    assert_eq!(refused.code(), Code::OutOfRange, "{refused}");

    // What holds no exchange is taken and not handed over.
    assert_eq!(post(http, "/v1/traces", JSON, b"{}").await.0, 200);
    assert!(written.lock().unwrap().is_empty());
    assert_eq!(running.stop().await.refused, 6);
}

#[tokio::test]
async fn without_the_key_nothing_is_taken() {
    let key = Some(Key::new("r3ceive-0123456789"));
    let (running, written) = started_with(Settings { key, ..settings() }).await;
    let (grpc, http) = (running.grpc.unwrap(), running.http.unwrap());
    let export = serde_json::to_vec(&traces()).unwrap();
    for given in [
        "",
        "authorization: r3ceive-0123456789\r\n",
        "authorization: Basic r3ceive-0123456789\r\n",
        "authorization: Bearer \r\n",
        "authorization: Bearer r3ceive-012345678\r\n",
        "authorization: Bearer r3ceive-01234567890\r\n",
    ] {
        let (status, head, body) =
            post(http, "/v1/traces", &format!("{JSON}{given}"), &export).await;
        assert!(status == 401 && head.contains("www-authenticate: bearer"), "{given}: {head}");
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["code"], Code::Unauthenticated as i32);
        assert!(!body.to_string().contains("r3ceive"), "{body}");
    }
    let mut client = LogsServiceClient::connect(format!("http://{grpc}")).await.unwrap();
    assert_eq!(client.export(logs()).await.unwrap_err().code(), Code::Unauthenticated);
    assert!(written.lock().unwrap().is_empty());

    let given = format!("{JSON}authorization: bearer r3ceive-0123456789\r\n");
    assert_eq!(post(http, "/v1/traces", &given, &export).await.0, 200);
    let mut request = tonic::Request::new(logs());
    let value = "Bearer r3ceive-0123456789".parse().unwrap();
    request.metadata_mut().insert("authorization", value);
    client.export(request).await.unwrap();
    assert!(!written.lock().unwrap().is_empty());
    let counts = running.stop().await;
    assert_eq!((counts.exports, counts.refused), (2, 7));
}

#[tokio::test]
async fn nothing_is_acknowledged_that_is_not_on_the_disk() {
    // What is handed over is taken only by who waits for it.
    let (running, deliveries) = held(0).await;
    let (grpc, http) = (running.grpc.unwrap(), running.http.unwrap());
    let export = serde_json::to_vec(&logs()).unwrap();
    let (status, head, _) = post(http, "/v1/logs", JSON, &export).await;
    assert!(status == 503 && head.contains("retry-after: 1"), "{head}");
    let mut client = LogsServiceClient::connect(format!("http://{grpc}")).await.unwrap();
    assert_eq!(client.export(logs()).await.unwrap_err().code(), Code::Unavailable);

    let taking = tokio::task::spawn_blocking(move || (deliveries.recv().unwrap(), deliveries));
    let sent = export.clone();
    let sending = tokio::spawn(async move {
        // Until somebody waits.
        while post(http, "/v1/logs", JSON, &sent).await.0 == 503 {}
    });
    let (delivery, deliveries) = taking.await.unwrap();
    assert_eq!(delivery.exchanges.len(), 1);
    assert!(!sending.is_finished(), "nothing is said before it is on the disk");
    let refused = running.counts().refused;
    // The disk does not take it.
    (delivery.done)(false);
    while running.counts().refused == refused {
        tokio::task::yield_now().await;
    }
    sending.abort();
    // Nobody is there any more who would write.
    drop(deliveries);
    assert_eq!(post(http, "/v1/logs", JSON, &export).await.0, 503);
    let counts = running.stop().await;
    assert_eq!((counts.exports, counts.exchanges), (0, 0));
}

#[tokio::test]
async fn an_address_that_is_taken_is_named() {
    let (running, _written) = started().await;
    let settings = Settings { http: running.http, ..settings() };
    let (to, _deliveries) = sync_channel(1);
    let error = start(settings, to).await.unwrap_err();
    assert!(error.to_string().contains(&running.http.unwrap().to_string()), "{error}");
}

/// The Python to use: `STILLWATCH_TEST_PYTHON`, or the system's.
async fn python(arguments: Vec<String>) -> Option<std::process::Output> {
    let python = std::env::var("STILLWATCH_TEST_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let run = move || Command::new(python).args(arguments).output();
    tokio::task::spawn_blocking(run).await.unwrap().ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_python_exporters_are_understood() {
    let script = format!("{}/tests/exporters.py", env!("CARGO_MANIFEST_DIR"));
    let import =
        "import opentelemetry.exporter.otlp.proto.grpc, opentelemetry.exporter.otlp.proto.http";
    let found = python(vec!["-c".to_owned(), import.to_owned()]).await;
    if !found.is_some_and(|ran| ran.status.success()) {
        eprintln!("skipped: no Python with OpenTelemetry's exporters on this machine");
        return;
    }
    let (running, written) = started().await;
    let (grpc, http) = (running.grpc.unwrap(), running.http.unwrap());
    let ran = python(vec![script, grpc.to_string(), http.to_string()]).await.unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let counts = running.stop().await;
    assert_eq!((counts.exchanges, counts.rejected, counts.refused), (4, 0, 0), "{counts:?}");
    assert!(counts.passed_over >= 2, "{counts:?}");
    let all: Vec<u8> = written.lock().unwrap().iter().flat_map(|e| e.line.clone()).collect();
    let all = String::from_utf8(all).unwrap();
    for said in ["a span by gRPC?", "a span by HTTP?", "a log by gRPC?", "a log by HTTP?"] {
        assert_eq!(all.matches(said).count(), 1, "{said}: {all}");
    }
}

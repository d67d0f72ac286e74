//! Traces of exchanges, as a collector gets them.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use prost::Message as _;
use stillwatch_guard::TraceSettings;
use tokio::net::TcpListener;
use tonic::{Request, Response, Status};

use crate::setting::{Act, Mock, NOW, World, ask, chunk, chunked_head, last_chunk, post, send};

/// A collector that keeps what it gets.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<ExportTraceServiceRequest>>>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.0.lock().unwrap().push(request.into_inner());
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    async fn start() -> (Self, SocketAddr) {
        let collector = Collector::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let service = TraceServiceServer::new(collector.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let service = TowerToHyperService::new(service.clone());
                let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                tokio::spawn(server.serve_connection(TokioIo::new(stream), service));
            }
        });
        (collector, address)
    }

    /// All spans, in the order of their beginning and kind.
    fn spans(&self) -> Vec<Span> {
        let requests = self.0.lock().unwrap();
        let resources = requests.iter().flat_map(|request| &request.resource_spans);
        let scopes = resources.flat_map(|resource| &resource.scope_spans);
        let mut spans: Vec<Span> = scopes.flat_map(|scope| scope.spans.clone()).collect();
        spans.sort_by_key(|span| (span.start_time_unix_nano, span.kind));
        spans
    }

    /// All that it got, as bytes.
    fn bytes(&self) -> Vec<u8> {
        self.0.lock().unwrap().iter().flat_map(|request| request.encode_to_vec()).collect()
    }
}

fn traced(mut world: World, collector: SocketAddr, ratio: f64) -> World {
    let collector = format!("http://{collector}").parse().unwrap();
    world.settings.traces = Some(TraceSettings { collector, ratio });
    world
}

/// An attribute as text.
fn value(attributes: &[KeyValue], name: &str) -> Option<String> {
    let attribute = attributes.iter().find(|attribute| attribute.key == name)?;
    let text = |value: &Value| match value {
        Value::StringValue(text) => text.clone(),
        Value::IntValue(number) => number.to_string(),
        other => format!("{other:?}"),
    };
    match attribute.value.as_ref()?.value.as_ref()? {
        Value::ArrayValue(array) => {
            let values = array.values.iter().filter_map(|value| value.value.as_ref());
            Some(values.map(text).collect::<Vec<_>>().join(","))
        }
        other => Some(text(other)),
    }
}

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";
const BODY: &str = r#"{"model":"small-1","stream":true,"max_tokens":9,"messages":[{"role":"user","content":"a secret prompt"}]}"#;

fn with_header(request: &str, header: &str) -> String {
    request.replacen("\r\n", &format!("\r\n{header}\r\n"), 1)
}

fn stream() -> Vec<Act> {
    vec![
        chunked_head("text/event-stream"),
        chunk(
            "data: {\"model\":\"small-1-2026\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a secret answer\"},\"finish_reason\":\"stop\"}]}\n\n",
        ),
        chunk("data: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":5}}\n\n"),
        last_chunk(),
    ]
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn an_exchange_is_gone_on_with_in_two_spans() {
    let (collector, address) = Collector::start().await;
    let mock = Mock::start(|_| stream()).await;
    let world = traced(World::new(mock.address, ""), address, 1.0);
    let running = world.start().await;
    let sent = format!("traceparent: 00-{TRACE}-{PARENT}-01\r\ntracestate: vendor=1");
    let request = with_header(&post("/openai/v1/chat/completions", "sk-secret", BODY), &sent);
    assert_eq!(send(running.listen, &request).await.status, 200);
    let passed = mock.last();
    assert_eq!(passed.header("traceparent"), Some(format!("00-{TRACE}-{PARENT}-01").as_str()));
    assert_eq!(passed.header("tracestate"), Some("vendor=1"));
    running.stop().await.unwrap();

    let spans = collector.spans();
    let [server, client] = &spans[..] else { panic!("{spans:?}") };
    assert_eq!((hex(&server.trace_id), hex(&client.trace_id)), (TRACE.into(), TRACE.into()));
    assert_eq!(
        (hex(&server.parent_span_id), &client.parent_span_id),
        (PARENT.into(), &server.span_id)
    );
    assert_eq!((server.kind(), client.kind()), (SpanKind::Server, SpanKind::Client));
    assert_eq!(server.name, "POST /v1/chat/completions");
    assert_eq!(client.name, "chat small-1");
    let now = NOW.0 as u64 * 1_000;
    assert_eq!((server.start_time_unix_nano, client.end_time_unix_nano), (now, now));
    for (span, name, expected) in [
        (server, "http.request.method", "POST"),
        (server, "http.route", "/v1/chat/completions"),
        (server, "http.response.status_code", "200"),
        (server, "stillwatch.verdict", "allow"),
        (client, "gen_ai.operation.name", "chat"),
        (client, "gen_ai.provider.name", "openai"),
        (client, "gen_ai.request.model", "small-1"),
        (client, "gen_ai.request.max_tokens", "9"),
        (client, "gen_ai.response.model", "small-1-2026"),
        (client, "gen_ai.usage.input_tokens", "3"),
        (client, "gen_ai.usage.output_tokens", "5"),
        (client, "gen_ai.response.finish_reasons", "stop"),
    ] {
        assert_eq!(value(&span.attributes, name).as_deref(), Some(expected), "{name}");
    }
    assert_eq!(value(&client.attributes, "error.type"), None);
    let resource = collector.0.lock().unwrap()[0].resource_spans[0].resource.clone().unwrap();
    let of_resource = &resource.attributes;
    assert_eq!(value(of_resource, "service.name").as_deref(), Some("stillwatch-guard"));

    let bytes = collector.bytes();
    for secret in ["secret", "127.0.0.1", "key_", "tests/1", "/openai"] {
        assert!(!bytes.windows(secret.len()).any(|held| held == secret.as_bytes()), "{secret}");
    }
}

#[tokio::test]
async fn refusals_errors_and_breaks_are_told_apart() {
    let (collector, address) = Collector::start().await;
    let mock = Mock::start(|seen| match String::from_utf8_lossy(&seen.body) {
        body if body.contains("overload") => {
            vec![Act::Send(b"HTTP/1.1 529 Overloaded\r\ncontent-length: 0\r\n\r\n".to_vec())]
        }
        _ => vec![stream()[0].clone(), stream()[1].clone(), Act::Send(vec![])],
    })
    .await;
    let policy = "mode = \"enforce\"\n[[rule]]\nsteps = [{ do = \"refuse\", for = \"1 day\" }]";
    let world = World::new(mock.address, policy).with_finding("c1", &["sk-bad"]);
    let world = traced(world, address, 1.0);
    let running = world.start().await;
    let chat = "/v1/chat/completions";
    assert_eq!(send(running.listen, &post(chat, "sk-bad", BODY)).await.status, 403);
    let overload = r#"{"max_tokens":1,"metadata":"overload"}"#;
    assert_eq!(send(running.listen, &post("/v1/messages", "sk-1", overload)).await.status, 529);
    assert!(!send(running.listen, &post(chat, "sk-1", BODY)).await.is_whole);
    running.stop().await.unwrap();

    let spans = collector.spans();
    let find = |kind: SpanKind, name: &str, wanted: &str| {
        let found = spans.iter().filter(|span| span.kind() == kind);
        let mut found =
            found.filter(|span| value(&span.attributes, name).as_deref() == Some(wanted));
        let span = found.next().unwrap_or_else(|| panic!("no {name} {wanted} in {spans:?}"));
        assert!(found.next().is_none());
        span
    };
    let refused = find(SpanKind::Server, "http.response.status_code", "403");
    assert_eq!(value(&refused.attributes, "stillwatch.verdict").as_deref(), Some("refuse"));
    assert_eq!(value(&refused.attributes, "error.type"), None, "HTTP's conventions say so");
    assert!(spans.iter().all(|span| span.parent_span_id != refused.span_id), "nobody was asked");
    let overloaded = find(SpanKind::Client, "error.type", "529");
    assert_eq!(overloaded.status.as_ref().unwrap().code(), StatusCode::Error);
    assert_eq!(overloaded.name, "chat");
    assert_eq!(value(&overloaded.attributes, "gen_ai.provider.name").as_deref(), Some("anthropic"));
    let broken = find(SpanKind::Client, "error.type", "aborted");
    find(SpanKind::Server, "error.type", "aborted");
    assert_eq!(value(&broken.attributes, "gen_ai.response.model").as_deref(), Some("small-1-2026"));
    // Without a client's trace each exchange has one of its own.
    assert!(spans.iter().all(|span| span.trace_id.iter().any(|byte| *byte != 0)));
    assert_ne!(overloaded.trace_id, broken.trace_id);
    assert_eq!(spans.len(), 5);
}

#[tokio::test]
async fn the_client_s_decision_counts_before_the_ratio() {
    let (collector, address) = Collector::start().await;
    let mock = Mock::start(|_| stream()).await;
    let world = traced(World::new(mock.address, ""), address, 0.0);
    let running = world.start().await;
    let plain = post("/v1/chat/completions", "sk-1", BODY);
    for header in [
        None,
        Some(format!("traceparent: 00-{TRACE}-{PARENT}-00")),
        Some("traceparent: 00-nonsense".to_owned()),
        Some(format!("traceparent: 00-{TRACE}-{PARENT}-01")),
    ] {
        let request = header.map_or_else(|| plain.clone(), |header| with_header(&plain, &header));
        assert_eq!(send(running.listen, &request).await.status, 200);
    }
    running.stop().await.unwrap();
    let ids: Vec<String> = collector.spans().iter().map(|span| hex(&span.trace_id)).collect();
    assert_eq!(ids, [TRACE, TRACE]);
}

#[tokio::test]
async fn without_a_collector_exchanges_pass_and_spans_are_counted() {
    // A port that was free a moment ago.
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let mock = Mock::start(|_| stream()).await;
    let world = traced(World::new(mock.address, ""), nobody, 1.0);
    let running = world.start().await;
    let request = post("/v1/chat/completions", "sk-1", BODY);
    assert_eq!(send(running.listen, &request).await.status, 200);
    let mut text = String::new();
    for _ in 0..600 {
        text = ask(&running, "GET", "/metrics", "").await.body;
        if text.contains("stillwatch_guard_spans_dropped_total 2") {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert!(text.contains("stillwatch_guard_spans_dropped_total 2"), "{text}");
    assert!(text.contains("stillwatch_guard_spans_sent_total 0"), "{text}");
    assert_eq!(world.records_of(running).await.len(), 1);
}

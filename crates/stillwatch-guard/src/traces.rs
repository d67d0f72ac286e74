//! A trace of each exchange, for whoever collects traces: OpenTelemetry's, by OTLP over gRPC.
//!
//! An exchange has two spans, as the conventions see a gateway: one of kind `SERVER` for the
//! client's request (HTTP's conventions), and below it one of kind `CLIENT` for the model's
//! call (GenAI's, <https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-spans/>), which
//! a refused exchange has not. A client's `traceparent` (W3C Trace Context) is gone on with;
//! on its way to the upstream it stays as it came.
//!
//! There are no prompts, keys, addresses or accounts in them. Times are the guard's clock.
//! Spans wait in a bounded queue; while the collector is away they are dropped and counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use http::HeaderMap;
use opentelemetry::propagation::{Extractor, TextMapPropagator as _};
use opentelemetry::trace::{
    SpanId, SpanKind, Status, TraceContextExt as _, TraceId, Tracer as _, TracerProvider as _,
};
use opentelemetry::{Array, Context, KeyValue, StringValue, Value};
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, IdGenerator, Sampler, SdkTracer, SdkTracerProvider,
    Span, SpanData, SpanProcessor,
};
use prometheus_client::metrics::counter::Counter;
use stillwatch_exchange::Time;
use xxhash_rust::xxh3::xxh3_128_with_seed;

use crate::answer::Measured;
use crate::api::{Dialect, Endpoint};
use crate::asked::Asked;
use crate::metrics::Metrics;
use crate::settings::{GuardError, TraceSettings};

/// Spans that wait for the collector, or are on their way to it.
const QUEUE_MAX: usize = 8_192;
/// Spans of one request to the collector.
const BATCH_MAX: usize = 512;
/// How long spans wait for others, and the collector may take.
const DELAY: Duration = Duration::from_secs(2);
const EXPORT: Duration = Duration::from_secs(10);
/// How long a guard that ends waits for the last spans to be taken.
const END: Duration = Duration::from_secs(3);
/// A longer model's name is cut, in bytes: it is the client's choice.
const NAME_BYTES_MAX: usize = 128;

/// Where spans go.
#[derive(Debug)]
pub struct Traces {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
    propagator: TraceContextPropagator,
}

/// What an exchange's spans will say, until it has ended.
#[derive(Debug)]
pub struct Traced {
    parent: Context,
    began: Time,
    /// When it was passed on.
    sent: Option<Time>,
    endpoint: Endpoint,
    dialect: Dialect,
    verdict: &'static str,
    request: Vec<KeyValue>,
    model: Option<String>,
}

impl Traces {
    /// Begins to send spans; within a runtime, which the connection to the collector needs.
    ///
    /// # Errors
    /// The collector's URL can't be used.
    pub fn begin(
        settings: &TraceSettings,
        run_id: u64,
        metrics: &Metrics,
    ) -> Result<Self, GuardError> {
        let exporter = SpanExporter::builder()
            .with_tonic()
            .with_endpoint(settings.collector.to_string())
            .with_timeout(EXPORT)
            .build()
            .map_err(|error| {
                GuardError::Usage(format!("no traces can be sent to the collector: {error}"))
            })?;
        let queued = Arc::<AtomicUsize>::default();
        let counted = Counted {
            exporter,
            queued: Arc::clone(&queued),
            sent: metrics.spans_sent.clone(),
            dropped: metrics.spans_dropped.clone(),
        };
        let config = BatchConfigBuilder::default()
            .with_max_queue_size(QUEUE_MAX)
            .with_max_export_batch_size(BATCH_MAX)
            .with_scheduled_delay(DELAY)
            .build();
        let next = BatchSpanProcessor::builder(counted).with_batch_config(config).build();
        let bounded = Bounded { next, queued, dropped: metrics.spans_dropped.clone() };
        let resource = Resource::builder()
            .with_service_name("stillwatch-guard")
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .with_attribute(KeyValue::new("service.instance.id", format!("{run_id:016x}")))
            .build();
        let sampler = Sampler::TraceIdRatioBased(settings.ratio);
        let provider = SdkTracerProvider::builder()
            .with_span_processor(bounded)
            // Who has a trace already has decided whether it is sampled.
            .with_sampler(Sampler::ParentBased(Box::new(sampler)))
            .with_id_generator(Ids { run_id, next: AtomicU64::new(1) })
            .with_resource(resource)
            .build();
        let tracer = provider.tracer("stillwatch-guard");
        Ok(Traces { provider, tracer, propagator: TraceContextPropagator::new() })
    }

    /// An exchange that has arrived.
    pub fn arrive(
        &self,
        headers: &HeaderMap,
        endpoint: Endpoint,
        dialect: Dialect,
        asked: &Asked<'_>,
        now: Time,
    ) -> Box<Traced> {
        let parent = self.propagator.extract_with_context(&Context::new(), &Headers(headers));
        let mut request = Vec::new();
        let mut add = |name: &'static str, value: Option<Value>| {
            request.extend(value.map(|value| KeyValue::new(name, value)));
        };
        let model = asked.request_model.as_deref().map(cut);
        add("gen_ai.request.model", model.clone().map(Value::from));
        add("gen_ai.request.max_tokens", asked.request_max_tokens.map(|n| i64::from(n).into()));
        add("gen_ai.request.temperature", asked.request_temperature.map(|n| f64::from(n).into()));
        add("gen_ai.request.top_p", asked.request_top_p.map(|n| f64::from(n).into()));
        add(
            "gen_ai.request.choice.count",
            asked.request_choice_count.filter(|n| *n != 1).map(|n| i64::from(n).into()),
        );
        Box::new(Traced {
            parent,
            began: now,
            sent: None,
            endpoint,
            dialect,
            verdict: "",
            request,
            model,
        })
    }

    /// Its end, by what was measured of it; no status where nothing was answered.
    pub fn end(&self, traced: Traced, status: Option<u16>, measured: &Measured, now: Time) {
        // A clock that was set back ends nothing before it began.
        let now = now.max(traced.sent.unwrap_or(traced.began));
        let is_aborted = measured.response_finish_reason.as_deref() == Some("aborted");
        // The names are HTTP's (a status from 500 on is the server's error, from 400 on
        // the client's) and, where an answer broke off, ours.
        let error = |from: u16| match status {
            _ if is_aborted => Some("aborted".to_owned()),
            Some(status) if status >= from => Some(status.to_string()),
            _ => None,
        };
        let mut attributes = vec![
            KeyValue::new("http.request.method", "POST"),
            KeyValue::new("http.route", traced.endpoint.route()),
            KeyValue::new("url.scheme", "http"),
        ];
        if !traced.verdict.is_empty() {
            attributes.push(KeyValue::new("stillwatch.verdict", traced.verdict));
        }
        if let Some(status) = status {
            attributes.push(KeyValue::new("http.response.status_code", i64::from(status)));
        }
        let name = format!("POST {}", traced.endpoint.route());
        let server = Part { name, kind: SpanKind::Server, began: traced.began, attributes };
        let context = server.build(self, &traced.parent, error(500));
        if let Some(sent) = traced.sent {
            traced
                .client(sent, measured)
                .build(self, &context, error(400))
                .span()
                .end_with_timestamp(system(now));
        }
        context.span().end_with_timestamp(system(now));
    }

    /// Sends what waits, for some seconds at most. Blocks.
    pub fn stop(&self) {
        // What could not be sent is counted.
        let _ = self.provider.shutdown_with_timeout(END);
    }
}

impl Traced {
    /// The exchange's verdict has been found.
    pub fn decided(&mut self, verdict: &'static str) {
        self.verdict = verdict;
    }

    /// It is passed on.
    pub fn sent(&mut self, now: Time) {
        self.sent = Some(now.max(self.began));
    }

    /// The model's call.
    fn client(self, sent: Time, measured: &Measured) -> Part {
        let operation = self.endpoint.operation_name().unwrap_or("chat");
        let mut attributes = self.request;
        attributes.push(KeyValue::new("gen_ai.operation.name", operation));
        attributes.push(KeyValue::new("gen_ai.provider.name", self.dialect.provider_name()));
        let mut add = |name: &'static str, value: Option<Value>| {
            attributes.extend(value.map(|value| KeyValue::new(name, value)));
        };
        let tokens = |count: Option<u32>| count.map(|count| Value::from(i64::from(count)));
        add("gen_ai.response.model", measured.response_model.as_deref().map(|m| cut(m).into()));
        add("gen_ai.usage.input_tokens", tokens(measured.usage_input_tokens));
        add("gen_ai.usage.output_tokens", tokens(measured.usage_output_tokens));
        add("gen_ai.usage.reasoning.output_tokens", tokens(measured.usage_reasoning_tokens));
        let reason = measured.response_finish_reason.as_deref();
        add(
            "gen_ai.response.finish_reasons",
            reason.map(|reason| Value::Array(Array::String(vec![StringValue::from(cut(reason))]))),
        );
        let name = match &self.model {
            Some(model) => format!("{operation} {model}"),
            None => operation.to_owned(),
        };
        Part { name, kind: SpanKind::Client, began: sent, attributes }
    }
}

/// A span that is about to be made.
struct Part {
    name: String,
    kind: SpanKind,
    began: Time,
    attributes: Vec<KeyValue>,
}

impl Part {
    /// The span, in a context of its own below another.
    fn build(mut self, traces: &Traces, parent: &Context, error: Option<String>) -> Context {
        let status = if error.is_some() { Status::error("") } else { Status::Unset };
        self.attributes.extend(error.map(|error| KeyValue::new("error.type", error)));
        let builder = traces
            .tracer
            .span_builder(self.name)
            .with_kind(self.kind)
            .with_start_time(system(self.began))
            .with_attributes(self.attributes);
        let context = parent.with_span(traces.tracer.build_with_context(builder, parent));
        context.span().set_status(status);
        context
    }
}

/// A text that a client or an upstream has chosen, no longer than it needs to be.
fn cut(text: &str) -> String {
    text.get(..text.floor_char_boundary(NAME_BYTES_MAX)).unwrap_or_default().to_owned()
}

fn system(time: Time) -> SystemTime {
    let since = Duration::from_micros(u64::try_from(time.0).unwrap_or(0));
    SystemTime::UNIX_EPOCH + since
}

/// The headers of a request, for the propagator.
struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).and_then(|value| value.to_str().ok())
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(http::HeaderName::as_str).collect()
    }
}

/// Ids from the run's random number: randomness is passed in.
#[derive(Debug)]
struct Ids {
    run_id: u64,
    next: AtomicU64,
}

impl Ids {
    fn next(&self) -> u128 {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        xxh3_128_with_seed(&number.to_le_bytes(), self.run_id)
    }
}

impl IdGenerator for Ids {
    fn new_trace_id(&self) -> TraceId {
        TraceId::from(self.next())
    }

    fn new_span_id(&self) -> SpanId {
        let id = self.next();
        SpanId::from((id ^ (id >> 64)) as u64)
    }
}

/// A batch processor whose queue has a bound that is known: what is beyond it is counted.
#[derive(Debug)]
struct Bounded {
    next: BatchSpanProcessor,
    queued: Arc<AtomicUsize>,
    dropped: Counter,
}

impl SpanProcessor for Bounded {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        if self.queued.fetch_add(1, Ordering::Relaxed) >= QUEUE_MAX {
            self.queued.fetch_sub(1, Ordering::Relaxed);
            self.dropped.inc();
            return;
        }
        self.next.on_end(span);
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.next.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.next.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.next.set_resource(resource);
    }
}

/// An exporter that counts what became of spans.
#[derive(Debug)]
struct Counted {
    exporter: SpanExporter,
    queued: Arc<AtomicUsize>,
    sent: Counter,
    dropped: Counter,
}

impl opentelemetry_sdk::trace::SpanExporter for Counted {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let count = batch.len();
        let exported = self.exporter.export(batch).await;
        self.queued.fetch_sub(count, Ordering::Relaxed);
        let counter = if exported.is_ok() { &self.sent } else { &self.dropped };
        counter.inc_by(count as u64);
        exported
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

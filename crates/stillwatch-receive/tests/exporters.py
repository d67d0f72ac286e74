"""OpenTelemetry's exporters against a receiver; see tests/receive.rs."""

import sys

from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter as GrpcLogs
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcSpans
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter as HttpLogs
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpSpans
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import get_current_span

GRPC, HTTP = sys.argv[1:]


def through(name, spans, logs):
    tracers = TracerProvider()
    tracers.add_span_processor(BatchSpanProcessor(spans))
    loggers = LoggerProvider()
    loggers.add_log_record_processor(BatchLogRecordProcessor(logs))
    tracer, logger = tracers.get_tracer("test"), loggers.get_logger("test")
    with tracer.start_as_current_span("a request"):
        call = {
            "gen_ai.operation.name": "chat",
            "gen_ai.request.model": "m",
            "gen_ai.input.messages": f'[{{"role":"user","content":"a span {name}?"}}]',
            "user.id": "a",
        }
        with tracer.start_as_current_span("chat m", attributes=call):
            pass
    with tracer.start_as_current_span("another request"):
        span = get_current_span().get_span_context()
        messages = [
            ("gen_ai.user.message", {"content": f"a log {name}?"}),
            ("gen_ai.choice", {"index": 0, "finish_reason": "stop", "message": {"content": "Yes."}}),
        ]
        for event, body in messages:
            logger.emit(
                LogRecord(
                    timestamp=1_772_409_600_000_000_000,
                    trace_id=span.trace_id,
                    span_id=span.span_id,
                    trace_flags=span.trace_flags,
                    severity_number=SeverityNumber.INFO,
                    body=body,
                    attributes={"user.id": "a"},
                    event_name=event,
                )
            )
    tracers.shutdown()
    loggers.shutdown()


through(
    "by gRPC",
    GrpcSpans(endpoint=f"http://{GRPC}", insecure=True),
    GrpcLogs(endpoint=f"http://{GRPC}", insecure=True),
)
through(
    "by HTTP",
    HttpSpans(endpoint=f"http://{HTTP}/v1/traces", compression=Compression.Gzip),
    HttpLogs(endpoint=f"http://{HTTP}/v1/logs", compression=Compression.Gzip),
)

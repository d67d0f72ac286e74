//! OTLP/gRPC.

use std::sync::Arc;

use http::{Request, Response};
use hyper::body::Incoming;
use opentelemetry_proto::tonic::collector::logs::v1::logs_service_server::{
    LogsService, LogsServiceServer,
};
use opentelemetry_proto::tonic::collector::logs::v1::{
    ExportLogsPartialSuccess, ExportLogsServiceRequest, ExportLogsServiceResponse,
};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use tonic::codec::CompressionEncoding;
use tonic::codegen::Service;
use tonic::{Code, Status};

use crate::intake::{EXPORT_BYTES_MAX, Intake, Refused, Taken, json};

impl From<Refused> for Status {
    /// By the specification, «OTLP/gRPC Response»: `UNAVAILABLE` is sent again, the others
    /// are not.
    fn from(refused: Refused) -> Self {
        let code = match refused {
            Refused::Busy => Code::Unavailable,
            Refused::NoKey => Code::Unauthenticated,
            Refused::TooLong | Refused::Malformed => Code::InvalidArgument,
        };
        Status::new(code, refused.message())
    }
}

/// Answers one call.
pub async fn answer(
    intake: Arc<Intake>,
    request: Request<Incoming>,
) -> Response<tonic::body::Body> {
    let service = request.uri().path().rsplit_once('/').map(|(service, _)| service);
    let is_traces = match service {
        Some("/opentelemetry.proto.collector.trace.v1.TraceService") => true,
        Some("/opentelemetry.proto.collector.logs.v1.LogsService") => false,
        _ => return Status::unimplemented("traces and logs are received here").into_http(),
    };
    // How long it is, is not known before it has come.
    let room = intake.let_in(request.headers()).and_then(|()| intake.room(EXPORT_BYTES_MAX));
    let room = match room {
        Ok(room) => room,
        Err(refused) => return Status::from(refused).into_http(),
    };
    let exports = Exports(intake);
    let answered = if is_traces {
        let service = TraceServiceServer::new(exports);
        let service = service.accept_compressed(CompressionEncoding::Gzip);
        service.max_decoding_message_size(EXPORT_BYTES_MAX).call(request).await
    } else {
        let service = LogsServiceServer::new(exports);
        let service = service.accept_compressed(CompressionEncoding::Gzip);
        service.max_decoding_message_size(EXPORT_BYTES_MAX).call(request).await
    };
    drop(room);
    answered.unwrap_or_else(|never| match never {})
}

struct Exports(Arc<Intake>);

#[tonic::async_trait]
impl TraceService for Exports {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, Status> {
        let export = request.into_inner();
        let taken = self.0.take(move || json(export).ok_or(Refused::Malformed)).await?;
        Ok(tonic::Response::new(traces(taken)))
    }
}

#[tonic::async_trait]
impl LogsService for Exports {
    async fn export(
        &self,
        request: tonic::Request<ExportLogsServiceRequest>,
    ) -> Result<tonic::Response<ExportLogsServiceResponse>, Status> {
        let export = request.into_inner();
        let taken = self.0.take(move || json(export).ok_or(Refused::Malformed)).await?;
        Ok(tonic::Response::new(logs(taken)))
    }
}

/// What a sender of spans is told. Without rejections the field must be unset.
pub fn traces(taken: Taken) -> ExportTraceServiceResponse {
    let (count, error_message) = said(taken);
    let partial = ExportTracePartialSuccess { rejected_spans: count, error_message };
    ExportTraceServiceResponse { partial_success: (count > 0).then_some(partial) }
}

/// What a sender of log records is told.
pub fn logs(taken: Taken) -> ExportLogsServiceResponse {
    let (count, error_message) = said(taken);
    let partial = ExportLogsPartialSuccess { rejected_log_records: count, error_message };
    ExportLogsServiceResponse { partial_success: (count > 0).then_some(partial) }
}

fn said(taken: Taken) -> (i64, String) {
    let count = i64::try_from(taken.rejected).unwrap_or(i64::MAX);
    (count, format!("no exchanges, for what they lack: {}", taken.why))
}

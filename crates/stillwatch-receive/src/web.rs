//! OTLP/HTTP.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ALLOW, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE,
};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use prost::Message as _;
use serde_json::json;
use tokio::time::timeout;

use crate::grpc::{logs, traces};
use crate::intake::{EXPORT_BYTES_MAX, Encoding, Intake, Refused, Signal, Taken, decoded};

/// How long an export may take to arrive.
const BODY: Duration = Duration::from_secs(30);
/// How long a sender should wait before it sends again, in seconds.
const AGAIN_SECONDS: u32 = 1;

/// `google.rpc.Status`, which says why an export is not taken.
#[derive(Clone, PartialEq, prost::Message)]
struct Problem {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
}

/// Answers one request.
pub async fn answer(intake: Arc<Intake>, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let signal = match request.uri().path() {
        "/v1/traces" => Signal::Traces,
        "/v1/logs" => Signal::Logs,
        _ => return plain(StatusCode::NOT_FOUND, "traces and logs are received here"),
    };
    if request.method() != Method::POST {
        let mut answer = plain(StatusCode::METHOD_NOT_ALLOWED, "send exports with POST");
        answer.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
        return answer;
    }
    let header = |name| {
        let value = request.headers().get(name).and_then(|value| value.to_str().ok());
        value.unwrap_or_default().split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
    };
    let encoding = match header(CONTENT_TYPE).as_str() {
        "application/x-protobuf" => Encoding::Protobuf,
        "application/json" => Encoding::Json,
        _ => {
            let what = "send application/x-protobuf or application/json";
            return plain(StatusCode::UNSUPPORTED_MEDIA_TYPE, what);
        }
    };
    if let Err(refused) = intake.let_in(request.headers()) {
        return problem(encoding, refused);
    }
    let is_gzip = match header(CONTENT_ENCODING).as_str() {
        "" | "identity" => false,
        "gzip" => true,
        _ => return plain(StatusCode::UNSUPPORTED_MEDIA_TYPE, "send gzip or no compression"),
    };
    let length = header(CONTENT_LENGTH).parse().ok().filter(|_| !is_gzip);
    match take(&intake, request, length, is_gzip, encoding, signal).await {
        Ok(taken) => told(encoding, signal, taken),
        Err(refused) => problem(encoding, refused),
    }
}

async fn take(
    intake: &Intake,
    request: Request<Incoming>,
    length: Option<usize>,
    is_gzip: bool,
    encoding: Encoding,
    signal: Signal,
) -> Result<Taken, Refused> {
    if length.is_some_and(|length| length > EXPORT_BYTES_MAX) {
        return Err(intake.refuse(Refused::TooLong));
    }
    let room = intake.room(length.unwrap_or(EXPORT_BYTES_MAX))?;
    let body = Limited::new(request.into_body(), EXPORT_BYTES_MAX).collect();
    let body = match timeout(BODY, body).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            return Err(intake.refuse(Refused::TooLong));
        }
        Ok(Err(_)) | Err(_) => return Err(intake.refuse(Refused::Malformed)),
    };
    let taken = intake.take(move || decoded(&body, is_gzip, encoding, signal)).await;
    drop(room);
    taken
}

fn told(encoding: Encoding, signal: Signal, taken: Taken) -> Response<Full<Bytes>> {
    let body = match (encoding, signal) {
        (Encoding::Protobuf, Signal::Traces) => traces(taken).encode_to_vec(),
        (Encoding::Protobuf, Signal::Logs) => logs(taken).encode_to_vec(),
        (Encoding::Json, _) if taken.rejected == 0 => b"{}".to_vec(),
        (Encoding::Json, _) => {
            let name = match signal {
                Signal::Traces => "rejectedSpans",
                Signal::Logs => "rejectedLogRecords",
            };
            // 64-bit integers are texts in protobuf's JSON.
            let count = taken.rejected.to_string();
            let message = traces(taken).partial_success.unwrap_or_default().error_message;
            json!({ "partialSuccess": { name: count, "errorMessage": message } })
                .to_string()
                .into_bytes()
        }
    };
    written(StatusCode::OK, encoding, body)
}

fn problem(encoding: Encoding, refused: Refused) -> Response<Full<Bytes>> {
    let status = match refused {
        Refused::Busy => StatusCode::SERVICE_UNAVAILABLE,
        Refused::NoKey => StatusCode::UNAUTHORIZED,
        Refused::TooLong => StatusCode::PAYLOAD_TOO_LARGE,
        Refused::Malformed => StatusCode::BAD_REQUEST,
    };
    let code = tonic::Status::from(refused).code() as i32;
    let message = refused.message();
    let body = match encoding {
        Encoding::Protobuf => Problem { code, message: message.to_owned() }.encode_to_vec(),
        Encoding::Json => json!({ "code": code, "message": message }).to_string().into_bytes(),
    };
    let mut answer = written(status, encoding, body);
    let (name, value) = match refused {
        Refused::Busy => (RETRY_AFTER, HeaderValue::from(AGAIN_SECONDS)),
        Refused::NoKey => (WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")),
        Refused::TooLong | Refused::Malformed => return answer,
    };
    answer.headers_mut().insert(name, value);
    answer
}

fn written(status: StatusCode, encoding: Encoding, body: Vec<u8>) -> Response<Full<Bytes>> {
    let kind = match encoding {
        Encoding::Protobuf => "application/x-protobuf",
        Encoding::Json => "application/json",
    };
    let mut answer = Response::new(Full::from(body));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    answer
}

fn plain(status: StatusCode, what: &'static str) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::from(format!("{what}\n")));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    answer
}

//! What the guard itself answers, in the client's own dialect.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};
use serde_json::json;
use stillwatch_decide::Appeal;

use crate::api::Dialect;

/// Why the guard answers instead of the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The verdict is `refuse`.
    Refused,
    /// The verdict is `verify`.
    Verify,
    /// The verdict is `slow`, and the campaign's bucket is empty for so many seconds.
    Slowed {
        seconds: u64,
    },
    /// The verdict changes requests, and this one can't be read.
    Unreadable,
    /// A reasoning block was not issued to the account, model and session that send it.
    ForeignReasoning,
    /// Several credentials that differ.
    Ambiguous,
    /// The request's body is longer than the limit, in bytes.
    TooLong {
        bytes_max: usize,
    },
    /// The request's body did not come.
    BodyTimeout,
    /// The request's body broke off, or is malformed.
    BodyBroken,
    /// No memory for another body.
    Busy,
    /// A method or target that is no request to an API.
    NoRequest,
    UpstreamUnreachable,
    UpstreamTimeout,
    /// The answer can't be made to fit the verdict.
    NotThinned,
}

impl Refusal {
    /// The HTTP status.
    #[must_use]
    pub fn status(self) -> StatusCode {
        match self {
            Refusal::Refused | Refusal::Verify => StatusCode::FORBIDDEN,
            Refusal::Slowed { .. } => StatusCode::TOO_MANY_REQUESTS,
            Refusal::Unreadable
            | Refusal::ForeignReasoning
            | Refusal::Ambiguous
            | Refusal::BodyBroken
            | Refusal::NoRequest => StatusCode::BAD_REQUEST,
            Refusal::TooLong { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Refusal::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
            Refusal::Busy => StatusCode::SERVICE_UNAVAILABLE,
            Refusal::UpstreamUnreachable | Refusal::NotThinned => StatusCode::BAD_GATEWAY,
            Refusal::UpstreamTimeout => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    /// A word for programs.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Refusal::Refused => "access_suspended",
            Refusal::Verify => "verification_required",
            Refusal::Slowed { .. } => "rate_limit_exceeded",
            Refusal::Unreadable => "unreadable_request",
            Refusal::ForeignReasoning => "foreign_reasoning",
            Refusal::Ambiguous => "ambiguous_credentials",
            Refusal::TooLong { .. } => "request_too_large",
            Refusal::BodyTimeout => "request_timeout",
            Refusal::BodyBroken => "broken_request",
            Refusal::Busy => "overloaded",
            Refusal::NoRequest => "invalid_request",
            Refusal::UpstreamUnreachable => "upstream_unreachable",
            Refusal::UpstreamTimeout => "upstream_timeout",
            Refusal::NotThinned => "unreadable_answer",
        }
    }

    /// The sentence for people.
    #[must_use]
    pub fn message(self, appeal: &Appeal) -> String {
        let mut message = match self {
            Refusal::Refused => "Access of this account is suspended.".to_owned(),
            Refusal::Verify => "This account has to be verified before it can go on.".to_owned(),
            Refusal::Slowed { seconds } => {
                format!("The rate limit is reached. Try again in {seconds} seconds.")
            }
            Refusal::Unreadable => {
                "The request can't be read. Send plain JSON without compression.".to_owned()
            }
            Refusal::ForeignReasoning => "A reasoning block in the request was not issued to this \
                 account for this model and conversation. Take the block out."
                .to_owned(),
            Refusal::Ambiguous => {
                "The request carries several credentials. Send one of them.".to_owned()
            }
            Refusal::TooLong { bytes_max } => {
                format!("The request is too large. At most {bytes_max} bytes are accepted.")
            }
            Refusal::BodyTimeout => "The request did not arrive in time.".to_owned(),
            Refusal::BodyBroken => "The request broke off or is malformed.".to_owned(),
            Refusal::Busy => "The gateway is busy. Try again shortly.".to_owned(),
            Refusal::NoRequest => "This is no request to an API.".to_owned(),
            Refusal::UpstreamUnreachable => "The model's API can't be reached.".to_owned(),
            Refusal::UpstreamTimeout => "The model's API did not answer in time.".to_owned(),
            Refusal::NotThinned => "The model's answer can't be passed on.".to_owned(),
        };
        if let (Refusal::Verify, Some(link)) = (self, &appeal.verify_link) {
            message.push_str(&format!(" Verify it at {link} ."));
        }
        if let (Refusal::Refused | Refusal::Verify | Refusal::Slowed { .. }, Some(contact)) =
            (self, &appeal.contact)
        {
            message.push_str(&format!(" If this is a mistake, contact {contact} ."));
        }
        message
    }

    /// How long a client should wait, in seconds.
    fn retry_after(self) -> Option<u64> {
        match self {
            Refusal::Slowed { seconds } => Some(seconds),
            Refusal::Busy => Some(1),
            _ => None,
        }
    }

    /// The answer.
    #[must_use]
    pub fn answer(self, dialect: Dialect, appeal: &Appeal) -> Response<Bytes> {
        let status = self.status();
        let message = self.message(appeal);
        let body = match dialect {
            Dialect::OpenAi => json!({ "error": {
                "message": message,
                "type": openai_type(status),
                "param": null,
                "code": self.code(),
            } }),
            Dialect::Anthropic => json!({ "type": "error", "error": {
                "type": anthropic_type(status),
                "message": message,
            } }),
        };
        let mut answer = Response::new(Bytes::from(body.to_string()));
        *answer.status_mut() = status;
        let headers = answer.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(seconds) = self.retry_after() {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        // The official clients ask again for some statuses unless they are told.
        let retry = if self.retry_after().is_some() { "true" } else { "false" };
        headers.insert("x-should-retry", HeaderValue::from_static(retry));
        answer
    }
}

/// Platform documentation, «Error codes»: the type that goes with a status.
fn openai_type(status: StatusCode) -> &'static str {
    match status.as_u16() {
        403 => "permission_error",
        429 => "rate_limit_error",
        400..=499 => "invalid_request_error",
        _ => "server_error",
    }
}

/// Anthropic's API reference, «Errors».
fn anthropic_type(status: StatusCode) -> &'static str {
    match status.as_u16() {
        403 => "permission_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        503 => "overloaded_error",
        504 => "timeout_error",
        400..=499 => "invalid_request_error",
        _ => "api_error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn appeal() -> Appeal {
        Appeal {
            contact: Some("abuse@example.com".to_owned()),
            verify_link: Some("https://example.com/verify".to_owned()),
        }
    }

    #[test]
    fn each_dialect_has_its_own_error_object() {
        let refused = Refusal::Refused.answer(Dialect::OpenAi, &appeal());
        assert_eq!(refused.status(), 403);
        assert_eq!(
            std::str::from_utf8(refused.body()).unwrap(),
            "{\"error\":{\"message\":\"Access of this account is suspended. If this is a mistake, \
             contact abuse@example.com .\",\"type\":\"permission_error\",\"param\":null,\
             \"code\":\"access_suspended\"}}"
        );
        let slowed = Refusal::Slowed { seconds: 7 }.answer(Dialect::Anthropic, &Appeal::default());
        assert_eq!(
            (slowed.status().as_u16(), &slowed.headers()["retry-after"]),
            (429, &"7".parse().unwrap())
        );
        assert_eq!(
            std::str::from_utf8(slowed.body()).unwrap(),
            "{\"type\":\"error\",\"error\":{\"type\":\"rate_limit_error\",\
             \"message\":\"The rate limit is reached. Try again in 7 seconds.\"}}"
        );
    }
}

//! The envelope around a raw request and response, as gateways and proxies write it:
//!
//! ```json
//! { "time": "2026-03-01T04:05:06Z", "account_id": "acct_1", "status": 200,
//!   "client_address": "192.0.2.7", "headers": { "user-agent": "…" },
//!   "request": { … the body as sent … }, "response": { … the body as answered … } }
//! ```
//!
//! `request` is required, as an object or as a text that is one; `response` may be
//! absent or null where nothing was answered, and the text or the list of its events
//! where it was streamed. Everything else is optional under the
//! names of the table below, and under the contract's own column names. `time` may be
//! RFC 3339 or a number since the epoch (seconds, or finer units by size).

use std::borrow::Cow;

use serde_json::Value;

use super::body::{self, Names, at, first, set_named};
use super::stream;
use crate::rows::{Cell, Row, RowBuilder};
use crate::table::Table;
use crate::validity;

/// Names in the envelope. The account is whoever can be limited or closed: the most
/// particular name that a log has.
const ENVELOPE: Names = &[
    ("exchange_id", &["exchange_id", "request_id", "requestId", "id"]),
    (
        "account_id",
        &[
            "account_id",
            "accountId",
            "account",
            "customer_id",
            "user_id",
            "userId",
            "user",
            "api_key_id",
            "project_id",
            "organization_id",
        ],
    ),
    (
        "organization_id",
        &[
            "organization_id",
            "organization",
            "org_id",
            "headers.openai-organization",
            "response_headers.openai-organization",
            "response_headers.anthropic-organization-id",
        ],
    ),
    ("credential_id", &["credential_id", "api_key_id", "key_id", "api_key_hash"]),
    (
        "conversation_id",
        &[
            "conversation_id",
            "session_id",
            "thread_id",
            "request.conversation.id",
            "request.conversation",
            "request.metadata.conversation_id",
            "request.metadata.session_id",
        ],
    ),
    ("provider_name", &["provider_name", "provider"]),
    ("operation_name", &["operation_name"]),
    ("route", &["route"]),
    ("client_address", &["client_address", "client_ip", "ip_address", "ip", "remote_addr"]),
    ("client_network", &["client_network"]),
    ("client_asn", &["client_asn", "asn"]),
    ("client_country", &["client_country", "country", "headers.cf-ipcountry"]),
    ("tls_fingerprint", &["tls_fingerprint", "ja4", "headers.x-ja4"]),
    ("user_agent", &["user_agent", "headers.user-agent", "request_headers.user-agent"]),
    ("cost_usd", &["cost_usd", "cost"]),
];

const TIME: &[&str] = &[
    "time",
    "timestamp",
    "request_time",
    "requested_at",
    "started_at",
    "start_time",
    "startTime",
    "created_at",
    "createdAt",
    "created",
];

const STATUS: &[&str] =
    &["status", "status_code", "http_status", "response_status", "response.status_code"];

/// What an API's pairs have of their own.
pub(crate) struct Bodies {
    pub provider: &'static str,
    /// Where a request names its end user, for envelopes that name no account.
    pub account: &'static [&'static str],
    /// What the events of a streamed response are read as.
    pub fold: fn(&[Value]) -> Value,
}

/// Maps one record; `set` reads the request and the response.
pub(crate) fn map(
    record: &Value,
    rows: &mut RowBuilder,
    bodies: &Bodies,
    set: impl for<'a> FnOnce(&mut Row<'a>, &'a Value, Option<&'a Value>),
) {
    let request = record.get("request").and_then(inner).filter(|r| r.is_object());
    let response = record.get("response").and_then(inner).map(|response| match response.as_ref() {
        Value::Array(events) => Cow::Owned((bodies.fold)(&stream::unwrapped(events))),
        _ => response,
    });
    let (request, response) = (request.as_deref(), response.as_deref());
    let Some(request) = request else {
        rows.refuse(validity::NOT_AN_EXCHANGE);
        return;
    };

    let mut row = Row::new(Table::Exchanges);
    set_named(&mut row, record, ENVELOPE);
    if let Some(time) = first(record, TIME) {
        row.set("time", body::time(time));
    }
    let is_number = |value: &&Value| value.is_u64();
    if let Some(status) = STATUS.iter().filter_map(|place| at(record, place)).find(is_number) {
        row.set("status", body::cell(status));
    }
    if row.lacks("client_address")
        && let Some(hops) = at(record, "headers.x-forwarded-for").and_then(Value::as_str)
    {
        // The first hop is the client; the others are proxies.
        let client = hops.split(',').next().unwrap_or_default().trim();
        row.set("client_address", Cell::text(client));
    }
    set(&mut row, request, response);
    if row.lacks("account_id")
        && let Some(account) = first(request, bodies.account)
    {
        row.set("account_id", body::cell(account));
    }
    if row.lacks("provider_name") {
        row.set("provider_name", Cell::text(bodies.provider));
    }
    rows.push(row);
}

/// The body of one side, an object or the list of a stream's events; some proxies log
/// `{ "body": …, "headers": … }` for each.
fn inner(logged: &Value) -> Option<Cow<'_, Value>> {
    let whole = read(Cow::Borrowed(logged))?;
    let has_body =
        whole.get("body").is_some_and(|b| b.is_object() || b.is_array() || b.is_string());
    if !has_body {
        return Some(whole);
    }
    read(match whole {
        Cow::Borrowed(whole) => Cow::Borrowed(whole.get("body")?),
        Cow::Owned(mut whole) => Cow::Owned(whole.get_mut("body")?.take()),
    })
}

/// An object or list, or what a text says that is one.
fn read(value: Cow<'_, Value>) -> Option<Cow<'_, Value>> {
    let value = match value.as_str() {
        Some(text) => Cow::Owned(serde_json::from_str(text).ok().or_else(|| stream::events(text))?),
        None => value,
    };
    (value.is_object() || value.is_array()).then_some(value)
}

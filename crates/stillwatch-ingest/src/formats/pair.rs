//! The envelope around a raw request and response, as gateways and proxies write it:
//!
//! ```json
//! { "time": "2026-03-01T04:05:06Z", "account_id": "acct_1", "status": 200,
//!   "client_address": "192.0.2.7", "headers": { "user-agent": "…" },
//!   "request": { … the body as sent … }, "response": { … the body as answered … } }
//! ```
//!
//! `request` is required, as an object or as a text that is one; `response` may be
//! absent or null where nothing was answered. Everything else is optional under the
//! names of the table below, and under the contract's own column names. `time` may be
//! RFC 3339 or a number since the epoch (seconds, or finer units by size).

use serde_json::Value;

use super::body::{self, Names, at, first, set_named};
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

/// Maps one record; `bodies` reads the request and the response.
pub(crate) fn map(
    record: &Value,
    rows: &mut RowBuilder,
    provider: &'static str,
    account_in_request: &[&str],
    bodies: impl for<'a> FnOnce(&mut Row<'a>, &'a Value, Option<&'a Value>),
) {
    let parsed = |name| {
        let text = record.get(name)?.as_str()?;
        serde_json::from_str::<Value>(text).ok()
    };
    let (parsed_request, parsed_response) = (parsed("request"), parsed("response"));
    let request = inner(parsed_request.as_ref(), record.get("request"));
    let response = inner(parsed_response.as_ref(), record.get("response"));
    let request = request.filter(|r| r.is_object());
    let response = response.filter(|r| r.is_object() || r.is_array());
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
    bodies(&mut row, request, response);
    if row.lacks("account_id")
        && let Some(account) = first(request, account_in_request)
    {
        row.set("account_id", body::cell(account));
    }
    if row.lacks("provider_name") {
        row.set("provider_name", Cell::text(provider));
    }
    rows.push(row);
}

/// The body of one side; some proxies log `{ "body": …, "headers": … }` for each.
fn inner<'a>(parsed: Option<&'a Value>, logged: Option<&'a Value>) -> Option<&'a Value> {
    let value = parsed.or(logged)?;
    Some(value.get("body").filter(|body| body.is_object()).unwrap_or(value))
}

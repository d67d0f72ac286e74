//! Pairs of request and response of the Anthropic Messages API, in the envelope
//! that `pair` describes.

use serde_json::Value;

use super::body::{self, Conversation, Names, at, count, set_named};
use super::pair;
use crate::rows::{Cell, Row, RowBuilder};
use crate::text::Naming;

/// Names in the request's body.
const REQUEST: Names = &[
    ("request_model", &["model"]),
    ("request_temperature", &["temperature"]),
    ("request_top_p", &["top_p"]),
    ("request_max_tokens", &["max_tokens", "max_tokens_to_sample"]),
    ("request_stream", &["stream"]),
    ("request_reasoning", &["thinking.budget_tokens", "output_config.effort", "thinking.type"]),
];

/// Names in the response's body.
const RESPONSE: Names = &[
    ("exchange_id", &["id"]),
    ("response_model", &["model"]),
    ("usage_output_tokens", &["usage.output_tokens"]),
    ("usage_reasoning_tokens", &["usage.output_tokens_details.thinking_tokens"]),
];

/// What adds up to the input: the API counts what it has cached apart.
const INPUT_TOKENS: &[&str] =
    &["usage.input_tokens", "usage.cache_creation_input_tokens", "usage.cache_read_input_tokens"];

/// Where a request names its end user, for logs whose envelope names no account.
const ACCOUNT_IN_REQUEST: &[&str] = &["metadata.user_id", "user"];

/// Maps one pair.
pub(crate) fn map(record: &Value, _: &Naming, rows: &mut RowBuilder) {
    // Bedrock logs streams as lists too, so that they are read where responses are.
    let fold = |events: &[Value]| Value::Array(events.to_vec());
    let bodies = pair::Bodies { provider: "anthropic", account: ACCOUNT_IN_REQUEST, fold };
    pair::map(record, rows, &bodies, |row, request, response| {
        set_request(row, request);
        if let Some(response) = response {
            set_response(row, response);
        }
    });
}

/// Reads a request's body; Bedrock logs the same shape.
pub(crate) fn set_request<'a>(row: &mut Row<'a>, request: &'a Value) {
    set_named(row, request, REQUEST);
    if row.lacks("request_tool_count") {
        row.set("request_tool_count", count(request.get("tools")));
    }
    let mut conversation = Conversation::default();
    if let Some(system) = request.get("system") {
        conversation.system(system);
    }
    if let Some(messages) = request.get("messages") {
        conversation.messages(messages);
        if row.lacks("operation_name") {
            row.set("operation_name", Cell::text("chat"));
        }
    }
    conversation.set(row);
}

/// Reads a response's body, or the list of events that a streamed one is logged as.
pub(crate) fn set_response<'a>(row: &mut Row<'a>, response: &'a Value) {
    if let Value::Array(events) = response {
        return set_events(row, events);
    }
    set_named(row, response, RESPONSE);
    set_input_tokens(row, response);
    let answer = response.get("content").and_then(body::content);
    body::set_answer(row, answer.as_deref());
    body::set_finish_reason(row, response.get("stop_reason").and_then(Value::as_str));
}

fn set_input_tokens(row: &mut Row<'_>, response: &Value) {
    let counts: Vec<i64> =
        INPUT_TOKENS.iter().filter_map(|place| at(response, place)?.as_i64()).collect();
    if !counts.is_empty() && row.lacks("usage_input_tokens") {
        let total = counts.iter().map(|c| i128::from(*c)).sum();
        row.set("usage_input_tokens", Cell::Integer(total));
    }
}

fn set_events<'a>(row: &mut Row<'a>, events: &'a [Value]) {
    let mut answer = String::new();
    // The last word on usage comes last.
    for event in events.iter().rev() {
        match event.get("type").and_then(Value::as_str).unwrap_or_default() {
            "message_delta" => {
                set_named(row, event, &[("usage_output_tokens", &["usage.output_tokens"])]);
                let reason = at(event, "delta.stop_reason").and_then(Value::as_str);
                body::set_finish_reason(row, reason);
            }
            "message_start" => {
                if let Some(message) = event.get("message") {
                    set_named(row, message, RESPONSE);
                    set_input_tokens(row, message);
                }
            }
            _ => {}
        }
    }
    for event in events {
        if let Some(text) = at(event, "delta.text").and_then(Value::as_str) {
            answer.push_str(text);
        }
    }
    body::set_answer(row, Some(&answer));
}

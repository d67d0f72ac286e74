//! LiteLLM's standard logging payload: an object per call, as its S3, GCS and file
//! loggers write it (<https://docs.litellm.ai/docs/proxy/logging_spec>).

use serde_json::Value;

use super::body::{self, Conversation, Names, at, first, set_named};
use super::openai;
use crate::rows::{Cell, Row, RowBuilder};
use crate::table::Table;
use crate::text::Naming;
use crate::validity;

/// Names in the payload. Who is billed is LiteLLM's internal user; keys and teams
/// stand in where a deployment has none.
const NAMES: Names = &[
    ("exchange_id", &["litellm_call_id", "id"]),
    (
        "account_id",
        &[
            "metadata.user_api_key_user_id",
            "metadata.user_api_key_hash",
            "metadata.user_api_key_team_id",
            "end_user",
            "metadata.user_api_key_end_user_id",
        ],
    ),
    ("organization_id", &["metadata.user_api_key_org_id", "metadata.user_api_key_team_id"]),
    ("credential_id", &["metadata.user_api_key_hash"]),
    (
        "conversation_id",
        &["session_id", "metadata.session_id", "metadata.requester_metadata.session_id"],
    ),
    ("provider_name", &["custom_llm_provider"]),
    ("request_model", &["model_group", "model"]),
    ("response_model", &["response.model", "model"]),
    ("request_stream", &["stream", "model_parameters.stream"]),
    ("usage_input_tokens", &["prompt_tokens"]),
    ("usage_output_tokens", &["completion_tokens"]),
    (
        "usage_reasoning_tokens",
        &["metadata.usage_object.completion_tokens_details.reasoning_tokens"],
    ),
    ("client_address", &["requester_ip_address", "metadata.requester_ip_address"]),
    ("user_agent", &["user_agent", "metadata.user_agent"]),
    ("cost_usd", &["response_cost"]),
];

/// Calls by the operation that they are; the asynchronous ones begin with an `a`.
const OPERATIONS: &[(&str, &str)] = &[
    ("completion", "chat"),
    ("responses", "chat"),
    ("anthropic_messages", "chat"),
    ("generate_content", "chat"),
    ("text_completion", "text_completion"),
    ("embedding", "embeddings"),
];

const TIME: &[&str] = &["startTime", "start_time"];

/// Maps one payload.
pub(crate) fn map(record: &Value, _: &Naming, rows: &mut RowBuilder) {
    if record.get("messages").is_none() && record.get("model").is_none() {
        rows.refuse(validity::NOT_AN_EXCHANGE);
        return;
    }
    let mut row = Row::new(Table::Exchanges);
    set_named(&mut row, record, NAMES);
    if let Some(time) = first(record, TIME) {
        row.set("time", body::time(time));
    }
    set_operation(&mut row, record);
    set_status(&mut row, record);
    // The client's own parameters, without what LiteLLM took out of them.
    if let Some(parameters) = record.get("model_parameters") {
        openai::set_request(&mut row, parameters);
    }
    let mut conversation = Conversation::default();
    if let Some(messages) = record.get("messages") {
        conversation.messages(messages);
    }
    conversation.set(&mut row);
    if let Some(response) = record.get("response") {
        openai::set_response(&mut row, response);
    }
    rows.push(row);
}

fn set_operation(row: &mut Row<'_>, record: &Value) {
    let Some(call) = record.get("call_type").and_then(Value::as_str) else {
        return;
    };
    let operation = OPERATIONS
        .iter()
        .find(|(name, _)| *name == call || call.strip_prefix('a') == Some(name))
        .map_or(call, |(_, operation)| operation);
    row.set("operation_name", Cell::text(operation.to_owned()));
}

fn set_status(row: &mut Row<'_>, record: &Value) {
    let code = first(record, &["error_information.error_code", "error_code"]);
    let status = match (record.get("status").and_then(Value::as_str), code) {
        (Some("success"), _) => Some(200),
        (_, Some(Value::String(code))) => code.parse::<u16>().ok(),
        (_, Some(code)) => code.as_u64().and_then(|code| u16::try_from(code).ok()),
        _ => at(record, "status_code").and_then(Value::as_u64).and_then(|c| u16::try_from(c).ok()),
    };
    if let Some(status) = status {
        row.set("status", Cell::Integer(status.into()));
    }
}

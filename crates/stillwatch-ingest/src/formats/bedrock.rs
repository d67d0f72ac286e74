//! Amazon Bedrock's model invocation log: an object per call, `schemaType`
//! `ModelInvocationLog`, with the bodies of Converse or of InvokeModel inside
//! (<https://docs.aws.amazon.com/bedrock/latest/userguide/model-invocation-logging.html>).
//!
//! The account is the calling identity's ARN, for within one AWS account the identity
//! is what can be limited or closed, and many customers' traffic may share one AWS
//! account; where no ARN is logged it is the AWS account. The AWS account is the
//! organisation. A role's session name is part of the ARN and is chosen by the caller,
//! so it is cut off: else one role would look like thousands of accounts.

use std::borrow::Cow;

use serde_json::Value;

use super::body::{self, Conversation, Names, at, count, first, set_named};
use super::{anthropic, openai};
use crate::rows::{Cell, Row, RowBuilder};
use crate::table::Table;
use crate::text::Naming;
use crate::validity;

/// Names in the log entry.
const NAMES: Names = &[
    ("exchange_id", &["requestId"]),
    ("time", &["timestamp"]),
    ("organization_id", &["accountId"]),
    ("request_model", &["modelId"]),
    ("response_model", &["output.outputBodyJson.model", "modelId"]),
    ("conversation_id", &["requestMetadata.conversation_id", "requestMetadata.session_id"]),
    ("usage_input_tokens", &["input.inputTokenCount"]),
    ("usage_output_tokens", &["output.outputTokenCount"]),
    ("status", &["statusCode"]),
];

/// Names in a request's body, beside those of the Anthropic and OpenAI styles: of
/// Converse, Titan and Llama.
const REQUEST: Names = &[
    ("request_temperature", &["inferenceConfig.temperature", "textGenerationConfig.temperature"]),
    ("request_top_p", &["inferenceConfig.topP", "textGenerationConfig.topP"]),
    (
        "request_max_tokens",
        &["inferenceConfig.maxTokens", "textGenerationConfig.maxTokenCount", "max_gen_len"],
    ),
    (
        "request_reasoning",
        &[
            "additionalModelRequestFields.thinking.budget_tokens",
            "additionalModelRequestFields.reasoning_config.budget_tokens",
            "additionalModelRequestFields.thinking.type",
        ],
    ),
];

/// Where requests that are no chat have their prompt: Titan, Llama and others, Cohere.
const PROMPT: &[&str] = &["inputText", "prompt", "message"];

/// Maps one log entry.
pub(crate) fn map(record: &Value, _: &Naming, rows: &mut RowBuilder) {
    if record.get("modelId").is_none() {
        rows.refuse(validity::NOT_AN_EXCHANGE);
        return;
    }
    let parsed = |place: &str| {
        // Bodies that are not JSON objects are logged as a text.
        let text = at(record, place)?.as_str()?;
        serde_json::from_str::<Value>(text).ok()
    };
    let parsed_request = parsed("input.inputBodyJson");
    let parsed_response = parsed("output.outputBodyJson");
    let request = parsed_request.as_ref().or_else(|| at(record, "input.inputBodyJson"));
    let response = parsed_response.as_ref().or_else(|| at(record, "output.outputBodyJson"));

    let mut row = Row::new(Table::Exchanges);
    set_named(&mut row, record, NAMES);
    row.set("provider_name", Cell::text("aws.bedrock"));
    row.set("route", Cell::text("aws.bedrock"));
    let identity = at(record, "identity.arn").and_then(Value::as_str).filter(|arn| !arn.is_empty());
    match (identity, record.get("accountId")) {
        (Some(arn), _) => row.set("account_id", Cell::Text(without_session(arn))),
        (None, Some(account)) => row.set("account_id", body::cell(account)),
        (None, None) => {}
    }
    let operation = record.get("operation").and_then(Value::as_str).unwrap_or_default();
    if operation.ends_with("Stream") {
        row.set("request_stream", Cell::Bool(true));
    }
    match request {
        Some(request) => set_request(&mut row, request),
        None => {
            // Older entries have the text itself.
            let text = first(record, &["input.inputText"]).and_then(Value::as_str);
            set_prompt(&mut row, text);
        }
    }
    if let Some(response) = response {
        set_response(&mut row, response);
    }
    if record.get("errorCode").is_none() && row.lacks("status") && response.is_some() {
        row.set("status", Cell::Integer(200));
    }
    rows.push(row);
}

fn set_request<'a>(row: &mut Row<'a>, request: &'a Value) {
    set_named(row, request, REQUEST);
    if let Some(tools) = at(request, "toolConfig.tools") {
        row.set("request_tool_count", count(Some(tools)));
    }
    anthropic::set_request(row, request);
    openai::set_counts(row, request);
    let prompt = PROMPT.iter().find_map(|name| request.get(name)).and_then(Value::as_str);
    set_prompt(row, prompt);
}

fn set_prompt(row: &mut Row<'_>, prompt: Option<&str>) {
    if let Some(prompt) = prompt {
        let mut conversation = Conversation::default();
        conversation.user(prompt.to_owned());
        conversation.set(row);
    }
}

fn set_response<'a>(row: &mut Row<'a>, response: &'a Value) {
    if let Some(message) = at(response, "output.message.content") {
        // Converse.
        body::set_answer(row, body::content(message).as_deref());
        body::set_finish_reason(row, response.get("stopReason").and_then(Value::as_str));
        set_named(
            row,
            response,
            &[
                ("usage_input_tokens", &["usage.inputTokens"]),
                ("usage_output_tokens", &["usage.outputTokens"]),
            ],
        );
        return;
    }
    if response.get("choices").is_some() {
        openai::set_response(row, response);
        return;
    }
    // The request's id is Bedrock's own; that of the message inside is another's.
    anthropic::set_response(row, response);
    let first_result = response.get("results").and_then(|results| results.get(0));
    let titan = first_result.or_else(|| response.get(0)).unwrap_or(response);
    let answer = first(titan, &["outputText", "generation", "text"]).and_then(Value::as_str);
    body::set_answer(row, answer);
    let reason = first(titan, &["completionReason", "stop_reason", "finish_reason"]);
    body::set_finish_reason(row, reason.and_then(Value::as_str));
}

/// `arn:aws:sts::1:assumed-role/Role/session` without its last part.
fn without_session(arn: &str) -> Cow<'_, str> {
    match arn.split_once(":assumed-role/") {
        Some((_, role)) if role.contains('/') => {
            let end = arn.rfind('/').unwrap_or(arn.len());
            Cow::Borrowed(arn.get(..end).unwrap_or(arn))
        }
        _ => Cow::Borrowed(arn),
    }
}

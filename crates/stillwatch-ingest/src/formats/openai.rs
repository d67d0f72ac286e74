//! Pairs of request and response of an OpenAI-style API (Chat Completions,
//! Responses, Completions, Embeddings), in the envelope that `pair` describes.

use serde_json::Value;

use super::body::{self, Conversation, Names, at, count, first, set_named};
use super::{pair, stream};
use crate::rows::{Cell, Row, RowBuilder};
use crate::text::Naming;

/// Names in the request's body.
const REQUEST: Names = &[
    ("request_model", &["model"]),
    ("request_temperature", &["temperature"]),
    ("request_top_p", &["top_p"]),
    ("request_max_tokens", &["max_completion_tokens", "max_output_tokens", "max_tokens"]),
    ("request_choice_count", &["n"]),
    ("request_seed", &["seed"]),
    ("request_stream", &["stream"]),
    ("request_top_logprobs", &["top_logprobs"]),
    ("request_reasoning", &["reasoning_effort", "reasoning.effort"]),
];

/// Names in the response's body.
const RESPONSE: Names = &[
    ("exchange_id", &["id"]),
    ("response_model", &["model"]),
    ("usage_input_tokens", &["usage.prompt_tokens", "usage.input_tokens"]),
    ("usage_output_tokens", &["usage.completion_tokens", "usage.output_tokens"]),
    (
        "usage_reasoning_tokens",
        &[
            "usage.completion_tokens_details.reasoning_tokens",
            "usage.output_tokens_details.reasoning_tokens",
        ],
    ),
];

/// Where a request names its end user, for logs whose envelope names no account.
const ACCOUNT_IN_REQUEST: &[&str] = &["safety_identifier", "user", "metadata.user_id"];

/// Maps one pair.
pub(crate) fn map(record: &Value, _: &Naming, rows: &mut RowBuilder) {
    let bodies =
        pair::Bodies { provider: "openai", account: ACCOUNT_IN_REQUEST, fold: stream::folded };
    pair::map(record, rows, &bodies, |row, request, response| {
        set_request(row, request);
        if let Some(response) = response {
            set_response(row, response);
            if row.lacks("time")
                && let Some(created) = first(response, &["created", "created_at"])
            {
                row.set("time", body::time(created));
            }
        }
    });
}

/// Reads a request's body; LiteLLM logs the same shape.
pub(crate) fn set_request<'a>(row: &mut Row<'a>, request: &'a Value) {
    set_named(row, request, REQUEST);
    set_counts(row, request);
    let mut conversation = Conversation::default();
    if let Some(instructions) = request.get("instructions") {
        conversation.system(instructions);
    }
    let operation = if let Some(messages) = request.get("messages") {
        conversation.messages(messages);
        Some("chat")
    } else if let Some(prompt) = request.get("prompt").filter(|p| !p.is_object()) {
        conversation.user(body::content(prompt).unwrap_or_default());
        Some("text_completion")
    } else if let Some(input) = request.get("input") {
        // Lists of plain texts are what embeddings take.
        let plain =
            input.as_array().is_some_and(|i| !i.is_empty() && i.iter().all(Value::is_string));
        let embeds = plain || request.get("encoding_format").is_some();
        if embeds {
            conversation.user(body::content(input).unwrap_or_default());
        } else {
            conversation.messages(input);
        }
        Some(if embeds { "embeddings" } else { "chat" })
    } else {
        None
    };
    conversation.set(row);
    if row.lacks("operation_name")
        && let Some(operation) = operation
    {
        row.set("operation_name", Cell::text(operation));
    }
}

/// Sets what is counted and not said: tools, biased tokens, log probabilities.
pub(crate) fn set_counts(row: &mut Row<'_>, request: &Value) {
    if row.lacks("request_tool_count") {
        row.set("request_tool_count", count(request.get("tools").or(request.get("functions"))));
    }
    if row.lacks("request_logit_bias_count") {
        row.set("request_logit_bias_count", count(request.get("logit_bias")));
    }
    // The older Completions API asks for a number under the name of the newer switch.
    if row.lacks("request_top_logprobs")
        && let Some(logprobs) = request.get("logprobs").and_then(Value::as_u64)
    {
        row.set("request_top_logprobs", Cell::Integer(logprobs.into()));
    }
}

/// Reads a response's body; LiteLLM logs the same shape.
pub(crate) fn set_response<'a>(row: &mut Row<'a>, response: &'a Value) {
    set_named(row, response, RESPONSE);
    let choice = response.get("choices").and_then(|choices| choices.get(0));
    let answer = match choice {
        Some(choice) => choice
            .get("message")
            .and_then(|m| m.get("content"))
            .or(choice.get("text"))
            .and_then(body::content),
        None => response.get("output").and_then(Value::as_array).map(|items| {
            let messages = items.iter().filter(|i| i.get("type").is_none_or(|t| t == "message"));
            let texts = messages.filter_map(|m| m.get("content").and_then(body::content));
            texts.collect::<Vec<_>>().join("\n")
        }),
    };
    body::set_answer(row, answer.as_deref());
    let reason = choice
        .and_then(|c| c.get("finish_reason"))
        .or(at(response, "incomplete_details.reason"))
        .or(response.get("output").and(response.get("status")));
    body::set_finish_reason(row, reason.and_then(Value::as_str));
}

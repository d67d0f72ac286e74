//! The guard reads requests and answers while they pass, ingestion reads the same pairs
//! from logs: both give the same columns.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::util::display::{ArrayFormatter, FormatOptions};
use bytes::Bytes;
use serde_json::{Value, json};
use stillwatch_exchange::columns::EXCHANGES;
use stillwatch_ingest::{Format, Meter, Options, Source, Table};

use crate::setting::{Mock, World, post, send};

/// Columns that the connection tells, not the bodies.
const OF_THE_CONNECTION: [&str; 7] = [
    "exchange_id",
    "time",
    "account_id",
    "credential_id",
    "client_address",
    "user_agent",
    "status",
];

/// What ingestion makes of a pair.
fn ingested(format: Format, request: &Value, response: &Value) -> BTreeMap<String, String> {
    let pair = json!({ "time": "2026-03-02T00:00:00Z", "account_id": "a", "request": request, "response": response });
    let options = Options { format: Some(format), ..Options::default() };
    let source =
        Source::from_bytes("pair", Bytes::from(format!("{pair}\n")), Table::Exchanges, &options)
            .unwrap();
    let names: Vec<&str> = EXCHANGES.iter().map(|column| column.name).collect();
    let mut columns = BTreeMap::new();
    for split in source.splits() {
        for batch in split.read(&names, None, &Arc::new(Meter::default())).unwrap() {
            let rows = batch.unwrap().rows;
            assert_eq!(rows.num_rows(), 1);
            let options = FormatOptions::default();
            for (field, column) in rows.schema().fields().iter().zip(rows.columns()) {
                if column.is_valid(0) {
                    let text = ArrayFormatter::try_new(column, &options).unwrap();
                    columns.insert(field.name().clone(), text.value(0).to_string());
                }
            }
        }
    }
    columns
}

async fn check(format: Format, path: &str, request: Value, response: Value) {
    let mock = Mock::saying("application/json", response.to_string()).await;
    let world = World::new(mock.address, "");
    let running = world.start().await;
    send(running.listen, &post(path, "sk-1", &request.to_string())).await;
    let mut recorded = world.records_of(running).await.remove(0);
    let mut expected = ingested(format, &request, &response);
    for name in OF_THE_CONNECTION {
        recorded.remove(name);
        expected.remove(name);
    }
    assert_eq!(recorded, expected, "{path}: {request}");
}

#[tokio::test]
async fn chat_completions() {
    let request = json!({
        "model": "m", "temperature": 0.25, "top_p": 0.5, "max_completion_tokens": 7, "n": 2, "seed": 11,
        "stream": false, "logprobs": true, "top_logprobs": 3, "logit_bias": { "1": 2 },
        "reasoning_effort": "low", "tools": [{}, {}], "metadata": { "session_id": "s" },
        "messages": [
            { "role": "system", "content": "Be brief." },
            { "role": "developer", "content": [{ "type": "text", "text": "In French." }] },
            { "role": "user", "content": "Hi" },
            { "role": "assistant", "content": "Oui", "tool_calls": [] },
            { "role": "tool", "content": "42" },
            { "role": "user", "content": [{ "type": "image_url" }, { "type": "text", "text": "Why?" }] },
        ],
    });
    let response = json!({
        "id": "x", "model": "m-0301", "choices": [
            { "index": 0, "message": { "content": "Parce que." }, "finish_reason": "length" },
            { "index": 1, "message": { "content": "Non." }, "finish_reason": "stop" } ],
        "usage": { "prompt_tokens": 9, "completion_tokens": 7, "completion_tokens_details": { "reasoning_tokens": 2 } },
    });
    check(Format::OpenAi, "/v1/chat/completions", request, response).await;
    let tools = json!({ "messages": [{ "role": "user", "content": "x" }], "functions": [{}] });
    let called =
        json!({ "choices": [{ "message": { "content": null }, "finish_reason": "tool_calls" }] });
    check(Format::OpenAi, "/v1/chat/completions", tools, called).await;
}

#[tokio::test]
async fn responses_completions_and_embeddings() {
    let request = json!({ "model": "m", "instructions": "Be brief.", "input": "Hi", "max_output_tokens": 3,
        "reasoning": { "effort": "high" }, "conversation": { "id": "conv_1" }, "top_logprobs": 2 });
    let response = json!({ "model": "m", "status": "incomplete", "incomplete_details": { "reason": "max_output_tokens" },
        "output": [{ "type": "reasoning", "summary": [] },
            { "type": "message", "content": [{ "type": "output_text", "text": "Hel" }] }],
        "usage": { "input_tokens": 4, "output_tokens": 3, "output_tokens_details": { "reasoning_tokens": 1 } } });
    check(Format::OpenAi, "/v1/responses", request, response.clone()).await;
    let items = json!({ "input": [
        { "role": "user", "content": [{ "type": "input_text", "text": "a" }] },
        { "type": "function_call_output", "output": "b" },
        { "role": "user", "content": "c" } ] });
    check(Format::OpenAi, "/v1/responses", items, response).await;
    check(
        Format::OpenAi,
        "/v1/completions",
        json!({ "model": "m", "prompt": "Once", "logprobs": 4, "max_tokens": 2 }),
        json!({ "model": "m", "choices": [{ "text": " upon", "finish_reason": "length" }],
            "usage": { "prompt_tokens": 1, "completion_tokens": 2 } }),
    )
    .await;
    check(
        Format::OpenAi,
        "/v1/embeddings",
        json!({ "model": "e", "input": ["a", "b"] }),
        json!({ "model": "e", "data": [], "usage": { "prompt_tokens": 2, "total_tokens": 2 } }),
    )
    .await;
}

#[tokio::test]
async fn messages() {
    let request = json!({
        "model": "c", "max_tokens": 9, "system": [{ "type": "text", "text": "Be brief." }], "tools": [{}],
        "thinking": { "type": "enabled", "budget_tokens": 1024 }, "temperature": 1,
        "messages": [
            { "role": "user", "content": "Sum up a.txt" },
            { "role": "assistant", "content": [{ "type": "tool_use", "input": {} }] },
            { "role": "user", "content": [{ "type": "tool_result", "content": "text" }] },
        ],
    });
    let response = json!({
        "id": "msg", "model": "c-1", "stop_reason": "max_tokens",
        "content": [{ "type": "thinking", "thinking": "hm" }, { "type": "text", "text": "It is" }],
        "usage": { "input_tokens": 3, "cache_read_input_tokens": 4, "output_tokens": 9 },
    });
    check(Format::Anthropic, "/v1/messages", request, response).await;
}

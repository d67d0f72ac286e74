//! OpenTelemetry, as OTLP JSON: `ExportTraceServiceRequest` and
//! `ExportLogsServiceRequest`, one a line (the collector's file exporter) or one a
//! file. Spans and log records become exchanges by their GenAI attributes, in the
//! names of old and new conventions and of OpenInference.
//!
//! Attributes are looked up on the span or record, then on its events, then on its
//! resource. One record of a line may be thousands of exchanges. Log records that hold
//! a message each are joined ([`super::otlp_messages`]).

use serde_json::{Map, Value};

use super::body::{self, Conversation, at, count};
use super::otlp_messages::Joined;
use crate::rows::{Cell, Row, RowBuilder};
use crate::table::Table;
use crate::text::Naming;
use crate::validity;

/// Attributes by column, the conventions' present names first.
const NAMES: &[(&str, &[&str])] = &[
    ("exchange_id", &["gen_ai.response.id", "llm.response.id"]),
    (
        "account_id",
        &[
            "user.id",
            "enduser.id",
            "langfuse.user.id",
            "traceloop.association.properties.user_id",
            "gen_ai.openai.request.user",
        ],
    ),
    ("organization_id", &["organization.id", "user.organization.id", "tenant.id"]),
    ("credential_id", &["credential.id", "api_key.id", "api_key.hash"]),
    ("conversation_id", &["gen_ai.conversation.id", "session.id"]),
    ("provider_name", &["gen_ai.provider.name", "gen_ai.system", "llm.provider", "llm.system"]),
    ("operation_name", &["gen_ai.operation.name"]),
    ("request_model", &["gen_ai.request.model", "llm.request.model", "llm.model_name"]),
    ("response_model", &["gen_ai.response.model", "llm.response.model"]),
    ("route", &["gen_ai.route", "route"]),
    ("request_temperature", &["gen_ai.request.temperature", "llm.request.temperature"]),
    ("request_top_p", &["gen_ai.request.top_p", "llm.request.top_p"]),
    ("request_max_tokens", &["gen_ai.request.max_tokens", "llm.request.max_tokens"]),
    ("request_choice_count", &["gen_ai.request.choice.count"]),
    ("request_seed", &["gen_ai.request.seed", "gen_ai.openai.request.seed"]),
    ("request_stream", &["gen_ai.request.stream", "gen_ai.is_streaming", "llm.is_streaming"]),
    ("request_top_logprobs", &["gen_ai.request.top_logprobs"]),
    (
        "request_reasoning",
        &[
            "gen_ai.request.reasoning.effort",
            "gen_ai.request.reasoning.level",
            "gen_ai.request.reasoning_effort",
            "gen_ai.openai.request.reasoning_effort",
        ],
    ),
    (
        "usage_input_tokens",
        &[
            "gen_ai.usage.input_tokens",
            "gen_ai.usage.prompt_tokens",
            "llm.usage.prompt_tokens",
            "llm.token_count.prompt",
        ],
    ),
    (
        "usage_output_tokens",
        &[
            "gen_ai.usage.output_tokens",
            "gen_ai.usage.completion_tokens",
            "llm.usage.completion_tokens",
            "llm.token_count.completion",
        ],
    ),
    (
        "usage_reasoning_tokens",
        &[
            "gen_ai.usage.reasoning.output_tokens",
            "gen_ai.usage.reasoning_tokens",
            "llm.token_count.completion_details.reasoning",
        ],
    ),
    ("status", &["http.response.status_code", "http.status_code"]),
    (
        "client_address",
        &["client.address", "source.address", "http.client_ip", "net.sock.peer.addr"],
    ),
    ("client_asn", &["client.as.number", "source.as.number"]),
    ("client_country", &["client.geo.country_iso_code", "geo.country.iso_code"]),
    ("tls_fingerprint", &["tls.client.ja4"]),
    ("user_agent", &["user_agent.original", "http.user_agent"]),
    ("cost_usd", &["gen_ai.usage.cost", "gen_ai.cost.total_cost", "llm.cost.total"]),
];

/// Attributes with parts that are not simply a column's value.
const SYSTEM: &[&str] = &["gen_ai.system_instructions", "gen_ai.system.instructions"];
const INPUT_MESSAGES: &[&str] =
    &["gen_ai.input.messages", "gen_ai.prompt", "llm.prompts", "input.value"];
const OUTPUT_MESSAGES: &[&str] =
    &["gen_ai.output.messages", "gen_ai.completion", "llm.completions", "output.value"];
const FINISH_REASONS: &[&str] =
    &["gen_ai.response.finish_reasons", "gen_ai.response.finish_reason"];
const TOOLS: &[&str] = &["gen_ai.tool.definitions", "llm.tools"];
const LOGIT_BIAS: &[&str] = &["gen_ai.request.logit_bias"];
const PARAMETERS: &[&str] = &["llm.invocation_parameters"];

/// Families of attributes that number messages, `….0.role`, `….0.content`: what comes
/// before the number, and between the number and the key.
const NUMBERED: &[(&str, &str)] =
    &[("gen_ai.prompt.", "."), ("llm.prompts.", "."), ("llm.input_messages.", ".message.")];
/// The most messages looked for under numbered attributes.
const NUMBERED_MAX: usize = 4096;

/// Attributes of which one at least says that a record is a call of a model.
const MARKS: &[&str] = &[
    "gen_ai.request.model",
    "gen_ai.response.model",
    "gen_ai.input.messages",
    "gen_ai.prompt",
    "gen_ai.prompt.0.content",
    "llm.request.model",
    "llm.model_name",
];
/// Operations that wrap calls of models and are none themselves: agents and tools.
const WRAPPERS: &[&str] = &["execute_tool", "invoke_agent", "create_agent", "invoke_workflow"];

/// Where an export has its records: below resources, and these below scopes.
pub(super) const KINDS: [(&str, &str, &str); 4] = [
    ("resourceSpans", "scopeSpans", "spans"),
    ("resource_spans", "scope_spans", "spans"),
    ("resourceLogs", "scopeLogs", "logRecords"),
    ("resource_logs", "scope_logs", "log_records"),
];

/// Maps all spans and log records of one export.
pub(crate) fn map(record: &Value, naming: &Naming, rows: &mut RowBuilder) {
    let mut is_export = false;
    let mut joined = Joined::default();
    for (resources, scopes, records) in KINDS {
        is_export |= record.get(resources).is_some();
        for resource in array(record.get(resources)) {
            let shared = attributes(at(resource, "resource.attributes"));
            for scope in array(resource.get(scopes)) {
                for record in array(scope.get(records)) {
                    if !joined.take(record, &shared) {
                        one(record, &shared, naming, rows);
                    }
                }
            }
        }
    }
    if !is_export {
        rows.refuse(validity::NOT_AN_EXCHANGE);
    }
    joined.finish(naming, rows);
}

pub(super) fn array(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The attributes of one span or record, its events and its resource.
pub(super) struct Attributes<'a> {
    pub own: Map<String, Value>,
    pub events: Map<String, Value>,
    pub shared: &'a Map<String, Value>,
}

impl Attributes<'_> {
    pub fn first(&self, names: &[impl AsRef<str>]) -> Option<&Value> {
        let said = |value: &&Value| !value.is_null() && value.as_str() != Some("");
        names.iter().find_map(|name| {
            [&self.own, &self.events, self.shared]
                .into_iter()
                .find_map(|attributes| attributes.get(name.as_ref()).filter(said))
        })
    }
}

impl<'a> Attributes<'a> {
    /// Those of a span or log record; `shared` are its resource's.
    pub fn of(record: &Value, shared: &'a Map<String, Value>) -> Self {
        let mut events = Map::new();
        for event in array(record.get("events")) {
            events.extend(attributes(event.get("attributes")));
        }
        let mut own = attributes(record.get("attributes"));
        // The event that carries messages may have them in its body instead.
        if let Some(Value::Object(body)) = record.get("body").map(any_value) {
            for (name, value) in body {
                if name.starts_with("gen_ai.") {
                    own.entry(name).or_insert(value);
                }
            }
        }
        Attributes { own, events, shared }
    }

    fn openinference(&self) -> Option<&str> {
        self.first(&["openinference.span.kind"]).and_then(Value::as_str)
    }

    /// Whether the span or record is a call of a model.
    pub fn is_call(&self) -> bool {
        let operation = self.first(&["gen_ai.operation.name"]).and_then(Value::as_str);
        let is_wrapper = operation.is_some_and(|o| WRAPPERS.contains(&o))
            || self.openinference().is_some_and(|kind| !matches!(kind, "LLM" | "EMBEDDING"));
        !is_wrapper && self.first(MARKS).is_some()
    }
}

fn one(record: &Value, shared: &Map<String, Value>, naming: &Naming, rows: &mut RowBuilder) {
    let attributes = Attributes::of(record, shared);
    if !attributes.is_call() {
        rows.refuse(validity::NOT_AN_EXCHANGE);
        return;
    }

    let parameters = attributes.first(PARAMETERS).and_then(Value::as_str);
    let parameters: Option<Value> = parameters.and_then(|text| serde_json::from_str(text).ok());
    let mut row = named(&attributes, naming);
    if row.lacks("operation_name") && attributes.openinference() == Some("LLM") {
        row.set("operation_name", Cell::text("chat"));
    }
    if let Some(time) = time(record) {
        row.set("time", time);
    }

    let mut conversation = Conversation::default();
    if let Some(system) = attributes.first(SYSTEM) {
        conversation.system(system);
    }
    let numbered = numbered_messages(&attributes);
    if numbered.is_empty() {
        match attributes.first(INPUT_MESSAGES) {
            Some(messages) => conversation.messages(messages),
            None => message_events(record, &mut conversation),
        }
    } else {
        conversation.messages(&Value::Array(numbered));
    }
    conversation.set(&mut row);

    let reason = match attributes.first(FINISH_REASONS) {
        Some(Value::Array(reasons)) => reasons.first().and_then(Value::as_str),
        Some(reason) => reason.as_str(),
        None => attributes.first(&["gen_ai.completion.0.finish_reason"]).and_then(Value::as_str),
    };
    body::set_finish_reason(&mut row, reason);
    set_answer(&mut row, &attributes);
    let parsed = |names: &[&str]| match attributes.first(names) {
        Some(Value::String(text)) => serde_json::from_str(text).ok(),
        other => other.cloned(),
    };
    row.set("request_tool_count", count(parsed(TOOLS).as_ref()));
    row.set("request_logit_bias_count", count(parsed(LOGIT_BIAS).as_ref()));
    if let Some(parameters) = &parameters {
        super::openai::set_request(&mut row, parameters);
    }
    rows.push(row);
}

/// A row with what the tables of names find.
pub(super) fn named<'a>(attributes: &'a Attributes<'_>, naming: &Naming) -> Row<'a> {
    let mut row = Row::new(Table::Exchanges);
    if let Some(account) = attributes.first(&naming.account_attributes) {
        row.set("account_id", body::cell(account));
    }
    for (column, names) in NAMES {
        if row.lacks(column)
            && let Some(value) = attributes.first(names)
        {
            row.set(column, body::cell(value));
        }
    }
    // Instrumentations of the old name wrote `OpenAI`.
    if let Cell::Text(provider) = row.get("provider_name") {
        let provider = provider.to_ascii_lowercase();
        row.set("provider_name", Cell::text(provider));
    }
    row
}

fn set_answer(row: &mut Row<'_>, attributes: &Attributes<'_>) {
    let numbered = ["gen_ai.completion.0.content", "llm.output_messages.0.message.content"];
    if let Some(answer) = attributes.first(&numbered).and_then(Value::as_str) {
        return body::set_answer(row, Some(answer));
    }
    let Some(output) = attributes.first(OUTPUT_MESSAGES) else {
        return;
    };
    let parsed: Option<Value> = output.as_str().and_then(|text| serde_json::from_str(text).ok());
    let message = match parsed.as_ref().unwrap_or(output) {
        Value::Array(messages) => messages.first(),
        other => Some(other),
    };
    let parts = message.and_then(|m| m.get("parts").or(m.get("content")).or(Some(m)));
    body::set_answer(row, parts.and_then(body::content).as_deref());
}

/// When a span began or a record was made.
pub(super) fn time(record: &Value) -> Option<Cell<'static>> {
    const NAMES: &[&str] = &[
        "startTimeUnixNano",
        "start_time_unix_nano",
        "timeUnixNano",
        "time_unix_nano",
        "observedTimeUnixNano",
        "observed_time_unix_nano",
    ];
    NAMES.iter().filter_map(|name| record.get(name)).find_map(|value| {
        let nanos = match value {
            Value::String(text) => text.parse::<i64>().ok(),
            other => other.as_i64(),
        };
        // Zero means «unknown» in OTLP.
        nanos.filter(|nanos| *nanos != 0).map(|nanos| Cell::Time(nanos.div_euclid(1_000)))
    })
}

/// Messages under numbered attributes, as messages.
fn numbered_messages(attributes: &Attributes<'_>) -> Vec<Value> {
    for (before, between) in NUMBERED {
        let mut messages = Vec::new();
        for number in 0..NUMBERED_MAX {
            let get = |key: &str| attributes.first(&[format!("{before}{number}{between}{key}")]);
            let (Some(role), content) = (get("role"), get("content")) else {
                break;
            };
            let content = content.cloned().unwrap_or_default();
            messages.push(serde_json::json!({ "role": role, "content": content }));
        }
        if !messages.is_empty() {
            return messages;
        }
    }
    Vec::new()
}

/// The conventions of 2024 put each message into an event of the span.
fn message_events(span: &Value, conversation: &mut Conversation) {
    for event in array(span.get("events")) {
        let role = match event.get("name").and_then(Value::as_str) {
            Some("gen_ai.user.message") => "user",
            Some("gen_ai.system.message") => "system",
            _ => continue,
        };
        let attributes = attributes(event.get("attributes"));
        if let Some(content) = attributes.get("content").or(attributes.get("gen_ai.event.content"))
        {
            let message = serde_json::json!([{ "role": role, "content": content }]);
            conversation.messages(&message);
        }
    }
}

/// A list of `{ key, value: { stringValue … } }` as a map; a plain map as it is.
pub(super) fn attributes(list: Option<&Value>) -> Map<String, Value> {
    match list {
        Some(Value::Object(map)) => map.clone(),
        Some(Value::Array(list)) => list
            .iter()
            .filter_map(|entry| {
                let key = entry.get("key")?.as_str()?;
                Some((key.to_owned(), any_value(entry.get("value")?)))
            })
            .collect(),
        _ => Map::new(),
    }
}

/// OTLP's `AnyValue` as plain JSON. The parser's bound on depth bounds the recursion.
pub(super) fn any_value(value: &Value) -> Value {
    let get = |camel: &str, snake: &str| value.get(camel).or_else(|| value.get(snake));
    if let Some(text) = get("stringValue", "string_value") {
        return text.clone();
    }
    if let Some(integer) = get("intValue", "int_value") {
        // 64-bit integers are texts in protobuf's JSON.
        let parsed = integer.as_str().and_then(|text| text.parse::<i64>().ok());
        return parsed.map_or_else(|| integer.clone(), Value::from);
    }
    if let Some(value) = get("doubleValue", "double_value").or(get("boolValue", "bool_value")) {
        return value.clone();
    }
    if let Some(list) = get("arrayValue", "array_value") {
        return array(list.get("values")).iter().map(any_value).collect();
    }
    if let Some(list) = get("kvlistValue", "kvlist_value") {
        return Value::Object(attributes(list.get("values")));
    }
    Value::Null
}

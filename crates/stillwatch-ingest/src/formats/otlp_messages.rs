//! Log records of one message each, joined to exchanges.
//!
//! The semantic conventions 1.27 to 1.36 have an event for each message of a call
//! («Semantic conventions for Generative AI events»): `gen_ai.system.message`,
//! `gen_ai.user.message`, `gen_ai.assistant.message`, `gen_ai.tool.message`, and
//! `gen_ai.choice` for each choice of the answer. They share the trace's and the span's
//! id of the call. From 1.37 on one event holds all of it, which is read as any record.
//!
//! Records are joined within one export, which is one request to a receiver or one line
//! of a file: nothing is remembered from one to the next, so that it does not matter how
//! files are split. What an export cuts apart is refused for what it lacks.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use super::body::{self, Conversation, at};
use super::otlp::{Attributes, any_value, attributes, named, time};
use crate::rows::{Cell, RowBuilder};
use crate::text::Naming;

/// The ids of the trace and the span of a call.
pub(super) type CallId = (String, String);

const EVENTS: &[&str] = &[
    "gen_ai.user.message",
    "gen_ai.system.message",
    "gen_ai.assistant.message",
    "gen_ai.tool.message",
    "gen_ai.choice",
];

/// The calls of an export, in the order in which they are met.
#[derive(Default)]
pub(crate) struct Joined {
    calls: Vec<Call>,
    /// By trace and span.
    places: HashMap<CallId, usize>,
}

#[derive(Default)]
struct Call {
    /// Of all its records; the first that has one counts.
    own: Map<String, Value>,
    shared: Map<String, Value>,
    time: Option<Cell<'static>>,
    conversation: Conversation,
    /// The first choice.
    choice: Option<Value>,
}

impl Joined {
    /// Takes a record if it is one message of a call; says whether it is.
    pub fn take(&mut self, record: &Value, shared: &Map<String, Value>) -> bool {
        let own = attributes(record.get("attributes"));
        let Some((key, name)) = message(record, &own) else { return false };
        let role = match name {
            "gen_ai.user.message" => Some("user"),
            "gen_ai.system.message" => Some("system"),
            _ => None,
        };
        let is_choice = name == "gen_ai.choice";
        let body = record.get("body").map(any_value).unwrap_or_default();
        let place = *self.places.entry(key).or_insert_with(|| {
            self.calls.push(Call { shared: shared.clone(), ..Call::default() });
            self.calls.len() - 1
        });
        let Some(call) = self.calls.get_mut(place) else { return true };
        for (name, value) in own {
            call.own.entry(name).or_insert(value);
        }
        call.time = call.time.take().or_else(|| time(record));
        if let Some(role) = role {
            // A body that is no object is the content itself.
            let content = body.get("content").unwrap_or(&body);
            call.conversation.messages(&json!([{ "role": role, "content": content }]));
        }
        let index = body.get("index").and_then(Value::as_i64).unwrap_or(0);
        if is_choice && index == 0 && call.choice.is_none() {
            call.choice = Some(body);
        }
        true
    }

    /// Makes rows of the calls.
    pub fn finish(self, naming: &Naming, rows: &mut RowBuilder) {
        for Call { own, shared, time, conversation, choice } in self.calls {
            let attributes = Attributes { own, events: Map::new(), shared: &shared };
            let mut row = named(&attributes, naming);
            if row.lacks("operation_name") {
                row.set("operation_name", Cell::text("chat"));
            }
            if let Some(time) = time {
                row.set("time", time);
            }
            conversation.set(&mut row);
            if let Some(choice) = &choice {
                let reason = choice.get("finish_reason").and_then(Value::as_str);
                body::set_finish_reason(&mut row, reason);
                let answer = at(choice, "message.content").or(choice.get("content"));
                body::set_answer(&mut row, answer.and_then(body::content).as_deref());
            }
            rows.push(row);
        }
    }
}

/// The call that a log record is one message of, and the event's name. It is a field of its
/// own since OTLP 1.5, and was an attribute before.
pub(super) fn message<'a>(
    record: &'a Value,
    own: &'a Map<String, Value>,
) -> Option<(CallId, &'a str)> {
    let field = record.get("eventName").or_else(|| record.get("event_name"));
    let named = field.and_then(Value::as_str).filter(|name| !name.is_empty());
    let name = named.or_else(|| own.get("event.name")?.as_str())?;
    let id = |camel: &str, snake: &str| {
        let id = record.get(camel).or_else(|| record.get(snake))?.as_str()?;
        // All zeros is no id (W3C Trace Context, section 3.2.2).
        id.bytes().any(|byte| byte != b'0').then(|| id.to_owned())
    };
    let call = (id("traceId", "trace_id")?, id("spanId", "span_id")?);
    EVENTS.contains(&name).then_some((call, name))
}

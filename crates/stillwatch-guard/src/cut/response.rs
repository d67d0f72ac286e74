//! A Responses stream that is followed, so that it can be ended with all that it has said.

use serde_json::json;

use super::put;
use crate::edit::Changes;
use crate::json::{Fields, text, whole};

/// What is kept of a Responses stream to end it with, in bytes; what comes beyond is not
/// told again.
const OUTPUT_BYTES_MAX: usize = 4 << 20;

/// A Responses stream as far as it has come.
#[derive(Debug, Default)]
pub(super) struct Response {
    /// The `response` of its first event.
    head: Option<String>,
    sequence: u64,
    /// Items that have ended.
    items: Vec<String>,
    /// The item that has begun, and its place.
    item: Option<(u64, String)>,
    /// The text part that has begun, and its place in the item.
    part: Option<u64>,
    /// The text, or the arguments of a call, of the item that has begun.
    said: String,
    bytes: usize,
}

impl Response {
    /// Takes note of an event that passes.
    pub fn follow(&mut self, fields: &Fields<'_>) {
        if let Some(sequence) = fields.get("sequence_number").and_then(whole) {
            self.sequence = sequence.saturating_add(1);
        }
        let raw = |name: &str| fields.get(name).map(|value| value.get().to_owned());
        match fields.text("type").as_deref() {
            Some("response.created" | "response.in_progress") => {
                self.head = raw("response").filter(|head| self.keeps(head.len()));
            }
            Some("response.output_item.added") => {
                let index = fields.get("output_index").and_then(whole).unwrap_or(0);
                let item = raw("item").filter(|item| self.keeps(item.len()));
                self.item = item.map(|item| (index, item));
                (self.part, self.said) = (None, String::new());
            }
            Some("response.output_item.done") => {
                self.item = None;
                if let Some(item) = raw("item").filter(|item| self.keeps(item.len())) {
                    self.items.push(item);
                }
            }
            Some("response.content_part.added") => {
                self.part = fields.get("content_index").and_then(whole);
                self.said.clear();
            }
            Some("response.content_part.done") => self.part = None,
            Some("response.output_text.delta" | "response.function_call_arguments.delta") => {
                if let Some(delta) = fields.get("delta").and_then(text)
                    && self.keeps(delta.len())
                {
                    self.said.push_str(&delta);
                }
            }
            _ => {}
        }
    }

    /// Whether there is room for so many bytes more.
    fn keeps(&mut self, bytes: usize) -> bool {
        let is_room = self.bytes + bytes <= OUTPUT_BYTES_MAX;
        if is_room {
            self.bytes += bytes;
        }
        is_room
    }

    /// Ends what is open, and then the response.
    pub fn close(&mut self, out: &mut Vec<u8>) {
        let mut event = |name: &str, mut data: serde_json::Value| {
            if let Some(data) = data.as_object_mut() {
                data.insert("type".to_owned(), name.into());
                data.insert("sequence_number".to_owned(), self.sequence.into());
            }
            self.sequence += 1;
            put(out, Some(name), &data.to_string());
        };
        if let Some((index, item)) = self.item.take() {
            let fields = Fields::parse(item.as_bytes()).unwrap_or_default();
            let id = fields.text("id").unwrap_or_default();
            let mut changes = Changes::default();
            changes.set("status", "\"incomplete\"".to_owned());
            let said = self.said.as_str();
            if let Some(part) = self.part.take() {
                let place = json!({ "item_id": id, "output_index": index, "content_index": part });
                let with = |name: &str, value: serde_json::Value| {
                    let mut data = place.clone();
                    if let Some(data) = data.as_object_mut() {
                        data.insert(name.to_owned(), value);
                    }
                    data
                };
                let content = json!({ "type": "output_text", "text": said, "annotations": [] });
                event("response.output_text.done", with("text", said.into()));
                event("response.content_part.done", with("part", content.clone()));
                changes.set("content", format!("[{content}]"));
            } else if fields.text("type").is_some_and(|kind| kind == "function_call") {
                changes.set("arguments", json!(said).to_string());
            }
            let ended = changes.applied(item.as_bytes(), &fields);
            if let Ok(item) = serde_json::from_slice::<serde_json::Value>(&ended) {
                let data = json!({ "output_index": index, "item": item });
                event("response.output_item.done", data);
                self.items.push(String::from_utf8_lossy(&ended).into_owned());
            }
        }
        let head = self.head.take().unwrap_or_else(|| "{\"object\":\"response\"}".to_owned());
        let fields = Fields::parse(head.as_bytes()).unwrap_or_default();
        let mut changes = Changes::default();
        changes.set("status", "\"incomplete\"".to_owned());
        changes.set("incomplete_details", "{\"reason\":\"max_output_tokens\"}".to_owned());
        changes.set("output", format!("[{}]", self.items.join(",")));
        let ended = changes.applied(head.as_bytes(), &fields);
        let response = String::from_utf8_lossy(&ended);
        let last = format!(
            "{{\"type\":\"response.incomplete\",\"sequence_number\":{},\"response\":{response}}}",
            self.sequence
        );
        put(out, Some("response.incomplete"), &last);
    }
}

//! Answers in one piece, for upstreams that keep to no cap: shortened to what a stream would
//! have given before its end, in the vendor's own form.
//!
//! Here the vendor's figure is at hand, so that a token has as many bytes as those of this
//! answer have on average; without one, eight. What it calls hidden reasoning is taken from the cap
//! first. Calls and reasoning that don't fit whole are left out: half of them is of no use.

use serde_json::value::RawValue;

use super::told;
use crate::api::Endpoint;
use crate::edit::Changes;
use crate::json::{Fields, elements, whole};

/// An answer's document without what goes beyond the cap; none where that is nothing.
pub fn shortened(endpoint: Endpoint, document: &[u8], tokens_max: u64) -> Option<Vec<u8>> {
    let fields = Fields::parse(document)?;
    let mut all = Room::endless();
    within(endpoint, &fields, &mut all);
    let bytes = all.taken as u64;
    let hidden = hidden(&fields);
    let visible = told(&fields).unwrap_or(0).saturating_sub(hidden).max(bytes / 8);
    if bytes == 0 || hidden.saturating_add(visible) <= tokens_max {
        return None;
    }
    let left = tokens_max.saturating_sub(hidden);
    let room = u128::from(bytes) * u128::from(left) / u128::from(visible.max(1));
    let mut room = Room::of(usize::try_from(room).unwrap_or(usize::MAX));
    let mut changes = within(endpoint, &fields, &mut room);
    if !room.is_full {
        return None;
    }
    match endpoint {
        Endpoint::Messages => {
            changes.set("stop_reason", "\"max_tokens\"".to_owned());
            changes.set("stop_sequence", "null".to_owned());
        }
        Endpoint::Responses => {
            changes.set("status", "\"incomplete\"".to_owned());
            changes.set("incomplete_details", r#"{"reason":"max_output_tokens"}"#.to_owned());
            changes.drop("output_text");
        }
        _ => {}
    }
    Some(changes.applied(document, &fields).into_owned())
}

/// The output tokens that are not in the document, by the vendor's figure.
fn hidden(fields: &Fields<'_>) -> u64 {
    ["completion_tokens_details", "output_tokens_details"]
        .into_iter()
        .find_map(|details| fields.at(&["usage", details, "reasoning_tokens"]))
        .and_then(whole)
        .unwrap_or(0)
}

/// How many bytes of text may pass.
#[derive(Debug)]
struct Room {
    most: usize,
    taken: usize,
    /// Something did not fit; nothing after it passes.
    is_full: bool,
}

impl Room {
    fn of(most: usize) -> Self {
        Room { most, taken: 0, is_full: false }
    }

    fn endless() -> Self {
        Room::of(usize::MAX)
    }

    /// As much of a text as fits.
    fn part<'t>(&mut self, text: &'t str) -> &'t str {
        let left = if self.is_full { 0 } else { self.most - self.taken };
        let part = text.get(..text.floor_char_boundary(left)).unwrap_or_default();
        self.taken += part.len();
        self.is_full |= part.len() < text.len();
        part
    }

    /// Whether something of this length fits whole.
    fn fits(&mut self, bytes: usize) -> bool {
        self.is_full |= bytes > self.most - self.taken;
        self.taken += if self.is_full { 0 } else { bytes };
        !self.is_full
    }
}

/// What of a document's fields changes so that its texts fit.
fn within(endpoint: Endpoint, fields: &Fields<'_>, room: &mut Room) -> Changes {
    let mut changes = Changes::default();
    let (name, one): (_, fn(&RawValue, &mut Room) -> Option<String>) = match endpoint {
        Endpoint::Chat | Endpoint::Completions => ("choices", choice),
        Endpoint::Messages => ("content", block),
        Endpoint::Responses => ("output", item),
        Endpoint::Embeddings | Endpoint::Other => return changes,
    };
    changes_of_array(fields, name, room, &mut changes, one);
    changes
}

/// Changes an array to what is left of each of its elements: none, where it goes.
fn changes_of_array(
    fields: &Fields<'_>,
    name: &str,
    room: &mut Room,
    changes: &mut Changes,
    one: fn(&RawValue, &mut Room) -> Option<String>,
) {
    let Some(array) = fields.get(name) else { return };
    let kept: Vec<String> = elements(array).into_iter().filter_map(|e| one(e, room)).collect();
    if room.is_full {
        changes.set(name, format!("[{}]", kept.join(",")));
    }
}

/// Changes a text to as much of it as fits.
fn shorten(fields: &Fields<'_>, name: &str, room: &mut Room, changes: &mut Changes) {
    let Some(text) = fields.text(name) else { return };
    let part = room.part(&text);
    if part.len() < text.len() {
        // A text always becomes JSON.
        changes.set(name, serde_json::to_string(part).unwrap_or_default());
    }
}

/// An object with changes, as text.
fn applied(object: &RawValue, fields: &Fields<'_>, changes: &Changes) -> Option<String> {
    String::from_utf8(changes.applied(object.get().as_bytes(), fields).into_owned()).ok()
}

/// A choice of a chat or of a completion. All choices stay: an answer has as many as were
/// asked for.
fn choice(choice: &RawValue, room: &mut Room) -> Option<String> {
    let Some(fields) = Fields::of(choice) else { return Some(choice.get().to_owned()) };
    let mut changes = Changes::default();
    shorten(&fields, "text", room, &mut changes);
    if let Some((raw, message)) = fields.get("message").and_then(|m| Some((m, Fields::of(m)?))) {
        let mut of_message = Changes::default();
        for name in ["reasoning_content", "reasoning", "content", "refusal"] {
            shorten(&message, name, room, &mut of_message);
        }
        changes_of_array(&message, "tool_calls", room, &mut of_message, call);
        if room.is_full {
            of_message.drop("reasoning_details");
            changes.set("message", applied(raw, &message, &of_message)?);
        }
    }
    if room.is_full {
        changes.set("finish_reason", "\"length\"".to_owned());
        // They would tell the whole text.
        changes.set("logprobs", "null".to_owned());
    }
    applied(choice, &fields, &changes)
}

/// A call of a tool, where its arguments fit.
fn call(call: &RawValue, room: &mut Room) -> Option<String> {
    let arguments =
        Fields::of(call).and_then(|call| Some(call.at(&["function", "arguments"])?.get().len()));
    room.fits(arguments.unwrap_or(0)).then(|| call.get().to_owned())
}

/// A block of a message's content.
fn block(block: &RawValue, room: &mut Room) -> Option<String> {
    let fields = Fields::of(block).unwrap_or_default();
    let length = |name: &str| fields.text(name).map_or(0, |text| text.len());
    let whole = match fields.text("type").as_deref() {
        Some("text") if !room.is_full => {
            return text(block, &fields, room);
        }
        // The signature is one of the whole.
        Some("thinking") => length("thinking"),
        _ => fields.get("input").map_or(0, |input| input.get().len()),
    };
    room.fits(whole).then(|| block.get().to_owned())
}

/// A part of an answer that has a text; none where nothing of it passes.
fn text(part: &RawValue, fields: &Fields<'_>, room: &mut Room) -> Option<String> {
    let (mut changes, before) = (Changes::default(), room.taken);
    shorten(fields, "text", room, &mut changes);
    shorten(fields, "refusal", room, &mut changes);
    if room.is_full && fields.get("logprobs").is_some() {
        changes.set("logprobs", "[]".to_owned());
    }
    if room.is_full && room.taken == before {
        return None;
    }
    applied(part, fields, &changes)
}

/// An item of a response's output.
fn item(item: &RawValue, room: &mut Room) -> Option<String> {
    let fields = Fields::of(item).unwrap_or_default();
    let texts = |name: &str| -> usize {
        let parts = fields.get(name).map(elements).unwrap_or_default();
        let length = |part| Fields::of(part)?.text("text").map(|text| text.len());
        parts.into_iter().filter_map(length).sum()
    };
    let length = |name: &str| fields.text(name).map_or(0, |text| text.len());
    let whole = match fields.text("type").as_deref() {
        Some("message") if !room.is_full => {
            let mut changes = Changes::default();
            changes_of_array(&fields, "content", room, &mut changes, part);
            if room.is_full {
                changes.set("status", "\"incomplete\"".to_owned());
            }
            return applied(item, &fields, &changes);
        }
        Some("reasoning") => texts("summary") + texts("content"),
        _ => length("arguments") + length("input"),
    };
    room.fits(whole).then(|| item.get().to_owned())
}

/// A part of a message of a response.
fn part(part: &RawValue, room: &mut Room) -> Option<String> {
    if room.is_full { None } else { text(part, &Fields::of(part).unwrap_or_default(), room) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(endpoint: Endpoint, tokens_max: u64, document: &str, expected: &str) {
        let shortened = shortened(endpoint, document.as_bytes(), tokens_max);
        let shortened = shortened.map(|bytes| String::from_utf8(bytes).unwrap());
        assert_eq!(shortened.as_deref().unwrap_or(document), expected);
    }

    #[test]
    fn what_keeps_to_the_cap_is_not_touched() {
        for document in [
            r#"{ "choices": [{"message":{"content":"0123456789"}}], "usage":{"completion_tokens":5}}"#,
            r#"{"choices":[{"message":{"content":"0123456789012345678901234567890123456789"}}]}"#,
            r#"{"choices":[],"usage":{"completion_tokens":900}}"#,
            "not json",
            "[]",
        ] {
            check(Endpoint::Chat, 5, document, document);
        }
    }

    #[test]
    fn chats() {
        // Ten bytes are four tokens, of which two may pass.
        check(
            Endpoint::Chat,
            2,
            r#"{"id": "x","choices":[{"index":0,"logprobs":{"content":[{"token":"0123456789"}]},"finish_reason":"stop","message":{"role":"assistant","content":"0123456789"}}],"usage":{"completion_tokens":4}}"#,
            r#"{"id":"x","choices":[{"index":0,"logprobs":null,"finish_reason":"length","message":{"role":"assistant","content":"01234"}}],"usage":{"completion_tokens":4}}"#,
        );
        // Hidden reasoning comes first; a call that does not fit goes.
        check(
            Endpoint::Chat,
            8,
            r#"{"choices":[{"message":{"content":"äöü","tool_calls":[{"function":{"name":"f","arguments":"{\"a\":1}"}}]}}],"usage":{"completion_tokens":12,"completion_tokens_details":{"reasoning_tokens":6}}}"#,
            r#"{"choices":[{"message":{"content":"äö","tool_calls":[]},"finish_reason":"length","logprobs":null}],"usage":{"completion_tokens":12,"completion_tokens_details":{"reasoning_tokens":6}}}"#,
        );
        // Without a figure a token has eight bytes.
        check(
            Endpoint::Completions,
            1,
            r#"{"choices":[{"text":"0123456789abcdef"},{"text":"more"}]}"#,
            r#"{"choices":[{"text":"0123456789","finish_reason":"length","logprobs":null},{"text":"","finish_reason":"length","logprobs":null}]}"#,
        );
    }

    #[test]
    fn messages() {
        check(
            Endpoint::Messages,
            10,
            r#"{"content":[{"type":"thinking","thinking":"0123456789","signature":"s"},{"type":"text","text":"0123456789"},{"type":"tool_use","input":{}}],"stop_reason":"tool_use","stop_sequence":null,"usage":{"output_tokens":22}}"#,
            r#"{"content":[{"type":"thinking","thinking":"0123456789","signature":"s"}],"stop_reason":"max_tokens","stop_sequence":null,"usage":{"output_tokens":22}}"#,
        );
        check(
            Endpoint::Messages,
            1,
            r#"{"content":[{"type":"thinking","thinking":"0123456789","signature":"s"},{"type":"text","text":"x"}],"usage":{"output_tokens":11}}"#,
            r#"{"content":[],"usage":{"output_tokens":11},"stop_reason":"max_tokens","stop_sequence":null}"#,
        );
    }

    #[test]
    fn responses() {
        check(
            Endpoint::Responses,
            10,
            r#"{"status":"completed","output":[{"type":"reasoning","summary":[{"text":"01"}]},{"type":"message","status":"completed","content":[{"type":"output_text","text":"0123456789","logprobs":[1]},{"type":"output_text","text":"more"}]},{"type":"function_call","arguments":"{}"}],"usage":{"output_tokens":18}}"#,
            r#"{"status":"incomplete","output":[{"type":"reasoning","summary":[{"text":"01"}]},{"type":"message","status":"incomplete","content":[{"type":"output_text","text":"01234567","logprobs":[]}]}],"usage":{"output_tokens":18},"incomplete_details":{"reason":"max_output_tokens"}}"#,
        );
    }
}

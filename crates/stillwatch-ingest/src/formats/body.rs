//! What the conventions share: looking names up, and reading chat messages, answers
//! and finish reasons in the shapes that the model APIs have.

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::rows::{Cell, Row};

/// A table of names: for each column the places to look at, the first that has a
/// value counts. A place is a path of keys divided by dots; below a key that ends in
/// `headers` the next one is compared without regard to case.
pub(crate) type Names = &'static [(&'static str, &'static [&'static str])];

/// Sets every column of the table that is not set yet and that the record has.
pub(crate) fn set_named<'a>(row: &mut Row<'a>, record: &'a Value, names: Names) {
    for (column, places) in names {
        if row.lacks(column)
            && let Some(value) = first(record, places)
        {
            row.set(column, cell(value));
        }
    }
}

/// The first of these places that has a value; null and empty text are none.
pub(crate) fn first<'a>(record: &'a Value, places: &[&str]) -> Option<&'a Value> {
    places.iter().filter_map(|place| at(record, place)).find(|value| is_said(value))
}

fn is_said(value: &Value) -> bool {
    !value.is_null() && value.as_str() != Some("")
}

/// The value at a path of keys.
pub(crate) fn at<'a>(record: &'a Value, place: &str) -> Option<&'a Value> {
    let mut value = record;
    let mut in_headers = false;
    for key in place.split('.') {
        let object = value.as_object()?;
        value = match object.get(key) {
            Some(value) => value,
            None if in_headers => {
                object.iter().find(|(name, _)| name.eq_ignore_ascii_case(key)).map(|(_, v)| v)?
            }
            None => return None,
        };
        in_headers = key.ends_with("headers");
    }
    Some(value)
}

/// A JSON value as a cell.
pub(crate) fn cell(value: &Value) -> Cell<'_> {
    match value {
        Value::Null => Cell::Null,
        Value::Bool(value) => Cell::Bool(*value),
        Value::String(text) => Cell::text(text.as_str()),
        Value::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (Some(integer), _, _) => Cell::Integer(integer.into()),
            (_, Some(integer), _) => Cell::Integer(integer.into()),
            (_, _, Some(float)) => Cell::Float(float),
            _ => Cell::Other,
        },
        Value::Array(_) | Value::Object(_) => Cell::Other,
    }
}

/// A time that came as RFC 3339 or as a number since the epoch, whose unit its size
/// tells: in the years 1973 to 5138 no count of seconds is as large as one of
/// milliseconds, and so on.
pub(crate) fn time(value: &Value) -> Cell<'_> {
    let Some(number) = value.as_f64() else {
        return cell(value);
    };
    let per_micro = match number.abs() {
        ..1e11 => 1e6,
        ..1e14 => 1e3,
        ..1e17 => 1.0,
        _ => 1e-3,
    };
    // Whole numbers are kept whole: a float of microseconds is exact up to 2⁵³.
    #[expect(clippy::cast_possible_truncation, reason = "saturates, and is then implausible")]
    Cell::Time((number * per_micro).round() as i64)
}

/// How many entries an array or object has, as a cell; null for anything else.
pub(crate) fn count(value: Option<&Value>) -> Cell<'static> {
    let entries = match value {
        Some(Value::Array(values)) => values.len(),
        Some(Value::Object(entries)) => entries.len(),
        _ => return Cell::Null,
    };
    i128::try_from(entries).map_or(Cell::Null, Cell::Integer)
}

/// What a request's messages say.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Conversation {
    system: Vec<String>,
    last_user: Option<String>,
    users: u16,
}

impl Conversation {
    /// Adds system instructions that stand outside of the messages: text, or parts.
    pub fn system(&mut self, value: &Value) {
        match unfolded(value).as_ref().unwrap_or(value) {
            Value::Null => {}
            value => self.system.extend(content(value).filter(|text| !text.is_empty())),
        }
    }

    /// Adds messages: an array, one message, an object that has `messages`, a text
    /// that is JSON of these, or a text that is the prompt itself.
    pub fn messages(&mut self, value: &Value) {
        if let Some(value) = unfolded(value) {
            return self.messages(&value);
        }
        match value {
            Value::String(prompt) => self.user(prompt.clone()),
            Value::Array(messages) => {
                for message in messages {
                    self.message(message);
                }
            }
            Value::Object(object) => match object.get("messages") {
                Some(messages @ Value::Array(_)) => self.messages(messages),
                _ => self.message(value),
            },
            _ => {}
        }
    }

    fn message(&mut self, message: &Value) {
        if let Value::String(text) = message {
            return self.user(text.clone());
        }
        // OpenInference wraps each message once more.
        let message = message.get("message").filter(|m| m.is_object()).unwrap_or(message);
        let role = message.get("role").and_then(Value::as_str).unwrap_or_default();
        let body = ["content", "parts", "text"].iter().find_map(|key| message.get(key));
        let Some(text) = body.and_then(content) else {
            return;
        };
        match role {
            "user" | "human" => self.user(text),
            "system" | "developer" => self.system.push(text),
            _ => {}
        }
    }

    /// Adds a user message.
    pub fn user(&mut self, text: String) {
        self.users = self.users.saturating_add(1);
        self.last_user = Some(text);
    }

    /// Writes what was said into the row's columns, where they are not set yet.
    pub fn set(self, row: &mut Row<'_>) {
        if !self.system.is_empty() && row.lacks("system_instructions") {
            row.set("system_instructions", Cell::text(self.system.join("\n")));
        }
        if let Some(prompt) = self.last_user {
            if row.lacks("prompt") {
                row.set("prompt", Cell::text(prompt));
            }
            if row.lacks("turn") {
                row.set("turn", Cell::Integer(self.users.into()));
            }
        }
    }
}

/// A JSON text inside a text, as spans carry messages; none where it is plain text.
fn unfolded(value: &Value) -> Option<Value> {
    let text = value.as_str()?.trim_ascii_start();
    let value: Value = text.starts_with(['[', '{']).then(|| serde_json::from_str(text).ok())??;
    // A prompt may be JSON itself: only what looks like messages or parts is.
    let is_message = |value: &Value| {
        ["role", "messages", "parts", "type", "message"].iter().any(|key| value.get(key).is_some())
    };
    match &value {
        Value::Array(values) => values.iter().all(is_message).then_some(value),
        other => is_message(other).then_some(value),
    }
}

/// The text of a message's content: a text, or the text among its parts, each on a
/// line of its own. Empty where there are parts but no text (an image, say); none
/// where nothing is a person's (the results of tools).
pub(crate) fn content(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Object(_) => part(value),
        Value::Array(parts) => {
            let texts: Vec<String> = parts.iter().filter_map(part).collect();
            if texts.is_empty() && !parts.is_empty() {
                return None;
            }
            Some(texts.into_iter().filter(|t| !t.is_empty()).collect::<Vec<_>>().join("\n"))
        }
        _ => None,
    }
}

fn part(part: &Value) -> Option<String> {
    if let Value::String(text) = part {
        return Some(text.clone());
    }
    let kind = part.get("type").and_then(Value::as_str).unwrap_or_default();
    let is_of_tools = kind.starts_with("tool") || kind.starts_with("function");
    if is_of_tools || part.get("toolResult").is_some() || part.get("toolUse").is_some() {
        return None;
    }
    if matches!(kind, "reasoning" | "thinking" | "redacted_thinking") {
        return None;
    }
    let text = ["text", "content"].iter().find_map(|key| part.get(key)).and_then(Value::as_str);
    Some(text.unwrap_or_default().to_owned())
}

/// Sets the digest of an answer: SHA-256 of its text in UTF-8.
pub(crate) fn set_answer(row: &mut Row<'_>, answer: Option<&str>) {
    if let Some(answer) = answer.filter(|a| !a.is_empty())
        && row.lacks("response_digest")
    {
        row.set("response_digest", Cell::Bytes(Sha256::digest(answer.as_bytes()).to_vec()));
    }
}

/// Sets the finish reason under the name that the contract has for it; reasons that
/// it has none for are kept as they are.
pub(crate) fn set_finish_reason(row: &mut Row<'_>, reason: Option<&str>) {
    let Some(reason) = reason.filter(|r| !r.is_empty()) else {
        return;
    };
    let name = match reason {
        "end_turn" | "stop_sequence" | "completed" | "COMPLETE" | "FINISH" | "STOP" => "stop",
        "max_tokens"
        | "max_output_tokens"
        | "model_context_window_exceeded"
        | "LENGTH"
        | "MAX_TOKENS" => "length",
        "tool_use" | "tool_call" | "function_call" => "tool_calls",
        "refusal" | "content_filtered" | "guardrail_intervened" | "CONTENT_FILTERED" => {
            "content_filter"
        }
        "cancelled" | "canceled" => "aborted",
        other => other,
    };
    if row.lacks("response_finish_reason") {
        row.set("response_finish_reason", Cell::text(name.to_owned()));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn conversation(messages: &Value) -> (Vec<String>, Option<String>, u16) {
        let mut conversation = Conversation::default();
        conversation.messages(messages);
        (conversation.system, conversation.last_user, conversation.users)
    }

    #[test]
    fn messages_are_read_in_every_shape() {
        let said = |system: &[&str], user: &str, users| {
            (system.iter().map(|s| (*s).to_owned()).collect(), Some(user.to_owned()), users)
        };
        // OpenAI, with a developer message and parts.
        assert_eq!(
            conversation(&json!([
                { "role": "developer", "content": "Be brief." },
                { "role": "user", "content": "Hi" },
                { "role": "assistant", "content": "Hello" },
                { "role": "user", "content": [
                    { "type": "text", "text": "What is" },
                    { "type": "image_url", "image_url": { "url": "…" } },
                    { "type": "text", "text": "this?" },
                ] },
            ])),
            said(&["Be brief."], "What is\nthis?", 2)
        );
        // OpenTelemetry's parts, as a text.
        let parts = json!([{ "role": "user", "parts": [{ "type": "text", "content": "Hi" }] }]);
        assert_eq!(conversation(&json!(parts.to_string())), said(&[], "Hi", 1));
        // Bedrock's Converse.
        assert_eq!(
            conversation(
                &json!({ "messages": [{ "role": "user", "content": [{ "text": "Hi" }] }] })
            ),
            said(&[], "Hi", 1)
        );
        // Tool results come in the user's name and are not the user's.
        assert_eq!(
            conversation(&json!([
                { "role": "user", "content": "Sum up a.txt" },
                { "role": "user", "content": [{ "type": "tool_result", "content": "…" }] },
            ])),
            said(&[], "Sum up a.txt", 1)
        );
        // A prompt that is JSON is a prompt.
        assert_eq!(conversation(&json!("{\"a\": 1}")), said(&[], "{\"a\": 1}", 1));
        assert_eq!(conversation(&json!("[1, 2]")), said(&[], "[1, 2]", 1));
        // An image alone is an empty prompt, not a missing one.
        assert_eq!(
            conversation(&json!([{ "role": "user", "content": [{ "type": "image" }] }])),
            said(&[], "", 1)
        );
        assert_eq!(
            conversation(&json!([{ "role": "assistant", "content": "Hi" }])),
            (vec![], None, 0)
        );
    }

    #[test]
    fn a_number_tells_its_unit_by_its_size() {
        let micros = Cell::Time(1_772_323_506_789_000);
        for value in [
            json!(1_772_323_506.789),
            json!(1_772_323_506_789_u64),
            json!(1_772_323_506_789_000_u64),
            json!(1_772_323_506_789_000_000_u64),
        ] {
            assert_eq!(time(&value), micros);
        }
    }

    #[test]
    fn headers_are_found_in_any_case() {
        let record = json!({ "request_headers": { "User-Agent": "x" }, "Body": 1 });
        assert_eq!(at(&record, "request_headers.user-agent"), Some(&json!("x")));
        assert_eq!(at(&record, "body"), None);
    }
}

//! What a request asks for: the columns of an exchange that its body tells.
//!
//! The same names as the ingestion of logs has for pairs of request and response; a
//! test holds the two against each other. Only what is used is read, and whatever has
//! a shape that is not expected is left out.

use std::borrow::Cow;

use serde_json::value::RawValue;

use crate::api::Endpoint;
use crate::json::{self, Fields, count, elements, text, whole};

/// A longer text is cut before it is recorded, in bytes: what comes after it tells no
/// more about who belongs to whom.
pub const TEXT_BYTES_MAX: usize = 256 << 10;

/// The columns that a request's body tells.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Asked<'a> {
    pub conversation_id: Option<Cow<'a, str>>,
    pub turn: Option<u16>,
    pub request_model: Option<Cow<'a, str>>,
    pub system_instructions: Option<String>,
    /// Empty where the request has no text.
    pub prompt: Cow<'a, str>,
    pub request_temperature: Option<f32>,
    pub request_top_p: Option<f32>,
    pub request_max_tokens: Option<u32>,
    pub request_choice_count: Option<u16>,
    pub request_seed: Option<i64>,
    pub request_stream: Option<bool>,
    pub request_top_logprobs: Option<u16>,
    pub request_logit_bias_count: Option<u16>,
    pub request_reasoning: Option<Cow<'a, str>>,
    pub request_tool_count: Option<u16>,
}

impl<'a> Asked<'a> {
    /// What a body asks of an endpoint; none where it is not one JSON object.
    #[must_use]
    pub fn read(endpoint: Endpoint, body: &'a [u8]) -> Option<Self> {
        let fields = Fields::parse(body)?;
        Some(Asked::of(endpoint, &fields))
    }

    pub(crate) fn of(endpoint: Endpoint, fields: &Fields<'a>) -> Self {
        let first = |names: &[&[&str]]| names.iter().find_map(|path| fields.at(path));
        let number = |name: &str| fields.get(name).and_then(json::read::<f32>);
        let max_tokens = match endpoint {
            Endpoint::Messages => first(&[&["max_tokens"]]),
            _ => first(&[&["max_completion_tokens"], &["max_output_tokens"], &["max_tokens"]]),
        };
        let reasoning = match endpoint {
            Endpoint::Messages => first(&[
                &["thinking", "budget_tokens"],
                &["output_config", "effort"],
                &["thinking", "type"],
            ]),
            _ => first(&[&["reasoning_effort"], &["reasoning", "effort"]]),
        };
        // The older Completions API asks for a number under the name of the newer switch.
        let top_logprobs = first(&[&["top_logprobs"]])
            .and_then(whole)
            .or_else(|| fields.get("logprobs").and_then(whole));
        let mut said = Said::default();
        said.read(endpoint, fields);
        Asked {
            conversation_id: first(&[
                &["conversation", "id"],
                &["conversation"],
                &["metadata", "conversation_id"],
                &["metadata", "session_id"],
            ])
            .and_then(scalar),
            turn: (said.users > 0).then_some(said.users),
            request_model: fields.text("model"),
            system_instructions: (!said.system.is_empty()).then(|| cut(said.system.join("\n"))),
            prompt: said.last_user.map(cut_cow).unwrap_or_default(),
            request_temperature: number("temperature"),
            request_top_p: number("top_p"),
            request_max_tokens: max_tokens
                .and_then(whole)
                .map(|tokens| u32::try_from(tokens).unwrap_or(u32::MAX)),
            request_choice_count: fields
                .get("n")
                .and_then(whole)
                .and_then(|n| u16::try_from(n).ok()),
            request_seed: fields.get("seed").and_then(json::read),
            request_stream: fields.get("stream").and_then(json::read),
            request_top_logprobs: top_logprobs.and_then(|n| u16::try_from(n).ok()),
            request_logit_bias_count: fields.get("logit_bias").and_then(count),
            request_reasoning: reasoning.and_then(scalar),
            request_tool_count: fields
                .get("tools")
                .or_else(|| fields.get("functions"))
                .and_then(count),
        }
    }
}

/// A text, or a number or switch as it is written.
fn scalar(value: &RawValue) -> Option<Cow<'_, str>> {
    match value.get().as_bytes().first()? {
        b'"' => text(value).filter(|text| !text.is_empty()),
        b'{' | b'[' => None,
        _ => Some(Cow::Borrowed(value.get())),
    }
}

fn cut(mut text: String) -> String {
    if text.len() > TEXT_BYTES_MAX {
        text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX));
    }
    text
}

fn cut_cow(text: Cow<'_, str>) -> Cow<'_, str> {
    let end = text.floor_char_boundary(TEXT_BYTES_MAX);
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(text.get(..end).unwrap_or_default()),
        Cow::Owned(text) => Cow::Owned(cut(text)),
    }
}

/// Who said what in a request.
#[derive(Default)]
struct Said<'a> {
    system: Vec<Cow<'a, str>>,
    last_user: Option<Cow<'a, str>>,
    users: u16,
}

impl<'a> Said<'a> {
    fn read(&mut self, endpoint: Endpoint, fields: &Fields<'a>) {
        let outside = if endpoint == Endpoint::Messages { "system" } else { "instructions" };
        if let Some(instructions) = fields.get(outside).and_then(content)
            && !instructions.is_empty()
        {
            self.system.push(instructions);
        }
        match endpoint {
            Endpoint::Chat | Endpoint::Messages => {
                if let Some(messages) = fields.get("messages") {
                    self.messages(messages);
                }
            }
            Endpoint::Responses => {
                if let Some(input) = fields.get("input") {
                    match text(input) {
                        Some(prompt) => self.user(prompt),
                        None => self.messages(input),
                    }
                }
            }
            Endpoint::Completions => self.plain(fields.get("prompt")),
            Endpoint::Embeddings => self.plain(fields.get("input")),
            Endpoint::Other => {}
        }
    }

    /// A prompt that is a text or a list of texts.
    fn plain(&mut self, prompt: Option<&'a RawValue>) {
        if let Some(prompt) = prompt {
            self.user(content(prompt).unwrap_or_default());
        }
    }

    fn messages(&mut self, messages: &'a RawValue) {
        for message in elements(messages) {
            if let Some(text) = text(message) {
                self.user(text);
                continue;
            }
            let Some(fields) = Fields::of(message) else { continue };
            let role = fields.text("role").unwrap_or_default();
            let text = || {
                ["content", "parts", "text"].iter().find_map(|n| fields.get(n)).and_then(content)
            };
            match role.as_ref() {
                "user" | "human" => {
                    if let Some(text) = text() {
                        self.user(text);
                    }
                }
                "system" | "developer" => self.system.extend(text()),
                _ => {}
            }
        }
    }

    fn user(&mut self, text: Cow<'a, str>) {
        self.users = self.users.saturating_add(1);
        self.last_user = Some(text);
    }
}

/// The text of a message's content: a text, or the text among its parts, each on a line
/// of its own. Empty where there are parts but no text; none where nothing is a
/// person's (the results of tools).
pub(crate) fn content(value: &RawValue) -> Option<Cow<'_, str>> {
    match value.get().as_bytes().first()? {
        b'"' => text(value),
        b'{' => part(value),
        b'[' => {
            let parts = elements(value);
            let mut texts: Vec<Cow<'_, str>> = parts.iter().filter_map(|p| part(p)).collect();
            if texts.is_empty() && !parts.is_empty() {
                return None;
            }
            texts.retain(|text| !text.is_empty());
            match texts.len() {
                1 => texts.pop(),
                _ => Some(Cow::Owned(texts.join("\n"))),
            }
        }
        _ => None,
    }
}

fn part(value: &RawValue) -> Option<Cow<'_, str>> {
    if let Some(text) = text(value) {
        return Some(text);
    }
    let Some(fields) = Fields::of(value) else { return Some(Cow::Borrowed("")) };
    let kind = fields.text("type").unwrap_or_default();
    let is_of_tools = kind.starts_with("tool") || kind.starts_with("function");
    let is_reasoning = matches!(kind.as_ref(), "reasoning" | "thinking" | "redacted_thinking");
    if is_of_tools || is_reasoning {
        return None;
    }
    Some(["text", "content"].iter().find_map(|name| fields.text(name)).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chat_request() {
        let body = br#"{"model":"m","temperature":0.5,"n":2,"stream":true,"logprobs":true,
            "top_logprobs":5,"logit_bias":{"1":2,"3":4},"seed":-7,"max_tokens":100.0,
            "tools":[{},{}],"user":"u","messages":[
            {"role":"system","content":"Be brief."},
            {"role":"user","content":"Hi"},
            {"role":"assistant","content":"Hello"},
            {"role":"user","content":[{"type":"text","text":"What is"},
                {"type":"image_url","image_url":{"url":"x"}},{"type":"text","text":"this?"}]}]}"#;
        let asked = Asked::read(Endpoint::Chat, body).unwrap();
        let expected = Asked {
            turn: Some(2),
            request_model: Some("m".into()),
            system_instructions: Some("Be brief.".to_owned()),
            prompt: "What is\nthis?".into(),
            request_temperature: Some(0.5),
            request_max_tokens: Some(100),
            request_choice_count: Some(2),
            request_seed: Some(-7),
            request_stream: Some(true),
            request_top_logprobs: Some(5),
            request_logit_bias_count: Some(2),
            request_tool_count: Some(2),
            ..Asked::default()
        };
        assert_eq!(asked, expected);
    }

    #[test]
    fn strange_values_spoil_nothing_beside_them() {
        let body =
            br#"{"model":7,"messages":[3,null,{"role":["user"]},{"role":"user","content":"x"}],
            "temperature":"hot","n":-1,"max_tokens":1e300,"tools":"many"}"#;
        let asked = Asked::read(Endpoint::Chat, body).unwrap();
        let expected = Asked { prompt: "x".into(), turn: Some(1), ..Asked::default() };
        assert_eq!(asked, expected);
        assert!(Asked::read(Endpoint::Chat, b"not json").is_none());
        assert!(Asked::read(Endpoint::Chat, b"[]").is_none());
    }

    #[test]
    fn a_long_prompt_is_cut_between_characters() {
        let body = format!("{{\"input\":\"{}\"}}", "é".repeat(TEXT_BYTES_MAX));
        let asked = Asked::read(Endpoint::Responses, body.as_bytes()).unwrap();
        assert_eq!(asked.prompt.len(), TEXT_BYTES_MAX);
    }
}

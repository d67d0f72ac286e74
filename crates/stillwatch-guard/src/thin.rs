//! Answers without what is withheld: token probabilities and visible reasoning. For the
//! vendors that send them unasked, and for reasoning that a model can't be told to hide.

use std::borrow::Cow;

use serde_json::value::RawValue;

use crate::api::Endpoint;
use crate::edit::Changes;
use crate::json::{Fields, elements};
use crate::sse::{self, Events};

/// The longest answer in one piece that is thinned, in bytes.
pub const DOCUMENT_BYTES_MAX: usize = 64 << 20;

/// What happens to a field.
enum Action {
    Drop,
    Set(&'static str),
    /// To be looked into: an object, or an array of objects.
    Within(Rules),
}

/// For objects of a type, or of any, what happens to a field.
type Rules = &'static [(Option<&'static str>, &'static str, Action)];

use Action::{Drop, Set, Within};

const CHAT_MESSAGE: Rules = &[
    (None, "reasoning", Drop),
    (None, "reasoning_content", Drop),
    (None, "reasoning_details", Drop),
];
const CHAT: Rules = &[
    (None, "prompt_logprobs", Drop),
    (
        None,
        "choices",
        Within(&[
            (None, "logprobs", Set("null")),
            (None, "prompt_logprobs", Drop),
            (None, "message", Within(CHAT_MESSAGE)),
            (None, "delta", Within(CHAT_MESSAGE)),
        ]),
    ),
];
const RESPONSE_PART: Rules = &[
    (None, "logprobs", Set("[]")),
    (Some("summary_text"), "text", Set("\"\"")),
    (Some("reasoning_text"), "text", Set("\"\"")),
];
const RESPONSE_ITEM: Rules = &[
    (Some("reasoning"), "summary", Set("[]")),
    (Some("reasoning"), "content", Set("[]")),
    (Some("message"), "content", Within(RESPONSE_PART)),
];
const RESPONSES: Rules = &[
    (None, "output", Within(RESPONSE_ITEM)),
    (None, "response", Within(&[(None, "output", Within(RESPONSE_ITEM))])),
    (None, "item", Within(RESPONSE_ITEM)),
    (None, "part", Within(RESPONSE_PART)),
    (None, "logprobs", Set("[]")),
    (Some("response.reasoning_summary_text.delta"), "delta", Set("\"\"")),
    (Some("response.reasoning_summary_text.done"), "text", Set("\"\"")),
    (Some("response.reasoning_text.delta"), "delta", Set("\"\"")),
    (Some("response.reasoning_text.done"), "text", Set("\"\"")),
];
// The signature beside it stays, so that a conversation with tools can go on.
const THINKING: Rules = &[(None, "thinking", Set("\"\""))];
const MESSAGES: Rules = &[
    (None, "content", Within(THINKING)),
    (None, "content_block", Within(THINKING)),
    (None, "delta", Within(THINKING)),
];

fn rules(endpoint: Endpoint) -> Rules {
    match endpoint {
        Endpoint::Chat | Endpoint::Completions => CHAT,
        Endpoint::Responses => RESPONSES,
        Endpoint::Messages => MESSAGES,
        Endpoint::Embeddings | Endpoint::Other => &[],
    }
}

/// An object without what the rules withhold; borrowed where that is nothing.
fn thinned<'a>(object: &'a [u8], rules: Rules) -> Option<Cow<'a, [u8]>> {
    let fields = Fields::parse(object)?;
    let kind = fields.text("type");
    let mut changes = Changes::default();
    for (of, name, action) in rules {
        if of.is_some_and(|of| kind.as_deref() != Some(of)) {
            continue;
        }
        for (_, value) in fields.0.iter().filter(|(there, _)| there == name) {
            match action {
                Drop => changes.drop(name),
                Set(json) => changes.set(name, (*json).to_owned()),
                Within(rules) => {
                    if let Some(json) = thinned_within(value, rules) {
                        changes.set(name, json);
                    }
                }
            }
        }
    }
    Some(changes.applied(object, &fields))
}

/// A field's value without what the rules withhold; none where that is nothing.
fn thinned_within(value: &RawValue, rules: Rules) -> Option<String> {
    let one = |value: &RawValue| match thinned(value.get().as_bytes(), rules)? {
        Cow::Borrowed(_) => None,
        Cow::Owned(json) => String::from_utf8(json).ok(),
    };
    if !value.get().starts_with('[') {
        return one(value);
    }
    let mut is_changed = false;
    let parts: Vec<Cow<'_, str>> = elements(value)
        .into_iter()
        .map(|part| match one(part) {
            Some(json) => {
                is_changed = true;
                Cow::Owned(json)
            }
            None => Cow::Borrowed(part.get()),
        })
        .collect();
    is_changed.then(|| format!("[{}]", parts.join(",")))
}

/// An answer can't be thinned, and must not pass as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotThinned;

/// Thins an answer while it passes.
#[derive(Debug)]
pub struct Thinner {
    endpoint: Endpoint,
    form: Form,
}

#[derive(Debug)]
enum Form {
    Document(Vec<u8>),
    Stream(Events),
}

impl Thinner {
    /// For an answer of an endpoint: a stream of events, or one document.
    #[must_use]
    pub fn new(endpoint: Endpoint, is_stream: bool) -> Self {
        let form =
            if is_stream { Form::Stream(Events::default()) } else { Form::Document(Vec::new()) };
        Thinner { endpoint, form }
    }

    /// Takes a piece of the answer and gives what may pass already.
    ///
    /// # Errors
    /// The answer, or one event of it, is too long.
    pub fn feed(&mut self, piece: &[u8]) -> Result<Vec<u8>, NotThinned> {
        let rules = rules(self.endpoint);
        match &mut self.form {
            Form::Document(held) => {
                if held.len() + piece.len() > DOCUMENT_BYTES_MAX {
                    return Err(NotThinned);
                }
                held.extend_from_slice(piece);
                Ok(Vec::new())
            }
            Form::Stream(events) => {
                let mut out = Vec::with_capacity(piece.len());
                events
                    .feed(piece, |event| thin_event(event, rules, &mut out))
                    .map_err(|_| NotThinned)?;
                Ok(out)
            }
        }
    }

    /// What may pass at the end.
    ///
    /// # Errors
    /// The answer is no JSON.
    pub fn finish(self) -> Result<Vec<u8>, NotThinned> {
        let rules = rules(self.endpoint);
        match self.form {
            Form::Document(held) if held.is_empty() => Ok(held),
            Form::Document(held) => thinned(&held, rules).map(Cow::into_owned).ok_or(NotThinned),
            Form::Stream(events) => {
                let rest = events.rest();
                let mut out = Vec::with_capacity(rest.len());
                thin_event(&rest, rules, &mut out);
                Ok(out)
            }
        }
    }
}

fn thin_event(event: &[u8], rules: Rules, out: &mut Vec<u8>) {
    let data = sse::data(event);
    let Some(Cow::Owned(thinned)) = thinned(&data, rules) else {
        out.extend_from_slice(event);
        return;
    };
    out.extend_from_slice(&sse::with_data(event, &thinned));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(endpoint: Endpoint, is_stream: bool, answer: &str, expected: &str) {
        let mut thinner = Thinner::new(endpoint, is_stream);
        let mut out = thinner.feed(answer.as_bytes()).unwrap();
        out.extend(thinner.finish().unwrap());
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn documents() {
        check(
            Endpoint::Chat,
            false,
            r#"{"id": "x", "choices":[{"logprobs":{"content":[]},"message":{"content":"a","reasoning_content":"b"}}]}"#,
            r#"{"id":"x","choices":[{"logprobs":null,"message":{"content":"a"}}]}"#,
        );
        check(
            Endpoint::Messages,
            false,
            r#"{"content":[{"type":"thinking","thinking":"b","signature":"s"},{"type":"tool_use","input":{"thinking":"stays"}}]}"#,
            r#"{"content":[{"type":"thinking","thinking":"","signature":"s"},{"type":"tool_use","input":{"thinking":"stays"}}]}"#,
        );
        check(
            Endpoint::Responses,
            false,
            r#"{"output":[{"type":"reasoning","summary":[{"text":"b"}]},{"type":"message","content":[{"text":"a","logprobs":[1]}]}]}"#,
            r#"{"output":[{"type":"reasoning","summary":[]},{"type":"message","content":[{"text":"a","logprobs":[]}]}]}"#,
        );
        let untouched = r#"{ "choices": [ {"message": {"content": "a"}} ] }"#;
        check(Endpoint::Chat, false, untouched, untouched);
    }

    #[test]
    fn streams() {
        check(
            Endpoint::Messages,
            true,
            "event: content_block_delta\r\ndata: {\"delta\":{\"type\":\"thinking_delta\",\"thinking\":\"b\"}}\r\n\r\n\
             : ping\n\ndata: {\"delta\":{\"text\":\"a\"}}\n\n",
            "event: content_block_delta\ndata: {\"delta\":{\"type\":\"thinking_delta\",\"thinking\":\"\"}}\n\n\
             : ping\n\ndata: {\"delta\":{\"text\":\"a\"}}\n\n",
        );
        // Data over several lines is one text.
        check(
            Endpoint::Chat,
            true,
            "data: {\"choices\":[{\"delta\":\ndata: {\"reasoning\":\"b\"}}]}\n\ndata: [DONE]\n\n",
            "data: {\"choices\":[{\"delta\":{}}]}\n\ndata: [DONE]\n\n",
        );
        check(
            Endpoint::Responses,
            true,
            "data: {\"type\":\"response.reasoning_summary_text.delta\",\"delta\":\"b\"}",
            "data: {\"type\":\"response.reasoning_summary_text.delta\",\"delta\":\"\"}\n\n",
        );
    }

    #[test]
    fn what_is_no_json_does_not_pass() {
        let mut thinner = Thinner::new(Endpoint::Chat, false);
        assert_eq!(thinner.feed(b"{\"choices\":"), Ok(vec![]));
        assert_eq!(thinner.finish(), Err(NotThinned));
    }
}

//! What an answer says of itself: the model, the tokens it used, why it ended. Read from
//! the vendor's own figures, whether it comes in one piece or as a stream.

use std::borrow::Cow;

use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::api::Endpoint;
use crate::asked::content;
use crate::json::{Fields, elements, text, whole};
use crate::sse::{self, Events};

/// The longest answer in one piece that is read, in bytes; a longer one passes without
/// being measured.
const JSON_BYTES_MAX: usize = 16 << 20;
/// The most tokens that one exchange can be thought to count; more is no figure.
const TOKENS_MAX: u64 = 100_000_000;

/// The columns that an answer tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Measured {
    pub response_model: Option<String>,
    pub usage_input_tokens: Option<u32>,
    pub usage_output_tokens: Option<u32>,
    pub usage_reasoning_tokens: Option<u32>,
    pub response_finish_reason: Option<String>,
    /// SHA-256 of the first choice's text in UTF-8; none where it has no text.
    pub response_digest: Option<[u8; 32]>,
}

/// Reads an answer while it passes.
#[derive(Debug)]
pub struct Answer {
    endpoint: Endpoint,
    form: Form,
    measured: Measured,
    digest: Option<Sha256>,
}

#[derive(Debug)]
enum Form {
    /// One JSON document; its pieces are shared with what passes.
    Document(Vec<Bytes>, usize),
    Stream(Events),
    /// Something else, or too long.
    Unread,
}

impl Answer {
    /// An answer from an endpoint with this `content-type`.
    #[must_use]
    pub fn new(endpoint: Endpoint, content_type: &str) -> Self {
        let kind = content_type.split(';').next().unwrap_or_default().trim();
        let form = if kind.eq_ignore_ascii_case("text/event-stream") {
            Form::Stream(Events::default())
        } else if kind.eq_ignore_ascii_case("application/json") {
            Form::Document(Vec::new(), 0)
        } else {
            Form::Unread
        };
        Answer { endpoint, form, measured: Measured::default(), digest: None }
    }

    /// An answer that can't be read, such as a compressed one.
    #[must_use]
    pub fn unread(endpoint: Endpoint) -> Self {
        let measured = Measured::default();
        Answer { endpoint, form: Form::Unread, measured, digest: None }
    }

    /// The next piece.
    pub fn feed(&mut self, piece: &Bytes) {
        let (endpoint, measured, digest) = (self.endpoint, &mut self.measured, &mut self.digest);
        let is_too_long = match &mut self.form {
            Form::Unread => false,
            Form::Document(pieces, length) => {
                *length += piece.len();
                pieces.push(piece.clone());
                *length > JSON_BYTES_MAX
            }
            Form::Stream(events) => events
                .feed(piece, |event| read_event(endpoint, &sse::data(event), measured, digest))
                .is_err(),
        };
        if is_too_long {
            self.form = Form::Unread;
        }
    }

    /// How many bytes of an event that has not ended were fed; none for what is no stream
    /// that can be read.
    #[must_use]
    pub fn unfinished_bytes(&self) -> Option<usize> {
        match &self.form {
            Form::Stream(events) => Some(events.unfinished_bytes()),
            Form::Document(..) | Form::Unread => None,
        }
    }

    /// What was read of it.
    #[must_use]
    pub fn finish(mut self) -> Measured {
        match self.form {
            Form::Document(pieces, _) => {
                let whole = match pieces.as_slice() {
                    [piece] => Cow::Borrowed(piece.as_ref()),
                    pieces => Cow::Owned(pieces.concat()),
                };
                if let Some(fields) = Fields::parse(&whole) {
                    read_document(self.endpoint, &fields, &mut self.measured);
                }
            }
            // The last event may lack its blank line.
            Form::Stream(events) => {
                let rest = events.rest();
                read_event(self.endpoint, &sse::data(&rest), &mut self.measured, &mut self.digest);
            }
            Form::Unread => {}
        }
        if let Some(digest) = self.digest {
            self.measured.response_digest = Some(digest.finalize().into());
        }
        self.measured
    }
}

fn read_document(endpoint: Endpoint, fields: &Fields<'_>, measured: &mut Measured) {
    read_head(endpoint, fields, measured);
    let answer = match endpoint {
        Endpoint::Messages => {
            read_reason(fields.text("stop_reason"), measured);
            fields.get("content").and_then(content)
        }
        Endpoint::Responses => {
            let reason = fields.at(&["incomplete_details", "reason"]).and_then(text);
            read_reason(reason.or_else(|| fields.text("status")), measured);
            let items = fields.get("output").map(elements).unwrap_or_default();
            let texts = items.into_iter().filter_map(|item| {
                let item = Fields::of(item)?;
                let is_message = item.text("type").is_none_or(|kind| kind == "message");
                item.get("content").filter(|_| is_message).and_then(content)
            });
            Some(Cow::Owned(texts.collect::<Vec<_>>().join("\n")))
        }
        _ => {
            let choice = fields.get("choices").and_then(|c| elements(c).into_iter().next());
            choice.and_then(Fields::of).and_then(|choice| {
                read_reason(choice.text("finish_reason"), measured);
                let answer = choice.at(&["message", "content"]).or_else(|| choice.get("text"));
                answer.and_then(content)
            })
        }
    };
    if let Some(answer) = answer.filter(|answer| !answer.is_empty()) {
        measured.response_digest = Some(Sha256::digest(answer.as_bytes()).into());
    }
}

/// The model and the usage, which documents and events have in the same places.
fn read_head(endpoint: Endpoint, fields: &Fields<'_>, measured: &mut Measured) {
    if let Some(model) = fields.text("model").filter(|model| !model.is_empty()) {
        measured.response_model = Some(model.into_owned());
    }
    let Some(usage) = fields.get("usage").and_then(Fields::of) else { return };
    let tokens = |path: &[&str]| {
        let tokens = whole(usage.at(path)?)?;
        u32::try_from(tokens).ok().filter(|_| tokens <= TOKENS_MAX)
    };
    let input = match endpoint {
        // What was cached is counted apart.
        Endpoint::Messages => {
            let parts = ["input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens"];
            parts.iter().filter_map(|part| tokens(&[part])).reduce(u32::saturating_add)
        }
        _ => tokens(&["prompt_tokens"]).or_else(|| tokens(&["input_tokens"])),
    };
    let output = tokens(&["completion_tokens"]).or_else(|| tokens(&["output_tokens"]));
    let reasoning = tokens(&["completion_tokens_details", "reasoning_tokens"])
        .or_else(|| tokens(&["output_tokens_details", "reasoning_tokens"]))
        .or_else(|| tokens(&["output_tokens_details", "thinking_tokens"]));
    // The last word on usage comes last; an event that leaves a figure out takes none
    // back.
    measured.usage_input_tokens = input.or(measured.usage_input_tokens);
    measured.usage_output_tokens = output.or(measured.usage_output_tokens);
    measured.usage_reasoning_tokens = reasoning.or(measured.usage_reasoning_tokens);
}

fn read_event(
    endpoint: Endpoint,
    data: &[u8],
    measured: &mut Measured,
    digest: &mut Option<Sha256>,
) {
    let Some(fields) = Fields::parse(data) else { return };
    let mut add = |delta: Option<Cow<'_, str>>| {
        if let Some(delta) = delta.filter(|delta| !delta.is_empty()) {
            digest.get_or_insert_with(Sha256::new).update(delta.as_bytes());
        }
    };
    match endpoint {
        Endpoint::Messages => match fields.text("type").as_deref() {
            Some("message_start") => {
                if let Some(message) = fields.get("message").and_then(Fields::of) {
                    read_head(endpoint, &message, measured);
                }
            }
            Some("content_block_delta") => add(fields.at(&["delta", "text"]).and_then(text)),
            Some("message_delta") => {
                read_head(endpoint, &fields, measured);
                read_reason(fields.at(&["delta", "stop_reason"]).and_then(text), measured);
            }
            _ => {}
        },
        Endpoint::Responses => {
            // The first and the last events hold the response as it stands.
            if let Some(response) = fields.get("response").and_then(Fields::of) {
                read_document(endpoint, &response, measured);
            }
        }
        _ => {
            read_head(endpoint, &fields, measured);
            for choice in fields.get("choices").map(elements).unwrap_or_default() {
                let Some(choice) = Fields::of(choice) else { continue };
                if choice.get("index").and_then(whole).unwrap_or(0) != 0 {
                    continue;
                }
                read_reason(choice.text("finish_reason"), measured);
                let delta = choice.at(&["delta", "content"]).or_else(|| choice.get("text"));
                add(delta.and_then(text));
            }
        }
    }
}

/// The reason under the name that the contract has for it; others are kept as they are.
fn read_reason(reason: Option<Cow<'_, str>>, measured: &mut Measured) {
    let Some(reason) = reason.filter(|reason| !reason.is_empty()) else { return };
    let name = match reason.as_ref() {
        // A response that is under way.
        "in_progress" | "queued" => return,
        "end_turn" | "stop_sequence" | "completed" => "stop",
        "max_tokens" | "max_output_tokens" | "model_context_window_exceeded" => "length",
        "tool_use" | "tool_call" | "function_call" => "tool_calls",
        "refusal" => "content_filter",
        "cancelled" | "canceled" => "aborted",
        other => other,
    };
    measured.response_finish_reason = Some(name.to_owned());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measure(endpoint: Endpoint, content_type: &str, pieces: &[&str]) -> Measured {
        let mut answer = Answer::new(endpoint, content_type);
        for piece in pieces {
            answer.feed(&Bytes::copy_from_slice(piece.as_bytes()));
        }
        answer.finish()
    }

    fn expected(model: &str, tokens: [u32; 2], reason: &str, answer: &str) -> Measured {
        Measured {
            response_model: Some(model.to_owned()),
            usage_input_tokens: Some(tokens[0]),
            usage_output_tokens: Some(tokens[1]),
            usage_reasoning_tokens: None,
            response_finish_reason: Some(reason.to_owned()),
            response_digest: Some(Sha256::digest(answer.as_bytes()).into()),
        }
    }

    const STREAM: &str = "text/event-stream; charset=utf-8";

    #[test]
    fn a_stream_measures_what_the_document_does() {
        let stream = [
            "data: {\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hel\"}}]}\n\nda",
            "ta: {\"model\":\"m\",\"choices\":[{\"index\":1,\"delta\":{\"content\":\"no\"}},\
             {\"index\":0,\"delta\":{\"content\":\"lo\"},\"finish_reason\":\"length\"}]}\n\n",
            "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":5}}\n\n\
             data: [DONE]\n\n",
        ];
        let document = r#"{"model":"m","choices":[{"message":{"content":"Hello"},
            "finish_reason":"length"}],"usage":{"prompt_tokens":3,"completion_tokens":5}}"#;
        let hello = expected("m", [3, 5], "length", "Hello");
        assert_eq!(measure(Endpoint::Chat, STREAM, &stream), hello);
        assert_eq!(measure(Endpoint::Chat, "application/json", &[document]), hello);
    }

    #[test]
    fn messages_and_responses_as_streams() {
        let stream = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"model\":\"m\",\
             \"usage\":{\"input_tokens\":3,\"cache_read_input_tokens\":4,\"output_tokens\":1}}}\n\n\
             data: {\"type\":\"content_block_delta\",\"delta\":{\"type\":\"text_delta\",\"text\":\"Hi\"}}\n\n\
             data: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\
             \"usage\":{\"output_tokens\":9}}\n\n";
        assert_eq!(
            measure(Endpoint::Messages, STREAM, &[stream]),
            expected("m", [7, 9], "stop", "Hi")
        );

        let stream = "data: {\"type\":\"response.created\",\"response\":{\"model\":\"m\",\"status\":\"in_progress\"}}\n\n\
             data: {\"type\":\"response.output_text.delta\",\"delta\":\"Hi\"}\n\n\
             data: {\"type\":\"response.completed\",\"response\":{\"model\":\"m\",\"status\":\"completed\",\
             \"output\":[{\"type\":\"message\",\"content\":[{\"type\":\"output_text\",\"text\":\"Hi\"}]}],\
             \"usage\":{\"input_tokens\":1,\"output_tokens\":2}}}";
        assert_eq!(
            measure(Endpoint::Responses, STREAM, &[stream]),
            expected("m", [1, 2], "stop", "Hi")
        );
    }

    #[test]
    fn wrong_figures_are_none() {
        let document = r#"{"model":["m"],"usage":{"prompt_tokens":-1,"completion_tokens":1e12}}"#;
        assert_eq!(measure(Endpoint::Chat, "application/json", &[document]), Measured::default());
        let broken = ["data: {\"usage\"\n\ndata: {\"usage\":7}\n\n", "\u{0}\u{1}"];
        assert_eq!(measure(Endpoint::Chat, STREAM, &broken), Measured::default());
        assert_eq!(measure(Endpoint::Chat, "text/html", &["<p>"]), Measured::default());
    }
}

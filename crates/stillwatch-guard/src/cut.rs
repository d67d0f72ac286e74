//! Answers that are held to a cap, and what ends a stream before its time.
//!
//! A cap is written into the request (`edit`), and most vendors keep to it. A cutter is
//! for those that don't: it counts what a stream gives and ends it, in the client's own
//! dialect, before the event that would go beyond. Events before that pass as they are.
//!
//! How many tokens an event holds only the vendor knows, and most say it at the end. What
//! is counted until then is an estimate that should rather be too low than too high, so
//! that an answer that keeps to its cap is never cut: see [`Count::tokens`]. Answers in one
//! piece say it beside the text, and are held until they are whole ([`document`]).

mod document;
mod response;

use std::collections::BTreeMap;

use serde_json::json;
use serde_json::value::RawValue;
use stillwatch_decide::Appeal;

use crate::api::{Dialect, Endpoint};
use crate::json::{Fields, elements, whole};
use crate::refusal::Refusal;
use crate::sse::{self, Events, TooLong};
use crate::thin::DOCUMENT_BYTES_MAX;

use self::response::Response;

/// Choices or blocks of one stream that are kept account of; further ones are not closed.
const OPEN_MAX: usize = 1024;

/// What a stream has given so far.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    /// Events with a text in them.
    events: u64,
    /// Bytes of these texts, in UTF-8.
    bytes: u64,
    /// The greatest figure that the vendor has given.
    told: u64,
}

impl Count {
    /// Output tokens: the vendor's figure, or, if that is more, an estimate. Most streams
    /// have a token or more in an event; where events are letters, four bytes make a token.
    /// And no text has much more than eight bytes to a token.
    fn tokens(self) -> u64 {
        self.told.max(self.events.min(self.bytes / 4)).max(self.bytes / 8)
    }
}

/// Counts a stream and holds it to a cap.
#[derive(Debug)]
pub struct Cutter {
    endpoint: Endpoint,
    /// Output tokens, all choices together; none where the stream is only counted.
    tokens_max: Option<u64>,
    events: Events,
    count: Count,
    open: Open,
    is_cut: bool,
    /// What has come of an answer in one piece; none for a stream.
    held: Option<Vec<u8>>,
}

/// What has to be closed when the stream is cut.
#[derive(Debug)]
enum Open {
    /// The last chunk's own fields, and by choice whether it has ended.
    Chat {
        head: Vec<(String, String)>,
        ended: BTreeMap<u64, bool>,
    },
    /// Indexes of blocks that have begun and not ended.
    Messages(Vec<u64>),
    Responses(Box<Response>),
    Other,
}

impl Cutter {
    /// For a stream of an endpoint; without a cap it is only counted.
    #[must_use]
    pub fn new(endpoint: Endpoint, tokens_max: Option<u64>) -> Self {
        let open = match endpoint {
            Endpoint::Chat | Endpoint::Completions => {
                Open::Chat { head: Vec::new(), ended: BTreeMap::new() }
            }
            Endpoint::Messages => Open::Messages(Vec::new()),
            Endpoint::Responses => Open::Responses(Box::default()),
            Endpoint::Embeddings | Endpoint::Other => Open::Other,
        };
        let (events, count) = (Events::default(), Count::default());
        Cutter { endpoint, tokens_max, events, count, open, is_cut: false, held: None }
    }

    /// For an answer in one piece.
    #[must_use]
    pub fn of_document(endpoint: Endpoint, tokens_max: u64) -> Self {
        Cutter { held: Some(Vec::new()), ..Cutter::new(endpoint, Some(tokens_max)) }
    }

    /// Takes a piece of the stream and gives each event that may pass, with the output
    /// tokens that it adds; nothing more once the stream is cut.
    ///
    /// # Errors
    /// An event, or an answer in one piece, is too long to be read.
    pub fn feed(&mut self, piece: &[u8], mut pass: impl FnMut(&[u8], u64)) -> Result<(), TooLong> {
        let Cutter { endpoint, tokens_max, events, count, open, is_cut, held } = self;
        if let Some(held) = held {
            if held.len() + piece.len() > DOCUMENT_BYTES_MAX {
                return Err(TooLong);
            }
            held.extend_from_slice(piece);
            return Ok(());
        }
        events.feed(piece, |event| {
            if *is_cut {
                return;
            }
            let before = count.tokens();
            let data = sse::data(event);
            let fields = Fields::parse(&data).unwrap_or_default();
            let given = given(*endpoint, &fields);
            if let Some(told) = told(&fields) {
                count.told = count.told.max(told);
            }
            if given > 0 {
                count.events += 1;
                count.bytes += given as u64;
                if tokens_max.is_some_and(|most| count.tokens() > most) {
                    *is_cut = true;
                    pass(&open.closed(*endpoint, before), 0);
                    return;
                }
            }
            open.follow(&fields);
            pass(event, count.tokens() - before);
        })
    }

    /// Whether the stream is cut: nothing more of it is needed.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.is_cut
    }

    /// What may pass at the answer's own end: what came after the last whole event, or all of
    /// an answer in one piece, shortened where it has to be.
    #[must_use]
    pub fn finish(self) -> Vec<u8> {
        match self.held {
            Some(held) => {
                let tokens_max = self.tokens_max.unwrap_or(u64::MAX);
                document::shortened(self.endpoint, &held, tokens_max).unwrap_or(held)
            }
            None if self.is_cut => Vec::new(),
            None => self.events.rest(),
        }
    }
}

/// The bytes of text that an event gives: answers, reasoning and the arguments of calls.
fn given(endpoint: Endpoint, fields: &Fields<'_>) -> usize {
    let length = |fields: &Fields<'_>, names: &[&str]| -> usize {
        names.iter().filter_map(|name| fields.text(name)).map(|text| text.len()).sum()
    };
    match endpoint {
        Endpoint::Chat | Endpoint::Completions => {
            let choices = fields.get("choices").map(elements).unwrap_or_default();
            let of_choice = |choice: &RawValue| {
                let Some(choice) = Fields::of(choice) else { return 0 };
                let delta = choice.get("delta").and_then(Fields::of).unwrap_or_default();
                let calls = delta.get("tool_calls").map(elements).unwrap_or_default();
                let of_call = |call: &RawValue| {
                    let call = Fields::of(call)?.get("function").and_then(Fields::of)?;
                    Some(length(&call, &["name", "arguments"]))
                };
                let names = ["content", "reasoning_content", "reasoning", "refusal"];
                length(&choice, &["text"])
                    + length(&delta, &names)
                    + calls.into_iter().filter_map(of_call).sum::<usize>()
            };
            choices.into_iter().map(of_choice).sum()
        }
        Endpoint::Messages => {
            let of = |name| fields.get(name).and_then(Fields::of);
            match fields.text("type").as_deref() {
                Some("content_block_delta") => {
                    of("delta").map_or(0, |d| length(&d, &["text", "thinking", "partial_json"]))
                }
                Some("content_block_start") => {
                    of("content_block").map_or(0, |block| length(&block, &["text", "thinking"]))
                }
                _ => 0,
            }
        }
        Endpoint::Responses => {
            let is_delta = fields.text("type").is_some_and(|kind| kind.ends_with(".delta"));
            if is_delta { length(fields, &["delta"]) } else { 0 }
        }
        Endpoint::Embeddings | Endpoint::Other => 0,
    }
}

/// The output tokens so far by the vendor's own figure, where an event has one.
fn told(fields: &Fields<'_>) -> Option<u64> {
    let usage = fields.get("usage").or_else(|| fields.at(&["message", "usage"]));
    let usage = usage.or_else(|| fields.at(&["response", "usage"])).and_then(Fields::of)?;
    usage.get("completion_tokens").or_else(|| usage.get("output_tokens")).and_then(whole)
}

impl Open {
    /// Takes note of an event that passes.
    fn follow(&mut self, fields: &Fields<'_>) {
        match self {
            Open::Chat { head, ended } => follow_chat(head, ended, fields),
            Open::Messages(open) => {
                let index = fields.get("index").and_then(whole);
                match (fields.text("type").as_deref(), index) {
                    (Some("content_block_start"), Some(index)) if open.len() < OPEN_MAX => {
                        open.push(index);
                    }
                    (Some("content_block_stop"), Some(index)) => open.retain(|at| *at != index),
                    _ => {}
                }
            }
            Open::Responses(response) => response.follow(fields),
            Open::Other => {}
        }
    }

    /// The events that end the stream because it is long enough.
    fn closed(&mut self, endpoint: Endpoint, tokens: u64) -> Vec<u8> {
        let mut out = Vec::with_capacity(512);
        match self {
            Open::Chat { head, ended } => {
                if ended.is_empty() {
                    ended.insert(0, false);
                }
                let (empty, name) = match endpoint {
                    Endpoint::Completions => ("\"\"", "text"),
                    _ => ("{}", "delta"),
                };
                let choices: Vec<String> = ended
                    .iter()
                    .filter(|(_, is_ended)| !**is_ended)
                    .map(|(index, _)| {
                        format!(
                            "{{\"index\":{index},\"{name}\":{empty},\"logprobs\":null,\
                             \"finish_reason\":\"length\"}}"
                        )
                    })
                    .collect();
                let mut chunk = String::from("{");
                for (name, value) in head.iter() {
                    chunk.push_str(&format!("\"{name}\":{value},"));
                }
                chunk.push_str(&format!("\"choices\":[{}]}}", choices.join(",")));
                put(&mut out, None, &chunk);
                put(&mut out, None, "[DONE]");
            }
            Open::Messages(open) => {
                for index in open.drain(..) {
                    let stop = json!({ "type": "content_block_stop", "index": index });
                    put(&mut out, Some("content_block_stop"), &stop.to_string());
                }
                let end = json!({
                    "type": "message_delta",
                    "delta": { "stop_reason": "max_tokens", "stop_sequence": null },
                    "usage": { "output_tokens": tokens },
                });
                put(&mut out, Some("message_delta"), &end.to_string());
                put(&mut out, Some("message_stop"), r#"{"type":"message_stop"}"#);
            }
            Open::Responses(response) => response.close(&mut out),
            Open::Other => {}
        }
        out
    }
}

fn put(out: &mut Vec<u8>, name: Option<&str>, data: &str) {
    if let Some(name) = name {
        out.extend_from_slice(format!("event: {name}\n").as_bytes());
    }
    out.extend_from_slice(format!("data: {data}\n\n").as_bytes());
}

fn follow_chat(
    head: &mut Vec<(String, String)>,
    ended: &mut BTreeMap<u64, bool>,
    fields: &Fields<'_>,
) {
    let Some(choices) = fields.get("choices").map(elements) else { return };
    if head.is_empty() {
        let names = ["id", "object", "created", "model", "system_fingerprint"];
        let own = |name: &&str| Some(((*name).to_owned(), fields.get(name)?.get().to_owned()));
        head.extend(names.iter().filter_map(own));
    }
    for choice in choices.into_iter().filter_map(Fields::of) {
        let index = choice.get("index").and_then(whole).unwrap_or(0);
        if ended.len() < OPEN_MAX || ended.contains_key(&index) {
            *ended.entry(index).or_default() |= choice.get("finish_reason").is_some();
        }
    }
}

/// The events that end a stream because of what a verdict has become, in the dialect of
/// the endpoint's clients.
#[must_use]
pub fn refused(endpoint: Endpoint, refusal: Refusal, appeal: &Appeal) -> Vec<u8> {
    let mut out = Vec::with_capacity(512);
    let body =
        |dialect| String::from_utf8_lossy(refusal.answer(dialect, appeal).body()).into_owned();
    match endpoint {
        Endpoint::Messages => put(&mut out, Some("error"), &body(Dialect::Anthropic)),
        Endpoint::Responses => {
            let error = json!({
                "type": "error",
                "code": refusal.code(),
                "message": refusal.message(appeal),
                "param": null,
            });
            put(&mut out, Some("error"), &error.to_string());
        }
        _ => {
            put(&mut out, None, &body(Dialect::OpenAi));
            put(&mut out, None, "[DONE]");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What comes of a stream in these pieces, and whether it was cut.
    fn run(endpoint: Endpoint, most: u64, pieces: &[&[u8]]) -> (String, bool) {
        let mut cutter = Cutter::new(endpoint, Some(most));
        let mut out = Vec::new();
        for piece in pieces {
            cutter.feed(piece, |event, _| out.extend_from_slice(event)).unwrap();
        }
        let is_cut = cutter.is_cut();
        out.extend(cutter.finish());
        (String::from_utf8(out).unwrap(), is_cut)
    }

    fn chat(words: &[&str]) -> String {
        let chunk = |word: &&str| {
            format!(
                "data: {{\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\
                 \"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{word}\"}},\"finish_reason\":null}}]}}\n\n"
            )
        };
        let end = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n\
                   data: {\"choices\":[],\"usage\":{\"completion_tokens\":99}}\n\ndata: [DONE]\n\n";
        words.iter().map(chunk).collect::<String>() + end
    }

    #[test]
    fn a_stream_within_its_cap_passes_as_it_is() {
        let stream = chat(&["Hello", " there", ", you"]);
        // A figure that comes too late cuts nothing any more.
        assert_eq!(run(Endpoint::Chat, 3, &[stream.as_bytes()]), (stream, false));
        // Letters are no tokens: twelve of them are at most three.
        let letters = chat(&["a"; 12]);
        assert_eq!(run(Endpoint::Chat, 3, &[letters.as_bytes()]), (letters, false));
    }

    #[test]
    fn chat_is_cut_with_length() {
        let stream = chat(&["Hello", " there", ", you", " over"]);
        let three = stream.split_inclusive("\n\n").take(3).collect::<String>();
        let end = "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\
             \"choices\":[{\"index\":0,\"delta\":{},\"logprobs\":null,\"finish_reason\":\"length\"}]}\n\n\
             data: [DONE]\n\n";
        assert_eq!(run(Endpoint::Chat, 3, &[stream.as_bytes()]), (three + end, true));
        // One long event holds at least a token for each eight bytes.
        let long = chat(&[&"x".repeat(40)]);
        assert!(run(Endpoint::Chat, 4, &[long.as_bytes()]).1);
        assert!(!run(Endpoint::Chat, 5, &[long.as_bytes()]).1);
    }

    #[test]
    fn messages_are_cut_with_their_blocks_closed() {
        let delta = |kind: &str| {
            format!(
                "data: {{\"type\":\"content_block_delta\",\"index\":1,\"delta\":{{\"{kind}\":\"abcdefgh\"}}}}\n\n"
            )
        };
        let begin = "data: {\"type\":\"message_start\",\"message\":{\"usage\":{\"output_tokens\":1}}}\n\n\
             data: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"thinking\",\"thinking\":\"\"}}\n\n\
             data: {\"type\":\"content_block_stop\",\"index\":0}\n\n\
             data: {\"type\":\"content_block_start\",\"index\":1,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n";
        let all = format!("{begin}{}{}{}", delta("thinking"), delta("text"), delta("partial_json"));
        let (out, is_cut) = run(Endpoint::Messages, 2, &[all.as_bytes()]);
        let expected = format!(
            "{begin}{}{}event: content_block_stop\ndata: {{\"type\":\"content_block_stop\",\"index\":1}}\n\n\
             event: message_delta\ndata: {{\"type\":\"message_delta\",\"delta\":{{\"stop_reason\":\"max_tokens\",\"stop_sequence\":null}},\
             \"usage\":{{\"output_tokens\":2}}}}\n\n\
             event: message_stop\ndata: {{\"type\":\"message_stop\"}}\n\n",
            delta("thinking"),
            delta("text")
        );
        assert_eq!((out, is_cut), (expected, true));
    }

    #[test]
    fn a_response_is_cut_with_what_it_has_said() {
        let stream = "event: response.created\ndata: {\"type\":\"response.created\",\"sequence_number\":0,\"response\":{\"id\":\"r\",\"model\":\"m\",\"status\":\"in_progress\",\"output\":[]}}\n\n\
            data: {\"type\":\"response.output_item.added\",\"sequence_number\":1,\"output_index\":0,\"item\":{\"id\":\"i\",\"type\":\"message\",\"role\":\"assistant\",\"status\":\"in_progress\",\"content\":[]}}\n\n\
            data: {\"type\":\"response.content_part.added\",\"sequence_number\":2,\"item_id\":\"i\",\"output_index\":0,\"content_index\":0,\"part\":{\"type\":\"output_text\",\"text\":\"\"}}\n\n\
            data: {\"type\":\"response.output_text.delta\",\"sequence_number\":3,\"delta\":\"abcdefgh\"}\n\n\
            data: {\"type\":\"response.output_text.delta\",\"sequence_number\":4,\"delta\":\"more than that\"}\n\n";
        let (out, is_cut) = run(Endpoint::Responses, 1, &[stream.as_bytes()]);
        assert!(is_cut && !out.contains("more than that"), "{out}");
        let mut events = Events::default();
        let mut all: Vec<serde_json::Value> = Vec::new();
        let each = |event: &[u8]| all.push(serde_json::from_slice(&sse::data(event)).unwrap());
        events.feed(out.as_bytes(), each).unwrap();
        let kinds: Vec<&str> = all.iter().filter_map(|event| event["type"].as_str()).collect();
        assert_eq!(
            kinds[4..],
            [
                "response.output_text.done",
                "response.content_part.done",
                "response.output_item.done",
                "response.incomplete"
            ]
        );
        assert!(all.iter().enumerate().all(|(at, event)| event["sequence_number"] == at));
        let last = &all[7]["response"];
        assert_eq!((&last["id"], &last["status"]), (&json!("r"), &json!("incomplete")));
        assert_eq!(last["incomplete_details"], json!({ "reason": "max_output_tokens" }));
        assert_eq!(last["output"][0]["content"][0]["text"], "abcdefgh");
        assert_eq!(last["output"][0]["status"], "incomplete");
    }

    proptest! {
        /// Whatever way the bytes are split, the client's bytes are the same; what is not
        /// cut is what came.
        #[test]
        fn pieces_of_any_size_give_the_same(
            words in prop::collection::vec("[a-z ]{0,12}", 0..12),
            most in 0_u64..20,
            cuts in prop::collection::vec(0_usize..4000, 0..12),
        ) {
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let stream = chat(&words).into_bytes();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(stream.len())).collect();
            cuts.extend([0, stream.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|w| &stream[w[0]..w[1]]).collect();
            let whole = run(Endpoint::Chat, most, &[&stream]);
            prop_assert_eq!(&run(Endpoint::Chat, most, &pieces), &whole);
            prop_assert!(whole.1 || whole.0.as_bytes() == stream);
        }
    }
}

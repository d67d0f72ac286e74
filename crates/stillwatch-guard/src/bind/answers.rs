//! Marks for the blocks of answers.

use std::borrow::Cow;
use std::sync::Arc;

use serde_json::value::RawValue;
use stillwatch_decide::Reasoning;

use super::{Holder, ReasoningKeys, Splices};
use crate::api::Endpoint;
use crate::json::{Fields, elements, text};
use crate::sse::{self, Events};
use crate::thin::{DOCUMENT_BYTES_MAX, NotThinned};

/// Marks an answer's blocks while it passes; no other byte of it changes.
#[derive(Debug)]
pub struct Binder {
    endpoint: Endpoint,
    keys: Arc<ReasoningKeys>,
    holder: Holder,
    to: Reasoning,
    form: Form,
}

#[derive(Debug)]
enum Form {
    Document(Vec<u8>),
    Stream(Events),
}

impl Binder {
    /// For an answer of an endpoint to this holder: a stream of events, or one document.
    #[must_use]
    pub fn new(
        endpoint: Endpoint,
        keys: Arc<ReasoningKeys>,
        holder: Holder,
        to: Reasoning,
        is_stream: bool,
    ) -> Self {
        let form =
            if is_stream { Form::Stream(Events::default()) } else { Form::Document(Vec::new()) };
        Binder { endpoint, keys, holder, to, form }
    }

    /// Takes a piece of the answer and gives what may pass already.
    ///
    /// # Errors
    /// The answer, or one event of it, is too long.
    pub fn feed(&mut self, piece: &[u8]) -> Result<Vec<u8>, NotThinned> {
        let Binder { endpoint, keys, holder, to, form } = self;
        match form {
            Form::Document(held) => {
                if held.len() + piece.len() > DOCUMENT_BYTES_MAX {
                    return Err(NotThinned);
                }
                held.extend_from_slice(piece);
                Ok(Vec::new())
            }
            Form::Stream(events) => {
                let mut out = Vec::with_capacity(piece.len());
                let marks = Marks { endpoint: *endpoint, keys, holder, to: *to };
                events
                    .feed(piece, |event| out.extend_from_slice(&marks.event(event)))
                    .map_err(|_| NotThinned)?;
                Ok(out)
            }
        }
    }

    /// What may pass at the end.
    #[must_use]
    pub fn finish(self) -> Vec<u8> {
        let Binder { endpoint, keys, holder, to, form } = self;
        let marks = Marks { endpoint, keys: &keys, holder: &holder, to };
        match form {
            Form::Document(held) => marks.marked(&held).into_owned(),
            Form::Stream(events) => marks.event(&events.rest()).into_owned(),
        }
    }
}

struct Marks<'m> {
    endpoint: Endpoint,
    keys: &'m ReasoningKeys,
    holder: &'m Holder,
    to: Reasoning,
}

impl Marks<'_> {
    /// An object with its blocks marked.
    fn marked<'a>(&self, object: &'a [u8]) -> Cow<'a, [u8]> {
        // Most events have none, and need not be read.
        let may_have = [&b"signature"[..], b"redacted_thinking", b"encrypted_content"];
        if !may_have.iter().any(|name| memchr::memmem::find(object, name).is_some()) {
            return Cow::Borrowed(object);
        }
        let Some(fields) = Fields::parse(object) else { return Cow::Borrowed(object) };
        let mut splices = Splices::default();
        for value in answered_blocks(self.endpoint, &fields) {
            let Some(block) = text(value).filter(|block| !block.is_empty()) else { continue };
            if let Some(mark) = self.holder.mark(self.keys, self.to, &block) {
                splices.begin_with(object, value, mark);
            }
        }
        splices.applied(object)
    }

    fn event<'a>(&self, event: &'a [u8]) -> Cow<'a, [u8]> {
        let data = sse::data(event);
        let Cow::Owned(marked) = self.marked(&data) else { return Cow::Borrowed(event) };
        // In one line the data stand in the event as they are.
        match memchr::memmem::find(event, &data) {
            Some(at) => {
                let after = event.get(at + data.len()..).unwrap_or_default();
                Cow::Owned([event.get(..at).unwrap_or_default(), &marked, after].concat())
            }
            None => Cow::Owned(sse::with_data(event, &marked)),
        }
    }
}

/// The opaque texts of an answer or of an event of it.
fn answered_blocks<'a>(endpoint: Endpoint, fields: &Fields<'a>) -> Vec<&'a RawValue> {
    let mut found = Vec::new();
    let object = |name: &str| fields.get(name).and_then(Fields::of);
    let objects = |fields: &Fields<'a>, name: &str| -> Vec<Fields<'a>> {
        let all = fields.get(name).map(elements).unwrap_or_default();
        all.into_iter().filter_map(Fields::of).collect()
    };
    match endpoint {
        Endpoint::Messages => {
            let blocks = objects(fields, "content").into_iter();
            for block in blocks.chain(object("content_block")).chain(object("delta")) {
                match block.text("type").as_deref() {
                    Some("thinking" | "signature_delta") => found.extend(block.get("signature")),
                    Some("redacted_thinking") => found.extend(block.get("data")),
                    _ => {}
                }
            }
        }
        Endpoint::Responses => {
            let of_response = object("response").map(|response| objects(&response, "output"));
            let items = objects(fields, "output").into_iter();
            for item in items.chain(object("item")).chain(of_response.into_iter().flatten()) {
                if item.text("type").is_some_and(|kind| kind == "reasoning") {
                    found.extend(item.get("encrypted_content"));
                }
            }
        }
        _ => {}
    }
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{Strictness, released};
    use super::*;

    fn binder(endpoint: Endpoint, is_stream: bool) -> Binder {
        let keys = Arc::new(ReasoningKeys::parse(&"k".repeat(32)).unwrap());
        let holder =
            Holder { account_id: "acct_1".into(), model: Some("m".to_owned()), session: None };
        let to = Reasoning { bind: true, to_model: true, to_session: true, unbound_until: None };
        Binder::new(endpoint, keys, holder, to, is_stream)
    }

    fn bound(endpoint: Endpoint, is_stream: bool, pieces: &[&[u8]]) -> String {
        let mut binder = binder(endpoint, is_stream);
        let mut out = Vec::new();
        pieces.iter().for_each(|piece| out.extend(binder.feed(piece).unwrap()));
        out.extend(binder.finish());
        String::from_utf8(out).unwrap()
    }

    /// Marks look alike in all tests: one key, one holder.
    fn without_marks(text: &str) -> (String, usize) {
        let mut parts = text.split("sw1.");
        let mut out = parts.next().unwrap().to_owned();
        let rest: Vec<&str> = parts.collect();
        rest.iter().for_each(|part| out.push_str(&part[39..]));
        (out, rest.len())
    }

    #[test]
    fn documents_and_events_are_marked_and_else_the_same() {
        for (endpoint, is_stream, answer, count) in [
            (
                Endpoint::Messages,
                false,
                r#"{ "content": [ {"type":"thinking","thinking":"t","signature":"c2ln"}, {"type":"redacted_thinking", "data":"ZGF0"},{"type":"text","text":"signature"},{"type":"tool_use","input":{"signature":"x"}} ] }"#,
                2,
            ),
            (
                Endpoint::Messages,
                true,
                "event: a\r\ndata: {\"type\":\"content_block_start\",\"content_block\":{\"type\":\"thinking\",\"signature\":\"\"}}\r\n\r\n\
                 data: {\"type\":\"content_block_delta\",\"delta\":{\"type\":\"signature_delta\", \"signature\":\"c2ln\"}}\n\n\
                 data: {\"type\":\"content_block_start\",\"content_block\":{\"type\":\"redacted_thinking\",\"data\":\"ZGF0\"}}\n\n",
                2,
            ),
            (
                Endpoint::Responses,
                true,
                "data: {\"type\":\"response.output_item.done\",\"item\":{\"type\":\"reasoning\",\"encrypted_content\":\"ZW5j\"}}\n\n\
                 data: {\"type\":\"response.completed\",\"response\":{\"output\":[{\"type\":\"reasoning\",\"encrypted_content\":\"ZW5j\"}]}}",
                2,
            ),
            (
                Endpoint::Responses,
                false,
                r#"{"output":[{"type":"reasoning","encrypted_content":null}]}"#,
                0,
            ),
            (Endpoint::Chat, false, r#"{"signature":"x"}"#, 0),
            (Endpoint::Messages, false, "no json with a signature", 0),
        ] {
            let marked = bound(endpoint, is_stream, &[answer.as_bytes()]);
            assert_eq!(without_marks(&marked), (answer.to_owned(), count));
        }
        // The item alone and in the whole have the same mark.
        let both = bound(Endpoint::Responses, true, &[
            b"data: {\"item\":{\"type\":\"reasoning\",\"encrypted_content\":\"ZW5j\"},\"response\":{\"output\":[{\"type\":\"reasoning\",\"encrypted_content\":\"ZW5j\"}]}}\n\n",
        ]);
        let marks: Vec<&str> = both.split("sw1.").skip(1).map(|part| &part[..39]).collect();
        assert_eq!(marks[0], marks[1]);
    }

    #[test]
    fn data_over_several_lines_stay_several_lines() {
        let event = "event: a\ndata: {\"delta\":{\"type\":\"signature_delta\",\ndata: \"signature\":\"c2ln\"}}\n\n";
        let marked = bound(Endpoint::Messages, true, &[event.as_bytes()]);
        assert_eq!(without_marks(&marked), (event.to_owned(), 1));
    }

    proptest! {
        /// However an answer is split it is marked alike, and what comes back is released.
        #[test]
        fn there_and_back(
            block in "[A-Za-z0-9+/=\"\\\\é\n]{1,40}",
            cuts in prop::collection::vec(0_usize..400, 0..6),
        ) {
            let block_json = serde_json::to_string(&block).unwrap();
            let stream = format!(
                "event: content_block_delta\ndata: {{\"type\":\"content_block_delta\",\"index\":0,\"delta\":{{\"type\":\"signature_delta\",\"signature\":{block_json}}}}}\n\n"
            );
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(stream.len())).collect();
            cuts.extend([0, stream.len()]);
            cuts.sort_unstable();
            let bytes = stream.as_bytes();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|w| &bytes[w[0]..w[1]]).collect();
            let marked = bound(Endpoint::Messages, true, &pieces);
            prop_assert_eq!(&marked, &bound(Endpoint::Messages, true, &[bytes]));
            let data = sse::data(marked.as_bytes());
            let event: serde_json::Value = serde_json::from_slice(&data).unwrap();
            let ask = |signature: &str| serde_json::json!({ "messages": [{ "content": [
                { "type": "thinking", "signature": signature }] }] }).to_string();
            let body = ask(event["delta"]["signature"].as_str().unwrap());
            let strict = Strictness { refuses_foreign: true, refuses_unbound: true };
            let binder = binder(Endpoint::Messages, true);
            let released = released(
                Endpoint::Messages,
                body.as_bytes(),
                &binder.keys,
                &binder.holder,
                strict,
            );
            let (back, expected) = (released.unwrap().into_owned(), ask(&block).into_bytes());
            prop_assert_eq!(back, expected);
        }
    }
}

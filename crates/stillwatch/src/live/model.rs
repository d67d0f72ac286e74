//! The stand-in for a model's API: chat completions as OpenAI's, streamed or whole, with
//! usage. How much it says comes with the request; it says it in random words.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::hash::{DefaultHasher, Hasher};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// The header that carries a [`Wish`].
pub const WISH: &str = "x-stand-in-wish";
/// The header of an answer with the hash of the request's body as it arrived.
pub const SAW: &str = "x-stand-in-saw";
/// Pieces in which an answer is streamed, at most.
const PIECES: usize = 8;
const WORDS: [&str; 32] = [
    "the", "a", "of", "to", "in", "is", "that", "for", "it", "as", "with", "on", "be", "by", "at",
    "or", "an", "from", "this", "which", "one", "all", "there", "can", "more", "if", "no", "when",
    "first", "time", "each", "other",
];

/// What a request wants answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wish {
    pub status: u16,
    pub output_tokens: u32,
    /// What the words are chosen by; equal numbers make equal words.
    pub words: u64,
}

impl Wish {
    pub fn header(self) -> String {
        format!("{} {} {}", self.status, self.output_tokens, self.words)
    }

    fn parse(headers: &HeaderMap) -> Option<Self> {
        let mut parts = headers.get(WISH)?.to_str().ok()?.split(' ');
        Some(Wish {
            status: parts.next()?.parse().ok()?,
            output_tokens: parts.next()?.parse().ok()?,
            words: parts.next()?.parse().ok()?,
        })
    }
}

/// An answer: its status, its type and its body in the pieces in which it is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    pub status: StatusCode,
    pub content_type: &'static str,
    pub pieces: Vec<Bytes>,
}

/// What the stand-in reads of a request.
#[derive(Deserialize)]
struct Asked {
    model: String,
    max_tokens: Option<u32>,
    n: Option<u16>,
    #[serde(default)]
    stream: bool,
    messages: Vec<Message>,
}

#[derive(Deserialize)]
struct Message {
    content: String,
}

/// The hash of a body, by which a change on its way is noticed.
pub fn hash(body: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(body);
    hasher.finish()
}

/// What is answered to a request; the same for the same wish and body.
pub fn answer(wish: Wish, body: &[u8]) -> Said {
    let whole = |status, value: &Value| Said {
        status,
        content_type: "application/json",
        pieces: vec![Bytes::from(value.to_string())],
    };
    let error = |status, kind: &str| {
        let message = "the stand-in was asked to fail";
        whole(
            status,
            &json!({"error": {"message": message, "type": kind, "param": null, "code": null}}),
        )
    };
    let Ok(asked) = serde_json::from_slice::<Asked>(body) else {
        return error(StatusCode::BAD_REQUEST, "invalid_request_error");
    };
    let status = StatusCode::from_u16(wish.status).unwrap_or(StatusCode::BAD_GATEWAY);
    if !status.is_success() {
        return error(status, "server_error");
    }
    let choices = asked.n.unwrap_or(1).max(1);
    let most = asked.max_tokens.unwrap_or(u32::MAX).saturating_mul(choices.into());
    let tokens = wish.output_tokens.min(most);
    let reason = if tokens < wish.output_tokens { "length" } else { "stop" };
    let each = (tokens / u32::from(choices)) as usize;
    let letters: usize = asked.messages.iter().map(|message| message.content.len()).sum();
    let input = (letters / 4) as u64;
    let usage = json!({
        "prompt_tokens": input,
        "completion_tokens": tokens,
        "total_tokens": input + u64::from(tokens),
    });
    let (id, model) = (format!("chatcmpl-{:016x}", wish.words), asked.model);
    let said: Vec<Vec<String>> =
        (0..choices).map(|choice| pieces(wish.words ^ u64::from(choice), each)).collect();
    if !asked.stream {
        let choices: Vec<Value> = said
            .iter()
            .enumerate()
            .map(|(index, pieces)| {
                let message = json!({"role": "assistant", "content": pieces.concat()});
                json!({"index": index, "message": message, "finish_reason": reason})
            })
            .collect();
        return whole(
            status,
            &json!({
                "id": id, "object": "chat.completion", "created": 1, "model": model,
                "choices": choices, "usage": usage,
            }),
        );
    }
    let event = |choices: Value, usage: &Value| {
        let chunk = json!({
            "id": id, "object": "chat.completion.chunk", "created": 1, "model": model,
            "choices": choices, "usage": usage,
        });
        Bytes::from(format!("data: {chunk}\n\n"))
    };
    let mut sent = Vec::new();
    for (index, pieces) in said.iter().enumerate() {
        for piece in pieces {
            let delta = json!({"role": "assistant", "content": piece});
            let choice = json!([{"index": index, "delta": delta, "finish_reason": null}]);
            sent.push(event(choice, &Value::Null));
        }
        let choice = json!([{"index": index, "delta": {}, "finish_reason": reason}]);
        sent.push(event(choice, &Value::Null));
    }
    sent.push(event(json!([]), &usage));
    sent.push(Bytes::from_static(b"data: [DONE]\n\n"));
    Said { status, content_type: "text/event-stream", pieces: sent }
}

/// So many words, in at most [`PIECES`] pieces.
fn pieces(mut state: u64, words: usize) -> Vec<String> {
    let mut pieces = vec![String::new(); PIECES.min(words)];
    for word in 0..words {
        // Steele and Vigna's SplitMix64.
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let text = WORDS[(bits >> 59) as usize % WORDS.len()];
        let at = word * PIECES.min(words) / words;
        if let Some(piece) = pieces.get_mut(at) {
            piece.push_str(text);
            piece.push(' ');
        }
    }
    pieces
}

/// A body in pieces.
struct Pieces(VecDeque<Bytes>);

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.pop_front().map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        match self.0.len() {
            0 => SizeHint::with_exact(0),
            1 => SizeHint::with_exact(self.0.iter().map(|piece| piece.len() as u64).sum()),
            // Its length is not known before it has ended, as a model's is not.
            _ => SizeHint::default(),
        }
    }
}

/// Serves the stand-in until the runtime ends; where it listens.
pub async fn serve() -> io::Result<SocketAddr> {
    let listener = TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // Where it can't be set the connection is gone already.
            let _ = stream.set_nodelay(true);
            let connection =
                http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(respond));
            // A client that goes away is not the stand-in's affair.
            tokio::spawn(async move {
                let _ = connection.await;
            });
        }
    });
    Ok(address)
}

async fn respond(request: Request<Incoming>) -> Result<Response<Pieces>, hyper::Error> {
    let wish = Wish::parse(request.headers()).unwrap_or_default();
    let body = request.into_body().collect().await?.to_bytes();
    let said = answer(wish, &body);
    let mut response = Response::new(Pieces(said.pieces.into()));
    *response.status_mut() = said.status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(said.content_type));
    headers.insert(SAW, HeaderValue::from(hash(&body)));
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(body: &Value, output_tokens: u32) -> (StatusCode, String) {
        let wish = Wish { status: 200, output_tokens, words: 7 };
        let said = answer(wish, body.to_string().as_bytes());
        (said.status, String::from_utf8(said.pieces.concat()).unwrap())
    }

    #[test]
    fn it_says_as_much_as_it_is_told_and_may() {
        let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "Hi"}]});
        let (status, whole) = said(&body, 100);
        let whole: Value = serde_json::from_str(&whole).unwrap();
        let content = whole["choices"][0]["message"]["content"].as_str().unwrap();
        assert_eq!((status, content.split_whitespace().count()), (StatusCode::OK, 100));
        assert_eq!(whole["usage"]["completion_tokens"], 100);
        body["stream"] = true.into();
        let (_, events) = said(&body, 100);
        let streamed: String = events
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line.strip_prefix("data: ")?).ok())
            .filter_map(|event| Some(event["choices"][0]["delta"]["content"].as_str()?.to_owned()))
            .collect();
        assert_eq!(streamed, content);
        body["stream"] = false.into();
        body["max_tokens"] = 30.into();
        let (_, capped) = said(&body, 100);
        let capped: Value = serde_json::from_str(&capped).unwrap();
        assert_eq!(capped["usage"]["completion_tokens"], 30);
        assert_eq!(capped["choices"][0]["finish_reason"], "length");
    }
}

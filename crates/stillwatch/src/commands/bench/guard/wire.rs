//! HTTP/1.1 as bytes: the stand-in for a model's API, and how the load's answers are read.
//! Threads and plain sockets, so that what is measured is the contestants.

use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use memchr::memmem;

/// Events of a stream.
pub const EVENTS: usize = 64;
/// Time between two events of a paced stream.
pub const PACE: Duration = Duration::from_millis(10);
/// The model whose streams are paced.
pub const PACED: &str = "paced";

const READ_BYTES: usize = 16 << 10;

/// A connection, and what has been read of it and not been used.
pub struct Wire {
    pub stream: TcpStream,
    held: Vec<u8>,
}

impl Wire {
    pub fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Wire { stream, held: Vec::new() })
    }

    /// The next message; none at the end of the connection. `read` is called whenever
    /// bytes have come.
    pub fn message(&mut self, mut read: impl FnMut()) -> io::Result<Option<Vec<u8>>> {
        loop {
            if let Some(bytes) = whole(&self.held) {
                return Ok(Some(self.held.drain(..bytes).collect()));
            }
            let before = self.held.len();
            self.held.resize(before + READ_BYTES, 0);
            let bytes = self.stream.read(&mut self.held[before..])?;
            self.held.truncate(before + bytes);
            if bytes == 0 {
                return Ok(None);
            }
            read();
        }
    }
}

/// The length of the message that the bytes begin with, once it is complete. Bodies have a
/// length or are chunked, and messages don't follow before the last is answered.
fn whole(held: &[u8]) -> Option<usize> {
    let end = memmem::find(held, b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(&held[..end]).to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    match length.and_then(|length| length.trim().parse::<usize>().ok()) {
        Some(body) => (held.len() >= end + body).then_some(end + body),
        None if head.contains("transfer-encoding:") => {
            held.ends_with(b"0\r\n\r\n").then_some(held.len())
        }
        None => Some(end),
    }
}

/// What the stand-in answers.
struct Answers {
    small: Vec<u8>,
    head: Vec<u8>,
    event: Vec<u8>,
    end: Vec<u8>,
    /// A whole stream in one piece.
    burst: Vec<u8>,
}

impl Answers {
    fn new() -> Self {
        let body = r#"{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"It is four."},"finish_reason":"stop"}],"usage":{"prompt_tokens":12,"completion_tokens":4,"total_tokens":16}}"#;
        let small = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
        let chunk = |event: &str| format!("{:x}\r\n{event}\r\n", event.len());
        let event = chunk(
            "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\" four\"},\"finish_reason\":null}]}\n\n",
        );
        let end = chunk("data: [DONE]\n\n") + "0\r\n\r\n";
        let burst = [head, &event.repeat(EVENTS), &end].concat();
        let [head, event, end, burst, small] =
            [head.to_owned(), event, end, burst, small].map(String::into_bytes);
        Answers { small, head, event, end, burst }
    }

    fn give(&self, request: &[u8], stream: &mut TcpStream) -> io::Result<()> {
        let has = |text: &str| memmem::find(request, text.as_bytes()).is_some();
        if !has("\"stream\":true") && !has("\"stream\": true") {
            return stream.write_all(&self.small);
        }
        if !has(&format!("\"{PACED}\"")) {
            return stream.write_all(&self.burst);
        }
        stream.write_all(&self.head)?;
        for _ in 0..EVENTS {
            stream.write_all(&self.event)?;
            #[expect(clippy::disallowed_methods, reason = "a model takes its time")]
            std::thread::sleep(PACE);
        }
        stream.write_all(&self.end)
    }
}

/// Answers as a model's API, from memory, until the process is ended.
pub fn mock(listener: &TcpListener) -> io::Result<()> {
    let answers = Arc::new(Answers::new());
    loop {
        let (stream, _) = listener.accept()?;
        let answers = Arc::clone(&answers);
        std::thread::spawn(move || {
            let mut wire = Wire::new(stream)?;
            while let Some(request) = wire.message(|| {})? {
                answers.give(&request, &mut wire.stream)?;
            }
            io::Result::Ok(())
        });
    }
}

/// A request for a chat completion.
pub fn request(model: &str, is_stream: bool, key: usize, turn: usize) -> String {
    let body = format!(
        "{{\"model\":\"{model}\",\"stream\":{is_stream},\"max_tokens\":100,\"messages\":[\
         {{\"role\":\"system\",\"content\":\"You are a helpful assistant.\"}},\
         {{\"role\":\"user\",\"content\":\"What is two and two, for the {turn}th time?\"}}]}}"
    );
    let mut request = String::with_capacity(512);
    // Writing to a String can't fail.
    let _ = write!(
        request,
        "POST /v1/chat/completions HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer sk-{key}\r\n\
         content-type: application/json\r\nuser-agent: bench/1\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    request
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_whole_when_its_body_is() {
        let plain = b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc";
        assert_eq!(whole(plain), Some(plain.len()));
        assert_eq!(whole(&plain[..plain.len() - 1]), None);
        let bare = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";
        assert_eq!(whole(bare), Some(bare.len()));
        let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n";
        assert_eq!(whole(chunked), Some(chunked.len()));
        assert_eq!(whole(&chunked[..chunked.len() - 5]), None);
    }

    #[test]
    fn the_stand_in_answers_in_one_piece_and_in_streams() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || mock(&listener));
        let mut wire = Wire::new(TcpStream::connect(address).unwrap()).unwrap();
        for (model, is_stream) in [("m", false), ("m", true), (PACED, true)] {
            wire.stream.write_all(request(model, is_stream, 1, 1).as_bytes()).unwrap();
            let mut reads = 0;
            let answer = wire.message(|| reads += 1).unwrap().unwrap();
            let events = memmem::find_iter(&answer, b"chat.completion.chunk").count();
            assert_eq!(events, if is_stream { EVENTS } else { 0 });
            assert_eq!(reads > EVENTS / 2, model == PACED, "{reads} reads");
        }
    }
}

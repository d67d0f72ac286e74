//! Which endpoint a request is for, and which dialect its client speaks.

use http::{HeaderMap, Method};

/// Whose API a client speaks; errors are answered in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    OpenAi,
    Anthropic,
}

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// OpenAI's Chat Completions.
    Chat,
    /// OpenAI's Responses.
    Responses,
    /// OpenAI's older Completions.
    Completions,
    /// OpenAI's Embeddings.
    Embeddings,
    /// Anthropic's Messages.
    Messages,
    /// Anything else, which is no exchange and passes unchanged.
    Other,
}

impl Endpoint {
    /// The endpoint at a path. Gateways put prefixes of their own before the last
    /// segments, so only these count. What an upstream may take for the same path
    /// (`/v1//chat/./completions`, `/v1/chat%2Fcompletions`, other cases) is the same
    /// endpoint, so that no spelling gets around a verdict or a record.
    #[must_use]
    pub fn at(method: &Method, path: &str) -> Self {
        if method != Method::POST {
            return Endpoint::Other;
        }
        let decoded = percent_decoded(path).to_ascii_lowercase();
        let mut segments: Vec<&str> = Vec::new();
        for segment in decoded.split(['/', '\\']) {
            match segment {
                "" | "." => {}
                ".." => {
                    segments.pop();
                }
                segment => segments.push(segment),
            }
        }
        let mut last = segments.iter().rev().copied();
        match (last.next(), last.next()) {
            (Some("completions"), Some("chat")) => Endpoint::Chat,
            (Some("completions"), _) => Endpoint::Completions,
            (Some("responses"), _) => Endpoint::Responses,
            (Some("embeddings"), _) => Endpoint::Embeddings,
            // `threads/{id}/messages` is another API.
            (Some("messages"), before) if before.is_none_or(is_version) => Endpoint::Messages,
            _ => Endpoint::Other,
        }
    }

    /// `operation_name` of the exchange; none where it is none.
    #[must_use]
    pub fn operation_name(self) -> Option<&'static str> {
        match self {
            Endpoint::Chat | Endpoint::Responses | Endpoint::Messages => Some("chat"),
            Endpoint::Completions => Some("text_completion"),
            Endpoint::Embeddings => Some("embeddings"),
            Endpoint::Other => None,
        }
    }

    /// The path of the vendor's own, without what gateways put before it.
    #[must_use]
    pub fn route(self) -> &'static str {
        match self {
            Endpoint::Chat => "/v1/chat/completions",
            Endpoint::Responses => "/v1/responses",
            Endpoint::Completions => "/v1/completions",
            Endpoint::Embeddings => "/v1/embeddings",
            Endpoint::Messages => "/v1/messages",
            Endpoint::Other => "",
        }
    }

    /// The dialect that its clients speak.
    #[must_use]
    pub fn dialect(self, headers: &HeaderMap) -> Dialect {
        let is_anthropic = match self {
            Endpoint::Messages => true,
            Endpoint::Other => headers.contains_key("anthropic-version"),
            _ => false,
        };
        if is_anthropic { Dialect::Anthropic } else { Dialect::OpenAi }
    }
}

impl Dialect {
    /// `provider_name` of its exchanges.
    #[must_use]
    pub fn provider_name(self) -> &'static str {
        match self {
            Dialect::OpenAi => "openai",
            Dialect::Anthropic => "anthropic",
        }
    }
}

fn is_version(segment: &str) -> bool {
    segment.strip_prefix('v').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
}

/// The path with `%2F` and the like resolved, twice at most as some servers do.
fn percent_decoded(path: &str) -> String {
    let mut text = path.to_owned();
    for _ in 0..2 {
        if !text.contains('%') {
            break;
        }
        let bytes = text.as_bytes();
        let mut decoded = Vec::with_capacity(bytes.len());
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            let hex = bytes.get(at + 1..at + 3).and_then(|hex| std::str::from_utf8(hex).ok());
            match hex.filter(|_| byte == b'%').and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
                Some(value) => {
                    decoded.push(value);
                    at += 3;
                }
                None => {
                    decoded.push(byte);
                    at += 1;
                }
            }
        }
        text = String::from_utf8_lossy(&decoded).into_owned();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(path: &str, expected: Endpoint) {
        assert_eq!(Endpoint::at(&Method::POST, path), expected, "{path}");
    }

    #[test]
    fn endpoints_are_known_by_their_last_segments() {
        check("/v1/chat/completions", Endpoint::Chat);
        check("/openai/deployments/x/chat/completions", Endpoint::Chat);
        check("/v1/completions", Endpoint::Completions);
        check("/v1/responses", Endpoint::Responses);
        check("/v1/embeddings", Endpoint::Embeddings);
        check("/v1/messages", Endpoint::Messages);
        check("/anthropic/v1/messages", Endpoint::Messages);
        check("/v1/messages/count_tokens", Endpoint::Other);
        check("/v1/threads/thread_1/messages", Endpoint::Other);
        check("/v1/responses/resp_1/cancel", Endpoint::Other);
        assert_eq!(Endpoint::at(&Method::GET, "/v1/responses"), Endpoint::Other);
    }

    #[test]
    fn no_spelling_gets_around_it() {
        for path in [
            "/v1//chat/completions/",
            "/v1/./chat/x/../completions",
            "/v1/chat%2Fcompletions",
            "/v1/chat/%63ompletions",
            "/v1/chat%252fcompletions",
            "/V1/Chat/Completions",
            "/v1/chat\\completions",
        ] {
            check(path, Endpoint::Chat);
        }
        check("/v1/chat/completions%", Endpoint::Other);
    }
}

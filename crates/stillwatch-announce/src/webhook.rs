//! One POST for each new campaign, signed as Standard Webhooks says
//! (<https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>):
//! `webhook-id`, `webhook-timestamp` in seconds, and `webhook-signature`, which is `v1,` and
//! the base64 of HMAC-SHA256 over `id.timestamp.body`.

use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, USER_AGENT};
use http::uri::Scheme;
use http::{Request, StatusCode, Uri};
use http_body_util::Full;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use ring::hmac;
use serde_json::{Value, json};
use xxhash_rust::xxh3::xxh3_64;

use crate::ledger::{Change, Message};

/// How long a whole attempt may take, and a connection to come about.
const ATTEMPT: Duration = Duration::from_secs(15);
const CONNECT: Duration = Duration::from_secs(5);
/// Bytes of a key, by the specification.
const KEY_BYTES: std::ops::RangeInclusive<usize> = 24..=64;
const PREFIX: &str = "whsec_";

/// What messages are signed with.
#[derive(Clone)]
pub struct Key(Vec<u8>);

/// Why a key can't be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it must be whsec_ and the base64 of 24 to 64 bytes")]
pub struct KeyError;

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(…)")
    }
}

impl Key {
    /// Reads a key as the specification writes it.
    ///
    /// # Errors
    /// It has no prefix, is no base64, or is too short or too long.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let bytes = STANDARD.decode(text.trim().strip_prefix(PREFIX).ok_or(KeyError)?);
        let bytes = bytes.map_err(|_| KeyError)?;
        if KEY_BYTES.contains(&bytes.len()) { Ok(Key(bytes)) } else { Err(KeyError) }
    }
}

/// The signature of a message that is sent at a moment, in seconds since 1970.
#[must_use]
pub fn signature(key: &Key, id: &str, timestamp: i64, body: &str) -> String {
    let signed = format!("{id}.{timestamp}.{body}");
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key.0), signed.as_bytes());
    format!("v1,{}", STANDARD.encode(tag))
}

/// The message about a new campaign; `report` is where people read about it.
pub(crate) fn message(change: &Change, report: Option<&str>) -> Message {
    let Change { uid, time, facts, .. } = change;
    let techniques: Vec<&str> = facts.techniques.iter().map(|t| t.id.as_str()).collect();
    let mut body = json!({
        "type": "campaign.found",
        "timestamp": time,
        "data": {
            "campaign_id": uid,
            "kind": facts.kind.name(),
            "rank": facts.rank,
            "rank_only": !facts.is_promised(),
            "evidence_value": facts.evidence_value,
            "discovery_rate": facts.discovery_rate,
            "accounts": facts.accounts,
            "exchanges": facts.exchanges,
            "output_tokens": facts.output_tokens,
            "first_seen": facts.first_seen,
            "last_seen": facts.last_seen,
            "first_detectable": facts.first_detectable,
            "techniques": techniques,
        },
    });
    if let (Some(report), Some(Value::Object(data))) = (report, body.get_mut("data")) {
        data.insert("report".to_owned(), report.into());
    }
    let id = format!("msg_{:016x}", xxh3_64(format!("{uid} {}", time.0).as_bytes()));
    Message { id, body: body.to_string() }
}

/// What came of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Delivered,
    /// The endpoint says that it wants no more (410).
    Gone,
    /// The endpoint answered with another status than one of success.
    Refused(StatusCode),
    /// There was no answer.
    Unreachable,
    Timeout,
}

impl fmt::Display for Outcome {
    /// Without the address: those of some services are secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Delivered => f.write_str("delivered"),
            Outcome::Gone => f.write_str("the endpoint answered 410, it wants no more"),
            Outcome::Refused(status) => write!(f, "the endpoint answered {}", status.as_u16()),
            Outcome::Unreachable => f.write_str("the endpoint can't be reached"),
            Outcome::Timeout => f.write_str("the endpoint did not answer in time"),
        }
    }
}

/// Where messages go.
#[derive(Clone, Debug)]
pub struct Endpoint {
    url: Uri,
    key: Key,
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

impl Endpoint {
    /// An endpoint at a URL.
    ///
    /// # Errors
    /// It is no URL of `https`, or `http`, with a host; or the system has no root
    /// certificates. The text does not repeat the URL.
    pub fn new(url: &str, key: Key) -> Result<Self, String> {
        let wrong = || "is no URL such as https://hooks.example.com/stillwatch".to_owned();
        let url: Uri = url.parse().map_err(|_| wrong())?;
        let is_web = url.scheme().is_some_and(|s| *s == Scheme::HTTP || *s == Scheme::HTTPS);
        let has_user = url.authority().is_some_and(|a| a.as_str().contains('@'));
        if !is_web || url.host().is_none_or(str::is_empty) || has_user {
            return Err(wrong());
        }
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT));
        connector.enforce_http(false);
        let connector = HttpsConnectorBuilder::new()
            .with_native_roots()
            .map_err(|error| format!("needs root certificates, and the system has none: {error}"))?
            .https_or_http()
            .enable_http1()
            .wrap_connector(connector);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_max_idle_per_host(0)
            .build(connector);
        Ok(Endpoint { url, key, client })
    }

    /// Sends a message once; `now` is the wall clock in seconds since 1970. Redirections
    /// are not followed.
    pub async fn post(&self, message: &Message, now: i64) -> Outcome {
        let request = Request::post(self.url.clone())
            .header(CONTENT_TYPE, "application/json")
            .header(USER_AGENT, "stillwatch")
            .header("webhook-id", &message.id)
            .header("webhook-timestamp", now)
            .header("webhook-signature", signature(&self.key, &message.id, now, &message.body))
            .body(Full::new(Bytes::from(message.body.clone())));
        let Ok(request) = request else { return Outcome::Unreachable };
        // The answer's body says nothing that is used.
        match tokio::time::timeout(ATTEMPT, self.client.request(request)).await {
            Err(_) => Outcome::Timeout,
            Ok(Err(_)) => Outcome::Unreachable,
            Ok(Ok(answer)) if answer.status().is_success() => Outcome::Delivered,
            Ok(Ok(answer)) if answer.status() == StatusCode::GONE => Outcome::Gone,
            Ok(Ok(answer)) => Outcome::Refused(answer.status()),
        }
    }
}

#[cfg(test)]
mod tests {
    use stillwatch_exchange::Time;

    use super::*;
    use crate::ledger::Ledger;
    use crate::ledger::tests::{campaign, members};

    #[test]
    fn the_signature_is_the_specifications() {
        // The example of the specification's reference implementations.
        let key = Key::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let body = r#"{"test": 2432232314}"#;
        assert_eq!(
            signature(&key, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body),
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
        );
    }

    #[test]
    fn keys_that_can_not_be_used() {
        let bare = "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        for key in ["", "secret", "whsec_", "whsec_c2hvcnQ=", "whsec_!!", bare] {
            assert_eq!(Key::parse(key).err(), Some(KeyError), "{key}");
        }
        let long = format!("whsec_{}", STANDARD.encode([7; 65]));
        assert!(Key::parse(&long).is_err());
        assert!(!format!("{:?}", Key(vec![7; 24])).contains('7'));
    }

    #[test]
    fn a_message_says_what_and_nobodys_secrets() {
        let found = members("a", &["acct_secret"]);
        let time = Time(1_772_496_000_000_000);
        let change = &Ledger::new().look(time, &[campaign("a", 5)], &found)[0];
        let sent = message(change, Some("https://reports.example.com/"));
        assert_eq!(sent, message(change, Some("https://reports.example.com/")));
        for secret in ["192.0.2.7", "acct_secret"] {
            assert!(!sent.body.contains(secret), "{}", sent.body);
        }
        let body: Value = serde_json::from_str(&sent.body).unwrap();
        assert_eq!(body["type"], "campaign.found");
        assert_eq!(body["data"]["campaign_id"], "a");
        assert_eq!(body["timestamp"], "2026-03-03T00:00:00Z");
        assert_eq!(body["data"]["report"], "https://reports.example.com/");
        assert_eq!(body["data"]["first_seen"], "2026-03-02T00:00:00Z");
    }

    #[test]
    fn urls_that_are_none_are_not_repeated() {
        let key = Key::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        for url in ["", "hooks.example.com/s3cret", "ftp://h/s3cret", "https://u:s3cret@h/"] {
            let why = Endpoint::new(url, key.clone()).unwrap_err();
            assert!(!why.contains("s3cret"), "{why}");
        }
    }
}

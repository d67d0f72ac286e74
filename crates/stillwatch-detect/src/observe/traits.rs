//! One exchange in fixed size: the sketch of its text, the links it carries, what it
//! asked for and what it cost.
//!
//! [`Traits`] is the only form in which an exchange travels between the parts of the
//! engine. Its bytes ([`Traits::to_bytes`]) are little-endian, in the order of the
//! fields, and live no longer than a run.

use stillwatch_exchange::{Exchange, Time};

use super::lexicon::{Asks, Capability};
use super::sketch::{Key, Sketch, SketchError, Sketcher};
use super::text::{BANDS, TOPIC_BUCKETS};

/// Yes-or-no facts of an exchange, as bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(pub u16);

impl Flags {
    /// The conversation's first message, or an exchange that says nothing of turns.
    pub const OPENING: u16 = 1;
    /// A later turn of a conversation.
    pub const FOLLOW_UP: u16 = 1 << 1;
    /// Refused for want of quota: HTTP 429.
    pub const LIMITED: u16 = 1 << 2;
    /// Any other status of 400 or more.
    pub const FAILED: u16 = 1 << 3;
    /// Token probabilities were asked for.
    pub const LOGPROBS: u16 = 1 << 4;
    /// Tokens were biased.
    pub const BIASED: u16 = 1 << 5;
    /// Reasoning was asked for, by parameter or in words.
    pub const REASONING: u16 = 1 << 6;
    /// Grading was asked for in words.
    pub const GRADING: u16 = 1 << 7;
    /// Tools were offered.
    pub const TOOLS: u16 = 1 << 8;
    /// The answer ran into its limit.
    pub const TRUNCATED: u16 = 1 << 9;
    /// Several answers were asked for at once.
    pub const CHOICES: u16 = 1 << 10;
    /// The text's sketch was unusable; the exchange counts without its text.
    pub const NO_TEXT: u16 = 1 << 11;

    /// Whether a bit is set.
    #[inline]
    #[must_use]
    pub fn has(self, bit: u16) -> bool {
        self.0 & bit != 0
    }
}

/// One exchange, observed. Hashes are keyed; 0 stands for «the source did not say».
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traits {
    pub time: Time,
    /// A hash of the row, to break ties and to sample by.
    pub row: u64,
    pub text: Sketch,
    /// TLS fingerprint × user agent × parameters as sent.
    pub client: u64,
    pub address: u64,
    /// The address's network: /24 or /48.
    pub network: u64,
    pub organization: u64,
    pub credential: u64,
    pub conversation: u64,
    pub model: u64,
    pub route: u64,
    /// Autonomous system and country, for the churn of networks.
    pub place: u64,
    pub input_tokens: u32,
    pub output_tokens: u32,
    pub reasoning_tokens: u32,
    /// Millionths of a US dollar.
    pub cost_micro_usd: u32,
    pub flags: Flags,
}

/// Length of [`Traits::to_bytes`].
pub const TRAITS_BYTES: usize =
    8 * 2 + 8 * (5 + BANDS) + TOPIC_BUCKETS + 2 + 1 + 1 + 8 * 9 + 4 * 4 + 2;

/// Bytes that are not [`Traits`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "traits of {0} bytes, expected {TRAITS_BYTES}: parts of the engine are of different versions"
)]
pub struct TraitsError(usize);

/// Kinds of link hashes; kinds of text hashes are in [`super::sketch`].
mod kind {
    pub const CLIENT: u64 = 64;
    pub const ADDRESS: u64 = 65;
    pub const NETWORK: u64 = 66;
    pub const ORGANIZATION: u64 = 67;
    pub const CREDENTIAL: u64 = 68;
    pub const CONVERSATION: u64 = 69;
    pub const MODEL: u64 = 70;
    pub const ROUTE: u64 = 71;
    pub const PLACE: u64 = 72;
    pub const ROW: u64 = 73;
    pub const OTHER: u64 = 74;
}

/// Turns exchanges into traits under one key.
#[derive(Debug)]
pub struct Observer {
    key: Key,
    sketcher: Sketcher,
}

impl Observer {
    #[must_use]
    pub fn new(key: Key) -> Self {
        Observer { key, sketcher: Sketcher::new(key) }
    }

    /// The sketch of an exchange's text; of its `prompt_sketch` where it has one.
    ///
    /// # Errors
    /// The stored sketch is unusable; see [`SketchError`].
    pub fn sketch(&mut self, exchange: &Exchange<'_>) -> Result<Sketch, SketchError> {
        match (exchange.prompt_sketch, exchange.prompt) {
            (Some(bytes), _) => Sketch::from_bytes(bytes, &self.key),
            (None, prompt) => {
                Ok(self.sketcher.sketch(prompt.unwrap_or(""), exchange.system_instructions))
            }
        }
    }

    /// Observes one exchange. An unusable sketch costs the exchange its text and sets
    /// [`Flags::NO_TEXT`].
    pub fn observe(&mut self, exchange: &Exchange<'_>) -> Traits {
        let (text, unusable) = match self.sketch(exchange) {
            Ok(text) => (text, false),
            Err(_) => (Sketch::default(), true),
        };
        let key = &self.key;
        let hash = |kind: u64, text: Option<&str>| match text {
            Some(text) if !text.is_empty() => key.hash_bytes(kind, text.as_bytes()),
            _ => 0,
        };
        let mut flags = 0u16;
        let mut set = |bit: u16, when: bool| flags |= if when { bit } else { 0 };
        set(Flags::OPENING, exchange.turn.is_none_or(|t| t <= 1));
        set(Flags::FOLLOW_UP, exchange.turn.is_some_and(|t| t > 1));
        set(Flags::LIMITED, exchange.status == Some(429));
        set(Flags::FAILED, exchange.status.is_some_and(|s| s >= 400 && s != 429));
        set(Flags::LOGPROBS, exchange.request_top_logprobs.is_some_and(|n| n > 0));
        set(Flags::BIASED, exchange.request_logit_bias_count.is_some_and(|n| n > 0));
        set(
            Flags::REASONING,
            text.asks.0 & Asks::REASONING != 0
                || exchange.request_reasoning.is_some_and(|r| {
                    !r.is_empty() && !matches!(r, "none" | "off" | "disabled" | "0" | "minimal")
                }),
        );
        set(Flags::GRADING, text.asks.0 & Asks::GRADING != 0);
        set(Flags::TOOLS, exchange.request_tool_count.is_some_and(|n| n > 0));
        set(Flags::TRUNCATED, exchange.response_finish_reason == Some("length"));
        set(Flags::CHOICES, exchange.request_choice_count.is_some_and(|n| n > 1));
        set(Flags::NO_TEXT, unusable);

        let place = u64::from(exchange.client_asn.unwrap_or(0)) << 32
            | u64::from(hash(kind::OTHER, exchange.client_country) as u32);
        let address = hash(kind::ADDRESS, exchange.client_address);
        let network = match exchange.client_network {
            Some(network) => hash(kind::NETWORK, Some(network)),
            None => exchange
                .client_address
                .and_then(network_of)
                .map_or(0, |network| key.hash_bytes(kind::NETWORK, network.as_bytes())),
        };
        let conversation = hash(kind::CONVERSATION, exchange.conversation_id);
        let row = key.hash(
            kind::ROW,
            text.whole
                ^ (exchange.time.0 as u64).rotate_left(17)
                ^ conversation.rotate_left(31)
                ^ u64::from(exchange.turn.unwrap_or(0)).rotate_left(47)
                ^ u64::from(exchange.usage_output_tokens.unwrap_or(0)).rotate_left(7),
        );
        Traits {
            time: exchange.time,
            row,
            text,
            client: self.client(exchange),
            address,
            network,
            organization: hash(kind::ORGANIZATION, exchange.organization_id),
            credential: hash(kind::CREDENTIAL, exchange.credential_id),
            conversation,
            model: hash(kind::MODEL, exchange.request_model.or(exchange.response_model)),
            route: hash(kind::ROUTE, exchange.route),
            place: if place == 0 { 0 } else { key.hash(kind::PLACE, place) },
            input_tokens: exchange.usage_input_tokens.unwrap_or(0),
            output_tokens: exchange.usage_output_tokens.unwrap_or(0),
            reasoning_tokens: exchange.usage_reasoning_tokens.unwrap_or(0),
            cost_micro_usd: exchange
                .cost_usd
                .filter(|c| c.is_finite() && *c > 0.0)
                .map_or(0, |c| (c * 1e6).round().min(f64::from(u32::MAX)) as u32),
            flags: Flags(flags),
        }
    }

    /// The joint trait of a client: none of its parts is rare, together they may be.
    /// 0 where neither fingerprint nor user agent is known.
    fn client(&self, exchange: &Exchange<'_>) -> u64 {
        if exchange.tls_fingerprint.is_none() && exchange.user_agent.is_none() {
            return 0;
        }
        let mut parts = [0u8; 64];
        let mut at = 0;
        let mut put = |bytes: &[u8]| {
            parts[at..at + bytes.len()].copy_from_slice(bytes);
            at += bytes.len();
        };
        let text =
            |t: Option<&str>| xxhash_rust::xxh3::xxh3_64(t.unwrap_or("").as_bytes()).to_le_bytes();
        put(&text(exchange.tls_fingerprint));
        put(&text(exchange.user_agent));
        put(&text(exchange.request_reasoning));
        put(&exchange.request_temperature.map_or(u32::MAX, f32::to_bits).to_le_bytes());
        put(&exchange.request_top_p.map_or(u32::MAX, f32::to_bits).to_le_bytes());
        put(&exchange.request_max_tokens.unwrap_or(u32::MAX).to_le_bytes());
        put(&exchange.request_tool_count.unwrap_or(0).to_le_bytes());
        put(&exchange.request_top_logprobs.unwrap_or(0).to_le_bytes());
        put(&exchange.request_choice_count.unwrap_or(1).to_le_bytes());
        put(&[
            exchange.request_stream.map_or(2, u8::from),
            u8::from(exchange.request_seed.is_some()),
            u8::from(exchange.request_logit_bias_count.is_some_and(|n| n > 0)),
        ]);
        self.key.hash_bytes(kind::CLIENT, &parts[..at])
    }

    /// The keyed hash of a value from the accounts table, comparable within one run.
    #[must_use]
    pub fn link(&self, value: &str) -> u64 {
        self.key.hash_bytes(kind::OTHER, value.as_bytes())
    }

    /// The hash that [`Traits::model`] has for a model of this name.
    #[must_use]
    pub fn model(&self, name: &str) -> u64 {
        self.key.hash_bytes(kind::MODEL, name.as_bytes())
    }
}

/// The /24 of an IPv4 address or the /48 of an IPv6 address, as text; `None` for what
/// is not an address, such as a hash of one.
fn network_of(address: &str) -> Option<String> {
    match address.parse::<std::net::IpAddr>().ok()? {
        std::net::IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            Some(format!("{a}.{b}.{c}.0/24"))
        }
        std::net::IpAddr::V6(v6) => {
            let [a, b, c, ..] = v6.segments();
            Some(format!("{a:x}:{b:x}:{c:x}::/48"))
        }
    }
}

struct Writer<'a> {
    bytes: &'a mut [u8; TRAITS_BYTES],
    at: usize,
}

impl Writer<'_> {
    #[inline]
    fn put<const N: usize>(&mut self, bytes: [u8; N]) {
        self.bytes[self.at..self.at + N].copy_from_slice(&bytes);
        self.at += N;
    }
}

struct Cursor<'a> {
    bytes: &'a [u8; TRAITS_BYTES],
    at: usize,
}

impl Cursor<'_> {
    #[inline]
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let mut out = [0u8; N];
        out.copy_from_slice(&self.bytes[self.at..self.at + N]);
        self.at += N;
        out
    }
    #[inline]
    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.take())
    }
    #[inline]
    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take())
    }
}

impl Traits {
    /// The fixed-size form.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; TRAITS_BYTES] {
        let mut bytes = [0u8; TRAITS_BYTES];
        let mut writer = Writer { bytes: &mut bytes, at: 0 };
        writer.put(self.time.0.to_le_bytes());
        writer.put(self.row.to_le_bytes());
        let t = &self.text;
        for value in [t.whole, t.skeleton, t.opening, t.closing, t.system] {
            writer.put(value.to_le_bytes());
        }
        for band in t.bands {
            writer.put(band.to_le_bytes());
        }
        writer.put(t.topic);
        writer.put(t.words.to_le_bytes());
        writer.put([t.capability as u8, t.asks.0]);
        for value in [
            self.client,
            self.address,
            self.network,
            self.organization,
            self.credential,
            self.conversation,
            self.model,
            self.route,
            self.place,
        ] {
            writer.put(value.to_le_bytes());
        }
        for value in
            [self.input_tokens, self.output_tokens, self.reasoning_tokens, self.cost_micro_usd]
        {
            writer.put(value.to_le_bytes());
        }
        writer.put(self.flags.0.to_le_bytes());
        debug_assert_eq!(writer.at, TRAITS_BYTES);
        bytes
    }

    /// Reads the fixed-size form.
    ///
    /// # Errors
    /// The bytes have another length.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, TraitsError> {
        let bytes: &[u8; TRAITS_BYTES] = bytes.try_into().map_err(|_| TraitsError(bytes.len()))?;
        let mut c = Cursor { bytes, at: 0 };
        let time = Time(i64::from_le_bytes(c.take()));
        let row = c.u64();
        let (whole, skeleton, opening, closing, system) =
            (c.u64(), c.u64(), c.u64(), c.u64(), c.u64());
        let mut bands = [0u64; BANDS];
        for band in &mut bands {
            *band = c.u64();
        }
        let topic = c.take();
        let words = u16::from_le_bytes(c.take());
        let [capability, asks] = c.take();
        let text = Sketch {
            whole,
            skeleton,
            opening,
            closing,
            system,
            bands,
            topic,
            words,
            capability: Capability::from_number(capability),
            asks: Asks(asks),
        };
        Ok(Traits {
            time,
            row,
            text,
            client: c.u64(),
            address: c.u64(),
            network: c.u64(),
            organization: c.u64(),
            credential: c.u64(),
            conversation: c.u64(),
            model: c.u64(),
            route: c.u64(),
            place: c.u64(),
            input_tokens: c.u32(),
            output_tokens: c.u32(),
            reasoning_tokens: c.u32(),
            cost_micro_usd: c.u32(),
            flags: Flags(u16::from_le_bytes(c.take())),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exchange() -> Exchange<'static> {
        Exchange {
            time: Time(1_772_000_000_000_000),
            account_id: "a",
            prompt: Some("Explain step by step why ice floats on water, please."),
            system_instructions: Some("You are brief."),
            client_address: Some("203.0.113.77"),
            tls_fingerprint: Some("t13d1516h2"),
            status: Some(429),
            cost_usd: Some(0.0125),
            usage_output_tokens: Some(700),
            ..Exchange::default()
        }
    }

    #[test]
    fn bytes_go_there_and_back() {
        let traits = Observer::new(Key::public()).observe(&exchange());
        assert_eq!(Traits::from_bytes(&traits.to_bytes()), Ok(traits));
        assert!(Traits::from_bytes(&[0; 3]).is_err());
    }

    #[test]
    fn a_sketch_is_observed_like_its_text() {
        let mut observer = Observer::new(Key::derive(b"k"));
        let text = exchange();
        let bytes = observer.sketch(&text).unwrap().to_bytes(&Key::derive(b"k"));
        let sketched = Exchange {
            prompt: None,
            system_instructions: None,
            prompt_sketch: Some(&bytes),
            ..text
        };
        assert_eq!(observer.observe(&sketched), observer.observe(&text));
    }

    #[test]
    fn a_sketch_of_another_key_costs_the_text_only() {
        let bytes = [1u8; super::super::SKETCH_BYTES];
        let sketched = Exchange { prompt: None, prompt_sketch: Some(&bytes), ..exchange() };
        let traits = Observer::new(Key::public()).observe(&sketched);
        assert!(traits.flags.has(Flags::NO_TEXT | Flags::LIMITED));
        assert_eq!(traits.text, Sketch::default());
        assert_ne!(traits.client, 0);
    }

    #[test]
    fn addresses_of_one_network_share_it() {
        let network = |address| {
            let e = Exchange { client_address: Some(address), ..exchange() };
            Observer::new(Key::public()).observe(&e).network
        };
        assert_eq!(network("203.0.113.77"), network("203.0.113.9"));
        assert_ne!(network("203.0.113.77"), network("203.0.114.77"));
        assert_eq!(network("2001:db8:1::1"), network("2001:db8:1:ffff::9"));
        assert_eq!(network("9f86d081"), 0);
    }
}

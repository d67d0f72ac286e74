//! One exchange in fixed size: the sketch of its text, the links it carries and what
//! it asked for.
//!
//! An exchange travels between the parts of the engine as [`Traits`], or as a
//! [`Glance`] to where its account is added up. Their bytes are little-endian, in
//! the order of the fields, and live no longer than a run.

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

    /// These and what the words of a prompt ask for.
    #[inline]
    #[must_use]
    pub fn with(self, asks: Asks) -> Self {
        let bit = |ask: u8, flag: u16| if asks.0 & ask != 0 { flag } else { 0 };
        Flags(self.0 | bit(Asks::REASONING, Flags::REASONING) | bit(Asks::GRADING, Flags::GRADING))
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
    pub flags: Flags,
}

/// Length of [`Traits::to_bytes`].
pub const TRAITS_BYTES: usize =
    8 * 2 + 8 * (5 + BANDS) + TOPIC_BUCKETS + 2 + 1 + 1 + 8 * 9 + 4 * 3 + 2;

/// What a profile takes of one exchange. Of a text that comes to four bytes where a
/// sketch has eight, and no skeleton.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Glance {
    pub time: Time,
    /// A hash of the account's id.
    pub account: u64,
    pub row: u64,
    pub whole: u64,
    pub system: u64,
    pub client: u64,
    pub address: u64,
    pub network: u64,
    pub organization: u64,
    pub credential: u64,
    pub conversation: u64,
    pub model: u64,
    pub route: u64,
    pub place: u64,
    pub input_tokens: u32,
    pub output_tokens: u32,
    pub reasoning_tokens: u32,
    pub flags: Flags,
    /// Low halves of the sketch's hashes; 0 = absent.
    pub opening: u32,
    pub closing: u32,
    pub bands: [u32; BANDS],
    pub topic: [u8; TOPIC_BUCKETS],
    pub words: u16,
    pub capability: Capability,
}

/// Length of [`Glance::to_bytes`].
pub const GLANCE_BYTES: usize = 8 * 14 + 4 * 3 + 2 + 4 * (2 + BANDS) + TOPIC_BUCKETS + 2 + 1;

impl Glance {
    /// What a profile takes of these traits. `account` is any hash of the account's id;
    /// it only makes the samples of different accounts fall into different half hours.
    #[must_use]
    pub fn of(traits: &Traits, account: u64) -> Self {
        Glance {
            time: traits.time,
            account,
            row: traits.row,
            whole: traits.text.whole,
            system: traits.text.system,
            client: traits.client,
            address: traits.address,
            network: traits.network,
            organization: traits.organization,
            credential: traits.credential,
            conversation: traits.conversation,
            model: traits.model,
            route: traits.route,
            place: traits.place,
            input_tokens: traits.input_tokens,
            output_tokens: traits.output_tokens,
            reasoning_tokens: traits.reasoning_tokens,
            flags: traits.flags,
            opening: traits.text.opening as u32,
            closing: traits.text.closing as u32,
            bands: traits.text.bands.map(|band| band as u32),
            topic: traits.text.topic,
            words: traits.text.words,
            capability: traits.text.capability,
        }
    }

    /// The fixed-size form.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; GLANCE_BYTES] {
        let mut bytes = [0u8; GLANCE_BYTES];
        let mut writer = Writer { bytes: &mut bytes, at: 0 };
        writer.put(self.time.0.to_le_bytes());
        for value in [
            self.account,
            self.row,
            self.whole,
            self.system,
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
        for value in [self.input_tokens, self.output_tokens, self.reasoning_tokens] {
            writer.put(value.to_le_bytes());
        }
        writer.put(self.flags.0.to_le_bytes());
        for value in [self.opening, self.closing].iter().chain(&self.bands) {
            writer.put(value.to_le_bytes());
        }
        writer.put(self.topic);
        writer.put(self.words.to_le_bytes());
        writer.put([self.capability as u8]);
        debug_assert_eq!(writer.at, GLANCE_BYTES);
        bytes
    }

    /// Reads the fixed-size form.
    ///
    /// # Errors
    /// The bytes have another length.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, TraitsError> {
        let bytes: &[u8; GLANCE_BYTES] =
            bytes.try_into().map_err(|_| TraitsError(bytes.len(), GLANCE_BYTES))?;
        let mut c = Cursor { bytes, at: 0 };
        Ok(Glance {
            time: Time(i64::from_le_bytes(c.take())),
            account: c.u64(),
            row: c.u64(),
            whole: c.u64(),
            system: c.u64(),
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
            flags: Flags(u16::from_le_bytes(c.take())),
            opening: c.u32(),
            closing: c.u32(),
            bands: std::array::from_fn(|_| c.u32()),
            topic: c.take(),
            words: u16::from_le_bytes(c.take()),
            capability: Capability::from_number(c.take::<1>()[0]),
        })
    }
}

/// What a source says of one exchange beside its prompt, with texts as hashes
/// ([`Observer::hash`]); 0 and `None` where it does not say.
#[derive(Clone, Copy, Debug, Default)]
pub struct Facts {
    pub time: Time,
    pub account: u64,
    pub organization: u64,
    pub credential: u64,
    pub conversation: u64,
    pub turn: u16,
    pub request_model: u64,
    pub response_model: u64,
    pub route: u64,
    pub temperature: Option<f32>,
    pub top_p: Option<f32>,
    pub max_tokens: Option<u32>,
    pub choices: Option<u16>,
    pub is_seeded: bool,
    pub stream: Option<bool>,
    pub top_logprobs: u16,
    pub biases: u16,
    pub reasoning: u64,
    /// The parameter for reasoning has a value that asks for some.
    pub reasons: bool,
    pub tools: u16,
    pub input_tokens: u32,
    pub output_tokens: u32,
    pub reasoning_tokens: u32,
    pub is_truncated: bool,
    pub status: u16,
    pub address: u64,
    /// Of the network as the source has it, or else of the address's.
    pub network: u64,
    pub asn: u32,
    pub country: u64,
    pub tls_fingerprint: u64,
    pub user_agent: u64,
}

/// Bytes that are not [`Traits`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an exchange of {0} bytes, expected {1}: parts of the engine are of different versions")]
pub struct TraitsError(usize, usize);

/// Texts that exchanges are linked by; each kind is hashed in its own way. Kinds of
/// text hashes are in `sketch.rs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Link {
    Address = 65,
    Network = 66,
    Organization = 67,
    Credential = 68,
    Conversation = 69,
    Model = 70,
    Route = 71,
    Other = 74,
    Account = 75,
}

/// Kinds of hashes that are made from others.
mod kind {
    pub const CLIENT: u64 = 64;
    pub const PLACE: u64 = 72;
    pub const ROW: u64 = 73;
}

/// Turns exchanges into traits under one key.
#[derive(Clone, Debug)]
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

    /// The keyed hash of a text that exchanges are linked by; 0 for an empty one.
    #[inline]
    #[must_use]
    pub fn hash(&self, link: Link, text: &str) -> u64 {
        if text.is_empty() { 0 } else { self.key.link_bytes(link as u64, text.as_bytes()) }
    }

    /// The hash of the network that an address is in; 0 for what is no address.
    #[must_use]
    pub fn network_hash(&self, address: &str) -> u64 {
        network_of(address).map_or(0, |network| self.hash(Link::Network, &network))
    }

    /// The link of a system prompt.
    #[must_use]
    pub fn system_hash(&mut self, system: &str) -> u64 {
        self.sketcher.system(system)
    }

    /// The facts of an exchange.
    #[must_use]
    pub fn facts(&self, exchange: &Exchange<'_>) -> Facts {
        let hash = |link: Link, text: Option<&str>| text.map_or(0, |text| self.hash(link, text));
        Facts {
            time: exchange.time,
            account: self.hash(Link::Account, exchange.account_id),
            organization: hash(Link::Organization, exchange.organization_id),
            credential: hash(Link::Credential, exchange.credential_id),
            conversation: hash(Link::Conversation, exchange.conversation_id),
            turn: exchange.turn.unwrap_or(0),
            request_model: hash(Link::Model, exchange.request_model),
            response_model: hash(Link::Model, exchange.response_model),
            route: hash(Link::Route, exchange.route),
            temperature: exchange.request_temperature,
            top_p: exchange.request_top_p,
            max_tokens: exchange.request_max_tokens,
            choices: exchange.request_choice_count,
            is_seeded: exchange.request_seed.is_some(),
            stream: exchange.request_stream,
            top_logprobs: exchange.request_top_logprobs.unwrap_or(0),
            biases: exchange.request_logit_bias_count.unwrap_or(0),
            reasoning: hash(Link::Other, exchange.request_reasoning),
            reasons: exchange.request_reasoning.is_some_and(asks_for_reasoning),
            tools: exchange.request_tool_count.unwrap_or(0),
            input_tokens: exchange.usage_input_tokens.unwrap_or(0),
            output_tokens: exchange.usage_output_tokens.unwrap_or(0),
            reasoning_tokens: exchange.usage_reasoning_tokens.unwrap_or(0),
            is_truncated: exchange.response_finish_reason.is_some_and(is_truncation),
            status: exchange.status.unwrap_or(0),
            address: hash(Link::Address, exchange.client_address),
            network: match exchange.client_network {
                Some(network) => self.hash(Link::Network, network),
                None => exchange.client_address.map_or(0, |a| self.network_hash(a)),
            },
            asn: exchange.client_asn.unwrap_or(0),
            country: hash(Link::Other, exchange.client_country),
            tls_fingerprint: hash(Link::Other, exchange.tls_fingerprint),
            user_agent: hash(Link::Other, exchange.user_agent),
        }
    }

    /// The sketch of a prompt alone; a stored one has its system prompt too.
    ///
    /// # Errors
    /// The stored sketch is unusable; see [`SketchError`].
    pub fn text(&self, prompt: Prompt<'_>) -> Result<Sketch, SketchError> {
        match prompt {
            Prompt::Text(text) => Ok(self.sketcher.read(text)),
            Prompt::Sketch(bytes) => Sketch::from_bytes(bytes, &self.key),
        }
    }

    /// Observes one exchange. An unusable sketch costs the exchange its text and sets
    /// [`Flags::NO_TEXT`].
    pub fn observe(&mut self, exchange: &Exchange<'_>) -> Traits {
        let text = self.sketch(exchange);
        self.traits(&self.facts(exchange), text)
    }

    /// The traits of an exchange from its facts and its text.
    #[must_use]
    pub fn traits(&self, facts: &Facts, text: Result<Sketch, SketchError>) -> Traits {
        let unusable = text.is_err();
        let text = text.unwrap_or_default();
        let key = &self.key;
        let mut flags = 0u16;
        let mut set = |bit: u16, when: bool| flags |= if when { bit } else { 0 };
        set(Flags::OPENING, facts.turn <= 1);
        set(Flags::FOLLOW_UP, facts.turn > 1);
        set(Flags::LIMITED, facts.status == 429);
        set(Flags::FAILED, facts.status >= 400 && facts.status != 429);
        set(Flags::LOGPROBS, facts.top_logprobs > 0);
        set(Flags::BIASED, facts.biases > 0);
        set(Flags::REASONING, facts.reasons);
        set(Flags::TOOLS, facts.tools > 0);
        set(Flags::TRUNCATED, facts.is_truncated);
        set(Flags::CHOICES, facts.choices.is_some_and(|n| n > 1));
        set(Flags::NO_TEXT, unusable);
        let place = u64::from(facts.asn) << 32 | u64::from(facts.country as u32);
        let row = key.link(
            kind::ROW,
            text.whole
                ^ (facts.time.0 as u64).rotate_left(17)
                ^ facts.conversation.rotate_left(31)
                ^ u64::from(facts.turn).rotate_left(47)
                ^ u64::from(facts.output_tokens).rotate_left(7),
        );
        Traits {
            time: facts.time,
            row,
            text,
            client: self.client(facts),
            address: facts.address,
            network: facts.network,
            organization: facts.organization,
            credential: facts.credential,
            conversation: facts.conversation,
            model: if facts.request_model == 0 {
                facts.response_model
            } else {
                facts.request_model
            },
            route: facts.route,
            place: if place == 0 { 0 } else { key.link(kind::PLACE, place) },
            input_tokens: facts.input_tokens,
            output_tokens: facts.output_tokens,
            reasoning_tokens: facts.reasoning_tokens,
            flags: Flags(flags).with(text.asks),
        }
    }

    /// The joint trait of a client: none of its parts is rare, together they may be.
    /// 0 where neither fingerprint nor user agent is known.
    fn client(&self, facts: &Facts) -> u64 {
        if facts.tls_fingerprint == 0 && facts.user_agent == 0 {
            return 0;
        }
        let number = |value: Option<f32>| u64::from(value.map_or(u32::MAX, f32::to_bits));
        let parts = [
            facts.tls_fingerprint,
            facts.user_agent,
            facts.reasoning,
            number(facts.temperature) << 32 | number(facts.top_p),
            u64::from(facts.max_tokens.unwrap_or(u32::MAX)) << 32
                | u64::from(facts.tools) << 16
                | u64::from(facts.top_logprobs),
            u64::from(facts.choices.unwrap_or(1)) << 32
                | u64::from(facts.stream.map_or(2, u8::from)) << 16
                | u64::from(facts.is_seeded) << 8
                | u64::from(facts.biases > 0),
        ];
        // Keyed at each step, so that no two orders of parts meet.
        parts.into_iter().fold(1, |hash, part| self.key.link(kind::CLIENT, hash ^ part))
    }

    /// The keyed hash of a value from the accounts table, comparable within one run.
    #[must_use]
    pub fn link(&self, value: &str) -> u64 {
        self.hash(Link::Other, value)
    }

    /// The hash that [`Traits::model`] has for a model of this name.
    #[must_use]
    pub fn model(&self, name: &str) -> u64 {
        self.hash(Link::Model, name)
    }
}

/// The text of an exchange, or what stands for it.
#[derive(Clone, Copy, Debug)]
pub enum Prompt<'a> {
    Text(&'a str),
    Sketch(&'a [u8]),
}

/// Whether a value of the parameter for reasoning asks for some.
#[must_use]
pub fn asks_for_reasoning(value: &str) -> bool {
    !matches!(value, "" | "none" | "off" | "disabled" | "0" | "minimal")
}

/// Whether a reason for the end of an answer is that it ran into its limit.
#[must_use]
pub fn is_truncation(reason: &str) -> bool {
    reason == "length"
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
    bytes: &'a mut [u8],
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
    bytes: &'a [u8],
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
        for value in [self.input_tokens, self.output_tokens, self.reasoning_tokens] {
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
        let bytes: &[u8; TRAITS_BYTES] =
            bytes.try_into().map_err(|_| TraitsError(bytes.len(), TRAITS_BYTES))?;
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
    fn glances_go_there_and_back() {
        let seen = Glance::of(&Observer::new(Key::public()).observe(&exchange()), 7);
        assert_ne!(seen.opening, 0);
        assert_eq!(Glance::from_bytes(&seen.to_bytes()), Ok(seen));
        assert!(Glance::from_bytes(&[0; 3]).is_err());
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

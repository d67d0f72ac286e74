//! Opaque reasoning blocks, bound to whom they were issued.
//!
//! Vendors hand a model's hidden reasoning to the client as a text that only they can read,
//! for it to be sent back with the next turn: `signature` and `data` of Anthropic's thinking
//! blocks, `encrypted_content` of OpenAI's reasoning items. It is good in anybody's hands,
//! so that one account can gather what others go on from. A bound block carries a mark
//! before the vendor's text, that is taken off again when the block comes back:
//!
//! `sw1.` and 38 hex digits for the key's id (2 bytes), what it is bound to (1 byte) and a
//! tag (16 bytes), then `.`
//!
//! The tag is HMAC-SHA-256 (RFC 2104), cut to half, over the account, the model and session
//! where it is bound to them, and the block. Nothing is remembered: guards that share the
//! keys know each other's marks.

mod answers;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use ring::{digest, hmac};
use serde_json::value::RawValue;
use stillwatch_decide::Reasoning;
use subtle::ConstantTimeEq;

pub use self::answers::Binder;
use crate::api::Endpoint;
use crate::asked::Asked;
use crate::json::{Fields, elements, text};
use crate::keys::hex;

/// What every mark begins with.
const PREFIX: &str = "sw1.";
const TAG_BYTES: usize = 16;
/// The hex digits of a mark.
const DIGITS: usize = 2 * (2 + 1 + TAG_BYTES);
/// The length of a mark, in bytes.
const MARK_BYTES: usize = PREFIX.len() + DIGITS + 1;
/// A shorter key could be found by trying, in bytes.
const KEY_BYTES_MIN: usize = 32;
/// The most keys of a file.
const KEYS_MAX: usize = 16;
/// Goes into every tag, so that no other use of the key makes one.
const DOMAIN: &[u8] = b"stillwatch reasoning block 1";

const MODEL: u8 = 1;
const SESSION: u8 = 2;

/// The keys that blocks are bound with: the first marks, the others are still known.
pub struct ReasoningKeys(Vec<Key>);

struct Key {
    id: [u8; 2],
    hmac: hmac::Key,
}

impl fmt::Debug for ReasoningKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReasoningKeys({})", self.0.len())
    }
}

impl ReasoningKeys {
    /// Reads keys, one a line; empty lines don't count.
    ///
    /// # Errors
    /// There is none, there are too many, or one is too short; which line, and never what
    /// is in it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut keys = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let secret = line.trim().as_bytes();
            if secret.is_empty() {
                continue;
            }
            if secret.len() < KEY_BYTES_MIN {
                return Err(format!(
                    "line {}: a key needs at least {KEY_BYTES_MIN} bytes; `openssl rand -hex 32` \
                     makes one",
                    number + 1
                ));
            }
            let named = digest::digest(&digest::SHA256, &[DOMAIN, b" key ", secret].concat());
            let mut id = [0; 2];
            id.copy_from_slice(named.as_ref().get(..2).unwrap_or(&[0; 2]));
            keys.push(Key { id, hmac: hmac::Key::new(hmac::HMAC_SHA256, secret) });
        }
        match keys.len() {
            0 => Err("it holds no key; `openssl rand -hex 32` makes one".to_owned()),
            1..=KEYS_MAX => Ok(ReasoningKeys(keys)),
            _ => Err(format!("it holds more than {KEYS_MAX} keys; take out those out of use")),
        }
    }
}

/// Whom a block is issued to, or comes back from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    pub account_id: Arc<str>,
    pub model: Option<String>,
    pub session: Option<String>,
}

impl Holder {
    /// Who asks this.
    #[must_use]
    pub fn of(account_id: &Arc<str>, asked: &Asked<'_>) -> Self {
        Holder {
            account_id: Arc::clone(account_id),
            model: asked.request_model.as_deref().map(str::to_owned),
            session: asked.conversation_id.as_deref().map(str::to_owned),
        }
    }

    fn tag(&self, key: &Key, bound: u8, block: &str) -> [u8; TAG_BYTES] {
        let mut context = hmac::Context::with_key(&key.hmac);
        let mut field = |bytes: &[u8]| {
            context.update(&(bytes.len() as u64).to_le_bytes());
            context.update(bytes);
        };
        field(DOMAIN);
        field(&[bound]);
        field(self.account_id.as_bytes());
        for (bit, value) in [(MODEL, &self.model), (SESSION, &self.session)] {
            if bound & bit != 0 {
                field(value.as_deref().unwrap_or_default().as_bytes());
            }
        }
        field(block.as_bytes());
        let mut tag = [0; TAG_BYTES];
        tag.copy_from_slice(context.sign().as_ref().get(..TAG_BYTES).unwrap_or(&[0; TAG_BYTES]));
        tag
    }

    /// The mark of a block that is issued now.
    fn mark(&self, keys: &ReasoningKeys, to: Reasoning, block: &str) -> Option<String> {
        let key = keys.0.first()?;
        let mut bound = 0;
        if to.to_model && self.model.is_some() {
            bound |= MODEL;
        }
        if to.to_session && self.session.is_some() {
            bound |= SESSION;
        }
        let tag = self.tag(key, bound, block);
        Some(format!("{PREFIX}{}{bound:02x}{}.", hex(&key.id), hex(&tag)))
    }

    /// The block without its mark, and whether it is this holder's; none where it has no
    /// mark.
    fn unmarked<'b>(&self, keys: &ReasoningKeys, marked: &'b str) -> Option<(&'b str, bool)> {
        let rest = marked.strip_prefix(PREFIX)?;
        let (digits, rest) = rest.split_at_checked(DIGITS)?;
        let block = rest.strip_prefix('.')?;
        let mut bytes = [0; DIGITS / 2];
        for (index, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(digits.get(2 * index..2 * index + 2)?, 16).ok()?;
        }
        let [first, second, bound, tag @ ..] = bytes;
        // A field that a block is bound to has to be said again.
        let is_said = (bound & MODEL == 0 || self.model.is_some())
            && (bound & SESSION == 0 || self.session.is_some());
        let of_id = keys.0.iter().filter(|key| key.id == [first, second]);
        let mut is_tag = of_id.map(|key| bool::from(self.tag(key, bound, block).ct_eq(&tag)));
        Some((block, is_said && is_tag.any(|is_tag| is_tag)))
    }
}

/// What is done about blocks that are not this holder's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Strictness {
    /// Whether one with another holder's mark is refused.
    pub refuses_foreign: bool,
    /// Whether one without a mark is refused.
    pub refuses_unbound: bool,
}

/// A block of the request was not issued to whoever sends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Foreign;

/// A request as the vendor has to get it: without marks. Borrowed where there are none;
/// none of the other bytes changes. A body that is no JSON object passes as it is.
///
/// # Errors
/// A block is not this holder's.
pub fn released<'a>(
    endpoint: Endpoint,
    body: &'a [u8],
    keys: &ReasoningKeys,
    holder: &Holder,
    strictness: Strictness,
) -> Result<Cow<'a, [u8]>, Foreign> {
    let Some(fields) = Fields::parse(body) else { return Ok(Cow::Borrowed(body)) };
    let mut splices = Splices::default();
    for value in asked_blocks(endpoint, &fields) {
        let Some(said) = text(value).filter(|said| !said.is_empty()) else { continue };
        match holder.unmarked(keys, &said) {
            None if strictness.refuses_unbound => return Err(Foreign),
            None => {}
            Some((_, false)) if strictness.refuses_foreign => return Err(Foreign),
            Some((block, _)) => splices.replace(body, value, block, MARK_BYTES),
        }
    }
    Ok(splices.applied(body))
}

/// A request to something else than an exchange, without the marks of this holder's
/// blocks, wherever a text begins with one.
#[must_use]
pub fn released_anywhere<'a>(
    body: &'a [u8],
    keys: &ReasoningKeys,
    holder: &Holder,
) -> Cow<'a, [u8]> {
    let mut splices = Splices::default();
    let needle = format!("\"{PREFIX}");
    for at in memchr::memmem::find_iter(body, needle.as_bytes()) {
        let rest = body.get(at + 1..).unwrap_or_default();
        let end = memchr::memchr(b'"', rest).unwrap_or(rest.len());
        let said = rest.get(..end).and_then(|said| std::str::from_utf8(said).ok());
        if said.and_then(|said| holder.unmarked(keys, said)).is_some_and(|(_, is_own)| is_own) {
            splices.0.push((at + 1, at + 1 + MARK_BYTES, Vec::new()));
        }
    }
    splices.applied(body)
}

/// The opaque texts of a request. Parsers differ in which of two fields of one name counts,
/// so that all of them do.
fn asked_blocks<'a>(endpoint: Endpoint, fields: &Fields<'a>) -> Vec<&'a RawValue> {
    let all = |fields: &Fields<'a>, name: &'static str| -> Vec<&'a RawValue> {
        fields.0.iter().filter(|(there, _)| there == name).map(|(_, value)| *value).collect()
    };
    let objects = |values: Vec<&'a RawValue>| -> Vec<Fields<'a>> {
        values.into_iter().flat_map(elements).filter_map(Fields::of).collect()
    };
    let is = |block: &Fields<'a>, kind: &str| {
        all(block, "type").into_iter().filter_map(text).any(|said| said == kind)
    };
    let mut found = Vec::new();
    match endpoint {
        Endpoint::Messages => {
            for message in objects(all(fields, "messages")) {
                for block in objects(all(&message, "content")) {
                    if is(&block, "thinking") {
                        found.extend(all(&block, "signature"));
                    }
                    if is(&block, "redacted_thinking") {
                        found.extend(all(&block, "data"));
                    }
                }
            }
        }
        Endpoint::Responses => {
            for item in objects(all(fields, "input")) {
                if is(&item, "reasoning") {
                    found.extend(all(&item, "encrypted_content"));
                }
            }
        }
        _ => {}
    }
    found
}

/// Places in a text and what comes there instead.
#[derive(Debug, Default)]
struct Splices(Vec<(usize, usize, Vec<u8>)>);

impl Splices {
    /// A value that is part of `whole` says this instead; where its text is written without
    /// escapes, only its first `cut` bytes go.
    fn replace(&mut self, whole: &[u8], value: &RawValue, said: &str, cut: usize) {
        let Some(at) = place(whole, value) else { return };
        let raw = value.get();
        let is_plain = raw.get(1 + cut..raw.len() - 1) == Some(said);
        if is_plain {
            self.0.push((at + 1, at + 1 + cut, Vec::new()));
        } else {
            // A text always becomes JSON.
            let said = serde_json::to_vec(said).unwrap_or_default();
            self.0.push((at, at + raw.len(), said));
        }
    }

    /// A value that is a text and part of `whole` begins with this.
    fn begin_with(&mut self, whole: &[u8], value: &RawValue, mark: String) {
        if let Some(at) = place(whole, value) {
            self.0.push((at + 1, at + 1, mark.into_bytes()));
        }
    }

    fn applied(mut self, whole: &[u8]) -> Cow<'_, [u8]> {
        if self.0.is_empty() {
            return Cow::Borrowed(whole);
        }
        self.0.sort();
        let mut out = Vec::with_capacity(whole.len() + 64 * self.0.len());
        let mut done = 0;
        for (from, to, new) in self.0 {
            out.extend_from_slice(whole.get(done..from).unwrap_or_default());
            out.extend_from_slice(&new);
            done = to;
        }
        out.extend_from_slice(whole.get(done..).unwrap_or_default());
        Cow::Owned(out)
    }
}

/// Where in a text a value stands that was read of it.
fn place(whole: &[u8], value: &RawValue) -> Option<usize> {
    let at = value.get().as_ptr().addr().checked_sub(whole.as_ptr().addr())?;
    (whole.get(at..at + value.get().len()) == Some(value.get().as_bytes())).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STRICT: Strictness = Strictness { refuses_foreign: true, refuses_unbound: true };
    const BOTH: Reasoning =
        Reasoning { bind: true, to_model: true, to_session: true, unbound_until: None };

    fn keys(lines: &[&str]) -> ReasoningKeys {
        let lines: Vec<String> = lines.iter().map(|line| line.repeat(32)).collect();
        ReasoningKeys::parse(&lines.join("\n")).unwrap()
    }

    fn holder(account: &str, model: &str, session: Option<&str>) -> Holder {
        Holder {
            account_id: account.into(),
            model: Some(model.to_owned()),
            session: session.map(str::to_owned),
        }
    }

    fn request(signature: &str) -> String {
        format!(
            r#"{{ "model": "m",  "messages": [ {{"role":"user","content":"hi"}}, {{"role":"assistant","content":[ {{"type":"thinking", "thinking":"x","signature":"{signature}" }}, {{"type":"redacted_thinking","data":""}}]}} ] }}"#
        )
    }

    #[test]
    fn a_block_comes_back_to_its_holder_alone() {
        let keys = keys(&["a"]);
        let own = holder("acct_1", "m", Some("s"));
        let marked = own.mark(&keys, BOTH, "c2ln+/==").unwrap() + "c2ln+/==";
        let body = request(&marked);
        let check = |holder: &Holder| {
            released(Endpoint::Messages, body.as_bytes(), &keys, holder, STRICT).is_ok()
        };
        let back = released(Endpoint::Messages, body.as_bytes(), &keys, &own, STRICT).unwrap();
        assert_eq!(std::str::from_utf8(&back).unwrap(), request("c2ln+/=="), "no other byte");
        assert!(!check(&holder("acct_2", "m", Some("s"))));
        assert!(!check(&holder("acct_1", "n", Some("s"))));
        assert!(!check(&holder("acct_1", "m", Some("t"))));
        assert!(!check(&holder("acct_1", "m", None)));
        assert!(!check(&Holder { model: None, ..own.clone() }));
        // What it is bound to is said by the mark itself.
        let loose = Reasoning { to_model: false, to_session: false, ..BOTH };
        let marked = own.mark(&keys, loose, "sig").unwrap() + "sig";
        assert_eq!(holder("acct_1", "n", None).unmarked(&keys, &marked), Some(("sig", true)));
        assert_eq!(holder("acct_2", "m", None).unmarked(&keys, &marked), Some(("sig", false)));
        let forged = marked.replacen("00", "01", 1);
        assert_ne!(own.unmarked(&keys, &forged), Some(("sig", true)));
        assert_ne!(own.unmarked(&keys, &marked.replace("sig", "gis")), Some(("gis", true)));
    }

    #[test]
    fn keys_can_be_changed() {
        let own = holder("acct_1", "m", None);
        let (old, both, new) = (keys(&["a"]), keys(&["b", "a"]), keys(&["b"]));
        let marked = own.mark(&old, BOTH, "sig").unwrap() + "sig";
        assert_eq!(own.unmarked(&both, &marked), Some(("sig", true)));
        assert_eq!(own.unmarked(&new, &marked), Some(("sig", false)));
        let marked = own.mark(&both, BOTH, "sig").unwrap() + "sig";
        assert_eq!(own.unmarked(&new, &marked), Some(("sig", true)), "the first one marks");
        assert_eq!(
            ReasoningKeys::parse("\nshort\n").unwrap_err(),
            "line 2: a key needs at least 32 bytes; `openssl rand -hex 32` makes one"
        );
        assert!(ReasoningKeys::parse("\n").is_err());
    }

    #[test]
    fn blocks_without_a_mark() {
        let (keys, own) = (keys(&["a"]), holder("acct_1", "m", None));
        let body = request("c2ln");
        let release = |body: &str, strictness| {
            let released = released(Endpoint::Messages, body.as_bytes(), &keys, &own, strictness);
            released.map(|body| String::from_utf8(body.into_owned()).unwrap())
        };
        assert_eq!(release(&body, STRICT), Err(Foreign));
        let grace = Strictness { refuses_unbound: false, ..STRICT };
        assert_eq!(release(&body, grace), Ok(body.clone()));
        // No spelling gets around it: escapes, two fields of one name, other orders.
        let escaped = body.replace("\"thinking\",", "\"\\u0074hinking\",");
        assert_eq!(release(&escaped, STRICT), Err(Foreign));
        let twice =
            body.replace("{\"type\":\"thinking\",", "{\"type\":\"thinking\",\"type\":\"text\",");
        assert_eq!(release(&twice, STRICT), Err(Foreign));
        // Where nothing is refused marks go all the same.
        let other = holder("acct_2", "m", None).mark(&keys, BOTH, "c2ln").unwrap() + "c2ln";
        let lenient = Strictness { refuses_foreign: false, refuses_unbound: false };
        assert_eq!(release(&request(&other), lenient), Ok(body));
        assert_eq!(release(&request(&other), grace), Err(Foreign));
        // A mark that is written with escapes goes too.
        let own_mark = own.mark(&keys, BOTH, "c2ln").unwrap() + "c2ln";
        let spelled = request(&own_mark.replacen("sw1", "s\\u00771", 1));
        assert_eq!(release(&spelled, STRICT), Ok(request("c2ln")));
    }

    #[test]
    fn in_other_requests_own_marks_go() {
        let (keys, own) = (keys(&["a"]), holder("acct_1", "m", None));
        let mark = |holder: &Holder| holder.mark(&keys, BOTH, "c2ln").unwrap() + "c2ln";
        let foreign = mark(&holder("acct_2", "m", None));
        let body = format!(r#"{{"a":["{}","{foreign}"]}}"#, mark(&own));
        let expected = format!(r#"{{"a":["c2ln","{foreign}"]}}"#);
        assert_eq!(released_anywhere(body.as_bytes(), &keys, &own).as_ref(), expected.as_bytes());
    }
}

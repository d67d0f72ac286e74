//! Reading JSON without believing it: an object's fields as they stand in the text,
//! each read on its own, so that one strange value spoils nothing beside it.
//!
//! Every exchange waits for this, and for every level of its nesting again. So values are
//! passed over by a scanner that only looks for where they end; it takes what `serde_json`
//! takes, and a test holds the two against each other.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserializer, Visitor};
use serde::{Deserialize, de};

/// A value as it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Raw<'a>(&'a str);

impl<'a> Raw<'a> {
    /// The text of the value, without white space around it.
    pub fn get(self) -> &'a str {
        self.0
    }

    /// Its first byte, which tells what it is.
    pub fn first(self) -> Option<u8> {
        self.0.as_bytes().first().copied()
    }
}

/// The fields of an object in their order, with values as they are written.
#[derive(Debug, Default)]
pub(crate) struct Fields<'a>(pub Vec<(Cow<'a, str>, Raw<'a>)>);

impl<'a> Fields<'a> {
    /// The fields of a text that is one object; none for anything else.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        Fields::read(Scanner { bytes, text: std::str::from_utf8(bytes).ok(), at: 0 })
    }

    /// The fields of a value that is an object; none for anything else.
    pub fn of(value: Raw<'a>) -> Option<Self> {
        Fields::read(Scanner::of(value))
    }

    fn read(mut scanner: Scanner<'a>) -> Option<Self> {
        let mut fields = Vec::with_capacity(12);
        scanner.space();
        scanner.take(b'{')?;
        scanner.space();
        if scanner.take(b'}').is_none() {
            loop {
                scanner.space();
                let name = scanner.name()?;
                scanner.space();
                scanner.take(b':')?;
                fields.push((name, scanner.value()?));
                scanner.space();
                if scanner.take(b'}').is_some() {
                    break;
                }
                scanner.take(b',')?;
            }
        }
        scanner.space();
        scanner.peek().is_none().then_some(Fields(fields))
    }

    /// A field's value; of several with this name the last, as most parsers have it.
    /// Null is no value.
    pub fn get(&self, name: &str) -> Option<Raw<'a>> {
        let (_, value) = self.0.iter().rev().find(|(key, _)| key == name)?;
        (value.get() != "null").then_some(*value)
    }

    /// The value at a path of names.
    pub fn at(&self, path: &[&str]) -> Option<Raw<'a>> {
        let (name, rest) = path.split_first()?;
        let value = self.get(name)?;
        if rest.is_empty() { Some(value) } else { Fields::of(value)?.at(rest) }
    }

    /// A text field.
    pub fn text(&self, name: &str) -> Option<Cow<'a, str>> {
        self.get(name).and_then(text)
    }
}

/// Goes through a JSON text, as far as it is one.
struct Scanner<'a> {
    bytes: &'a [u8],
    /// The same, where all of it is UTF-8.
    text: Option<&'a str>,
    at: usize,
}

impl<'a> Scanner<'a> {
    fn of(value: Raw<'a>) -> Self {
        Scanner { bytes: value.0.as_bytes(), text: Some(value.0), at: 0 }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> Option<()> {
        let is_it = self.peek() == Some(byte);
        self.at += usize::from(is_it);
        is_it.then_some(())
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\t' | b'\r')) {
            self.at += 1;
        }
    }

    fn from(&self, start: usize) -> Option<&'a str> {
        match self.text {
            Some(text) => text.get(start..self.at),
            None => std::str::from_utf8(self.bytes.get(start..self.at)?).ok(),
        }
    }

    /// A field's name, which may hold what is no character: it becomes U+FFFD.
    fn name(&mut self) -> Option<Cow<'a, str>> {
        let start = self.at;
        let has_escapes = self.characters(true)?;
        let quoted = self.bytes.get(start..self.at)?;
        if has_escapes {
            return serde_json::from_slice::<Text<'_>>(quoted).ok().map(|name| name.0);
        }
        match self.text {
            Some(text) => text.get(start + 1..self.at - 1).map(Cow::Borrowed),
            None => quoted.get(1..quoted.len() - 1).map(String::from_utf8_lossy),
        }
    }

    /// The value that comes next.
    fn value(&mut self) -> Option<Raw<'a>> {
        self.space();
        let start = self.at;
        // The brackets that are open, as what closes them.
        let mut open: Vec<u8> = Vec::new();
        loop {
            self.space();
            match self.peek()? {
                b'"' => drop(self.characters(false)?),
                b'{' => {
                    self.at += 1;
                    self.space();
                    if self.take(b'}').is_none() {
                        self.name_passed()?;
                        open.push(b'}');
                        continue;
                    }
                }
                b'[' => {
                    self.at += 1;
                    self.space();
                    if self.take(b']').is_none() {
                        open.push(b']');
                        continue;
                    }
                }
                b't' => self.word(b"true")?,
                b'f' => self.word(b"false")?,
                b'n' => self.word(b"null")?,
                _ => self.number()?,
            }
            loop {
                let Some(close) = open.last().copied() else { return self.from(start).map(Raw) };
                self.space();
                if self.take(close).is_some() {
                    open.pop();
                    continue;
                }
                self.take(b',')?;
                if close == b'}' {
                    self.space();
                    self.name_passed()?;
                }
                break;
            }
        }
    }

    fn name_passed(&mut self) -> Option<()> {
        self.characters(false)?;
        self.space();
        self.take(b':')
    }

    fn word(&mut self, word: &[u8]) -> Option<()> {
        let is_it = self.bytes.get(self.at..)?.starts_with(word);
        self.at += word.len();
        is_it.then_some(())
    }

    fn number(&mut self) -> Option<()> {
        let _ = self.take(b'-');
        if self.take(b'0').is_none() {
            self.digits()?;
        } else if self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            return None;
        }
        if self.take(b'.').is_some() {
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if self.take(b'+').is_none() {
                let _ = self.take(b'-');
            }
            self.digits()?;
        }
        Some(())
    }

    fn digits(&mut self) -> Option<()> {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        (self.at > start).then_some(())
    }

    /// Passes over a text in its quotes; whether it has escapes.
    fn characters(&mut self, takes_control: bool) -> Option<bool> {
        self.take(b'"')?;
        let mut has_escapes = false;
        loop {
            while let Some(eight) = self.bytes.get(self.at..).and_then(<[u8]>::first_chunk) {
                let plain = plain_bytes(*eight);
                self.at += plain;
                if plain < 8 {
                    break;
                }
            }
            let byte = self.peek()?;
            self.at += 1;
            match byte {
                b'"' => return Some(has_escapes),
                b'\\' => {
                    has_escapes = true;
                    let escaped = self.peek()?;
                    self.at += 1;
                    match escaped {
                        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => {}
                        b'u' => {
                            let digits = self.bytes.get(self.at..)?.first_chunk::<4>()?;
                            if !digits.iter().all(u8::is_ascii_hexdigit) {
                                return None;
                            }
                            self.at += 4;
                        }
                        _ => return None,
                    }
                }
                0..0x20 if !takes_control => return None,
                _ => {}
            }
        }
    }
}

/// How many bytes come before the first quote, backslash or control character.
fn plain_bytes(bytes: [u8; 8]) -> usize {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    let word = u64::from_le_bytes(bytes);
    // A byte's high bit is set where it is below a bound, and maybe in those above it.
    let below = |word: u64, bound: u8| word.wrapping_sub(ONES * u64::from(bound)) & !word;
    let is = |byte: u8| below(word ^ (ONES * u64::from(byte)), 1);
    let found = (below(word, 0x20) | is(b'"') | is(b'\\')) & (ONES << 7);
    found.trailing_zeros() as usize / 8
}

/// A text, borrowed where it has no escapes.
struct Text<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Characters;

        // As bytes, half of a surrogate pair is no error; it becomes U+FFFD.
        impl<'de> Visitor<'de> for Characters {
            type Value = Cow<'de, str>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }

            fn visit_borrowed_bytes<E: de::Error>(
                self,
                bytes: &'de [u8],
            ) -> Result<Cow<'de, str>, E> {
                // Nearly always it is one, which is found faster than what it lacks.
                Ok(std::str::from_utf8(bytes)
                    .map_or_else(|_| String::from_utf8_lossy(bytes), Cow::Borrowed))
            }

            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Cow<'de, str>, E> {
                Ok(Cow::Owned(String::from_utf8_lossy(bytes).into_owned()))
            }

            fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Cow<'de, str>, E> {
                Ok(Cow::Borrowed(text))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Cow<'de, str>, E> {
                Ok(Cow::Owned(text.to_owned()))
            }
        }

        deserializer.deserialize_bytes(Characters).map(Text)
    }
}

/// A value that is a text.
pub(crate) fn text(value: Raw<'_>) -> Option<Cow<'_, str>> {
    let plain = value.get().strip_prefix('"')?.strip_suffix('"')?;
    if memchr::memchr(b'\\', plain.as_bytes()).is_none() {
        return Some(Cow::Borrowed(plain));
    }
    serde_json::from_str::<Text<'_>>(value.get()).ok().map(|text| text.0)
}

/// Writes a text as `serde_json` does.
pub(crate) fn put_text(out: &mut Vec<u8>, text: &str) {
    // Looked at without a way out, many bytes are looked at together.
    let is_special = |byte: u8| (byte < 0x20) | (byte == b'"') | (byte == b'\\');
    if text.bytes().fold(false, |found, byte| found | is_special(byte)) {
        // A text always becomes JSON.
        let _ = serde_json::to_writer(out, text);
        return;
    }
    out.push(b'"');
    out.extend_from_slice(text.as_bytes());
    out.push(b'"');
}

/// A value that reads as this type: a number, a switch.
pub(crate) fn read<'a, T: Deserialize<'a>>(value: Raw<'a>) -> Option<T> {
    serde_json::from_str(value.get()).ok()
}

/// A whole number that may be written `5.0`; below zero is none.
pub(crate) fn whole(value: Raw<'_>) -> Option<u64> {
    read::<u64>(value).or_else(|| {
        let float = read::<f64>(value)?;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "is whole and small"
        )]
        (float.fract() == 0.0 && (0.0..9e15).contains(&float)).then_some(float as u64)
    })
}

/// The elements of a value that is an array; empty for anything else.
pub(crate) fn elements(value: Raw<'_>) -> Vec<Raw<'_>> {
    let mut elements = Vec::new();
    let mut scanner = Scanner::of(value);
    if scanner.take(b'[').is_none() {
        return elements;
    }
    // It was found to be JSON when it was read.
    while let Some(element) = scanner.value() {
        elements.push(element);
        scanner.space();
        if scanner.take(b',').is_none() {
            break;
        }
    }
    elements
}

/// How many entries an array or object has; none for anything else.
pub(crate) fn count(value: Raw<'_>) -> Option<u16> {
    let entries = match value.first() {
        Some(b'[') => elements(value).len(),
        Some(b'{') => Fields::of(value)?.0.len(),
        _ => return None,
    };
    u16::try_from(entries).ok()
}

#[cfg(test)]
mod tests {
    use bolero::TypeGenerator;
    use serde::de::MapAccess;
    use serde_json::value::RawValue;

    use super::*;

    /// The fields as `serde_json` reads them.
    struct Theirs<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

    impl<'de: 'a, 'a> Deserialize<'de> for Theirs<'a> {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct Object;

            impl<'de> Visitor<'de> for Object {
                type Value = Theirs<'de>;

                fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str("an object")
                }

                fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Theirs<'de>, M::Error> {
                    let mut fields = Vec::new();
                    while let Some(Text(key)) = map.next_key()? {
                        fields.push((key, map.next_value()?));
                    }
                    Ok(Theirs(fields))
                }
            }

            deserializer.deserialize_map(Object)
        }
    }

    fn check_value(ours: Raw<'_>, theirs: &RawValue) {
        assert_eq!(ours.get(), theirs.get());
        let text = serde_json::from_str::<Text<'_>>(theirs.get()).ok().map(|text| text.0);
        assert_eq!(super::text(ours), text);
        check(Fields::of(ours), serde_json::from_str(theirs.get()));
        let elements = serde_json::from_str::<Vec<&RawValue>>(theirs.get()).unwrap_or_default();
        let ours = super::elements(ours);
        assert_eq!(ours.len(), elements.len());
        ours.into_iter().zip(elements).for_each(|(ours, theirs)| check_value(ours, theirs));
    }

    fn check(ours: Option<Fields<'_>>, theirs: serde_json::Result<Theirs<'_>>) {
        assert_eq!(ours.is_some(), theirs.is_ok());
        let (Some(ours), Ok(theirs)) = (ours, theirs) else { return };
        assert_eq!(ours.0.len(), theirs.0.len());
        for ((our_name, ours), (their_name, theirs)) in ours.0.into_iter().zip(theirs.0) {
            assert_eq!(our_name, their_name);
            check_value(ours, theirs);
        }
    }

    #[derive(Clone, Debug, TypeGenerator)]
    enum Piece {
        Token(u8),
        Bytes(Vec<u8>),
    }

    const TOKENS: &[&[u8]] = &[
        b"{",
        b"}",
        b"[",
        b"]",
        b",",
        b":",
        b"\"",
        b"\"a\"",
        b"\"b\":",
        b"\"\":{",
        b" ",
        b"\n\t\r",
        b"null",
        b"true",
        b"false",
        b"nul",
        b"0",
        b"-",
        b"-0.5e+10",
        b"12E-3",
        b"01",
        b".",
        b"e",
        b"\\",
        b"\\\"",
        b"\\u00e9",
        b"\\ud800",
        b"\\udc00",
        b"\\u12",
        b"\\x",
        b"\x01",
        b"\xff",
        b"\xc3\xa9",
        b"abcdefgh",
        b"{\"k\":[1,{\"m\":\"x\\n\"}]}",
        b"[[],{}]",
        b"\"\x7f\xc3\xa9 \"",
    ];

    /// Whatever a text is: what is taken of it, and where its values end, is as `serde_json`
    /// has it.
    #[test]
    fn fuzz_fields() {
        bolero::check!().with_type::<(bool, Vec<Piece>)>().for_each(|(is_open, pieces)| {
            let mut text = if *is_open { b"{\"a\":".to_vec() } else { Vec::new() };
            for piece in pieces {
                match piece {
                    Piece::Token(at) => {
                        text.extend_from_slice(TOKENS[usize::from(*at) % TOKENS.len()]);
                    }
                    Piece::Bytes(bytes) => text.extend_from_slice(bytes),
                }
            }
            if *is_open {
                text.push(b'}');
            }
            check(Fields::parse(&text), serde_json::from_slice(&text));
        });
    }

    #[test]
    fn what_is_json_and_what_is_not() {
        for value in [
            "0",
            "-0",
            "1.5e3",
            "01",
            "1.",
            ".5",
            "-",
            "+1",
            "1e",
            "1e+",
            "truex",
            "nulL",
            "\"\\u12g4\"",
            "\"\\u00E9\"",
            "\"a\tb\"",
            "\"seven..\"",
            "\"eight...\"",
            "\"nine....\\\\\"",
            "[1,]",
            "[,]",
            "[1 2]",
            "{\"a\"}",
            "{\"a\":1,}",
            "{1:2}",
            "[{\"a\":[{}]}]",
            "[[[]]",
            "]",
            "",
            "{\"a\tb\":1}",
            "\u{a0}1",
        ] {
            for text in [
                format!("{{\"a\":{value}}}"),
                format!(" {{ \"a\tb\" : {value} }} "),
                value.to_owned(),
            ] {
                check(Fields::parse(text.as_bytes()), serde_json::from_slice(text.as_bytes()));
            }
        }
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(1000), "]".repeat(1000));
        assert!(Fields::parse(deep.as_bytes()).is_some());
        assert!(
            Fields::parse(b"{\"\xff\":1}").is_some()
                && Fields::parse(b"{\"a\":\"\xff\"}").is_none()
        );
    }

    #[test]
    fn fields_keep_their_order_and_text() {
        let fields = Fields::parse(br#"{"a": [1, 2 ], "b\u0063": null, "a": 3.0}"#).unwrap();
        let texts: Vec<(&str, &str)> =
            fields.0.iter().map(|(k, v)| (k.as_ref(), v.get())).collect();
        assert_eq!(texts, [("a", "[1, 2 ]"), ("bc", "null"), ("a", "3.0")]);
        assert_eq!(fields.get("a").and_then(whole), Some(3), "the last of two counts");
        assert!(fields.get("bc").is_none(), "null is no value");
    }

    #[test]
    fn half_a_pair_does_not_hide_a_text() {
        let fields = Fields::parse(br#"{"p": "x\ud800y", "\ud800": 1}"#).unwrap();
        assert_eq!(fields.text("p").unwrap(), "x\u{fffd}\u{fffd}\u{fffd}y");
        assert!(Fields::parse(b"[1]").is_none() && Fields::parse(b"{} {}").is_none());
    }
}

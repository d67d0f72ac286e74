//! Reading JSON without believing it: an object's fields as they stand in the text,
//! each read on its own, so that one strange value spoils nothing beside it.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserializer, MapAccess, Visitor};
use serde::{Deserialize, de};
use serde_json::value::RawValue;

/// The fields of an object in their order, with values as they are written.
#[derive(Debug, Default)]
pub(crate) struct Fields<'a>(pub Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> Fields<'a> {
    /// The fields of a text that is one object; none for anything else.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }

    /// The fields of a value that is an object; none for anything else.
    pub fn of(value: &'a RawValue) -> Option<Self> {
        if !is_object(value) {
            return None;
        }
        serde_json::from_str(value.get()).ok()
    }

    /// A field's value; of several with this name the last, as most parsers have it.
    /// Null is no value.
    pub fn get(&self, name: &str) -> Option<&'a RawValue> {
        let (_, value) = self.0.iter().rev().find(|(key, _)| key == name)?;
        (value.get() != "null").then_some(*value)
    }

    /// The value at a path of names.
    pub fn at(&self, path: &[&str]) -> Option<&'a RawValue> {
        let (name, rest) = path.split_first()?;
        let value = self.get(name)?;
        if rest.is_empty() { Some(value) } else { Fields::of(value)?.at(rest) }
    }

    /// A text field.
    pub fn text(&self, name: &str) -> Option<Cow<'a, str>> {
        self.get(name).and_then(text)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Fields<'de>, M::Error> {
                let mut fields = Vec::with_capacity(12);
                while let Some(Text(key)) = map.next_key()? {
                    fields.push((key, map.next_value()?));
                }
                Ok(Fields(fields))
            }
        }

        deserializer.deserialize_map(Object)
    }
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

pub(crate) fn is_object(value: &RawValue) -> bool {
    value.get().starts_with('{')
}

/// A value that is a text.
pub(crate) fn text(value: &RawValue) -> Option<Cow<'_, str>> {
    if !value.get().starts_with('"') {
        return None;
    }
    serde_json::from_str::<Text<'_>>(value.get()).ok().map(|text| text.0)
}

/// A value that reads as this type: a number, a switch.
pub(crate) fn read<'a, T: Deserialize<'a>>(value: &'a RawValue) -> Option<T> {
    serde_json::from_str(value.get()).ok()
}

/// A whole number that may be written `5.0`; below zero is none.
pub(crate) fn whole(value: &RawValue) -> Option<u64> {
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
pub(crate) fn elements(value: &RawValue) -> Vec<&RawValue> {
    if !value.get().starts_with('[') {
        return Vec::new();
    }
    read(value).unwrap_or_default()
}

/// How many entries an array or object has; none for anything else.
pub(crate) fn count(value: &RawValue) -> Option<u16> {
    let entries = match value.get().as_bytes().first() {
        Some(b'[') => elements(value).len(),
        Some(b'{') => Fields::of(value)?.0.len(),
        _ => return None,
    };
    u16::try_from(entries).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

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

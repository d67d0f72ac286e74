//! Samples with random damage: what fuzz targets feed to parsers. Bytes that are
//! random throughout are refused at the first; damage to a good file goes deeper.

use bolero::TypeGenerator;

/// One piece of damage; positions are fractions of the text, in 65,536ths.
#[derive(Clone, Debug, TypeGenerator)]
pub enum Damage {
    /// Puts a token of [`TOKENS`] there.
    Insert {
        at: u16,
        token: u8,
    },
    /// Replaces what is there by a token.
    Replace {
        at: u16,
        token: u8,
        length: u8,
    },
    SetByte {
        at: u16,
        byte: u8,
    },
    FlipBit {
        at: u16,
        bit: u8,
    },
    Delete {
        at: u16,
        length: u8,
    },
    /// Copies a part to another place.
    Copy {
        from: u16,
        to: u16,
        length: u16,
    },
    Repeat {
        at: u16,
        length: u8,
        times: u8,
    },
    Truncate {
        at: u16,
    },
    Random {
        at: u16,
        bytes: Vec<u8>,
    },
}

/// What JSON and the conventions turn on.
const TOKENS: &[&[u8]] = &[
    b"{",
    b"}",
    b"[",
    b"]",
    b"\"",
    b":",
    b",",
    b"\n",
    b"\\",
    b"null",
    b"true",
    b"-1",
    b"1e999",
    b"1e300",
    b"-0.0",
    b"18446744073709551616",
    b"\"\\ud800\"",
    b"\\u0000",
    b"\xff",
    b"\xed\xa0\x80",
    b"\xef\xbb\xbf",
    b"\"time\":\"9999-12-31T23:59:60Z\",",
    b"\"time\":1,",
    b"\"account_id\":\"\",",
    b"\"prompt\":\"[{\\\"role\\\":\\\"user\\\"}]\",",
    b"\"content\":[",
    b"\"role\":\"user\",",
    b"\"messages\":[",
    b"{\"stringValue\":",
    b"{\"kvlistValue\":{\"values\":[{\"key\":\"a\",\"value\":",
    b"{\"arrayValue\":{\"values\":[",
    b"\"request\":{",
    b"\"\"",
    b"[[[[[[[[",
    b"PAR1",
    b"\x1f\x8b",
    b"\x28\xb5\x2f\xfd",
    b"\x50\x2a\x4d\x18\xff\xff\xff\xff",
    b"\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
];

/// No text grows beyond this, so that an iteration stays short.
const BYTES_MAX: usize = 32 << 10;

pub fn damaged(sample: &[u8], damages: &[Damage]) -> Vec<u8> {
    let mut text = sample.to_vec();
    for damage in damages {
        let place = |at: u16| usize::from(at) * text.len() / 65_536;
        let range = |at: u16, length: usize| {
            let start = place(at);
            start..text.len().min(start + length)
        };
        let token = |token: u8| TOKENS[usize::from(token) % TOKENS.len()];
        match damage {
            Damage::Insert { at, token: t } => {
                let at = place(*at);
                text.splice(at..at, token(*t).iter().copied());
            }
            Damage::Replace { at, token: t, length } => {
                let range = range(*at, usize::from(*length));
                text.splice(range, token(*t).iter().copied());
            }
            Damage::SetByte { at, byte } => {
                let range = range(*at, 1);
                text[range].fill(*byte);
            }
            Damage::FlipBit { at, bit } => {
                let range = range(*at, 1);
                text[range].iter_mut().for_each(|b| *b ^= 1 << (bit % 8));
            }
            Damage::Delete { at, length } => {
                let range = range(*at, usize::from(*length));
                text.drain(range);
            }
            Damage::Copy { from, to, length } => {
                let part = text[range(*from, usize::from(*length))].to_vec();
                let to = place(*to);
                text.splice(to..to, part);
            }
            Damage::Repeat { at, length, times } => {
                let range = range(*at, usize::from(*length));
                let part = text[range.clone()].repeat(usize::from(*times));
                text.splice(range, part);
            }
            Damage::Truncate { at } => {
                let at = place(*at);
                text.truncate(at);
            }
            Damage::Random { at, bytes } => {
                let at = place(*at);
                text.splice(at..at, bytes.iter().copied());
            }
        }
        text.truncate(BYTES_MAX);
    }
    text
}

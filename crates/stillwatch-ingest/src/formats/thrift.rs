//! Looks through the Thrift structures of a Parquet file before they are parsed.
//!
//! The `parquet` crate (59.3) passes over fields that it does not know element by
//! element, and takes a list of booleans to have no bytes: seventy bytes can make it
//! count to two thousand million, and lists of such lists have it count for years.
//! It also reads a known field as what it should be, whatever type it says it has, so
//! that the rest is taken for something else. So footers and page headers are looked
//! through here first: known fields must have the types that `parquet.thrift` gives
//! them and come in order, and lists of booleans must fit the bytes that there are.
//!
//! Sources: <https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md>,
//! <https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift>.

/// The deepest nesting followed; the crate stops there too.
const DEPTH_MAX: u8 = 64;

/// What a field holds; the scalars by what they are in the compact protocol.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    Boolean,
    I8,
    I16,
    I32,
    I64,
    Double,
    Binary,
    Struct(Fields),
    List(&'static Kind),
}

use Kind::{Binary, Boolean, Double, I8, I16, I32, I64, List, Struct};

/// The fields of a structure by number.
pub(crate) type Fields = &'static [(i16, Kind)];

/// The footer: `FileMetaData`.
pub(crate) const FILE_METADATA: Fields = &[
    (1, I32),
    (2, List(&Struct(SCHEMA_ELEMENT))),
    (3, I64),
    (4, List(&Struct(ROW_GROUP))),
    (5, List(&Struct(KEY_VALUE))),
    (6, Binary),
    (7, List(&Struct(COLUMN_ORDER))),
    (9, Binary),
];
/// What stands before every page: `PageHeader`.
pub(crate) const PAGE_HEADER: Fields = &[
    (1, I32),
    (2, I32),
    (3, I32),
    (4, I32),
    (5, Struct(DATA_PAGE_HEADER)),
    (6, Struct(&[])),
    (7, Struct(&[(1, I32), (2, I32), (3, Boolean)])),
    (8, Struct(DATA_PAGE_HEADER_V2)),
];
const SCHEMA_ELEMENT: Fields = &[
    (1, I32),
    (2, I32),
    (3, I32),
    (4, Binary),
    (5, I32),
    (6, I32),
    (7, I32),
    (8, I32),
    (9, I32),
    (10, Struct(LOGICAL_TYPE)),
];
const LOGICAL_TYPE: Fields = &[
    (1, Struct(&[])),
    (2, Struct(&[])),
    (3, Struct(&[])),
    (4, Struct(&[])),
    (5, Struct(&[(1, I32), (2, I32)])),
    (6, Struct(&[])),
    (7, Struct(&[(1, Boolean), (2, Struct(TIME_UNIT))])),
    (8, Struct(&[(1, Boolean), (2, Struct(TIME_UNIT))])),
    (10, Struct(&[(1, I8), (2, Boolean)])),
    (11, Struct(&[])),
    (12, Struct(&[])),
    (13, Struct(&[])),
    (14, Struct(&[])),
    (15, Struct(&[])),
    (16, Struct(&[(1, I8)])),
    (17, Struct(&[(1, Binary)])),
    (18, Struct(&[(1, Binary), (2, I32)])),
];
const TIME_UNIT: Fields = &[(1, Struct(&[])), (2, Struct(&[])), (3, Struct(&[]))];
const KEY_VALUE: Fields = &[(1, Binary), (2, Binary)];
const COLUMN_ORDER: Fields = &[(1, Struct(&[])), (2, Struct(&[]))];
const ROW_GROUP: Fields = &[
    (1, List(&Struct(COLUMN_CHUNK))),
    (2, I64),
    (3, I64),
    (4, List(&Struct(&[(1, I32), (2, Boolean), (3, Boolean)]))),
    (5, I64),
    (6, I64),
    (7, I16),
];
const COLUMN_CHUNK: Fields = &[
    (1, Binary),
    (2, I64),
    (3, Struct(COLUMN_METADATA)),
    (4, I64),
    (5, I32),
    (6, I64),
    (7, I32),
    (9, Binary),
];
const COLUMN_METADATA: Fields = &[
    (1, I32),
    (2, List(&I32)),
    (3, List(&Binary)),
    (4, I32),
    (5, I64),
    (6, I64),
    (7, I64),
    (8, List(&Struct(KEY_VALUE))),
    (9, I64),
    (10, I64),
    (11, I64),
    (12, Struct(STATISTICS)),
    (13, List(&Struct(&[(1, I32), (2, I32), (3, I32)]))),
    (14, I64),
    (15, I32),
    (16, Struct(&[(1, I64), (2, List(&I64)), (3, List(&I64))])),
    (17, Struct(&[(1, Struct(BOUNDING_BOX)), (2, List(&I32))])),
];
const BOUNDING_BOX: Fields = &[
    (1, Double),
    (2, Double),
    (3, Double),
    (4, Double),
    (5, Double),
    (6, Double),
    (7, Double),
    (8, Double),
];
const STATISTICS: Fields = &[
    (1, Binary),
    (2, Binary),
    (3, I64),
    (4, I64),
    (5, Binary),
    (6, Binary),
    (7, Boolean),
    (8, Boolean),
];
const DATA_PAGE_HEADER: Fields = &[(1, I32), (2, I32), (3, I32), (4, I32), (5, Struct(STATISTICS))];
const DATA_PAGE_HEADER_V2: Fields = &[
    (1, I32),
    (2, I32),
    (3, I32),
    (4, I32),
    (5, I32),
    (6, I32),
    (7, Boolean),
    (8, Struct(STATISTICS)),
];

/// What a structure looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// It is what it should be and ends within the bytes.
    Whole,
    /// The bytes end before it.
    Unfinished,
    /// It is no such structure, or claims more booleans than there are bytes.
    Broken,
}

/// Looks through one structure at the start of the bytes, in time linear in them.
pub(crate) fn look(bytes: &[u8], fields: Fields) -> Look {
    let mut walk = Walk { rest: bytes, booleans_left: bytes.len() as u64 };
    match walk.structure(Some(fields), DEPTH_MAX) {
        Ok(()) => Look::Whole,
        Err(look) => look,
    }
}

struct Walk<'a> {
    rest: &'a [u8],
    /// By the protocol a boolean in a list takes a byte.
    booleans_left: u64,
}

impl Walk<'_> {
    fn byte(&mut self) -> Result<u8, Look> {
        let (byte, rest) = self.rest.split_first().ok_or(Look::Unfinished)?;
        self.rest = rest;
        Ok(*byte)
    }

    fn bytes(&mut self, count: u64) -> Result<(), Look> {
        let count = usize::try_from(count).map_err(|_| Look::Broken)?;
        self.rest = self.rest.get(count..).ok_or(Look::Unfinished)?;
        Ok(())
    }

    fn varint(&mut self) -> Result<u64, Look> {
        let mut value = 0_u64;
        for shift in (0..70).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f).wrapping_shl(shift);
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Look::Broken)
    }

    /// A structure; of one that nobody knows the fields may have any type.
    fn structure(&mut self, fields: Option<Fields>, depth: u8) -> Result<(), Look> {
        let depth = depth.checked_sub(1).ok_or(Look::Broken)?;
        let mut number = 0_i16;
        loop {
            let head = self.byte()?;
            let code = head & 0x0f;
            if code == 0 {
                return Ok(());
            }
            let step = i16::from(head >> 4);
            if step > 0 {
                number = number.checked_add(step).ok_or(Look::Broken)?;
            } else {
                let zigzag = self.varint()?;
                let far = i16::try_from((zigzag >> 1) as i64 ^ -((zigzag & 1) as i64))
                    .map_err(|_| Look::Broken)?;
                // The long form is for steps that the short one can't say.
                if fields.is_some() && i32::from(far) - i32::from(number) <= 15 {
                    return Err(Look::Broken);
                }
                number = far;
            }
            let known = fields.and_then(|fields| fields.iter().find(|(n, _)| *n == number));
            match known {
                Some((_, kind)) => self.known(code, *kind, depth)?,
                None => self.unknown(code, depth)?,
            }
        }
    }

    /// A value that must be of a kind; `code` is the type that it says it has.
    fn known(&mut self, code: u8, kind: Kind, depth: u8) -> Result<(), Look> {
        match (kind, code) {
            (Struct(fields), 12) => self.structure(Some(fields), depth),
            (List(kind), 9) => {
                let (count, code) = self.list()?;
                for _ in 0..count {
                    self.known(code, *kind, depth)?;
                }
                Ok(())
            }
            (Boolean, 1 | 2)
            | (I8, 3)
            | (I16, 4)
            | (I32, 5)
            | (I64, 6)
            | (Double, 7)
            | (Binary, 8) => self.unknown(code, depth),
            _ => Err(Look::Broken),
        }
    }

    fn list(&mut self) -> Result<(u64, u8), Look> {
        let head = self.byte()?;
        let count = match head >> 4 {
            15 => self.varint()?,
            count => u64::from(count),
        };
        Ok((count, head & 0x0f))
    }

    /// A value of the type that it says it has.
    fn unknown(&mut self, code: u8, depth: u8) -> Result<(), Look> {
        match code {
            1 | 2 => Ok(()),
            3 => self.bytes(1),
            4..=6 => self.varint().map(drop),
            7 => self.bytes(8),
            8 => {
                let length = self.varint()?;
                self.bytes(length)
            }
            9 | 10 => {
                let (count, code) = self.list()?;
                self.repeat(count, &[code], depth)
            }
            11 => {
                let count = self.varint()?;
                if count == 0 {
                    return Ok(());
                }
                let codes = self.byte()?;
                self.repeat(count, &[codes >> 4, codes & 0x0f], depth)
            }
            12 => self.structure(None, depth),
            13 => self.bytes(16),
            _ => Err(Look::Broken),
        }
    }

    fn repeat(&mut self, count: u64, codes: &[u8], depth: u8) -> Result<(), Look> {
        let depth = depth.checked_sub(1).ok_or(Look::Broken)?;
        if codes.iter().all(|code| matches!(code, 1 | 2)) {
            self.booleans_left = self.booleans_left.checked_sub(count).ok_or(Look::Broken)?;
            return Ok(());
        }
        // Anything else takes a byte at least, so that the bytes bound the loop.
        for _ in 0..count {
            for code in codes {
                self.unknown(*code, depth)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_more_booleans_than_bytes_are_broken() {
        let look = |bytes: &[u8]| look(bytes, KEY_VALUE);
        // Fields 1 and 2: text; stop.
        assert_eq!(look(&[0x18, 0x01, b'x', 0x18, 0x00, 0x00]), Look::Whole);
        assert_eq!(look(&[0x18, 0x09, b'x', 0x00]), Look::Unfinished);
        assert_eq!(look(&[0x15, 0x02, 0x00]), Look::Broken, "a number where a text should be");
        assert_eq!(look(&[0x08, 0x02, 0x01, b'x', 0x00]), Look::Broken, "needlessly long");
        // Field 15, which nobody knows: a number.
        assert_eq!(look(&[0xf5, 0x02, 0x00]), Look::Whole);
        // Field 15: 2³¹ - 1 booleans.
        assert_eq!(look(&[0xf9, 0xf1, 0xff, 0xff, 0xff, 0xff, 0x07, 0x00]), Look::Broken);
        // Field 15: many lists of a few booleans each.
        let lists = [vec![0xf9, 0xf9, 0xff, 0x7f], [0xe1].repeat(4000)].concat();
        assert_eq!(look(&lists), Look::Broken);
        assert_eq!(look(&[0xfc].repeat(100)), Look::Broken, "deeper than anything is");
    }
}

//! JSON Lines with the contract's column names, an object a line.
//!
//! Only the columns asked for are parsed; the rest of a line is checked for syntax
//! and skipped. Binary columns are base64, times RFC 3339.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::read::Meter;
use crate::rows::{Cell, Row, RowBuilder, Use};
use crate::surrogates;
use crate::table::Table;
use crate::validity;

/// The most unknown names that one reader remembers having reported.
const UNKNOWN_MAX: usize = 64;

/// Reads lines into a builder.
pub(crate) struct JsonLines {
    table: Table,
    /// Unknown names reported already, so that the meter's lock is seldom taken.
    unknown: BTreeSet<String>,
}

impl JsonLines {
    pub fn new(table: Table) -> Self {
        JsonLines { table, unknown: BTreeSet::new() }
    }

    /// Takes one line as a row, or counts why not.
    pub fn read(&mut self, text: &str, rows: &mut RowBuilder, meter: &Meter) {
        match self.parse(text, rows.uses(), meter) {
            Ok(row) => rows.push(row),
            Err(reason) => rows.refuse(reason),
        }
    }

    fn parse<'a>(
        &mut self,
        text: &'a str,
        uses: &[Use],
        meter: &Meter,
    ) -> Result<Row<'a>, &'static str> {
        if !text.trim_ascii_start().starts_with('{') {
            // Text that is JSON but no object, or no JSON at all.
            let parsed = serde_json::from_str::<IgnoredAny>(text);
            return Err(if parsed.is_ok() { validity::NOT_AN_OBJECT } else { validity::NOT_JSON });
        }
        let mut parser = serde_json::Deserializer::from_str(text);
        let seed = RowSeed { lines: self, uses, meter };
        let row = seed.deserialize(&mut parser).and_then(|row| parser.end().map(|()| row));
        row.or_else(|_| self.parse_cell_by_cell(text, uses, meter))
    }

    /// A line that is not JSON, or one with a value that JSON allows and no machine
    /// type holds (1e999, half of a surrogate pair). Whether it is a row must not
    /// depend on which columns are asked for, so syntax alone decides; a cell that
    /// can't be read is counted.
    fn parse_cell_by_cell<'a>(
        &mut self,
        text: &'a str,
        uses: &[Use],
        meter: &Meter,
    ) -> Result<Row<'a>, &'static str> {
        let mut parser = serde_json::Deserializer::from_str(text);
        let entries = parser
            .deserialize_map(Entries)
            .and_then(|entries| parser.end().map(|()| entries))
            .map_err(|e| if e.is_eof() { validity::TRUNCATED_LINE } else { validity::NOT_JSON })?;
        let mut row = Row::new(self.table);
        for (name, value) in entries {
            let Some(index) = self.place(&name, meter) else {
                continue;
            };
            let cell_use = uses.get(index).copied().unwrap_or(Use::Nothing);
            if cell_use == Use::Nothing {
                continue;
            }
            let cell = CellSeed(cell_use)
                .deserialize(&mut serde_json::Deserializer::from_str(value.get()))
                .or_else(|_| {
                    let mended = surrogates::replace_lone(value.get());
                    let mut parser = serde_json::Deserializer::from_str(&mended);
                    CellSeed(cell_use).deserialize(&mut parser).map(Cell::into_owned)
                })
                .unwrap_or(Cell::Other);
            row.set_at(index, cell);
        }
        Ok(row)
    }

    /// The column's place in the table; an unknown name is reported once.
    fn place(&mut self, name: &str, meter: &Meter) -> Option<usize> {
        let found = self.table.columns().iter().position(|c| c.name == name);
        if found.is_none() && self.unknown.len() < UNKNOWN_MAX && !self.unknown.contains(name) {
            self.unknown.insert(name.to_owned());
            meter.unknown_column(name);
        }
        found
    }
}

struct RowSeed<'s> {
    lines: &'s mut JsonLines,
    uses: &'s [Use],
    meter: &'s Meter,
}

impl<'de> DeserializeSeed<'de> for RowSeed<'_> {
    type Value = Row<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Row<'de>, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for RowSeed<'_> {
    type Value = Row<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Row<'de>, A::Error> {
        let mut row = Row::new(self.lines.table);
        while let Some(name) = map.next_key_seed(KeySeed)? {
            let place = self.lines.place(&name, self.meter);
            let cell_use = place.and_then(|index| self.uses.get(index));
            match (place, cell_use) {
                (Some(index), Some(cell_use)) if *cell_use != Use::Nothing => {
                    row.set_at(index, map.next_value_seed(CellSeed(*cell_use))?);
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(row)
    }
}

/// A key, borrowed where it has no escapes.
struct KeySeed;

impl<'de> DeserializeSeed<'de> for KeySeed {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Cow<'de, str>, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for KeySeed {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Borrowed(text))
    }

    fn visit_str<E>(self, text: &str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Owned(text.to_owned()))
    }
}

/// One value of any kind as a cell; what is inside arrays and objects is skipped.
struct CellSeed(Use);

impl<'de> DeserializeSeed<'de> for CellSeed {
    type Value = Cell<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Cell<'de>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for CellSeed {
    type Value = Cell<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Cell<'de>, E> {
        Ok(Cell::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Cell<'de>, E> {
        Ok(Cell::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Cell<'de>, E> {
        Ok(Cell::Integer(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Cell<'de>, E> {
        Ok(Cell::Integer(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Cell<'de>, E> {
        Ok(Cell::Float(value))
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Cell<'de>, E> {
        Ok(Cell::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Cell<'de>, E> {
        Ok(match self.0 {
            Use::Value => Cell::Text(Cow::Owned(text.to_owned())),
            _ => Cell::SomeText,
        })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<Cell<'de>, A::Error> {
        while values.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Cell::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Cell<'de>, A::Error> {
        while entries.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Cell::Other)
    }
}

/// The entries of an object with their values unread.
struct Entries;

impl<'de> Visitor<'de> for Entries {
    type Value = Vec<(Cow<'de, str>, &'de RawValue)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(name) = map.next_key_seed(KeySeed)? {
            entries.push((name, map.next_value()?));
        }
        Ok(entries)
    }
}

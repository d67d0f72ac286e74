//! From one record of a row-by-row format to a row of Arrow builders, by the rules
//! of [`crate::validity`].

use std::borrow::Cow;
use std::collections::VecDeque;

use arrow::array::{
    ArrayBuilder, ArrayRef, BinaryViewBuilder, BooleanBuilder, Float32Builder, Float64Builder,
    Int64Builder, RecordBatch, RecordBatchOptions, StringViewBuilder, TimestampMicrosecondBuilder,
    UInt16Builder, UInt32Builder,
};
use arrow::error::ArrowError;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use stillwatch_exchange::{Column, ColumnKind, Exchange, Time};

use crate::problems::{CellReason, RefusedCounts};
use crate::read::{AccountFilter, BATCH_BYTES, BATCH_ROWS, Batch, Projection};
use crate::table::Table;
use crate::validity;

/// A value as a source has it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) enum Cell<'a> {
    #[default]
    Null,
    Text(Cow<'a, str>),
    Bytes(Vec<u8>),
    Bool(bool),
    Integer(i128),
    Float(f64),
    /// Microseconds since the epoch, UTC.
    Time(i64),
    /// A text that nobody has asked for: only that it is there counts.
    SomeText,
    /// An array, an object, or a number that no machine type holds.
    Other,
}

impl<'a> Cell<'a> {
    pub fn text(text: impl Into<Cow<'a, str>>) -> Self {
        Cell::Text(text.into())
    }

    pub fn into_owned(self) -> Cell<'static> {
        match self {
            Cell::Text(text) => Cell::Text(Cow::Owned(text.into_owned())),
            Cell::Null => Cell::Null,
            Cell::Bytes(bytes) => Cell::Bytes(bytes),
            Cell::Bool(value) => Cell::Bool(value),
            Cell::Integer(value) => Cell::Integer(value),
            Cell::Float(value) => Cell::Float(value),
            Cell::Time(time) => Cell::Time(time),
            Cell::SomeText => Cell::SomeText,
            Cell::Other => Cell::Other,
        }
    }

    fn as_text(&self) -> Option<&str> {
        match self {
            Cell::Text(text) => Some(text),
            _ => None,
        }
    }

    fn as_f64(&self) -> Option<f64> {
        match self {
            #[expect(clippy::cast_precision_loss, reason = "compared with small bounds")]
            Cell::Integer(v) => Some(*v as f64),
            Cell::Float(v) => Some(*v),
            _ => None,
        }
    }
}

/// One record: a cell for every column of a table, in the table's order.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Row<'a> {
    table: Table,
    cells: Vec<Cell<'a>>,
}

impl<'a> Row<'a> {
    pub fn new(table: Table) -> Self {
        Row { table, cells: vec![Cell::Null; table.columns().len()] }
    }

    /// Sets a cell; names that the table does not have are a mistake of the caller
    /// and set nothing.
    pub fn set(&mut self, name: &str, cell: Cell<'a>) {
        let index = self.table.columns().iter().position(|c| c.name == name);
        debug_assert!(index.is_some(), "no column {name}");
        if let Some(cell_there) = index.and_then(|i| self.cells.get_mut(i)) {
            *cell_there = cell;
        }
    }

    pub fn set_at(&mut self, index: usize, cell: Cell<'a>) {
        if let Some(cell_there) = self.cells.get_mut(index) {
            *cell_there = cell;
        }
    }

    pub fn get(&self, name: &str) -> &Cell<'a> {
        let index = self.table.columns().iter().position(|c| c.name == name);
        index.and_then(|i| self.cells.get(i)).unwrap_or(&Cell::Null)
    }

    /// Whether nothing has been set there.
    pub fn lacks(&self, name: &str) -> bool {
        *self.get(name) == Cell::Null
    }
}

/// Gathers rows into batches.
pub(crate) struct RowBuilder {
    projection: Projection,
    filter: Option<AccountFilter>,
    builders: Vec<ColumnBuilder>,
    /// For each column of the table, what its cell must be read for.
    uses: Vec<Use>,
    rows: usize,
    bytes: usize,
    refused: RefusedCounts,
    /// Full batches that wait to be taken.
    full: VecDeque<Result<Batch, ArrowError>>,
}

/// What a reader has to know of a column's cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// Its value.
    Value,
    /// Only whether there is one of the right kind.
    Presence,
    Nothing,
}

struct ColumnBuilder {
    index: usize,
    column: &'static Column,
    values: Values,
}

enum Values {
    Time(TimestampMicrosecondBuilder),
    Text(StringViewBuilder),
    Bytes(BinaryViewBuilder),
    Bool(BooleanBuilder),
    U16(UInt16Builder),
    U32(UInt32Builder),
    I64(Int64Builder),
    F32(Float32Builder),
    F64(Float64Builder),
}

impl RowBuilder {
    pub fn new(projection: Projection, filter: Option<AccountFilter>) -> Self {
        let table = projection.table();
        let makes_ids = table == Table::Exchanges && projection.names().any(|n| n == "exchange_id");
        let uses = table.columns().iter().map(|column| {
            let content = makes_ids && Exchange::CONTENT_COLUMNS.contains(&column.name);
            let wanted = content || projection.names().any(|n| n == column.name);
            match column.name {
                _ if wanted || column.required => Use::Value,
                "prompt" => Use::Presence,
                // Present is a sketch only if it is base64.
                "prompt_sketch" => Use::Value,
                _ => Use::Nothing,
            }
        });
        let uses = uses.collect();
        let builders = projection
            .columns()
            .map(|column| ColumnBuilder {
                index: table.columns().iter().position(|c| c == column).unwrap_or(usize::MAX),
                column,
                values: Values::new(column.kind),
            })
            .collect();
        RowBuilder {
            projection,
            filter,
            builders,
            uses,
            rows: 0,
            bytes: 0,
            refused: RefusedCounts::default(),
            full: VecDeque::new(),
        }
    }

    pub fn uses(&self) -> &[Use] {
        &self.uses
    }

    pub fn table(&self) -> Table {
        self.projection.table()
    }

    /// Counts a record that did not become a row.
    pub fn refuse(&mut self, reason: &'static str) {
        self.refused.row(reason, 1);
    }

    /// Takes a record as a row, or counts why not.
    pub fn push(&mut self, mut row: Row<'_>) {
        if let Some(reason) = self.invalid(&mut row) {
            self.refuse(reason);
            return;
        }
        if let Some(filter) = &self.filter
            && !row.get(self.table().key()).as_text().is_some_and(|account| filter(account))
        {
            return;
        }
        if self.projection.names().any(|n| n == "exchange_id")
            && !matches!(row.get("exchange_id"), Cell::Text(_) | Cell::Integer(_))
        {
            let id = content_id(&row);
            row.set("exchange_id", Cell::text(id));
        }
        for builder in &mut self.builders {
            let cell = row.cells.get_mut(builder.index).map(std::mem::take).unwrap_or_default();
            let (bytes, trouble) = builder.values.push(builder.column, cell);
            self.bytes += bytes;
            if let Some(reason) = trouble {
                self.refused.cell(builder.column.name, reason, 1);
            }
        }
        self.rows += 1;
        if self.rows >= BATCH_ROWS || self.bytes >= BATCH_BYTES {
            let batch = self.finish();
            self.full.push_back(batch);
        }
    }

    /// Why a row can't be taken; required cells are brought into their kind.
    fn invalid(&self, row: &mut Row<'_>) -> Option<&'static str> {
        for (index, column) in self.table().columns().iter().enumerate() {
            if !column.required {
                continue;
            }
            let reasons = validity::required_reasons(column.name);
            let cell = row.cells.get(index).unwrap_or(&Cell::Null);
            if column.kind == ColumnKind::Time {
                let time = match cell {
                    Cell::Null => return Some(reasons.missing),
                    Cell::Time(time) => *time,
                    Cell::Text(text) => match Time::parse(text) {
                        Ok(time) => time.0,
                        Err(_) => return Some(reasons.unreadable),
                    },
                    _ => return Some(reasons.unreadable),
                };
                if !validity::plausible(time) {
                    return Some(reasons.implausible);
                }
                row.set_at(index, Cell::Time(time));
            } else {
                match cell {
                    Cell::Text(text) if !text.is_empty() => {}
                    Cell::Integer(number) => {
                        let text = number.to_string();
                        row.set_at(index, Cell::text(text));
                    }
                    Cell::Null | Cell::Text(_) => return Some(reasons.missing),
                    _ => return Some(reasons.unreadable),
                }
            }
        }
        if self.table() == Table::Exchanges {
            let prompt = matches!(row.get("prompt"), Cell::Text(_) | Cell::SomeText);
            let sketch = match row.get("prompt_sketch") {
                Cell::Bytes(_) => true,
                Cell::Text(text) => base64_decode(text).is_some(),
                _ => false,
            };
            if !prompt && !sketch {
                return Some(validity::PROMPT_MISSING);
            }
        }
        None
    }

    /// A batch that is full, if there is one.
    pub fn take_full(&mut self) -> Option<Result<Batch, ArrowError>> {
        self.full.pop_front()
    }

    /// What has gathered since the last full batch, if anything has.
    pub fn take_rest(&mut self) -> Option<Result<Batch, ArrowError>> {
        (self.rows > 0 || !self.refused.is_empty()).then(|| self.finish())
    }

    fn finish(&mut self) -> Result<Batch, ArrowError> {
        let arrays = self.builders.iter_mut().map(|b| b.values.finish()).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(self.rows));
        let rows = RecordBatch::try_new_with_options(self.projection.schema(), arrays, &options)?;
        self.rows = 0;
        self.bytes = 0;
        Ok(Batch { rows, refused: std::mem::take(&mut self.refused) })
    }
}

fn content_id(row: &Row<'_>) -> String {
    let sketch = match row.get("prompt_sketch") {
        Cell::Bytes(bytes) => Some(Cow::Borrowed(bytes.as_slice())),
        Cell::Text(text) => base64_decode(text).map(Cow::Owned),
        _ => None,
    };
    // The id is that of the row as it will be read, whatever its cells came as.
    let column_text = |name| match row.get(name) {
        Cell::Text(text) => Some(Cow::Borrowed(text.as_ref())),
        Cell::Integer(number) => Some(Cow::Owned(number.to_string())),
        _ => None,
    };
    let texts: Vec<Option<Cow<'_, str>>> =
        Exchange::CONTENT_COLUMNS.iter().map(|name| column_text(name)).collect();
    let text = |name: &str| {
        let index = Exchange::CONTENT_COLUMNS.iter().position(|n| *n == name)?;
        texts.get(index)?.as_deref()
    };
    let time = match row.get("time") {
        Cell::Time(time) => *time,
        _ => 0,
    };
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "in range")]
    let turn = row
        .get("turn")
        .as_f64()
        .filter(|turn| (0.0..=f64::from(u16::MAX)).contains(turn))
        .map(|turn| turn as u16);
    Exchange {
        time: Time(time),
        account_id: text("account_id").unwrap_or_default(),
        credential_id: text("credential_id"),
        conversation_id: text("conversation_id"),
        turn,
        request_model: text("request_model"),
        response_model: text("response_model"),
        system_instructions: text("system_instructions"),
        prompt: text("prompt"),
        prompt_sketch: sketch.as_deref(),
        ..Exchange::default()
    }
    .content_id()
}

/// Base64 in either alphabet, padded or not.
fn base64_decode(text: &str) -> Option<Vec<u8>> {
    [STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD]
        .iter()
        .find_map(|engine| engine.decode(text).ok())
}

impl Values {
    fn new(kind: ColumnKind) -> Self {
        match kind {
            ColumnKind::Time => {
                Values::Time(TimestampMicrosecondBuilder::new().with_timezone("UTC"))
            }
            ColumnKind::Text => Values::Text(StringViewBuilder::new()),
            ColumnKind::Bytes => Values::Bytes(BinaryViewBuilder::new()),
            ColumnKind::Bool => Values::Bool(BooleanBuilder::new()),
            ColumnKind::U16 => Values::U16(UInt16Builder::new()),
            ColumnKind::U32 => Values::U32(UInt32Builder::new()),
            ColumnKind::I64 => Values::I64(Int64Builder::new()),
            ColumnKind::F32 => Values::F32(Float32Builder::new()),
            ColumnKind::F64 => Values::F64(Float64Builder::new()),
        }
    }

    /// Appends a cell or null; gives the bytes it takes, and why it became null.
    fn push(&mut self, column: &Column, cell: Cell<'_>) -> (usize, Option<CellReason>) {
        let null = cell == Cell::Null;
        // Integers that came as floats, or the other way around, are numbers still.
        let number = || -> Result<f64, CellReason> {
            let value = cell.as_f64().ok_or(CellReason::WrongType)?;
            let (min, max) = validity::range(column.name, column.kind);
            if (min..=max).contains(&value) { Ok(value) } else { Err(CellReason::OutOfRange) }
        };
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "the range has been checked, and a fraction of a token is cut off"
        )]
        let pushed: Result<usize, CellReason> = match self {
            Values::Time(values) => {
                let time = match &cell {
                    Cell::Time(time) => Ok(*time),
                    Cell::Text(text) => {
                        Time::parse(text).map(|t| t.0).map_err(|_| CellReason::WrongType)
                    }
                    _ => Err(CellReason::WrongType),
                };
                let time = time.and_then(|t| {
                    if validity::plausible(t) { Ok(t) } else { Err(CellReason::OutOfRange) }
                });
                values.append_option(time.ok());
                time.map(|_| 8)
            }
            Values::Text(values) => {
                let text = match &cell {
                    Cell::Text(text) => Ok(Cow::Borrowed(text.as_ref())),
                    Cell::Integer(number) => Ok(Cow::Owned(number.to_string())),
                    _ => Err(CellReason::WrongType),
                };
                values.append_option(text.as_deref().ok());
                text.map(|text| 16 + text.len())
            }
            Values::Bytes(values) => {
                let bytes = match cell {
                    Cell::Bytes(ref bytes) => Ok(Cow::Borrowed(bytes.as_slice())),
                    Cell::Text(ref text) => {
                        base64_decode(text).map(Cow::Owned).ok_or(CellReason::WrongType)
                    }
                    _ => Err(CellReason::WrongType),
                };
                values.append_option(bytes.as_deref().ok());
                bytes.map(|bytes| 16 + bytes.len())
            }
            Values::Bool(values) => {
                let value = match cell {
                    Cell::Bool(value) => Ok(value),
                    _ => Err(CellReason::WrongType),
                };
                values.append_option(value.ok());
                value.map(|_| 1)
            }
            Values::U16(values) => {
                let value = number();
                values.append_option(value.map(|v| v as u16).ok());
                value.map(|_| 2)
            }
            Values::U32(values) => {
                let value = number();
                values.append_option(value.map(|v| v as u32).ok());
                value.map(|_| 4)
            }
            Values::I64(values) => {
                let value = match cell {
                    Cell::Integer(v) => i64::try_from(v).map_err(|_| CellReason::OutOfRange),
                    _ => Err(CellReason::WrongType),
                };
                values.append_option(value.ok());
                value.map(|_| 8)
            }
            Values::F32(values) => {
                let value = number();
                values.append_option(value.map(|v| v as f32).ok());
                value.map(|_| 4)
            }
            Values::F64(values) => {
                let value = number();
                values.append_option(value.ok());
                value.map(|_| 8)
            }
        };
        match pushed {
            Ok(bytes) => (bytes, None),
            Err(_) if null => (0, None),
            Err(reason) => (0, Some(reason)),
        }
    }

    fn finish(&mut self) -> ArrayRef {
        let builder: &mut dyn ArrayBuilder = match self {
            Values::Time(b) => b,
            Values::Text(b) => b,
            Values::Bytes(b) => b,
            Values::Bool(b) => b,
            Values::U16(b) => b,
            Values::U32(b) => b,
            Values::I64(b) => b,
            Values::F32(b) => b,
            Values::F64(b) => b,
        };
        builder.finish()
    }
}

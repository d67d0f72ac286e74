//! Reads sources whole and shows rows as JSON, for tests.

#![allow(dead_code, reason = "each test file uses a part")]

use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{
    Float32Type, Float64Type, Int64Type, TimestampMicrosecondType, UInt16Type, UInt32Type,
};
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;
use serde_json::{Map, Value, json};
use stillwatch_exchange::{ColumnKind, Time, columns};
use stillwatch_ingest::{AccountFilter, FileProblem, Meter, Options, RefusedCounts, Source, Table};

/// All that reading a source gave.
#[derive(Debug, Default)]
pub struct Read {
    /// A JSON object a row; null cells are left out.
    pub rows: Vec<Value>,
    pub refused: RefusedCounts,
    pub problems: Vec<FileProblem>,
    pub unknown: Vec<String>,
    pub metered_rows: u64,
    pub metered_bytes: u64,
}

impl Read {
    /// The values of one text column, null as "-".
    pub fn texts(&self, column: &str) -> Vec<String> {
        let text = |row: &Value| row.get(column).and_then(Value::as_str).unwrap_or("-").to_owned();
        self.rows.iter().map(text).collect()
    }

    /// Refusals by name, as `a=1 b: c=2`.
    pub fn refused(&self) -> String {
        let named = self.refused.named();
        named.iter().map(|(name, count)| format!("{name}={count}")).collect::<Vec<_>>().join(" ")
    }
}

pub fn all_columns(table: Table) -> Vec<&'static str> {
    table.columns().iter().map(|c| c.name).collect()
}

pub fn read(source: &Source, columns: &[&str]) -> Read {
    read_filtered(source, columns, None)
}

pub fn read_filtered(source: &Source, columns: &[&str], filter: Option<AccountFilter>) -> Read {
    let meter = Arc::new(Meter::default());
    let mut all = Read::default();
    for split in source.splits() {
        match split.read(columns, filter.clone(), &meter) {
            Err(problem) => all.problems.push(problem),
            Ok(batches) => {
                for batch in batches {
                    match batch {
                        Err(problem) => all.problems.push(problem),
                        Ok(batch) => {
                            let expected: Vec<_> = columns
                                .iter()
                                .map(|name| {
                                    *columns::find(columns::EXCHANGES, name)
                                        .or(columns::find(columns::ACCOUNTS, name))
                                        .or(columns::find(columns::RELEASES, name))
                                        .unwrap()
                                })
                                .collect();
                            assert_eq!(batch.rows.schema(), columns::schema(&expected));
                            assert!(batch.rows.num_rows() <= stillwatch_ingest::BATCH_ROWS);
                            all.rows.extend(json_rows(&batch.rows));
                            all.refused.merge(&batch.refused);
                        }
                    }
                }
            }
        }
    }
    all.unknown = meter.unknown_columns().into_iter().collect();
    all.metered_rows = meter.rows();
    all.metered_bytes = meter.bytes();
    all
}

/// Reads bytes as a file of exchanges whose format is to be recognised.
pub fn read_bytes(bytes: impl Into<Bytes>, columns: &[&str]) -> Read {
    let bytes = bytes.into();
    match Source::from_bytes("file", bytes, Table::Exchanges, &Options::default()) {
        Ok(source) => read(&source, columns),
        Err(problem) => Read { problems: vec![problem], ..Read::default() },
    }
}

pub fn json_rows(rows: &RecordBatch) -> Vec<Value> {
    (0..rows.num_rows()).map(|row| json_row(rows, row)).collect()
}

fn json_row(rows: &RecordBatch, row: usize) -> Value {
    let mut object = Map::new();
    for (field, array) in rows.schema().fields().iter().zip(rows.columns()) {
        if array.is_null(row) {
            continue;
        }
        let find = |table| columns::find(table, field.name());
        let column = find(columns::EXCHANGES)
            .or_else(|| find(columns::ACCOUNTS))
            .or_else(|| find(columns::RELEASES))
            .unwrap();
        let value = match column.kind {
            ColumnKind::Time => {
                json!(Time(array.as_primitive::<TimestampMicrosecondType>().value(row)))
            }
            ColumnKind::Text => json!(array.as_string_view().value(row)),
            ColumnKind::Bytes => {
                let hex =
                    |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
                json!(hex(array.as_binary_view().value(row)))
            }
            ColumnKind::Bool => json!(array.as_boolean().value(row)),
            ColumnKind::U16 => json!(array.as_primitive::<UInt16Type>().value(row)),
            ColumnKind::U32 => json!(array.as_primitive::<UInt32Type>().value(row)),
            ColumnKind::I64 => json!(array.as_primitive::<Int64Type>().value(row)),
            ColumnKind::F32 => json!(array.as_primitive::<Float32Type>().value(row)),
            ColumnKind::F64 => json!(array.as_primitive::<Float64Type>().value(row)),
        };
        object.insert(field.name().clone(), value);
    }
    Value::Object(object)
}

/// A Parquet file of these batches, with row groups of at most so many rows.
pub fn parquet(batches: &[RecordBatch], rows_per_group: usize) -> Bytes {
    let properties =
        WriterProperties::builder().set_max_row_group_row_count(Some(rows_per_group)).build();
    parquet_with(batches, properties)
}

pub fn parquet_with(batches: &[RecordBatch], properties: WriterProperties) -> Bytes {
    let schema = batches.first().unwrap().schema();
    let mut writer = ArrowWriter::try_new(Vec::new(), schema, Some(properties)).unwrap();
    for batch in batches {
        writer.write(batch).unwrap();
    }
    Bytes::from(writer.into_inner().unwrap())
}

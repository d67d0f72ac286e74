//! Reads the row-by-row formats: records to rows to batches.

use std::io;
use std::ops::Range;
use std::str;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::Value;

use crate::formats;
use crate::formats::jsonl::JsonLines;
use crate::problems::FileProblem;
use crate::read::{AccountFilter, Batch, Meter, Projection};
use crate::records::{Counted, Layout, Line, Lines, decompressed, document, document_records};
use crate::rows::RowBuilder;
use crate::storage::Stored;
use crate::surrogates;
use crate::table::{Format, Table};
use crate::validity;

/// Names that a deployment has chosen itself.
#[derive(Clone, Debug, Default)]
pub(crate) struct Naming {
    /// OpenTelemetry attributes to read the account from, before the usual ones.
    pub account_attributes: Vec<String>,
}

/// A file of lines, or of one JSON document.
#[derive(Clone, Debug)]
pub(crate) struct TextFile {
    pub stored: Stored,
    pub format: Format,
    pub layout: Layout,
    pub table: Table,
    pub naming: Arc<Naming>,
}

impl TextFile {
    pub fn read(
        &self,
        projection: Projection,
        filter: Option<AccountFilter>,
        meter: &Arc<Meter>,
    ) -> Result<TextBatches, FileProblem> {
        let problem = |error: io::Error| FileProblem::new(&self.stored.name, error);
        let bytes_read = Arc::new(AtomicU64::new(0));
        let stored = self.stored.sequential().map_err(problem)?;
        let counted = Counted { reader: stored, bytes: Arc::clone(&bytes_read) };
        let reader = decompressed(counted).map_err(problem)?;
        let records = match self.layout {
            Layout::Lines => {
                let bytes_max = match self.format {
                    Format::OpenTelemetry => validity::BATCH_LINE_BYTES_MAX,
                    _ => validity::LINE_BYTES_MAX,
                };
                Records::Lines(Lines::new(reader, bytes_max))
            }
            Layout::Document => Records::Document(Document::read(reader).map_err(problem)?),
        };
        Ok(TextBatches {
            name: self.stored.name.clone(),
            records: Some(records),
            parser: Parser::new(self.format, self.table, Arc::clone(&self.naming)),
            rows: RowBuilder::new(projection, filter),
            meter: Arc::clone(meter),
            bytes_read,
            problem: None,
        })
    }
}

enum Records {
    Lines(Lines),
    Document(Document),
}

/// A document in memory, and where its objects are.
struct Document {
    text: String,
    records: std::vec::IntoIter<Range<usize>>,
    /// What follows the last object that could be read.
    error: Option<String>,
}

impl Document {
    fn read(reader: Box<dyn io::Read + Send>) -> io::Result<Self> {
        let text = String::from_utf8(document(reader)?)
            .map_err(|_| io::Error::other("a JSON document that is not UTF-8"))?;
        let (records, error) = document_records(&text);
        let start = text.as_ptr() as usize;
        let ranges: Vec<Range<usize>> = records
            .iter()
            .map(|record| {
                let from = record.get().as_ptr() as usize - start;
                from..from + record.get().len()
            })
            .collect();
        let error = error.map(|e| {
            format!(
                "the JSON document is broken at line {}, column {}; what comes before is read",
                e.line(),
                e.column()
            )
        });
        Ok(Document { text, records: ranges.into_iter(), error })
    }
}

/// Turns the text of one record into rows.
pub(crate) struct Parser {
    convention: Convention,
    naming: Arc<Naming>,
}

enum Convention {
    Columns(JsonLines),
    Mapped(fn(&Value, &Naming, &mut RowBuilder)),
}

impl Parser {
    pub fn new(format: Format, table: Table, naming: Arc<Naming>) -> Self {
        let convention = match format {
            // Parquet never comes here: it is no text.
            Format::JsonLines | Format::Parquet => Convention::Columns(JsonLines::new(table)),
            Format::OpenTelemetry => Convention::Mapped(formats::otlp::map),
            Format::LiteLlm => Convention::Mapped(formats::litellm::map),
            Format::Bedrock => Convention::Mapped(formats::bedrock::map),
            Format::OpenAi => Convention::Mapped(formats::openai::map),
            Format::Anthropic => Convention::Mapped(formats::anthropic::map),
        };
        Parser { convention, naming }
    }

    /// Takes one record, or counts why not.
    pub fn record(&mut self, record: &[u8], rows: &mut RowBuilder, meter: &Meter) {
        let Ok(text) = str::from_utf8(record) else {
            rows.refuse(validity::NOT_UTF8);
            return;
        };
        match &mut self.convention {
            Convention::Columns(lines) => lines.read(text, rows, meter),
            Convention::Mapped(map) => match object(text) {
                Ok(value) => map(&value, &self.naming, rows),
                Err(reason) => rows.refuse(reason),
            },
        }
    }
}

/// A record of a convention, parsed whole.
fn object(text: &str) -> Result<Value, &'static str> {
    let parsed = serde_json::from_str::<Value>(text)
        .or_else(|_| serde_json::from_str::<Value>(&surrogates::replace_lone(text)));
    match parsed {
        Ok(value) if value.is_object() => Ok(value),
        Ok(_) => Err(validity::NOT_AN_OBJECT),
        Err(error) if error.is_eof() => Err(validity::TRUNCATED_LINE),
        // serde_json stops at 128 levels with a syntax error; skipping has no such bound.
        Err(_) if serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok() => {
            Err(validity::NESTED_TOO_DEEP)
        }
        Err(_) => Err(validity::NOT_JSON),
    }
}

/// The batches of a text file.
pub(crate) struct TextBatches {
    name: String,
    /// None once the end has been reached.
    records: Option<Records>,
    parser: Parser,
    rows: RowBuilder,
    meter: Arc<Meter>,
    bytes_read: Arc<AtomicU64>,
    problem: Option<FileProblem>,
}

impl Iterator for TextBatches {
    type Item = Result<Batch, FileProblem>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut records_read = 0;
        let batch = loop {
            if let Some(batch) = self.rows.take_full() {
                break Some(batch);
            }
            let Some(records) = self.records.as_mut() else {
                break self.rows.take_rest();
            };
            let record = match records {
                Records::Lines(lines) => match lines.next() {
                    Ok(line) => line,
                    Err(error) => {
                        let what = format!("can't be read to its end: {error}");
                        self.problem = Some(FileProblem::new(&self.name, what));
                        None
                    }
                },
                Records::Document(document) => match document.records.next() {
                    Some(range) => {
                        let record = document.text.as_bytes().get(range).unwrap_or_default();
                        Some(Line::Whole(record))
                    }
                    None => {
                        let what = document.error.take();
                        self.problem = what.map(|what| FileProblem::new(&self.name, what));
                        None
                    }
                },
            };
            match record {
                Some(Line::Whole(record)) => {
                    self.parser.record(record, &mut self.rows, &self.meter);
                }
                Some(Line::TooLong) => self.rows.refuse(validity::LINE_TOO_LONG),
                None => {
                    self.records = None;
                    continue;
                }
            }
            records_read += 1;
        };
        self.meter.add(records_read, self.bytes_read.swap(0, Ordering::Relaxed));
        match batch {
            Some(batch) => Some(batch.map_err(|e| FileProblem::new(&self.name, e))),
            None => self.problem.take().map(Err),
        }
    }
}

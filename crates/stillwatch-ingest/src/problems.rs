//! What can go wrong while reading, as data: rows and cells are counted, files are
//! named, and only arguments that can't be used end a run.
//!
//! No message here ever holds a cell's value, only names of files, columns and
//! reasons.

use std::collections::BTreeMap;
use std::fmt;

/// A file, or the rest of one, that could not be used; the run goes on without it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
#[error("{file}: {what}")]
pub struct FileProblem {
    /// The path or URL, without credentials or query.
    pub file: String,
    /// What is wrong, where in the file, and what to do about it.
    pub what: String,
}

impl FileProblem {
    pub(crate) fn new(file: &str, what: impl fmt::Display) -> Self {
        FileProblem { file: file.to_owned(), what: what.to_string() }
    }
}

/// Arguments that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    #[error("{path}: no such file or folder")]
    NotFound { path: String },
    #[error("{pattern}: no file matches this pattern")]
    NothingMatches { pattern: String },
    #[error("{pattern}: not a usable pattern: {source}")]
    BadPattern { pattern: String, source: glob::PatternError },
    #[error("{url}: not a usable URL: {what}")]
    BadUrl { url: String, what: String },
    #[error("{url}: could not be listed: {source}")]
    Unreachable { url: String, source: object_store::Error },
    #[error("{path}: could not be looked into: {source}")]
    Unreadable { path: String, source: std::io::Error },
    #[error("{url}: reading from an object store needs a Tokio runtime; give one in Options")]
    NoRuntime { url: String },
    /// A table that was asked for by name, and of which there is nothing to be had.
    #[error("{path}: no {table} can be read there: {what}; give a table of {table} as Parquet or JSON Lines with {columns}, or leave it out", columns = table.required().join(" and "))]
    Unusable { path: String, table: crate::Table, what: String },
    #[error("{name}: not a format; known are {known}", known = crate::Format::names())]
    UnknownFormat { name: String },
}

/// Rows and cells passed over, by reason. Adding up is commutative and associative.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RefusedCounts {
    /// Refused rows by reason, such as `time_missing`; the reasons are listed at
    /// [`crate::validity`].
    pub rows: BTreeMap<&'static str, u64>,
    /// Cells of optional columns that became null (or, for text that is not UTF-8,
    /// had its bad bytes replaced) while their row stayed, by column and reason.
    pub cells: BTreeMap<(&'static str, CellReason), u64>,
}

/// Why a cell of an optional column could not be taken as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CellReason {
    /// A number or time outside of what the column can mean.
    OutOfRange,
    /// A value of another kind than the column's.
    WrongType,
    /// Text that is not UTF-8; its bad bytes are replaced by U+FFFD.
    NotUtf8,
}

impl fmt::Display for CellReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            CellReason::OutOfRange => "out of range",
            CellReason::WrongType => "wrong type",
            CellReason::NotUtf8 => "not UTF-8",
        })
    }
}

impl RefusedCounts {
    /// All refused rows together.
    #[must_use]
    pub fn rows_total(&self) -> u64 {
        self.rows.values().sum()
    }

    /// Whether nothing was passed over.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.cells.is_empty()
    }

    /// Adds what another reader counted.
    pub fn merge(&mut self, other: &RefusedCounts) {
        for (reason, count) in &other.rows {
            *self.rows.entry(reason).or_default() += count;
        }
        for (cell, count) in &other.cells {
            *self.cells.entry(*cell).or_default() += count;
        }
    }

    /// Counts by one name each, rows as `time_missing`, cells as
    /// `usage_output_tokens: out of range`.
    #[must_use]
    pub fn named(&self) -> BTreeMap<String, u64> {
        let rows = self.rows.iter().map(|(reason, count)| ((*reason).to_owned(), *count));
        let cells = self
            .cells
            .iter()
            .map(|((column, reason), count)| (format!("{column}: {reason}"), *count));
        rows.chain(cells).collect()
    }

    pub(crate) fn row(&mut self, reason: &'static str, count: u64) {
        if count > 0 {
            *self.rows.entry(reason).or_default() += count;
        }
    }

    pub(crate) fn cell(&mut self, column: &'static str, reason: CellReason, count: u64) {
        if count > 0 {
            *self.cells.entry((column, reason)).or_default() += count;
        }
    }
}

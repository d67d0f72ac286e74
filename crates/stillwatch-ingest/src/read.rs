//! What every reader is asked for and what it gives.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use stillwatch_exchange::{Column, columns};

use crate::problems::{FileProblem, RefusedCounts};
use crate::table::Table;

/// The most rows in a batch.
pub const BATCH_ROWS: usize = 8192;
/// A batch of a row-by-row format ends early once its cells hold so many bytes.
pub(crate) const BATCH_BYTES: usize = 16 << 20;
/// The most unknown column names that a run keeps.
const UNKNOWN_COLUMNS_MAX: usize = 256;

/// Rows of a table, with what was passed over on the way to them.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Exactly the columns asked for, in that order, in the contract's types
    /// ([`stillwatch_exchange::ColumnKind::data_type`]); a column that the file does
    /// not have is all null. At most [`BATCH_ROWS`] rows, possibly none.
    pub rows: RecordBatch,
    /// What was refused since the batch before.
    pub refused: RefusedCounts,
}

/// Says whether rows of this account are wanted. It is called once per row, from
/// the thread that reads.
pub type AccountFilter = Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// What a run has read so far; shared by all its readers and whoever shows progress.
#[derive(Debug, Default)]
pub struct Meter {
    rows: AtomicU64,
    bytes: AtomicU64,
    unknown_columns: Mutex<BTreeSet<String>>,
}

impl Meter {
    /// Rows read, the refused ones and those of other accounts included.
    pub fn rows(&self) -> u64 {
        self.rows.load(Ordering::Relaxed)
    }

    /// Bytes read as they are stored, that is compressed; comparable with
    /// [`Split::bytes`](crate::Split::bytes).
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Names of columns met while reading that the contract does not know, at most
    /// 256, each at most 64 characters. (Those of Parquet files are known at
    /// discovery.)
    pub fn unknown_columns(&self) -> BTreeSet<String> {
        self.unknown_columns.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn add(&self, rows: u64, bytes: u64) {
        self.rows.fetch_add(rows, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn unknown_column(&self, name: &str) {
        let mut names = self.unknown_columns.lock().unwrap_or_else(PoisonError::into_inner);
        if names.len() < UNKNOWN_COLUMNS_MAX {
            names.insert(shown_name(name));
        }
    }
}

/// A column's name as it may stand in a message: short, without control characters.
pub(crate) fn shown_name(name: &str) -> String {
    name.chars().filter(|c| !c.is_control()).take(64).collect()
}

/// The columns that a reader is asked for.
#[derive(Clone)]
pub(crate) struct Projection {
    table: Table,
    columns: Arc<[&'static Column]>,
    schema: SchemaRef,
}

impl Projection {
    /// # Errors
    /// The table has no column of that name.
    pub fn new(file: &str, table: Table, names: &[&str]) -> Result<Self, FileProblem> {
        let columns = names
            .iter()
            .map(|name| {
                columns::find(table.columns(), name).ok_or_else(|| {
                    let name = shown_name(name);
                    FileProblem::new(file, format!("the table of {table} has no column {name}"))
                })
            })
            .collect::<Result<Vec<_>, _>>()?;
        let schema = columns::schema(&columns.iter().map(|c| **c).collect::<Vec<_>>());
        Ok(Projection { table, columns: columns.into(), schema })
    }

    pub fn table(&self) -> Table {
        self.table
    }

    pub fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    pub fn columns(&self) -> impl Iterator<Item = &'static Column> + '_ {
        self.columns.iter().copied()
    }

    pub fn names(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.columns.iter().map(|c| c.name)
    }
}

/// The batches of one split. After an error there are no more.
pub struct Batches(Box<dyn Iterator<Item = Result<Batch, FileProblem>> + Send>);

impl Batches {
    pub(crate) fn new(
        batches: impl Iterator<Item = Result<Batch, FileProblem>> + Send + 'static,
    ) -> Self {
        Batches(Box::new(batches))
    }
}

impl Iterator for Batches {
    type Item = Result<Batch, FileProblem>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next()
    }
}

impl fmt::Debug for Batches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batches").finish_non_exhaustive()
    }
}

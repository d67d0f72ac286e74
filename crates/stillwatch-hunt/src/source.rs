//! The exchanges as a table of the engine: what ingest reads, as streams of batches.
//!
//! Partitions take splits from one queue, so a folder of unequal files keeps all of
//! them busy. Which partition reads what differs from run to run; nothing after depends
//! on it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::{AsArray, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{SchemaRef, TimestampMicrosecondType};
use datafusion::catalog::streaming::StreamingTable;
use datafusion::common::{Result, internal_datafusion_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::stream::{
    RecordBatchReceiverStreamBuilder, RecordBatchStreamAdapter,
};
use datafusion::physical_plan::streaming::PartitionStream;
use futures::stream;
use stillwatch_exchange::columns::{self, EXCHANGES};
use stillwatch_ingest::{AccountFilter, FileProblem, Meter, RefusedCounts, Source, Split};
use tokio::sync::mpsc;

use crate::settings::Period;

/// Batches that wait between reading and working, for each partition.
pub(crate) const BATCHES_AHEAD: usize = 2;

/// What a pass over the exchanges could not read.
#[derive(Debug, Default)]
pub(crate) struct Unread {
    pub refused: RefusedCounts,
    /// Rows outside of the period.
    pub outside: u64,
    pub files: Vec<FileProblem>,
}

/// One pass over the exchanges: which columns, of which accounts.
pub(crate) struct Pass {
    pub columns: &'static [&'static str],
    pub accounts: Option<AccountFilter>,
    /// Rows outside of it are passed over.
    pub period: Option<Period>,
    pub meter: Arc<Meter>,
    pub unread: Arc<Mutex<Unread>>,
}

pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The table of one pass, in `partitions` streams. It can be scanned once.
pub(crate) fn table(sources: &[Source], pass: Pass, partitions: usize) -> Result<StreamingTable> {
    let wanted: Vec<_> =
        pass.columns.iter().filter_map(|name| columns::find(EXCHANGES, name)).copied().collect();
    let schema = columns::schema(&wanted);
    let queue: VecDeque<Split> = sources.iter().flat_map(Source::splits).collect();
    let shared = Arc::new(Shared { queue: Mutex::new(queue), pass });
    let streams = (0..partitions)
        .map(|_| {
            Arc::new(Stream { schema: Arc::clone(&schema), shared: Arc::clone(&shared) })
                as Arc<dyn PartitionStream>
        })
        .collect();
    StreamingTable::try_new(schema, streams)
}

struct Shared {
    queue: Mutex<VecDeque<Split>>,
    pass: Pass,
}

struct Stream {
    schema: SchemaRef,
    shared: Arc<Shared>,
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("exchanges")
    }
}

impl PartitionStream for Stream {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let mut builder =
            RecordBatchReceiverStreamBuilder::new(Arc::clone(&self.schema), BATCHES_AHEAD);
        let batches = builder.tx();
        let shared = Arc::clone(&self.shared);
        builder.spawn_blocking(move || {
            let Pass { columns, accounts, period, meter, unread } = &shared.pass;
            loop {
                let next = locked(&shared.queue).pop_front();
                let Some(split) = next else { return Ok(()) };
                let read = match split.read(columns, accounts.clone(), meter) {
                    Ok(read) => read,
                    Err(problem) => {
                        locked(unread).files.push(problem);
                        continue;
                    }
                };
                for item in read {
                    match item {
                        Ok(batch) => {
                            if !batch.refused.is_empty() {
                                locked(unread).refused.merge(&batch.refused);
                            }
                            let read = batch.rows.num_rows();
                            let rows = period.map_or(Ok(batch.rows.clone()), |period| {
                                within(&batch.rows, period)
                            })?;
                            locked(unread).outside += (read - rows.num_rows()) as u64;
                            // A closed channel means that the query has ended.
                            if rows.num_rows() > 0 && batches.blocking_send(Ok(rows)).is_err() {
                                return Ok(());
                            }
                        }
                        Err(problem) => locked(unread).files.push(problem),
                    }
                }
            }
        });
        builder.build()
    }
}

/// The rows of a period.
fn within(rows: &RecordBatch, period: Period) -> Result<RecordBatch> {
    let times = rows
        .column_by_name("time")
        .and_then(|times| times.as_primitive_opt::<TimestampMicrosecondType>())
        .ok_or_else(|| internal_datafusion_err!("a pass without times has no period"))?;
    let is_within: BooleanArray = times
        .iter()
        .map(|time| Some(time.is_some_and(|t| (period.from.0..period.to.0).contains(&t))))
        .collect();
    Ok(filter_record_batch(rows, &is_within)?)
}

/// The table of batches that arrive while it is read. It can be scanned once.
pub(crate) fn received(
    schema: SchemaRef,
    batches: mpsc::Receiver<RecordBatch>,
) -> Result<StreamingTable> {
    let stream = Received { schema: Arc::clone(&schema), batches: Mutex::new(Some(batches)) };
    StreamingTable::try_new(schema, vec![Arc::new(stream)])
}

#[derive(Debug)]
struct Received {
    schema: SchemaRef,
    batches: Mutex<Option<mpsc::Receiver<RecordBatch>>>,
}

impl PartitionStream for Received {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let batches = locked(&self.batches).take();
        let rows = stream::unfold(batches, |batches| async {
            let mut batches = batches?;
            let batch = batches.recv().await?;
            Some((Ok(batch), Some(batches)))
        });
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), rows))
    }
}

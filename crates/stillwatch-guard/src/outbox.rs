//! The exchanges on record, sent to a stream: each once, whatever is killed and whenever.
//!
//! What is sent are the sealed Parquet files, in the order of their numbers, each in the
//! same messages however often it is sent: lines of JSON in the exchange format, those of
//! an account always to the same of [`PARTITIONS`] partitions. Each message says which
//! file and which of its messages it is, so that the stream itself knows what has
//! arrived. `STATE/outbox.json` has the last file of which everything has.
//!
//! Bound: messages of [`SENT_AT_ONCE_BYTES`] in memory. While the server is away files
//! wait in `STATE/records`, where they stay in any case.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{
    DataType, Float32Type, Int64Type, TimestampMicrosecondType, UInt16Type, UInt32Type,
};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use stillwatch_broker::{BrokerError, Line, Server, Writer};
use stillwatch_exchange::Time;
use tokio::sync::Notify;
use xxhash_rust::xxh3::xxh3_64;

use crate::brokers::Away;
use crate::metrics::Metrics;
use crate::seal;
use crate::settings::GuardError;

/// Parts of the accounts. Never another number: it is known of each what has arrived.
pub const PARTITIONS: u32 = 16;
/// A message holds lines of so many bytes, or one that is longer.
const MESSAGE_BYTES: usize = 256 << 10;
/// A longer line's texts are cut.
const LINE_BYTES_MAX: usize = 768 << 10;
/// Messages that are made and not sent yet, in bytes.
const SENT_AT_ONCE_BYTES: usize = 8 << 20;
/// What a shorter text would make into something else.
const KEPT_WHOLE: &[&str] = &["exchange_id", "time", "account_id", "response_digest"];
/// Rows that are read at once.
const BATCH_ROWS: usize = 256;
/// How often records are looked for although none were told of.
const LOOK: Duration = Duration::from_secs(5);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Which file was sent last, and who sends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sent {
    version: u32,
    /// The subjects' last part: this state folder's own name.
    guard: String,
    file: u64,
}

/// Sends records to a stream.
#[derive(Debug)]
pub struct Outbox {
    server: Server,
    records: PathBuf,
    path: PathBuf,
    sent: Sent,
    what: String,
    /// The stream has been there.
    is_known: bool,
}

impl Outbox {
    /// Reads how far an earlier run came; `name` is the name of a new folder.
    ///
    /// # Errors
    /// The file can't be read.
    pub fn open(
        server: Server,
        state: &Path,
        records: &Path,
        name: u64,
    ) -> Result<Self, GuardError> {
        let path = state.join("outbox.json");
        let sent = match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text)
                .map_err(|error| GuardError::Usage(format!("{}: {error}", path.display())))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Sent { version: 1, guard: format!("{name:016x}"), file: 0 }
            }
            Err(error) => return Err(GuardError::at("read", &path)(error)),
        };
        if sent.version != 1 {
            let what = format!("{} is of version {}, not 1", path.display(), sent.version);
            return Err(GuardError::Usage(what));
        }
        let what = format!("exchanges for {}", server.place());
        let records = records.to_owned();
        let outbox = Outbox { server, records, path, sent, what, is_known: false };
        outbox.keep()?;
        Ok(outbox)
    }

    fn keep(&self) -> Result<(), GuardError> {
        let part = self.path.with_extension("part");
        // Texts and numbers always become JSON.
        let text = serde_json::to_vec(&self.sent).unwrap_or_default();
        let write = || {
            let mut file = File::create(&part)?;
            file.write_all(&text)?;
            file.sync_all()?;
            fs::rename(&part, &self.path)
        };
        write().map_err(GuardError::at("write", &self.path))
    }

    /// The files that are not sent yet.
    fn waiting(&self) -> Result<Vec<u64>, GuardError> {
        let mut numbers =
            seal::numbers(&self.records).map_err(GuardError::at("read", &self.records))?;
        numbers.retain(|number| *number > self.sent.file);
        Ok(numbers)
    }

    /// Sends until it is dropped: whenever `sealed` says that there is something, and now and
    /// then.
    pub async fn run(mut self, sealed: &Notify, sent: &Notify, away: &Away, metrics: &Metrics) {
        let mut pause = Duration::ZERO;
        loop {
            let mut outcome = self.send(metrics).await;
            if outcome.is_ok() {
                sent.notify_one();
                outcome = self.look().await;
            }
            match outcome {
                Ok(()) => {
                    away.back(&self.what, self.server.place());
                    pause = Duration::ZERO;
                }
                Err(error) => {
                    away.gone(&self.what, &error, "they wait below --state");
                    pause = (pause * 2).clamp(Duration::from_millis(100), PAUSE_MAX);
                }
            }
            let pause = if pause.is_zero() { LOOK } else { pause };
            tokio::select! {
                () = sealed.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Whether something could be sent, though nothing waits.
    async fn look(&mut self) -> Result<(), String> {
        if !self.is_known {
            Writer::open(&self.server, &self.sent.guard).await.map_err(told)?;
            self.is_known = true;
        }
        self.server.connected().map_err(told)
    }

    /// Sends all that waits.
    async fn send(&mut self, metrics: &Metrics) -> Result<(), String> {
        let waiting = self.waiting().map_err(|error| error.to_string())?;
        if waiting.is_empty() {
            return Ok(());
        }
        let writer = Writer::open(&self.server, &self.sent.guard).await.map_err(told)?;
        if writer.payload_bytes_max() < LINE_BYTES_MAX {
            return Err(format!("the server takes messages below {LINE_BYTES_MAX} bytes only"));
        }
        let arrived = writer.reached(PARTITIONS).await.map_err(told)?;
        for number in waiting {
            let path = seal::path(&self.records, number);
            let mut messages = Messages::of(&path, number)?;
            loop {
                let read = tokio::task::spawn_blocking(move || {
                    let some = messages.next_some(SENT_AT_ONCE_BYTES);
                    (messages, some)
                });
                let (rest, some) = read.await.map_err(|error| error.to_string())?;
                messages = rest;
                let some = some?;
                if some.is_empty() {
                    break;
                }
                let (exchanges, lines): (Vec<u64>, Vec<Line>) = some
                    .into_iter()
                    .filter(|(_, line)| arrived.get(&line.partition) < Some(&line.reaches))
                    .unzip();
                writer.write(lines).await.map_err(told)?;
                metrics.records_published.inc_by(exchanges.iter().sum());
            }
            self.sent.file = number;
            self.keep().map_err(|error| error.to_string())?;
        }
        Ok(())
    }
}

fn told(error: BrokerError) -> String {
    error.to_string()
}

/// The messages that a file becomes: the same, in the same order, whenever it is read.
struct Messages {
    path: PathBuf,
    number: u64,
    rows: Option<ParquetRecordBatchReader>,
    begun: BTreeMap<u32, Begun>,
    /// Messages made of each partition.
    made: BTreeMap<u32, u32>,
}

/// Lines that become a message.
#[derive(Default)]
struct Begun {
    id: String,
    exchanges: u64,
    lines: Vec<u8>,
}

impl Messages {
    fn of(path: &Path, number: u64) -> Result<Self, String> {
        let failed =
            |error: &dyn std::fmt::Display| format!("cannot read {}: {error}", path.display());
        let file = File::open(path).map_err(|error| failed(&error))?;
        let rows = ParquetRecordBatchReaderBuilder::try_new(file)
            .and_then(|builder| builder.with_batch_size(BATCH_ROWS).build())
            .map_err(|error| failed(&error))?;
        let (begun, made) = (BTreeMap::new(), BTreeMap::new());
        Ok(Messages { path: path.to_owned(), number, rows: Some(rows), begun, made })
    }

    /// Messages of about so many bytes, each with the number of its exchanges; none at the
    /// end.
    fn next_some(&mut self, bytes: usize) -> Result<Vec<(u64, Line)>, String> {
        let mut some = Vec::new();
        let mut made_bytes = 0;
        while made_bytes < bytes {
            let Some(rows) = &mut self.rows else { break };
            match rows.next() {
                Some(batch) => {
                    let batch =
                        batch.map_err(|e| format!("cannot read {}: {e}", self.path.display()))?;
                    for row in 0..batch.num_rows() {
                        if let Some(made) = self.add(&batch, row) {
                            made_bytes += made.1.payload.len();
                            some.push(made);
                        }
                    }
                }
                None => {
                    self.rows = None;
                    let begun = std::mem::take(&mut self.begun);
                    some.extend(
                        begun.into_iter().map(|(partition, begun)| self.made(partition, begun)),
                    );
                }
            }
        }
        Ok(some)
    }

    /// Adds a row; a message that is full with it or without it.
    fn add(&mut self, batch: &RecordBatch, row: usize) -> Option<(u64, Line)> {
        let columns = object(batch, row);
        let text = |name: &str| columns.get(name).and_then(Value::as_str).unwrap_or_default();
        let partition = partition(text("account_id"));
        let id = text("exchange_id").to_owned();
        let line = line(columns);
        let is_full = self
            .begun
            .get(&partition)
            .is_some_and(|begun| begun.lines.len() + line.len() > MESSAGE_BYTES);
        let full = if is_full { self.begun.remove(&partition) } else { None };
        let begun = self.begun.entry(partition).or_default();
        if begun.exchanges == 0 {
            begun.id = id;
        }
        begun.exchanges += 1;
        begun.lines.extend_from_slice(&line);
        full.map(|full| self.made(partition, full))
    }

    fn made(&mut self, partition: u32, begun: Begun) -> (u64, Line) {
        let made = self.made.entry(partition).or_default();
        *made += 1;
        let reaches = (self.number, *made);
        let payload = Bytes::from(begun.lines);
        (begun.exchanges, Line { partition, id: begun.id, reaches, payload })
    }
}

/// The partition of an account.
fn partition(account_id: &str) -> u32 {
    (xxh3_64(account_id.as_bytes()) % u64::from(PARTITIONS)) as u32
}

/// A row's columns, as JSON has them in the exchange format: times RFC 3339, digests
/// base64.
fn object(batch: &RecordBatch, row: usize) -> Map<String, Value> {
    let mut columns = Map::new();
    for (field, column) in batch.schema_ref().fields().iter().zip(batch.columns()) {
        if column.is_null(row) {
            continue;
        }
        let value = match field.data_type() {
            DataType::Utf8View => Value::from(column.as_string_view().value(row)),
            DataType::BinaryView => {
                Value::from(STANDARD.encode(column.as_binary_view().value(row)))
            }
            DataType::Boolean => Value::from(column.as_boolean().value(row)),
            DataType::UInt16 => Value::from(column.as_primitive::<UInt16Type>().value(row)),
            DataType::UInt32 => Value::from(column.as_primitive::<UInt32Type>().value(row)),
            DataType::Int64 => Value::from(column.as_primitive::<Int64Type>().value(row)),
            DataType::Float32 => Value::from(column.as_primitive::<Float32Type>().value(row)),
            DataType::Timestamp(..) => {
                let time = column.as_primitive::<TimestampMicrosecondType>().value(row);
                Value::from(Time(time).to_string())
            }
            // Guards write no others.
            _ => continue,
        };
        columns.insert(field.name().clone(), value);
    }
    columns
}

/// A line; where it would be too long, with shorter texts.
fn line(mut columns: Map<String, Value>) -> Vec<u8> {
    loop {
        // Texts and numbers always become JSON.
        let mut line = serde_json::to_vec(&columns).unwrap_or_default();
        let texts = columns.iter_mut().filter(|(name, _)| !KEPT_WHOLE.contains(&name.as_str()));
        let texts = texts.filter_map(|(_, value)| match value {
            Value::String(text) if !text.is_empty() => Some(text),
            _ => None,
        });
        match texts.max_by_key(|text| text.len()) {
            Some(text) if line.len() >= LINE_BYTES_MAX => {
                text.truncate(text.floor_char_boundary(text.len() / 2));
            }
            _ => {
                line.push(b'\n');
                return line;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use stillwatch_exchange::Time;

    use super::*;
    use crate::journal::{Arrival, Ending, Journal};

    #[test]
    fn a_file_always_becomes_the_same_messages_and_accounts_stay_together() {
        let state = tempfile::tempdir().unwrap();
        let (journal, records) = (state.path().join("journal"), state.path().join("records"));
        fs::create_dir(&journal).unwrap();
        fs::create_dir(&records).unwrap();
        let open = Journal::begin(&journal, 7, Time(1)).unwrap();
        for sequence in 0..600 {
            // Control characters take six times their length in JSON.
            let prompt = if sequence == 5 { "\u{1}".repeat(250_000) } else { "p".repeat(9_000) };
            let id = format!("x{sequence}");
            open.arrive(
                sequence,
                &Arrival {
                    exchange_id: id.as_str().into(),
                    time: 1_772_409_600_000_000,
                    account_id: format!("account {}", sequence % 40).into(),
                    prompt: prompt.into(),
                    ..Arrival::default()
                },
            );
            let digest = Some("00".repeat(32).into());
            open.end(
                sequence,
                &Ending { exchange_id: id.into(), response_digest: digest, ..Ending::default() },
            );
        }
        let closed = open.rotate(Time(2)).unwrap();
        seal::seal(&journal, &records, &closed).unwrap();
        let all = |bytes: usize| {
            let mut messages = Messages::of(&seal::path(&records, 7), 7).unwrap();
            let mut all = Vec::new();
            loop {
                let some = messages.next_some(bytes).unwrap();
                if some.is_empty() {
                    return all;
                }
                all.extend(some);
            }
        };
        let messages = all(1);
        let sort = |mut all: Vec<(u64, Line)>| {
            all.sort_by_key(|(_, line)| (line.partition, line.reaches));
            all
        };
        assert_eq!(sort(all(64 << 20)), sort(messages.clone()));
        assert_eq!(messages.iter().map(|(exchanges, _)| exchanges).sum::<u64>(), 600);
        let mut ids = BTreeSet::new();
        let mut partitions: BTreeMap<String, u32> = BTreeMap::new();
        for (_, message) in &messages {
            assert!(message.payload.len() <= LINE_BYTES_MAX);
            for line in message.payload.split(|byte| *byte == b'\n').filter(|l| !l.is_empty()) {
                let line: Map<String, Value> = serde_json::from_slice(line).unwrap();
                assert_eq!(line["time"], "2026-03-02T00:00:00Z");
                assert_eq!(line["response_digest"], STANDARD.encode([0; 32]));
                assert!(ids.insert(line["exchange_id"].as_str().unwrap().to_owned()));
                let account = line["account_id"].as_str().unwrap().to_owned();
                let known = *partitions.entry(account).or_insert(message.partition);
                assert_eq!(known, message.partition);
            }
        }
        assert_eq!(ids.len(), 600);
        assert!(partitions.values().collect::<BTreeSet<_>>().len() > 8);
    }
}

//! Closed segments of the journal become Parquet files in the exchange format.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryViewArray, BooleanArray, Float32Array, Int64Array, RecordBatch,
    StringViewArray, TimestampMicrosecondArray, UInt16Array, UInt32Array,
};
use arrow::datatypes::{Field, Schema};
use hashbrown::{HashMap, HashSet};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use stillwatch_exchange::columns::EXCHANGES;
use xxhash_rust::xxh3::xxh3_128;

use crate::journal::{self, Arrival, Closed, Ending, Entry, HEADER};
use crate::keys::{CredentialHash, hex};
use crate::settings::GuardError;

/// Rows that are turned into columns at once, and bytes of their lines, but for one row
/// that has more.
const BATCH_ROWS: usize = 1024;
const BATCH_BYTES: usize = 1 << 20;
/// A row group of so many bytes is written; until then it is in memory.
const ROW_GROUP_BYTES: usize = 2 << 20;

/// A page of a column is compressed when it has so many bytes; all columns hold one.
const PAGE_BYTES: usize = 256 << 10;

/// What came of a segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sealed {
    pub exchanges: u64,
    /// Of them, those that had not ended.
    pub unfinished: u64,
    /// Lines in the middle of the segment that could not be read.
    pub broken: u64,
}

/// Where a segment's Parquet file is.
#[must_use]
pub fn path(records: &Path, number: u64) -> PathBuf {
    records.join(format!("exchanges-{number:020}.parquet"))
}

/// The numbers of a folder's Parquet files, ascending.
///
/// # Errors
/// The folder can't be read.
pub fn numbers(records: &Path) -> std::io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(records)? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| {
            name.strip_prefix("exchanges-")?.strip_suffix(".parquet")?.parse::<u64>().ok()
        });
        numbers.extend(number);
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// The exchanges of a segment that an earlier one carried over to it.
fn carried_to(segment: &Path) -> io::Result<HashSet<String>> {
    let mut carried = HashSet::new();
    let mut lines = Lines::open(segment)?;
    while let Some((_, line)) = lines.next()? {
        if let Some((true, Entry::Arrival(arrival))) = journal::read_line(line) {
            carried.insert(arrival.exchange_id.into_owned());
        }
    }
    Ok(carried)
}

/// Seals all segments that an earlier run has left. Returns the greatest number that
/// was ever used, and what came of them.
///
/// # Errors
/// A folder or file can't be read or written; what was sealed stays sealed.
pub fn recover(journal: &Path, records: &Path) -> Result<(u64, Sealed), GuardError> {
    let numbers = journal::numbers(journal).map_err(GuardError::at("read", journal))?;
    let mut total = Sealed::default();
    for (index, number) in numbers.iter().enumerate() {
        let carried = match numbers.get(index + 1) {
            Some(next) => {
                let next = journal::path(journal, *next);
                carried_to(&next).map_err(GuardError::at("read", &next))?
            }
            None => HashSet::new(),
        };
        let sealed = seal(journal, records, &Closed { number: *number, carried })?;
        total.exchanges += sealed.exchanges;
        total.unfinished += sealed.unfinished;
        total.broken += sealed.broken;
    }
    // By a clock that was set back since, the next one would be before these.
    let sealed = self::numbers(records).map_err(GuardError::at("read", records))?;
    Ok((numbers.last().max(sealed.last()).copied().unwrap_or(0), total))
}

/// Makes a Parquet file of a closed segment and removes the segment. A segment without
/// exchanges of its own becomes none.
///
/// # Errors
/// A file can't be read or written; the segment stays.
pub fn seal(journal: &Path, records: &Path, closed: &Closed) -> Result<Sealed, GuardError> {
    let segment = journal::path(journal, closed.number);
    let target = path(records, closed.number);
    let mut sealed = Sealed::default();
    if !target.exists() {
        sealed = write(&segment, &closed.carried, &target)?;
    }
    fs::remove_file(&segment).map_err(GuardError::at("remove", &segment))?;
    Ok(sealed)
}

type Row<'a> = (Arrival<'a>, Option<Ending<'a>>);

/// The lines of a segment after its head, one at a time: a segment is as long as what came
/// until it was closed, and is never in memory as a whole.
struct Lines {
    file: BufReader<File>,
    at: u64,
    line: Vec<u8>,
}

impl Lines {
    fn open(segment: &Path) -> io::Result<Self> {
        let mut lines = Lines {
            file: BufReader::with_capacity(READ_BYTES, File::open(segment)?),
            at: 0,
            line: Vec::new(),
        };
        let is_one = lines.next()?.is_some_and(|(_, head)| head == HEADER.as_bytes());
        if !is_one {
            // Nothing that follows another head is ours.
            io::copy(&mut lines.file, &mut io::sink())?;
        }
        Ok(lines)
    }

    /// The next line, and where it is.
    fn next(&mut self) -> io::Result<Option<(u64, &[u8])>> {
        self.line.clear();
        let length = self.file.read_until(b'\n', &mut self.line)?;
        let at = self.at;
        self.at += length as u64;
        Ok((length > 0).then_some((at, &self.line)))
    }
}

/// Read of a segment at once.
const READ_BYTES: usize = 64 << 10;

/// Where lines are, and how long, by hash of the exchange's id.
type Places = HashMap<u128, (u64, usize)>;

/// Where the lines about the exchanges' ends are, and how many are broken.
fn endings(segment: &Path) -> io::Result<(Places, u64)> {
    let mut endings = Places::new();
    let mut lost = 0;
    let mut lines = Lines::open(segment)?;
    while let Some((at, line)) = lines.next()? {
        if !journal::is_ending(line) {
            continue;
        }
        match journal::read_line(line) {
            Some((_, Entry::Ending(ending))) => {
                endings.insert(xxh3_128(ending.exchange_id.as_bytes()), (at, line.len()));
            }
            _ => lost += broken(line),
        }
    }
    Ok((endings, lost))
}

/// 1 for a line that can't be read, but not for half a line at the end, which a killed
/// process may leave.
fn broken(line: &[u8]) -> u64 {
    u64::from(line.ends_with(b"\n"))
}

/// Writes the exchanges of a segment in the order of their arrival; no file where there
/// are none. Where their ends are is looked up first, so that rows are held only until a
/// batch is full.
fn write(segment: &Path, carried: &HashSet<String>, target: &Path) -> Result<Sealed, GuardError> {
    let unread = || GuardError::at("read", segment);
    let (mut endings, lost) = endings(segment).map_err(unread())?;
    let mut lines = Lines::open(segment).map_err(unread())?;
    let ends = File::open(segment).map_err(unread())?;
    let mut file = PartFile::new(target);
    let mut sealed = Sealed { broken: lost, ..Sealed::default() };
    // The arrivals of a batch, and their ends; where each line is in these.
    let (mut arrived, mut ended) = (Vec::new(), Vec::new());
    let mut places: Vec<Range<usize>> = Vec::with_capacity(BATCH_ROWS);
    loop {
        arrived.clear();
        ended.clear();
        places.clear();
        while places.len() < BATCH_ROWS && arrived.len() < BATCH_BYTES {
            let Some((_, line)) = lines.next().map_err(unread())? else { break };
            if !journal::is_ending(line) {
                places.push(arrived.len()..arrived.len() + line.len());
                arrived.extend_from_slice(line);
            }
        }
        if places.is_empty() {
            break;
        }
        let mut arrivals = Vec::with_capacity(places.len());
        for line in places.drain(..).filter_map(|place| arrived.get(place)) {
            match journal::read_line(line) {
                Some((_, Entry::Arrival(arrival))) => arrivals.push(arrival),
                _ => sealed.broken += broken(line),
            }
        }
        arrivals.retain(|arrival| !carried.contains(arrival.exchange_id.as_ref()));
        for arrival in &arrivals {
            let start = ended.len();
            if let Some((at, length)) = endings.remove(&xxh3_128(arrival.exchange_id.as_bytes())) {
                ended.resize(start + length, 0);
                let held = ended.get_mut(start..).unwrap_or_default();
                journal::read_at(&ends, held, at).map_err(unread())?;
            }
            places.push(start..ended.len());
        }
        let read = |place: Range<usize>| match journal::read_line(ended.get(place)?)? {
            (_, Entry::Ending(ending)) => Some(ending),
            (_, Entry::Arrival(_)) => None,
        };
        let rows: Vec<Row<'_>> = arrivals.into_iter().zip(places.drain(..).map(read)).collect();
        sealed.exchanges += rows.len() as u64;
        sealed.unfinished += rows.iter().filter(|(_, ending)| ending.is_none()).count() as u64;
        if !rows.is_empty() {
            file.write(&rows).map_err(|error| unwritten(target, &error))?;
        }
    }
    file.finish().map_err(|error| unwritten(target, &error))?;
    Ok(sealed)
}

fn unwritten(target: &Path, error: &ParquetError) -> GuardError {
    GuardError::Other(format!("cannot write {}: {error}", target.display()))
}

/// A Parquet file that gets its name once it is whole and on the disk; removed where it
/// never is.
struct PartFile<'a> {
    target: &'a Path,
    part: PathBuf,
    writer: Option<ArrowWriter<File>>,
}

impl<'a> PartFile<'a> {
    fn new(target: &'a Path) -> Self {
        let name = target.file_name().unwrap_or_default().to_string_lossy();
        let part = target.with_file_name(format!(".{name}.part"));
        PartFile { target, part, writer: None }
    }

    fn write(&mut self, rows: &[Row<'_>]) -> Result<(), ParquetError> {
        let batch = batch(rows)?;
        if let Some(writer) = &mut self.writer {
            writer.write(&batch)?;
            if writer.in_progress_size() >= ROW_GROUP_BYTES {
                writer.flush()?;
            }
            return Ok(());
        }
        let mut properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::try_new(1)?))
            .set_statistics_enabled(EnabledStatistics::Chunk)
            .set_data_page_size_limit(PAGE_BYTES)
            .set_created_by("stillwatch".to_owned());
        // Hardly a value of these comes twice.
        for column in ["exchange_id", "time", "prompt", "response_digest"] {
            properties = properties.set_column_dictionary_enabled(column.into(), false);
        }
        let file = File::create(&self.part)?;
        let mut writer = ArrowWriter::try_new(file, batch.schema(), Some(properties.build()))?;
        writer.write(&batch)?;
        self.writer = Some(writer);
        Ok(())
    }

    fn finish(mut self) -> Result<(), ParquetError> {
        let Some(writer) = self.writer.take() else { return Ok(()) };
        writer.into_inner()?.sync_all()?;
        fs::rename(&self.part, self.target)?;
        // The name has to be on the disk before the segment goes.
        if let Some(Ok(folder)) = self.target.parent().map(File::open) {
            folder.sync_all()?;
        }
        Ok(())
    }
}

impl Drop for PartFile<'_> {
    fn drop(&mut self) {
        // Gone already where it was moved to its name.
        let _ = fs::remove_file(&self.part);
    }
}

/// The columns that a guard knows something of, in the contract's order.
fn schema() -> Schema {
    let fields = EXCHANGES.iter().filter(|column| !UNKNOWN.contains(&column.name));
    let fields =
        fields.map(|column| Field::new(column.name, column.kind.data_type(), !column.required));
    Schema::new(fields.collect::<Vec<_>>())
}

/// Columns that a guard knows nothing of.
const UNKNOWN: &[&str] = &[
    "route",
    "prompt_sketch",
    "client_network",
    "client_asn",
    "client_country",
    "tls_fingerprint",
    "cost_usd",
];

fn batch(rows: &[Row<'_>]) -> Result<RecordBatch, ParquetError> {
    let schema = Arc::new(schema());
    let columns: Vec<ArrayRef> =
        schema.fields().iter().map(|field| column(field.name(), rows)).collect::<Result<_, _>>()?;
    Ok(RecordBatch::try_new(schema, columns)?)
}

fn column(name: &str, rows: &[Row<'_>]) -> Result<ArrayRef, ParquetError> {
    let ended = |row: usize| rows.get(row).and_then(|(_, ending)| ending.as_ref());
    macro_rules! arrived {
        ($array:ty, $arrival:ident => $value:expr) => {
            Arc::new(rows.iter().map(|($arrival, _)| $value).collect::<$array>())
        };
    }
    macro_rules! ended {
        ($array:ty, $ending:ident => $value:expr) => {
            Arc::new(
                (0..rows.len())
                    .map(|row| ended(row).and_then(|$ending| $value))
                    .collect::<$array>(),
            )
        };
    }
    Ok(match name {
        "exchange_id" => arrived!(StringViewArray, a => Some(a.exchange_id.as_ref())),
        "time" => {
            let times = rows.iter().map(|(arrival, _)| arrival.time);
            Arc::new(TimestampMicrosecondArray::from_iter_values(times).with_timezone("UTC"))
        }
        "account_id" => arrived!(StringViewArray, a => Some(a.account_id.as_ref())),
        "organization_id" => arrived!(StringViewArray, a => a.organization_id.as_deref()),
        "credential_id" => arrived!(StringViewArray, a => a.credential_id.as_deref()),
        "conversation_id" => arrived!(StringViewArray, a => a.conversation_id.as_deref()),
        "turn" => arrived!(UInt16Array, a => a.turn),
        "provider_name" => arrived!(StringViewArray, a => a.provider_name.as_deref()),
        "operation_name" => arrived!(StringViewArray, a => a.operation_name.as_deref()),
        "request_model" => arrived!(StringViewArray, a => a.request_model.as_deref()),
        "system_instructions" => arrived!(StringViewArray, a => a.system_instructions.as_deref()),
        "prompt" => arrived!(StringViewArray, a => Some(a.prompt.as_ref())),
        "request_temperature" => arrived!(Float32Array, a => a.request_temperature),
        "request_top_p" => arrived!(Float32Array, a => a.request_top_p),
        "request_max_tokens" => arrived!(UInt32Array, a => a.request_max_tokens),
        "request_choice_count" => arrived!(UInt16Array, a => a.request_choice_count),
        "request_seed" => arrived!(Int64Array, a => a.request_seed),
        "request_stream" => arrived!(BooleanArray, a => a.request_stream),
        "request_top_logprobs" => arrived!(UInt16Array, a => a.request_top_logprobs),
        "request_logit_bias_count" => arrived!(UInt16Array, a => a.request_logit_bias_count),
        "request_reasoning" => arrived!(StringViewArray, a => a.request_reasoning.as_deref()),
        "request_tool_count" => arrived!(UInt16Array, a => a.request_tool_count),
        "client_address" => arrived!(StringViewArray, a => a.client_address.as_deref()),
        "user_agent" => arrived!(StringViewArray, a => a.user_agent.as_deref()),
        "status" => ended!(UInt16Array, e => e.status),
        "response_model" => ended!(StringViewArray, e => e.response_model.as_deref()),
        "usage_input_tokens" => ended!(UInt32Array, e => e.usage_input_tokens),
        "usage_output_tokens" => ended!(UInt32Array, e => e.usage_output_tokens),
        "usage_reasoning_tokens" => ended!(UInt32Array, e => e.usage_reasoning_tokens),
        "response_finish_reason" => {
            let reasons = rows.iter().map(|(_, ending)| match ending {
                Some(ending) => ending.response_finish_reason.as_deref(),
                None => Some("aborted"),
            });
            Arc::new(reasons.collect::<StringViewArray>())
        }
        "response_digest" => {
            let digest = |e: &Ending<'_>| CredentialHash::parse(e.response_digest.as_deref()?);
            let digests: Vec<_> = rows.iter().map(|(_, e)| e.as_ref().and_then(digest)).collect();
            Arc::new(
                digests
                    .iter()
                    .map(|d| d.as_ref().map(|d| d.0.as_slice()))
                    .collect::<BinaryViewArray>(),
            )
        }
        other => return Err(ParquetError::General(format!("nothing fills the column {other}"))),
    })
}

/// The digest as the journal has it.
pub fn digest_text(digest: &[u8; 32]) -> String {
    hex(digest)
}

#[cfg(test)]
mod tests {
    use stillwatch_exchange::{Time, columns};

    use super::*;
    use crate::journal::Journal;

    #[test]
    fn every_column_of_the_contract_is_filled_or_known_not_to_be() {
        let rows = [(Arrival::default(), None)];
        assert_eq!(batch(&rows).unwrap().num_columns() + UNKNOWN.len(), EXCHANGES.len());
        assert!(UNKNOWN.iter().all(|name| columns::find(EXCHANGES, name).is_some()));
    }

    fn arrive(journal: &Journal, sequence: u64) {
        let id = format!("x{sequence}");
        let arrival =
            Arrival { exchange_id: id.into(), account_id: "a".into(), ..Arrival::default() };
        journal.arrive(sequence, &arrival);
    }

    fn end(journal: &Journal, sequence: u64) {
        let id = format!("x{sequence}");
        journal.end(sequence, &Ending { exchange_id: id.into(), ..Ending::default() });
    }

    /// The exchanges on record in a folder, from its Parquet files.
    fn recorded(records: &Path) -> Vec<String> {
        use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
        let mut ids = Vec::new();
        for entry in fs::read_dir(records).unwrap() {
            let file = File::open(entry.unwrap().path()).unwrap();
            let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap();
            for batch in reader {
                let batch = batch.unwrap();
                let column = batch.column_by_name("exchange_id").unwrap();
                let column = column.as_any().downcast_ref::<StringViewArray>().unwrap();
                ids.extend(column.iter().flatten().map(str::to_owned));
            }
        }
        ids.sort();
        ids
    }

    /// Copies the state as a process that is killed here would leave it, recovers the
    /// copy, and says what is on record then.
    fn recovered(state: &Path) -> Vec<String> {
        let copy = tempfile::tempdir().unwrap();
        for folder in ["journal", "records"] {
            fs::create_dir(copy.path().join(folder)).unwrap();
            for entry in fs::read_dir(state.join(folder)).unwrap() {
                let entry = entry.unwrap();
                fs::copy(entry.path(), copy.path().join(folder).join(entry.file_name())).unwrap();
            }
        }
        let (journal, records) = (copy.path().join("journal"), copy.path().join("records"));
        recover(&journal, &records).unwrap();
        let once = recorded(&records);
        recover(&journal, &records).unwrap();
        assert_eq!(recorded(&records), once, "recovering twice changes nothing");
        once
    }

    #[test]
    fn wherever_it_is_killed_every_exchange_is_there_once() {
        let state = tempfile::tempdir().unwrap();
        let (folder, records) = (state.path().join("journal"), state.path().join("records"));
        fs::create_dir(&folder).unwrap();
        fs::create_dir(&records).unwrap();
        let journal = Journal::begin(&folder, 1, Time(1)).unwrap();
        (1..=3).for_each(|sequence| arrive(&journal, sequence));
        end(&journal, 1);
        let all = ["x1", "x2", "x3"];
        assert_eq!(recovered(state.path()), all);

        let closed = journal.rotate(Time(2)).unwrap();
        assert_eq!(closed.number, 1);
        assert_eq!(recovered(state.path()), all, "between closing and sealing");
        end(&journal, 2);
        let segment = fs::read(journal::path(&folder, 1)).unwrap();
        assert_eq!(seal(&folder, &records, &closed).unwrap().exchanges, 1);
        assert_eq!(recovered(state.path()), all, "after sealing");
        fs::write(journal::path(&folder, 1), segment).unwrap();
        assert_eq!(recovered(state.path()), all, "between renaming and removing");
        fs::remove_file(journal::path(&folder, 1)).unwrap();

        let closed = journal.rotate(Time(3)).unwrap();
        seal(&folder, &records, &closed).unwrap();
        end(&journal, 3);
        assert_eq!(recovered(state.path()), all, "an exchange that outlives two segments");
    }

    /// Longer than a batch and a row group, with ends in another order, a broken line of each
    /// sort, and texts that hardly become smaller.
    #[test]
    fn a_long_segment_is_sealed_in_the_order_of_arrival() {
        use arrow::array::AsArray;
        use arrow::datatypes::UInt16Type;
        use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
        const EXCHANGES: u64 = 3 * BATCH_ROWS as u64 + 7;
        let state = tempfile::tempdir().unwrap();
        let (folder, records) = (state.path().join("journal"), state.path().join("records"));
        fs::create_dir(&folder).unwrap();
        fs::create_dir(&records).unwrap();
        let journal = Journal::begin(&folder, 1, Time(1)).unwrap();
        for sequence in 0..EXCHANGES {
            let id = format!("x{sequence}");
            let noise: String = (0..80)
                .map(|n| hex(&xxh3_128(format!("{id} {n}").as_bytes()).to_be_bytes()))
                .collect();
            let arrival =
                Arrival { exchange_id: id.into(), prompt: noise.into(), ..Arrival::default() };
            journal.arrive(sequence, &arrival);
        }
        for sequence in (0..EXCHANGES).rev().filter(|sequence| sequence % 5 != 0) {
            let (id, status) = (format!("x{sequence}").into(), Some(sequence as u16));
            journal.end(sequence, &Ending { exchange_id: id, status, ..Ending::default() });
        }
        let path = journal::path(&folder, 1);
        let mut lines: Vec<Vec<u8>> =
            fs::read(&path).unwrap().split_inclusive(|b| *b == b'\n').map(<[u8]>::to_vec).collect();
        let last = lines.len() - 1;
        // The second exchange, and the end of the first that has one.
        (lines[2][30], lines[last][30]) = (b'~', b'~');
        fs::write(&path, lines.concat()).unwrap();

        let carried = ["x3".to_owned()].into();
        let sealed = seal(&folder, &records, &Closed { number: 1, carried }).unwrap();
        assert_eq!((sealed.exchanges, sealed.broken), (EXCHANGES - 2, 2));
        let unended = (0..EXCHANGES).filter(|sequence| sequence % 5 == 0).count() as u64;
        assert_eq!(sealed.unfinished, unended);
        let file = File::open(self::path(&records, 1)).unwrap();
        let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
        assert!(reader.metadata().num_row_groups() > 1);
        let mut told = Vec::new();
        for batch in reader.build().unwrap() {
            let batch = batch.unwrap();
            let ids = batch.column_by_name("exchange_id").unwrap().as_string_view().clone();
            let statuses = batch.column_by_name("status").unwrap();
            let statuses = statuses.as_primitive::<UInt16Type>();
            let ids = ids.iter().map(|id| id.unwrap().to_owned());
            told.extend(ids.zip(statuses.iter()));
        }
        let expected: Vec<_> = (0..EXCHANGES)
            .filter(|sequence| ![1, 3].contains(sequence))
            .map(|n| (format!("x{n}"), (n % 5 != 0).then_some(n as u16)))
            .collect();
        assert_eq!(told, expected);
    }

    #[test]
    fn a_torn_tail_is_no_exchange_and_no_trouble() {
        let state = tempfile::tempdir().unwrap();
        let (folder, records) = (state.path().join("journal"), state.path().join("records"));
        fs::create_dir(&folder).unwrap();
        fs::create_dir(&records).unwrap();
        let journal = Journal::begin(&folder, 1, Time(1)).unwrap();
        arrive(&journal, 1);
        arrive(&journal, 2);
        let path = journal::path(&folder, 1);
        let whole = fs::read(&path).unwrap();
        fs::write(&path, &whole[..whole.len() - 5]).unwrap();
        let (last, sealed) = recover(&folder, &records).unwrap();
        assert_eq!((last, sealed.exchanges, sealed.unfinished, sealed.broken), (1, 1, 1, 0));
        assert_eq!(recorded(&records), ["x1"]);
    }
}

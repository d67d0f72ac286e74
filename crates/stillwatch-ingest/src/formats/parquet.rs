//! Parquet: a split per row group, read column-wise at the speed of the `parquet`
//! crate; only rows and cells that need a second look get one.

use std::any::Any;
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, BooleanBufferBuilder, RecordBatch, RecordBatchOptions,
    StringViewArray, new_null_array,
};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{
    DataType, Field, FieldRef, Schema, SchemaRef, TimeUnit, TimestampMicrosecondType, UInt16Type,
};
use arrow::error::ArrowError;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowPredicateFn, ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader,
    ParquetRecordBatchReaderBuilder, RowFilter,
};
use parquet::basic::{LogicalType, Type as PhysicalType};
use parquet::errors::ParquetError;
use parquet::file::metadata::RowGroupMetaData;
use parquet::file::reader::{ChunkReader, Length};
use parquet::file::statistics::Statistics;
use parquet::schema::types::{SchemaDescriptor, Type};
use stillwatch_exchange::{Column, ColumnKind, Exchange, Time, columns};

use super::thrift::{self, FILE_METADATA, Look};
use crate::coerce;
use crate::problems::{FileProblem, RefusedCounts};
use crate::read::{AccountFilter, BATCH_ROWS, Batch, Meter, Projection};
use crate::storage::{Random, Stored};
use crate::table::Table;
use crate::validity;

/// The longest list of unknown column names kept of a file.
const UNKNOWN_MAX: usize = 64;

/// A Parquet file whose footer has been read and whose columns fit the table.
#[derive(Debug)]
pub(crate) struct ParquetFile {
    name: String,
    /// Opened anew for every split, so that a run over many files holds few open.
    stored: Stored,
    metadata: ArrowReaderMetadata,
    columns: Vec<FoundColumn>,
    table: Table,
}

/// A column of the contract that the file has.
#[derive(Clone, Debug)]
struct FoundColumn {
    column: &'static Column,
    /// Its place among the top-level columns of the file.
    root: usize,
    /// Its place among the leaves, which is how statistics are kept.
    leaf: usize,
    /// The type that it is read as.
    read_as: DataType,
}

/// What opening a Parquet file tells beside the file.
pub(crate) struct Opened {
    pub file: ParquetFile,
    pub unknown_columns: BTreeSet<String>,
    pub problems: Vec<FileProblem>,
}

/// A row group's number of rows and compressed bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RowGroup {
    pub index: usize,
    pub rows: u64,
    pub bytes: u64,
}

/// Reads the footer and maps the columns.
pub(crate) fn open(stored: Stored, table: Table) -> Result<Opened, FileProblem> {
    let name = stored.name.as_str();
    let broken = |what: &dyn std::fmt::Display| {
        FileProblem::new(name, format!("not a whole Parquet file: {what}"))
    };
    let random = stored.random().map_err(|e| FileProblem::new(name, e))?;
    check_footer(&random).map_err(|e| broken(&e))?;
    let inferred = guarded(|| {
        ArrowReaderMetadata::load(&random, ArrowReaderOptions::new()).or_else(|_| {
            // The Arrow schema that writers embed is a hint, and may be a broken one.
            let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
            ArrowReaderMetadata::load(&random, options)
        })
    })
    .map_err(|e| broken(&e))?;

    let parquet_schema = inferred.parquet_schema();
    let mut columns = Vec::new();
    let mut unknown_columns = BTreeSet::new();
    let mut problems = Vec::new();
    let mut fields: Vec<FieldRef> = inferred.schema().fields().iter().cloned().collect();
    for (root, field) in fields.iter_mut().enumerate() {
        let Some(column) = columns::find(table.columns(), field.name()) else {
            if unknown_columns.len() < UNKNOWN_MAX {
                unknown_columns.insert(crate::read::shown_name(field.name()));
            }
            continue;
        };
        if columns.iter().any(|c: &FoundColumn| c.column == column) {
            problems.push(FileProblem::new(
                name,
                format!("column {} is there twice; the first is read", column.name),
            ));
            continue;
        }
        if let Err(expected) = coerce::accepts(column.kind, field.data_type()) {
            let what = format!(
                "column {} has type {}, expected {expected}",
                column.name,
                field.data_type()
            );
            if column.required {
                return Err(FileProblem::new(name, what));
            }
            problems.push(FileProblem::new(name, format!("{what}; it is left out")));
            continue;
        }
        let leaves = parquet_schema.num_columns();
        let Some(leaf) = (0..leaves).find(|l| parquet_schema.get_column_root_idx(*l) == root)
        else {
            continue;
        };
        let read_as = coerce::read_as(column.kind, field.data_type());
        let hinted = Field::clone(field).with_data_type(read_as.clone());
        *field = Arc::new(hinted);
        columns.push(FoundColumn { column, root, leaf, read_as });
    }
    let has = |name: &str| columns.iter().any(|c| c.column.name == name);
    let missing: Vec<&str> = table
        .columns()
        .iter()
        .filter(|c| c.required && !has(c.name))
        .map(|c| c.name)
        .chain(
            (table == Table::Exchanges && !has("prompt") && !has("prompt_sketch"))
                .then_some("prompt or prompt_sketch"),
        )
        .collect();
    if !missing.is_empty() {
        let s = if missing.len() == 1 { "" } else { "s" };
        return Err(FileProblem::new(
            name,
            format!("not a table of {table}: no column{s} {}", missing.join(", ")),
        ));
    }

    let schema = Schema::new_with_metadata(fields, inferred.schema().metadata().clone());
    let options = ArrowReaderOptions::new().with_schema(Arc::new(schema));
    let metadata =
        guarded(|| ArrowReaderMetadata::try_new(Arc::clone(inferred.metadata()), options))
            .map_err(|e| broken(&e))?;
    Ok(Opened {
        file: ParquetFile { name: name.to_owned(), stored, metadata, columns, table },
        unknown_columns,
        problems,
    })
}

/// Looks through the footer before it is parsed; see [`thrift`].
fn check_footer(random: &Random) -> Result<(), ParquetError> {
    const TAIL_BYTES: usize = 8;
    let short = || ParquetError::EOF("it is shorter than a footer".to_owned());
    let start = random.len().checked_sub(TAIL_BYTES as u64).ok_or_else(short)?;
    let tail = random.get_bytes(start, TAIL_BYTES)?;
    if !tail.ends_with(b"PAR1") && !tail.ends_with(b"PARE") {
        let what = "its end is missing; it has been cut, or is still being written";
        return Err(ParquetError::EOF(what.to_owned()));
    }
    let length: [u8; 4] = tail.get(..4).and_then(|l| l.try_into().ok()).ok_or_else(short)?;
    let length = u32::from_le_bytes(length);
    let footer_start = start.checked_sub(u64::from(length)).ok_or_else(short)?;
    let footer = random.get_bytes(footer_start, length as usize)?;
    match thrift::look(&footer, FILE_METADATA) {
        Look::Whole => Ok(()),
        Look::Unfinished | Look::Broken => {
            Err(ParquetError::General("its footer is broken".to_owned()))
        }
    }
}

impl ParquetFile {
    /// The row groups that have rows.
    pub fn row_groups(&self) -> Vec<RowGroup> {
        let groups = self.metadata.metadata().row_groups().iter().enumerate();
        groups
            .map(|(index, group)| RowGroup {
                index,
                rows: u64::try_from(group.num_rows()).unwrap_or(0),
                bytes: group
                    .columns()
                    .iter()
                    .map(|c| u64::try_from(c.compressed_size()).unwrap_or(0))
                    .fold(0, u64::saturating_add),
            })
            .filter(|group| group.rows > 0)
            .collect()
    }

    fn found(&self, name: &str) -> Option<&FoundColumn> {
        self.columns.iter().find(|c| c.column.name == name)
    }

    /// The batches of one row group.
    pub fn read(
        self: &Arc<Self>,
        group: RowGroup,
        projection: &Projection,
        filter: Option<AccountFilter>,
        meter: &Arc<Meter>,
    ) -> Result<GroupReader, FileProblem> {
        let Some(plan) = Plan::new(self, group, projection, false) else {
            return Err(FileProblem::new(&self.name, format!("no row group {}", group.index)));
        };
        let mut reader = GroupReader {
            file: Arc::clone(self),
            group,
            projection: projection.clone(),
            plan,
            filter,
            meter: Arc::clone(meter),
            rows: None,
            rows_taken: 0,
            as_bytes: false,
            done: false,
        };
        reader.rows = Some(reader.start()?);
        Ok(reader)
    }

    fn problem(
        &self,
        group: RowGroup,
        rows_taken: u64,
        what: &dyn std::fmt::Display,
    ) -> FileProblem {
        FileProblem::new(
            &self.name,
            format!(
                "row group {} can't be read beyond its row {rows_taken}, the rest of it is left out: {what}",
                group.index
            ),
        )
    }

    /// The metadata with text columns as plain bytes, for a row group whose text is
    /// not all UTF-8: the reader would fail a whole batch for one bad byte.
    fn metadata_as_bytes(&self, random: &Random) -> Result<ArrowReaderMetadata, ParquetError> {
        let root = self.metadata.parquet_schema().root_schema();
        let is_text = |field: &Type| {
            self.columns
                .iter()
                .any(|c| c.column.kind == ColumnKind::Text && c.column.name == field.name())
                && field.is_primitive()
                && field.get_physical_type() == PhysicalType::BYTE_ARRAY
        };
        let fields = root
            .get_fields()
            .iter()
            .map(|field| {
                if !is_text(field) {
                    return Ok(Arc::clone(field));
                }
                let info = field.get_basic_info();
                Type::primitive_type_builder(field.name(), PhysicalType::BYTE_ARRAY)
                    .with_repetition(info.repetition())
                    .with_id(info.has_id().then(|| info.id()))
                    .with_logical_type(None::<LogicalType>)
                    .build()
                    .map(Arc::new)
            })
            .collect::<Result<Vec<_>, _>>()?;
        let root = Type::group_type_builder(root.name()).with_fields(fields).build()?;
        let descriptor = Arc::new(SchemaDescriptor::new(Arc::new(root)));
        let options = || {
            ArrowReaderOptions::new()
                .with_skip_arrow_metadata(true)
                .with_parquet_schema(Arc::clone(&descriptor))
        };
        let plain = ArrowReaderMetadata::load(random, options())?;
        let hinted = self.metadata.schema().fields().iter().zip(plain.schema().fields()).map(
            |(hint, plain)| {
                let data_type = match plain.data_type() {
                    DataType::Binary => DataType::BinaryView,
                    _ => hint.data_type().clone(),
                };
                Arc::new(Field::clone(plain).with_data_type(data_type))
            },
        );
        let schema = Schema::new_with_metadata(
            hinted.collect::<Vec<FieldRef>>(),
            plain.schema().metadata().clone(),
        );
        let metadata = Arc::clone(plain.metadata());
        ArrowReaderMetadata::try_new(
            metadata,
            ArrowReaderOptions::new().with_schema(Arc::new(schema)),
        )
    }
}

/// Which columns a row group must be read for, given what its statistics prove.
#[derive(Clone, Debug)]
struct Plan {
    /// Columns to read, as indices into `ParquetFile::columns`.
    read: BTreeSet<usize>,
    time_is_proven: bool,
    prompt_is_proven: bool,
    /// The table's key, a required text, is nowhere null or empty.
    key_is_proven: bool,
    /// Missing ids have to be made from the content.
    ids_from_content: bool,
}

impl Plan {
    /// `ids_are_missing` where some have been found to be; otherwise ids are taken to be
    /// there unless the statistics say that some are not. Statistics of ids help few
    /// readers and may have been left out, and what ids are made of is dear to read. None
    /// where the file has no such row group.
    fn new(
        file: &ParquetFile,
        group: RowGroup,
        projection: &Projection,
        ids_are_missing: bool,
    ) -> Option<Self> {
        let group: &RowGroupMetaData = file.metadata.metadata().row_groups().get(group.index)?;
        let statistics = |found: &FoundColumn| {
            group.columns().get(found.leaf).and_then(|chunk| chunk.statistics())
        };
        let nulls =
            |name: &str| file.found(name).and_then(statistics).and_then(Statistics::null_count_opt);
        let no_nulls = |name: &str| nulls(name) == Some(0);
        let wants = |name: &str| projection.names().any(|n| n == name);

        let exchanges = file.table == Table::Exchanges;
        let time_is_proven = exchanges
            && no_nulls("time")
            && file.found("time").is_some_and(|found| match statistics(found) {
                Some(Statistics::Int64(values)) => {
                    let plausible = |value: Option<&i64>| {
                        value
                            .and_then(|v| to_micros(*v, &found.read_as))
                            .is_some_and(validity::plausible)
                    };
                    plausible(values.min_opt()) && plausible(values.max_opt())
                }
                _ => false,
            });
        // A lower bound that is not empty is one of texts that are not empty.
        let key_is_proven = no_nulls(file.table.key())
            && file.found(file.table.key()).is_some_and(|found| {
                found.read_as == DataType::Utf8View
                    && statistics(found)
                        .and_then(Statistics::min_bytes_opt)
                        .is_some_and(|least| !least.is_empty())
            });
        let prompt_is_proven = !exchanges || no_nulls("prompt") || no_nulls("prompt_sketch");
        let ids_from_content = exchanges
            && wants("exchange_id")
            && (ids_are_missing
                || file.found("exchange_id").is_none()
                || nulls("exchange_id").is_some_and(|nulls| nulls > 0));

        let needed = |column: &Column| {
            wants(column.name)
                || match column.name {
                    "time" => !time_is_proven,
                    "prompt" | "prompt_sketch" => !prompt_is_proven,
                    name if name == file.table.key() => !key_is_proven,
                    _ => column.required,
                }
                || (ids_from_content && Exchange::CONTENT_COLUMNS.contains(&column.name))
        };
        let read = (0..file.columns.len())
            .filter(|i| file.columns.get(*i).is_some_and(|c| needed(c.column)))
            .collect();
        Some(Plan { read, time_is_proven, prompt_is_proven, key_is_proven, ids_from_content })
    }
}

/// A value of a timestamp column in microseconds; none for what is no timestamp.
fn to_micros(value: i64, data_type: &DataType) -> Option<i64> {
    match data_type {
        DataType::Timestamp(TimeUnit::Second, _) => value.checked_mul(1_000_000),
        DataType::Timestamp(TimeUnit::Millisecond, _) => value.checked_mul(1_000),
        DataType::Timestamp(TimeUnit::Microsecond, _) => Some(value),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => Some(value.div_euclid(1_000)),
        _ => None,
    }
}

/// Reads one row group.
pub(crate) struct GroupReader {
    file: Arc<ParquetFile>,
    group: RowGroup,
    projection: Projection,
    plan: Plan,
    filter: Option<AccountFilter>,
    meter: Arc<Meter>,
    rows: Option<ParquetRecordBatchReader>,
    /// Rows that the Parquet reader has delivered.
    rows_taken: u64,
    /// Text is being read as bytes.
    as_bytes: bool,
    done: bool,
}

impl Iterator for GroupReader {
    type Item = Result<Batch, FileProblem>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let item = self.next_batch().transpose();
        self.done = !matches!(item, Some(Ok(_)));
        item
    }
}

impl GroupReader {
    fn start(&self) -> Result<ParquetRecordBatchReader, FileProblem> {
        let file = &self.file;
        let random = file.stored.random().map_err(|e| FileProblem::new(&file.name, e))?;
        let build = || -> Result<ParquetRecordBatchReader, ParquetError> {
            let metadata = if self.as_bytes {
                file.metadata_as_bytes(&random)?
            } else {
                file.metadata.clone()
            };
            let found = self.plan.read.iter().filter_map(|i| file.columns.get(*i));
            let schema = metadata.metadata().file_metadata().schema_descr_ptr();
            let mask = ProjectionMask::roots(&schema, found.map(|c| c.root));
            let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(
                random.clone().guarding_pages(),
                metadata,
            )
            .with_row_groups(vec![self.group.index])
            .with_batch_size(self.batch_rows())
            .with_projection(mask)
            .with_offset(usize::try_from(self.rows_taken).unwrap_or(usize::MAX));
            let account = self.filter.as_ref().zip(file.found(file.table.key()));
            let builder = match account {
                None => builder,
                Some((filter, found)) => {
                    let mask = ProjectionMask::roots(&schema, [found.root]);
                    let predicate = predicate(found.column, Arc::clone(filter));
                    builder.with_row_filter(RowFilter::new(vec![Box::new(ArrowPredicateFn::new(
                        mask, predicate,
                    ))]))
                }
            };
            builder.build()
        };
        guarded(build).map_err(|e| file.problem(self.group, self.rows_taken, &e))
    }

    fn next_batch(&mut self) -> Result<Option<Batch>, FileProblem> {
        loop {
            let Some(rows) = self.rows.as_mut() else {
                return Ok(None);
            };
            let read = guarded(|| rows.next().transpose().map_err(ParquetError::from));
            match read {
                Ok(None) => {
                    if self.filter.is_some() {
                        // Rows that the filter passed over count as read.
                        self.meter.add(self.group.rows, self.group.bytes);
                    }
                    return Ok(None);
                }
                Ok(Some(rows)) if self.lacks_ids(&rows) => {
                    if let Some(plan) = Plan::new(&self.file, self.group, &self.projection, true) {
                        self.plan = plan;
                    }
                    self.rows = Some(self.start()?);
                }
                Ok(Some(rows)) => {
                    let count = rows.num_rows() as u64;
                    self.rows_taken += count;
                    if self.filter.is_none() {
                        self.meter.add(count, self.bytes_of(count));
                    }
                    let batch = self
                        .to_batch(&rows)
                        .map_err(|e| self.file.problem(self.group, self.rows_taken, &e))?;
                    return Ok(Some(batch));
                }
                // Text that is not UTF-8, or broken pages: bytes tell which.
                Err(_) if !self.as_bytes => {
                    self.as_bytes = true;
                    self.rows = Some(self.start()?);
                }
                Err(error) => {
                    return Err(self.file.problem(self.group, self.rows_taken, &error));
                }
            }
        }
    }

    /// Whether ids are missing that the columns being read can't make.
    fn lacks_ids(&self, rows: &RecordBatch) -> bool {
        self.file.table == Table::Exchanges
            && !self.plan.ids_from_content
            && self.projection.names().any(|name| name == "exchange_id")
            && rows.column_by_name("exchange_id").is_some_and(|ids| ids.logical_null_count() > 0)
    }

    /// Rows that a filter keeps come from many more, whose pages are held until a batch of
    /// them is full.
    fn batch_rows(&self) -> usize {
        if self.filter.is_some() { BATCH_ROWS / 4 } else { BATCH_ROWS }
    }

    fn bytes_of(&self, rows: u64) -> u64 {
        let share =
            u128::from(self.group.bytes) * u128::from(rows) / u128::from(self.group.rows.max(1));
        u64::try_from(share).unwrap_or(u64::MAX)
    }

    fn to_batch(&self, rows: &RecordBatch) -> Result<Batch, ArrowError> {
        let mut refused = RefusedCounts::default();
        let mut arrays = Coerced { found: Vec::with_capacity(self.plan.read.len()) };
        let schema = rows.schema_ref();
        for index in &self.plan.read {
            let Some(found) = self.file.columns.get(*index) else {
                continue;
            };
            let Some((position, _)) = schema.column_with_name(found.column.name) else {
                continue;
            };
            let raw = rows.column(position);
            let array = coerce::coerce(found.column, raw, &mut refused)?;
            arrays.found.push((found.column, Arc::clone(raw), array));
        }

        let keep = self.keep(&arrays, rows.num_rows(), &mut refused);
        let no_id_missing = |ids: &ArrayRef| ids.null_count() == 0;
        let ids = if self.plan.ids_from_content
            && !arrays.get("exchange_id").is_some_and(no_id_missing)
        {
            Some(content_ids(&arrays, rows.num_rows(), keep.as_ref()))
        } else {
            None
        };
        let columns = self.projection.columns().map(|column| {
            let array = match (&ids, column.name) {
                (Some(ids), "exchange_id") => Arc::clone(ids),
                _ => arrays.get(column.name).map_or_else(
                    || new_null_array(&column.kind.data_type(), rows.num_rows()),
                    Arc::clone,
                ),
            };
            if self.filter.is_some() { compacted(array) } else { array }
        });
        let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
        let columns: Vec<ArrayRef> = columns.collect();
        let rows = match keep {
            None => RecordBatch::try_new_with_options(self.projection.schema(), columns, &options)?,
            Some(keep) => {
                // Required columns may hold nulls until the bad rows are gone.
                let nullable = nullable(&self.projection.schema());
                let all = RecordBatch::try_new_with_options(nullable, columns, &options)?;
                let kept = filter_record_batch(&all, &keep)?;
                let options = RecordBatchOptions::new().with_row_count(Some(kept.num_rows()));
                let (_, columns, _) = kept.into_parts();
                RecordBatch::try_new_with_options(self.projection.schema(), columns, &options)?
            }
        };
        Ok(Batch { rows, refused })
    }

    /// Which rows are valid; none where all are.
    fn keep(
        &self,
        arrays: &Coerced,
        rows: usize,
        refused: &mut RefusedCounts,
    ) -> Option<BooleanArray> {
        let required = self.file.table.columns().iter().filter(|c| c.required);
        let mut doubtful: Vec<Doubt> = Vec::new();
        for column in required {
            if (column.name == "time" && self.plan.time_is_proven)
                || (column.name == self.file.table.key() && self.plan.key_is_proven)
            {
                continue;
            }
            let Some((raw, array)) = arrays.both(column.name) else {
                continue;
            };
            match column.kind {
                ColumnKind::Time => {
                    let times = array.as_primitive::<TimestampMicrosecondType>();
                    let all_good =
                        times.values().iter().fold(true, |all, t| all & validity::plausible(*t));
                    if times.null_count() > 0 || !all_good {
                        doubtful.push(Doubt::Time(column.name, raw, array));
                    }
                }
                _ => {
                    let texts = array.as_string_view();
                    if texts.null_count() > 0 || any_empty(texts) {
                        doubtful.push(Doubt::Text(column.name, array));
                    }
                }
            }
        }
        if !self.plan.prompt_is_proven {
            let prompt = arrays.get("prompt");
            let sketch = arrays.get("prompt_sketch");
            let whole = |a: Option<&ArrayRef>| a.is_some_and(|a| a.null_count() == 0);
            if !whole(prompt) && !whole(sketch) {
                doubtful.push(Doubt::Prompt(prompt, sketch));
            }
        }
        if doubtful.is_empty() {
            return None;
        }
        let mut keep = BooleanBufferBuilder::new(rows);
        for row in 0..rows {
            let reason = doubtful.iter().find_map(|doubt| doubt.reason(row));
            if let Some(reason) = reason {
                refused.row(reason, 1);
            }
            keep.append(reason.is_none());
        }
        Some(BooleanArray::new(keep.finish(), None))
    }
}

/// A column of which some rows may be invalid.
enum Doubt<'a> {
    Time(&'static str, &'a ArrayRef, &'a ArrayRef),
    Text(&'static str, &'a ArrayRef),
    Prompt(Option<&'a ArrayRef>, Option<&'a ArrayRef>),
}

impl Doubt<'_> {
    fn reason(&self, row: usize) -> Option<&'static str> {
        match self {
            Doubt::Time(name, raw, times) => {
                let reasons = validity::required_reasons(name);
                let times = times.as_primitive::<TimestampMicrosecondType>();
                if times.is_valid(row) {
                    let plausible = validity::plausible(times.value(row));
                    return (!plausible).then_some(reasons.implausible);
                }
                let missing = raw.logical_nulls().is_some_and(|nulls| nulls.is_null(row));
                Some(if missing { reasons.missing } else { reasons.unreadable })
            }
            Doubt::Text(name, texts) => {
                let texts = texts.as_string_view();
                let good = texts.is_valid(row) && !texts.value(row).is_empty();
                (!good).then(|| validity::required_reasons(name).missing)
            }
            Doubt::Prompt(prompt, sketch) => {
                let there = |a: &Option<&ArrayRef>| a.is_some_and(|a| a.is_valid(row));
                (!there(prompt) && !there(sketch)).then_some(validity::PROMPT_MISSING)
            }
        }
    }
}

/// The columns of a batch in the contract's types, beside what they were read as.
struct Coerced {
    found: Vec<(&'static Column, ArrayRef, ArrayRef)>,
}

impl Coerced {
    fn get(&self, name: &str) -> Option<&ArrayRef> {
        self.both(name).map(|(_, array)| array)
    }

    fn both(&self, name: &str) -> Option<(&ArrayRef, &ArrayRef)> {
        let found = self.found.iter().find(|(column, _, _)| column.name == name)?;
        Some((&found.1, &found.2))
    }

    fn text(&self, name: &str, row: usize) -> Option<&str> {
        let texts = self.get(name)?.as_string_view();
        texts.is_valid(row).then(|| texts.value(row))
    }
}

/// The ids of a batch, made from the content where the file has none.
fn content_ids(arrays: &Coerced, rows: usize, keep: Option<&BooleanArray>) -> ArrayRef {
    let ids = (0..rows).map(|row| {
        if let Some(id) = arrays.text("exchange_id", row) {
            return Some(id.to_owned());
        }
        if keep.is_some_and(|keep| !keep.value(row)) {
            return None;
        }
        let times = arrays.get("time")?.as_primitive::<TimestampMicrosecondType>();
        let turns = arrays.get("turn").map(|a| a.as_primitive::<UInt16Type>());
        let sketches = arrays.get("prompt_sketch").map(|a| a.as_binary_view());
        let exchange = Exchange {
            time: Time(times.value(row)),
            account_id: arrays.text("account_id", row)?,
            credential_id: arrays.text("credential_id", row),
            conversation_id: arrays.text("conversation_id", row),
            turn: turns.and_then(|t| t.is_valid(row).then(|| t.value(row))),
            request_model: arrays.text("request_model", row),
            response_model: arrays.text("response_model", row),
            system_instructions: arrays.text("system_instructions", row),
            prompt: arrays.text("prompt", row),
            prompt_sketch: sketches.and_then(|s| s.is_valid(row).then(|| s.value(row))),
            ..Exchange::default()
        };
        Some(exchange.content_id())
    });
    Arc::new(ids.collect::<StringViewArray>())
}

/// The low half of a view is the length, so that no text has to be looked at.
fn any_empty(texts: &StringViewArray) -> bool {
    texts.views().iter().fold(false, |any, view| any | (*view & u128::from(u32::MAX) == 0))
}

fn nullable(schema: &SchemaRef) -> SchemaRef {
    let fields = schema.fields().iter().map(|f| Field::clone(f).with_nullable(true));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// Text of the few rows that a filter kept, without the pages it was read from.
fn compacted(array: ArrayRef) -> ArrayRef {
    let Some(texts) = array.as_string_view_opt() else {
        return array;
    };
    let held: usize = texts.data_buffers().iter().map(|b| b.len()).sum();
    // Twice what is used is worth less than the copy.
    if held > 2 * texts.total_bytes_len() { Arc::new(texts.gc()) } else { array }
}

fn predicate(
    column: &'static Column,
    filter: AccountFilter,
) -> impl FnMut(RecordBatch) -> Result<BooleanArray, ArrowError> + Send + 'static {
    move |batch| {
        let Some(raw) = batch.columns().first() else {
            return Ok(BooleanArray::from(vec![false; batch.num_rows()]));
        };
        let array = coerce::coerce(column, raw, &mut RefusedCounts::default())?;
        let texts = array.as_string_view();
        Ok(texts.iter().map(|text| Some(text.is_some_and(|text| filter(text)))).collect())
    }
}

/// Runs part of the Parquet reader, which panics on some broken files, and makes
/// the panic an error.
fn guarded<T>(run: impl FnOnce() -> Result<T, ParquetError>) -> Result<T, ParquetError> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic: Box<dyn Any + Send>| {
        drop(panic);
        Err(ParquetError::General("the pages or their sizes are broken".to_owned()))
    })
}

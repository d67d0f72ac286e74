//! The files of the findings contract, written beside their names and moved there at
//! the end, so that a run that fails leaves what was there before.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{
    ArrayRef, Float64Array, RecordBatch, StringArray, TimestampMicrosecondArray, UInt64Array,
};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use stillwatch_exchange::{HarvestRow, MemberRow};

use crate::references::{GROUPS, line};
use crate::run::Hunted;
use crate::settings::HuntError;

/// Rows of `harvest.parquet` that are held before they are written.
const ROWS_AHEAD: usize = 65_536;

/// `harvest.parquet` under a temporary name; dropped unless it is kept.
#[derive(Debug)]
pub struct HarvestFile {
    path: PathBuf,
    pub rows: u64,
}

impl Drop for HarvestFile {
    fn drop(&mut self) {
        // Gone already where it was moved to its name.
        let _ = fs::remove_file(&self.path);
    }
}

fn parquet_error(path: &Path) -> impl FnOnce(parquet::errors::ParquetError) -> HuntError + '_ {
    move |source| HuntError::Parquet { path: path.to_owned(), source }
}

fn arrow_error(path: &Path) -> impl FnOnce(arrow::error::ArrowError) -> HuntError + '_ {
    move |source| HuntError::Parquet { path: path.to_owned(), source: source.into() }
}

fn properties() -> WriterProperties {
    WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_created_by("stillwatch".to_owned())
        .build()
}

fn texts(rows: impl Iterator<Item = impl AsRef<str>>) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(rows))
}

fn times(rows: impl Iterator<Item = i64>) -> ArrayRef {
    Arc::new(TimestampMicrosecondArray::from_iter_values(rows).with_timezone("UTC"))
}

/// Writes `harvest.parquet` row by row.
pub(crate) struct HarvestWriter {
    file: HarvestFile,
    writer: ArrowWriter<File>,
    rows: Vec<HarvestRow>,
}

fn harvest_batch(rows: &[HarvestRow], path: &Path) -> Result<RecordBatch, HuntError> {
    RecordBatch::try_from_iter([
        ("campaign_id", texts(rows.iter().map(|r| &r.campaign_id))),
        ("exchange_id", texts(rows.iter().map(|r| &r.exchange_id))),
        ("account_id", texts(rows.iter().map(|r| &r.account_id))),
        (
            "score",
            Arc::new(Float64Array::from_iter_values(rows.iter().map(|r| r.score))) as ArrayRef,
        ),
    ])
    .map_err(arrow_error(path))
}

impl HarvestWriter {
    pub(crate) fn new(out: &Path) -> Result<Self, HuntError> {
        let path = out.join(".harvest.parquet.part");
        let schema = harvest_batch(&[], &path)?.schema();
        let file = File::create(&path).map_err(HuntError::io(&path))?;
        let writer =
            ArrowWriter::try_new(file, schema, Some(properties())).map_err(parquet_error(&path))?;
        Ok(HarvestWriter { file: HarvestFile { path, rows: 0 }, writer, rows: Vec::new() })
    }

    pub(crate) fn push(&mut self, row: HarvestRow) -> Result<(), HuntError> {
        self.rows.push(row);
        if self.rows.len() >= ROWS_AHEAD { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), HuntError> {
        let path = &self.file.path;
        let batch = harvest_batch(&self.rows, path)?;
        self.writer.write(&batch).map_err(parquet_error(path))?;
        self.file.rows += self.rows.len() as u64;
        self.rows.clear();
        Ok(())
    }

    pub(crate) fn finish(mut self) -> Result<HarvestFile, HuntError> {
        self.flush()?;
        let HarvestWriter { file, writer, .. } = self;
        let path = file.path.clone();
        writer.close().map_err(parquet_error(&path))?;
        Ok(file)
    }
}

fn members_batch(rows: &[MemberRow], path: &Path) -> Result<RecordBatch, HuntError> {
    let counts = |count: fn(&MemberRow) -> u64| {
        Arc::new(UInt64Array::from_iter_values(rows.iter().map(count))) as ArrayRef
    };
    RecordBatch::try_from_iter([
        ("campaign_id", texts(rows.iter().map(|r| &r.campaign_id))),
        ("account_id", texts(rows.iter().map(|r| &r.account_id))),
        (
            "membership",
            Arc::new(Float64Array::from_iter_values(rows.iter().map(|r| r.membership))) as ArrayRef,
        ),
        ("exchanges", counts(|r| r.exchanges)),
        ("harvested_exchanges", counts(|r| r.harvested_exchanges)),
        ("first_seen", times(rows.iter().map(|r| r.first_seen.0))),
        ("last_seen", times(rows.iter().map(|r| r.last_seen.0))),
    ])
    .map_err(arrow_error(path))
}

/// Temporary names that are removed unless everything was written.
struct Parts(Vec<(PathBuf, PathBuf)>);

impl Drop for Parts {
    fn drop(&mut self) {
        for (part, _) in &self.0 {
            let _ = fs::remove_file(part);
        }
    }
}

impl Parts {
    fn path(&mut self, out: &Path, name: &str) -> PathBuf {
        let part = out.join(format!(".{name}.part"));
        self.0.push((part.clone(), out.join(name)));
        part
    }

    fn write(&mut self, out: &Path, name: &str, bytes: &[u8]) -> Result<(), HuntError> {
        let part = self.path(out, name);
        let mut file = File::create(&part).map_err(HuntError::io(&part))?;
        file.write_all(bytes).map_err(HuntError::io(&part))?;
        file.sync_all().map_err(HuntError::io(&part))
    }
}

/// Writes all files of the contract into `out`, replacing those that are there.
///
/// # Errors
/// A file can't be written; then none was replaced.
pub fn write_findings(hunted: &Hunted, report_html: &str, out: &Path) -> Result<(), HuntError> {
    fs::create_dir_all(out).map_err(HuntError::io(out))?;
    let mut parts = Parts(Vec::new());
    parts.write(out, "campaigns.json", &json(&hunted.campaigns, out)?)?;
    parts.write(out, "run.json", &json(&hunted.run, out)?)?;
    parts.write(out, "report.html", report_html.as_bytes())?;
    let groups: Result<String, HuntError> = hunted.groups.iter().map(|g| line(g, out)).collect();
    parts.write(out, GROUPS, groups?.as_bytes())?;
    let path = parts.path(out, "members.parquet");
    let batch = members_batch(&hunted.members, &path)?;
    let file = File::create(&path).map_err(HuntError::io(&path))?;
    let mut writer = ArrowWriter::try_new(file, batch.schema(), Some(properties()))
        .map_err(parquet_error(&path))?;
    writer.write(&batch).map_err(parquet_error(&path))?;
    writer.close().map_err(parquet_error(&path))?;

    let harvest = out.join("harvest.parquet");
    for (part, name) in
        parts.0.iter().map(|(p, n)| (p, n)).chain([(&hunted.harvest.path, &harvest)])
    {
        fs::rename(part, name).map_err(HuntError::io(name))?;
    }
    Ok(())
}

/// JSON as it is written for people: two spaces, a newline at the end.
fn json<T: serde::Serialize>(value: &T, path: &Path) -> Result<Vec<u8>, HuntError> {
    let mut bytes = serde_json::to_vec_pretty(value)
        .map_err(|e| HuntError::Io { path: path.to_owned(), source: e.into() })?;
    bytes.push(b'\n');
    Ok(bytes)
}

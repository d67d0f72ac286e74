//! How fast sources are read, beside the bare libraries: Parquet against the
//! `parquet` crate, JSON Lines against splitting lines.
//!
//! `cargo run --release -p stillwatch-ingest --example read_speed [ROWS]`

use std::error::Error;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use arrow::array::{
    ArrayRef, AsArray, RecordBatch, StringArray, TimestampMicrosecondArray, UInt16Array,
    UInt32Array,
};
use arrow::datatypes::DataType;
use parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::arrow::{ArrowWriter, ProjectionMask};
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use stillwatch_ingest::{AccountFilter, Meter, Options, Table, discover};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const SOME: &[&str] = &["time", "account_id", "prompt", "usage_output_tokens"];
const WORDS: &[&str] = &[
    "explain",
    "the",
    "difference",
    "between",
    "a",
    "monad",
    "and",
    "function",
    "in",
    "python",
    "write",
    "test",
    "for",
    "parser",
    "that",
    "reads",
    "numbers",
    "of",
    "any",
    "length",
    "please",
    "solve",
    "this",
    "step",
    "by",
    "with",
    "proof",
    "why",
    "sky",
    "blue",
    "translate",
    "to",
];

fn main() -> Result<()> {
    let rows: usize = std::env::args().nth(1).map_or(Ok(1_000_000), |text| text.parse())?;
    let folder = tempfile::tempdir()?;
    let parquet = folder.path().join("exchanges.parquet");
    let lines = folder.path().join("exchanges.jsonl");
    write(&parquet, &lines, rows)?;

    for (name, columns) in [("prompt", &["prompt"][..]), ("4 columns", SOME)] {
        let seconds = best(|| raw(&parquet, columns))?;
        println!("parquet crate, {name}: {:.0} rows/s", rows as f64 / seconds);
        let seconds = best(|| ours(&parquet, columns, None))?;
        println!("stillwatch-ingest, {name}: {:.0} rows/s", rows as f64 / seconds);
    }
    let seconds = best(|| ours(&parquet, &["exchange_id"], None))?;
    println!("stillwatch-ingest, ids made from content: {:.0} rows/s", rows as f64 / seconds);
    let few: AccountFilter = Arc::new(|account| account.ends_with("77"));
    let seconds = best(|| ours(&parquet, SOME, Some(Arc::clone(&few))))?;
    println!("stillwatch-ingest, 1 % of accounts: {:.0} rows/s", rows as f64 / seconds);

    let megabytes = lines.metadata()?.len() as f64 / 1e6;
    for (name, columns) in [("time and account", &["time", "account_id"][..]), ("4 columns", SOME)]
    {
        let seconds = best(|| ours(&lines, columns, None))?;
        let (rate, speed) = (rows as f64 / seconds, megabytes / seconds);
        println!("json lines, {name}: {rate:.0} rows/s, {speed:.0} MB/s");
    }
    Ok(())
}

/// The shortest of three runs, in seconds.
#[expect(clippy::disallowed_methods, reason = "a measurement is what this program is")]
fn best(run: impl Fn() -> Result<usize>) -> Result<f64> {
    let mut best = f64::INFINITY;
    for _ in 0..3 {
        let start = Instant::now();
        std::hint::black_box(run()?);
        best = best.min(start.elapsed().as_secs_f64());
    }
    Ok(best)
}

fn ours(path: &Path, columns: &[&str], filter: Option<AccountFilter>) -> Result<usize> {
    let paths = [path.display().to_string()];
    let found = discover(&paths, Table::Exchanges, &Options::default())?;
    let meter = Arc::new(Meter::default());
    let mut bytes = 0;
    for split in found.sources.iter().flat_map(|s| s.splits()) {
        for batch in split.read(columns, filter.clone(), &meter)? {
            bytes += text_bytes(batch?.rows.columns());
        }
    }
    Ok(bytes)
}

fn raw(path: &Path, columns: &[&str]) -> Result<usize> {
    let inferred = ParquetRecordBatchReaderBuilder::try_new(File::open(path)?)?;
    let fields = inferred.schema().fields().iter().map(|field| {
        let view = match field.data_type() {
            DataType::Utf8 => DataType::Utf8View,
            other => other.clone(),
        };
        field.as_ref().clone().with_data_type(view)
    });
    let schema = arrow::datatypes::Schema::new(fields.collect::<Vec<_>>());
    let options = ArrowReaderOptions::new().with_schema(Arc::new(schema));
    let builder =
        ParquetRecordBatchReaderBuilder::try_new_with_options(File::open(path)?, options)?;
    let mask = ProjectionMask::columns(builder.parquet_schema(), columns.iter().copied());
    let mut bytes = 0;
    for batch in builder.with_projection(mask).with_batch_size(8192).build()? {
        bytes += text_bytes(batch?.columns());
    }
    Ok(bytes)
}

fn text_bytes(columns: &[ArrayRef]) -> usize {
    let texts = columns.iter().filter_map(|column| column.as_string_view_opt());
    texts.map(|texts| texts.views().iter().map(|v| *v as u32 as usize).sum::<usize>()).sum()
}

fn write(parquet: &Path, lines: &Path, rows: usize) -> Result<()> {
    // Any fixed sequence of numbers will do.
    let mut state = 1_u64;
    let mut next = |below: usize| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(1)?))
        .set_max_row_group_row_count(Some(131_072))
        .build();
    let mut lines = std::io::BufWriter::new(File::create(lines)?);
    let mut writer = None;
    for start in (0..rows).step_by(8192) {
        let count = 8192.min(rows - start);
        let accounts: Vec<String> =
            (0..count).map(|_| format!("acct_{:06}", next(10_000))).collect();
        let prompts: Vec<String> = (0..count)
            .map(|_| {
                let words = 20 + next(120);
                (0..words).map(|_| WORDS[next(WORDS.len())]).collect::<Vec<_>>().join(" ")
            })
            .collect();
        let times = (0..count).map(|i| 1_772_323_506_000_000 + ((start + i) as i64) * 1000);
        let times = TimestampMicrosecondArray::from_iter_values(times).with_timezone("UTC");
        let tokens: Vec<u32> = (0..count).map(|_| next(4000) as u32).collect();
        for i in 0..count {
            let time = stillwatch_exchange::Time(times.value(i));
            let line = serde_json::json!({
                "time": time, "account_id": accounts[i], "prompt": prompts[i], "status": 200,
                "usage_output_tokens": tokens[i], "request_model": "claude-sonnet-4-5",
                "user_agent": "anthropic-sdk-python/0.40", "client_address": "192.0.2.77",
            });
            std::io::Write::write_fmt(&mut lines, format_args!("{line}\n"))?;
        }
        let batch = RecordBatch::try_from_iter(vec![
            ("time", Arc::new(times) as ArrayRef),
            ("account_id", Arc::new(StringArray::from(accounts))),
            ("request_model", Arc::new(StringArray::from(vec!["claude-sonnet-4-5"; count]))),
            ("prompt", Arc::new(StringArray::from(prompts))),
            ("usage_output_tokens", Arc::new(UInt32Array::from(tokens))),
            ("status", Arc::new(UInt16Array::from(vec![200; count]))),
        ])?;
        if writer.is_none() {
            let file = File::create(parquet)?;
            writer = Some(ArrowWriter::try_new(file, batch.schema(), Some(properties.clone()))?);
        }
        if let Some(writer) = &mut writer {
            writer.write(&batch)?;
        }
    }
    if let Some(writer) = writer {
        writer.close()?;
    }
    Ok(())
}

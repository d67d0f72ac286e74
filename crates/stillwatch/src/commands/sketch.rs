use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryViewArray, BinaryViewBuilder, RecordBatch, StringViewArray,
};
use arrow::datatypes::{Schema, SchemaRef};
use clap::Args;
use indicatif::{HumanBytes, HumanCount};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use stillwatch_detect::observe::{Key, Observer};
use stillwatch_exchange::{Exchange, columns};
use stillwatch_ingest::{Batch, Format, Meter, RefusedCounts, Source, Split, Table, discover};

use super::hunt::format_help;
use crate::failure::Failure;
use crate::key::KeyFile;
use crate::out_folder::{OutFolder, Unfinished};
use crate::output;
use crate::session::{Session, threads};
use crate::summary::{counted, unreadable};

/// Rows that a file is begun anew after; a row group of the input is never divided.
const FILE_ROWS: u64 = 1_048_576;
/// The same in stored bytes of the input, where the number of rows is not known.
const FILE_BYTES: u64 = 1 << 30;
/// Rows in a row group.
const GROUP_ROWS: usize = 131_072;
/// The columns that hold text and do not leave.
const TEXT: [&str; 2] = ["prompt", "system_instructions"];
const SKETCH: &str = "prompt_sketch";

/// Turns exchanges into sketches, so that they can be hunted without their text
///
/// Writes Parquet files with the same columns but the text: in place of `prompt` and
/// `system_instructions` stands `prompt_sketch`, keyed hashes from which the text can't
/// be read. Hunting sketches with the key they were made with finds what hunting the
/// text with that key finds. Without --key-file the key is public, and anyone can test
/// guesses at a prompt.
#[derive(Debug, Args)]
pub struct Sketch {
    /// The exchanges to sketch: files, folders, glob patterns or object-store URLs.
    #[arg(long, value_name = "PATH", required = true, num_args = 1..)]
    exchanges: Vec<String>,

    /// Where the sketches go.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,

    #[command(flatten)]
    key: KeyFile,

    /// The format of the exchanges, where it should not be recognised.
    #[arg(long, value_name = "FORMAT", help = format_help())]
    format: Option<Format>,

    /// An OpenTelemetry attribute that names the account, before the usual ones.
    #[arg(long, value_name = "NAME", num_args = 1..)]
    account_attribute: Vec<String>,

    /// Threads to work with; one for each processor by default. They change no byte.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: Option<u16>,
}

/// Reads, sketches and writes, a batch of rows at a time.
pub fn run(args: &Sketch, session: &Session) -> Result<(), Failure> {
    let key = args.key.read()?;
    let options = session.read_options(args.format, &args.account_attribute);
    let found = discover(&args.exchanges, Table::Exchanges, &options)?;
    let mut problems: Vec<String> = found.problems.iter().map(ToString::to_string).collect();
    if found.sources.is_empty() {
        let first = problems.first().map_or("the paths hold no files", String::as_str);
        return Err(Failure::Usage(format!(
            "nothing to sketch: none of {} can be read; the first: {first}",
            counted(problems.len() as u64, "file")
        )));
    }
    refuse_own_input(&found.sources, &args.out)?;
    let folder = OutFolder::prepare(&args.out)?;
    let unfinished = Unfinished::begin(&args.out)?;
    if !args.key.is_given() {
        output::note(
            "no --key-file: the key is public, so these sketches protect the text from nobody",
        );
    }

    let rows: Option<u64> = found.sources.iter().map(Source::rows).sum();
    session.stages.begin("sketch", rows, "exchanges");
    let files = divide(found.sources.iter().flat_map(Source::splits));
    let sketching = Sketching {
        files: &files,
        next: AtomicUsize::new(0),
        rows: AtomicU64::new(0),
        key,
        dir: unfinished.path(),
        schema: schema(),
        meter: Arc::new(Meter::default()),
        outcome: Mutex::new(Outcome::default()),
        session,
    };
    let outcome = sketching.run(threads(args.threads))?;
    session.stages.end("sketch");
    remove_surplus(&args.out, files.len())?;
    unfinished.put_in_place("")?;
    folder.keep();

    problems.extend(outcome.problems);
    problems.sort();
    let mut text = format!(
        "Sketched {} from {} into {}, {}: {}\n",
        counted(outcome.rows, "exchange"),
        counted(found.sources.len() as u64, "file"),
        counted(files.len() as u64, "file"),
        HumanBytes(outcome.bytes),
        args.out.display()
    );
    if !outcome.refused.is_empty() {
        let reasons: Vec<String> = outcome
            .refused
            .named()
            .iter()
            .map(|(reason, count)| format!("{reason} {}", HumanCount(*count)))
            .collect();
        text.push_str(&format!("Passed over: {}.\n", reasons.join(", ")));
    }
    text.push_str(&unreadable(&problems));
    output::print(&text)
}

/// Sketches beside the text they were made from would be hunted together with it.
fn refuse_own_input(sources: &[Source], out: &Path) -> Result<(), Failure> {
    let Ok(out) = out.canonicalize() else { return Ok(()) };
    let inside = |source: &&Source| {
        Path::new(source.name()).canonicalize().is_ok_and(|path| path.starts_with(&out))
    };
    match sources.iter().find(inside) {
        None => Ok(()),
        Some(source) => Err(Failure::Usage(format!(
            "{} is to be read and lies in {}, where the sketches go; give another folder",
            source.name(),
            out.display()
        ))),
    }
}

/// The splits of the input, in order, as the files of the output.
fn divide(splits: impl Iterator<Item = Split>) -> Vec<Vec<Split>> {
    let mut files: Vec<Vec<Split>> = Vec::new();
    let (mut rows, mut bytes) = (0, 0);
    for split in splits {
        let more = split.rows().unwrap_or(0);
        match files.last_mut() {
            Some(file) if rows + more <= FILE_ROWS && bytes + split.bytes() <= FILE_BYTES => {
                rows += more;
                bytes += split.bytes();
                file.push(split);
            }
            _ => {
                (rows, bytes) = (more, split.bytes());
                files.push(vec![split]);
            }
        }
    }
    files
}

/// The contract's columns without text.
fn schema() -> SchemaRef {
    let fields = columns::schema(columns::EXCHANGES);
    let kept = fields.fields().iter().filter(|f| !TEXT.contains(&f.name().as_str())).cloned();
    Arc::new(Schema::new(kept.collect::<Vec<_>>()))
}

fn file_name(number: usize) -> String {
    format!("sketch-{number:05}.parquet")
}

/// Removes the files that an earlier, larger run has left in the folder.
fn remove_surplus(out: &Path, files: usize) -> Result<(), Failure> {
    for entry in fs::read_dir(out).map_err(Failure::at("look into", out))? {
        let path = entry.map_err(Failure::at("look into", out))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let number = name.strip_prefix("sketch-").and_then(|n| n.strip_suffix(".parquet"));
        if number.and_then(|n| n.parse().ok()).is_some_and(|number: usize| number >= files) {
            fs::remove_file(&path).map_err(Failure::at("remove", &path))?;
        }
    }
    Ok(())
}

#[derive(Default)]
struct Outcome {
    rows: u64,
    bytes: u64,
    refused: RefusedCounts,
    problems: Vec<String>,
    failure: Option<Failure>,
}

struct Sketching<'a> {
    files: &'a [Vec<Split>],
    next: AtomicUsize,
    rows: AtomicU64,
    key: Key,
    dir: &'a Path,
    schema: SchemaRef,
    meter: Arc<Meter>,
    outcome: Mutex<Outcome>,
    session: &'a Session,
}

impl Sketching<'_> {
    fn run(self, threads: usize) -> Result<Outcome, Failure> {
        std::thread::scope(|scope| {
            for _ in 0..threads.min(self.files.len()) {
                scope.spawn(|| self.work());
            }
        });
        let outcome = self.outcome.into_inner().unwrap_or_else(PoisonError::into_inner);
        match outcome.failure {
            Some(failure) => Err(failure),
            None => Ok(outcome),
        }
    }

    /// Takes file after file until there are none, or one of the threads has failed.
    fn work(&self) {
        let mut observer = Observer::new(self.key);
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(splits) = self.files.get(number) else { return };
            let done = self.write(number, splits, &mut observer);
            let mut outcome = self.outcome.lock().unwrap_or_else(PoisonError::into_inner);
            match done {
                Ok(part) => {
                    outcome.rows += part.rows;
                    outcome.bytes += part.bytes;
                    outcome.refused.merge(&part.refused);
                    outcome.problems.extend(part.problems);
                }
                Err(failure) => {
                    outcome.failure.get_or_insert(failure);
                    self.next.store(self.files.len(), Ordering::Relaxed);
                }
            }
        }
    }

    fn write(
        &self,
        number: usize,
        splits: &[Split],
        observer: &mut Observer,
    ) -> Result<Outcome, Failure> {
        let path = self.dir.join(file_name(number));
        let cannot = |error: ParquetError| {
            Failure::Other(format!("cannot write {}: {error}", path.display()))
        };
        let file = File::create(&path).map_err(Failure::at("write", &path))?;
        let level = ZstdLevel::try_new(1).unwrap_or_default();
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(level))
            .set_max_row_group_row_count(Some(GROUP_ROWS))
            .build();
        let mut writer = ArrowWriter::try_new(file, Arc::clone(&self.schema), Some(properties))
            .map_err(cannot)?;
        let columns: Vec<&str> = columns::EXCHANGES.iter().map(|column| column.name).collect();
        let mut part = Outcome::default();
        for split in splits {
            let batches = match split.read(&columns, None, &self.meter) {
                Ok(batches) => batches,
                Err(problem) => {
                    part.problems.push(problem.to_string());
                    continue;
                }
            };
            for batch in batches {
                self.session.stop.check()?;
                let Batch { rows, refused } = match batch {
                    Ok(batch) => batch,
                    Err(problem) => {
                        part.problems.push(problem.to_string());
                        continue;
                    }
                };
                writer.write(&self.sketched(&rows, observer)?).map_err(cannot)?;
                part.refused.merge(&refused);
                part.rows += rows.num_rows() as u64;
                let more = rows.num_rows() as u64;
                let done = self.rows.fetch_add(more, Ordering::Relaxed) + more;
                self.session.stages.at("sketch", done);
            }
        }
        writer.close().map_err(cannot)?;
        part.bytes = fs::metadata(&path).map_or(0, |metadata| metadata.len());
        Ok(part)
    }

    /// The same rows, with sketches in place of text. Rows that bring a sketch keep it.
    fn sketched(
        &self,
        rows: &RecordBatch,
        observer: &mut Observer,
    ) -> Result<RecordBatch, Failure> {
        let misfit = || Failure::Other("rows do not fit the contract's columns".to_owned());
        let text = |name: &str| -> Option<&StringViewArray> {
            rows.column_by_name(name)?.as_string_view_opt()
        };
        let prompts = text("prompt").ok_or_else(misfit)?;
        let systems = text("system_instructions").ok_or_else(misfit)?;
        let brought: &BinaryViewArray = rows
            .column_by_name(SKETCH)
            .and_then(|column| column.as_binary_view_opt())
            .ok_or_else(misfit)?;
        let mut sketches = BinaryViewBuilder::with_capacity(rows.num_rows());
        for row in 0..rows.num_rows() {
            if brought.is_valid(row) {
                sketches.append_value(brought.value(row));
                continue;
            }
            let exchange = Exchange {
                prompt: prompts.is_valid(row).then(|| prompts.value(row)),
                system_instructions: systems.is_valid(row).then(|| systems.value(row)),
                ..Exchange::default()
            };
            let sketch = observer.sketch(&exchange).map_err(|e| Failure::Other(e.to_string()))?;
            sketches.append_value(sketch.to_bytes(&self.key));
        }
        let sketches: ArrayRef = Arc::new(sketches.finish());
        let columns: Option<Vec<ArrayRef>> = self
            .schema
            .fields()
            .iter()
            .map(|field| match field.name().as_str() {
                SKETCH => Some(Arc::clone(&sketches)),
                name => rows.column_by_name(name).map(Arc::clone),
            })
            .collect();
        RecordBatch::try_new(Arc::clone(&self.schema), columns.ok_or_else(misfit)?).map_err(
            |error| Failure::Other(format!("rows do not fit the contract's columns: {error}")),
        )
    }
}

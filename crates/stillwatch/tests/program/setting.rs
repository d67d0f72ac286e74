//! The built program, folders for it to work in, and small worlds to hunt.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Arc, OnceLock};

use arrow::array::{ArrayRef, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::compute::concat_batches;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::properties::WriterProperties;
use tempfile::TempDir;

/// 2026-03-02T00:00:00Z in microseconds.
pub const START_US: i64 = 1_772_409_600_000_000;
/// The files of the findings contract.
pub const FINDINGS: [&str; 6] = [
    "campaigns.json",
    "groups.jsonl",
    "harvest.parquet",
    "members.parquet",
    "report.html",
    "run.json",
];

/// The program with these arguments, ready to run; nothing of the tester's environment
/// changes what it prints.
pub fn stillwatch(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stillwatch"));
    command.args(arguments).env_remove("NO_COLOR").env_remove("TERM");
    command
}

/// What a run printed and how it ended.
#[derive(Debug)]
pub struct Ran {
    pub status: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Ran {
            status: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Ran {
    /// The run came to its end.
    #[track_caller]
    pub fn succeeded(self) -> Self {
        assert_eq!(self.status, Some(0), "{}", self.stderr);
        self
    }

    /// The run failed with this status and one line that says all of this.
    #[track_caller]
    pub fn failed(self, status: i32, says: &[&str]) -> Self {
        assert_eq!(self.status, Some(status), "{}{}", self.stdout, self.stderr);
        let says_why = |line: &&str| {
            line.strip_prefix("stillwatch: ").is_some_and(|rest| !rest.starts_with("note: "))
        };
        let lines: Vec<&str> = self.stderr.lines().filter(says_why).collect();
        assert_eq!(lines.len(), 1, "one line that says why: {}", self.stderr);
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
        for word in says {
            assert!(lines[0].contains(word), "`{word}` is not said in: {}", lines[0]);
        }
        self
    }
}

/// Runs the program to its end without progress.
pub fn run(arguments: &[&str]) -> Ran {
    stillwatch(arguments).arg("--quiet").output().unwrap().into()
}

/// Hunts below these paths.
pub fn hunt(exchanges: &[&Path], out: &Path) -> Ran {
    let mut arguments = vec!["hunt", "--out", text(out), "--exchanges"];
    arguments.extend(exchanges.iter().map(|path| text(path)));
    run(&arguments)
}

/// Hunts in a folder's exchanges with its accounts and releases.
pub fn hunt_world(world: &Path, exchanges: &Path, out: &Path) -> Ran {
    let (accounts, releases) = (world.join("accounts.parquet"), world.join("releases.parquet"));
    run(&[
        "hunt",
        "--exchanges",
        text(exchanges),
        "--accounts",
        text(&accounts),
        "--releases",
        text(&releases),
        "--out",
        text(out),
    ])
}

pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

pub fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// A small world with two campaigns, made once for all tests.
pub fn world() -> &'static Path {
    static WORLD: OnceLock<(TempDir, PathBuf)> = OnceLock::new();
    let (_, path) = WORLD.get_or_init(|| {
        let folder = folder();
        let path = folder.path().join("world");
        run(&[
            "simulate",
            "--out",
            text(&path),
            "--seed",
            "5",
            "--exchanges",
            "40000",
            "--accounts",
            "1200",
            "--campaigns",
            "load_balanced,slow_drip",
        ])
        .succeeded();
        (folder, path)
    });
    path
}

/// The names in a folder, sorted.
pub fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// The files of a folder with Parquet files, sorted.
pub fn parts(folder: &Path) -> Vec<PathBuf> {
    names(folder).iter().map(|name| folder.join(name)).collect()
}

/// All rows of some Parquet files.
pub fn rows(files: &[PathBuf]) -> RecordBatch {
    let batches: Vec<RecordBatch> = files
        .iter()
        .flat_map(|path| {
            let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap());
            reader.unwrap().build().unwrap().map(Result::unwrap)
        })
        .collect();
    concat_batches(&batches[0].schema(), &batches).unwrap()
}

pub fn write_rows(path: &Path, rows: &RecordBatch, group_rows: usize) {
    let properties =
        WriterProperties::builder().set_max_row_group_row_count(Some(group_rows)).build();
    let file = File::create(path).unwrap();
    let mut writer = ArrowWriter::try_new(file, rows.schema(), Some(properties)).unwrap();
    writer.write(rows).unwrap();
    writer.close().unwrap();
}

/// Exchanges with nothing but what is required: a time, an account and a prompt each.
pub fn bare(exchanges: impl Iterator<Item = (i64, String, String)>) -> RecordBatch {
    let (times, (accounts, prompts)): (Vec<i64>, (Vec<String>, Vec<String>)) =
        exchanges.map(|(time, account, prompt)| (time, (account, prompt))).unzip();
    let times = TimestampMicrosecondArray::from(times).with_timezone("UTC");
    RecordBatch::try_from_iter([
        ("time", Arc::new(times) as ArrayRef),
        ("account_id", Arc::new(StringArray::from(accounts))),
        ("prompt", Arc::new(StringArray::from(prompts))),
    ])
    .unwrap()
}

//! `stillwatch watch`: what it finds is what a hunt finds, however the exchanges come and
//! whatever happens to the process.

use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use arrow::array::{Array, AsArray, RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::{DataType, TimestampMicrosecondType};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::Value;
use stillwatch_exchange::Time;

use crate::setting::{START_US, folder, parts, rows, run, stillwatch, text, world, write_rows};

const DAY_US: i64 = 86_400_000_000;
/// The files that don't tell of the run itself.
const FINDINGS: [&str; 4] =
    ["campaigns.json", "members.parquet", "harvest.parquet", "groups.jsonl"];

/// The world's exchanges in the order of time.
fn exchanges() -> &'static RecordBatch {
    static ROWS: OnceLock<RecordBatch> = OnceLock::new();
    ROWS.get_or_init(|| {
        let all = rows(&parts(&world().join("exchanges")));
        let times = times(&all);
        let mut order: Vec<u32> = (0..all.num_rows() as u32).collect();
        order.sort_by_key(|&row| times[row as usize]);
        take_record_batch(&all, &UInt32Array::from(order)).unwrap()
    })
}

fn times(rows: &RecordBatch) -> Vec<i64> {
    let times = rows.column_by_name("time").unwrap();
    times.as_primitive::<TimestampMicrosecondType>().values().to_vec()
}

/// Rows as JSON, a line each.
fn lines(rows: &RecordBatch) -> Vec<String> {
    let options = FormatOptions::default();
    let schema = rows.schema();
    let columns: Vec<_> = schema.fields().iter().zip(rows.columns()).collect();
    (0..rows.num_rows())
        .map(|row| {
            let mut line = String::from("{");
            for (field, column) in &columns {
                if column.is_null(row) {
                    continue;
                }
                let shown = match field.data_type() {
                    DataType::Timestamp(..) => {
                        let time = column.as_primitive::<TimestampMicrosecondType>().value(row);
                        format!("\"{}\"", Time(time))
                    }
                    DataType::Binary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
                        continue;
                    }
                    kind => {
                        let text = ArrayFormatter::try_new(column, &options)
                            .unwrap()
                            .value(row)
                            .to_string();
                        match kind {
                            DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8 => {
                                Value::from(text).to_string()
                            }
                            DataType::Dictionary(..) => Value::from(text).to_string(),
                            _ => text,
                        }
                    }
                };
                let comma = if line.len() > 1 { "," } else { "" };
                write!(line, "{comma}\"{}\":{shown}", field.name()).unwrap();
            }
            line.push_str("}\n");
            line
        })
        .collect()
}

pub fn all_lines() -> &'static [String] {
    static LINES: OnceLock<Vec<String>> = OnceLock::new();
    LINES.get_or_init(|| lines(exchanges()))
}

/// The arguments of a watch over the world's accounts and releases.
pub fn arguments<'a>(exchanges: &'a str, folder: &'a Path, more: &[&'a str]) -> Vec<String> {
    let accounts = world().join("accounts.parquet");
    let releases = world().join("releases.parquet");
    let (out, state) = (folder.join("found"), folder.join("state"));
    let mut arguments: Vec<String> = [
        "watch",
        "--exchanges",
        exchanges,
        "--accounts",
        text(&accounts),
        "--releases",
        text(&releases),
        "--out",
        text(&out),
        "--state",
        text(&state),
    ]
    .map(str::to_owned)
    .to_vec();
    arguments.extend(more.iter().map(|m| (*m).to_owned()));
    arguments
}

pub fn watch(exchanges: &Path, folder: &Path, more: &[&str]) -> crate::setting::Ran {
    let arguments = arguments(text(exchanges), folder, more);
    run(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
}

/// What a hunt finds in the same period, in a folder of that name.
fn hunted(exchanges: &Path, folder: &Path, period: &[&str]) -> PathBuf {
    let out = folder.join("hunted");
    let (accounts, releases) = (world().join("accounts.parquet"), world().join("releases.parquet"));
    let mut arguments = vec!["hunt", "--exchanges", text(exchanges), "--accounts", text(&accounts)];
    arguments.extend(["--releases", text(&releases), "--out", text(&out)]);
    arguments.extend(period);
    run(&arguments).succeeded();
    out
}

const MONTH: [&str; 4] = ["--from", "2026-03-02T00:00:00Z", "--to", "2026-03-30T00:00:00Z"];

/// What a hunt finds in the world's four weeks.
pub fn of_the_month() -> &'static Path {
    static FOUND: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    let (_, path) = FOUND.get_or_init(|| {
        let folder = folder();
        let out = hunted(&world().join("exchanges"), folder.path(), &MONTH);
        let campaigns: Value =
            serde_json::from_slice(&fs::read(out.join("campaigns.json")).unwrap()).unwrap();
        assert!(!campaigns.as_array().unwrap().is_empty(), "nothing to compare");
        (folder, out)
    });
    path
}

/// What a watch says of its look at the end of the four weeks, up to the accounts.
fn last_look() -> String {
    let campaigns = fs::read_to_string(of_the_month().join("campaigns.json")).unwrap();
    let campaigns: Value = serde_json::from_str(&campaigns).unwrap();
    let (count, plural) = match campaigns.as_array().unwrap().len() {
        1 => (1, ""),
        count => (count, "s"),
    };
    format!("2026-03-30T00:00:00Z  {count} campaign{plural} of ")
}

#[track_caller]
pub fn assert_same(found: &Path, expected: &Path) {
    for name in FINDINGS {
        let [one, other] = [found, expected].map(|folder| fs::read(folder.join(name)).unwrap());
        assert!(one == other, "{name} of {} and {}", found.display(), expected.display());
    }
}

#[test]
fn a_watch_finds_what_a_hunt_finds() {
    let folder = folder();
    let ran = watch(&world().join("exchanges"), folder.path(), &["--once", "--look-every", "7d"])
        .succeeded();
    assert!(ran.stdout.contains(&last_look()), "{}", ran.stdout);
    assert_same(&folder.path().join("found"), of_the_month());
    // The same again finds nothing new to count.
    let again = watch(&world().join("exchanges"), folder.path(), &["--once", "--look-every", "7d"])
        .succeeded();
    let counted = |ran: &crate::setting::Ran| {
        ran.stdout
            .lines()
            .find(|line| line.starts_with("Counted"))
            .unwrap()
            .split(',')
            .next()
            .unwrap()
            .to_owned()
    };
    assert_eq!(counted(&again), counted(&ran));
    assert_same(&folder.path().join("found"), of_the_month());
}

#[test]
fn findings_that_can_not_be_written_are_found_again_and_nothing_is_counted_twice() {
    let folder = folder();
    // What the report is first written to is in the way.
    let in_the_way = folder.path().join("found/.report.html.part");
    fs::create_dir_all(&in_the_way).unwrap();
    // One thread reads one chunk of a file at a time.
    let more = ["--once", "--look-every", "7d", "--threads", "1"];
    let exchanges = world().join("exchanges");
    watch(&exchanges, folder.path(), &more).failed(1, &[".report.html.part"]);
    fs::remove_dir(&in_the_way).unwrap();
    let ran = watch(&exchanges, folder.path(), &more).succeeded();
    let all = all_lines().len();
    let counted = format!("Counted {},{:03} exchanges in all", all / 1000, all % 1000);
    assert!(ran.stdout.contains(&counted), "{counted}: {}", ran.stdout);
    assert_same(&folder.path().join("found"), of_the_month());
}

#[test]
fn a_look_within_an_epoch_finds_what_a_hunt_up_to_then_finds() {
    let folder = folder();
    let until = START_US + 24 * DAY_US;
    let count = times(exchanges()).partition_point(|time| *time < until);
    let file = folder.path().join("until.parquet");
    write_rows(&file, &exchanges().slice(0, count), 5_000);
    watch(&file, folder.path(), &["--once", "--look-every", "1d"]).succeeded();
    let period =
        ["--from", "2026-03-02T00:00:00Z", "--to", "2026-03-26T00:00:00Z", "--epoch", "7d"];
    let expected = hunted(&world().join("exchanges"), folder.path(), &period);
    assert_same(&folder.path().join("found"), &expected);
    let campaigns: Value =
        serde_json::from_slice(&fs::read(expected.join("campaigns.json")).unwrap()).unwrap();
    for campaign in campaigns.as_array().unwrap() {
        assert!(campaign["first_detectable"].as_str().unwrap() <= "2026-03-26T00:00:00Z");
    }
}

#[test]
fn exchanges_split_and_out_of_order_are_the_same() {
    let folder = folder();
    let input = folder.path().join("input");
    fs::create_dir(&input).unwrap();
    let (all, times) = (exchanges(), times(exchanges()));
    // Shuffled within the hour, and dealt to four files.
    let mut order: Vec<u32> = (0..all.num_rows() as u32).collect();
    order
        .sort_by_key(|&row| (times[row as usize] / 3_600_000_000, row.wrapping_mul(2_654_435_761)));
    let dealt = |file: usize| {
        let own = order.iter().copied().filter(|row| row.wrapping_mul(40_503) as usize % 4 == file);
        take_record_batch(all, &UInt32Array::from_iter_values(own)).unwrap()
    };
    write_rows(&input.join("z.parquet"), &dealt(0), 3_000);
    write_rows(&input.join("b.parquet"), &dealt(1), 700);
    fs::write(input.join("a.jsonl"), lines(&dealt(2)).concat()).unwrap();
    fs::write(input.join("y.log"), lines(&dealt(3)).concat().trim_end()).unwrap();
    watch(&input, folder.path(), &["--once", "--look-every", "7d", "--lateness", "3h"]).succeeded();
    assert_same(&folder.path().join("found"), of_the_month());
}

/// A watch that runs until it is ended.
struct Watching(Child);

impl Watching {
    fn start(exchanges: &Path, folder: &Path, more: &[&str]) -> Self {
        let arguments = arguments(text(exchanges), folder, more);
        let mut command = stillwatch(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
        command.arg("--quiet").stdout(Stdio::null()).stderr(Stdio::null());
        Watching(command.spawn().unwrap())
    }

    /// Ends it as services are ended; it comes to its end.
    fn end(mut self) {
        let ended = std::process::Command::new("kill").arg(self.0.id().to_string()).status();
        assert!(ended.unwrap().success());
        assert!(self.0.wait().unwrap().success());
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[track_caller]
fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < Duration::from_secs(120), "{what} did not happen");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_file_that_grows_and_is_rotated_is_followed() {
    let folder = folder();
    let input = folder.path().join("input");
    fs::create_dir(&input).unwrap();
    let log = input.join("app.log");
    let watching = Watching::start(&input, folder.path(), &["--look-every", "7d"]);
    let all = all_lines().concat();
    // In pieces that end anywhere.
    for (number, piece) in all.as_bytes().chunks(all.len() / 23 + 1).enumerate() {
        let mut file = OpenOptions::new().create(true).append(true).open(&log).unwrap();
        file.write_all(piece).unwrap();
        thread::sleep(Duration::from_millis(60));
        if number % 9 == 4 {
            // Rotation at the end of a line, as loggers do.
            let whole = fs::read(&log).unwrap();
            let end = whole.iter().rposition(|b| *b == b'\n').unwrap() + 1;
            file.set_len(end as u64).unwrap();
            fs::rename(&log, input.join(format!("app.log.{number}"))).unwrap();
            fs::write(&log, &whole[end..]).unwrap();
        }
    }
    wait_for("the look at the third week", || folder.path().join("found/campaigns.json").exists());
    thread::sleep(Duration::from_millis(1_500));
    watching.end();
    watch(&input, folder.path(), &["--once", "--look-every", "7d"]).succeeded();
    assert_same(&folder.path().join("found"), of_the_month());
    assert_eq!(exchanges_read(folder.path()), all_lines().len() as u64);
}

/// The exchanges that the last look's window held.
fn exchanges_read(folder: &Path) -> u64 {
    let run = fs::read(folder.join("found/run.json")).unwrap();
    serde_json::from_slice::<Value>(&run).unwrap()["rows_read"].as_u64().unwrap()
}

#[test]
fn killed_at_any_moment_nothing_is_lost_and_nothing_counted_twice() {
    let folder = folder();
    let log = folder.path().join("grows.jsonl");
    let mut file = File::create(&log).unwrap();
    let mut random = 88_172_645_463_325_252u64;
    let mut next = |below: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % below
    };
    let lines = all_lines();
    let mut written = 0;
    let mut kills = 0;
    while written < lines.len() {
        let watching = Watching::start(&log, folder.path(), &["--look-every", "1d"]);
        for _ in 0..3 {
            let some = (next(1_500) as usize).min(lines.len() - written);
            file.write_all(lines[written..written + some].concat().as_bytes()).unwrap();
            written += some;
            thread::sleep(Duration::from_millis(next(400)));
        }
        drop(watching);
        kills += 1;
    }
    assert!(kills > 8);
    watch(&log, folder.path(), &["--once", "--look-every", "1d"]).succeeded();
    assert_same(&folder.path().join("found"), of_the_month());
    assert_eq!(exchanges_read(folder.path()), lines.len() as u64);
}

#[test]
fn of_files_that_are_gone_the_profiles_tell() {
    let folder = folder();
    let input = folder.path().join("input");
    fs::create_dir(&input).unwrap();
    let (early, late) = all_lines().split_at(all_lines().len() / 2);
    fs::write(input.join("early.jsonl"), early.concat()).unwrap();
    let weekly = ["--once", "--look-every", "7d"];
    watch(&input, folder.path(), &weekly).succeeded();
    fs::remove_file(input.join("early.jsonl")).unwrap();
    fs::write(input.join("late.jsonl"), late.concat()).unwrap();
    watch(&input, folder.path(), &weekly).succeeded();
    assert_eq!(exchanges_read(folder.path()), all_lines().len() as u64);
    let read = |folder: &Path| fs::read(folder.join("campaigns.json")).unwrap();
    let [found, expected]: [Vec<Value>; 2] = [&folder.path().join("found"), of_the_month()]
        .map(|folder| serde_json::from_slice(&read(folder)).unwrap());
    let exchanges = |campaigns: &[Value]| -> Vec<Value> {
        campaigns.iter().map(|campaign| campaign["exchanges"].clone()).collect()
    };
    assert_eq!(exchanges(&found), exchanges(&expected));
}

#[test]
fn standard_input_is_spooled_and_told_of_by_account() {
    let folder = folder();
    let arguments = arguments("-", folder.path(), &["--look-every", "7d"]);
    let mut command = stillwatch(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    let mut child =
        command.arg("--quiet").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    for lines in all_lines().chunks(5_000) {
        stdin.write_all(lines.concat().as_bytes()).unwrap();
    }
    drop(stdin);
    assert!(child.wait().unwrap().success());
    let found = folder.path().join("found");
    assert_eq!(exchanges_read(folder.path()), all_lines().len() as u64);
    let read = |folder: &Path| -> Vec<Value> {
        serde_json::from_slice(&fs::read(folder.join("campaigns.json")).unwrap()).unwrap()
    };
    // The same campaigns; what only the exchanges tell is missing.
    let same = [
        "campaign_id",
        "kind",
        "accounts",
        "exchanges",
        "output_tokens",
        "rank",
        "first_seen",
        "last_seen",
        "first_detectable",
        "exchanges_before_detection",
        "evidence_value",
    ];
    let (one, other) = (read(&found), read(of_the_month()));
    assert_eq!(one.len(), other.len());
    for (one, other) in one.iter().zip(&other) {
        for key in same {
            assert_eq!(one[key], other[key], "{key}");
        }
    }
    let harvest = File::open(found.join("harvest.parquet")).unwrap();
    let harvest = ParquetRecordBatchReaderBuilder::try_new(harvest).unwrap();
    assert_eq!(harvest.metadata().file_metadata().num_rows(), 0);
    // All of it has been covered; the last segment stays until there is another.
    let spooled: Vec<_> = fs::read_dir(folder.path().join("state/spool")).unwrap().collect();
    assert_eq!(spooled.len(), 1);
}

#[test]
fn broken_clocks_do_not_move_the_window_and_late_ones_are_counted() {
    let folder = folder();
    let mut with_strays: Vec<String> = Vec::new();
    let stray = |time: &str, number: usize| {
        format!("{{\"time\":\"{time}\",\"account_id\":\"stray\",\"prompt\":\"number {number}\"}}\n")
    };
    for (number, line) in all_lines().iter().enumerate() {
        with_strays.push(line.clone());
        if number % 40 == 7 {
            with_strays.push(stray("2098-01-01T00:00:00Z", number));
            with_strays.push(stray("9999-01-01T00:00:00Z", number));
        }
        if number == 30_000 {
            with_strays.push(stray("2026-01-01T00:00:00Z", number));
        }
    }
    let log = folder.path().join("log.jsonl");
    fs::write(&log, with_strays.concat()).unwrap();
    let weekly = ["--once", "--look-every", "7d"];
    let ran = watch(&log, folder.path(), &weekly).succeeded();
    assert!(ran.stdout.contains(&last_look()), "{}", ran.stdout);
    assert!(ran.stdout.contains("        1  lie before the window"), "{}", ran.stdout);
    let plain = fs::read_to_string(of_the_month().join("campaigns.json")).unwrap();
    let found = fs::read_to_string(folder.path().join("found/campaigns.json")).unwrap();
    assert!(plain == found);
    let run: Value =
        serde_json::from_slice(&fs::read(folder.path().join("found/run.json")).unwrap()).unwrap();
    let implausible = with_strays.iter().filter(|line| line.contains("9999-01-01")).count();
    assert_eq!(run["rows_refused"]["time_implausible"], implausible);

    // A week late: still in the window, and in the next look.
    let late = stray("2026-03-16T00:00:00Z", 1);
    OpenOptions::new().append(true).open(&log).unwrap().write_all(late.as_bytes()).unwrap();
    let ran = watch(&log, folder.path(), &weekly).succeeded();
    assert!(ran.stdout.contains("        1  came after the look"), "{}", ran.stdout);
    assert_eq!(exchanges_read(folder.path()), all_lines().len() as u64 + 1);
}

#[test]
fn the_window_slides_and_what_lies_before_it_is_gone() {
    let folder = folder();
    let shift = |line: &String, days: i64| {
        let (before, rest) = line.split_once("\"time\":\"").unwrap();
        let (time, after) = rest.split_once('"').unwrap();
        let moved = Time(Time::parse(time).unwrap().0 + days * DAY_US);
        format!("{before}\"time\":\"{moved}\"{after}")
    };
    let weeks: Vec<String> =
        all_lines().iter().map(|l| shift(l, -28)).chain(all_lines().iter().cloned()).collect();
    assert!(weeks[0].contains("\"time\":\"2026-02-0"), "{}", weeks[0]);
    let log = folder.path().join("log.jsonl");
    fs::write(&log, weeks.concat()).unwrap();
    let ran = watch(&log, folder.path(), &["--once", "--look-every", "7d"]).succeeded();
    assert_eq!(ran.stdout.lines().filter(|line| line.starts_with("2026-")).count(), 8);
    assert_eq!(exchanges_read(folder.path()), all_lines().len() as u64);
    let expected = hunted(&log, folder.path(), &MONTH);
    assert_same(&folder.path().join("found"), &expected);
}

#[test]
fn a_state_that_can_not_be_used_is_refused_with_words() {
    let folder = folder();
    let log = folder.path().join("log.jsonl");
    fs::write(&log, all_lines()[..500].concat()).unwrap();
    watch(&log, folder.path(), &["--once"]).succeeded();
    watch(&log, folder.path(), &["--once", "--epoch", "1d"])
        .failed(1, &["state", "another pace", "epochs of 10080", "use that one, or a new --state"]);
    let key = folder.path().join("key");
    fs::write(&key, "a secret that is long enough").unwrap();
    watch(&log, folder.path(), &["--once", "--key-file", text(&key)]).failed(1, &["another key"]);
    watch(&log, folder.path(), &["--once", "--look-every", "5d"]).failed(2, &["go into an epoch"]);
    watch(Path::new("s3://bucket/x"), folder.path(), &[]).failed(2, &["URLs can not"]);
    watch(&folder.path().join("none"), folder.path(), &[]).failed(2, &["no such file"]);

    let state = folder.path().join("state/watch.redb");
    let whole = fs::read(&state).unwrap();
    for broken in [whole[..whole.len() / 2].to_vec(), vec![0; whole.len()], b"text".to_vec()] {
        fs::write(&state, broken).unwrap();
        watch(&log, folder.path(), &["--once"]).failed(1, &["watch.redb", "begin anew"]);
    }
    fs::write(&state, whole).unwrap();
    watch(&log, folder.path(), &["--once"]).succeeded();

    let mut watching = Watching::start(&log, folder.path(), &[]);
    wait_for("the first watch to have it", || {
        // It may have come while the other one had it.
        if watching.0.try_wait().unwrap().is_some() {
            watching = Watching::start(&log, folder.path(), &[]);
        }
        thread::sleep(Duration::from_millis(300));
        let ran = watch(&log, folder.path(), &["--once"]);
        ran.status == Some(1) && ran.stderr.contains("another watch uses it")
    });
}

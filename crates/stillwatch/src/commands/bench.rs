use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use comfy_table::{Cell, CellAlignment, Table, presets};
use indicatif::{HumanBytes, HumanCount};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use stillwatch_detect::observe::Key;
use stillwatch_hunt::{HuntSettings, Stage};
use stillwatch_simulate::WorldSettings;

use super::{hunt, simulate};
use crate::failure::Failure;
use crate::session::{Session, threads};
use crate::summary::counted;
use crate::{memory, output, world};

/// What a hunt may hold in memory whatever it reads, in bytes.
const MEMORY_BASE_BYTES: u64 = 400 << 20;
/// What it may hold more for each account, in bytes.
const MEMORY_ACCOUNT_BYTES: u64 = 4 << 10;
/// How often a child is asked whether it has ended.
const PATIENCE: Duration = Duration::from_millis(50);

/// Measures this program on this machine
#[derive(Debug, Args)]
pub struct Bench {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    Hunt(BenchHunt),
    /// One measurement in a process of its own, as JSON on standard output.
    #[command(hide = true)]
    Part(Part),
}

/// Holds a whole hunt against DataFusion alone reading the same files
///
/// Makes a world, then times (a) DataFusion with its own Parquet reader adding up the
/// prompts' lengths, SELECT SUM(character_length(prompt)) FROM exchanges, and (b) the whole
/// hunt, each with the same number of threads in a process of its own, so that each has
/// its own peak of memory. The files are read once beforehand, so that both find them
/// in the page cache.
#[derive(Debug, Args)]
struct BenchHunt {
    /// Exchanges in the world, about.
    #[arg(long, value_name = "N", default_value_t = 10_000_000)]
    exchanges: u64,

    /// Accounts in the world [default: one for every 80 exchanges]
    #[arg(long, value_name = "N")]
    accounts: Option<u64>,

    /// JSON Lines files with prompts, or folders of them; a built-in grammar otherwise.
    #[arg(long, value_name = "PATH", num_args = 1..)]
    prompts: Vec<PathBuf>,

    /// Names everything that is left to chance in the world.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,

    /// Where the world and the findings go: a new folder, or that of an earlier bench.
    #[arg(long, value_name = "DIR", default_value = "stillwatch-bench")]
    dir: PathBuf,

    /// Leave the world and the findings where they are.
    #[arg(long)]
    keep: bool,

    /// Threads to work with; one for each processor by default.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: Option<u16>,
}

#[derive(Debug, Args)]
struct Part {
    /// Hunt, instead of scanning.
    #[arg(long)]
    hunt: bool,
    #[arg(long)]
    dir: PathBuf,
    #[arg(long)]
    threads: usize,
}

/// What one process measured.
#[derive(Debug, Serialize, Deserialize)]
struct Measured {
    seconds: f64,
    rows: u64,
    peak_bytes: u64,
    accounts: u64,
    campaigns: u64,
    stages: Vec<StageMeasured>,
}

#[derive(Debug, Serialize, Deserialize)]
struct StageMeasured {
    name: String,
    seconds: f64,
    rows: Option<u64>,
}

/// Measures and prints.
pub fn run(args: &Bench, session: &Session) -> Result<(), Failure> {
    match &args.what {
        What::Hunt(args) => bench_hunt(args, session),
        What::Part(args) => {
            let measured = measure(args, session)?;
            let json = serde_json::to_string(&measured)
                .map_err(|error| Failure::Other(format!("cannot write JSON: {error}")))?;
            output::print(&format!("{json}\n"))
        }
    }
}

fn world_dir(dir: &Path) -> PathBuf {
    dir.join("world")
}

fn bench_hunt(args: &BenchHunt, session: &Session) -> Result<(), Failure> {
    let settings = WorldSettings {
        seed: args.seed,
        exchanges: args.exchanges,
        accounts: args.accounts.unwrap_or_else(|| world::accounts_for(args.exchanges)),
        ..WorldSettings::default()
    };
    settings.check()?;
    let threads = threads(args.threads);
    let dir = Dir::claim(&args.dir, args.keep)?;
    let world = world_dir(&args.dir);
    let summary = world::make(settings, &args.prompts, &world, threads, session)?;
    output::print(&format!("{}\n", simulate::describe(&summary, &world)))?;

    let scan = |session| measure_apart(&args.dir, threads, false, session);
    let _warm: Measured = scan(session)?;
    let scanned: Measured = scan(session)?;
    let hunted: Measured = measure_apart(&args.dir, threads, true, session)?;
    drop(dir);
    output::print(&report(&scanned, &hunted, threads))
}

/// The bench's folder: of its own making, and removed unless it is to be kept.
struct Dir<'a> {
    path: &'a Path,
    keep: bool,
}

/// What tells a bench's folder from any other.
const MARK: &str = ".stillwatch-bench";

impl<'a> Dir<'a> {
    fn claim(path: &'a Path, keep: bool) -> Result<Self, Failure> {
        let is_taken = std::fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_some());
        let mark = path.join(MARK);
        if is_taken && !mark.is_file() {
            return Err(Failure::Usage(format!(
                "{} is no folder of an earlier bench; give another one with --dir",
                path.display()
            )));
        }
        std::fs::create_dir_all(path).map_err(Failure::at("make the folder", path))?;
        std::fs::write(&mark, "made by `stillwatch bench hunt`, which may remove what is here\n")
            .map_err(Failure::at("write", &mark))?;
        Ok(Dir { path, keep })
    }
}

impl Drop for Dir<'_> {
    fn drop(&mut self) {
        if !self.keep
            && let Err(error) = std::fs::remove_dir_all(self.path)
        {
            output::complain(&format!("cannot remove {}: {error}", self.path.display()));
        }
    }
}

/// Measures in a process of its own, so that peaks of memory do not mix.
fn measure_apart<T: DeserializeOwned>(
    dir: &Path,
    threads: usize,
    hunt: bool,
    session: &Session,
) -> Result<T, Failure> {
    let what = if hunt { "the hunt" } else { "the scan" };
    let cannot = |error: &dyn std::fmt::Display| {
        Failure::Other(format!("cannot measure {what} in a process of its own: {error}"))
    };
    let program = std::env::current_exe().map_err(|error| cannot(&error))?;
    let mut command = std::process::Command::new(program);
    command.args(["bench", "part", "--threads", &threads.to_string(), "--dir"]).arg(dir);
    if hunt {
        command.arg("--hunt");
    }
    if session.stages.is_quiet() {
        command.arg("--quiet");
    }
    let mut child = command.stdout(Stdio::piped()).spawn().map_err(|error| cannot(&error))?;
    let status = wait(&mut child, session)?;
    let mut text = String::new();
    if let Some(mut stdout) = child.stdout.take() {
        stdout.read_to_string(&mut text).map_err(|error| cannot(&error))?;
    }
    if !status.success() {
        return Err(cannot(&status));
    }
    serde_json::from_str(&text).map_err(|error| cannot(&error))
}

/// Waits for a child, whose few bytes of output fit into the pipe. What it leaves when
/// the run is stopped lies in our own folder.
fn wait(child: &mut Child, session: &Session) -> Result<std::process::ExitStatus, Failure> {
    loop {
        let ended = child.try_wait();
        let ended = ended.map_err(|error| Failure::Other(format!("lost a child: {error}")))?;
        if let Some(status) = ended {
            session.stop.check()?;
            return Ok(status);
        }
        if session.stop.is_asked() {
            // It may have heard of Ctrl-C itself and be gone by now.
            let _ = child.kill();
            let _ = child.wait();
            return Err(Failure::Stopped);
        }
        std::thread::sleep(PATIENCE);
    }
}

fn measure(args: &Part, session: &Session) -> Result<Measured, Failure> {
    let world = world_dir(&args.dir);
    let below = |name: &str| world.join(name).display().to_string();
    let began = Instant::now();
    if !args.hunt {
        session.stages.begin("scan", None, "exchanges");
        let (rows, characters) = stillwatch_hunt::bench_scan(&[below("exchanges")], args.threads)?;
        session.stages.at("scan", rows);
        session.stages.end("scan");
        let seconds = began.elapsed().as_secs_f64();
        let stages = Vec::new();
        if characters == 0 {
            return Err(Failure::Other(format!("no prompts in {}", world.display())));
        }
        let peak_bytes = memory::peak_bytes();
        return Ok(Measured { seconds, rows, peak_bytes, accounts: 0, campaigns: 0, stages });
    }
    let settings = HuntSettings {
        exchanges: vec![below("exchanges")],
        accounts: vec![below("accounts.parquet")],
        releases: Some(below("releases.parquet")),
        references: None,
        read: session.read_options(None, &[]),
        key: Key::public(),
        level: hunt::LEVEL,
        quote: false,
        threads: args.threads,
        out: args.dir.join("findings"),
    };
    let hunted = hunt::hunt(&settings, session)?;
    let seconds = began.elapsed().as_secs_f64();
    let by_stage = session.stages.seconds();
    let stages = Stage::ALL
        .iter()
        .filter_map(|stage| {
            let name = stage.name();
            let seconds = *by_stage.get(name)?;
            let rows = hunted.run.stage_rows.get(name).copied();
            Some(StageMeasured { name: name.to_owned(), seconds, rows })
        })
        .collect();
    Ok(Measured {
        seconds,
        rows: hunted.run.rows_read,
        peak_bytes: memory::peak_bytes(),
        accounts: hunted.run.accounts,
        campaigns: hunted.campaigns.len() as u64,
        stages,
    })
}

fn report(scanned: &Measured, hunted: &Measured, threads: usize) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).force_no_tty();
    table.set_header(["", "seconds", "rows", "rows/s", "peak memory"].map(right));
    for (name, measured) in [("DataFusion alone", scanned), ("the hunt", hunted)] {
        table.add_row([
            Cell::new(name),
            right(format!("{:.2}", measured.seconds)),
            right(HumanCount(measured.rows)),
            right(rate(measured.rows, measured.seconds)),
            right(HumanBytes(measured.peak_bytes)),
        ]);
    }
    for stage in &hunted.stages {
        table.add_row([
            Cell::new(format!("  {}", stage.name)),
            right(format!("{:.2}", stage.seconds)),
            right(stage.rows.map(|rows| HumanCount(rows).to_string()).unwrap_or_default()),
            right(stage.rows.map(|rows| rate(rows, stage.seconds)).unwrap_or_default()),
            right(""),
        ]);
    }
    let mut text: String = table.lines().map(|line| format!("{}\n", line.trim_end())).collect();
    let allowed = MEMORY_BASE_BYTES + MEMORY_ACCOUNT_BYTES * hunted.accounts;
    text.push_str(&format!(
        "\nRatio   {:.2} on {}\nMemory  {} of {} (400 MiB and 4 KiB for each of {})\nFound   {}\n",
        hunted.seconds / scanned.seconds.max(1e-9),
        counted(threads as u64, "thread"),
        HumanBytes(hunted.peak_bytes),
        HumanBytes(allowed),
        counted(hunted.accounts, "account"),
        counted(hunted.campaigns, "campaign"),
    ));
    text
}

fn rate(rows: u64, seconds: f64) -> String {
    HumanCount((rows as f64 / seconds.max(1e-9)) as u64).to_string()
}

fn right(text: impl ToString) -> Cell {
    Cell::new(text.to_string()).set_alignment(CellAlignment::Right)
}

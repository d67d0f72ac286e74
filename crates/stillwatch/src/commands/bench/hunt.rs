use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::Args;
use comfy_table::{Cell, Table, presets};
use indicatif::{HumanBytes, HumanCount};
use stillwatch_simulate::WorldSettings;

use super::apart::{self, Measured};
use super::right;
use crate::commands::simulate;
use crate::failure::Failure;
use crate::session::{Session, threads};
use crate::summary::counted;
use crate::{output, world};

/// What a hunt may hold in memory whatever it reads, in bytes.
const MEMORY_BASE_BYTES: u64 = 400 << 20;
/// What it may hold more for each account, in bytes.
const MEMORY_ACCOUNT_BYTES: u64 = 4 << 10;

/// Holds a whole hunt against DataFusion alone reading the same files
///
/// Makes a world, then times (a) DataFusion with its own Parquet reader adding up the
/// prompts' lengths, SELECT SUM(character_length(prompt)) FROM exchanges, and (b) the whole
/// hunt, each with the same number of threads in a process of its own, so that each has
/// its own peak of memory. The files are read once beforehand, so that both find them
/// in the page cache.
#[derive(Debug, Args)]
pub struct BenchHunt {
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

/// Measures and prints.
pub fn run(args: &BenchHunt, session: &Session) -> Result<(), Failure> {
    let settings = WorldSettings {
        seed: args.seed,
        exchanges: args.exchanges,
        accounts: args.accounts.unwrap_or_else(|| world::accounts_for(args.exchanges)),
        ..WorldSettings::default()
    };
    settings.check()?;
    let threads = threads(args.threads);
    let prompts = world::prompts(&args.prompts)?;
    let dir = Dir::claim(&args.dir, args.keep)?;
    let world = args.dir.join("world");
    let summary = world::make(settings, prompts, &world, threads, session)?;
    output::print(&format!("{}\n", simulate::describe(&summary, &world)))?;

    let part = |name: &str, more: &[&Path]| -> Result<Measured, Failure> {
        let mut arguments: Vec<OsString> = vec![name.into(), "--world".into(), (&world).into()];
        arguments.extend(["--threads".into(), threads.to_string().into()]);
        arguments.extend(more.iter().map(OsString::from));
        apart::measure(&format!("the {name}"), arguments, threads, session)
    };
    let _warm = part("scan", &[])?;
    let scanned = part("scan", &[])?;
    let hunted = part("hunt", &[Path::new("--out"), &args.dir.join("findings")])?;
    drop(dir);
    output::print(&report(&scanned, &hunted, threads))
}

/// The bench's folder: of its own making, and removed unless it is to be kept.
pub struct Dir<'a> {
    path: &'a Path,
    keep: bool,
}

/// What tells a bench's folder from any other.
const MARK: &str = ".stillwatch-bench";

impl<'a> Dir<'a> {
    pub fn claim(path: &'a Path, keep: bool) -> Result<Self, Failure> {
        let is_taken = std::fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_some());
        let mark = path.join(MARK);
        if is_taken && !mark.is_file() {
            return Err(Failure::Usage(format!(
                "{} is no folder of an earlier bench; give another one with --dir",
                path.display()
            )));
        }
        std::fs::create_dir_all(path).map_err(Failure::at("make the folder", path))?;
        std::fs::write(&mark, "made by `stillwatch bench`, which may remove what is here\n")
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

pub fn rate(rows: u64, seconds: f64) -> String {
    HumanCount((rows as f64 / seconds.max(1e-9)) as u64).to_string()
}

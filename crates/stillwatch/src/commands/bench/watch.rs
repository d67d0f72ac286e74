use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use clap::Args;
use comfy_table::{Cell, Table, presets};
use indicatif::{HumanBytes, HumanCount};
use serde::{Deserialize, Serialize};
use stillwatch_broker::Access;
use stillwatch_detect::observe::Key;
use stillwatch_detect::without::Without;
use stillwatch_exchange::time::DAY_US;
use stillwatch_hunt::{HuntSettings, Hunted, Progress};
use stillwatch_simulate::WorldSettings;
use stillwatch_watch::{Host, Inputs, Pace, WatchSettings, state_size, watch};

use super::apart;
use super::hunt::{Dir, rate};
use super::right;
use crate::commands::hunt;
use crate::failure::Failure;
use crate::session::{Session, threads};
use crate::{memory, output, world};

/// Measures how fast a watch counts, and what an account takes of its state
///
/// Makes a world and its sketches, and lets a watch read each from the beginning, with
/// weekly looks, in a process of its own: exchanges a second between looks, checkpoints
/// included, and how long a look takes. A third world has many accounts with few exchanges
/// each, and tells of the state.
#[derive(Debug, Args)]
pub struct BenchWatch {
    /// Exchanges in the world whose reading is timed, about.
    #[arg(long, value_name = "N", default_value_t = 2_000_000)]
    exchanges: u64,

    /// Accounts in the world whose state is measured; 0 for none.
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    accounts: u64,

    /// Exchanges of each of these accounts, on average.
    #[arg(long, value_name = "N", default_value_t = 5)]
    exchanges_each: u64,

    /// JSON Lines files with prompts, or folders of them; a built-in grammar otherwise.
    #[arg(long, value_name = "PATH", num_args = 1..)]
    prompts: Vec<PathBuf>,

    /// Names everything that is left to chance in the worlds.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,

    /// Where the worlds and states go: a new folder, or that of an earlier bench.
    #[arg(long, value_name = "DIR", default_value = "stillwatch-bench")]
    dir: PathBuf,

    /// Leave the worlds and states where they are.
    #[arg(long)]
    keep: bool,

    /// Threads to work with; one for each processor by default.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: Option<u16>,
}

/// What one watch measured.
#[derive(Debug, Serialize, Deserialize)]
pub struct Measured {
    exchanges: u64,
    seconds: f64,
    looks: u64,
    look_seconds: f64,
    peak_bytes: u64,
    accounts: u64,
    pieces: u64,
    piece_bytes: u64,
    file_bytes: u64,
}

/// Measures and prints.
pub fn run(args: &BenchWatch, session: &Session) -> Result<(), Failure> {
    let threads = threads(args.threads);
    let prompts = world::prompts(&args.prompts)?;
    let dir = Dir::claim(&args.dir, args.keep)?;
    let made = |name: &str, exchanges, accounts, campaigns: &str| -> Result<PathBuf, Failure> {
        let campaigns = campaigns.to_owned();
        let settings = WorldSettings {
            seed: args.seed,
            exchanges,
            accounts,
            campaigns,
            ..WorldSettings::default()
        };
        settings.check()?;
        let world = args.dir.join(name);
        world::make(settings, Arc::clone(&prompts), &world, threads, session)?;
        Ok(world.join("exchanges"))
    };
    let watched = |name: &str, exchanges: &Path| -> Result<Measured, Failure> {
        let state = args.dir.join(format!("state of {name}"));
        let _ = std::fs::remove_dir_all(&state);
        let out = args.dir.join(format!("findings of {name}"));
        let mut arguments: Vec<OsString> = vec!["watch".into(), "--exchanges".into()];
        arguments.extend([exchanges.into(), "--state".into(), state.into()]);
        arguments.extend(["--out".into(), out.into()]);
        arguments.extend(["--threads".into(), threads.to_string().into()]);
        apart::measure(&format!("the watch over {name}"), arguments, threads, session)
    };
    let text = made("text", args.exchanges, world::accounts_for(args.exchanges), "all")?;
    let sketches = args.dir.join("sketches");
    sketch(&text, &sketches)?;
    let mut rows =
        vec![("text", watched("text", &text)?), ("sketches", watched("sketches", &sketches)?)];
    if args.accounts > 0 {
        let exchanges = args.accounts.saturating_mul(args.exchanges_each);
        let many = made("accounts", exchanges, args.accounts, "none")?;
        rows.push(("many accounts", watched("many accounts", &many)?));
    }
    drop(dir);
    output::print(&report(&rows, threads))
}

fn sketch(exchanges: &Path, out: &Path) -> Result<(), Failure> {
    let cannot =
        |what: &dyn std::fmt::Display| Failure::Other(format!("cannot make sketches: {what}"));
    let program = std::env::current_exe().map_err(|error| cannot(&error))?;
    let mut command = std::process::Command::new(program);
    command.args(["sketch", "--quiet", "--exchanges"]).arg(exchanges).arg("--out").arg(out);
    let ran = command.output().map_err(|error| cannot(&error))?;
    if ran.status.success() { Ok(()) } else { Err(cannot(&String::from_utf8_lossy(&ran.stderr))) }
}

/// Times the looks of a watch, and keeps nothing of what they find.
#[derive(Default)]
struct Timing {
    looks: Mutex<Looks>,
}

#[derive(Default)]
struct Looks {
    began: Option<Instant>,
    took: Duration,
    accounts: u64,
}

impl Host for Timing {
    fn wait(&self) -> bool {
        false
    }

    fn is_stopped(&self) -> bool {
        false
    }

    fn looking(&self) {
        self.looks.lock().unwrap_or_else(PoisonError::into_inner).began = Some(Instant::now());
    }

    fn found(&self, hunted: Hunted) -> Result<(), String> {
        let mut looks = self.looks.lock().unwrap_or_else(PoisonError::into_inner);
        looks.accounts = hunted.run.accounts;
        if let Some(began) = looks.began.take() {
            looks.took += began.elapsed();
        }
        Ok(())
    }

    fn counted(&self, _: u64) {}

    fn say(&self, what: &str) {
        output::note(what);
    }
}

/// Watches in this process; see [`Measured`].
pub fn measured(
    exchanges: &Path,
    state: &Path,
    out: &Path,
    threads: usize,
    session: &Session,
) -> Result<Measured, Failure> {
    std::fs::create_dir_all(out).map_err(Failure::at("make the folder", out))?;
    let pace = Pace::new(7 * DAY_US, 7 * DAY_US, None)?;
    let settings = WatchSettings {
        streams: Vec::new(),
        access: Access::default(),
        share: None,
        hunt: HuntSettings {
            exchanges: vec![exchanges.display().to_string()],
            accounts: Vec::new(),
            releases: None,
            period: None,
            references: None,
            read: session.read_options(None, &[]),
            key: Key::public(),
            level: hunt::LEVEL,
            without: Without::NOTHING,
            quote: false,
            threads,
            out: out.to_owned(),
        },
        state: state.to_owned(),
        pace,
        accounts_max: u64::MAX / 2,
        once: true,
    };
    let host = Timing::default();
    let began = Instant::now();
    let progress: Arc<dyn Progress> = Arc::clone(&session.stages) as _;
    let watched = watch(&settings, Inputs::default(), &host, progress)?;
    let seconds = began.elapsed().as_secs_f64();
    let looks = host.looks.into_inner().unwrap_or_else(PoisonError::into_inner);
    let size = state_size(&settings)?;
    Ok(Measured {
        exchanges: watched.counts.exchanges,
        seconds: seconds - looks.took.as_secs_f64(),
        looks: watched.looks,
        look_seconds: looks.took.as_secs_f64(),
        peak_bytes: memory::peak_bytes(),
        accounts: looks.accounts,
        pieces: size.pieces,
        piece_bytes: size.piece_bytes,
        file_bytes: size.file_bytes,
    })
}

fn report(rows: &[(&str, Measured)], threads: usize) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).force_no_tty();
    let head = [
        "",
        "exchanges",
        "seconds",
        "exchanges/s",
        "a look",
        "peak memory",
        "accounts",
        "pieces",
        "state",
        "of an account",
        "file",
    ];
    table.set_header(head.map(right));
    for (name, m) in rows {
        let accounts = m.accounts.max(1);
        table.add_row([
            Cell::new(name),
            right(HumanCount(m.exchanges)),
            right(format!("{:.1}", m.seconds)),
            right(rate(m.exchanges, m.seconds)),
            right(format!("{:.1} s", m.look_seconds / m.looks.max(1) as f64)),
            right(HumanBytes(m.peak_bytes)),
            right(HumanCount(m.accounts)),
            right(HumanCount(m.pieces)),
            right(HumanBytes(m.piece_bytes)),
            right(HumanBytes(m.piece_bytes / accounts)),
            right(HumanBytes(m.file_bytes)),
        ]);
    }
    let mut text: String = table.lines().map(|line| format!("{}\n", line.trim_end())).collect();
    text.push_str(&format!(
        "\nSeconds are without looks, with checkpoints, on {}.\n",
        crate::summary::counted(threads as u64, "thread")
    ));
    text
}

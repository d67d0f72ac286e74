//! Measurements in processes of their own, so that peaks of memory do not mix.

use std::ffi::OsString;
use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use clap::Subcommand;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use stillwatch_bench::{Detector, Traffic};
use stillwatch_detect::without::Without;
use stillwatch_hunt::{HuntSettings, Stage};

use super::{guard, watch};
use crate::commands::hunt;
use crate::failure::Failure;
use crate::session::Session;
use crate::{memory, output, world};

/// How often a child is asked whether it has ended.
const PATIENCE: Duration = Duration::from_millis(50);

/// What one process does.
#[derive(Debug, Subcommand)]
pub enum Part {
    /// DataFusion alone reads a world's exchanges.
    Scan {
        #[arg(long)]
        world: PathBuf,
        #[arg(long)]
        threads: usize,
    },
    /// A whole hunt in a world.
    Hunt {
        #[arg(long)]
        world: PathBuf,
        #[arg(long)]
        out: PathBuf,
        #[arg(long)]
        threads: usize,
        /// Channels that are left out.
        #[arg(long, num_args = 1..)]
        without: Vec<String>,
    },
    /// A watch over a world, from its beginning.
    Watch {
        #[arg(long)]
        exchanges: PathBuf,
        #[arg(long)]
        state: PathBuf,
        #[arg(long)]
        out: PathBuf,
        #[arg(long)]
        threads: usize,
    },
    /// Stands in for a model's API until it is ended.
    Mock,
    /// A minimal proxy, until it is ended.
    Proxy {
        #[arg(long)]
        upstream: SocketAddr,
        #[arg(long)]
        threads: usize,
    },
    /// Sets a detector's thresholds on a world without campaigns.
    Calibrate {
        #[arg(long)]
        detector: String,
        #[arg(long)]
        world: PathBuf,
        /// Accounts that may be accused: a threshold for each.
        #[arg(long, num_args = 1..)]
        budgets: Vec<u64>,
    },
    /// Runs a detector, and accuses by some thresholds.
    Detect {
        #[arg(long)]
        detector: String,
        #[arg(long)]
        world: PathBuf,
        /// What it has learned: a file with the numbers as JSON.
        #[arg(long)]
        learned: PathBuf,
        /// Where the findings go: a folder for each threshold.
        #[arg(long)]
        out: PathBuf,
        #[arg(long, num_args = 1.., allow_negative_numbers = true)]
        thresholds: Vec<f64>,
    },
}

/// What one process measured.
#[derive(Debug, Serialize, Deserialize)]
pub struct Measured {
    pub seconds: f64,
    pub rows: u64,
    pub peak_bytes: u64,
    pub accounts: u64,
    pub campaigns: u64,
    pub stages: Vec<StageMeasured>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct StageMeasured {
    pub name: String,
    pub seconds: f64,
    pub rows: Option<u64>,
}

/// What a detector takes from a world without campaigns.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Calibrated {
    pub learned: Vec<f64>,
    pub thresholds: Vec<f64>,
}

/// Runs a part and prints what it measured.
pub fn run(part: &Part, session: &Session) -> Result<(), Failure> {
    let cannot = |error| Failure::Other(format!("cannot write JSON: {error}"));
    let json = match part {
        Part::Mock => return guard::mock(),
        Part::Proxy { upstream, threads } => return guard::minimal(*upstream, *threads),
        Part::Scan { world, threads } => serde_json::to_string(&scan(world, *threads, session)?),
        Part::Hunt { world, out, threads, without } => {
            serde_json::to_string(&hunted(world, out, *threads, without, session)?)
        }
        Part::Watch { exchanges, state, out, threads } => {
            serde_json::to_string(&watch::measured(exchanges, state, out, *threads, session)?)
        }
        Part::Calibrate { detector, world, budgets } => {
            serde_json::to_string(&calibrate(named(detector)?, world, budgets)?)
        }
        Part::Detect { detector, world, learned, out, thresholds } => {
            serde_json::to_string(&detect(named(detector)?, world, learned, out, thresholds)?)
        }
    };
    output::print(&format!("{}\n", json.map_err(cannot)?))
}

/// Runs a part in a process of its own and gives back what it measured; `what` is for
/// the error. `threads` bounds the detectors, which otherwise use every processor.
pub fn measure<T: DeserializeOwned>(
    what: &str,
    arguments: impl IntoIterator<Item = OsString>,
    threads: usize,
    session: &Session,
) -> Result<T, Failure> {
    let cannot = |error: &dyn std::fmt::Display| {
        Failure::Other(format!("cannot measure {what} in a process of its own: {error}"))
    };
    let program = std::env::current_exe().map_err(|error| cannot(&error))?;
    let mut command = std::process::Command::new(program);
    command.args(["bench", "part"]).args(arguments);
    command.env("RAYON_NUM_THREADS", threads.to_string());
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

fn scan(world: &Path, threads: usize, session: &Session) -> Result<Measured, Failure> {
    let began = Instant::now();
    session.stages.begin("scan", None, "exchanges");
    let exchanges = world.join("exchanges").display().to_string();
    let (rows, characters) = stillwatch_hunt::bench_scan(&[exchanges], threads)?;
    session.stages.at("scan", rows);
    session.stages.end("scan");
    if characters == 0 {
        return Err(Failure::Other(format!("no prompts in {}", world.display())));
    }
    Ok(Measured {
        seconds: began.elapsed().as_secs_f64(),
        rows,
        peak_bytes: memory::peak_bytes(),
        accounts: 0,
        campaigns: 0,
        stages: Vec::new(),
    })
}

fn hunted(
    world: &Path,
    out: &Path,
    threads: usize,
    without: &[String],
    session: &Session,
) -> Result<Measured, Failure> {
    let unknown = |name: &str| Failure::Usage(format!("no channel is called {name}"));
    let without = without.iter().try_fold(Without::NOTHING, |without, name| {
        without.and(name).ok_or_else(|| unknown(name))
    })?;
    let began = Instant::now();
    let settings = world::to_hunt(world, out.to_owned(), threads, session);
    let settings = HuntSettings { without, ..settings };
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

fn named(name: &str) -> Result<&'static dyn Detector, Failure> {
    stillwatch_bench::detector(name)
        .ok_or_else(|| Failure::Usage(format!("no detector is called {name}")))
}

fn traffic(detector: &dyn Detector, world: &Path) -> Result<Traffic, Failure> {
    Traffic::read(world, detector.needs()).map_err(|error| Failure::Other(error.to_string()))
}

fn calibrate(
    detector: &dyn Detector,
    world: &Path,
    budgets: &[u64],
) -> Result<Calibrated, Failure> {
    let clean = traffic(detector, world)?;
    let learned = detector.learn(&clean);
    let suspicions = detector.suspicions(&clean, &learned);
    let thresholds = budgets
        .iter()
        // JSON knows no infinity; nothing scores below this.
        .map(|budget| stillwatch_bench::threshold(&suspicions, *budget).max(f64::MIN))
        .collect();
    Ok(Calibrated { learned, thresholds })
}

fn detect(
    detector: &dyn Detector,
    world: &Path,
    learned: &Path,
    out: &Path,
    thresholds: &[f64],
) -> Result<Measured, Failure> {
    let began = Instant::now();
    let text = std::fs::read_to_string(learned).map_err(Failure::at("read", learned))?;
    let learned: Vec<f64> = serde_json::from_str(&text)
        .map_err(|error| Failure::Other(format!("cannot read {}: {error}", learned.display())))?;
    let traffic = traffic(detector, world)?;
    let suspicions = detector.suspicions(&traffic, &learned);
    let mut findings = 0;
    for (index, threshold) in thresholds.iter().enumerate() {
        let out = out.join(index.to_string());
        findings = stillwatch_bench::accuse(&traffic, &suspicions, *threshold, &out)
            .map_err(|error| Failure::Other(error.to_string()))?;
    }
    Ok(Measured {
        seconds: began.elapsed().as_secs_f64(),
        rows: traffic.exchanges.len() as u64,
        peak_bytes: memory::peak_bytes(),
        accounts: traffic.accounts.len() as u64,
        campaigns: findings,
        stages: Vec::new(),
    })
}

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use stillwatch_bench::{Bench, BenchWorld, DETECTORS, Detector, Row, Setting, detector};
use stillwatch_detect::without::Without;
use stillwatch_simulate::{Prompts, Score, WorldSettings};

use super::apart::{self, Calibrated, Measured};
use crate::commands::score;
use crate::failure::Failure;
use crate::out_folder::{OutFolder, Unfinished};
use crate::session::{Session, threads};
use crate::{output, world};

/// The name of ours in the table.
const OURS: &str = "Stillwatch";
/// False accusations that others are allowed: in a million accounts, at least, where
/// their budget is ours…
const SAME_PER_MILLION: u64 = 10;
/// …and where it is a loose one.
const LOOSE_PER_MILLION: u64 = 1_000;
/// The stage's name.
const STAGE: &str = "bench";

/// Holds the hunt against other detectors, on worlds with known campaigns
///
/// Makes one world after the other: campaigns of kinds on which nothing is tuned, with
/// one knob turned at a time (what they share, cover traffic, paraphrase, jitter, pool,
/// rate, prevalence). In each, every detector runs in a process of its own and is scored
/// by the same rule. Thresholds of the others are set on worlds without campaigns, to as
/// many false accusations as the hunt makes there (at least ten in a million accounts),
/// and to a thousand in a million. Prints the table, and writes it to DIR/bench.json
/// after each world. docs/bench.md says what the columns mean.
#[derive(Debug, Args)]
pub struct BenchDetect {
    /// Three small worlds: minutes instead of most of an hour.
    #[arg(long)]
    quick: bool,

    /// Where bench.json goes; the worlds lie here while they are needed.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,

    /// JSON Lines files with prompts, or folders of them; a built-in grammar otherwise.
    #[arg(long, value_name = "PATH", num_args = 1..)]
    prompts: Vec<PathBuf>,

    /// Names everything that is left to chance in the worlds.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,

    /// Accounts in a world of --quick.
    #[arg(long, value_name = "N", default_value_t = 8_000, requires = "quick")]
    accounts: u64,

    /// The others to compare with, by name; all by default, and «none» for ours alone.
    #[arg(long, value_name = "NAME", num_args = 1.., value_parser = named)]
    detectors: Option<Vec<String>>,

    /// Channels that the hunt does without, by name, to see what they are worth.
    #[arg(long, value_name = "CHANNEL", num_args = 1.., value_parser = channel)]
    without: Vec<String>,

    /// Exchanges in a world of --quick, about.
    #[arg(long, value_name = "N", default_value_t = 500_000, requires = "quick")]
    exchanges: u64,

    /// Threads to work with; one for each processor by default.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: Option<u16>,
}

/// What `--detectors` takes for ours alone.
const NONE: &str = "none";

fn named(name: &str) -> Result<String, String> {
    if name == NONE || detector(name).is_some() {
        return Ok(name.to_owned());
    }
    let names: Vec<&str> = DETECTORS.iter().map(|d| d.name()).collect();
    Err(format!("there are: {}; or {NONE}", names.join(", ")))
}

fn channel(name: &str) -> Result<String, String> {
    if Without::NOTHING.and(name).is_some() {
        return Ok(name.to_owned());
    }
    Err(format!("there are: {}", Without::names().collect::<Vec<_>>().join(", ")))
}

/// Measures and prints.
pub fn run(args: &BenchDetect, session: &Session) -> Result<(), Failure> {
    let worlds = if args.quick {
        stillwatch_bench::quick_worlds(args.seed, args.accounts, args.exchanges)?
    } else {
        stillwatch_bench::full_worlds(args.seed)?
    };
    worlds.iter().try_for_each(|w| w.settings.check().and(w.clean.check()))?;
    let prompts = world::prompts(&args.prompts)?;
    let folder = OutFolder::prepare(&args.out)?;
    let place = Unfinished::begin(&args.out)?;
    let mut bench = Bench {
        seed: args.seed,
        is_quick: args.quick,
        prompts: prompts.corpora().to_vec(),
        worlds: worlds.iter().map(|w| w.name.clone()).collect(),
        ..Bench::default()
    };
    let mut runner = Runner {
        place: place.path(),
        prompts,
        threads: threads(args.threads),
        without: &args.without,
        session,
        detectors: match &args.detectors {
            Some(names) => names.iter().filter_map(|name| detector(name)).collect(),
            None => DETECTORS.to_vec(),
        },
        done: 0,
        clean: None,
    };

    // In each world, and in each world without campaigns: making it, ours, the others.
    let mut clean: Vec<&WorldSettings> = worlds.iter().map(|w| &w.clean).collect();
    clean.dedup();
    let each = runner.detectors.len() + 2;
    let steps = match runner.detectors.len() {
        0 => worlds.len(),
        _ => worlds.len() + clean.len(),
    } * each;
    session.stages.begin(STAGE, Some(steps as u64), "steps");
    for world in &worlds {
        bench.add(runner.world(world)?);
        write(&bench, &args.out)?;
    }
    session.stages.end(STAGE);
    folder.keep();
    output::print(&format!(
        "{}\n{}\n{}",
        Bench::table(bench.rows.iter()),
        Bench::table(bench.totals.iter()),
        bench.kinds(OURS, Setting::Own),
    ))
}

/// Replaces `bench.json` by what is known so far.
fn write(bench: &Bench, out: &Path) -> Result<(), Failure> {
    let path = out.join("bench.json");
    let unfinished = out.join(".bench.json");
    let text = serde_json::to_string_pretty(bench)
        .map_err(|error| Failure::Other(format!("cannot write the table as JSON: {error}")))?;
    fs::write(&unfinished, text + "\n").map_err(Failure::at("write", &unfinished))?;
    fs::rename(&unfinished, &path).map_err(Failure::at("write", &path))
}

struct Runner<'a> {
    place: &'a Path,
    prompts: Arc<Prompts>,
    threads: usize,
    without: &'a [String],
    session: &'a Session,
    /// Those of other people.
    detectors: Vec<&'static dyn Detector>,
    /// Steps done.
    done: u64,
    /// The world without campaigns that thresholds were last set on, and those of each
    /// detector with what it learned.
    clean: Option<(WorldSettings, Vec<Calibrated>)>,
}

impl Runner<'_> {
    fn world(&mut self, world: &BenchWorld) -> Result<Vec<Row>, Failure> {
        // First of all, because a world that can't be should not cost a calibration.
        let dir = self.make(&world.name, world.settings.clone(), "world")?;
        let calibrated = match self.detectors.len() {
            0 => Vec::new(),
            _ => self.calibrated(&world.clean)?,
        };
        let mut rows = Vec::new();

        self.step(&world.name, OURS);
        let findings = self.place.join("findings");
        let measured = self.hunt(&dir, &findings)?;
        let score = score::score(&dir, &findings)?;
        let row = |name: &str, setting, score: &Score, measured: &Measured| {
            let (seconds, peak_bytes) = (measured.seconds, measured.peak_bytes);
            stillwatch_bench::row(&world.name, name, setting, score, seconds, peak_bytes)
        };
        rows.push(row(OURS, Setting::Own, &score, &measured));
        remove(&findings)?;

        for (detector, calibrated) in self.detectors.clone().into_iter().zip(&calibrated) {
            self.step(&world.name, detector.name());
            let mut settings = vec![
                (Setting::SameBudget, calibrated.thresholds[0]),
                (Setting::LooseBudget, calibrated.thresholds[1]),
            ];
            settings.extend(detector.paper_threshold().map(|t| (Setting::Paper, t)));
            let thresholds: Vec<f64> = settings.iter().map(|(_, threshold)| *threshold).collect();
            let measured =
                self.detect(detector, &dir, &calibrated.learned, &thresholds, &findings)?;
            for (index, (setting, _)) in settings.into_iter().enumerate() {
                let score = score::score(&dir, &findings.join(index.to_string()))?;
                rows.push(row(detector.name(), setting, &score, &measured));
            }
            remove(&findings)?;
        }
        remove(&dir)?;
        Ok(rows)
    }

    /// What each detector learned, and its thresholds, on a world without campaigns.
    fn calibrated(&mut self, settings: &WorldSettings) -> Result<Vec<Calibrated>, Failure> {
        if let Some((_, calibrated)) = self.clean.as_ref().filter(|(of, _)| of == settings) {
            return Ok(calibrated.clone());
        }
        let name = "without campaigns";
        let dir = self.make(name, settings.clone(), "clean")?;
        self.step(name, OURS);
        let findings = self.place.join("findings");
        self.hunt(&dir, &findings)?;
        let ours = score::score(&dir, &findings)?.totals;
        remove(&findings)?;
        let in_a_million = |n: u64| (n * ours.accounts).div_ceil(1_000_000);
        let budgets = [
            ours.accused_innocent.max(in_a_million(SAME_PER_MILLION)),
            in_a_million(LOOSE_PER_MILLION),
        ];
        let mut all = Vec::new();
        for detector in self.detectors.clone() {
            self.step(name, detector.name());
            let mut arguments = part("calibrate", detector.name(), &dir);
            arguments.push("--budgets".into());
            arguments.extend(budgets.iter().map(|b| b.to_string().into()));
            let calibrated: Calibrated =
                apart::measure(detector.name(), arguments, self.threads, self.session)?;
            if calibrated.thresholds.len() != budgets.len() {
                return Err(Failure::Other(format!(
                    "{} gave {} thresholds for {} budgets",
                    detector.name(),
                    calibrated.thresholds.len(),
                    budgets.len()
                )));
            }
            all.push(calibrated);
        }
        remove(&dir)?;
        self.clean = Some((settings.clone(), all.clone()));
        Ok(all)
    }

    fn make(
        &mut self,
        name: &str,
        settings: WorldSettings,
        folder: &str,
    ) -> Result<PathBuf, Failure> {
        self.step(name, "simulate");
        let dir = self.place.join(folder);
        world::make(settings, Arc::clone(&self.prompts), &dir, self.threads, self.session)?;
        Ok(dir)
    }

    fn hunt(&self, world: &Path, out: &Path) -> Result<Measured, Failure> {
        let mut arguments: Vec<OsString> = vec![
            "hunt".into(),
            "--world".into(),
            world.into(),
            "--out".into(),
            out.into(),
            "--threads".into(),
            self.threads.to_string().into(),
        ];
        if !self.without.is_empty() {
            arguments.push("--without".into());
            arguments.extend(self.without.iter().map(Into::into));
        }
        apart::measure("the hunt", arguments, self.threads, self.session)
    }

    fn detect(
        &self,
        detector: &dyn Detector,
        world: &Path,
        learned: &[f64],
        thresholds: &[f64],
        out: &Path,
    ) -> Result<Measured, Failure> {
        let path = self.place.join("learned.json");
        let text = serde_json::to_string(learned)
            .map_err(|error| Failure::Other(format!("cannot write JSON: {error}")))?;
        fs::write(&path, text).map_err(Failure::at("write", &path))?;
        let mut arguments = part("detect", detector.name(), world);
        arguments.extend(["--learned".into(), path.into(), "--out".into(), out.into()]);
        arguments.push("--thresholds".into());
        // The shortest text that reads as the same number.
        arguments.extend(thresholds.iter().map(|t| format!("{t:e}").into()));
        apart::measure(detector.name(), arguments, self.threads, self.session)
    }

    fn step(&mut self, world: &str, what: &str) {
        self.session.stages.at(STAGE, self.done);
        self.session.stages.tell(STAGE, &format!("{world}: {what}"));
        self.done += 1;
    }
}

fn part(name: &str, detector: &str, world: &Path) -> Vec<OsString> {
    let words: [OsString; 5] =
        [name.into(), "--detector".into(), detector.into(), "--world".into(), world.into()];
    words.into()
}

fn remove(dir: &Path) -> Result<(), Failure> {
    fs::remove_dir_all(dir).map_err(Failure::at("remove", dir))
}

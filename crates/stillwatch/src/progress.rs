//! How far a run is: bars with rate and time left on a terminal, plain lines
//! elsewhere, all on standard error.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write as _};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{HumanCount, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use stillwatch_hunt::{Progress, Stage};

use crate::stop::Stop;

/// Time between two lines about a stage whose end is not known.
const LINE_EVERY: Duration = Duration::from_secs(15);
/// Lines about a stage whose end is known, beside its first and last.
const LINES_MAX: u64 = 10;
/// A lower rate is that of a stage with few, large steps, and tells nothing.
const RATE_MIN: f64 = 100.0;
/// What takes less time than this needs no line on its way.
const SHORT: Duration = Duration::from_secs(1);

/// The stages of a run, as they begin, go on and end.
pub struct Stages {
    view: View,
    stop: Stop,
    state: Mutex<State>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum View {
    Nothing,
    Bars,
    Lines,
}

#[derive(Default)]
struct State {
    running: BTreeMap<&'static str, Running>,
    seconds: BTreeMap<String, f64>,
}

struct Running {
    began: Instant,
    total: Option<u64>,
    unit: &'static str,
    done: u64,
    /// Tenths of the whole, or periods of [`LINE_EVERY`], that a line has told of.
    lines: u64,
    bar: ProgressBar,
}

impl Stages {
    /// Stages shown as standard error permits.
    pub fn new(quiet: bool, stop: Stop) -> Self {
        let view = match (quiet, io::stderr().is_terminal()) {
            (true, _) => View::Nothing,
            (false, true) => View::Bars,
            (false, false) => View::Lines,
        };
        Stages { view, stop, state: Mutex::new(State::default()) }
    }

    /// Whether no progress is shown.
    pub fn is_quiet(&self) -> bool {
        self.view == View::Nothing
    }

    /// A stage begins; `total` is how many units of work it has, where that is known.
    pub fn begin(&self, name: &'static str, total: Option<u64>, unit: &'static str) {
        let bar = match self.view {
            View::Bars => bar(name, total, unit),
            View::Nothing | View::Lines => ProgressBar::hidden(),
        };
        let running = Running { began: Instant::now(), total, unit, done: 0, lines: 0, bar };
        let mut state = self.locked();
        // A stage may be left and come back to; that it began is said once.
        if self.view == View::Lines && !state.seconds.contains_key(name) {
            match total {
                Some(total) => line(&format!("{name}: {} {unit}", HumanCount(total))),
                None => line(name),
            }
        }
        state.running.insert(name, running);
    }

    /// So much of a stage is done; reports of several threads may come out of order.
    pub fn at(&self, name: &'static str, done: u64) {
        let mut state = self.locked();
        let Some(running) = state.running.get_mut(name) else { return };
        running.done = running.done.max(done);
        match self.view {
            View::Nothing => {}
            View::Bars => running.bar.set_position(running.done),
            View::Lines => running.tell(name),
        }
    }

    /// What a stage with few, long steps is at.
    pub fn tell(&self, name: &'static str, what: &str) {
        let state = self.locked();
        let Some(running) = state.running.get(name) else { return };
        match self.view {
            View::Nothing => {}
            View::Bars => running.bar.set_message(what.to_owned()),
            View::Lines => {
                let of = running.total.map_or(String::new(), |total| format!(" of {total}"));
                line(&format!("{name}: {}{of} {}, {what}", running.done, running.unit));
            }
        }
    }

    /// A stage is over.
    pub fn end(&self, name: &'static str) {
        let mut state = self.locked();
        let Some(running) = state.running.remove(name) else { return };
        let seconds = running.began.elapsed().as_secs_f64();
        let is_first = !state.seconds.contains_key(name);
        *state.seconds.entry(name.to_owned()).or_default() += seconds;
        running.bar.finish_and_clear();
        let is_worth_a_line = is_first || seconds >= SHORT.as_secs_f64();
        if self.view != View::Nothing && is_worth_a_line && !self.stop.is_asked() {
            let mut text = format!("{name}: done in {seconds:.1} s");
            if running.done > 0 {
                // Writing to a String can't fail.
                let _ = write!(text, ", {} {}", HumanCount(running.done), running.unit);
                let rate = running.done as f64 / seconds.max(1e-3);
                if rate >= RATE_MIN {
                    let _ = write!(text, ", {}/s", HumanCount(rate as u64));
                }
            }
            line(&text);
        }
    }

    /// Wall time of each stage, in seconds; of those still running, so far.
    pub fn seconds(&self) -> BTreeMap<String, f64> {
        let state = self.locked();
        let mut seconds = state.seconds.clone();
        for (name, running) in &state.running {
            *seconds.entry((*name).to_owned()).or_default() +=
                running.began.elapsed().as_secs_f64();
        }
        seconds
    }

    /// Takes the bars of unfinished stages off the terminal.
    pub fn clear(&self) {
        for running in std::mem::take(&mut self.locked().running).into_values() {
            running.bar.finish_and_clear();
        }
    }

    fn locked(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Running {
    /// Prints a line when enough has happened since the last one.
    fn tell(&mut self, name: &str) {
        let elapsed = self.began.elapsed();
        if elapsed < SHORT {
            return;
        }
        let seconds = elapsed.as_secs_f64();
        let rate = self.done as f64 / seconds.max(1e-3);
        let done = HumanCount(self.done);
        let unit = self.unit;
        match self.total.filter(|total| *total > 0) {
            Some(total) => {
                let tenths = (self.done.saturating_mul(LINES_MAX) / total).min(LINES_MAX);
                if tenths > self.lines && tenths < LINES_MAX {
                    self.lines = tenths;
                    let left = total.saturating_sub(self.done) as f64 / rate.max(1e-9);
                    line(&format!(
                        "{name}: {} %, {done} {unit}, {}/s, {left:.0} s left",
                        tenths * 100 / LINES_MAX,
                        HumanCount(rate as u64),
                    ));
                }
            }
            None => {
                let periods = (seconds / LINE_EVERY.as_secs_f64()) as u64;
                if periods > self.lines {
                    self.lines = periods;
                    line(&format!("{name}: {done} {unit}, {}/s", HumanCount(rate as u64)));
                }
            }
        }
    }
}

impl Progress for Stages {
    fn begin(&self, stage: Stage, total: Option<u64>, unit: &'static str) {
        Stages::begin(self, stage.name(), total, unit);
    }

    fn at(&self, stage: Stage, done: u64) {
        Stages::at(self, stage.name(), done);
    }

    fn end(&self, stage: Stage) {
        Stages::end(self, stage.name());
    }

    fn is_stopped(&self) -> bool {
        self.stop.is_asked()
    }
}

fn bar(name: &'static str, total: Option<u64>, unit: &'static str) -> ProgressBar {
    let template = match total {
        Some(_) => {
            "{prefix:>10} {bar:28.cyan} {human_pos} of {human_len} {msg}, {rate}/s, {eta} left"
        }
        None => "{prefix:>10} {spinner} {human_pos} {msg}, {rate}/s",
    };
    // The template is ours; were it wrong, the default one would do.
    let style = ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .with_key("rate", |state: &ProgressState, text: &mut dyn std::fmt::Write| {
            let _ = write!(text, "{}", HumanCount(state.per_sec() as u64));
        })
        .progress_chars("█▉▊▋▌▍▎▏ ");
    let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr())
        .with_style(style)
        .with_prefix(name)
        .with_message(unit);
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

fn line(text: &str) {
    // Progress that nobody can read is no reason to end a run.
    let _ = writeln!(io::stderr().lock(), "{text}");
}

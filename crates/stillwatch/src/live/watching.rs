//! The watch on a thread of its own, in step with the crowd: while it looks, event time
//! stands still. A day takes seconds here, and what a look takes would otherwise be hours.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use stillwatch_exchange::Time;
use stillwatch_hunt::{Hunted, Progress, Stage};
use stillwatch_watch::{Host, Inputs, WatchError, WatchSettings, Watched, watch};

use crate::commands::watch::write_findings;
use crate::failure::Failure;
use crate::stop::Stop;

/// How soon a wish to stop is heard.
const PATIENCE: Duration = Duration::from_millis(100);

/// What a look found.
#[derive(Debug, Default)]
pub struct Look {
    pub until: Option<Time>,
    /// The accounts of each campaign.
    pub campaigns: Vec<Vec<String>>,
}

/// Where the two are.
#[derive(Default)]
struct Steps {
    /// How often there was something new to read.
    wanted: u64,
    /// How much of that is being read.
    taken: u64,
    /// How much of that has been read and looked at.
    done: u64,
    is_over: bool,
    looks: Vec<Look>,
    notes: Vec<String>,
}

#[derive(Default)]
struct Shared {
    steps: Mutex<Steps>,
    changed: Condvar,
}

impl Shared {
    fn locked(&self) -> MutexGuard<'_, Steps> {
        self.steps.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A watch that runs.
pub struct Watching {
    shared: Arc<Shared>,
    thread: JoinHandle<Result<Watched, WatchError>>,
}

impl Watching {
    pub fn begin(settings: WatchSettings, stop: &Stop) -> Result<Self, Failure> {
        let shared = Arc::<Shared>::default();
        let host = Waiting {
            shared: Arc::clone(&shared),
            stop: stop.clone(),
            out: settings.hunt.out.clone(),
        };
        let progress = Arc::new(Quiet(stop.clone()));
        let thread = std::thread::Builder::new()
            .name("watch".to_owned())
            .spawn(move || watch(&settings, Inputs::default(), &host, progress))
            .map_err(|error| Failure::Other(format!("cannot start a thread: {error}")))?;
        Ok(Watching { shared, thread })
    }

    /// Waits until the watch has read what is there by now, and gives the looks that it
    /// took. A watch that has ended gives none; why, its end says.
    pub fn catch_up(&self) -> Vec<Look> {
        let mut steps = self.shared.locked();
        steps.wanted += 1;
        self.shared.changed.notify_all();
        while steps.done < steps.wanted && !self.thread.is_finished() {
            let waited = self.shared.changed.wait_timeout(steps, PATIENCE);
            steps = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        std::mem::take(&mut steps.looks)
    }

    /// Whether the watch has ended before it was told to.
    pub fn has_ended(&self) -> bool {
        self.thread.is_finished()
    }

    /// Ends the watch; what it said on its way.
    pub fn end(self) -> Result<Vec<String>, Failure> {
        self.shared.locked().is_over = true;
        self.shared.changed.notify_all();
        let ended = self.thread.join();
        let ended =
            ended.map_err(|_| Failure::Other("the watch ended without a word".to_owned()))?;
        ended?;
        Ok(std::mem::take(&mut self.shared.locked().notes))
    }
}

/// Who runs the watch.
struct Waiting {
    shared: Arc<Shared>,
    stop: Stop,
    out: PathBuf,
}

impl Host for Waiting {
    fn wait(&self) -> bool {
        let mut steps = self.shared.locked();
        steps.done = steps.taken;
        self.shared.changed.notify_all();
        loop {
            if steps.is_over || self.stop.is_asked() {
                return false;
            }
            if steps.taken < steps.wanted {
                steps.taken = steps.wanted;
                return true;
            }
            let waited = self.shared.changed.wait_timeout(steps, PATIENCE);
            steps = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn is_stopped(&self) -> bool {
        self.stop.is_asked()
    }

    fn found(&self, hunted: Hunted) -> Result<(), String> {
        write_findings(&hunted, &self.out)?;
        let until = hunted.run.settings["period"]["to"].as_str();
        let mut campaigns: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for member in &hunted.members {
            campaigns.entry(&member.campaign_id).or_default().push(member.account_id.clone());
        }
        self.shared.locked().looks.push(Look {
            until: until.and_then(|text| Time::parse(text).ok()),
            campaigns: campaigns.into_values().collect(),
        });
        Ok(())
    }

    fn counted(&self, _: u64) {}

    fn say(&self, what: &str) {
        self.shared.locked().notes.push(what.to_owned());
    }
}

/// A look's stages are too short here to be shown.
struct Quiet(Stop);

impl Progress for Quiet {
    fn begin(&self, _: Stage, _: Option<u64>, _: &'static str) {}

    fn at(&self, _: Stage, _: u64) {}

    fn end(&self, _: Stage) {}

    fn is_stopped(&self) -> bool {
        self.0.is_asked()
    }
}

//! Window: what was counted of the four epochs before a moment, and the hunt in it.

use std::collections::BTreeMap;
use std::sync::Arc;

use stillwatch_detect::observe::Observer;
use stillwatch_exchange::{Release, Time};
use stillwatch_hunt::{Counted, HuntError, Hunted, KeptAccounts, Period, Progress, look};
use stillwatch_ingest::read_releases;

use crate::clock::Clock;
use crate::settings::{WatchError, WatchSettings};
use crate::store::Store;

/// The releases that exchanges are counted around.
#[derive(Clone, Debug, Default)]
pub(crate) struct Releases {
    pub all: Vec<Release>,
    /// When, and the model's hash.
    pub times: Vec<(Time, u64)>,
    /// What of the table could not be read.
    pub problems: Vec<String>,
}

impl Releases {
    /// # Errors
    /// They can't be read.
    pub fn read(settings: &WatchSettings) -> Result<Self, WatchError> {
        let hunt = &settings.hunt;
        let (all, problems) = match &hunt.releases {
            Some(path) => {
                let read = read_releases(std::slice::from_ref(path), &hunt.read);
                read.map_err(|e| WatchError::Usage(e.to_string()))?
            }
            None => Default::default(),
        };
        let refused = problems.refused.named().into_iter();
        let refused = refused.map(|(reason, count)| format!("{reason} {count}"));
        let problems = problems.files.iter().map(ToString::to_string).chain(refused).collect();
        let observer = Observer::new(hunt.key);
        let times = all.iter().map(|r| (r.released_at, observer.model(&r.model))).collect();
        Ok(Releases { all, times, problems })
    }
}

/// What is known of the exchanges of a window beside their accounts' pieces.
pub(crate) struct Known {
    /// Exchanges by hour since the Unix epoch, in order.
    pub hours: Vec<(i64, u64)>,
    pub refused: BTreeMap<String, u64>,
    pub problems: Vec<String>,
}

/// What a look is taken with.
pub(crate) struct Look<'a> {
    pub store: &'a Store,
    pub settings: &'a WatchSettings,
    pub releases: &'a Releases,
    pub accounts: &'a KeptAccounts,
    pub workers: &'a rayon::ThreadPool,
    pub progress: &'a Arc<dyn Progress>,
}

impl Look<'_> {
    /// Hunts in the window before `next`. `files` says which files hold exchanges from a time
    /// on, where all are in files.
    pub fn hunt(
        &self,
        clock: &Clock,
        next: i64,
        known: Known,
        files: impl FnOnce(Time) -> Option<Vec<String>>,
    ) -> Result<Window, WatchError> {
        let Look { store, settings, releases, accounts, workers, progress } = self;
        let grid = settings.pace.grid;
        let last = clock.epoch(next - 1);
        let to = clock.start(next);
        let calendar = grid.calendar(last, &releases.times).known_until(to);
        let members = workers.install(|| store.members(last, &calendar))?;
        if members.is_empty() {
            return Ok(Window::Empty);
        }
        let from = calendar.epoch_start(0);
        let counted = Counted {
            members,
            calendar,
            releases: releases.all.clone(),
            exchanges: known.hours.iter().map(|h| h.1).sum(),
            hours: known.hours,
            refused: known.refused,
            file_problems: known.problems,
            files: files(from),
        };
        let mut hunt = settings.hunt.clone();
        hunt.period = Some(Period { from, to, end: grid.start(last + 1) });
        match look(counted, accounts, &hunt, progress) {
            Ok(hunted) => Ok(Window::Hunted(Box::new(hunted))),
            // The state is as it was, and the look is taken when the watch goes on.
            Err(HuntError::Stopped) => Ok(Window::Stopped),
            Err(error) => Err(error.into()),
        }
    }
}

/// What came of a look.
pub(crate) enum Window {
    /// There is no account in it.
    Empty,
    /// The hunt was stopped.
    Stopped,
    Hunted(Box<Hunted>),
}

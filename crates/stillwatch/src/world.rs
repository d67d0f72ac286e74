//! Makes a world in a folder of its own: beside an earlier one until it is whole. And what
//! hunts there.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;

use stillwatch_detect::observe::Key;
use stillwatch_detect::without::Without;
use stillwatch_hunt::HuntSettings;
use stillwatch_simulate::{Prompts, Summary, WorldSettings, write_world};

use crate::commands::hunt::LEVEL;
use crate::failure::Failure;
use crate::out_folder::{OutFolder, Unfinished};
use crate::session::Session;

/// What tells a world's folder from any other.
pub const WORLD_FILE: &str = "world.json";
/// How soon a wish to stop is heard.
const PATIENCE: Duration = Duration::from_millis(50);
/// Accounts are one for so many exchanges, where their number is not given.
const EXCHANGES_PER_ACCOUNT: u64 = 80;

/// Accounts for a world of so many exchanges, where their number is not given.
pub fn accounts_for(exchanges: u64) -> u64 {
    (exchanges / EXCHANGES_PER_ACCOUNT).max(1)
}

/// The prompts in some files; the built-in grammar where there are none.
pub fn prompts(paths: &[PathBuf]) -> Result<Arc<Prompts>, Failure> {
    if paths.is_empty() {
        return Ok(Arc::new(Prompts::built_in()));
    }
    Prompts::load(paths).map(Arc::new).map_err(|error| Failure::Usage(error.to_string()))
}

/// Makes a world in `out`, which must be new, empty, or an earlier world; an earlier
/// one stays as it is until the new one is whole.
pub fn make(
    settings: WorldSettings,
    prompts: Arc<Prompts>,
    out: &Path,
    threads: usize,
    session: &Session,
) -> Result<Summary, Failure> {
    refuse_foreign(out)?;
    let folder = OutFolder::prepare(out)?;
    let unfinished = Unfinished::begin(out)?;

    session.stages.begin("simulate", Some(settings.exchanges), "exchanges");
    let written = write(settings, prompts, unfinished.path().to_owned(), threads, session);
    session.stages.end("simulate");
    let summary = written?;
    unfinished.put_in_place(WORLD_FILE)?;
    folder.keep();
    Ok(summary)
}

/// A hunt in the world in a folder, as one is asked for without further wishes.
pub fn to_hunt(world: &Path, out: PathBuf, threads: usize, session: &Session) -> HuntSettings {
    let below = |name: &str| world.join(name).display().to_string();
    HuntSettings {
        exchanges: vec![below("exchanges")],
        accounts: vec![below("accounts.parquet")],
        releases: Some(below("releases.parquet")),
        period: None,
        references: None,
        read: session.read_options(None, &[]),
        key: Key::public(),
        level: LEVEL,
        without: Without::NOTHING,
        quote: false,
        threads,
        out,
    }
}

/// Only an earlier world is ever replaced.
fn refuse_foreign(out: &Path) -> Result<(), Failure> {
    let Ok(mut entries) = fs::read_dir(out) else { return Ok(()) };
    let is_ours = out.join(WORLD_FILE).is_file()
        || entries.all(|entry| entry.is_ok_and(|entry| Unfinished::is_named(&entry.file_name())));
    if is_ours {
        return Ok(());
    }
    Err(Failure::Usage(format!(
        "{} holds something else than a world; give a new folder, or an earlier world to replace",
        out.display()
    )))
}

/// Writes on a thread of its own, so that a wish to stop is heard at once.
fn write(
    settings: WorldSettings,
    prompts: Arc<Prompts>,
    out: PathBuf,
    threads: usize,
    session: &Session,
) -> Result<Summary, Failure> {
    let (sender, receiver) = sync_channel(1);
    let stages = Arc::clone(&session.stages);
    std::thread::spawn(move || {
        let progress = |done, _| stages.at("simulate", done);
        // Nobody listens any more once the run was stopped.
        let _ = sender.send(write_world(&settings, prompts, &out, threads, &progress));
    });
    loop {
        session.stop.check()?;
        match receiver.recv_timeout(PATIENCE) {
            Ok(written) => return Ok(written?),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                return Err(Failure::Other("the simulation ended without a word".to_owned()));
            }
        }
    }
}

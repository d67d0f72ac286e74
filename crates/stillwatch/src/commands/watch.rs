use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use stillwatch_broker::{Address, Bundle, Publisher};
use stillwatch_exchange::time::DAY_US;
use stillwatch_hunt::{Hunted, Progress, Stage};
use stillwatch_watch::{
    Host, Inputs, Pace, Share, ShareNumber, Stream, WatchError, WatchSettings, Watched, watch,
};

use super::hunt::Input;
use crate::broker::{Nats, address};
use crate::failure::Failure;
use crate::out_folder::OutFolder;
use crate::receiver::{ReceiveKey, Receiver};
use crate::session::Session;
use crate::summary::counted;
use crate::tell::{Tell, Teller};
use crate::{duration, memory, output};

/// Hunts in exchanges as they come
///
/// PATH is a file that grows, a folder into which files arrive, or a pattern; `-` is
/// standard input, nats://HOST:PORT/STREAM what guards publish, and `otlp-grpc://ADDR` or
/// `otlp-http://ADDR` (such as otlp-grpc://127.0.0.1:4317) where OpenTelemetry is
/// received. Formats are those of `hunt`. Text of lines is followed line by line;
/// Parquet, compressed files and JSON documents are read once, when they have arrived
/// whole: write them under a name that begins with a dot and rename them.
///
/// Event time alone counts, in a window of four epochs. When the exchanges show that an
/// epoch is over (or a part of one, with --look-every), the findings of the window replace
/// those in DIR, in the same files as a hunt's; `guard --verdicts DIR` follows them.
///
/// Several processes count one stream of NATS together with --share: each its part of the
/// accounts, with a --state of its own.
///
/// What has been counted is kept below --state together with how far each source has been
/// read. A watch that was killed at any moment goes on there, and counts nothing twice.
#[derive(Debug, Args)]
pub struct Watch {
    #[command(flatten)]
    input: Input,

    /// Where the findings go. Of several --share, the first has them.
    #[arg(long, value_name = "DIR", required_unless_present = "share")]
    out: Option<PathBuf>,

    /// Folder for what has been counted; one for each watch.
    #[arg(long, value_name = "DIR", default_value = "./stillwatch-watch")]
    state: PathBuf,

    /// Where each look's findings are published as well: a bucket that guards follow,
    /// nats://HOST:PORT/BUCKET.
    #[arg(long, value_name = "URL")]
    publish: Option<String>,

    /// Count one of N shares of a stream of NATS, beside N - 1 other processes; the first
    /// share takes the looks.
    #[arg(long, value_name = "K/N", requires = "through")]
    share: Option<ShareNumber>,

    /// The stream through which shares speak with each other, the same for all of them;
    /// nats://HOST:PORT/STREAM, which is made where there is none.
    #[arg(long, value_name = "URL", requires = "share")]
    through: Option<String>,

    #[command(flatten)]
    nats: Nats,

    /// Length of an epoch; the window has four.
    #[arg(long, value_name = "LENGTH", default_value = "7d", value_parser = duration::parse)]
    epoch: i64,

    /// Time between looks; goes into an epoch without a rest [default: one day,
    /// or one epoch where that is no number of days]
    #[arg(long, value_name = "LENGTH", value_parser = duration::parse)]
    look_every: Option<i64>,

    /// How much later than others an exchange may come and still be in the first look that
    /// it could be in [default: an eighth of the time between looks, at most 1h]
    #[arg(long, value_name = "LENGTH", value_parser = duration::parse)]
    lateness: Option<i64>,

    /// Accounts of an epoch that are kept; of more, a fair sample of so many.
    #[arg(long, value_name = "N", default_value_t = 4_000_000, value_parser = clap::value_parser!(u64).range(1_000..))]
    accounts_max: u64,

    /// End when all that is there has been read, with a last look.
    #[arg(long)]
    once: bool,

    #[command(flatten)]
    receive_key: ReceiveKey,

    #[command(flatten)]
    tell: Tell,

    /// Show excerpts of harvested prompts in the report.
    #[arg(long)]
    quote: bool,
}

/// Time between looks for what is new.
const POLL: Duration = Duration::from_millis(500);
/// How long the last findings may take to be published at the end.
const PUBLISH: Duration = Duration::from_secs(10);
/// Parts in which that time passes, so that a wish to stop is heard.
const POLL_PARTS: u32 = 10;

impl Watch {
    /// Which share of a stream this is, where it is one.
    fn share(&self) -> Result<Option<Share>, Failure> {
        let Some(number) = self.share else { return Ok(None) };
        let Some(through) = &self.through else { return Ok(None) };
        let has_looks = self.out.is_some() || self.publish.is_some() || self.tell.is_asked();
        if number.number > 1 && has_looks {
            return Err(Failure::Usage(format!(
                "--share {number} takes no looks: --out, --publish, --ocsf and --webhook are for \
                 --share 1/{}",
                number.of
            )));
        }
        if number.number == 1 && self.out.is_none() {
            return Err(Failure::Usage(format!(
                "--share {number} takes the looks and needs --out"
            )));
        }
        Ok(Some(Share { number, through: address("--through", through)? }))
    }
}

/// Watches until there is nothing more or it is told to end.
pub fn run(args: &Watch, session: &Session) -> Result<(), Failure> {
    let share = args.share()?;
    // A share that takes no looks writes nothing there.
    let folder = args.out.clone().unwrap_or_default();
    let mut hunt = args.input.settings(session, folder.clone(), args.quote)?;
    let has_input = hunt.exchanges.iter().any(|path| path == "-");
    hunt.exchanges.retain(|path| path != "-");
    let receiver = Receiver::asked(&mut hunt, &args.receive_key)?;
    let (streams, paths): (Vec<String>, _) =
        hunt.exchanges.into_iter().partition(|path| Address::is_one(path));
    hunt.exchanges = paths;
    let streams =
        streams.iter().map(|url| address("--exchanges", url)).collect::<Result<_, _>>()?;
    let settings = WatchSettings {
        hunt,
        state: args.state.clone(),
        pace: Pace::new(
            args.epoch,
            args.look_every.unwrap_or_else(|| look_every(args.epoch)),
            args.lateness,
        )?,
        accounts_max: args.accounts_max,
        streams,
        access: args.nats.access(),
        share,
        once: args.once,
    };
    let out = args.out.as_deref().map(OutFolder::prepare).transpose()?;
    let publish = args.publish.as_deref().map(|url| address("--publish", url)).transpose()?;
    let publisher = publish.map(|address| {
        let runtime = session.runtime().clone();
        Publisher::begin(runtime, &address, &args.nats.access(), output::note)
    });
    let publisher = publisher.transpose()?;
    if let Some(publisher) = &publisher {
        // What a run that was killed has found and not published.
        findings(&folder).into_iter().for_each(|bundle| publisher.put(bundle));
    }
    let (receiver, deliveries) = receiver.map(Receiver::start).transpose()?.unzip();
    let stream = has_input.then(|| Box::new(std::io::stdin()) as Stream);
    let teller = args.tell.begin(&args.state, session)?;
    let inputs = Inputs { stream, deliveries };
    let host = Terminal { session, out: &folder, teller: &teller, publisher: publisher.as_ref() };
    let progress: Arc<dyn Progress> = Arc::clone(&session.stages) as _;
    session.stages.begin(WATCH, None, "exchanges");
    let began = Instant::now();
    let watched = watch(&settings, inputs, &host, progress)?;
    session.stages.end(WATCH);
    teller.end(session);
    if let Some(receiver) = receiver {
        receiver.stop();
    }
    if let Some(out) = out
        && watched.looks > 0
    {
        out.keep();
    }
    if let Some(publisher) = publisher {
        let finished = publisher.finish(PUBLISH);
        match finished {
            // The next run publishes what the folder holds.
            Err(error) if session.stop.is_asked() => {
                output::note(&format!("findings are not published: {error}"));
            }
            finished => finished?,
        }
    }
    output::print(&summary(&watched, began.elapsed(), &folder))
}

/// The time between looks where none is asked for. In docs/watch.md is what it is worth to
/// look before an epoch is over.
fn look_every(epoch_us: i64) -> i64 {
    if epoch_us % DAY_US == 0 && epoch_us <= 60 * DAY_US { DAY_US } else { epoch_us }
}

/// The stage that a watch is in.
const WATCH: &str = "watch";

struct Terminal<'a> {
    session: &'a Session,
    out: &'a Path,
    teller: &'a Teller,
    publisher: Option<&'a Publisher>,
}

/// The findings in a folder, as guards need them.
fn findings(folder: &Path) -> Option<Bundle> {
    let file = |name: &str| Some((name.to_owned(), std::fs::read(folder.join(name)).ok()?.into()));
    Some(Bundle(vec![file("campaigns.json")?, file("members.parquet")?]))
}

impl Host for Terminal<'_> {
    fn wait(&self) -> bool {
        for _ in 0..POLL_PARTS {
            if self.session.stop.is_asked() {
                return false;
            }
            std::thread::sleep(POLL / POLL_PARTS);
        }
        true
    }

    fn is_stopped(&self) -> bool {
        self.session.stop.is_asked()
    }

    fn found(&self, mut hunted: Hunted) -> Result<(), String> {
        self.session.stages.begin(Stage::Write.name(), None, "files");
        hunted.run.wall_seconds = self.session.stages.seconds();
        hunted.run.peak_memory_bytes = memory::peak_bytes();
        write_findings(&hunted, self.out)?;
        if let Some(publisher) = self.publisher {
            let bundle = findings(self.out).ok_or("the findings can't be read again")?;
            publisher.put(bundle);
        }
        self.teller.look(&hunted)?;
        self.session.stages.end(Stage::Write.name());
        let until = hunted.run.settings["period"]["to"].as_str().unwrap_or_default().to_owned();
        let campaigns = counted(hunted.campaigns.len() as u64, "campaign");
        let accounts = counted(hunted.members.len() as u64, "account");
        output::print(&format!("{until}  {campaigns} of {accounts}\n")).map_err(|e| e.to_string())
    }

    fn counted(&self, exchanges: u64) {
        self.session.stages.at(WATCH, exchanges);
    }

    fn say(&self, what: &str) {
        output::note(what);
    }
}

/// Writes the findings of a look and their report where they are followed.
pub fn write_findings(hunted: &Hunted, out: &Path) -> Result<(), String> {
    let report = stillwatch_report::render(&hunted.picture).map_err(|e| e.to_string())?;
    stillwatch_hunt::write_findings(hunted, &report, out).map_err(|e| e.to_string())
}

fn summary(watched: &Watched, took: Duration, out: &Path) -> String {
    let counts = &watched.counts;
    let mut text = format!(
        "Counted {} in all, {} taken in {:.1} s.\n",
        counted(counts.exchanges, "exchange"),
        counted(watched.looks, "look"),
        took.as_secs_f64()
    );
    let refused: u64 = counts.refused.values().sum();
    for (count, what) in [
        (counts.late, "came after the look that they would have been in; later looks have them"),
        (counts.before_window, "lie before the window, and no look has them"),
        (counts.ahead, "lie further ahead than can be kept"),
        (counts.accounts_full, "are of accounts beyond --accounts-max"),
        (refused, "rows or cells could not be read"),
    ] {
        if count > 0 {
            text.push_str(&format!("{count:>9}  {what}\n"));
        }
    }
    if watched.looks > 0 {
        text.push_str(&format!("Findings {}\n", out.join("campaigns.json").display()));
    }
    text
}

impl From<WatchError> for Failure {
    fn from(error: WatchError) -> Self {
        match error {
            WatchError::Usage(text) => Failure::Usage(text),
            WatchError::Hunt(error) => error.into(),
            other => Failure::Other(other.to_string()),
        }
    }
}

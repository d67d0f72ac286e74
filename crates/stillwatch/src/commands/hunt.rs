use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use stillwatch_announce::try_ocsf;
use stillwatch_detect::calendar::EPOCHS;
use stillwatch_detect::without::Without;
use stillwatch_exchange::Time;
use stillwatch_hunt::{HuntSettings, Hunted, Period, Progress, Stage};
use stillwatch_ingest::Format;

use crate::duration;
use crate::failure::Failure;
use crate::key::KeyFile;
use crate::out_folder::OutFolder;
use crate::session::{Session, threads};
use crate::{memory, output, summary, tell};

/// Finds the distillation campaigns in the logs of a model API
///
/// PATH is a file, a folder, a glob pattern or an object-store URL (s3://, gs://, az://,
/// https://; credentials from the environment). Formats are recognised by content:
/// Parquet and JSON Lines with Stillwatch's columns, OpenTelemetry (OTLP JSON), LiteLLM,
/// Bedrock invocation logs, request/response pairs of OpenAI and Anthropic APIs; plain,
/// gzip or zstd. Rows that can't be read are counted, files that can't be read are
/// named, and the hunt goes on; but not without accounts or releases that were asked for.
///
/// Writes campaigns.json, members.parquet, harvest.parquet, report.html, run.json and
/// groups.jsonl (for `stillwatch clear`) into DIR, replacing the findings of an earlier hunt only once all are complete.
#[derive(Debug, Args)]
pub struct Hunt {
    #[command(flatten)]
    input: Input,

    #[command(flatten)]
    asked: AskedPeriod,

    /// Where the findings go.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,

    /// A file for an OCSF detection finding, one line of JSON, for each campaign.
    #[arg(long, value_name = "FILE")]
    ocsf: Option<PathBuf>,

    /// Show excerpts of harvested prompts in the report.
    #[arg(long)]
    quote: bool,
}

/// The period to hunt in. Without one it is that of the exchanges.
#[derive(Debug, Args)]
struct AskedPeriod {
    /// The period's beginning, such as 2026-03-02T00:00:00Z.
    #[arg(long, value_name = "TIME", requires = "to", value_parser = time)]
    from: Option<Time>,

    /// The period's end; exchanges from then on are passed over.
    #[arg(long, value_name = "TIME", requires = "from", value_parser = time)]
    to: Option<Time>,

    /// An epoch, of which a period has four, such as 7d: where the last one is not over by
    /// --to [default: a quarter of the period]
    #[arg(long, value_name = "LENGTH", requires = "from", value_parser = duration::parse)]
    epoch: Option<i64>,
}

impl AskedPeriod {
    fn period(&self) -> Result<Option<Period>, Failure> {
        let (Some(from), Some(to)) = (self.from, self.to) else { return Ok(None) };
        let end = match self.epoch {
            Some(epoch_us) => Time(from.0.saturating_add(epoch_us.saturating_mul(EPOCHS as i64))),
            None => to,
        };
        if to <= from || to > end {
            return Err(Failure::Usage(format!(
                "--to {to} must lie after --from {from}, by at most four times --epoch"
            )));
        }
        Ok(Some(Period { from, to, end }))
    }
}

fn time(text: &str) -> Result<Time, String> {
    match Time::parse(text) {
        Ok(time) if time.is_plausible() => Ok(time),
        Ok(_) => Err("must lie between the years 2000 and 2099".to_owned()),
        Err(_) => Err("no time like 2026-03-02T00:00:00Z".to_owned()),
    }
}

/// What is hunted in, and how.
#[derive(Debug, Args)]
pub struct Input {
    /// The exchanges to hunt in.
    #[arg(long, value_name = "PATH", required = true, num_args = 1..)]
    exchanges: Vec<String>,

    /// What is known of the accounts: when they were made, how they pay.
    #[arg(long, value_name = "PATH", num_args = 1..)]
    accounts: Vec<String>,

    /// When models were released.
    #[arg(long, value_name = "PATH")]
    releases: Option<String>,

    /// Groups and things that are known to be innocent; see `stillwatch clear`.
    #[arg(long, value_name = "FILE")]
    references: Option<PathBuf>,

    /// The format of the exchanges, where it should not be recognised.
    #[arg(long, value_name = "FORMAT", help = format_help())]
    format: Option<Format>,

    /// An OpenTelemetry attribute that names the account, before the usual ones.
    #[arg(long, value_name = "NAME", num_args = 1..)]
    account_attribute: Vec<String>,

    #[command(flatten)]
    key: KeyFile,

    /// Share of the reported campaigns that may be false alarms, between 0 and 1.
    #[arg(long, value_name = "SHARE", default_value_t = LEVEL, value_parser = level)]
    level: f64,

    /// Threads to work with; one for each processor by default.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: Option<u16>,
}

impl Input {
    /// The settings of a hunt that writes into `out`.
    pub fn settings(
        &self,
        session: &Session,
        out: PathBuf,
        quote: bool,
    ) -> Result<HuntSettings, Failure> {
        Ok(HuntSettings {
            exchanges: self.exchanges.clone(),
            accounts: self.accounts.clone(),
            releases: self.releases.clone(),
            period: None,
            references: self.references.clone(),
            read: session.read_options(self.format, &self.account_attribute),
            key: self.key.read()?,
            level: self.level,
            without: Without::NOTHING,
            quote,
            threads: threads(self.threads),
            out,
        })
    }
}

/// The false-discovery level where none is asked for.
pub const LEVEL: f64 = 0.05;

fn level(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(level) if level > 0.0 && level < 1.0 => Ok(level),
        Ok(_) => Err("must lie between 0 and 1, both excluded".to_owned()),
        Err(_) => Err("not a number".to_owned()),
    }
}

/// The formats, for `--help`.
pub fn format_help() -> String {
    let names: Vec<&str> = Format::ALL.iter().map(|format| format.name()).collect();
    format!("The format of the exchanges, where it should not be recognised: {}", names.join(", "))
}

/// Hunts, writes the findings and prints what was found.
pub fn run(args: &Hunt, session: &Session) -> Result<(), Failure> {
    let mut settings = args.input.settings(session, args.out.clone(), args.quote)?;
    settings.period = args.asked.period()?;
    let out = OutFolder::prepare(&settings.out)?;
    if let Some(path) = &args.ocsf {
        try_ocsf(path)?;
    }
    let hunted = hunt_into(out, &settings, session)?;
    if let Some(path) = &args.ocsf {
        tell::write_ocsf(path, &hunted)?;
    }
    print_summary(&hunted, &settings.out)
}

/// Hunts and writes the findings into `settings.out`.
pub fn hunt(settings: &HuntSettings, session: &Session) -> Result<Hunted, Failure> {
    hunt_into(OutFolder::prepare(&settings.out)?, settings, session)
}

fn hunt_into(
    out: OutFolder,
    settings: &HuntSettings,
    session: &Session,
) -> Result<Hunted, Failure> {
    let progress: Arc<dyn Progress> = Arc::clone(&session.stages) as _;
    let mut hunted = stillwatch_hunt::hunt(settings, progress)?;
    session.stop.check()?;

    session.stages.begin(Stage::Write.name(), None, "files");
    let report = stillwatch_report::render(&hunted.picture)?;
    hunted.run.wall_seconds = session.stages.seconds();
    hunted.run.peak_memory_bytes = memory::peak_bytes();
    stillwatch_hunt::write_findings(&hunted, &report, &settings.out)?;
    session.stages.end(Stage::Write.name());
    out.keep();
    Ok(hunted)
}

/// Prints what a hunt found.
pub fn print_summary(hunted: &Hunted, out: &Path) -> Result<(), Failure> {
    output::print(&summary::render(hunted, out, output::columns(), output::has_colours()))
}

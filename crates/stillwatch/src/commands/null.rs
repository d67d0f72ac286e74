use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use stillwatch_hunt::{NullSettings, Placebo, Progress};

use super::hunt::Input;
use crate::failure::Failure;
use crate::out_folder::OutFolder;
use crate::output;
use crate::session::Session;

/// Counts what a hunt reports where there is nothing to report
///
/// Null days: what accounts did after they were linked is shuffled between accounts that
/// are linked in the same ways, and everything is run. Placebo bans: other accounts are
/// closed than were. Placebo releases: at other times than they were. What is reported
/// then is reported falsely; the counts are printed beside what the level promises, and
/// written to DIR/null.json.
#[derive(Debug, Args)]
pub struct Null {
    #[command(flatten)]
    input: Input,

    /// Null days to run, and as many placebo bans.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    days: u32,

    /// Names the shuffles.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,

    /// Where null.json goes.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

/// Runs the null days and placebos, writes and prints the counts.
pub fn run(args: &Null, session: &Session) -> Result<(), Failure> {
    let out = OutFolder::prepare(&args.out)?;
    let settings = NullSettings {
        hunt: args.input.settings(session, args.out.clone(), false)?,
        days: args.days,
        seed: args.seed,
    };
    let progress: Arc<dyn Progress> = Arc::clone(&session.stages) as _;
    let record = stillwatch_hunt::null(&settings, progress)?;
    session.stop.check()?;
    let path = args.out.join("null.json");
    let json = serde_json::to_string_pretty(&record)
        .map_err(|error| Failure::Other(format!("cannot write null.json: {error}")))?;
    fs::write(&path, json + "\n").map_err(Failure::at("write", &path))?;
    out.keep();

    let interval = |(low, high): (f64, f64)| format!("95 % interval {low:.2} to {high:.2}");
    let placebo = |what: &str, placebo: &Placebo| {
        format!(
            "{:<18}{} false reports in {} runs ({})\n",
            what,
            placebo.reported,
            placebo.runs,
            interval(placebo.interval_95)
        )
    };
    let mut text = format!(
        "null days         {} false reports in {} days ({}), {} of them with a promise; promised at most {:.2}\n",
        record.reported,
        record.days,
        interval(record.interval_95),
        record.reported_with_promise,
        record.promised,
    );
    text += &placebo("placebo bans", &record.placebo_bans);
    match &record.placebo_releases {
        Some(releases) => text += &placebo("placebo releases", releases),
        None => text += "placebo releases  none: no release is known (--releases)\n",
    }
    output::print(&text)
}

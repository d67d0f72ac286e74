use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::Args;
use indicatif::{HumanBytes, HumanCount};
use stillwatch_simulate::{Summary, WorldSettings, settings_reference};

use crate::failure::Failure;
use crate::session::{Session, threads};
use crate::summary::counted;
use crate::{output, world};

/// Makes a world with known campaigns: logs to hunt in, and the truth beside them
///
/// Writes the tables exchanges/, accounts.parquet and releases.parquet into DIR, and for
/// scoring only, never read by a hunt, truth_accounts.parquet, truth_exchanges.parquet
/// and world.json. The same seed and settings give the same bytes.
#[derive(Debug, Args)]
pub struct Simulate {
    /// Where the world goes: a new folder, or an earlier world to replace.
    #[arg(long, value_name = "DIR", required_unless_present = "settings")]
    out: Option<PathBuf>,

    /// Names everything that is left to chance.
    #[arg(long, value_name = "N", required_unless_present = "settings")]
    seed: Option<u64>,

    /// Exchanges in the world, about [default: 1000000]
    #[arg(long, value_name = "N")]
    exchanges: Option<u64>,

    /// Accounts in the world [default: one for every 80 exchanges]
    #[arg(long, value_name = "N")]
    accounts: Option<u64>,

    /// Days that the world lasts [default: 28]
    #[arg(long, value_name = "N")]
    days: Option<u32>,

    /// Campaigns in it: all, none, held_out, or names with commas between them [default: all]
    #[arg(long, value_name = "NAME,…")]
    campaigns: Option<String>,

    /// JSON Lines files with prompts, or folders of them; a built-in grammar otherwise.
    #[arg(long, value_name = "PATH", num_args = 1..)]
    prompts: Vec<PathBuf>,

    /// Any other setting, such as crowd.classes.group_size=40.
    #[arg(long, value_name = "KEY=VALUE", num_args = 1..)]
    set: Vec<String>,

    /// List all settings with their defaults and meanings, and make no world.
    #[arg(long)]
    settings: bool,

    /// Threads to work with; one for each processor by default. They change no byte.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: Option<u16>,
}

/// Makes a world, or lists the settings.
pub fn run(args: &Simulate, session: &Session) -> Result<(), Failure> {
    let (Some(out), Some(seed), false) = (&args.out, args.seed, args.settings) else {
        return output::print(&settings_reference());
    };
    let mut settings = WorldSettings { seed, ..WorldSettings::default() };
    if let Some(exchanges) = args.exchanges {
        settings.exchanges = exchanges;
        settings.accounts = world::accounts_for(exchanges);
    }
    settings.accounts = args.accounts.unwrap_or(settings.accounts);
    settings.days = args.days.unwrap_or(settings.days);
    if let Some(campaigns) = &args.campaigns {
        settings.campaigns.clone_from(campaigns);
    }
    for assignment in &args.set {
        settings.set(assignment)?;
    }
    settings.check()?;
    let prompts = world::prompts(&args.prompts)?;
    let summary = world::make(settings, prompts, out, threads(args.threads), session)?;
    output::print(&describe(&summary, out))
}

/// What was made, for people.
pub fn describe(summary: &Summary, out: &Path) -> String {
    let mut text = format!(
        "A world of {} by {} in {}, {}: {}\n",
        counted(summary.exchanges, "exchange"),
        counted(summary.accounts, "account"),
        counted(summary.files, "file"),
        HumanBytes(summary.bytes),
        out.display(),
    );
    for campaign in &summary.campaigns {
        // Writing to a String can't fail.
        let _ = writeln!(
            text,
            "  {:<18} {:>7} accounts {:>12} harvested exchanges",
            campaign.name,
            HumanCount(campaign.accounts).to_string(),
            HumanCount(campaign.harvested_exchanges).to_string(),
        );
    }
    text
}

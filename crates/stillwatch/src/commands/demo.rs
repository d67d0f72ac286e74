use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use stillwatch_hunt::HuntSettings;
use stillwatch_simulate::WorldSettings;

use super::{hunt, score, simulate};
use crate::failure::Failure;
use crate::out_folder::OutFolder;
use crate::session::{Session, threads};
use crate::{live, output, world};

/// What tells a demonstration's folder from any other.
const MARK: &str = ".stillwatch-demo";

/// Makes a world, hunts in it, and holds what was found against the truth
///
/// With --live: plays a crowd and two campaigns through a guard before a stand-in for a
/// model, with a watch behind it, all in this process and on loopback alone. Four weeks of
/// event time pass in minutes; the terminal shows how verdicts arrive, what the campaigns
/// still get, and whether the crowd notices.
#[derive(Debug, Args)]
pub struct Demo {
    /// Where the world and the findings go: a new folder, or an earlier demonstration
    /// to replace.
    #[arg(long, value_name = "DIR", default_value = "stillwatch-demo")]
    out: PathBuf,

    /// Exchanges in the world, about [default: 1000000, with --live 240000]
    #[arg(long, value_name = "N")]
    exchanges: Option<u64>,

    /// Names everything that is left to chance in the world.
    #[arg(long, value_name = "N", default_value_t = 7)]
    seed: u64,

    /// Threads to work with; one for each processor by default.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: Option<u16>,

    /// Answer campaigns while they happen, instead of hunting for them afterwards.
    #[arg(long)]
    live: bool,
}

/// Exchanges of a world that is hunted in, where nothing else is asked for.
const EXCHANGES: u64 = 1_000_000;

/// Simulates, hunts, scores.
pub fn run(args: &Demo, session: &Session) -> Result<(), Failure> {
    if args.live {
        let exchanges = args.exchanges.unwrap_or(live::EXCHANGES);
        let settings = live::world(args.seed, exchanges, world::accounts_for(exchanges))?;
        let folder = claim(&args.out)?;
        let prompts = world::prompts(&[])?;
        live::run(settings, prompts, &args.out, threads(args.threads), session)?;
        folder.keep();
        return Ok(());
    }
    let exchanges = args.exchanges.unwrap_or(EXCHANGES);
    let settings = WorldSettings {
        seed: args.seed,
        exchanges,
        accounts: world::accounts_for(exchanges),
        ..WorldSettings::default()
    };
    settings.check()?;
    let folder = claim(&args.out)?;
    let threads = threads(args.threads);
    let (world, findings) = (args.out.join("world"), args.out.join("findings"));

    let prompts = world::prompts(&[])?;
    let summary = world::make(settings, prompts, &world, threads, session).inspect_err(|_| {
        if !world.exists() {
            // The folder goes again, if it is new.
            let _ = fs::remove_file(args.out.join(MARK));
        }
    })?;
    folder.keep();
    output::print(&simulate::describe(&summary, &world))?;

    let hunt = world::to_hunt(&world, findings.clone(), threads, session);
    let settings = HuntSettings { quote: true, ..hunt };
    let hunted = hunt::hunt(&settings, session)?;
    let score = score::score(&world, &findings)?;
    output::print("\n")?;
    hunt::print_summary(&hunted, &findings)?;
    output::print(&format!("\nHeld against the truth, which the hunt has not seen:\n\n{score}\n"))
}

/// Takes a folder for a demonstration, if it is new, empty, or an earlier one.
fn claim(out: &Path) -> Result<OutFolder, Failure> {
    let is_taken = fs::read_dir(out).is_ok_and(|mut entries| entries.next().is_some());
    let mark = out.join(MARK);
    if is_taken && !mark.is_file() {
        return Err(Failure::Usage(format!(
            "{} is no folder of an earlier demonstration; give another one with --out",
            out.display()
        )));
    }
    let folder = OutFolder::prepare(out)?;
    fs::write(&mark, "made by `stillwatch demo`, which may replace what is here\n")
        .map_err(Failure::at("write", &mark))?;
    Ok(folder)
}

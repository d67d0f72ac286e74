use std::path::{Path, PathBuf};

use clap::Args;

use crate::failure::Failure;
use crate::output;
use crate::session::Session;
use crate::world::WORLD_FILE;

/// Holds the findings of a hunt against the truth of a simulated world
#[derive(Debug, Args)]
pub struct Score {
    /// The folder that `stillwatch simulate` wrote.
    world: PathBuf,

    /// The folder that `stillwatch hunt` wrote.
    findings: PathBuf,

    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
}

/// Scores and prints.
pub fn run(args: &Score, _: &Session) -> Result<(), Failure> {
    for (folder, file, maker) in
        [(&args.world, WORLD_FILE, "simulate"), (&args.findings, "campaigns.json", "hunt")]
    {
        if !folder.join(file).is_file() {
            let folder = folder.display();
            return Err(Failure::Usage(format!(
                "{folder} has no {file}: give a folder that `stillwatch {maker}` wrote"
            )));
        }
    }
    let score = score(&args.world, &args.findings)?;
    if !args.json {
        return output::print(&format!("{score}\n"));
    }
    let json = serde_json::to_string_pretty(&score)
        .map_err(|error| Failure::Other(format!("cannot write the score as JSON: {error}")))?;
    output::print(&format!("{json}\n"))
}

/// The findings in one folder held against the world in another.
pub fn score(world: &Path, findings: &Path) -> Result<stillwatch_simulate::Score, Failure> {
    stillwatch_simulate::score(world, findings).map_err(|error| Failure::Other(error.to_string()))
}

use std::path::PathBuf;

use clap::Args;

use crate::failure::Failure;
use crate::output;
use crate::session::Session;

/// Holds the measure of balance against real accounts that people have judged
///
/// Ranks accounts by how many others have nearly the same volumes, and gathers groups by
/// it, knowing nothing else of them and having seen no label; then prints how well that
/// agrees with the review by people. DIR has the file accounts.csv.gz, made of the Safe
/// token's review (safe-global/safe-user-allocation-reports), with the columns tokens,
/// `n_transactions`, `farmer_removed` and report.
#[derive(Debug, Args)]
pub struct BenchSafe {
    /// The folder with the accounts.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,

    /// Print JSON instead of text.
    #[arg(long)]
    json: bool,
}

/// Measures and prints.
pub fn run(args: &BenchSafe, session: &Session) -> Result<(), Failure> {
    session.stages.begin("safe", None, "accounts");
    let check = stillwatch_bench::safe::check(&args.data)
        .map_err(|error| Failure::Usage(error.to_string()))?;
    session.stages.at("safe", check.accounts);
    session.stages.end("safe");
    if !args.json {
        return output::print(&format!("{check}\n"));
    }
    let json = serde_json::to_string_pretty(&check)
        .map_err(|error| Failure::Other(format!("cannot write JSON: {error}")))?;
    output::print(&format!("{json}\n"))
}

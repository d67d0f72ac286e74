mod apart;
mod detect;
mod guard;
mod hunt;
mod safe;
mod watch;

use clap::{Args, Subcommand};
use comfy_table::{Cell, CellAlignment};

use crate::failure::Failure;
use crate::session::Session;

/// Measures this program on this machine
#[derive(Debug, Args)]
pub struct Bench {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    Hunt(hunt::BenchHunt),
    Detect(detect::BenchDetect),
    Safe(safe::BenchSafe),
    Watch(watch::BenchWatch),
    Guard(guard::BenchGuard),
    /// One measurement in a process of its own, as JSON on standard output.
    #[command(hide = true, subcommand)]
    Part(apart::Part),
}

/// Measures and prints.
pub fn run(args: &Bench, session: &Session) -> Result<(), Failure> {
    match &args.what {
        What::Hunt(args) => hunt::run(args, session),
        What::Detect(args) => detect::run(args, session),
        What::Safe(args) => safe::run(args, session),
        What::Watch(args) => watch::run(args, session),
        What::Guard(args) => guard::run(args, session),
        What::Part(part) => apart::run(part, session),
    }
}

fn right(text: impl ToString) -> Cell {
    Cell::new(text.to_string()).set_alignment(CellAlignment::Right)
}

//! The subcommands; the doc comment of each one's arguments is its manual page.

mod bench;
mod clear;
mod demo;
mod duel;
mod guard;
pub mod hunt;
mod null;
mod rehearse;
mod score;
mod simulate;
mod sketch;
pub mod watch;

use clap::Subcommand;

use crate::failure::Failure;
use crate::session::Session;
pub use rehearse::Rehearsed;

/// What the program can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    Hunt(hunt::Hunt),
    Clear(clear::Clear),
    Null(null::Null),
    Demo(demo::Demo),
    Simulate(simulate::Simulate),
    Score(score::Score),
    Sketch(sketch::Sketch),
    Watch(watch::Watch),
    Guard(guard::Guard),
    Bench(bench::Bench),
    Duel(duel::Duel),
}

/// Runs one of them.
pub fn run(command: &Command, session: &Session) -> Result<(), Failure> {
    match command {
        Command::Hunt(args) => hunt::run(args, session),
        Command::Clear(args) => clear::run(args, session),
        Command::Null(args) => null::run(args, session),
        Command::Demo(args) => demo::run(args, session),
        Command::Simulate(args) => simulate::run(args, session),
        Command::Score(args) => score::run(args, session),
        Command::Sketch(args) => sketch::run(args, session),
        Command::Watch(args) => watch::run(args, session),
        Command::Guard(args) => guard::run(args, session),
        Command::Bench(args) => bench::run(args, session),
        Command::Duel(args) => duel::run(args, session),
    }
}

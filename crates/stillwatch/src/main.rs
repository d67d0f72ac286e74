//! The `stillwatch` program: one file per subcommand below `commands`, and what all
//! of them need beside it: exit statuses, progress, output, the wish to stop.
//!
//! This crate must stay without logic worth a unit test elsewhere: it reads
//! arguments, the clock, the environment and the key file, and hands them on.

#![allow(
    clippy::disallowed_methods,
    reason = "the program is the place where the clock is read and processes end"
)]

mod broker;
mod commands;
mod duration;
mod failure;
mod key;
mod live;
mod memory;
mod out_folder;
mod output;
mod progress;
mod receiver;
mod rehearsed;
mod secret;
mod session;
mod stop;
mod summary;
mod tell;
mod world;

use std::process::ExitCode;

use clap::Parser;

use crate::commands::Command;
use crate::session::Session;

/// Batches of columns come and go by the megabyte; the system's allocator hands their
/// pages back each time, and the kernel clears them again.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Finds industrial-scale distillation campaigns in the logs of a model API.
///
/// Exit status: 0 when a run came to its end, whatever it found; 2 for arguments that
/// can't be used; 1 for anything else, with one line that says what and where.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true, max_term_width = 100)]
struct Program {
    #[command(subcommand)]
    command: Command,

    /// Show no progress.
    #[arg(long, short, global = true)]
    quiet: bool,
}

fn main() -> ExitCode {
    let program = Program::parse();
    let outcome = Session::begin(program.quiet).and_then(|session| {
        commands::run(&program.command, &session).inspect_err(|_| session.stages.clear())
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output::complain(&failure.to_string());
            ExitCode::from(failure.status())
        }
    }
}

//! Text for people: what goes to standard output, and how it may look.

use std::io::{self, IsTerminal, Write};

use crate::failure::Failure;

/// The widest line that is printed, in columns.
pub const COLUMNS_MAX: u16 = 100;
/// Narrower tables would be unreadable.
const COLUMNS_MIN: u16 = 60;

/// Whether colours suit standard output: a terminal that can show them, and no
/// `NO_COLOR` in the environment (<https://no-color.org>).
pub fn has_colours() -> bool {
    let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    io::stdout().is_terminal() && !set("NO_COLOR") && !dumb
}

/// The columns to fill: the terminal's, at most [`COLUMNS_MAX`].
pub fn columns() -> u16 {
    comfy_table::Table::new().width().unwrap_or(COLUMNS_MAX).clamp(COLUMNS_MIN, COLUMNS_MAX)
}

/// Prints to standard output. A reader that has closed its end (`| head`) is no error.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::Other(format!("cannot write to standard output: {error}")))
        }
        _ => Ok(()),
    }
}

/// Says on standard error what went wrong, in one line.
pub fn complain(text: &str) {
    // Where even standard error is closed, the exit status has to do.
    let _ = writeln!(io::stderr().lock(), "stillwatch: {text}");
}

/// Says on standard error what a user should know, in one line, while the run goes on.
pub fn note(text: &str) {
    complain(&format!("note: {text}"));
}

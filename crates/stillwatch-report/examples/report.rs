//! Writes the report of an example picture:
//! `cargo run -p stillwatch-report --example report -- rich report.html`

#[path = "../tests/pictures/mod.rs"]
mod pictures;

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let which = arguments.next().unwrap_or_else(|| "rich".to_owned());
    let out = arguments.next().unwrap_or_else(|| "report.html".to_owned());
    let picture = match which.as_str() {
        "rich" => pictures::rich(),
        "nothing-found" => pictures::nothing_found(),
        "large" => pictures::large(),
        "empty" => pictures::empty(),
        "bare" => pictures::bare(),
        other => return Err(format!("no picture called {other}").into()),
    };
    let page = stillwatch_report::render(&picture)?;
    std::fs::write(&out, &page)?;
    println!("{out}: {} bytes", page.len());
    Ok(())
}

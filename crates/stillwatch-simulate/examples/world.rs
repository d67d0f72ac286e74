//! Writes a world: `world OUT [SEED [EXCHANGES [ACCOUNTS [DAYS [CAMPAIGNS [PATH…]]]]]]`,
//! with any number of `KEY=VALUE` among the arguments. `-` leaves a default.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use stillwatch_simulate::{Prompts, WorldSettings, write_world};

#[expect(clippy::disallowed_methods, reason = "an example is a program, and this one measures")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut settings = WorldSettings::default();
    let (assignments, places): (Vec<String>, Vec<String>) =
        std::env::args().skip(1).partition(|a| a.contains('='));
    let mut places = places.into_iter();
    let out = places
        .next()
        .ok_or("world OUT [SEED [EXCHANGES [ACCOUNTS [DAYS [CAMPAIGNS [PATH…]]]]]] [KEY=VALUE…]")?;
    for key in ["seed", "exchanges", "accounts", "days", "campaigns"] {
        match places.next().as_deref() {
            None | Some("-") => {}
            Some(value) => settings.set(&format!("{key}={value}"))?,
        }
    }
    for assignment in assignments {
        settings.set(&assignment)?;
    }
    let paths: Vec<PathBuf> = places.map(PathBuf::from).collect();
    let began = Instant::now();
    let prompts = if paths.is_empty() { Prompts::built_in() } else { Prompts::load(&paths)? };
    println!("prompts after {:.1} s", began.elapsed().as_secs_f64());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let began = Instant::now();
    let summary = write_world(&settings, Arc::new(prompts), out.as_ref(), threads, &|_, _| {})?;
    let seconds = began.elapsed().as_secs_f64();
    println!(
        "{} exchanges of {} accounts in {} files, {:.1} MB, {seconds:.1} s, {:.0} a second",
        summary.exchanges,
        summary.accounts,
        summary.files,
        summary.bytes as f64 / 1e6,
        summary.exchanges as f64 / seconds
    );
    for campaign in summary.campaigns {
        println!(
            "  {:<20} {:>6} accounts {:>9} exchanges",
            campaign.name, campaign.accounts, campaign.harvested_exchanges
        );
    }
    Ok(())
}

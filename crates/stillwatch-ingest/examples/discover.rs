//! What is found below paths and how much of it can be read.
//!
//! `cargo run -p stillwatch-ingest --example discover PATH…`

use std::sync::Arc;

use stillwatch_ingest::{Meter, Options, RefusedCounts, Table, discover};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let paths: Vec<String> = std::env::args().skip(1).collect();
    let found = discover(&paths, Table::Exchanges, &Options::default())?;
    for problem in &found.problems {
        println!("problem: {problem}");
    }
    let columns: Vec<&str> = Table::Exchanges.columns().iter().map(|c| c.name).collect();
    let meter = Arc::new(Meter::default());
    for source in &found.sources {
        let mut rows = 0;
        let mut refused = RefusedCounts::default();
        for split in source.splits() {
            for batch in split.read(&columns, None, &meter)? {
                match batch {
                    Ok(batch) => {
                        rows += batch.rows.num_rows();
                        refused.merge(&batch.refused);
                    }
                    Err(problem) => println!("problem: {problem}"),
                }
            }
        }
        println!(
            "{} ({}): {rows} rows, refused {:?}",
            source.name(),
            source.format(),
            refused.named()
        );
    }
    println!("{} rows, {} bytes read", meter.rows(), meter.bytes());
    println!("unknown columns: {:?} {:?}", found.unknown_columns, meter.unknown_columns());
    Ok(())
}

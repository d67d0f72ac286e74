//! The batch engine: from exchanges to findings, on DataFusion in process.
//!
//! [`hunt`] runs the stages in their order: discover the sources, find the period,
//! observe and profile every exchange, link, gather and freeze, confirm, judge, and
//! pass once more over the members' exchanges to say what was harvested. What makes
//! traffic suspicious is not decided here but in `stillwatch-detect`.

mod conclude;
mod engine;
mod findings;
mod functions;
mod harvest;
mod look;
mod null;
mod references;
mod run;
mod settings;
mod source;
mod write;

pub use functions::glances;
pub use look::{Counted, KeptAccounts, look};
pub use null::{NullRecord, NullSettings, Placebo, null};
pub use references::{Entry, GROUPS, GroupEntry, Shared, add, read_groups, read_references};
pub use run::{Hunted, RunRecord, hunt};
pub use settings::{HuntError, HuntSettings, Period, Progress, Stage};
pub use write::{HarvestFile, write_findings};

use stillwatch_ingest::Options;

/// What DataFusion alone takes to read the prompts: rows, and their lengths added up.
/// The measure that `bench hunt` holds a hunt against; it reads Parquet with the
/// engine's own reader, not with ours.
///
/// # Errors
/// A path can't be read as Parquet.
pub fn bench_scan(exchanges: &[String], threads: usize) -> Result<(u64, u64), HuntError> {
    let runtime = run::runtime(threads)?;
    runtime.block_on(engine::scan(exchanges, threads)).map_err(HuntError::engine(Stage::Period))
}

/// The columns that a hunt reads of every exchange.
#[must_use]
pub fn columns_read() -> &'static [&'static str] {
    functions::OBSERVED
}

/// How a hunt reads when nothing else is said.
#[must_use]
pub fn default_options() -> Options {
    Options::default()
}

//! Fuzz target for Parquet files with damage anywhere: footer, page headers, pages.
//!
//! Runs for a second as an ordinary test. For longer:
//! `BOLERO_RANDOM_TEST_TIME_MS=600000 cargo test -p stillwatch-ingest --test fuzz_parquet`;
//! a finding prints the seed that repeats it (`BOLERO_RANDOM_SEED`). Panics inside of
//! the Parquet library are caught and become problems of the file; what would be a
//! finding is an abort, a hang, or a panic of ours.

#[path = "support/mutate.rs"]
mod mutate;
mod support;

use std::sync::Arc;

use bytes::Bytes;
use mutate::{Damage, damaged};
use stillwatch_ingest::{FileProblem, Format, Options, Source, Table};
use support::{all_columns, read, read_filtered};

fn open(bytes: Bytes) -> Result<Source, FileProblem> {
    let options = Options { format: Some(Format::Parquet), ..Options::default() };
    Source::from_bytes("fuzz", bytes, Table::Exchanges, &options)
}

#[test]
fn fuzz_parquet() {
    let sample = include_bytes!("golden/parquet/sample.parquet");
    bolero::check!().with_type::<(bool, Vec<Damage>)>().for_each(|(keeps_magic, damages)| {
        let mut bytes = damaged(sample, damages);
        if *keeps_magic {
            bytes.extend_from_slice(b"PAR1");
        }
        let bytes = Bytes::from(bytes);
        if let Ok(source) = open(bytes) {
            read(&source, &all_columns(Table::Exchanges));
            read_filtered(&source, &["time"], Some(Arc::new(|account| account.len() > 3)));
        }
    });
}

#[test]
fn fuzz_parquet_from_nothing() {
    bolero::check!().for_each(|bytes: &[u8]| {
        // A footer of the right length lets the bytes reach its parser.
        let length = u32::try_from(bytes.len()).unwrap_or(0).to_le_bytes();
        let file = [b"PAR1", bytes, &length, b"PAR1"].concat();
        if let Ok(source) = open(file.into()) {
            read(&source, &["time"]);
        }
    });
}

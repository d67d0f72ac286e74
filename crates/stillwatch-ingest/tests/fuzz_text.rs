//! Fuzz targets for the line formats, the conventions and recognition.
//!
//! Each runs for a second as an ordinary test. For longer:
//! `BOLERO_RANDOM_TEST_TIME_MS=600000 cargo test -p stillwatch-ingest --test fuzz_text TARGET`;
//! a finding prints the seed that repeats it (`BOLERO_RANDOM_SEED`).

#[path = "support/mutate.rs"]
mod mutate;
mod support;

use bytes::Bytes;
use mutate::{Damage, damaged};
use stillwatch_ingest::{Format, Options, Source, Table, received};
use support::{all_columns, read};

/// Whatever the damage, nothing panics, every line is a row or counted, and the rows
/// are the same whichever columns are asked for.
fn check(bytes: Bytes, format: Option<Format>, table: Table) {
    let options = Options { format, ..Options::default() };
    let Ok(source) = Source::from_bytes("fuzz", bytes, table, &options) else { return };
    let all = read(&source, &all_columns(table));
    let none = read(&source, &[]);
    assert_eq!(all.rows.len(), none.rows.len());
    assert_eq!(all.refused.rows, none.refused.rows);
    assert_eq!(all.problems, none.problems);
}

fn check_damaged(format: Format, sample: &[u8], damages: &[Damage]) {
    let bytes = Bytes::from(damaged(sample, damages));
    check(bytes.clone(), Some(format), Table::Exchanges);
    check(bytes, None, Table::Exchanges);
}

#[test]
fn fuzz_json_lines() {
    let sample = include_bytes!("golden/jsonl/sample.jsonl");
    bolero::check!()
        .with_type::<Vec<Damage>>()
        .for_each(|damages| check_damaged(Format::JsonLines, sample, damages));
}

#[test]
fn fuzz_open_telemetry() {
    let sample = include_bytes!("golden/otlp/sample.jsonl");
    bolero::check!()
        .with_type::<Vec<Damage>>()
        .for_each(|damages| check_damaged(Format::OpenTelemetry, sample, damages));
}

/// Whatever is received: divided into its exchanges it gives the rows that it gives in one
/// piece, and what is refused of them is said.
#[test]
fn fuzz_received() {
    let sample = include_bytes!("golden/otlp/sample.jsonl");
    bolero::check!().with_type::<Vec<Damage>>().for_each(|damages| {
        let options = Options { format: Some(Format::OpenTelemetry), ..Options::default() };
        for line in damaged(sample, damages).split(|byte| *byte == b'\n') {
            let export = serde_json::from_slice::<serde_json::Value>(line).ok();
            // A receiver takes nothing else.
            let Some(export) = export.filter(serde_json::Value::is_object) else { continue };
            let all = received(&export, &options).unwrap();
            let lines: Vec<u8> = all.exchanges.iter().flat_map(|e| e.line.clone()).collect();
            let rows = |bytes: Vec<u8>| {
                let columns = all_columns(Table::Exchanges);
                let source = Source::from_bytes("x", bytes.into(), Table::Exchanges, &options);
                let read = source.map(|source| read(&source, &columns));
                let shown =
                    |read: &support::Read| read.rows.iter().map(ToString::to_string).collect();
                let mut rows: Vec<String> = read.as_ref().map_or(Vec::new(), shown);
                rows.sort();
                (rows, read.map_or_else(|_| Default::default(), |read| read.refused.rows))
            };
            let ((divided, mut refused), (whole, mut of_whole)) =
                (rows(lines), rows(line.to_vec()));
            assert_eq!(divided, whole);
            assert_eq!(refused, all.refused.rows);
            of_whole.remove("not_an_exchange");
            refused.remove("not_an_exchange");
            assert_eq!(refused, of_whole);
        }
    });
}

#[test]
fn fuzz_litellm() {
    let sample = include_bytes!("golden/litellm/sample.jsonl");
    bolero::check!()
        .with_type::<Vec<Damage>>()
        .for_each(|damages| check_damaged(Format::LiteLlm, sample, damages));
}

#[test]
fn fuzz_bedrock() {
    let sample = include_bytes!("golden/bedrock/sample.jsonl");
    bolero::check!()
        .with_type::<Vec<Damage>>()
        .for_each(|damages| check_damaged(Format::Bedrock, sample, damages));
}

#[test]
fn fuzz_openai() {
    let sample = include_bytes!("golden/openai/sample.jsonl");
    bolero::check!()
        .with_type::<Vec<Damage>>()
        .for_each(|damages| check_damaged(Format::OpenAi, sample, damages));
}

#[test]
fn fuzz_anthropic() {
    let sample = include_bytes!("golden/anthropic/sample.jsonl");
    bolero::check!()
        .with_type::<Vec<Damage>>()
        .for_each(|damages| check_damaged(Format::Anthropic, sample, damages));
}

#[test]
fn fuzz_compressed() {
    let sample = zstd::encode_all(&include_bytes!("golden/jsonl/sample.jsonl")[..], 3).unwrap();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    std::io::Write::write_all(&mut gzip, include_bytes!("golden/jsonl/sample.jsonl")).unwrap();
    let gzip = gzip.finish().unwrap();
    bolero::check!().with_type::<(bool, Vec<Damage>)>().for_each(|(is_gzip, damages)| {
        let sample = if *is_gzip { &gzip } else { &sample };
        check(damaged(sample, damages).into(), Some(Format::JsonLines), Table::Exchanges);
    });
}

#[test]
fn fuzz_recognition() {
    bolero::check!().for_each(|bytes: &[u8]| {
        for table in [Table::Exchanges, Table::Accounts, Table::Releases] {
            check(Bytes::copy_from_slice(bytes), None, table);
            check(Bytes::copy_from_slice(bytes), Some(Format::JsonLines), table);
        }
    });
}

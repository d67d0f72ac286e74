//! A hand-written sample per format, and the rows that it must give, beside it.
//!
//! `tests/golden/FORMAT/sample.*` is read with the format recognised; the rows must
//! equal `expected.jsonl` and what was refused `refused.txt`. To renew them after an
//! intended change: `STILLWATCH_GOLDEN=write cargo test -p stillwatch-ingest --test golden`
//! and read the difference. The Parquet sample is not renewed, for old files must
//! stay readable; where it is missing it is made from the rows of the JSON Lines one.

mod support;

use std::fs;
use std::path::PathBuf;

use bytes::Bytes;
use stillwatch_ingest::{Format, Options, Source, Table};
use support::{all_columns, parquet, read};

fn folder(format: Format) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests/golden", format.name()].iter().collect()
}

fn writes() -> bool {
    std::env::var_os("STILLWATCH_GOLDEN").is_some_and(|v| v == "write")
}

fn check(format: Format) {
    let file = if format == Format::Parquet { "sample.parquet" } else { "sample.jsonl" };
    let sample = Bytes::from(fs::read(folder(format).join(file)).unwrap());
    let recognised =
        Source::from_bytes(file, sample.clone(), Table::Exchanges, &Options::default());
    let source = recognised.unwrap();
    assert_eq!(source.format(), format, "is recognised by its content");

    let read = read(&source, &all_columns(Table::Exchanges));
    let rows: String = read.rows.iter().map(|row| format!("{row}\n")).collect();
    let mut refused: String =
        read.refused.named().iter().map(|(name, count)| format!("{name} {count}\n")).collect();
    refused.extend(read.unknown.iter().map(|name| format!("unknown column {name}\n")));
    assert_eq!(read.problems, []);

    for (name, got) in [("expected.jsonl", rows), ("refused.txt", refused)] {
        let path = folder(format).join(name);
        if writes() {
            fs::write(&path, got).unwrap();
        } else {
            assert_eq!(got, fs::read_to_string(&path).unwrap(), "{}", path.display());
        }
    }

    // Named by hand it reads the same.
    let options = Options { format: Some(format), ..Options::default() };
    let named = Source::from_bytes(file, sample, Table::Exchanges, &options).unwrap();
    assert_eq!(support::read(&named, &all_columns(Table::Exchanges)).rows, read.rows);
}

#[test]
fn parquet_reads_as_expected() {
    let path = folder(Format::Parquet).join("sample.parquet");
    if writes() && !path.exists() {
        let lines = fs::read(folder(Format::JsonLines).join("sample.jsonl")).unwrap();
        let source =
            Source::from_bytes("jsonl", lines.into(), Table::Exchanges, &Options::default());
        let split = source.unwrap().splits().remove(0);
        let meter = std::sync::Arc::default();
        let batches: Vec<_> = split
            .read(&all_columns(Table::Exchanges), None, &meter)
            .unwrap()
            .map(|batch| batch.unwrap().rows)
            .collect();
        fs::write(&path, parquet(&batches, 4)).unwrap();
    }
    check(Format::Parquet);
}

#[test]
fn json_lines_read_as_expected() {
    check(Format::JsonLines);
}

#[test]
fn open_telemetry_reads_as_expected() {
    check(Format::OpenTelemetry);
}

#[test]
fn litellm_reads_as_expected() {
    check(Format::LiteLlm);
}

#[test]
fn bedrock_reads_as_expected() {
    check(Format::Bedrock);
}

#[test]
fn openai_reads_as_expected() {
    check(Format::OpenAi);
}

#[test]
fn anthropic_reads_as_expected() {
    check(Format::Anthropic);
}

#[test]
fn the_account_can_be_read_from_a_named_attribute() {
    let sample = fs::read(folder(Format::OpenTelemetry).join("sample.jsonl")).unwrap();
    let options =
        Options { account_attributes: vec!["session.id".to_owned()], ..Options::default() };
    let source = Source::from_bytes("otlp", sample.into(), Table::Exchanges, &options).unwrap();
    let read = read(&source, &["account_id"]);
    assert_eq!(
        read.texts("account_id"),
        ["acct_11", "acct_12", "sess_1", "acct_14", "acct_15", "acct_16", "acct_17"]
    );
}

/// The same export, spread over lines as one document.
#[test]
fn a_whole_document_reads_like_its_lines() {
    for format in [Format::OpenTelemetry, Format::Anthropic] {
        let lines = fs::read_to_string(folder(format).join("sample.jsonl")).unwrap();
        let records: Vec<serde_json::Value> =
            lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let pretty: String =
            records.iter().map(|r| serde_json::to_string_pretty(r).unwrap() + "\n").collect();
        let array = serde_json::to_string(&records).unwrap();
        let expected = support::read_bytes(lines, &all_columns(Table::Exchanges));
        for document in [pretty, array] {
            let read = support::read_bytes(document, &all_columns(Table::Exchanges));
            assert_eq!(read.rows, expected.rows);
            assert_eq!(read.refused, expected.refused);
            assert_eq!(read.problems, []);
        }
    }
}

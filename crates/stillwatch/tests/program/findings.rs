//! A hunt from beginning to end, and what it leaves.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::process::Stdio;

use arrow::datatypes::DataType;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::Value;

use crate::setting::{FINDINGS, folder, hunt, hunt_world, names, run, stillwatch, text, world};

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// The columns of a Parquet file, each with a short word for its type.
fn columns(path: &Path) -> Vec<(String, &'static str)> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap()).unwrap();
    let word = |data_type: &DataType| match data_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "text",
        DataType::Float64 => "float",
        DataType::UInt64 => "count",
        DataType::Timestamp(_, Some(_)) => "time",
        other => panic!("{other}"),
    };
    let fields = reader.schema().fields().iter();
    fields.map(|field| (field.name().clone(), word(field.data_type()))).collect()
}

#[test]
fn a_hunt_writes_what_the_contract_says() {
    let folder = folder();
    let out = folder.path().join("new").join("findings");
    let ran = hunt_world(world(), &world().join("exchanges"), &out).succeeded();
    assert_eq!(names(&out), FINDINGS, "these files and no others");

    assert!(ran.stdout.contains(" accounts from "), "{}", ran.stdout);
    assert!(ran.stdout.contains(text(&out.join("report.html"))), "{}", ran.stdout);
    assert!(!ran.stdout.contains('\u{1b}'), "no colours where there is no terminal");
    assert!(ran.stdout.lines().all(|line| line.chars().count() <= 100 + text(&out).len()));

    let keys = [
        "campaign_id",
        "kind",
        "evidence_value",
        "discovery_rate",
        "strata",
        "references",
        "rank",
        "guilty_members_at_least",
        "accounts",
        "exchanges",
        "output_tokens",
        "reasoning_tokens",
        "cost_usd",
        "first_seen",
        "last_seen",
        "first_detectable",
        "exchanges_before_detection",
        "capabilities",
        "routes",
        "models",
        "techniques",
        "evidence",
    ];
    let campaigns = json(&out.join("campaigns.json"));
    let campaigns = campaigns.as_array().unwrap();
    assert!(!campaigns.is_empty(), "two campaigns are in the world:\n{}", ran.stdout);
    for campaign in campaigns {
        for key in keys {
            assert!(campaign.get(key).is_some(), "{key} is missing in {campaign}");
        }
        for evidence in campaign["evidence"].as_array().unwrap() {
            for key in ["channel", "statement", "strength", "examples"] {
                assert!(evidence.get(key).is_some(), "{key} is missing in {evidence}");
            }
        }
    }

    let run_json = json(&out.join("run.json"));
    let read = run_json["rows_read"].as_u64().unwrap();
    assert!((39_000..41_000).contains(&read), "{read}");
    assert!(run_json["peak_memory_bytes"].as_u64().unwrap() > 1 << 20);
    assert!(run_json["wall_seconds"].as_object().is_some_and(|stages| stages.len() >= 3));
    for key in ["rows_refused", "versions", "settings"] {
        assert!(run_json.get(key).is_some(), "{key} is missing");
    }

    let expected = |columns: &[(&str, &'static str)]| -> Vec<(String, &'static str)> {
        columns.iter().map(|(name, kind)| ((*name).to_owned(), *kind)).collect()
    };
    assert_eq!(
        columns(&out.join("members.parquet")),
        expected(&[
            ("campaign_id", "text"),
            ("account_id", "text"),
            ("membership", "float"),
            ("exchanges", "count"),
            ("harvested_exchanges", "count"),
            ("first_seen", "time"),
            ("last_seen", "time"),
        ])
    );
    assert_eq!(
        columns(&out.join("harvest.parquet")),
        expected(&[
            ("campaign_id", "text"),
            ("exchange_id", "text"),
            ("account_id", "text"),
            ("score", "float"),
        ])
    );
    let report = fs::read_to_string(out.join("report.html")).unwrap();
    assert!(report.starts_with("<!doctype html>") || report.starts_with("<!DOCTYPE html>"));
}

#[test]
fn findings_are_held_against_the_truth() {
    let folder = folder();
    let out = folder.path().join("findings");
    hunt_world(world(), &world().join("exchanges"), &out).succeeded();
    let table = run(&["score", text(world()), text(&out)]).succeeded();
    assert!(table.stdout.contains("load_balanced"), "{}", table.stdout);
    let score = run(&["score", text(world()), text(&out), "--json"]).succeeded();
    let score: Value = serde_json::from_str(&score.stdout).unwrap();
    assert_eq!(score["campaigns"].as_array().unwrap().len(), 2);
    run(&["score", text(&out), text(&out)]).failed(2, &["world.json", "simulate"]);
    run(&["score", text(world()), text(world())]).failed(2, &["campaigns.json", "hunt"]);
}

#[test]
fn progress_is_on_standard_error_in_plain_lines() {
    let folder = folder();
    let out = folder.path().join("findings");
    let exchanges = world().join("exchanges");
    let arguments = ["hunt", "--exchanges", text(&exchanges), "--out", text(&out)];
    let output = stillwatch(&arguments).output().unwrap();
    assert!(output.status.success());
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.lines().any(|line| line.starts_with("profile: done in ")), "{stderr}");
    assert!(!stderr.contains('\u{1b}') && !stderr.contains('\r'), "{stderr}");
    assert!(stderr.lines().all(|line| line.chars().count() <= 100), "{stderr}");

    let quiet = hunt(&[&exchanges], &out).succeeded();
    assert_eq!(quiet.stderr, "");
    assert_eq!(quiet.stdout.as_bytes(), output.stdout);
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let folder = folder();
    let out = folder.path().join("findings");
    let exchanges = world().join("exchanges");
    let mut child =
        stillwatch(&["hunt", "--quiet", "--exchanges", text(&exchanges), "--out", text(&out)])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
    drop(child.stdout.take());
    let mut stderr = String::new();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(stderr, "");
    assert_eq!(names(&out), FINDINGS);
}

#[test]
fn earlier_findings_are_replaced_and_other_files_are_left_alone() {
    let folder = folder();
    let out = folder.path();
    fs::write(out.join("campaigns.json"), "an earlier hunt's").unwrap();
    fs::write(out.join("notes.txt"), "mine").unwrap();
    hunt(&[&world().join("exchanges")], out).succeeded();
    assert_ne!(fs::read_to_string(out.join("campaigns.json")).unwrap(), "an earlier hunt's");
    assert_eq!(fs::read_to_string(out.join("notes.txt")).unwrap(), "mine");
    assert_eq!(names(out).len(), FINDINGS.len() + 1);
}

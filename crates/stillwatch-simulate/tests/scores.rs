//! Findings made by hand, held against a world made by seed.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringViewArray};
use arrow::datatypes::TimestampMicrosecondType;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::json;
use stillwatch_exchange::Time;
use stillwatch_simulate::{Prompts, WorldSettings, score, write_world};

fn read(path: &Path, columns: &[&str]) -> Vec<Vec<Option<String>>> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap())
        .unwrap()
        .build()
        .unwrap();
    let mut rows = Vec::new();
    for batch in reader {
        let batch = batch.unwrap();
        let columns: Vec<_> = columns
            .iter()
            .map(|c| batch.column_by_name(c).unwrap().as_string_view().clone())
            .collect();
        for row in 0..batch.num_rows() {
            rows.push(
                columns.iter().map(|c| c.is_valid(row).then(|| c.value(row).to_owned())).collect(),
            );
        }
    }
    rows
}

fn write(path: &Path, columns: [&str; 2], rows: &[(String, String)]) {
    let first: ArrayRef = Arc::new(StringViewArray::from_iter_values(rows.iter().map(|r| &r.0)));
    let second: ArrayRef = Arc::new(StringViewArray::from_iter_values(rows.iter().map(|r| &r.1)));
    let batch = RecordBatch::try_from_iter([(columns[0], first), (columns[1], second)]).unwrap();
    let mut writer =
        ArrowWriter::try_new(File::create(path).unwrap(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

#[test]
fn findings_are_counted_as_they_are() {
    let root = tempfile::tempdir().unwrap();
    let (world, findings) = (root.path().join("world"), root.path().join("findings"));
    let mut settings =
        WorldSettings { exchanges: 25_000, accounts: 1_000, days: 10, ..WorldSettings::default() };
    for assignment in [
        "campaigns=slow_drip,load_balanced",
        "campaign.slow_drip.accounts=100",
        "campaign.load_balanced.accounts=60",
        "crowd.declared_synthetic.accounts=3",
    ] {
        settings.set(assignment).unwrap();
    }
    write_world(&settings, Arc::new(Prompts::built_in()), &world, 2, &|_, _| {}).unwrap();

    let mut accounts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for row in read(&world.join("truth_accounts.parquet"), &["account_id", "kind", "campaign"]) {
        let [Some(id), Some(kind), campaign] = row.as_slice() else {
            panic!("a truth without id or kind")
        };
        accounts.entry(campaign.clone().unwrap_or(kind.clone())).or_default().push(id.clone());
    }
    let drip: Vec<String> =
        read(&world.join("truth_exchanges.parquet"), &["exchange_id", "campaign"])
            .into_iter()
            .filter(|r| r[1].as_deref() == Some("slow_drip"))
            .filter_map(|r| r[0].clone())
            .collect();

    let mut members = Vec::new();
    let mut add = |id: &str, kind: &str, n: usize| {
        members.extend(accounts[kind][..n].iter().map(|a| (id.to_owned(), a.clone())))
    };
    add("c1", "slow_drip", 80);
    add("c1", "people", 20);
    add("c2", "classes", 30);
    add("c2", "slow_drip", 5);
    add("c3", "declared_synthetic", 2);
    add("c4", "scripts", 1);
    add("c5", "scripts", 2);
    fs::create_dir_all(&findings).unwrap();
    write(&findings.join("members.parquet"), ["campaign_id", "account_id"], &members);

    // The moment by which slow_drip had harvested ten times.
    let mut times = Vec::new();
    let mut by_account: BTreeMap<String, u64> = BTreeMap::new();
    let mut early: Vec<String> = Vec::new();
    let mut files: Vec<_> =
        fs::read_dir(world.join("exchanges")).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    for file in files {
        let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(file).unwrap())
            .unwrap()
            .build()
            .unwrap();
        for batch in reader {
            let batch = batch.unwrap();
            let ids = batch.column_by_name("exchange_id").unwrap().as_string_view();
            let by = batch.column_by_name("account_id").unwrap().as_string_view();
            let at =
                batch.column_by_name("time").unwrap().as_primitive::<TimestampMicrosecondType>();
            for r in (0..batch.num_rows()).filter(|r| drip.iter().any(|d| d == ids.value(*r))) {
                *by_account.entry(by.value(r).to_owned()).or_default() += 1;
                if times.len() < 10 {
                    early.push(by.value(r).to_owned());
                }
                times.push(at.value(r));
            }
        }
    }
    let found = |id: &str, kind: &str| json!({ "campaign_id": id, "kind": kind, "first_detectable": Time(times[10]) });
    let list = json!([
        found("c1", "distillation"),
        found("c2", "distillation"),
        found("c3", "open_harvest"),
        found("c4", "open_harvest"),
        found("c5", "open_harvest")
    ]);
    fs::write(findings.join("campaigns.json"), list.to_string()).unwrap();

    let without = score(&world, &findings).unwrap();
    assert_eq!(without.campaigns[1].exchange_recall, None);

    let mut harvest: Vec<(String, String)> =
        drip.iter().take(drip.len() / 2).map(|e| ("c1".to_owned(), e.clone())).collect();
    harvest.extend((0..harvest.len()).map(|i| ("c1".to_owned(), format!("nobody's {i}"))));
    write(&findings.join("harvest.parquet"), ["campaign_id", "exchange_id"], &harvest);
    let score = score(&world, &findings).unwrap();

    let drip_score = score.campaigns.iter().find(|c| c.campaign == "slow_drip").unwrap();
    assert!(drip_score.found);
    assert_eq!(drip_score.findings, ["c1"]);
    assert_eq!((drip_score.accounts, drip_score.harvested_exchanges), (100, drip.len() as u64));
    assert_eq!((drip_score.recall, drip_score.precision), (0.8, 0.8));
    assert!((drip_score.exchange_recall.unwrap() - 0.5).abs() < 0.01);
    assert!((drip_score.exchange_precision.unwrap() - 0.5).abs() < 0.01);
    assert_eq!(drip_score.exchanges_before_detection, Some(10));
    let days = (times[10] - times[0]) as f64 / 86_400e6;
    assert!((drip_score.days_to_detection.unwrap() - days).abs() < 1e-9);

    // Each of its first ten came before its account was accused; so did all of the twenty
    // accounts that never were.
    let accused: Vec<&String> = accounts["slow_drip"][..80].iter().collect();
    let own = |account: &String| by_account.get(account).copied().unwrap_or(0);
    let never: u64 = accounts["slow_drip"][80..].iter().map(own).sum();
    let early = early.iter().filter(|account| accused.contains(account)).count() as u64;
    assert_eq!(drip_score.lost_exchanges, never + early);
    assert_eq!(drip_score.member_harvest, drip.len() as u64 - never);
    assert!(drip_score.member_exchanges > drip_score.member_harvest);
    assert_eq!(drip_score.days_to_half, drip_score.days_to_detection);

    let missed = score.campaigns.iter().find(|c| c.campaign == "load_balanced").unwrap();
    assert_eq!(missed.lost_exchanges, missed.harvested_exchanges);
    assert_eq!((missed.days_to_half, missed.member_exchanges), (None, 0));
    assert!(!missed.found && missed.recall == 0.0 && missed.days_to_detection.is_none());

    let ids = |list: &[stillwatch_simulate::InnocentFinding]| {
        list.iter().map(|f| f.campaign_id.clone()).collect::<Vec<_>>()
    };
    assert_eq!(ids(&score.innocent), ["c2", "c5"]);
    assert_eq!(score.innocent[0].crowds[0], ("classes".to_owned(), 30));
    assert_eq!(ids(&score.open_harvests), ["c3", "c4"]);
    assert_eq!(
        (score.totals.campaigns, score.totals.campaigns_found, score.totals.campaigns_found_whole),
        (2, 1, 0)
    );
    assert_eq!(
        (score.totals.findings, score.totals.innocent_findings, score.totals.open_harvests),
        (5, 2, 2)
    );
    assert_eq!(score.totals.recall, 80.0 / 160.0);
    assert_eq!(score.totals.precision, 80.0 / 137.0);

    // Neither the declared customers of c3 nor the single scripts account of c4 count.
    assert_eq!((score.totals.accounts, score.totals.guilty), (1_000, 160));
    assert_eq!((score.totals.accused_guilty, score.totals.accused_innocent), (80, 20 + 30 + 2));

    let table = score.to_string();
    assert!(
        table.contains("80.0 %") && table.contains("missed") && table.contains("30 classes"),
        "{table}"
    );
    serde_json::to_string(&score).unwrap();
}

#[test]
fn a_folder_without_findings_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let error = score(dir.path(), dir.path()).unwrap_err().to_string();
    assert!(error.contains("world.json") && error.contains("simulate"), "{error}");
}

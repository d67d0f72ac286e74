//! `simulate`, `demo` and `bench`: what they write, and what they never overwrite.

use std::fs;

use crate::setting::{FINDINGS, folder, names, run, text};

const SMALL: [&str; 8] =
    ["--seed", "3", "--exchanges", "4000", "--accounts", "300", "--campaigns", "none"];

#[test]
fn a_world_is_replaced_whole_and_nothing_else_is() {
    let folder = folder();
    let world = folder.path().join("world");
    let simulate =
        |more: &[&str]| run(&[&["simulate", "--out", text(&world)], &SMALL[..], more].concat());
    simulate(&["--set", "rows_per_file=1000"]).succeeded();
    let files = [
        "accounts.parquet",
        "exchanges",
        "releases.parquet",
        "truth_accounts.parquet",
        "truth_exchanges.parquet",
        "world.json",
    ];
    assert_eq!(names(&world), files);
    let larger = names(&world.join("exchanges")).len();
    simulate(&[]).succeeded();
    assert_eq!(names(&world), files);
    assert!(names(&world.join("exchanges")).len() < larger, "parts of the earlier world are gone");

    let before = fs::read(world.join("world.json")).unwrap();
    simulate(&["--set", "crowd.clases.accounts=2"]).failed(2, &["crowd.classes.accounts"]);
    simulate(&["--prompts", text(&folder.path().join("none"))]).failed(2, &["none"]);
    assert_eq!(fs::read(world.join("world.json")).unwrap(), before);

    fs::write(folder.path().join("mine.txt"), "mine").unwrap();
    run(&[&["simulate", "--out", text(folder.path())], &SMALL[..]].concat())
        .failed(2, &["something else"]);
}

#[test]
fn settings_are_listed_and_seeds_are_asked_for() {
    let listed = run(&["simulate", "--settings"]).succeeded();
    assert!(listed.stdout.contains("crowd.classes.group_size"), "{}", listed.stdout);
    let folder = folder();
    let ran = run(&["simulate", "--out", text(&folder.path().join("world"))]);
    assert_eq!(ran.status, Some(2));
    assert!(ran.stderr.contains("--seed"), "{}", ran.stderr);
}

#[test]
fn a_demonstration_runs_again_in_its_own_folder_only() {
    let folder = folder();
    let out = folder.path().join("demo");
    let arguments = ["demo", "--exchanges", "60000", "--out", text(&out)];
    let once = run(&arguments).succeeded();
    assert!(once.stdout.contains("report.html"), "{}", once.stdout);
    assert!(once.stdout.contains("load_balanced"), "{}", once.stdout);
    assert_eq!(names(&out.join("findings")), FINDINGS);
    assert_eq!(run(&arguments).succeeded().stdout, once.stdout);

    fs::write(folder.path().join("mine.txt"), "mine").unwrap();
    run(&["demo", "--out", text(folder.path())]).failed(2, &["another one with --out"]);
}

#[test]
fn a_bench_prints_both_and_cleans_up() {
    let folder = folder();
    let dir = folder.path().join("bench");
    let arguments = ["bench", "hunt", "--exchanges", "60000", "--dir", text(&dir)];
    let ran = run(&arguments).succeeded();
    for word in ["DataFusion alone", "the hunt", "profile", "Ratio", "Memory", "4 KiB for each"] {
        assert!(ran.stdout.contains(word), "{word} is not in:\n{}", ran.stdout);
    }
    assert!(!dir.exists());
    fs::write(folder.path().join("mine.txt"), "mine").unwrap();
    run(&["bench", "hunt", "--dir", text(folder.path())]).failed(2, &["another one with --dir"]);
}

#[test]
fn a_bench_of_detectors_has_a_row_for_each_and_says_the_same_twice() {
    let folder = folder();
    let out = folder.path().join("bench");
    let arguments = [
        "bench",
        "detect",
        "--quick",
        "--accounts",
        "1500",
        "--exchanges",
        "60000",
        "--seed",
        "5",
        "--out",
        text(&out),
    ];
    let once = run(&arguments).succeeded();
    let others = [
        "limit per account",
        "PRADA",
        "SEAT",
        "MMD",
        "isolation forest",
        "shared infrastructure",
        "SynchroTrap",
        "Fraudar",
    ];
    assert_eq!(names(&out), ["bench.json"], "the worlds are gone");
    let rows = |path: &std::path::Path| {
        let bench: serde_json::Value =
            serde_json::from_str(&fs::read_to_string(path.join("bench.json")).unwrap()).unwrap();
        assert_eq!(bench["worlds"].as_array().unwrap().len(), 3);
        let mut rows = bench["rows"].as_array().unwrap().clone();
        for row in &mut rows {
            // Time and memory are the machine's.
            row["seconds"] = 0.into();
            row["peak_memory_bytes"] = 0.into();
        }
        rows
    };
    let first = rows(&out);
    for detector in others.iter().chain(&["Stillwatch"]) {
        assert!(once.stdout.contains(detector), "{}", once.stdout);
        let settings = first.iter().filter(|r| r["detector"] == *detector).count();
        assert!(settings >= 3, "{detector} has {settings} rows");
    }
    for row in &first {
        assert!(row["campaigns"].as_u64().unwrap() >= 4, "{row}");
        let budget = if row["setting"] == "same_budget" { 0.1 } else { 1.0 };
        let wrong = row["innocent_accused"].as_f64().unwrap();
        assert!(wrong <= budget * row["innocent"].as_f64().unwrap(), "{row}");
    }
    // Some of the others again, which changes nothing about them.
    run(&[&arguments[..], &["--detectors", "limit per account", "SEAT"]].concat()).succeeded();
    let chosen = ["Stillwatch", "limit per account", "SEAT"];
    let is_chosen = |row: &serde_json::Value| chosen.iter().any(|c| row["detector"] == *c);
    let some: Vec<serde_json::Value> = first.into_iter().filter(is_chosen).collect();
    assert_eq!(rows(&out), some);
    run(&[&arguments[..], &["--detectors", "none"]].concat()).succeeded();
    let ours: Vec<serde_json::Value> =
        some.into_iter().filter(|row| row["detector"] == "Stillwatch").collect();
    assert_eq!(rows(&out), ours);
    let unknown = run(&[&arguments[..], &["--detectors", "Frauda"]].concat());
    assert_eq!(unknown.status, Some(2));
    assert!(unknown.stderr.contains("Fraudar; or none"), "{}", unknown.stderr);
}

#[test]
fn a_bench_says_what_it_can_not_use() {
    let folder = folder();
    let out = folder.path().join("bench");
    let arguments = ["bench", "detect", "--quick", "--accounts", "100", "--out", text(&out)];
    run(&arguments).failed(2, &["the campaigns need", "100"]);
    assert!(!out.exists());
    run(&["bench", "safe", "--data", text(folder.path())]).failed(2, &["accounts.csv"]);
    fs::write(
        folder.path().join("accounts.csv"),
        "acct,tokens,n_transactions,farmer_removed,report\n0,1.5,2,0,\n1,x,2,1,7\n",
    )
    .unwrap();
    run(&["bench", "safe", "--data", text(folder.path())]).failed(2, &["line 3", "tokens"]);
}

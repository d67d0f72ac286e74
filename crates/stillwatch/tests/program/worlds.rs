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

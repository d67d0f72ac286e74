//! `duel`: the built program, at a tiny size.

use std::fs;

use serde_json::Value;

use crate::setting::{folder, names, run, text};

#[test]
fn duels_are_fought_written_and_told() {
    let folder = folder();
    let duel = |name: &str, prices: &str| {
        let prices_file = folder.path().join("prices.toml");
        fs::write(&prices_file, prices).unwrap();
        let out = folder.path().join(name);
        let ran = run(&[
            "duel",
            "--out",
            text(&out),
            "--duels",
            "5",
            "--accounts",
            "600",
            "--exchanges",
            "15000",
            "--prices",
            text(&prices_file),
        ])
        .succeeded();
        assert_eq!(names(&out), ["duel.html", "duel.json"]);
        (ran, fs::read_to_string(out.join("duel.json")).unwrap(), out)
    };
    let (ran, json, out) = duel("one", "account = 1.5\n");
    for word in ["strategy", "stubborn", "addresses", "naive", "cheapest evasion", "5 duels"] {
        assert!(ran.stdout.contains(word), "`{word}` is not in: {}", ran.stdout);
    }
    let record: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(record["duels"], 5);
    assert_eq!(record["prices"][0]["usd"], 1.5);
    assert_eq!(record["strategies"][0]["name"], "stubborn");

    let page = fs::read_to_string(out.join("duel.html")).unwrap();
    assert!(page.contains("id=\"duel-costs\"") && page.contains("plotly.js v"));
    assert!(!page.contains("<script src"), "one page, offline");

    let (_, again, _) = duel("two", "account = 1.5\n");
    assert_eq!(json, again, "the same seed, the same bytes");

    // The same duels at other prices: what costs more is dearer.
    let (_, dear, _) = duel("dear", "account = 15\n");
    let dear: Value = serde_json::from_str(&dear).unwrap();
    let usd = |record: &Value| record["naive"]["undefended_usd"].as_f64().unwrap();
    // 48 accounts at 13.5 dollars more, for 4,300 to 4,800 answers.
    let dearer = usd(&dear) - usd(&record);
    assert!((135.0..151.0).contains(&dearer), "{dearer}");
}

#[test]
fn prices_are_printed_as_a_file_that_can_be_used() {
    let printed = run(&["duel", "--print-prices"]).succeeded().stdout;
    assert!(printed.contains("account = 0.26") && printed.contains("# "), "{printed}");
    let folder = folder();
    let path = folder.path().join("prices.toml");
    fs::write(&path, printed.replace("account = 0.26", "account = 2")).unwrap();
    let again = run(&["duel", "--print-prices", "--prices", text(&path)]).succeeded().stdout;
    assert!(again.contains("\naccount = 2.0\n"), "{again}");
}

#[test]
fn bad_arguments_are_explained() {
    let folder = folder();
    let path = folder.path().join("prices.json");
    fs::write(&path, "{\"acount\": 1}").unwrap();
    let out = folder.path().join("out");
    let with = |file: &str| run(&["duel", "--out", text(&out), "--prices", file]);
    with(text(&path)).failed(2, &["prices.json", "acount", "payment_instrument", "--print-prices"]);
    let missing = folder.path().join("none.toml");
    with(text(&missing)).failed(2, &["none.toml"]);
    assert!(!out.exists(), "nothing is made of bad arguments");
    assert_eq!(run(&["duel"]).status, Some(2));
    assert_eq!(run(&["duel", "--out", "x", "--budget", "-1"]).status, Some(2));
}

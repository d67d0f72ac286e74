//! `clear` and `null`: what is known to be innocent, and what is reported of nothing.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::setting::{Ran, folder, hunt_world, run, text, world};

/// A command on the world, with the tables that a hunt reads.
fn on_world(command: &str, more: &[&str]) -> Ran {
    let [exchanges, accounts, releases] =
        ["exchanges", "accounts.parquet", "releases.parquet"].map(|name| world().join(name));
    let tables = [
        command,
        "--exchanges",
        text(&exchanges),
        "--accounts",
        text(&accounts),
        "--releases",
        text(&releases),
    ];
    run(&[&tables, more].concat())
}

fn campaigns(out: &Path) -> Vec<String> {
    let json = fs::read_to_string(out.join("campaigns.json")).unwrap();
    let campaigns: Vec<Value> = serde_json::from_str(&json).unwrap();
    campaigns.iter().map(|c| c["campaign_id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn what_was_cleared_is_not_reported_again() {
    let folder = folder();
    let (first, second) = (folder.path().join("first"), folder.path().join("second"));
    hunt_world(world(), &world().join("exchanges"), &first).succeeded();
    let found = campaigns(&first);
    assert!(!found.is_empty());

    let file = folder.path().join("references.jsonl");
    let clear = |what: &[&str]| {
        let rest = ["--findings", text(&first), "--references", text(&file), "--why", "a class"];
        run(&[&["clear"], what, &rest].concat())
    };
    clear(&["campaign-of-dreams"]).failed(2, &["campaign-of-dreams", &found[0]]);
    assert!(!file.exists());
    for campaign in &found {
        assert!(clear(&[campaign]).succeeded().stdout.contains("1 added"));
    }
    assert!(clear(&[&found[0]]).succeeded().stdout.contains("there already"));
    clear(&["--customers", "--harmless", "email_domain=campus.example"]).succeeded();
    let unknown = clear(&["--harmless", "postcode=12345"]);
    assert_eq!(unknown.status, Some(2));
    assert!(unknown.stderr.contains("email_domain"), "{}", unknown.stderr);

    on_world("hunt", &["--references", text(&file), "--out", text(&second)]).succeeded();
    assert_eq!(campaigns(&second), [""; 0]);

    let kept = fs::read_to_string(&file).unwrap();
    fs::write(&file, kept.replacen("\"stratum\"", "\"secret stratum\"", 1)).unwrap();
    let broken = on_world("hunt", &["--references", text(&file), "--out", text(&second)]);
    assert!(!broken.stderr.contains("secret"), "{}", broken.stderr);
    broken.failed(2, &["references.jsonl, line 1"]);
}

#[test]
fn null_days_tell_what_is_reported_of_nothing() {
    let folder = folder();
    let out = folder.path().join("null");
    let ran = on_world("null", &["--days", "3", "--out", text(&out)]).succeeded();
    for word in ["null days", "placebo bans", "placebo releases", "promised at most 0.15"] {
        assert!(ran.stdout.contains(word), "{}", ran.stdout);
    }
    let json = fs::read_to_string(out.join("null.json")).unwrap();
    let record: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&record["days"], &record["level"]), (&3.into(), &0.05.into()));
    // The world's own campaigns are gone where nobody does what they did.
    assert_eq!(record["reported"], 0);
    assert!(record["interval_95"][1].as_f64().unwrap() > 3.0);
    assert_eq!(record["placebo_bans"]["runs"], 3);
    assert_eq!(record["placebo_releases"]["runs"], 3);

    let again = folder.path().join("again");
    on_world("null", &["--days", "3", "--out", text(&again), "--threads", "3"]).succeeded();
    assert_eq!(fs::read_to_string(again.join("null.json")).unwrap(), json);
}

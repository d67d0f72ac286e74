//! `stillwatch guard --rehearse`: a policy tried on a world's exchanges.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde_json::Value;
use stillwatch_exchange::Time;

use crate::setting::{Ran, folder, hunt_world, parts, rows, run, text, world, write_rows};

const POLICY: &str = r#"
[[rule]]
name = "all"
rank_only = true
steps = [
    { do = ["slow", "withhold"], for = "3 days" },
    { do = ["cap", "withhold"], for = "4 days" },
    { do = "refuse", for = "14 days" },
]
"#;

/// What a hunt finds in the world.
fn findings() -> &'static Path {
    static FOUND: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    let (_, path) = FOUND.get_or_init(|| {
        let folder = folder();
        let out = folder.path().join("findings");
        hunt_world(world(), &world().join("exchanges"), &out).succeeded();
        (folder, out)
    });
    path
}

fn rehearse(folder: &Path, policy: &str, more: &[&str]) -> Ran {
    let file = folder.join("policy.toml");
    fs::write(&file, policy).unwrap();
    let state = folder.join("state");
    let mut arguments = vec!["guard", "--rehearse", "--policy", text(&file)];
    arguments.extend(["--verdicts", text(findings()), "--state", text(&state)]);
    arguments.extend(more);
    run(&arguments)
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

#[test]
fn the_same_exchanges_give_the_same_bytes_however_they_are_split() {
    let folder = folder();
    let exchanges = world().join("exchanges");
    let accounts = world().join("accounts.parquet");
    let all = rows(&parts(&exchanges));
    let split = folder.path().join("split");
    fs::create_dir(&split).unwrap();
    let half = all.num_rows() / 2;
    write_rows(&split.join("z.parquet"), &all.slice(0, half), 1000);
    write_rows(&split.join("a.parquet"), &all.slice(half, all.num_rows() - half), 5000);
    let mut told = Vec::new();
    for (name, exchanges) in [("1.json", &exchanges), ("2.json", &exchanges), ("3.json", &split)] {
        let out = folder.path().join(name);
        let more =
            ["--exchanges", text(exchanges), "--accounts", text(&accounts), "--out", text(&out)];
        let ran = rehearse(folder.path(), POLICY, &more).succeeded();
        told.push((ran.stdout, fs::read_to_string(out).unwrap()));
    }
    assert!(told[0] == told[1], "twice the same");
    // How many files there were is told, and nothing else differs.
    let files = |json: &str| json.replace("\"files\": 3,", "\"files\": 2,");
    assert!(files(&told[0].1) == told[2].1, "split otherwise");

    let json: Value = serde_json::from_str(&told[0].1).unwrap();
    assert_eq!(json["exchanges"], all.num_rows());
    let rule = &json["rules"][0];
    let count = |value: &Value| value.as_u64().unwrap();
    let by_step = rule["steps"].as_array().unwrap().iter();
    let of_steps: u64 = by_step.map(|step| count(&step["exchanges"])).sum();
    let touched = json["accounts"].as_array().unwrap();
    let of_accounts: u64 = touched.iter().map(|account| count(&account["exchanges"])).sum();
    assert!(of_steps > 1000 && of_steps == of_accounts, "{of_steps} {of_accounts}");
    let kept: u64 = touched.iter().map(|account| count(&account["kept_output_tokens"])).sum();
    assert_eq!(kept, count(&json["named"]["kept_output_tokens"]));
    assert!(kept > 0 && kept < count(&json["named"]["output_tokens"]));
    assert_eq!(touched.len() as u64, count(&json["touched_accounts"]));
    let time = |value: &Value| Time::parse(value.as_str().unwrap()).unwrap();
    let second_step = time(&json["first"]).0 + 3 * 86_400_000_000;
    assert!(time(&rule["steps"][0]["last"]).0 < second_step);
    assert!(time(&rule["steps"][1]["first"]).0 >= second_step);
    let says = &told[0].0;
    for what in ["Rehearsed on ", "refuse", "Touched: ", "In no campaign, and not touched: "] {
        assert!(says.contains(what), "{says}");
    }
    assert!(!folder.path().join("state").exists(), "nothing begins");
}

#[test]
fn what_is_known_of_innocence_is_told() {
    let folder = folder();
    let exchanges = world().join("exchanges");
    let out = folder.path().join("out.json");
    let references = folder.path().join("references.jsonl");
    let campaigns = json(&findings().join("campaigns.json"));
    let id = campaigns[0]["campaign_id"].as_str().unwrap();
    let clear = ["clear", id, "--findings", text(findings()), "--why", "a class"];
    run(&[&clear[..], &["--references", text(&references)]].concat()).succeeded();

    let base = ["--exchanges", text(&exchanges), "--out", text(&out)];
    rehearse(folder.path(), POLICY, &base).succeeded();
    let all = json(&out);
    assert_eq!(all["innocent_accounts"], 0, "{}", all["innocent"]);
    let spared = all["accounts"][0]["account_id"].as_str().unwrap().to_owned();

    let more = [&base[..], &["--references", text(&references)]].concat();
    rehearse(folder.path(), POLICY, &more).succeeded();
    let with_class = json(&out);
    assert!(with_class["innocent"]["cleared"].as_u64().unwrap() > 10);
    assert_eq!(with_class["touched_accounts"], all["touched_accounts"]);

    let policy = format!("[exempt]\naccounts = [\"{spared}\"]\n{POLICY}");
    rehearse(folder.path(), &policy, &base).succeeded();
    let with_exemption = json(&out);
    assert_eq!(with_exemption["untouched"]["exempt"], 1);
    assert_eq!(
        with_exemption["touched_accounts"].as_u64().unwrap() + 1,
        all["touched_accounts"].as_u64().unwrap()
    );

    rehearse(folder.path(), POLICY, &[&base[..], &["--in-force-from", "detected"]].concat())
        .succeeded();
    let detected = json(&out);
    assert!(
        detected["named"]["kept_output_tokens"].as_u64()
            < all["named"]["kept_output_tokens"].as_u64()
    );
}

#[test]
fn what_can_not_be_rehearsed_is_said() {
    let folder = folder();
    let exchanges = world().join("exchanges");
    let given = ["--exchanges", text(&exchanges)];
    rehearse(folder.path(), POLICY, &[]).failed(2, &["no records", "--exchanges"]);
    rehearse(folder.path(), "mood = 3\n", &given)
        .failed(2, &["policy.toml line 1", "unknown field `mood`"]);
    rehearse(folder.path(), POLICY, &["--exchanges", "/none"]).failed(2, &["/none"]);
    rehearse(folder.path(), POLICY, &["--exchanges", text(findings())])
        .failed(2, &["nothing to rehearse on"]);
    let nowhere = [&given[..], &["--out", "/none/out.json"]].concat();
    rehearse(folder.path(), POLICY, &nowhere).failed(1, &["/none/out.json"]);
    let alone = run(&["guard", "--upstream", "http://x", "--exchanges", "x"]);
    assert_eq!(alone.status, Some(2));
    assert!(alone.stderr.contains("--rehearse"), "{}", alone.stderr);
    let without_policy = run(&["guard", "--rehearse", "--verdicts", text(findings())]);
    assert_eq!(without_policy.status, Some(2));
    assert!(without_policy.stderr.contains("--policy"), "{}", without_policy.stderr);
}

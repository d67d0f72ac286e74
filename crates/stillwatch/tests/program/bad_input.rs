//! What is wrong with the input or the machine is said in a clear line with the right
//! exit status, or counted and passed over.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::setting::{
    FINDINGS, Ran, START_US, bare, folder, hunt, names, parts, run, stillwatch, text, world,
    write_rows,
};

const HOUR_US: i64 = 3_600_000_000;

#[test]
fn nothing_to_read_is_a_matter_of_arguments() {
    let folder = folder();
    let out = folder.path().join("out");
    let at = |name: &str| folder.path().join(name);
    hunt(&[&at("none")], &out).failed(2, &["none", "no such file"]);
    hunt(&[&at("*.none")], &out).failed(2, &["*.none"]);

    fs::write(at("empty.parquet"), "").unwrap();
    hunt(&[&at("empty.parquet")], &out).failed(2, &["empty.parquet", "is empty"]);

    let unrelated = at("unrelated");
    fs::create_dir(&unrelated).unwrap();
    fs::write(unrelated.join("notes.txt"), "buy milk\n").unwrap();
    fs::write(unrelated.join("picture.png"), b"\x89PNG\r\n\x1a\n\0\0\0").unwrap();
    fs::write(unrelated.join("table.csv"), "a,b\n1,2\n").unwrap();
    hunt(&[&unrelated], &out).failed(2, &["3 files", "notes.txt"]);
    run(&["sketch", "--exchanges", text(&unrelated), "--out", text(&out)])
        .failed(2, &["notes.txt"]);
    assert!(!out.exists(), "no folder is left where nothing was found");
}

#[test]
fn unusable_arguments() {
    let folder = folder();
    let out = folder.path().join("out");
    let exchanges = world().join("exchanges");
    for level in ["0", "1", "-1", "NaN", "inf", "x"] {
        let ran = run(&[
            "hunt",
            "--exchanges",
            text(&exchanges),
            "--out",
            text(&out),
            &format!("--level={level}"),
        ]);
        assert_eq!(ran.status, Some(2), "level {level}: {}", ran.stderr);
        assert!(ran.stderr.contains("--level"), "{}", ran.stderr);
    }
    let ran = run(&["hunt", "--exchanges", text(&exchanges), "--out", text(&out), "--format", "x"]);
    assert_eq!(ran.status, Some(2));
    assert!(ran.stderr.contains("otlp"), "the formats are listed: {}", ran.stderr);
    assert_eq!(run(&["hunt"]).status, Some(2));
    assert_eq!(run(&["seek"]).status, Some(2));

    let with_key = |key: &Path| {
        let key = text(key);
        run(&["hunt", "--exchanges", text(&exchanges), "--out", text(&out), "--key-file", key])
    };
    let key = folder.path().join("key");
    with_key(&key).failed(2, &["key file"]);
    fs::write(&key, "short\n").unwrap();
    let ran = with_key(&key).failed(2, &["key file", "16"]);
    assert!(!ran.stderr.contains("short"), "a secret is never shown");
    assert!(!out.exists());
}

#[test]
fn a_broken_file_among_good_ones_is_named() {
    let folder = folder();
    let logs = folder.path().join("logs");
    fs::create_dir(&logs).unwrap();
    for part in parts(&world().join("exchanges")) {
        fs::copy(&part, logs.join(part.file_name().unwrap())).unwrap();
    }
    let whole = fs::read(&parts(&logs)[0]).unwrap();
    fs::write(logs.join("truncated.parquet"), &whole[..whole.len() / 2]).unwrap();
    fs::write(logs.join("empty.jsonl"), "").unwrap();
    fs::write(
        logs.join("half.jsonl"),
        concat!(
            "{\"time\":\"2026-03-02T10:00:00Z\",\"account_id\":\"a\",\"prompt\":\"whole\"}\n",
            "{\"time\":\"0001-01-01T00:00:00Z\",\"account_id\":\"a\",\"prompt\":\"too early\"}\n",
            "{\"time\":\"9999-12-30T00:00:00Z\",\"account_id\":\"a\",\"prompt\":\"too late\"}\n",
            "{\"time\":\"2026-03-02T10:00:00Z\",\"account_id\":\"a\",\"prompt\":\"cut in ha",
        ),
    )
    .unwrap();
    let out = folder.path().join("out");
    let ran = hunt(&[&logs], &out).succeeded();
    for word in ["truncated.parquet", "empty.jsonl", "time_implausible 2", "truncated_line 1"] {
        assert!(ran.stdout.contains(word), "{word} is not in:\n{}", ran.stdout);
    }
    for secret in ["cut in ha", "too late"] {
        let said = format!("{}{}", ran.stdout, fs::read_to_string(out.join("run.json")).unwrap());
        assert!(!said.contains(secret), "prompt text in a message");
    }
    assert_eq!(names(&out), FINDINGS);
}

#[test]
fn a_table_that_can_not_be_used_is_said_before_anything_is_hunted() {
    let folder = folder();
    let at = |name: &str| folder.path().join(name);
    let (exchanges, accounts) = (world().join("exchanges"), world().join("accounts.parquet"));
    fs::write(at("table.csv"), "account_id,plan\na,free\n").unwrap();
    let (out, state) = (at("out"), at("state"));
    for command in ["hunt", "watch", "null"] {
        let with = |more: &[&str]| {
            let mut arguments = vec![command, "--exchanges", text(&exchanges), "--out", text(&out)];
            match command {
                "watch" => arguments.extend(["--once", "--state", text(&state)]),
                "null" => arguments.extend(["--days", "1"]),
                _ => {}
            }
            arguments.extend(more);
            run(&arguments)
        };
        with(&["--accounts", text(&exchanges)])
            .failed(2, &[text(&exchanges), "looks like exchanges, not like accounts"]);
        with(&["--accounts", text(&accounts), text(&at("table.csv"))])
            .failed(2, &["table.csv", "format is not recognised", "Parquet or JSON Lines"]);
        with(&["--releases", text(&accounts)])
            .failed(2, &["accounts.parquet", "no columns model, released_at", "leave it out"]);
        assert!(!out.exists(), "nothing is left of a {command} that could not begin");
    }
}

#[test]
fn a_table_with_some_bad_rows_is_used_and_the_rows_are_told() {
    let folder = folder();
    let accounts = folder.path().join("accounts.jsonl");
    fs::write(&accounts, "{\"account_id\":\"a\"}\n{\"plan\":\"free\"}\n").unwrap();
    let (out, exchanges) = (folder.path().join("out"), world().join("exchanges"));
    let arguments = ["--exchanges", text(&exchanges), "--accounts", text(&accounts)];
    let ran = run(&[&["hunt", "--out", text(&out)], &arguments[..]].concat()).succeeded();
    assert!(ran.stdout.contains("accounts: account_id_missing 1"), "{}", ran.stdout);
}

#[test]
fn an_output_folder_that_can_not_be_made() {
    let folder = folder();
    let file = folder.path().join("file");
    fs::write(&file, "a file, not a folder").unwrap();
    let exchanges = world().join("exchanges");
    for out in [file.clone(), file.join("below")] {
        hunt(&[&exchanges], &out).failed(1, &["file is in the way"]);
        run(&["sketch", "--exchanges", text(&exchanges), "--out", text(&out)])
            .failed(1, &["file is in the way"]);
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), "a file, not a folder");
}

/// Hunts in exchanges of these accounts at these hours, which must go well.
fn hunts(exchanges: impl Iterator<Item = (i64, String, String)>) -> Ran {
    let folder = folder();
    let path = folder.path().join("exchanges.parquet");
    write_rows(&path, &bare(exchanges), 50_000);
    let out = folder.path().join("out");
    let ran = hunt(&[&path], &out).succeeded();
    assert_eq!(names(&out), FINDINGS);
    ran
}

#[test]
fn many_accounts_with_one_exchange_each() {
    let ran =
        hunts((0..100_000).map(|i| {
            (START_US + i * HOUR_US / 100, format!("account {i}"), format!("question {i}"))
        }));
    assert!(ran.stdout.contains("100,000 accounts"), "{}", ran.stdout);
}

#[test]
fn one_account_with_all_exchanges() {
    let ran = hunts(
        (0..50_000)
            .map(|i| (START_US + i * HOUR_US / 50, "account".to_owned(), format!("question {i}"))),
    );
    assert!(ran.stdout.contains("1 account "), "{}", ran.stdout);
}

#[test]
fn every_row_identical() {
    hunts((0..50_000).map(|_| (START_US, "account".to_owned(), "the same".to_owned())));
}

#[test]
fn one_row() {
    hunts(std::iter::once((START_US, "account".to_owned(), "hello".to_owned())));
}

/// Presses Ctrl-C when a run says that this stage has begun.
fn interrupt(arguments: &[&str], stage: &str) -> Ran {
    let mut child =
        stillwatch(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap());
    let mut stderr = String::new();
    while !stderr.lines().any(|line| line.starts_with(stage)) {
        assert!(lines.read_line(&mut stderr).unwrap() > 0, "no {stage}: {stderr}");
    }
    let pressed = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(pressed.unwrap().success());
    lines.read_to_string(&mut stderr).unwrap();
    let output = child.wait_with_output().unwrap();
    Ran { stderr, ..Ran::from(output) }
}

#[test]
#[cfg(unix)]
fn control_c_stops_and_leaves_nothing_unfinished() {
    let folder = folder();
    let world = folder.path().join("world");
    let large = ["--seed", "1", "--exchanges", "400000", "--campaigns", "none"];
    let simulate = [&["simulate", "--out", text(&world)], &large[..]].concat();
    interrupt(&simulate, "simulate").failed(1, &["stopped"]);
    assert!(!world.exists(), "{:?}", names(folder.path()));

    run(&simulate).succeeded();
    let exchanges = world.join("exchanges");
    let out = folder.path().join("out");
    fs::create_dir(&out).unwrap();
    fs::write(out.join("campaigns.json"), "an earlier hunt's").unwrap();
    let hunt = ["hunt", "--exchanges", text(&exchanges), "--out", text(&out), "--threads", "1"];
    interrupt(&hunt, "profile").failed(1, &["stopped"]);
    assert_eq!(names(&out), ["campaigns.json"]);
    assert_eq!(fs::read_to_string(out.join("campaigns.json")).unwrap(), "an earlier hunt's");

    let sketches = folder.path().join("sketches");
    let sketch = ["sketch", "--exchanges", text(&exchanges), "--out", text(&sketches)];
    interrupt(&sketch, "sketch").failed(1, &["stopped"]);
    assert!(!sketches.exists());
}

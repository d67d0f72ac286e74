//! Who else is told of findings: OCSF events and a webhook.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use arrow::array::AsArray;
use serde_json::Value;

use crate::setting::{Ran, folder, hunt_world, parts, rows, run, stillwatch, text, world};

const KEY: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// An endpoint that is busy at first; the heads and bodies that it gets.
fn endpoint() -> (String, Receiver<(String, String)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let (sender, receiver) = channel();
    thread::spawn(move || {
        for (count, stream) in listener.incoming().enumerate() {
            let mut reader = BufReader::new(stream.unwrap());
            let (mut head, mut line) = (String::new(), String::new());
            while reader.read_line(&mut line).unwrap() > 2 {
                head.push_str(&line.to_ascii_lowercase());
                line.clear();
            }
            let length = head.split("content-length: ").nth(1).unwrap();
            let mut body = vec![0; length.lines().next().unwrap().parse().unwrap()];
            reader.read_exact(&mut body).unwrap();
            let status = if count == 0 { "503 Busy" } else { "204 Taken" };
            let answer = format!("HTTP/1.1 {status}\r\nconnection: close\r\n\r\n");
            reader.get_mut().write_all(answer.as_bytes()).unwrap();
            if sender.send((head, String::from_utf8(body).unwrap())).is_err() {
                return;
            }
        }
    });
    (url, receiver)
}

/// Watches the world to its end below a folder; tells by these arguments.
fn watch(below: &Path, more: &[&str]) -> Ran {
    let path = |name: &str| text(&below.join(name)).to_owned();
    let of_world = |name: &str| text(&world().join(name)).to_owned();
    let paths = [of_world("exchanges"), of_world("accounts.parquet"), of_world("releases.parquet")];
    let (out, state, ocsf) = (path("findings"), path("state"), path("ocsf.jsonl"));
    let arguments = [
        &["watch", "--once", "--quiet", "--exchanges", &paths[0], "--accounts", &paths[1]][..],
        &["--releases", &paths[2], "--out", &out, "--state", &state, "--ocsf", &ocsf],
        more,
    ]
    .concat();
    stillwatch(&arguments).env("STILLWATCH_WEBHOOK_KEY", KEY).output().unwrap().into()
}

fn events(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn each_campaign_is_announced_once_and_followed() {
    let (one, other) = (folder(), folder());
    let (url, got) = endpoint();
    watch(one.path(), &["--webhook", &url, "--webhook-report", "https://r.example/"]).succeeded();
    let ocsf = one.path().join("ocsf.jsonl");
    let told = events(&ocsf);
    let created: Vec<&Value> = told.iter().filter(|event| event["activity_id"] == 1).collect();
    let uids: BTreeSet<&str> =
        told.iter().map(|event| event["finding_info"]["uid"].as_str().unwrap()).collect();
    assert!(!created.is_empty() && told.len() > created.len(), "{told:?}");
    assert_eq!(created.len(), uids.len(), "each campaign is created once");
    for event in &told {
        assert_eq!((&event["class_uid"], &event["category_uid"]), (&2004.into(), &2.into()));
    }

    let messages: Vec<(String, String)> = got.try_iter().collect();
    let header = |head: &str, name: &str| {
        let value = head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        value.unwrap_or_else(|| panic!("no {name} in {head}")).to_owned()
    };
    let ids: BTreeSet<String> =
        messages.iter().map(|(head, _)| header(head, "webhook-id")).collect();
    assert_eq!(ids.len(), uids.len(), "each is announced");
    assert_eq!(messages.len(), uids.len() + 1, "once, but for the one that was not taken");
    assert_eq!(messages[0].1, messages[1].1);
    for (head, body) in &messages {
        assert!(header(head, "webhook-signature").starts_with("v1,"));
        let body: Value = serde_json::from_str(body).unwrap();
        assert!(uids.contains(body["data"]["campaign_id"].as_str().unwrap()), "{body}");
    }

    // Nobody's account, prompt or address is in any of it.
    let said = fs::read_to_string(&ocsf).unwrap() + &messages[0].1 + &messages[1].1;
    let all = rows(&parts(&world().join("exchanges")));
    for name in ["account_id", "prompt", "client_address", "credential_id", "user_agent"] {
        let column = all.column_by_name(name).unwrap().as_string_view();
        let secrets: BTreeSet<&str> = column.iter().flatten().filter(|s| s.len() > 6).collect();
        assert!(secrets.len() > 10);
        assert!(secrets.iter().all(|secret| !said.contains(secret)), "{name}");
    }

    // Run again, nothing is announced again; elsewhere, the same is told in the same bytes.
    watch(one.path(), &["--webhook", &url]).succeeded();
    assert!(got.try_recv().is_err());
    assert_eq!(events(&ocsf), told);
    watch(other.path(), &[]).succeeded();
    assert_eq!(fs::read(other.path().join("ocsf.jsonl")).unwrap(), fs::read(&ocsf).unwrap());
}

#[test]
fn a_hunt_tells_of_its_campaigns() {
    let folder = folder();
    let (out, path) = (folder.path().join("findings"), folder.path().join("ocsf.jsonl"));
    hunt_world(world(), &world().join("exchanges"), &out).succeeded();
    let found = fs::read_to_string(out.join("campaigns.json")).unwrap();
    let found: Vec<Value> = serde_json::from_str(&found).unwrap();
    let of_world = |name: &str| world().join(name);
    let arguments = [
        ("--exchanges", of_world("exchanges")),
        ("--accounts", of_world("accounts.parquet")),
        ("--releases", of_world("releases.parquet")),
        ("--out", out),
        ("--ocsf", path.clone()),
    ];
    let mut all = vec!["hunt"];
    all.extend(arguments.iter().flat_map(|(flag, path)| [*flag, text(path)]));
    run(&all).succeeded();
    let ids = |of: &[Value], name: &str| -> Vec<Value> {
        of.iter().map(|one| one.pointer(name).unwrap().clone()).collect()
    };
    assert!(!found.is_empty());
    assert_eq!(ids(&events(&path), "/finding_info/uid"), ids(&found, "/campaign_id"));
}

#[test]
fn what_can_not_be_told_by_is_said() {
    let folder = folder();
    let out = text(folder.path()).to_owned();
    let arguments = ["watch", "--exchanges", "x", "--out", &out, "--state", &out, "--webhook"];
    let with = |url: &str, key: Option<&str>| -> Ran {
        let mut command = stillwatch(&arguments);
        command.arg(url).env_remove("STILLWATCH_WEBHOOK_KEY");
        if let Some(key) = key {
            command.env("STILLWATCH_WEBHOOK_KEY", key);
        }
        command.output().unwrap().into()
    };
    with("https://h.example/s3cret", None).failed(2, &["STILLWATCH_WEBHOOK_KEY"]);
    let ran = with("https://h.example/", Some("hunter2")).failed(2, &["24 to 64 bytes"]);
    assert!(!ran.stderr.contains("hunter2"));
    let ran = with("h.example/s3cret", Some(KEY)).failed(2, &["--webhook"]);
    assert!(!ran.stderr.contains("s3cret"));
    fs::write(folder.path().join("announced.json"), "[]").unwrap();
    with("https://h.example/", Some(KEY)).failed(2, &["announced.json"]);
}

#[test]
fn a_file_that_can_not_be_written_is_told_of_before_the_work() {
    let folder = folder();
    let below = |name: &str| folder.path().join(name);
    let (nowhere, exchanges, out) =
        (below("none/o.jsonl"), world().join("exchanges"), below("out"));
    for command in ["hunt", "watch"] {
        let mut arguments = vec![command, "--exchanges", text(&exchanges), "--out", text(&out)];
        arguments.extend(["--ocsf", text(&nowhere)]);
        let state = below("state");
        if command == "watch" {
            arguments.extend(["--once", "--state", text(&state)]);
        }
        run(&arguments).failed(1, &["cannot write", text(&nowhere), "No such file"]);
        assert!(!out.exists() && !state.exists(), "nothing was begun");
    }
    // One below a folder that the run itself makes is all right.
    let inside = out.join("ocsf.jsonl");
    let hunt = ["hunt", "--exchanges", text(&exchanges), "--out", text(&out), "--ocsf"];
    run(&[&hunt[..], &[text(&inside)]].concat()).succeeded();
    assert!(inside.exists());
}

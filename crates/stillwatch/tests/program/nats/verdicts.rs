//! Findings in a bucket: published by a watch, followed by guards.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use stillwatch_broker::{Bundle, CHUNK_BYTES, Cells, News, Swap, latest, publish};

use super::server::{Nats, wait};
use crate::guard::{Guard, Model};
use crate::setting::{Ran, folder, run, stillwatch, text, world};

const KEY: &str = "k3y-0123456789-abcdefghij";

/// Asks a guard's administration; its status and body.
pub fn administration(address: &str, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    let request = format!(
        "GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

/// A guard with a key of ours, and where its administration is.
pub fn guard(model: &Model, state: &Path, more: &[&str]) -> (Guard, String) {
    fs::create_dir_all(state).unwrap();
    let key = state.join("admin.key");
    fs::write(&key, KEY).unwrap();
    close_to_others(&key);
    let mut guard = Guard::start(model, state, more);
    let said = guard.says("administration on ");
    let address = said.rsplit(' ').next().unwrap().trim().to_owned();
    (guard, address)
}

#[cfg(unix)]
fn close_to_others(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

#[cfg(not(unix))]
fn close_to_others(_: &Path) {}

fn campaigns(address: &str) -> Value {
    let (status, body) = administration(address, "/v1/campaigns");
    assert_eq!(status, 200);
    serde_json::from_str(&body).unwrap()
}

#[test]
fn a_guard_follows_what_a_watch_publishes_and_goes_on_without_the_server() {
    let Some(mut nats) = Nats::start() else { return };
    let folder = folder();
    let url = nats.url("verdicts");
    let out = folder.path().join("found");
    let state = folder.path().join("watch");
    let exchanges = world().join("exchanges");
    let accounts = world().join("accounts.parquet");
    let watch = [
        &["watch", "--once", "--look-every", "7d", "--exchanges", text(&exchanges), "--accounts"],
        &[text(&accounts), "--out", text(&out), "--state", text(&state), "--publish", &url][..],
    ]
    .concat();
    run(&watch).succeeded();
    let found: Value =
        serde_json::from_slice(&fs::read(out.join("campaigns.json")).unwrap()).unwrap();
    assert!(!found.as_array().unwrap().is_empty());

    let model = Model::start();
    let state = folder.path().join("guard");
    let (mut followed, address) = guard(&model, &state, &["--verdicts", &url]);
    assert_eq!(campaigns(&address), found);

    // A change is put in force as it comes.
    let none = Bundle(vec![
        ("campaigns.json".to_owned(), "[]".into()),
        ("members.parquet".to_owned(), fs::read(out.join("members.parquet")).unwrap().into()),
    ]);
    wait(async { publish(&nats.connect("verdicts").await, &none).await.unwrap() });
    followed.says("members.parquet: names a campaign that campaigns.json does not have");
    assert_eq!(campaigns(&address), found, "what can't be used changes nothing");
    wait(async {
        let cells = Cells::open(&nats.connect("verdicts").await, Duration::ZERO).await.unwrap();
        let read = cells.read("head").await.unwrap();
        cells.replace("head", &read, "{\"version\":1,\"files\":[".into()).await.unwrap();
    });
    followed.says("verdicts: the head of the findings can't be read");
    assert_eq!(campaigns(&address), found);
    let mut changed = found.clone();
    changed[0]["rank"] = Value::from(7);
    let bundle = Bundle(vec![
        ("campaigns.json".to_owned(), changed.to_string().into()),
        ("members.parquet".to_owned(), fs::read(out.join("members.parquet")).unwrap().into()),
    ]);
    wait(async { publish(&nats.connect("verdicts").await, &bundle).await.unwrap() });
    followed.says("reloaded: ");
    assert_eq!(campaigns(&address), changed);

    // Without the server it goes on, says so, and is ready all the same.
    nats.kill();
    followed.says("the last verdicts stay in force");
    let (status, ready) = administration(&address, "/readyz");
    assert_eq!(status, 200);
    assert!(ready.contains("verdicts of nats://"), "{ready}");
    assert_eq!(campaigns(&address), changed);
    followed.child.kill().unwrap();
    followed.child.wait().unwrap();
    let (mut again, address) = guard(&model, &state, &["--verdicts", &url]);
    assert_eq!(campaigns(&address), changed, "kept over a restart without the server");
    nats.run();
    again.says("answers again");
    again.signal("-TERM");
    assert!(again.child.wait().unwrap().success());

    let nowhere = folder.path().join("other");
    let ran = stillwatch(&["guard", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
        .args(["--upstream", "http://x", "--state", text(&nowhere)])
        .args(["--verdicts", &nats.url("nothing")])
        .output()
        .unwrap();
    let made_by = format!("`stillwatch watch --publish {}` makes it", nats.url("nothing"));
    let ran = Ran::from(ran).failed(2, &["there is no bucket nothing", &made_by]);
    assert!(!ran.stderr.contains("does not answer"), "it does: {}", ran.stderr);
}

#[test]
fn a_guard_without_anything_to_send_says_when_the_server_is_away_and_when_it_is_back() {
    let Some(mut nats) = Nats::start() else { return };
    nats.kill();
    let (folder, model) = (folder(), Model::start());
    let (stream, limits) = (nats.url("exchanges"), nats.url("limits"));
    let mut guard =
        Guard::start(&model, folder.path(), &["--publish", &stream, "--limits", &limits]);
    let mut said = String::new();
    let mut says = |guard: &mut Guard, what: [&str; 2]| {
        while what.iter().any(|what| !said.contains(what)) {
            said.push_str(&guard.says("\n"));
        }
    };
    let away = [stream + " does not answer", limits + " does not answer"];
    says(&mut guard, away.each_ref().map(String::as_str));
    nats.run();
    says(&mut guard, ["exchanges answers again", "limits answers again"]);
    guard.signal("-TERM");
    let (status, rest) = guard.ended();
    assert!(status.success());
    said.push_str(&rest);
    for what in ["exchanges does not", "limits does not", "exchanges answers", "limits answers"] {
        assert_eq!(said.matches(what).count(), 1, "{what}: {said}");
    }
    let made = wait(async { latest(&nats.connect("limits").await).await });
    assert_eq!(made, Ok(News::Empty), "the bucket is made before it is needed");
}

#[test]
fn large_findings_are_there_whole_or_not_at_all() {
    let Some(nats) = Nats::start() else { return };
    let bundle = |seed: u64| {
        let bytes: Vec<u8> = (0..5 * CHUNK_BYTES as u64 / 2)
            .map(|at| (at.wrapping_mul(seed).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8)
            .collect();
        Bundle(vec![("campaigns.json".to_owned(), bytes.into())])
    };
    wait(async {
        let server = nats.connect("large").await;
        for seed in 1..=4 {
            publish(&server, &bundle(seed)).await.unwrap();
            assert_eq!(latest(&server).await, Ok(News::Bundle(bundle(seed))));
        }
        let cells = Cells::open(&server, Duration::ZERO).await.unwrap();
        let mut there = Vec::new();
        for seed in 1..=4 {
            let (_, chunks) = bundle(seed).divided().unwrap();
            assert_eq!(chunks.len(), 3);
            for name in chunks.keys() {
                let cell = cells.read(&format!("chunk.{name}")).await.unwrap();
                there.push(cell.value.is_some());
            }
        }
        let expected = [[false; 6], [true; 6]].concat();
        assert_eq!(there, expected, "this bundle and the one before are there");

        let name = bundle(4).divided().unwrap().0.chunks().nth(1).unwrap().clone();
        let read = cells.read(&format!("chunk.{name}")).await.unwrap();
        let changed = cells.replace(&format!("chunk.{name}"), &read, "other".into()).await;
        assert_eq!(changed, Ok(Swap::Done));
        let Ok(News::Refused(why)) = latest(&server).await else { panic!("it is changed") };
        let why = why.to_string();
        assert!(why.ends_with("part 2 of 3 of campaigns.json is not what was published"), "{why}");
        let again = cells.replace(&format!("chunk.{name}"), &read, "late".into()).await;
        assert_eq!(again, Ok(Swap::Lost), "who has read an older value is told");
    });
}

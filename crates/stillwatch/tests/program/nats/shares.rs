//! Several watches that count one stream together find what one watch finds, whatever is
//! killed and whenever.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};
use std::thread;
use std::time::Duration;

use serde_json::Value;
use stillwatch_broker::{Line, Writer};
use stillwatch_exchange::Time;

use super::exchanges::Numbers;
use super::server::{Nats, wait};
use crate::setting::{Ran, folder, stillwatch, text, world};
use crate::watch::all_lines;

const SHARES: usize = 3;
const HOUR_US: i64 = 3_600_000_000;

/// Publishes the world hour by hour, an account always in the same of so many partitions.
fn publish(nats: &Nats, stream: &str, partitions: u32) {
    let mut hours: BTreeMap<i64, BTreeMap<u32, Vec<u8>>> = BTreeMap::new();
    for line in all_lines() {
        let exchange: Value = serde_json::from_str(line).unwrap();
        let hour = Time::parse(exchange["time"].as_str().unwrap()).unwrap().0 / HOUR_US;
        let account = exchange["account_id"].as_str().unwrap();
        let partition = account.bytes().map(u32::from).sum::<u32>() % partitions;
        let lines = hours.entry(hour).or_default().entry(partition).or_default();
        lines.extend_from_slice(line.as_bytes());
    }
    wait(async {
        let server = nats.connect(stream).await;
        let writer = Writer::open(&server, "test").await.unwrap();
        for (number, partitions) in (1..).zip(hours.into_values()) {
            let message = |(partition, lines): (u32, Vec<u8>)| Line {
                partition,
                id: format!("{number} {partition}"),
                reaches: (number, 1),
                payload: lines.into(),
            };
            writer.write(partitions.into_iter().map(message).collect()).await.unwrap();
        }
    });
}

/// The arguments of a watch over a stream; of a share where there is a number.
fn arguments(nats: &Nats, folder: &Path, share: Option<usize>, of: usize) -> Vec<String> {
    let accounts = world().join("accounts.parquet");
    let releases = world().join("releases.parquet");
    let state = folder.join(format!("state-{}", share.unwrap_or_default()));
    let mut arguments = vec!["watch", "--once", "--quiet", "--threads", "1"];
    let (exchanges, through) = (nats.url("world"), nats.url("through"));
    let (number, out) = (format!("{}/{of}", share.unwrap_or_default()), folder.join("found"));
    arguments.extend(["--exchanges", &exchanges, "--state", text(&state)]);
    arguments.extend(["--accounts", text(&accounts), "--releases", text(&releases)]);
    if share.is_some() {
        arguments.extend(["--share", &number, "--through", &through]);
    }
    if share.is_none_or(|share| share == 1) {
        arguments.extend(["--out", text(&out)]);
    }
    arguments.into_iter().map(str::to_owned).collect()
}

fn start(nats: &Nats, folder: &Path, share: usize) -> Child {
    begun(&arguments(nats, folder, Some(share), SHARES))
}

fn begun(arguments: &[String]) -> Child {
    stillwatch(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn ended(child: Child) -> Ran {
    Ran::from(child.wait_with_output().unwrap())
}

/// One line for each look.
fn looks(ran: &Ran) -> Vec<&str> {
    ran.stdout.lines().filter(|line| line.contains(" of ")).collect()
}

fn same(one: &Path, other: &Path) {
    for file in ["campaigns.json", "members.parquet", "harvest.parquet", "groups.jsonl"] {
        let read = |folder: &Path| fs::read(folder.join("found").join(file)).unwrap();
        assert!(read(one) == read(other), "{file} differs");
    }
    let campaigns = fs::read_to_string(one.join("found/campaigns.json")).unwrap();
    assert!(campaigns.contains("campaign-"), "nothing was found at all");
}

/// What one watch finds in the stream.
fn alone(nats: &Nats, folder: &Path) -> Ran {
    let arguments = arguments(nats, folder, None, 0);
    ended(begun(&arguments)).succeeded()
}

#[test]
fn shares_find_what_one_watch_finds() {
    let Some(nats) = Nats::start() else { return };
    publish(&nats, "world", 16);
    let (one, several) = (folder(), folder());
    let whole = alone(&nats, one.path());
    assert!(looks(&whole).len() > 20, "{}", whole.stdout);
    let together = || {
        let shares: Vec<Child> =
            (1..=SHARES).map(|share| start(&nats, several.path(), share)).collect();
        shares.into_iter().map(|share| ended(share).succeeded()).collect::<Vec<Ran>>()
    };
    let shares = together();
    assert_eq!(looks(&shares[0]), looks(&whole));
    same(one.path(), several.path());
    let counted = |ran: &Ran| {
        let line = ran.stdout.lines().find(|line| line.starts_with("Counted ")).unwrap();
        line["Counted ".len()..].split(' ').next().unwrap().replace(',', "").parse::<u64>().unwrap()
    };
    assert_eq!(counted(&shares[0]), counted(&whole), "the first share tells of all");
    for share in &shares[1..] {
        let part = counted(share) as f64 / counted(&whole) as f64;
        assert!((0.1..0.6).contains(&part), "a share has counted {part} of all");
    }
    // Nothing has come since: the last look is there again, and nothing is counted twice.
    fs::remove_dir_all(several.path().join("found")).unwrap();
    let again = together();
    assert_eq!(counted(&again[0]), counted(&whole));
    same(one.path(), several.path());
}

#[test]
fn a_share_without_exchanges_holds_nobody_up() {
    let Some(nats) = Nats::start() else { return };
    publish(&nats, "world", 1);
    wait(async {
        let server = nats.connect("world").await;
        let writer = Writer::open(&server, "test").await.unwrap();
        let id = "outside".to_owned();
        let line = Line { partition: 16, id, reaches: (1, 1), payload: "nonsense".into() };
        writer.write(vec![line]).await.unwrap();
    });
    let (one, several) = (folder(), folder());
    alone(&nats, one.path());
    let shares: Vec<Child> =
        (1..=SHARES).map(|share| start(&nats, several.path(), share)).collect();
    let shares: Vec<Ran> = shares.into_iter().map(|share| ended(share).succeeded()).collect();
    assert!(
        shares[0].stderr.contains("has 1 messages that no share counts"),
        "{}",
        shares[0].stderr
    );
    assert!(shares[1].stdout.starts_with("Counted 0 exchanges"), "{}", shares[1].stdout);
    let campaigns = |folder: &Path| fs::read(folder.join("found/campaigns.json")).unwrap();
    assert!(campaigns(one.path()) == campaigns(several.path()), "campaigns differ");
}

/// Shares and server are killed at random moments; `STILLWATCH_TEST_KILLS` says how often
/// (20), and `STILLWATCH_TEST_SEED` when.
#[test]
#[cfg(unix)]
fn whatever_is_killed_shares_find_what_one_watch_finds() {
    let Some(mut nats) = Nats::start() else { return };
    publish(&nats, "world", 16);
    let (one, several) = (folder(), folder());
    alone(&nats, one.path());
    let variable = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let kills: u64 = variable("STILLWATCH_TEST_KILLS").unwrap_or(20);
    let mut numbers = Numbers(variable("STILLWATCH_TEST_SEED").unwrap_or(1));
    let mut shares: Vec<Option<Child>> =
        (1..=SHARES).map(|share| Some(start(&nats, several.path(), share))).collect();
    let mut killed = 0;
    for _ in 0..kills {
        thread::sleep(Duration::from_millis(20 + numbers.below(400)));
        let victim = numbers.below(SHARES as u64 + 1) as usize;
        let Some(share) = shares.get_mut(victim) else {
            nats.kill();
            thread::sleep(Duration::from_millis(numbers.below(600)));
            nats.run();
            continue;
        };
        let Some(mut child) = share.take() else { continue };
        if child.try_wait().unwrap().is_none() {
            child.kill().unwrap();
            child.wait().unwrap();
            killed += 1;
            *share = Some(start(&nats, several.path(), victim + 1));
        } else {
            ended(child).succeeded();
        }
    }
    // A share that ends before others want something of it again has nothing left to say.
    for _ in 0..6_000 {
        for share in &mut shares {
            if let Some(mut child) = share.take() {
                match child.try_wait().unwrap() {
                    Some(_) => drop(ended(child).succeeded()),
                    None => *share = Some(child),
                }
            }
        }
        if shares.iter().all(Option::is_none) {
            break;
        }
        thread::sleep(Duration::from_millis(50));
    }
    assert!(shares.iter().all(Option::is_none), "shares wait for each other for ever");
    assert!(killed > 3, "{killed} were killed while they ran");
    same(one.path(), several.path());
}

#[test]
fn shares_that_do_not_belong_together_say_so() {
    let Some(nats) = Nats::start() else { return };
    wait(async {
        let server = nats.connect("world").await;
        let writer = Writer::open(&server, "test").await.unwrap();
        let payload = all_lines()[..200].concat().into();
        let line = Line { partition: 3, id: "1".to_owned(), reaches: (1, 1), payload };
        writer.write(vec![line]).await.unwrap();
    });
    let folder = folder();
    let share = |number: usize, of: usize, state: &str| -> Ran {
        let mut arguments = arguments(&nats, folder.path(), Some(number), of);
        let place = arguments.iter().position(|a| a == "--state").unwrap();
        arguments[place + 1] = text(&folder.path().join(state)).to_owned();
        ended(begun(&arguments))
    };
    share(1, 1, "state").succeeded();
    share(1, 4, "state").failed(2, &["--share 1/4", "share 1/1"]);
    share(2, 4, "other").failed(2, &["through", "numbers of shares (1, not 4)"]);
    share(1, 1, "lost").failed(2, &["another process is this share, or its state was lost"]);
    let single = |state: &str| -> Ran {
        let mut arguments = arguments(&nats, folder.path(), None, 0);
        let place = arguments.iter().position(|a| a == "--state").unwrap();
        arguments[place + 1] = text(&folder.path().join(state)).to_owned();
        ended(begun(&arguments))
    };
    single("state").failed(2, &["share 1/1", "--share"]);
    single("whole").succeeded();
    share(1, 1, "whole").failed(2, &["a watch that counts everything"]);
}

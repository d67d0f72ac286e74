//! A wall clock that is set, as by an NTP step or a machine that wakes up: back by an hour,
//! forward by a day and further.

use std::fs;
use std::sync::atomic::{AtomicI64, Ordering};

use stillwatch_exchange::Time;
use stillwatch_guard::Running;

use crate::setting::{
    Mock, NOW, World, account_of, ask, chunk, chunked_head, eventually, last_chunk, post, records,
    send, write_findings,
};

const CHAT: &str = "/v1/chat/completions";
const BODY: &str = r#"{"max_tokens":50}"#;
const HOUR: i64 = 3_600_000_000;
const DAY: i64 = 24 * HOUR;
const POLICY: &str = r#"
mode = "enforce"
[slow]
output_tokens_per_minute = 1
burst_tokens = 100
[[rule]]
steps = [{ do = "slow", for = "2 days" }, { do = "refuse", for = "2 days" }]
"#;

/// A world whose clock this is.
async fn world(clock: fn() -> Time) -> (Mock, World) {
    let answer = r#"{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":50}}"#;
    let mock = Mock::saying("application/json", answer).await;
    let mut world = World::new(mock.address, POLICY).with_finding("c1", &["sk-bad"]);
    world.settings.clock = clock;
    (mock, world)
}

async fn status(running: &Running, key: &str) -> u16 {
    send(running.listen, &post(CHAT, key, BODY)).await.status
}

/// When the verdict on a key's account ends.
async fn expires_at(running: &Running, key: &str) -> String {
    let body = format!("{{\"account_id\":\"{}\"}}", account_of(key));
    let answer = ask(running, "POST", "/v1/decide", &body).await;
    answer.json()["expires_at"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_limit_neither_grows_nor_lasts_for_ever() {
    static NOW_US: AtomicI64 = AtomicI64::new(NOW.0);
    let (mock, world) = world(|| Time(NOW_US.load(Ordering::Relaxed))).await;
    let running = world.start().await;
    for shift in [0, -HOUR] {
        NOW_US.store(NOW.0 + shift, Ordering::Relaxed);
        assert_eq!(status(&running, "sk-bad").await, 200);
    }
    // A burst of 100 tokens is used up, and fills by the clock that nobody sets.
    for shift in [-HOUR, 0, -HOUR, DAY, 0] {
        NOW_US.store(NOW.0 + shift, Ordering::Relaxed);
        let answer = send(running.listen, &post(CHAT, "sk-bad", BODY)).await;
        assert_eq!((answer.status, mock.count()), (429, 2), "{shift}");
        let seconds: i64 = answer.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=50 * 60).contains(&seconds), "{seconds}");
    }
    running.stop().await.unwrap();
}

#[tokio::test]
async fn a_response_lasts_as_long_as_the_policy_says() {
    static NOW_US: AtomicI64 = AtomicI64::new(NOW.0);
    let (_mock, world) = world(|| Time(NOW_US.load(Ordering::Relaxed))).await;
    let running = world.start().await;
    assert_eq!(expires_at(&running, "sk-bad").await, "2026-03-04T00:00:00Z");
    for (shift, expected) in [(3 * DAY, 403), (5 * DAY, 200), (0, 200)] {
        NOW_US.store(NOW.0 + shift, Ordering::Relaxed);
        assert_eq!(status(&running, "sk-bad").await, expected, "{shift}");
    }

    // An account that is named while the clock is a year ahead.
    NOW_US.store(NOW.0 + 365 * DAY, Ordering::Relaxed);
    let findings = world.path("findings");
    let accounts = ["sk-bad", "sk-other"].map(account_of);
    fs::remove_dir_all(&findings).unwrap();
    write_findings(&findings, "c2", &accounts);
    running.reload().await;
    assert_eq!(expires_at(&running, "sk-other").await, "2027-03-04T00:00:00Z");
    NOW_US.store(NOW.0 + HOUR, Ordering::Relaxed);
    let mut ends = String::new();
    for _ in 0..1000 {
        ends = expires_at(&running, "sk-other").await;
        if ends.starts_with("2026") {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert!(ends.starts_with("2026-03-04T01:00:00"), "{ends}");
    assert_eq!(expires_at(&running, "sk-bad").await, "2026-03-04T00:00:00Z", "goes on");
    running.stop().await.unwrap();
    // So it is after a restart.
    let running = world.start().await;
    assert!(expires_at(&running, "sk-other").await.starts_with("2026-03-04T01:00:00"));
    running.stop().await.unwrap();
}

#[tokio::test]
async fn exchanges_are_on_record_once_and_in_time() {
    static NOW_US: AtomicI64 = AtomicI64::new(NOW.0);
    let mock = Mock::start(|_| {
        NOW_US.fetch_sub(HOUR, Ordering::Relaxed);
        vec![chunked_head("application/json"), chunk("{}"), last_chunk()]
    })
    .await;
    let mut world = World::new(mock.address, "");
    world.settings.clock = || Time(NOW_US.load(Ordering::Relaxed));
    let running = world.start().await;
    let folder = world.settings.state.join("records");
    // Each is answered an hour before it was asked; a segment is old after five minutes. It
    // may be closed before the answer, and then carries the exchange on.
    assert_eq!(status(&running, "sk-1").await, 200);
    NOW_US.fetch_sub(HOUR, Ordering::Relaxed);
    eventually(|| fs::read_dir(&folder).unwrap().count() == 1).await;
    NOW_US.fetch_add(DAY, Ordering::Relaxed);
    assert_eq!(status(&running, "sk-2").await, 200);
    NOW_US.fetch_sub(HOUR, Ordering::Relaxed);
    eventually(|| fs::read_dir(&folder).unwrap().count() == 2).await;
    running.stop().await.unwrap();
    // Set back between two runs, and with nothing left of the journal.
    fs::remove_dir_all(world.settings.state.join("journal")).unwrap();
    NOW_US.store(NOW.0 - 30 * DAY, Ordering::Relaxed);
    let running = world.start().await;
    assert_eq!(status(&running, "sk-3").await, 200);
    running.stop().await.unwrap();
    let mut names: Vec<_> =
        fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    let accounts: Vec<String> = names
        .iter()
        .map(|path| {
            let alone = world.path("alone");
            let _ = fs::remove_dir_all(&alone);
            fs::create_dir(&alone).unwrap();
            fs::copy(path, alone.join("one.parquet")).unwrap();
            let [record] = &records(&alone)[..] else { panic!("one exchange each") };
            record["account_id"].clone()
        })
        .collect();
    let asked = ["sk-1", "sk-2", "sk-3"].map(account_of);
    assert_eq!(accounts, asked, "files are in the order in which they were made");
    let times: Vec<String> = records(&folder).iter().map(|record| record["time"].clone()).collect();
    assert!(times.iter().any(|time| time.starts_with("2026-03-02T22")), "{times:?}");
}

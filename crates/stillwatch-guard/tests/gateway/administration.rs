//! The admin listener: its key, decisions, and undoing.

use std::fs;

use serde_json::json;

use crate::setting::{Mock, World, account_of, ask, eventually, post, send, write_findings};

const CHAT: &str = "/v1/chat/completions";
const POLICY: &str = r#"
mode = "enforce"
[[rule]]
steps = [{ do = ["slow", "cap"], for = "1 day" }, { do = "refuse", for = "1 day" }]
"#;

#[tokio::test]
async fn the_key_is_wanted() {
    let mock = Mock::saying("application/json", "{}").await;
    let mut world = World::new(mock.address, "");
    let running = world.start().await;
    for path in ["/v1/campaigns", "/metrics"] {
        for key in ["", "authorization: Bearer wrong\r\n", "authorization: Basic x\r\n"] {
            let request =
                format!("GET {path} HTTP/1.1\r\nhost: x\r\n{key}connection: close\r\n\r\n");
            assert_eq!(send(running.admin, &request).await.status, 401);
        }
        assert_eq!(ask(&running, "GET", path, "").await.status, 200);
    }
    for path in ["/livez", "/readyz", "/openapi.json"] {
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        assert_eq!(send(running.admin, &request).await.status, 200);
    }
    running.stop().await.unwrap();
    "short".clone_into(&mut world.settings.admin_key);
    let refused = world.try_start().await.unwrap_err().to_string();
    assert!(refused.contains("at least 16 bytes") && !refused.contains("short"), "{refused}");
}

#[tokio::test]
async fn decisions_for_other_gateways() {
    let mock = Mock::saying("application/json", "{}").await;
    let world = World::new(mock.address, POLICY).with_finding("c1", &["sk-bad"]);
    let running = world.start().await;
    let bad = account_of("sk-bad");
    let decided =
        ask(&running, "POST", "/v1/decide", &json!({ "account_id": bad }).to_string()).await;
    let expected = json!({
        "verdict": "cap", "campaign_id": "c1", "reason": "a finding names the account",
        "expires_at": "2026-03-03T00:00:00Z",
        "limits": { "output_tokens_per_minute": 20_000, "max_output_tokens": 512, "max_choices": 1 },
    });
    assert_eq!(decided.json(), expected);
    let hash =
        sha2::Sha256::digest(b"sk-bad").iter().map(|b| format!("{b:02x}")).collect::<String>();
    let exchange = json!({ "credential_hash": hash, "request_max_tokens": 20_000, "prompt": "x" });
    let decided = ask(&running, "POST", "/v1/decide", &exchange.to_string()).await.json();
    assert_eq!(decided["limits"]["admitted"], true);
    let decided = ask(&running, "POST", "/v1/decide", &exchange.to_string()).await.json();
    assert_eq!(decided["limits"]["admitted"], false);
    assert!(decided["limits"]["retry_after_seconds"].as_u64().is_some_and(|s| s > 50), "{decided}");

    let allowed = ask(&running, "POST", "/v1/decide", r#"{"account_id":"x"}"#).await.json();
    assert_eq!((&allowed["verdict"], &allowed["campaign_id"]), (&json!("allow"), &json!(null)));
    for wrong in [
        "",
        "[]",
        "{}",
        r#"{"account_id":7}"#,
        r#"{"credential_hash":"x"}"#,
        r#"{"account_id":"x","y":1}"#,
    ] {
        let answer = ask(&running, "POST", "/v1/decide", wrong).await;
        assert_eq!(answer.status, 400, "{wrong}");
        assert!(answer.json()["error"].is_string());
    }
    running.stop().await.unwrap();
}

use sha2::Digest as _;

#[tokio::test]
async fn what_is_undone_stays_so_after_a_restart() {
    let mock = Mock::saying("application/json", "{}").await;
    let policy = POLICY.replace("[\"slow\", \"cap\"]", "\"refuse\"");
    let world = World::new(mock.address, &policy).with_finding("c1", &["sk-1", "sk-2", "sk-3"]);
    let running = world.start().await;
    let status = async |running: &stillwatch_guard::Running, key| {
        send(running.listen, &post(CHAT, key, "{}")).await.status
    };
    assert_eq!(status(&running, "sk-1").await, 403);
    let lift = format!("/v1/verdicts/{}/lift", account_of("sk-1"));
    assert_eq!(ask(&running, "POST", &lift, "{}").await.status, 400, "a reason is wanted");
    let lifted = ask(&running, "POST", &lift, r#"{"why":"a customer"}"#).await;
    assert_eq!(lifted.json()["left_alone_until"], "2026-05-31T00:00:00Z");
    assert_eq!((status(&running, "sk-1").await, status(&running, "sk-2").await), (200, 403));
    running.stop().await.unwrap();

    let running = world.start().await;
    assert_eq!((status(&running, "sk-1").await, status(&running, "sk-2").await), (200, 403));
    assert_eq!(ask(&running, "POST", "/v1/campaigns/c2/clear", r#"{"why":"x"}"#).await.status, 404);
    let cleared = ask(&running, "POST", "/v1/campaigns/c1/clear", r#"{"why":"a class"}"#).await;
    assert_eq!((cleared.status, &cleared.json()["accounts"]), (200, &json!(3)));
    assert_eq!(status(&running, "sk-2").await, 200);
    assert_eq!(ask(&running, "GET", "/v1/campaigns/c1", "").await.json()["kind"], "distillation");
    running.stop().await.unwrap();
    let stored = fs::read_to_string(world.path("state/verdicts.jsonl")).unwrap();
    for word in ["begun", "a customer", "a class"] {
        assert!(stored.contains(word), "{word}: {stored}");
    }
    let running = world.start().await;
    assert_eq!(status(&running, "sk-3").await, 200);
    running.stop().await.unwrap();
}

#[tokio::test]
async fn changed_files_are_read_again_and_broken_ones_refused() {
    let mock = Mock::saying("application/json", "{}").await;
    let world = World::new(mock.address, &POLICY.replace("[\"slow\", \"cap\"]", "\"refuse\""))
        .with_finding("c1", &["sk-1"]);
    let running = world.start().await;
    let findings = world.path("findings");
    write_findings(&findings, "c2", &[account_of("sk-2")]);
    let metric = async |name: &str| {
        let text = ask(&running, "GET", "/metrics", "").await.body;
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default().to_owned();
        line.rsplit(' ').next().and_then(|count| count.parse::<u64>().ok()).unwrap_or(0)
    };
    for _ in 0..500 {
        if metric("stillwatch_guard_reloads_total").await > 0 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert_eq!(send(running.listen, &post(CHAT, "sk-2", "{}")).await.status, 403);
    assert_eq!(send(running.listen, &post(CHAT, "sk-1", "{}")).await.status, 200);

    fs::write(world.path("policy.toml"), "mode = \"angry\"").unwrap();
    running.reload().await;
    assert_eq!(metric("stillwatch_guard_reloads_refused_total").await, 1);
    assert_eq!(
        send(running.listen, &post(CHAT, "sk-2", "{}")).await.status,
        403,
        "the old policy stays"
    );
    let text = ask(&running, "GET", "/metrics", "").await.body;
    assert!(
        text.contains("stillwatch_guard_verdicts_total{verdict=\"refuse\",enforced=\"true\"} 2"),
        "{text}"
    );
    assert!(!text.contains("key_") && !text.contains("127.0.0.1"), "no label that callers choose");
    eventually(|| true).await;
    running.stop().await.unwrap();
    let refused = world.try_start().await.unwrap_err().to_string();
    assert!(
        refused.ends_with(
            "policy.toml line 1: unknown variant `angry`, expected `observe` or `enforce`"
        ),
        "{refused}"
    );
}

#[tokio::test]
async fn the_table_of_credentials() {
    let mock = Mock::saying("application/json", "{}").await;
    let mut world = World::new(mock.address, "");
    let path = world.path("credentials.jsonl");
    let hash = |key: &[u8]| {
        sha2::Sha256::digest(key).iter().map(|b| format!("{b:02x}")).collect::<String>()
    };
    let row = json!({ "credential_hash": hash(b"sk-1"), "account_id": "acct_1", "organization_id": "org_1" });
    fs::write(&path, format!("{row}\n")).unwrap();
    world.settings.credentials = Some(path.clone());
    let running = world.start().await;
    send(running.listen, &post(CHAT, "sk-1", "{}")).await;
    let records = world.records_of(running).await;
    assert_eq!(
        (records[0]["account_id"].as_str(), records[0]["organization_id"].as_str()),
        ("acct_1", "org_1")
    );
    assert_eq!(records[0]["credential_id"], hash(b"sk-1"));

    fs::write(&path, format!("{row}\n{{\"credential_hash\":\"sk-plain\",\"account_id\":\"a\"}}\n"))
        .unwrap();
    let refused = world.try_start().await.unwrap_err().to_string();
    assert!(
        refused.ends_with("row 2: credential_hash is not SHA-256 in 64 hex digits"),
        "{refused}"
    );
    assert!(!refused.contains("sk-plain"));
}

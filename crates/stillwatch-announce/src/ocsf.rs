//! Detection findings of the Open Cybersecurity Schema Framework, version 1.7.0
//! (<https://schema.ocsf.io/1.7.0/classes/detection_finding>), class 2004.
//!
//! All that the class requires is there: `activity_id`, `category_uid`, `class_uid`,
//! `finding_info`, `metadata`, `severity_id`, `time`, `type_uid`. Times are milliseconds of
//! event time. The techniques are those of MITRE ATLAS, which `attack` has room for beside
//! ATT&CK's.

use serde_json::{Map, Value, json};
use stillwatch_exchange::{CampaignKind, Time};
use xxhash_rust::xxh3::xxh3_64;

use crate::facts::Facts;
use crate::ledger::{Activity, Change};

const SCHEMA: &str = "1.7.0";
const CATEGORY: u32 = 2;
const CLASS: u32 = 2004;
/// `analytic.type_id`: statistical.
const STATISTICAL: u32 = 3;

/// One event, as one line of JSON without its end; the same change gives the same bytes.
/// `version` is that of the program.
#[must_use]
pub fn event(change: &Change, version: &str) -> String {
    let Change { activity, uid, created, time, facts } = change;
    let (activity_id, activity_name) = match activity {
        Activity::Create => (1, "Create"),
        Activity::Update => (2, "Update"),
        Activity::Close => (3, "Close"),
    };
    // A finding that is not made any more has not been looked at by a person: it is
    // archived, and not resolved.
    let (status_id, status) = match activity {
        Activity::Create | Activity::Update => (1, "New"),
        Activity::Close => (5, "Archived"),
    };
    let (severity_id, severity) = severity(facts);
    let (confidence_id, confidence) = if facts.is_promised() { (3, "High") } else { (2, "Medium") };
    let attacks: Vec<Value> = facts
        .techniques
        .iter()
        .map(|technique| json!({"technique": {"uid": technique.id, "name": technique.name}}))
        .collect();
    let evidences: Vec<Value> = facts
        .channels
        .iter()
        .map(|channel| json!({"name": channel.name, "data": {"strength": channel.strength}}))
        .collect();
    let title = title(facts);
    // By this a line that comes twice, because a process was killed, is known.
    let event_uid = xxh3_64(format!("{uid} {activity_id} {}", time.0).as_bytes());
    let mut event = json!({
        "activity_id": activity_id,
        "activity_name": activity_name,
        "category_uid": CATEGORY,
        "category_name": "Findings",
        "class_uid": CLASS,
        "class_name": "Detection Finding",
        "type_uid": CLASS * 100 + activity_id,
        "type_name": format!("Detection Finding: {activity_name}"),
        "time": ms(*time),
        "start_time": ms(facts.first_seen),
        "end_time": ms(facts.last_seen),
        "severity_id": severity_id,
        "severity": severity,
        "confidence_id": confidence_id,
        "confidence": confidence,
        "status_id": status_id,
        "status": status,
        "is_alert": *activity == Activity::Create,
        "message": title,
        "finding_info": {
            "uid": uid,
            "title": title,
            "types": [facts.kind.name()],
            "created_time": ms(*created),
            "modified_time": ms(*time),
            "first_seen_time": ms(facts.first_seen),
            "last_seen_time": ms(facts.last_seen),
            "related_events_count": facts.exchanges,
            "analytic": {"name": "Stillwatch", "type_id": STATISTICAL, "type": "Statistical"},
            "attacks": attacks,
        },
        "metadata": {
            "version": SCHEMA,
            "uid": format!("{event_uid:016x}"),
            "product": {"name": "Stillwatch", "vendor_name": "Stillwatch", "version": version},
        },
    });
    let mut unmapped = Map::new();
    for (name, value) in [
        ("campaign_id", json!(facts.campaign_id)),
        ("rank", json!(facts.rank)),
        ("evidence_value", json!(facts.evidence_value)),
        ("discovery_rate", json!(facts.discovery_rate)),
        ("accounts", json!(facts.accounts)),
        ("output_tokens", json!(facts.output_tokens)),
        ("first_detectable_time", json!(ms(facts.first_detectable))),
    ] {
        if !value.is_null() {
            unmapped.insert(name.to_owned(), value);
        }
    }
    if let Some(fields) = event.as_object_mut() {
        if !evidences.is_empty() {
            fields.insert("evidences".to_owned(), evidences.into());
        }
        fields.insert("unmapped".to_owned(), unmapped.into());
    }
    event.to_string()
}

/// High with a promise, medium without one; low where nobody hides.
fn severity(facts: &Facts) -> (u32, &'static str) {
    match (facts.kind, facts.is_promised()) {
        (CampaignKind::OpenHarvest, _) => (2, "Low"),
        (_, true) => (4, "High"),
        (_, false) => (3, "Medium"),
    }
}

fn title(facts: &Facts) -> String {
    let what = match facts.kind {
        CampaignKind::Distillation => "Distillation campaign",
        CampaignKind::LogitExtraction => "Campaign that extracts token probabilities",
        CampaignKind::RewardGrading => "Campaign that uses the model as a grader",
        CampaignKind::OpenHarvest => "Harvest by one customer",
    };
    format!("{what} of {} accounts", facts.accounts)
}

fn ms(time: Time) -> i64 {
    time.0.div_euclid(1_000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Ledger;
    use crate::ledger::tests::{campaign, members};

    #[test]
    fn an_event_has_what_the_class_requires_and_nobodys_secrets() {
        let mut ledger = Ledger::new();
        let found = members("a", &["acct_secret", "y"]);
        let time = Time(1_772_496_000_123_456);
        let changes = ledger.look(time, &[campaign("a", 5)], &found);
        let line = event(&changes[0], "1.2.3");
        assert_eq!(line, event(&changes[0], "1.2.3"));
        for secret in ["192.0.2.7", "acct_secret", "All come"] {
            assert!(!line.contains(secret), "{line}");
        }
        assert!(!line.contains('\n'));
        let event: Value = serde_json::from_str(&line).unwrap();
        let whole = |name: &str| event[name].as_i64().unwrap();
        assert_eq!(
            (whole("class_uid"), whole("category_uid"), whole("type_uid")),
            (2004, 2, 200_401)
        );
        assert_eq!((whole("activity_id"), whole("severity_id")), (1, 4));
        assert_eq!(whole("time"), 1_772_496_000_123);
        assert_eq!(event["finding_info"]["uid"], "a");
        assert_eq!(event["metadata"]["version"], "1.7.0");
        assert_eq!(event["metadata"]["product"]["version"], "1.2.3");
        let attack = &event["finding_info"]["attacks"][0]["technique"];
        assert_eq!(attack["uid"], "AML.T0024.002");
        assert_eq!(event["evidences"][0]["name"], "network");
        let closed = ledger.look(Time(time.0 + 1), &[], &[]);
        let closed: Value = serde_json::from_str(&super::event(&closed[0], "1.2.3")).unwrap();
        assert_eq!((&closed["type_uid"], &closed["status_id"]), (&200_403.into(), &5.into()));
        assert_ne!(closed["metadata"]["uid"], event["metadata"]["uid"]);
    }

    #[test]
    fn without_a_promise_it_is_less_severe() {
        let mut finding = campaign("a", 5);
        finding.evidence_value = None;
        finding.discovery_rate = None;
        assert_eq!(severity(&Facts::of(&finding)), (3, "Medium"));
        finding.kind = CampaignKind::OpenHarvest;
        assert_eq!(severity(&Facts::of(&finding)), (2, "Low"));
        let change = &Ledger::new().look(Time(0), &[finding], &[])[0];
        assert!(!event(change, "1").contains("evidence_value"));
    }
}

//! A policy tried on traffic that has been.

use std::collections::{BTreeMap, BTreeSet};

use stillwatch_decide::{
    Event, Finding, History, InForceFrom, Known, Member, Passed, Policy, Rehearsal, Rehearser,
    Response,
};
use stillwatch_exchange::time::{DAY_US, HOUR_US, SECOND_US};
use stillwatch_exchange::{Campaign, CampaignKind, GuiltyAtLeast, Time};

/// One day slowed and without probabilities, one capped, one refused; it only observes,
/// which a rehearsal takes no notice of.
const POLICY: &str = r#"
    [exempt]
    accounts = ["exempt"]
    organizations = ["friends"]
    [slow]
    output_tokens_per_minute = 60
    burst_tokens = 100
    [cap]
    output_tokens = 50
    [[rule]]
    name = "hidden"
    steps = [
        { do = ["slow", "withhold"], for = "1 day" },
        { do = "cap", for = "1 day" },
        { do = "refuse", for = "1 day" },
    ]
"#;

fn at(day: f64) -> Time {
    Time((day * DAY_US as f64) as i64)
}

fn finding(campaign_id: &str, detected: Time, accounts: &[(&str, f64)]) -> Finding {
    let campaign = Campaign {
        campaign_id: campaign_id.to_owned(),
        kind: CampaignKind::Distillation,
        evidence_value: Some(40.0),
        discovery_rate: Some(0.05),
        strata: vec![],
        references: 400,
        rank: 1,
        guilty_members_at_least: GuiltyAtLeast { members: 2, level: 0.95 },
        accounts: accounts.len() as u64,
        exchanges: 0,
        output_tokens: 0,
        reasoning_tokens: 0,
        cost_usd: 0.0,
        first_seen: at(0.0),
        last_seen: at(9.0),
        first_detectable: detected,
        exchanges_before_detection: 0,
        capabilities: vec![],
        routes: vec![],
        models: vec![],
        techniques: vec![],
        evidence: vec![],
    };
    let member = |(account, membership): &(&str, f64)| Member {
        account_id: (*account).to_owned(),
        membership: *membership,
    };
    Finding { campaign, members: accounts.iter().map(member).collect() }
}

fn asked(time: Time, account_id: &str) -> Passed<'_> {
    Passed { time, account_id, max_tokens: Some(100), output_tokens: Some(80), ..Passed::default() }
}

fn rehearse(
    findings: &[Finding],
    history: &History,
    from: InForceFrom,
    exchanges: &[Passed<'_>],
    known: &[(&str, Known)],
) -> Rehearsal {
    let policy = Policy::parse(POLICY).unwrap();
    let mut rehearser = Rehearser::new(&policy, findings, history, from, at(0.0));
    exchanges.iter().for_each(|passed| rehearser.pass(passed));
    let mut all: BTreeMap<String, BTreeSet<Known>> = BTreeMap::new();
    for (account, why) in known {
        all.entry((*account).to_owned()).or_default().insert(*why);
    }
    rehearser.finish(&all)
}

#[test]
fn each_step_does_to_the_traffic_what_a_guard_would() {
    let findings = [finding("c", at(0.0), &[("a", 1.0), ("b", 1.0)])];
    let second = |n: i64| Time(n * SECOND_US);
    let exchanges = [
        asked(second(0), "a"),
        // The bucket is shared: 100 tokens, of which 80 are gone, fill up at one a second.
        Passed { asks_probabilities: true, ..asked(second(1), "b") },
        Passed { asks_probabilities: true, ..asked(second(90), "b") },
        asked(at(1.5), "a"),
        Passed { choices: Some(4), output_tokens: Some(120), ..asked(at(1.5), "a") },
        Passed { output_tokens: Some(30), ..asked(at(1.6), "a") },
        Passed { is_failed: true, output_tokens: None, ..asked(at(1.6), "a") },
        asked(at(2.5), "b"),
        // All steps are over.
        asked(at(3.5), "b"),
        asked(at(3.5), "somebody else"),
    ];
    let told = rehearse(&findings, &History::default(), InForceFrom::Start, &exchanges, &[]);
    let rule = &told.rules[0];
    let row = |response: Response| {
        let row = rule.responses.iter().find(|row| row.response == response).unwrap();
        let tally = row.tally;
        (
            row.accounts,
            tally.exchanges,
            tally.refused_exchanges,
            tally.changed_exchanges,
            tally.kept_output_tokens,
        )
    };
    assert_eq!(row(Response::Slow), (2, 3, 1, 0, 80));
    assert_eq!(row(Response::Withhold), (2, 2, 0, 1, 0), "who is slowed doesn't get there");
    // 80 become 50; of four with 30 each one stays; 30 are within.
    assert_eq!(row(Response::Cap), (1, 4, 0, 2, 30 + 90));
    assert_eq!(row(Response::Refuse), (1, 1, 1, 0, 80));
    let steps: Vec<_> = rule.steps.iter().map(|step| (step.step, step.tally.exchanges)).collect();
    assert_eq!(steps, [(1, 3), (2, 4), (3, 1)]);
    assert_eq!((rule.steps[1].first, rule.steps[1].last), (Some(at(1.5)), Some(at(1.6))));
    assert_eq!((told.named.exchanges, told.named.kept_output_tokens), (9, 280));
    assert_eq!((told.touched_accounts, told.innocent_accounts), (2, 0));
    assert_eq!(told.campaigns[0].touched_accounts, 2);
    assert_eq!(told.accounts[1].gravest, Response::Refuse);
}

#[test]
fn who_is_innocent_as_far_as_is_known() {
    let accounts = [
        ("exempt", 1.0),
        ("friend", 1.0),
        ("lifted", 1.0),
        ("once lifted", 1.0),
        ("verified", 1.0),
        ("unsure", 0.5),
        ("silent", 1.0),
        ("plain", 1.0),
    ];
    let findings = [finding("c", at(0.0), &accounts)];
    let mut history = History::default();
    for (account, until) in [("lifted", at(9.0)), ("once lifted", at(0.0))] {
        history.apply(&Event::Lifted {
            time: at(0.0),
            account_id: account.to_owned(),
            until,
            why: "x".to_owned(),
        });
    }
    // What began in the guard's own history is of no concern.
    history.apply(&Event::Begun {
        time: at(-9.0),
        campaign_id: "c".to_owned(),
        accounts: vec!["plain".to_owned()],
    });
    let mut exchanges: Vec<Passed<'_>> = accounts
        .iter()
        .filter(|(account, _)| *account != "silent")
        .map(|(account, _)| Passed {
            output_tokens: Some(1),
            max_tokens: Some(1),
            ..asked(at(0.5), account)
        })
        .collect();
    exchanges[1].organization_id = Some("friends");
    let known = [("verified", Known::VerifiedOrganization), ("nobody", Known::Cleared)];
    let told = rehearse(&findings, &history, InForceFrom::Start, &exchanges, &known);
    let touched: Vec<&str> = told.accounts.iter().map(|a| a.account_id.as_str()).collect();
    assert_eq!(touched, ["once lifted", "plain", "verified"]);
    assert_eq!(told.accounts[0].innocent, [Known::Lifted]);
    assert_eq!(told.accounts[2].innocent, [Known::VerifiedOrganization]);
    assert_eq!(told.innocent_accounts, 2);
    assert_eq!(told.rules[0].responses[0].innocent_accounts, 2);
    let untouched = told.untouched;
    assert_eq!((untouched.exempt, untouched.lifted), (2, 1));
    assert_eq!((untouched.uncovered, untouched.silent), (1, 1));
    let all = untouched.exempt + untouched.lifted + untouched.uncovered + untouched.silent;
    assert_eq!(all + told.touched_accounts, told.named_accounts);
}

#[test]
fn findings_come_into_force_when_they_could_have_been_known() {
    let findings =
        [finding("early", at(1.0), &[("a", 1.0)]), finding("late", at(2.0), &[("b", 1.0)])];
    let exchanges: Vec<Passed<'_>> =
        (0..60).flat_map(|h| ["a", "b"].map(|id| asked(Time(h * HOUR_US), id))).collect();
    let of = |from| rehearse(&findings, &History::default(), from, &exchanges, &[]);
    let count = |told: &Rehearsal| {
        told.rules[0].steps.iter().map(|step| step.tally.exchanges).collect::<Vec<_>>()
    };
    assert_eq!(count(&of(InForceFrom::Start)), [48, 48, 24]);
    let detected = of(InForceFrom::Detected);
    // «a» from hour 24: a day slowed, half a day capped; «b» from hour 48.
    assert_eq!(count(&detected), [24 + 12, 12, 0]);
    assert_eq!(detected.campaigns[1].in_force_from, at(2.0));
    assert_eq!(detected.named.exchanges, 120);
}

//! Pictures to draw: a rich one, one without findings, a large one, and the bare least.
//!
//! Nothing in them is random: every value comes from its place by way of [`noise`].
#![allow(dead_code, reason = "each test and the example use a part of it")]

use std::f64::consts::TAU;

use stillwatch_exchange::findings::{
    Campaign, CampaignKind, Evidence, GuiltyAtLeast, Share, Technique,
};
use stillwatch_exchange::picture::{
    CampaignPicture, CrowdPicture, EvidencePicture, Graph, GraphNode, GroupDot, Picture,
    RunPicture, Series,
};
use stillwatch_exchange::time::{DAY_US, HOUR_US, Time};

/// 1 February 2026, 00:00 UTC.
const START: Time = Time(1_769_904_000_000_000);
const DAYS: i64 = 45;

/// A value of 0 to 1 that looks random (splitmix64).
fn noise(seed: u64, i: u64) -> f64 {
    let mut z = seed
        .wrapping_mul(0x9E37_79B9_7F4A_7C15)
        .wrapping_add(i.wrapping_mul(0xBF58_476D_1CE4_E5B9));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
}

/// A value around 0 with spread 1, nearly normal.
fn normal(seed: u64, i: u64) -> f64 {
    (0..6).map(|k| noise(seed, i * 6 + k)).sum::<f64>() * 2_f64.sqrt() - 3.0 * 2_f64.sqrt()
}

fn at(hours: i64) -> Time {
    Time(START.0 + hours * HOUR_US)
}

fn series(name: &str, of_hour: impl Fn(i64) -> f64) -> Series {
    Series {
        name: name.to_owned(),
        start: START,
        width_us: 6 * HOUR_US,
        counts: (0..DAYS * 4).map(|i| of_hour(i * 6).round()).collect(),
    }
}

fn daily(hour: i64) -> f64 {
    let week = if (hour / 24) % 7 >= 5 { 0.55 } else { 1.0 };
    week * (1.0 + 0.55 * ((hour % 24) as f64 / 24.0 * TAU - 2.4).sin())
}

fn shares(of: &[(&str, f64)]) -> Vec<Share> {
    of.iter().map(|(name, share)| Share { name: (*name).to_owned(), share: *share }).collect()
}

const STRATA: [&str; 5] = ["payment", "network", "client", "script", "payment + client"];

fn crowd_groups(count: u64) -> Vec<GroupDot> {
    (0..count)
        .map(|i| GroupDot {
            stratum: STRATA[(noise(1, i).powi(2) * 5.0) as usize].to_owned(),
            accounts: (2.0 + 3.0 / (noise(2, i) + 0.002)) as u64,
            score: normal(3, i) * 1.3 + 0.4,
            campaign_id: None,
        })
        .collect()
}

struct Plan {
    id: &'static str,
    kind: CampaignKind,
    stratum: &'static str,
    accounts: u64,
    exchanges: u64,
    from_day: i64,
    to_day: i64,
    detect_day: i64,
    e_value: Option<f64>,
    references: u64,
}

fn graph(seed: u64, shared: &[(&str, &str, usize)], left_out: u64) -> Graph {
    let mut nodes = Vec::new();
    let mut edges = Vec::new();
    let things = shared.len();
    for (i, (kind, label, accounts)) in shared.iter().enumerate() {
        let angle = i as f64 / things as f64 * TAU;
        let (x, y) = (0.5 + 0.27 * angle.cos(), 0.5 + 0.27 * angle.sin());
        nodes.push(GraphNode {
            label: (*label).to_owned(),
            kind: (*kind).to_owned(),
            x,
            y,
            size: (*accounts * 7) as f64,
        });
    }
    for (i, (_, _, accounts)) in shared.iter().enumerate() {
        let (x, y) = (nodes[i].x, nodes[i].y);
        for k in 0..*accounts as u64 {
            let s = seed + i as u64 * 100;
            let (angle, far) = (noise(s, k) * TAU, 0.05 + 0.15 * noise(s + 1, k).sqrt());
            let me = nodes.len() as u32;
            nodes.push(GraphNode {
                label: format!("acct-{:06x}", (noise(s + 2, k) * 16_777_215.0) as u64),
                kind: "account".to_owned(),
                x: (x + far * angle.cos()).clamp(0.01, 0.99),
                y: (y + far * angle.sin()).clamp(0.01, 0.99),
                size: 300.0 + 900.0 * noise(s + 3, k),
            });
            edges.push((i as u32, me));
            if noise(s + 4, k) < 0.35 {
                edges.push(((noise(s + 5, k) * things as f64) as u32, me));
            }
        }
    }
    Graph { nodes, edges, accounts_left_out: left_out }
}

fn evidence_of(seed: u64, references: u64) -> Vec<EvidencePicture> {
    let spread = |s: u64, middle: f64, width: f64| -> Vec<f64> {
        (0..references).map(|i| middle + width * normal(seed + s, i)).collect()
    };
    let tail = |s: u64, scale: f64| -> Vec<f64> {
        (0..references).map(|i| scale * (1.2 * normal(seed + s, i)).exp()).collect()
    };
    let piece = |channel: &str,
                 statement: &str,
                 ruled_out: &str,
                 measure: &str,
                 value: f64,
                 references: Vec<f64>,
                 strength: f64,
                 cost: &str| {
        EvidencePicture {
            channel: channel.to_owned(),
            statement: statement.to_owned(),
            ruled_out: ruled_out.to_owned(),
            measure: measure.to_owned(),
            value,
            references,
            strength,
            cost_to_avoid: cost.to_owned(),
        }
    };
    vec![
        piece(
            "payment",
            "2,031 of the 2,140 accounts were paid with one of 14 cards; by chance two accounts share a card about once in 90,000 pairs.",
            "A firm that pays for its seats: firms in these logs pay for 3 to 310 accounts, and theirs carry one email domain; these carry 411.",
            "accounts per payment instrument",
            145.0,
            tail(1, 4.0),
            11.4,
            "One card for each few accounts: about 700 cards in place of 14.",
        ),
        piece(
            "balance",
            "The accounts made nearly the same number of exchanges: the middle half lies between 598 and 731, where ordinary groups of this size spread over a factor of 30.",
            "Equal seats of one firm: the seats of the 41 firms among the references spread by a factor of 12 at least.",
            "spread of the members' volumes (log)",
            0.14,
            spread(2, 1.5, 0.28),
            8.9,
            "Uneven quotas: the busiest accounts then meet the limits on single accounts.",
        ),
        piece(
            "sharding",
            "Of 1.43 million prompts only 311 were asked by two accounts, where a pool of this size drawn at random gives some 84,000.",
            "A data set that one customer processes: no organisation joins these accounts, and no other group of this size repeats itself so little.",
            "repeated prompts against chance (log)",
            -5.6,
            spread(3, -0.4, 0.6),
            8.2,
            "Asking a part of the prompts twice: every second asking is wasted money.",
        ),
        piece(
            "independence",
            "A question never follows from the one before: consecutive prompts of an account are no more alike than any two of its prompts.",
            "Batch jobs and tools also show this, so on its own it accuses nobody.",
            "likeness of consecutive prompts",
            0.01,
            spread(4, 0.09, 0.03),
            2.7,
            "Real conversations: two to four times the tokens.",
        ),
        piece(
            "timing",
            "When one account stops, another goes on within 40 seconds, at all hours; accounts of ordinary groups do not know of one another.",
            "Office hours and cron: each account's own daily rhythm is taken out first.",
            "co-activity beyond each account's rhythm",
            0.31,
            spread(5, 0.02, 0.03),
            9.7,
            "A pause drawn at random for each account: a third of the throughput.",
        ),
        piece(
            "pivot",
            "Within 24 hours of the release of aurora-3 on 20 February, 61 % of the group's traffic had moved to it; of the crowd's, 4 %.",
            "Evaluation teams: they move too, but come back within days; this group did not.",
            "share moved to the new model in a day",
            0.61,
            (0..references.min(40)).map(|i| (0.05 + 0.03 * normal(seed + 6, i)).max(0.0)).collect(),
            7.1,
            "Waiting a week: the harvest is of the old model meanwhile.",
        ),
    ]
}

fn campaign(number: u64, plan: &Plan) -> CampaignPicture {
    let (from, to) = (plan.from_day * 24, plan.to_day * 24);
    let per_bin = plan.exchanges as f64 / ((to - from) as f64 / 6.0);
    let on = |hour: i64| if (from..to).contains(&hour) { 1.0 } else { 0.0 };
    let wobble = |seed: u64, hour: i64| 0.85 + 0.3 * noise(seed, hour as u64);
    let evidence = evidence_of(number * 50, plan.references);
    let span_hours = to - from;
    CampaignPicture {
        finding: Campaign {
            campaign_id: plan.id.to_owned(),
            kind: plan.kind,
            evidence_value: plan.e_value,
            discovery_rate: plan.e_value.map(|_| 0.05),
            strata: vec![plan.stratum.to_owned()],
            references: plan.references,
            rank: number,
            guilty_members_at_least: GuiltyAtLeast { members: plan.accounts * 9 / 10, level: 0.95 },
            accounts: plan.accounts,
            exchanges: plan.exchanges,
            output_tokens: plan.exchanges * 1_450,
            reasoning_tokens: plan.exchanges * 830,
            cost_usd: plan.exchanges as f64 * 0.013,
            first_seen: at(from),
            last_seen: at(to),
            first_detectable: at(plan.detect_day * 24 + 5),
            exchanges_before_detection: plan.exchanges * (plan.detect_day * 24 - from).max(0) as u64
                / span_hours.max(1) as u64,
            capabilities: shares(&[
                ("mathematics, step by step", 0.38),
                ("programming", 0.27),
                ("agentic tool use", 0.16),
                ("instruction following", 0.11),
                ("other", 0.08),
            ]),
            routes: shares(&[("direct", 0.52), ("cloud marketplace A", 0.31), ("reseller", 0.17)]),
            models: shares(&[("aurora-3", 0.61), ("aurora-2.5", 0.36), ("aurora-2.5-mini", 0.03)]),
            techniques: vec![
                Technique { id: "AML.T0024.002".to_owned(), name: "Extract AI Model".to_owned() },
                Technique { id: "AML.T0008.005".to_owned(), name: "AI Service Proxies".to_owned() },
                Technique { id: "AML.T0065".to_owned(), name: "LLM Prompt Crafting".to_owned() },
            ],
            evidence: evidence
                .iter()
                .map(|e| Evidence {
                    channel: e.channel.clone(),
                    statement: e.statement.clone(),
                    strength: e.strength,
                    examples: (0..6).map(|i| format!("x-{:08x}", (noise(number * 7 + 1, i) * 4e9) as u64)).collect(),
                })
                .collect(),
        },
        promise: match plan.e_value {
            Some(_) => "Of all groups on this list, at most 5 % are expected to be ordinary groups of their stratum.".to_owned(),
            None => "No promise: too few reference groups; this is a rank only.".to_owned(),
        },
        traffic: series("members", |h| on(h) * per_bin * wobble(number + 10, h)),
        harvest: series("harvest", |h| on(h) * per_bin * wobble(number + 10, h) * 0.86),
        hours_members: (0..24).map(|h| (1.0 + 0.06 * noise(number + 20, h)) / 24.7).collect(),
        hours_crowd: (0..24).map(|h| daily(h) / (0..24).map(daily).sum::<f64>()).collect(),
        volumes: (0..plan.accounts.min(2_000))
            .map(|i| (plan.exchanges as f64 / plan.accounts as f64 * (1.0 + 0.14 * normal(number + 30, i))).max(1.0).round())
            .collect(),
        marks: vec![
            (at(from + 96), "members fixed (first)".to_owned()),
            (at(plan.detect_day * 24 + 5), "first detectable".to_owned()),
            (at(19 * 24 + 17), "release of aurora-3".to_owned()),
        ],
        graph: graph(
            number * 1_000,
            &[
                ("payment", "payment 1", 46),
                ("payment", "payment 2", 38),
                ("client", "client 1", 61),
                ("network", "network 1", 27),
                ("payment", "payment 3", 22),
                ("script", "script 1", 34),
            ],
            plan.accounts.saturating_sub(228),
        ),
        networks: shares(&[
            ("AS64500 Example Hosting", 0.41),
            ("AS64501 Example Cloud", 0.22),
            ("AS64502 Residential Proxy Example", 0.19),
            ("others (212)", 0.18),
        ]),
        countries: shares(&[("NL", 0.31), ("US", 0.29), ("SG", 0.22), ("BR", 0.18)]),
        clients: shares(&[
            ("python-httpx/0.27.2 with t13d1516h2", 0.83),
            ("openai-python/1.61.0", 0.17),
        ]),
        evidence,
        excerpts: Vec::new(),
    }
}

fn crowd(campaigns: &[CampaignPicture], plans: &[Plan], dots: u64) -> CrowdPicture {
    let mut groups = crowd_groups(dots);
    for (i, plan) in plans.iter().enumerate() {
        groups.push(GroupDot {
            stratum: plan.stratum.to_owned(),
            accounts: plan.accounts,
            score: 9.0 + 7.0 * noise(77, i as u64),
            campaign_id: Some(plan.id.to_owned()),
        });
    }
    let reported: Vec<f64> = (0..(DAYS * 4) as usize)
        .map(|i| campaigns.iter().map(|c| c.traffic.counts[i]).sum())
        .collect();
    CrowdPicture {
        traffic: series("all", |h| 152_000.0 * daily(h) * (0.96 + 0.08 * noise(5, h as u64))),
        reported_traffic: Series { counts: reported, ..series("reported", |_| 0.0) },
        groups,
    }
}

fn run(candidates: u64) -> RunPicture {
    RunPicture {
        version: "0.1.0".to_owned(),
        exchanges: 28_812_345,
        accounts: 412_906,
        rows_refused: 1_204,
        problems: vec![
            "logs/part-0031.parquet: the file ends in mid-page; it was passed over".to_owned(),
            "1,204 rows refused: time outside 2000 to 2100".to_owned(),
        ],
        first_seen: START,
        last_seen: Time(START.0 + DAYS * DAY_US - 1),
        candidates,
        references: 612,
        level: 0.05,
    }
}

fn plans() -> Vec<Plan> {
    use CampaignKind::{Distillation, LogitExtraction, OpenHarvest, RewardGrading};
    let plan =
        |id, kind, stratum, accounts, exchanges, days: (i64, i64, i64), e_value, references| Plan {
            id,
            kind,
            stratum,
            accounts,
            exchanges,
            from_day: days.0,
            to_day: days.1,
            detect_day: days.2,
            e_value,
            references,
        };
    vec![
        plan(
            "c-3fa91c07be52",
            Distillation,
            "payment",
            2_140,
            1_432_118,
            (2, 45, 9),
            Some(412.0),
            612,
        ),
        plan(
            "c-90ab77d1e4f2",
            Distillation,
            "network",
            640,
            201_733,
            (11, 38, 19),
            Some(233.5),
            354,
        ),
        plan("c-1177c2aa09bd", RewardGrading, "client", 118, 88_020, (20, 45, 27), None, 31),
        plan("c-5e02d9c1aa41", LogitExtraction, "client", 54, 40_118, (5, 17, 8), Some(101.2), 118),
        plan("c-aa10cc31f0e9", OpenHarvest, "script", 1, 310_442, (0, 45, 3), None, 0),
    ]
}

/// Four campaigns and an open harvest in a crowd of 640 groups.
pub fn rich() -> Picture {
    let plans = plans();
    let mut campaigns: Vec<CampaignPicture> =
        plans.iter().enumerate().map(|(i, plan)| campaign(i as u64 + 1, plan)).collect();
    if let Some(open) = campaigns.last_mut() {
        open.graph = Graph::default();
        open.finding.guilty_members_at_least.members = 0;
        open.marks.clear();
    }
    Picture { run: run(645), crowd: crowd(&campaigns, &plans, 640), campaigns }
}

/// A crowd in which nothing was found.
pub fn nothing_found() -> Picture {
    let mut run = run(640);
    run.problems.clear();
    run.rows_refused = 0;
    Picture { run, crowd: crowd(&[], &[], 640), campaigns: Vec::new() }
}

/// Fifty campaigns and 5,000 dots.
pub fn large() -> Picture {
    const IDS: [&str; 50] = {
        let mut ids = [""; 50];
        let digits = "c-00c-01c-02c-03c-04c-05c-06c-07c-08c-09c-10c-11c-12c-13c-14c-15c-16c-17c-18c-19c-20c-21c-22c-23c-24c-25c-26c-27c-28c-29c-30c-31c-32c-33c-34c-35c-36c-37c-38c-39c-40c-41c-42c-43c-44c-45c-46c-47c-48c-49";
        let mut i = 0;
        while i < 50 {
            let (_, tail) = digits.split_at(i * 4);
            let (id, _) = tail.split_at(4);
            ids[i] = id;
            i += 1;
        }
        ids
    };
    let base = plans();
    let plans: Vec<Plan> = IDS
        .iter()
        .enumerate()
        .map(|(i, id)| Plan {
            id,
            accounts: 20 + (4_000.0 * noise(9, i as u64).powi(3)) as u64,
            exchanges: 2_000 + (60_000.0 * noise(10, i as u64)) as u64,
            ..*base.get(i % 4).unwrap()
        })
        .collect();
    let campaigns: Vec<CampaignPicture> =
        plans.iter().enumerate().map(|(i, plan)| campaign(i as u64 + 1, plan)).collect();
    Picture { run: run(5_000), crowd: crowd(&campaigns, &plans, 4_950), campaigns }
}

/// No rows at all: everything empty or zero.
pub fn empty() -> Picture {
    Picture {
        run: RunPicture {
            version: String::new(),
            exchanges: 0,
            accounts: 0,
            rows_refused: 0,
            problems: Vec::new(),
            first_seen: Time(0),
            last_seen: Time(0),
            candidates: 0,
            references: 0,
            level: 0.0,
        },
        crowd: CrowdPicture {
            traffic: Series::default(),
            reported_traffic: Series::default(),
            groups: Vec::new(),
        },
        campaigns: Vec::new(),
    }
}

/// One campaign of one account of which next to nothing is known.
pub fn bare() -> Picture {
    let mut picture = empty();
    picture.run.exchanges = 1;
    picture.run.accounts = 1;
    picture.run.candidates = 1;
    picture.run.first_seen = START;
    picture.run.last_seen = START;
    picture.crowd.traffic =
        Series { name: String::new(), start: START, width_us: HOUR_US, counts: vec![1.0] };
    picture.crowd.groups = vec![GroupDot {
        stratum: String::new(),
        accounts: 0,
        score: 0.0,
        campaign_id: Some("c".to_owned()),
    }];
    let mut campaign = campaign(1, &plans()[0]);
    let finding = &mut campaign.finding;
    finding.campaign_id = "c".to_owned();
    finding.evidence_value = None;
    finding.discovery_rate = None;
    finding.strata.clear();
    finding.references = 0;
    finding.guilty_members_at_least = GuiltyAtLeast { members: 0, level: 0.0 };
    (finding.accounts, finding.exchanges) = (1, 1);
    (finding.output_tokens, finding.reasoning_tokens, finding.cost_usd) = (0, 0, 0.0);
    (finding.first_seen, finding.last_seen, finding.first_detectable) = (START, START, START);
    finding.exchanges_before_detection = 0;
    finding.capabilities.clear();
    finding.routes.clear();
    finding.models.clear();
    finding.techniques.clear();
    finding.evidence.clear();
    campaign.promise.clear();
    campaign.traffic = Series::default();
    campaign.harvest = Series::default();
    campaign.hours_members = vec![0.0; 24];
    campaign.hours_crowd.clear();
    campaign.volumes = vec![1.0];
    campaign.marks.clear();
    campaign.graph = Graph::default();
    campaign.networks.clear();
    campaign.countries.clear();
    campaign.clients.clear();
    campaign.evidence.truncate(1);
    campaign.evidence[0].references.clear();
    campaign.evidence[0].strength = 0.0;
    picture.campaigns = vec![campaign];
    picture
}

/// The rich picture with `text` in every place that text from the data can reach.
pub fn hostile(text: &str) -> Picture {
    let mut picture = rich();
    let set = |s: &mut String| text.clone_into(s);
    set(&mut picture.run.version);
    picture.run.problems = vec![text.to_owned()];
    for group in &mut picture.crowd.groups {
        set(&mut group.stratum);
        if let Some(id) = &mut group.campaign_id {
            set(id);
        }
    }
    set(&mut picture.crowd.traffic.name);
    picture.campaigns.truncate(1);
    for campaign in &mut picture.campaigns {
        let finding = &mut campaign.finding;
        set(&mut finding.campaign_id);
        finding.strata = vec![text.to_owned()];
        for list in [
            &mut finding.capabilities,
            &mut finding.routes,
            &mut finding.models,
            &mut campaign.networks,
            &mut campaign.countries,
            &mut campaign.clients,
        ] {
            list.iter_mut().for_each(|s| set(&mut s.name));
        }
        for technique in &mut finding.techniques {
            set(&mut technique.id);
            set(&mut technique.name);
        }
        for evidence in &mut finding.evidence {
            set(&mut evidence.channel);
            set(&mut evidence.statement);
            evidence.examples = vec![text.to_owned()];
        }
        for evidence in &mut campaign.evidence {
            set(&mut evidence.channel);
            set(&mut evidence.statement);
            set(&mut evidence.ruled_out);
            set(&mut evidence.measure);
            set(&mut evidence.cost_to_avoid);
        }
        set(&mut campaign.promise);
        campaign.marks.iter_mut().for_each(|m| set(&mut m.1));
        for node in &mut campaign.graph.nodes {
            set(&mut node.label);
            set(&mut node.kind);
        }
        campaign.excerpts = vec![text.to_owned()];
    }
    picture
}

//! Telling: findings become campaigns as the contract has them, and pictures.

use std::collections::{BTreeMap, BTreeSet};

use hashbrown::HashMap;
use stillwatch_detect::calendar::EPOCHS;
use stillwatch_detect::confirm::MEASURES;
use stillwatch_detect::explain::{self, Basis};
use stillwatch_detect::find::{Finding, Found, GUILTY_LEVEL};
use stillwatch_detect::judge::Promise;
use stillwatch_detect::link::LinkChannel;
use stillwatch_detect::population::Population;
use stillwatch_detect::signature::Membership;
use stillwatch_exchange::picture::{
    CampaignPicture, CrowdPicture, EvidencePicture, Graph, GraphNode, GroupDot, Picture,
    RunPicture, Series,
};
use stillwatch_exchange::time::HOUR_US;
use stillwatch_exchange::{
    Campaign, CampaignKind, Evidence, GuiltyAtLeast, MemberRow, Release, Technique, Time,
};

use crate::harvest::Taken;
use crate::run::RunRecord;
use crate::settings::HuntSettings;

/// Accounts and shared things that a graph shows; the rest is counted.
const GRAPH_ACCOUNTS: usize = 160;
const GRAPH_THINGS: usize = 40;
/// Values that a picture shows at most, evenly picked.
const VOLUMES_MAX: usize = 2_000;
const REFERENCES_MAX: usize = 400;
const DOTS_MAX: usize = 4_000;
/// Bins of the traffic of everybody.
const CROWD_BINS: usize = 168;

pub(crate) struct Told {
    pub campaigns: Vec<Campaign>,
    pub members: Vec<MemberRow>,
    pub picture: Picture,
}

/// Everything a reader of the findings gets to see.
#[allow(
    clippy::too_many_arguments,
    reason = "one call, from the end of a run, with all that it knows"
)]
pub(crate) fn tell(
    population: &Population,
    found: &Found,
    ids: &[String],
    taken: &[Taken],
    hours: &[(i64, u64)],
    record: &RunRecord,
    settings: &HuntSettings,
    releases: &[Release],
) -> Told {
    let values = Sharing::of(population, found);
    let mut campaigns = Vec::new();
    let mut members = Vec::new();
    let mut pictures = Vec::new();
    let crowd_hours = hours_of_day(hours);
    for (place, finding) in found.findings.iter().enumerate() {
        let campaign = campaign(population, found, finding, &ids[place], &taken[place], &values);
        for m in &finding.members {
            let account = &population.members()[m.account as usize];
            let own = taken[place].members.get(&account.account_id).cloned().unwrap_or_default();
            members.push(MemberRow {
                campaign_id: ids[place].clone(),
                account_id: account.account_id.clone(),
                membership: m.membership,
                exchanges: own.exchanges,
                harvested_exchanges: own.harvested,
                first_seen: own.first_seen.unwrap_or(account.profile.first_seen()),
                last_seen: own.last_seen.unwrap_or(account.profile.last_seen()),
            });
        }
        pictures.push(picture(
            population,
            finding,
            &campaign,
            &taken[place],
            &crowd_hours,
            hours,
            releases,
            &values,
        ));
        campaigns.push(campaign);
    }
    let crowd = crowd(found, ids, hours, taken);
    let run = RunPicture {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        exchanges: record.rows_read,
        accounts: record.accounts,
        rows_refused: record.rows_refused.values().sum(),
        problems: record
            .file_problems
            .iter()
            .cloned()
            .chain(record.rows_refused.iter().map(|(reason, count)| format!("{count} × {reason}")))
            .collect(),
        first_seen: Time(hours.first().map_or(0, |h| h.0 * HOUR_US)),
        last_seen: Time(hours.last().map_or(0, |h| (h.0 + 1) * HOUR_US - 1)),
        candidates: record.candidates,
        references: record.references,
        level: settings.level,
    };
    Told { campaigns, members, picture: Picture { run, crowd, campaigns: pictures } }
}

/// Which shared values the members of findings have.
struct Sharing {
    values: stillwatch_detect::signature::Values,
}

impl Sharing {
    fn of(population: &Population, found: &Found) -> Self {
        let wanted: BTreeSet<u32> =
            found.findings.iter().flat_map(|f| f.members.iter().map(|m| m.account)).collect();
        let wanted: Vec<u32> = wanted.into_iter().collect();
        Sharing { values: stillwatch_detect::signature::Values::of_some(population, &wanted) }
    }

    /// The shared things of a group: channel and value with the members that have them,
    /// for values that at least eight members share, largest first.
    fn things(&self, members: &[Membership]) -> Vec<(LinkChannel, u64, Vec<u32>)> {
        let mut by_value: HashMap<(LinkChannel, u64), Vec<u32>> = HashMap::new();
        for m in members {
            for value in self.values.account(m.account) {
                by_value.entry(value).or_default().push(m.account);
            }
        }
        let mut things: Vec<(LinkChannel, u64, Vec<u32>)> = by_value
            .into_iter()
            .filter(|(_, accounts)| accounts.len() >= stillwatch_detect::link::GROUP_MIN)
            .map(|((channel, value), accounts)| (channel, value, accounts))
            .collect();
        things.sort_by(|a, b| b.2.len().cmp(&a.2.len()).then((a.0, a.1).cmp(&(b.0, b.1))));
        things
    }
}

fn campaign(
    population: &Population,
    found: &Found,
    finding: &Finding,
    id: &str,
    taken: &Taken,
    sharing: &Sharing,
) -> Campaign {
    let accounts = finding.members.len();
    let mut evidence: Vec<Evidence> = Vec::new();
    let everybody = population.members().len();
    let things = sharing.things(&finding.members);
    for channel in LinkChannel::ALL {
        let sharers: BTreeSet<u32> =
            things.iter().filter(|t| t.0 == channel).flat_map(|t| t.2.iter().copied()).collect();
        let formed =
            finding.groups.iter().any(|&g| found.groups[g].candidate.channels.contains(&channel));
        if !formed || sharers.is_empty() {
            continue;
        }
        let surprise = finding
            .groups
            .iter()
            .map(|&g| found.groups[g].candidate.surprise(everybody))
            .fold(0.0, f64::max);
        evidence.push(Evidence {
            channel: channel.name().to_owned(),
            statement: explain::link_statement(channel, sharers.len(), accounts, everybody),
            strength: round(surprise),
            examples: sharers
                .iter()
                .take(3)
                .map(|&a| population.members()[a as usize].account_id.clone())
                .collect(),
        });
    }
    let basis = Basis::of(finding, population);
    for spoken in &finding.spoken {
        evidence.push(Evidence {
            channel: MEASURES[spoken.measure].id.channel().name().to_owned(),
            statement: explain::statement(spoken.measure, spoken.value, &spoken.scale, &basis),
            strength: round(spoken.deviation),
            examples: taken.examples.texts(),
        });
    }
    let (evidence_value, discovery_rate) = match finding.promise {
        Promise::Kept { evidence_value, discovery_rate } => {
            (Some(round(evidence_value)), Some(round(discovery_rate)))
        }
        Promise::TooFewReferences => (None, None),
    };
    Campaign {
        campaign_id: id.to_owned(),
        kind: finding.kind,
        evidence_value,
        discovery_rate,
        strata: finding.strata.iter().map(|s| (*s).to_owned()).collect(),
        references: finding.references as u64,
        rank: finding.rank as u64,
        guilty_members_at_least: GuiltyAtLeast {
            members: finding.guilty_members_at_least as u64,
            level: GUILTY_LEVEL,
        },
        accounts: accounts as u64,
        exchanges: taken.exchanges,
        output_tokens: taken.output_tokens,
        reasoning_tokens: taken.reasoning_tokens,
        cost_usd: taken.cost_micro_usd as f64 / 1e6,
        first_seen: taken.first_seen.unwrap_or_default(),
        last_seen: taken.last_seen.unwrap_or_default(),
        first_detectable: finding.first_detectable,
        exchanges_before_detection: taken.before_detection,
        capabilities: taken.capabilities.shares(12),
        routes: taken.routes.shares(12),
        models: taken.models.shares(12),
        techniques: techniques(finding, taken),
        evidence,
    }
}

/// Six digits are more than any of these figures bears.
fn round(value: f64) -> f64 {
    (value * 1e6).round() / 1e6
}

fn techniques(finding: &Finding, taken: &Taken) -> Vec<Technique> {
    let technique = |id: &str, name: &str| Technique { id: id.to_owned(), name: name.to_owned() };
    let mut techniques = vec![technique("AML.T0024.002", "Extract AI Model")];
    if finding.kind != CampaignKind::OpenHarvest {
        // Accounts spread over many networks come through resold access.
        if taken.networks.names() >= 3 || taken.routes.names() >= 2 {
            techniques.push(technique("AML.T0008.005", "AI Service Proxies"));
        }
        techniques.push(technique("AML.T0021", "Establish Accounts"));
    }
    if finding.strata.contains(&"script") || finding.kind == CampaignKind::RewardGrading {
        techniques.push(technique("AML.T0065", "LLM Prompt Crafting"));
    }
    techniques
}

fn hours_of_day(hours: &[(i64, u64)]) -> Vec<f64> {
    let mut of_day = vec![0.0; 24];
    for (hour, exchanges) in hours {
        of_day[hour.rem_euclid(24) as usize] += *exchanges as f64;
    }
    normalised(of_day)
}

fn normalised(mut values: Vec<f64>) -> Vec<f64> {
    let sum: f64 = values.iter().sum();
    if sum > 0.0 {
        values.iter_mut().for_each(|v| *v /= sum);
    }
    values
}

fn crowd(found: &Found, ids: &[String], hours: &[(i64, u64)], taken: &[Taken]) -> CrowdPicture {
    let (first, last) = (hours.first().map_or(0, |h| h.0), hours.last().map_or(0, |h| h.0));
    let width = ((last - first + 1) as usize).div_ceil(CROWD_BINS).max(1) as i64;
    let bins = ((last - first) / width + 1) as usize;
    let mut counts = vec![0.0; bins];
    for (hour, exchanges) in hours {
        counts[((hour - first) / width) as usize] += *exchanges as f64;
    }
    let start = Time(first * HOUR_US);
    let mut reported = vec![0.0; bins];
    for t in taken {
        // Timelines have bins of their own; each falls into the bin of its start.
        let span = (last - first + 1) * HOUR_US;
        for (bin, count) in t.traffic.iter().enumerate() {
            let at = span / t.traffic.len().max(1) as i64 * bin as i64;
            reported[((at / HOUR_US / width) as usize).min(bins - 1)] += count;
        }
    }
    // One dot a group, from its last freezing; reported ones always.
    let mut groups: Vec<&stillwatch_detect::find::Group> = found
        .groups
        .iter()
        .filter(|g| g.active > 0 && (g.freeze == EPOCHS / 2 || g.finding.is_some()))
        .collect();
    groups.sort_by(|a, b| b.score.total_cmp(&a.score));
    groups.truncate(DOTS_MAX);
    CrowdPicture {
        traffic: Series {
            name: "all exchanges".to_owned(),
            start,
            width_us: width * HOUR_US,
            counts,
        },
        reported_traffic: Series {
            name: "reported".to_owned(),
            start,
            width_us: width * HOUR_US,
            counts: reported,
        },
        groups: groups
            .into_iter()
            .map(|g| GroupDot {
                stratum: g.candidate.stratum().to_owned(),
                accounts: g.candidate.members.len() as u64,
                score: round(g.score),
                campaign_id: g.finding.map(|f| ids[f].clone()),
            })
            .collect(),
    }
}

#[allow(clippy::too_many_arguments, reason = "a picture is made of all that is known")]
fn picture(
    population: &Population,
    finding: &Finding,
    campaign: &Campaign,
    taken: &Taken,
    crowd_hours: &[f64],
    hours: &[(i64, u64)],
    releases: &[Release],
    sharing: &Sharing,
) -> CampaignPicture {
    let start = Time(hours.first().map_or(0, |h| h.0 * HOUR_US));
    let end = Time(hours.last().map_or(0, |h| (h.0 + 1) * HOUR_US - 1));
    let width_us = ((end.0 - start.0) / taken.traffic.len().max(1) as i64 + 1).max(1);
    let series = |name: &str, counts: &[f64]| Series {
        name: name.to_owned(),
        start,
        width_us,
        counts: counts.to_vec(),
    };
    let mut marks = vec![
        (finding.frozen_at, "members frozen".to_owned()),
        (finding.first_detectable, "first detectable".to_owned()),
    ];
    marks.extend(
        releases
            .iter()
            .filter(|r| r.released_at >= start && r.released_at <= end)
            .map(|r| (r.released_at, format!("release of {}", r.model))),
    );
    marks.sort();
    let mut volumes: Vec<f64> = taken.members.values().map(|m| m.exchanges as f64).collect();
    if volumes.len() > VOLUMES_MAX {
        let step = volumes.len() as f64 / VOLUMES_MAX as f64;
        volumes = (0..VOLUMES_MAX).map(|i| volumes[(i as f64 * step) as usize]).collect();
    }
    let basis = Basis::of(finding, population);
    let evidence = finding
        .spoken
        .iter()
        .map(|spoken| {
            let channel = MEASURES[spoken.measure].id.channel();
            let mut references = spoken.references.clone();
            references.sort_unstable_by(f64::total_cmp);
            if references.len() > REFERENCES_MAX {
                let step = references.len() as f64 / REFERENCES_MAX as f64;
                references =
                    (0..REFERENCES_MAX).map(|i| references[(i as f64 * step) as usize]).collect();
            }
            EvidencePicture {
                channel: channel.name().to_owned(),
                statement: explain::statement(spoken.measure, spoken.value, &spoken.scale, &basis),
                ruled_out: explain::ruled_out(channel).to_owned(),
                measure: explain::axis(spoken.measure).to_owned(),
                value: spoken.value,
                references,
                strength: round(spoken.deviation),
                cost_to_avoid: explain::cost_to_avoid(channel).to_owned(),
            }
        })
        .collect();
    CampaignPicture {
        promise: promise(finding, campaign),
        traffic: series("members' exchanges", &taken.traffic),
        harvest: series("harvest", &taken.harvest),
        hours_members: normalised(taken.hours.iter().map(|&h| h as f64).collect()),
        hours_crowd: crowd_hours.to_vec(),
        volumes,
        marks,
        graph: graph(population, finding, sharing),
        networks: taken.networks.shares(15),
        countries: taken.countries.shares(15),
        clients: taken.clients.shares(10),
        evidence,
        excerpts: taken.excerpts.texts(),
        finding: campaign.clone(),
    }
}

fn promise(finding: &Finding, campaign: &Campaign) -> String {
    match finding.promise {
        Promise::Kept { evidence_value, discovery_rate } => format!(
            "This is not an ordinary group of its kind. Its e-value against {} reference groups is {:.0}; a list of findings up to this one has an expected part of innocent groups of at most {:.2} %, if innocent groups behave after their freezing like the references do.",
            campaign.references,
            evidence_value,
            discovery_rate * 100.0
        ),
        Promise::TooFewReferences => format!(
            "How these accounts went on after the freezing is some {} times as likely from a campaign as from ordinary groups of their kind; among all candidates the group has rank {}. With {} reference groups of the same linking there are too few for a promise on the rate of false findings.",
            times(finding.score.exp()),
            campaign.rank,
            campaign.references
        ),
    }
}

/// A ratio in one digit: `5`, `40`, `2000`.
fn times(ratio: f64) -> String {
    let digit = 10f64.powf(ratio.max(1.0).log10().floor());
    format!("{:.0}", (ratio / digit).floor() * digit)
}

/// Members on an outer ring, what they share inside, each thing at the mean angle of
/// its members.
fn graph(population: &Population, finding: &Finding, sharing: &Sharing) -> Graph {
    let mut things = sharing.things(&finding.members);
    things.truncate(GRAPH_THINGS);
    // Members in the order of what they share, so that sharers stand side by side.
    let mut order: BTreeMap<u32, (usize, u32)> = BTreeMap::new();
    for (place, (_, _, accounts)) in things.iter().enumerate().rev() {
        for &a in accounts {
            order.insert(a, (place, a));
        }
    }
    let mut shown: Vec<u32> = finding.members.iter().map(|m| m.account).collect();
    shown.sort_by_key(|a| order.get(a).copied().unwrap_or((usize::MAX, *a)));
    let left_out = shown.len().saturating_sub(GRAPH_ACCOUNTS);
    if left_out > 0 {
        let step = shown.len() as f64 / GRAPH_ACCOUNTS as f64;
        shown = (0..GRAPH_ACCOUNTS).map(|i| shown[(i as f64 * step) as usize]).collect();
    }
    let angle = |i: usize| i as f64 / shown.len().max(1) as f64 * std::f64::consts::TAU;
    let mut graph = Graph { accounts_left_out: left_out as u64, ..Graph::default() };
    let mut place_of: HashMap<u32, u32> = HashMap::new();
    for (i, &a) in shown.iter().enumerate() {
        place_of.insert(a, i as u32);
        let member = &population.members()[a as usize];
        graph.nodes.push(GraphNode {
            label: member.account_id.clone(),
            kind: "account".to_owned(),
            x: round(0.5 + 0.48 * angle(i).cos()),
            y: round(0.5 + 0.48 * angle(i).sin()),
            size: member.profile.exchanges(0..EPOCHS) as f64,
        });
    }
    let mut numbers: BTreeMap<LinkChannel, usize> = BTreeMap::new();
    for (place, (channel, _, accounts)) in things.iter().enumerate() {
        let points: Vec<u32> = accounts.iter().filter_map(|a| place_of.get(a)).copied().collect();
        if points.is_empty() {
            continue;
        }
        let number = numbers.entry(*channel).or_default();
        *number += 1;
        let (mut x, mut y) = (0.0, 0.0);
        for &p in &points {
            x += angle(p as usize).cos();
            y += angle(p as usize).sin();
        }
        let n = points.len() as f64;
        // A little apart, or things that everybody shares would lie on each other.
        let turn = place as f64 * 2.399_963;
        let node = graph.nodes.len() as u32;
        graph.nodes.push(GraphNode {
            label: format!("{} {number}", channel.name()),
            kind: channel.name().to_owned(),
            x: round(0.5 + 0.36 * x / n + 0.05 * turn.cos()),
            y: round(0.5 + 0.36 * y / n + 0.05 * turn.sin()),
            size: accounts.len() as f64,
        });
        graph.edges.extend(points.into_iter().map(|p| (p, node)));
    }
    graph
}

#[cfg(test)]
mod tests {
    #[test]
    fn ratios_are_told_in_one_digit() {
        assert_eq!([5.03, 47.9, 2981.0].map(super::times), ["5", "40", "2000"]);
    }
}

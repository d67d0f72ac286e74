//! What the report draws: the figures behind the findings, without any prompt text
//! unless excerpts were asked for. Filled by the hunt, drawn by the report.

use serde::{Deserialize, Serialize};

use crate::findings::{Campaign, Share};
use crate::time::Time;

/// Everything a report shows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Picture {
    /// What was hunted: `stillwatch hunt --exchanges …` and so on.
    pub run: RunPicture,
    /// The crowd that the findings stood out from.
    pub crowd: CrowdPicture,
    /// The findings, the gravest first.
    pub campaigns: Vec<CampaignPicture>,
}

/// The run at a glance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunPicture {
    pub version: String,
    pub exchanges: u64,
    pub accounts: u64,
    pub rows_refused: u64,
    /// File-level problems and refused rows in sentences, none with content in it.
    pub problems: Vec<String>,
    pub first_seen: Time,
    pub last_seen: Time,
    /// Candidate groups judged, the reported ones included.
    pub candidates: u64,
    /// Groups that served as references.
    pub references: u64,
    /// The false-discovery level asked for.
    pub level: f64,
}

/// Counts over time; `counts[i]` covers `start + i × width_us`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Series {
    pub name: String,
    pub start: Time,
    pub width_us: i64,
    pub counts: Vec<f64>,
}

/// One group among all that were judged, as a dot in a picture of the crowd.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GroupDot {
    /// What linked it, such as `payment`.
    pub stratum: String,
    pub accounts: u64,
    /// The confirmation score.
    pub score: f64,
    /// The campaign that it was reported in.
    pub campaign_id: Option<String>,
}

/// All traffic and all groups.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CrowdPicture {
    pub traffic: Series,
    /// Traffic of the reported campaigns together, same bins.
    pub reported_traffic: Series,
    pub groups: Vec<GroupDot>,
}

/// A node of a campaign's graph.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GraphNode {
    /// An account id, or the shared thing (`payment 3`, `client 1`), never its value
    /// where that is an address.
    pub label: String,
    /// `account`, or the link channel of the shared thing.
    pub kind: String,
    /// Layout, 0 to 1 each.
    pub x: f64,
    pub y: f64,
    /// Exchanges for an account, accounts for a shared thing.
    pub size: f64,
}

/// Accounts and the things they share; edges are pairs of node indices.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Graph {
    pub nodes: Vec<GraphNode>,
    pub edges: Vec<(u32, u32)>,
    /// How many accounts the graph leaves out to stay readable.
    pub accounts_left_out: u64,
}

/// One confirm or link channel of a finding, beside its reference groups.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EvidencePicture {
    pub channel: String,
    pub statement: String,
    /// The innocent explanation that was looked at, and why it does not hold.
    pub ruled_out: String,
    /// What is measured, such as «spread of the volumes beyond chance (log)».
    pub measure: String,
    /// The campaign's value.
    pub value: f64,
    /// The values of the reference groups.
    pub references: Vec<f64>,
    pub strength: f64,
    /// What an attacker would have to pay to avoid this piece of evidence.
    pub cost_to_avoid: String,
}

/// A finding and its pictures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CampaignPicture {
    pub finding: Campaign,
    /// What the promise behind the finding says, in a sentence.
    pub promise: String,
    /// The members' exchanges over time, and of them the harvest.
    pub traffic: Series,
    pub harvest: Series,
    /// Exchanges by hour of day (UTC), members and crowd, each adding up to 1.
    pub hours_members: Vec<f64>,
    pub hours_crowd: Vec<f64>,
    /// Exchanges per member, one value each (at most a few thousand, evenly picked).
    pub volumes: Vec<f64>,
    /// Moments worth a mark in the timeline: freezing, detection, releases.
    pub marks: Vec<(Time, String)>,
    pub graph: Graph,
    /// Networks (autonomous systems) that it came from.
    pub networks: Vec<Share>,
    pub countries: Vec<Share>,
    pub clients: Vec<Share>,
    pub evidence: Vec<EvidencePicture>,
    /// Excerpts of harvested prompts; empty unless `--quote` asked for them.
    pub excerpts: Vec<String>,
}

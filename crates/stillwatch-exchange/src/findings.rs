//! What a hunt says of a campaign: the rows and objects of the findings contract.

use serde::{Deserialize, Serialize};

use crate::time::Time;

/// What a campaign was after, or that it was not hidden.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CampaignKind {
    /// Answers gathered at scale by accounts that hide that they belong together.
    Distillation,
    /// Token probabilities gathered, as in Carlini et al. 2024 (arXiv 2403.06634).
    LogitExtraction,
    /// The model used as a grader of another model's answers.
    RewardGrading,
    /// One account or one verified organisation; not hidden.
    OpenHarvest,
}

impl CampaignKind {
    /// The name as the contract spells it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            CampaignKind::Distillation => "distillation",
            CampaignKind::LogitExtraction => "logit_extraction",
            CampaignKind::RewardGrading => "reward_grading",
            CampaignKind::OpenHarvest => "open_harvest",
        }
    }
}

/// A named part of a whole; `share` is 0 to 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Share {
    pub name: String,
    pub share: f64,
}

/// What was being harvested, as a part of the harvest; `share` is 0 to 1.
pub type Capability = Share;

/// A technique of MITRE ATLAS, such as AML.T0024.002.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Technique {
    pub id: String,
    pub name: String,
}

/// A lower bound on the number of members that are not ordinary.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct GuiltyAtLeast {
    pub members: u64,
    /// The confidence at which the bound holds, 0 to 1.
    pub level: f64,
}

/// One reason for a finding.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// The link or confirm channel that saw it, such as `payment` or `balance`.
    pub channel: String,
    /// A sentence that a person who was not there can follow.
    pub statement: String,
    /// How far it stands from ordinary groups; nats for link channels (surprise),
    /// robust standard deviations for confirm channels.
    pub strength: f64,
    /// Ids of exchanges or accounts that show it; never prompt text.
    pub examples: Vec<String>,
}

/// A finding: one element of `campaigns.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Campaign {
    pub campaign_id: String,
    pub kind: CampaignKind,
    /// The e-value against «an ordinary group of this stratum»; `None` where there
    /// are too few reference groups for a promise.
    pub evidence_value: Option<f64>,
    /// The false-discovery level at which it is reported; `None` with the above.
    pub discovery_rate: Option<f64>,
    /// What it was compared with.
    pub strata: Vec<String>,
    /// How many reference groups of that kind there were.
    pub references: u64,
    /// Place among all candidates of the run, gravest = 1.
    pub rank: u64,
    pub guilty_members_at_least: GuiltyAtLeast,
    pub accounts: u64,
    pub exchanges: u64,
    pub output_tokens: u64,
    pub reasoning_tokens: u64,
    /// US dollars.
    pub cost_usd: f64,
    pub first_seen: Time,
    pub last_seen: Time,
    /// The earliest time at which the same rule would have reported it: that of a look, at the
    /// end of an epoch, which may lie after `last_seen`.
    pub first_detectable: Time,
    pub exchanges_before_detection: u64,
    pub capabilities: Vec<Capability>,
    pub routes: Vec<Share>,
    pub models: Vec<Share>,
    pub techniques: Vec<Technique>,
    pub evidence: Vec<Evidence>,
}

/// One row of `members.parquet`.
#[derive(Clone, Debug, PartialEq)]
pub struct MemberRow {
    pub campaign_id: String,
    pub account_id: String,
    /// How surely the account belongs to the campaign, 0 to 1.
    pub membership: f64,
    pub exchanges: u64,
    pub harvested_exchanges: u64,
    pub first_seen: Time,
    pub last_seen: Time,
}

/// One row of `harvest.parquet`.
#[derive(Clone, Debug, PartialEq)]
pub struct HarvestRow {
    pub campaign_id: String,
    pub exchange_id: String,
    pub account_id: String,
    /// How surely the exchange is harvest and not the account's other traffic, 0 to 1.
    pub score: f64,
}

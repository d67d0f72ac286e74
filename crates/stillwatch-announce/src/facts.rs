//! What is told of a campaign.

use serde::{Deserialize, Serialize};
use stillwatch_exchange::{Campaign, CampaignKind, Technique, Time};

/// A channel of evidence, without what it saw: that may be somebody's address.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Channel {
    pub name: String,
    /// As in the findings: nats, or robust standard deviations.
    pub strength: f64,
}

/// All that is told of a campaign. None of it is what somebody wrote, sent or is called.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    /// Its id in the findings of the look.
    pub campaign_id: String,
    pub kind: CampaignKind,
    /// None where there were too few groups to compare with for a promise.
    pub evidence_value: Option<f64>,
    pub discovery_rate: Option<f64>,
    pub rank: u64,
    pub accounts: u64,
    pub exchanges: u64,
    pub output_tokens: u64,
    pub first_seen: Time,
    pub last_seen: Time,
    pub first_detectable: Time,
    /// Techniques of MITRE ATLAS.
    pub techniques: Vec<Technique>,
    pub channels: Vec<Channel>,
}

impl Facts {
    /// What may be told of a finding.
    #[must_use]
    pub fn of(campaign: &Campaign) -> Self {
        Facts {
            campaign_id: campaign.campaign_id.clone(),
            kind: campaign.kind,
            evidence_value: campaign.evidence_value,
            discovery_rate: campaign.discovery_rate,
            rank: campaign.rank,
            accounts: campaign.accounts,
            exchanges: campaign.exchanges,
            output_tokens: campaign.output_tokens,
            first_seen: campaign.first_seen,
            last_seen: campaign.last_seen,
            first_detectable: campaign.first_detectable,
            techniques: campaign.techniques.clone(),
            channels: campaign
                .evidence
                .iter()
                .map(|e| Channel { name: e.channel.clone(), strength: e.strength })
                .collect(),
        }
    }

    /// Whether the finding carries a false-discovery level.
    #[must_use]
    pub fn is_promised(&self) -> bool {
        self.evidence_value.is_some() && self.discovery_rate.is_some()
    }
}

//! What goes into a rehearsal and what comes out of it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use stillwatch_exchange::{CampaignKind, Time};

use crate::verdict::Response;

/// Since when the findings are taken to be in force.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InForceFrom {
    /// Since the traffic begins: what the policy does to traffic like this one, once the
    /// findings are there.
    #[default]
    Start,
    /// Each since its `first_detectable`: what would have come of it then, had its
    /// members all been known.
    Detected,
}

/// Why an account is thought to be innocent, or may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Known {
    /// The accounts table says that an organisation has proved who it is.
    VerifiedOrganization,
    /// It is in a campaign that a person has cleared, by the references file.
    Cleared,
    /// It is in a group that a known customer stands behind, by the references file.
    Customer,
    /// Somebody has lifted its verdict or cleared its campaign, and that has ended.
    Lifted,
    /// No finding is sure that it belongs to its campaign: membership below 0.9.
    UnsureMember,
}

/// One exchange that has been, as far as a policy turns on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Passed<'a> {
    pub time: Time,
    pub account_id: &'a str,
    pub organization_id: Option<&'a str>,
    /// The longest answer that was asked for, in tokens.
    pub max_tokens: Option<u32>,
    /// How many answers at once were asked for.
    pub choices: Option<u16>,
    /// What was answered, all choices together; none where it is not known.
    pub output_tokens: Option<u32>,
    /// Whether token probabilities or biases were asked for.
    pub asks_probabilities: bool,
    /// Whether the answer was asked for as a stream.
    pub is_stream: bool,
    /// An embedding has no length to cap.
    pub is_embedding: bool,
    /// The model's API refused it or failed.
    pub is_failed: bool,
}

/// What would have happened to some exchanges.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    pub exchanges: u64,
    /// What they were answered, as it is on record.
    pub output_tokens: u64,
    /// Of the exchanges, those that have no figure for that.
    pub unmeasured_exchanges: u64,
    /// Of the exchanges, those that would have been answered 429 or 403.
    pub refused_exchanges: u64,
    /// Of the exchanges, those that would have passed otherwise than they did: shorter,
    /// with fewer answers, without probabilities.
    pub changed_exchanges: u64,
    /// Of the output tokens, those that would not have been given.
    pub kept_output_tokens: u64,
}

/// What became of one exchange under one response.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Outcome {
    pub is_refused: bool,
    pub is_changed: bool,
    pub kept_output_tokens: u64,
}

impl Tally {
    pub(super) fn add(&mut self, passed: &Passed<'_>, outcome: Outcome) {
        self.exchanges += 1;
        self.output_tokens += u64::from(passed.output_tokens.unwrap_or(0));
        self.unmeasured_exchanges +=
            u64::from(passed.output_tokens.is_none() && !passed.is_failed && !passed.is_embedding);
        self.refused_exchanges += u64::from(outcome.is_refused);
        self.changed_exchanges += u64::from(outcome.is_changed);
        self.kept_output_tokens += outcome.kept_output_tokens;
    }
}

/// What a response of a rule would have done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ResponseTally {
    pub response: Response,
    pub campaigns: u64,
    pub accounts: u64,
    /// Of the accounts, those that are known to be innocent, or may be.
    pub innocent_accounts: u64,
    #[serde(flatten)]
    pub tally: Tally,
}

/// What a step of a rule would have done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepTally {
    /// Counted from 1.
    pub step: usize,
    #[serde(rename = "do")]
    pub responses: Vec<Response>,
    /// When the first and the last exchange came under it; none where none did.
    pub first: Option<Time>,
    pub last: Option<Time>,
    pub accounts: u64,
    #[serde(flatten)]
    pub tally: Tally,
}

/// What a rule would have done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RuleTally {
    pub rule: String,
    /// Only those that came under an exchange.
    pub responses: Vec<ResponseTally>,
    pub steps: Vec<StepTally>,
}

/// What would have been done for a campaign.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CampaignTally {
    pub campaign_id: String,
    pub kind: CampaignKind,
    pub in_force_from: Time,
    pub accounts: u64,
    /// The finding's own bound on how many of them are not ordinary.
    pub guilty_members_at_least: u64,
    /// Accounts to whom something would have been done for it.
    pub touched_accounts: u64,
    #[serde(flatten)]
    pub tally: Tally,
}

/// An account to whom something would have been done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AccountTally {
    pub account_id: String,
    /// The campaigns that it was done for.
    pub campaign_ids: Vec<String>,
    /// The gravest of what was done.
    pub gravest: Response,
    /// How surely it belongs to a campaign, by the surest finding; 0 to 1.
    pub membership: f64,
    /// Why it is known to be innocent, or may be.
    pub innocent: Vec<Known>,
    #[serde(flatten)]
    pub tally: Tally,
}

/// Why nothing would have been done to accounts that a finding names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Untouched {
    /// The policy exempts them.
    pub exempt: u64,
    /// Somebody has lifted their verdicts or cleared their campaigns.
    pub lifted: u64,
    /// They would only have been recorded.
    pub recorded: u64,
    /// No rule covers them, its steps were over, or their finding was not in force yet.
    pub uncovered: u64,
    /// They sent nothing.
    pub silent: u64,
}

/// What came of a rehearsal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rehearsal {
    pub in_force_from: InForceFrom,
    /// Accounts that some finding names.
    pub named_accounts: u64,
    /// Of the named accounts' exchanges, all.
    pub named: Tally,
    /// Accounts to whom something graver than `record` would have been done.
    pub touched_accounts: u64,
    /// Of those, the ones that are known to be innocent, or may be.
    pub innocent_accounts: u64,
    /// The same by reason; an account may have several.
    pub innocent: BTreeMap<Known, u64>,
    pub untouched: Untouched,
    pub rules: Vec<RuleTally>,
    pub campaigns: Vec<CampaignTally>,
    /// By `account_id`.
    pub accounts: Vec<AccountTally>,
}

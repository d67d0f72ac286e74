//! What came of duels between an attacker who adapts and a hunt: the figures of
//! `duel.json`, filled by whoever runs them and drawn by the report. Prices are US dollars.

use serde::{Deserialize, Serialize};

use crate::findings::Share;

/// All duels of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DuelRecord {
    pub version: String,
    pub seed: u64,
    pub duels: u64,
    /// Rounds that were played; a plan that several strategies come to is played once.
    pub rounds: u64,
    pub crowds: u64,
    /// Accounts and exchanges of a crowd, and its length in days.
    pub crowd_accounts: u64,
    pub crowd_exchanges: u64,
    pub days: u32,
    /// The false-discovery level of the hunts.
    pub level: f64,
    /// What an attacker may spend in one duel.
    pub budget_usd: f64,
    /// From which share of caught accounts down an attacker has escaped.
    pub escaped_below: f64,
    /// Findings, over all rounds, that were mostly innocent accounts.
    pub innocent_findings: u64,
    pub prices: Vec<PriceRecord>,
    /// The plan that every attacker begins with.
    pub naive: PlanRecord,
    pub moves: Vec<MoveRecord>,
    pub strategies: Vec<StrategyRecord>,
    /// Plans that were played by enough attackers, the cheapest first.
    pub plans: Vec<PlanRecord>,
    /// The cheapest plan with which at least half of its attackers escaped.
    pub cheapest_evasion: Option<PlanRecord>,
    /// The plan whose exchanges cost least under defence, caught or not.
    pub cheapest: Option<PlanRecord>,
}

/// A price that a run was given.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PriceRecord {
    pub name: String,
    pub usd: f64,
    pub unit: String,
}

/// Something that an attacker can change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MoveRecord {
    pub name: String,
    pub meaning: String,
}

/// What attackers with one set of moves went through.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PlanRecord {
    /// By name; none is the naive plan.
    pub moves: Vec<String>,
    pub attackers: u64,
    /// Share of the attackers that escaped.
    pub escaped: f64,
    /// Mean share of an attacker's accounts that were caught.
    pub caught: f64,
    /// Mean share of the wanted exchanges that were not had.
    pub lost: f64,
    /// Medians over attackers of what a thousand usable exchanges cost: where nobody
    /// defends, and where caught accounts are closed. `None` where most had none at all.
    pub undefended_usd: Option<f64>,
    pub defended_usd: Option<f64>,
    /// What the defended thousand is spent on, by price; adds up to 1.
    pub spent_on: Vec<Share>,
    /// Median days from the first exchange to detection, of those found.
    pub days_to_detection: Option<f64>,
    /// Share of attackers whose accounts a channel gathered, reported or not.
    pub linked_by: Vec<Share>,
    /// Share of attackers against whom a channel spoke in a finding.
    pub confirmed_by: Vec<Share>,
}

/// What came of one strategy.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StrategyRecord {
    pub name: String,
    pub meaning: String,
    pub duels: u64,
    /// Share of the duels that ended in an escape.
    pub escaped: f64,
    /// Share of the duels that the budget ended.
    pub out_of_budget: f64,
    pub rounds_mean: f64,
    /// Median over duels of what was spent in all rounds.
    pub spent_usd: f64,
    /// Medians of what a thousand usable exchanges cost the naive attacker where nobody
    /// defends; the last plan, where nobody defends; the last plan, defended; and all
    /// rounds together, defended.
    pub before_usd: Option<f64>,
    pub last_undefended_usd: Option<f64>,
    pub last_defended_usd: Option<f64>,
    pub overall_usd: Option<f64>,
    /// Mean share of accounts that were caught, by round; a duel that has ended stays at
    /// its last.
    pub caught_by_round: Vec<f64>,
    /// As in [`PlanRecord`], of the last round of each duel.
    pub linked_by: Vec<Share>,
    pub confirmed_by: Vec<Share>,
}

//! The campaigns: what has been published of each, what a seed may vary, and the
//! accounts that carry one out.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use stillwatch_exchange::time::{DAY_US, HOUR_US};

use crate::clients::{ClientKind, Parameters, REASONING, ordinary_parameters};
use crate::crowds::CROWDS;
use crate::draws::{Draws, Permutation, Purpose, mix, scale, unit};
use crate::grammar;
use crate::networks::{COUNTRIES, NetworkKind, NetworkUse, Rotation};
use crate::population::{Account, Activity, Content, OPEN_US, Population, ROUTES, Schedule};
use crate::prompts::Prompts;
use crate::settings::{SettingsError, WorldSettings};
use crate::wording::Wording;

/// What a campaign wants from the answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Goal {
    /// Answers to instructions.
    Answers,
    /// Answers with their reasoning written out.
    Reasoning,
    /// Grades under a rubric.
    Grades,
    /// Agents' steps: code and tool calls.
    Agentic,
    /// New tasks made after examples.
    Tasks,
    /// Token probabilities.
    Probabilities,
}

/// When in the day a campaign works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Hours {
    /// Day and night alike.
    Flat,
    /// The operator's working hours.
    Working,
    /// Every account has a day of its own, like a person.
    Rhythm,
}

/// How the prompts are shared out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pool {
    /// Every prompt to one account.
    Divided,
    /// Every prompt asked a set number of times, by different accounts.
    Repeated,
    /// Divided but for a part that all draw from.
    Overlapping,
    /// Everyone draws for himself.
    Independent,
}

/// Where a campaign's requests come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// Residential proxies that rotate.
    Residential,
    /// Machines rented from clouds.
    Cloud,
    /// Commercial relays.
    Relay,
    /// An ordinary line for each account.
    Homes,
}

/// Everything that a campaign is and does; written to `world.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CampaignPlan {
    /// The campaign's name; not a knob.
    pub name: String,
    pub goal: Goal,
    pub accounts: u64,
    pub exchanges: u64,
    pub start_day: u32,
    pub end_day: u32,
    pub volume_sigma: f64,
    pub day_noise: f64,
    pub hours: Hours,
    pub synchrony: f64,
    pub tick_minutes: u32,
    pub mix_share: f64,
    pub hop_share: f64,
    pub accounts_per_payment: u32,
    pub accounts_per_organization: u32,
    pub email_domains: u32,
    pub signup_days: f64,
    pub access: Access,
    pub rotation: Rotation,
    pub addresses: u32,
    pub countries: u32,
    pub rare_clients: u32,
    pub shared_parameters: bool,
    pub system_prompts: u32,
    pub templates: u32,
    pub rewording: f64,
    pub task_rewording: f64,
    pub pool: Pool,
    pub times_asked: u32,
    pub overlap: f64,
    pub domains: u32,
    pub follow_up_share: f64,
    pub reasoning: Option<String>,
    pub max_tokens: Option<u32>,
    pub temperature: Option<f32>,
    pub stream: bool,
    pub tools: u16,
    pub top_logprobs: u16,
    pub logit_bias: u16,
    pub conversation_ids: bool,
    pub pivot_share: f64,
    pub pivot_hours: f64,
    pub routes: u32,
    pub bans_per_seat: f64,
    pub ban_waves: u32,
    pub replacement_hours: f64,
}

impl CampaignPlan {
    /// The knobs with their meanings, in the order of the plan.
    pub(crate) const MEANINGS: &'static [(&'static str, &'static str)] = &[
        ("goal", "answers, reasoning, grades, agentic, tasks or probabilities"),
        ("accounts", "accounts over the whole campaign, replacements included"),
        ("exchanges", "harvested exchanges, about"),
        ("start_day", "first day of harvesting, counted from 0"),
        ("end_day", "the day before which harvesting ends"),
        ("volume_sigma", "spread of the accounts' volumes: standard deviation of their logarithm"),
        ("day_noise", "how unevenly a quota is worked off over the days, 0 to 1"),
        ("hours", "flat, working (the operator's hours) or rhythm (each account its own day)"),
        ("synchrony", "share of the exchanges sent at moments common to all accounts"),
        ("tick_minutes", "minutes between such moments"),
        ("mix_share", "share of the accounts' traffic that is strangers' chats, not harvest"),
        ("hop_share", "share of those chats that go on from another account"),
        ("accounts_per_payment", "accounts on one payment instrument, 0 = no instrument"),
        ("accounts_per_organization", "accounts in one organisation, 0 = no organisation"),
        ("email_domains", "mail domains of the campaign's own, 0 = free mail"),
        ("signup_days", "days over which the accounts were opened"),
        ("access", "residential, cloud, relay or homes"),
        ("rotation", "another address for each exchange, session or day"),
        ("addresses", "size of the pool of addresses"),
        ("countries", "countries that the addresses lie in"),
        ("rare_clients", "client builds of the campaign's own, 0 = popular programs"),
        ("shared_parameters", "whether all send the same parameters"),
        ("system_prompts", "system prompts in use, 0 = none"),
        ("templates", "wordings of the text around each task, 0 = none"),
        ("rewording", "share of the template's words that each account words for itself"),
        ("task_rewording", "share of a task's words that are replaced when it is first asked"),
        ("pool", "divided, repeated, overlapping or independent"),
        ("times_asked", "how often each prompt is asked where the pool is repeated"),
        ("overlap", "share of the prompts drawn in common where the pool is overlapping"),
        ("domains", "domains of tasks that are harvested, 0 = all"),
        ("follow_up_share", "share of the exchanges that are followed by a further turn"),
        ("reasoning", "the reasoning effort asked for, or null"),
        ("max_tokens", "the limit sent, or null"),
        ("temperature", "the temperature sent, or null"),
        ("stream", "whether answers are streamed"),
        ("tools", "tools offered to the model"),
        ("top_logprobs", "token probabilities asked for"),
        ("logit_bias", "tokens with a bias, at most"),
        ("conversation_ids", "whether requests carry a conversation id"),
        ("pivot_share", "share of the traffic that moves to a model once it is released"),
        ("pivot_hours", "hours within which it moves"),
        ("routes", "ways in: 1 = direct, more = clouds too"),
        ("bans_per_seat", "how often a seat's account is closed over the campaign, on average"),
        ("ban_waves", "1 or more: closures come in that many waves; 0 = spread"),
        ("replacement_hours", "hours until a closed account is replaced"),
    ];

    /// Whether knobs fit a plan; the text says what does not.
    pub(crate) fn check_fixed(fixed: &Map<String, Value>) -> Result<(), String> {
        let mut draws = Draws::new(0, Purpose::Campaign, 0, 0);
        let size = Size { accounts: 100, exchanges: 10_000, days: 28 };
        let plan = draw_plan("slow_drip", size, &mut draws).fixed(fixed)?;
        let shares = [
            plan.day_noise,
            plan.synchrony,
            plan.mix_share,
            plan.hop_share,
            plan.rewording,
            plan.task_rewording,
            plan.overlap,
            plan.follow_up_share,
            plan.pivot_share,
        ];
        if shares.iter().any(|s| !(0.0..=1.0).contains(s)) || plan.mix_share > 0.99 {
            return Err("a share must be 0 to 1, and mix_share at most 0.99".to_owned());
        }
        let numbers = [
            plan.volume_sigma,
            plan.signup_days,
            plan.pivot_hours,
            plan.replacement_hours,
            plan.bans_per_seat,
        ];
        if numbers.iter().any(|n| !(0.0..=10_000.0).contains(n))
            || plan.volume_sigma > 4.0
            || plan.bans_per_seat > 50.0
        {
            return Err("a number is out of range: volume_sigma 0 to 4, bans_per_seat 0 to 50, hours and days 0 to 10,000".to_owned());
        }
        if plan.accounts == 0 || plan.accounts > 10_000_000 || plan.exchanges == 0 {
            return Err("accounts must be 1 to 10,000,000 and exchanges at least 1".to_owned());
        }
        if plan.addresses == 0
            || plan.rare_clients > 10_000
            || plan.templates > 10_000
            || plan.system_prompts > 10_000
            || plan.email_domains > 100_000
        {
            return Err("addresses must be at least 1; rare_clients, templates and system_prompts at most 10,000; email_domains at most 100,000".to_owned());
        }
        if plan.reasoning.as_deref().is_some_and(|r| !REASONING.contains(&r)) {
            return Err(format!("reasoning must be null or one of {}", REASONING.join(", ")));
        }
        Ok(())
    }

    /// This plan with the knobs that someone has fixed.
    fn fixed(self, fixed: &Map<String, Value>) -> Result<CampaignPlan, String> {
        let mut tree = serde_json::to_value(&self).map_err(|e| e.to_string())?;
        if let Value::Object(fields) = &mut tree {
            for (knob, value) in fixed {
                fields.insert(knob.clone(), value.clone());
            }
            fields.insert("name".to_owned(), Value::from(self.name));
        }
        serde_json::from_value(tree).map_err(|e| e.to_string())
    }

    /// Seats that work at the same time; the other accounts replace closed ones.
    fn seats(&self) -> u64 {
        ((self.accounts as f64 / (1.0 + self.bans_per_seat)).round() as u64).clamp(1, self.accounts)
    }
}

/// A published kind of campaign.
pub struct CampaignKind {
    pub name: &'static str,
    pub meaning: &'static str,
    /// Size relative to the others, in accounts and in exchanges.
    weight: f64,
    /// The published number of accounts, never exceeded by default.
    accounts_max: u64,
}

/// Every campaign that a world can have.
pub const CAMPAIGNS: &[CampaignKind] = &[
    CampaignKind {
        name: "hydra_proxy",
        weight: 1.8,
        accounts_max: 20_000,
        meaning: "one proxy network of accounts (published: 20,000) that mixes harvest with strangers' traffic",
    },
    CampaignKind {
        name: "load_balanced",
        weight: 1.0,
        accounts_max: 24_000,
        meaning: "balanced volumes, shared payments, synchronised timing, reasoning elicitation",
    },
    CampaignKind {
        name: "slow_drip",
        weight: 2.0,
        accounts_max: 25_000,
        meaning: "a pool divided among accounts (published: 25,000) at about one question an hour",
    },
    CampaignKind {
        name: "pivot",
        weight: 1.0,
        accounts_max: 24_000,
        meaning: "half of the traffic moves to a new model within a day of its release",
    },
    CampaignKind {
        name: "replacement",
        weight: 1.0,
        accounts_max: 24_000,
        meaning: "accounts closed in waves and replaced by look-alikes that take up the unfinished shard",
    },
    CampaignKind {
        name: "rubric_grading",
        weight: 1.0,
        accounts_max: 24_000,
        meaning: "the model as a grader with a rubric",
    },
    CampaignKind {
        name: "agentic_multicloud",
        weight: 1.0,
        accounts_max: 24_000,
        meaning: "agentic and tool tasks over several clouds",
    },
    CampaignKind {
        name: "logprobs",
        weight: 0.8,
        accounts_max: 24_000,
        meaning: "top-logprobs with logit bias",
    },
    CampaignKind {
        name: "k_samples",
        weight: 1.0,
        accounts_max: 24_000,
        meaning: "each prompt asked exactly k times across accounts",
    },
    CampaignKind {
        name: "request_form",
        weight: 0.8,
        accounts_max: 24_000,
        meaning: "complete self-instruct requests: a fixed template around varying seeds",
    },
    CampaignKind {
        name: "careful",
        weight: 1.0,
        accounts_max: 24_000,
        meaning: "an attacker that avoids most habits and yet shares something rare",
    },
];

/// Kinds of campaign on which nothing is ever tuned: `all` passes over them, and only
/// benchmarks ask for them, by `held_out` or by name.
pub const HELD_OUT: &[CampaignKind] = &[
    CampaignKind {
        name: "persona",
        weight: 1.0,
        accounts_max: 24_000,
        meaning: "held out: tasks asked through many personas (Ge et al. 2024, arXiv 2406.20094)",
    },
    CampaignKind {
        name: "evolved",
        weight: 1.0,
        accounts_max: 24_000,
        meaning: "held out: instructions made harder turn by turn (Xu et al. 2023, arXiv 2304.12244)",
    },
    CampaignKind {
        name: "dialogue",
        weight: 1.0,
        accounts_max: 24_000,
        meaning: "held out: long conversations with a made-up user (Ding et al. 2023, arXiv 2305.14233)",
    },
    CampaignKind {
        name: "relay_blend",
        weight: 1.0,
        accounts_max: 24_000,
        meaning: "held out: a reseller that hides harvest among three to six times as many strangers' chats",
    },
    CampaignKind {
        name: "burst",
        weight: 1.0,
        accounts_max: 24_000,
        meaning: "held out: all within a few days",
    },
    CampaignKind {
        name: "trickle",
        weight: 1.0,
        accounts_max: 25_000,
        meaning: "held out: two or three questions a day and account",
    },
    CampaignKind {
        name: "shares_nothing",
        weight: 1.0,
        accounts_max: 24_000,
        meaning: "held out: no template, payment, address or client in common, and human hours",
    },
];

/// Every kind with its number, which names its draws.
pub(crate) fn kinds() -> impl Iterator<Item = (usize, &'static CampaignKind)> {
    CAMPAIGNS.iter().chain(HELD_OUT).enumerate()
}

/// The kinds that a kind shares the world's campaigns with.
fn family(index: usize) -> &'static [CampaignKind] {
    if index < CAMPAIGNS.len() { CAMPAIGNS } else { HELD_OUT }
}

#[derive(Clone, Copy)]
struct Size {
    accounts: u64,
    exchanges: u64,
    days: u32,
}

/// What a seed makes of a published campaign.
fn draw_plan(name: &str, size: Size, draws: &mut Draws) -> CampaignPlan {
    let days = f64::from(size.days);
    let start_day = (days * draws.range(0.02, 0.18)) as u32;
    let end_day = ((days * draws.range(0.86, 1.0)).ceil() as u32)
        .clamp(start_day + 1, size.days.max(start_day + 1));
    let accounts = size.accounts;
    let mut plan = CampaignPlan {
        name: name.to_owned(),
        goal: Goal::Answers,
        accounts,
        exchanges: size.exchanges,
        start_day,
        end_day,
        volume_sigma: draws.range(0.05, 0.3),
        day_noise: draws.range(0.1, 0.8),
        hours: if draws.chance(0.6) { Hours::Flat } else { Hours::Working },
        synchrony: if draws.chance(0.4) { draws.range(0.3, 0.8) } else { 0.0 },
        tick_minutes: *draws.pick(&[10, 15, 20, 30, 60]),
        mix_share: if draws.chance(0.3) { draws.range(0.05, 0.3) } else { 0.0 },
        hop_share: 0.0,
        accounts_per_payment: if draws.chance(0.5) { draws.between(3, 12) as u32 } else { 1 },
        accounts_per_organization: if draws.chance(0.15) { draws.between(2, 8) as u32 } else { 0 },
        email_domains: if draws.chance(0.4) { draws.between(1, 5) as u32 } else { 0 },
        signup_days: draws.range(2.0, 30.0),
        access: *draws.pick(&[
            Access::Residential,
            Access::Residential,
            Access::Cloud,
            Access::Relay,
        ]),
        rotation: *draws.pick(&[Rotation::Exchange, Rotation::Session, Rotation::Day]),
        addresses: ((accounts as f64 * draws.range(0.2, 4.0)) as u32).max(8),
        countries: draws.between(2, 9) as u32,
        rare_clients: if draws.chance(0.55) { draws.between(1, 3) as u32 } else { 0 },
        shared_parameters: draws.chance(0.6),
        system_prompts: if draws.chance(0.4) { draws.between(1, 4) as u32 } else { 0 },
        templates: if draws.chance(0.55) { draws.between(1, 6) as u32 } else { 0 },
        rewording: 0.0,
        task_rewording: 0.0,
        pool: Pool::Divided,
        times_asked: 1,
        overlap: 0.0,
        domains: draws.between(1, 3) as u32,
        follow_up_share: if draws.chance(0.3) { draws.range(0.02, 0.15) } else { 0.0 },
        reasoning: draws.chance(0.35).then(|| "high".to_owned()),
        max_tokens: draws.chance(0.7).then(|| *draws.pick(&[2048, 4000, 4096, 8000, 8192, 16_000])),
        temperature: draws.chance(0.6).then(|| *draws.pick(&[0.6, 0.7, 0.8, 0.9, 1.0])),
        stream: draws.chance(0.3),
        tools: 0,
        top_logprobs: 0,
        logit_bias: 0,
        conversation_ids: draws.chance(0.3),
        pivot_share: if draws.chance(0.3) { draws.range(0.2, 0.5) } else { 0.0 },
        pivot_hours: draws.range(10.0, 60.0),
        routes: 1,
        bans_per_seat: if draws.chance(0.4) { draws.range(0.05, 0.25) } else { 0.0 },
        ban_waves: 0,
        replacement_hours: draws.range(3.0, 30.0),
    };
    match name {
        "hydra_proxy" => {
            plan.mix_share = draws.range(0.35, 0.65);
            plan.hop_share = draws.range(0.02, 0.15);
            plan.access = Access::Residential;
            plan.rotation = *draws.pick(&[Rotation::Exchange, Rotation::Session]);
            plan.countries = draws.between(6, 20) as u32;
            plan.accounts_per_payment = draws.between(2, 9) as u32;
            plan.volume_sigma = draws.range(0.2, 0.5);
            plan.bans_per_seat = draws.range(0.15, 0.5);
            plan.templates = draws.between(1, 4) as u32;
        }
        "load_balanced" => {
            plan.goal = Goal::Reasoning;
            plan.volume_sigma = draws.range(0.01, 0.06);
            plan.day_noise = draws.range(0.0, 0.2);
            plan.synchrony = draws.range(0.5, 0.9);
            plan.accounts_per_payment = draws.between(6, 25) as u32;
            plan.templates = draws.between(1, 5) as u32;
            plan.reasoning = draws.chance(0.5).then(|| "high".to_owned());
        }
        "slow_drip" => {
            plan.hours = Hours::Flat;
            plan.volume_sigma = draws.range(0.03, 0.15);
            plan.day_noise = draws.range(0.05, 0.5);
            plan.synchrony = 0.0;
            (plan.start_day, plan.end_day) = ((days * draws.range(0.0, 0.06)) as u32, size.days);
            plan.bans_per_seat = 0.0;
        }
        "pivot" => {
            plan.pivot_share = draws.range(0.45, 0.6);
            plan.pivot_hours = draws.range(6.0, 24.0);
            (plan.start_day, plan.end_day) = (plan.start_day.min(size.days / 8), size.days);
        }
        "replacement" => {
            plan.ban_waves = draws.between(2, 4) as u32;
            plan.bans_per_seat = draws.range(0.5, 1.1);
            plan.replacement_hours = draws.range(1.0, 12.0);
        }
        "rubric_grading" => {
            plan.goal = Goal::Grades;
            plan.templates = draws.between(1, 3) as u32;
            plan.temperature = draws.chance(0.7).then_some(0.0);
            plan.max_tokens = Some(*draws.pick(&[16, 64, 256, 512]));
        }
        "agentic_multicloud" => {
            plan.goal = Goal::Agentic;
            plan.routes = draws.between(2, 4) as u32;
            plan.tools = draws.between(3, 18) as u16;
            plan.system_prompts = draws.between(1, 3) as u32;
            plan.access = *draws.pick(&[Access::Cloud, Access::Cloud, Access::Relay]);
            plan.follow_up_share = draws.range(0.3, 0.6);
            plan.conversation_ids = draws.chance(0.7);
        }
        "logprobs" => {
            plan.goal = Goal::Probabilities;
            plan.top_logprobs = *draws.pick(&[5, 10, 20, 20]);
            plan.logit_bias = draws.between(1, 300) as u16;
            plan.max_tokens = Some(*draws.pick(&[1, 1, 2, 5]));
            plan.temperature = Some(*draws.pick(&[0.0, 1.0]));
            plan.shared_parameters = true;
            plan.stream = false;
            plan.reasoning = None;
        }
        "k_samples" => {
            plan.pool = Pool::Repeated;
            plan.times_asked = draws.between(3, 8) as u32;
            plan.temperature = Some(*draws.pick(&[0.8, 1.0]));
        }
        "request_form" => {
            plan.goal = Goal::Tasks;
            plan.templates = draws.between(1, 2) as u32;
            plan.temperature = Some(*draws.pick(&[0.7, 1.0]));
            plan.max_tokens = Some(*draws.pick(&[3072, 4096, 8192]));
        }
        "careful" => {
            plan.volume_sigma = draws.range(0.8, 1.3);
            plan.day_noise = 0.9;
            plan.hours = Hours::Rhythm;
            plan.synchrony = 0.0;
            plan.pool = *draws.pick(&[Pool::Divided, Pool::Divided, Pool::Overlapping]);
            plan.overlap = draws.range(0.05, 0.2);
            plan.accounts_per_payment = draws.between(1, 4) as u32;
            plan.templates = draws.between(4, 16) as u32;
            plan.rewording = draws.range(0.1, 0.4);
            plan.system_prompts = 0;
            plan.signup_days = draws.range(30.0, 150.0);
            plan.mix_share = draws.range(0.1, 0.35);
            plan.follow_up_share = draws.range(0.05, 0.2);
            plan.shared_parameters = false;
            plan.access = *draws.pick(&[Access::Homes, Access::Residential, Access::Relay]);
            plan.rotation = Rotation::Day;
            plan.bans_per_seat = 0.0;
            plan.pivot_share = 0.0;
            // What it overlooks: one rare thing at least.
            (plan.rare_clients, plan.email_domains) =
                *draws.pick(&[(1, 0), (2, 0), (0, 2), (1, 3)]);
        }
        "persona" => {
            plan.system_prompts = draws.between(24, 60) as u32;
            plan.templates = draws.between(1, 3) as u32;
            plan.domains = 0;
            plan.temperature = Some(*draws.pick(&[0.7, 0.9, 1.0]));
        }
        "evolved" => {
            plan.templates = draws.between(5, 6) as u32;
            plan.rewording = draws.range(0.0, 0.2);
            plan.follow_up_share = draws.range(0.5, 0.75);
            plan.conversation_ids = draws.chance(0.5);
            plan.pool = *draws.pick(&[Pool::Divided, Pool::Overlapping]);
            plan.overlap = draws.range(0.02, 0.1);
        }
        "dialogue" => {
            plan.templates = draws.between(1, 4) as u32;
            plan.follow_up_share = draws.range(0.7, 0.85);
            plan.conversation_ids = true;
            plan.hours = *draws.pick(&[Hours::Flat, Hours::Working]);
            plan.stream = true;
        }
        "relay_blend" => {
            plan.mix_share = draws.range(0.75, 0.86);
            plan.hop_share = draws.range(0.0, 0.05);
            plan.access = Access::Relay;
            plan.templates = draws.between(1, 4) as u32;
            plan.accounts_per_payment = draws.between(3, 9) as u32;
        }
        "burst" => {
            plan.start_day = (days * draws.range(0.25, 0.6)) as u32;
            plan.end_day = (plan.start_day + draws.between(2, 4) as u32).min(size.days);
            plan.bans_per_seat = 0.0;
            plan.signup_days = draws.range(2.0, 10.0);
        }
        "trickle" => {
            (plan.start_day, plan.end_day) = (0, size.days);
            plan.hours = *draws.pick(&[Hours::Flat, Hours::Rhythm]);
            plan.synchrony = 0.0;
            plan.exchanges = (plan.accounts as f64 * days * draws.range(2.0, 3.0)) as u64;
            plan.bans_per_seat = 0.0;
        }
        "shares_nothing" => {
            plan.volume_sigma = draws.range(0.1, 0.4);
            plan.hours = Hours::Rhythm;
            plan.synchrony = 0.0;
            plan.accounts_per_payment = 1;
            plan.accounts_per_organization = 0;
            plan.email_domains = 0;
            plan.access = Access::Homes;
            plan.rotation = Rotation::Day;
            plan.rare_clients = 0;
            plan.shared_parameters = false;
            plan.system_prompts = 0;
            plan.templates = 0;
            plan.task_rewording = draws.range(0.2, 0.6);
            plan.follow_up_share = draws.range(0.1, 0.3);
            plan.reasoning = None;
            plan.conversation_ids = true;
            plan.bans_per_seat = 0.0;
            plan.signup_days = draws.range(20.0, 120.0);
        }
        _ => {}
    }
    // No other campaign is without anything rare in common.
    let rare = [
        plan.rare_clients > 0,
        plan.accounts_per_payment > 2,
        plan.templates > 0,
        plan.email_domains > 0,
        plan.system_prompts > 0,
    ];
    if !["careful", "shares_nothing"].contains(&name) && rare.iter().filter(|r| **r).count() < 2 {
        plan.templates = plan.templates.max(2);
        plan.rare_clients = plan.rare_clients.max(1);
    }
    plan
}

/// One of the places from which a campaign works, whoever's account fills it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seat {
    /// Items per day.
    rate: f64,
    phase: f64,
    /// Where its shard begins among the campaign's items.
    offset: u64,
    /// How many items the shard has.
    count: u64,
}

/// A campaign under way.
pub(crate) struct Campaign {
    pub plan: CampaignPlan,
    pub seats: Vec<Seat>,
    key: u64,
    total: u64,
    items: Vec<u32>,
    /// Texts around an item, before and after.
    pub templates: Vec<(String, String)>,
    pub systems: Vec<u32>,
    /// The common moments of a day, in microseconds from midnight.
    ticks: Vec<i64>,
    /// The operator's noon, hours UTC.
    pub noon: f64,
}

impl Campaign {
    /// Items asked by a seat before a day (counted from the campaign's start).
    fn asked_before(&self, seat: u32, day: u32) -> u64 {
        let Some(at) = self.seats.get(seat as usize) else { return 0 };
        let length = self.plan.end_day - self.plan.start_day;
        let day = day.min(length);
        let noise = if day == 0 || day == length {
            0.0
        } else {
            0.9 * self.plan.day_noise * unit(mix(self.key, u64::from(seat), u64::from(day)))
        };
        (at.rate * (f64::from(day) + noise) + at.phase).floor() as u64 - at.phase.floor() as u64
    }

    /// The items of a seat on a day of the world: first and count within its shard.
    pub(crate) fn quota(&self, seat: u32, world_day: u32) -> (u64, u64) {
        if world_day < self.plan.start_day || world_day >= self.plan.end_day {
            return (0, 0);
        }
        let day = world_day - self.plan.start_day;
        let first = self.asked_before(seat, day);
        (first, self.asked_before(seat, day + 1) - first)
    }

    /// When on its day the `k`-th of `n` items is asked, in microseconds from midnight UTC.
    pub(crate) fn moment(&self, draws: &mut Draws, k: u64, n: u64, peak: f64) -> i64 {
        let (hours, jitter_us) = if draws.chance(self.plan.synchrony) && !self.ticks.is_empty() {
            let tick = *draws.pick(&self.ticks);
            (tick as f64 / HOUR_US as f64, draws.exponential(12e6))
        } else {
            let hours = match self.plan.hours {
                Hours::Flat => 24.0 * (k as f64 + draws.unit()) / n.max(1) as f64,
                Hours::Working => self.noon + 3.2 * draws.normal(),
                Hours::Rhythm => peak + 3.0 * draws.normal(),
            };
            (hours, 0.0)
        };
        let us = (hours.rem_euclid(24.0) * HOUR_US as f64 + jitter_us) as i64;
        us.rem_euclid(DAY_US)
    }

    /// Which prompt the `k`-th item of a seat's shard is: a record, and how often it
    /// has been used up before.
    pub(crate) fn item(&self, seat: u32, k: u64, chance_bits: u64) -> (u32, u64) {
        let Some(at) = self.seats.get(seat as usize) else { return (0, 0) };
        let n = self.items.len() as u64;
        // Within a shard the order is shuffled, so that shards do not run in step.
        let place =
            at.offset + Permutation::new(at.count.max(1), mix(self.key, 3, u64::from(seat))).at(k);
        let number = match self.plan.pool {
            Pool::Divided => place,
            Pool::Repeated => {
                place % self.total.div_ceil(u64::from(self.plan.times_asked.max(1))).max(1)
            }
            Pool::Overlapping if unit(mix(self.key, 4, chance_bits)) < self.plan.overlap => {
                scale(mix(self.key, 5, chance_bits), (self.total / 20).max(1))
            }
            Pool::Overlapping => place,
            Pool::Independent => scale(mix(self.key, 6, chance_bits), self.total.max(1)),
        };
        let record = Permutation::new(n, self.key).at(number % n.max(1));
        (self.items.get(record as usize).copied().unwrap_or_default(), number / n.max(1))
    }

    pub(crate) fn key(&self) -> u64 {
        self.key
    }
}

/// Plans every campaign that the settings ask for; also says how many accounts they
/// take.
pub(crate) fn plan(settings: &WorldSettings) -> Result<Vec<CampaignPlan>, SettingsError> {
    let names = settings.campaign_names()?;
    let mut plans = Vec::new();
    for (index, kind) in kinds().filter(|(_, c)| names.contains(&c.name)) {
        let mut draws = Draws::new(settings.seed, Purpose::Campaign, index as u64, 0);
        let share = kind.weight / family(index).iter().map(|c| c.weight).sum::<f64>();
        let accounts = ((settings.accounts as f64 * settings.campaign_accounts_share * share)
            as u64)
            .max(settings.campaign_accounts_min.max(1))
            .min(kind.accounts_max);
        let size = Size { accounts, exchanges: 0, days: settings.days };
        let none = Map::new();
        let fixed = settings.campaign.get(kind.name).unwrap_or(&none);
        let bad =
            |why: String| SettingsError::Contradiction(format!("campaign.{}: {why}", kind.name));
        let mut plan = draw_plan(kind.name, size, &mut draws).fixed(fixed).map_err(bad)?;
        if plan.start_day >= plan.end_day || plan.end_day > settings.days {
            return Err(bad(format!(
                "it lasts from day {} to day {}, and the world has {} days",
                plan.start_day, plan.end_day, settings.days
            )));
        }
        if plan.exchanges == 0 {
            let share = settings.exchanges as f64 * settings.campaign_exchanges_share * share;
            let least = plan.accounts as f64 * settings.campaign_exchanges_per_account_min;
            // The fastest that has been published is about one an hour.
            let most = plan.seats() as f64 * f64::from(plan.end_day - plan.start_day) * 26.0;
            plan.exchanges =
                (share * (1.0 - plan.mix_share)).max(least).min(most.max(least)) as u64;
        }
        plans.push(plan);
    }
    Ok(plans)
}

/// Adds a planned campaign and its accounts to the population.
pub(crate) fn build(population: &mut Population, prompts: &Prompts, plan: CampaignPlan) {
    let kind_index =
        kinds().find(|(_, c)| c.name == plan.name).map_or(0, |(index, _)| index as u64);
    let seed = population.seed;
    let key = mix(seed, 1000 + kind_index, 0);
    let mut draws = Draws::new(seed, Purpose::Campaign, kind_index, 1);
    let d = &mut draws;
    let campaign_index = population.campaigns.len() as u8;

    let seats = draw_seats(&plan, d);
    let total = seats.iter().map(|s| s.count).sum();
    let mut campaign = Campaign {
        items: choose_items(&plan, prompts, d, kind_index, seed),
        templates: write_templates(&plan, prompts, d),
        systems: Vec::new(),
        ticks: Vec::new(),
        noon: d.range(0.0, 24.0),
        key,
        total,
        seats,
        plan,
    };
    for _ in 0..campaign.plan.system_prompts {
        let text = compose(campaign.plan.goal, prompts, d);
        campaign.systems.push(population.add_system(text));
    }
    let step = i64::from(campaign.plan.tick_minutes.max(1)) * 60_000_000;
    let (mut tick, lag) = (0, (d.unit() * step as f64) as i64);
    while tick < DAY_US {
        // The job that sets the pace is not quite a clock.
        campaign
            .ticks
            .push((tick + lag + (d.normal() * step as f64 * 0.05) as i64).rem_euclid(DAY_US));
        tick += step;
    }
    if campaign.plan.hours == Hours::Working {
        let noon = campaign.noon;
        campaign.ticks.retain(|t| {
            ((*t as f64 / HOUR_US as f64 - noon + 36.0).rem_euclid(24.0) - 12.0).abs() < 5.5
        });
    }
    population.campaigns.push(campaign);
    add_accounts(population, d, campaign_index);
}

fn draw_seats(plan: &CampaignPlan, draws: &mut Draws) -> Vec<Seat> {
    let length = f64::from(plan.end_day - plan.start_day);
    let weights: Vec<f64> =
        (0..plan.seats()).map(|_| draws.lognormal(1.0, plan.volume_sigma)).collect();
    let sum: f64 = weights.iter().sum();
    let mut offset = 0;
    weights
        .into_iter()
        .map(|weight| {
            let (rate, phase) = (weight / sum * plan.exchanges as f64 / length, draws.unit());
            let count = (rate * length + phase).floor() as u64;
            let seat = Seat { rate, phase, offset, count };
            offset += count;
            seat
        })
        .collect()
}

/// The records that a campaign harvests: whole domains, less what other campaigns
/// of its family take.
fn choose_items(
    plan: &CampaignPlan,
    prompts: &Prompts,
    draws: &mut Draws,
    kind_index: u64,
    seed: u64,
) -> Vec<u32> {
    let mut order: Vec<usize> = (0..prompts.harvest.len()).collect();
    draws.shuffle(&mut order);
    if matches!(plan.goal, Goal::Agentic) {
        order.sort_by_key(|d| !["code", "tool"].iter().any(|w| prompts.harvest[*d].0.contains(w)));
    }
    let wanted = if plan.domains == 0 { order.len() } else { plan.domains as usize };
    let mut items = Vec::new();
    for (index, domain) in order.into_iter().enumerate() {
        if index >= wanted && items.len() >= 300 {
            break;
        }
        let is_held_out = kind_index >= CAMPAIGNS.len() as u64;
        let first = if is_held_out { CAMPAIGNS.len() as u64 } else { 0 };
        let (salt, parts) = (41 + u64::from(is_held_out), family(kind_index as usize).len() as u64);
        items.extend(
            prompts.harvest[domain]
                .1
                .iter()
                .filter(|r| first + scale(mix(seed, salt, u64::from(**r)), parts) == kind_index),
        );
    }
    if items.is_empty() {
        items.extend(prompts.harvest.iter().flat_map(|(_, records)| records));
    }
    items
}

/// A campaign's instructions: a part in words of its own, so that no two campaigns
/// and no two worlds share it, and the part that its goal needs.
fn compose(goal: Goal, prompts: &Prompts, draws: &mut Draws) -> String {
    let (mut plain, mut text) = (String::new(), String::new());
    grammar::INSTRUCTION.compose(draws, &mut plain);
    let own = Wording { strength: 0.45, key: draws.bits() };
    prompts.vocabulary.write(&plain, own, &mut text);
    let needed = match goal {
        Goal::Reasoning => Some(&grammar::ELICITATION),
        Goal::Grades => Some(&grammar::RUBRIC),
        Goal::Tasks => Some(&grammar::GENERATION),
        Goal::Answers => draws.chance(0.5).then_some(&grammar::ELICITATION),
        Goal::Agentic => Some(&grammar::AGENT_SYSTEM),
        Goal::Probabilities => None,
    };
    if let Some(phrases) = needed {
        text.push(' ');
        phrases.compose(draws, &mut text);
    }
    text
}

fn write_templates(
    plan: &CampaignPlan,
    prompts: &Prompts,
    draws: &mut Draws,
) -> Vec<(String, String)> {
    let in_front = draws.chance(0.6) || plan.goal == Goal::Tasks;
    (0..plan.templates)
        .map(|_| {
            let text = compose(plan.goal, prompts, draws);
            if in_front {
                (text + "\n\n", String::new())
            } else {
                (String::new(), format!("\n\n{text}"))
            }
        })
        .collect()
}

fn campaign_parameters(plan: &CampaignPlan) -> Parameters {
    Parameters {
        temperature: plan.temperature,
        top_p: None,
        max_tokens: plan.max_tokens,
        choices: None,
        seed: None,
        stream: plan.stream.then_some(true),
        top_logprobs: (plan.top_logprobs > 0).then_some(plan.top_logprobs),
        logit_bias: (plan.logit_bias > 0).then_some(plan.logit_bias),
        reasoning: REASONING.iter().copied().find(|r| Some(*r) == plan.reasoning.as_deref()),
        tools: (plan.tools > 0).then_some(plan.tools),
    }
}

/// The spans of a seat's accounts: one after the other, with a closure between.
fn spans(
    plan: &CampaignPlan,
    population: &Population,
    draws: &mut Draws,
    bans: u64,
    waves: &[f64],
) -> Vec<(i64, i64)> {
    let (start, end) = (f64::from(plan.start_day), f64::from(plan.end_day));
    let mut moments: Vec<f64> = if waves.is_empty() {
        (0..bans).map(|_| draws.range(start + 0.15 * (end - start), end)).collect()
    } else {
        let mut all: Vec<f64> = waves.to_vec();
        draws.shuffle(&mut all);
        all.truncate(bans as usize);
        all.iter().map(|w| w + draws.exponential(0.08)).collect()
    };
    moments.sort_by(f64::total_cmp);
    let mut from = population.at(start);
    let mut spans = Vec::new();
    for moment in moments {
        let until = population.at(moment).max(from + HOUR_US);
        spans.push((from, until));
        from = until + (plan.replacement_hours * draws.range(0.3, 1.7) * HOUR_US as f64) as i64;
    }
    spans.push((from, population.at(end).max(from)));
    spans
}

fn add_accounts(population: &mut Population, draws: &mut Draws, campaign_index: u8) {
    let plan = population.campaigns[usize::from(campaign_index)].plan.clone();
    let key = population.campaigns[usize::from(campaign_index)].key;
    let seats = plan.seats();
    let d = draws;

    let countries: Vec<u8> = {
        let mut all: Vec<u8> = (0..COUNTRIES.len() as u8).collect();
        d.shuffle(&mut all);
        all.truncate((plan.countries.max(1) as usize).min(all.len()));
        all
    };
    let network_kind = match plan.access {
        Access::Residential | Access::Homes => NetworkKind::Home,
        Access::Cloud => NetworkKind::Cloud,
        Access::Relay => NetworkKind::Relay,
    };
    let set: Vec<u16> = countries
        .iter()
        .flat_map(|c| {
            [
                population.networks.pick(d, *c, network_kind),
                population.networks.pick(d, *c, network_kind),
            ]
        })
        .collect();
    population.networks.sets.push(set);
    let rotating = NetworkUse::Rotating {
        set: (population.networks.sets.len() - 1) as u16,
        size: plan.addresses.max(1),
        period: plan.rotation,
    };
    let own_name = d.chance(0.5);
    let clients: Vec<u32> =
        (0..plan.rare_clients).map(|_| population.clients.add_rare(d, own_name)).collect();
    let common_client = population.clients.pick(d, ClientKind::Library);
    let one_common_client = d.chance(0.5);
    let ending = *d.pick(&[".top", ".xyz", ".site", ".online", ".com", ".email"]);
    let mails: Vec<u32> =
        (0..plan.email_domains).map(|_| population.add_domain(d, ending)).collect();
    let shared = population.add_parameters(campaign_parameters(&plan));
    let waves: Vec<f64> = {
        let (start, end) = (f64::from(plan.start_day), f64::from(plan.end_day));
        (0..plan.ban_waves)
            .map(|w| {
                start
                    + (end - start) * (f64::from(w) + d.range(0.5, 1.3))
                        / (f64::from(plan.ban_waves) + 0.6)
            })
            .collect()
    };
    let extra = plan.accounts - seats;
    let verification = d.between(1, 3) as u8;
    let one_verification = plan.name != "careful" && d.chance(0.6);
    let mixed_volume = plan.exchanges as f64 * plan.mix_share / (1.0 - plan.mix_share).max(0.01);
    let lead_days = d.range(0.5, 10.0);
    let mut number = 0u64;
    let mut payment = 0;
    let mut organization = 0;
    for seat in 0..seats {
        // Closures are dealt out so that exactly the planned number of accounts comes about.
        let bans = (seat + 1) * extra / seats - seat * extra / seats;
        let spans = spans(&plan, population, d, bans, &waves);
        for (index, (from_us, to_us)) in spans.iter().copied().enumerate() {
            let mut account = population.person(d, CROWDS.len() as u8, 20.0);
            account.campaign = Some(campaign_index);
            account.created_us = if index == 0 {
                population.at(f64::from(plan.start_day)
                    - lead_days
                    - d.range(0.0, plan.signup_days.max(0.1)))
            } else {
                from_us
                    - (d.range(0.05, 0.9) * plan.replacement_hours.min(6.0) * HOUR_US as f64) as i64
            };
            (account.closed_us, account.closed_reason) =
                if index + 1 < spans.len() { (to_us, "terms") } else { (OPEN_US, "") };
            if plan.accounts_per_payment == 0 {
                account.payment = 0;
            } else {
                if number.is_multiple_of(u64::from(plan.accounts_per_payment)) {
                    payment = d.bits() | 1;
                }
                account.payment = payment;
            }
            if plan.accounts_per_organization > 0 {
                if number.is_multiple_of(u64::from(plan.accounts_per_organization)) {
                    organization = d.bits() | 1;
                }
                account.organization = organization;
            }
            if !mails.is_empty() {
                account.email_domain = *d.pick(&mails);
            }
            if one_verification {
                account.verification = verification;
            }
            account.plan = 1;
            account.tier = if d.chance(0.8) { 2 } else { 1 };
            account.adoption_days =
                account.adoption_days.max(if plan.pivot_share > 0.0 { 4.0 } else { 0.0 });
            account.route = if plan.routes > 1 {
                d.below((plan.routes as usize).min(ROUTES.len() - 1)) as u8
            } else {
                0
            };
            account.country = *d.pick(&countries);
            account.networks = match plan.access {
                Access::Homes => vec![(1.0, population.home(d, account.country))],
                _ => vec![(1.0, rotating)],
            };
            let parameters = if clients.is_empty() {
                (account.client, account.client_later) = if one_common_client {
                    common_client
                } else {
                    population.clients.pick(d, ClientKind::Library)
                };
                ordinary_parameters(d, population.clients.streams(account.client))
            } else {
                account.client = *d.pick(&clients);
                account.client_later = account.client;
                ordinary_parameters(d, plan.stream)
            };
            let parameters = if plan.shared_parameters {
                shared
            } else {
                // Each his own, but for what the goal needs.
                let wanted = campaign_parameters(&plan);
                population.add_parameters(Parameters {
                    max_tokens: parameters.max_tokens.max(wanted.max_tokens.filter(|m| *m > 1000)),
                    top_logprobs: wanted.top_logprobs,
                    logit_bias: wanted.logit_bias,
                    tools: wanted.tools,
                    ..parameters
                })
            };
            account.activities.push(Activity {
                schedule: Schedule::Quota {
                    campaign: campaign_index,
                    seat: seat as u32,
                    from_us,
                    to_us,
                },
                content: Content::Harvest { campaign: campaign_index },
                parameters,
            });
            if plan.mix_share > 0.0 {
                let share = (to_us - from_us) as f64
                    / DAY_US as f64
                    / f64::from(plan.end_day - plan.start_day);
                let spread = unit(mix(key, 9, number)) + 0.5;
                let rate =
                    mixed_volume / seats as f64 / f64::from(plan.end_day - plan.start_day) / 2.6
                        * spread;
                if share > 0.0 {
                    let mut schedule = population.rhythm(d, account.country, rate, 1.0);
                    if let Schedule::Rhythm { width, active, .. } = &mut schedule {
                        (*width, *active) = (6.0, 0.9);
                    }
                    let plain = population
                        .add_parameters(Parameters { stream: Some(true), ..Parameters::default() });
                    account.activities.push(Activity {
                        schedule,
                        content: Content::Chat { system: 0 },
                        parameters: plain,
                    });
                }
            }
            number += 1;
            population.push(account);
        }
    }
}

/// The accounts of a campaign that may carry on each other's chats.
pub(crate) fn mates(accounts: &[Account], campaign: u8) -> Vec<u32> {
    accounts
        .iter()
        .enumerate()
        .filter(|(_, a)| a.campaign == Some(campaign))
        .map(|(index, _)| index as u32)
        .collect()
}

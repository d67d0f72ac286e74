//! A crowd that was played through and observed once, and the rounds in which an
//! attacker's campaign visits it.

use std::collections::BTreeSet;
use std::sync::Arc;

use hashbrown::{HashMap, HashSet};
use stillwatch_detect::calendar::Calendar;
use stillwatch_detect::confirm::MEASURES;
use stillwatch_detect::find::{self, Finding, Found};
use stillwatch_detect::gather::Candidate;
use stillwatch_detect::link::GROUP_MIN;
use stillwatch_detect::observe::{Key, Link, Observer};
use stillwatch_detect::population::{Member, Population};
use stillwatch_detect::profile::Profile;
use stillwatch_detect::references::References;
use stillwatch_detect::without::Without;
use stillwatch_exchange::time::DAY_US;
use stillwatch_exchange::{Account, CampaignKind, Exchange, Time};
use stillwatch_simulate::{Prompts, World, WorldSettings};

use crate::DuelError;
use crate::ledger::Ledger;
use crate::moves::{CAMPAIGN, EXCHANGES, MoveSet};
use crate::prices::Item;
use crate::rows;

/// A crowd without campaigns, observed. Holds its profiles, never its exchanges.
pub struct Arena {
    settings: WorldSettings,
    prompts: Arc<Prompts>,
    calendar: Calendar,
    /// The last moment of the world, exclusive.
    end: Time,
    members: Vec<Member>,
    exchanges: u64,
}

/// What came of one campaign that visited an arena.
#[derive(Clone, Debug)]
pub struct Round {
    /// Share of the attacker's accounts that were caught.
    pub caught: f64,
    /// What was used and had where nobody defends.
    pub undefended: Ledger,
    /// The same where caught accounts are closed when they could first be reported.
    pub defended: Ledger,
    /// Days from the campaign's first exchange to its first finding.
    pub days_to_detection: Option<f64>,
    /// Channels that gathered the attacker's accounts, whether that was reported or not.
    pub linked_by: BTreeSet<&'static str>,
    /// Channels that spoke against them in a finding.
    pub confirmed_by: BTreeSet<&'static str>,
    /// Findings that are mostly accounts of the crowd.
    pub innocent_findings: u64,
}

/// An exchange of the attacker's, as far as it costs something.
struct Spent {
    account: u32,
    time: Time,
    tokens: u64,
    /// The first turn of a task; a later one is there for the looks of it.
    is_task: bool,
    is_harvest: bool,
    is_answered: bool,
    address: u64,
}

impl Arena {
    /// Plays a crowd through; `settings` may name no campaign.
    ///
    /// # Errors
    /// The settings make no world.
    pub fn open(settings: WorldSettings, prompts: Arc<Prompts>) -> Result<Self, DuelError> {
        let settings = WorldSettings { campaigns: "none".to_owned(), ..settings };
        let world = World::new(settings.clone(), Arc::clone(&prompts))?;
        let mut observer = Observer::new(Key::public());
        let releases: Vec<(Time, u64)> = rows::releases(&world.releases_table()?)
            .iter()
            .map(|r| (r.released_at, observer.model(&r.model)))
            .collect();
        let end = Time(settings.start.0 + i64::from(settings.days) * DAY_US);
        let calendar = Calendar::new(settings.start, Time(end.0 - 1), &releases);
        let mut exchanges = 0;
        let members = observed(&world, &mut observer, &calendar, |_, _| exchanges += 1)?;
        Ok(Arena { settings, prompts, calendar, end, members, exchanges })
    }

    /// Accounts of the crowd that made an exchange.
    #[must_use]
    pub fn accounts(&self) -> u64 {
        self.members.len() as u64
    }

    /// Exchanges of the crowd.
    #[must_use]
    pub fn exchanges(&self) -> u64 {
        self.exchanges
    }

    /// Lets a campaign with these moves visit, and hunts at a false-discovery level.
    /// `visit` names what the attacker leaves to chance; `goes_on` may end the hunt.
    ///
    /// # Errors
    /// The knobs make no campaign, or the hunt was ended.
    pub fn round(
        &self,
        moves: MoveSet,
        visit: u64,
        level: f64,
        goes_on: &dyn Fn() -> bool,
    ) -> Result<Round, DuelError> {
        let knobs = moves.knobs(self.settings.days);
        let mut settings =
            WorldSettings { campaigns: CAMPAIGN.to_owned(), ..self.settings.clone() };
        settings.campaign.insert(CAMPAIGN.to_owned(), knobs.clone());
        let world = World::visiting(settings, visit, Arc::clone(&self.prompts))?;

        let records = rows::accounts(&world.accounts_table()?);
        let place: HashMap<&str, u32> =
            records.iter().zip(0..).map(|(a, place)| (a.account_id.as_str(), place)).collect();
        let mut spent: Vec<Spent> = Vec::new();
        let mut observer = Observer::new(Key::public());
        let hasher = observer.clone();
        let visitors = observed(&world, &mut observer, &self.calendar, |exchange, is_harvest| {
            let tokens = |count: Option<u32>| u64::from(count.unwrap_or_default());
            spent.push(Spent {
                account: place.get(exchange.account_id).copied().unwrap_or_default(),
                time: exchange.time,
                tokens: tokens(exchange.usage_input_tokens) + tokens(exchange.usage_output_tokens),
                is_task: is_harvest && exchange.turn.unwrap_or(1) <= 1,
                is_harvest,
                is_answered: exchange.status == Some(200),
                address: hasher.hash(Link::Address, exchange.client_address.unwrap_or_default()),
            });
        })?;

        let members = self.members.iter().cloned().chain(visitors).collect();
        let population = Population::new(members, self.calendar.clone());
        let settings = find::Settings { level, shuffle: None, without: Without::NOTHING };
        let found =
            find::find(&population, &settings, &References::default(), &mut |_, _, _| goes_on())
                .ok_or(DuelError::Stopped)?;

        let own: Vec<Option<u32>> = population
            .members()
            .iter()
            .map(|m| place.get(m.account_id.as_str()).copied())
            .collect();
        let caught = Caught::of(&found, &own, records.len());
        let first = spent.iter().map(|s| s.time).min().unwrap_or(self.end);
        let bill = Bill { moves, knobs: &knobs, records: &records, spent: &spent };
        let nobody = vec![self.end; records.len()];
        Ok(Round {
            caught: caught.count as f64 / records.len().max(1) as f64,
            undefended: bill.until(&nobody),
            defended: bill.until(&caught.closed(self.end)),
            days_to_detection: caught
                .first()
                .map(|at| (at.0 - first.0).max(0) as f64 / DAY_US as f64),
            linked_by: caught.linked_by,
            confirmed_by: caught.confirmed_by,
            innocent_findings: caught.innocent_findings,
        })
    }
}

/// The attacker's part of what was found.
struct Caught {
    /// By account: when it could first have been reported.
    at: Vec<Option<Time>>,
    count: usize,
    linked_by: BTreeSet<&'static str>,
    confirmed_by: BTreeSet<&'static str>,
    innocent_findings: u64,
}

impl Caught {
    fn of(found: &Found, own: &[Option<u32>], accounts: usize) -> Self {
        let mut caught = Caught {
            at: vec![None; accounts],
            count: 0,
            linked_by: BTreeSet::new(),
            confirmed_by: BTreeSet::new(),
            innocent_findings: 0,
        };
        let is_mostly_own = |members: &mut dyn ExactSizeIterator<Item = u32>| {
            let all = members.len();
            2 * members.filter(|m| own[*m as usize].is_some()).count() > all
        };
        for group in &found.groups {
            let Candidate { members, channels, .. } = &group.candidate;
            if members.len() >= GROUP_MIN && is_mostly_own(&mut members.iter().copied()) {
                caught.linked_by.extend(channels.iter().map(|c| c.name()));
            }
        }
        let hidden = |f: &&Finding| f.kind != CampaignKind::OpenHarvest;
        for finding in found.findings.iter().filter(hidden) {
            if !is_mostly_own(&mut finding.members.iter().map(|m| m.account)) {
                caught.innocent_findings += 1;
                continue;
            }
            for account in finding.members.iter().filter_map(|m| own[m.account as usize]) {
                let at = &mut caught.at[account as usize];
                let first =
                    at.map_or(finding.first_detectable, |t| t.min(finding.first_detectable));
                *at = Some(first);
            }
            let channels = finding.spoken.iter().map(|s| MEASURES[s.measure].id.channel().name());
            caught.confirmed_by.extend(channels);
        }
        caught.count = caught.at.iter().flatten().count();
        caught
    }

    /// When the first account could have been reported.
    fn first(&self) -> Option<Time> {
        self.at.iter().flatten().min().copied()
    }

    /// By account: when it is closed.
    fn closed(&self, end: Time) -> Vec<Time> {
        self.at.iter().map(|at| at.unwrap_or(end)).collect()
    }
}

/// What a campaign is billed by.
struct Bill<'a> {
    moves: MoveSet,
    knobs: &'a serde_json::Map<String, serde_json::Value>,
    records: &'a [Account],
    spent: &'a [Spent],
}

impl Bill<'_> {
    /// What is used where each account ends at a moment. Accounts, their payment and the
    /// words of their templates are paid for before anything is asked.
    fn until(&self, closed: &[Time]) -> Ledger {
        let mut ledger = Ledger::default();
        let knob = |name: &str| self.knobs.get(name).and_then(serde_json::Value::as_f64);
        let accounts = self.records.len() as f64;
        let payments: HashSet<&str> =
            self.records.iter().filter_map(|a| a.payment_fingerprint.as_deref()).collect();
        ledger.use_up(Item::Account, accounts);
        ledger.use_up(Item::Payment, payments.len() as f64);
        if knob("rewording").is_some_and(|share| share > 0.0) {
            ledger.use_up(Item::Paraphrase, accounts * knob("templates").unwrap_or_default());
        }
        let is_paraphrased = knob("task_rewording").is_some_and(|share| share > 0.0);
        let address = match self.knobs.get("access").and_then(serde_json::Value::as_str) {
            Some("residential" | "homes") => Item::ResidentialAddressDay,
            _ => Item::DatacenterAddressDay,
        };
        let mut addresses: HashSet<(u64, i64)> = HashSet::new();
        for spent in self.spent.iter().filter(|s| s.time < closed[s.account as usize]) {
            addresses.insert((spent.address, spent.time.0.div_euclid(DAY_US)));
            let thousands = spent.tokens as f64 / 1_000.0;
            let is_wanted = spent.is_harvest && spent.is_task;
            ledger
                .use_up(if is_wanted { Item::HarvestTokens } else { Item::CoverTokens }, thousands);
            if is_wanted && is_paraphrased {
                ledger.use_up(Item::Paraphrase, 1.0);
            }
            ledger.usable += u64::from(is_wanted && spent.is_answered);
        }
        ledger.use_up(address, addresses.len() as f64);
        ledger.use_up(Item::DelayDay, self.moves.delay_days() * EXCHANGES as f64 / 1_000.0);
        ledger
    }
}

/// Plays a world through into its accounts' profiles, in the order of the accounts table;
/// accounts without an exchange are left out. `each` hears of every exchange, and whether
/// it was harvested.
fn observed(
    world: &World,
    observer: &mut Observer,
    calendar: &Calendar,
    mut each: impl FnMut(&Exchange<'_>, bool),
) -> Result<Vec<Member>, DuelError> {
    let records = rows::accounts(&world.accounts_table()?);
    let place: HashMap<String, usize> =
        records.iter().enumerate().map(|(i, a)| (a.account_id.clone(), i)).collect();
    let mut profiles: Vec<Profile> = vec![Profile::default(); records.len()];
    for batch in world.stream() {
        let batch = batch?;
        rows::each_exchange(&batch.exchanges, &batch.truth, |exchange, is_harvest| {
            each(exchange, is_harvest);
            let Some(&at) = place.get(exchange.account_id) else { return };
            let account = observer.hash(Link::Account, exchange.account_id);
            let traits = observer.observe(exchange);
            profiles[at].add(&traits, account, calendar);
        });
    }
    Ok(records
        .into_iter()
        .zip(profiles)
        .filter(|(_, profile)| !profile.is_empty())
        .map(|(record, profile)| Member {
            account_id: record.account_id.clone(),
            profile,
            record: Some(record),
        })
        .collect())
}

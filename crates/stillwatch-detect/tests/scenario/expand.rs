//! From a scenario to a population.

use stillwatch_detect::calendar::Calendar;
use stillwatch_detect::observe::{Key, Observer};
use stillwatch_detect::population::{Member, Population};
use stillwatch_detect::profile::Profile;
use stillwatch_exchange::time::{DAY_US, HOUR_US};
use stillwatch_exchange::{Account, Exchange, Time};

use super::template::{At, Template, unit};
use super::{Block, DAYS, Hours, Scenario};

/// 2026-03-01.
const START: i64 = 1_772_323_200_000_000;
const MINUTE_US: i64 = 60_000_000;
/// Days on which those who act in bursts do.
const BURST_DAYS: [i64; 8] = [2, 6, 9, 13, 16, 19, 23, 26];

/// A population in the making.
pub struct World {
    calendar: Calendar,
    observer: Observer,
    releases: Vec<(String, i64)>,
    members: Vec<Member>,
}

/// A prime, so that its multiples go round any other number's pool.
const STRIDE: u64 = 7_919;

/// An account in the making: its place, its record and what it was asked.
struct Story {
    at: At,
    record: Account,
    profile: Profile,
}

impl World {
    /// Expands a scenario.
    pub fn of(scenario: &Scenario) -> Population {
        let observer = Observer::new(Key::public());
        let releases: Vec<(Time, u64)> = scenario
            .releases
            .iter()
            .map(|(model, day)| (Time(START + day * DAY_US), observer.model(model)))
            .collect();
        let end = Time(START + DAYS * DAY_US - 1);
        let mut world = World {
            calendar: Calendar::new(Time(START), end, &releases),
            observer,
            releases: scenario.releases.clone(),
            members: Vec::new(),
        };
        for (number, block) in scenario.blocks.iter().enumerate() {
            for account in 0..block.count {
                let at = At { block: number as u64, account, ..At::default() };
                world.account(block, at);
            }
        }
        world.members.retain(|m| !m.profile.is_empty());
        Population::new(world.members, world.calendar)
    }

    fn account(&mut self, block: &Block, at: At) {
        let draw = |what: u64| unit(&[what, at.block, at.account]);
        let between = |range: (i64, i64), what: u64| {
            range.0 + (draw(what) * (range.1 - range.0 + 1) as f64) as i64
        };
        let (least, most) = (block.volume.0.ln(), block.volume.1.ln());
        let volume = (least + draw(2) * (most - least)).exp().round() as u64;
        let born = START + between(block.born, 1) * DAY_US;
        let mut story = open(block, at, born);
        story.record.closed_at = block.closes.map(|days| Time(START + between(days, 8) * DAY_US));
        let moved = block.moves.as_ref().and_then(|(model, days)| {
            let day = self.releases.iter().find(|r| r.0 == *model)?.1 + between(*days, 9);
            Some((model.as_str(), START + day * DAY_US))
        });
        let span = DAYS * DAY_US;
        for question in 0..volume {
            let (conversation, turn) = (question / block.turns, question % block.turns + 1);
            let of_conversation = |what: u64| unit(&[what, at.block, at.account, conversation]);
            let of_question = |what: u64| unit(&[what, at.block, at.account, question]);
            let slot = span / volume as i64;
            let even = START + question as i64 * slot;
            let time = match block.hours {
                Hours::Even => even + (of_question(5) * slot as f64) as i64,
                Hours::Clock => (even / (5 * MINUTE_US) + 1) * 5 * MINUTE_US + 2_000_000,
                Hours::Waking => {
                    let day = (of_conversation(3) * DAYS as f64) as i64;
                    let hour = (draw(4) * 24.0) as i64 + (of_conversation(5) * 12.0) as i64;
                    let minute = (turn as i64 - 1) * 4 + (of_question(6) * 3.0) as i64;
                    START
                        + day * DAY_US
                        + hour % 24 * HOUR_US
                        + minute % 60 * MINUTE_US
                        + (of_question(7) * 6e7) as i64
                }
                Hours::Bursts => {
                    let day = BURST_DAYS[(of_conversation(3) * BURST_DAYS.len() as f64) as usize];
                    START + day * DAY_US + 14 * HOUR_US + (of_question(5) * 7.2e9) as i64
                }
            };
            if time < story.record.created_at.map_or(i64::MIN, |t| t.0)
                || block.closes.is_some()
                    && story.record.closed_at.is_some_and(|closed| time >= closed.0)
            {
                continue;
            }
            if let Some(days) = block.lives {
                let age = ((time - START) / (days * DAY_US)) as u64;
                if age > story.at.succession {
                    let end = START + age as i64 * days * DAY_US;
                    story.record.closed_at = Some(Time(end));
                    self.members.push(story.end());
                    story = open(block, At { succession: age, ..at }, end + HOUR_US);
                }
            }
            let pool = block.pool.map_or(0, |pool| {
                let place = question + if pool.is_divided { at.account * volume } else { 0 };
                // Handed out again, in another order, once all were asked.
                let order = STRIDE.pow((place / pool.questions % 4) as u32);
                place % pool.questions * order % pool.questions
            });
            let at = At { question, conversation, turn, pool, ..story.at };
            let fill = |template: &Option<Template>| template.as_ref().map(|t| t.fill(&at));
            let (ask, client, address) =
                (fill(&block.ask), fill(&block.client), fill(&block.address));
            let (conversation_id, system) = (fill(&block.conversation), fill(&block.system));
            let (reasoning, model) = (fill(&block.reasoning), fill(&block.model));
            let moved = moved.filter(|m| time >= m.1).map(|m| m.0);
            let exchange = Exchange {
                time: Time(time),
                prompt: ask.as_deref(),
                turn: Some(turn as u16),
                user_agent: client.as_deref(),
                client_address: address.as_deref(),
                conversation_id: conversation_id.as_deref(),
                system_instructions: system.as_deref(),
                request_reasoning: reasoning.as_deref(),
                request_top_logprobs: (block.logprobs > 0).then_some(block.logprobs),
                request_model: moved.or(model.as_deref()),
                usage_output_tokens: Some(block.tokens),
                organization_id: story.record.organization_id.as_deref(),
                ..Exchange::default()
            };
            let hash = xxhash_rust::xxh3::xxh3_64(story.record.account_id.as_bytes());
            story.profile.add(&self.observer.observe(&exchange), hash, &self.calendar);
        }
        self.members.push(story.end());
    }
}

fn open(block: &Block, at: At, created_at: i64) -> Story {
    let fill = |template: &Option<Template>| template.as_ref().map(|t| t.fill(&at));
    Story {
        record: Account {
            account_id: format!("{}-{:04}-{}", block.name, at.account, at.succession),
            created_at: Some(Time(created_at)),
            email_domain: fill(&block.domain),
            payment_fingerprint: fill(&block.payment),
            organization_id: fill(&block.organization),
            verification: fill(&block.verification),
            ..Account::default()
        },
        at,
        profile: Profile::default(),
    }
}

impl Story {
    fn end(self) -> Member {
        Member {
            account_id: self.record.account_id.clone(),
            record: Some(self.record),
            profile: self.profile,
        }
    }
}

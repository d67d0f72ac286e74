//! The innocent: every kind of customer that a hunt must leave alone, the ordinary
//! and the hard.

use stillwatch_exchange::time::{DAY_US, HOUR_US};

use crate::clients::{AGENT_COUNT, ClientKind, Parameters};
use crate::draws::{Draws, Purpose};
use crate::grammar;
use crate::networks::{COUNTRIES, NetworkKind, NetworkUse};
use crate::population::{Account, Activity, Content, Population, Schedule};
use crate::prompts::Prompts;
use crate::settings::CrowdKnobs;

/// A kind of customer, and how it is in an untouched world.
pub struct Crowd {
    pub name: &'static str,
    pub meaning: &'static str,
    accounts: f64,
    exchanges: f64,
    group_size: f64,
    volume_sigma: f64,
    adoption_days: f64,
    build: fn(&mut Hall, &mut Draws, u64),
}

impl Crowd {
    pub(crate) fn knobs(&self) -> CrowdKnobs {
        CrowdKnobs {
            accounts: self.accounts,
            exchanges: self.exchanges,
            group_size: self.group_size,
            volume_sigma: self.volume_sigma,
            adoption_days: self.adoption_days,
        }
    }
}

type Build = fn(&mut Hall, &mut Draws, u64);

#[rustfmt::skip]
const fn crowd(name: &'static str, numbers: [f64; 5], build: Build, meaning: &'static str) -> Crowd {
    let [accounts, exchanges, group_size, volume_sigma, adoption_days] = numbers;
    Crowd { name, meaning, accounts, exchanges, group_size, volume_sigma, adoption_days, build }
}

/// Every crowd. The numbers: share of accounts, share of exchanges, group size,
/// spread of volumes, days until half have adopted a release.
#[rustfmt::skip]
pub const CROWDS: &[Crowd] = &[
    crowd("people", [21.0, 13.0, 1.0, 1.3, 25.0], people, "people in chats of several turns"),
    crowd("one_shot", [9.0, 2.0, 1.0, 0.7, 40.0], one_shot, "people who ask one question at a time"),
    crowd("developers", [8.0, 8.0, 1.0, 1.5, 20.0], developers, "programmers with questions and small programs"),
    crowd("coding_agents", [7.0, 19.0, 1.0, 1.3, 1.5], coding_agents, "users of coding agents that share a system prompt and a client among thousands"),
    crowd("apps", [6.0, 14.0, 9.0, 1.4, 60.0], apps, "tenants of applications on templates"),
    crowd("automations", [5.0, 7.0, 60.0, 1.0, 60.0], automations, "unrelated customers' timed jobs behind a platform's shared addresses"),
    crowd("classes", [5.0, 3.0, 24.0, 0.7, 30.0], classes, "classes on one network with one assignment"),
    crowd("hackathons", [2.5, 2.5, 45.0, 0.8, 4.0], hackathons, "hackathons: one promotional payment, one signup day, one weekend"),
    crowd("evaluations", [2.0, 5.0, 2.5, 0.8, 0.3], evaluations, "laboratories that run benchmarks, above all on the day of a release"),
    crowd("firms", [7.0, 7.0, 9.0, 1.2, 20.0], firms, "verified firms with many seats and one payment"),
    crowd("teams", [4.0, 3.0, 3.5, 1.1, 20.0], teams, "small unverified teams that share a card"),
    crowd("families", [3.0, 1.2, 2.6, 1.1, 30.0], families, "families and flats that share a card and a line"),
    crowd("resellers", [1.2, 1.5, 25.0, 1.2, 30.0], resellers, "customers of resellers"),
    crowd("aggregators", [0.9, 5.0, 9.0, 0.4, 2.0], aggregators, "aggregators with load-balanced keys for strangers' traffic"),
    crowd("scripts", [1.0, 2.5, 1.0, 0.9, 30.0], scripts, "single people with a script that looks like one harvesting account"),
    crowd("declared_synthetic", [0.3, 3.0, 3.0, 0.6, 5.0], declared_synthetic, "verified organisations that openly make synthetic data"),
    crowd("pipelines", [1.0, 3.0, 6.0, 0.5, 30.0], pipelines, "organisations that divide one data set among several accounts"),
    crowd("monitors", [0.5, 0.5, 8.0, 0.6, 60.0], monitors, "probes that ask the same thing around the clock"),
    crowd("dormant", [6.0, 0.15, 1.0, 0.7, 60.0], dormant, "accounts that hardly do anything"),
    crowd("mobile", [3.5, 2.0, 1.0, 1.2, 30.0], mobile, "people behind mobile carriers' shared addresses"),
    crowd("relays", [2.5, 1.5, 1.0, 1.2, 25.0], relays, "people behind commercial relays"),
    crowd("universities", [3.0, 1.5, 40.0, 1.1, 20.0], universities, "members of universities with their mail domains"),
    crowd("newcomers", [3.5, 1.0, 1.0, 1.2, 15.0], newcomers, "people who signed up on a day of marketing"),
    crowd("abusers", [0.8, 0.8, 1.0, 1.0, 30.0], abusers, "accounts soon closed for spam or unpaid bills"),
];

/// The population under construction, with what one crowd's builder needs to know.
pub(crate) struct Hall<'a> {
    pub population: &'a mut Population,
    pub prompts: &'a Prompts,
    kind: u8,
    knobs: CrowdKnobs,
}

/// Fills the population with `count` accounts of crowds, by their shares.
pub(crate) fn build(
    population: &mut Population,
    prompts: &Prompts,
    knobs: &[CrowdKnobs],
    count: u64,
) {
    let total: f64 = knobs.iter().map(|k| k.accounts).sum();
    let mut left = count;
    let mut owed = 0.0;
    for (kind, (crowd, knobs)) in CROWDS.iter().zip(knobs).enumerate() {
        owed += if total > 0.0 { count as f64 * knobs.accounts / total } else { 0.0 };
        let last = kind + 1 == CROWDS.len();
        let n = if last { left } else { (owed.round().max(0.0) as u64).min(left) };
        owed -= n as f64;
        left -= n;
        if n > 0 {
            let seed = population.seed;
            let mut hall = Hall { population, prompts, kind: kind as u8, knobs: knobs.clone() };
            (crowd.build)(&mut hall, &mut Draws::new(seed, Purpose::Crowd, kind as u64, 0), n);
        }
    }
}

impl Hall<'_> {
    fn person(&mut self, draws: &mut Draws) -> Account {
        let adoption_days = self.knobs.adoption_days;
        self.population.person(draws, self.kind, adoption_days)
    }

    /// A volume before scaling, heavy-tailed.
    fn volume(&self, draws: &mut Draws) -> f64 {
        draws.lognormal(1.0, self.knobs.volume_sigma)
    }

    /// Splits `count` accounts into groups around the crowd's group size.
    fn groups(&self, draws: &mut Draws, count: u64, spread: f64) -> Vec<u64> {
        let mut left = count;
        let mut sizes = Vec::new();
        while left > 0 {
            // The median that gives the wanted mean.
            let median = self.knobs.group_size / (spread * spread / 2.0).exp();
            let size = (draws.lognormal(median, spread).round().max(1.0) as u64).min(left);
            sizes.push(size);
            left -= size;
        }
        sizes
    }

    fn country(draws: &mut Draws) -> u8 {
        let weights: Vec<f64> = COUNTRIES.iter().map(|c| c.1).collect();
        draws.weighted(&weights) as u8
    }

    /// A library's client; in a share of the cases a build that nobody else has.
    fn library(&mut self, draws: &mut Draws, rare_share: f64) -> (u32, u32) {
        if draws.chance(rare_share) {
            let own_name = draws.chance(0.5);
            let rare = self.population.clients.add_rare(draws, own_name);
            return (rare, rare);
        }
        self.population.clients.pick(draws, ClientKind::Library)
    }

    fn use_library(&mut self, draws: &mut Draws, account: &mut Account) -> u32 {
        (account.client, account.client_later) = self.library(draws, 0.07);
        self.population.caller_parameters(draws, account.client)
    }

    fn front_end_parameters(&mut self, draws: &mut Draws, account: &Account) -> u32 {
        let streams = self.population.clients.streams(account.client);
        let mut parameters = Parameters { stream: Some(streams), ..Parameters::default() };
        if draws.chance(0.3) {
            parameters.temperature = Some(*draws.pick(&[0.5, 0.7, 0.8, 1.0]));
        }
        if draws.chance(0.15) {
            parameters.reasoning = Some(*draws.pick(&["low", "medium", "high"]));
        }
        self.population.add_parameters(parameters)
    }

    fn chatter(&mut self, draws: &mut Draws, mut account: Account, content: Content) {
        let rate = self.volume(draws);
        let weekend = draws.range(0.3, 1.3);
        let schedule = self.population.rhythm(draws, account.country, rate, weekend);
        let parameters = self.front_end_parameters(draws, &account);
        account.activities.push(Activity { schedule, content, parameters });
        self.population.push(account);
    }

    /// One of the shared assistants' system prompts, the popular ones more often.
    fn popular_system(&mut self, draws: &mut Draws) -> u32 {
        let n = self.prompts.systems.len();
        let rank = (n as f64).powf(draws.unit()) as usize;
        let Some(record) =
            self.prompts.systems.get(rank.saturating_sub(1).min(n.saturating_sub(1)))
        else {
            return 0;
        };
        if let Some(system) = self.population.system_of_record.get(record) {
            return *system;
        }
        let text = self.prompts.records[*record as usize].system.as_deref().unwrap_or_default();
        let system = self.population.add_system(text.to_owned());
        self.population.system_of_record.insert(*record, system);
        system
    }

    fn own_system(&mut self, draws: &mut Draws) -> u32 {
        let mut text = String::new();
        grammar::AGENT_SYSTEM.compose(draws, &mut text);
        let at = draws.below(self.prompts.systems.len());
        if let Some(system) = self
            .prompts
            .systems
            .get(at)
            .and_then(|r| self.prompts.records[*r as usize].system.as_deref())
        {
            text.push_str("\n\n");
            let wording = crate::wording::Wording { strength: 0.5, key: draws.bits() };
            self.prompts.vocabulary.write(system, wording, &mut text);
        }
        self.population.add_system(text)
    }

    /// A frame in an application's own words.
    fn own_frame(&mut self, draws: &mut Draws) -> u32 {
        let mut before = String::new();
        grammar::INSTRUCTION.compose(draws, &mut before);
        let mut worded = String::new();
        let wording = crate::wording::Wording { strength: 0.6, key: draws.bits() };
        self.prompts.vocabulary.write(&before, wording, &mut worded);
        worded.push_str(if draws.chance(0.5) { "\n\n" } else { "\n```\n" });
        let after = if draws.chance(0.4) {
            let mut after = String::from("\n\n");
            self.prompts.vocabulary.write(draws.word(grammar::RUBRIC.close), wording, &mut after);
            after
        } else {
            String::new()
        };
        self.population.add_frame(worded, after)
    }

    fn app_domain(&self, draws: &mut Draws) -> u16 {
        draws.below(self.prompts.domains.len()) as u16
    }
}

fn people(hall: &mut Hall, draws: &mut Draws, count: u64) {
    for _ in 0..count {
        let account = hall.person(draws);
        let system = if draws.chance(0.15) { hall.popular_system(draws) } else { 0 };
        hall.chatter(draws, account, Content::Chat { system });
    }
}

fn one_shot(hall: &mut Hall, draws: &mut Draws, count: u64) {
    for _ in 0..count {
        let account = hall.person(draws);
        hall.chatter(draws, account, Content::Question);
    }
}

fn developers(hall: &mut Hall, draws: &mut Draws, count: u64) {
    for _ in 0..count {
        let mut account = hall.person(draws);
        let own = hall.use_library(draws, &mut account);
        let rate = hall.volume(draws);
        let schedule = hall.population.rhythm(draws, account.country, rate, 0.4);
        let system = if draws.chance(0.3) { hall.popular_system(draws) } else { 0 };
        account.activities.push(Activity {
            schedule,
            content: Content::Code { system },
            parameters: own,
        });
        if draws.chance(0.35) {
            let country = account.country;
            let cloud = hall.population.shared(draws, country, NetworkKind::Cloud, 1);
            account.networks.push((0.6, cloud));
        }
        account.route = draws.weighted(&[0.84, 0.07, 0.05, 0.04]) as u8;
        if draws.chance(0.3) {
            // A small program of one's own that runs by itself.
            let (frame, domain) = (hall.own_frame(draws), hall.app_domain(draws));
            let schedule = Schedule::Clock {
                every_h: *draws.pick(&[6, 12, 24, 24]),
                minute: *draws.pick(&[0, 0, 15, 30]),
                lag_s: draws.range(0.5, 40.0) as f32,
                jitter_s: 3.0,
                burst: (rate * draws.range(0.1, 0.6)) as f32,
            };
            account.activities.push(Activity {
                schedule,
                content: Content::Recipe { system: 0, frame, domain },
                parameters: own,
            });
        }
        hall.population.push(account);
    }
}

fn coding_agents(hall: &mut Hall, draws: &mut Draws, count: u64) {
    let systems: Vec<u32> = (0..AGENT_COUNT).map(|_| hall.own_system(draws)).collect();
    let parameters: Vec<u32> = (0..AGENT_COUNT)
        .map(|_| {
            let parameters = Parameters {
                stream: Some(true),
                max_tokens: Some(*draws.pick(&[8192, 16384, 32000])),
                temperature: draws.chance(0.5).then_some(*draws.pick(&[0.0, 0.2, 1.0])),
                reasoning: draws.chance(0.5).then_some("medium"),
                tools: Some(draws.between(5, 22) as u16),
                ..Parameters::default()
            };
            hall.population.add_parameters(parameters)
        })
        .collect();
    // Each agent's makers change its default model at one moment.
    let adoption: Vec<f64> =
        (0..AGENT_COUNT).map(|_| draws.range(0.0, 2.0 * hall.knobs.adoption_days)).collect();
    for _ in 0..count {
        let mut account = hall.person(draws);
        let which = draws.weighted(&[10.0, 6.0, 4.0, 3.0, 2.0, 1.0]);
        (account.client, account.client_later) =
            hall.population.clients.pick(draws, ClientKind::Agent(which));
        account.tier = if draws.chance(0.7) { 2 } else { 1 };
        account.adoption_days = if draws.chance(0.2) {
            f32::INFINITY
        } else {
            (adoption[which] + draws.exponential(0.8)) as f32
        };
        let rate = hall.volume(draws);
        let schedule = hall.population.rhythm(draws, account.country, rate, 0.35);
        account.activities.push(Activity {
            schedule,
            content: Content::Agent { system: systems[which] },
            parameters: parameters[which],
        });
        hall.population.push(account);
    }
}

fn apps(hall: &mut Hall, draws: &mut Draws, count: u64) {
    for size in hall.groups(draws, count, 0.9) {
        // A vendor's tenants share code; an open template's users share nothing else.
        let open_template = draws.chance(0.4);
        let system =
            if open_template { hall.popular_system(draws) } else { hall.own_system(draws) };
        let frame = if draws.chance(0.6) { hall.own_frame(draws) } else { 0 };
        let domain = hall.app_domain(draws);
        let first = hall.person(draws);
        let (client, client_later) = hall.library(draws, 0.3);
        let parameters = hall.population.caller_parameters(draws, client);
        let cloud = hall.population.shared(draws, first.country, NetworkKind::Cloud, 3);
        let (payment, organization) = (draws.bits() | 1, draws.bits() | 1);
        let mail = hall.population.add_domain(draws, ".io");
        let one_payer = draws.chance(0.35);
        for _ in 0..size {
            let mut account = hall.person(draws);
            if !open_template {
                (account.client, account.client_later) = (client, client_later);
                account.client_change_us = first.client_change_us;
                account.networks = vec![(1.0, cloud)];
                account.adoption_days = first.adoption_days + draws.range(0.0, 6.0) as f32;
            } else {
                let country = account.country;
                account.networks =
                    vec![(1.0, hall.population.shared(draws, country, NetworkKind::Cloud, 1))];
                (account.client, account.client_later) =
                    hall.population.clients.pick(draws, ClientKind::Library);
            }
            if one_payer && !open_template {
                (account.payment, account.organization, account.email_domain) =
                    (payment, organization, mail);
                account.verification = 3 + u8::from(payment.is_multiple_of(3));
            } else if draws.chance(0.7) {
                account.email_domain = hall.population.add_domain(draws, ".com");
                account.organization = draws.bits() | 1;
            }
            account.plan = *draws.pick(&[1, 1, 3, 4]);
            account.route = draws.weighted(&[0.7, 0.14, 0.1, 0.06]) as u8;
            account.tier = draws.weighted(&[0.6, 0.35, 0.05]) as u8;
            account.credentials = draws.between(1, 3) as u16;
            let weekend = draws.range(0.4, 1.2);
            let rate = hall.volume(draws);
            let mut schedule = hall.population.rhythm(draws, account.country, rate, weekend);
            if let Schedule::Rhythm { active, width, .. } = &mut schedule {
                (*active, *width) = (1.0, draws.range(3.0, 7.0) as f32);
            }
            account.activities.push(Activity {
                schedule,
                content: Content::App { system, frame, domain },
                parameters,
            });
            hall.population.push(account);
        }
    }
}

fn automations(hall: &mut Hall, draws: &mut Draws, count: u64) {
    for size in hall.groups(draws, count, 0.5) {
        let country = Hall::country(draws);
        let addresses = draws.between(2, 12) as u32;
        let egress = hall.population.shared(draws, country, NetworkKind::Cloud, addresses);
        let (client, later) = hall.library(draws, 0.5);
        let updated_us = hall.population.at(draws.range(0.0, f64::from(hall.population.days)));
        let recipes: Vec<(u32, u16)> =
            (0..8).map(|_| (hall.own_frame(draws), hall.app_domain(draws))).collect();
        let parameters = hall.population.caller_parameters(draws, client);
        for _ in 0..size {
            let mut account = hall.person(draws);
            account.networks = vec![(1.0, egress)];
            (account.client, account.client_later, account.client_change_us) =
                (client, later, updated_us);
            account.tier = draws.weighted(&[0.7, 0.27, 0.03]) as u8;
            let (frame, domain) = if draws.chance(0.5) {
                let rank = (recipes.len() as f64).powf(draws.unit()) as usize;
                recipes[rank.saturating_sub(1)]
            } else {
                (hall.own_frame(draws), hall.app_domain(draws))
            };
            let every_h = *draws.pick(&[1, 1, 1, 2, 4, 6, 12, 24, 24]);
            let schedule = Schedule::Clock {
                every_h,
                minute: draws.weighted(&[0.7, 0.12, 0.12, 0.06]) as u16 * 15,
                lag_s: draws.exponential(9.0) as f32,
                jitter_s: draws.range(0.5, 6.0) as f32,
                burst: (hall.volume(draws) * f64::from(every_h)) as f32,
            };
            let own = if draws.chance(0.6) {
                parameters
            } else {
                hall.population.caller_parameters(draws, client)
            };
            account.activities.push(Activity {
                schedule,
                content: Content::Recipe { system: 0, frame, domain },
                parameters: own,
            });
            hall.population.push(account);
        }
    }
}

fn classes(hall: &mut Hall, draws: &mut Draws, count: u64) {
    for size in hall.groups(draws, count, 0.4) {
        let country = Hall::country(draws);
        let zone = COUNTRIES[usize::from(country)].2;
        let campus = hall.population.shared(draws, country, NetworkKind::Campus, 4);
        let mail = hall.population.add_domain(draws, ".edu");
        let code = draws.chance(0.5);
        let tasks = set_tasks(hall, draws, code, 3, 9);
        // Lessons on the same weekday and hour each week, and the evening before the deadline.
        let (weekday, hour) = (draws.below(5) as u32, draws.range(8.0, 16.0));
        let deadline = draws.range(0.2, 1.0) * f64::from(hall.population.days);
        let mut windows = Vec::new();
        for day in 0..hall.population.days {
            let open = hall.population.at(f64::from(day)) + ((hour - zone) * HOUR_US as f64) as i64;
            if day % 7 == weekday {
                windows.push((open, open + 3 * HOUR_US / 2));
            }
            if f64::from(day) <= deadline && deadline < f64::from(day) + 1.0 {
                let evening =
                    hall.population.at(f64::from(day)) + ((19.0 - zone) * HOUR_US as f64) as i64;
                windows.push((evening, evening + 4 * HOUR_US));
            }
        }
        hall.population.windows.push(windows);
        let list = (hall.population.windows.len() - 1) as u32;
        let born = hall.population.at(deadline - draws.range(5.0, 40.0));
        let free_plan = draws.chance(0.6);
        for _ in 0..size {
            let mut account = hall.person(draws);
            account.country = country;
            let home = hall.population.home(draws, country);
            account.networks = vec![(1.0, campus), (0.25, home)];
            account.email_domain = mail;
            account.created_us = born + (draws.exponential(0.6) * DAY_US as f64) as i64;
            account.closed_us = account.closed_us.max(account.created_us + DAY_US);
            if free_plan {
                (account.plan, account.payment) = (0, 0);
            }
            let rate = hall.volume(draws) as f32;
            let parameters = hall.front_end_parameters(draws, &account);
            account.activities.push(Activity {
                schedule: Schedule::Windows { list, rate },
                content: Content::Assignment { tasks },
                parameters,
            });
            if draws.chance(0.4) {
                let schedule = hall.population.rhythm(draws, country, f64::from(rate) * 0.15, 0.8);
                account.activities.push(Activity {
                    schedule,
                    content: Content::Chat { system: 0 },
                    parameters,
                });
            }
            hall.population.push(account);
        }
    }
}

fn set_tasks(hall: &mut Hall, draws: &mut Draws, code: bool, low: usize, high: usize) -> u32 {
    let list = if code {
        &hall.prompts.code
    } else {
        hall.prompts.chats.get("en").unwrap_or(&hall.prompts.code)
    };
    let tasks: Vec<u32> = (0..draws.between(low, high))
        .filter_map(|_| list.get(draws.below(list.len())).copied())
        .collect();
    hall.population.tasks.push(tasks);
    (hall.population.tasks.len() - 1) as u32
}

fn hackathons(hall: &mut Hall, draws: &mut Draws, count: u64) {
    for size in hall.groups(draws, count, 0.5) {
        let country = Hall::country(draws);
        let zone = COUNTRIES[usize::from(country)].2;
        let venue = hall.population.shared(draws, country, NetworkKind::Campus, 3);
        let promotion = draws.bits() | 1;
        let weeks = (hall.population.days / 7).max(1) as usize;
        let friday = (f64::from(draws.below(weeks) as u32) * 7.0 + 4.0)
            .min(f64::from(hall.population.days) - 1.0)
            .max(0.0);
        let open = hall.population.at(friday) + ((18.0 - zone) * HOUR_US as f64) as i64;
        let mut windows = Vec::new();
        for slot in 0..11 {
            windows.push((open + slot * 4 * HOUR_US, open + (slot + 1) * 4 * HOUR_US));
        }
        hall.population.windows.push(windows);
        let list = (hall.population.windows.len() - 1) as u32;
        let tasks = set_tasks(hall, draws, true, 2, 5);
        let starter = hall.popular_system(draws);
        let (client, later) = hall.library(draws, 0.1);
        for _ in 0..size {
            let mut account = hall.person(draws);
            account.country = country;
            let home = hall.population.home(draws, country);
            account.networks = vec![(1.0, venue), (0.15, home)];
            (account.payment, account.plan) = (promotion, 1);
            account.created_us = open - (draws.exponential(5.0) * HOUR_US as f64) as i64;
            account.closed_us = account.closed_us.max(open + 3 * DAY_US);
            let starter_kit = draws.chance(0.6);
            let parameters = hall.use_library(draws, &mut account);
            if starter_kit {
                (account.client, account.client_later) = (client, later);
            }
            let rate = hall.volume(draws) as f32;
            let content = match draws.below(3) {
                0 => Content::Assignment { tasks },
                1 => Content::Code { system: if starter_kit { starter } else { 0 } },
                _ => Content::App {
                    system: hall.own_system(draws),
                    frame: hall.own_frame(draws),
                    domain: hall.app_domain(draws),
                },
            };
            account.activities.push(Activity {
                schedule: Schedule::Windows { list, rate },
                content,
                parameters,
            });
            hall.population.push(account);
        }
    }
}

fn evaluations(hall: &mut Hall, draws: &mut Draws, count: u64) {
    let releases: Vec<i64> = hall
        .population
        .models
        .fresh
        .iter()
        .map(|m| hall.population.models.all[usize::from(*m)].released_us)
        .collect();
    // Harnesses that many laboratories use lend their layout and parameters.
    let harnesses: Vec<(u32, u32, u32, u32)> = (0..4)
        .map(|_| {
            let (client, later) = hall.population.clients.pick(draws, ClientKind::Library);
            let parameters = Parameters {
                temperature: Some(0.0),
                max_tokens: Some(*draws.pick(&[256, 512, 1024, 2048])),
                top_logprobs: draws.chance(0.25).then_some(5),
                seed: draws.chance(0.5).then_some(1234),
                ..Parameters::default()
            };
            let frame = if draws.chance(0.5) { hall.own_frame(draws) } else { 0 };
            (client, later, hall.population.add_parameters(parameters), frame)
        })
        .collect();
    for size in hall.groups(draws, count, 0.6) {
        let mut windows = Vec::new();
        for release in &releases {
            let open = release + (draws.exponential(5.0) * HOUR_US as f64) as i64;
            windows.push((open, open + (draws.range(3.0, 30.0) * HOUR_US as f64) as i64));
        }
        if releases.is_empty() || draws.chance(0.4) {
            let day = draws.range(0.0, f64::from(hall.population.days));
            windows.push((hall.population.at(day), hall.population.at(day + 0.5)));
        }
        hall.population.windows.push(windows);
        let list = (hall.population.windows.len() - 1) as u32;
        let country = Hall::country(draws);
        let network = hall.population.shared(draws, country, NetworkKind::Cloud, 2);
        let (payment, organization) = (draws.bits() | 1, draws.bits() | 1);
        let mail = hall.population.add_domain(draws, ".ai");
        let verified = draws.chance(0.55);
        let (client, later, parameters, frame) = *draws.pick(&harnesses);
        let suites: Vec<u16> = (0..draws.between(1, 4))
            .map(|_| draws.below(hall.prompts.suites.len()) as u16)
            .collect();
        for seat in 0..size {
            let mut account = hall.person(draws);
            account.networks = vec![(1.0, network)];
            (account.client, account.client_later) = (client, later);
            (account.payment, account.organization, account.email_domain) =
                (payment, organization, mail);
            account.verification = if verified { 4 } else { 3 };
            account.plan = *draws.pick(&[1, 3, 4]);
            (account.adoption_days, account.tier) = (0.0, 2);
            account.closed_us = i64::MAX;
            let rate = hall.volume(draws) as f32;
            let content = if !hall.prompts.judging.is_empty() && draws.chance(0.12) {
                Content::Judging
            } else {
                let suite = suites[seat as usize % suites.len()];
                Content::Benchmark { suite, offset: draws.below(4) as u32 * 211, frame }
            };
            account.activities.push(Activity {
                schedule: Schedule::Windows { list, rate },
                content,
                parameters,
            });
            hall.population.push(account);
        }
    }
}

/// What the members of a firm or team do all day.
fn office_worker(
    hall: &mut Hall,
    draws: &mut Draws,
    mut account: Account,
    system: u32,
    weekend: f64,
    proxy: Option<u32>,
) {
    let rate = hall.volume(draws);
    let schedule = hall.population.rhythm(draws, account.country, rate, weekend);
    let (content, parameters) = if draws.chance(0.3) {
        (Content::Code { system }, hall.use_library(draws, &mut account))
    } else {
        (Content::Chat { system }, hall.front_end_parameters(draws, &account))
    };
    if let Some(proxy) = proxy {
        (account.client, account.client_later) = (proxy, proxy);
    }
    account.activities.push(Activity { schedule, content, parameters });
    hall.population.push(account);
}

fn firms(hall: &mut Hall, draws: &mut Draws, count: u64) {
    for size in hall.groups(draws, count, 1.1) {
        let first = hall.person(draws);
        let office = hall.population.shared(draws, first.country, NetworkKind::Office, 2);
        let (payment, organization) = (draws.bits() | 1, draws.bits() | 1);
        let mail = hall.population.add_domain(draws, ".com");
        let system = if draws.chance(0.4) { hall.own_system(draws) } else { 0 };
        let route = draws.weighted(&[0.7, 0.12, 0.08, 0.1]) as u8;
        let seats_born = draws.chance(0.4);
        // A firm's inspecting proxy gives all its seats one TLS fingerprint.
        let proxy = draws.chance(0.3).then(|| hall.population.clients.add_rare(draws, false));
        // Some firms hand out equal work: their seats are nearly alike.
        let equal_work = draws.chance(0.15);
        let sigma = hall.knobs.volume_sigma;
        if equal_work {
            hall.knobs.volume_sigma = 0.25;
        }
        for _ in 0..size {
            let mut account = hall.person(draws);
            account.country = first.country;
            let home = hall.population.home(draws, first.country);
            account.networks = vec![(1.0, office), (0.3, home)];
            (account.payment, account.organization, account.email_domain) =
                (payment, organization, mail);
            (account.verification, account.plan, account.route) =
                (4, if size > 20 { 4 } else { 3 }, route);
            if seats_born {
                account.created_us =
                    first.created_us + (draws.exponential(0.3) * DAY_US as f64) as i64;
            }
            account.closed_us = i64::MAX;
            office_worker(hall, draws, account, system, 0.08, proxy);
        }
        hall.knobs.volume_sigma = sigma;
    }
}

fn teams(hall: &mut Hall, draws: &mut Draws, count: u64) {
    for size in hall.groups(draws, count, 0.5) {
        let first = hall.person(draws);
        let payment = draws.bits() | 1;
        let mail =
            if draws.chance(0.5) { Some(hall.population.add_domain(draws, ".co")) } else { None };
        let system = if draws.chance(0.3) { hall.own_system(draws) } else { 0 };
        let office = hall.population.shared(draws, first.country, NetworkKind::Office, 1);
        let together = draws.chance(0.6);
        for _ in 0..size {
            let mut account = hall.person(draws);
            account.country = first.country;
            let home = hall.population.home(draws, first.country);
            account.networks =
                if together { vec![(1.0, office), (0.4, home)] } else { vec![(1.0, home)] };
            (account.payment, account.verification) = (payment, 3);
            account.email_domain = mail.unwrap_or(account.email_domain);
            account.created_us = first.created_us + (draws.exponential(9.0) * DAY_US as f64) as i64;
            account.closed_us = account.closed_us.max(account.created_us + DAY_US);
            office_worker(hall, draws, account, system, 0.3, None);
        }
    }
}

fn families(hall: &mut Hall, draws: &mut Draws, count: u64) {
    for size in hall.groups(draws, count, 0.35) {
        let first = hall.person(draws);
        for _ in 0..size {
            let mut account = hall.person(draws);
            account.country = first.country;
            account.networks = first.networks.clone();
            let carrier = hall.population.carrier(draws, first.country);
            account.networks.push((0.3, carrier));
            account.payment = first.payment | 1;
            hall.chatter(draws, account, Content::Chat { system: 0 });
        }
    }
}

fn resellers(hall: &mut Hall, draws: &mut Draws, count: u64) {
    for size in hall.groups(draws, count, 0.6) {
        let country = Hall::country(draws);
        let gateway = hall.population.shared(draws, country, NetworkKind::Cloud, 6);
        let (payment, organization) = (draws.bits() | 1, draws.bits() | 1);
        let (client, later) = hall.library(draws, 0.3);
        let mail = hall.population.add_domain(draws, ".net");
        for _ in 0..size {
            let mut account = hall.person(draws);
            account.networks = vec![(1.0, gateway)];
            (account.client, account.client_later) = (client, later);
            account.route = 4;
            account.organization = organization;
            if draws.chance(0.8) {
                (account.payment, account.email_domain) = (payment, mail);
            }
            let parameters = hall.population.caller_parameters(draws, client);
            let content = match draws.below(4) {
                0 => Content::Code { system: 0 },
                1 => Content::App {
                    system: hall.popular_system(draws),
                    frame: 0,
                    domain: hall.app_domain(draws),
                },
                2 => Content::Question,
                _ => Content::Chat { system: 0 },
            };
            let rate = hall.volume(draws);
            let schedule = hall.population.rhythm(draws, account.country, rate, 0.8);
            account.activities.push(Activity { schedule, content, parameters });
            hall.population.push(account);
        }
    }
}

fn aggregators(hall: &mut Hall, draws: &mut Draws, count: u64) {
    for size in hall.groups(draws, count, 0.5) {
        let first = hall.person(draws);
        let gateway = hall.population.shared(draws, first.country, NetworkKind::Cloud, 4);
        let (payment, organization) = (draws.bits() | 1, draws.bits() | 1);
        let mail = hall.population.add_domain(draws, ".ai");
        let verified = draws.chance(0.6);
        let (client, later) = hall.library(draws, 0.4);
        // The balancer decides the day, so all keys see the same one, and nearly the same load.
        let peak = draws.range(0.0, 24.0) as f32;
        let load = hall.volume(draws);
        let system = hall.popular_system(draws);
        let domain = hall.app_domain(draws);
        let adoption = draws.exponential(hall.knobs.adoption_days) as f32;
        for _ in 0..size {
            let mut account = hall.person(draws);
            account.networks = vec![(1.0, gateway)];
            (account.client, account.client_later, account.client_change_us) =
                (client, later, first.client_change_us);
            (account.payment, account.organization, account.email_domain) =
                (payment, organization, mail);
            (account.verification, account.plan) = (if verified { 4 } else { 3 }, 4);
            (account.credentials, account.adoption_days) = (draws.between(2, 40) as u16, adoption);
            account.closed_us = i64::MAX;
            let parameters = hall.population.caller_parameters(draws, client);
            for (content, share) in [
                (Content::Chat { system: 0 }, 0.4),
                (Content::Code { system: 0 }, 0.2),
                (Content::Question, 0.2),
                (Content::App { system, frame: 0, domain }, 0.2),
            ] {
                let rate = (load * share * draws.range(0.9, 1.1)) as f32;
                let schedule =
                    Schedule::Rhythm { rate, active: 1.0, peak, width: 7.0, weekend: 0.9 };
                account.activities.push(Activity { schedule, content, parameters });
            }
            hall.population.push(account);
        }
    }
}

fn scripts(hall: &mut Hall, draws: &mut Draws, count: u64) {
    for _ in 0..count {
        let mut account = hall.person(draws);
        let parameters = hall.use_library(draws, &mut account);
        let country = account.country;
        if draws.chance(0.4) {
            account.networks =
                vec![(1.0, hall.population.shared(draws, country, NetworkKind::Cloud, 1))];
        }
        let frame = if draws.chance(0.7) { hall.own_frame(draws) } else { 0 };
        let content = if draws.chance(0.6) {
            let domain = draws.below(hall.prompts.harvest.len()) as u16;
            Content::Script { frame, domain, stride: draws.bits() as u32 }
        } else {
            Content::Recipe { system: 0, frame, domain: hall.app_domain(draws) }
        };
        // A few days of running, day and night.
        let open = draws.range(0.0, f64::from(hall.population.days));
        let mut windows = Vec::new();
        for day in 0..draws.between(1, 6) {
            let day = open.floor() + day as f64;
            windows.push((hall.population.at(day), hall.population.at(day + 1.0)));
        }
        hall.population.windows.push(windows);
        let list = (hall.population.windows.len() - 1) as u32;
        account.created_us = account.created_us.min(hall.population.at(open));
        let rate = hall.volume(draws) as f32;
        account.activities.push(Activity {
            schedule: Schedule::Windows { list, rate },
            content,
            parameters,
        });
        hall.population.push(account);
    }
}

fn declared_synthetic(hall: &mut Hall, draws: &mut Draws, count: u64) {
    for size in hall.groups(draws, count, 0.5) {
        let country = Hall::country(draws);
        let network = hall.population.shared(draws, country, NetworkKind::Cloud, 3);
        let (payment, organization) = (draws.bits() | 1, draws.bits() | 1);
        let mail = hall.population.add_domain(draws, ".ai");
        let frame = hall.own_frame(draws);
        let domain = draws.below(hall.prompts.harvest.len()) as u16;
        let (client, later) = hall.library(draws, 0.3);
        let parameters = hall.population.caller_parameters(draws, client);
        for _ in 0..size {
            let mut account = hall.person(draws);
            account.networks = vec![(1.0, network)];
            (account.client, account.client_later) = (client, later);
            (account.payment, account.organization, account.email_domain) =
                (payment, organization, mail);
            (account.verification, account.plan, account.credentials) = (4, 4, 4);
            account.created_us = account.created_us.min(hall.population.start_us);
            account.closed_us = i64::MAX;
            let rate = hall.volume(draws) as f32;
            let schedule =
                Schedule::Rhythm { rate, active: 1.0, peak: 12.0, width: 40.0, weekend: 0.9 };
            let content = Content::Script { frame, domain, stride: draws.bits() as u32 };
            account.activities.push(Activity { schedule, content, parameters });
            hall.population.push(account);
        }
    }
}

fn pipelines(hall: &mut Hall, draws: &mut Draws, count: u64) {
    for size in hall.groups(draws, count, 0.6) {
        let country = Hall::country(draws);
        let network = hall.population.shared(draws, country, NetworkKind::Cloud, 2);
        let (payment, organization) = (draws.bits() | 1, draws.bits() | 1);
        let mail = hall.population.add_domain(draws, ".com");
        let verified = draws.chance(0.6);
        let (client, later) = hall.library(draws, 0.3);
        let parameters = hall.population.caller_parameters(draws, client);
        let (frame, domain, system) =
            (hall.own_frame(draws), hall.app_domain(draws), hall.own_system(draws));
        let load = hall.volume(draws);
        // A run of some days, started by one timetable for all accounts.
        let (open, length) =
            (draws.range(-3.0, f64::from(hall.population.days)).floor(), draws.between(3, 20));
        let windows = (0..length)
            .map(|d| open + d as f64)
            .map(|d| (hall.population.at(d), hall.population.at(d + 1.0)))
            .collect();
        hall.population.windows.push(windows);
        let list = (hall.population.windows.len() - 1) as u32;
        for _ in 0..size {
            let mut account = hall.person(draws);
            account.networks = vec![(1.0, network)];
            (account.client, account.client_later) = (client, later);
            (account.payment, account.email_domain) = (payment, mail);
            (account.verification, account.plan) = (if verified { 4 } else { 3 }, 3);
            account.organization = if verified || draws.chance(0.5) { organization } else { 0 };
            account.created_us = account.created_us.min(hall.population.at(open));
            account.closed_us = i64::MAX;
            let rate = (load * draws.range(0.93, 1.07)) as f32;
            let content = Content::Recipe { system, frame, domain };
            account.activities.push(Activity {
                schedule: Schedule::Windows { list, rate },
                content,
                parameters,
            });
            hall.population.push(account);
        }
    }
}

fn monitors(hall: &mut Hall, draws: &mut Draws, count: u64) {
    for size in hall.groups(draws, count, 0.5) {
        let (client, later) = hall.library(draws, 0.5);
        let parameters = hall.population.add_parameters(Parameters {
            max_tokens: Some(*draws.pick(&[1, 5, 16])),
            temperature: draws.chance(0.5).then_some(0.0),
            ..Parameters::default()
        });
        let probe = draws.word(&[
            "Reply with OK.",
            "ping",
            "Are you there? Answer yes.",
            "2+2=",
            "Say hello in one word.",
        ]);
        let frame = hall.population.add_frame(probe.to_owned(), String::new());
        let (payment, organization) = (draws.bits() | 1, draws.bits() | 1);
        let minute = draws.below(60) as u16;
        for _ in 0..size {
            let mut account = hall.person(draws);
            let country = Hall::country(draws);
            account.networks =
                vec![(1.0, hall.population.shared(draws, country, NetworkKind::Cloud, 1))];
            (account.client, account.client_later) = (client, later);
            (account.payment, account.organization) = (payment, organization);
            account.verification = 3;
            let burst = hall.volume(draws) as f32;
            let schedule = Schedule::Clock { every_h: 1, minute, lag_s: 1.0, jitter_s: 4.0, burst };
            // No domain has this number: a probe is its frame and nothing else.
            let content = Content::Recipe { system: 0, frame, domain: u16::MAX };
            account.activities.push(Activity { schedule, content, parameters });
            hall.population.push(account);
        }
    }
}

fn dormant(hall: &mut Hall, draws: &mut Draws, count: u64) {
    for _ in 0..count {
        let mut account = hall.person(draws);
        if draws.chance(0.5) {
            (account.plan, account.payment) = (0, 0);
        }
        hall.chatter(draws, account, Content::Question);
    }
}

fn mobile(hall: &mut Hall, draws: &mut Draws, count: u64) {
    for _ in 0..count {
        let mut account = hall.person(draws);
        account.networks = vec![(1.0, hall.population.carrier(draws, account.country))];
        hall.chatter(draws, account, Content::Chat { system: 0 });
    }
}

fn relays(hall: &mut Hall, draws: &mut Draws, count: u64) {
    // Commercial relays: a handful of providers, each with exits in a few countries.
    let providers: Vec<Vec<NetworkUse>> = (0..4)
        .map(|_| {
            (0..draws.between(2, 6))
                .map(|_| {
                    let country = Hall::country(draws);
                    hall.population.shared(draws, country, NetworkKind::Relay, 24)
                })
                .collect()
        })
        .collect();
    for _ in 0..count {
        let mut account = hall.person(draws);
        let home = account.networks.clone();
        account.networks = draws.pick(&providers).iter().map(|exit| (1.0, *exit)).collect();
        if draws.chance(0.4) {
            account.networks.extend(home);
        }
        hall.chatter(draws, account, Content::Chat { system: 0 });
    }
}

fn universities(hall: &mut Hall, draws: &mut Draws, count: u64) {
    for size in hall.groups(draws, count, 0.7) {
        let country = Hall::country(draws);
        let mail = hall.population.add_domain(draws, ".edu");
        let campus = hall.population.shared(draws, country, NetworkKind::Campus, 40);
        for _ in 0..size {
            let mut account = hall.person(draws);
            account.country = country;
            let home = hall.population.home(draws, country);
            account.networks = vec![(1.0, campus), (0.8, home)];
            account.email_domain = mail;
            let content = if draws.chance(0.3) {
                Content::Code { system: 0 }
            } else {
                Content::Chat { system: 0 }
            };
            hall.chatter(draws, account, content);
        }
    }
}

fn newcomers(hall: &mut Hall, draws: &mut Draws, count: u64) {
    for _ in 0..count {
        let mut account = hall.person(draws);
        let push = *draws.pick(&hall.population.pushes);
        account.created_us = hall.population.at(push + draws.unit().powf(1.5));
        account.closed_us = account.closed_us.max(account.created_us + DAY_US / 2);
        account.plan = 0;
        hall.chatter(draws, account, Content::Chat { system: 0 });
    }
}

fn abusers(hall: &mut Hall, draws: &mut Draws, count: u64) {
    for _ in 0..count {
        let mut account = hall.person(draws);
        account.created_us =
            hall.population.at(draws.range(-6.0, f64::from(hall.population.days) * 0.9));
        account.closed_us = account.created_us + (draws.range(1.0, 14.0) * DAY_US as f64) as i64;
        account.closed_reason = draws.word(&["spam", "chargeback", "terms"]);
        let parameters = hall.use_library(draws, &mut account);
        let (frame, domain) = (hall.own_frame(draws), hall.app_domain(draws));
        let rate = hall.volume(draws);
        let schedule = hall.population.rhythm(draws, account.country, rate, 1.0);
        account.activities.push(Activity {
            schedule,
            content: Content::Recipe { system: 0, frame, domain },
            parameters,
        });
        hall.population.push(account);
    }
}

//! Who there is in a world: accounts, what each does, and the things that groups of
//! them share.

use std::collections::HashMap;

use stillwatch_exchange::time::DAY_US;

use crate::campaigns::Campaign;
use crate::clients::{ClientKind, Clients, Parameters, ordinary_parameters};
use crate::draws::{Draws, Purpose, mix};
use crate::models::Models;
use crate::networks::{COUNTRIES, NetworkKind, NetworkUse, Networks};
use crate::settings::WorldSettings;

/// No closure: later than every moment of a world.
pub(crate) const OPEN_US: i64 = i64::MAX;

pub(crate) const VERIFICATIONS: [&str; 5] = ["none", "email", "phone", "card", "organization"];
pub(crate) const PLANS: [&str; 5] = ["free", "payg", "plus", "team", "enterprise"];
pub(crate) const ROUTES: [&str; 5] = ["direct", "bedrock", "vertex", "foundry", "marketplace"];
pub(crate) const FREE_MAIL: [&str; 8] = [
    "gmail.com",
    "outlook.com",
    "yahoo.com",
    "icloud.com",
    "proton.me",
    "gmx.net",
    "qq.com",
    "hotmail.com",
];

/// What an account does again and again.
#[derive(Clone, Debug)]
pub(crate) struct Activity {
    pub schedule: Schedule,
    pub content: Content,
    /// Index into [`Population::parameters`].
    pub parameters: u32,
}

/// When an account is at work.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Schedule {
    /// A person's or a firm's day: sessions per day before scaling, the share of days
    /// with any, the peak (hours UTC), its width in hours, and how weekends compare.
    Rhythm { rate: f32, active: f32, peak: f32, width: f32, weekend: f32 },
    /// A clock: every `every_h` hours at a minute of the hour, `burst` exchanges each,
    /// `lag_s` behind with `jitter_s` more.
    Clock { every_h: u16, minute: u16, lag_s: f32, jitter_s: f32, burst: f32 },
    /// Set times that a group keeps, sessions per window before scaling; `list`
    /// indexes [`Population::windows`].
    Windows { list: u32, rate: f32 },
    /// A campaign's seat, worked from one moment to another.
    Quota { campaign: u8, seat: u32, from_us: i64, to_us: i64 },
}

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Content {
    /// Chats and questions in the account's language; `system` 0 = none.
    Chat {
        system: u32,
    },
    /// A single question.
    Question,
    Code {
        system: u32,
    },
    /// A coding agent's loop.
    Agent {
        system: u32,
    },
    /// End users of an application, by domain, worded inside a frame.
    App {
        system: u32,
        frame: u32,
        domain: u16,
    },
    /// A recipe that runs by itself over new material.
    Recipe {
        system: u32,
        frame: u32,
        domain: u16,
    },
    /// One of a few set tasks, in each one's own words.
    Assignment {
        tasks: u32,
    },
    /// A benchmark's items in order, from `offset` on.
    Benchmark {
        suite: u16,
        offset: u32,
        frame: u32,
    },
    /// Judge requests, where the corpora have them.
    Judging,
    /// A person's script over a list of single tasks.
    Script {
        frame: u32,
        domain: u16,
        stride: u32,
    },
    /// A campaign's items.
    Harvest {
        campaign: u8,
    },
}

#[derive(Clone, Debug)]
pub(crate) struct Account {
    /// What the id is written from; tells nothing.
    pub bits: u64,
    /// Index into `CROWDS`, or its length for a campaign's account.
    pub kind: u8,
    pub campaign: Option<u8>,
    /// 0 = none.
    pub organization: u64,
    pub created_us: i64,
    pub closed_us: i64,
    pub closed_reason: &'static str,
    /// 0 = none.
    pub payment: u64,
    /// Index into [`Population::domains`].
    pub email_domain: u32,
    pub verification: u8,
    pub plan: u8,
    pub route: u8,
    pub credentials: u16,
    pub country: u8,
    /// Ways onto the network with their weights.
    pub networks: Vec<(f32, NetworkUse)>,
    pub client: u32,
    pub client_later: u32,
    pub client_change_us: i64,
    /// Days from a release until this account changes over; infinite = never.
    pub adoption_days: f32,
    /// 0 small, 1 middle, 2 large.
    pub tier: u8,
    pub activities: Vec<Activity>,
}

/// A text around a text.
#[derive(Clone, Debug, Default)]
pub(crate) struct Frame {
    pub before: String,
    pub after: String,
}

pub(crate) struct Population {
    pub accounts: Vec<Account>,
    pub campaigns: Vec<Campaign>,
    pub parameters: Vec<Parameters>,
    /// System prompts; the first is empty and means none.
    pub systems: Vec<String>,
    /// Where the system prompt of a corpus record stands in `systems`.
    pub system_of_record: HashMap<u32, u32>,
    pub frames: Vec<Frame>,
    /// Email domains.
    pub domains: Vec<String>,
    pub windows: Vec<Vec<(i64, i64)>>,
    /// Record indices of set tasks.
    pub tasks: Vec<Vec<u32>>,
    pub networks: Networks,
    pub clients: Clients,
    pub models: Models,
    /// By kind: what an ordinary rate is multiplied by to fill the kind's share.
    pub scale: Vec<f64>,
    pub seed: u64,
    pub start_us: i64,
    pub days: u32,
    pub born_share: f64,
    pub closed_share: f64,
    /// Days of marketing pushes, on which many sign up.
    pub pushes: Vec<f64>,
}

impl Population {
    pub(crate) fn empty(settings: &WorldSettings) -> Self {
        let (seed, start_us) = (settings.seed, settings.start.0);
        let mut draws = Draws::new(seed, Purpose::World, 0, 0);
        let pushes = (0..1 + settings.days / 14)
            .map(|_| draws.range(0.0, f64::from(settings.days)).floor())
            .collect();
        Population {
            accounts: Vec::new(),
            campaigns: Vec::new(),
            parameters: Vec::new(),
            systems: vec![String::new()],
            system_of_record: HashMap::new(),
            frames: vec![Frame::default()],
            domains: FREE_MAIL.iter().map(|d| (*d).to_owned()).collect(),
            windows: Vec::new(),
            tasks: Vec::new(),
            networks: Networks::new(seed),
            clients: Clients::new(seed),
            models: Models::new(seed, start_us, settings.days, settings.releases),
            scale: Vec::new(),
            seed,
            start_us,
            days: settings.days,
            born_share: settings.born_share,
            closed_share: settings.closed_share,
            pushes,
        }
    }

    pub(crate) fn end_us(&self) -> i64 {
        self.start_us + i64::from(self.days) * DAY_US
    }

    /// A moment `days` after the start.
    pub(crate) fn at(&self, days: f64) -> i64 {
        self.start_us + (days * DAY_US as f64) as i64
    }

    pub(crate) fn add_system(&mut self, text: String) -> u32 {
        self.systems.push(text);
        (self.systems.len() - 1) as u32
    }

    pub(crate) fn add_frame(&mut self, before: String, after: String) -> u32 {
        self.frames.push(Frame { before, after });
        (self.frames.len() - 1) as u32
    }

    pub(crate) fn add_parameters(&mut self, parameters: Parameters) -> u32 {
        // Most are alike; looking back a little keeps the table short.
        if let Some(at) = self.parameters.iter().take(512).position(|p| *p == parameters) {
            return at as u32;
        }
        self.parameters.push(parameters);
        (self.parameters.len() - 1) as u32
    }

    pub(crate) fn add_domain(&mut self, draws: &mut Draws, ending: &str) -> u32 {
        const FIRST: [&str; 20] = [
            "north", "blue", "silver", "rapid", "green", "delta", "alpine", "harbor", "bright",
            "stone", "maple", "polar", "signal", "orbit", "cedar", "amber", "civic", "prime",
            "lumen", "terra",
        ];
        const LAST: [&str; 20] = [
            "works", "labs", "soft", "logic", "foods", "media", "health", "grid", "line", "craft",
            "data", "trade", "motion", "partners", "systems", "studio", "energy", "bank", "cargo",
            "press",
        ];
        let number = if draws.chance(0.6) { String::new() } else { draws.below(1000).to_string() };
        self.domains.push(format!("{}{}{number}{ending}", draws.pick(&FIRST), draws.pick(&LAST)));
        (self.domains.len() - 1) as u32
    }

    /// A person with a front end at home, as a start for every kind of account.
    pub(crate) fn person(&mut self, draws: &mut Draws, kind: u8, adoption_days: f64) -> Account {
        let weights: Vec<f64> = COUNTRIES.iter().map(|c| c.1).collect();
        let country = draws.weighted(&weights) as u8;
        let (client, client_later) = self.clients.pick(draws, ClientKind::FrontEnd);
        let verification = draws.weighted(&[0.06, 0.4, 0.2, 0.34]) as u8;
        let created_us = self.birth(draws);
        let (closed_us, closed_reason) = if draws.chance(self.closed_share) {
            let reason =
                *draws.pick(&["chargeback", "spam", "user_request", "terms", "user_request"]);
            (self.at(draws.range(0.0, f64::from(self.days))).max(created_us + DAY_US / 4), reason)
        } else {
            (OPEN_US, "")
        };
        let mut account = Account {
            bits: 0,
            kind,
            campaign: None,
            organization: 0,
            created_us,
            closed_us,
            closed_reason,
            payment: if draws.chance(0.86) { draws.bits() | 1 } else { 0 },
            email_domain: draws.weighted(&[44.0, 16.0, 8.0, 9.0, 5.0, 4.0, 7.0, 7.0]) as u32,
            verification,
            plan: draws.weighted(&[0.3, 0.35, 0.3, 0.05]) as u8,
            route: 0,
            credentials: 1,
            country,
            networks: Vec::new(),
            client,
            client_later,
            client_change_us: self.at(draws.range(0.0, f64::from(self.days))),
            adoption_days: if draws.chance(0.25) {
                f32::INFINITY
            } else {
                draws.exponential(adoption_days / std::f64::consts::LN_2) as f32
            },
            tier: draws.weighted(&[0.35, 0.4, 0.25]) as u8,
            activities: Vec::new(),
        };
        let home = self.home(draws, country);
        account.networks.push((1.0, home));
        if draws.chance(0.35) {
            let carrier = self.carrier(draws, country);
            account.networks.push((draws.range(0.1, 0.7) as f32, carrier));
        }
        account
    }

    /// When an ordinary account was opened: most before the world, some in it, and of
    /// those many on days of marketing pushes.
    fn birth(&mut self, draws: &mut Draws) -> i64 {
        if !draws.chance(self.born_share) {
            return self.start_us - (draws.unit().powf(1.6) * 700.0 * DAY_US as f64) as i64;
        }
        let day = if draws.chance(0.3) {
            *draws.pick(&self.pushes) + draws.unit()
        } else {
            draws.range(0.0, f64::from(self.days))
        };
        self.at(day)
    }

    pub(crate) fn home(&self, draws: &mut Draws, country: u8) -> NetworkUse {
        let network = self.networks.pick(draws, country, NetworkKind::Home);
        NetworkUse::Lease { network, host: draws.bits() as u32, days: draws.between(3, 40) as u16 }
    }

    pub(crate) fn carrier(&self, draws: &mut Draws, country: u8) -> NetworkUse {
        let network = self.networks.pick(draws, country, NetworkKind::Mobile);
        // A carrier's gateways are the same for all its customers.
        let base = mix(self.seed, 31, u64::from(network)) as u32;
        NetworkUse::Pool { network, base, size: 48 }
    }

    pub(crate) fn shared(
        &self,
        draws: &mut Draws,
        country: u8,
        kind: NetworkKind,
        size: u32,
    ) -> NetworkUse {
        NetworkUse::Pool {
            network: self.networks.pick(draws, country, kind),
            base: draws.bits() as u32,
            size,
        }
    }

    /// A person's day in the country's time.
    pub(crate) fn rhythm(
        &self,
        draws: &mut Draws,
        country: u8,
        rate: f64,
        weekend: f64,
    ) -> Schedule {
        let zone = COUNTRIES[usize::from(country) % COUNTRIES.len()].2;
        let local = if draws.chance(0.6) {
            10.5 + 3.0 * draws.normal()
        } else {
            20.0 + 2.0 * draws.normal()
        };
        Schedule::Rhythm {
            rate: rate as f32,
            active: draws.range(0.25, 0.95) as f32,
            peak: (local - zone).rem_euclid(24.0) as f32,
            width: draws.range(1.5, 4.5) as f32,
            weekend: weekend as f32,
        }
    }

    /// Parameters of an ordinary caller of the API with this client.
    pub(crate) fn caller_parameters(&mut self, draws: &mut Draws, client: u32) -> u32 {
        let parameters = ordinary_parameters(draws, self.clients.streams(client));
        self.add_parameters(parameters)
    }

    pub(crate) fn push(&mut self, account: Account) {
        self.accounts.push(account);
    }
}

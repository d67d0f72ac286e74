//! Small crowds with and without a campaign, from exchanges to findings.

use stillwatch_detect::calendar::Calendar;
use stillwatch_detect::find::{Found, Settings, find};
use stillwatch_detect::observe::{Key, Observer};
use stillwatch_detect::population::{Member, Population};
use stillwatch_detect::profile::Profile;
use stillwatch_detect::references::References;
use stillwatch_detect::without::Without;
use stillwatch_exchange::time::{DAY_US, HOUR_US};
use stillwatch_exchange::{Account, Exchange, Time};

const SETTINGS: Settings = Settings { level: 0.05, shuffle: None, without: Without::NOTHING };
const START: i64 = 1_772_323_200_000_000;
const DAYS: i64 = 28;

/// Numbers that depend on their place alone, 0 to 1.
fn unit(parts: &[u64]) -> f64 {
    let bytes: Vec<u8> = parts.iter().flat_map(|p| p.to_le_bytes()).collect();
    (xxhash_rust::xxh3::xxh3_64(&bytes) >> 11) as f64 / (1u64 << 53) as f64
}

fn pick<'a>(words: &[&'a str], parts: &[u64]) -> &'a str {
    words[(unit(parts) * words.len() as f64) as usize]
}

const WORDS: &[&str] = &[
    "river", "engine", "poem", "budget", "theorem", "garden", "protein", "contract", "planet",
    "recipe", "violin", "network", "treaty", "glacier", "novel", "muscle", "bridge", "market",
    "desert", "language", "orbit", "harvest", "castle", "battery", "forest", "museum", "signal",
    "kitchen", "thunder", "ladder", "copper", "senate",
];

fn question(who: u64, n: u64) -> String {
    let word = |k: u64| pick(WORDS, &[who, n, k]);
    format!(
        "{} {} and the {} of a {} beside {} with {} near {} under {}",
        word(1),
        word(2),
        word(3),
        word(4),
        word(5),
        word(6),
        word(7),
        word(8)
    )
}

/// An account in the making.
struct Story {
    id: String,
    created_at: i64,
    closed_at: Option<i64>,
    profile: Profile,
}

struct World {
    calendar: Calendar,
    observer: Observer,
    stories: Vec<Story>,
}

impl World {
    fn new() -> Self {
        World {
            calendar: Calendar::new(Time(START), Time(START + DAYS * DAY_US - 1), &[]),
            observer: Observer::new(Key::public()),
            stories: Vec::new(),
        }
    }

    fn open(&mut self, id: String, created_at: i64) -> usize {
        self.stories.push(Story { id, created_at, closed_at: None, profile: Profile::default() });
        self.stories.len() - 1
    }

    fn ask(&mut self, story: usize, exchange: Exchange<'_>) {
        let story = &mut self.stories[story];
        let hash = xxhash_rust::xxh3::xxh3_64(story.id.as_bytes());
        story.profile.add(&self.observer.observe(&exchange), hash, &self.calendar);
    }

    /// People: volumes over three orders of magnitude, days and nights, conversations on
    /// one subject; forty programs and forty networks among them.
    fn people(&mut self, count: u64) {
        for who in 0..count {
            let born = START - (unit(&[1, who]) * 40.0) as i64 * DAY_US;
            let story = self.open(format!("person-{who:04}"), born);
            let agent = format!("program-{}", who % 40);
            let address = format!("198.51.{}.{}", who % 40, who % 250);
            let volume = (unit(&[2, who]) * 5.0 + 2.5).exp() as u64;
            let wake = (unit(&[3, who]) * 24.0) as i64;
            for n in 0..volume {
                let day = (unit(&[4, who, n / 5]) * DAYS as f64) as i64;
                let hour = wake + (unit(&[5, who, n / 5]) * 12.0) as i64;
                let minute = (n % 5) as i64 * 4 + (unit(&[6, who, n]) * 3.0) as i64;
                let time = START + day * DAY_US + (hour % 24) * HOUR_US + minute * 60_000_000;
                let prompt = format!("{} part {n}", question(who, n / 5));
                self.ask(
                    story,
                    Exchange {
                        time: Time(time),
                        prompt: Some(&prompt),
                        turn: Some(1 + (n % 5) as u16),
                        user_agent: Some(&agent),
                        client_address: Some(&address),
                        ..Exchange::default()
                    },
                );
            }
        }
    }

    /// Services on one network: steady, each with a template of its own.
    fn automations(&mut self, count: u64) {
        for who in 0..count {
            let story = self.open(format!("service-{who:04}"), START - 90 * DAY_US);
            for hour in 0..DAYS * 24 {
                let time = START + hour * HOUR_US + (unit(&[7, who, hour as u64]) * 3e9) as i64;
                let prompt = format!(
                    "{} Summarise ticket {hour} in one line for the {} desk and add its {} now",
                    question(who, 0),
                    pick(WORDS, &[who, 8]),
                    pick(WORDS, &[who, 9]),
                );
                self.ask(
                    story,
                    Exchange {
                        time: Time(time),
                        prompt: Some(&prompt),
                        turn: Some(1),
                        user_agent: Some("worker"),
                        client_address: Some("203.0.113.5"),
                        ..Exchange::default()
                    },
                );
            }
        }
    }

    /// A load balancer over seats: one client, question after question, each once. With
    /// `lifetime_days`, accounts are closed after that time and replaced within hours.
    fn campaign(&mut self, seats: u64, lifetime_days: Option<i64>) {
        for seat in 0..seats {
            let mut account = 0;
            let mut story = self.open(format!("seat-{seat:03}-0"), START - DAY_US);
            for n in 0..DAYS * 6 {
                let time = START + n * 4 * HOUR_US + (unit(&[10, seat, n as u64]) * 1e10) as i64;
                if let Some(days) = lifetime_days
                    && (time - START) / (days * DAY_US) > account
                {
                    account += 1;
                    let end = START + account * days * DAY_US;
                    self.stories[story].closed_at = Some(end);
                    story = self.open(format!("seat-{seat:03}-{account}"), end + HOUR_US);
                }
                let prompt = question(1_000_000 + seat, n as u64);
                let address = format!("192.0.2.{}", (unit(&[11, seat, n as u64]) * 250.0) as u8);
                self.ask(
                    story,
                    Exchange {
                        time: Time(time),
                        prompt: Some(&prompt),
                        turn: Some(1),
                        user_agent: Some("balancer"),
                        client_address: Some(&address),
                        ..Exchange::default()
                    },
                );
            }
        }
    }

    fn find(self) -> (Population, Found) {
        let members = self
            .stories
            .into_iter()
            .filter(|s| !s.profile.is_empty())
            .map(|s| Member {
                record: Some(Account {
                    account_id: s.id.clone(),
                    created_at: Some(Time(s.created_at)),
                    closed_at: s.closed_at.map(Time),
                    ..Account::default()
                }),
                account_id: s.id,
                profile: s.profile,
            })
            .collect();
        let population = Population::new(members, self.calendar);
        let found = find(&population, &SETTINGS, &References::default(), &mut |_, _, _| true);
        (population, found.expect("nobody stopped it"))
    }
}

/// The members of each finding, by the first part of their ids.
fn told(population: &Population, found: &Found) -> Vec<Vec<(String, usize)>> {
    found
        .findings
        .iter()
        .map(|finding| {
            let mut kinds = std::collections::BTreeMap::new();
            for m in &finding.members {
                let id = &population.members()[m.account as usize].account_id;
                let kind = id.split('-').next().unwrap_or_default().to_owned();
                *kinds.entry(kind).or_insert(0) += 1;
            }
            kinds.into_iter().collect()
        })
        .collect()
}

#[test]
fn a_crowd_is_innocent() {
    let mut world = World::new();
    world.people(600);
    world.automations(40);
    let (population, found) = world.find();
    assert!(found.groups.len() > 20, "the crowd is linked: {}", found.groups.len());
    assert_eq!(told(&population, &found), Vec::<Vec<_>>::new());
}

#[test]
fn a_balanced_campaign_is_found_whole_and_alone() {
    let mut world = World::new();
    world.people(600);
    world.automations(40);
    world.campaign(60, None);
    let (population, found) = world.find();
    assert_eq!(told(&population, &found), [[("seat".to_owned(), 60)]]);
    let finding = &found.findings[0];
    assert!(finding.guilty_members_at_least > 0);
    assert!(finding.first_detectable.0 < START + DAYS * DAY_US);
}

#[test]
fn successors_of_closed_accounts_belong_to_the_campaign() {
    let mut world = World::new();
    world.people(1500);
    world.campaign(40, Some(5));
    let (population, found) = world.find();
    let told = told(&population, &found);
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0].len(), 1, "{told:?}");
    let (kind, count) = &told[0][0];
    assert!(kind == "seat" && *count >= 216, "90 % of 240 accounts: {told:?}");
}

#[test]
fn one_who_stops_gets_nothing() {
    let population = Population::new(Vec::new(), Calendar::new(Time(0), Time(DAY_US), &[]));
    assert!(find(&population, &SETTINGS, &References::default(), &mut |_, _, _| false).is_none());
}

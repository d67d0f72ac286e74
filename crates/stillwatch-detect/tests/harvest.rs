//! Accounts that carry strangers' chats beside their harvest: which exchange is which.

use std::collections::BTreeMap;

use proptest::prelude::*;
use stillwatch_detect::calendar::Calendar;
use stillwatch_detect::harvest::HarvestSignature;
use stillwatch_detect::observe::{Key, Observer, Traits};
use stillwatch_detect::population::{Member, Population};
use stillwatch_detect::profile::Profile;
use stillwatch_detect::signature::Membership;
use stillwatch_exchange::time::{DAY_US, HOUR_US};
use stillwatch_exchange::{Exchange, Time};

const START: i64 = 1_772_323_200_000_000;
const DAYS: i64 = 28;
const WORDS: &[&str] = &[
    "river", "engine", "poem", "budget", "theorem", "garden", "protein", "contract", "planet",
    "recipe", "violin", "network", "treaty", "glacier", "novel", "muscle", "bridge", "market",
    "desert", "language", "orbit", "harvest", "castle", "battery", "forest", "museum", "signal",
];

/// Numbers that depend on their place alone, 0 to 1.
fn unit(parts: &[u64]) -> f64 {
    let bytes: Vec<u8> = parts.iter().flat_map(|p| p.to_le_bytes()).collect();
    (xxhash_rust::xxh3::xxh3_64(&bytes) >> 11) as f64 / (1u64 << 53) as f64
}

fn words(count: u64, parts: [u64; 2]) -> String {
    let word = |n| WORDS[(unit(&[parts[0], parts[1], n]) * WORDS.len() as f64) as usize];
    (0..count).map(word).collect::<Vec<_>>().join(" ")
}

/// Observed exchanges of each account, with whether they are harvest.
type Traffic = BTreeMap<String, Vec<(Traits, bool)>>;

/// People, and `members` accounts of which a share of the conversations are people's
/// too. The members' harvest has one template, but for `untold` of it.
fn traffic(members: u64, strangers: f64, untold: f64, one_client: bool) -> Traffic {
    let mut observer = Observer::new(Key::public());
    let mut traffic = Traffic::new();
    for who in 0..300 + members {
        let is_member = who >= 300;
        let name = if is_member { format!("member-{who}") } else { format!("person-{who}") };
        let of = traffic.entry(name).or_default();
        for n in 0..40u64 {
            let time = START + (unit(&[who, n, 1]) * (DAYS * DAY_US - HOUR_US) as f64) as i64;
            let is_harvest = is_member && unit(&[who, n, 2]) >= strangers;
            let turns = if is_harvest { 1 } else { 1 + (unit(&[who, n, 3]) * 4.0) as u16 };
            for turn in 1..=turns {
                let text =
                    words(8 + (unit(&[who, n, 4]) * 9.0) as u64, [who << 8 | n, turn.into()]);
                let prompt = if is_harvest && unit(&[who, n, 5]) >= untold {
                    format!("Give a complete worked solution to this exercise on {text}")
                } else {
                    text
                };
                let agent = if one_client || is_harvest {
                    "one".to_owned()
                } else {
                    format!("program-{}", who % 20)
                };
                let exchange = Exchange {
                    time: Time(time + i64::from(turn) * 60_000_000),
                    prompt: Some(&prompt),
                    turn: Some(turn),
                    user_agent: Some(&agent),
                    ..Exchange::default()
                };
                of.push((observer.observe(&exchange), is_harvest));
            }
        }
    }
    traffic
}

fn population(traffic: &Traffic, is_reversed: bool) -> Population {
    let calendar = Calendar::new(Time(START), Time(START + DAYS * DAY_US - 1), &[]);
    let mut members: Vec<Member> = traffic
        .iter()
        .map(|(name, exchanges)| {
            let mut profile = Profile::default();
            let mut add = |(traits, _): &(Traits, bool)| {
                profile.add(traits, xxhash_rust::xxh3::xxh3_64(name.as_bytes()), &calendar);
            };
            if is_reversed {
                exchanges.iter().rev().for_each(&mut add);
            } else {
                exchanges.iter().for_each(&mut add);
            }
            Member { account_id: name.clone(), profile, record: None }
        })
        .collect();
    if is_reversed {
        members.reverse();
    }
    Population::new(members, calendar)
}

fn learn(population: &Population) -> HarvestSignature {
    let group: Vec<Membership> = (0..)
        .zip(population.members())
        .filter(|(_, m)| m.account_id.starts_with("member"))
        .map(|(account, _)| Membership { account, membership: 1.0 })
        .collect();
    HarvestSignature::learn_all(population, &[&group]).remove(0)
}

/// Scores of the members' exchanges, with whether they are harvest.
fn scores(traffic: &Traffic, signature: &HarvestSignature) -> Vec<(f64, bool)> {
    traffic
        .iter()
        .filter(|(name, _)| name.starts_with("member"))
        .flat_map(|(name, of)| of.iter().map(move |(t, is)| (signature.score(name, t), *is)))
        .collect()
}

/// Share of the harvest that is found, and of what is found that is harvest.
fn recall_and_precision(scores: &[(f64, bool)]) -> (f64, f64) {
    let count = |of: fn(&(f64, bool)) -> bool| scores.iter().filter(|s| of(s)).count() as f64;
    let both = count(|s| s.0 >= 0.5 && s.1);
    (both / count(|s| s.1), both / count(|s| s.0 >= 0.5))
}

#[test]
fn strangers_chats_are_told_from_harvest() {
    for (strangers, untold, one_client) in [(0.5, 0.0, true), (0.3, 0.3, false), (0.5, 0.1, false)]
    {
        let traffic = traffic(30, strangers, untold, one_client);
        let scores = scores(&traffic, &learn(&population(&traffic, false)));
        let (recall, precision) = recall_and_precision(&scores);
        assert!(recall >= 0.8 && precision >= 0.9, "{strangers}: {recall}, {precision}");
    }
}

#[test]
fn scores_add_up_to_the_harvest() {
    let traffic = traffic(30, 0.5, 0.1, false);
    let scores = scores(&traffic, &learn(&population(&traffic, false)));
    let expected: f64 = scores.iter().map(|s| s.0).sum();
    let harvest = scores.iter().filter(|s| s.1).count() as f64;
    assert!((expected / harvest - 1.0).abs() < 0.1, "{expected} of {harvest}");
}

#[test]
fn a_group_without_strangers_keeps_all() {
    for untold in [0.0, 0.3] {
        let traffic = traffic(30, 0.0, untold, false);
        let (recall, _) =
            recall_and_precision(&scores(&traffic, &learn(&population(&traffic, false))));
        assert!(recall >= 0.98, "{untold}: {recall}");
    }
}

#[test]
fn a_member_alone_and_nobody_are_groups_too() {
    let mut traffic = traffic(1, 0.0, 0.0, false);
    let (recall, _) = recall_and_precision(&scores(&traffic, &learn(&population(&traffic, false))));
    assert!(recall >= 0.98, "{recall}");
    traffic.retain(|name, _| name.starts_with("person"));
    let nobody = learn(&population(&traffic, false));
    let (_, of) = traffic.iter().next().unwrap();
    assert!((0.0..=1.0).contains(&nobody.score("person-0", &of[0].0)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn order_changes_nothing_and_scores_are_probabilities(
        members in 0u64..12, strangers in 0.0f64..1.0, untold in 0.0f64..1.0, one in any::<bool>(),
    ) {
        let traffic = traffic(members, strangers, untold, one);
        let forth = scores(&traffic, &learn(&population(&traffic, false)));
        let back = scores(&traffic, &learn(&population(&traffic, true)));
        for (a, b) in forth.iter().zip(&back) {
            prop_assert!((0.0..=1.0).contains(&a.0), "{}", a.0);
            prop_assert_eq!(a.0.to_bits(), b.0.to_bits());
        }
    }
}

//! Rounds and duels against small crowds.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use stillwatch_duel::{
    Arena, DuelError, DuelSettings, Item, MOVES, MoveSet, PRICES, Prices, Round, STRATEGIES, run,
};
use stillwatch_simulate::{Prompts, WorldSettings};

const LEVEL: f64 = 0.05;

fn prompts() -> &'static Arc<Prompts> {
    static PROMPTS: OnceLock<Arc<Prompts>> = OnceLock::new();
    PROMPTS.get_or_init(|| Arc::new(Prompts::built_in()))
}

fn crowd() -> WorldSettings {
    WorldSettings { seed: 77, accounts: 2_000, exchanges: 80_000, ..WorldSettings::default() }
}

fn arena() -> &'static Arena {
    static ARENA: OnceLock<Arena> = OnceLock::new();
    ARENA.get_or_init(|| Arena::open(crowd(), Arc::clone(prompts())).unwrap())
}

fn round(names: &[&str], visit: u64) -> Round {
    arena().round(MoveSet::of(names), visit, LEVEL, &|| true).unwrap()
}

#[test]
fn a_naive_campaign_is_caught_and_dearer_than_undefended() {
    let prices = Prices::default();
    let naive = round(&[], 1);
    assert!(naive.caught > 0.9, "{naive:?}");
    assert!(naive.defended.usable < naive.undefended.usable, "{naive:?}");
    let (before, after) =
        (naive.undefended.thousand_usd(&prices), naive.defended.thousand_usd(&prices));
    assert!(after > before && before > 0.0, "{before} {after}");
    assert!(naive.days_to_detection.is_some_and(|days| (1.0..28.0).contains(&days)));
    assert!(naive.linked_by.contains("payment"), "{naive:?}");
    assert!(!naive.confirmed_by.is_empty());
}

#[test]
fn what_was_bought_is_on_the_bill() {
    let naive = round(&[], 1).undefended;
    assert_eq!(naive.used(Item::Account), 48.0);
    assert_eq!(naive.used(Item::Payment), 6.0);
    assert_eq!(naive.used(Item::Paraphrase), 0.0);
    assert_eq!(naive.used(Item::ResidentialAddressDay), 0.0);
    assert_eq!(naive.used(Item::CoverTokens), 0.0);
    assert_eq!(naive.used(Item::DelayDay), 0.0);
    assert!(naive.used(Item::DatacenterAddressDay) > 24.0);

    let moves = ["paraphrase", "fresh_payment", "own_lines", "cover_half", "wait_for_releases"];
    let careful = round(&moves, 1).undefended;
    assert_eq!(careful.used(Item::Payment), 48.0);
    assert!(careful.used(Item::Paraphrase) >= careful.usable as f64);
    assert_eq!(careful.used(Item::DatacenterAddressDay), 0.0);
    assert!(careful.used(Item::ResidentialAddressDay) > 48.0);
    assert!(careful.used(Item::CoverTokens) > 0.0);
    assert_eq!(careful.used(Item::DelayDay), 20.0 * 4.8);
}

#[test]
fn an_attacker_of_whom_nobody_is_caught_pays_the_same() {
    let all: Vec<&str> = MOVES.iter().map(|m| m.name).collect();
    let hidden = round(&all, 2);
    if hidden.caught == 0.0 {
        assert_eq!(hidden.defended, hidden.undefended);
    }
    assert!(hidden.caught < round(&[], 2).caught, "{hidden:?}");
}

#[test]
fn a_visit_changes_nothing_of_the_crowd_and_is_repeatable() {
    let one = round(&["popular_clients"], 3);
    assert_eq!(format!("{one:?}"), format!("{:?}", round(&["popular_clients"], 3)));
    assert_ne!(
        one.undefended.used(Item::HarvestTokens),
        round(&["popular_clients"], 4).undefended.used(Item::HarvestTokens),
        "another visit, another draw"
    );
}

#[test]
fn a_round_can_be_ended() {
    let ended = arena().round(MoveSet::default(), 1, LEVEL, &|| false);
    assert!(matches!(ended, Err(DuelError::Stopped)));
}

fn settings(duels: u64) -> DuelSettings {
    DuelSettings {
        duels,
        seed: 5,
        accounts: 800,
        exchanges: 20_000,
        days: 28,
        level: LEVEL,
        budget_usd: 2_000.0,
        prices: Prices::default(),
    }
}

#[test]
fn the_same_seed_gives_the_same_record_on_any_number_of_threads() {
    let with = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| run(&settings(STRATEGIES.len() as u64 + 2), prompts(), &|_| true).unwrap())
    };
    let record = with(1);
    assert_eq!(record, with(3));
    assert_eq!(record.duels, STRATEGIES.len() as u64 + 2);
    assert_eq!(record.strategies.len(), STRATEGIES.len());
    let duels: BTreeMap<&str, u64> =
        record.strategies.iter().map(|s| (s.name.as_str(), s.duels)).collect();
    assert_eq!((duels["stubborn"], duels["adaptive"]), (2, 1));
    assert_eq!(record.prices.len(), PRICES.len());
    for strategy in &record.strategies {
        let shares = [strategy.escaped, strategy.out_of_budget];
        assert!(shares.iter().all(|s| (0.0..=1.0).contains(s)), "{strategy:?}");
        // The naive round is every duel's first.
        assert!(strategy.rounds_mean >= 1.0 && strategy.spent_usd > 0.0);
    }
    for plan in &record.plans {
        if let (Some(before), Some(after)) = (plan.undefended_usd, plan.defended_usd) {
            // Closing accounts never makes a thousand cheaper by more than their idle days.
            assert!(after > 0.8 * before, "{plan:?}");
        }
    }
}

#[test]
fn duels_can_be_stopped() {
    let stopped = run(&settings(3), prompts(), &|_| false);
    assert!(matches!(stopped, Err(DuelError::Stopped)));
}

#[test]
fn a_budget_ends_a_duel() {
    let poor = DuelSettings { budget_usd: 0.0, ..settings(STRATEGIES.len() as u64) };
    let record = run(&poor, prompts(), &|_| true).unwrap();
    let rounds: f64 = record.strategies.iter().map(|s| s.rounds_mean).sum();
    assert_eq!(rounds, STRATEGIES.len() as f64, "one round each");
}

//! What the page of duels says, and that names stay text.

use stillwatch_exchange::Share;
use stillwatch_exchange::duel::{DuelRecord, MoveRecord, PlanRecord, PriceRecord, StrategyRecord};

fn share(name: &str, share: f64) -> Share {
    Share { name: name.to_owned(), share }
}

fn plan(moves: &[&str], caught: f64, undefended: f64, defended: Option<f64>) -> PlanRecord {
    PlanRecord {
        moves: moves.iter().map(|m| (*m).to_owned()).collect(),
        attackers: 4,
        escaped: 1.0 - caught,
        caught,
        undefended_usd: Some(undefended),
        defended_usd: defended,
        spent_on: vec![share("account", 0.25), share("payment_instrument", 0.75)],
        ..PlanRecord::default()
    }
}

fn record() -> DuelRecord {
    let naive = plan(&[], 1.0, 40.0, Some(50.0));
    let hidden = plan(&["cover", "pay"], 0.0, 80.0, Some(80.0));
    DuelRecord {
        duels: 8,
        rounds: 12,
        crowds: 1,
        days: 28,
        prices: vec![PriceRecord {
            name: "account".to_owned(),
            usd: 0.26,
            unit: "an account".to_owned(),
        }],
        moves: vec![MoveRecord { name: "cover".to_owned(), meaning: "chats".to_owned() }],
        strategies: vec![StrategyRecord {
            name: "</script><b>bold".to_owned(),
            meaning: "changes <i>nothing".to_owned(),
            duels: 8,
            before_usd: Some(40.0),
            last_undefended_usd: Some(80.0),
            caught_by_round: vec![1.0, 0.5, 0.0],
            linked_by: vec![share("payment", 1.0)],
            confirmed_by: vec![share("balance", 0.5)],
            ..StrategyRecord::default()
        }],
        plans: vec![naive.clone(), hidden.clone(), plan(&["none"], 1.0, 9.0, None)],
        naive,
        cheapest_evasion: Some(hidden),
        ..DuelRecord::default()
    }
}

#[test]
fn the_page_says_what_evasion_costs() {
    let html = stillwatch_report::render_duels(&record()).unwrap();
    let plain = html.replace('\u{a0}', " ");
    for words in [
        "The cheapest way past the hunt costs 2 times the naive price",
        "8 duels against 1 crowd, 12 rounds in all",
        "$40.00",
        "cover, pay",
        "payment instrument 75 %",
        "id=\"duel-costs\"",
        "id=\"duel-rounds\"",
        "id=\"duel-plans\"",
    ] {
        assert!(plain.contains(words), "`{words}` is not on the page");
    }
    assert_eq!(html, stillwatch_report::render_duels(&record()).unwrap());
}

#[test]
fn names_stay_text() {
    let html = stillwatch_report::render_duels(&record()).unwrap();
    assert!(!html.contains("<b>bold") && !html.contains("<i>nothing"));
    // The chart library, the page's script, and data for three charts.
    assert_eq!(html.matches("<script").count() - html.matches("\"<script").count(), 5);
}

#[test]
fn a_record_of_nothing_has_a_page() {
    let html = stillwatch_report::render_duels(&DuelRecord::default()).unwrap();
    assert!(html.contains("No plan got past the hunt"));
    assert!(!html.contains("id=\"duel-costs\""));
}

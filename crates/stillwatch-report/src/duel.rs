//! The page of the duels: what a thousand exchanges cost an attacker, and what remains to
//! be seen of him.

use std::collections::BTreeSet;

use askama::Template;
use stillwatch_exchange::Share;
use stillwatch_exchange::duel::{DuelRecord, PlanRecord, StrategyRecord};

use crate::ReportError;
use crate::embed;
use crate::figures::duel as figures;
use crate::page::{Chart, Fact, fact, policy};
use crate::wording;

/// Plans that are listed.
const PLANS_MAX: usize = 25;

/// Writes the page.
pub(crate) fn render(record: &DuelRecord) -> Result<String, ReportError> {
    let library = embed::chart_library()?;
    let script = embed::page_script();
    let chart = |id: &str, figure: Option<_>, alternative: String| {
        figure.map(|figure| Chart::of(id.to_owned(), &figure, alternative)).transpose()
    };
    let page = Page {
        policy: policy(library, script),
        style: include_str!("../templates/report.css"),
        library: &library.text,
        script: &script.text,
        verdict: verdict(record),
        lead: lead(record),
        facts: facts(record),
        costs: chart("duel-costs", figures::costs(record), costs_in_words(record))?,
        rounds: chart(
            "duel-rounds",
            figures::rounds(record),
            "Share of accounts caught, round by round, for each strategy.".to_owned(),
        )?,
        plans: chart(
            "duel-plans",
            figures::plans(record),
            "Each set of moves by what a thousand exchanges cost with it and how much of it was caught."
                .to_owned(),
        )?,
        strategies: record.strategies.iter().map(StrategyView::of).collect(),
        plan_rows: record.plans.iter().take(PLANS_MAX).map(PlanView::of).collect(),
        plans_left_out: record.plans.len().saturating_sub(PLANS_MAX),
        linked: Grid::of(&record.strategies, |s| &s.linked_by),
        confirmed: Grid::of(&record.strategies, |s| &s.confirmed_by),
        record,
    };
    Ok(page.render()?)
}

#[derive(Template)]
#[template(path = "duel.html")]
struct Page<'a> {
    policy: String,
    style: &'a str,
    library: &'a str,
    script: &'a str,
    verdict: String,
    lead: String,
    facts: Vec<Fact>,
    costs: Option<Chart>,
    rounds: Option<Chart>,
    plans: Option<Chart>,
    strategies: Vec<StrategyView>,
    plan_rows: Vec<PlanView>,
    plans_left_out: usize,
    linked: Grid,
    confirmed: Grid,
    record: &'a DuelRecord,
}

fn usd(value: Option<f64>) -> String {
    value.and_then(wording::dollars).unwrap_or_else(|| "–".to_owned())
}

fn named(plan: &PlanRecord) -> String {
    if plan.moves.is_empty() { "no moves".to_owned() } else { plan.moves.join(", ") }
}

/// How many times dearer something became.
fn times(after: Option<f64>, before: Option<f64>) -> Option<f64> {
    Some(after? / before.filter(|b| *b > 0.0)?)
}

fn verdict(record: &DuelRecord) -> String {
    let before = record.naive.undefended_usd;
    match &record.cheapest_evasion {
        None => "No plan got past the hunt".to_owned(),
        Some(plan) => match times(plan.defended_usd, before) {
            Some(times) if times <= 1.0 => {
                "The cheapest way past the hunt costs no more than the naive plan".to_owned()
            }
            Some(times) => format!(
                "The cheapest way past the hunt costs {} times the naive price",
                wording::significant(times)
            ),
            None => format!("The cheapest way past the hunt costs {}", usd(plan.defended_usd)),
        },
    }
}

fn lead(record: &DuelRecord) -> String {
    format!(
        "{} against {}, {} in all. A naive attacker pays {} for a thousand usable exchanges where nobody defends and {} under defence, where {} of its accounts are caught.",
        wording::counted(record.duels, "duel", "duels"),
        wording::counted(record.crowds, "crowd", "crowds"),
        wording::counted(record.rounds, "round", "rounds"),
        usd(record.naive.undefended_usd),
        usd(record.naive.defended_usd),
        wording::percent(record.naive.caught),
    )
}

fn facts(record: &DuelRecord) -> Vec<Fact> {
    let evasion = record.cheapest_evasion.as_ref();
    let cheapest = record.cheapest.as_ref();
    vec![
        fact("a thousand, undefended", usd(record.naive.undefended_usd), "naive"),
        fact("a thousand, defended", usd(record.naive.defended_usd), "naive"),
        fact(
            "cheapest evasion",
            usd(evasion.and_then(|p| p.defended_usd)),
            evasion.map_or_else(|| "none was found".to_owned(), named),
        ),
        fact(
            "cheapest thousand, caught or not",
            usd(cheapest.and_then(|p| p.defended_usd)),
            cheapest.map(named).unwrap_or_default(),
        ),
        fact(
            "days to detection",
            record.naive.days_to_detection.map_or_else(|| "–".to_owned(), wording::significant),
            "naive, median",
        ),
        fact(
            "innocent groups reported",
            wording::count(record.innocent_findings),
            format!("in {}", wording::counted(record.rounds, "hunt", "hunts")),
        ),
    ]
}

fn costs_in_words(record: &DuelRecord) -> String {
    let each = record.strategies.iter().map(|s| {
        format!("{} {} and {}", s.name, usd(s.last_undefended_usd), usd(s.last_defended_usd))
    });
    let each: Vec<String> = each.collect();
    format!(
        "What a thousand usable exchanges cost with each strategy's last plan, undefended and defended: {}.",
        each.join("; ")
    )
}

struct StrategyView {
    name: String,
    meaning: String,
    escaped: String,
    rounds: String,
    spent: String,
    before: String,
    undefended: String,
    defended: String,
    overall: String,
}

impl StrategyView {
    fn of(strategy: &StrategyRecord) -> Self {
        StrategyView {
            name: strategy.name.clone(),
            meaning: strategy.meaning.clone(),
            escaped: wording::percent(strategy.escaped),
            rounds: wording::significant(strategy.rounds_mean),
            spent: usd(Some(strategy.spent_usd)),
            before: usd(strategy.before_usd),
            undefended: usd(strategy.last_undefended_usd),
            defended: usd(strategy.last_defended_usd),
            overall: usd(strategy.overall_usd),
        }
    }
}

struct PlanView {
    moves: String,
    attackers: u64,
    escaped: String,
    caught: String,
    undefended: String,
    defended: String,
    dearest: String,
}

impl PlanView {
    fn of(plan: &PlanRecord) -> Self {
        let dearest = plan.spent_on.iter().max_by(|a, b| a.share.total_cmp(&b.share));
        PlanView {
            moves: named(plan),
            attackers: plan.attackers,
            escaped: wording::percent(plan.escaped),
            caught: wording::percent(plan.caught),
            undefended: usd(plan.undefended_usd),
            defended: usd(plan.defended_usd),
            dearest: dearest.map_or_else(String::new, |s| {
                format!("{} {}", s.name.replace('_', " "), wording::percent(s.share))
            }),
        }
    }
}

/// Strategies by channels, as shares of duels.
struct Grid {
    channels: Vec<String>,
    rows: Vec<(String, Vec<String>)>,
}

impl Grid {
    fn of(strategies: &[StrategyRecord], of: fn(&StrategyRecord) -> &Vec<Share>) -> Self {
        let channels: BTreeSet<&str> =
            strategies.iter().flat_map(of).map(|s| s.name.as_str()).collect();
        let rows = strategies
            .iter()
            .map(|strategy| {
                let cells = channels.iter().map(|channel| {
                    let share = of(strategy).iter().find(|s| s.name == *channel);
                    share.map_or_else(|| "–".to_owned(), |s| wording::percent(s.share))
                });
                (strategy.name.clone(), cells.collect())
            })
            .collect();
        Grid { channels: channels.into_iter().map(str::to_owned).collect(), rows }
    }
}

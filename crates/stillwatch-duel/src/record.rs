//! What came of all duels, added up.

use std::collections::{BTreeMap, BTreeSet};

use stillwatch_exchange::Share;
use stillwatch_exchange::duel::{DuelRecord, MoveRecord, PlanRecord, PriceRecord, StrategyRecord};

use crate::arena::Round;
use crate::attacker::{Duel, ESCAPED_BELOW, STRATEGIES};
use crate::moves::{MOVES, MoveSet};
use crate::prices::{ITEMS, PRICES, Prices};
use crate::run::{Attacker, CrowdSize, DuelSettings};

/// Plans that are listed, the cheapest.
const PLANS_MAX: usize = 60;
/// A plan counts as an evasion when at least this share of its attackers escaped…
const EVADES: f64 = 0.5;
/// …and it was played by this many, or by all where there were fewer.
const ATTACKERS_MIN: usize = 5;

/// The record of all duels.
pub(crate) fn record(settings: &DuelSettings, fought: &[(CrowdSize, Vec<Attacker>)]) -> DuelRecord {
    let prices = &settings.prices;
    let attackers: Vec<&Attacker> = fought.iter().flat_map(|(_, a)| a).collect();
    let mut by_plan: BTreeMap<MoveSet, Vec<&Round>> = BTreeMap::new();
    for (moves, round) in attackers.iter().flat_map(|a| &a.rounds) {
        by_plan.entry(*moves).or_default().push(round);
    }
    let least = ATTACKERS_MIN.min(attackers.len());
    let mut plans: Vec<PlanRecord> = by_plan
        .iter()
        .filter(|(_, rounds)| rounds.len() >= least)
        .map(|(moves, rounds)| plan(*moves, rounds, prices))
        .collect();
    let cost = |plan: &PlanRecord| plan.defended_usd.unwrap_or(f64::INFINITY);
    plans.sort_by(|a, b| cost(a).total_cmp(&cost(b)).then_with(|| a.moves.cmp(&b.moves)));
    let cheapest = plans.first().filter(|p| p.defended_usd.is_some()).cloned();
    let cheapest_evasion =
        plans.iter().find(|p| p.escaped >= EVADES && p.defended_usd.is_some()).cloned();
    plans.truncate(PLANS_MAX);

    let naive = by_plan.get(&MoveSet::default()).map_or(&[][..], Vec::as_slice);
    let crowds = fought.len().max(1) as u64;
    DuelRecord {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        seed: settings.seed,
        duels: attackers.iter().map(|a| a.duels.len() as u64).sum(),
        rounds: by_plan.values().map(|rounds| rounds.len() as u64).sum(),
        crowds: fought.len() as u64,
        crowd_accounts: fought.iter().map(|(size, _)| size.accounts).sum::<u64>() / crowds,
        crowd_exchanges: fought.iter().map(|(size, _)| size.exchanges).sum::<u64>() / crowds,
        days: settings.days,
        level: settings.level,
        budget_usd: settings.budget_usd,
        escaped_below: ESCAPED_BELOW,
        innocent_findings: by_plan.values().flatten().map(|r| r.innocent_findings).sum(),
        prices: PRICES
            .iter()
            .map(|p| PriceRecord {
                name: p.name.to_owned(),
                usd: prices.of(p.item),
                unit: p.unit.to_owned(),
            })
            .collect(),
        naive: plan(MoveSet::default(), naive, prices),
        moves: MOVES
            .iter()
            .map(|m| MoveRecord { name: m.name.to_owned(), meaning: m.meaning.to_owned() })
            .collect(),
        strategies: (0..STRATEGIES.len())
            .filter_map(|index| strategy(index, &attackers, prices))
            .collect(),
        plans,
        cheapest_evasion,
        cheapest,
    }
}

/// The middle value; `None` where there is none or it is not finite.
fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let upper = *values.get(values.len() / 2)?;
    let lower = values[(values.len() - 1) / 2];
    let middle = f64::midpoint(lower, upper);
    middle.is_finite().then_some(middle)
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0.0), |(sum, count), value| (sum + value, count + 1.0));
    if count > 0.0 { sum / count } else { 0.0 }
}

/// In which share of the rounds each name comes up, the most frequent first.
fn shares<'a>(of: impl Iterator<Item = &'a BTreeSet<&'static str>>) -> Vec<Share> {
    let (mut counts, mut all) = (BTreeMap::<&str, f64>::new(), 0.0);
    for names in of {
        all += 1.0;
        for name in names {
            *counts.entry(name).or_default() += 1.0;
        }
    }
    let mut shares: Vec<Share> = counts
        .into_iter()
        .map(|(name, count)| Share { name: name.to_owned(), share: count / all })
        .collect();
    shares.sort_by(|a, b| b.share.total_cmp(&a.share).then_with(|| a.name.cmp(&b.name)));
    shares
}

fn plan(moves: MoveSet, rounds: &[&Round], prices: &Prices) -> PlanRecord {
    let rounds = || rounds.iter().copied();
    let mut spent = [0.0; ITEMS];
    for round in rounds() {
        for (sum, usd) in spent.iter_mut().zip(round.defended.costs_usd(prices)) {
            *sum += usd;
        }
    }
    let all: f64 = spent.iter().sum();
    PlanRecord {
        moves: moves.names(),
        attackers: rounds().count() as u64,
        escaped: mean(rounds().map(|r| f64::from(u8::from(r.caught <= ESCAPED_BELOW)))),
        caught: mean(rounds().map(|r| r.caught)),
        lost: mean(rounds().map(|r| {
            let wanted = r.undefended.usable.max(1) as f64;
            1.0 - r.defended.usable as f64 / wanted
        })),
        undefended_usd: median(rounds().map(|r| r.undefended.thousand_usd(prices))),
        defended_usd: median(rounds().map(|r| r.defended.thousand_usd(prices))),
        spent_on: PRICES
            .iter()
            .filter(|_| all > 0.0)
            .map(|p| Share { name: p.name.to_owned(), share: spent[p.item as usize] / all })
            .collect(),
        days_to_detection: median(rounds().filter_map(|r| r.days_to_detection)),
        linked_by: shares(rounds().map(|r| &r.linked_by)),
        confirmed_by: shares(rounds().map(|r| &r.confirmed_by)),
    }
}

fn strategy(index: usize, attackers: &[&Attacker], prices: &Prices) -> Option<StrategyRecord> {
    let duels: Vec<(&Attacker, &Duel)> =
        attackers.iter().filter_map(|a| Some((*a, a.duels.get(index)?))).collect();
    if duels.is_empty() {
        return None;
    }
    let each = || duels.iter().copied();
    let share = |is: fn(&Duel) -> bool| mean(each().map(|(_, d)| f64::from(u8::from(is(d)))));
    let last = || each().filter_map(|(a, d)| a.rounds.get(&d.last));
    let rounds_most = each().map(|(_, d)| d.plans.len()).max().unwrap_or_default();
    let caught_at = |attacker: &Attacker, duel: &Duel, round: usize| {
        let plan = duel.plans.get(round).unwrap_or(&duel.last);
        attacker.rounds.get(plan).map_or(0.0, |r| r.caught)
    };
    let naive = MoveSet::default();
    let before = each().filter_map(|(a, _)| a.rounds.get(&naive));
    Some(StrategyRecord {
        name: STRATEGIES[index].name.to_owned(),
        meaning: STRATEGIES[index].meaning.to_owned(),
        duels: duels.len() as u64,
        escaped: share(|d| d.escaped),
        out_of_budget: share(|d| d.out_of_budget),
        rounds_mean: mean(each().map(|(_, d)| d.plans.len() as f64)),
        spent_usd: median(each().map(|(_, d)| d.spent_usd)).unwrap_or_default(),
        before_usd: median(before.map(|r| r.undefended.thousand_usd(prices))),
        last_undefended_usd: median(last().map(|r| r.undefended.thousand_usd(prices))),
        last_defended_usd: median(last().map(|r| r.defended.thousand_usd(prices))),
        overall_usd: median(each().map(|(_, d)| d.overall_usd())),
        caught_by_round: (0..rounds_most)
            .map(|round| mean(each().map(|(a, d)| caught_at(a, d, round))))
            .collect(),
        linked_by: shares(last().map(|r| &r.linked_by)),
        confirmed_by: shares(last().map(|r| &r.confirmed_by)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn middles_and_means() {
        assert_eq!(median([3.0, 1.0, 2.0].into_iter()), Some(2.0));
        assert_eq!(median([1.0, 2.0].into_iter()), Some(1.5));
        assert_eq!(median(std::iter::empty()), None);
        assert_eq!(median([1.0, f64::INFINITY, f64::INFINITY].into_iter()), None);
        assert_eq!(mean([1.0, 3.0].into_iter()), 2.0);
        assert_eq!(mean(std::iter::empty()), 0.0);
    }

    #[test]
    fn shares_are_of_all_rounds() {
        let rounds = [BTreeSet::from(["a", "b"]), BTreeSet::from(["b"]), BTreeSet::new()];
        let told: Vec<(String, f64)> =
            shares(rounds.iter()).into_iter().map(|s| (s.name, s.share)).collect();
        assert_eq!(told, [("b".to_owned(), 2.0 / 3.0), ("a".to_owned(), 1.0 / 3.0)]);
    }
}

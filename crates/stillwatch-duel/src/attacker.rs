//! Attackers: strategies as fixed sequences of moves, and one that tries and keeps.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::arena::Round;
use crate::ledger::{Ledger, thousand_usd};
use crate::moves::{EXCHANGES, Hides, MOVES, MoveSet};
use crate::prices::{Item, Prices};

/// An attacker has escaped when at most this share of its accounts was caught.
pub(crate) const ESCAPED_BELOW: f64 = 0.1;
/// Rounds of one duel at most; beyond it an attacker stays with what it has.
pub(crate) const ROUNDS_MAX: usize = 24;
/// A move is kept when no larger share of accounts is caught with it than this more.
const NO_WORSE: f64 = 0.02;

/// What an attacker does after it was caught.
#[derive(Debug)]
pub struct Strategy {
    pub name: &'static str,
    pub meaning: &'static str,
    /// Moves added one after the other; `None` for who tries and keeps.
    pub(crate) sequence: Option<&'static [&'static str]>,
}

/// All strategies.
pub const STRATEGIES: &[Strategy] = &[
    Strategy { name: "stubborn", meaning: "changes nothing", sequence: Some(&[]) },
    Strategy { name: "clients", meaning: "popular programs", sequence: Some(&["popular_clients"]) },
    Strategy {
        name: "payments",
        meaning: "fresh payment and free mail",
        sequence: Some(&["fresh_payment"]),
    },
    Strategy {
        name: "paraphrase",
        meaning: "rewords templates, then tasks",
        sequence: Some(&["reword_templates", "paraphrase"]),
    },
    Strategy {
        name: "addresses",
        meaning: "residential pool, then a line for each account",
        sequence: Some(&["residential", "own_lines"]),
    },
    Strategy {
        name: "jitter",
        meaning: "uneven volumes, then human hours",
        sequence: Some(&["uneven_volumes", "human_hours"]),
    },
    Strategy {
        name: "more_accounts",
        meaning: "three times the accounts",
        sequence: Some(&["more_accounts"]),
    },
    Strategy { name: "follow_ups", meaning: "further turns", sequence: Some(&["follow_ups"]) },
    Strategy {
        name: "cover",
        meaning: "half cover traffic, then four fifths",
        sequence: Some(&["cover_half", "cover_most"]),
    },
    Strategy {
        name: "patience",
        meaning: "waits after releases, then ages accounts",
        sequence: Some(&["wait_for_releases", "aged_accounts"]),
    },
    Strategy {
        name: "share_nothing",
        meaning: "hides what accounts have in common, cheapest first",
        sequence: Some(&[
            "popular_clients",
            "paraphrase",
            "fresh_payment",
            "aged_accounts",
            "own_lines",
        ]),
    },
    Strategy {
        name: "act_human",
        meaning: "hides what accounts do, cheapest first",
        sequence: Some(&[
            "uneven_volumes",
            "human_hours",
            "wait_for_releases",
            "follow_ups",
            "cover_half",
        ]),
    },
    Strategy {
        name: "everything",
        meaning: "all of it, one after the other",
        sequence: Some(&[
            "popular_clients",
            "uneven_volumes",
            "paraphrase",
            "human_hours",
            "fresh_payment",
            "wait_for_releases",
            "own_lines",
            "follow_ups",
            "aged_accounts",
            "cover_half",
            "more_accounts",
            "cover_most",
        ]),
    },
    Strategy {
        name: "adaptive",
        meaning: "tries what promises most for a dollar, keeps what helps, and once it has escaped drops what it does not need",
        sequence: None,
    },
];

/// One duel, round after round.
#[derive(Clone, Debug)]
pub(crate) struct Duel {
    /// Each round's moves.
    pub plans: Vec<MoveSet>,
    /// Where the duel ended: with the cheapest plan that escaped, else with the last.
    pub last: MoveSet,
    pub escaped: bool,
    pub out_of_budget: bool,
    pub spent_usd: f64,
    pub usable: u64,
}

impl Duel {
    /// What a thousand usable exchanges of all rounds cost.
    pub(crate) fn overall_usd(&self) -> f64 {
        thousand_usd(self.spent_usd, self.usable)
    }
}

/// What a plan will cost where nobody is caught, as its attacker reckons beforehand.
pub(crate) fn quote_usd(moves: MoveSet, days: u32, tokens: f64, prices: &Prices) -> f64 {
    let knobs = moves.knobs(days);
    let knob = |name: &str| knobs.get(name).and_then(serde_json::Value::as_f64).unwrap_or_default();
    let (accounts, exchanges) = (knob("accounts").max(1.0), EXCHANGES as f64);
    let mut ledger = Ledger::default();
    ledger.use_up(Item::Account, accounts);
    ledger.use_up(Item::Payment, (accounts / knob("accounts_per_payment").max(1.0)).ceil());
    let days = f64::from(days);
    match knobs.get("access").and_then(serde_json::Value::as_str) {
        Some("homes") => ledger.use_up(Item::ResidentialAddressDay, accounts * days),
        Some("residential") => {
            ledger.use_up(Item::ResidentialAddressDay, accounts.min(knob("addresses")) * days);
        }
        _ => ledger.use_up(Item::DatacenterAddressDay, accounts.min(knob("addresses")) * days),
    }
    ledger.use_up(Item::HarvestTokens, exchanges * tokens / 1_000.0);
    let mixed = knob("mix_share").min(0.99);
    let cover = exchanges * (mixed / (1.0 - mixed) + 1.6 * knob("follow_up_share"));
    ledger.use_up(Item::CoverTokens, cover * tokens / 1_000.0);
    if knob("task_rewording") > 0.0 {
        ledger.use_up(Item::Paraphrase, exchanges);
    }
    ledger.use_up(Item::DelayDay, moves.delay_days() * exchanges / 1_000.0);
    ledger.cost_usd(prices)
}

/// What an attacker knows and may spend.
pub(crate) struct Means<'a> {
    pub prices: &'a Prices,
    pub budget_usd: f64,
    pub days: u32,
    /// Names what is left to chance.
    pub seed: u64,
}

/// Fights one duel; `play` plays a round with these moves.
pub(crate) fn fight<E>(
    strategy: &Strategy,
    means: &Means<'_>,
    play: &mut dyn FnMut(MoveSet) -> Result<Round, E>,
) -> Result<Duel, E> {
    let mut fighter = Fighter {
        means,
        play,
        duel: Duel {
            plans: Vec::new(),
            last: MoveSet::default(),
            escaped: false,
            out_of_budget: false,
            spent_usd: 0.0,
            usable: 0,
        },
        tokens: 0.0,
    };
    match strategy.sequence {
        Some(sequence) => fighter.in_sequence(sequence)?,
        None => fighter.adapting()?,
    }
    Ok(fighter.duel)
}

struct Fighter<'a, E> {
    means: &'a Means<'a>,
    play: &'a mut dyn FnMut(MoveSet) -> Result<Round, E>,
    duel: Duel,
    /// Tokens of an exchange, as the first round showed.
    tokens: f64,
}

impl<E> Fighter<'_, E> {
    /// Plays a round; gives the share of accounts that were caught.
    fn round(&mut self, moves: MoveSet) -> Result<f64, E> {
        let round = (self.play)(moves)?;
        let duel = &mut self.duel;
        duel.spent_usd += round.defended.cost_usd(self.means.prices);
        duel.usable += round.defended.usable;
        duel.plans.push(moves);
        if duel.plans.len() == 1 {
            let tokens = round.undefended.used(Item::HarvestTokens) * 1_000.0;
            self.tokens = tokens / round.undefended.usable.max(1) as f64;
        }
        Ok(round.caught)
    }

    fn quote(&self, moves: MoveSet) -> f64 {
        quote_usd(moves, self.means.days, self.tokens, self.means.prices)
    }

    fn can_afford(&self, moves: MoveSet) -> bool {
        self.duel.spent_usd + self.quote(moves) <= self.means.budget_usd
            && self.duel.plans.len() < ROUNDS_MAX
    }

    fn in_sequence(&mut self, sequence: &[&str]) -> Result<(), E> {
        let mut names = sequence.iter();
        let mut moves = MoveSet::default();
        loop {
            let caught = self.round(moves)?;
            self.duel.last = moves;
            self.duel.escaped = caught <= ESCAPED_BELOW;
            if self.duel.escaped {
                return Ok(());
            }
            let Some(name) = names.next() else { return Ok(()) };
            moves = MoveSet(moves.0 | MoveSet::of(&[name]).0);
            if !self.can_afford(moves) {
                self.duel.out_of_budget = true;
                return Ok(());
            }
        }
    }

    /// Tries the move that promises most for what it adds to the price, and keeps it
    /// unless more accounts were caught with it. What a kind of move promises is how much
    /// such moves have helped so far, and one more help that was not seen yet.
    fn adapting(&mut self) -> Result<(), E> {
        let mut rng = ChaCha8Rng::seed_from_u64(self.means.seed);
        let mut moves = MoveSet::default();
        let mut caught = self.round(moves)?;
        let mut tried = MoveSet::default();
        let mut helped = [(0.0, 0.0); 2];
        while caught > ESCAPED_BELOW {
            let now = self.quote(moves);
            let mut best: Option<(f64, usize)> = None;
            let mut is_any_left = false;
            for (index, m) in MOVES.iter().enumerate().filter(|(i, _)| !tried.has(*i)) {
                is_any_left = true;
                let next = moves.with(index);
                // Chance decides between what is nearly the same to whoever can't know.
                let whim: f64 = rng.random_range(0.5..1.5);
                if !self.can_afford(next) {
                    continue;
                }
                let (help, tries) = helped[usize::from(m.hides == Hides::Acts)];
                let promise = (1.0 + help) / (1.0 + tries);
                let dollars = (self.quote(next) - now).max(0.0) + 0.05 * now;
                let worth = whim * promise / dollars;
                if best.is_none_or(|(most, _)| worth > most) {
                    best = Some((worth, index));
                }
            }
            let Some((_, index)) = best else {
                self.duel.out_of_budget = is_any_left;
                break;
            };
            tried = tried.with(index);
            let next = moves.with(index);
            let now_caught = self.round(next)?;
            let kind = &mut helped[usize::from(MOVES[index].hides == Hides::Acts)];
            *kind = (kind.0 + (caught - now_caught).max(0.0), kind.1 + 1.0);
            if now_caught <= caught + NO_WORSE {
                (moves, caught) = (next, now_caught);
            }
        }
        self.duel.escaped = caught <= ESCAPED_BELOW;
        if self.duel.escaped {
            moves = self.slimmed(moves)?;
        }
        self.duel.last = moves;
        Ok(())
    }

    /// Drops moves as long as that does not get it caught, those first that save most.
    fn slimmed(&mut self, mut moves: MoveSet) -> Result<MoveSet, E> {
        let now = self.quote(moves);
        let mut order: Vec<(f64, usize)> =
            moves.moves().map(|(i, _)| (now - self.quote(moves.without(i)), i)).collect();
        order.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        for (saving, index) in order {
            let less = moves.without(index);
            if saving > 0.0 && self.can_afford(less) && self.round(less)? <= ESCAPED_BELOW {
                moves = less;
            }
        }
        Ok(moves)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::convert::Infallible;

    use super::*;

    /// A round in which so much is caught.
    fn round(caught: f64) -> Round {
        let mut ledger = Ledger { usable: 1_000, ..Ledger::default() };
        ledger.use_up(Item::Account, 48.0);
        ledger.use_up(Item::HarvestTokens, 1_000.0);
        Round {
            caught,
            undefended: ledger.clone(),
            defended: ledger,
            days_to_detection: None,
            linked_by: BTreeSet::new(),
            confirmed_by: BTreeSet::new(),
            innocent_findings: 0,
        }
    }

    fn duel(name: &str, budget_usd: f64, caught: impl Fn(MoveSet) -> f64) -> Duel {
        let strategy = STRATEGIES.iter().find(|s| s.name == name).unwrap();
        let prices = Prices::default();
        let means = Means { prices: &prices, budget_usd, days: 28, seed: 1 };
        let mut play = |moves| Ok::<_, Infallible>(round(caught(moves)));
        match fight(strategy, &means, &mut play) {
            Ok(duel) => duel,
            Err(never) => match never {},
        }
    }

    #[test]
    fn sequences_name_moves() {
        for strategy in STRATEGIES {
            for name in strategy.sequence.unwrap_or_default() {
                assert!(MOVES.iter().any(|m| m.name == *name), "{name}");
            }
        }
    }

    #[test]
    fn a_sequence_ends_with_the_escape() {
        let half = MoveSet::of(&["cover_half"]);
        let escaping = duel("cover", 1e6, |m| if m == half { 0.0 } else { 1.0 });
        assert_eq!(escaping.plans, [MoveSet::default(), half]);
        assert!(escaping.escaped && escaping.last == half);
        let caught = duel("cover", 1e6, |_| 1.0);
        assert_eq!(caught.plans.len(), 3);
        assert!(!caught.escaped && !caught.out_of_budget);
        assert!(duel("cover", 10.0, |_| 1.0).out_of_budget);
    }

    #[test]
    fn who_adapts_finds_what_is_needed_and_drops_the_rest() {
        let needed = MoveSet::of(&["paraphrase", "human_hours"]);
        let caught = |m: MoveSet| 1.0 - 0.5 * f64::from((m.0 & needed.0).count_ones());
        let found = duel("adaptive", 1e6, caught);
        assert!(found.escaped);
        assert_eq!(found.last.0 & needed.0, needed.0);
        let quote = |m| quote_usd(m, 28, 1_000.0, &Prices::default());
        // What it still has beyond that saves nothing.
        for (index, _) in found.last.moves().filter(|(i, _)| !needed.has(*i)) {
            assert!(quote(found.last.without(index)) >= quote(found.last));
        }
    }

    #[test]
    fn a_move_that_makes_it_worse_is_undone() {
        let bad = MoveSet::of(&["popular_clients"]);
        let found = duel("adaptive", 1e6, |m| if m.0 & bad.0 == 0 { 0.5 } else { 0.9 });
        assert!(!found.escaped);
        assert_eq!(found.last.0 & bad.0, 0);
        assert!(found.plans.len() <= ROUNDS_MAX);
    }

    #[test]
    fn quotes_add_up() {
        let prices = Prices::parse(
            "account = 1\npayment_instrument = 10\ndatacenter_address_day = 0\nresidential_address_day = 0.5\nharvest_thousand_tokens = 0.01\ncover_thousand_tokens = 0.01\nparaphrased_prompt = 0.001\ndelay_day = 0.1",
        )
        .unwrap();
        let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-9, "{a} {b}");
        // 48 accounts, 6 instruments, 4,800 exchanges of 1,000 tokens.
        near(quote_usd(MoveSet::default(), 28, 1_000.0, &prices), 48.0 + 60.0 + 48.0);
        let more = MoveSet::of(&["own_lines", "paraphrase", "cover_half", "wait_for_releases"]);
        let extra = 48.0 * 28.0 * 0.5 + 4.8 + 48.0 + 20.0 * 4.8 * 0.1;
        near(quote_usd(more, 28, 1_000.0, &prices), 156.0 + extra);
    }
}

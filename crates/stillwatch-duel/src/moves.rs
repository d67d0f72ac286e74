//! What an attacker can change, as knobs of a simulated campaign.

use serde_json::{Map, Value, json};

/// The kind of campaign that the knobs are set of; everything below is fixed, so that it
/// only decides what is still drawn: topics, parameters, pace.
pub const CAMPAIGN: &str = "load_balanced";

/// Accounts of the naive attacker.
const ACCOUNTS: u64 = 48;
/// Exchanges that it wants, whatever its moves.
pub(crate) const EXCHANGES: u64 = 4_800;

/// Whether a move hides what accounts have in common, or what they do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hides {
    Links,
    Acts,
}

#[derive(Clone, Copy, Debug)]
enum Knob {
    Count(u64),
    Real(f64),
    Flag(bool),
    Text(&'static str),
    Null,
    /// A multiple of the naive number of accounts.
    Accounts(f64),
}

/// One thing that an attacker can change.
#[derive(Debug)]
pub struct Move {
    pub name: &'static str,
    pub meaning: &'static str,
    /// Days that the harvest comes later for it.
    pub delay_days: f64,
    pub(crate) hides: Hides,
    knobs: &'static [(&'static str, Knob)],
}

use Knob::{Accounts, Count, Flag, Null, Real, Text};

/// The plan that every attacker begins with.
const NAIVE: &[(&str, Knob)] = &[
    ("accounts", Accounts(1.0)),
    ("exchanges", Count(EXCHANGES)),
    ("start_day", Count(1)),
    ("volume_sigma", Real(0.05)),
    ("day_noise", Real(0.1)),
    ("hours", Text("flat")),
    ("mix_share", Real(0.0)),
    ("hop_share", Real(0.0)),
    ("accounts_per_payment", Count(8)),
    ("accounts_per_organization", Count(0)),
    ("email_domains", Count(2)),
    ("signup_days", Real(5.0)),
    ("access", Text("cloud")),
    ("rotation", Text("day")),
    ("addresses", Accounts(0.5)),
    ("countries", Count(2)),
    ("rare_clients", Count(1)),
    ("shared_parameters", Flag(true)),
    ("system_prompts", Count(1)),
    ("templates", Count(3)),
    ("rewording", Real(0.0)),
    ("task_rewording", Real(0.0)),
    ("pool", Text("divided")),
    ("follow_up_share", Real(0.0)),
    ("conversation_ids", Flag(false)),
    // Whatever the moves, an answer is as long as any other.
    ("reasoning", Null),
    ("max_tokens", Count(16_000)),
    ("pivot_share", Real(0.5)),
    ("pivot_hours", Real(12.0)),
    ("routes", Count(1)),
    ("bans_per_seat", Real(0.0)),
];

/// Everything that an attacker can change; where two moves set one knob, the later counts.
pub const MOVES: &[Move] = &[
    Move {
        name: "popular_clients",
        meaning: "popular programs with parameters of each account's own, instead of one build",
        delay_days: 0.0,
        hides: Hides::Links,
        knobs: &[("rare_clients", Count(0)), ("shared_parameters", Flag(false))],
    },
    Move {
        name: "fresh_payment",
        meaning: "a payment instrument for each account, and free mail",
        delay_days: 0.0,
        hides: Hides::Links,
        knobs: &[("accounts_per_payment", Count(1)), ("email_domains", Count(0))],
    },
    Move {
        name: "reword_templates",
        meaning: "each account words the templates for itself, without a system prompt",
        delay_days: 0.0,
        hides: Hides::Links,
        knobs: &[("rewording", Real(0.6)), ("system_prompts", Count(0))],
    },
    Move {
        name: "paraphrase",
        meaning: "no templates; a model puts every task into other words",
        delay_days: 0.0,
        hides: Hides::Links,
        knobs: &[
            ("templates", Count(0)),
            ("system_prompts", Count(0)),
            ("task_rewording", Real(0.6)),
        ],
    },
    Move {
        name: "residential",
        meaning: "addresses of households from a pool, another one each day",
        delay_days: 0.0,
        hides: Hides::Links,
        knobs: &[
            ("access", Text("residential")),
            ("addresses", Accounts(4.0)),
            ("countries", Count(8)),
        ],
    },
    Move {
        name: "own_lines",
        meaning: "a household's line for each account",
        delay_days: 0.0,
        hides: Hides::Links,
        knobs: &[("access", Text("homes")), ("countries", Count(8))],
    },
    Move {
        name: "aged_accounts",
        meaning: "accounts opened over four months",
        delay_days: 60.0,
        hides: Hides::Links,
        knobs: &[("signup_days", Real(120.0))],
    },
    Move {
        name: "uneven_volumes",
        meaning: "volumes as spread out as people's, over accounts and over days",
        delay_days: 0.0,
        hides: Hides::Acts,
        knobs: &[("volume_sigma", Real(1.2)), ("day_noise", Real(0.9))],
    },
    Move {
        name: "human_hours",
        meaning: "a day of its own for each account, nothing at common moments",
        delay_days: 0.0,
        hides: Hides::Acts,
        knobs: &[("hours", Text("rhythm")), ("synchrony", Real(0.0))],
    },
    Move {
        name: "more_accounts",
        meaning: "three times the accounts, each with a third of the questions",
        delay_days: 0.0,
        hides: Hides::Acts,
        knobs: &[("accounts", Accounts(3.0)), ("addresses", Accounts(1.5))],
    },
    Move {
        name: "follow_ups",
        meaning: "half of the questions are followed by further turns",
        delay_days: 0.0,
        hides: Hides::Acts,
        knobs: &[("follow_up_share", Real(0.5)), ("conversation_ids", Flag(true))],
    },
    Move {
        name: "cover_half",
        meaning: "as many strangers' chats as harvest in each account",
        delay_days: 0.0,
        hides: Hides::Acts,
        knobs: &[("mix_share", Real(0.5))],
    },
    Move {
        name: "cover_most",
        meaning: "four times as many strangers' chats as harvest in each account",
        delay_days: 0.0,
        hides: Hides::Acts,
        knobs: &[("mix_share", Real(0.8))],
    },
    Move {
        name: "wait_for_releases",
        meaning: "to a new model as slowly as customers go",
        delay_days: 20.0,
        hides: Hides::Acts,
        knobs: &[("pivot_share", Real(0.0))],
    },
];

/// A set of moves: a bit for each place in [`MOVES`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MoveSet(pub u32);

impl MoveSet {
    /// The moves of these names; names that nothing has are passed over.
    #[must_use]
    pub fn of(names: &[&str]) -> Self {
        MOVES
            .iter()
            .enumerate()
            .filter(|(_, m)| names.contains(&m.name))
            .fold(MoveSet::default(), |set, (index, _)| set.with(index))
    }

    /// This set and one more move, by its place.
    #[must_use]
    pub fn with(self, index: usize) -> Self {
        MoveSet(self.0 | 1 << index)
    }

    /// This set without a move.
    #[must_use]
    pub fn without(self, index: usize) -> Self {
        MoveSet(self.0 & !(1 << index))
    }

    /// Whether a move is in it.
    #[must_use]
    pub fn has(self, index: usize) -> bool {
        self.0 >> index & 1 == 1
    }

    /// The moves with their places.
    pub fn moves(self) -> impl Iterator<Item = (usize, &'static Move)> {
        MOVES.iter().enumerate().filter(move |(index, _)| self.has(*index))
    }

    /// The names of the moves.
    #[must_use]
    pub fn names(self) -> Vec<String> {
        self.moves().map(|(_, m)| m.name.to_owned()).collect()
    }

    /// Days that the harvest comes later. Waits run side by side.
    #[must_use]
    pub fn delay_days(self) -> f64 {
        self.moves().map(|(_, m)| m.delay_days).fold(0.0, f64::max)
    }

    /// The knobs of the campaign, in a world of so many days.
    #[must_use]
    pub fn knobs(self, days: u32) -> Map<String, Value> {
        let mut knobs = Map::new();
        knobs.insert("end_day".to_owned(), json!(days));
        for (name, knob) in NAIVE.iter().chain(self.moves().flat_map(|(_, m)| m.knobs)) {
            let value = match *knob {
                Count(n) => json!(n),
                Real(x) => json!(x),
                Flag(yes) => json!(yes),
                Text(text) => json!(text),
                Null => Value::Null,
                Accounts(times) => json!((ACCOUNTS as f64 * times) as u64),
            };
            knobs.insert((*name).to_owned(), value);
        }
        knobs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_later_move_counts() {
        let both = MoveSet::of(&["cover_most", "cover_half"]);
        assert_eq!(both.knobs(28)["mix_share"], json!(0.8));
        assert_eq!(both.names(), ["cover_half", "cover_most"]);
        assert_eq!(MoveSet::default().knobs(28)["mix_share"], json!(0.0));
        assert_eq!(MoveSet::of(&["more_accounts"]).knobs(28)["accounts"], json!(3 * ACCOUNTS));
    }

    #[test]
    fn waits_run_side_by_side() {
        let set = MoveSet::of(&["aged_accounts", "wait_for_releases"]);
        assert_eq!(set.delay_days(), 60.0);
        assert_eq!(set.without(6).delay_days(), 20.0);
    }

    #[test]
    fn names_are_told_apart() {
        for (index, m) in MOVES.iter().enumerate() {
            assert_eq!(MoveSet::of(&[m.name]), MoveSet::default().with(index), "{}", m.name);
        }
    }
}

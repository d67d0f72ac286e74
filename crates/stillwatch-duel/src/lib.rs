//! Duels: an attacker who sees which of its accounts were caught, adapts, and pays for it.
//!
//! An [`Arena`] is a crowd that was played through and observed once. In a round an
//! attacker's campaign visits it, everything is hunted in memory, and the truth says which
//! accounts were caught ([`Round`]). What was used is priced ([`Prices`]); [`run`] lets
//! strategies play against many crowds and adds up what came of it. The same seed gives
//! the same record.
//!
//! Must stay without I/O, clocks, the engine and randomness that is not passed in.

mod arena;
mod attacker;
mod ledger;
mod moves;
mod prices;
mod record;
mod rows;
mod run;

pub use arena::{Arena, Round};
pub use attacker::{STRATEGIES, Strategy};
pub use ledger::Ledger;
pub use moves::{CAMPAIGN, MOVES, Move, MoveSet};
pub use prices::{ITEMS, Item, PRICES, Price, Prices, PricesError};
pub use run::{DuelSettings, run};

/// Duels that could not be fought.
#[derive(Debug, thiserror::Error)]
pub enum DuelError {
    #[error(transparent)]
    Settings(#[from] stillwatch_simulate::SettingsError),
    #[error(transparent)]
    Simulate(#[from] stillwatch_simulate::SimulateError),
    /// Whoever runs the duels wanted them to end.
    #[error("stopped before the end")]
    Stopped,
}

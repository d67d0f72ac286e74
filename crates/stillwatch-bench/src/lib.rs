//! Detectors of other people, and the table in which ours stands beside them.
//!
//! A world is made by `stillwatch-simulate`; each detector reads its traffic
//! ([`Traffic`]), never its truth, and what it accuses at a threshold set on a world
//! without campaigns is written in the form of a hunt's findings ([`accuse`]), so that
//! all of them are scored by one rule. [`safe`] holds our own measure of balance against
//! real accounts that people have judged.
//!
//! Must stay without clocks, randomness that is not passed in or fixed, and the engine:
//! the hunt is run by whoever has it.

mod detector;
mod detectors;
mod findings;
mod ranking;
pub mod safe;
mod table;
mod text;
mod traffic;
mod volumes;
mod worlds;

pub use detector::{Detector, Suspicion, threshold};
pub use detectors::{DETECTORS, detector};
pub use findings::{FindingsError, accuse};
pub use ranking::{Ranking, ranking};
pub use table::{Bench, CampaignRow, Row, Setting, row};
pub use traffic::{Account, Exchange, Needs, Traffic, TrafficError};
pub use worlds::{BenchWorld, full_worlds, quick_worlds};

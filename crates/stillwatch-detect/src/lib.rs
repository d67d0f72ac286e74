//! What makes traffic suspicious: from one exchange's traits to a judged campaign.
//!
//! Must stay without I/O, clocks, async runtimes, DataFusion and randomness that is
//! not passed in, so that live and replay give the same bytes.

pub mod calendar;
pub mod confirm;
pub mod explain;
pub mod find;
pub mod gather;
mod guilty;
pub mod harvest;
pub mod judge;
pub mod link;
pub mod observe;
pub mod owner;
pub mod piece;
pub mod population;
pub mod profile;
pub mod references;
mod scales;
pub mod signature;
pub mod without;

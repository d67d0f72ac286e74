//! The words that all of Stillwatch shares: what an exchange, an account and a
//! release are made of, and what a hunt says of a campaign.
//!
//! This crate must stay without I/O, clocks, async runtimes and DataFusion, so
//! that everything which speaks these words can be replayed.

pub mod columns;
pub mod duel;
pub mod findings;
pub mod picture;
pub mod records;
pub mod time;

pub use columns::{Column, ColumnKind};
pub use findings::{
    Campaign, CampaignKind, Capability, Evidence, GuiltyAtLeast, HarvestRow, MemberRow, Share,
    Technique,
};
pub use records::{Account, Exchange, Release};
pub use time::Time;

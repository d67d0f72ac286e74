//! Worlds with known campaigns, from a seed: the product's `simulate` and `score`,
//! and the traffic of every test.
//!
//! A world is a population ([`World`]) of crowds and campaigns; [`write_world`] plays
//! it through and writes the tables of the exchange contract with the truth beside
//! them, [`World::stream`] does so in memory. This crate must stay without knowledge
//! of how detection works, and its truth never reaches a hunt.
//!
//! On the way from settings to rows: `settings` says what is wanted, `crowds` and
//! `campaigns` put up the `population`, `timeline` decides when anything happens,
//! `words` what is said, `tables` makes rows of it, `write` files.

mod campaigns;
mod clients;
mod crowds;
mod draws;
mod grammar;
mod models;
mod networks;
mod population;
mod prompts;
mod score;
mod settings;
mod tables;
mod timeline;
mod wording;
mod words;
mod world;
mod write;

pub use campaigns::{Access, CAMPAIGNS, CampaignKind, CampaignPlan, Goal, HELD_OUT, Hours, Pool};
pub use crowds::{CROWDS, Crowd};
pub use networks::Rotation;
pub use prompts::{Prompts, PromptsError, Role};
pub use score::{CampaignScore, InnocentFinding, Score, ScoreError, Totals, score};
pub use settings::{CrowdKnobs, SettingsError, WorldSettings, settings_reference};
pub use world::World;
pub use write::{
    CampaignSummary, SimulateError, Summary, WorldBatch, WorldFile, WorldStream, write_world,
};

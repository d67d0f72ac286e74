//! What is done about a finding: verdicts for accounts, made of a hunt's findings, the
//! operator's policy and what people have undone.
//!
//! A [`Policy`] is read from a small TOML file. A [`Table`] is made of it once per
//! reload and never changes afterwards, so that any number of threads ask it without a
//! lock. [`History`] keeps when an account's responses began and which were undone; it
//! is the only thing that has to survive a restart, and it is a list of events that the
//! caller stores. A [`Bucket`] is what all accounts of a campaign may take together; where
//! several guards share it, each admits from a [`Lease`] of a [`Shared`] one. A
//! [`Rehearser`] tries a policy on traffic that has been.
//!
//! This crate must stay without I/O, clocks, async runtimes and randomness: the time is
//! an argument, so that the same exchanges get the same verdicts whenever they are looked at.

mod bucket;
mod history;
mod policy;
mod rehearsal;
mod shared;
mod table;
mod verdict;

pub use bucket::{Bucket, Rate, Wait};
pub use history::{Event, History, HistoryError};
pub use policy::{
    Appeal, Cap, Limits, Mode, Policy, PolicyError, Reasoning, Rule, Step, output_tokens_at_most,
};
pub use rehearsal::{
    AccountTally, CampaignTally, InForceFrom, Known, Passed, Rehearsal, Rehearser, ResponseTally,
    RuleTally, StepTally, Tally, Untouched,
};
pub use shared::{Ask, Given, HOLDERS_MAX, Lease, Shared, Turn};
pub use table::{Finding, InForce, Member, Table, Who};
pub use verdict::{Place, Response, Responses, Verdict};

//! Who is told of campaigns: security tools, by detection findings in the form of OCSF, and
//! whoever has a webhook.
//!
//! A look finds the same group under another id as soon as it has grown. `ledger` knows it
//! again by its accounts, so that a campaign is told of once and then only followed; `facts`
//! is all that anybody is told; `ocsf` and `webhook` say it in other people's forms, and
//! `announcer` keeps what has been said beside a watch's state.
//!
//! No prompt, key, address or account id leaves through this crate: they are not among the
//! facts. It must stay without detection, the engine, terminals, the wall clock and
//! randomness that are not passed in.

mod announcer;
mod facts;
mod ledger;
mod ocsf;
mod webhook;

pub use announcer::{AnnounceError, Announcer, Settings, append_ocsf, try_ocsf};
pub use facts::{Channel, Facts};
pub use ledger::{Activity, Change, Ledger, Message};
pub use ocsf::event;
pub use webhook::{Endpoint, Key, KeyError, Outcome, signature};

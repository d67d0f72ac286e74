//! When responses began, and what people have undone: the part of a verdict that has to
//! survive a restart.
//!
//! A hunt gives the same group another id as soon as it grows, so that what is
//! remembered is remembered by account: when an account's responses began, so that the
//! next hunt does not begin again with the mildest, and until when it is left alone.
//! All of it is a list of events; replaying them gives the same history.

use hashbrown::{HashMap, HashSet};
use serde::{Deserialize, Serialize};
use stillwatch_exchange::Time;

/// Something that happened to verdicts; one line of JSON where it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The responses to a campaign began for these accounts.
    Begun { time: Time, campaign_id: String, accounts: Vec<String> },
    /// Somebody lifted an account's verdict; it is left alone until then.
    Lifted { time: Time, account_id: String, until: Time, why: String },
    /// Somebody cleared a campaign; its accounts are left alone until then.
    Cleared { time: Time, campaign_id: String, accounts: Vec<String>, until: Time, why: String },
}

/// A stored event can't be read.
#[derive(Debug, thiserror::Error)]
#[error("line {line} is no event: {source}")]
pub struct HistoryError {
    /// Counted from 1.
    pub line: usize,
    source: serde_json::Error,
}

/// What the events add up to. It grows with the accounts that were ever named in a
/// finding, some hundred bytes each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    begun: HashMap<String, Time>,
    alone_until: HashMap<String, Time>,
    cleared: HashSet<String>,
}

impl History {
    /// Reads stored events, a JSON object per line. A last line without an end, which
    /// a killed process leaves, is passed over; the second value is how many bytes
    /// come before it.
    ///
    /// # Errors
    /// A whole line is no event.
    pub fn parse(text: &str) -> Result<(Self, usize), HistoryError> {
        let mut history = History::default();
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        for (index, line) in text.get(..whole).unwrap_or_default().lines().enumerate() {
            let event = serde_json::from_str(line)
                .map_err(|source| HistoryError { line: index + 1, source })?;
            history.apply(&event);
        }
        Ok((history, whole))
    }

    /// Adds what an event says.
    pub fn apply(&mut self, event: &Event) {
        match event {
            Event::Begun { time, accounts, .. } => {
                for account in accounts {
                    self.begun.insert(account.clone(), *time);
                }
            }
            Event::Lifted { account_id, until, .. } => self.leave_alone(account_id, *until),
            Event::Cleared { campaign_id, accounts, until, .. } => {
                self.cleared.insert(campaign_id.clone());
                for account in accounts {
                    self.leave_alone(account, *until);
                }
            }
        }
    }

    /// What people have undone, without when responses began.
    #[must_use]
    pub(crate) fn undone(&self) -> History {
        History { begun: HashMap::new(), ..self.clone() }
    }

    fn leave_alone(&mut self, account_id: &str, until: Time) {
        let held = self.alone_until.entry_ref(account_id).or_insert(until);
        *held = (*held).max(until);
        // Whatever comes after that begins with the mildest step.
        self.begun.remove(account_id);
    }

    /// When the responses to this account began.
    pub(crate) fn begun(&self, account_id: &str) -> Option<Time> {
        self.begun.get(account_id).copied()
    }

    /// Until when this account is left alone.
    pub(crate) fn alone_until(&self, account_id: &str) -> Option<Time> {
        self.alone_until.get(account_id).copied()
    }

    /// Whether somebody cleared this campaign.
    #[must_use]
    pub fn has_cleared(&self, campaign_id: &str) -> bool {
        self.cleared.contains(campaign_id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_go_there_and_back_and_a_cut_line_is_passed_over() {
        let events = [
            Event::Begun {
                time: Time(1),
                campaign_id: "c".to_owned(),
                accounts: vec!["a".to_owned()],
            },
            Event::Lifted {
                time: Time(2),
                account_id: "a".to_owned(),
                until: Time(9),
                why: "a customer".to_owned(),
            },
            Event::Cleared {
                time: Time(3),
                campaign_id: "c".to_owned(),
                accounts: vec!["b".to_owned()],
                until: Time(5),
                why: "a class".to_owned(),
            },
        ];
        let mut text = String::new();
        let mut expected = History::default();
        for event in &events {
            text.push_str(&serde_json::to_string(event).unwrap());
            text.push('\n');
            expected.apply(event);
        }
        let whole = text.len();
        text.push_str("{\"event\":\"beg");
        assert_eq!(History::parse(&text).unwrap(), (expected.clone(), whole));
        assert_eq!(expected.begun("a"), None, "what was lifted begins anew");
        assert_eq!(expected.alone_until("a"), Some(Time(9)));
        assert_eq!(expected.alone_until("b"), Some(Time(5)));
        assert!(expected.has_cleared("c"));
    }

    #[test]
    fn a_broken_line_is_named() {
        let error = History::parse("{}\n").unwrap_err().to_string();
        assert!(error.starts_with("line 1 is no event: missing field `event`"), "{error}");
    }
}

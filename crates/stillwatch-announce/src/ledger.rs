//! What has been told of, from look to look.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use stillwatch_exchange::{Campaign, MemberRow, Time};
use xxhash_rust::xxh3::xxh3_64;

use crate::facts::Facts;
use crate::webhook;

/// Campaigns that are remembered; of more, those that were not seen for longest are
/// forgotten, closed ones first.
pub const ENTRIES_MAX: usize = 1_024;
/// Accounts by which a campaign is known again: those with the smallest hashes.
const SKETCH: usize = 1_024;
/// Messages that wait to be delivered; of more, the oldest are dropped and counted.
pub const PENDING_MAX: usize = 1_000;

/// What happened to a campaign; the numbers are OCSF's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activity {
    /// It is found for the first time.
    Create = 1,
    /// It is found again, and something about it has changed.
    Update = 2,
    /// It is not found any more.
    Close = 3,
}

/// Something to tell.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    pub activity: Activity,
    /// The id that the campaign had when it was first found, which it keeps.
    pub uid: String,
    /// The end of the window of the look that first found it.
    pub created: Time,
    /// The same of this look.
    pub time: Time,
    pub facts: Facts,
}

/// A campaign that was told of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Entry {
    uid: String,
    created: Time,
    latest: Time,
    is_open: bool,
    facts: Facts,
    /// The smallest hashes of its accounts' ids, in order.
    accounts: Vec<u64>,
}

/// A message for a webhook that has not been delivered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// The same at every attempt: whoever gets it twice can tell.
    pub id: String,
    /// JSON, as it is signed and sent.
    pub body: String,
}

/// What has been told, and what is still to be delivered.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ledger {
    /// The form of this document.
    pub version: u32,
    entries: Vec<Entry>,
    pub pending: Vec<Message>,
    /// Messages that were dropped or given up.
    pub undelivered: u64,
}

/// The form of a ledger that this program writes.
pub const VERSION: u32 = 1;

impl Ledger {
    /// A ledger without anything in it.
    #[must_use]
    pub fn new() -> Self {
        Ledger { version: VERSION, ..Ledger::default() }
    }

    /// Takes the findings of a look whose window ends at `time`; what there is to tell, in
    /// the order of the findings, and then what is not found any more.
    ///
    /// A campaign is the one told of earlier with which it shares the most accounts, if that
    /// is more than half of those of the smaller of the two.
    pub fn look(
        &mut self,
        time: Time,
        campaigns: &[Campaign],
        members: &[MemberRow],
    ) -> Vec<Change> {
        let mut accounts: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
        for member in members {
            let hash = xxh3_64(member.account_id.as_bytes());
            accounts.entry(&member.campaign_id).or_default().push(hash);
        }
        let mut is_taken = vec![false; self.entries.len()];
        let mut changes = Vec::new();
        for campaign in campaigns {
            let mut hashes = accounts.remove(campaign.campaign_id.as_str()).unwrap_or_default();
            hashes.sort_unstable();
            hashes.dedup();
            hashes.truncate(SKETCH);
            let facts = Facts::of(campaign);
            let known = self
                .entries
                .iter()
                .zip(&is_taken)
                .enumerate()
                .filter(|(_, (_, is_taken))| !**is_taken)
                .filter_map(|(place, (entry, _))| {
                    let shared = shared(&entry.accounts, &hashes);
                    let is_same = shared > 0.5 || entry.facts.campaign_id == campaign.campaign_id;
                    is_same.then_some((place, shared))
                })
                // Of equals the one that was told of first.
                .max_by(|a, b| a.1.total_cmp(&b.1).then(b.0.cmp(&a.0)));
            let Some((place, _)) = known else {
                let uid = facts.campaign_id.clone();
                changes.push(Change {
                    activity: Activity::Create,
                    uid: uid.clone(),
                    created: time,
                    time,
                    facts: facts.clone(),
                });
                self.entries.push(Entry {
                    uid,
                    created: time,
                    latest: time,
                    is_open: true,
                    facts,
                    accounts: hashes,
                });
                is_taken.push(true);
                continue;
            };
            let (Some(entry), Some(taken)) = (self.entries.get_mut(place), is_taken.get_mut(place))
            else {
                continue;
            };
            *taken = true;
            if entry.facts != facts || !entry.is_open {
                changes.push(entry.change(Activity::Update, time, &facts));
            }
            entry.latest = time;
            entry.is_open = true;
            entry.facts = facts;
            entry.accounts = hashes;
        }
        for (entry, is_taken) in self.entries.iter_mut().zip(is_taken) {
            if entry.is_open && !is_taken {
                entry.is_open = false;
                changes.push(entry.change(Activity::Close, time, &entry.facts.clone()));
            }
        }
        while self.entries.len() > ENTRIES_MAX {
            let oldest = self.entries.iter().enumerate();
            let oldest = oldest.min_by_key(|(_, entry)| (entry.is_open, entry.latest));
            let Some((place, _)) = oldest else { break };
            self.entries.remove(place);
        }
        changes
    }

    /// Puts a message for each campaign that is new to the end of those that wait.
    pub fn enqueue(&mut self, changes: &[Change], report: Option<&str>) {
        for change in changes.iter().filter(|change| change.activity == Activity::Create) {
            let message = webhook::message(change, report);
            // A look that is taken again, after the process was killed in it, is no news.
            if self.pending.iter().all(|held| held.id != message.id) {
                self.pending.push(message);
            }
        }
        let beyond = self.pending.len().saturating_sub(PENDING_MAX);
        self.pending.drain(..beyond);
        self.undelivered += beyond as u64;
    }
}

impl Entry {
    fn change(&self, activity: Activity, time: Time, facts: &Facts) -> Change {
        Change {
            activity,
            uid: self.uid.clone(),
            created: self.created,
            time,
            facts: facts.clone(),
        }
    }
}

/// The part of the smaller of two groups that is in the other too, 0 to 1, as far as their
/// smallest hashes tell.
fn shared(a: &[u64], b: &[u64]) -> f64 {
    let full = |hashes: &[u64]| match hashes.last() {
        Some(last) if hashes.len() >= SKETCH => *last,
        _ => u64::MAX,
    };
    let bound = full(a).min(full(b));
    let below = |hashes: &[u64]| hashes.partition_point(|hash| *hash <= bound);
    let (of_a, of_b) = (below(a), below(b));
    let both = a.iter().take(of_a).filter(|hash| b.binary_search(hash).is_ok()).count();
    match of_a.min(of_b) {
        0 => 0.0,
        smaller => both as f64 / smaller as f64,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use stillwatch_exchange::{CampaignKind, Evidence, GuiltyAtLeast, Technique};

    use super::*;

    /// A finding with evidence that says too much.
    pub(crate) fn campaign(id: &str, exchanges: u64) -> Campaign {
        Campaign {
            campaign_id: id.to_owned(),
            kind: CampaignKind::Distillation,
            evidence_value: Some(50.0),
            discovery_rate: Some(0.05),
            strata: vec!["network".to_owned()],
            references: 300,
            rank: 1,
            guilty_members_at_least: GuiltyAtLeast { members: 2, level: 0.95 },
            accounts: 3,
            exchanges,
            output_tokens: 9,
            reasoning_tokens: 0,
            cost_usd: 0.5,
            first_seen: Time(1_772_409_600_000_000),
            last_seen: Time(1_772_496_000_000_000),
            first_detectable: Time(1_772_452_800_000_000),
            exchanges_before_detection: 4,
            capabilities: vec![],
            routes: vec![],
            models: vec![],
            techniques: vec![Technique {
                id: "AML.T0024.002".to_owned(),
                name: "Extract AI Model".to_owned(),
            }],
            evidence: vec![Evidence {
                channel: "network".to_owned(),
                statement: "All come from 192.0.2.7.".to_owned(),
                strength: 4.5,
                examples: vec!["acct_secret".to_owned()],
            }],
        }
    }

    pub(crate) fn members(id: &str, accounts: &[&str]) -> Vec<MemberRow> {
        let member = |account: &&str| MemberRow {
            campaign_id: id.to_owned(),
            account_id: (*account).to_owned(),
            membership: 1.0,
            exchanges: 1,
            harvested_exchanges: 1,
            first_seen: Time(0),
            last_seen: Time(0),
        };
        accounts.iter().map(member).collect()
    }

    fn activities(changes: &[Change]) -> Vec<(Activity, &str)> {
        changes.iter().map(|change| (change.activity, change.uid.as_str())).collect()
    }

    #[test]
    fn a_campaign_that_grows_under_another_id_is_the_same() {
        let mut ledger = Ledger::new();
        let first = ledger.look(Time(1), &[campaign("a", 5)], &members("a", &["x", "y", "z"]));
        assert_eq!(activities(&first), [(Activity::Create, "a")]);
        let grown = members("b", &["x", "y", "z", "v", "w"]);
        let second = ledger.look(Time(2), &[campaign("b", 9)], &grown);
        assert_eq!(activities(&second), [(Activity::Update, "a")]);
        assert_eq!((second[0].created, second[0].time), (Time(1), Time(2)));
        assert_eq!(second[0].facts.campaign_id, "b");
        assert_eq!(ledger.look(Time(3), &[campaign("b", 9)], &grown), [], "nothing changed");
        let gone = ledger.look(Time(4), &[], &[]);
        assert_eq!(activities(&gone), [(Activity::Close, "a")]);
        assert_eq!(ledger.look(Time(5), &[], &[]), [], "it is closed once");
        let back = ledger.look(Time(6), &[campaign("c", 9)], &members("c", &["x", "y"]));
        assert_eq!(activities(&back), [(Activity::Update, "a")], "and is the same when it is back");
    }

    #[test]
    fn two_that_share_little_are_two() {
        let mut ledger = Ledger::new();
        ledger.look(Time(1), &[campaign("a", 5)], &members("a", &["x", "y", "z"]));
        let both = [members("a", &["x", "y", "z"]), members("b", &["z", "u", "v", "w"])].concat();
        let changes = ledger.look(Time(2), &[campaign("a", 5), campaign("b", 5)], &both);
        assert_eq!(activities(&changes), [(Activity::Create, "b")]);
        let apart = [members("c", &["x", "y"]), members("d", &["z", "q"])].concat();
        let changes = ledger.look(Time(3), &[campaign("c", 5), campaign("d", 5)], &apart);
        let expected = [(Activity::Update, "a"), (Activity::Create, "d"), (Activity::Close, "b")];
        assert_eq!(activities(&changes), expected, "half is not more than half");
    }

    #[test]
    fn large_groups_are_known_by_a_part_of_them() {
        let names: Vec<String> = (0..20_000).map(|n| format!("acct_{n}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut ledger = Ledger::new();
        ledger.look(Time(1), &[campaign("a", 5)], &members("a", &names[..12_000]));
        let changes = ledger.look(Time(2), &[campaign("b", 5)], &members("b", &names[4_000..]));
        assert_eq!(activities(&changes), [(Activity::Update, "a")], "8,000 of 12,000");
        let changes = ledger.look(Time(3), &[campaign("c", 5)], &members("c", &names[..6_000]));
        assert_eq!(activities(&changes)[0], (Activity::Create, "c"), "2,000 of 6,000");
        assert!(serde_json::to_string(&ledger).unwrap().len() < 60_000);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut ledger = Ledger::new();
        for n in 0..ENTRIES_MAX + PENDING_MAX {
            let (id, account) = (format!("c{n}"), format!("a{n}"));
            let changes = ledger.look(
                Time(n as i64),
                &[campaign(&id, 1)],
                &members(&id, &[account.as_str()]),
            );
            ledger.enqueue(&changes, None);
        }
        assert_eq!(ledger.entries.len(), ENTRIES_MAX);
        assert_eq!(ledger.pending.len(), PENDING_MAX);
        assert_eq!(ledger.undelivered, ENTRIES_MAX as u64);
    }

    #[test]
    fn a_look_that_is_taken_again_says_the_same() {
        let (mut ledger, found) = (Ledger::new(), members("a", &["x", "y"]));
        let mut killed = ledger.clone();
        let first = killed.look(Time(1), &[campaign("a", 5)], &found);
        let again = ledger.look(Time(1), &[campaign("a", 5)], &found);
        assert_eq!(first, again);
        ledger.enqueue(&again, None);
        ledger.enqueue(&again, None);
        assert_eq!(ledger.pending.len(), 1);
    }
}

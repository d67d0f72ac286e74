//! What shares say adds up to what one process would have counted.

use std::collections::BTreeMap;

use arrow::array::StringViewArray;
use proptest::prelude::*;
use stillwatch_detect::calendar::EPOCHS;
use stillwatch_detect::observe::{Glance, Key, Link, Observer};
use stillwatch_exchange::Time;
use stillwatch_exchange::time::DAY_US;

use super::looking::merge;
use super::outbox::write;
use super::plan::Counting;
use super::words::{Message, Report, What};
use crate::clock::{Clock, ClockState};
use crate::deltas::{Deltas, Placed, Seen};
use crate::settings::Pace;
use crate::store::{Bounds, Meta, Store};

const EPOCH: i64 = 2_930;
const SHARES: u32 = 3;

/// An exchange: its account, when it was in the window in hours, which share has counted it,
/// and something else about it.
type Seed = (u8, i64, u32, u64);

fn pace() -> Pace {
    Pace::new(7 * DAY_US, DAY_US, None).unwrap()
}

fn key() -> Key {
    Key::derive(b"shares")
}

fn glance(&(account, hour, _, what): &Seed) -> Glance {
    Glance {
        time: Time(pace().grid.start(EPOCH - 3).0 + hour * (DAY_US / 24)),
        account: Observer::new(key()).hash(Link::Account, &format!("account-{account}")),
        row: what,
        whole: what,
        words: 9,
        client: what % 3,
        network: what % 5,
        output_tokens: what as u32 % 1_000,
        ..Glance::default()
    }
}

/// One store, and what goes into it.
struct Half {
    _folder: tempfile::TempDir,
    store: Store,
    meta: Meta,
    deltas: Deltas,
}

impl Half {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (store, meta) = Store::open(folder.path(), pace(), key()).unwrap();
        Half { _folder: folder, store, meta, deltas: Deltas::new(2) }
    }

    fn count(&mut self, seeds: &[Seed], next: i64) {
        let clock = Clock::new(pace(), ClockState::default());
        let place = |glance: &Glance| {
            let (step, epoch) = (clock.step(glance.time), pace().grid.epoch(glance.time));
            let part = if step < next { 0 } else { 1 + step.rem_euclid(7) as u32 };
            Some(Placed { part: (epoch, part), releases: &[] })
        };
        let names = seeds.iter().map(|seed| format!("account-{}", seed.0));
        let accounts = StringViewArray::from_iter_values(names);
        let seen = Seen { accounts, glances: seeds.iter().map(glance).collect() };
        self.deltas.add(&[seen], pace().grid, &place);
    }

    /// Commits, and answers a cut; what is in the outbox then.
    fn commit(&mut self, next: i64, cut: Option<u64>) -> Vec<Message> {
        let bounds = Bounds {
            oldest: EPOCH - 3,
            next: (next.div_euclid(7), 1 + next.rem_euclid(7) as u32),
            accounts_max: 1_000,
            is_exact: true,
        };
        let files = BTreeMap::<String, Option<()>>::new();
        let (store, meta) = (&self.store, &mut self.meta);
        let sent = meta.counting.as_ref().map_or(0, |counting| counting.written);
        let is_share = meta.counting.is_some();
        store
            .commit_with(&self.deltas, &files, meta, &bounds, |transaction, meta| match is_share {
                true => write(store, transaction, meta, Some(Report::default()), cut, sent),
                false => Ok(()),
            })
            .unwrap();
        self.deltas.clear();
        if !is_share {
            return Vec::new();
        }
        let waiting = self.store.outbox(sent).unwrap();
        assert!(self.store.outbox(0).unwrap() == waiting, "what was sent is removed");
        waiting.iter().map(|(_, bytes)| Message::parse(bytes).unwrap()).collect()
    }

    /// The window's profiles, as they are stored.
    fn window(&self) -> Vec<(String, Vec<u8>)> {
        let calendar = pace().grid.calendar(EPOCH, &[]);
        let members = self.store.members(EPOCH, &calendar).unwrap();
        members
            .into_iter()
            .map(|member| {
                let mut bytes = Vec::new();
                member.profile.write(&mut bytes);
                (member.account_id, bytes)
            })
            .collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn what_shares_send_adds_up_to_the_whole(
        seeds in prop::collection::vec(
            (0u8..30, 0i64..24 * 7 * EPOCHS as i64, 0..SHARES, any::<u64>()),
            1..200,
        ),
        first in 1i64..28,
    ) {
        let begin = 7 * (EPOCH - 3);
        let (middle, end) = (begin + first, begin + 28);
        let mut whole = Half::new();
        whole.count(&seeds, end);
        whole.commit(end, None);

        let mut looking = Half::new();
        let mut shares: Vec<Half> = (1..=SHARES)
            .map(|number| {
                let mut half = Half::new();
                half.meta.counting = Some(Counting { number, of: SHARES, ..Counting::default() });
                half
            })
            .collect();
        for (share, half) in shares.iter_mut().enumerate() {
            let own: Vec<Seed> = seeds.iter().filter(|s| s.2 == share as u32).copied().collect();
            let (early, late) = own.split_at(own.len() / 2);
            half.count(early, begin + 1);
            prop_assert_eq!(half.commit(begin + 1, None).len(), 1, "a report alone");
            half.count(late, begin + 1);
            let mut numbers = Vec::new();
            for (next, cut) in [(middle, 1), (end, 2)] {
                for message in half.commit(next, Some(cut)) {
                    numbers.push(message.number);
                    if let What::Pieces { cut: of } = message.what {
                        prop_assert_eq!(of, cut);
                        merge(&message.rows, &looking.store.observer, &mut looking.deltas).unwrap();
                    }
                }
            }
            prop_assert_eq!(half.window(), Vec::new(), "what was given away is not kept");
            let last = numbers.len() as u64 + 1;
            prop_assert_eq!(numbers, (2..=last).collect::<Vec<_>>());
        }
        looking.commit(end, None);
        prop_assert_eq!(looking.window(), whole.window());
    }
}

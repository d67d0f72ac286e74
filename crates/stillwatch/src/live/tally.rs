//! What came back for what was asked, by campaign and day.

use stillwatch_exchange::Time;
use stillwatch_exchange::time::DAY_US;

use super::clients::Got;
use super::model::{self, Said};
use super::script::{Line, Truth};

/// Every so many exchanges of the crowd are sent straight to the model too, to see what
/// the guard adds.
const STRAIGHT_EVERY: u64 = 16;

/// Something asked and something got, in output tokens and in whole answers.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Delivered {
    pub asked_tokens: u64,
    pub got_tokens: u64,
    pub asked: u64,
    pub answered: u64,
}

impl Delivered {
    fn add(&mut self, other: Delivered) {
        self.asked_tokens += other.asked_tokens;
        self.got_tokens += other.got_tokens;
        self.asked += other.asked;
        self.answered += other.answered;
    }

    /// The part of the tokens that was got, 0 to 1; none where nothing was asked.
    pub fn share(self) -> Option<f64> {
        (self.asked_tokens > 0).then(|| self.got_tokens as f64 / self.asked_tokens as f64)
    }
}

/// A campaign of the world, and what became of it.
#[derive(Clone, Debug, Default)]
pub struct Campaign {
    pub name: String,
    pub accounts: usize,
    pub by_day: Vec<Delivered>,
    /// The end of the window of the first look that named it.
    pub found: Option<Time>,
    /// Its harvest until that look, and since.
    pub before: Delivered,
    pub since: Delivered,
    /// How many of its accounts the last look named.
    pub named: usize,
    /// What the guard does about most of them.
    pub verdict: String,
}

/// The crowd, which must notice nothing.
#[derive(Clone, Debug, Default)]
pub struct Crowd {
    pub accounts: usize,
    pub exchanges: u64,
    pub refused: u64,
    pub changed: u64,
    /// How many accounts the last look named, and any look.
    pub named: usize,
    pub named_ever: usize,
    /// Latencies in microseconds, through the guard and straight to the model.
    guarded_us: Vec<u32>,
    straight_us: Vec<u32>,
}

/// All that is counted.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    pub exchanges: u64,
    pub campaigns: Vec<Campaign>,
    pub crowd: Crowd,
    start_us: i64,
}

impl Tally {
    pub fn new(truth: &Truth, accounts: usize, start: Time) -> Self {
        let campaigns = truth.campaigns.iter().enumerate();
        let campaigns: Vec<Campaign> = campaigns
            .map(|(place, name)| Campaign {
                name: name.clone(),
                accounts: truth.size(place),
                ..Campaign::default()
            })
            .collect();
        let crowd = Crowd { accounts: accounts - truth.members.len(), ..Crowd::default() };
        Tally { exchanges: 0, campaigns, crowd, start_us: start.0 }
    }

    /// The day of the world that a moment is in, from 0.
    pub fn day(&self, time_us: i64) -> usize {
        usize::try_from((time_us - self.start_us) / DAY_US).unwrap_or(0)
    }

    /// How many steps of this length lie before a moment.
    pub fn step(&self, time_us: i64, step_us: i64) -> i64 {
        (time_us - self.start_us) / step_us
    }

    /// Whether the next exchange of the crowd is to be sent straight to the model too.
    pub fn wants_straight(&self) -> bool {
        self.crowd.exchanges.is_multiple_of(STRAIGHT_EVERY)
    }

    /// Counts what came straight from the model.
    pub fn straight(&mut self, got: &Got) {
        self.crowd.straight_us.push(micros(got));
    }

    /// Counts an exchange.
    pub fn count(&mut self, line: &Line, got: &Got) {
        self.exchanges += 1;
        let expected = model::answer(line.wish, &line.body);
        if line.is_crowd {
            let was_straight = self.wants_straight();
            let crowd = &mut self.crowd;
            if was_straight {
                crowd.guarded_us.push(micros(got));
            }
            crowd.exchanges += 1;
            if got.status != expected.status {
                crowd.refused += 1;
            } else if got.was_unchanged != Some(true) || !is_same(&expected, &got.body) {
                crowd.changed += 1;
            }
        }
        let day = self.day(line.time);
        let Some(campaign) = line.harvest.and_then(|at| self.campaigns.get_mut(at)) else { return };
        if !expected.status.is_success() {
            return;
        }
        let got_tokens = if got.status.is_success() { tokens(&got.body) } else { 0 };
        let delivered = Delivered {
            asked_tokens: line.wish.output_tokens.into(),
            got_tokens,
            asked: 1,
            answered: u64::from(got.status.is_success()),
        };
        if campaign.by_day.len() <= day {
            campaign.by_day.resize(day + 1, Delivered::default());
        }
        if let Some(of_day) = campaign.by_day.get_mut(day) {
            of_day.add(delivered);
        }
        match campaign.found {
            None => campaign.before.add(delivered),
            Some(_) => campaign.since.add(delivered),
        }
    }

    /// Counts whom a look named.
    pub fn look(&mut self, until: Option<Time>, named: &[Vec<String>], truth: &Truth) {
        for campaign in &mut self.campaigns {
            campaign.named = 0;
        }
        self.crowd.named = 0;
        for account in named.iter().flatten() {
            match truth.members.get(account).and_then(|at| self.campaigns.get_mut(*at)) {
                Some(campaign) => {
                    campaign.named += 1;
                    // Half of it is the campaign; less may be chance.
                    if campaign.found.is_none() && campaign.named * 2 >= campaign.accounts {
                        campaign.found = until;
                    }
                }
                None => self.crowd.named += 1,
            }
        }
        self.crowd.named_ever = self.crowd.named_ever.max(self.crowd.named);
    }
}

impl Crowd {
    /// Medians of latencies through the guard and straight to the model, in microseconds.
    pub fn medians_us(&self) -> Option<(u32, u32)> {
        Some((median(&self.guarded_us)?, median(&self.straight_us)?))
    }
}

fn median(values: &[u32]) -> Option<u32> {
    let mut values = values.to_vec();
    values.sort_unstable();
    values.get(values.len() / 2).copied()
}

fn micros(got: &Got) -> u32 {
    u32::try_from(got.took.as_micros()).unwrap_or(u32::MAX)
}

fn is_same(expected: &Said, body: &[u8]) -> bool {
    let mut rest = body;
    for piece in &expected.pieces {
        match rest.strip_prefix(piece.as_ref()) {
            Some(after) => rest = after,
            None => return false,
        }
    }
    rest.is_empty()
}

/// The output tokens of an answer by its own figure, which is the last in it.
fn tokens(body: &[u8]) -> u64 {
    let text = String::from_utf8_lossy(body);
    let figure = text.rsplit("\"completion_tokens\":").next().unwrap_or_default();
    let digits: String = figure.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use http::StatusCode;

    use super::*;
    use crate::live::model::Wish;

    fn world() -> (Tally, Truth) {
        let members = [("a", 0), ("b", 0), ("c", 0)].map(|(name, at)| (name.to_owned(), at));
        let truth = Truth { campaigns: vec!["drip".to_owned()], members: members.into() };
        (Tally::new(&truth, 10, Time(0)), truth)
    }

    fn line(harvest: Option<usize>) -> Line {
        Line {
            time: DAY_US + 1,
            key: String::new(),
            address: String::new(),
            user_agent: String::new(),
            body: Bytes::from_static(br#"{"model":"m","messages":[]}"#),
            wish: Wish { status: 200, output_tokens: 40, words: 1 },
            harvest,
            is_crowd: harvest.is_none(),
        }
    }

    fn got(line: &Line, status: u16) -> Got {
        let said = model::answer(line.wish, &line.body);
        Got {
            status: StatusCode::from_u16(status).unwrap(),
            body: said.pieces.concat().into(),
            was_unchanged: Some(true),
            took: Duration::from_micros(100),
        }
    }

    #[test]
    fn the_crowd_notices_refusals_and_changes() {
        let (mut tally, _) = world();
        let line = line(None);
        tally.count(&line, &got(&line, 200));
        tally.count(&line, &got(&line, 403));
        tally.count(&line, &Got { was_unchanged: Some(false), ..got(&line, 200) });
        tally.count(&line, &Got { body: Bytes::from_static(b"{}"), ..got(&line, 200) });
        let crowd = &tally.crowd;
        assert_eq!((crowd.exchanges, crowd.refused, crowd.changed), (4, 1, 2));
        assert_eq!(crowd.accounts, 7);
    }

    #[test]
    fn harvest_is_counted_by_day_and_by_what_is_known() {
        let (mut tally, truth) = world();
        let line = line(Some(0));
        tally.count(&line, &got(&line, 200));
        let named = [vec!["a".to_owned(), "x".to_owned(), "b".to_owned()]];
        tally.look(Some(Time(DAY_US)), &named, &truth);
        tally.count(&line, &got(&line, 403));
        let campaign = &tally.campaigns[0];
        assert_eq!((campaign.found, campaign.named), (Some(Time(DAY_US)), 2));
        assert_eq!((campaign.before.got_tokens, campaign.since.got_tokens), (40, 0));
        assert_eq!((campaign.since.asked, campaign.since.answered), (1, 0));
        assert_eq!(campaign.by_day[1].share(), Some(0.5));
        assert_eq!(campaign.by_day[0].share(), None);
        assert_eq!(tally.crowd.named_ever, 1);
    }
}

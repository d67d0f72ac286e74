//! Clock: how far event time has come, told by the exchanges alone.
//!
//! A look at the end T of a step comes when what has been read shows that event time has
//! passed T and the allowance for lateness: when at least [`PASSED_MIN`] exchanges, and a
//! [`PASSED_SHARE`]th as many as the step before T held, lie past both and within an epoch
//! of T. Exchanges further ahead say nothing of that, however many there are of them: a
//! broken clock doesn't move the window. Only where most of what was read since the last
//! look lies ahead ([`FAR_MIN`] more than the rest) has there been a pause in the traffic,
//! and the clock goes on there.
//!
//! It counts exchanges by tick, a part of a step and of an hour. Bound: [`TICKS_MAX`]
//! ticks; beyond it the furthest ahead are not told apart.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use stillwatch_exchange::Time;
use stillwatch_exchange::time::HOUR_US;

use crate::settings::Pace;

/// Exchanges past the end of a step before it is taken for over.
const PASSED_MIN: u64 = 8;
/// The part of the step's own exchanges that these must be: a twentieth.
const PASSED_SHARE: u64 = 20;
/// How many more exchanges must lie far ahead than elsewhere before the clock follows.
const FAR_MIN: u64 = 64;
/// Exchanges by which the first step is told.
const FIRST_MIN: u64 = 64;
/// The part of exchanges at the beginning of which the earliest are not trusted.
const STRAY_SHARE: u64 = 20;
/// Ticks that are counted apart.
const TICKS_MAX: usize = 1 << 16;

/// The stored part of a clock.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ClockState {
    /// The step before whose start the next look is; none before the first exchanges.
    pub next: Option<i64>,
    /// Exchanges by tick.
    pub ticks: BTreeMap<i64, u64>,
    /// Read since the last look: within an epoch of the next one or earlier, and beyond.
    pub near: u64,
    pub far: u64,
}

#[derive(Clone, Debug)]
pub(crate) struct Clock {
    pub state: ClockState,
    pace: Pace,
    tick_us: i64,
}

fn gcd(a: i64, b: i64) -> i64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

impl Clock {
    pub fn new(pace: Pace, state: ClockState) -> Self {
        Clock { state, pace, tick_us: Self::tick_us(pace) }
    }

    fn tick_us(pace: Pace) -> i64 {
        gcd(pace.look_us / 8, HOUR_US)
    }

    /// Ticks of a step.
    fn step_ticks(&self) -> i64 {
        self.pace.look_us / self.tick_us
    }

    /// The first moment of the grid, from which ticks and steps count.
    fn origin(&self) -> i64 {
        self.pace.grid.start(0).0
    }

    /// The tick of a time.
    pub fn tick(&self, time: Time) -> i64 {
        time.0.saturating_sub(self.origin()).div_euclid(self.tick_us)
    }

    /// The step of a time.
    pub fn step(&self, time: Time) -> i64 {
        time.0.saturating_sub(self.origin()).div_euclid(self.pace.look_us)
    }

    /// When a step starts.
    pub fn start(&self, step: i64) -> Time {
        Time(self.origin().saturating_add(self.pace.look_us.saturating_mul(step)))
    }

    /// The epoch that a step lies in.
    pub fn epoch(&self, step: i64) -> i64 {
        step.div_euclid(self.pace.looks())
    }

    /// Counts exchanges of one tick.
    pub fn count(&mut self, tick: i64, exchanges: u64) {
        *self.state.ticks.entry(tick).or_default() += exchanges;
        while self.state.ticks.len() > TICKS_MAX {
            if let Some((_, furthest)) = self.state.ticks.pop_last()
                && let Some(mut last) = self.state.ticks.last_entry()
            {
                *last.get_mut() += furthest;
            }
        }
        let is_far = self.state.next.is_some_and(|next| tick >= self.far_from(next));
        *(if is_far { &mut self.state.far } else { &mut self.state.near }) += exchanges;
    }

    fn far_from(&self, next: i64) -> i64 {
        (next + self.pace.looks()) * self.step_ticks()
    }

    fn sum(&self, ticks: std::ops::Range<i64>) -> u64 {
        if ticks.is_empty() { 0 } else { self.state.ticks.range(ticks).map(|t| t.1).sum() }
    }

    /// The step in which all but the earliest of these ticks lie.
    fn first_step(&self, from: i64) -> Option<i64> {
        let all = self.sum(from..i64::MAX);
        let mut passed = 0;
        for (tick, exchanges) in self.state.ticks.range(from..) {
            passed += exchanges;
            if passed > all / STRAY_SHARE {
                return Some(tick.div_euclid(self.step_ticks()));
            }
        }
        None
    }

    /// Sets where the first look will be, once enough was read to tell, or at the end.
    /// Says whether it did.
    pub fn begin(&mut self, is_end: bool) -> bool {
        if self.state.next.is_some() || !(is_end || self.state.near >= FIRST_MIN) {
            return false;
        }
        self.state.next = self.first_step(i64::MIN).map(|step| step + 1);
        let Some(next) = self.state.next else { return false };
        self.state.far = self.sum(self.far_from(next)..i64::MAX);
        self.state.near -= self.state.far.min(self.state.near);
        true
    }

    /// The step that the next look comes before, and whether exchanges show that it is
    /// over.
    pub fn due(&self) -> Option<i64> {
        let next = self.state.next?;
        let per_step = self.step_ticks();
        let end = next * per_step;
        let late = self.pace.lateness_us.div_ceil_to(self.tick_us);
        let passed = self.sum(end + late..self.far_from(next));
        let held = self.sum(end - per_step..end);
        let is_over = passed >= PASSED_MIN.max(held / PASSED_SHARE);
        let has_paused = self.state.far >= self.state.near + FAR_MIN;
        (is_over || has_paused).then_some(next)
    }

    /// Whether the step before the next look held any exchange.
    pub fn has_news(&self) -> bool {
        self.state.next.is_some_and(|next| {
            let end = next * self.step_ticks();
            self.sum(end - self.step_ticks()..end) > 0
        })
    }

    /// The look that was due is over.
    pub fn went_on(&mut self) {
        let Some(next) = self.state.next else { return };
        let has_paused = self.state.far >= self.state.near + FAR_MIN;
        let mut following = next + 1;
        if has_paused && let Some(step) = self.first_step(self.far_from(next)) {
            following = following.max(step + 1);
        }
        self.go_to(following);
    }

    /// Turns to the look before a step; forgets what no later window can have.
    pub fn go_to(&mut self, next: i64) {
        self.state.next = Some(next);
        self.state.far = self.sum(self.far_from(next)..i64::MAX);
        self.state.near = 0;
        let oldest = self.oldest_epoch().unwrap_or(i64::MIN);
        let first_tick = oldest.saturating_mul(self.pace.looks() * self.step_ticks());
        self.state.ticks = self.state.ticks.split_off(&first_tick);
    }

    /// The first epoch of the window of the next look.
    pub fn oldest_epoch(&self) -> Option<i64> {
        let window = stillwatch_detect::calendar::EPOCHS as i64;
        self.state.next.map(|next| self.epoch(next - 1) - (window - 1))
    }

    /// The step after the last one that held an exchange near the next look: where a last
    /// look is to be.
    pub fn end(&self) -> Option<i64> {
        let next = self.state.next?;
        let last = self.state.ticks.range(..self.far_from(next)).next_back();
        last.map(|(tick, _)| tick.div_euclid(self.step_ticks()) + 1)
    }

    /// The first tick that lies after a look.
    pub fn end_tick(&self, next: i64) -> i64 {
        next * self.step_ticks()
    }

    /// Exchanges by hour since the Unix epoch, of the window of a look before `next`.
    pub fn hours(&self, next: i64) -> Vec<(i64, u64)> {
        let mut hours: BTreeMap<i64, u64> = BTreeMap::new();
        for (tick, exchanges) in self.state.ticks.range(..next * self.step_ticks()) {
            let hour = (self.origin() + tick * self.tick_us).div_euclid(HOUR_US);
            *hours.entry(hour).or_default() += exchanges;
        }
        hours.into_iter().collect()
    }
}

trait DivCeilTo {
    fn div_ceil_to(self, by: i64) -> i64;
}

impl DivCeilTo for i64 {
    fn div_ceil_to(self, by: i64) -> i64 {
        self.div_euclid(by) + i64::from(self.rem_euclid(by) != 0)
    }
}

#[cfg(test)]
mod tests {
    use stillwatch_exchange::time::DAY_US;

    use super::*;

    const START: Time = Time(1_772_409_600_000_000);

    fn clock(looks: i64) -> Clock {
        let pace = Pace::new(7 * DAY_US, 7 * DAY_US / looks, Some(HOUR_US)).unwrap();
        Clock::new(pace, ClockState::default())
    }

    fn at(clock: &mut Clock, hours: std::ops::Range<i64>, exchanges: u64) {
        for hour in hours {
            let tick = clock.tick(Time(START.0 + hour * HOUR_US));
            clock.count(tick, exchanges);
        }
    }

    #[test]
    fn a_look_comes_when_the_step_is_over_and_the_allowance_too() {
        let mut clock = clock(7);
        at(&mut clock, 0..24, 10);
        assert!(clock.begin(false));
        let next = clock.step(Time(START.0 + DAY_US));
        assert_eq!(clock.state.next, Some(next));
        at(&mut clock, 24..25, 90);
        assert_eq!(clock.due(), None, "within the allowance");
        at(&mut clock, 25..26, 11);
        assert_eq!(clock.due(), None, "a twentieth of the step is twelve");
        at(&mut clock, 26..27, 1);
        assert_eq!(clock.due(), Some(next));
        clock.went_on();
        assert_eq!(clock.due(), None);
        assert_eq!(clock.state.next, Some(next + 1));
    }

    #[test]
    fn times_far_ahead_do_not_move_the_clock_until_they_are_most() {
        let mut clock = clock(1);
        at(&mut clock, 0..48, 10);
        assert!(clock.begin(false));
        let next = clock.state.next.unwrap();
        let years = 24 * 365 * 50;
        at(&mut clock, years..years + 1, 400);
        assert_eq!(clock.due(), None);
        at(&mut clock, 48..100, 10);
        assert_eq!(clock.state.next, Some(next));
        at(&mut clock, years..years + 1, 700);
        assert_eq!(clock.due(), Some(next), "nothing but times far ahead: there was a pause");
        clock.went_on();
        assert!(clock.state.next.unwrap() > next + 50 * 50);
    }

    #[test]
    fn a_first_exchange_of_another_year_is_not_where_it_begins() {
        let mut clock = clock(1);
        at(&mut clock, -24 * 700..-24 * 700 + 1, 1);
        at(&mut clock, 0..1, 62);
        assert!(!clock.begin(false), "too few to tell");
        at(&mut clock, 24 * 700..24 * 700 + 1, 1);
        assert!(clock.begin(false));
        assert_eq!(clock.state.next, Some(clock.step(START) + 1));
        assert_eq!((clock.state.near, clock.state.far), (63, 1));
    }

    #[test]
    fn ticks_are_bounded() {
        let mut clock = clock(1);
        at(&mut clock, 0..(TICKS_MAX as i64 + 900), 1);
        assert_eq!(clock.state.ticks.len(), TICKS_MAX);
        assert_eq!(clock.sum(i64::MIN..i64::MAX), TICKS_MAX as u64 + 900);
    }
}

//! How a period of event time is cut: into epochs, and epochs into bins.
//!
//! Candidates are frozen at the ends of epochs, and looked at again at the ends of
//! later ones, so every figure that linking or confirming needs is kept by epoch.

use stillwatch_exchange::Time;
use stillwatch_exchange::time::{DAY_US, HOUR_US};

/// Epochs of a period.
pub const EPOCHS: usize = 4;
/// Bins of an epoch, for co-activity.
pub const BINS: usize = 256;
/// Slices of an epoch, for the course of volumes.
pub const SLICES: usize = 8;
/// Releases whose first days are watched; where there are more, the latest count.
pub const RELEASES: usize = 4;

/// The period under study and what happened in it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Calendar {
    /// Start of the period, microseconds since the Unix epoch.
    start_us: i64,
    /// Length of an epoch; a whole number of bins and slices.
    epoch_us: i64,
    /// Up to when the period is known, microseconds since the Unix epoch.
    known_us: i64,
    /// Releases within the period: when, and the model's hash, by time.
    releases: Vec<(i64, u64)>,
}

impl Calendar {
    /// A calendar for exchanges from `first` to `last`. Times outside fall into the
    /// first or the last epoch.
    #[must_use]
    pub fn new(first: Time, last: Time, releases: &[(Time, u64)]) -> Self {
        let grain = (BINS.max(SLICES) * EPOCHS) as i64;
        let span = (last.0 - first.0).max(0) + 1;
        let bin = (span + grain - 1) / grain;
        let start_us = first.0;
        let epoch_us = bin * BINS as i64;
        let end = start_us + epoch_us * EPOCHS as i64;
        let mut within: Vec<(i64, u64)> = releases
            .iter()
            .map(|(time, model)| (time.0, *model))
            .filter(|(time, _)| (start_us..end).contains(time))
            .collect();
        within.sort_unstable();
        within.dedup();
        let surplus = within.len().saturating_sub(RELEASES);
        within.drain(..surplus);
        Calendar { start_us, epoch_us, known_us: end, releases: within }
    }

    /// When an epoch starts; `epoch` may be [`EPOCHS`] for the end of the period.
    #[must_use]
    pub fn epoch_start(&self, epoch: usize) -> Time {
        Time(self.start_us + self.epoch_us * epoch as i64)
    }

    /// The same calendar, of a period whose exchanges are known up to `time` only.
    #[must_use]
    pub fn known_until(mut self, time: Time) -> Self {
        self.known_us = self.known_us.min(time.0);
        self
    }

    /// When a look at the first `epochs` epochs can be taken: at their end, or where that
    /// has not come, now.
    #[must_use]
    pub fn look_at(&self, epochs: usize) -> Time {
        self.epoch_start(epochs).min(Time(self.known_us))
    }

    /// Days in an epoch.
    #[must_use]
    pub fn epoch_days(&self) -> f64 {
        self.epoch_us as f64 / DAY_US as f64
    }

    /// Length of a bin in microseconds.
    #[must_use]
    pub fn bin_us(&self) -> i64 {
        self.epoch_us / BINS as i64
    }

    /// The releases that are watched: when, and the model's hash.
    #[must_use]
    pub fn releases(&self) -> &[(i64, u64)] {
        &self.releases
    }

    /// The epoch, bin and slice of a time.
    #[inline]
    #[must_use]
    pub fn place(&self, time: Time) -> (usize, usize, usize) {
        let last = self.epoch_us * EPOCHS as i64 - 1;
        let offset = time.0.saturating_sub(self.start_us).clamp(0, last);
        let epoch = offset / self.epoch_us;
        let within = offset - epoch * self.epoch_us;
        let bin = within / (self.epoch_us / BINS as i64);
        (epoch as usize, bin as usize, bin as usize / (BINS / SLICES))
    }

    /// The hour of day (UTC) of the middle of a bin.
    #[must_use]
    pub fn hour_of_bin(&self, epoch: usize, bin: usize) -> usize {
        let middle = self.epoch_start(epoch).0 + self.bin_us() * bin as i64 + self.bin_us() / 2;
        (middle.rem_euclid(DAY_US) / HOUR_US) as usize
    }
}

/// Epochs of one length without beginning or end, for traffic that goes on. They start
/// on a Monday, so that a week of them is a week of the calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grid {
    epoch_us: i64,
}

/// 1970-01-05T00:00:00Z, a Monday, in microseconds.
const GRID_ORIGIN_US: i64 = 4 * DAY_US;
/// What an epoch of a grid is a whole number of: its bins are whole microseconds then.
pub const GRID_GRAIN_US: i64 = 60_000_000;

impl Grid {
    /// A grid of epochs that are a whole number of minutes long, at least one; `None` for
    /// another length.
    #[must_use]
    pub fn new(epoch_us: i64) -> Option<Self> {
        (epoch_us > 0 && epoch_us % GRID_GRAIN_US == 0).then_some(Grid { epoch_us })
    }

    /// Length of an epoch in microseconds.
    #[must_use]
    pub fn epoch_us(self) -> i64 {
        self.epoch_us
    }

    /// When the epoch of that number starts.
    #[must_use]
    pub fn start(self, epoch: i64) -> Time {
        Time(GRID_ORIGIN_US.saturating_add(self.epoch_us.saturating_mul(epoch)))
    }

    /// The number of the epoch that a time lies in.
    #[inline]
    #[must_use]
    pub fn epoch(self, time: Time) -> i64 {
        time.0.saturating_sub(GRID_ORIGIN_US).div_euclid(self.epoch_us)
    }

    /// The bin and the slice of a time in its epoch, as a calendar has them.
    #[inline]
    #[must_use]
    pub fn place(self, time: Time) -> (usize, usize) {
        let within = time.0.saturating_sub(GRID_ORIGIN_US).rem_euclid(self.epoch_us);
        let bin = (within / (self.epoch_us / BINS as i64)) as usize;
        (bin, bin / (BINS / SLICES))
    }

    /// The calendar of the [`EPOCHS`] epochs of which this is the last.
    #[must_use]
    pub fn calendar(self, last: i64, releases: &[(Time, u64)]) -> Calendar {
        let first = last - (EPOCHS as i64 - 1);
        Calendar::new(self.start(first), Time(self.start(last + 1).0 - 1), releases)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_has_a_place() {
        let calendar = Calendar::new(Time(1_000), Time(1_000 + 28 * DAY_US), &[]);
        assert_eq!(calendar.place(Time(0)), (0, 0, 0));
        assert_eq!(calendar.place(Time(1_000)), (0, 0, 0));
        assert_eq!(calendar.place(Time(i64::MAX)), (EPOCHS - 1, BINS - 1, SLICES - 1));
        for epoch in 0..EPOCHS {
            let start = calendar.epoch_start(epoch);
            assert_eq!(calendar.place(start), (epoch, 0, 0));
            assert_eq!(calendar.place(Time(start.0 - 1)).0, epoch.saturating_sub(1));
        }
    }

    #[test]
    fn a_grid_places_times_as_the_calendar_of_its_window_does() {
        for epoch_us in [GRID_GRAIN_US, 7 * GRID_GRAIN_US, HOUR_US, DAY_US, 7 * DAY_US] {
            let grid = Grid::new(epoch_us).unwrap();
            let last = grid.epoch(Time(1_772_409_600_000_000));
            let calendar = grid.calendar(last, &[]);
            assert_eq!(calendar.epoch_start(EPOCHS), grid.start(last + 1));
            for part in 0..4_000 {
                let time = Time(grid.start(last - 3).0 + epoch_us * 4 / 4_000 * part + part % 3);
                let (bin, slice) = grid.place(time);
                let epoch = (grid.epoch(time) - (last - 3)) as usize;
                assert_eq!(calendar.place(time), (epoch, bin, slice));
            }
        }
        let grid = Grid::new(DAY_US).unwrap();
        let calendar = grid.calendar(20_000, &[]);
        assert_eq!(calendar.look_at(EPOCHS), calendar.epoch_start(EPOCHS));
        let now = Time(calendar.epoch_start(3).0 + 5);
        assert_eq!(calendar.clone().known_until(now).look_at(EPOCHS), now);
        assert_eq!(calendar.clone().known_until(now).look_at(3), calendar.epoch_start(3));
        assert_eq!(Grid::new(GRID_GRAIN_US + 1), None);
        assert_eq!(Grid::new(0), None);
        let week = Grid::new(7 * DAY_US).unwrap();
        assert_eq!(week.start(week.epoch(Time(1_772_409_600_000_000))).0, 1_772_409_600_000_000);
    }

    #[test]
    fn a_single_moment_is_a_period() {
        let calendar = Calendar::new(Time(5), Time(5), &[(Time(5), 9)]);
        assert_eq!(calendar.place(Time(5)).0, 0);
        assert!(calendar.epoch_days() > 0.0);
        assert_eq!(calendar.releases(), &[(5, 9)]);
    }
}

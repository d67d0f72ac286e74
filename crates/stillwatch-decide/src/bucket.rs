//! One token bucket for all accounts of a campaign, without a lock.
//!
//! The generic cell rate algorithm (ITU-T I.371, annex A): instead of a level and the
//! time at which it was true, one number is kept, the moment at which the bucket will
//! be full again. Taking tokens moves it on, giving back moves it home.
//!
//! What an answer will cost is not known when it is asked for. So the most that it can
//! cost is taken at the start and the difference settled at the end. An answer that
//! costs more than was taken leaves a debt, which is paid before anything else is
//! admitted: over any span, what is admitted stays below the rate times the span, plus
//! one burst, plus what the answers under way exceed their reservations by.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, Ordering};

use crate::shared::Lease;

/// How fast a bucket fills and how much it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Output tokens per minute, at least 1.
    pub tokens_per_minute: u32,
    /// The most that can be taken at once, in tokens, at least 1.
    pub burst_tokens: u32,
}

pub(crate) const MINUTE_NS: i64 = 60_000_000_000;

impl Rate {
    /// How long it takes to fill in so many tokens, in nanoseconds.
    fn nanoseconds(self, tokens: u64) -> i64 {
        let nanoseconds =
            u128::from(tokens) * MINUTE_NS as u128 / u128::from(self.tokens_per_minute.max(1));
        // A third of the range, so that no sum of two moments overflows.
        i64::try_from(nanoseconds).unwrap_or(i64::MAX).min(i64::MAX / 3)
    }
}

/// The bucket is empty; in this many nanoseconds it won't be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait {
    pub nanoseconds: i64,
}

impl Wait {
    /// Whole seconds, rounded up, at least 1: what `retry-after` says.
    #[must_use]
    pub fn seconds(self) -> u64 {
        let seconds = self.nanoseconds.max(1).unsigned_abs().div_ceil(1_000_000_000);
        seconds.max(1)
    }
}

/// A token bucket; any number of threads may take from it.
#[derive(Debug)]
pub struct Bucket {
    rate: Rate,
    /// When it will be full, in nanoseconds of the callers' clock.
    full_at: AtomicI64,
    /// What is admitted from instead, where other guards share the bucket.
    lease: OnceLock<Lease>,
}

impl Bucket {
    /// A full bucket.
    #[must_use]
    pub fn new(rate: Rate) -> Self {
        Bucket { rate, full_at: AtomicI64::new(i64::MIN / 3), lease: OnceLock::new() }
    }

    /// From now on it is one that other guards share: nothing is admitted but from a slice.
    pub fn share(&self) {
        let _ = self.lease.get_or_init(Lease::default);
    }

    /// What is admitted from, where other guards share the bucket.
    #[must_use]
    pub fn lease(&self) -> Option<&Lease> {
        self.lease.get()
    }

    /// What it was made with.
    #[must_use]
    pub fn rate(&self) -> Rate {
        self.rate
    }

    /// Takes up to this many tokens: as many as asked, at most a burst (three quarters of one
    /// that is shared). Returns how
    /// many were taken. `now` is nanoseconds of any clock that never runs backwards.
    ///
    /// # Errors
    /// There are not enough; how long to wait for them. Nothing was taken.
    pub fn take(&self, tokens: u32, now: i64) -> Result<u32, Wait> {
        if let Some(lease) = self.lease() {
            return lease.take(self.rate, tokens, now);
        }
        let taken = tokens.clamp(1, self.rate.burst_tokens.max(1));
        let cost = self.rate.nanoseconds(taken.into());
        let room = self.rate.nanoseconds(self.rate.burst_tokens.max(1).into());
        let mut full_at = self.full_at.load(Ordering::Relaxed);
        loop {
            let next = full_at.max(now).saturating_add(cost);
            let excess = next - now - room;
            if excess > 0 {
                return Err(Wait { nanoseconds: excess });
            }
            match self.full_at.compare_exchange_weak(
                full_at,
                next,
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) => return Ok(taken),
                Err(seen) => full_at = seen,
            }
        }
    }

    /// Says what an exchange has cost in the end, for which `taken` were taken.
    pub fn settle(&self, taken: u64, used: u64, now: i64) {
        if let Some(lease) = self.lease() {
            return lease.settle(taken, used);
        }
        let taken_ns = self.rate.nanoseconds(taken);
        let used_ns = self.rate.nanoseconds(used);
        // A debt is counted from now, even if the bucket has been full for long.
        let _ = self.full_at.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |full_at| {
            let owed = used_ns - taken_ns;
            Some(if owed > 0 { full_at.max(now).saturating_add(owed) } else { full_at + owed })
        });
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: i64 = 1_000_000_000;

    #[test]
    fn a_burst_and_then_the_rate() {
        let bucket = Bucket::new(Rate { tokens_per_minute: 60, burst_tokens: 10 });
        assert_eq!(bucket.take(10, 0), Ok(10));
        let wait = bucket.take(1, 0).unwrap_err();
        assert_eq!((wait.nanoseconds, wait.seconds()), (SECOND, 1));
        assert_eq!(bucket.take(1, SECOND), Ok(1));
        assert_eq!(bucket.take(5, SECOND).unwrap_err().seconds(), 5);
    }

    #[test]
    fn what_was_not_used_comes_back_and_a_debt_is_paid() {
        let bucket = Bucket::new(Rate { tokens_per_minute: 60, burst_tokens: 100 });
        assert_eq!(bucket.take(1_000, 0), Ok(100), "never more than a burst");
        bucket.settle(100, 40, 0);
        assert_eq!(bucket.take(60, 0), Ok(60));
        bucket.settle(60, 90, 0);
        assert_eq!(bucket.take(1, 0).unwrap_err().seconds(), 31);
        assert_eq!(bucket.take(1, 31 * SECOND), Ok(1));
    }

    proptest! {
        /// Whatever is taken and settled, and whenever: what was used by exchanges that
        /// kept to their reservation never exceeds the rate and one burst.
        #[test]
        fn never_above_the_limit(
            rate in 1_u32..100_000,
            burst in 1_u32..10_000,
            steps in prop::collection::vec((0_i64..5 * SECOND, 1_u32..20_000, 0.0_f64..=1.0), 1..200),
        ) {
            let bucket = Bucket::new(Rate { tokens_per_minute: rate, burst_tokens: burst });
            let (mut now, mut used) = (0_i64, 0.0_f64);
            for (pause, asked, share) in steps {
                now += pause;
                if let Ok(taken) = bucket.take(asked, now) {
                    let spent = (f64::from(taken) * share).floor();
                    bucket.settle(taken.into(), spent as u64, now);
                    used += spent;
                }
                let limit = f64::from(burst) + f64::from(rate) * now as f64 / MINUTE_NS as f64;
                // A nanosecond of rounding for each step.
                prop_assert!(used <= limit + 1.0, "{used} of {limit}");
            }
        }

        /// Whoever waits as told is admitted.
        #[test]
        fn waiting_as_told_is_enough(
            rate in 1_u32..100_000,
            burst in 1_u32..10_000,
            asks in prop::collection::vec(1_u32..20_000, 1..50),
        ) {
            let bucket = Bucket::new(Rate { tokens_per_minute: rate, burst_tokens: burst });
            let mut now = 0;
            for asked in asks {
                if let Err(wait) = bucket.take(asked, now) {
                    prop_assert!(wait.nanoseconds > 0);
                    now += wait.nanoseconds;
                    prop_assert!(bucket.take(asked, now).is_ok());
                }
            }
        }
    }
}

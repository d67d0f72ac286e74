//! A limit per account, as every provider has one.
//!
//! What it is: an account is accused once it asks more than so many questions in a day
//! (UTC). Source: common practice; no paper. Settings: the limit itself, set on traffic
//! without campaigns. Complexity: linear in the exchanges, one number an account.

use stillwatch_exchange::time::DAY_US;

use crate::detector::{Detector, Suspicion, rise};
use crate::traffic::{Needs, Traffic};

pub struct RateLimit;

impl Detector for RateLimit {
    fn name(&self) -> &'static str {
        "limit per account"
    }

    fn needs(&self) -> Needs {
        Needs::default()
    }

    fn suspicions(&self, traffic: &Traffic, _: &[f64]) -> Vec<Suspicion> {
        let mut today = vec![(i64::MIN, 0u32); traffic.accounts.len()];
        let mut courses = vec![Vec::new(); traffic.accounts.len()];
        for exchange in &traffic.exchanges {
            let account = exchange.account as usize;
            let day = exchange.time_us.div_euclid(DAY_US);
            let (counted, count) = &mut today[account];
            if *counted != day {
                (*counted, *count) = (day, 0);
            }
            *count += 1;
            rise(&mut courses[account], exchange.time_us, f64::from(*count));
        }
        courses
            .into_iter()
            .enumerate()
            .map(|(account, course)| Suspicion { accounts: vec![account as u32], course })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detectors::made::{DAY, HOUR, traffic};

    #[test]
    fn it_sees_the_loud_and_not_the_many() {
        // One account asks a hundred times in a day; fifty ask six times a day each.
        let loud = (0..100).map(|i| (0, i * HOUR / 10));
        let many = (1..=50).flat_map(|a| (0..24).map(move |i| (a, i * 4 * HOUR)));
        let suspicions = RateLimit.suspicions(&traffic(loud.chain(many)), &[]);
        assert_eq!(suspicions[0].peak(), 100.0);
        assert_eq!(suspicions[0].when_above(50.0), Some(5 * HOUR));
        assert!(suspicions[1..].iter().all(|s| s.peak() == 6.0));
    }

    #[test]
    fn days_are_counted_apart() {
        let suspicions =
            RateLimit.suspicions(&traffic([(0, DAY - 1), (0, DAY), (0, DAY + 1)].into_iter()), &[]);
        assert_eq!(suspicions[0].peak(), 2.0);
    }
}

//! Tiny traffic made by hand, for the detectors' tests.

use crate::text::vector_of;
use crate::traffic::{Account, Exchange, Traffic};

pub const HOUR: i64 = stillwatch_exchange::time::HOUR_US;
pub const DAY: i64 = stillwatch_exchange::time::DAY_US;

/// Traffic of exchanges with an account and a time each, and nothing else.
pub fn traffic(exchanges: impl Iterator<Item = (u32, i64)>) -> Traffic {
    of(exchanges.map(|(account, time_us)| Exchange { account, time_us, ..Exchange::default() }))
}

/// Traffic of whole exchanges.
pub fn of(exchanges: impl Iterator<Item = Exchange>) -> Traffic {
    let mut exchanges: Vec<Exchange> = exchanges.collect();
    exchanges.sort_by_key(|e| e.time_us);
    let accounts = exchanges.iter().map(|e| e.account + 1).max().unwrap_or(0);
    let accounts =
        (0..accounts).map(|i| Account { id: format!("a{i}"), ..Account::default() }).collect();
    Traffic { accounts, exchanges, vectors: Vec::new() }
}

/// Traffic of prompts, one an hour for each account.
pub fn asked(prompts: impl Iterator<Item = (u32, String)>) -> Traffic {
    let prompts: Vec<(u32, String)> = prompts.collect();
    let mut traffic =
        traffic(prompts.iter().enumerate().map(|(i, (account, _))| (*account, i as i64 * HOUR)));
    traffic.vectors = prompts.iter().map(|(_, text)| vector_of(text)).collect();
    traffic
}

/// A text of some words that hardly two numbers share.
pub fn words(number: u64, count: u64) -> String {
    (0..count)
        .map(|k| {
            format!(
                "w{} ",
                xxhash_rust::xxh3::xxh3_64(&[number, k].map(u64::to_le_bytes).concat()) % 5000
            )
        })
        .collect()
}

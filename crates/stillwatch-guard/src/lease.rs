//! Slices of the buckets that several guards share, taken ahead of need.
//!
//! Each slowed campaign's bucket is a value in a key-value bucket
//! ([`Shared`](stillwatch_decide::Shared)), which guards replace only as they have read it. Exchanges
//! are admitted from what is held here; where that is too little, they wait for the next
//! slice for a moment (`Guard::slice`).
//!
//! While the server is away a guard goes on with what it holds, until that ends
//! ([`LASTS_NS`]); then slowed accounts wait, so that the limit holds whatever happens.

use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;
use stillwatch_broker::{BrokerError, Cells, Server, Swap};
use stillwatch_decide::{Given, InForce, Shared, Turn};
use tokio::sync::watch;
use xxhash_rust::xxh3::xxh3_64;

use crate::brokers::Away;
use crate::gateway::Guard;

/// How often leases are looked at although nobody lacks anything.
const TICK: Duration = Duration::from_millis(50);
/// How long a slice may be used.
pub const LASTS_NS: i64 = 60 * SECOND_NS;
/// A slice goes back when nobody has wanted any of it for so long.
const IDLE_NS: i64 = 5 * SECOND_NS;
/// How often the server's clock is asked for, and how long an answer may take.
const CLOCK_NS: i64 = 30 * SECOND_NS;
const CLOCK_ERROR_NS: i64 = 2 * SECOND_NS;
/// How long nothing is asked of a server that is away.
const AWAY_NS: i64 = SECOND_NS;
/// How often a change is tried when other guards are faster.
const TRIES: usize = 8;
/// How long the record of a bucket that nobody touches is kept; then it is full.
const KEPT: Duration = Duration::from_secs(30 * 86_400);
/// How long slices may take to go back at the end.
const RETURN: Duration = Duration::from_secs(5);
const SECOND_NS: i64 = 1_000_000_000;

const WHAT: &str = "the limit that guards share";
const MEANWHILE: &str = "slowed accounts get what this guard holds, and then wait";

/// What the server's clock is at least and at most ahead of this guard's.
#[derive(Clone, Copy, Debug)]
struct ServerClock {
    at: i64,
    least: i64,
    most: i64,
}

impl ServerClock {
    /// A moment that has certainly come there; the two clocks may drift apart by a
    /// thousandth.
    fn at_least(self, now: i64) -> i64 {
        now.saturating_add(self.least).saturating_sub((now - self.at) / 1000)
    }

    /// The moment here before which one there has certainly not come.
    fn before(self, server: i64) -> i64 {
        server.saturating_sub(self.most).saturating_sub((LASTS_NS + CLOCK_NS) / 1000)
    }
}

/// What is known of one campaign's bucket.
#[derive(Debug, Default)]
struct Turns {
    serial: u64,
    /// The record knows this guard.
    is_known: bool,
    /// A turn that may have happened, or may yet.
    pending: Option<Pending>,
}

#[derive(Debug)]
struct Pending {
    turn: Turn,
    given: Given,
    serial: u64,
}

/// Takes slices for one guard.
#[derive(Debug)]
pub struct Leases {
    server: Server,
    cells: Option<Cells>,
    /// This run's own name.
    name: String,
    clock: Option<ServerClock>,
    turns: HashMap<String, Turns>,
    not_before: i64,
}

impl Leases {
    pub fn new(server: Server, run_id: u64) -> Self {
        Leases {
            server,
            cells: None,
            name: format!("{run_id:016x}"),
            clock: None,
            turns: HashMap::new(),
            not_before: i64::MIN,
        }
    }

    /// Takes and gives back slices until `stopped`; then all of them go back.
    pub async fn run(mut self, guard: Arc<Guard>, away: &Away, mut stopped: watch::Receiver<bool>) {
        loop {
            tokio::select! {
                () = guard.lacking.notified() => {}
                () = tokio::time::sleep(TICK) => {}
                _ = stopped.wait_for(|stopped| *stopped) => break,
            }
            let in_force = guard.live.now();
            let campaigns = in_force.table.campaigns();
            // Campaigns that are gone are forgotten; what was held of them ends by itself.
            if self.turns.len() > 2 * campaigns.len() + 64 {
                let keys: Vec<String> = campaigns.iter().map(|campaign| key(campaign)).collect();
                self.turns.retain(|known, _| keys.contains(known));
            }
            if guard.monotonic() < self.not_before {
                continue;
            }
            // Also while no campaign is slowed: that is too late to learn of it.
            let mut outcome = match self.cells().await {
                Ok(_) => self.server.connected(),
                Err(error) => Err(error),
            };
            for campaign in campaigns {
                if outcome.is_err() {
                    break;
                }
                outcome = self.take_turns(&guard, campaign, false).await;
            }
            match outcome {
                Ok(()) => away.back(WHAT, self.server.place()),
                Err(error) => {
                    away.gone(WHAT, &error, MEANWHILE);
                    self.not_before = guard.monotonic().saturating_add(AWAY_NS);
                    let leases = campaigns.iter().filter_map(|campaign| campaign.bucket.lease());
                    leases.for_each(|lease| lease.dry(self.not_before));
                }
            }
        }
        let in_force = guard.live.now();
        let give_back = async {
            for campaign in in_force.table.campaigns() {
                // What can't go back now ends by itself.
                let _ = self.take_turns(&guard, campaign, true).await;
            }
        };
        let _ = tokio::time::timeout(RETURN, give_back).await;
    }

    async fn cells(&mut self) -> Result<Cells, BrokerError> {
        if let Some(cells) = &self.cells {
            return Ok(cells.clone());
        }
        let cells = Cells::open(&self.server, KEPT).await?;
        self.cells = Some(cells.clone());
        Ok(cells)
    }

    /// The server's clock, as far as it is known.
    async fn clock(&mut self, guard: &Guard) -> Result<ServerClock, BrokerError> {
        if let Some(clock) = self.clock
            && guard.monotonic().saturating_sub(clock.at) < CLOCK_NS
        {
            return Ok(clock);
        }
        let cells = self.cells().await?;
        let before = guard.monotonic();
        let stored = cells.time().await?;
        let after = guard.monotonic();
        if after.saturating_sub(before) > CLOCK_ERROR_NS {
            return Err(BrokerError::Away {
                place: self.server.place().to_owned(),
                what: "its answers take too long to tell the time by".to_owned(),
            });
        }
        let clock = ServerClock { at: after, least: stored - after, most: stored - before };
        self.clock = Some(clock);
        Ok(clock)
    }

    /// Does for one campaign what is to be done.
    async fn take_turns(
        &mut self,
        guard: &Guard,
        campaign: &InForce,
        is_last: bool,
    ) -> Result<(), BrokerError> {
        let Some(lease) = campaign.bucket.lease() else { return Ok(()) };
        let rate = campaign.bucket.rate();
        let renews = |now: i64| lease.until().saturating_sub(now) < LASTS_NS / 2;
        let now = guard.monotonic();
        let key = key(campaign);
        let is_pending = self.turns.get(&key).is_some_and(|turns| turns.pending.is_some());
        if !is_pending && !lease.is_due(rate, now, IDLE_NS, renews(now), is_last) {
            return Ok(());
        }
        let clock = self.clock(guard).await?;
        let cells = self.cells().await?;
        for _ in 0..TRIES {
            let cell = cells.read(&key).await?;
            let now = guard.monotonic();
            let server_now = clock.at_least(now);
            let mut shared = match &cell.value {
                None => Shared::full(rate, server_now),
                Some(value) => Shared::parse(value, rate).ok_or_else(|| BrokerError::Broken {
                    place: self.server.place().to_owned(),
                    what: format!("the bucket {key} can't be read; remove it"),
                })?,
            };
            let turns = self.turns.entry_ref(key.as_str()).or_default();
            let serial = shared.serial(&self.name, server_now);
            let end = |given: &Given| clock.before(given.until_ns);
            if let Some(pending) = turns.pending.take_if(|p| serial == Some(p.serial)) {
                lease.given(pending.turn, pending.given, end(&pending.given), now);
                turns.is_known = true;
                guard.granted.notify_waiters();
            }
            if turns.is_known && serial.is_none() {
                lease.forfeit();
                turns.is_known = false;
            }
            // While a turn may still happen, nothing else changes hands: once anything was
            // stored after it, it can't any more.
            let turn = if turns.pending.is_some() {
                Some(lease.touch())
            } else {
                lease.turn(rate, now, IDLE_NS, renews(now), is_last)
            };
            let Some(mut turn) = turn else { return Ok(()) };
            turn.ask.serial = turns.serial + 1;
            turn.ask.lasts_ns = LASTS_NS;
            let given = shared.give(&self.name, turn.ask, server_now);
            if turns.pending.is_none() && lease.is_in_vain(turn, given, now) {
                return Ok(());
            }
            turns.serial += 1;
            match cells.replace(&key, &cell, shared.to_bytes().into()).await {
                Ok(Swap::Done) => {
                    turns.is_known = true;
                    lease.given(turn, given, end(&given), now);
                    guard.granted.notify_waiters();
                    match turns.pending.take() {
                        Some(pending) => lease.refused(pending.turn),
                        None => return Ok(()),
                    }
                }
                Ok(Swap::Lost) => lease.refused(turn),
                Err(error) => {
                    if turns.pending.is_none() {
                        turns.pending = Some(Pending { turn, given, serial: turns.serial });
                    }
                    return Err(error);
                }
            }
        }
        Ok(())
    }
}

/// Where a campaign's bucket is: one of another rate is another.
fn key(campaign: &InForce) -> String {
    let rate = campaign.bucket.rate();
    let hash = xxh3_64(campaign.campaign_id.as_bytes());
    format!("slow.{hash:016x}.{}.{}", rate.tokens_per_minute, rate.burst_tokens)
}

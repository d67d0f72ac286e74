//! When everything happens: accounts' days become moments, in the order of time.
//!
//! A day of an account is planned from its name alone, so that any stretch of time
//! can be made without the one before. What is held in memory is one stretch of at
//! most about [`STRETCH_EXCHANGES`] exchanges, whatever the size of the world.

use std::collections::VecDeque;

use rayon::prelude::*;
use stillwatch_exchange::time::{DAY_US, HOUR_US, SECOND_US};

use crate::draws::{Draws, Purpose, mix};
use crate::population::{Account, Content, Schedule};
use crate::world::World;

/// Exchanges that are planned at once, about.
const STRETCH_EXCHANGES: u64 = 1_500_000;
/// Longest conversation, in turns.
const TURNS_MAX: u32 = 120;

/// One exchange before it has any words.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    pub time_us: i64,
    /// Who is billed.
    pub account: u32,
    /// Who began the conversation.
    pub origin: u32,
    pub activity: u16,
    pub day: u16,
    pub turn: u16,
    /// Which conversation of the origin's day, or which item of a seat's shard.
    pub number: u32,
}

/// The moments of a world, in order.
pub(crate) struct Timeline<'a> {
    world: &'a World,
    stretch: u64,
    stretches_per_day: u64,
    /// What conversations begun earlier still have to come.
    later: Vec<Moment>,
    ready: VecDeque<Moment>,
}

impl<'a> Timeline<'a> {
    pub(crate) fn new(world: &'a World) -> Self {
        let per_day = world.settings.exchanges / u64::from(world.settings.days);
        let needed = (per_day / STRETCH_EXCHANGES) + 1;
        let stretches_per_day =
            [1, 2, 3, 4, 6, 8, 12, 24, 48, 96].into_iter().find(|n| *n >= needed).unwrap_or(96);
        Timeline { world, stretch: 0, stretches_per_day, later: Vec::new(), ready: VecDeque::new() }
    }

    /// The next `count` moments, fewer only at the end of the world.
    pub(crate) fn take(&mut self, count: usize) -> Vec<Moment> {
        while self.ready.len() < count && self.plan_stretch() {}
        let count = count.min(self.ready.len());
        self.ready.drain(..count).collect()
    }

    fn plan_stretch(&mut self) -> bool {
        let population = &self.world.population;
        if self.stretch >= u64::from(population.days) * self.stretches_per_day {
            return false;
        }
        let day = (self.stretch / self.stretches_per_day) as u32;
        let width = DAY_US / self.stretches_per_day as i64;
        let from = population.start_us + self.stretch as i64 * width;
        let until = from + width;
        self.stretch += 1;
        let last = self.stretch == u64::from(population.days) * self.stretches_per_day;

        let mut moments: Vec<Moment> = (0..population.accounts.len())
            .into_par_iter()
            .with_min_len(256)
            .fold(Vec::new, |mut moments, account| {
                plan_day(self.world, account as u32, day, from, until, &mut moments);
                moments
            })
            .reduce(Vec::new, |mut all, more| {
                all.extend(more);
                all
            });
        moments.append(&mut self.later);
        // Hashes break ties, so that the order tells nothing of who is who.
        moments.par_sort_unstable_by_key(|m| {
            let account = &population.accounts[m.account as usize];
            (m.time_us, account.bits, m.turn, m.number, m.activity)
        });
        let end = population.end_us();
        moments.retain(|m| m.time_us < end);
        let cut = if last { moments.len() } else { moments.partition_point(|m| m.time_us < until) };
        self.later = moments.split_off(cut);
        self.ready.extend(moments);
        true
    }
}

/// How many exchanges each kind of account makes, counted without making them.
pub(crate) fn count_by_kind(world: &World) -> Vec<u64> {
    let population = &world.population;
    let kinds = population.scale.len();
    (0..population.accounts.len())
        .into_par_iter()
        .with_min_len(64)
        .fold(
            || (vec![0u64; kinds], Vec::new()),
            |(mut counts, mut moments), index| {
                for day in 0..population.days {
                    let from = population.start_us + i64::from(day) * DAY_US;
                    plan_day(world, index as u32, day, from, from + DAY_US, &mut moments);
                }
                let end = population.end_us();
                let kind = usize::from(population.accounts[index].kind);
                counts[kind] += moments.iter().filter(|m| m.time_us < end).count() as u64;
                moments.clear();
                (counts, moments)
            },
        )
        .map(|(counts, _)| counts)
        .reduce(|| vec![0; kinds], |a, b| a.iter().zip(&b).map(|(x, y)| x + y).collect())
}

/// Appends what an account begins in `from..until`, a part of the day numbered `day`.
fn plan_day(world: &World, index: u32, day: u32, from: i64, until: i64, out: &mut Vec<Moment>) {
    let population = &world.population;
    let account = &population.accounts[index as usize];
    if account.created_us >= until || account.closed_us <= from {
        return;
    }
    let day_us = population.start_us + i64::from(day) * DAY_US;
    let scale = population.scale[usize::from(account.kind)];
    for (activity, what) in account.activities.iter().enumerate() {
        let mut plan =
            Plan { world, account, index, activity: activity as u16, day, from, until, out };
        let mut draws = Draws::new(
            population.seed,
            Purpose::Day,
            u64::from(index) << 8 | activity as u64,
            u64::from(day),
        );
        let d = &mut draws;
        match what.schedule {
            Schedule::Rhythm { rate, active, peak, width, weekend } => {
                let weekday = (day_us.div_euclid(DAY_US) + 3).rem_euclid(7);
                let week = if weekday >= 5 { f64::from(weekend) } else { 1.0 };
                let active = f64::from(active).max(0.01);
                if !d.chance(active) {
                    continue;
                }
                for number in 0..d.poisson(f64::from(rate) * scale * week / active) {
                    let hour = if d.chance(0.1) {
                        24.0 * d.unit()
                    } else {
                        (f64::from(peak) + f64::from(width) * d.normal()).rem_euclid(24.0)
                    };
                    plan.conversation(
                        day_us + (hour * HOUR_US as f64) as i64,
                        number,
                        what.content,
                    );
                }
            }
            Schedule::Clock { every_h, minute, lag_s, jitter_s, burst } => {
                let every = i64::from(every_h.max(1));
                let phase = (account.bits % every as u64) as i64;
                let mut number = 0;
                for hour in 0..24 {
                    if (hour + i64::from(day) * 24) % every != phase {
                        continue;
                    }
                    let wanted = f64::from(burst) * scale;
                    let count = wanted.floor() as u32 + u32::from(d.chance(wanted.fract()));
                    let mut at = day_us + hour * HOUR_US + i64::from(minute) * 60 * SECOND_US;
                    at += ((f64::from(lag_s) + f64::from(jitter_s) * d.unit()) * 1e6) as i64;
                    for _ in 0..count {
                        plan.exchange(at, number);
                        number += 1;
                        at += (d.range(0.6, 4.0) * 1e6) as i64;
                    }
                }
            }
            Schedule::Windows { list, rate } => {
                let Some(windows) = population.windows.get(list as usize) else { continue };
                for (window, (start, end)) in windows.iter().enumerate() {
                    if *end <= from || *start >= until {
                        continue;
                    }
                    // A window may reach over several days: its draws are its own.
                    let who = u64::from(index) << 8 | activity as u64;
                    let mut draws =
                        Draws::new(population.seed, Purpose::Window, who, window as u64);
                    // Long windows weigh more than short ones, but not in proportion.
                    let weight = ((end - start) as f64 / (4 * HOUR_US) as f64).sqrt().min(3.0);
                    for number in 0..draws.poisson(f64::from(rate) * scale * weight) {
                        let at = start + ((end - start) as f64 * draws.unit()) as i64;
                        plan.conversation(at, (window as u32) << 20 | number, what.content);
                    }
                }
            }
            Schedule::Quota { campaign, seat, from_us, to_us } => {
                let Some(run) = population.campaigns.get(usize::from(campaign)) else { continue };
                let (first, count) = run.quota(seat, day);
                let peak = 24.0 * crate::draws::unit(account.bits);
                for k in 0..count {
                    let at = day_us + run.moment(d, k, count, peak);
                    let follows = d.chance(run.plan.follow_up_share);
                    let more = if follows { d.geometric(1.6, 12) } else { 0 };
                    if at < from_us || at >= to_us {
                        continue;
                    }
                    plan.turns(at, (first + k) as u32, 1 + more, 40.0, 0.0);
                }
            }
        }
    }
}

/// Where an account's moments of one day go.
struct Plan<'a> {
    world: &'a World,
    account: &'a Account,
    index: u32,
    activity: u16,
    day: u32,
    from: i64,
    until: i64,
    out: &'a mut Vec<Moment>,
}

impl Plan<'_> {
    fn exchange(&mut self, at: i64, number: u32) {
        self.turns(at, number, 1, 0.0, 0.0);
    }

    fn conversation(&mut self, at: i64, number: u32, content: Content) {
        if at < self.from || at >= self.until {
            return;
        }
        let bits = self.world.conversation_bits(self.index, self.activity, self.day as u16, number);
        let turns = self.world.turn_count(self.account, content, bits);
        let gap_s = if matches!(content, Content::Agent { .. }) { 12.0 } else { 75.0 };
        let hop_share = match self.account.campaign {
            Some(campaign) => self.world.population.campaigns[usize::from(campaign)].plan.hop_share,
            None => 0.0,
        };
        self.turns(at, number, turns, gap_s, hop_share);
    }

    fn turns(&mut self, at: i64, number: u32, turns: u32, gap_s: f64, hop_share: f64) {
        let living = self.account.created_us..self.account.closed_us;
        if at < self.from || at >= self.until || !living.contains(&at) {
            return;
        }
        let moment = Moment {
            time_us: at,
            account: self.index,
            origin: self.index,
            activity: self.activity,
            day: self.day as u16,
            turn: 1,
            number,
        };
        self.push(moment);
        if turns <= 1 {
            return;
        }
        let bits = self.world.conversation_bits(self.index, self.activity, self.day as u16, number);
        let mut draws = Draws::new(self.world.population.seed, Purpose::Session, bits, 0);
        let d = &mut draws;
        let hop_at =
            if d.chance(hop_share) { 2 + d.below(turns as usize) as u32 } else { u32::MAX };
        let mut moment = moment;
        for turn in 2..=turns.min(TURNS_MAX) {
            moment.time_us += (d.lognormal(gap_s, 0.9) * 1e6) as i64 + SECOND_US;
            moment.turn = turn as u16;
            if turn == hop_at
                && let Some(campaign) = self.account.campaign
            {
                let mates = &self.world.mates[usize::from(campaign)];
                let mate = mates[d.below(mates.len())];
                let other = &self.world.population.accounts[mate as usize];
                if (other.created_us..other.closed_us).contains(&moment.time_us) {
                    moment.account = mate;
                }
            }
            self.push(moment);
        }
    }

    fn push(&mut self, moment: Moment) {
        let account = &self.world.population.accounts[moment.account as usize];
        if (account.created_us..account.closed_us).contains(&moment.time_us) {
            self.out.push(moment);
        }
    }
}

impl World {
    /// The name of a conversation, from which all its choices follow.
    pub(crate) fn conversation_bits(
        &self,
        origin: u32,
        activity: u16,
        day: u16,
        number: u32,
    ) -> u64 {
        let seed = self.population.seed ^ 0x00c0_4e5a;
        mix(
            seed,
            u64::from(origin) << 8 | u64::from(activity),
            u64::from(day) << 32 | u64::from(number),
        )
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::prompts::Prompts;
    use crate::settings::WorldSettings;

    fn world() -> World {
        let settings = WorldSettings {
            exchanges: 20_000,
            accounts: 900,
            days: 6,
            campaigns: "hydra_proxy".to_owned(),
            ..WorldSettings::default()
        };
        World::new(settings, Arc::new(Prompts::built_in())).unwrap()
    }

    fn play(world: &World, stretches_per_day: u64) -> (Vec<Moment>, usize) {
        let mut timeline = Timeline { stretches_per_day, ..Timeline::new(world) };
        let (mut all, mut held_max) = (Vec::new(), 0);
        loop {
            let some = timeline.take(100);
            held_max = held_max.max(timeline.ready.len() + timeline.later.len());
            if some.is_empty() {
                return (all, held_max);
            }
            all.extend(some);
        }
    }

    #[test]
    fn stretches_bound_what_is_held_and_change_nothing() {
        let world = world();
        let (days, held_by_day) = play(&world, 1);
        let (hours, held_by_hour) = play(&world, 24);
        assert!(format!("{days:?}") == format!("{hours:?}"), "other stretches, other moments");
        assert!(held_by_day > 2_000, "{held_by_day}");
        assert!(held_by_hour < 1_000, "{held_by_hour}");
        assert!(days.is_sorted_by_key(|m| m.time_us));
    }

    #[test]
    fn larger_worlds_are_planned_in_shorter_stretches() {
        let mut world = world();
        for (exchanges, stretches_per_day) in [(1_000_000, 1), (60_000_000, 8), (100_000_000, 12)] {
            world.settings.exchanges = exchanges;
            assert_eq!(Timeline::new(&world).stretches_per_day, stretches_per_day);
        }
    }
}

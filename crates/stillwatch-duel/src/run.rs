//! Many duels from one seed, side by side.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rayon::prelude::*;
use stillwatch_exchange::duel::DuelRecord;
use stillwatch_simulate::{Prompts, WorldSettings};

use crate::DuelError;
use crate::arena::{Arena, Round};
use crate::attacker::{Duel, Means, STRATEGIES, fight};
use crate::moves::MoveSet;
use crate::prices::Prices;
use crate::record::record;

/// What the duels are about.
#[derive(Clone, Debug)]
pub struct DuelSettings {
    /// Duels in all, dealt out to the strategies in turn.
    pub duels: u64,
    pub seed: u64,
    /// Accounts and exchanges of a crowd, about.
    pub accounts: u64,
    pub exchanges: u64,
    /// Length of a crowd's world.
    pub days: u32,
    /// The false-discovery level of the hunts.
    pub level: f64,
    /// What an attacker may spend in one duel.
    pub budget_usd: f64,
    pub prices: Prices,
}

/// Attackers that meet one crowd. More would save time and tell less of other crowds.
const ATTACKERS_PER_CROWD: u64 = 8;

/// One attacker, which fought a duel with each strategy against one crowd.
pub(crate) struct Attacker {
    pub rounds: BTreeMap<MoveSet, Round>,
    /// By strategy; the last attacker may have fought fewer.
    pub duels: Vec<Duel>,
}

/// What crowds had, for the record.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct CrowdSize {
    pub accounts: u64,
    pub exchanges: u64,
}

/// Fights all duels, on the threads of the caller's pool. An attacker plays a plan once,
/// whichever of its strategies come to it. `progress` hears how many duels are done and
/// ends the run by returning `false`.
///
/// Memory: for each thread a crowd's profiles twice, at most 4 KiB an account each.
///
/// # Errors
/// The settings make no world, or the run was ended.
pub fn run(
    settings: &DuelSettings,
    prompts: &Arc<Prompts>,
    progress: &(dyn Fn(u64) -> bool + Sync),
) -> Result<DuelRecord, DuelError> {
    let attackers = settings.duels.div_ceil(STRATEGIES.len() as u64);
    let crowds = attackers.div_ceil(ATTACKERS_PER_CROWD);
    let done = AtomicU64::new(0);
    let fought: Vec<(CrowdSize, Vec<Attacker>)> = (0..crowds as usize)
        .into_par_iter()
        .with_max_len(1)
        .map(|crowd| {
            let arena = Arena::open(world(settings, crowd as u64), Arc::clone(prompts))?;
            let size = CrowdSize { accounts: arena.accounts(), exchanges: arena.exchanges() };
            let first = crowd as u64 * ATTACKERS_PER_CROWD;
            let fought = (first as usize..attackers.min(first + ATTACKERS_PER_CROWD) as usize)
                .into_par_iter()
                .with_max_len(1)
                .map(|number| attack(settings, &arena, number as u64, &done, progress))
                .collect::<Result<Vec<_>, DuelError>>()?;
            Ok((size, fought))
        })
        .collect::<Result<_, DuelError>>()?;
    Ok(record(settings, &fought))
}

/// The world of a crowd.
fn world(settings: &DuelSettings, crowd: u64) -> WorldSettings {
    WorldSettings {
        seed: settings.seed.wrapping_mul(1_000_003).wrapping_add(crowd),
        accounts: settings.accounts,
        exchanges: settings.exchanges,
        days: settings.days,
        ..WorldSettings::default()
    }
}

fn attack(
    settings: &DuelSettings,
    arena: &Arena,
    number: u64,
    done: &AtomicU64,
    progress: &(dyn Fn(u64) -> bool + Sync),
) -> Result<Attacker, DuelError> {
    let mut attacker = Attacker { rounds: BTreeMap::new(), duels: Vec::new() };
    let strategies = STRATEGIES.len() as u64;
    let means = Means {
        prices: &settings.prices,
        budget_usd: settings.budget_usd,
        days: settings.days,
        seed: settings.seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15),
    };
    let goes_on = || progress(done.load(Ordering::Relaxed));
    for (strategy, _) in STRATEGIES.iter().zip(number * strategies..settings.duels) {
        let rounds = &mut attacker.rounds;
        let duel = fight(strategy, &means, &mut |moves| {
            if let Some(round) = rounds.get(&moves) {
                return Ok::<Round, DuelError>(round.clone());
            }
            let visit = number << 32 | u64::from(moves.0);
            let round = arena.round(moves, visit, settings.level, &goes_on)?;
            rounds.insert(moves, round.clone());
            Ok(round)
        })?;
        attacker.duels.push(duel);
        done.fetch_add(1, Ordering::Relaxed);
        if !goes_on() {
            return Err(DuelError::Stopped);
        }
    }
    Ok(attacker)
}

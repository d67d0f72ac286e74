//! A world before anything happens in it: who is there and what they will do.

use std::sync::Arc;

use crate::campaigns::{self, CampaignPlan};
use crate::crowds::{self, CROWDS};
use crate::draws::{Draws, Purpose, mix};
use crate::population::Population;
use crate::prompts::Prompts;
use crate::settings::{CrowdKnobs, SettingsError, WorldSettings};
use crate::timeline;

/// A world, ready to be played through.
///
/// Holds its accounts (about half a kilobyte each) and the prompts, never its
/// exchanges.
pub struct World {
    pub(crate) settings: WorldSettings,
    pub(crate) prompts: Arc<Prompts>,
    pub(crate) population: Population,
    /// By campaign: its accounts.
    pub(crate) mates: Vec<Vec<u32>>,
}

impl World {
    /// Makes the world that the settings describe.
    ///
    /// # Errors
    /// The settings contradict each other, or the campaigns need more accounts than
    /// the world has.
    pub fn new(settings: WorldSettings, prompts: Arc<Prompts>) -> Result<Self, SettingsError> {
        settings.check()?;
        let plans = campaigns::plan(&settings)?;
        let taken: u64 = plans.iter().map(|p| p.accounts).sum();
        let harvested: u64 =
            plans.iter().map(|p| (p.exchanges as f64 / (1.0 - p.mix_share)) as u64).sum();
        let refuse = |text: String| Err(SettingsError::Contradiction(text));
        if taken > settings.accounts {
            return refuse(format!(
                "the campaigns need {taken} accounts and the world has {}: ask for fewer campaigns or more accounts",
                settings.accounts
            ));
        }
        if harvested > settings.exchanges {
            return refuse(format!(
                "the campaigns make some {harvested} exchanges and the world has {}: ask for fewer campaigns, more exchanges, or a lower campaign_exchanges_per_account_min",
                settings.exchanges
            ));
        }
        let knobs: Vec<CrowdKnobs> = CROWDS
            .iter()
            .map(|c| settings.crowd.get(c.name).cloned().unwrap_or_else(|| c.knobs()))
            .collect();
        let mut population = Population::empty(&settings);
        population.scale = vec![1.0; CROWDS.len() + 1];
        crowds::build(&mut population, &prompts, &knobs, settings.accounts - taken);
        for plan in plans {
            campaigns::build(&mut population, &prompts, plan);
        }
        for (index, account) in population.accounts.iter_mut().enumerate() {
            account.bits = mix(settings.seed, 0xacc0, index as u64);
        }
        let mates = (0..population.campaigns.len())
            .map(|c| campaigns::mates(&population.accounts, c as u8))
            .collect();
        let mut world = World { settings, prompts, population, mates };
        world.settle(&knobs);
        Ok(world)
    }

    /// The campaigns of the settings alone, for a world that is already there: the one of
    /// these settings without campaigns. They meet its networks, programs, models and
    /// releases; `visit` names everything else that is left to chance, so that a crowd can
    /// be played through once and then be visited by many. `accounts` and `exchanges` are
    /// those of the crowd, and bound nothing here.
    ///
    /// # Errors
    /// The settings contradict each other.
    pub fn visiting(
        settings: WorldSettings,
        visit: u64,
        prompts: Arc<Prompts>,
    ) -> Result<Self, SettingsError> {
        settings.check()?;
        let mut population = Population::empty(&settings);
        let settings = WorldSettings { seed: mix(settings.seed, 0x7151, visit), ..settings };
        population.seed = settings.seed;
        population.scale = vec![1.0; CROWDS.len() + 1];
        for plan in campaigns::plan(&settings)? {
            campaigns::build(&mut population, &prompts, plan);
        }
        for (index, account) in population.accounts.iter_mut().enumerate() {
            account.bits = mix(settings.seed, 0xacc0, index as u64);
        }
        let mates = (0..population.campaigns.len())
            .map(|c| campaigns::mates(&population.accounts, c as u8))
            .collect();
        Ok(World { settings, prompts, population, mates })
    }

    /// Scales each crowd's rates until the crowd makes its share of the exchanges.
    fn settle(&mut self, knobs: &[CrowdKnobs]) {
        let campaign_kind = CROWDS.len();
        // Small numbers scatter, so that the first scaling is only near.
        let rounds = if self.settings.exchanges < 3_000_000 { 3 } else { 2 };
        for _ in 0..rounds {
            let counts = timeline::count_by_kind(self);
            let left = self.settings.exchanges.saturating_sub(counts[campaign_kind]) as f64;
            // A crowd without accounts leaves its share to the others.
            let total: f64 =
                knobs.iter().zip(&counts).filter(|(_, c)| **c > 0).map(|(k, _)| k.exchanges).sum();
            for ((scale, knobs), count) in self.population.scale.iter_mut().zip(knobs).zip(&counts)
            {
                if *count > 0 && total > 0.0 {
                    *scale *= left * knobs.exchanges / total / *count as f64;
                }
            }
        }
    }

    /// The settings that the world was made from.
    #[must_use]
    pub fn settings(&self) -> &WorldSettings {
        &self.settings
    }

    /// What each campaign of the world is and does.
    pub fn campaigns(&self) -> impl Iterator<Item = &CampaignPlan> {
        self.population.campaigns.iter().map(|c| &c.plan)
    }

    /// How many accounts the world has.
    #[must_use]
    pub fn accounts(&self) -> u64 {
        self.population.accounts.len() as u64
    }

    /// The order in which accounts are listed: by id, which tells nothing.
    pub(crate) fn listed(&self) -> Vec<u32> {
        let mut order: Vec<u32> = (0..self.population.accounts.len() as u32).collect();
        order.sort_unstable_by_key(|i| self.population.accounts[*i as usize].bits);
        order
    }

    pub(crate) fn conversation_draws(&self, bits: u64, turn: u16) -> Draws {
        Draws::new(self.population.seed, Purpose::Exchange, bits, u64::from(turn))
    }

    /// The name of a kind of account, as in the truth tables.
    pub(crate) fn kind_name(kind: u8) -> &'static str {
        CROWDS.get(usize::from(kind)).map_or("campaign", |c| c.name)
    }
}

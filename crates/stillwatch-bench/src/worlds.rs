//! The worlds of the benchmark: one knob turned at a time, on kinds of campaign that
//! nothing was tuned on.

use stillwatch_simulate::{CAMPAIGNS, HELD_OUT, SettingsError, WorldSettings};

/// One world, and the world without campaigns in which thresholds for it are set.
#[derive(Clone, Debug, PartialEq)]
pub struct BenchWorld {
    /// Short, for the table.
    pub name: String,
    pub settings: WorldSettings,
    /// The same size and customers, other draws; many worlds have it in common.
    pub clean: WorldSettings,
}

/// How large the worlds of a run are.
#[derive(Clone, Copy)]
struct Size {
    accounts: u64,
    exchanges: u64,
}

struct Maker {
    seed: u64,
    size: Size,
    worlds: Vec<BenchWorld>,
}

impl Maker {
    /// A world with some knobs, and some knobs of each of its campaigns.
    fn add(
        &mut self,
        name: &str,
        campaigns: &str,
        knobs: &[&str],
        of_campaigns: &[&str],
    ) -> Result<(), SettingsError> {
        let mut settings = WorldSettings {
            // Each world has draws of its own.
            seed: self.seed.wrapping_mul(1_000) + self.worlds.len() as u64,
            accounts: self.size.accounts,
            exchanges: self.size.exchanges,
            campaigns: campaigns.to_owned(),
            campaign_accounts_share: 0.0,
            campaign_exchanges_share: 0.0,
            ..WorldSettings::default()
        };
        for knob in knobs {
            settings.set(knob)?;
        }
        for kind in CAMPAIGNS.iter().chain(HELD_OUT) {
            let is_there = match campaigns {
                "all" => CAMPAIGNS.iter().any(|c| c.name == kind.name),
                "held_out" => HELD_OUT.iter().any(|c| c.name == kind.name),
                names => names.split(',').any(|n| n == kind.name),
            };
            for knob in of_campaigns.iter().filter(|_| is_there) {
                settings.set(&format!("campaign.{}.{knob}", kind.name))?;
            }
        }
        let clean = WorldSettings {
            // Beyond the seeds of all worlds.
            seed: self.seed.wrapping_mul(1_000) + 999,
            campaigns: "none".to_owned(),
            accounts: self.size.accounts,
            exchanges: self.size.exchanges,
            ..WorldSettings::default()
        };
        self.worlds.push(BenchWorld { name: name.to_owned(), settings, clean });
        Ok(())
    }
}

/// Every knob from one end to the other, and prevalence from 1 % to 0.01 %.
///
/// # Errors
/// Never in practice: the knobs are those of the simulation.
pub fn full_worlds(seed: u64) -> Result<Vec<BenchWorld>, SettingsError> {
    let size = Size { accounts: 12_500, exchanges: 1_000_000 };
    let mut make = Maker { seed, size, worlds: Vec::new() };
    make.add("known kinds", "all", &[], &[])?;
    make.add("held-out kinds", "held_out", &[], &[])?;
    knob_worlds(&mut make)?;
    make.size = Size { accounts: 50_000, exchanges: 2_500_000 };
    make.add("1 % of accounts", "held_out", &["campaign_accounts_share=0.01"], &[])?;
    make.add("0.1 % of accounts", "evolved", &["campaign_accounts_min=50"], &[])?;
    make.size = Size { accounts: 500_000, exchanges: 5_000_000 };
    make.add("0.01 % of accounts", "persona", &["campaign_accounts_min=50"], &[])?;
    Ok(make.worlds)
}

/// A few small worlds.
///
/// # Errors
/// Never in practice: the knobs are those of the simulation.
pub fn quick_worlds(
    seed: u64,
    accounts: u64,
    exchanges: u64,
) -> Result<Vec<BenchWorld>, SettingsError> {
    let mut make = Maker { seed, size: Size { accounts, exchanges }, worlds: Vec::new() };
    make.add("known kinds", "all", &[], &[])?;
    make.add("held-out kinds", "held_out", &[], &[])?;
    make.add("cover traffic: 80 %", KNOBBED, &[], &["mix_share=0.8"])?;
    Ok(make.worlds)
}

/// The held-out kinds whose own nature is not the knob that is turned.
const KNOBBED: &str = "persona,evolved,dialogue,burst";

const SHARING_NONE: &[&str] = &[
    "accounts_per_payment=1",
    "accounts_per_organization=0",
    "email_domains=0",
    "access=homes",
    "rare_clients=0",
    "shared_parameters=false",
];

const SHARING_ALL: &[&str] = &[
    "accounts_per_payment=1000",
    "email_domains=1",
    "access=relay",
    "addresses=8",
    "rotation=day",
    "rare_clients=1",
    "shared_parameters=true",
];

fn knob_worlds(make: &mut Maker) -> Result<(), SettingsError> {
    let worlds: &[(&str, &[&str])] = &[
        ("shared: nothing", SHARING_NONE),
        ("shared: payment", &["accounts_per_payment=12", "access=homes", "rare_clients=0"]),
        ("shared: addresses", &["accounts_per_payment=1", "addresses=20", "access=relay"]),
        ("shared: all", SHARING_ALL),
        ("cover traffic: none", &["mix_share=0"]),
        ("cover traffic: 50 %", &["mix_share=0.5"]),
        ("cover traffic: 80 %", &["mix_share=0.8"]),
        ("paraphrase: half", &["rewording=0.5", "task_rewording=0.5"]),
        ("paraphrase: all", &["rewording=1", "task_rewording=1"]),
        (
            "jitter: none",
            &["volume_sigma=0.02", "day_noise=0", "synchrony=0.9", "hours=flat", "signup_days=2"],
        ),
        (
            "jitter: most",
            &["volume_sigma=1.2", "day_noise=1", "synchrony=0", "hours=rhythm", "signup_days=150"],
        ),
        ("pool: repeated", &["pool=repeated", "times_asked=4"]),
        ("pool: overlapping", &["pool=overlapping", "overlap=0.5"]),
        ("pool: independent", &["pool=independent"]),
    ];
    for (name, knobs) in worlds {
        make.add(name, KNOBBED, &[], knobs)?;
    }
    let rates: &[(&str, &str)] = &[("rate: 20 an account", "20"), ("rate: 200 an account", "200")];
    for (name, rate) in rates {
        let least = format!("campaign_exchanges_per_account_min={rate}");
        make.add(name, KNOBBED, &[&least], &[])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn worlds_have_names_and_seeds_of_their_own_and_few_clean_worlds() {
        let worlds = full_worlds(7).unwrap();
        let names: BTreeSet<&str> = worlds.iter().map(|w| w.name.as_str()).collect();
        let seeds: BTreeSet<u64> = worlds.iter().map(|w| w.settings.seed).collect();
        assert_eq!((names.len(), seeds.len()), (worlds.len(), worlds.len()));
        let mut clean: Vec<WorldSettings> = Vec::new();
        for world in &worlds {
            world.settings.check().unwrap();
            world.clean.check().unwrap();
            assert!(!seeds.contains(&world.clean.seed));
            if !clean.contains(&world.clean) {
                clean.push(world.clean.clone());
            }
        }
        assert_eq!(clean.len(), 3);
    }

    #[test]
    fn a_knob_is_turned_for_every_campaign_of_its_world() {
        let worlds = quick_worlds(1, 3_000, 120_000).unwrap();
        let cover = worlds.iter().find(|w| w.name.starts_with("cover")).unwrap();
        let turned: BTreeSet<&str> = cover.settings.campaign.keys().map(String::as_str).collect();
        assert_eq!(turned, KNOBBED.split(',').collect());
    }
}

//! Every habit of a world as a named knob.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use stillwatch_exchange::Time;

use crate::campaigns::{CAMPAIGNS, CampaignPlan, HELD_OUT, kinds};
use crate::crowds::CROWDS;

/// 2026-03-02T00:00:00Z, a Monday, in microseconds.
const START_US: i64 = 1_772_409_600_000_000;

/// Settings that make no world.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    #[error("no setting is called {key}{}; `stillwatch simulate --settings` lists them all", closest(.nearest))]
    UnknownKey { key: String, nearest: Vec<String> },
    #[error("{key} cannot be {value}: {why}")]
    BadValue { key: String, value: String, why: String },
    #[error("{0}")]
    Contradiction(String),
}

fn closest(nearest: &[String]) -> String {
    if nearest.is_empty() {
        String::new()
    } else {
        format!("; did you mean {}?", nearest.join(" or "))
    }
}

/// The habits of one kind of customer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CrowdKnobs {
    /// Share of the crowds' accounts, relative to the other crowds.
    pub accounts: f64,
    /// Share of the crowds' exchanges, relative to the other crowds.
    pub exchanges: f64,
    /// Mean number of accounts that belong together; 1 = everyone for themselves.
    pub group_size: f64,
    /// Standard deviation of the logarithm of an account's volume.
    pub volume_sigma: f64,
    /// Days from a release until half of those who change model have changed; those
    /// of one client or laboratory move together.
    pub adoption_days: f64,
}

/// What decides a world; two equal settings make the same bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WorldSettings {
    /// Names everything that is left to chance.
    pub seed: u64,
    /// Exchanges in the whole world; the outcome is within two in a hundred of it.
    pub exchanges: u64,
    /// Accounts in the whole world, exactly.
    pub accounts: u64,
    /// Length of the world in days.
    pub days: u32,
    /// The first moment of the world.
    pub start: Time,
    /// `all`, `none`, `held_out`, or names with commas between them.
    pub campaigns: String,
    /// Share of the accounts that campaigns hold, where a campaign does not say.
    pub campaign_accounts_share: f64,
    /// Share of the exchanges that campaigns make, where a campaign does not say.
    pub campaign_exchanges_share: f64,
    /// A campaign has at least this many accounts.
    pub campaign_accounts_min: u64,
    /// A campaign's account harvests at least this many exchanges on average.
    pub campaign_exchanges_per_account_min: f64,
    /// Models released while the world lasts, 0 to 3.
    pub releases: u32,
    /// Share of people's openings that are a corpus record as it stands.
    pub verbatim_share: f64,
    /// Share of the words that are replaced where a record is used again, 0 to 1.
    pub rewording: f64,
    /// Share of requests refused for their rate (status 429).
    pub limited_share: f64,
    /// Share of requests that fail otherwise (status 400, 500, 529).
    pub failed_share: f64,
    /// Share of the ordinary accounts that are closed for ordinary reasons.
    pub closed_share: f64,
    /// Share of the ordinary accounts that are born while the world lasts.
    pub born_share: f64,
    /// Rows in a file of exchanges; 0 = about an eighth of the world, at most 524,288.
    pub rows_per_file: u64,
    /// Rows in a row group.
    pub rows_per_group: u64,
    /// The crowds by name.
    pub crowd: BTreeMap<String, CrowdKnobs>,
    /// What is fixed of a campaign's plan, by campaign; the rest is drawn by seed.
    pub campaign: BTreeMap<String, Map<String, Value>>,
}

impl Default for WorldSettings {
    fn default() -> Self {
        WorldSettings {
            seed: 1,
            exchanges: 1_000_000,
            accounts: 12_500,
            days: 28,
            start: Time(START_US),
            campaigns: "all".to_owned(),
            campaign_accounts_share: 0.08,
            campaign_exchanges_share: 0.075,
            campaign_accounts_min: 50,
            campaign_exchanges_per_account_min: 40.0,
            releases: 2,
            verbatim_share: 0.08,
            rewording: 0.6,
            limited_share: 0.012,
            failed_share: 0.008,
            closed_share: 0.02,
            born_share: 0.16,
            rows_per_file: 0,
            rows_per_group: 131_072,
            crowd: CROWDS.iter().map(|c| (c.name.to_owned(), c.knobs())).collect(),
            campaign: BTreeMap::new(),
        }
    }
}

/// The settings at the top, with their meanings, in the order of the reference.
const MEANINGS: &[(&str, &str)] = &[
    ("seed", "names everything that is left to chance"),
    ("exchanges", "exchanges in the whole world, within two in a hundred"),
    ("accounts", "accounts in the whole world"),
    ("days", "length of the world in days, 1 to 3,660"),
    ("start", "the first moment of the world, RFC 3339"),
    ("campaigns", "all, none, held_out, or names with commas between them"),
    ("campaign_accounts_share", "share of the accounts that campaigns hold"),
    ("campaign_exchanges_share", "share of the exchanges that campaigns make"),
    ("campaign_accounts_min", "a campaign has at least this many accounts"),
    (
        "campaign_exchanges_per_account_min",
        "a campaign's account harvests at least this many on average",
    ),
    ("releases", "models released while the world lasts, 0 to 3"),
    ("verbatim_share", "share of people's openings that are a corpus record as it stands"),
    ("rewording", "share of the words replaced where a record is used again, 0 to 1"),
    ("limited_share", "share of requests refused for their rate, status 429"),
    ("failed_share", "share of requests that fail otherwise, status 400, 500 or 529"),
    ("closed_share", "share of the ordinary accounts closed for ordinary reasons"),
    ("born_share", "share of the ordinary accounts born while the world lasts"),
    (
        "rows_per_file",
        "rows in a file of exchanges, 0 = about an eighth of the world, at most 524,288",
    ),
    ("rows_per_group", "rows in a row group"),
];

const CROWD_MEANINGS: &[(&str, &str)] = &[
    ("accounts", "share of the crowds' accounts, relative to the other crowds"),
    ("exchanges", "share of the crowds' exchanges, relative to the other crowds"),
    ("group_size", "mean number of accounts that belong together"),
    ("volume_sigma", "standard deviation of the logarithm of an account's volume"),
    ("adoption_days", "days from a release until half of those who change model have changed"),
];

impl WorldSettings {
    /// Sets one knob: `accounts=5000`, `crowd.classes.group_size=40`,
    /// `campaign.slow_drip.accounts=200`. A campaign's knob set to `null` is drawn by
    /// seed again.
    ///
    /// # Errors
    /// The text has no `=`, no knob has that name, or the value does not fit it.
    pub fn set(&mut self, assignment: &str) -> Result<(), SettingsError> {
        let Some((key, text)) = assignment.split_once('=') else {
            return Err(SettingsError::BadValue {
                key: assignment.to_owned(),
                value: "absent".to_owned(),
                why: "write KEY=VALUE".to_owned(),
            });
        };
        let (key, text) = (key.trim(), text.trim());
        if !known_keys().iter().any(|k| k == key) {
            return Err(unknown(key));
        }
        let value: Value = serde_json::from_str(text).unwrap_or_else(|_| Value::from(text));
        let bad = |why: String| SettingsError::BadValue {
            key: key.to_owned(),
            value: text.to_owned(),
            why,
        };

        let mut parts = key.splitn(3, '.');
        let parts = (parts.next().unwrap_or_default(), parts.next(), parts.next());
        let mut changed = self.clone();
        if let ("campaign", Some(name), Some(knob)) = parts {
            let fixed = changed.campaign.entry(name.to_owned()).or_default();
            if value.is_null() {
                fixed.remove(knob);
            } else {
                fixed.insert(knob.to_owned(), value);
                CampaignPlan::check_fixed(fixed).map_err(bad)?;
            }
        } else {
            let mut tree = serde_json::to_value(&*self).map_err(|e| bad(e.to_string()))?;
            let slot = match parts {
                (top, Some(name), Some(knob)) => {
                    tree.get_mut(top).and_then(|t| t.get_mut(name)).and_then(|t| t.get_mut(knob))
                }
                _ => tree.get_mut(key),
            };
            let Some(slot) = slot else { return Err(unknown(key)) };
            // A campaign list of one name or a number for a text is still a text.
            *slot = if slot.is_string() { Value::from(text) } else { value };
            changed = serde_json::from_value(tree).map_err(|e| bad(e.to_string()))?;
        }
        changed.check()?;
        *self = changed;
        Ok(())
    }

    /// Whether a world can be made of these settings at all.
    ///
    /// # Errors
    /// A number outside what it means, an unknown campaign or crowd.
    pub fn check(&self) -> Result<(), SettingsError> {
        let refuse = |text: String| Err(SettingsError::Contradiction(text));
        if self.days == 0 || self.days > 3660 {
            return refuse(format!("days is {}, and must be 1 to 3,660", self.days));
        }
        if self.accounts == 0 || self.accounts > 200_000_000 {
            return refuse(format!("accounts is {}, and must be 1 to 200,000,000", self.accounts));
        }
        if self.exchanges == 0 || self.exchanges > 1_000_000_000_000 {
            return refuse(format!("exchanges is {}, and must be 1 to 10¹²", self.exchanges));
        }
        if self.releases > 3 {
            return refuse(format!("releases is {}, and must be 0 to 3", self.releases));
        }
        let end = Time(
            self.start.0.saturating_add(i64::from(self.days) * stillwatch_exchange::time::DAY_US),
        );
        if !self.start.is_plausible() || !end.is_plausible() {
            return refuse(format!(
                "a world from {} to {end} is outside the years 2000 to 2100",
                self.start
            ));
        }
        if self.rows_per_group == 0
            || self.rows_per_file > 16_777_216
            || self.rows_per_group > 16_777_216
        {
            return refuse(
                "rows_per_group must be 1 to 16,777,216, rows_per_file at most that".to_owned(),
            );
        }
        let shares = [
            ("campaign_accounts_share", self.campaign_accounts_share),
            ("campaign_exchanges_share", self.campaign_exchanges_share),
            ("verbatim_share", self.verbatim_share),
            ("rewording", self.rewording),
            ("limited_share", self.limited_share),
            ("failed_share", self.failed_share),
            ("closed_share", self.closed_share),
            ("born_share", self.born_share),
        ];
        for (name, share) in shares {
            if !(0.0..=1.0).contains(&share) {
                return refuse(format!("{name} is {share}, and must be 0 to 1"));
            }
        }
        for (name, knobs) in &self.crowd {
            if !CROWDS.iter().any(|c| c.name == name) {
                return Err(unknown(&format!("crowd.{name}.accounts")));
            }
            let numbers = [
                knobs.accounts,
                knobs.exchanges,
                knobs.group_size,
                knobs.volume_sigma,
                knobs.adoption_days,
            ];
            if numbers.iter().any(|n| !n.is_finite() || *n < 0.0)
                || knobs.group_size < 1.0
                || knobs.volume_sigma > 4.0
            {
                return refuse(format!(
                    "a knob of crowd.{name} is out of range: none is negative, group_size is at least 1, volume_sigma at most 4"
                ));
            }
        }
        for (name, fixed) in &self.campaign {
            if !kinds().any(|(_, c)| c.name == name) {
                return Err(unknown(&format!("campaign.{name}.accounts")));
            }
            if let Err(why) = CampaignPlan::check_fixed(fixed) {
                return refuse(format!("campaign.{name}: {why}"));
            }
        }
        self.campaign_names().map(|_| ())
    }

    /// The campaigns asked for, in the order of the list.
    pub(crate) fn campaign_names(&self) -> Result<Vec<&'static str>, SettingsError> {
        match self.campaigns.trim() {
            "all" => return Ok(CAMPAIGNS.iter().map(|c| c.name).collect()),
            "held_out" => return Ok(HELD_OUT.iter().map(|c| c.name).collect()),
            "none" | "" => return Ok(Vec::new()),
            _ => {}
        }
        let asked: Vec<&str> = self.campaigns.split(',').map(str::trim).collect();
        for name in &asked {
            if !kinds().any(|(_, c)| c.name == *name) {
                let known: Vec<&str> = kinds().map(|(_, c)| c.name).collect();
                return Err(SettingsError::BadValue {
                    key: "campaigns".to_owned(),
                    value: (*name).to_owned(),
                    why: format!("the campaigns are {}", known.join(", ")),
                });
            }
        }
        Ok(kinds().map(|(_, c)| c.name).filter(|name| asked.contains(name)).collect())
    }
}

/// Every key with its default and its meaning, a line each, for `--settings`.
#[must_use]
pub fn settings_reference() -> String {
    let defaults = serde_json::to_value(WorldSettings::default()).unwrap_or_default();
    let mut text = String::new();
    let mut line = |key: &str, default: &str, meaning: &str| {
        // Writing to a string can't fail.
        let _ = writeln!(text, "{key:<44} {default:<24} {meaning}");
    };
    line("KEY", "DEFAULT", "MEANING");
    for (key, meaning) in MEANINGS {
        line(key, &defaults[*key].to_string(), meaning);
    }
    for crowd in CROWDS {
        for (knob, meaning) in CROWD_MEANINGS {
            let default = defaults["crowd"][crowd.name][*knob].to_string();
            line(
                &format!("crowd.{}.{knob}", crowd.name),
                &default,
                &format!("{}: {meaning}", crowd.meaning),
            );
        }
    }
    for (knob, meaning) in CampaignPlan::MEANINGS {
        line(&format!("campaign.NAME.{knob}"), "by seed", meaning);
    }
    for (_, campaign) in kinds() {
        line(&format!("campaign.{}.…", campaign.name), "", campaign.meaning);
    }
    text
}

fn known_keys() -> Vec<String> {
    let mut keys: Vec<String> = MEANINGS.iter().map(|(k, _)| (*k).to_owned()).collect();
    for crowd in CROWDS {
        keys.extend(CROWD_MEANINGS.iter().map(|(k, _)| format!("crowd.{}.{k}", crowd.name)));
    }
    for (_, campaign) in kinds() {
        keys.extend(
            CampaignPlan::MEANINGS.iter().map(|(k, _)| format!("campaign.{}.{k}", campaign.name)),
        );
    }
    keys
}

fn unknown(key: &str) -> SettingsError {
    let mut near: Vec<(f64, String)> = known_keys()
        .into_iter()
        .map(|k| (strsim::jaro_winkler(&k, key), k))
        .filter(|(s, _)| *s > 0.75)
        .collect();
    near.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    SettingsError::UnknownKey {
        key: key.to_owned(),
        nearest: near.into_iter().take(3).map(|(_, k)| k).collect(),
    }
}

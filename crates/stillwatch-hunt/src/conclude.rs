//! Conclude: from profiles to findings. A hunt and a watch end alike.

use std::collections::BTreeSet;
use std::sync::Arc;

use hashbrown::HashMap;
use sha2::{Digest, Sha256};
use stillwatch_detect::find::Found;
use stillwatch_detect::population::Population;
use stillwatch_exchange::{Release, Time};
use stillwatch_ingest::AccountFilter;
use tokio::sync::mpsc;

use crate::engine;
use crate::findings;
use crate::harvest::{self, Reaper, Taken};
use crate::references::told_groups;
use crate::run::{Hunted, Readable, RunRecord};
use crate::settings::{HuntError, HuntSettings, Progress, Stage};
use crate::source::BATCHES_AHEAD;
use crate::write::{HarvestFile, HarvestWriter};

/// What is known of the exchanges of a period once all of them are in profiles.
pub(crate) struct Known {
    pub population: Population,
    pub releases: Vec<Release>,
    /// Exchanges by hour since the Unix epoch.
    pub hours: Vec<(i64, u64)>,
    pub exchanges: u64,
    /// Beginning and end.
    pub period: (Time, Time),
    pub record: RunRecord,
}

/// Says what was harvested and tells of all that was found. Where the exchanges can't be
/// read again, a campaign's totals are those of its members' profiles, and no exchange is
/// named as harvest.
pub(crate) async fn conclude(
    known: Known,
    found: Found,
    readable: Option<&Readable>,
    settings: &HuntSettings,
    progress: &dyn Progress,
) -> Result<Hunted, HuntError> {
    let Known { population, releases, hours, exchanges, period, mut record } = known;
    let ids: Vec<String> = found
        .findings
        .iter()
        .map(|f| {
            campaign_id(
                f.members
                    .iter()
                    .map(|m| population.members()[m.account as usize].account_id.as_str()),
            )
        })
        .collect();
    let mut finding_of: HashMap<String, usize> = HashMap::new();
    for (place, finding) in found.findings.iter().enumerate() {
        for m in &finding.members {
            // An account of two campaigns counts for the graver one.
            finding_of
                .entry(population.members()[m.account as usize].account_id.clone())
                .or_insert(place);
        }
    }
    let finding_of = Arc::new(finding_of);
    let (taken, harvest) = match readable {
        Some(readable) => {
            reaped(readable, &found, &finding_of, &population, &ids, period, settings, progress)
                .await?
        }
        None => {
            let taken = harvest::taken_of_profiles(&population, &found, &finding_of, period);
            (taken, HarvestWriter::new(&settings.out)?.finish()?)
        }
    };
    record.rows_read = exchanges;
    record.accounts = population.members().len() as u64;
    if let Some(readable) = readable {
        let unknown: BTreeSet<String> =
            record.unknown_columns.drain(..).chain(readable.meter.unknown_columns()).collect();
        record.unknown_columns = unknown.into_iter().collect();
    }
    record.candidates = found.groups.iter().filter(|g| !g.is_known_customers).count() as u64;
    record.references = found.groups.len() as u64;
    for (stage, rows) in [
        (Stage::Period, exchanges),
        (Stage::Profile, exchanges),
        (Stage::Harvest, taken.iter().map(|t| t.exchanges).sum()),
    ] {
        record.stage_rows.insert(stage.name().to_owned(), rows);
    }
    record.settings = serde_json::json!({
        "exchanges": settings.exchanges,
        "accounts": settings.accounts,
        "releases": settings.releases,
        "period": settings.period,
        "level": settings.level,
        "references": settings.references,
        "quote": settings.quote,
        "threads": settings.threads,
    });
    record.versions.insert("stillwatch".to_owned(), env!("CARGO_PKG_VERSION").to_owned());
    record.versions.insert("datafusion".to_owned(), datafusion::DATAFUSION_VERSION.to_owned());

    let told =
        findings::tell(&population, &found, &ids, &taken, &hours, &record, settings, &releases);
    Ok(Hunted {
        campaigns: told.campaigns,
        members: told.members,
        harvest,
        picture: told.picture,
        groups: told_groups(&population, &found, &ids),
        run: record,
    })
}

/// Passes over the members' exchanges: what each campaign took, and which exchanges were
/// harvest.
#[allow(
    clippy::too_many_arguments,
    reason = "one call, from the end of a run, with all that it knows"
)]
async fn reaped(
    readable: &Readable,
    found: &Found,
    finding_of: &Arc<HashMap<String, usize>>,
    population: &Population,
    ids: &[String],
    period: (Time, Time),
    settings: &HuntSettings,
    progress: &dyn Progress,
) -> Result<(Vec<Taken>, HarvestFile), HuntError> {
    let wanted = Arc::clone(finding_of);
    let filter: AccountFilter = Arc::new(move |account: &str| wanted.contains_key(account));
    let reaper = Reaper::new(&found.findings, finding_of, period);
    let expected: u64 = found
        .findings
        .iter()
        .flat_map(|f| &f.members)
        .map(|m| {
            population.members()[m.account as usize]
                .profile
                .exchanges(0..stillwatch_detect::calendar::EPOCHS)
        })
        .sum();
    progress.begin(Stage::Harvest, Some(expected), "exchanges");
    let (sender, harvested) = mpsc::channel(BATCHES_AHEAD);
    let (taken, harvest) = tokio::try_join!(
        async {
            if found.findings.is_empty() {
                return Ok(reaper.taken);
            }
            let rows = engine::member_exchanges(
                &readable.sources,
                readable.pass(HARVEST_COLUMNS, Some(filter)),
                settings.threads,
                settings.key,
                settings.quote,
            )
            .await
            .map_err(HuntError::engine(Stage::Harvest))?;
            reaper.read(rows, sender, || progress.is_stopped()).await
        },
        async {
            let rows = engine::in_order(harvested, &settings.out)
                .await
                .map_err(HuntError::engine(Stage::Harvest))?;
            harvest::write(rows, ids, &settings.out).await
        }
    )?;
    progress.at(Stage::Harvest, taken.iter().map(|t| t.exchanges).sum());
    progress.end(Stage::Harvest);
    Ok((taken, harvest))
}

/// The columns of the harvest pass: what a signature of harvest looks at, and what is
/// told of an exchange. Addresses, conversations and the like have linked by now.
const HARVEST_COLUMNS: &[&str] = &[
    "exchange_id",
    "time",
    "account_id",
    "turn",
    "request_model",
    "response_model",
    "route",
    "system_instructions",
    "prompt",
    "prompt_sketch",
    "request_temperature",
    "request_top_p",
    "request_max_tokens",
    "request_choice_count",
    "request_seed",
    "request_stream",
    "request_top_logprobs",
    "request_logit_bias_count",
    "request_reasoning",
    "request_tool_count",
    "usage_output_tokens",
    "usage_reasoning_tokens",
    "client_asn",
    "client_country",
    "tls_fingerprint",
    "user_agent",
    "cost_usd",
];

/// Stable for the same members: the first 16 hex digits of SHA-256 over their ids.
fn campaign_id<'a>(accounts: impl Iterator<Item = &'a str>) -> String {
    let mut hash = Sha256::new();
    for account in accounts {
        hash.update((account.len() as u64).to_le_bytes());
        hash.update(account.as_bytes());
    }
    let digest = hash.finalize();
    let hex: String = digest.iter().take(8).map(|b| format!("{b:02x}")).collect();
    format!("campaign-{hex}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn campaign_ids_depend_on_the_members_alone() {
        assert_eq!(campaign_id(["a", "b"].into_iter()), campaign_id(["a", "b"].into_iter()));
        assert_ne!(campaign_id(["a", "b"].into_iter()), campaign_id(["ab"].into_iter()));
    }
}

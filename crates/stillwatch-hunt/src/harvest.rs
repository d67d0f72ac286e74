//! The members' exchanges: what a campaign took, when and from where, and which
//! exchanges were harvest.

use std::collections::BTreeMap;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Float64Type, UInt32Type};
use datafusion::execution::SendableRecordBatchStream;
use futures::TryStreamExt;
use stillwatch_detect::find::Finding;
use stillwatch_detect::observe::{Flags, Traits};
use stillwatch_exchange::{HarvestRow, Share, Time};

use crate::settings::{HuntError, Stage};
use crate::write::{HarvestFile, HarvestWriter};

/// An exchange from this score on is harvest.
const HARVEST: f64 = 0.5;
/// Bins of a campaign's timeline.
pub(crate) const TIMELINE_BINS: usize = 120;
/// Excerpts that a report quotes of one campaign, and their length in characters.
const EXCERPTS: usize = 8;
const EXCERPT_CHARS: usize = 240;
/// Example ids for a campaign's evidence.
const EXAMPLES: usize = 5;
/// Distinct names that are told apart in one tally; later ones count as «other».
const NAMES_MAX: usize = 512;

/// What one campaign took.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    pub exchanges: u64,
    pub harvested: u64,
    pub output_tokens: u64,
    pub reasoning_tokens: u64,
    /// Millionths of a US dollar, so that the sum does not depend on the order.
    pub cost_micro_usd: u64,
    pub first_seen: Option<Time>,
    pub last_seen: Option<Time>,
    pub before_detection: u64,
    pub capabilities: BTreeMap<String, u64>,
    pub routes: BTreeMap<String, u64>,
    pub models: BTreeMap<String, u64>,
    pub networks: BTreeMap<String, u64>,
    pub countries: BTreeMap<String, u64>,
    pub clients: BTreeMap<String, u64>,
    pub hours: [u64; 24],
    pub traffic: Vec<f64>,
    pub harvest: Vec<f64>,
    pub tool_exchanges: u64,
    pub examples: Vec<String>,
    pub excerpts: Vec<String>,
    /// By account index in the finding's members.
    pub members: BTreeMap<String, TakenByMember>,
}

/// What one member took.
#[derive(Debug, Default, Clone)]
pub(crate) struct TakenByMember {
    pub exchanges: u64,
    pub harvested: u64,
    pub first_seen: Option<Time>,
    pub last_seen: Option<Time>,
}

fn count(tally: &mut BTreeMap<String, u64>, name: Option<&str>) {
    let name = name.filter(|n| !n.is_empty()).unwrap_or("not said");
    if let Some(known) = tally.get_mut(name) {
        *known += 1;
    } else if tally.len() < NAMES_MAX {
        tally.insert(name.to_owned(), 1);
    } else {
        *tally.entry("other".to_owned()).or_default() += 1;
    }
}

/// The shares of a tally, largest first, at most `most`.
pub(crate) fn shares(tally: &BTreeMap<String, u64>, most: usize) -> Vec<Share> {
    let all: u64 = tally.values().sum();
    let mut named: Vec<(&String, u64)> = tally.iter().map(|(n, c)| (n, *c)).collect();
    named.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
    named
        .into_iter()
        .take(most)
        .map(|(name, count)| Share { name: name.clone(), share: count as f64 / all.max(1) as f64 })
        .collect()
}

/// Reads the members' exchanges, which come account by account in the order of time.
pub(crate) struct Reaper<'a> {
    pub findings: &'a [Finding],
    pub ids: &'a [String],
    /// The finding of each member.
    pub finding_of: &'a hashbrown::HashMap<String, usize>,
    /// The period, for timelines.
    pub start: Time,
    pub width_us: i64,
    pub taken: Vec<Taken>,
    writer: HarvestWriter,
}

impl<'a> Reaper<'a> {
    pub(crate) fn new(
        findings: &'a [Finding],
        ids: &'a [String],
        finding_of: &'a hashbrown::HashMap<String, usize>,
        (start, end): (Time, Time),
        out: &std::path::Path,
    ) -> Result<Self, HuntError> {
        let width_us = ((end.0 - start.0) / TIMELINE_BINS as i64 + 1).max(1);
        let taken = findings
            .iter()
            .map(|_| Taken {
                traffic: vec![0.0; TIMELINE_BINS],
                harvest: vec![0.0; TIMELINE_BINS],
                ..Taken::default()
            })
            .collect();
        let writer = HarvestWriter::new(out)?;
        Ok(Reaper { findings, ids, finding_of, start, width_us, taken, writer })
    }

    /// Takes all rows; `stopped` is asked between batches.
    pub(crate) async fn read(
        mut self,
        mut rows: SendableRecordBatchStream,
        stopped: impl Fn() -> bool,
    ) -> Result<(Vec<Taken>, HarvestFile), HuntError> {
        while let Some(batch) = rows.try_next().await.map_err(HuntError::engine(Stage::Harvest))? {
            if stopped() {
                return Err(HuntError::Stopped);
            }
            self.take(&batch)?;
        }
        let file = self.writer.finish()?;
        Ok((self.taken, file))
    }

    fn take(&mut self, batch: &RecordBatch) -> Result<(), HuntError> {
        let accounts = batch.column(0).as_string_view();
        let exchange_ids = batch.column(1).as_string_view();
        let traits = batch.column(2).as_fixed_size_binary();
        let text = |column: usize| batch.column(column).as_string_view_opt();
        let (routes, requested, answered) = (text(3), text(4), text(5));
        let asns = batch.column(6).as_primitive_opt::<UInt32Type>();
        let (countries, clients) = (text(7), text(8));
        let costs = batch.column(9).as_primitive_opt::<Float64Type>();
        let excerpts = text(10);
        let at = |array: Option<&'_ arrow::array::StringViewArray>, row: usize| {
            array.filter(|a| a.is_valid(row)).map(|a| a.value(row).to_owned())
        };
        for row in 0..batch.num_rows() {
            let account = accounts.value(row);
            let Some(&place) = self.finding_of.get(account) else { continue };
            let Ok(observed) = Traits::from_bytes(traits.value(row)) else { continue };
            let finding = &self.findings[place];
            let taken = &mut self.taken[place];
            let score = finding.harvest.score(&observed);
            let is_harvest = score >= HARVEST;
            let time = observed.time;

            let member = taken.members.entry(account.to_owned()).or_default();
            for (exchanges, harvested, first, last) in [
                (
                    &mut member.exchanges,
                    &mut member.harvested,
                    &mut member.first_seen,
                    &mut member.last_seen,
                ),
                (
                    &mut taken.exchanges,
                    &mut taken.harvested,
                    &mut taken.first_seen,
                    &mut taken.last_seen,
                ),
            ] {
                *exchanges += 1;
                *harvested += u64::from(is_harvest);
                *first = Some(first.map_or(time, |t| t.min(time)));
                *last = Some(last.map_or(time, |t| t.max(time)));
            }
            taken.output_tokens += u64::from(observed.output_tokens);
            taken.reasoning_tokens += u64::from(observed.reasoning_tokens);
            let cost = costs.filter(|c| c.is_valid(row)).map_or(0.0, |c| c.value(row));
            if cost.is_finite() && cost > 0.0 {
                taken.cost_micro_usd =
                    taken.cost_micro_usd.saturating_add((cost * 1e6).round() as u64);
            }
            taken.before_detection += u64::from(time < finding.first_detectable);
            count(&mut taken.routes, at(routes, row).as_deref());
            count(&mut taken.models, at(answered, row).or_else(|| at(requested, row)).as_deref());
            let asn = asns.filter(|a| a.is_valid(row)).map(|a| format!("AS{}", a.value(row)));
            count(&mut taken.networks, asn.as_deref());
            count(&mut taken.countries, at(countries, row).as_deref());
            count(&mut taken.clients, at(clients, row).as_deref());
            taken.hours[(time.0.rem_euclid(stillwatch_exchange::time::DAY_US)
                / stillwatch_exchange::time::HOUR_US) as usize] += 1;
            let bin = ((time.0 - self.start.0) / self.width_us).clamp(0, TIMELINE_BINS as i64 - 1);
            taken.traffic[bin as usize] += 1.0;
            taken.tool_exchanges += u64::from(observed.flags.has(Flags::TOOLS));
            if !is_harvest {
                continue;
            }
            taken.harvest[bin as usize] += 1.0;
            count(&mut taken.capabilities, Some(observed.text.capability.name()));
            let exchange_id = exchange_ids.value(row);
            if taken.examples.len() < EXAMPLES && taken.harvested % 97 == 1 {
                taken.examples.push(exchange_id.to_owned());
            }
            if taken.excerpts.len() < EXCERPTS
                && taken.harvested % 61 == 1
                && let Some(excerpt) = at(excerpts, row)
            {
                taken.excerpts.push(excerpt.chars().take(EXCERPT_CHARS).collect());
            }
            self.writer.push(HarvestRow {
                campaign_id: self.ids[place].clone(),
                exchange_id: exchange_id.to_owned(),
                account_id: account.to_owned(),
                score,
            })?;
        }
        Ok(())
    }
}

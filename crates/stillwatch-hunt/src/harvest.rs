//! The members' exchanges: what a campaign took, when and from where, and which
//! exchanges were harvest.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch, StringViewArray, UInt32Array,
};
use arrow::datatypes::{DataType, Field, Float64Type, Schema, SchemaRef, UInt32Type};
use arrow::error::ArrowError;
use datafusion::execution::SendableRecordBatchStream;
use futures::TryStreamExt;
use hashbrown::HashMap;
use stillwatch_detect::calendar::{BINS, EPOCHS, SLICES};
use stillwatch_detect::find::{Finding, Found};
use stillwatch_detect::observe::{Capability, Flags, Traits};
use stillwatch_detect::population::Population;
use stillwatch_exchange::{HarvestRow, Share, Time};
use tokio::sync::mpsc;
use xxhash_rust::xxh3::xxh3_64;

use crate::settings::{HuntError, Stage};
use crate::write::{HarvestFile, HarvestWriter};

/// The score is a probability: an exchange that is rather harvest than not is harvest.
const HARVEST: f64 = 0.5;
/// Bins of a campaign's timeline.
pub(crate) const TIMELINE_BINS: usize = 120;
/// Excerpts that a report quotes of one campaign, and their length in characters.
const EXCERPTS: usize = 8;
const EXCERPT_CHARS: usize = 240;
/// Example ids for a campaign's evidence.
const EXAMPLES: usize = 5;
/// Distinct names that are told apart in one tally; the others count as «other».
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
    pub capabilities: Tally,
    pub routes: Tally,
    pub models: Tally,
    pub networks: Tally,
    pub countries: Tally,
    pub clients: Tally,
    pub hours: [u64; 24],
    pub traffic: Vec<f64>,
    pub harvest: Vec<f64>,
    pub tool_exchanges: u64,
    pub examples: Least<EXAMPLES>,
    pub excerpts: Least<EXCERPTS>,
    /// By account.
    pub members: HashMap<String, TakenByMember>,
}

/// What one member took.
#[derive(Debug, Default, Clone)]
pub(crate) struct TakenByMember {
    pub exchanges: u64,
    pub harvested: u64,
    pub first_seen: Option<Time>,
    pub last_seen: Option<Time>,
}

/// Exchanges by some name. Exchanges come in no order, and the tally must not depend on
/// it: where there are too many names, those with the smallest hashes stay, and a name
/// that stays has been counted from its first exchange on.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    names: BTreeMap<String, u64>,
    all: u64,
    /// Names with this hash or a larger one are not told apart.
    bound: Option<u64>,
}

impl Tally {
    fn count(&mut self, name: Option<&str>) {
        let name = name.filter(|n| !n.is_empty()).unwrap_or("not said");
        self.all += 1;
        if let Some(known) = self.names.get_mut(name) {
            *known += 1;
            return;
        }
        let hash = |name: &str| xxh3_64(name.as_bytes());
        if self.bound.is_some_and(|bound| hash(name) >= bound) {
            return;
        }
        self.names.insert(name.to_owned(), 1);
        if self.names.len() > NAMES_MAX
            && let Some(last) = self.names.keys().max_by_key(|name| hash(name)).cloned()
        {
            self.names.remove(&last);
            self.bound = Some(hash(&last));
        }
    }

    /// Counts a name that is one of few.
    fn add(&mut self, name: &str, count: u64) {
        if count > 0 {
            self.all += count;
            *self.names.entry(name.to_owned()).or_default() += count;
        }
    }

    /// How many names there are.
    pub(crate) fn names(&self) -> usize {
        self.names.len()
    }

    /// The shares of the names, largest first, at most `most`.
    pub(crate) fn shares(&self, most: usize) -> Vec<Share> {
        let other = self.all - self.names.values().sum::<u64>();
        let mut named: Vec<(&str, u64)> =
            self.names.iter().map(|(name, count)| (name.as_str(), *count)).collect();
        if other > 0 {
            named.push(("other", other));
        }
        named.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
        let share = |(name, count): (&str, u64)| Share {
            name: name.to_owned(),
            share: count as f64 / self.all.max(1) as f64,
        };
        named.into_iter().take(most).map(share).collect()
    }
}

/// Texts of the `N` exchanges with the smallest hashes: some of all, whatever the order
/// they came in.
#[derive(Debug, Default)]
pub(crate) struct Least<const N: usize>(Vec<(u64, String)>);

impl<const N: usize> Least<N> {
    fn offer(&mut self, hash: u64, text: impl FnOnce() -> String) {
        if self.0.len() == N && self.0.last().is_some_and(|last| last.0 < hash) {
            return;
        }
        let entry = (hash, text());
        let at = self.0.partition_point(|known| *known < entry);
        if self.0.get(at) != Some(&entry) {
            self.0.insert(at, entry);
            self.0.truncate(N);
        }
    }

    pub(crate) fn texts(&self) -> Vec<String> {
        self.0.iter().map(|(_, text)| text.clone()).collect()
    }
}

/// What campaigns took, as far as the profiles of their members tell: by epoch and slice,
/// without costs, names and single exchanges. For exchanges that nobody can read again.
pub(crate) fn taken_of_profiles(
    population: &Population,
    found: &Found,
    finding_of: &HashMap<String, usize>,
    (start, end): (Time, Time),
) -> Vec<Taken> {
    let calendar = population.calendar();
    let width_us = ((end.0 - start.0) / TIMELINE_BINS as i64 + 1).max(1);
    let taken_by = |(place, finding): (usize, &Finding)| {
        let mut taken = Taken { traffic: vec![0.0; TIMELINE_BINS], ..Taken::default() };
        taken.harvest = vec![0.0; TIMELINE_BINS];
        for m in &finding.members {
            let account = &population.members()[m.account as usize];
            if finding_of.get(&account.account_id) != Some(&place) {
                continue;
            }
            let profile = &account.profile;
            let (first, last) = (profile.first_seen(), profile.last_seen());
            taken.first_seen = Some(taken.first_seen.map_or(first, |t| t.min(first)));
            taken.last_seen = Some(taken.last_seen.map_or(last, |t| t.max(last)));
            for (number, epoch) in profile.epochs(0..EPOCHS) {
                let exchanges = u64::from(epoch.exchanges);
                taken.exchanges += exchanges;
                taken.output_tokens += epoch.output_tokens;
                taken.reasoning_tokens += epoch.reasoning_tokens;
                if calendar.look_at(number + 1) <= finding.first_detectable {
                    taken.before_detection += exchanges;
                }
                for (capability, &count) in Capability::ALL.iter().zip(&epoch.capabilities) {
                    taken.capabilities.add(capability.name(), u64::from(count));
                }
                for (all, own) in taken.hours.iter_mut().zip(epoch.hours) {
                    *all += u64::from(own);
                }
                taken.tool_exchanges += u64::from(epoch.tools);
                for (slice, &count) in epoch.slices.iter().enumerate() {
                    let slice_us = calendar.bin_us() * (BINS / SLICES) as i64;
                    let middle =
                        calendar.epoch_start(number).0 + slice_us * slice as i64 + slice_us / 2;
                    let bin = ((middle - start.0) / width_us).clamp(0, TIMELINE_BINS as i64 - 1);
                    taken.traffic[bin as usize] += f64::from(count);
                }
            }
            let by_member = TakenByMember {
                exchanges: profile.exchanges(0..EPOCHS),
                harvested: 0,
                first_seen: Some(first),
                last_seen: Some(last),
            };
            taken.members.insert(account.account_id.clone(), by_member);
        }
        taken
    };
    found.findings.iter().enumerate().map(taken_by).collect()
}

/// Harvested exchanges on their way into the file's order.
pub(crate) fn harvested_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("account_id", DataType::Utf8View, false),
        Field::new("time", DataType::Int64, false),
        Field::new("exchange_id", DataType::Utf8View, false),
        Field::new("campaign", DataType::UInt32, false),
        Field::new("score", DataType::Float64, false),
    ]))
}

/// Harvested exchanges of one batch.
#[derive(Default)]
struct Harvested<'a> {
    accounts: Vec<&'a str>,
    times: Vec<i64>,
    exchanges: Vec<&'a str>,
    campaigns: Vec<u32>,
    scores: Vec<f64>,
}

impl Harvested<'_> {
    fn into_batch(self) -> Result<RecordBatch, ArrowError> {
        let columns: Vec<ArrayRef> = vec![
            Arc::new(StringViewArray::from_iter_values(self.accounts)),
            Arc::new(Int64Array::from(self.times)),
            Arc::new(StringViewArray::from_iter_values(self.exchanges)),
            Arc::new(UInt32Array::from(self.campaigns)),
            Arc::new(Float64Array::from(self.scores)),
        ];
        RecordBatch::try_new(harvested_schema(), columns)
    }
}

/// Writes the harvested exchanges, which come in the file's order.
pub(crate) async fn write(
    mut rows: SendableRecordBatchStream,
    ids: &[String],
    out: &std::path::Path,
) -> Result<HarvestFile, HuntError> {
    let mut writer = HarvestWriter::new(out)?;
    while let Some(batch) = rows.try_next().await.map_err(HuntError::engine(Stage::Harvest))? {
        let accounts = batch.column(0).as_string_view();
        let exchanges = batch.column(2).as_string_view();
        let campaigns = batch.column(3).as_primitive::<UInt32Type>();
        let scores = batch.column(4).as_primitive::<Float64Type>();
        for row in 0..batch.num_rows() {
            writer.push(HarvestRow {
                campaign_id: ids[campaigns.value(row) as usize].clone(),
                exchange_id: exchanges.value(row).to_owned(),
                account_id: accounts.value(row).to_owned(),
                score: scores.value(row),
            })?;
        }
    }
    writer.finish()
}

/// Reads the members' exchanges, in whatever order they come.
pub(crate) struct Reaper<'a> {
    pub findings: &'a [Finding],
    /// The finding of each member.
    pub finding_of: &'a hashbrown::HashMap<String, usize>,
    /// The period, for timelines.
    pub start: Time,
    pub width_us: i64,
    pub taken: Vec<Taken>,
}

impl<'a> Reaper<'a> {
    pub(crate) fn new(
        findings: &'a [Finding],
        finding_of: &'a hashbrown::HashMap<String, usize>,
        (start, end): (Time, Time),
    ) -> Self {
        let width_us = ((end.0 - start.0) / TIMELINE_BINS as i64 + 1).max(1);
        let taken = findings
            .iter()
            .map(|_| Taken {
                traffic: vec![0.0; TIMELINE_BINS],
                harvest: vec![0.0; TIMELINE_BINS],
                ..Taken::default()
            })
            .collect();
        Reaper { findings, finding_of, start, width_us, taken }
    }

    /// Takes all rows and sends on those that are harvest; `stopped` is asked between
    /// batches.
    pub(crate) async fn read(
        mut self,
        mut rows: SendableRecordBatchStream,
        harvested: mpsc::Sender<RecordBatch>,
        stopped: impl Fn() -> bool,
    ) -> Result<Vec<Taken>, HuntError> {
        let failed = HuntError::engine(Stage::Harvest);
        while let Some(batch) = rows.try_next().await.map_err(HuntError::engine(Stage::Harvest))? {
            if stopped() {
                return Err(HuntError::Stopped);
            }
            let rows = match self.take(&batch).into_batch() {
                Ok(rows) => rows,
                Err(error) => return Err(failed(error.into())),
            };
            // Closed where the writer has failed, which says why.
            if rows.num_rows() > 0 && harvested.send(rows).await.is_err() {
                break;
            }
        }
        Ok(self.taken)
    }

    fn take<'b>(&mut self, batch: &'b RecordBatch) -> Harvested<'b> {
        let mut rows = Harvested::default();
        let accounts = batch.column(0).as_string_view();
        let exchange_ids = batch.column(1).as_string_view();
        let traits = batch.column(2).as_fixed_size_binary();
        let text = |column: usize| batch.column(column).as_string_view_opt();
        let (routes, requested, answered) = (text(3), text(4), text(5));
        let asns = batch.column(6).as_primitive_opt::<UInt32Type>();
        let (countries, clients) = (text(7), text(8));
        let costs = batch.column(9).as_primitive_opt::<Float64Type>();
        let excerpts = text(10);
        fn at(array: Option<&StringViewArray>, row: usize) -> Option<&str> {
            array.filter(|a| a.is_valid(row)).map(|a| a.value(row))
        }
        for row in 0..batch.num_rows() {
            let account = accounts.value(row);
            let Some(&place) = self.finding_of.get(account) else { continue };
            let Ok(observed) = Traits::from_bytes(traits.value(row)) else { continue };
            let finding = &self.findings[place];
            let taken = &mut self.taken[place];
            let score = finding.harvest.score(account, &observed);
            let is_harvest = score >= HARVEST;
            let time = observed.time;

            let member = taken.members.entry_ref(account).or_default();
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
            taken.routes.count(at(routes, row));
            taken.models.count(at(answered, row).or_else(|| at(requested, row)));
            let asn = asns.filter(|a| a.is_valid(row)).map(|a| format!("AS{}", a.value(row)));
            taken.networks.count(asn.as_deref());
            taken.countries.count(at(countries, row));
            taken.clients.count(at(clients, row));
            taken.hours[(time.0.rem_euclid(stillwatch_exchange::time::DAY_US)
                / stillwatch_exchange::time::HOUR_US) as usize] += 1;
            let bin = ((time.0 - self.start.0) / self.width_us).clamp(0, TIMELINE_BINS as i64 - 1);
            taken.traffic[bin as usize] += 1.0;
            taken.tool_exchanges += u64::from(observed.flags.has(Flags::TOOLS));
            if !is_harvest {
                continue;
            }
            taken.harvest[bin as usize] += 1.0;
            taken.capabilities.count(Some(observed.text.capability.name()));
            let exchange_id = exchange_ids.value(row);
            let hash = xxh3_64(exchange_id.as_bytes());
            taken.examples.offer(hash, || exchange_id.to_owned());
            if let Some(excerpt) = at(excerpts, row) {
                taken.excerpts.offer(hash, || excerpt.chars().take(EXCERPT_CHARS).collect());
            }
            rows.accounts.push(account);
            rows.times.push(time.0);
            rows.exchanges.push(exchange_id);
            rows.campaigns.push(place as u32);
            rows.scores.push(score);
        }
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tally_does_not_depend_on_the_order() {
        let names: Vec<String> = (0..20_000).map(|n| format!("name {}", n * n % 1_777)).collect();
        let told = |names: &mut dyn Iterator<Item = &String>| {
            let mut tally = Tally::default();
            names.for_each(|name| tally.count(Some(name)));
            assert_eq!(tally.names(), NAMES_MAX);
            tally.shares(usize::MAX).into_iter().map(|s| (s.name, s.share.to_bits())).collect()
        };
        let forth: Vec<_> = told(&mut names.iter());
        assert_eq!(forth, told(&mut names.iter().rev()));
        assert_eq!(forth[0].0, "other");
    }

    #[test]
    fn the_least_do_not_depend_on_the_order() {
        let (mut forth, mut back) = (Least::<3>::default(), Least::<3>::default());
        let offers: Vec<u64> = (0..50).map(|n| n * 37 % 23).collect();
        offers.iter().for_each(|n| forth.offer(*n, || n.to_string()));
        offers.iter().rev().for_each(|n| back.offer(*n, || n.to_string()));
        assert_eq!(forth.texts(), ["0", "1", "2"]);
        assert_eq!(forth.texts(), back.texts());
    }
}

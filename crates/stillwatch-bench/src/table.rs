//! The table: what each detector found in each world, and what it cost.

use std::collections::BTreeMap;

use comfy_table::{Cell, CellAlignment, Table, presets};
use serde::{Deserialize, Serialize};
use stillwatch_simulate::Score;

/// How a detector's threshold was set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Setting {
    /// Ours: its own promise, nothing set by the bench.
    Own,
    /// On a world without campaigns, to as many false accusations as ours makes there, and
    /// at least ten in a million accounts.
    SameBudget,
    /// The same, to a thousand in a million accounts.
    LooseBudget,
    /// The number that its paper gives.
    Paper,
}

impl Setting {
    /// The words in the table.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Setting::Own => "its own",
            Setting::SameBudget => "our budget",
            Setting::LooseBudget => "0.1 % budget",
            Setting::Paper => "its paper's",
        }
    }
}

/// One detector in one world: an element of `bench.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    pub world: String,
    pub detector: String,
    pub setting: Setting,
    /// Campaigns in the world, and those of whose accounts at least half were accused.
    pub campaigns: u64,
    pub campaigns_found: u64,
    /// Accounts of campaigns, and those of them that were accused.
    pub guilty: u64,
    pub guilty_accused: u64,
    /// Share of the campaigns' accounts that were accused in findings that are mostly a
    /// campaign's.
    pub account_recall: f64,
    /// Accounts of no campaign, and those of them that were accused.
    pub innocent: u64,
    pub innocent_accused: u64,
    pub wrongly_accused_per_million: f64,
    /// Share of the accused that belong to campaigns; `None` where nobody was accused.
    pub account_precision: Option<f64>,
    /// Whether it names exchanges; if not, all that an accused account did is taken.
    pub names_exchanges: bool,
    /// Exchanges that campaigns harvested, those that were named, and those of them that
    /// were harvested.
    pub harvested: u64,
    pub named: u64,
    pub named_harvested: u64,
    pub harvest_recall: f64,
    pub harvest_precision: Option<f64>,
    /// Medians over the campaigns; of days over those that were found.
    pub lost_share_median: Option<f64>,
    pub days_to_detection_median: Option<f64>,
    /// Wall time, reading included, and peak memory of the process.
    pub seconds: f64,
    pub peak_memory_bytes: u64,
    pub by_campaign: Vec<CampaignRow>,
}

/// What became of one campaign in a world, under one detector.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CampaignRow {
    pub campaign: String,
    pub accounts: u64,
    /// Share of its accounts that were accused.
    pub account_recall: f64,
    /// Share of its harvest that came before the account it came from was accused;
    /// `None` where it harvested nothing.
    pub lost_share: Option<f64>,
    /// Days from its first harvest until half of its accounts were accused; `None` where
    /// they never were.
    pub days_to_detection: Option<f64>,
}

impl CampaignRow {
    /// Whether at least half of its accounts were accused.
    #[must_use]
    pub fn is_found(&self) -> bool {
        self.account_recall >= 0.5
    }
}

/// Makes a row of a score.
#[must_use]
pub fn row(
    world: &str,
    detector: &str,
    setting: Setting,
    score: &Score,
    seconds: f64,
    peak_memory_bytes: u64,
) -> Row {
    let mut row = Row {
        world: world.to_owned(),
        detector: detector.to_owned(),
        setting,
        campaigns: score.totals.campaigns,
        campaigns_found: 0,
        guilty: score.totals.guilty,
        guilty_accused: score
            .campaigns
            .iter()
            .map(|c| (c.recall * c.accounts as f64).round() as u64)
            .sum(),
        account_recall: 0.0,
        innocent: score.totals.accounts.saturating_sub(score.totals.guilty),
        innocent_accused: score.totals.accused_innocent,
        wrongly_accused_per_million: 0.0,
        account_precision: None,
        names_exchanges: score.campaigns.iter().any(|c| c.exchange_recall.is_some()),
        harvested: 0,
        named: 0,
        named_harvested: 0,
        harvest_recall: 0.0,
        harvest_precision: None,
        lost_share_median: None,
        days_to_detection_median: None,
        seconds,
        peak_memory_bytes,
        by_campaign: Vec::new(),
    };
    for campaign in &score.campaigns {
        row.harvested += campaign.harvested_exchanges;
        let (right, named) = match (campaign.exchange_recall, campaign.exchange_precision) {
            (Some(recall), precision) => {
                let right = recall * campaign.harvested_exchanges as f64;
                let named = precision.filter(|p| *p > 0.0).map_or(right, |p| right / p);
                (right.round() as u64, named.round() as u64)
            }
            (None, _) => (campaign.member_harvest, campaign.member_exchanges),
        };
        row.named += named;
        row.named_harvested += right;
        let harvested = campaign.harvested_exchanges;
        row.by_campaign.push(CampaignRow {
            campaign: campaign.campaign.clone(),
            accounts: campaign.accounts,
            account_recall: campaign.recall,
            lost_share: (harvested > 0).then(|| campaign.lost_exchanges as f64 / harvested as f64),
            days_to_detection: campaign.days_to_half,
        });
    }
    row.work_out();
    row
}

impl Row {
    /// Works the shares out of the counts.
    fn work_out(&mut self) {
        let share = |part: u64, whole: u64| (whole > 0).then(|| part as f64 / whole as f64);
        self.account_recall = share(self.guilty_accused, self.guilty).unwrap_or(0.0);
        self.wrongly_accused_per_million =
            1e6 * share(self.innocent_accused, self.innocent).unwrap_or(0.0);
        self.account_precision =
            share(self.guilty_accused, self.guilty_accused + self.innocent_accused);
        self.harvest_recall = share(self.named_harvested, self.harvested).unwrap_or(0.0);
        self.harvest_precision = share(self.named_harvested, self.named);
        let campaigns = &self.by_campaign;
        self.campaigns_found = campaigns.iter().filter(|c| c.is_found()).count() as u64;
        self.lost_share_median = median(campaigns.iter().filter_map(|c| c.lost_share));
        self.days_to_detection_median =
            median(campaigns.iter().filter_map(|c| c.days_to_detection));
    }

    /// The sums and medians over several worlds of one detector: counts and seconds are
    /// added, of memory the most counts.
    #[must_use]
    pub fn total(rows: &[&Row]) -> Option<Row> {
        let (first, rest) = rows.split_first()?;
        let mut total = (*first).clone();
        total.world = format!("all {}", rows.len());
        for row in rest {
            total.campaigns += row.campaigns;
            total.guilty += row.guilty;
            total.guilty_accused += row.guilty_accused;
            total.innocent += row.innocent;
            total.innocent_accused += row.innocent_accused;
            total.names_exchanges |= row.names_exchanges;
            total.harvested += row.harvested;
            total.named += row.named;
            total.named_harvested += row.named_harvested;
            total.by_campaign.extend(row.by_campaign.iter().cloned());
            total.seconds += row.seconds;
            total.peak_memory_bytes = total.peak_memory_bytes.max(row.peak_memory_bytes);
        }
        total.work_out();
        Some(total)
    }
}

fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_unstable_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        n if n % 2 == 1 => Some(sorted[middle]),
        _ => Some((sorted[middle - 1] + sorted[middle]) / 2.0),
    }
}

/// What `bench.json` holds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Bench {
    /// What was asked for, so that it can be run again.
    pub seed: u64,
    pub is_quick: bool,
    /// The prompts' sources; empty for the built-in grammar.
    pub prompts: Vec<String>,
    /// Worlds that were planned; there are rows of those that are done.
    pub worlds: Vec<String>,
    pub rows: Vec<Row>,
    /// By detector and setting: the whole run.
    pub totals: Vec<Row>,
}

impl Bench {
    /// Adds the rows of a world and works the totals out anew.
    pub fn add(&mut self, rows: Vec<Row>) {
        self.rows.extend(rows);
        let mut kinds: Vec<(&str, Setting)> = Vec::new();
        for row in &self.rows {
            if !kinds.contains(&(&row.detector, row.setting)) {
                kinds.push((&row.detector, row.setting));
            }
        }
        self.totals = kinds
            .into_iter()
            .filter_map(|(detector, setting)| {
                let of_one: Vec<&Row> = self
                    .rows
                    .iter()
                    .filter(|r| r.detector == detector && r.setting == setting)
                    .collect();
                Row::total(&of_one)
            })
            .collect();
    }

    /// The table of some rows, as lines of text.
    #[must_use]
    pub fn table<'a>(rows: impl Iterator<Item = &'a Row>) -> String {
        let mut table = Table::new();
        table.load_style(presets::NOTHING).force_no_tty();
        let right = |text: String| Cell::new(text).set_alignment(CellAlignment::Right);
        table.set_header([
            Cell::new("world"),
            Cell::new("detector"),
            Cell::new("threshold"),
            right("campaigns".to_owned()),
            right("accounts".to_owned()),
            right("wrong/M".to_owned()),
            right("precision".to_owned()),
            right("harvest".to_owned()),
            right("precision".to_owned()),
            right("lost".to_owned()),
            right("days".to_owned()),
            right("seconds".to_owned()),
            right("MiB".to_owned()),
        ]);
        let percent = |share: f64| format!("{:.1} %", 100.0 * share);
        let maybe = |share: Option<f64>| share.map_or_else(|| "-".to_owned(), percent);
        for row in rows {
            // Of all that an accused account did, where no exchange is named.
            let implied = if row.names_exchanges { "" } else { "~" };
            table.add_row([
                Cell::new(&row.world),
                Cell::new(&row.detector),
                Cell::new(row.setting.name()),
                right(format!("{} / {}", row.campaigns_found, row.campaigns)),
                right(percent(row.account_recall)),
                right(format!("{:.0}", row.wrongly_accused_per_million)),
                right(maybe(row.account_precision)),
                right(format!("{implied}{}", percent(row.harvest_recall))),
                right(maybe(row.harvest_precision)),
                right(maybe(row.lost_share_median)),
                right(row.days_to_detection_median.map_or("-".to_owned(), |d| format!("{d:.1}"))),
                right(format!("{:.1}", row.seconds)),
                right((row.peak_memory_bytes >> 20).to_string()),
            ]);
        }
        table.lines().map(|line| format!("{}\n", line.trim_end())).collect()
    }
}

impl Bench {
    /// How often a detector found each kind of campaign, as lines of text.
    #[must_use]
    pub fn kinds(&self, detector: &str, setting: Setting) -> String {
        let mut kinds: BTreeMap<&str, (u64, u64, f64)> = BTreeMap::new();
        let of_one =
            self.rows.iter().filter(|row| row.detector == detector && row.setting == setting);
        for campaign in of_one.flat_map(|row| &row.by_campaign) {
            let (worlds, found, recall) = kinds.entry(&campaign.campaign).or_default();
            *worlds += 1;
            *found += u64::from(campaign.is_found());
            *recall += campaign.account_recall;
        }
        let mut table = Table::new();
        table.load_style(presets::NOTHING).force_no_tty();
        let right = |text: String| Cell::new(text).set_alignment(CellAlignment::Right);
        table.set_header([
            Cell::new(format!("{detector}, by kind")),
            right("found".to_owned()),
            right("accounts".to_owned()),
        ]);
        for (kind, (worlds, found, recall)) in kinds {
            table.add_row([
                Cell::new(kind),
                right(format!("{found} / {worlds}")),
                right(format!("{:.1} %", 100.0 * recall / worlds as f64)),
            ]);
        }
        table.lines().map(|line| format!("{}\n", line.trim_end())).collect()
    }
}

#[cfg(test)]
mod tests {
    use stillwatch_simulate::{CampaignScore, Totals};

    use super::*;

    fn campaign(accounts: u64, recall: f64, harvested: u64, lost: u64) -> CampaignScore {
        CampaignScore {
            accounts,
            harvested_exchanges: harvested,
            recall,
            lost_exchanges: lost,
            days_to_half: (recall >= 0.5).then_some(4.0),
            member_exchanges: 2 * (harvested as f64 * recall) as u64,
            member_harvest: (harvested as f64 * recall) as u64,
            ..CampaignScore::default()
        }
    }

    fn score(campaigns: Vec<CampaignScore>, innocent: u64) -> Score {
        let totals = Totals {
            campaigns: campaigns.len() as u64,
            accounts: 1_000,
            guilty: campaigns.iter().map(|c| c.accounts).sum(),
            accused_innocent: innocent,
            ..Totals::default()
        };
        Score { campaigns, totals, ..Score::default() }
    }

    #[test]
    fn a_row_counts_what_the_score_says() {
        let score = score(vec![campaign(60, 0.9, 500, 100), campaign(40, 0.25, 300, 290)], 9);
        let row = row("w", "d", Setting::SameBudget, &score, 1.5, 7);
        assert_eq!((row.campaigns, row.campaigns_found), (2, 1));
        assert_eq!((row.guilty, row.guilty_accused), (100, 64));
        assert_eq!(row.account_recall, 0.64);
        assert_eq!((row.innocent, row.innocent_accused), (900, 9));
        assert_eq!(row.wrongly_accused_per_million, 10_000.0);
        assert_eq!(row.account_precision, Some(64.0 / 73.0));
        assert_eq!((row.harvested, row.named, row.named_harvested), (800, 1_050, 525));
        assert_eq!(row.harvest_precision, Some(0.5));
        assert!(!row.names_exchanges);
        assert!((row.lost_share_median.unwrap() - (0.2 + 290.0 / 300.0) / 2.0).abs() < 1e-12);
        assert_eq!(row.days_to_detection_median, Some(4.0));
    }

    #[test]
    fn named_exchanges_count_before_whole_accounts() {
        let mut one = campaign(60, 1.0, 400, 0);
        (one.exchange_recall, one.exchange_precision) = (Some(0.5), Some(0.8));
        let row = row("w", "d", Setting::Own, &score(vec![one], 0), 0.0, 0);
        assert_eq!((row.named, row.named_harvested), (250, 200));
        assert!(row.names_exchanges);
    }

    #[test]
    fn who_accuses_nobody_has_no_precision() {
        let row =
            row("w", "d", Setting::Paper, &score(vec![campaign(60, 0.0, 400, 400)], 0), 0.0, 0);
        assert_eq!((row.account_precision, row.harvest_precision), (None, None));
        assert_eq!((row.lost_share_median, row.days_to_detection_median), (Some(1.0), None));
    }

    #[test]
    fn totals_are_of_counts_and_not_of_shares() {
        let mut bench = Bench::default();
        let few = score(vec![campaign(10, 1.0, 100, 0)], 0);
        let many = score(vec![campaign(90, 0.0, 900, 900)], 91);
        bench.add(vec![row("a", "d", Setting::SameBudget, &few, 1.0, 5)]);
        bench.add(vec![
            row("b", "d", Setting::SameBudget, &many, 2.0, 3),
            row("b", "e", Setting::SameBudget, &few, 2.0, 3),
        ]);
        assert_eq!(bench.totals.len(), 2);
        let total = &bench.totals[0];
        assert_eq!((total.world.as_str(), total.campaigns, total.campaigns_found), ("all 2", 2, 1));
        assert_eq!(total.account_recall, 0.1);
        assert_eq!(total.account_precision, Some(10.0 / 101.0));
        assert_eq!(total.lost_share_median, Some(0.5));
        assert_eq!((total.seconds, total.peak_memory_bytes), (3.0, 5));
        let text = Bench::table(bench.totals.iter());
        assert!(text.contains("1 / 2") && text.contains("10.0 %"), "{text}");
        let text = bench.kinds("d", Setting::SameBudget);
        assert!(text.contains("1 / 2") && text.contains("50.0 %"), "{text}");
    }
}

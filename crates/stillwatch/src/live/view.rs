//! What is shown while it goes on and at its end.

use std::fmt::Write as _;
use std::io::{self, IsTerminal};
use std::path::Path;
use std::time::{Duration, Instant};

use comfy_table::{CellAlignment, Table, presets};
use indicatif::{HumanCount, ProgressBar, ProgressDrawTarget, ProgressStyle};
use stillwatch_exchange::Time;

use super::tally::{Campaign, Tally};
use crate::failure::Failure;
use crate::output;

/// How often the table is drawn anew.
const DRAW_EVERY: Duration = Duration::from_millis(200);
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// A table that is drawn anew on a terminal, and a line a day elsewhere.
pub struct View {
    bar: Option<ProgressBar>,
    is_quiet: bool,
    days: u32,
    began: Instant,
    drawn: Instant,
}

impl View {
    pub fn new(is_quiet: bool, days: u32) -> Self {
        let is_live = !is_quiet && io::stdout().is_terminal();
        let bar = is_live.then(|| {
            let target = ProgressDrawTarget::stdout();
            // The template is ours; were it wrong, the default one would do.
            let style = ProgressStyle::with_template("{msg}")
                .unwrap_or_else(|_| ProgressStyle::default_spinner());
            ProgressBar::with_draw_target(None, target).with_style(style)
        });
        View { bar, is_quiet, days, began: Instant::now(), drawn: Instant::now() }
    }

    /// Draws the table, where there is one and it is time.
    pub fn draw(&mut self, tally: &Tally, now: Time) {
        let Some(bar) = &self.bar else { return };
        if self.drawn.elapsed() < DRAW_EVERY {
            return;
        }
        self.drawn = Instant::now();
        let mut text = format!(
            "{}  day {} of {}  {} exchanges, {}/s\n\n",
            minute(now),
            tally.day(now.0) + 1,
            self.days,
            HumanCount(tally.exchanges),
            HumanCount(self.rate(tally)),
        );
        text.push_str(&table(tally, self.days));
        bar.set_message(text);
        bar.tick();
    }

    /// Says how a day of event time went, where no table is drawn.
    pub fn day(&self, tally: &Tally, day: usize, until: Time) -> Result<(), Failure> {
        if self.bar.is_some() || self.is_quiet {
            return Ok(());
        }
        let mut text = date(until);
        for campaign in &tally.campaigns {
            let share = campaign.by_day.get(day).and_then(|of_day| of_day.share());
            // Writing to a String can't fail.
            let _ = write!(
                text,
                "  {}: {} named, {}, gets {}",
                campaign.name,
                campaign.named,
                verdict(campaign),
                percent(share),
            );
        }
        let crowd = &tally.crowd;
        let _ = writeln!(text, "  crowd: {} refused, {} changed", crowd.refused, crowd.changed);
        output::print(&text)
    }

    /// Takes the table off the terminal, and prints the summary in its place.
    pub fn end(self, tally: &Tally, now: Time, out: &Path) -> Result<(), Failure> {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
            output::print(&format!("{}\n\n", table(tally, self.days)))?;
        }
        output::print(&self.summary(tally, now, out))
    }

    fn rate(&self, tally: &Tally) -> u64 {
        (tally.exchanges as f64 / self.began.elapsed().as_secs_f64().max(1e-3)) as u64
    }

    fn summary(&self, tally: &Tally, now: Time, out: &Path) -> String {
        let mut text = String::new();
        // Writing to a String can't fail.
        let _ = writeln!(
            text,
            "{} days in {:.0} s: {} exchanges through the guard, {}/s, looks included.\n",
            tally.day(now.0) + 1,
            self.began.elapsed().as_secs_f64(),
            HumanCount(tally.exchanges),
            HumanCount(self.rate(tally)),
        );
        for campaign in &tally.campaigns {
            let (before, since) = (campaign.before, campaign.since);
            let Some(found) = campaign.found else {
                let _ = writeln!(
                    text,
                    "{}: not found; {} of {} answers got",
                    campaign.name,
                    HumanCount(before.answered),
                    HumanCount(before.asked),
                );
                continue;
            };
            let _ = writeln!(
                text,
                "{}: found {}, {} of {} accounts named at the end; got {} of {} answers until \
                 then, {} of {} since, which is {} of the tokens",
                campaign.name,
                date(found),
                campaign.named,
                campaign.accounts,
                HumanCount(before.answered),
                HumanCount(before.asked),
                HumanCount(since.answered),
                HumanCount(since.asked),
                percent(since.share()),
            );
        }
        let crowd = &tally.crowd;
        let _ = writeln!(
            text,
            "crowd: {} accounts, {} exchanges, {} refused, {} changed, {} accounts ever named",
            HumanCount(crowd.accounts as u64),
            HumanCount(crowd.exchanges),
            crowd.refused,
            crowd.changed,
            crowd.named_ever,
        );
        if let Some((guarded, straight)) = crowd.medians_us() {
            let _ = writeln!(
                text,
                "latency p50: {guarded} µs through the guard, {straight} µs straight to the model"
            );
        }
        text.push('\n');
        let below = |parts: &[&str]| {
            let path = parts.iter().fold(out.to_owned(), |path, part| path.join(part));
            path.display().to_string()
        };
        for (what, path) in [
            ("Records ", below(&["guard", "records"])),
            ("Findings", below(&["findings", "campaigns.json"])),
            ("Report  ", below(&["findings", "report.html"])),
            ("Policy  ", below(&["policy.toml"])),
        ] {
            let _ = writeln!(text, "{what}  {path}");
        }
        text
    }
}

fn table(tally: &Tally, days: u32) -> String {
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY);
    table.set_header([
        "",
        "accounts",
        "found",
        "named",
        "verdict",
        "harvest it got, by day",
        "now",
    ]);
    for campaign in &tally.campaigns {
        let bars: String = campaign
            .by_day
            .iter()
            .map(|of_day| match of_day.share() {
                Some(share) if share > 0.0 => {
                    BARS[((share * 8.0).ceil() as usize).clamp(1, BARS.len()) - 1]
                }
                Some(_) => '·',
                None => ' ',
            })
            .collect();
        let now = campaign.by_day.last().and_then(|of_day| of_day.share());
        table.add_row([
            campaign.name.clone(),
            campaign.accounts.to_string(),
            campaign.found.map_or_else(String::new, date),
            campaign.named.to_string(),
            verdict(campaign).to_owned(),
            format!("{bars:<width$}", width = days as usize),
            percent(now),
        ]);
    }
    for column in [1, 3, 6] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let crowd = &tally.crowd;
    let added = crowd.medians_us().map_or_else(String::new, |(guarded, straight)| {
        format!(
            ", latency p50 {guarded} µs, of which {} µs added",
            guarded.saturating_sub(straight)
        )
    });
    format!(
        "{table}\ncrowd of {}: {} refused, {} answers changed, {} accounts named{added}",
        HumanCount(crowd.accounts as u64),
        crowd.refused,
        crowd.changed,
        crowd.named,
    )
}

fn verdict(campaign: &Campaign) -> &str {
    if campaign.verdict.is_empty() { "allow" } else { &campaign.verdict }
}

fn percent(share: Option<f64>) -> String {
    share.map_or_else(|| "–".to_owned(), |share| format!("{:.1} %", share * 100.0))
}

fn date(time: Time) -> String {
    time.to_string().chars().take(10).collect()
}

fn minute(time: Time) -> String {
    time.to_string().replace('T', " ").chars().take(16).collect()
}

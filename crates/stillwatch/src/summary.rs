//! What a hunt found, on one screen.

use std::fmt::Write as _;
use std::path::Path;

use comfy_table::{
    Attribute, Cell, CellAlignment, Color, ColumnConstraint, ContentArrangement, Table, presets,
};
use indicatif::HumanCount;
use stillwatch_exchange::{Campaign, CampaignKind, Evidence, Time};
use stillwatch_hunt::Hunted;

/// Campaigns that the table shows; `campaigns.json` has them all.
const CAMPAIGNS_MAX: usize = 25;
/// Pieces of evidence, and capabilities, that the table shows of a campaign.
const LINES_MAX: usize = 4;
/// A smaller share would be printed as none.
const SHARE_MIN: f64 = 0.005;
/// Files that are named one by one.
const FILES_MAX: usize = 10;
/// The only column whose lines are broken, where there is room for the others.
const TOOK: usize = 4;
/// As many columns as the others need.
const COLUMNS_ROOMY: u16 = 96;
/// The strength that fills a bar: beyond ten robust deviations, or ten nats, more is
/// no news.
const STRENGTH_FULL: f64 = 10.0;
/// Cells of a full bar.
const BAR_CELLS: f64 = 6.0;

/// The summary of a hunt whose findings are in `out`.
pub fn render(hunted: &Hunted, out: &Path, columns: u16, colours: bool) -> String {
    let mut text = what_was_read(hunted);
    text.push('\n');
    text.push_str(&what_was_found(hunted));
    if !hunted.campaigns.is_empty() {
        text.push('\n');
        let table = campaigns(&hunted.campaigns, columns, colours);
        for line in table.lines() {
            text.push_str(line.trim_end());
            text.push('\n');
        }
        if hunted.campaigns.len() > CAMPAIGNS_MAX {
            line(&mut text, format_args!("… and {} more", hunted.campaigns.len() - CAMPAIGNS_MAX));
        }
    }
    text.push('\n');
    line(&mut text, format_args!("Report  {}", out.join("report.html").display()));
    line(&mut text, format_args!("Data    {}", out.join("campaigns.json").display()));
    text
}

fn line(text: &mut String, what: std::fmt::Arguments<'_>) {
    // Writing to a String can't fail.
    let _ = writeln!(text, "{what}");
}

fn what_was_read(hunted: &Hunted) -> String {
    let (run, picture) = (&hunted.run, &hunted.picture.run);
    let mut text = String::new();
    line(
        &mut text,
        format_args!(
            "Read {} of {} from {}{}.",
            counted(run.rows_read, "exchange"),
            counted(run.accounts, "account"),
            counted(run.files.len() as u64, "file"),
            if run.rows_read == 0 {
                String::new()
            } else {
                format!(", {} to {}", day(picture.first_seen), day(picture.last_seen))
            },
        ),
    );
    if !run.rows_refused.is_empty() {
        let mut reasons: Vec<_> = run.rows_refused.iter().collect();
        reasons.sort_by(|a, b| b.1.cmp(a.1).then(a.0.cmp(b.0)));
        let reasons: Vec<String> = reasons
            .iter()
            .map(|(reason, count)| format!("{reason} {}", HumanCount(**count)))
            .collect();
        line(&mut text, format_args!("Passed over: {}.", reasons.join(", ")));
    }
    if !run.unknown_columns.is_empty() {
        line(
            &mut text,
            format_args!("Unknown columns, ignored: {}.", run.unknown_columns.join(", ")),
        );
    }
    text.push_str(&unreadable(&run.file_problems));
    text
}

/// The files that could not be read, by name.
pub fn unreadable(problems: &[String]) -> String {
    let mut text = String::new();
    if !problems.is_empty() {
        line(&mut text, format_args!("Could not read all of:"));
        for problem in problems.iter().take(FILES_MAX) {
            line(&mut text, format_args!("  {problem}"));
        }
        if problems.len() > FILES_MAX {
            line(
                &mut text,
                format_args!("  … and {} more, see run.json", problems.len() - FILES_MAX),
            );
        }
    }
    text
}

fn what_was_found(hunted: &Hunted) -> String {
    let run = &hunted.picture.run;
    let open =
        hunted.campaigns.iter().filter(|c| c.kind == CampaignKind::OpenHarvest).count() as u64;
    let hidden = hunted.campaigns.len() as u64 - open;
    let mut text = String::new();
    let found = match (hidden, open) {
        (0, 0) => "No campaign".to_owned(),
        (hidden, 0) => counted(hidden, "campaign"),
        (0, open) => format!("No hidden campaign, {}", counted(open, "open harvest")),
        (hidden, open) => {
            format!("{} and {}", counted(hidden, "campaign"), counted(open, "open harvest"))
        }
    };
    line(&mut text, format_args!("{found} among {}.", counted(run.candidates, "linked group")));
    let promised = hunted.campaigns.iter().filter(|c| c.evidence_value.is_some()).count() as u64;
    text.push_str(&promises(promised, hunted.campaigns.len() as u64 - promised, run.level));
    text
}

/// How many findings carry the promise at a level, and how many have a rank only.
fn promises(promised: u64, ranked: u64, level: f64) -> String {
    let promise =
        format!("the promise of level {level} (at most that share of such findings innocent)");
    let why = "too little to compare with, so no error rate";
    match (promised, ranked) {
        (0, 0) => String::new(),
        (promised, 0) => format!("With {promise}: {promised}.\n"),
        (promised, ranked) => {
            format!("With {promise}: {promised}.\nWith a rank only ({why}): {ranked}.\n")
        }
    }
}

fn campaigns(campaigns: &[Campaign], columns: u16, colours: bool) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::UTF8_HORIZONTAL_ONLY)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(columns);
    if colours {
        table.enforce_styling();
    } else {
        table.force_no_tty();
    }
    table.set_header(
        ["#", "what", "how much", "when", "took", "evidence"]
            .map(|name| Cell::new(name).add_attribute(Attribute::Bold)),
    );
    for campaign in campaigns.iter().take(CAMPAIGNS_MAX) {
        table.add_row([
            Cell::new(campaign.rank).set_alignment(CellAlignment::Right),
            Cell::new(what(campaign)).fg(colour(campaign)),
            Cell::new(how_much(campaign)),
            Cell::new(when(campaign)),
            Cell::new(took(campaign)),
            Cell::new(evidence(campaign)),
        ]);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 1));
        if columns >= COLUMNS_ROOMY && column.index != TOOK {
            column.set_constraint(ColumnConstraint::ContentWidth);
        }
    }
    table.to_string()
}

fn colour(campaign: &Campaign) -> Color {
    match (campaign.kind, campaign.evidence_value) {
        (CampaignKind::OpenHarvest, _) => Color::Cyan,
        (_, Some(_)) => Color::Red,
        (_, None) => Color::Yellow,
    }
}

fn what(campaign: &Campaign) -> String {
    let mut text = campaign.kind.name().replace('_', " ");
    match (campaign.evidence_value, campaign.discovery_rate) {
        (Some(e_value), Some(level)) => {
            let _ = write!(text, "\ne-value {}\nat level {level:.2}", significant(e_value));
        }
        _ => text.push_str("\nrank only"),
    }
    text
}

fn how_much(campaign: &Campaign) -> String {
    format!(
        "{}\n{}\n{} tokens\n${}",
        counted(campaign.accounts, "account"),
        counted(campaign.exchanges, "exchange"),
        rounded(campaign.output_tokens),
        HumanCount(campaign.cost_usd.max(0.0).round() as u64),
    )
}

fn when(campaign: &Campaign) -> String {
    // A look is taken at an epoch's end, and by then all may have happened.
    let all = if campaign.first_detectable > campaign.last_seen { "all " } else { "" };
    format!(
        "began {}\nknown {}\nafter {all}{}",
        day(campaign.first_seen),
        day(campaign.first_detectable),
        HumanCount(campaign.exchanges_before_detection),
    )
}

fn took(campaign: &Campaign) -> String {
    let shares: Vec<String> = campaign
        .capabilities
        .iter()
        .filter(|part| part.share >= SHARE_MIN)
        .take(LINES_MAX)
        .map(|part| format!("{:>2.0} % {}", part.share * 100.0, part.name))
        .collect();
    shares.join("\n")
}

fn evidence(campaign: &Campaign) -> String {
    let mut strongest: Vec<&Evidence> = campaign.evidence.iter().collect();
    strongest.sort_by(|a, b| b.strength.total_cmp(&a.strength).then(a.channel.cmp(&b.channel)));
    let mut told = std::collections::BTreeSet::new();
    let lines: Vec<String> = strongest
        .iter()
        .filter(|evidence| told.insert(evidence.channel.as_str()))
        .take(LINES_MAX)
        .map(|evidence| format!("{} {}", bar(evidence.strength), evidence.channel))
        .collect();
    lines.join("\n")
}

/// A bar of [`BAR_CELLS`] columns, filled in eighths.
fn bar(strength: f64) -> String {
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let share = if strength.is_nan() { 0.0 } else { (strength / STRENGTH_FULL).clamp(0.0, 1.0) };
    let eighths = (share * BAR_CELLS * 8.0).round() as usize;
    let drawn = "█".repeat(eighths / 8) + EIGHTHS.get(eighths % 8).unwrap_or(&"");
    format!("{drawn:·<width$}", width = BAR_CELLS as usize)
}

/// `1,000 exchanges`, `1 exchange`.
pub fn counted(count: u64, noun: &str) -> String {
    format!("{} {noun}{}", HumanCount(count), if count == 1 { "" } else { "s" })
}

/// A large count in words: `34.0 M`.
pub fn rounded(count: u64) -> String {
    match count as f64 {
        n if n >= 1e9 => format!("{:.1} G", n / 1e9),
        n if n >= 1e6 => format!("{:.1} M", n / 1e6),
        n if n >= 1e3 => format!("{:.1} k", n / 1e3),
        n => format!("{n}"),
    }
}

fn significant(value: f64) -> String {
    if value >= 10.0 { HumanCount(value as u64).to_string() } else { format!("{value:.1}") }
}

/// The day of a time, `2026-03-02`.
pub fn day(time: Time) -> String {
    time.to_string().chars().take_while(|c| *c != 'T').collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_carries_the_promise_is_told_from_what_has_a_rank() {
        assert_eq!(promises(0, 0, 0.05), "");
        let ranked = promises(0, 11, 0.05);
        assert!(ranked.contains("level 0.05") && ranked.contains("innocent): 0.\n"), "{ranked}");
        assert!(
            ranked.ends_with(
                "With a rank only (too little to compare with, so no error rate): 11.\n"
            )
        );
        assert!(promises(3, 8, 0.1).contains("innocent): 3.\n"));
        assert!(!promises(3, 0, 0.1).contains("rank"));
        assert!(promises(3, 8, 0.1).lines().all(|line| line.chars().count() <= 100));
    }
}

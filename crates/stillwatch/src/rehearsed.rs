//! What came of a rehearsal, on one screen.

use std::fmt::Write as _;

use comfy_table::{Attribute, Cell, CellAlignment, Table, presets};
use indicatif::HumanCount;
use stillwatch_decide::{InForceFrom, Known, RuleTally, Tally};

use crate::commands::Rehearsed;
use crate::summary::{counted, day, rounded, unreadable};

/// Accounts that are named one by one; the JSON has them all.
const ACCOUNTS_MAX: usize = 10;

/// The whole of it.
pub fn render(told: &Rehearsed, colours: bool) -> String {
    let mut text = what_was_read(told);
    let rehearsal = &told.rehearsal;
    let done: Vec<&RuleTally> =
        rehearsal.rules.iter().filter(|rule| !rule.responses.is_empty()).collect();
    if done.is_empty() {
        text.push_str("\nNothing would have been done.\n");
    }
    for rule in done {
        let _ = writeln!(text, "\nRule «{}»\n", rule.rule);
        text.push_str(&responses(rule, colours));
        text.push('\n');
        text.push_str(&steps(rule, colours));
    }
    text.push('\n');
    text.push_str(&who(told));
    text
}

fn what_was_read(told: &Rehearsed) -> String {
    let rehearsal = &told.rehearsal;
    let mut text = format!(
        "Rehearsed on {} of {} from {}",
        counted(told.exchanges, "exchange"),
        counted(told.accounts, "account"),
        counted(told.files, "file"),
    );
    if let (Some(first), Some(last)) = (told.first, told.last) {
        let _ = write!(text, ", {} to {}", day(first), day(last));
    }
    let since = match rehearsal.in_force_from {
        InForceFrom::Start => "in force from the start of them",
        InForceFrom::Detected => "each in force from when it could have been known",
    };
    let _ = writeln!(
        text,
        ".\nFindings, {since}: {} of {}.",
        counted(rehearsal.campaigns.len() as u64, "campaign"),
        counted(rehearsal.named_accounts, "account"),
    );
    if !told.rows_refused.is_empty() {
        let reasons: Vec<String> = told
            .rows_refused
            .iter()
            .map(|(reason, count)| format!("{reason} {}", HumanCount(*count)))
            .collect();
        let _ = writeln!(text, "Passed over: {}.", reasons.join(", "));
    }
    text.push_str(&unreadable(&told.file_problems));
    text
}

fn table(header: &[&str], colours: bool) -> Table {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_header(header.iter().map(|name| Cell::new(name).add_attribute(Attribute::Bold)));
    if colours {
        table.enforce_styling();
    } else {
        table.force_no_tty();
    }
    table
}

fn shown(mut table: Table) -> String {
    for column in table.column_iter_mut() {
        column.set_padding((0, 1));
    }
    table.lines().fold(String::new(), |text, line| text + line.trim_end() + "\n")
}

fn number(count: u64) -> Cell {
    Cell::new(HumanCount(count)).set_alignment(CellAlignment::Right)
}

/// Exchanges, refused, changed, tokens and those kept back.
fn numbers(tally: &Tally) -> [Cell; 5] {
    [
        number(tally.exchanges),
        number(tally.refused_exchanges),
        number(tally.changed_exchanges),
        Cell::new(rounded(tally.output_tokens)).set_alignment(CellAlignment::Right),
        Cell::new(rounded(tally.kept_output_tokens)).set_alignment(CellAlignment::Right),
    ]
}

/// The heads of [`numbers`].
const NUMBERS: [&str; 5] = ["exchanges", "refused", "changed", "tokens", "kept back"];

fn responses(rule: &RuleTally, colours: bool) -> String {
    let head = [&["does", "campaigns", "accounts", "innocent"][..], &NUMBERS].concat();
    let mut table = table(&head, colours);
    for row in &rule.responses {
        let mut cells = vec![
            Cell::new(row.response),
            number(row.campaigns),
            number(row.accounts),
            number(row.innocent_accounts),
        ];
        cells.extend(numbers(&row.tally));
        table.add_row(cells);
    }
    shown(table)
}

fn steps(rule: &RuleTally, colours: bool) -> String {
    let head = [&["step", "when", "accounts"][..], &NUMBERS].concat();
    let mut table = table(&head, colours);
    for step in &rule.steps {
        let does: Vec<&str> = step.responses.iter().map(|response| response.name()).collect();
        let when = match (step.first, step.last) {
            (Some(first), Some(last)) => format!("{} to {}", day(first), day(last)),
            _ => "no exchange".to_owned(),
        };
        let mut cells = vec![
            Cell::new(format!("{} {}", step.step, does.join(", "))),
            Cell::new(when),
            number(step.accounts),
        ];
        cells.extend(numbers(&step.tally));
        table.add_row(cells);
    }
    shown(table)
}

/// The touched, the innocent among them, and who stays untouched.
fn who(told: &Rehearsed) -> String {
    let rehearsal = &told.rehearsal;
    let touched = rehearsal.touched_accounts;
    let mut text = format!("Touched: {}", counted(touched, "account"));
    if touched > 0 {
        let _ = write!(text, ", of which {}", rehearsal.innocent_accounts);
        text.push_str(match rehearsal.innocent_accounts {
            1 => " is innocent as far as is known, or may be",
            _ => " are innocent as far as is known, or may be",
        });
    }
    if !rehearsal.innocent.is_empty() {
        let why: Vec<String> = rehearsal
            .innocent
            .iter()
            .map(|(why, count)| format!("{} {}", HumanCount(*count), known(*why)))
            .collect();
        let _ = write!(text, " ({})", why.join(", "));
    }
    text.push_str(".\n");
    let innocent = rehearsal.accounts.iter().filter(|account| !account.innocent.is_empty());
    for account in innocent.clone().take(ACCOUNTS_MAX) {
        let why: Vec<&str> = account.innocent.iter().map(|why| known(*why)).collect();
        let _ = writeln!(
            text,
            "  {}  {}, {}: {}",
            account.account_id,
            account.gravest,
            counted(account.tally.exchanges, "exchange"),
            why.join(", ")
        );
    }
    if rehearsal.innocent_accounts > ACCOUNTS_MAX as u64 {
        let _ =
            writeln!(text, "  … and {} more", rehearsal.innocent_accounts - ACCOUNTS_MAX as u64);
    }
    let of_touched = rehearsal.campaigns.iter().filter(|c| c.touched_accounts > 0);
    let (members, guilty) = of_touched
        .fold((0, 0), |(m, g), c| (m + c.accounts, g + c.guilty_members_at_least.min(c.accounts)));
    if members > 0 {
        let _ = writeln!(
            text,
            "By the findings' own bounds at least {} of the touched campaigns' {} are no ordinary \
             ones.",
            HumanCount(guilty),
            counted(members, "account"),
        );
    }
    let untouched = &rehearsal.untouched;
    let why: Vec<String> = [
        (untouched.exempt, "exempt"),
        (untouched.lifted, "lifted or cleared"),
        (untouched.recorded, "only recorded"),
        (untouched.uncovered, "under no rule or step"),
        (untouched.silent, "without an exchange"),
    ]
    .iter()
    .filter(|(count, _)| *count > 0)
    .map(|(count, what)| format!("{} {what}", HumanCount(*count)))
    .collect();
    if !why.is_empty() {
        let _ = writeln!(text, "Named by a finding and not touched: {}.", why.join(", "));
    }
    let named_silent = untouched.silent;
    let in_none = told.accounts.saturating_sub(rehearsal.named_accounts - named_silent);
    let _ = writeln!(text, "In no campaign, and not touched: {}.", counted(in_none, "account"));
    text
}

fn known(why: Known) -> &'static str {
    match why {
        Known::VerifiedOrganization => "of a verified organisation",
        Known::Cleared => "in a cleared group",
        Known::Customer => "in a customer's group",
        Known::Lifted => "lifted or cleared before",
        Known::UnsureMember => "a member below 0.9",
    }
}

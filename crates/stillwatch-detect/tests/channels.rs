//! `docs/channels.md` is made from the channels' own files: from their docs and from what
//! the registries say of them. `UPDATE=1 cargo test --test channels` writes it.

use std::fmt::Write;
use std::path::Path;

use stillwatch_detect::confirm::{ConfirmChannel, Explains, Role, Sum};
use stillwatch_detect::link::LinkChannel;

const HEADINGS: [&str; 5] = [
    "What it sees",
    "Why it matters",
    "Innocent explanations",
    "How it is evaded, and at what cost",
    "References",
];

const INTRODUCTION: &str = "\
# Channels

What links accounts into groups, and what a group's course is then judged by. This page is
made from the channels' files; `UPDATE=1 cargo test --release --workspace --test channels`
writes it anew.

A link channel gathers accounts that share rare things; whatever links a group is innocent
by itself. A confirm channel measures what a group does afterwards, on one scale for all
groups that were linked the same way: how far a measure lies from their median on the
suspicious side, in robust standard deviations, but never finer than its resolution. A
channel that is spent by a link says nothing of groups that were linked by it. How even
volumes are accuses nobody alone: tenants of one application can be as even. Another
channel that accuses or corroborates has to speak as well.
";

/// The doc of a channel's file, its headings one level further down.
fn doc(folder: &str, name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("src/{folder}/{name}.rs"));
    let source = std::fs::read_to_string(&path)
        .unwrap_or_else(|e| panic!("a channel is a file of its name: {}: {e}", path.display()));
    let lines: Vec<&str> = source
        .lines()
        .map_while(|line| line.strip_prefix("//!"))
        .map(|line| line.strip_prefix(' ').unwrap_or(line))
        .collect();
    let headings: Vec<&str> = lines.iter().filter_map(|line| line.strip_prefix("# ")).collect();
    assert_eq!(headings, HEADINGS, "{}: a channel's doc has these headings", path.display());
    let mut text = String::new();
    for (i, line) in lines.iter().enumerate() {
        match (i, line.strip_prefix("# ")) {
            (0, _) => {
                let _ = writeln!(text, "### {line}");
            }
            (_, Some(heading)) => {
                let _ = writeln!(text, "#### {heading}");
            }
            _ => {
                let _ = writeln!(text, "{line}");
            }
        }
    }
    text
}

/// The page as the sources have it.
fn page() -> String {
    let mut page = format!("{INTRODUCTION}\n## Links\n");
    for channel in LinkChannel::ALL {
        let spends: Vec<&str> = ConfirmChannel::ALL
            .into_iter()
            .filter(|c| c.is_spent_by(channel))
            .map(ConfirmChannel::name)
            .collect();
        let spends = if spends.is_empty() { "nothing".to_owned() } else { spends.join(", ") };
        let _ = write!(
            page,
            "\n{}\nShared: one {}. Spends: {spends}.\n",
            doc("link", channel.name()),
            channel.shared_thing()
        );
    }
    page.push_str("\n## Confirmations\n");
    for channel in ConfirmChannel::ALL {
        let about = channel.channel();
        let role = match about.role {
            Role::Accuses => "its evidence is part of the score",
            Role::Corroborates => {
                "its evidence is part of the score where others accuse, at most as much as theirs"
            }
            Role::Clears => "it is told of, may clear or explain a group, and never accuses one",
        };
        let spent: Vec<&str> = about.spent_by.iter().map(|link| link.name()).collect();
        let spent = if spent.is_empty() { "nothing".to_owned() } else { spent.join(", ") };
        let _ =
            write!(page, "\n{}\nRole: {role}. Spent by: {spent}.\n", doc("confirm", about.name));
        if about.sum == Sum::HalfTheMost {
            page.push_str("Half of the largest of its deviations counts, not their mean.\n");
        }
        if about.lasts {
            page.push_str("It says the same of groups that come in bursts.\n");
        }
        if about.needs_occasion {
            page.push_str("It takes an occasion that may not come: its absence says less.\n");
        }
        page.push_str("\n| measure | | suspicious | resolution | weight | explains a group |\n");
        page.push_str("| --- | --- | --- | --- | --- | --- |\n");
        for measure in about.measures {
            let explains: Vec<&str> = measure
                .explains
                .iter()
                .map(|explains| match explains {
                    Explains::FarOut => "far on the innocent side",
                    Explains::Mostly => "above one half",
                    Explains::Burst => "all but even volumes, far on the innocent side",
                    Explains::InBursts => "in bursts, on the innocent side",
                })
                .collect();
            let _ = writeln!(
                page,
                "| `{}` | {} | {} | {} | {} | {} |",
                measure.id.name(),
                measure.name,
                if measure.high { "high" } else { "low" },
                measure.resolution,
                measure.weight,
                if explains.is_empty() { "no".to_owned() } else { explains.join(", or ") },
            );
        }
    }
    page
}

#[test]
fn the_page_of_all_channels_is_what_their_files_say() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/channels.md");
    let page = page();
    if std::env::var_os("UPDATE").is_some() {
        std::fs::create_dir_all(path.parent().expect("in a folder")).expect("can be made");
        std::fs::write(&path, &page).expect("can be written");
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    let first = page.lines().zip(committed.lines()).position(|(a, b)| a != b);
    assert!(
        page == committed,
        "docs/channels.md differs from the channels' files, first in line {}; \
         `UPDATE=1 cargo test --release --workspace --test channels` writes it",
        first.unwrap_or_else(|| page.lines().count().min(committed.lines().count())) + 1
    );
}

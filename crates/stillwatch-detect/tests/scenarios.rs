//! Every scenario in `scenarios/`: exchanges in, findings out.
//!
//! `UPDATE=1 cargo test --test scenarios` writes what is found into the files. What no
//! update can excuse: nobody of an `innocent` block is accused, what a population makes
//! the detector keep is bounded, and each channel is shown to matter and to spare.

mod scenario;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use scenario::{Scenario, World};
use stillwatch_detect::calendar::EPOCHS;
use stillwatch_detect::confirm::{ConfirmChannel, MEASURES, Role};
use stillwatch_detect::find::{Found, Settings, find};
use stillwatch_detect::gather::gather;
use stillwatch_detect::link::{LinkChannel, VALUES_MAX, link};
use stillwatch_detect::population::Population;
use stillwatch_detect::references::References;
use stillwatch_detect::without::Without;

const SETTINGS: Settings = Settings { level: 0.05, shuffle: None, without: Without::NOTHING };
/// Links that gather groups but carry no finding by themselves. Habits spend independence,
/// without which nothing is a harvest; and a group that shares nothing but a pool has no
/// values by which members are told.
const NEVER_ALONE: [LinkChannel; 2] = [LinkChannel::Pool, LinkChannel::Habit];
/// Largest profile, in bytes.
const PROFILE_MAX: usize = 4096;

/// What was found in a scenario.
struct Outcome {
    path: PathBuf,
    /// By finding, the channels that link it and those that speak.
    findings: Vec<(BTreeSet<&'static str>, BTreeSet<&'static str>)>,
    /// The channels that linked groups at the last freezing.
    linked: BTreeSet<&'static str>,
    wrong: Vec<String>,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios")
}

fn kind(population: &Population, account: u32) -> &str {
    let id = &population.members()[account as usize].account_id;
    id.split('-').next().unwrap_or_default()
}

/// The findings as the files have them.
fn told(population: &Population, found: &Found) -> String {
    let mut text = String::new();
    for finding in &found.findings {
        let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
        for m in &finding.members {
            *kinds.entry(kind(population, m.account)).or_default() += 1;
        }
        let kinds: Vec<String> = kinds.iter().map(|(kind, n)| format!("{n} {kind}")).collect();
        let mut speak: Vec<&str> =
            finding.spoken.iter().map(|s| MEASURES[s.measure].id.channel().name()).collect();
        speak.sort_unstable();
        speak.dedup();
        let lead = &found.groups[finding.groups[0]].candidate;
        let links: Vec<&str> = lead.channels.iter().map(|c| c.name()).collect();
        let (kinds, links, speak) = (kinds.join(", "), links.join(" "), speak.join(" "));
        let kind = finding.kind.name();
        let _ = writeln!(text, "{kind} of {kinds}; linked by {links}; {speak} speak");
    }
    if found.findings.is_empty() {
        text.push_str("nothing\n");
    }
    text
}

/// What a population makes the detector keep, against its bounds.
fn unbounded(population: &Population) -> Vec<String> {
    let mut wrong = Vec::new();
    let accounts = population.members().len();
    let largest = population.members().iter().map(|m| m.profile.size_bytes()).max().unwrap_or(0);
    if largest > PROFILE_MAX {
        wrong.push(format!("a profile of {largest} bytes, more than {PROFILE_MAX}"));
    }
    for freeze in 1..EPOCHS {
        let links = link(population, freeze, Without::NOTHING);
        let mut of_account = vec![0usize; accounts];
        for bucket in &links.buckets {
            bucket.members.iter().for_each(|&m| of_account[m as usize] += 1);
        }
        let most = of_account.iter().max().copied().unwrap_or(0);
        if most > VALUES_MAX {
            wrong.push(format!("an account in {most} buckets, more than {VALUES_MAX}"));
        }
        let candidates = gather(&links, accounts).len();
        let buckets = links.buckets.len();
        if candidates > 2 * buckets {
            wrong.push(format!("{candidates} candidates from {buckets} buckets, more than twice"));
        }
    }
    wrong
}

fn run(path: PathBuf) -> Outcome {
    let scenario = match Scenario::read(&path) {
        Ok(scenario) => scenario,
        Err(wrong) => {
            return Outcome {
                path,
                findings: Vec::new(),
                linked: BTreeSet::new(),
                wrong: vec![wrong],
            };
        }
    };
    let population = World::of(&scenario);
    let mut wrong = unbounded(&population);
    let found = find(&population, &SETTINGS, &References::default(), &mut |_, _, _| true)
        .expect("nobody stopped it");
    for block in scenario.blocks.iter().filter(|b| b.is_innocent) {
        let accused = found
            .findings
            .iter()
            .flat_map(|f| &f.members)
            .filter(|m| kind(&population, m.account) == block.name)
            .count();
        if accused > 0 {
            wrong.push(format!("{accused} of {} innocent {} accused", block.count, block.name));
        }
    }
    let told = told(&population, &found);
    if told != scenario.finds {
        if std::env::var_os("UPDATE").is_some() {
            let text = std::fs::read_to_string(&path).expect("was read before");
            let before = text.split_once("\nfinds\n").map_or(text.trim_end(), |t| t.0.trim_end());
            std::fs::write(&path, format!("{before}\n\nfinds\n{told}")).expect("can be written");
        } else {
            wrong.push(format!(
                "finds\n{told}but the file says\n{}UPDATE=1 writes what is found into it",
                scenario.finds
            ));
        }
    }
    Outcome {
        path,
        findings: found
            .findings
            .iter()
            .map(|f| {
                let links = f.groups.iter().flat_map(|&g| &found.groups[g].candidate.channels);
                let speak = f.spoken.iter().map(|s| MEASURES[s.measure].id.channel().name());
                (links.map(|c| c.name()).collect(), speak.collect())
            })
            .collect(),
        linked: found
            .groups
            .iter()
            .filter(|g| g.freeze == EPOCHS - 1)
            .flat_map(|g| g.candidate.channels.iter().map(|c| c.name()))
            .collect(),
        wrong,
    }
}

/// What the scenarios of a channel lack.
fn lacking(channel: &str, outcomes: &[Outcome], matters: impl Fn(&Outcome) -> bool) -> Vec<String> {
    let of: Vec<&Outcome> =
        outcomes.iter().filter(|o| o.path.parent().is_some_and(|p| p.ends_with(channel))).collect();
    let mut wrong = Vec::new();
    if !of.iter().any(|o| matters(o)) {
        wrong.push(format!("{channel}: no scenario in which it matters"));
    }
    if !of.iter().any(|o| o.findings.is_empty()) {
        wrong.push(format!("{channel}: no scenario of innocents that it must not accuse"));
    }
    wrong
}

#[test]
fn every_scenario_is_found_as_it_says() {
    let mut paths: Vec<PathBuf> = Vec::new();
    for entry in std::fs::read_dir(folder()).expect("the scenarios are there").flatten() {
        if entry.path().is_dir() {
            let files = std::fs::read_dir(entry.path()).expect("a folder").flatten();
            paths.extend(
                files.map(|f| f.path()).filter(|p| p.extension().is_some_and(|e| e == "txt")),
            );
        }
    }
    if let Ok(only) = std::env::var("SCENARIO") {
        paths.retain(|p| p.to_string_lossy().contains(&only));
    }
    paths.sort_unstable();
    let outcomes: Vec<Outcome> = paths.into_par_iter().map(run).collect();
    let mut wrong: Vec<String> = outcomes
        .iter()
        .flat_map(|o| o.wrong.iter().map(|w| format!("{}: {w}", o.path.display())))
        .collect();
    if std::env::var_os("SCENARIO").is_none() {
        for channel in LinkChannel::ALL {
            let name = channel.name();
            wrong.extend(lacking(name, &outcomes, |o| {
                let links = o.findings.iter().any(|(links, _)| links.contains(name));
                links || NEVER_ALONE.contains(&channel) && o.linked.contains(name)
            }));
        }
        for channel in ConfirmChannel::ALL {
            let name = channel.name();
            wrong.extend(lacking(name, &outcomes, |o| {
                let speaks = o.findings.iter().any(|(_, speak)| speak.contains(name));
                // One that explains is silent where it does, and where it does not.
                speaks || channel.channel().role == Role::Clears && !o.findings.is_empty()
            }));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// Without a channel something else is found in a scenario of its folder: a campaign is
/// missed, or somebody is accused. Habits link nobody whom nothing else accuses.
#[test]
fn a_channel_that_is_left_out_is_missed() {
    let names: Vec<&str> =
        Without::names().filter(|name| *name != LinkChannel::Habit.name()).collect();
    let idle: Vec<&str> = names
        .into_par_iter()
        .filter(|name| {
            let without = Without::NOTHING.and(name).expect("it is one of the names");
            let settings = Settings { without, ..SETTINGS };
            let files = std::fs::read_dir(folder().join(name)).expect("a folder").flatten();
            !files.map(|file| Scenario::read(&file.path()).expect("a scenario")).any(|scenario| {
                let population = World::of(&scenario);
                let references = References::default();
                let found = find(&population, &settings, &references, &mut |_, _, _| true);
                told(&population, &found.expect("nobody stopped it")) != scenario.finds
            })
        })
        .collect();
    assert!(idle.is_empty(), "nothing changes without {}", idle.join(", "));
}

#[test]
fn a_line_that_is_not_understood_is_named() {
    let parse = |text: &str| Scenario::parse(text, &|_| Err("there is none".to_owned()));
    for (text, what) in [
        ("innocent person many", "line 1: accounts are counted"),
        ("innocent person 3\n  volume 0", "line 2: a volume is at least 1"),
        ("innocent person 3\n  ask {z}", "line 2: no such place: {z}"),
        ("innocent person 3\n  ask {n", "line 2: a { has no }"),
        ("  ask {n}", "line 1: belongs to no accounts"),
        ("innocent person 3\n  born 5..3", "line 2: 5..3 runs backwards"),
        ("nonsense", "line 1: not understood"),
        ("with nobody", "there is none"),
    ] {
        let error = parse(text).expect_err(text);
        assert!(error.starts_with(what), "{error}");
    }
}

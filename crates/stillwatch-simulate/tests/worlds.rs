//! What a world owes its settings, and the truth its tables.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{TimestampMicrosecondType, UInt16Type};
use stillwatch_exchange::columns;
use stillwatch_simulate::{
    CAMPAIGNS, CROWDS, HELD_OUT, Prompts, World, WorldSettings, settings_reference, write_world,
};

fn prompts() -> Arc<Prompts> {
    static PROMPTS: OnceLock<Arc<Prompts>> = OnceLock::new();
    PROMPTS.get_or_init(|| Arc::new(Prompts::built_in())).clone()
}

fn settings(assignments: &[&str]) -> WorldSettings {
    let mut settings =
        WorldSettings { exchanges: 15_000, accounts: 800, days: 14, ..WorldSettings::default() };
    settings.campaigns = "none".to_owned();
    for assignment in assignments {
        settings.set(assignment).unwrap();
    }
    settings
}

/// What the tests look at of one exchange.
#[derive(Clone, Debug)]
struct Seen {
    id: String,
    time: i64,
    account: String,
    conversation: Option<String>,
    model: String,
    prompt: String,
    turn: u16,
    campaign: Option<String>,
}

struct Played {
    world: World,
    exchanges: Vec<Seen>,
    /// By account: kind, campaign, created, closed.
    accounts: HashMap<String, (String, Option<String>, i64, Option<i64>)>,
}

fn text(batch: &RecordBatch, column: &str, row: usize) -> Option<String> {
    let column = batch.column_by_name(column).unwrap().as_string_view();
    column.is_valid(row).then(|| column.value(row).to_owned())
}

fn time(batch: &RecordBatch, column: &str, row: usize) -> Option<i64> {
    let column = batch.column_by_name(column).unwrap().as_primitive::<TimestampMicrosecondType>();
    column.is_valid(row).then(|| column.value(row))
}

fn play(assignments: &[&str]) -> Played {
    let world = World::new(settings(assignments), prompts()).unwrap();
    let mut exchanges = Vec::new();
    for batch in world.stream() {
        let batch = batch.unwrap();
        assert_eq!(batch.exchanges.schema(), columns::schema(columns::EXCHANGES));
        for row in 0..batch.exchanges.num_rows() {
            let e = &batch.exchanges;
            assert_eq!(text(e, "exchange_id", row), text(&batch.truth, "exchange_id", row));
            exchanges.push(Seen {
                id: text(e, "exchange_id", row).unwrap(),
                time: time(e, "time", row).unwrap(),
                account: text(e, "account_id", row).unwrap(),
                conversation: text(e, "conversation_id", row),
                model: text(e, "request_model", row).unwrap(),
                prompt: text(e, "prompt", row).unwrap(),
                turn: e.column_by_name("turn").unwrap().as_primitive::<UInt16Type>().value(row),
                campaign: text(&batch.truth, "campaign", row),
            });
        }
    }
    let (table, truth) = (world.accounts_table().unwrap(), world.truth_table().unwrap());
    assert_eq!(table.schema(), columns::schema(columns::ACCOUNTS));
    assert_eq!(world.releases_table().unwrap().schema(), columns::schema(columns::RELEASES));
    let accounts = (0..table.num_rows())
        .map(|row| {
            let id = text(&table, "account_id", row).unwrap();
            assert_eq!(Some(id.clone()), text(&truth, "account_id", row));
            let kind = text(&truth, "kind", row).unwrap();
            let created = time(&table, "created_at", row).unwrap();
            (id, (kind, text(&truth, "campaign", row), created, time(&table, "closed_at", row)))
        })
        .collect();
    Played { world, exchanges, accounts }
}

fn harvest<'a>(played: &'a Played, campaign: &str) -> Vec<&'a Seen> {
    played.exchanges.iter().filter(|e| e.campaign.as_deref() == Some(campaign)).collect()
}

#[test]
fn a_whole_world_agrees_with_its_truth() {
    let played = play(&["campaigns=all", "accounts=2500", "exchanges=50000"]);
    assert_eq!(played.accounts.len(), 2_500);
    let n = played.exchanges.len() as f64;
    assert!((n / 50_000.0 - 1.0).abs() < 0.03, "{n} exchanges");
    assert!(played.exchanges.is_sorted_by_key(|e| e.time));
    let ids: BTreeSet<&str> = played.exchanges.iter().map(|e| e.id.as_str()).collect();
    assert_eq!(ids.len(), played.exchanges.len());

    let mut active: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for e in &played.exchanges {
        let (kind, campaign, created, closed) = &played.accounts[&e.account];
        assert!(e.time >= *created && closed.is_none_or(|c| e.time < c), "{e:?}");
        if e.campaign.is_some() {
            assert_eq!(&e.campaign, campaign);
        }
        active.entry(campaign.as_deref().unwrap_or(kind)).or_default().insert(&e.account);
    }
    for crowd in CROWDS {
        assert!(active.contains_key(crowd.name), "no {}", crowd.name);
    }
    for campaign in CAMPAIGNS {
        assert!(
            active[campaign.name].len() >= 45,
            "{}: {}",
            campaign.name,
            active[campaign.name].len()
        );
        let mine = harvest(&played, campaign.name).len();
        assert!(mine >= 40 * 45, "{}: {mine} exchanges", campaign.name);
    }
    let planned: Vec<&str> = played.world.campaigns().map(|c| c.name.as_str()).collect();
    assert_eq!(planned, CAMPAIGNS.iter().map(|c| c.name).collect::<Vec<_>>());
}

#[test]
fn kinds_that_are_held_out_come_only_when_asked_for() {
    let played = play(&["campaigns=held_out", "accounts=2500", "exchanges=60000"]);
    let planned: Vec<&str> = played.world.campaigns().map(|c| c.name.as_str()).collect();
    assert_eq!(planned, HELD_OUT.iter().map(|c| c.name).collect::<Vec<_>>());
    for kind in HELD_OUT {
        let mine = harvest(&played, kind.name).len();
        assert!(mine >= 40 * 45, "{}: {mine} exchanges", kind.name);
    }
    let day = |e: &&Seen| (e.time - settings(&[]).start.0).div_euclid(86_400_000_000);
    let of_burst = harvest(&played, "burst");
    let (first, last) = (of_burst.iter().map(day).min(), of_burst.iter().map(day).max());
    assert!(last.unwrap() - first.unwrap() < 5, "{first:?} to {last:?}");
    // One card for each account and a reseller's account mostly a stranger's.
    let members: BTreeSet<&str> =
        harvest(&played, "relay_blend").iter().map(|e| e.account.as_str()).collect();
    let all = played.exchanges.iter().filter(|e| members.contains(e.account.as_str())).count();
    let share = harvest(&played, "relay_blend").len() as f64 / all as f64;
    assert!((0.08..0.35).contains(&share), "{share}");
    assert!(CAMPAIGNS.iter().all(|c| HELD_OUT.iter().all(|h| h.name != c.name)));
}

#[test]
fn tasks_are_worded_anew_where_that_is_asked_for() {
    let asked = |strength: &str| {
        let knob = format!("campaign.slow_drip.task_rewording={strength}");
        let played = play(&[
            "campaigns=slow_drip",
            "campaign.slow_drip.pool=repeated",
            "campaign.slow_drip.times_asked=4",
            "campaign.slow_drip.templates=0",
            "campaign.slow_drip.follow_up_share=0",
            "campaign.slow_drip.domains=0",
            &knob,
        ]);
        let prompts: Vec<String> =
            harvest(&played, "slow_drip").iter().map(|e| e.prompt.clone()).collect();
        let different: BTreeSet<&String> = prompts.iter().collect();
        different.len() as f64 / prompts.len() as f64
    };
    let (verbatim, reworded) = (asked("0"), asked("0.8"));
    assert!(verbatim < 0.35 && reworded > 2.0 * verbatim, "{verbatim} {reworded}");
}

#[test]
fn most_accounts_are_small_and_some_are_large() {
    let played = play(&["exchanges=30000"]);
    let mut volumes: HashMap<&str, u64> = HashMap::new();
    for e in &played.exchanges {
        *volumes.entry(&e.account).or_default() += 1;
    }
    let mut volumes: Vec<u64> = volumes.into_values().collect();
    volumes.sort_unstable();
    let (median, top) = (volumes[volumes.len() / 2], volumes[volumes.len() - 1]);
    assert!(top > 20 * median, "median {median}, largest {top}");
}

#[test]
fn neither_ids_nor_their_order_tell_who_is_who() {
    let played = play(&["campaigns=slow_drip", "campaign.slow_drip.accounts=300"]);
    let mut ids: Vec<&String> = played.accounts.keys().collect();
    ids.sort();
    for hundred in ids.chunks_exact(100) {
        let members = hundred.iter().filter(|id| played.accounts[**id].1.is_some()).count();
        assert!((8..45).contains(&members), "{members} of a hundred where 25 are expected");
    }
    assert!(played.exchanges.iter().all(|e| e.id.len() == 24 && e.id.starts_with("exc_")));
}

#[test]
fn a_divided_pool_is_asked_once() {
    let played = play(&[
        "campaigns=slow_drip",
        "campaign.slow_drip.follow_up_share=0",
        "campaign.slow_drip.mix_share=0",
    ]);
    let prompts: Vec<&str> =
        harvest(&played, "slow_drip").iter().map(|e| e.prompt.as_str()).collect();
    let different: BTreeSet<&str> = prompts.iter().copied().collect();
    // The grammar has a few sentences twice, so that some records are the same text.
    assert!(
        different.len() as f64 > 0.97 * prompts.len() as f64,
        "{} of {}",
        different.len(),
        prompts.len()
    );
}

#[test]
fn a_repeated_pool_is_asked_the_set_number_of_times_by_different_accounts() {
    let played = play(&[
        "campaigns=k_samples",
        "campaign.k_samples.times_asked=4",
        "campaign.k_samples.templates=0",
        "campaign.k_samples.follow_up_share=0",
        "campaign.k_samples.bans_per_seat=0",
        "campaign.k_samples.domains=0",
    ]);
    let mut asked: HashMap<&str, (u64, BTreeSet<&str>)> = HashMap::new();
    for e in harvest(&played, "k_samples") {
        let entry = asked.entry(&e.prompt).or_default();
        entry.0 += 1;
        entry.1.insert(&e.account);
    }
    let exact = asked.values().filter(|(n, by)| *n == 4 && by.len() == 4).count();
    assert!(exact as f64 > 0.9 * asked.len() as f64, "{exact} of {}", asked.len());
}

#[test]
fn a_pivot_moves_its_share_within_its_hours_and_not_before() {
    let played = play(&[
        "campaigns=pivot",
        "campaign.pivot.pivot_share=0.5",
        "campaign.pivot.pivot_hours=12",
        "campaign.pivot.accounts=100",
        "campaign.pivot.exchanges=8000",
    ]);
    let releases = played.world.releases_table().unwrap();
    let start = played.world.settings().start.0;
    let (model, released) = (0..releases.num_rows())
        .map(|row| {
            (text(&releases, "model", row).unwrap(), time(&releases, "released_at", row).unwrap())
        })
        .find(|(_, at)| *at > start)
        .unwrap();
    let share = |from: i64, to: i64| {
        let some: Vec<&Seen> = harvest(&played, "pivot")
            .into_iter()
            .filter(|e| (from..to).contains(&e.time))
            .collect();
        some.iter().filter(|e| e.model == model).count() as f64 / some.len() as f64
    };
    let day = 86_400_000_000;
    assert_eq!(share(start, released), 0.0);
    let after = share(released + day / 2, released + 3 * day);
    assert!((0.45..0.55).contains(&after), "{after}");
}

#[test]
fn closed_accounts_are_replaced_and_the_shard_goes_on() {
    let played = play(&[
        "campaigns=replacement",
        "campaign.replacement.accounts=120",
        "campaign.replacement.bans_per_seat=1",
        "campaign.replacement.ban_waves=2",
        "campaign.replacement.replacement_hours=4",
        "campaign.replacement.exchanges=12000",
    ]);
    let members: Vec<_> = played.accounts.values().filter(|a| a.1.is_some()).collect();
    assert_eq!(members.len(), 120);
    let closed: Vec<i64> = members.iter().filter_map(|a| a.3).collect();
    assert_eq!(closed.len(), 60);
    let hour = 3_600_000_000;
    for at in &closed {
        let heirs = members.iter().filter(|a| (0..8 * hour).contains(&(a.2 - at))).count();
        assert!(heirs > 0, "nobody replaces the account closed at {at}");
    }
    let done = harvest(&played, "replacement").len();
    assert!((11_000..=12_800).contains(&done), "{done}");
}

#[test]
fn a_proxy_mixes_harvest_with_strangers_chats_that_hop() {
    let played = play(&[
        "campaigns=hydra_proxy",
        "campaign.hydra_proxy.mix_share=0.5",
        "campaign.hydra_proxy.hop_share=0.5",
        "campaign.hydra_proxy.accounts=80",
        "campaign.hydra_proxy.exchanges=4000",
    ]);
    let members = |e: &&Seen| played.accounts[&e.account].1.is_some();
    let all: Vec<&Seen> = played.exchanges.iter().filter(members).collect();
    let harvested = all.iter().filter(|e| e.campaign.is_some()).count();
    let share = 1.0 - harvested as f64 / all.len() as f64;
    assert!((0.35..0.65).contains(&share), "{share}");
    let mut carriers: HashMap<&str, BTreeSet<&str>> = HashMap::new();
    for e in all.iter().filter(|e| e.campaign.is_none()) {
        carriers.entry(e.conversation.as_deref().unwrap()).or_default().insert(&e.account);
    }
    assert!(carriers.values().filter(|c| c.len() > 1).count() > 50);
}

#[test]
fn crowd_knobs_do_what_they_say() {
    let count =
        |played: &Played, kind: &str| played.accounts.values().filter(|a| a.0 == kind).count();
    let plain = play(&[]);
    let more = play(&["crowd.classes.accounts=40", "crowd.people.exchanges=0"]);
    assert!(count(&more, "classes") > 3 * count(&plain, "classes"));
    let people = more.exchanges.iter().filter(|e| more.accounts[&e.account].0 == "people").count();
    assert_eq!(people, 0);
    assert!(
        (more.exchanges.len() as f64 / 15_000.0 - 1.0).abs() < 0.05,
        "{}",
        more.exchanges.len()
    );
}

#[test]
fn people_go_on_talking_and_harvest_does_not() {
    let played = play(&[
        "campaigns=slow_drip",
        "campaign.slow_drip.follow_up_share=0",
        "campaign.slow_drip.mix_share=0",
    ]);
    let turns = |pick: &dyn Fn(&Seen) -> bool| {
        let some: Vec<u16> = played.exchanges.iter().filter(|e| pick(e)).map(|e| e.turn).collect();
        some.iter().filter(|t| **t > 1).count() as f64 / some.len() as f64
    };
    assert!(turns(&|e| played.accounts[&e.account].0 == "people") > 0.3);
    assert_eq!(turns(&|e| e.campaign.is_some()), 0.0);
}

fn bytes_of(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    for folder in [dir.to_owned(), dir.join("exchanges")] {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                all.insert(path.strip_prefix(dir).unwrap().to_owned(), fs::read(&path).unwrap());
            }
        }
    }
    all
}

#[test]
fn the_same_seed_gives_the_same_bytes_whatever_the_threads() {
    let root = tempfile::tempdir().unwrap();
    let write = |name: &str, seed: &str, threads: usize| {
        let dir = root.path().join(name);
        let settings = settings(&[
            "campaigns=hydra_proxy,careful",
            seed,
            "rows_per_file=2000",
            "rows_per_group=700",
        ]);
        let summary =
            write_world(&settings, prompts(), &dir, threads, &|done, total| assert!(done <= total))
                .unwrap();
        assert_eq!(summary.files, summary.exchanges.div_ceil(2_000));
        bytes_of(&dir)
    };
    let one = write("one", "seed=5", 1);
    assert!(one.len() > 8);
    assert!(one == write("three", "seed=5", 3), "another number of threads, other bytes");
    let other = write("other", "seed=6", 2);
    for (name, bytes) in &one {
        assert!(
            other.get(name) != Some(bytes),
            "{} is the same under another seed",
            name.display()
        );
    }
}

#[test]
fn a_smaller_world_leaves_no_files_of_a_larger_one() {
    let dir = tempfile::tempdir().unwrap();
    for (rows, files) in [("rows_per_file=1500", 9..13), ("rows_per_file=0", 1..4)] {
        let summary =
            write_world(&settings(&[rows]), prompts(), dir.path(), 2, &|_, _| {}).unwrap();
        let found = fs::read_dir(dir.path().join("exchanges")).unwrap().count();
        assert_eq!(found as u64, summary.files);
        assert!(files.contains(&found), "{found} files");
    }
}

#[test]
fn an_unwritable_folder_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "x").unwrap();
    let error =
        write_world(&settings(&[]), prompts(), &file, 1, &|_, _| {}).unwrap_err().to_string();
    assert!(error.starts_with("cannot write") && error.contains("file"), "{error}");
}

#[test]
fn wrong_settings_are_refused_with_a_hint() {
    let check = |assignment: &str, expected: &[&str]| {
        let error = WorldSettings::default().set(assignment).unwrap_err().to_string();
        for part in expected {
            assert!(error.contains(part), "{assignment}: {error}");
        }
    };
    check("acounts=5", &["acounts", "did you mean accounts"]);
    check("crowd.class.accounts=5", &["crowd.classes.accounts"]);
    check("campaign.slow_dripp.accounts=5", &["campaign.slow_drip.accounts"]);
    check("campaign.slow_drip.pool=shared", &["campaign.slow_drip.pool", "divided"]);
    check("campaign.slow_drip.mix_share=2", &["mix_share"]);
    check("campaigns=slow_drip,none_such", &["none_such", "hydra_proxy"]);
    check("days=0", &["days"]);
    check("days=many", &["days", "many"]);
    check("seed", &["KEY=VALUE"]);
    check("campaign.careful.name=x", &["no setting is called"]);
}

#[test]
fn worlds_that_are_too_small_say_so() {
    let error = World::new(settings(&["campaigns=all", "accounts=300"]), prompts())
        .err()
        .unwrap()
        .to_string();
    assert!(error.contains("300") && error.contains("fewer campaigns"), "{error}");
    let error =
        World::new(settings(&["campaigns=all", "accounts=2000", "exchanges=3000"]), prompts())
            .err()
            .unwrap();
    assert!(error.to_string().contains("fewer campaigns"), "{error}");
}

#[test]
fn a_tiny_world_can_be_made() {
    for (accounts, exchanges) in [("accounts=1", "exchanges=10"), ("accounts=40", "exchanges=200")]
    {
        let played = play(&[accounts, exchanges, "days=1"]);
        assert!(!played.accounts.is_empty());
    }
}

#[test]
fn the_reference_lists_every_key() {
    let reference = settings_reference();
    let tree = serde_json::to_value(WorldSettings::default()).unwrap();
    for (key, value) in tree.as_object().unwrap() {
        if !value.is_object() {
            assert!(reference.lines().any(|l| l.starts_with(&format!("{key} "))), "{key}");
        }
    }
    let world = World::new(settings(&["campaigns=careful"]), prompts()).unwrap();
    let plan = serde_json::to_value(world.campaigns().next().unwrap()).unwrap();
    for key in plan.as_object().unwrap().keys().filter(|k| *k != "name") {
        assert!(reference.contains(&format!("campaign.NAME.{key} ")), "{key}");
        // Every key can be set to what it is.
        let value = serde_json::to_string(&plan[key]).unwrap();
        if !plan[key].is_null() {
            WorldSettings::default()
                .set(&format!("campaign.careful.{key}={}", value.trim_matches('"')))
                .unwrap();
        }
    }
    for crowd in CROWDS {
        assert!(reference.contains(&format!("crowd.{}.group_size ", crowd.name)));
    }
}

#[test]
fn corpora_are_read_plain_and_compressed_and_bad_lines_counted() {
    let dir = tempfile::tempdir().unwrap();
    let plain = "{\"prompt\": \"Name three rivers.\"}\n{\"text\": \"Name three lakes.\"}\nnot json\n\n{\"turns\": []}\n";
    fs::write(dir.path().join("a.jsonl"), plain).unwrap();
    let zst = zstd::encode_all(plain.as_bytes(), 1).unwrap();
    fs::write(dir.path().join("b.jsonl.zst"), zst).unwrap();
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut gz, plain.as_bytes()).unwrap();
    fs::write(dir.path().join("c.jsonl.gz"), gz.finish().unwrap()).unwrap();
    let prompts = Prompts::load(&[dir.path().to_owned()]).unwrap();
    assert_eq!(prompts.passed_over(), 6);
    assert_eq!(prompts.corpora(), ["a.jsonl", "b.jsonl.zst", "c.jsonl.gz"]);

    let missing = Prompts::load(&[dir.path().join("none.jsonl")]).unwrap_err().to_string();
    assert!(missing.contains("none.jsonl"), "{missing}");
    fs::write(dir.path().join("empty.jsonl"), "").unwrap();
    let empty = Prompts::load(&[dir.path().join("empty.jsonl")]).unwrap_err().to_string();
    assert!(empty.contains("no prompt"), "{empty}");
}

#[test]
fn campaigns_harvest_what_a_corpus_offers() {
    let dir = tempfile::tempdir().unwrap();
    let lines: String = (0..400)
        .map(|i| format!("{{\"prompt\": \"Zorblax exercise {i} on topic {}\"}}\n", i * 7))
        .collect();
    fs::write(dir.path().join("own.jsonl"), lines).unwrap();
    let prompts = Arc::new(Prompts::load(&[dir.path().join("own.jsonl")]).unwrap());
    let world = World::new(settings(&["campaigns=slow_drip", "rewording=0"]), prompts).unwrap();
    let mut zorblax = (0, 0);
    for batch in world.stream() {
        let batch = batch.unwrap();
        for row in 0..batch.truth.num_rows() {
            if text(&batch.truth, "campaign", row).is_some() {
                zorblax.0 +=
                    usize::from(text(&batch.exchanges, "prompt", row).unwrap().contains("Zorblax"));
                zorblax.1 += 1;
            }
        }
    }
    assert!(
        zorblax.1 > 1_000 && zorblax.0 as f64 > 0.8 * f64::from(zorblax.1 as u32),
        "{zorblax:?}"
    );
}

#[test]
fn a_world_is_made_of_the_real_corpora() {
    let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/corpora");
    if !corpora.is_dir() {
        eprintln!("skipped: no corpora at {}", corpora.display());
        return;
    }
    let prompts = Prompts::load(&[corpora]).unwrap();
    assert_eq!(prompts.passed_over(), 0);
    let mut settings = settings(&["campaigns=all", "accounts=2500", "exchanges=60000"]);
    settings.seed = 11;
    let world = World::new(settings, Arc::new(prompts)).unwrap();
    let rows: usize = world.stream().map(|b| b.unwrap().exchanges.num_rows()).sum();
    assert!((rows as f64 / 60_000.0 - 1.0).abs() < 0.03, "{rows}");
}

//! `demo --live`: a stand-in for a model, a guard before it, a watch behind it, a crowd
//! and two campaigns, all in one process and in event time that goes by in seconds.

mod clients;
mod model;
mod script;
mod tally;
mod view;
mod watching;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arrow::array::{ArrayRef, Float64Array, RecordBatch, StringArray};
use parquet::arrow::ArrowWriter;
use serde_json::{Value, json};
use stillwatch_broker::Access;
use stillwatch_exchange::time::{DAY_US, HOUR_US};
use stillwatch_guard::{Broker, Running, Settings, Source};
use stillwatch_hunt::HuntSettings;
use stillwatch_simulate::{Prompts, World, WorldSettings};
use stillwatch_watch::{Pace, WatchSettings};

use crate::failure::Failure;
use crate::session::Session;
use crate::{output, world};
use clients::{Client, go_on, monotonic, now};
use script::Truth;
use tally::Tally;
use view::View;
use watching::{Look, Watching};

/// Exchanges of the world, where nothing else is asked for.
pub const EXCHANGES: u64 = 240_000;
/// After so much event time records become Parquet, and the watch reads them.
const STEP_US: i64 = 3 * HOUR_US;
/// The world's campaigns: name, its parts of the accounts and of the exchanges, and the
/// day on which it begins. The one asks slowly with many accounts, the other asks
/// everything several times.
const CAMPAIGNS: [(&str, f64, f64, u32); 2] =
    [("slow_drip", 0.047, 0.0375, 1), ("k_samples", 0.033, 0.029, 3)];
const POLICY: &str = include_str!("policy.toml");
/// Lines of what the guard says that are kept.
const SAID_MAX: usize = 100;
/// Members of a campaign that are asked for, to know what is done about it.
const ASKED: usize = 16;
/// How long a connection may be idle: while the watch looks nobody sends.
const IDLE: Duration = Duration::from_secs(600);

/// The world of a live demonstration.
pub fn world(seed: u64, exchanges: u64, accounts: u64) -> Result<WorldSettings, Failure> {
    let names: Vec<&str> = CAMPAIGNS.iter().map(|campaign| campaign.0).collect();
    let mut settings = WorldSettings {
        seed,
        exchanges,
        accounts,
        campaigns: names.join(","),
        ..WorldSettings::default()
    };
    let end_day = settings.days;
    for (name, of_accounts, of_exchanges, start_day) in CAMPAIGNS {
        let knobs = [
            ("accounts", (accounts as f64 * of_accounts).ceil() as u64),
            ("exchanges", (exchanges as f64 * of_exchanges).ceil() as u64),
            ("start_day", start_day.into()),
            ("end_day", end_day.into()),
        ];
        for (knob, value) in knobs {
            settings.set(&format!("campaign.{name}.{knob}={value}"))?;
        }
    }
    Ok(settings)
}

/// What the guard says while it runs; shown at the end, when no table is in the way.
static SAID: Mutex<Vec<String>> = Mutex::new(Vec::new());

fn say(what: &str) {
    let mut said = SAID.lock().unwrap_or_else(PoisonError::into_inner);
    if !what.starts_with("reloaded: ") && said.len() < SAID_MAX {
        said.push(what.to_owned());
    }
}

/// Plays a world through a guard and a watch below `out`.
pub fn run(
    settings: WorldSettings,
    prompts: Arc<Prompts>,
    out: &Path,
    threads: usize,
    session: &Session,
) -> Result<(), Failure> {
    let world = World::new(settings.clone(), prompts)?;
    let truth = Truth::of(&world)?;
    for old in ["guard", "watch", "findings"] {
        match fs::remove_dir_all(out.join(old)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Failure::at("replace", &out.join(old))(error));
            }
            _ => {}
        }
    }
    write(&out.join("policy.toml"), POLICY)?;
    write(&out.join("credentials.jsonl"), &script::credentials(&world)?)?;
    table(&out.join("accounts.parquet"), &world.accounts_table()?)?;
    table(&out.join("releases.parquet"), &world.releases_table()?)?;
    nothing_found(&out.join("findings"))?;
    let records = out.join("guard").join("records");
    fs::create_dir_all(&records).map_err(Failure::at("make the folder", &records))?;
    go_on(settings.start.0);

    let watching = Watching::begin(watch_settings(out, threads, session)?, &session.stop)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Other(format!("cannot start a runtime: {error}")))?;
    let accounts = usize::try_from(settings.accounts).unwrap_or(usize::MAX);
    let mut play = Play {
        world: &world,
        tally: Tally::new(&truth, accounts, settings.start),
        truth: &truth,
        view: View::new(session.stages.is_quiet(), settings.days),
        watching: Arc::new(watching),
        admin_key: admin_key()?,
        session,
    };
    let played = runtime.block_on(async {
        let cannot = |error| Failure::Other(format!("cannot listen on loopback: {error}"));
        let model = model::serve().await.map_err(cannot)?;
        let settings = guard_settings(out, settings.seed, model, &play.admin_key)?;
        play.run(settings, model).await
    });
    drop(runtime);
    let Play { tally, view, watching, .. } = play;
    // What ended the watch is why the rest failed, where it did.
    let mut notes = Arc::into_inner(watching).map_or(Ok(Vec::new()), Watching::end)?;
    played?;
    notes.append(&mut SAID.lock().unwrap_or_else(PoisonError::into_inner));
    view.end(&tally, now(), out)?;
    for note in notes {
        output::note(&note);
    }
    Ok(())
}

/// Findings without any, which a guard can follow until there are some.
fn nothing_found(findings: &Path) -> Result<(), Failure> {
    fs::create_dir_all(findings).map_err(Failure::at("make the folder", findings))?;
    write(&findings.join("campaigns.json"), "[]\n")?;
    let columns = [
        ("campaign_id", Arc::new(StringArray::from(Vec::<&str>::new())) as ArrayRef),
        ("account_id", Arc::new(StringArray::from(Vec::<&str>::new()))),
        ("membership", Arc::new(Float64Array::from(Vec::<f64>::new()))),
    ];
    let members = RecordBatch::try_from_iter(columns)
        .map_err(|error| Failure::Other(format!("no table can be made: {error}")))?;
    table(&findings.join("members.parquet"), &members)
}

/// A key for administration that ends with the demonstration.
fn admin_key() -> Result<String, Failure> {
    let mut secret = [0; 32];
    getrandom::fill(&mut secret)
        .map_err(|error| Failure::Other(format!("the system gives no random bytes: {error}")))?;
    Ok(secret.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn guard_settings(
    out: &Path,
    seed: u64,
    model: SocketAddr,
    admin_key: &str,
) -> Result<Settings, Failure> {
    let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    Ok(Settings {
        listen: loopback,
        upstream: format!("http://{model}")
            .parse()
            .map_err(|error| Failure::Other(format!("the stand-in has no URL: {error}")))?,
        admin: loopback,
        grpc: None,
        records_grpc: false,
        policy: Some(out.join("policy.toml")),
        state: out.join("guard"),
        credentials: Some(out.join("credentials.jsonl")),
        verdicts: vec![Source(out.join("findings"))],
        broker: Broker::default(),
        reasoning_keys: None,
        admin_key: admin_key.to_owned(),
        run_id: seed,
        clock: now,
        monotonic: Some(monotonic),
        say,
        head_timeout: IDLE,
        seal_seconds: 86_400,
        traces: None,
    })
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    fs::write(path, text).map_err(Failure::at("write", path))
}

fn table(path: &Path, rows: &RecordBatch) -> Result<(), Failure> {
    let file = File::create(path).map_err(Failure::at("write", path))?;
    let written = ArrowWriter::try_new(file, rows.schema(), None)
        .and_then(|mut writer| writer.write(rows).and_then(|()| writer.close()));
    written
        .map(drop)
        .map_err(|error| Failure::Other(format!("cannot write {}: {error}", path.display())))
}

fn watch_settings(out: &Path, threads: usize, session: &Session) -> Result<WatchSettings, Failure> {
    let hunt = world::to_hunt(out, out.join("findings"), threads, session);
    Ok(WatchSettings {
        streams: Vec::new(),
        access: Access::default(),
        share: None,
        hunt: HuntSettings {
            exchanges: vec![out.join("guard").join("records").display().to_string()],
            quote: true,
            ..hunt
        },
        state: out.join("watch"),
        pace: Pace::new(7 * DAY_US, DAY_US, None)?,
        accounts_max: 4_000_000,
        once: false,
    })
}

/// A demonstration under way.
struct Play<'a> {
    world: &'a World,
    truth: &'a Truth,
    tally: Tally,
    view: View,
    watching: Arc<Watching>,
    admin_key: String,
    session: &'a Session,
}

impl Play<'_> {
    async fn run(&mut self, settings: Settings, model: SocketAddr) -> Result<(), Failure> {
        let running = stillwatch_guard::start(settings).await?;
        let played = self.play(&running, model).await;
        let sealed = running.stop().await;
        played?;
        sealed?;
        Ok(())
    }

    /// Sends the whole world, step by step.
    async fn play(&mut self, running: &Running, model: SocketAddr) -> Result<(), Failure> {
        let (mut guarded, mut straight) = (Client::new(running.listen), Client::new(model));
        let key = self.admin_key.clone();
        let mut administration = Administration { client: Client::new(running.admin), key };
        let mut step = 0;
        let mut day = 0;
        for batch in self.world.stream() {
            for line in script::lines(&batch?, self.truth)? {
                if self.session.stop.is_asked() {
                    return Ok(());
                }
                let at = self.tally.step(line.time, STEP_US);
                if at > step {
                    step = at;
                    self.catch_up(running, &mut administration).await?;
                    let today = self.tally.day(line.time);
                    if today > day {
                        self.view.day(&self.tally, day, now())?;
                        day = today;
                    }
                }
                go_on(line.time);
                if line.is_crowd && self.tally.wants_straight() {
                    self.tally.straight(&straight.send(&line).await?);
                }
                let got = guarded.send(&line).await?;
                self.tally.count(&line, &got);
                self.view.draw(&self.tally, now());
            }
        }
        self.catch_up(running, &mut administration).await?;
        self.view.day(&self.tally, day, now())
    }

    /// Lets the watch read what is recorded by now, and the guard what the watch found.
    async fn catch_up(
        &mut self,
        running: &Running,
        administration: &mut Administration,
    ) -> Result<(), Failure> {
        running.seal().await?;
        let watching = Arc::clone(&self.watching);
        let looks = tokio::task::spawn_blocking(move || watching.catch_up()).await;
        let looks = looks.map_err(|error| Failure::Other(error.to_string()))?;
        if self.watching.has_ended() && !self.session.stop.is_asked() {
            return Err(Failure::Other("the watch has ended".to_owned()));
        }
        if !looks.is_empty() {
            running.reload().await;
        }
        for Look { until, campaigns } in looks {
            self.tally.look(until, &campaigns, self.truth);
        }
        for place in 0..self.tally.campaigns.len() {
            let members = self.truth.members.iter().filter(|(_, of)| **of == place);
            let members: Vec<&str> = members.map(|(account, _)| account.as_str()).collect();
            let verdict = administration.verdict(&members).await?;
            if let Some(campaign) = self.tally.campaigns.get_mut(place) {
                campaign.verdict = verdict;
            }
        }
        Ok(())
    }
}

/// The guard's administration, asked as anybody would ask it.
struct Administration {
    client: Client,
    key: String,
}

impl Administration {
    /// What is done about most of some accounts.
    async fn verdict(&mut self, accounts: &[&str]) -> Result<String, Failure> {
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for account in accounts.iter().step_by((accounts.len() / ASKED).max(1)) {
            let body = json!({"account_id": account}).to_string();
            let answer = self.client.decide(&self.key, body).await?;
            let answer: Value = serde_json::from_slice(&answer).map_err(|error| {
                Failure::Other(format!("the guard's answer is no JSON: {error}"))
            })?;
            let verdict = answer["verdict"].as_str().unwrap_or_default().to_owned();
            *counts.entry(verdict).or_default() += 1;
        }
        let most = counts.into_iter().max_by_key(|(_, count)| *count);
        Ok(most.map(|(verdict, _)| verdict).unwrap_or_default())
    }
}

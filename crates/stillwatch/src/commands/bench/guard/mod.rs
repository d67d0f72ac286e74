//! `stillwatch bench guard`: what a guard costs, beside other proxies.

mod contestant;
mod load;
mod proxy;
mod wire;

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use comfy_table::{Cell, Table, presets};
use indicatif::HumanBytes;

use self::contestant::Contestant;
use self::load::{Kind, Seen, load};
use super::hunt::Dir;
use super::right;
use crate::failure::Failure;
use crate::output;
use crate::session::{Session, threads};

/// Holds a guard against a minimal proxy, nginx and LiteLLM
///
/// Starts a stand-in for a model's API and lets the contestants take turns before it, each
/// a process of its own: small exchanges, streams whose events come at once, and streams
/// whose events come one by one. The guard has everything switched on: a hundred
/// thousand keys, a campaign of a tenth of them whose tokens are counted, measuring, records.
/// nginx and LiteLLM take part where they are found (LiteLLM also beside
/// STILLWATCH_TEST_PYTHON). Linux only: CPU and memory are read from /proc.
#[derive(Debug, Args)]
pub struct BenchGuard {
    /// Small exchanges of a round; a quarter as many streams.
    #[arg(long, value_name = "N", default_value_t = 16_000, value_parser = clap::value_parser!(u64).range(1_000..=10_000_000))]
    exchanges: u64,

    /// Rounds, of which medians are told; one more comes before them.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    rounds: u64,

    /// Minutes of load on the guard after that, to see whether its memory grows.
    #[arg(long, value_name = "N", default_value_t = 0)]
    minutes: u64,

    /// Where keys, configurations and records go: a new folder, or that of an earlier bench.
    #[arg(long, value_name = "DIR", default_value = "stillwatch-bench")]
    dir: PathBuf,

    /// Leave them where they are.
    #[arg(long)]
    keep: bool,

    /// Threads of the guard and of the minimal proxy; one for each processor by default.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: Option<u16>,
}

/// Connections while CPU is measured.
const CONNECTIONS: usize = 8;
/// LiteLLM takes hundreds of times as long.
const LITELLM_PART: usize = 100;
/// A delayed acknowledgement, which holds up writers that leave Nagle's algorithm on.
const STALL_SECONDS: f64 = 0.040;
/// Streams of which the gaps are looked at, in each round, all at once.
const PACED_STREAMS: usize = 8;

/// What one contestant did in one round. Times are in seconds, of one exchange.
#[derive(Clone, Copy, Debug)]
struct Round {
    small_cpu: f64,
    small_p50: f64,
    burst_cpu: f64,
    burst_p50: f64,
    stalls: usize,
    longest_gap: f64,
}

/// A process that the bench talks to. It prints where it listens.
pub fn mock() -> Result<(), Failure> {
    let cannot = |error| Failure::Other(format!("cannot stand in for a model: {error}"));
    let listener = TcpListener::bind("127.0.0.1:0").map_err(cannot)?;
    output::print(&format!("listening on {}\n", listener.local_addr().map_err(cannot)?))?;
    wire::mock(&listener).map_err(cannot)
}

/// Another such process; see [`proxy`].
pub fn minimal(upstream: SocketAddr, threads: usize) -> Result<(), Failure> {
    proxy::run(upstream, threads)
}

/// Measures and prints.
pub fn run(args: &BenchGuard, session: &Session) -> Result<(), Failure> {
    let threads = threads(args.threads);
    let dir = Dir::claim(&args.dir, args.keep)?;
    let path = std::path::absolute(&args.dir).map_err(Failure::at("find", &args.dir))?;
    let state = path.join("state");
    if state.exists() {
        std::fs::remove_dir_all(&state).map_err(Failure::at("remove", &state))?;
    }
    let mock = Contestant::mock()?;
    let upstream = mock.address;
    let mut contestants =
        vec![Contestant::minimal(upstream, threads)?, Contestant::guard(upstream, threads, &path)?];
    contestants.extend(optional("nginx", Contestant::nginx(upstream, &path)));
    contestants.extend(optional("LiteLLM", Contestant::litellm(upstream, &path)));

    let steps = (args.rounds + 1) * (contestants.len() as u64 + 1);
    session.stages.begin("rounds", Some(steps), "turns");
    let mut direct = Vec::new();
    let mut rounds: Vec<Vec<Round>> = vec![Vec::new(); contestants.len()];
    for round in 0..=args.rounds {
        // The first one warms up.
        let is_counted = round > 0;
        let turn = |place: u64, name: &str| {
            session.stages.at("rounds", round * (contestants.len() as u64 + 1) + place);
            session.stages.tell("rounds", name);
        };
        turn(0, "the model itself");
        let unhindered = latencies(&mock, args.exchanges as usize)?;
        if is_counted {
            direct.push(unhindered);
        }
        for (place, contestant) in contestants.iter().enumerate() {
            session.stop.check()?;
            turn(place as u64 + 1, contestant.name);
            let measured = measure(contestant, args.exchanges as usize)?;
            if is_counted {
                rounds[place].push(measured);
            }
        }
    }
    session.stages.end("rounds");
    let mut table = vec![];
    for (contestant, rounds) in contestants.iter().zip(&rounds) {
        table.push((contestant.name, rounds.as_slice(), contestant.memory_bytes()?.1));
    }
    output::print(&report(&direct, &table, threads))?;
    if args.minutes > 0
        && let Some(guard) = contestants.iter().find(|c| c.name == "stillwatch guard")
    {
        endure(guard, args.minutes, args.exchanges as usize, session)?;
    }
    drop(contestants);
    drop(dir);
    Ok(())
}

/// One that not every machine has: its package may be there without what a proxy needs.
fn optional(name: &str, contestant: Result<Option<Contestant>, Failure>) -> Option<Contestant> {
    match contestant {
        Ok(Some(contestant)) => return Some(contestant),
        Ok(None) => output::note(&format!("{name} is not found and takes no part")),
        Err(failure) => output::note(&format!("{name} takes no part: {failure}")),
    }
    None
}

fn sent(
    contestant: &Contestant,
    kind: Kind,
    exchanges: usize,
    connections: usize,
) -> Result<Seen, Failure> {
    load(contestant.address, kind, exchanges, connections)
        .map_err(|error| Failure::Other(format!("cannot ask {}: {error}", contestant.name)))
}

/// Medians of small exchanges and of burst streams, one at a time.
fn latencies(contestant: &Contestant, exchanges: usize) -> Result<(f64, f64), Failure> {
    let small = sent(contestant, Kind::Small, exchanges.div_ceil(8), 1)?;
    let burst = sent(contestant, Kind::Burst, exchanges.div_ceil(32), 1)?;
    Ok((small.p50(), burst.p50()))
}

fn measure(contestant: &Contestant, exchanges: usize) -> Result<Round, Failure> {
    let part = if contestant.name == "LiteLLM" { LITELLM_PART } else { 1 };
    let exchanges = exchanges / part;
    let cpu = |kind: Kind, exchanges: usize| -> Result<f64, Failure> {
        let before = contestant.cpu_seconds()?;
        let seen = sent(contestant, kind, exchanges, CONNECTIONS)?;
        Ok((contestant.cpu_seconds()? - before) / seen.latencies.len() as f64)
    };
    let small_cpu = cpu(Kind::Small, exchanges)?;
    let burst_cpu = cpu(Kind::Burst, exchanges.div_ceil(4))?;
    let (small_p50, burst_p50) = latencies(contestant, exchanges)?;
    let paced = sent(contestant, Kind::Paced, PACED_STREAMS, PACED_STREAMS)?;
    let stalls = paced.gaps.iter().filter(|gap| **gap >= STALL_SECONDS).count();
    let longest_gap = paced.gaps.last().copied().unwrap_or_default();
    Ok(Round { small_cpu, small_p50, burst_cpu, burst_p50, stalls, longest_gap })
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn report(direct: &[(f64, f64)], contestants: &[(&str, &[Round], u64)], threads: usize) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).force_no_tty();
    let head = [
        "",
        "CPU small",
        "times",
        "CPU burst",
        "times",
        "added p50",
        "times",
        "p50 burst",
        "gaps of 40 ms",
        "longest",
        "most memory",
    ];
    table.set_header(head.map(right));
    let minimal = contestants.first().map_or(&[][..], |(_, rounds, _)| rounds);
    let micros = |seconds: f64| right(format!("{:.1} µs", seconds * 1e6));
    let times = |ratio: f64| right(format!("{ratio:.2}"));
    for (name, rounds, most) in contestants {
        let of = |value: &dyn Fn(&Round) -> f64| median(rounds.iter().map(value));
        // Of each round by itself: what else the machine did then, it did to both.
        let ratio = |value: &dyn Fn(&Round, (f64, f64)) -> f64| {
            let both = rounds.iter().zip(minimal).zip(direct);
            times(median(
                both.map(|((own, least), direct)| value(own, *direct) / value(least, *direct)),
            ))
        };
        let added = rounds.iter().zip(direct).map(|(round, direct)| round.small_p50 - direct.0);
        let stalls: usize = rounds.iter().map(|round| round.stalls).sum();
        let longest = rounds.iter().map(|round| round.longest_gap).fold(0.0, f64::max);
        table.add_row([
            Cell::new(name),
            micros(of(&|round| round.small_cpu)),
            ratio(&|round, _| round.small_cpu),
            micros(of(&|round| round.burst_cpu)),
            ratio(&|round, _| round.burst_cpu),
            micros(median(added)),
            ratio(&|round, direct| round.small_p50 - direct.0),
            micros(of(&|round| round.burst_p50)),
            right(stalls),
            right(format!("{:.0} ms", longest * 1e3)),
            right(HumanBytes(*most)),
        ]);
    }
    let mut text: String = table.lines().map(|line| format!("{}\n", line.trim_end())).collect();
    text.push_str(&format!(
        "\nMedians of {} rounds on {threads} threads; «times» are ratios to the minimal proxy within a \
         round.\nCPU is of one exchange among {CONNECTIONS} at once; latencies are of one at a time, beyond the \
         {:.0} µs\nthat the model's stand-in takes by itself. A burst has {} events; paced ones come every {} ms.\n",
        direct.len(),
        median(direct.iter().map(|direct| direct.0)) * 1e6,
        wire::EVENTS,
        wire::PACE.as_millis(),
    ));
    text
}

/// Loads the guard for some minutes, and tells of its memory after each.
#[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
fn endure(
    guard: &Contestant,
    minutes: u64,
    exchanges: usize,
    session: &Session,
) -> Result<(), Failure> {
    session.stages.begin("load", Some(minutes), "minutes");
    let began = Instant::now();
    let (mut sent_in_all, mut table) = (0, Vec::new());
    for minute in 1..=minutes {
        while began.elapsed() < Duration::from_secs(60 * minute) {
            session.stop.check()?;
            for (kind, exchanges) in [(Kind::Small, exchanges), (Kind::Burst, exchanges / 4)] {
                sent_in_all += sent(guard, kind, exchanges, CONNECTIONS)?.latencies.len();
            }
        }
        let (now, most) = guard.memory_bytes()?;
        table.push((minute, sent_in_all, now, most));
        session.stages.at("load", minute);
    }
    session.stages.end("load");
    let mut text = String::from("\nMemory of the guard under load\n");
    // Ten lines show a trend as well as sixty.
    let every = table.len().div_ceil(10).max(1);
    for (place, (minute, exchanges, now, most)) in table.iter().enumerate() {
        if place % every == 0 || place + 1 == table.len() {
            text.push_str(&format!(
                "{minute:>4} min  {exchanges:>12} exchanges  {:>12}  most {:>12}\n",
                HumanBytes(*now).to_string(),
                HumanBytes(*most).to_string()
            ));
        }
    }
    output::print(&text)
}

use std::fs;
use std::path::PathBuf;

use clap::Args;
use comfy_table::{Cell, CellAlignment, Table, presets};
use stillwatch_duel::{DuelSettings, Prices};
use stillwatch_exchange::Share;
use stillwatch_exchange::duel::{DuelRecord, PlanRecord};

use super::hunt;
use crate::failure::Failure;
use crate::out_folder::{OutFolder, Unfinished};
use crate::session::{Session, threads};
use crate::{output, world};

/// The stage's name, and the files' names.
const STAGE: &str = "duel";
const JSON: &str = "duel.json";
const PAGE: &str = "duel.html";

/// Lets attackers who see what was caught adapt, and prices what it takes
///
/// In each duel one attacker's campaign visits a simulated crowd, everything is hunted,
/// and the attacker, who sees which of its accounts were caught, changes something and
/// comes again with new accounts: paraphrase, jitter, more accounts, fresh payment,
/// residential addresses, cover traffic, follow-up turns, waiting after releases. It ends
/// when at most a tenth of its accounts are caught, or moves or budget are used up. Prints
/// for each strategy what a thousand usable exchanges cost with and without defence, the
/// cheapest evasion, and the evidence that remains; writes DIR/duel.json and DIR/duel.html.
/// docs/duel.md says how to read them.
#[derive(Debug, Args)]
pub struct Duel {
    /// Where duel.json and duel.html go.
    #[arg(long, value_name = "DIR", required_unless_present = "print_prices")]
    out: Option<PathBuf>,

    /// Duels to fight, dealt out to the strategies in turn.
    #[arg(long, value_name = "N", default_value_t = 1_400, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    duels: u64,

    /// A few duels: a minute or two.
    #[arg(long, conflicts_with = "duels")]
    quick: bool,

    /// Names everything that is left to chance.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,

    /// Prices in TOML or JSON, as --print-prices shows them; the defaults otherwise.
    #[arg(long, value_name = "FILE")]
    prices: Option<PathBuf>,

    /// Print the prices with their units and sources, and do nothing else.
    #[arg(long)]
    print_prices: bool,

    /// What an attacker may spend in one duel, in US dollars.
    #[arg(long, value_name = "USD", default_value_t = 5_000.0, value_parser = budget)]
    budget: f64,

    /// Accounts of a crowd.
    #[arg(long, value_name = "N", default_value_t = 3_000, value_parser = clap::value_parser!(u64).range(100..=1_000_000))]
    accounts: u64,

    /// Exchanges of a crowd, about.
    #[arg(long, value_name = "N", default_value_t = 150_000, value_parser = clap::value_parser!(u64).range(1_000..=100_000_000))]
    exchanges: u64,

    /// JSON Lines files with prompts, or folders of them; a built-in grammar otherwise.
    #[arg(long, value_name = "PATH", num_args = 1..)]
    prompts: Vec<PathBuf>,

    /// Threads to work with; one for each processor by default.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: Option<u16>,
}

/// Duels of --quick: two attackers, who fight each strategy.
const QUICK: u64 = 28;
/// Days of a crowd's world.
const DAYS: u32 = 28;

fn budget(text: &str) -> Result<f64, String> {
    let usd: f64 = text.parse().map_err(|_| "it must be a number of US dollars".to_owned())?;
    if (0.0..=1e12).contains(&usd) { Ok(usd) } else { Err("it must be 0 to 10¹²".to_owned()) }
}

/// Fights, writes and prints.
pub fn run(args: &Duel, session: &Session) -> Result<(), Failure> {
    let prices = match &args.prices {
        None => Prices::default(),
        Some(path) => {
            let text = fs::read_to_string(path).map_err(|error| {
                Failure::Usage(format!("cannot read the prices in {}: {error}", path.display()))
            })?;
            Prices::parse(&text).map_err(|error| {
                Failure::Usage(format!(
                    "cannot use the prices in {}: {error}; `stillwatch duel --print-prices` shows a whole file",
                    path.display()
                ))
            })?
        }
    };
    if args.print_prices {
        return output::print(&prices.to_toml());
    }
    let Some(out) = &args.out else {
        return Err(Failure::Usage("say with --out where the results go".to_owned()));
    };
    let settings = DuelSettings {
        duels: if args.quick { QUICK } else { args.duels },
        seed: args.seed,
        accounts: args.accounts,
        exchanges: args.exchanges,
        days: DAYS,
        level: hunt::LEVEL,
        budget_usd: args.budget,
        prices,
    };
    let prompts = world::prompts(&args.prompts)?;
    let folder = OutFolder::prepare(out)?;
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads(args.threads))
        .build()
        .map_err(|error| Failure::Other(format!("cannot start threads: {error}")))?;
    session.stages.begin(STAGE, Some(settings.duels), "duels");
    let progress = |done| {
        session.stages.at(STAGE, done);
        !session.stop.is_asked()
    };
    let record = pool.install(|| stillwatch_duel::run(&settings, &prompts, &progress))?;
    session.stages.end(STAGE);

    let unfinished = Unfinished::begin(out)?;
    let json = serde_json::to_string_pretty(&record)
        .map_err(|error| Failure::Other(format!("cannot write the duels as JSON: {error}")))?;
    let page = stillwatch_report::render_duels(&record)?;
    for (name, text) in [(JSON, json + "\n"), (PAGE, page)] {
        let path = unfinished.path().join(name);
        fs::write(&path, text).map_err(Failure::at("write", &path))?;
    }
    unfinished.put_in_place(JSON)?;
    folder.keep();
    let (page, json) = (out.join(PAGE), out.join(JSON));
    output::print(&format!(
        "{}\nReport  {}\nData    {}\n",
        told(&record),
        page.display(),
        json.display()
    ))
}

/// The strategies as a table, and below it what was cheapest.
fn told(record: &DuelRecord) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).force_no_tty();
    let right = |text: String| Cell::new(text).set_alignment(CellAlignment::Right);
    let headers = ["escaped", "caught", "rounds", "spent", "before", "plan", "after", "overall"];
    let header = [Cell::new("strategy")]
        .into_iter()
        .chain(headers.map(|name| right(name.to_owned())))
        .chain([Cell::new("still seen by")]);
    table.set_header(header);
    let usd = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |v| format!("${v:.2}"));
    for s in &record.strategies {
        let caught = |round: Option<&f64>| percent(round.copied().unwrap_or_default());
        table.add_row([
            Cell::new(&s.name),
            right(percent(s.escaped)),
            right(format!(
                "{} → {}",
                caught(s.caught_by_round.first()),
                caught(s.caught_by_round.last())
            )),
            right(format!("{:.1}", s.rounds_mean)),
            right(format!("${:.0}", s.spent_usd)),
            right(usd(s.before_usd)),
            right(usd(s.last_undefended_usd)),
            right(usd(s.last_defended_usd)),
            right(usd(s.overall_usd)),
            Cell::new(most(&s.confirmed_by, &s.linked_by)),
        ]);
    }
    let plan = |plan: &Option<PlanRecord>| {
        plan.as_ref().map_or_else(
            || "none".to_owned(),
            |p| {
                let moves =
                    if p.moves.is_empty() { "no moves".to_owned() } else { p.moves.join(" + ") };
                format!("{} with {moves} ({} caught)", usd(p.defended_usd), percent(p.caught))
            },
        )
    };
    let lines: String = table.lines().map(|line| format!("{}\n", line.trim_end())).collect();
    format!(
        "{lines}\nUS dollars for a thousand usable exchanges: before = naive and undefended; plan, after = the last \
         plan, undefended\nand defended; overall = all rounds, defended.\n\nnaive             {} undefended, {} defended \
         ({} caught)\ncheapest evasion  {}\ncheapest of all   {}\n{} duels, {} rounds against {} crowds; {} innocent \
         groups reported\n",
        usd(record.naive.undefended_usd),
        usd(record.naive.defended_usd),
        percent(record.naive.caught),
        plan(&record.cheapest_evasion),
        plan(&record.cheapest),
        record.duels,
        record.rounds,
        record.crowds,
        record.innocent_findings,
    )
}

fn percent(share: f64) -> String {
    format!("{:.0} %", 100.0 * share)
}

/// The channels that came up in most duels: first those that spoke in findings.
fn most(confirmed: &[Share], linked: &[Share]) -> String {
    let often = |shares: &[Share]| -> Vec<String> {
        shares.iter().filter(|s| s.share >= 0.5).take(4).map(|s| s.name.clone()).collect()
    };
    match (often(confirmed), often(linked)) {
        (spoke, _) if !spoke.is_empty() => spoke.join(", "),
        (_, linked) if !linked.is_empty() => format!("({})", linked.join(", ")),
        _ => "-".to_owned(),
    }
}

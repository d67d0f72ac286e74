//! Scenarios: a text that says who asks what and when, expanded into exchanges. The
//! format is described in `scenarios/README.md`.

mod expand;
mod template;

use std::path::Path;

pub use expand::World;
use template::Template;

/// Days of every scenario.
pub const DAYS: i64 = 28;

/// A scenario as written.
#[derive(Debug, Default)]
pub struct Scenario {
    pub blocks: Vec<Block>,
    /// The model and its day.
    pub releases: Vec<(String, i64)>,
    /// The lines after `finds`.
    pub finds: String,
}

/// Accounts of one kind.
#[derive(Clone, Debug)]
pub struct Block {
    pub name: String,
    pub count: u64,
    /// Nobody of it may be accused.
    pub is_innocent: bool,
    pub born: (i64, i64),
    /// Days after which an account is closed and succeeded.
    pub lives: Option<i64>,
    /// Day at which an account is closed for good.
    pub closes: Option<(i64, i64)>,
    pub volume: (f64, f64),
    pub turns: u64,
    pub hours: Hours,
    pub pool: Option<Pool>,
    /// A released model, and the days after its release in which accounts take it up.
    pub moves: Option<(String, (i64, i64))>,
    pub logprobs: u16,
    pub tokens: u32,
    pub domain: Option<Template>,
    pub payment: Option<Template>,
    pub organization: Option<Template>,
    pub verification: Option<Template>,
    pub client: Option<Template>,
    pub address: Option<Template>,
    pub conversation: Option<Template>,
    pub system: Option<Template>,
    pub reasoning: Option<Template>,
    pub model: Option<Template>,
    pub ask: Option<Template>,
}

/// When an account asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hours {
    Waking,
    Even,
    Clock,
    Bursts,
}

/// Questions that are handed out from one pool.
#[derive(Clone, Copy, Debug)]
pub struct Pool {
    pub questions: u64,
    pub is_divided: bool,
}

impl Scenario {
    /// Reads a scenario and what it says it stands `with`.
    pub fn read(path: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
        Self::parse(&text, &|name| {
            let folder = path.parent().and_then(Path::parent).unwrap_or(Path::new("."));
            let path = folder.join(format!("{name}.txt"));
            std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))
        })
        .map_err(|e| format!("{}: {e}", path.display()))
    }

    /// Parses a scenario; `other` gives the text of those that it stands `with`.
    pub fn parse(
        text: &str,
        other: &dyn Fn(&str) -> Result<String, String>,
    ) -> Result<Self, String> {
        let mut scenario = Scenario::default();
        for (number, line) in text.lines().enumerate() {
            let words: Vec<&str> = line.split_whitespace().collect();
            let wrong = |what: &str| format!("line {}: {what}: «{line}»", number + 1);
            match words.as_slice() {
                [] | ["#", ..] => {}
                ["finds"] => {
                    let rest = text.lines().skip(number + 1);
                    scenario.finds = rest.map(|l| format!("{l}\n")).collect();
                    break;
                }
                ["with", name] => {
                    let with = Self::parse(&other(name)?, &|_| {
                        Err("what is included includes nothing".to_owned())
                    })?;
                    scenario.blocks.extend(with.blocks);
                    scenario.releases.extend(with.releases);
                }
                ["release", model, "day", day] => {
                    let day = day.parse().map_err(|_| wrong("a day is a whole number"))?;
                    scenario.releases.push(((*model).to_owned(), day));
                }
                [kind @ ("innocent" | "campaign"), name, count] => {
                    let count = count.parse().map_err(|_| wrong("accounts are counted"))?;
                    scenario.blocks.push(Block::new(name, count, *kind == "innocent"));
                }
                [key, values @ ..] if line.starts_with("  ") => {
                    let block = scenario
                        .blocks
                        .last_mut()
                        .ok_or_else(|| wrong("belongs to no accounts"))?;
                    block.set(key, values).map_err(|e| wrong(&e))?;
                }
                _ => return Err(wrong("not understood")),
            }
        }
        Ok(scenario)
    }
}

impl Block {
    fn new(name: &str, count: u64, is_innocent: bool) -> Self {
        Block {
            name: name.to_owned(),
            count,
            is_innocent,
            born: (-40, -1),
            lives: None,
            closes: None,
            volume: (100.0, 100.0),
            turns: 1,
            hours: Hours::Waking,
            pool: None,
            moves: None,
            logprobs: 0,
            tokens: 300,
            domain: None,
            payment: None,
            organization: None,
            verification: None,
            client: None,
            address: None,
            conversation: None,
            system: None,
            reasoning: None,
            model: None,
            ask: None,
        }
    }

    fn set(&mut self, key: &str, values: &[&str]) -> Result<(), String> {
        let template = || Template::parse(&values.join(" ")).map(Some);
        match (key, values) {
            ("born", [days]) => self.born = range(days)?,
            ("lives", [days]) => self.lives = Some(whole(days)?),
            ("closes", [days]) => self.closes = Some(range(days)?),
            ("volume", [exchanges]) => {
                let (least, most) = range(exchanges)?;
                if least < 1 {
                    return Err("a volume is at least 1".to_owned());
                }
                self.volume = (least as f64, most as f64);
            }
            ("turns", [turns]) => self.turns = whole(turns)?.max(1) as u64,
            ("hours", ["waking"]) => self.hours = Hours::Waking,
            ("hours", ["even"]) => self.hours = Hours::Even,
            ("hours", ["clock"]) => self.hours = Hours::Clock,
            ("hours", ["bursts"]) => self.hours = Hours::Bursts,
            ("pool", [questions, how @ ("whole" | "divided")]) => {
                let questions = whole(questions)?.max(1) as u64;
                self.pool = Some(Pool { questions, is_divided: *how == "divided" });
            }
            ("moves", [model, "after", days]) => {
                self.moves = Some(((*model).to_owned(), range(days)?));
            }
            ("logprobs", [count]) => self.logprobs = whole(count)? as u16,
            ("tokens", [count]) => self.tokens = whole(count)? as u32,
            ("domain", _) => self.domain = template()?,
            ("payment", _) => self.payment = template()?,
            ("organization", _) => self.organization = template()?,
            ("verification", _) => self.verification = template()?,
            ("client", _) => self.client = template()?,
            ("address", _) => self.address = template()?,
            ("conversation", _) => self.conversation = template()?,
            ("system", _) => self.system = template()?,
            ("reasoning", _) => self.reasoning = template()?,
            ("model", _) => self.model = template()?,
            ("ask", _) => self.ask = template()?,
            _ => return Err("no such line".to_owned()),
        }
        Ok(())
    }
}

fn whole(text: &str) -> Result<i64, String> {
    text.parse().map_err(|_| format!("{text} is no whole number"))
}

/// `3` or `3..5`.
fn range(text: &str) -> Result<(i64, i64), String> {
    match text.split_once("..") {
        Some((least, most)) => {
            let (least, most) = (whole(least)?, whole(most)?);
            if most < least { Err(format!("{text} runs backwards")) } else { Ok((least, most)) }
        }
        None => whole(text).map(|n| (n, n)),
    }
}

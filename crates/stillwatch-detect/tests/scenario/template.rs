//! Texts with places that depend on who asks and what.

/// Numbers that depend on their place alone, 0 to 1.
pub fn unit(parts: &[u64]) -> f64 {
    let bytes: Vec<u8> = parts.iter().flat_map(|p| p.to_le_bytes()).collect();
    (xxhash_rust::xxh3::xxh3_64(&bytes) >> 11) as f64 / (1u64 << 53) as f64
}

const WORDS: &[&str] = &[
    "river", "engine", "poem", "budget", "theorem", "garden", "protein", "contract", "planet",
    "recipe", "violin", "network", "treaty", "glacier", "novel", "muscle", "bridge", "market",
    "desert", "language", "orbit", "harvest", "castle", "battery", "forest", "museum", "signal",
    "kitchen", "thunder", "ladder", "copper", "senate",
];

/// What a template may depend on.
#[derive(Clone, Copy, Debug, Default)]
pub struct At {
    /// A number of the accounts' kind.
    pub block: u64,
    /// `n`, the account of its kind.
    pub account: u64,
    /// `s`, how many predecessors it had.
    pub succession: u64,
    /// `q`, its question.
    pub question: u64,
    /// `c`, its conversation.
    pub conversation: u64,
    /// `t`, the turn of the conversation.
    pub turn: u64,
    /// `p`, the question's place in the pool.
    pub pool: u64,
}

impl At {
    fn get(&self, variable: &str) -> Option<u64> {
        Some(match variable {
            "n" => self.account,
            "s" => self.succession,
            "q" => self.question,
            "c" => self.conversation,
            "t" => self.turn,
            "p" => self.pool,
            _ => return None,
        })
    }
}

/// A parsed template.
#[derive(Clone, Debug)]
pub struct Template(Vec<Part>);

#[derive(Clone, Debug)]
enum Part {
    Text(String),
    /// A variable, divided by, and the remainder of.
    Number(String, u64, u64),
    /// One of so many, anew for each exchange, or for each account.
    Random {
        of: u64,
        is_accounts: bool,
    },
    /// So many words that depend on some variables alone.
    Words(u64, Vec<String>),
}

impl Template {
    /// Parses `text {n} {n%40} {n/20} {r250} {a250} {words n.q} {word n}`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, inside)) = rest.split_once('{') {
            let (place, after) = inside.split_once('}').ok_or_else(|| "a { has no }".to_owned())?;
            if !before.is_empty() {
                parts.push(Part::Text(before.to_owned()));
            }
            parts.push(Self::place(place).ok_or_else(|| format!("no such place: {{{place}}}"))?);
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        Ok(Template(parts))
    }

    fn place(place: &str) -> Option<Part> {
        let variables = |text: &str| {
            let names: Vec<String> = text.split('.').map(str::to_owned).collect();
            names.iter().all(|n| At::default().get(n).is_some()).then_some(names)
        };
        if let Some(of) = place.strip_prefix("words ") {
            return Some(Part::Words(8, variables(of)?));
        }
        if let Some(of) = place.strip_prefix("word ") {
            return Some(Part::Words(1, variables(of)?));
        }
        let number = |text: &str| text.parse().ok().filter(|n| *n > 0);
        if let Some((variable, of)) = place.split_once('%') {
            At::default().get(variable)?;
            return Some(Part::Number(variable.to_owned(), 1, number(of)?));
        }
        if let Some((variable, by)) = place.split_once('/') {
            At::default().get(variable)?;
            return Some(Part::Number(variable.to_owned(), number(by)?, u64::MAX));
        }
        if At::default().get(place).is_some() {
            return Some(Part::Number(place.to_owned(), 1, u64::MAX));
        }
        let is_accounts = place.starts_with('a');
        let of = number(place.strip_prefix(['r', 'a'])?)?;
        Some(Part::Random { of, is_accounts })
    }

    /// The text at a place.
    pub fn fill(&self, at: &At) -> String {
        let mut text = String::new();
        for (i, part) in self.0.iter().enumerate() {
            let i = i as u64;
            match part {
                Part::Text(part) => text.push_str(part),
                Part::Number(variable, by, of) => {
                    let value = at.get(variable).unwrap_or_default();
                    text.push_str(&(value / by % of).to_string());
                }
                Part::Random { of, is_accounts } => {
                    let question = if *is_accounts { u64::MAX } else { at.question };
                    let at = [at.block, at.account, at.succession, question, i];
                    text.push_str(&((unit(&at) * *of as f64) as u64).to_string());
                }
                Part::Words(count, variables) => {
                    // Words that depend on no account are the same for all kinds of them.
                    let block = if variables.iter().any(|v| v == "n") { at.block } else { 0 };
                    let mut place = vec![block, i];
                    place.extend(variables.iter().filter_map(|v| at.get(v)));
                    let joints = [" and the ", " of a ", " beside ", " with ", " near ", " "];
                    for k in 0..*count {
                        if k > 0 {
                            text.push_str(joints[(k as usize - 1) % joints.len()]);
                        }
                        place.push(k);
                        text.push_str(WORDS[(unit(&place) * WORDS.len() as f64) as usize]);
                        place.pop();
                    }
                }
            }
        }
        text
    }
}

//! Where the words of a world come from: corpora in JSON Lines, and the built-in
//! grammar for every role that the corpora leave empty.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::grammar;
use crate::wording::Vocabulary;

/// Longest prompt that is kept, in bytes; longer records are passed over.
const PROMPT_BYTES_MAX: usize = 32 * 1024;
/// Most records that are kept; later ones are passed over.
const RECORDS_MAX: usize = 2_000_000;
/// Longest line that is read, in bytes; longer ones are passed over.
const LINE_BYTES_MAX: u64 = 1024 * 1024;

/// Prompts that could not be used.
#[derive(Debug, thiserror::Error)]
pub enum PromptsError {
    #[error(
        "cannot read the prompts in {path}: {source}; give a JSON Lines file, plain, .gz or .zst, or a folder of them"
    )]
    Read { path: PathBuf, source: std::io::Error },
    #[error("no prompt in {path}: each line must be an object with `turns`, `prompt` or `text`")]
    Empty { path: PathBuf },
}

/// What a record is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Sent to harvest a model's answers.
    Distil,
    /// Written by people using assistants or applications.
    Human,
    /// Benchmarks and evaluation harnesses.
    Eval,
    /// System prompts and templates that many share.
    Template,
}

/// One conversation's user side, one benchmark item or one template.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub system: Option<Box<str>>,
    /// User texts in order; empty for templates that are only a system prompt.
    pub turns: Vec<Box<str>>,
}

#[derive(Deserialize)]
struct Line {
    source: Option<String>,
    role: Option<Role>,
    system: Option<String>,
    turns: Option<Vec<String>>,
    prompt: Option<String>,
    text: Option<String>,
    lang: Option<String>,
    category: Option<String>,
}

/// The prompts that a world draws from, by what they are good for.
///
/// Holds every record in memory, at most two million of at most 32 KiB; what is
/// passed over is counted in [`Prompts::passed_over`].
#[derive(Debug, Default)]
pub struct Prompts {
    pub(crate) records: Vec<Record>,
    /// Assistants' chats and questions, by language (`en` where none is said).
    pub(crate) chats: BTreeMap<String, Vec<u32>>,
    /// The traffic of narrow applications, by domain: human records whose category
    /// is written `domain:detail`.
    pub(crate) domains: Vec<Vec<u32>>,
    /// Programmers' questions.
    pub(crate) code: Vec<u32>,
    /// Benchmarks, by suite.
    pub(crate) suites: Vec<Vec<u32>>,
    /// Judge requests among the benchmarks.
    pub(crate) judging: Vec<u32>,
    /// Harvest instructions, by domain, named for the plan.
    pub(crate) harvest: Vec<(String, Vec<u32>)>,
    /// Records that are a whole template with a system prompt or text to fill.
    pub(crate) systems: Vec<u32>,
    /// Openings that many people copy from a library.
    pub(crate) copied: Vec<u32>,
    pub(crate) vocabulary: Vocabulary,
    passed_over: u64,
    corpora: Vec<String>,
}

impl Prompts {
    /// Prompts from the built-in grammar alone.
    #[must_use]
    pub fn built_in() -> Self {
        let mut prompts = Prompts::default();
        prompts.fill();
        prompts
    }

    /// Prompts from JSON Lines files, plain, gzip or zstd, or folders of them. A line
    /// is `{"source", "role", "system", "turns", "lang", "category"}`, all but `turns`
    /// optional, or `{"prompt": …}` or `{"text": …}`; a record without a role is used
    /// as harvest. Roles without any record come from the grammar.
    ///
    /// # Errors
    /// A path can't be read, or holds no prompt at all.
    pub fn load(paths: &[PathBuf]) -> Result<Self, PromptsError> {
        let mut prompts = Prompts::default();
        let mut keyed = Groups::default();
        for path in paths {
            let before = prompts.records.len();
            for file in files_of(path)? {
                prompts.load_file(&file, &mut keyed)?;
            }
            if prompts.records.len() == before {
                return Err(PromptsError::Empty { path: path.clone() });
            }
        }
        prompts.domains.extend(keyed.domains.into_values().filter(|d| d.len() >= 20));
        prompts.suites.extend(keyed.suites.into_values().filter(|s| s.len() >= 20));
        prompts.harvest.extend(keyed.harvest.into_iter().filter(|(_, d)| d.len() >= 20));
        prompts.fill();
        Ok(prompts)
    }

    /// How many lines could not be used: unreadable, empty or too long.
    #[must_use]
    pub fn passed_over(&self) -> u64 {
        self.passed_over
    }

    /// The files that were loaded, by name; empty for the grammar alone.
    #[must_use]
    pub fn corpora(&self) -> &[String] {
        &self.corpora
    }

    fn load_file(&mut self, path: &Path, keyed: &mut Groups) -> Result<(), PromptsError> {
        let failed = |source| PromptsError::Read { path: path.to_owned(), source };
        let file = File::open(path).map_err(failed)?;
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let plain: Box<dyn Read> = if name.ends_with(".zst") {
            Box::new(zstd::Decoder::new(file).map_err(failed)?)
        } else if name.ends_with(".gz") {
            Box::new(flate2::read::MultiGzDecoder::new(file))
        } else {
            Box::new(file)
        };
        let mut reader = BufReader::new(plain);
        let mut line = Vec::new();
        loop {
            line.clear();
            let read = reader
                .by_ref()
                .take(LINE_BYTES_MAX)
                .read_until(b'\n', &mut line)
                .map_err(failed)?;
            if read == 0 {
                break;
            }
            if !line.trim_ascii().is_empty() && !self.add_line(&line, keyed) {
                self.passed_over += 1;
            }
        }
        self.corpora.push(name);
        Ok(())
    }

    fn add_line(&mut self, line: &[u8], keyed: &mut Groups) -> bool {
        let Ok(line) = serde_json::from_slice::<Line>(line) else { return false };
        let turns = line.turns.or_else(|| line.prompt.or(line.text).map(|text| vec![text]));
        let turns: Vec<Box<str>> = turns
            .unwrap_or_default()
            .into_iter()
            .filter(|t| !t.trim().is_empty())
            .map(String::into_boxed_str)
            .collect();
        let system = line.system.filter(|s| !s.trim().is_empty()).map(String::into_boxed_str);
        let too_long = |text: &str| text.len() > PROMPT_BYTES_MAX;
        if turns.iter().any(|t| too_long(t))
            || system.as_deref().is_some_and(too_long)
            || (turns.is_empty() && system.is_none())
            || self.records.len() >= RECORDS_MAX
        {
            return false;
        }
        let category = line.category.unwrap_or_default();
        let source = line.source.unwrap_or_else(|| "prompts".to_owned());
        let head = category.split(':').next().unwrap_or_default();
        let role = line.role.unwrap_or(Role::Distil);
        if role != Role::Template && turns.is_empty() {
            return false;
        }
        let index = self.records.len() as u32;
        match role {
            Role::Human if category.contains(':') => {
                keyed.domains.entry(format!("{source}:{head}")).or_default().push(index);
            }
            Role::Human => {
                let lang = line.lang.as_deref().unwrap_or("en");
                self.chats.entry(lang.to_owned()).or_default().push(index);
                if category.contains("cod") {
                    self.code.push(index);
                }
            }
            Role::Eval if head == "llm_judge" => self.judging.push(index),
            Role::Eval => keyed.suites.entry(format!("{source}:{head}")).or_default().push(index),
            // Whole requests of past campaigns are kept out: a world's campaigns
            // build their own, so that no two worlds share them.
            Role::Distil if category.contains("selfinstruct") || category.contains("template") => {
                return true;
            }
            Role::Distil => keyed.harvest.entry(source).or_default().push(index),
            Role::Template if system.is_some() => self.systems.push(index),
            Role::Template => self.copied.push(index),
        }
        self.records.push(Record { system, turns });
        true
    }

    /// Fills what is missing from the grammar and learns the vocabulary.
    fn fill(&mut self) {
        let chats: usize = self.chats.values().map(Vec::len).sum();
        if chats < 200 {
            for (lang, record) in grammar::chats() {
                self.add(record, |p| p.chats.entry(lang.to_owned()).or_default());
            }
        }
        for record in grammar::code_questions() {
            self.add(record, |p| &mut p.code);
        }
        if self.domains.len() < 3 {
            for domain in grammar::app_domains() {
                self.domains.push(Vec::new());
                for record in domain {
                    let last = self.domains.len() - 1;
                    self.add(record, |p| &mut p.domains[last]);
                }
            }
        }
        if self.suites.len() < 3 {
            for suite in grammar::suites() {
                self.suites.push(Vec::new());
                for record in suite {
                    let last = self.suites.len() - 1;
                    self.add(record, |p| &mut p.suites[last]);
                }
            }
        }
        if self.harvest.is_empty() {
            for (name, domain) in grammar::harvest() {
                self.harvest.push((name.to_owned(), Vec::new()));
                for record in domain {
                    let last = self.harvest.len() - 1;
                    self.add(record, |p| &mut p.harvest[last].1);
                }
            }
        }
        if self.systems.len() < 40 {
            for record in grammar::systems() {
                self.add(record, |p| &mut p.systems);
            }
        }
        if self.copied.len() < 40 {
            for record in grammar::copied() {
                self.add(record, |p| &mut p.copied);
            }
        }
        // People's chats hold words that should not turn up in the mouths of others.
        let chats: HashSet<u32> = self.chats.values().flatten().copied().collect();
        let others = self.records.iter().zip(0..).filter(|(_, index)| !chats.contains(index));
        self.vocabulary =
            Vocabulary::learn(others.flat_map(|(r, _)| r.turns.iter().map(AsRef::as_ref)));
    }

    fn add(&mut self, record: Record, list: impl FnOnce(&mut Self) -> &mut Vec<u32>) {
        let index = self.records.len() as u32;
        self.records.push(record);
        list(self).push(index);
    }

    /// The user text of a record at a turn (1 = first), if it goes that far.
    pub(crate) fn turn(&self, record: u32, turn: u16) -> Option<&str> {
        let record = self.records.get(record as usize)?;
        record.turns.get(usize::from(turn).checked_sub(1)?).map(AsRef::as_ref)
    }

    pub(crate) fn turn_count(&self, record: u32) -> u16 {
        self.records.get(record as usize).map_or(1, |r| r.turns.len().min(40) as u16)
    }
}

#[derive(Default)]
struct Groups {
    domains: BTreeMap<String, Vec<u32>>,
    suites: BTreeMap<String, Vec<u32>>,
    harvest: BTreeMap<String, Vec<u32>>,
}

fn files_of(path: &Path) -> Result<Vec<PathBuf>, PromptsError> {
    let failed = |source| PromptsError::Read { path: path.to_owned(), source };
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).map_err(failed)? {
        let file = entry.map_err(failed)?.path();
        let name = file.to_string_lossy();
        if [".jsonl", ".jsonl.gz", ".jsonl.zst"].iter().any(|end| name.ends_with(end)) {
            files.push(file);
        }
    }
    // The order of a folder's listing is not the same everywhere.
    files.sort();
    Ok(files)
}

//! Feed: files that grow and folders into which files arrive, read in the order of event
//! time and never twice.
//!
//! Plain text of lines is read from where the last checkpoint was, line by complete line,
//! in chunks; Parquet, compressed files and JSON documents are read once from their
//! beginning to their end, and are expected to arrive whole. A file is known by its place
//! in the file system (device and inode) and its first bytes, so that one that was renamed
//! (rotated) goes on, and one that was replaced or cut short begins anew.
//!
//! A stream of a NATS server is read message by message, from the one after that of the last
//! checkpoint, and is a file like the others otherwise.
//!
//! Of all files that have something to read, the one whose next rows are the earliest is
//! read next, so that many files that overlap in time give what one file would.
//!
//! Bound: a few hundred bytes for each file that is there; rows of at most [`OPEN_MAX`]
//! files in memory, [`CHUNK_BYTES`] of text or one batch of rows of each, and a few more
//! where there are few files.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::TimestampMicrosecondType;
use bytes::Bytes;
use hashbrown::HashMap;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use stillwatch_broker::{Reader, StreamPlace};
use stillwatch_detect::observe::{Key, Observer};
use stillwatch_exchange::Time;
use stillwatch_hunt::{columns_read, glances};
use stillwatch_ingest::{
    Batches, Format, IngestError, Meter, Options, RefusedCounts, Source, Table, discover,
    local_files, validity,
};

use crate::deliveries;
use crate::deltas::Seen;
use crate::settings::WatchError;
use crate::spool::Spool;

/// Bytes of text that are read at once.
const CHUNK_BYTES: usize = 1 << 20;
/// Files that are open at once.
const OPEN_MAX: usize = 256;
/// Bytes at the beginning of a file by which it is known again.
const HEAD_BYTES: u64 = 1024;
/// How long and how often a message that is on its way is waited for.
const WAIT: Duration = Duration::from_millis(50);
const WAITS_MAX: usize = 10;
/// Problems with files that are kept to tell of.
const PROBLEMS_MAX: usize = 256;

/// How far a file has been read; what the store keeps.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Position {
    device: u64,
    inode: u64,
    /// The hash of the first bytes, and how many they are.
    head: u64,
    head_bytes: u64,
    /// What of it has been counted.
    read: Reach,
    /// The first and last time of its exchanges, where it has any.
    times: Option<(i64, i64)>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Reach {
    /// Bytes, up to the end of a line; the next line may have to be skipped to its end.
    Lines { bytes: u64, skipping: bool },
    /// Whole parts and rows of the next one; a file that was `done` is not looked at
    /// again.
    Rows { split: usize, rows: u64, done: bool },
    /// Messages of a stream, up to this one.
    Stream { made_ns: i64, sequence: u64 },
}

impl Default for Reach {
    fn default() -> Self {
        Reach::Lines { bytes: 0, skipping: false }
    }
}

impl Position {
    /// Whether it may hold exchanges from `from` on.
    pub fn reaches(&self, from: Time) -> bool {
        self.times.is_some_and(|(_, last)| last >= from.0)
    }
}

/// Rows that were read together, and where the file has been read to with them.
#[derive(Debug)]
pub(crate) struct Chunk {
    pub seen: Vec<Seen>,
    pub refused: RefusedCounts,
    /// The times of the first and last exchange.
    pub times: Option<(i64, i64)>,
    end: Position,
}

struct Tracked {
    /// With what has been taken from the queue.
    position: Position,
    /// With what is in the queue.
    ahead: Position,
    source: Option<Source>,
    open: Option<Open>,
    queue: VecDeque<Chunk>,
    /// The size at the last look that found nothing more to read.
    seen_bytes: Option<u64>,
    /// Nothing more was there when it was read last.
    at_end: bool,
    /// It has no name any more that is followed.
    is_moved: bool,
}

enum Open {
    Lines(File),
    Rows(Option<Batches>),
    Stream(Reader),
}

/// See the module's head.
pub(crate) struct Feed {
    paths: Vec<String>,
    /// The folder of the spool, which is one of them.
    spool: PathBuf,
    options: Options,
    key: Key,
    files: BTreeMap<String, Tracked>,
    gone: BTreeSet<String>,
    changed: BTreeSet<String>,
    idle: Mutex<Vec<Observer>>,
    meter: Arc<Meter>,
    threads: usize,
    /// Read last lines that have no end, for there will be no more.
    pub to_the_end: bool,
    pub problems: BTreeSet<String>,
    /// What streams have to tell since it was told last.
    pub notes: Vec<String>,
    /// The last time of the exchanges of files that are gone.
    pub lost: Option<i64>,
}

/// What is to be made of bytes or rows that were read.
enum Raw {
    Lines { source: Source, bytes: Bytes },
    Rows { rows: RecordBatch, refused: RefusedCounts },
}

impl Feed {
    pub fn new(
        paths: Vec<String>,
        spool: PathBuf,
        options: Options,
        key: Key,
        threads: usize,
        positions: BTreeMap<String, Position>,
    ) -> Self {
        Feed {
            paths,
            spool,
            options,
            key,
            files: positions.into_iter().map(|(path, p)| (path, Tracked::new(p))).collect(),
            gone: BTreeSet::new(),
            changed: BTreeSet::new(),
            idle: Mutex::new(Vec::new()),
            meter: Arc::new(Meter::default()),
            threads: threads.max(1),
            to_the_end: false,
            problems: BTreeSet::new(),
            notes: Vec::new(),
            lost: None,
        }
    }

    /// Follows a stream from where the last checkpoint was; `begin` is told where that is.
    ///
    /// # Errors
    /// Exchanges of this format don't come in lines, or the stream can't be begun.
    pub fn follow(
        &mut self,
        name: &str,
        begin: impl FnOnce(Option<StreamPlace>) -> Result<Reader, WatchError>,
    ) -> Result<(), WatchError> {
        let mut options = self.options.clone();
        options.format = Some(options.format.unwrap_or(Format::JsonLines));
        let source =
            Source::from_bytes(name, Bytes::from_static(b"{}\n"), Table::Exchanges, &options);
        let source = source.ok().filter(|source| source.is_plain_lines().unwrap_or(false));
        let Some(source) = source else {
            let what = format!("{name}: a stream holds lines of JSON, and --format is another");
            return Err(WatchError::Usage(what));
        };
        let fresh =
            Position { read: Reach::Stream { made_ns: 0, sequence: 0 }, ..Position::default() };
        let mut stream = self.files.remove(name).unwrap_or_else(|| Tracked::new(fresh));
        let place = match stream.position.read {
            Reach::Stream { made_ns, sequence } if sequence > 0 => {
                Some(StreamPlace { made_ns, sequence })
            }
            _ => None,
        };
        stream.source = Some(source);
        stream.open = Some(Open::Stream(begin(place)?));
        self.files.insert(name.to_owned(), stream);
        Ok(())
    }

    /// Whether all was read that streams held when they were begun; never while a server is
    /// away.
    pub fn is_caught_up(&self) -> bool {
        self.files.values().all(|file| match &file.open {
            Some(Open::Stream(reader)) => reader.is_caught_up() && file.queue.is_empty(),
            _ => true,
        })
    }

    /// The last message of a stream that was taken; 0 for none.
    pub fn stream_reached(&self) -> u64 {
        let reached = self.files.values().map(|file| match file.position.read {
            Reach::Stream { sequence, .. } => sequence,
            _ => 0,
        });
        reached.max().unwrap_or(0)
    }

    /// What a file held can't be read again.
    fn lose(&mut self, position: &Position) {
        self.lost = self.lost.max(position.times.map(|(_, last)| last));
    }

    fn complain(&mut self, problem: String) {
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.insert(problem);
        }
    }

    /// The files that are there now.
    fn list(&mut self, first: bool) -> Result<BTreeMap<String, u64>, WatchError> {
        let mut there: BTreeMap<String, u64> = BTreeMap::new();
        for path in &self.paths.clone() {
            match local_files(std::slice::from_ref(path)) {
                Ok(files) => there.extend(files),
                // A pattern whose files are yet to come, or a file that is being rotated.
                Err(IngestError::NothingMatches { .. }) => {}
                Err(IngestError::NotFound { .. }) if !first => {}
                Err(error @ IngestError::Unreadable { .. }) if !first => {
                    self.complain(error.to_string());
                }
                Err(error) => return Err(WatchError::Usage(error.to_string())),
            }
        }
        Ok(there)
    }

    /// Looks which files there are, which were renamed and which are gone.
    ///
    /// # Errors
    /// A path can't be used, or leads nowhere at the `first` look.
    pub fn scan(&mut self, first: bool) -> Result<(), WatchError> {
        let there = self.list(first)?;
        // Files that have moved keep their positions; what is gone is forgotten.
        let missing: Vec<String> = self
            .files
            .iter()
            .filter(|(path, file)| !there.contains_key(*path) && !file.is_stream())
            .map(|(path, _)| path.clone())
            .collect();
        for file in self.files.values() {
            if let Some(Open::Stream(reader)) = &file.open {
                self.notes.extend(reader.problems());
            }
        }
        let mut moved: HashMap<(u64, u64), (String, Tracked)> = HashMap::new();
        for path in missing {
            let Some(file) = self.files.remove(&path) else { continue };
            if file.is_moved {
                if file.wants(&path) || !file.queue.is_empty() {
                    self.files.insert(path, file);
                } else {
                    self.lose(&file.position);
                    self.changed.remove(&path);
                    self.gone.insert(path);
                }
                continue;
            }
            self.changed.remove(&path);
            self.gone.insert(path.clone());
            moved.insert((file.position.device, file.position.inode), (path, file));
        }
        for path in there.into_keys() {
            let Ok(identity) = identity(Path::new(&path)) else { continue };
            let known = self.files.get(&path).map(|f| (f.position.device, f.position.inode));
            if let Some(known) = known {
                let has_begun = self.files.get(&path).is_some_and(|f| f.has_begun());
                if !has_begun || (known == identity && self.is_same(&path)) {
                    if !has_begun && let Some(file) = self.files.get_mut(&path) {
                        (file.position.device, file.position.inode) = identity;
                        (file.ahead.device, file.ahead.inode) = identity;
                    }
                    continue;
                }
                // Rotated in place: the file of that name before may be below another now.
                if let Some(file) = self.files.remove(&path) {
                    if known == identity {
                        self.lose(&file.position);
                    } else {
                        moved.insert(known, (path.clone(), file));
                    }
                }
            }
            self.insert(path, identity);
        }
        self.recognise_moved(&mut moved);
        // A file may have got its new name after the names were listed. It had it when it
        // was missed, so that another list has it too.
        if !moved.is_empty() {
            for path in self.list(false)?.into_keys() {
                if !self.files.contains_key(&path)
                    && let Ok(identity) = identity(Path::new(&path))
                {
                    self.insert(path, identity);
                }
            }
            self.recognise_moved(&mut moved);
        }
        // What was moved to where nobody looks is read to its end, as long as it is open.
        for (path, mut file) in moved.into_values() {
            // A process that was killed may have left its position under two names.
            let is_there = |(path, other): (&String, &Tracked)| {
                other.identity() == file.identity() && is_head(Path::new(path), &file.position)
            };
            if self.files.iter().any(is_there) {
                continue;
            }
            self.lose(&file.position);
            if matches!(file.open, Some(Open::Lines(_))) {
                file.is_moved = true;
                let place = format!("{path} (moved, {})", file.position.inode);
                if file.wants(&place) || !file.queue.is_empty() {
                    self.files.insert(place, file);
                }
            }
        }
        Ok(())
    }

    /// Gives new names that are files which were known by another their positions.
    fn recognise_moved(&mut self, moved: &mut HashMap<(u64, u64), (String, Tracked)>) {
        let fresh: Vec<String> = self
            .files
            .iter()
            .filter(|(_, f)| !f.has_begun() && moved.contains_key(&f.identity()))
            .map(|(path, _)| path.clone())
            .collect();
        for path in fresh {
            let Some(identity) = self.files.get(&path).map(Tracked::identity) else { continue };
            let is_it = |(_, file): &(String, Tracked)| is_head(Path::new(&path), &file.position);
            if moved.get(&identity).is_some_and(is_it)
                && let Some((_, file)) = moved.remove(&identity)
            {
                self.changed.insert(path.clone());
                self.files.insert(path, file);
            }
        }
    }

    fn insert(&mut self, path: String, (device, inode): (u64, u64)) {
        self.gone.remove(&path);
        // Stored at once, in place of that of another file that had the name.
        self.changed.insert(path.clone());
        let position = Position { device, inode, ..Position::default() };
        self.files.insert(path, Tracked::new(position));
    }

    /// Whether the file of that name is still the one that was begun.
    fn is_same(&self, path: &str) -> bool {
        let Some(file) = self.files.get(path) else { return false };
        let read = match file.position.read {
            Reach::Lines { bytes, .. } => bytes,
            Reach::Rows { .. } | Reach::Stream { .. } => 0,
        };
        let size = file.size(path);
        file.seen_bytes == Some(size) || size >= read && is_head(Path::new(path), &file.position)
    }

    /// Reads ahead wherever nothing is at hand, in parallel. Says whether anything is.
    pub fn refill(&mut self) -> bool {
        self.recognise();
        let wanting: Vec<String> = self
            .files
            .iter()
            .filter(|(path, file)| file.queue.is_empty() && file.wants(path))
            .map(|(path, _)| path.clone())
            .take(OPEN_MAX)
            .collect();
        let each = (2 * self.threads / wanting.len().max(1)).max(1);
        let to_the_end = self.to_the_end;
        let meter = Arc::clone(&self.meter);
        let mut taken: Vec<(String, Tracked)> =
            wanting.into_iter().filter_map(|path| self.files.remove_entry(&path)).collect();
        let read: Vec<Vec<(Raw, Position)>> = taken
            .par_iter_mut()
            .map(|(path, file)| file.read_ahead(path, each, to_the_end, &meter))
            .collect::<Vec<_>>()
            .into_iter()
            .map(|(raw, problem)| {
                if let Some(problem) = problem {
                    self.complain(problem);
                }
                raw
            })
            .collect();
        let jobs: Vec<(usize, Raw, Position)> = read
            .into_iter()
            .enumerate()
            .flat_map(|(file, raw)| raw.into_iter().map(move |(raw, end)| (file, raw, end)))
            .collect();
        let (idle, key) = (&self.idle, self.key);
        let idle = || idle.lock().unwrap_or_else(PoisonError::into_inner);
        let made: Vec<(usize, Chunk, Option<String>)> = jobs
            .into_par_iter()
            .map(|(file, raw, end)| {
                let mut observer = idle().pop().unwrap_or_else(|| Observer::new(key));
                let (chunk, problem) = made(raw, end, &mut observer, &meter);
                idle().push(observer);
                (file, chunk, problem)
            })
            .collect();
        // Files that have been read to their end stay open as far as there are few.
        let mut open = self.files.values().filter(|f| f.open.is_some()).count() + taken.len();
        for file in self.files.values_mut().filter(|f| f.at_end && f.queue.is_empty()) {
            if open > OPEN_MAX && !file.is_moved && !file.is_stream() && file.open.take().is_some()
            {
                open -= 1;
            }
        }
        for (file, chunk, problem) in made {
            if let Some(problem) = problem {
                self.complain(problem);
            }
            if let Some((_, tracked)) = taken.get_mut(file) {
                tracked.queue.push_back(chunk);
            }
        }
        self.files.extend(taken);
        for (path, file) in &mut self.files {
            if file.queue.is_empty() && file.open.is_some() {
                file.at_end |= !file.wants(path);
            }
        }
        self.files.values().any(|f| !f.queue.is_empty())
    }

    /// Finds out what files are that have not been looked into.
    fn recognise(&mut self) {
        let new: Vec<String> = self
            .files
            .iter()
            .filter(|(path, file)| {
                file.source.is_none() && file.queue.is_empty() && file.wants(path)
            })
            .map(|(path, _)| path.clone())
            .collect();
        for path in new {
            let size = std::fs::metadata(&path).map_or(0, |m| m.len());
            let options = match self.segment_name(&path) {
                // Whatever the format of the files is said to be.
                Some(deliveries::NAME) => {
                    Options { format: Some(Format::OpenTelemetry), ..self.options.clone() }
                }
                _ => self.options.clone(),
            };
            let found = discover(std::slice::from_ref(&path), Table::Exchanges, &options);
            let Some(file) = self.files.get_mut(&path) else { continue };
            let source = match found {
                Ok(found) => match found.sources.into_iter().next() {
                    Some(source) => source,
                    None => {
                        file.seen_bytes = Some(size);
                        let problem = found.problems.first().map(ToString::to_string);
                        // An empty file is one that is yet to be written.
                        if size > 0
                            && let Some(problem) = problem
                        {
                            self.complain(problem);
                        }
                        continue;
                    }
                },
                // Gone since the scan.
                Err(_) => continue,
            };
            if !file.has_begun() && !source.is_plain_lines().unwrap_or(false) {
                let rows = Reach::Rows { split: 0, rows: 0, done: false };
                file.position.read = rows.clone();
                file.ahead.read = rows;
            }
            file.source = Some(source);
        }
    }

    /// Takes the earliest rows that are at hand, unless there is a file of which the next
    /// rows are not known yet.
    pub fn pop(&mut self) -> Option<Chunk> {
        let head = |file: &Tracked| file.queue.front().map(|c| c.times.map_or(i64::MIN, |t| t.0));
        let (path, _) = self
            .files
            .iter()
            .filter_map(|(path, file)| Some((head(file)?, path)))
            .min()
            .map(|(time, path)| (path.clone(), time))?;
        let lacking = |file: &Tracked| file.queue.is_empty() && file.open.is_some() && !file.at_end;
        if self.files.values().any(lacking) {
            return None;
        }
        let file = self.files.get_mut(&path)?;
        let chunk = file.queue.pop_front()?;
        file.position = chunk.end.clone();
        if let Some((first, last)) = chunk.times {
            let times = file.position.times.unwrap_or((first, last));
            file.position.times = Some((times.0.min(first), times.1.max(last)));
        }
        for queued in &mut file.queue {
            queued.end.times = file.position.times;
        }
        file.ahead.times = file.position.times;
        self.changed.insert(path);
        Some(chunk)
    }

    /// The earliest time of what is at hand.
    pub fn head(&self) -> Option<i64> {
        let heads = self.files.values().flat_map(|f| f.queue.iter());
        heads.filter_map(|chunk| chunk.times.map(|t| t.0)).min()
    }

    /// The positions that have changed since this was asked last; `None` for files that
    /// are gone.
    pub fn changes(&mut self) -> BTreeMap<String, Option<Position>> {
        let gone = std::mem::take(&mut self.gone).into_iter().map(|path| (path, None));
        let changed = std::mem::take(&mut self.changed);
        let positions = changed
            .into_iter()
            .filter_map(|path| Some((path.clone(), Some(self.files.get(&path)?.position.clone()))));
        gone.chain(positions).collect()
    }

    /// The files that may hold exchanges from `from` on.
    pub fn reaching(&self, from: Time) -> Vec<String> {
        let reaching =
            self.files.iter().filter(|(_, file)| file.position.reaches(from) && !file.is_stream());
        reaching.map(|(path, _)| path.clone()).collect()
    }

    /// Segments of the spool that were read to their end and are not needed any more: of
    /// each name all but the last, and but what is kept of it.
    pub fn read_out(&self) -> Vec<String> {
        let mut names: BTreeMap<&str, Vec<(&String, &Tracked)>> = BTreeMap::new();
        for (path, file) in &self.files {
            if let Some(name) = self.segment_name(path) {
                names.entry(name).or_default().push((path, file));
            }
        }
        let mut out = Vec::new();
        for (name, files) in names {
            let mut later = 0;
            for (index, (path, file)) in files.into_iter().rev().enumerate() {
                let size = std::fs::metadata(path).map_or(u64::MAX, |m| m.len());
                let is_out = file.queue.is_empty()
                    && matches!(file.position.read, Reach::Lines { bytes, .. } if bytes == size);
                if index > 0 && is_out && later >= Spool::kept_bytes(name) {
                    out.push(path.clone());
                }
                later = later.saturating_add(size);
            }
        }
        out
    }

    /// The name before the number of a segment of the spool.
    fn segment_name<'p>(&self, path: &'p str) -> Option<&'p str> {
        let file = Path::new(path).strip_prefix(&self.spool).ok()?.to_str()?;
        Some(file.rsplit_once('-')?.0)
    }
}

impl Tracked {
    fn new(position: Position) -> Self {
        Tracked {
            ahead: position.clone(),
            position,
            source: None,
            open: None,
            queue: VecDeque::new(),
            seen_bytes: None,
            at_end: false,
            is_moved: false,
        }
    }

    /// Its size in bytes now; none where it is gone.
    fn size(&self, path: &str) -> u64 {
        match &self.open {
            Some(Open::Lines(file)) if self.is_moved => file.metadata().map_or(0, |m| m.len()),
            _ => std::fs::metadata(path).map_or(0, |m| m.len()),
        }
    }

    fn identity(&self) -> (u64, u64) {
        (self.position.device, self.position.inode)
    }

    fn has_begun(&self) -> bool {
        self.position.head_bytes > 0 || !self.queue.is_empty() || self.open.is_some()
    }

    fn is_stream(&self) -> bool {
        matches!(self.position.read, Reach::Stream { .. })
    }

    /// Whether there may be something to read.
    fn wants(&self, path: &str) -> bool {
        match self.ahead.read {
            Reach::Stream { .. } => match &self.open {
                Some(Open::Stream(reader)) => reader.has_next() || reader.is_coming(),
                _ => false,
            },
            Reach::Rows { done, .. } => {
                !done && self.seen_bytes.is_none_or(|seen| seen != self.size(path))
            }
            Reach::Lines { bytes, .. } => {
                let size = self.size(path);
                size > bytes && self.seen_bytes != Some(size)
            }
        }
    }

    /// Reads up to `most` chunks, and says what went wrong.
    fn read_ahead(
        &mut self,
        path: &str,
        most: usize,
        to_the_end: bool,
        meter: &Arc<Meter>,
    ) -> (Vec<(Raw, Position)>, Option<String>) {
        let Some(source) = self.source.clone() else { return (Vec::new(), None) };
        self.at_end = false;
        if self.ahead.head_bytes < HEAD_BYTES
            && !self.is_stream()
            && let Ok((head, bytes)) = head(Path::new(path), HEAD_BYTES)
        {
            (self.ahead.head, self.ahead.head_bytes) = (head, bytes);
        }
        let mut raw = Vec::new();
        let problem = match self.ahead.read {
            Reach::Lines { .. } => self.read_lines(path, &source, most, to_the_end, &mut raw),
            Reach::Rows { .. } => self.read_rows(path, &source, most, meter, &mut raw),
            Reach::Stream { .. } => {
                self.read_messages(&source, most, &mut raw);
                Ok(())
            }
        };
        self.at_end |= problem.is_err();
        (raw, problem.err())
    }

    fn read_lines(
        &mut self,
        path: &str,
        source: &Source,
        most: usize,
        to_the_end: bool,
        raw: &mut Vec<(Raw, Position)>,
    ) -> Result<(), String> {
        let failed = |error: std::io::Error| format!("{path}: {error}");
        if self.open.is_none() {
            self.open = Some(Open::Lines(File::open(path).map_err(failed)?));
        }
        let Some(Open::Lines(file)) = &mut self.open else { return Ok(()) };
        while raw.len() < most {
            let read = next_lines(file, &self.ahead.read, to_the_end, CHUNK_BYTES);
            match read.map_err(failed)? {
                Some((bytes, end)) => {
                    self.ahead.read = end;
                    raw.push((Raw::Lines { source: source.clone(), bytes }, self.ahead.clone()));
                }
                None => {
                    self.seen_bytes = Some(file.metadata().map_err(failed)?.len());
                    self.at_end = true;
                    break;
                }
            }
        }
        Ok(())
    }

    /// Takes messages that are at hand; those that are on their way are waited for, if not
    /// for long: nothing else is read meanwhile.
    fn read_messages(&mut self, source: &Source, most: usize, raw: &mut Vec<(Raw, Position)>) {
        let Some(Open::Stream(reader)) = &self.open else { return };
        let mut waited = 0;
        while raw.len() < most {
            let (mut bytes, mut has_moved) = (Vec::new(), false);
            // A single message may be longer than a chunk.
            let room = |bytes: &Vec<u8>| match bytes.len() {
                0 => usize::MAX,
                held => CHUNK_BYTES.saturating_sub(held),
            };
            while let Some(message) = reader.next_up_to(room(&bytes)) {
                bytes.extend_from_slice(&message.payload);
                if !message.payload.is_empty() && !bytes.ends_with(b"\n") {
                    bytes.push(b'\n');
                }
                has_moved = true;
                let StreamPlace { made_ns, sequence } = message.place;
                self.ahead.read = Reach::Stream { made_ns, sequence };
            }
            if has_moved {
                let lines = Raw::Lines { source: source.clone(), bytes: bytes.into() };
                raw.push((lines, self.ahead.clone()));
                continue;
            }
            if !raw.is_empty() || !reader.is_coming() || waited == WAITS_MAX {
                self.at_end = raw.is_empty();
                return;
            }
            waited += 1;
            reader.wait(WAIT);
        }
    }

    fn read_rows(
        &mut self,
        path: &str,
        source: &Source,
        most: usize,
        meter: &Arc<Meter>,
        raw: &mut Vec<(Raw, Position)>,
    ) -> Result<(), String> {
        let Reach::Rows { mut split, mut rows, .. } = self.ahead.read else { return Ok(()) };
        let splits = source.splits();
        if self.open.is_none() {
            self.open = Some(Open::Rows(None));
        }
        let mut to_skip = 0;
        while raw.len() < most {
            let Some(Open::Rows(batches)) = &mut self.open else { return Ok(()) };
            let Some(part) = splits.get(split) else {
                self.ahead.read = Reach::Rows { split, rows: 0, done: true };
                self.open = None;
                let nothing = RecordBatch::new_empty(Arc::new(arrow::datatypes::Schema::empty()));
                let refused = RefusedCounts::default();
                raw.push((Raw::Rows { rows: nothing, refused }, self.ahead.clone()));
                return Ok(());
            };
            if batches.is_none() {
                to_skip = rows;
                let read = part.read(columns_read(), None, meter).map_err(|e| e.to_string());
                match read {
                    Ok(read) => *batches = Some(read),
                    Err(problem) => {
                        self.give_up(path);
                        return Err(problem);
                    }
                }
            }
            match batches.as_mut().and_then(Iterator::next) {
                Some(Ok(batch)) => {
                    let skipped = to_skip.min(batch.rows.num_rows() as u64);
                    to_skip -= skipped;
                    let length = batch.rows.num_rows() - skipped as usize;
                    // What was refused among rows that were counted was counted with them. How
                    // many rows are still to be skipped is known until something is given.
                    if skipped > 0 && length == 0 {
                        continue;
                    }
                    rows += length as u64;
                    self.ahead.read = Reach::Rows { split, rows, done: false };
                    let rows = batch.rows.slice(skipped as usize, length);
                    raw.push((Raw::Rows { rows, refused: batch.refused }, self.ahead.clone()));
                }
                Some(Err(problem)) => {
                    self.give_up(path);
                    return Err(problem.to_string());
                }
                None => {
                    (split, rows) = (split + 1, 0);
                    self.ahead.read = Reach::Rows { split, rows, done: false };
                    self.open = Some(Open::Rows(None));
                }
            }
        }
        Ok(())
    }

    /// Waits for the file to change; rows that were counted stay so.
    fn give_up(&mut self, path: &str) {
        self.open = None;
        self.source = None;
        self.seen_bytes = Some(std::fs::metadata(path).map_or(0, |m| m.len()));
    }
}

/// Complete lines from where a file has been read to, at least one, and where that ends;
/// a last line without its end only `to_the_end`.
fn next_lines(
    file: &mut File,
    read: &Reach,
    to_the_end: bool,
    most: usize,
) -> std::io::Result<Option<(Bytes, Reach)>> {
    let Reach::Lines { bytes: start, skipping } = *read else { return Ok(None) };
    file.seek(SeekFrom::Start(start))?;
    let mut bytes: Vec<u8> = Vec::new();
    let mut wanted = most;
    let mut begins = 0;
    loop {
        let missing = (wanted - bytes.len()) as u64;
        let got = file.by_ref().take(missing).read_to_end(&mut bytes)? as u64;
        if skipping && begins == 0 {
            match memchr::memchr(b'\n', &bytes) {
                Some(end) => begins = end + 1,
                None => {
                    // Nothing of it is kept.
                    let end = start + bytes.len() as u64;
                    let more = Reach::Lines { bytes: end, skipping: true };
                    return Ok((!bytes.is_empty()).then_some((Bytes::new(), more)));
                }
            }
        }
        if let Some(end) = memchr::memrchr(b'\n', &bytes)
            && end + 1 > begins
        {
            bytes.truncate(end + 1);
            break;
        }
        if begins > 0 && begins == bytes.len() {
            break;
        }
        let is_end = got < missing;
        if is_end {
            if to_the_end && bytes.len() > begins {
                break;
            }
            return Ok(None);
        }
        if bytes.len() > validity::BATCH_LINE_BYTES_MAX {
            // Too long for any format: what there is of it is counted as such.
            let end = start + bytes.len() as u64;
            let lines = Bytes::from(bytes).slice(begins..);
            return Ok(Some((lines, Reach::Lines { bytes: end, skipping: true })));
        }
        wanted = (wanted * 4).min(validity::BATCH_LINE_BYTES_MAX + 1);
    }
    let end = Reach::Lines { bytes: start + bytes.len() as u64, skipping: false };
    Ok(Some((Bytes::from(bytes).slice(begins..), end)))
}

/// Makes exchanges of what was read.
fn made(
    raw: Raw,
    end: Position,
    observer: &mut Observer,
    meter: &Arc<Meter>,
) -> (Chunk, Option<String>) {
    let mut chunk = Chunk { seen: Vec::new(), refused: RefusedCounts::default(), times: None, end };
    let problem = match raw {
        Raw::Rows { rows, refused } => {
            chunk.refused = refused;
            chunk.take(&rows, observer).err()
        }
        // How far a stream goes without anything to count.
        Raw::Lines { bytes, .. } if bytes.is_empty() => None,
        Raw::Lines { source, bytes } => lines(&source.lines(bytes), &mut chunk, observer, meter),
    };
    (chunk, problem)
}

fn lines(
    source: &Source,
    chunk: &mut Chunk,
    observer: &mut Observer,
    meter: &Arc<Meter>,
) -> Option<String> {
    for split in source.splits() {
        let batches = match split.read(columns_read(), None, meter) {
            Ok(batches) => batches,
            Err(problem) => return Some(problem.to_string()),
        };
        for batch in batches {
            match batch {
                Ok(batch) => {
                    chunk.refused.merge(&batch.refused);
                    if let Err(problem) = chunk.take(&batch.rows, observer) {
                        return Some(problem);
                    }
                }
                Err(problem) => return Some(problem.to_string()),
            }
        }
    }
    None
}

impl Chunk {
    /// Where the stream that it comes from has been read to with it.
    pub fn stream_place(&self) -> Option<StreamPlace> {
        match self.end.read {
            Reach::Stream { made_ns, sequence } => Some(StreamPlace { made_ns, sequence }),
            _ => None,
        }
    }

    fn take(&mut self, rows: &RecordBatch, observer: &mut Observer) -> Result<(), String> {
        if rows.num_rows() == 0 {
            return Ok(());
        }
        let column = |name: &str| {
            rows.column_by_name(name).ok_or_else(|| format!("rows without their {name}"))
        };
        let accounts = column("account_id")?
            .as_string_view_opt()
            .ok_or_else(|| "accounts that are no text".to_owned())?
            .clone();
        let times = column("time")?
            .as_primitive_opt::<TimestampMicrosecondType>()
            .ok_or_else(|| "times that are none".to_owned())?;
        for time in times.iter().flatten() {
            let (first, last) = self.times.unwrap_or((time, time));
            self.times = Some((first.min(time), last.max(time)));
        }
        let glances = glances(rows, observer).map_err(|e| e.to_string())?;
        self.seen.push(Seen { accounts, glances });
        Ok(())
    }
}

#[cfg(unix)]
fn identity(path: &Path) -> std::io::Result<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(path).map(|m| (m.dev(), m.ino()))
}

/// Where files have no inodes, they are known by their names and first bytes alone.
#[cfg(not(unix))]
fn identity(path: &Path) -> std::io::Result<(u64, u64)> {
    std::fs::metadata(path).map(|_| (0, 0))
}

fn head(path: &Path, most: u64) -> std::io::Result<(u64, u64)> {
    let mut bytes = Vec::new();
    File::open(path)?.take(most).read_to_end(&mut bytes)?;
    Ok((xxhash_rust::xxh3::xxh3_64(&bytes), bytes.len() as u64))
}

/// Whether a file begins as the one of a position did.
fn is_head(path: &Path, position: &Position) -> bool {
    head(path, position.head_bytes).is_ok_and(|known| known == (position.head, position.head_bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_go_when_they_are_read_and_not_needed() {
        let folder = tempfile::tempdir().unwrap();
        let spool = folder.path();
        let exchange =
            "{\"time\":\"2026-03-02T00:00:00Z\",\"account_id\":\"a\",\"prompt\":\"x\"}\n";
        for number in 1..=3 {
            let line = |name: &str, line: &str| {
                std::fs::write(spool.join(format!("{name}-{number:012}.jsonl")), line).unwrap();
            };
            line("stdin", exchange);
            line(deliveries::NAME, "{\"resourceSpans\":[]}\n");
        }
        // One that has more than is read of it.
        std::fs::write(spool.join("stdin-000000000002.jsonl"), format!("{exchange}{{")).unwrap();
        let paths = vec![spool.display().to_string()];
        let options = Options::default();
        let mut feed =
            Feed::new(paths, spool.to_owned(), options, Key::public(), 1, BTreeMap::new());
        feed.scan(true).unwrap();
        let mut read = 0;
        while feed.refill() {
            while let Some(chunk) = feed.pop() {
                read += chunk.seen.iter().map(|seen| seen.glances.len()).sum::<usize>();
            }
        }
        assert_eq!(read, 3);
        // What was delivered is less than what is kept of it.
        let out = feed.read_out();
        assert_eq!(out, [spool.join("stdin-000000000001.jsonl").display().to_string()]);
    }
}

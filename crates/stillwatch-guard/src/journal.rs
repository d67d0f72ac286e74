//! The record of every exchange, whatever is killed and whenever.
//!
//! `STATE/journal/NUMBER.journal` is text. Its first line is [`HEADER`]; every other
//! line is the XXH3 checksum of what follows in 16 hex digits, a space, one letter, and
//! a JSON object:
//!
//! | letter | what |
//! | --- | --- |
//! | `B` | an exchange has arrived: an [`Arrival`] |
//! | `C` | the same, carried over from the segment before, where it had not ended |
//! | `E` | it has ended: an [`Ending`] |
//!
//! A line is handed to the kernel before the guard answers the exchange or passes it
//! on, so that killing the process loses nothing; once a second it is forced to the
//! disk, so that losing power loses a second. A segment that is large or old enough is
//! closed, and `seal` makes `STATE/records/exchanges-NUMBER.parquet` of it:
//!
//! 1. The next segment is written under another name, with all exchanges that have not
//!    ended, and renamed. From there on it is the one that is written.
//! 2. The Parquet file is written under another name, forced to the disk, and renamed.
//! 3. The segment is removed.
//!
//! So at every moment an exchange is in exactly one place that counts: a segment counts
//! for what its successor does not carry, and not at all once its Parquet file is there.
//! At the start all segments are sealed; what had not ended in the last one gets the
//! finish reason `aborted` and no status.
//!
//! When the disk is full, up to [`BACKLOG_BYTES_MAX`] bytes wait in memory for room;
//! beyond that lines are dropped and counted, and traffic goes on.

use std::borrow::Cow;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use hashbrown::{HashMap, HashSet};
use serde::{Deserialize, Serialize};
use stillwatch_exchange::Time;
use xxhash_rust::xxh3::xxh3_64;

use crate::keys::hex;

/// The first line of a segment.
pub const HEADER: &str = "stillwatch journal 1\n";
/// What waits in memory while the disk is full, in bytes.
pub const BACKLOG_BYTES_MAX: usize = 16 << 20;
/// A segment of this many bytes is closed.
pub const SEGMENT_BYTES_MAX: u64 = 8 << 20;

/// What is known of an exchange when it arrives; the names are the contract's columns.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Arrival<'a> {
    pub exchange_id: Cow<'a, str>,
    /// Microseconds since the epoch.
    pub time: i64,
    pub account_id: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub organization_id: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credential_id: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conversation_id: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub turn: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider_name: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operation_name: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_model: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system_instructions: Option<Cow<'a, str>>,
    pub prompt: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_temperature: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_top_p: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_max_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_choice_count: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_seed: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_stream: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_top_logprobs: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_logit_bias_count: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_reasoning: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_tool_count: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_address: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<Cow<'a, str>>,
}

/// What is known of an exchange when it has ended.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Ending<'a> {
    pub exchange_id: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_model: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage_input_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage_output_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage_reasoning_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_finish_reason: Option<Cow<'a, str>>,
    /// SHA-256 in hex.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_digest: Option<Cow<'a, str>>,
}

/// A segment that is closed and can be sealed.
#[derive(Debug)]
pub struct Closed {
    pub number: u64,
    /// The exchanges that its successor carries.
    pub carried: HashSet<String>,
}

/// The journal that is being written.
#[derive(Debug)]
pub struct Journal {
    folder: PathBuf,
    segment: Mutex<Segment>,
}

#[derive(Debug)]
struct Segment {
    number: u64,
    file: File,
    opened: Time,
    /// Bytes of the file and of the backlog together.
    length: u64,
    lines: u64,
    /// What the disk had no room for.
    backlog: Vec<u8>,
    /// Exchanges that have not ended: where their lines are, by sequence number.
    open: HashMap<u64, (u64, u32)>,
    /// Lines dropped because the disk and the backlog were full.
    lost: u64,
}

impl Journal {
    /// Begins a new segment in a folder; `number` is larger than any before it.
    ///
    /// # Errors
    /// The folder can't be written.
    pub fn begin(folder: &Path, number: u64, now: Time) -> io::Result<Self> {
        let file = new_segment(folder, number, &[])?;
        let segment = Segment {
            number,
            file,
            opened: now,
            length: HEADER.len() as u64,
            lines: 0,
            backlog: Vec::new(),
            open: HashMap::new(),
            lost: 0,
        };
        Ok(Journal { folder: folder.to_owned(), segment: Mutex::new(segment) })
    }

    fn locked(&self) -> MutexGuard<'_, Segment> {
        self.segment.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records an arrival under a sequence number that is this run's own.
    pub fn arrive(&self, sequence: u64, arrival: &Arrival<'_>) {
        let line = line(b'B', arrival);
        let mut segment = self.locked();
        let at = segment.length;
        if segment.append(&line) {
            let length = u32::try_from(line.len()).unwrap_or(u32::MAX);
            segment.open.insert(sequence, (at, length));
        }
    }

    /// Records the end of an exchange that has arrived.
    pub fn end(&self, sequence: u64, ending: &Ending<'_>) {
        let line = line(b'E', ending);
        let mut segment = self.locked();
        // Without its arrival an ending says nothing.
        if segment.open.remove(&sequence).is_some() {
            segment.append(&line);
        }
    }

    /// Lines that were dropped because the disk was full.
    pub fn lost(&self) -> u64 {
        self.locked().lost
    }

    /// Lines that wait in memory for room on the disk.
    pub fn waiting(&self) -> usize {
        memchr::memchr_iter(b'\n', &self.locked().backlog).count()
    }

    /// Forces what was written to the disk.
    ///
    /// # Errors
    /// The disk is full or failing.
    pub fn sync(&self) -> io::Result<()> {
        let file = {
            let mut segment = self.locked();
            segment.write_backlog()?;
            segment.file.try_clone()?
        };
        file.sync_data()
    }

    /// Whether the segment is large or old enough to be closed; an empty one never is. By a
    /// clock that was set back by so much, it is old too.
    pub fn is_due(&self, now: Time, age_us: i64) -> bool {
        let segment = self.locked();
        let age = now.0.saturating_sub(segment.opened.0).saturating_abs();
        segment.lines > 0 && (segment.length >= SEGMENT_BYTES_MAX || age >= age_us)
    }

    /// Closes the segment and begins the next one.
    ///
    /// # Errors
    /// The next one can't be written; the segment stays open.
    pub fn rotate(&self, now: Time) -> io::Result<Closed> {
        let mut segment = self.locked();
        segment.write_backlog()?;
        let number = segment.number.saturating_add(1).max(number_at(now));
        let mut carried_lines = Vec::new();
        let mut carried = HashSet::new();
        let mut open = HashMap::new();
        for (sequence, (at, length)) in &segment.open {
            let mut held = vec![0; *length as usize];
            read_at(&segment.file, &mut held, *at)?;
            let Some((_, Entry::Arrival(arrival))) = read_line(&held) else { continue };
            let start = HEADER.len() as u64 + carried_lines.len() as u64;
            let again = line(b'C', &arrival);
            open.insert(*sequence, (start, u32::try_from(again.len()).unwrap_or(u32::MAX)));
            carried_lines.extend_from_slice(&again);
            carried.insert(arrival.exchange_id.into_owned());
        }
        let file = new_segment(&self.folder, number, &carried_lines)?;
        let closed = Closed { number: segment.number, carried };
        *segment = Segment {
            number,
            file,
            opened: now,
            length: HEADER.len() as u64 + carried_lines.len() as u64,
            lines: open.len() as u64,
            backlog: Vec::new(),
            open,
            lost: segment.lost,
        };
        Ok(closed)
    }
}

impl Segment {
    /// Appends a line; whether it is kept.
    fn append(&mut self, line: &[u8]) -> bool {
        // Why the disk refuses is told by the next sync.
        let is_clear = self.write_backlog().is_ok();
        let written = if is_clear { write_what_fits(&mut self.file, line) } else { 0 };
        let rest = line.get(written..).unwrap_or_default();
        if self.backlog.len() + rest.len() > BACKLOG_BYTES_MAX && written == 0 {
            self.lost += 1;
            return false;
        }
        self.backlog.extend_from_slice(rest);
        self.length += line.len() as u64;
        self.lines += 1;
        true
    }

    fn write_backlog(&mut self) -> io::Result<()> {
        while !self.backlog.is_empty() {
            match self.file.write(&self.backlog) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => drop(self.backlog.drain(..written)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Writes as much as there is room for; how much that was.
fn write_what_fits(file: &mut File, bytes: &[u8]) -> usize {
    let mut written = 0;
    while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
        match file.write(rest) {
            Ok(0) => break,
            Ok(more) => written += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    written
}

#[cfg(unix)]
pub(crate) fn read_at(file: &File, buffer: &mut [u8], at: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, buffer, at)
}

#[cfg(not(unix))]
pub(crate) fn read_at(file: &File, buffer: &mut [u8], at: u64) -> io::Result<()> {
    use std::io::{Read, Seek, SeekFrom};
    let mut file = file;
    file.seek(SeekFrom::Start(at))?;
    file.read_exact(buffer)?;
    file.seek(SeekFrom::End(0)).map(drop)
}

/// Makes a segment that is whole as soon as it has its name.
fn new_segment(folder: &Path, number: u64, lines: &[u8]) -> io::Result<File> {
    let part = folder.join(format!(".{number:020}.part"));
    let write = || {
        let mut file =
            OpenOptions::new().create(true).truncate(true).write(true).read(true).open(&part)?;
        file.write_all(HEADER.as_bytes())?;
        file.write_all(lines)?;
        fs::rename(&part, path(folder, number))?;
        Ok(file)
    };
    write().inspect_err(|_| {
        // It is tried again every second, under another name.
        let _ = fs::remove_file(&part);
    })
}

/// Where a segment is.
#[must_use]
pub fn path(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number:020}.journal"))
}

/// The number that a segment begun at this time has, unless it is taken.
#[must_use]
pub fn number_at(now: Time) -> u64 {
    u64::try_from(now.0).unwrap_or(0)
}

/// The numbers of a folder's segments, ascending.
///
/// # Errors
/// The folder can't be read.
pub fn numbers(folder: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| name.strip_suffix(".journal"));
        numbers.extend(number.and_then(|number| number.parse::<u64>().ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

fn line(letter: u8, value: &impl Serialize) -> Vec<u8> {
    let mut line = Vec::with_capacity(1024);
    line.extend_from_slice(b"0000000000000000 ");
    line.push(letter);
    // Texts, numbers and switches always become JSON.
    let _ = serde_json::to_writer(&mut line, value);
    let checksum = xxh3_64(line.get(17..).unwrap_or_default());
    if let Some(place) = line.get_mut(..16) {
        place.copy_from_slice(hex(&checksum.to_be_bytes()).as_bytes());
    }
    line.push(b'\n');
    line
}

/// A line of a segment.
#[derive(Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "one is held at a time")]
pub enum Entry<'a> {
    Arrival(Arrival<'a>),
    Ending(Ending<'a>),
}

/// Whether a line, if it is whole, is about an exchange's end.
#[must_use]
pub fn is_ending(line: &[u8]) -> bool {
    line.get(17) == Some(&b'E')
}

/// Reads a line; the first value is whether it was carried over. None for a line that
/// is not whole.
#[must_use]
pub fn read_line(line: &[u8]) -> Option<(bool, Entry<'_>)> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let (checksum, rest) = line.split_at_checked(17)?;
    let checksum = std::str::from_utf8(checksum.strip_suffix(b" ")?).ok()?;
    if u64::from_str_radix(checksum, 16).ok()? != xxh3_64(rest) {
        return None;
    }
    let (letter, json) = rest.split_first()?;
    match letter {
        b'B' | b'C' => {
            let arrival = serde_json::from_slice(json).ok()?;
            Some((*letter == b'C', Entry::Arrival(arrival)))
        }
        b'E' => Some((false, Entry::Ending(serde_json::from_slice(json).ok()?))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A change here is a new version of the format, which must read the old one.
    #[test]
    fn the_stored_format() {
        let arrival = Arrival {
            exchange_id: "x1".into(),
            time: 1_772_409_600_000_000,
            account_id: "acct_1".into(),
            prompt: "What is\n\"2+2\"?".into(),
            request_temperature: Some(0.7),
            ..Arrival::default()
        };
        let ending = Ending {
            exchange_id: "x1".into(),
            status: Some(200),
            usage_output_tokens: Some(3),
            ..Ending::default()
        };
        let golden = include_str!("../tests/golden/journal-1.journal");
        let written =
            [HEADER.as_bytes(), &line(b'B', &arrival), &line(b'C', &arrival), &line(b'E', &ending)];
        assert_eq!(String::from_utf8(written.concat()).unwrap(), golden);
        let mut lines = golden.split_inclusive('\n').skip(1).map(str::as_bytes);
        assert_eq!(
            read_line(lines.next().unwrap()),
            Some((false, Entry::Arrival(arrival.clone())))
        );
        assert_eq!(read_line(lines.next().unwrap()), Some((true, Entry::Arrival(arrival))));
        assert_eq!(read_line(lines.next().unwrap()), Some((false, Entry::Ending(ending))));
    }

    #[test]
    fn a_torn_or_altered_line_is_none() {
        let whole = line(b'E', &Ending { exchange_id: "x".into(), ..Ending::default() });
        assert!(read_line(&whole).is_some());
        for end in 0..whole.len() - 1 {
            assert_eq!(read_line(&whole[..end]), None, "cut at {end}");
        }
        let mut altered = whole.clone();
        altered[20] ^= 1;
        assert_eq!(read_line(&altered), None);
    }
}

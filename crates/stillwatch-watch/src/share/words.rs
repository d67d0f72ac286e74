//! Words: what the shares of a watch say to the one that looks, and what that one says.
//!
//! A share's message is a line `stillwatch share 2 HASH`, a line of JSON ([`Head`]), and
//! the rows of pieces, where there are any: the epoch, the account's length and the account,
//! the piece's length and the piece as the store keeps it, numbers little-endian. HASH is
//! XXH3 of everything after the first line, in hex.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::store::Counts;

const VERSION: u32 = 1;
/// What a message begins with, and how long the hash after it is.
const BEGIN: &[u8] = b"stillwatch share 2 ";
const HASH_BYTES: usize = 16;
/// Rows of a message, unless a single one is longer; or the longest list of its report.
pub(super) const ROWS_BYTES: usize = 512 << 10;
/// The longest row.
pub(super) const ROW_BYTES_MAX: usize = 768 << 10;
/// What a message takes beside its rows: its lines.
pub(super) const HEAD_BYTES: usize = 4 << 10;
/// Ticks that are told in one report, unless one part of the stream has more.
const REPORT_TICKS: usize = 8 << 10;

/// Exchanges by tick of the part of a stream that ends at a message.
pub(crate) type Entry = (u64, Vec<(i64, u64)>);

/// How far a share has come since it reported last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Report {
    /// It has counted all that is its own up to this message of the stream.
    pub reached: u64,
    pub entries: Vec<Entry>,
    /// What has become of all its rows so far.
    pub counts: Counts,
    /// A hash of the releases that it counts around.
    pub releases: u64,
}

/// What a message of a share says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum What {
    Report(Report),
    /// Pieces of what it has counted before the look of this cut, and sent with no earlier
    /// one.
    Pieces {
        cut: u64,
    },
    /// All of these were sent.
    Done {
        cut: u64,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    share: u32,
    of: u32,
    number: u64,
    what: What,
}

/// A message of a share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub share: u32,
    pub of: u32,
    /// Messages of a share are numbered from 1.
    pub number: u64,
    pub what: What,
    pub rows: Bytes,
}

fn hash(bytes: &[u8]) -> String {
    format!("{:016x}", xxh3_64(bytes))
}

impl Message {
    pub fn to_bytes(&self) -> Vec<u8> {
        let Message { share, of, number, what, rows } = self;
        let head = Head { share: *share, of: *of, number: *number, what: what.clone() };
        // Texts and numbers always become JSON.
        let mut told = serde_json::to_vec(&head).unwrap_or_default();
        told.push(b'\n');
        told.extend_from_slice(rows);
        let mut bytes = BEGIN.to_vec();
        bytes.extend_from_slice(hash(&told).as_bytes());
        bytes.push(b'\n');
        bytes.append(&mut told);
        bytes
    }

    /// # Errors
    /// What is wrong with it.
    pub fn parse(bytes: &Bytes) -> Result<Self, String> {
        let begin = BEGIN.len() + HASH_BYTES + 1;
        if !bytes.starts_with(BEGIN) || bytes.get(begin - 1) != Some(&b'\n') {
            return Err("it is no message of a share, or one of another version".to_owned());
        }
        let told = bytes.slice(begin..);
        if hash(&told).as_bytes() != &bytes[BEGIN.len()..begin - 1] {
            return Err("it is not what was sent".to_owned());
        }
        let end = memchr::memchr(b'\n', &told).ok_or("its head is cut off")?;
        let head: Head = serde_json::from_slice(&told[..end])
            .map_err(|error| format!("its head can't be read: {error}"))?;
        let Head { share, of, number, what } = head;
        Ok(Message { share, of, number, what, rows: told.slice(end + 1..) })
    }
}

/// Divides what a share has to report into reports that fit into messages.
pub(super) fn reports(whole: Report) -> Vec<Report> {
    let Report { reached, entries, counts, releases } = whole;
    let mut reports: Vec<Report> = Vec::new();
    let mut ticks = usize::MAX;
    for entry in entries {
        if ticks.saturating_add(entry.1.len() + 1) > REPORT_TICKS {
            let (counts, entries) = (counts.clone(), Vec::new());
            reports.push(Report { reached, entries, counts, releases });
            ticks = 0;
        }
        ticks += entry.1.len() + 1;
        if let Some(last) = reports.last_mut() {
            last.entries.push(entry);
        }
    }
    if reports.is_empty() {
        return vec![Report { reached, entries: Vec::new(), counts, releases }];
    }
    // It has come that far once all of them are there.
    let last = reports.len() - 1;
    for report in &mut reports[..last] {
        report.reached = report.entries.last().map_or(0, |entry| entry.0);
    }
    reports
}

/// Puts neighbours together: half as many, each twice as wide.
pub(super) fn halved(entries: Vec<Entry>) -> Vec<Entry> {
    let mut halved: Vec<Entry> = Vec::with_capacity(entries.len().div_ceil(2));
    for (place, (end, ticks)) in entries.into_iter().enumerate() {
        match halved.last_mut() {
            Some(last) if place % 2 == 1 => {
                let mut sums: BTreeMap<i64, u64> = last.1.drain(..).collect();
                for (tick, exchanges) in ticks {
                    *sums.entry(tick).or_default() += exchanges;
                }
                *last = (end, sums.into_iter().collect());
            }
            _ => halved.push((end, ticks)),
        }
    }
    halved
}

/// Appends a row.
pub(super) fn write_row(rows: &mut Vec<u8>, epoch: i64, account: &str, piece: &[u8]) {
    rows.extend_from_slice(&epoch.to_le_bytes());
    rows.extend_from_slice(&(account.len() as u32).to_le_bytes());
    rows.extend_from_slice(account.as_bytes());
    rows.extend_from_slice(&(piece.len() as u32).to_le_bytes());
    rows.extend_from_slice(piece);
}

/// How long a row is.
pub(super) fn row_bytes(account: &str, piece: &[u8]) -> usize {
    size_of::<i64>() + 2 * size_of::<u32>() + account.len() + piece.len()
}

/// A row: its epoch, its account and its piece.
pub(super) type Row<'a> = (i64, &'a str, &'a [u8]);

/// Reads all rows.
///
/// # Errors
/// They end early or are none.
pub(super) fn read_rows(mut rows: &[u8]) -> Result<Vec<Row<'_>>, String> {
    let mut read = Vec::new();
    while !rows.is_empty() {
        let (row, rest) = next_row(rows).ok_or("its rows are broken")?;
        read.push(row);
        rows = rest;
    }
    Ok(read)
}

fn next_row(bytes: &[u8]) -> Option<(Row<'_>, &[u8])> {
    let (epoch, bytes) = bytes.split_first_chunk()?;
    let (account, bytes) = counted(bytes)?;
    let (piece, bytes) = counted(bytes)?;
    Some(((i64::from_le_bytes(*epoch), std::str::from_utf8(account).ok()?, piece), bytes))
}

fn counted(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, bytes) = bytes.split_first_chunk()?;
    bytes.split_at_checked(u32::from_le_bytes(*length) as usize)
}

/// What the one that looks tells all shares.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Word {
    pub version: u32,
    /// The step before whose start the next look is; none before the first exchanges.
    pub next: Option<i64>,
    /// The message of the stream up to which all shares have counted.
    pub counted: u64,
    /// The last look for which shares were asked for their pieces: of what lies before
    /// `next`, if they have not answered this one.
    pub cut: u64,
    /// Where the stream ended when that was the last look, because no more was to come.
    pub ended: Option<u64>,
}

impl Word {
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(&Word { version: VERSION, ..self.clone() }).unwrap_or_default()
    }

    /// # Errors
    /// What is wrong with it.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let word: Word = serde_json::from_slice(bytes)
            .map_err(|error| format!("what the share that looks says can't be read: {error}"))?;
        if word.version != VERSION {
            return Err(format!("the share that looks is of version {}", word.version));
        }
        Ok(word)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::plan::Plan;
    use super::*;

    fn message() -> Message {
        let mut rows = Vec::new();
        write_row(&mut rows, 2_930, "account", b"piece");
        write_row(&mut rows, 2_931, "", b"");
        let report = Report { reached: 9, entries: vec![(7, vec![(-1, 2)])], ..Report::default() };
        Message { share: 2, of: 3, number: 7, what: What::Report(report), rows: rows.into() }
    }

    #[test]
    fn messages_go_there_and_back_and_changes_are_told() {
        let whole = message();
        let bytes = Bytes::from(whole.to_bytes());
        let read = Message::parse(&bytes).unwrap();
        assert_eq!(read, whole);
        let rows = read_rows(&read.rows).unwrap();
        assert_eq!(rows, [(2_930, "account", &b"piece"[..]), (2_931, "", &b""[..])]);
        for at in 0..bytes.len() {
            let mut changed = bytes.to_vec();
            changed[at] ^= 1;
            assert!(Message::parse(&changed.into()).is_err(), "byte {at}");
            assert!(Message::parse(&bytes.slice(..at)).is_err(), "cut at {at}");
        }
        for end in 1..read.rows.len() {
            let is_whole_row = end == row_bytes("account", b"piece");
            assert_eq!(read_rows(&read.rows[..end]).is_ok(), is_whole_row);
        }
    }

    proptest! {
        #[test]
        fn reports_and_halves_lose_nothing(
            lengths in prop::collection::vec(0usize..5_000, 0..9),
        ) {
            let entry = |(place, length): (usize, &usize)| {
                (place as u64 + 1, (0..*length as i64).map(|tick| (tick, 2)).collect())
            };
            let entries: Vec<Entry> = lengths.iter().enumerate().map(entry).collect();
            let sum = |entries: &[Entry]| entries.iter().map(|e| e.1.iter().map(|t| t.1).sum::<u64>()).sum::<u64>();
            let whole = Report { reached: 99, entries: entries.clone(), ..Report::default() };
            let parts = reports(whole);
            let joined: Vec<Entry> = parts.iter().flat_map(|r| r.entries.clone()).collect();
            prop_assert_eq!(&joined, &entries);
            prop_assert_eq!(parts.last().map(|r| r.reached), Some(99));
            prop_assert!(parts.windows(2).all(|two| two[0].reached < two[1].reached));
            let half = halved(entries.clone());
            prop_assert_eq!(half.len(), entries.len().div_ceil(2));
            prop_assert_eq!(sum(&half), sum(&entries));
            prop_assert_eq!(half.last().map(|e| e.0), entries.last().map(|e| e.0));
        }
    }

    #[test]
    fn fuzz_words() {
        let whole = message().to_bytes();
        bolero::check!().with_type::<(Vec<u8>, Vec<(u16, u8)>)>().for_each(|(bytes, changes)| {
            let _ = Message::parse(&Bytes::from(bytes.clone()));
            let _ = read_rows(bytes);
            let _ = Word::parse(bytes);
            let _ = serde_json::from_slice::<Plan>(bytes);
            let mut changed = whole.clone();
            for &(at, byte) in changes {
                let at = usize::from(at) % changed.len();
                changed[at] = byte;
            }
            // What is broken in spite of a right hash is told as well.
            let end = BEGIN.len() + HASH_BYTES + 1;
            let right = hash(&changed[end..]);
            changed[BEGIN.len()..end - 1].copy_from_slice(right.as_bytes());
            if let Ok(message) = Message::parse(&changed.into()) {
                let _ = read_rows(&message.rows);
            }
        });
    }
}

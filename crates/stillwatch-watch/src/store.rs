//! Store: the state of a watch, in one file of an embedded database.
//!
//! What is counted, how far each source has been read, and how far event time has come
//! change in one transaction, so that a process that is killed at any moment goes on
//! where its last checkpoint was, and nothing is lost or counted twice.
//!
//! | table | key | value |
//! | --- | --- | --- |
//! | `meta` | `state` | [`Meta`] as JSON |
//! | `files` | path | how far it has been read, as JSON |
//! | `outbox` | number | what a share has yet to send ([`share`](crate::share)) |
//! | `pieces EPOCH PART` | account | a [`Piece`]'s stored form |
//!
//! Bound: epochs of the window and [`AHEAD_MAX`] later ones, each with at most as many
//! accounts as are asked for (and an eighth more between looks), each below 1.2 KiB.

use std::collections::BTreeMap;
use std::iter::Peekable;
use std::ops::Bound;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use redb::{
    AccessGuard, Database, Range, ReadTransaction, ReadableDatabase, ReadableTable,
    ReadableTableMetadata, StorageError, TableDefinition, TableError, TableHandle,
    WriteTransaction,
};
use serde::{Deserialize, Serialize};
use stillwatch_detect::calendar::{Calendar, EPOCHS};
use stillwatch_detect::observe::{Key, Link, Observer};
use stillwatch_detect::piece::{Piece, profile};
use stillwatch_detect::population::Member;

use crate::clock::{Clock, ClockState};
use crate::deltas::{Deltas, Part};
use crate::settings::{Pace, WatchError, WatchSettings};
use crate::share::{Counting, Looking};
use crate::watch::StateSize;

/// The version of the stored form. Another one is not read.
const VERSION: u32 = 2;
/// Epochs after that of the next look that are kept; the furthest give way.
pub(crate) const AHEAD_MAX: usize = 16;
/// Memory that the database may use to remember pages.
const CACHE_BYTES: usize = 256 << 20;
/// Accounts whose pieces are worked on at once.
const ACCOUNTS_AT_ONCE: usize = 1 << 15;

const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");
const FILES: TableDefinition<&str, &[u8]> = TableDefinition::new("files");

pub(crate) type Pieces<'a> = TableDefinition<'a, &'static str, &'static [u8]>;

/// Where a step's part and its epoch's are put together.
const FOLDED: Pieces<'static> = Pieces::new("folded");

/// Everything but the pieces and the positions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Meta {
    pub version: u32,
    pub epoch_us: i64,
    pub look_us: i64,
    /// What a sketch under the same key begins with.
    pub key_check: String,
    pub clock: ClockState,
    pub counts: Counts,
    /// Some exchanges came from a source that can't be read again.
    pub is_spooled: bool,
    /// The last time of exchanges of files that are gone, in microseconds.
    pub lost_us: Option<i64>,
    /// The step before whose start the last look was.
    pub looked: Option<i64>,
    /// By epoch, the keyed hash from which on accounts gave way.
    pub limits: BTreeMap<i64, u64>,
    /// What a share of a watch has sent; none where it isn't one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counting: Option<Counting>,
    /// What the one that looks has heard of the shares.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub looking: Option<Looking>,
}

/// What has become of all rows so far.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counts {
    /// Exchanges that were read, whatever became of them.
    pub exchanges: u64,
    /// Of them, those that came after the look that they would have been in; later looks
    /// have them.
    pub late: u64,
    /// Those that lie before the window; no look has them.
    pub before_window: u64,
    /// Those further ahead than can be kept.
    pub ahead: u64,
    /// Those of accounts that gave way because there were too many.
    pub accounts_full: u64,
    /// Rows and cells that could not be read, by reason.
    pub refused: BTreeMap<String, u64>,
}

pub(crate) struct Store {
    path: PathBuf,
    database: Database,
    pub(crate) observer: Observer,
}

pub(crate) fn table_name((epoch, part): Part) -> String {
    format!("pieces {epoch} {part}")
}

pub(crate) fn part_of(name: &str) -> Option<Part> {
    let (epoch, part) = name.strip_prefix("pieces ")?.split_once(' ')?;
    Some((epoch.parse().ok()?, part.parse().ok()?))
}

fn encoded(piece: &Piece) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(PIECE_BYTES);
    piece.write(&mut bytes);
    bytes
}

/// A stored form that is longer than most.
const PIECE_BYTES: usize = 768;

/// Reads what `encoded` has made, or says why not.
pub(crate) fn decoded(value: &[u8]) -> Result<Piece, String> {
    Piece::read(value).map_err(|error| error.to_string())
}

/// What tells keys apart without telling the key.
fn key_check(key: Key) -> String {
    format!("{:016x}", Observer::new(key).hash(Link::Other, "stillwatch watch"))
}

impl Store {
    /// Opens the state in a folder, or begins one.
    ///
    /// # Errors
    /// Another process has it, it is broken, or it was begun with other settings.
    pub fn open(folder: &Path, pace: Pace, key: Key) -> Result<(Self, Meta), WatchError> {
        std::fs::create_dir_all(folder).map_err(WatchError::io(folder))?;
        let path = folder.join("watch.redb");
        let is_new = !path.exists();
        let failed = |what: String| WatchError::State { path: path.clone(), what };
        let database =
            Database::builder().set_cache_size(CACHE_BYTES).create(&path).map_err(|error| {
                match error {
                    redb::DatabaseError::DatabaseAlreadyOpen => failed(
                        "another watch uses it; give this one a --state of its own".to_owned(),
                    ),
                    // What redb says of a file that is none of its own.
                    redb::DatabaseError::Storage(redb::StorageError::Io(other))
                        if other.kind() == std::io::ErrorKind::InvalidData =>
                    {
                        failed(broken(&other))
                    }
                    other => failed(broken(&other)),
                }
            })?;
        let store = Store { path: path.clone(), database, observer: Observer::new(key) };
        let fresh = Meta {
            version: VERSION,
            epoch_us: pace.grid.epoch_us(),
            look_us: pace.look_us,
            key_check: key_check(key),
            ..Meta::default()
        };
        let stored = store.meta()?;
        let Some(stored) = stored else {
            if !is_new && store.has_tables()? {
                return Err(failed(broken(&"it is no state of a watch")));
            }
            return Ok((store, fresh));
        };
        let differs = |what: &str, kept: String, asked: String| {
            let begun = "was begun with another";
            failed(format!(
                "it {begun} {what} ({kept}, not {asked}); use that one, or a new --state"
            ))
        };
        if stored.version != VERSION {
            let (kept, asked) = (stored.version.to_string(), VERSION.to_string());
            return Err(differs("version of its form", kept, asked));
        }
        if (stored.epoch_us, stored.look_us) != (fresh.epoch_us, fresh.look_us) {
            let shown = |meta: &Meta| {
                let [epoch, look] = [meta.epoch_us, meta.look_us].map(|us| us / 60_000_000);
                format!("epochs of {epoch} and looks every {look} minutes")
            };
            return Err(differs("pace", shown(&stored), shown(&fresh)));
        }
        if stored.key_check != fresh.key_check {
            return Err(differs("key", stored.key_check, fresh.key_check));
        }
        Ok((store, stored))
    }

    pub(crate) fn failed(&self, error: impl std::fmt::Display) -> WatchError {
        WatchError::State { path: self.path.clone(), what: broken(&error) }
    }

    pub(crate) fn read(&self) -> Result<ReadTransaction, WatchError> {
        self.database.begin_read().map_err(|e| self.failed(e))
    }

    fn write(&self) -> Result<WriteTransaction, WatchError> {
        self.database.begin_write().map_err(|e| self.failed(e))
    }

    /// Whether nothing was stored yet.
    pub fn is_new(&self) -> Result<bool, WatchError> {
        Ok(self.meta()?.is_none())
    }

    fn has_tables(&self) -> Result<bool, WatchError> {
        Ok(self.read()?.list_tables().map_err(|e| self.failed(e))?.next().is_some())
    }

    fn meta(&self) -> Result<Option<Meta>, WatchError> {
        let table = match self.read()?.open_table(META) {
            Ok(table) => table,
            Err(TableError::TableDoesNotExist(_)) => return Ok(None),
            Err(error) => return Err(self.failed(error)),
        };
        let stored = table.get("state").map_err(|e| self.failed(e))?;
        stored
            .map(|bytes| serde_json::from_slice(bytes.value()))
            .transpose()
            .map_err(|error| self.failed(error))
    }

    /// How far each file has been read.
    pub fn files<P: serde::de::DeserializeOwned>(&self) -> Result<BTreeMap<String, P>, WatchError> {
        let table = match self.read()?.open_table(FILES) {
            Ok(table) => table,
            Err(TableError::TableDoesNotExist(_)) => return Ok(BTreeMap::new()),
            Err(error) => return Err(self.failed(error)),
        };
        let mut files = BTreeMap::new();
        for row in table.iter().map_err(|e| self.failed(e))? {
            let (path, position) = row.map_err(|e| self.failed(e))?;
            let position = serde_json::from_slice(position.value()).map_err(|e| self.failed(e))?;
            files.insert(path.value().to_owned(), position);
        }
        Ok(files)
    }

    fn parts(&self, transaction: &ReadTransaction) -> Result<Vec<Part>, WatchError> {
        let tables = transaction.list_tables().map_err(|e| self.failed(e))?;
        Ok(tables.filter_map(|table| part_of(table.name())).collect())
    }

    /// One transaction: what came since the last one, the positions that changed (`None`
    /// for a file that is gone), and the rest. Parts that lie before the next look become
    /// one, epochs before its window are dropped, and accounts beyond `accounts_max`.
    /// Returns the accounts' exchanges that were dropped because they lie too far ahead.
    pub fn commit<P: Serialize>(
        &self,
        deltas: &Deltas,
        files: &BTreeMap<String, Option<P>>,
        meta: &mut Meta,
        bounds: &Bounds,
    ) -> Result<(), WatchError> {
        self.commit_with(deltas, files, meta, bounds, |_, _| Ok(()))
    }

    /// As [`commit`](Self::commit), with something more in the same transaction, which is
    /// done once the parts are as they are to be.
    pub fn commit_with<P: Serialize>(
        &self,
        deltas: &Deltas,
        files: &BTreeMap<String, Option<P>>,
        meta: &mut Meta,
        bounds: &Bounds,
        also: impl FnOnce(&WriteTransaction, &mut Meta) -> Result<(), WatchError>,
    ) -> Result<(), WatchError> {
        let before = self.read()?;
        let transaction = self.write()?;
        let added = deltas.by_part();
        for (&part, pieces) in &added {
            let pieces: Vec<(&str, Piece)> =
                pieces.iter().map(|(account, piece)| (*account, Piece::clone(piece))).collect();
            self.add(&transaction, Some(&before), part, pieces)?;
        }
        drop(added);
        let mut parts = self.parts(&before)?;
        parts.extend(deltas.by_part().keys());
        parts.sort_unstable();
        parts.dedup();
        for &part in &parts {
            let (epoch, number) = part;
            let name = table_name(part);
            if epoch < bounds.oldest || bounds.is_too_far(epoch, &parts) {
                let table = Pieces::new(&name);
                meta.counts.ahead += match epoch < bounds.oldest {
                    true => 0,
                    false => self.exchanges(&transaction, part)?,
                };
                transaction.delete_table(table).map_err(|e| self.failed(e))?;
            } else if number > 0 && bounds.is_before_look(part) {
                self.fold(&transaction, part)?;
            }
        }
        for &(epoch, number) in &parts {
            if number == 0 && epoch >= bounds.oldest {
                self.prune(&transaction, (epoch, 0), meta, bounds)?;
            }
        }
        meta.limits = meta.limits.split_off(&bounds.oldest);
        also(&transaction, meta)?;
        {
            let mut table = transaction.open_table(FILES).map_err(|e| self.failed(e))?;
            for (path, position) in files {
                match position {
                    Some(position) => {
                        let bytes = serde_json::to_vec(position).map_err(|e| self.failed(e))?;
                        table
                            .insert(path.as_str(), bytes.as_slice())
                            .map_err(|e| self.failed(e))?;
                    }
                    None => {
                        table.remove(path.as_str()).map_err(|e| self.failed(e))?;
                    }
                }
            }
            let mut table = transaction.open_table(META).map_err(|e| self.failed(e))?;
            let bytes = serde_json::to_vec(&meta).map_err(|e| self.failed(e))?;
            table.insert("state", bytes.as_slice()).map_err(|e| self.failed(e))?;
        }
        transaction.commit().map_err(|e| self.failed(e))
    }

    /// Adds pieces, in the order of their accounts, to those that are there; `before` is
    /// where those are looked up, unless nothing was committed since they were written.
    fn add(
        &self,
        transaction: &WriteTransaction,
        before: Option<&ReadTransaction>,
        part: Part,
        pieces: Vec<(&str, Piece)>,
    ) -> Result<(), WatchError> {
        let name = table_name(part);
        let definition = Pieces::new(&name);
        let known = match before.map(|before| before.open_table(definition)) {
            None | Some(Err(TableError::TableDoesNotExist(_))) => None,
            Some(Ok(table)) => Some(table),
            Some(Err(error)) => return Err(self.failed(error)),
        };
        let mut table = transaction.open_table(definition).map_err(|e| self.failed(e))?;
        let mut pieces = pieces.into_iter();
        loop {
            let chunk: Vec<(&str, Piece)> = pieces.by_ref().take(ACCOUNTS_AT_ONCE).collect();
            if chunk.is_empty() {
                return Ok(());
            }
            let values: Vec<Result<Vec<u8>, WatchError>> = chunk
                .into_par_iter()
                .map(|(account, mut piece)| {
                    let earlier = match &known {
                        Some(known) => known.get(account).map_err(|e| self.failed(e))?,
                        None => None,
                    };
                    if let Some(earlier) = earlier {
                        piece.merge(&decoded(earlier.value()).map_err(|e| self.failed(e))?);
                    }
                    let mut row = (account.len() as u32).to_le_bytes().to_vec();
                    row.extend_from_slice(account.as_bytes());
                    piece.write(&mut row);
                    Ok(row)
                })
                .collect();
            for row in values {
                let row = row?;
                let (account, value) = split_row(&row).ok_or_else(|| self.failed("a row"))?;
                table.insert(account, value).map_err(|e| self.failed(e))?;
            }
        }
    }

    /// Puts a step's own part into that of its epoch. The epoch's is written anew, in the
    /// order of its accounts: pages are full then, where accounts that are put between
    /// others leave them half empty.
    fn fold(&self, transaction: &WriteTransaction, part: Part) -> Result<(), WatchError> {
        let (step, epoch) = (table_name(part), table_name((part.0, 0)));
        let [step, epoch] = [Pieces::new(&step), Pieces::new(&epoch)];
        {
            let open = |table| transaction.open_table(table).map_err(|e| self.failed(e));
            let (step, epoch, mut folded) = (open(step)?, open(epoch)?, open(FOLDED)?);
            let mut added = step.iter().map_err(|e| self.failed(e))?.peekable();
            let mut known = epoch.iter().map_err(|e| self.failed(e))?.peekable();
            let mut end =
                folded.upper_bound_mut(Bound::<&str>::Unbounded).map_err(|e| self.failed(e))?;
            loop {
                let chunk = merged(&mut added, &mut known).map_err(|e| self.failed(e))?;
                if chunk.is_empty() {
                    break;
                }
                let rows: Vec<Result<(String, Vec<u8>), String>> =
                    chunk.into_par_iter().map(|(account, two)| Ok((account, sum(two)?))).collect();
                for row in rows {
                    let (account, value) = row.map_err(|e| self.failed(e))?;
                    end.insert_before(account.as_str(), value.as_slice())
                        .map_err(|e| self.failed(e))?;
                }
            }
            end.close().map_err(|e| self.failed(e))?;
        }
        transaction.delete_table(step).map_err(|e| self.failed(e))?;
        transaction.delete_table(epoch).map_err(|e| self.failed(e))?;
        transaction.rename_table(FOLDED, epoch).map_err(|e| self.failed(e))
    }

    fn exchanges(&self, transaction: &WriteTransaction, part: Part) -> Result<u64, WatchError> {
        let name = table_name(part);
        let table = transaction.open_table(Pieces::new(&name)).map_err(|e| self.failed(e))?;
        let mut sum = 0;
        for row in table.iter().map_err(|e| self.failed(e))? {
            let (_, value) = row.map_err(|e| self.failed(e))?;
            sum += u64::from(decoded(value.value()).map_err(|e| self.failed(e))?.exchanges());
        }
        Ok(sum)
    }

    /// Drops the accounts of an epoch that are too many. Those with the smallest keyed
    /// hashes stay: an account that stays in the end has never been dropped, so that it
    /// does not matter in which order they came.
    fn prune(
        &self,
        transaction: &WriteTransaction,
        part: Part,
        meta: &mut Meta,
        bounds: &Bounds,
    ) -> Result<(), WatchError> {
        let name = table_name(part);
        let mut table = transaction.open_table(Pieces::new(&name)).map_err(|e| self.failed(e))?;
        let accounts = table.len().map_err(|e| self.failed(e))?;
        let slack = if bounds.is_exact { 0 } else { bounds.accounts_max / 8 };
        if accounts <= bounds.accounts_max.saturating_add(slack) {
            return Ok(());
        }
        let hash = |account: &str| self.observer.hash(Link::Account, account);
        let mut hashes = Vec::with_capacity(accounts as usize);
        for row in table.iter().map_err(|e| self.failed(e))? {
            hashes.push(hash(row.map_err(|e| self.failed(e))?.0.value()));
        }
        let (_, limit, _) = hashes.select_nth_unstable(bounds.accounts_max as usize);
        let limit = *limit;
        let mut dropped = 0;
        let keeps = |account: &str, value: &[u8]| {
            let keeps = hash(account) < limit;
            if !keeps {
                dropped += decoded(value).map_or(0, |piece| u64::from(piece.exchanges()));
            }
            keeps
        };
        table.retain(keeps).map_err(|e| self.failed(e))?;
        meta.counts.accounts_full += dropped;
        let known = meta.limits.entry(part.0).or_insert(limit);
        *known = limit.min(*known);
        Ok(())
    }

    /// The accounts of the window that ends with the epoch `last`, as far as they are
    /// before the next look.
    pub fn members(&self, last: i64, calendar: &Calendar) -> Result<Vec<Member>, WatchError> {
        let transaction = self.read()?;
        let mut rows = Vec::new();
        for i in 0..EPOCHS {
            let name = table_name((last - (EPOCHS - 1 - i) as i64, 0));
            let table = match transaction.open_table(Pieces::new(&name)) {
                Ok(table) => table,
                Err(TableError::TableDoesNotExist(_)) => {
                    rows.push(None);
                    continue;
                }
                Err(error) => return Err(self.failed(error)),
            };
            let mut range = table.range::<&str>(..).map_err(|e| self.failed(e))?;
            let head = range.next().transpose().map_err(|e| self.failed(e))?;
            rows.push(Some((range, head)));
        }
        let mut members = Vec::new();
        let mut ahead: Vec<(String, [Vec<u8>; EPOCHS])> = Vec::new();
        loop {
            let heads = rows.iter().flatten().filter_map(|(_, head)| head.as_ref());
            let next = heads.map(|(account, _)| account.value()).min().map(str::to_owned);
            if let Some(account) = &next {
                let mut values: [Vec<u8>; EPOCHS] = Default::default();
                for (slot, row) in values.iter_mut().zip(&mut rows) {
                    let Some((range, head)) = row else { continue };
                    if head.as_ref().is_some_and(|(a, _)| a.value() == account)
                        && let Some((_, value)) = head.take()
                    {
                        *slot = value.value().to_vec();
                        *head = range.next().transpose().map_err(|e| self.failed(e))?;
                    }
                }
                ahead.push((account.clone(), values));
            }
            if ahead.len() >= ACCOUNTS_AT_ONCE || next.is_none() {
                let made: Result<Vec<Member>, String> = ahead
                    .par_drain(..)
                    .map(|(account_id, values)| {
                        let mut pieces: [Option<Piece>; EPOCHS] = Default::default();
                        for (piece, value) in pieces.iter_mut().zip(&values) {
                            *piece = (!value.is_empty()).then(|| decoded(value)).transpose()?;
                        }
                        let profile = profile(pieces, calendar);
                        Ok(Member { account_id, profile, record: None })
                    })
                    .collect();
                members.extend(made.map_err(|e| self.failed(e))?);
            }
            if next.is_none() {
                return Ok(members);
            }
        }
    }

    /// What it takes.
    pub fn size(&self) -> Result<StateSize, WatchError> {
        let transaction = self.read()?;
        let file_bytes = std::fs::metadata(&self.path).map_err(WatchError::io(&self.path))?.len();
        let mut size = StateSize { file_bytes, ..StateSize::default() };
        for part in self.parts(&transaction)? {
            let name = table_name(part);
            let table = transaction.open_table(Pieces::new(&name)).map_err(|e| self.failed(e))?;
            let stats = table.stats().map_err(|e| self.failed(e))?;
            size.pieces += table.len().map_err(|e| self.failed(e))?;
            size.piece_bytes +=
                stats.stored_bytes() + stats.metadata_bytes() + stats.fragmented_bytes();
        }
        Ok(size)
    }
}

/// What stays at a commit.
pub(crate) struct Bounds {
    /// The first epoch of the next look's window.
    pub oldest: i64,
    /// The epoch and the step in it (from 1) that begins with the next look.
    pub next: Part,
    pub accounts_max: u64,
    /// No more accounts than that, at all; for a look.
    pub is_exact: bool,
}

impl Bounds {
    pub fn of(clock: &Clock, settings: &WatchSettings, is_exact: bool) -> Self {
        let looks = settings.pace.looks();
        Bounds {
            oldest: clock.oldest_epoch().unwrap_or(i64::MIN),
            next: clock.state.next.map_or((i64::MIN, 0), |next| {
                (clock.epoch(next), 1 + next.rem_euclid(looks) as u32)
            }),
            accounts_max: settings.accounts_max,
            is_exact,
        }
    }

    fn is_before_look(&self, part: Part) -> bool {
        part < self.next
    }

    /// Whether more than [`AHEAD_MAX`] epochs after the next look's are nearer.
    fn is_too_far(&self, epoch: i64, parts: &[Part]) -> bool {
        let mut nearer: Vec<i64> =
            parts.iter().map(|p| p.0).filter(|e| (self.next.0 + 1..epoch).contains(e)).collect();
        nearer.dedup();
        nearer.len() >= AHEAD_MAX
    }
}

/// An account of two parts, with its piece in each.
type Both = (String, [Option<Vec<u8>>; 2]);

/// The next accounts of two parts, at most [`ACCOUNTS_AT_ONCE`]; none at the end.
fn merged<'a>(
    added: &mut Peekable<Range<'a, &'static str, &'static [u8]>>,
    known: &mut Peekable<Range<'a, &'static str, &'static [u8]>>,
) -> Result<Vec<Both>, StorageError> {
    let mut chunk = Vec::new();
    while chunk.len() < ACCOUNTS_AT_ONCE {
        let account = |row: &Result<(AccessGuard<'_, &str>, _), _>| {
            row.as_ref().map_or_else(|_| String::new(), |(account, _)| account.value().to_owned())
        };
        let heads = [added.peek().map(account), known.peek().map(account)];
        let Some(account) = heads.iter().flatten().min().cloned() else { break };
        let mut pieces = [None, None];
        for ((piece, rows), head) in pieces.iter_mut().zip([&mut *added, &mut *known]).zip(heads) {
            if head.as_ref() == Some(&account)
                && let Some(row) = rows.next()
            {
                *piece = Some(row?.1.value().to_vec());
            }
        }
        chunk.push((account, pieces));
    }
    Ok(chunk)
}

/// The stored form of an account's pieces in two parts together.
fn sum([added, known]: [Option<Vec<u8>>; 2]) -> Result<Vec<u8>, String> {
    match (added, known) {
        (Some(added), Some(known)) => {
            let mut piece = decoded(&added)?;
            piece.merge(&decoded(&known)?);
            Ok(encoded(&piece))
        }
        (one, other) => Ok(one.or(other).unwrap_or_default()),
    }
}

fn split_row(row: &[u8]) -> Option<(&str, &[u8])> {
    let (length, rest) = row.split_first_chunk()?;
    let (account, value) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    Some((std::str::from_utf8(account).ok()?, value))
}

fn broken(error: &dyn std::fmt::Display) -> String {
    let error = error.to_string();
    // What the disk does not take or give says nothing of what is on it.
    if error.contains("I/O error") {
        return error;
    }
    format!(
        "{error}; it can't be read as it is. Move the folder away and begin anew: a new state \
         counts again what its sources still hold"
    )
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use arrow::array::StringViewArray;
    use stillwatch_detect::calendar::Grid;
    use stillwatch_detect::observe::Glance;
    use stillwatch_exchange::Time;
    use stillwatch_exchange::time::DAY_US;

    use super::*;
    use crate::deltas::{Placed, Seen};

    const EPOCH: i64 = 2_930;

    fn pace() -> Pace {
        Pace::new(7 * DAY_US, DAY_US, None).unwrap()
    }

    fn open(folder: &Path) -> (Store, Meta) {
        Store::open(folder, pace(), Key::derive(b"golden")).unwrap()
    }

    /// An exchange of every account in each of some parts.
    fn deltas(accounts: impl Iterator<Item = u64>, parts: &[u32]) -> Deltas {
        let observer = Observer::new(Key::derive(b"golden"));
        let names: Vec<String> = accounts.map(|n| format!("account-{n}")).collect();
        let grid: Grid = pace().grid;
        let mut deltas = Deltas::new(2);
        for &part in parts {
            let glances = names.iter().enumerate().map(|(row, name)| Glance {
                time: Time(grid.start(EPOCH).0 + i64::from(part) * DAY_US + row as i64),
                account: observer.hash(Link::Account, name),
                row: row as u64,
                client: 7 << 40,
                output_tokens: 9,
                ..Glance::default()
            });
            let seen = Seen {
                accounts: StringViewArray::from_iter_values(&names),
                glances: glances.collect(),
            };
            let place = |_: &Glance| Some(Placed { part: (EPOCH, part), releases: &[] });
            deltas.add(&[seen], grid, &place);
        }
        deltas
    }

    fn bounds(next: Part, accounts_max: u64) -> Bounds {
        Bounds { oldest: EPOCH - 3, next, accounts_max, is_exact: true }
    }

    fn files() -> BTreeMap<String, Option<serde_json::Value>> {
        [("logs/a.jsonl".to_owned(), Some(serde_json::json!({ "bytes": 7 })))].into()
    }

    /// Everything that is stored, as text.
    fn told(store: &Store) -> String {
        let transaction = store.read().unwrap();
        let mut told = format!("{}\n", serde_json::to_string(&store.meta().unwrap()).unwrap());
        for (path, position) in store.files::<serde_json::Value>().unwrap() {
            writeln!(told, "{path} {position}").unwrap();
        }
        let mut parts = store.parts(&transaction).unwrap();
        parts.sort_unstable();
        for part in parts {
            let name = table_name(part);
            let table = transaction.open_table(Pieces::new(&name)).unwrap();
            for row in table.iter().unwrap() {
                let (account, value) = row.unwrap();
                write!(told, "{name} {} ", account.value()).unwrap();
                value.value().iter().for_each(|byte| write!(told, "{byte:02x}").unwrap());
                told.push('\n');
            }
        }
        told
    }

    /// A change here is a change of the stored form: it needs another [`VERSION`].
    #[test]
    fn a_checkpoint_is_stored_as_in_the_golden_file() {
        let folder = tempfile::tempdir().unwrap();
        let (store, mut meta) = open(folder.path());
        let mut clock = Clock::new(pace(), meta.clock.clone());
        clock.count(70_321, 3);
        clock.state.next = Some(7 * EPOCH + 2);
        meta.clock = clock.state;
        meta.counts.refused.insert("time_missing".to_owned(), 2);
        store.commit(&deltas(0..3, &[0, 3]), &files(), &mut meta, &bounds((EPOCH, 3), 9)).unwrap();
        let told = told(&store);
        let golden = include_str!("../tests/golden/checkpoint_v2.txt");
        assert_eq!(told, golden, "\nwritten now:\n{told}");
        drop(store);
        assert_eq!(open(folder.path()).1, meta, "what was written is read");
    }

    #[test]
    fn parts_become_one_when_the_look_is_over() {
        let folder = tempfile::tempdir().unwrap();
        let (store, mut meta) = open(folder.path());
        let both = |store: &Store| -> Vec<u32> {
            let calendar = pace().grid.calendar(EPOCH, &[]);
            let members = store.members(EPOCH, &calendar).unwrap();
            let seen = members.iter().map(|m| m.profile.exchanges(0..EPOCHS) as u32);
            seen.collect()
        };
        let mut commit = |deltas: Deltas, next: Part| {
            store.commit(&deltas, &files(), &mut meta, &bounds(next, 99)).unwrap();
            both(&store)
        };
        assert_eq!(commit(deltas(0..3, &[0, 2]), (EPOCH, 2)), [1, 1, 1]);
        assert_eq!(commit(deltas(1..4, &[0, 2]), (EPOCH, 2)), [1, 2, 2, 1]);
        assert_eq!(commit(Deltas::new(1), (EPOCH, 3)), [2, 4, 4, 2]);
        assert_eq!(commit(Deltas::new(1), (EPOCH + 1, 1)), [2, 4, 4, 2]);
    }

    /// Two thirds full, as pages are when accounts come between others, is half as much
    /// again.
    #[test]
    fn pages_are_full_when_the_look_is_over() {
        let folder = tempfile::tempdir().unwrap();
        let (store, mut meta) = open(folder.path());
        for accounts in [0..3_000, 1_000..4_000] {
            let deltas = deltas(accounts, &[2]);
            store.commit(&deltas, &files(), &mut meta, &bounds((EPOCH, 2), 9_000)).unwrap();
        }
        store.commit(&Deltas::new(1), &files(), &mut meta, &bounds((EPOCH, 3), 9_000)).unwrap();
        let name = table_name((EPOCH, 0));
        let table = store.read().unwrap().open_table(Pieces::new(&name)).unwrap();
        let stats = table.stats().unwrap();
        assert_eq!(table.len().unwrap(), 4_000);
        assert!(stats.fragmented_bytes() * 10 < stats.stored_bytes(), "{stats:?}");
    }

    #[test]
    fn another_version_of_the_form_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (store, mut meta) = open(folder.path());
        meta.version = VERSION - 1;
        let deltas = deltas(0..3, &[0]);
        store.commit(&deltas, &files(), &mut meta, &bounds((EPOCH, 1), 9)).unwrap();
        drop(store);
        let refused = Store::open(folder.path(), pace(), Key::derive(b"golden"));
        let why = refused.err().unwrap().to_string();
        assert!(why.contains("another version of its form (1, not 2)"), "{why}");
    }

    #[test]
    fn which_accounts_give_way_does_not_depend_on_the_order() {
        let kept = |orders: &[Vec<u64>]| {
            let folder = tempfile::tempdir().unwrap();
            let (store, mut meta) = open(folder.path());
            for accounts in orders {
                let deltas = deltas(accounts.iter().copied(), &[0]);
                store.commit(&deltas, &files(), &mut meta, &bounds((EPOCH, 1), 50)).unwrap();
            }
            let calendar = pace().grid.calendar(EPOCH, &[]);
            let members = store.members(EPOCH, &calendar).unwrap();
            assert!(meta.counts.accounts_full > 0);
            members.into_iter().map(|m| m.account_id).collect::<Vec<_>>()
        };
        let forth: Vec<u64> = (0..300).collect();
        let back: Vec<u64> = (0..300).rev().collect();
        let once = kept(std::slice::from_ref(&forth));
        assert_eq!(once.len(), 50);
        assert_eq!(kept(&back.chunks(40).map(<[u64]>::to_vec).collect::<Vec<_>>()), once);
        assert_eq!(kept(&forth.chunks(70).map(<[u64]>::to_vec).collect::<Vec<_>>()), once);
    }

    #[test]
    fn epochs_far_ahead_give_way() {
        let parts: Vec<Part> = (0..40).map(|n| (EPOCH + 10 * n, 1)).collect();
        let bounds = bounds((EPOCH, 1), 9);
        let kept = parts.iter().filter(|part| !bounds.is_too_far(part.0, &parts)).count();
        assert_eq!(kept, 1 + AHEAD_MAX);
    }

    #[test]
    fn fuzz_stored_values() {
        let folder = tempfile::tempdir().unwrap();
        let (store, mut meta) = open(folder.path());
        store.commit(&deltas(0..1, &[0]), &files(), &mut meta, &bounds((EPOCH, 1), 9)).unwrap();
        let name = table_name((EPOCH, 0));
        let table = store.read().unwrap().open_table(Pieces::new(&name)).unwrap();
        let value = table.get("account-0").unwrap().unwrap().value().to_vec();
        let meta = serde_json::to_vec(&meta).unwrap();
        bolero::check!().with_type::<(Vec<u8>, Vec<(u16, u8)>)>().for_each(|(bytes, changes)| {
            let _ = decoded(bytes);
            let (mut value, mut meta) = (value.clone(), meta.clone());
            for &(at, byte) in changes {
                let (a, b) = (usize::from(at) % value.len(), usize::from(at) % meta.len());
                (value[a], meta[b]) = (byte, byte);
            }
            let _ = decoded(&value);
            let _ = serde_json::from_slice::<Meta>(&meta);
            let _ = serde_json::from_slice::<crate::feed::Position>(bytes);
            let _ = part_of(&String::from_utf8_lossy(bytes));
        });
    }
}

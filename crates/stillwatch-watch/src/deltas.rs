//! Deltas: what came since the last checkpoint, account by account, in memory.
//!
//! Bound: [`Deltas::bytes`] grows until the caller takes a checkpoint, which empties them.

use std::collections::BTreeMap;

use arrow::array::StringViewArray;
use hashbrown::HashTable;
use rayon::prelude::*;
use stillwatch_detect::calendar::Grid;
use stillwatch_detect::observe::Glance;
use stillwatch_detect::piece::Piece;

/// Part of an epoch: the epoch, and 0 for what lies before the next look, or 1 and the
/// number of the step in the epoch for what lies after it.
pub(crate) type Part = (i64, u32);

/// What was seen of some rows, and whose they are.
#[derive(Debug)]
pub(crate) struct Seen {
    pub accounts: StringViewArray,
    pub glances: Vec<Glance>,
}

struct Entry {
    hash: u64,
    account: Box<str>,
    /// Few: an account is rarely in more than two parts between checkpoints.
    pieces: Vec<(Part, Piece)>,
}

#[derive(Default)]
struct Shard {
    entries: HashTable<Entry>,
    /// Pieces, and what they are known to take beyond an empty one.
    pieces: usize,
}

/// See the module's head.
pub(crate) struct Deltas {
    shards: Vec<Shard>,
}

/// What a piece with some exchanges takes, in bytes; its account and its place in the
/// tables beside it. A full one takes three times as much.
const PIECE_BYTES: usize = 900;

/// Where a row goes, and what its piece needs to know.
pub(crate) struct Placed<'a> {
    pub part: Part,
    pub releases: &'a [(i64, u64)],
}

impl Deltas {
    pub fn new(shards: usize) -> Self {
        Deltas { shards: (0..shards.max(1)).map(|_| Shard::default()).collect() }
    }

    /// Bytes in memory, about.
    pub fn bytes(&self) -> usize {
        self.shards.iter().map(|s| s.pieces * PIECE_BYTES).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.shards.iter().all(|s| s.pieces == 0)
    }

    /// Adds rows; `place` says where one goes, or that it is passed over.
    pub fn add<'a>(
        &mut self,
        seen: &[Seen],
        grid: Grid,
        place: &(impl Fn(&Glance) -> Option<Placed<'a>> + Sync),
    ) {
        let count = self.shards.len() as u64;
        self.shards.par_iter_mut().enumerate().for_each(|(number, shard)| {
            for rows in seen {
                for (row, glance) in rows.glances.iter().enumerate() {
                    if (glance.account >> 32) % count == number as u64
                        && let Some(placed) = place(glance)
                    {
                        shard.add(rows.accounts.value(row), glance, grid, &placed);
                    }
                }
            }
        });
    }

    /// Adds pieces that were made elsewhere; `hash` is the account's.
    pub fn merge(&mut self, hash: u64, account: &str, part: Part, piece: &Piece) {
        let count = self.shards.len() as u64;
        self.shards[((hash >> 32) % count) as usize].piece(hash, account, part).merge(piece);
    }

    /// The pieces of each part, by account.
    pub fn by_part(&self) -> BTreeMap<Part, Vec<(&str, &Piece)>> {
        let mut parts: BTreeMap<Part, Vec<(&str, &Piece)>> = BTreeMap::new();
        for entry in self.shards.iter().flat_map(|s| s.entries.iter()) {
            for (part, piece) in &entry.pieces {
                parts.entry(*part).or_default().push((&entry.account, piece));
            }
        }
        for pieces in parts.values_mut() {
            pieces.par_sort_unstable_by_key(|(account, _)| *account);
        }
        parts
    }

    pub fn clear(&mut self) {
        self.shards.iter_mut().for_each(|shard| *shard = Shard::default());
    }
}

impl Shard {
    fn add(&mut self, account: &str, glance: &Glance, grid: Grid, placed: &Placed<'_>) {
        let piece = self.piece(glance.account, account, placed.part);
        piece.add(glance, grid, placed.releases);
    }

    /// An account's piece of a part.
    fn piece(&mut self, hash: u64, account: &str, part: Part) -> &mut Piece {
        let entry = self
            .entries
            .entry(hash, |e| e.hash == hash && *e.account == *account, |e| e.hash)
            .or_insert_with(|| Entry { hash, account: account.into(), pieces: Vec::new() })
            .into_mut();
        let at = match entry.pieces.iter().position(|(known, _)| *known == part) {
            Some(at) => at,
            None => {
                self.pieces += 1;
                entry.pieces.reserve_exact(1);
                entry.pieces.push((part, Piece::default()));
                entry.pieces.len() - 1
            }
        };
        &mut entry.pieces[at].1
    }
}

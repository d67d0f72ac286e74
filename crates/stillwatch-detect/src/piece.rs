//! Piece: what an account did in one epoch, or in a part of one, kept by itself.
//!
//! A stream has no beginning and no end, and its window moves on: a profile of the
//! window is put together from the pieces of its epochs ([`profile`]), and falls apart
//! again where the oldest is dropped. Like a profile, a piece is a commutative monoid.
//! A profile of pieces is, byte for byte, the profile to which the same exchanges were
//! added one by one.
//!
//! Bound: that of a profile's epoch, and 24 bytes for each release near it, of which
//! there are at most [`PIECE_RELEASES`].

use stillwatch_exchange::Time;

use crate::calendar::{Calendar, EPOCHS, Grid, RELEASES};
use crate::observe::Glance;
use crate::profile::{
    Bytes, Epoch, PIVOT_AFTER_US, PIVOT_BEFORE_US, Pivot, Profile, ProfileError, put_signed,
    put_varint, seconds,
};

/// Releases near an epoch that a piece counts exchanges around: as many as the calendars
/// of all windows that the epoch is in can have, and some.
pub const PIECE_RELEASES: usize = EPOCHS * RELEASES;

/// What an account did in one epoch of a [`Grid`]; see the module's head.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Piece {
    /// Microseconds since the Unix epoch; meaningless while there are no exchanges.
    first_us: i64,
    last_us: i64,
    /// Traffic around releases: when, of which model, what; in that order.
    pivots: Vec<(i64, u64, Pivot)>,
    epoch: Box<Epoch>,
}

/// The releases near an epoch, in the order in which pieces keep them: when, and the
/// model's hash.
#[must_use]
pub fn releases_near(grid: Grid, epoch: i64, releases: &[(Time, u64)]) -> Vec<(i64, u64)> {
    let from = grid.start(epoch).0 - PIVOT_AFTER_US;
    let to = grid.start(epoch + 1).0 + PIVOT_BEFORE_US;
    let mut near: Vec<(i64, u64)> = releases
        .iter()
        .map(|(time, model)| (time.0, *model))
        .filter(|(time, _)| (from..to).contains(time))
        .collect();
    near.sort_unstable();
    near.dedup();
    let surplus = near.len().saturating_sub(PIECE_RELEASES);
    near.drain(..surplus);
    near
}

impl Piece {
    /// Adds what was seen of one exchange, which must lie in the piece's epoch;
    /// `releases` are those near it ([`releases_near`]).
    pub fn add(&mut self, seen: &Glance, grid: Grid, releases: &[(i64, u64)]) {
        let time_us = seen.time.0;
        if self.exchanges() == 0 {
            (self.first_us, self.last_us) = (time_us, time_us);
        } else {
            self.first_us = self.first_us.min(time_us);
            self.last_us = self.last_us.max(time_us);
        }
        for &(released, model) in releases {
            let mut pivot = Pivot::default();
            pivot.count(time_us - released, seen.model == model);
            if pivot != Pivot::default() {
                self.pivot(released, model, pivot);
            }
        }
        let (bin, slice) = grid.place(seen.time);
        self.epoch.add(seen, bin, slice);
    }

    fn pivot(&mut self, released: i64, model: u64, pivot: Pivot) {
        match self.pivots.binary_search_by_key(&(released, model), |p| (p.0, p.1)) {
            Ok(at) => self.pivots[at].2.merge(pivot),
            Err(at) if self.pivots.len() < PIECE_RELEASES => {
                self.pivots.insert(at, (released, model, pivot));
            }
            Err(_) => {}
        }
    }

    /// Adds another part of what the same account did in the same epoch.
    pub fn merge(&mut self, other: &Piece) {
        if other.exchanges() == 0 {
            return;
        }
        if self.exchanges() == 0 {
            *self = other.clone();
            return;
        }
        self.first_us = self.first_us.min(other.first_us);
        self.last_us = self.last_us.max(other.last_us);
        for &(released, model, pivot) in &other.pivots {
            self.pivot(released, model, pivot);
        }
        self.epoch.merge(&other.epoch);
    }

    /// How many exchanges it holds.
    #[must_use]
    pub fn exchanges(&self) -> u32 {
        self.epoch.exchanges
    }

    /// Bytes on the heap and off it, for memory accounting.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        size_of::<Self>()
            + self.pivots.capacity() * size_of::<(i64, u64, Pivot)>()
            + self.epoch.size_bytes()
    }

    /// Appends the stored form: the releases and then the epoch, packed. Golden file
    /// `tests/golden/piece_v2.txt`.
    pub fn write(&self, out: &mut Vec<u8>) {
        put_signed(out, self.first_us);
        put_signed(out, self.last_us.wrapping_sub(self.first_us));
        out.push(self.pivots.len() as u8);
        for (released, model, pivot) in &self.pivots {
            put_signed(out, released.wrapping_sub(self.first_us));
            out.extend_from_slice(&model.to_le_bytes());
            for count in [pivot.before, pivot.after, pivot.moved] {
                put_varint(out, u64::from(count));
            }
        }
        self.epoch.pack(seconds(self.first_us), out);
    }

    /// Reads the stored form.
    ///
    /// # Errors
    /// The bytes end early, go on, or hold more than a piece's bounds allow.
    pub fn read(bytes: &[u8]) -> Result<Self, ProfileError> {
        let mut b = Bytes(bytes);
        let first_us = b.signed()?;
        let last_us = first_us.wrapping_add(b.signed()?);
        let releases = usize::from(b.u8()?);
        if releases > PIECE_RELEASES {
            return Err(ProfileError);
        }
        let mut pivots: Vec<(i64, u64, Pivot)> = Vec::with_capacity(releases);
        for _ in 0..releases {
            let (released, model) = (first_us.wrapping_add(b.signed()?), b.u64()?);
            let mut count = || u16::try_from(b.varint()?).map_err(|_| ProfileError);
            let pivot = Pivot { before: count()?, after: count()?, moved: count()? };
            if pivots.last().is_some_and(|last| (last.0, last.1) >= (released, model)) {
                return Err(ProfileError);
            }
            pivots.push((released, model, pivot));
        }
        let epoch = Box::new(Epoch::unpack(seconds(first_us), &mut b)?);
        if b.0.is_empty() {
            Ok(Piece { first_us, last_us, pivots, epoch })
        } else {
            Err(ProfileError)
        }
    }
}

/// The profile of an account over the epochs of a calendar, from their pieces, the
/// oldest first.
#[must_use]
pub fn profile(pieces: [Option<Piece>; EPOCHS], calendar: &Calendar) -> Profile {
    let seen = || pieces.iter().flatten().filter(|p| p.exchanges() > 0);
    let ends = (
        seen().map(|p| p.first_us).min().unwrap_or(0),
        seen().map(|p| p.last_us).max().unwrap_or(0),
    );
    let mut pivots = [Pivot::default(); RELEASES];
    for (pivot, release) in pivots.iter_mut().zip(calendar.releases()) {
        for (_, _, part) in
            seen().flat_map(|p| &p.pivots).filter(|(time, model, _)| (*time, *model) == *release)
        {
            pivot.merge(*part);
        }
    }
    let epochs = pieces.map(|piece| piece.filter(|p| p.exchanges() > 0).map(|p| p.epoch));
    Profile::of_epochs(epochs, ends, pivots)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use stillwatch_exchange::time::{DAY_US, HOUR_US};

    use super::*;
    use crate::observe::{Capability, Flags};

    const EPOCH_US: i64 = 36 * HOUR_US;

    fn grid() -> Grid {
        Grid::new(EPOCH_US).unwrap()
    }

    /// Of four epochs and the one before. Words come again or don't, and lack.
    fn glances() -> impl Strategy<Value = Vec<Glance>> {
        let start = grid().start(100).0;
        prop::collection::vec(
            (-EPOCH_US..4 * EPOCH_US, 0u64..9, any::<u64>()).prop_map(move |(at, few, row)| {
                let hash = few.wrapping_mul(0x9e37_79b9_7f4a_7c15);
                let word = |place: u32| hash.rotate_left(8 * place) as u32 % 3 * (hash as u32 | 1);
                Glance {
                    time: Time(start + at),
                    row,
                    whole: hash,
                    words: (hash >> 40) as u16,
                    client: hash,
                    system: row,
                    network: hash ^ row,
                    conversation: few / 3,
                    model: few % 3,
                    output_tokens: row as u32 % 1_000,
                    flags: Flags(row as u16 & 0xfff),
                    capability: CAPABILITIES_USED[row as usize % 3],
                    opening: word(0),
                    closing: word(1),
                    bands: std::array::from_fn(|band| word(2 + band as u32)),
                    topic: std::array::from_fn(|i| match row % 4 {
                        0 => few as u8,
                        1 => 1 + i as u8,
                        _ => (row >> (3 * i)) as u8 % 5,
                    }),
                    ..Glance::default()
                }
            }),
            0..90,
        )
    }

    const CAPABILITIES_USED: [Capability; 3] =
        [Capability::General, Capability::Coding, Capability::DataGeneration];

    fn releases() -> Vec<(Time, u64)> {
        let start = grid().start(100).0;
        [-DAY_US, HOUR_US, DAY_US, 2 * DAY_US, 3 * DAY_US, 5 * DAY_US, 40 * DAY_US]
            .iter()
            .enumerate()
            .map(|(model, at)| (Time(start + at), model as u64 % 3))
            .collect()
    }

    fn piece(epoch: i64, seen: &[Glance]) -> Piece {
        let near = releases_near(grid(), epoch, &releases());
        let mut piece = Piece::default();
        for glance in seen.iter().filter(|g| grid().epoch(g.time) == epoch) {
            piece.add(glance, grid(), &near);
        }
        piece
    }

    proptest! {
        #[test]
        fn pieces_make_the_profile_of_the_window(seen in glances(), cut in 0usize..90) {
            let calendar = grid().calendar(103, &releases());
            let within: Vec<Glance> =
                seen.iter().filter(|g| grid().epoch(g.time) >= 100).copied().collect();
            let mut whole = Profile::default();
            within.iter().for_each(|g| whole.add_seen(g, &calendar));
            let (left, right) = within.split_at(cut.min(within.len()));
            let made = profile(
                std::array::from_fn(|i| {
                    let mut sum = piece(100 + i as i64, right);
                    sum.merge(&piece(100 + i as i64, left));
                    (sum.exchanges() > 0).then_some(sum)
                }),
                &calendar,
            );
            let bytes = |profile: &Profile| {
                let mut out = Vec::new();
                profile.write(&mut out);
                out
            };
            if !within.is_empty() {
                prop_assert_eq!(bytes(&made), bytes(&whole));
            }
        }

        #[test]
        fn the_stored_form_goes_there_and_back(seen in glances()) {
            for epoch in 99..104 {
                let whole = piece(epoch, &seen);
                let mut bytes = Vec::new();
                whole.write(&mut bytes);
                prop_assert_eq!(Piece::read(&bytes), Ok(whole));
                for end in [0, bytes.len() / 2, bytes.len() - 1] {
                    prop_assert_eq!(Piece::read(&bytes[..end]), Err(ProfileError));
                }
            }
        }
    }
}

//! Packed: the form of an epoch in which a watch keeps it, for a long time and of many
//! accounts.
//!
//! Most of an epoch is hashes, which nothing makes shorter; all else is few and small. So
//! hashes are written as they are, each once, and of the rest what can't be told from
//! what stands before it:
//!
//! * numbers are varints (LEB128), and those of a list of which most are zero have a bit
//!   each that says which aren't;
//! * an exchange of the sample names the values of the sets that it came with, and says
//!   which of its own are those of the one before it;
//! * counts are what goes beyond the exchanges of the sample: nothing, where it has all.
//!
//! In order: sets, sample, counts, bins. Whatever an epoch holds is read as it was
//! written; the golden file is `tests/golden/piece_v2.txt`.

use super::{
    BITMAP_WORDS, Bytes, COUNT_BITS, COUNT_MAX, Epoch, HASH_BITS, KINDS, Kind, ON_THE_MARK_S,
    ProfileError, SAMPLE, Sampled, Sets, tag,
};
use crate::calendar::{BINS, SLICES};
use crate::observe::{BANDS, CAPABILITIES, Flags, TOPIC_BUCKETS};

/// What an entry of a set says instead of a count that has no room beside its hash.
const COUNT_FOLLOWS: u64 = 15;
/// Words of a sampled exchange that are hashes: opening, closing, bands.
const WORDS: usize = 2 + BANDS;
/// What an exchange says of each of them, two bits each; nothing, where it has none.
const AS_BEFORE: u16 = 1;
const FOLLOWS: u16 = 2;
/// What it says besides.
const SAME_SESSION: u16 = 1 << (2 * WORDS);
const SAME_MARKS: u16 = SAME_SESSION << 1;
const SAME_TOPIC: u16 = SAME_SESSION << 2;
const FULL_TOPIC: u16 = SAME_SESSION << 3;
const _: () = assert!(2 * WORDS + 4 == u16::BITS as usize);
/// The sets that an exchange's tags are of.
const TAGGED: [Kind; 3] = [Kind::Client, Kind::System, Kind::Model];
/// What an exchange says of a tag: none, which entry of its set (from 1), or this.
const TAG_FOLLOWS: u8 = 4;
const TAG_STATES: u8 = TAG_FOLLOWS + 1;
const _: () = {
    assert!(Kind::Client.bound() < TAG_FOLLOWS as usize);
    assert!(Kind::System.bound() < TAG_FOLLOWS as usize);
    assert!(Kind::Model.bound() < TAG_FOLLOWS as usize);
};
/// Flags that are counted, in the order of [`Epoch::counts`] after the exchanges.
const COUNTED: [u16; 10] = [
    Flags::FOLLOW_UP,
    Flags::LIMITED,
    Flags::FAILED,
    Flags::LOGPROBS,
    Flags::BIASED,
    Flags::REASONING,
    Flags::GRADING,
    Flags::TOOLS,
    Flags::TRUNCATED,
    Flags::CHOICES,
];
/// From so many bins on they are written as a bitmap.
const BITMAP_FROM: usize = BINS / 8;
const HASH_MASK: u64 = (1 << HASH_BITS) - 1;
/// Of an entry: its hash, and four bits.
const ENTRY_BYTES: usize = (HASH_BITS as usize + 4) / 8;
const _: () = assert!(TOPIC_BUCKETS == u16::BITS as usize && BINS == u8::MAX as usize + 1);

pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Small where a number is near zero, on either side.
pub(crate) fn put_signed(out: &mut Vec<u8>, value: i64) {
    put_varint(out, ((value << 1) ^ (value >> 63)) as u64);
}

/// Which are not zero, and those.
fn put_sparse(out: &mut Vec<u8>, values: &[u64]) {
    let filled = values.iter().enumerate().map(|(i, value)| u64::from(*value != 0) << i);
    put_varint(out, filled.sum());
    values.iter().filter(|value| **value != 0).for_each(|value| put_varint(out, *value));
}

impl Bytes<'_> {
    pub(crate) fn varint(&mut self) -> Result<u64, ProfileError> {
        let mut value = 0;
        for shift in (0..u64::BITS).step_by(7) {
            let byte = u64::from(self.u8()?);
            let part = byte & 0x7f;
            if part << shift >> shift != part {
                return Err(ProfileError);
            }
            value |= part << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(ProfileError)
    }

    pub(crate) fn signed(&mut self) -> Result<i64, ProfileError> {
        let value = self.varint()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    fn sparse<const N: usize>(&mut self) -> Result<[u64; N], ProfileError> {
        let filled = self.varint()?;
        if filled >> N != 0 {
            return Err(ProfileError);
        }
        let mut values = [0; N];
        for (i, value) in values.iter_mut().enumerate() {
            if filled >> i & 1 != 0 {
                *value = self.varint()?;
            }
        }
        Ok(values)
    }
}

fn narrow<T: TryFrom<u64>>(value: u64) -> Result<T, ProfileError> {
    T::try_from(value).map_err(|_| ProfileError)
}

impl Epoch {
    /// Appends the packed form. `near_s` is a time near the epoch's exchanges, in seconds
    /// since 2000, that the reader knows as well.
    pub(crate) fn pack(&self, near_s: u32, out: &mut Vec<u8>) {
        self.sets.pack(out);
        out.push(self.sample.len() as u8);
        let mut before = Sampled { time_s: near_s, ..Sampled::default() };
        for sampled in &self.sample {
            sampled.pack(&before, &self.sets, out);
            before = *sampled;
        }
        let told = Told::of(&self.sample);
        put_sparse(out, &beyond(self.counts(), told.counts));
        put_sparse(out, &[self.input_tokens, self.output_tokens, self.reasoning_tokens]);
        put_sparse(out, &beyond(self.hours, told.hours));
        put_sparse(out, &beyond(self.capabilities, told.capabilities));
        pack_bins(&self.active, out);
        put_sparse(out, &beyond(self.slices, of_bins(&self.active)));
    }

    /// Reads the packed form.
    pub(crate) fn unpack(near_s: u32, b: &mut Bytes<'_>) -> Result<Self, ProfileError> {
        let sets = Sets::unpack(b)?;
        let length = usize::from(b.u8()?);
        if length > SAMPLE {
            return Err(ProfileError);
        }
        let mut sample: Vec<Sampled> = Vec::with_capacity(length);
        let mut before = Sampled { time_s: near_s, ..Sampled::default() };
        for _ in 0..length {
            before = Sampled::unpack(&before, &sets, b)?;
            sample.push(before);
        }
        let told = Told::of(&sample);
        let mut epoch = Epoch { sets, sample, ..Epoch::default() };
        let counts: [u32; 12] = whole(b.sparse()?, told.counts)?;
        for (count, read) in epoch.counts_mut().into_iter().zip(counts) {
            *count = read;
        }
        [epoch.input_tokens, epoch.output_tokens, epoch.reasoning_tokens] = b.sparse()?;
        epoch.hours = whole(b.sparse()?, told.hours)?;
        epoch.capabilities = whole(b.sparse()?, told.capabilities)?;
        epoch.active = unpack_bins(b)?;
        epoch.slices = whole(b.sparse()?, of_bins(&epoch.active))?;
        Ok(epoch)
    }
}

/// What counts say beyond what is told already. Saturated ones may say less.
fn beyond<T: Into<u64>, const N: usize>(counts: [T; N], told: [u64; N]) -> [u64; N] {
    let mut told = told.into_iter();
    counts.map(|count| count.into().wrapping_sub(told.next().unwrap_or(0)))
}

/// The counts of which that is what they say beyond what is told already.
fn whole<T, const N: usize>(beyond: [u64; N], told: [u64; N]) -> Result<[T; N], ProfileError>
where
    T: TryFrom<u64> + Default + Copy,
{
    let mut counts = [T::default(); N];
    for ((count, beyond), told) in counts.iter_mut().zip(beyond).zip(told) {
        *count = narrow(beyond.wrapping_add(told))?;
    }
    Ok(counts)
}

/// What the exchanges of a sample come to.
struct Told {
    counts: [u64; 12],
    hours: [u64; 24],
    capabilities: [u64; CAPABILITIES],
}

impl Told {
    fn of(sample: &[Sampled]) -> Self {
        let mut told = Told { counts: [0; 12], hours: [0; 24], capabilities: [0; CAPABILITIES] };
        told.counts[0] = sample.len() as u64;
        for sampled in sample {
            for (count, flag) in told.counts[1..].iter_mut().zip(COUNTED) {
                *count += u64::from(sampled.marks & flag != 0);
            }
            // 2000 began with a full five minutes, and a full hour.
            let second = i64::from(sampled.time_s);
            told.counts[11] += u64::from(second % 300 < ON_THE_MARK_S);
            told.hours[(second % 86_400 / 3_600) as usize] += 1;
            if let Some(count) = told.capabilities.get_mut(usize::from(sampled.capability())) {
                *count += 1;
            }
        }
        told
    }
}

/// The exchanges of each slice, were there one to a bin.
fn of_bins(active: &[u64; BITMAP_WORDS]) -> [u64; SLICES] {
    const BINS_EACH: usize = BINS / SLICES;
    std::array::from_fn(|slice| {
        let first = slice * BINS_EACH;
        let bins = active[first / 64] >> (first % 64) & ((1 << BINS_EACH) - 1);
        u64::from(bins.count_ones())
    })
}

fn pack_bins(active: &[u64; BITMAP_WORDS], out: &mut Vec<u8>) {
    let bins: usize = active.iter().map(|word| word.count_ones() as usize).sum();
    out.push(bins.min(BITMAP_FROM) as u8);
    if bins >= BITMAP_FROM {
        active.iter().for_each(|word| out.extend_from_slice(&word.to_le_bytes()));
        return;
    }
    for (place, word) in active.iter().enumerate() {
        let mut rest = *word;
        while rest != 0 {
            out.push((place * 64) as u8 + rest.trailing_zeros() as u8);
            rest &= rest - 1;
        }
    }
}

fn unpack_bins(b: &mut Bytes<'_>) -> Result<[u64; BITMAP_WORDS], ProfileError> {
    let bins = usize::from(b.u8()?);
    let mut active = [0; BITMAP_WORDS];
    if bins >= BITMAP_FROM {
        for word in &mut active {
            *word = b.u64()?;
        }
        return Ok(active);
    }
    for _ in 0..bins {
        let bin = usize::from(b.u8()?);
        active[bin / 64] |= 1 << (bin % 64);
    }
    Ok(active)
}

impl Sets {
    /// How many of each kind there are, in half a byte, and each with its count in the
    /// four bits that six bytes have beside its hash.
    fn pack(&self, out: &mut Vec<u8>) {
        let length = |kind: usize| {
            let (start, end) = self.range(kind);
            (end - start) as u8
        };
        for kind in (0..KINDS).step_by(2) {
            let next = if kind + 1 < KINDS { length(kind + 1) } else { 0 };
            out.push(length(kind) | next << 4);
        }
        for entry in &self.entries {
            let hash = entry >> COUNT_BITS & HASH_MASK;
            let count = entry & COUNT_MAX;
            let said = count.min(COUNT_FOLLOWS);
            out.extend_from_slice(&(hash << 4 | said).to_le_bytes()[..ENTRY_BYTES]);
            if said == COUNT_FOLLOWS {
                put_varint(out, count);
            }
        }
    }

    fn unpack(b: &mut Bytes<'_>) -> Result<Self, ProfileError> {
        let mut sets = Sets::default();
        let mut end = 0;
        for kinds in (0..KINDS).step_by(2) {
            let lengths = b.u8()?;
            for (kind, length) in (kinds..).zip([lengths & 15, lengths >> 4]) {
                match (sets.ends.get_mut(kind), Kind::ALL.get(kind)) {
                    (Some(place), Some(bound)) if usize::from(length) <= bound.bound() => {
                        end += length;
                        *place = end;
                    }
                    (None, None) if length == 0 => {}
                    _ => return Err(ProfileError),
                }
            }
        }
        sets.entries.reserve_exact(usize::from(end));
        for kind in 0..KINDS {
            let (start, end) = sets.range(kind);
            for place in start..end {
                let mut bytes = [0; 8];
                bytes[..ENTRY_BYTES].copy_from_slice(&b.take::<ENTRY_BYTES>()?);
                let read = u64::from_le_bytes(bytes);
                let count = match read & COUNT_FOLLOWS {
                    COUNT_FOLLOWS => b.varint()?,
                    count => count,
                };
                let entry =
                    (kind as u64) << (HASH_BITS + COUNT_BITS) | read >> 4 << COUNT_BITS | count;
                let last = (place > start).then(|| sets.entries.last()).flatten();
                if count > COUNT_MAX
                    || last.is_some_and(|last| last >> COUNT_BITS >= entry >> COUNT_BITS)
                {
                    return Err(ProfileError);
                }
                sets.entries.push(entry);
            }
        }
        Ok(sets)
    }

    /// What the exchange says of a tag of that kind.
    fn tag_state(&self, kind: Kind, value: u16) -> u8 {
        if value == 0 {
            return 0;
        }
        let at = self.entries(kind).position(|entry| tag_of(entry.hash) == value);
        at.map_or(TAG_FOLLOWS, |at| at as u8 + 1)
    }
}

/// The [`tag`] of a hash of which a set keeps this.
fn tag_of(set_hash: u64) -> u16 {
    tag(set_hash << (u64::BITS - HASH_BITS))
}

impl Sampled {
    fn words_hashed(&self) -> [u32; WORDS] {
        let mut words = [0; WORDS];
        words[..2].copy_from_slice(&[self.opening, self.closing]);
        words[2..].copy_from_slice(&self.bands);
        words
    }

    fn pack(&self, before: &Sampled, sets: &Sets, out: &mut Vec<u8>) {
        let words = || self.words_hashed().into_iter().zip(before.words_hashed());
        let mut says = 0;
        for (place, (word, earlier)) in words().enumerate() {
            says |= match word {
                0 => 0,
                _ if word == earlier => AS_BEFORE << (2 * place),
                _ => FOLLOWS << (2 * place),
            };
        }
        let when = |is_so: bool, bit: u16| if is_so { bit } else { 0 };
        says |= when(self.session == before.session, SAME_SESSION);
        says |= when(self.marks == before.marks, SAME_MARKS);
        says |= when(self.topic == before.topic, SAME_TOPIC);
        says |= when(!self.topic.contains(&0), FULL_TOPIC);
        out.extend_from_slice(&says.to_le_bytes());
        let tags = [self.client, self.system, self.model];
        let states: [u8; 3] = std::array::from_fn(|i| sets.tag_state(TAGGED[i], tags[i]));
        out.push(states.iter().rev().fold(0, |sum, state| sum * TAG_STATES + state));
        if says & SAME_SESSION == 0 {
            out.extend_from_slice(&self.session.to_le_bytes());
        }
        put_signed(out, i64::from(self.time_s) - i64::from(before.time_s));
        out.extend_from_slice(&self.row.to_le_bytes());
        if says & SAME_MARKS == 0 {
            out.extend_from_slice(&self.marks.to_le_bytes());
        }
        put_varint(out, u64::from(self.words));
        for (word, earlier) in words() {
            if word != 0 && word != earlier {
                out.extend_from_slice(&word.to_le_bytes());
            }
        }
        if says & SAME_TOPIC == 0 {
            if says & FULL_TOPIC == 0 {
                let filled = self.topic.iter().enumerate().map(|(i, t)| u16::from(*t != 0) << i);
                out.extend_from_slice(&filled.sum::<u16>().to_le_bytes());
            }
            out.extend(self.topic.iter().filter(|topic| **topic != 0));
        }
        for (tag, state) in tags.iter().zip(states) {
            if state == TAG_FOLLOWS {
                out.extend_from_slice(&tag.to_le_bytes());
            }
        }
    }

    fn unpack(before: &Sampled, sets: &Sets, b: &mut Bytes<'_>) -> Result<Self, ProfileError> {
        let says = b.u16()?;
        let mut states = b.u8()?;
        let session = if says & SAME_SESSION == 0 { b.u32()? } else { before.session };
        let time_s = narrow(i64::from(before.time_s).wrapping_add(b.signed()?) as u64)?;
        let row = b.u16()?;
        let marks = if says & SAME_MARKS == 0 { b.u16()? } else { before.marks };
        let words = narrow(b.varint()?)?;
        let mut hashed = [0; WORDS];
        for (place, (word, earlier)) in hashed.iter_mut().zip(before.words_hashed()).enumerate() {
            *word = match says >> (2 * place) & 3 {
                0 => 0,
                AS_BEFORE => earlier,
                FOLLOWS => b.u32()?,
                _ => return Err(ProfileError),
            };
        }
        let mut topic = before.topic;
        if says & SAME_TOPIC == 0 {
            let filled = if says & FULL_TOPIC == 0 { b.u16()? } else { u16::MAX };
            for (place, value) in topic.iter_mut().enumerate() {
                *value = if filled >> place & 1 == 0 { 0 } else { b.u8()? };
            }
        }
        let mut tags = [0; TAGGED.len()];
        for (value, kind) in tags.iter_mut().zip(TAGGED) {
            *value = match states % TAG_STATES {
                0 => 0,
                TAG_FOLLOWS => b.u16()?,
                place => {
                    let entry = sets.entries(kind).nth(usize::from(place) - 1);
                    tag_of(entry.ok_or(ProfileError)?.hash)
                }
            };
            states /= TAG_STATES;
        }
        let [opening, closing, ref bands @ ..] = hashed;
        let [client, system, model] = tags;
        let bands = *bands;
        Ok(Sampled {
            session,
            time_s,
            row,
            marks,
            opening,
            closing,
            bands,
            topic,
            words,
            client,
            system,
            model,
        })
    }
}

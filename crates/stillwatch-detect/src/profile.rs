//! Profile: what an account did, bounded in size and mergeable.
//!
//! A profile is a commutative monoid: [`Profile::merge`] is associative and
//! commutative, the empty profile is its neutral element, and adding exchanges one by
//! one, in any order and any split, gives the same bytes. So one machine, many
//! machines and a live stream add up to the same thing. What makes it so:
//!
//! * counts are added (saturating, which is associative for what only grows);
//! * sets keep the entries with the smallest keyed hashes (Beyer et al. 2007, «On
//!   synopses for distinct-value estimation under multiset operations»): an entry that
//!   is among the smallest of the whole was among the smallest of every part, so its
//!   count is exact;
//! * the sample of exchanges is the smallest by (session, time, row), where a session
//!   is a keyed hash of the half hour: consecutive exchanges are kept together.
//!
//! Bound: about 700 bytes for an account with few exchanges, below 4 KiB for any.

mod packed;

use stillwatch_exchange::Time;
use stillwatch_exchange::time::TIME_MIN_US;

pub(crate) use self::packed::{put_signed, put_varint};
use crate::calendar::{Calendar, EPOCHS, RELEASES, SLICES};
use crate::observe::{BANDS, CAPABILITIES, Flags, Glance, TOPIC_BUCKETS, Traits};

/// Exchanges of an epoch that are kept with their traits.
pub const SAMPLE: usize = 7;
const BITMAP_WORDS: usize = crate::calendar::BINS / 64;
/// Exchanges this close to a full five minutes come from a clock, not a person.
const ON_THE_MARK_S: i64 = 15;
const SESSION_US: i64 = 1_800_000_000;

/// What a value in an epoch's set is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Kind {
    Address = 0,
    Network = 1,
    Place = 2,
    Client = 3,
    Model = 4,
    Route = 5,
    System = 6,
    Prompt = 7,
    Conversation = 8,
    Credential = 9,
    Organization = 10,
}

const KINDS: usize = 11;

impl Kind {
    const ALL: [Kind; KINDS] = [
        Kind::Address,
        Kind::Network,
        Kind::Place,
        Kind::Client,
        Kind::Model,
        Kind::Route,
        Kind::System,
        Kind::Prompt,
        Kind::Conversation,
        Kind::Credential,
        Kind::Organization,
    ];

    /// How many distinct values of this kind an epoch keeps; beyond it those with the
    /// smallest hashes stay.
    #[must_use]
    pub const fn bound(self) -> usize {
        match self {
            Kind::Address | Kind::Network | Kind::Place | Kind::Conversation => 4,
            Kind::Client | Kind::Model | Kind::System => 3,
            Kind::Route | Kind::Credential | Kind::Organization => 2,
            Kind::Prompt => 9,
        }
    }
}

const COUNT_BITS: u32 = 16;
const HASH_BITS: u32 = 44;
const COUNT_MAX: u64 = (1 << COUNT_BITS) - 1;

/// Sorted entries of all kinds: 4 bits kind, 44 bits hash, 16 bits count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Sets {
    entries: Vec<u64>,
    /// Where the entries of each kind end.
    ends: [u8; KINDS],
}

/// A value of a set: its hash (44 bits) and how many exchanges had it (at most 65,535).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    pub hash: u64,
    pub count: u32,
}

/// The 44 bits of a keyed hash that sets keep.
#[must_use]
pub fn set_hash(hash: u64) -> u64 {
    hash >> (64 - HASH_BITS)
}

impl Sets {
    #[inline]
    fn range(&self, kind: usize) -> (usize, usize) {
        let start = if kind == 0 { 0 } else { self.ends[kind - 1] };
        (usize::from(start), usize::from(self.ends[kind]))
    }

    #[inline]
    fn add(&mut self, kind: Kind, hash: u64, count: u64) {
        if hash != 0 {
            self.add_packed(kind as usize, packed(kind as usize, hash), count);
        }
    }

    /// `key` has the count's bits clear.
    #[inline]
    fn add_packed(&mut self, kind: usize, key: u64, count: u64) {
        let (start, end) = self.range(kind);
        let run = &mut self.entries[start..end];
        // Few enough to be counted faster than halved.
        let before = run.iter().filter(|e| **e < key).count();
        if let Some(entry) = run.get_mut(before)
            && *entry >> COUNT_BITS == key >> COUNT_BITS
        {
            let sum = ((*entry & COUNT_MAX) + count).min(COUNT_MAX);
            *entry = key | sum;
            return;
        }
        let entry = key | count.min(COUNT_MAX);
        if run.len() < Kind::ALL[kind].bound() {
            if self.entries.len() == self.entries.capacity() {
                self.entries.reserve_exact(4);
            }
            self.entries.insert(start + before, entry);
            for end in &mut self.ends[kind..] {
                *end += 1;
            }
        } else if before < run.len() {
            // The largest of the kind gives way.
            run[before..].rotate_right(1);
            run[before] = entry;
        }
    }

    fn entries(&self, kind: Kind) -> impl ExactSizeIterator<Item = Entry> + '_ {
        let (start, end) = self.range(kind as usize);
        self.entries[start..end].iter().map(|&packed| Entry {
            hash: packed >> COUNT_BITS & ((1 << HASH_BITS) - 1),
            count: (packed & COUNT_MAX) as u32,
        })
    }
}

#[inline]
fn packed(kind: usize, hash: u64) -> u64 {
    (kind as u64) << (HASH_BITS + COUNT_BITS) | set_hash(hash) << COUNT_BITS
}

/// The bits of a keyed hash that a sampled exchange keeps of what it came with; see
/// [`Sampled::client`].
#[must_use]
pub fn tag(hash: u64) -> u16 {
    (hash >> 48) as u16
}

/// One exchange of the sample.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sampled {
    session: u32,
    /// Seconds since 2000-01-01T00:00:00Z.
    pub time_s: u32,
    row: u16,
    /// The exchange's flags, and in the upper four bits its capability.
    marks: u16,
    /// Low halves of the keyed hashes; 0 = absent.
    pub opening: u32,
    pub closing: u32,
    pub bands: [u32; BANDS],
    pub topic: [u8; TOPIC_BUCKETS],
    pub words: u16,
    /// The first sixteen bits of keyed hashes: enough to tell apart the few values that
    /// an account or a group has; 0 = absent.
    pub client: u16,
    pub system: u16,
    pub model: u16,
}

const FLAG_BITS: u32 = 12;

/// Seconds since 2000-01-01T00:00:00Z of a time in microseconds.
pub(crate) fn seconds(time_us: i64) -> u32 {
    let since_2000 = time_us.div_euclid(1_000_000) - TIME_MIN_US / 1_000_000;
    since_2000.clamp(0, i64::from(u32::MAX)) as u32
}

impl Sampled {
    /// Its [`Flags`].
    #[must_use]
    pub fn flags(&self) -> u16 {
        self.marks & ((1 << FLAG_BITS) - 1)
    }

    /// The number of its [`Capability`](crate::observe::Capability).
    #[must_use]
    pub fn capability(&self) -> u8 {
        (self.marks >> FLAG_BITS) as u8
    }

    /// How the exchange is worded: its opening and closing words and its shingle bands,
    /// as far as it has them.
    pub fn wordings(&self) -> impl Iterator<Item = u64> + use<> {
        let bands = self.bands.into_iter().enumerate().map(|(i, band)| (16 + i as u64, band));
        [(8u64, self.opening), (9, self.closing)]
            .into_iter()
            .chain(bands)
            .filter(|(_, value)| *value != 0)
            .map(|(kind, value)| kind << 32 | u64::from(value))
    }
}

/// What an account did in one epoch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Epoch {
    pub exchanges: u32,
    pub follow_ups: u32,
    pub limited: u32,
    pub failed: u32,
    pub logprobs: u32,
    pub biased: u32,
    pub reasoning: u32,
    pub grading: u32,
    pub tools: u32,
    pub truncated: u32,
    pub choices: u32,
    /// Exchanges within fifteen seconds after a full five minutes.
    pub on_the_mark: u32,
    pub input_tokens: u64,
    pub output_tokens: u64,
    pub reasoning_tokens: u64,
    /// Exchanges by hour of day, UTC.
    pub hours: [u16; 24],
    pub capabilities: [u16; CAPABILITIES],
    pub slices: [u16; SLICES],
    /// A bit for each bin with an exchange in it.
    pub active: [u64; BITMAP_WORDS],
    sets: Sets,
    sample: Vec<Sampled>,
}

/// Exchanges around one release.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pivot {
    /// In the three days before.
    pub before: u16,
    /// In the first day.
    pub after: u16,
    /// Of these, with the new model.
    pub moved: u16,
}

impl Pivot {
    /// Counts an exchange that lies `since_us` after the release, if it is near it.
    #[inline]
    pub(crate) fn count(&mut self, since_us: i64, has_moved: bool) {
        if (-PIVOT_BEFORE_US..0).contains(&since_us) {
            self.before = self.before.saturating_add(1);
        } else if (0..PIVOT_AFTER_US).contains(&since_us) {
            self.after = self.after.saturating_add(1);
            self.moved = self.moved.saturating_add(u16::from(has_moved));
        }
    }

    pub(crate) fn merge(&mut self, other: Pivot) {
        self.before = self.before.saturating_add(other.before);
        self.after = self.after.saturating_add(other.after);
        self.moved = self.moved.saturating_add(other.moved);
    }
}

/// How long before a release exchanges count as before it, and after it as after it.
pub(crate) const PIVOT_BEFORE_US: i64 = 3 * stillwatch_exchange::time::DAY_US;
pub(crate) const PIVOT_AFTER_US: i64 = stillwatch_exchange::time::DAY_US;

/// What an account did in a period; see the module's head.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Profile {
    /// Microseconds since the Unix epoch; meaningless while there are no exchanges.
    first_us: i64,
    last_us: i64,
    pivots: [Pivot; RELEASES],
    epochs: [Option<Box<Epoch>>; EPOCHS],
}

/// Bytes of a profile, at most: every epoch with as many values of each kind as it keeps,
/// and as many exchanges.
pub const PROFILE_BYTES_MAX: usize = {
    let (mut values, mut kind) = (0, 0);
    while kind < KINDS {
        values += Kind::ALL[kind].bound();
        kind += 1;
    }
    size_of::<Profile>()
        + EPOCHS * (size_of::<Epoch>() + values * size_of::<u64>() + SAMPLE * size_of::<Sampled>())
};
const _: () = assert!(PROFILE_BYTES_MAX < 4096);

/// Bytes that are not a profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a stored profile ends early or has parts out of bounds: parts of the engine are of different versions"
)]
pub struct ProfileError;

impl Epoch {
    /// The values of a kind, by hash; see [`Kind::bound`].
    pub fn entries(&self, kind: Kind) -> impl ExactSizeIterator<Item = Entry> + '_ {
        self.sets.entries(kind)
    }

    /// The sampled exchanges, consecutive ones of a half hour side by side in order.
    #[must_use]
    pub fn sample(&self) -> &[Sampled] {
        &self.sample
    }

    fn keep(&mut self, sampled: Sampled) {
        let at = self.sample.partition_point(|s| *s < sampled);
        if at >= SAMPLE {
            return;
        }
        if self.sample.len() == SAMPLE {
            self.sample.pop();
        }
        if self.sample.len() == self.sample.capacity() {
            self.sample.reserve_exact(if self.sample.is_empty() {
                1
            } else {
                SAMPLE - self.sample.len()
            });
        }
        self.sample.insert(at, sampled);
    }

    /// Adds one exchange that lies in this bin and slice.
    pub(crate) fn add(&mut self, seen: &Glance, bin: usize, slice: usize) {
        let epoch = self;
        let time_us = seen.time.0;
        let flags = seen.flags;
        let second = time_us.div_euclid(1_000_000);
        epoch.exchanges = epoch.exchanges.saturating_add(1);
        let bump = |count: &mut u32, when: bool| *count = count.saturating_add(u32::from(when));
        bump(&mut epoch.follow_ups, flags.has(Flags::FOLLOW_UP));
        bump(&mut epoch.limited, flags.has(Flags::LIMITED));
        bump(&mut epoch.failed, flags.has(Flags::FAILED));
        bump(&mut epoch.logprobs, flags.has(Flags::LOGPROBS));
        bump(&mut epoch.biased, flags.has(Flags::BIASED));
        bump(&mut epoch.reasoning, flags.has(Flags::REASONING));
        bump(&mut epoch.grading, flags.has(Flags::GRADING));
        bump(&mut epoch.tools, flags.has(Flags::TOOLS));
        bump(&mut epoch.truncated, flags.has(Flags::TRUNCATED));
        bump(&mut epoch.choices, flags.has(Flags::CHOICES));
        bump(&mut epoch.on_the_mark, second.rem_euclid(300) < ON_THE_MARK_S);
        epoch.input_tokens = epoch.input_tokens.saturating_add(u64::from(seen.input_tokens));
        epoch.output_tokens = epoch.output_tokens.saturating_add(u64::from(seen.output_tokens));
        epoch.reasoning_tokens =
            epoch.reasoning_tokens.saturating_add(u64::from(seen.reasoning_tokens));
        let hour = &mut epoch.hours[(second.rem_euclid(86_400) / 3_600) as usize];
        *hour = hour.saturating_add(1);
        let capability = &mut epoch.capabilities[seen.capability as usize];
        *capability = capability.saturating_add(1);
        epoch.slices[slice] = epoch.slices[slice].saturating_add(1);
        epoch.active[bin / 64] |= 1 << (bin % 64);

        // People go on in words that everybody goes on in; what they began with tells who has
        // the same questions.
        let is_question = seen.words >= PROMPT_WORDS_MIN && !flags.has(Flags::FOLLOW_UP);
        let prompt = if is_question { seen.whole } else { 0 };
        for (kind, hash) in [
            (Kind::Address, seen.address),
            (Kind::Network, seen.network),
            (Kind::Place, seen.place),
            (Kind::Client, seen.client),
            (Kind::Model, seen.model),
            (Kind::Route, seen.route),
            (Kind::System, seen.system),
            (Kind::Prompt, prompt),
            (Kind::Conversation, seen.conversation),
            (Kind::Credential, seen.credential),
            (Kind::Organization, seen.organization),
        ] {
            epoch.sets.add(kind, hash, 1);
        }
        let session = xxhash_rust::xxh3::xxh3_64_with_seed(
            &time_us.div_euclid(SESSION_US).to_le_bytes(),
            seen.account,
        ) as u32;
        // Most exchanges are of a later session than a full sample's last.
        if epoch.sample.get(SAMPLE - 1).is_some_and(|last| last.session < session) {
            return;
        }
        epoch.keep(Sampled {
            session,
            time_s: seconds(time_us),
            row: seen.row as u16,
            marks: flags.0 | (seen.capability as u16) << FLAG_BITS,
            opening: seen.opening,
            closing: seen.closing,
            bands: seen.bands,
            topic: seen.topic,
            words: seen.words,
            client: tag(seen.client),
            system: tag(seen.system),
            model: tag(seen.model),
        });
    }

    pub(crate) fn merge(&mut self, other: &Epoch) {
        fn add<const N: usize>(into: &mut [u16; N], from: &[u16; N]) {
            for (a, b) in into.iter_mut().zip(from) {
                *a = a.saturating_add(*b);
            }
        }
        for (a, b) in self.counts_mut().into_iter().zip(other.counts()) {
            *a = a.saturating_add(b);
        }
        self.input_tokens = self.input_tokens.saturating_add(other.input_tokens);
        self.output_tokens = self.output_tokens.saturating_add(other.output_tokens);
        self.reasoning_tokens = self.reasoning_tokens.saturating_add(other.reasoning_tokens);
        add(&mut self.hours, &other.hours);
        add(&mut self.capabilities, &other.capabilities);
        add(&mut self.slices, &other.slices);
        for (a, b) in self.active.iter_mut().zip(&other.active) {
            *a |= b;
        }
        for &packed in &other.sets.entries {
            let kind = (packed >> (HASH_BITS + COUNT_BITS)) as usize;
            self.sets.add_packed(kind, packed & !COUNT_MAX, packed & COUNT_MAX);
        }
        for &sampled in &other.sample {
            self.keep(sampled);
        }
    }

    /// Bytes on the heap and off it.
    pub(crate) fn size_bytes(&self) -> usize {
        size_of::<Epoch>()
            + self.sets.entries.capacity() * size_of::<u64>()
            + self.sample.capacity() * size_of::<Sampled>()
    }

    fn counts(&self) -> [u32; 12] {
        [
            self.exchanges,
            self.follow_ups,
            self.limited,
            self.failed,
            self.logprobs,
            self.biased,
            self.reasoning,
            self.grading,
            self.tools,
            self.truncated,
            self.choices,
            self.on_the_mark,
        ]
    }

    fn counts_mut(&mut self) -> [&mut u32; 12] {
        [
            &mut self.exchanges,
            &mut self.follow_ups,
            &mut self.limited,
            &mut self.failed,
            &mut self.logprobs,
            &mut self.biased,
            &mut self.reasoning,
            &mut self.grading,
            &mut self.tools,
            &mut self.truncated,
            &mut self.choices,
            &mut self.on_the_mark,
        ]
    }
}

impl Profile {
    /// Adds one exchange. `account` is that of [`Glance::of`].
    pub fn add(&mut self, traits: &Traits, account: u64, calendar: &Calendar) {
        self.add_seen(&Glance::of(traits, account), calendar);
    }

    /// Adds what is taken of one exchange.
    pub fn add_seen(&mut self, seen: &Glance, calendar: &Calendar) {
        let time_us = seen.time.0;
        if self.is_empty() {
            (self.first_us, self.last_us) = (time_us, time_us);
        } else {
            self.first_us = self.first_us.min(time_us);
            self.last_us = self.last_us.max(time_us);
        }
        for (pivot, &(released, model)) in self.pivots.iter_mut().zip(calendar.releases()) {
            pivot.count(time_us - released, seen.model == model);
        }

        let (index, bin, slice) = calendar.place(seen.time);
        self.epochs[index].get_or_insert_default().add(seen, bin, slice);
    }

    /// Reads a little of everything that [`add_seen`](Self::add_seen) would, so that
    /// what it needs of memory is under way when it comes to it: accounts come in no
    /// order, and nothing of one is near anything of another. The value means nothing.
    #[inline]
    #[must_use]
    pub fn touch(&self, time: Time, calendar: &Calendar) -> u64 {
        let (index, bin, slice) = calendar.place(time);
        let Some(epoch) = &self.epochs[index] else { return 0 };
        let sets = &epoch.sets.entries;
        u64::from(epoch.exchanges)
            ^ u64::from(epoch.slices[slice])
            ^ epoch.active[bin / 64]
            ^ sets.first().copied().unwrap_or(0)
            ^ sets.get(sets.len() / 2).copied().unwrap_or(0)
            ^ sets.last().copied().unwrap_or(0)
            ^ u64::from(epoch.sample.last().map_or(0, |s| s.session))
    }

    /// The same before the sets and samples of some epochs are read.
    #[inline]
    #[must_use]
    pub(crate) fn touch_epochs(&self, range: std::ops::Range<usize>) -> u64 {
        self.epochs(range).fold(0, |all, (_, epoch)| {
            let (sets, sample) = (&epoch.sets.entries, &epoch.sample);
            all ^ u64::from(epoch.exchanges)
                ^ sets.first().copied().unwrap_or(0)
                ^ sets.last().copied().unwrap_or(0)
                ^ u64::from(sample.first().map_or(0, |s| s.session))
                ^ u64::from(sample.last().map_or(0, |s| s.session))
        })
    }

    /// Adds another part of the same account's traffic.
    pub fn merge(&mut self, other: &Profile) {
        if other.is_empty() {
            return;
        }
        if self.is_empty() {
            *self = other.clone();
            return;
        }
        self.first_us = self.first_us.min(other.first_us);
        self.last_us = self.last_us.max(other.last_us);
        for (a, b) in self.pivots.iter_mut().zip(&other.pivots) {
            a.merge(*b);
        }
        for (mine, theirs) in self.epochs.iter_mut().zip(&other.epochs) {
            match (mine.as_mut(), theirs) {
                (_, None) => {}
                (None, Some(theirs)) => *mine = Some(theirs.clone()),
                (Some(mine), Some(theirs)) => mine.merge(theirs),
            }
        }
    }

    /// The profile whose epochs are these, the oldest first, with the account's first and
    /// last exchange in them and its traffic around the calendar's releases.
    pub(crate) fn of_epochs(
        epochs: [Option<Box<Epoch>>; EPOCHS],
        (first_us, last_us): (i64, i64),
        pivots: [Pivot; RELEASES],
    ) -> Self {
        Profile { first_us, last_us, pivots, epochs }
    }

    /// Whether nothing was added yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.epochs.iter().all(Option::is_none)
    }

    /// The account's first exchange.
    #[must_use]
    pub fn first_seen(&self) -> Time {
        Time(self.first_us)
    }

    /// The account's last exchange.
    #[must_use]
    pub fn last_seen(&self) -> Time {
        Time(self.last_us)
    }

    /// Traffic around the calendar's releases, in their order.
    #[must_use]
    pub fn pivots(&self) -> &[Pivot; RELEASES] {
        &self.pivots
    }

    /// The epochs with traffic among those in `range`, with their numbers.
    pub fn epochs(
        &self,
        range: std::ops::Range<usize>,
    ) -> impl Iterator<Item = (usize, &Epoch)> + '_ {
        range.filter_map(|i| Some((i, self.epochs.get(i)?.as_deref()?)))
    }

    /// Exchanges in a range of epochs.
    #[must_use]
    pub fn exchanges(&self, range: std::ops::Range<usize>) -> u64 {
        self.epochs(range).map(|(_, e)| u64::from(e.exchanges)).sum()
    }

    /// Distinct values of a kind in a range of epochs: exact up to the bound, above it
    /// an estimate from the largest hash that was kept (Beyer et al. 2007).
    #[must_use]
    pub fn distinct(&self, kind: Kind, range: std::ops::Range<usize>) -> f64 {
        let mut most = 0f64;
        for (_, epoch) in self.epochs(range) {
            let entries = epoch.entries(kind);
            let count = entries.len();
            let distinct = if count < kind.bound() {
                count as f64
            } else {
                let largest = entries.last().map_or(1, |e| e.hash.max(1));
                (count as f64 - 1.0) * (1u64 << HASH_BITS) as f64 / largest as f64
            };
            most = most.max(distinct);
        }
        most
    }

    /// Bytes on the heap and off it, for memory accounting.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        size_of::<Self>() + self.epochs.iter().flatten().map(|e| e.size_bytes()).sum::<usize>()
    }
}

/// Shorter prompts («hi», «continue») recur between strangers and say nothing.
const PROMPT_WORDS_MIN: u16 = 5;

// ---- stored form -------------------------------------------------------------

fn put_u16s(out: &mut Vec<u8>, values: &[u16]) {
    for value in values {
        out.extend_from_slice(&value.to_le_bytes());
    }
}

pub(crate) struct Bytes<'a>(pub &'a [u8]);

impl Bytes<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], ProfileError> {
        let (head, rest) = self.0.split_first_chunk::<N>().ok_or(ProfileError)?;
        self.0 = rest;
        Ok(*head)
    }
    pub(crate) fn u8(&mut self) -> Result<u8, ProfileError> {
        self.take().map(|[b]| b)
    }
    pub(crate) fn u16(&mut self) -> Result<u16, ProfileError> {
        self.take().map(u16::from_le_bytes)
    }
    fn u32(&mut self) -> Result<u32, ProfileError> {
        self.take().map(u32::from_le_bytes)
    }
    pub(crate) fn u64(&mut self) -> Result<u64, ProfileError> {
        self.take().map(u64::from_le_bytes)
    }
    fn u16s<const N: usize>(&mut self) -> Result<[u16; N], ProfileError> {
        let mut out = [0; N];
        for value in &mut out {
            *value = self.u16()?;
        }
        Ok(out)
    }
}

impl Epoch {
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        for count in self.counts() {
            out.extend_from_slice(&count.to_le_bytes());
        }
        for tokens in [self.input_tokens, self.output_tokens, self.reasoning_tokens] {
            out.extend_from_slice(&tokens.to_le_bytes());
        }
        put_u16s(out, &self.hours);
        put_u16s(out, &self.capabilities);
        put_u16s(out, &self.slices);
        for word in self.active {
            out.extend_from_slice(&word.to_le_bytes());
        }
        out.push(self.sets.entries.len() as u8);
        for entry in &self.sets.entries {
            out.extend_from_slice(&entry.to_le_bytes());
        }
        out.push(self.sample.len() as u8);
        for s in &self.sample {
            for word in [s.session, s.time_s, s.opening, s.closing] {
                out.extend_from_slice(&word.to_le_bytes());
            }
            for band in s.bands {
                out.extend_from_slice(&band.to_le_bytes());
            }
            out.extend_from_slice(&s.topic);
            put_u16s(out, &[s.row, s.marks, s.words, s.client, s.system, s.model]);
        }
    }

    pub(crate) fn read(b: &mut Bytes<'_>) -> Result<Self, ProfileError> {
        let mut epoch = Epoch::default();
        for count in epoch.counts_mut() {
            *count = b.u32()?;
        }
        epoch.input_tokens = b.u64()?;
        epoch.output_tokens = b.u64()?;
        epoch.reasoning_tokens = b.u64()?;
        epoch.hours = b.u16s()?;
        epoch.capabilities = b.u16s()?;
        epoch.slices = b.u16s()?;
        for word in &mut epoch.active {
            *word = b.u64()?;
        }
        let entries = b.u8()? as usize;
        epoch.sets.entries.reserve_exact(entries);
        for _ in 0..entries {
            let packed = b.u64()?;
            let last = epoch.sets.entries.last();
            let sorted = last.is_none_or(|last| last >> COUNT_BITS < packed >> COUNT_BITS);
            let kind = (packed >> (HASH_BITS + COUNT_BITS)) as usize;
            if !sorted || kind >= KINDS {
                return Err(ProfileError);
            }
            let (start, end) = epoch.sets.range(kind);
            if end - start == Kind::ALL[kind].bound() {
                return Err(ProfileError);
            }
            epoch.sets.entries.push(packed);
            for end in &mut epoch.sets.ends[kind..] {
                *end += 1;
            }
        }
        let samples = b.u8()? as usize;
        if samples > SAMPLE {
            return Err(ProfileError);
        }
        epoch.sample.reserve_exact(samples);
        for _ in 0..samples {
            let (session, time_s, opening, closing) = (b.u32()?, b.u32()?, b.u32()?, b.u32()?);
            let mut bands = [0; BANDS];
            for band in &mut bands {
                *band = b.u32()?;
            }
            let topic = b.take()?;
            let [row, marks, words, client, system, model] = b.u16s()?;
            epoch.sample.push(Sampled {
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
            });
        }
        Ok(epoch)
    }
}

impl Profile {
    /// Appends the form in which parts travel between the stages of a run:
    /// little-endian, fields in order, a byte that says which epochs follow.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.first_us.to_le_bytes());
        out.extend_from_slice(&self.last_us.to_le_bytes());
        for pivot in &self.pivots {
            put_u16s(out, &[pivot.before, pivot.after, pivot.moved]);
        }
        let mut present = 0u8;
        for (i, epoch) in self.epochs.iter().enumerate() {
            present |= u8::from(epoch.is_some()) << i;
        }
        out.push(present);
        for epoch in self.epochs.iter().flatten() {
            epoch.write(out);
        }
    }

    /// Reads the stored form.
    ///
    /// # Errors
    /// The bytes end early, go on, or hold more than a profile's bounds allow.
    pub fn read(bytes: &[u8]) -> Result<Self, ProfileError> {
        let mut b = Bytes(bytes);
        let mut profile =
            Profile { first_us: b.u64()? as i64, last_us: b.u64()? as i64, ..Profile::default() };
        for pivot in &mut profile.pivots {
            *pivot = Pivot { before: b.u16()?, after: b.u16()?, moved: b.u16()? };
        }
        let present = b.u8()?;
        if present >> EPOCHS != 0 {
            return Err(ProfileError);
        }
        for (i, slot) in profile.epochs.iter_mut().enumerate() {
            if present >> i & 1 == 0 {
                continue;
            }
            *slot = Some(Box::new(Epoch::read(&mut b)?));
        }
        if b.0.is_empty() { Ok(profile) } else { Err(ProfileError) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::observe::Sketch;

    fn calendar() -> Calendar {
        Calendar::new(Time(0), Time(4_000_000_000), &[(Time(1_500_000_000), 3)])
    }

    /// Few values, so that entries meet, and more than the bounds hold.
    fn traits() -> impl Strategy<Value = Traits> {
        let small = || (0u64..16).prop_map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        (0i64..4_000_000_000, any::<u64>(), small(), small(), small(), 0u16..4096).prop_map(
            |(time, row, a, b, c, flags)| Traits {
                time: Time(time),
                row,
                text: Sketch { whole: a, opening: b, system: c, words: 9, ..Sketch::default() },
                client: b,
                address: a,
                network: c,
                conversation: a ^ c,
                model: row % 5,
                output_tokens: (row % 1000) as u32,
                flags: Flags(flags),
                ..Traits::default()
            },
        )
    }

    fn profile(exchanges: &[Traits]) -> Profile {
        let mut profile = Profile::default();
        for traits in exchanges {
            profile.add(traits, 42, &calendar());
        }
        profile
    }

    fn bytes(profile: &Profile) -> Vec<u8> {
        let mut out = Vec::new();
        profile.write(&mut out);
        out
    }

    fn merged(a: &Profile, b: &Profile) -> Profile {
        let mut sum = a.clone();
        sum.merge(b);
        sum
    }

    #[test]
    fn what_people_go_on_with_is_no_question() {
        let asked = |flags: u16| {
            let text = Sketch { whole: 1 << 60, words: 9, ..Sketch::default() };
            let profile = profile(&[Traits { text, flags: Flags(flags), ..Traits::default() }]);
            profile.epochs(0..EPOCHS).map(|(_, e)| e.entries(Kind::Prompt).len()).sum::<usize>()
        };
        assert_eq!((asked(0), asked(Flags::FOLLOW_UP)), (1, 0));
    }

    proptest! {
        #[test]
        fn merge_is_associative_and_commutative(
            a in prop::collection::vec(traits(), 0..40),
            b in prop::collection::vec(traits(), 0..40),
            c in prop::collection::vec(traits(), 0..40),
        ) {
            let (a, b, c) = (profile(&a), profile(&b), profile(&c));
            prop_assert_eq!(bytes(&merged(&a, &b)), bytes(&merged(&b, &a)));
            prop_assert_eq!(
                bytes(&merged(&merged(&a, &b), &c)),
                bytes(&merged(&a, &merged(&b, &c)))
            );
            prop_assert_eq!(bytes(&merged(&a, &Profile::default())), bytes(&a));
            prop_assert_eq!(bytes(&merged(&Profile::default(), &a)), bytes(&a));
        }

        #[test]
        fn order_and_batches_change_nothing(
            exchanges in prop::collection::vec(traits(), 0..120),
            cut in 0usize..120,
            seed in any::<u64>(),
        ) {
            let whole = profile(&exchanges);
            let mut shuffled = exchanges.clone();
            shuffled.sort_by_key(|t| t.row ^ seed);
            let cut = cut.min(shuffled.len());
            let split = merged(&profile(&shuffled[..cut]), &profile(&shuffled[cut..]));
            prop_assert_eq!(bytes(&whole), bytes(&split));
        }

        #[test]
        fn the_stored_form_goes_there_and_back(exchanges in prop::collection::vec(traits(), 0..60)) {
            let whole = profile(&exchanges);
            prop_assert_eq!(Profile::read(&bytes(&whole)), Ok(whole));
        }

        #[test]
        fn a_profile_stays_below_four_kibibytes(exchanges in prop::collection::vec(any::<(i64, [u64; 12])>(), 0..400)) {
            let mut profile = Profile::default();
            for (time, h) in exchanges {
                let traits = Traits {
                    time: Time(time.rem_euclid(4_000_000_000)), row: h[0],
                    text: Sketch { whole: h[1], system: h[2], words: 50, ..Sketch::default() },
                    client: h[3], address: h[4], network: h[5], organization: h[6], credential: h[7],
                    conversation: h[8], model: h[9], route: h[10], place: h[11], ..Traits::default()
                };
                profile.add(&traits, 1, &calendar());
            }
            prop_assert!(profile.size_bytes() <= PROFILE_BYTES_MAX, "{}", profile.size_bytes());
        }
    }

    #[test]
    fn stored_bytes_that_were_cut_or_changed_are_refused() {
        let exchange = Traits { client: 1 << 60, ..Traits::default() };
        let stored = bytes(&profile(&[exchange]));
        for end in 0..stored.len() {
            assert_eq!(Profile::read(&stored[..end]), Err(ProfileError));
        }
        assert_eq!(Profile::read(&[stored.as_slice(), &[0]].concat()), Err(ProfileError));
    }
}

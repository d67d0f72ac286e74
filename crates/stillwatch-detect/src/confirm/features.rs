//! What the channels need of one account in one window, worked out once for all the
//! groups that the account is in.

use crate::calendar::{BINS, EPOCHS, SLICES};
use crate::observe::topic_similarity;
use crate::population::{Member, Population};
use crate::profile::Kind;

/// What happened up to a look, in epochs: `start..look`.
///
/// It starts when the group was frozen. Only what all of the period links is looked at in
/// that same time, by channels that did not link it: a campaign that is over within an
/// epoch has no course after a freezing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Window {
    pub start: usize,
    pub look: usize,
}

impl Window {
    /// The window of a group that was frozen after so many epochs.
    #[must_use]
    pub fn of(freeze: usize, look: usize) -> Self {
        Window { start: if freeze == EPOCHS { 0 } else { freeze }, look }
    }

    /// After how many epochs the groups were frozen that are looked at in it.
    #[must_use]
    pub fn freeze(self) -> usize {
        if self.start == 0 { EPOCHS } else { self.start }
    }

    /// All freezings with all their looks, by freezing.
    pub fn all() -> impl Iterator<Item = Window> {
        let later = (1..EPOCHS)
            .flat_map(|start| (start + 1..=EPOCHS).map(move |look| Window { start, look }));
        later.chain([Window { start: 0, look: EPOCHS }])
    }
}

/// One account in one window; shares are of its exchanges there.
#[derive(Clone, Debug, Default)]
pub struct Features {
    pub exchanges: f64,
    /// Share in the eight hours that were its quietest before the freezing; `None`
    /// where there was too little to know them by.
    pub quiet: Option<f64>,
    pub follow_ups: f64,
    /// Likeness of consecutive sampled questions, less that of any two.
    pub thread: Option<f64>,
    pub reasoning: f64,
    pub probabilities: f64,
    pub grading: f64,
    /// Natural log of the mean tokens of an answer.
    pub length: Option<f64>,
    /// Share within seconds of a full five minutes, where chance gives 0.05.
    pub on_the_mark: f64,
    /// Variance of the log volumes of its slices beyond what chance gives.
    pub drift: Option<f64>,
    /// Sampled exchanges, and the wordings that recur among them.
    pub sampled: u32,
    pub recurring: Vec<Recurring>,
    /// By hour of day, adding up to 1, smoothed.
    pub hours: [f32; 24],
    /// The smallest question hash that the account's sets may have dropped.
    pub questions_below: u64,
    /// Kept questions up to the look, by hash.
    pub questions: Vec<u64>,
}

/// A wording that an account used in several of its sampled exchanges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recurring {
    /// Half of a hash; among a group's wordings the whole is not needed.
    pub wording: u32,
    /// A bit for each sampled exchange that has it.
    pub exchanges: u32,
}

// A bit for each exchange that a profile can have sampled.
const _: () = assert!(EPOCHS * crate::profile::SAMPLE <= u32::BITS as usize);

const QUIET_HOURS: usize = 8;
/// Exchanges before the freezing by which an account's quiet hours are known.
const QUIET_KNOWN: u32 = 12;

impl Features {
    /// Works out an account's features in a window.
    #[must_use]
    pub fn of(member: &Member, window: Window) -> Self {
        let profile = &member.profile;
        let range = window.start..window.look;
        let mut f = Features { questions_below: u64::MAX, ..Features::default() };
        let mut hours = [0u32; 24];
        let mut sums = [0u64; 5];
        let mut tokens = 0u64;
        let mut slices: Vec<f64> = Vec::new();
        let mut consecutive = (0.0, 0usize);
        let mut any = (0.0, 0usize);
        let mut worded: Vec<(u64, u32)> = Vec::new();
        for (_, epoch) in profile.epochs(range) {
            f.exchanges += f64::from(epoch.exchanges);
            for (sum, count) in sums.iter_mut().zip([
                epoch.follow_ups,
                epoch.reasoning,
                epoch.logprobs.max(epoch.biased),
                epoch.grading,
                epoch.on_the_mark,
            ]) {
                *sum += u64::from(count);
            }
            tokens += epoch.output_tokens;
            for (sum, &hour) in hours.iter_mut().zip(&epoch.hours) {
                *sum += u32::from(hour);
            }
            slices.extend(epoch.slices.iter().map(|&s| f64::from(s)));
            let sample = epoch.sample();
            for s in sample {
                worded.extend(s.wordings().map(|wording| (wording, f.sampled)));
                f.sampled += 1;
            }
            for (i, a) in sample.iter().enumerate() {
                for (j, b) in sample.iter().enumerate().skip(i + 1) {
                    let Some(likeness) = topic_similarity(&a.topic, &b.topic) else { continue };
                    // Side by side and within the half hour that sessions are kept by.
                    if j == i + 1 && b.time_s.abs_diff(a.time_s) <= 1800 {
                        consecutive = (consecutive.0 + likeness, consecutive.1 + 1);
                    } else {
                        any = (any.0 + likeness, any.1 + 1);
                    }
                }
            }
        }
        // Before the freezing as well; see `sharding`.
        for (_, epoch) in profile.epochs(0..window.look) {
            let entries = epoch.entries(Kind::Prompt);
            if entries.len() == Kind::Prompt.bound() {
                let last = epoch.entries(Kind::Prompt).last().map_or(0, |e| e.hash);
                f.questions_below = f.questions_below.min(last + 1);
            }
            f.questions.extend(entries.map(|e| e.hash));
        }
        worded.sort_unstable();
        f.recurring = worded
            .chunk_by(|a, b| a.0 == b.0)
            .filter(|run| run.len() > 1)
            .map(|run| Recurring {
                wording: crate::link::joint(&[run[0].0]) as u32,
                exchanges: run.iter().fold(0, |bits, w| bits | 1 << w.1),
            })
            .collect();
        f.questions.sort_unstable();
        f.questions.dedup();
        let total = f.exchanges.max(1.0);
        [f.follow_ups, f.reasoning, f.probabilities, f.grading, f.on_the_mark] =
            sums.map(|s| s as f64 / total);
        f.length = (tokens > 0).then(|| (tokens as f64 / total).ln());
        if consecutive.1 > 0 && any.1 > 0 {
            f.thread = Some(consecutive.0 / consecutive.1 as f64 - any.0 / any.1 as f64);
        }
        f.drift = drift(&slices);
        f.quiet = quiet(member, window, &hours);
        let smooth = 0.5f32;
        let sum: f32 = hours.iter().map(|&h| h as f32 + smooth).sum();
        for (share, &hour) in f.hours.iter_mut().zip(&hours) {
            *share = (hour as f32 + smooth) / sum;
        }
        f
    }
}

/// Variance of ln(1 + volume) over slices, less what Poisson counts of the same mean
/// would have; `None` with less than four exchanges a slice.
fn drift(slices: &[f64]) -> Option<f64> {
    let mean = slices.iter().sum::<f64>() / slices.len().max(1) as f64;
    if slices.len() < SLICES || mean < 4.0 {
        return None;
    }
    let logs: Vec<f64> = slices.iter().map(|s| (1.0 + s).ln()).collect();
    let centre = logs.iter().sum::<f64>() / logs.len() as f64;
    let variance = logs.iter().map(|l| (l - centre).powi(2)).sum::<f64>() / (logs.len() - 1) as f64;
    Some((variance - 1.0 / (1.0 + mean)).max(0.0).sqrt())
}

fn quiet(member: &Member, window: Window, hours: &[u32; 24]) -> Option<f64> {
    let mut before = [0u32; 24];
    for (_, epoch) in member.profile.epochs(0..window.start) {
        for (sum, &hour) in before.iter_mut().zip(&epoch.hours) {
            *sum += u32::from(hour);
        }
    }
    let after: u32 = hours.iter().sum();
    if after == 0 || before.iter().sum::<u32>() < QUIET_KNOWN {
        return None;
    }
    let at =
        |start: usize, of: &[u32; 24]| (0..QUIET_HOURS).map(|h| of[(start + h) % 24]).sum::<u32>();
    let start = (0..24).min_by_key(|&start| at(start, &before))?;
    Some(f64::from(at(start, hours)) / f64::from(after))
}

/// What the whole crowd did in a window, which a group is held against.
#[derive(Clone, Debug)]
pub struct Crowd {
    pub window: Window,
    /// By epoch of the window, what a bin's hour of day is, and how busy the crowd was in
    /// it beside the same hour on other days: weekends, holidays, outages.
    pub days: Vec<[(u8, f32); BINS]>,
    /// By epoch and hour of day, the second of these added up.
    pub hours: Vec<[f32; 24]>,
    /// The crowd's share on the new model in the first day, by release; `None` where
    /// the release is not in the window, or so late that it can't be told who stays.
    pub moved: Vec<Option<f64>>,
}

/// How much of the window must lie after a release: its first day, and as much as is looked
/// at before it. Evaluation teams run everything on that day, which shows once they are
/// gone and everybody else is still there.
const SETTLED_US: i64 = 4 * stillwatch_exchange::time::DAY_US;

impl Crowd {
    /// Adds up the population.
    #[must_use]
    pub fn of(population: &Population, window: Window) -> Self {
        let calendar = population.calendar();
        let mut bins = vec![[0u32; BINS]; window.look - window.start];
        for member in population.members() {
            for (i, epoch) in member.profile.epochs(window.start..window.look) {
                for bin in ones(&epoch.active) {
                    bins[i - window.start][bin] += 1;
                }
            }
        }
        let days: Vec<[(u8, f32); BINS]> = bins
            .iter()
            .enumerate()
            .map(|(i, bins)| {
                let hour = |bin: usize| calendar.hour_of_bin(window.start + i, bin);
                let mut by_hour = [(0.0f64, 0usize); 24];
                for (bin, &active) in bins.iter().enumerate() {
                    by_hour[hour(bin)].0 += f64::from(active);
                    by_hour[hour(bin)].1 += 1;
                }
                std::array::from_fn(|bin| {
                    let (sum, count) = by_hour[hour(bin)];
                    let mean = sum / count.max(1) as f64;
                    (hour(bin) as u8, ((f64::from(bins[bin]) + 1.0) / (mean + 1.0)) as f32)
                })
            })
            .collect();
        let hours = days
            .iter()
            .map(|days| {
                let mut hours = [0.0f32; 24];
                for &(hour, busy) in days {
                    hours[usize::from(hour) % 24] += busy;
                }
                hours
            })
            .collect();
        let (start, end) = (calendar.epoch_start(window.start).0, calendar.look_at(window.look).0);
        let moved = calendar
            .releases()
            .iter()
            .enumerate()
            .map(|(r, &(released, _))| {
                if released < start || released + SETTLED_US > end {
                    return None;
                }
                let mut sum = 0.0;
                let mut count = 0usize;
                for pivot in population.members().iter().map(|m| &m.profile.pivots()[r]) {
                    if pivot.before > 0 && pivot.after > 0 {
                        sum += f64::from(pivot.moved) / f64::from(pivot.after);
                        count += 1;
                    }
                }
                (count > 0).then(|| sum / count as f64)
            })
            .collect();
        Crowd { window, days, hours, moved }
    }
}

/// The positions of the set bits.
pub(super) fn ones(words: &[u64]) -> impl Iterator<Item = usize> + '_ {
    words.iter().enumerate().flat_map(|(w, &word)| {
        let mut rest = word;
        std::iter::from_fn(move || {
            (rest != 0).then(|| {
                let bit = rest.trailing_zeros() as usize;
                rest &= rest - 1;
                w * 64 + bit
            })
        })
    })
}

//! A series as steps over time.

use plotly::Scatter;
use plotly::common::{Fill, Line, LineShape, Mode};
use stillwatch_exchange::picture::Series;
use stillwatch_exchange::time::Time;

use crate::wording;

/// The most points that a series is drawn with.
const POINTS_MAX: usize = 800;

/// A series as steps: where each bin begins, and the end of the last.
pub(super) struct Steps {
    /// One more than there are bins; the last is the end.
    pub(super) edges: Vec<String>,
    pub(super) counts: Vec<f64>,
    pub(super) width_us: i64,
    pub(super) start_us: i64,
    pub(super) end_us: i64,
}

impl Steps {
    /// `None` for an empty series, one without a width, and one that leaves the
    /// years that axes know. Bins are added up until [`POINTS_MAX`] are enough.
    pub(super) fn of(series: &Series) -> Option<Steps> {
        let bins = series.counts.len();
        if bins == 0 || series.width_us <= 0 {
            return None;
        }
        let together = bins.div_ceil(POINTS_MAX);
        let width_us = series.width_us.checked_mul(i64::try_from(together).ok()?)?;
        let counts: Vec<f64> = series
            .counts
            .chunks(together)
            .map(|chunk| chunk.iter().filter(|c| c.is_finite()).sum())
            .collect();
        let edge = |i: usize| {
            i64::try_from(i)
                .ok()
                .and_then(|i| i.checked_mul(width_us))
                .and_then(|us| us.checked_add(series.start.0))
        };
        let edges: Option<Vec<String>> =
            (0..=counts.len()).map(|i| edge(i).and_then(wording::stamp)).collect();
        Some(Steps {
            edges: edges?,
            width_us,
            start_us: series.start.0,
            end_us: edge(counts.len())?,
            counts,
        })
    }

    /// The counts with the last one again, for the step that ends at the last edge.
    pub(super) fn heights(&self) -> Vec<f64> {
        self.counts.iter().copied().chain(self.counts.last().copied()).collect()
    }

    pub(super) fn area(&self, name: &str, color: &'static str) -> Box<Scatter<String, f64>> {
        Scatter::new(self.edges.clone(), self.heights())
            .name(name)
            .mode(Mode::Lines)
            .line(Line::new().color(color).width(1.5).shape(LineShape::Hv))
            .fill(Fill::ToZeroY)
            .fill_color(format!("{color}33"))
            .hover_template("%{y:,.0f}")
    }
}

/// The bin with the most in it, as «3 March 2026, 04:00 UTC» with its count.
fn busiest(series: &Series) -> Option<(String, f64)> {
    let steps = Steps::of(series)?;
    let (i, most) = steps
        .counts
        .iter()
        .copied()
        .enumerate()
        .reduce(|best, bin| if bin.1 > best.1 { bin } else { best })?;
    let start_us =
        i64::try_from(i).ok()?.checked_mul(steps.width_us)?.checked_add(steps.start_us)?;
    Some((wording::moment(Time(start_us)), most))
}

/// What a series says, for those who can't see it.
pub(crate) fn series_in_words(series: &Series) -> String {
    let Some(steps) = Steps::of(series) else {
        return String::new();
    };
    let total: f64 = steps.counts.iter().sum();
    let peak = match busiest(series) {
        Some((when, most)) if most > 0.0 => {
            format!(
                " The most were {} in the {} from {when} on.",
                wording::significant(most),
                wording::bin_width(steps.width_us)
            )
        }
        _ => String::new(),
    };
    format!(
        "{} in the time drawn, {} to {}.{peak}",
        wording::counted(total.max(0.0).round() as u64, "exchange", "exchanges"),
        wording::day(Time(steps.start_us)),
        wording::day(Time(steps.end_us.saturating_sub(1))),
    )
}

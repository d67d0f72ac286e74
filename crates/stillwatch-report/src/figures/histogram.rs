//! Values as a histogram, and where the middle of them lies.

use plotly::Scatter;
use plotly::common::{Fill, Line, LineShape, Mode};
use plotly::layout::Axis;

use super::{log_axis, small_axis};
use crate::wording;

/// Values counted in bins of equal width, or of equal ratio.
pub(super) struct Bins {
    /// One more than there are counts.
    edges: Vec<f64>,
    counts: Vec<u32>,
}

impl Bins {
    /// `values` are finite and not empty; above 0 where `log`.
    pub(super) fn of(values: &[f64], count: usize, log: bool) -> Bins {
        let place = |v: f64| if log { v.ln() } else { v };
        let low = values.iter().copied().map(place).fold(f64::INFINITY, f64::min);
        let high = values.iter().copied().map(place).fold(f64::NEG_INFINITY, f64::max);
        // One value alone still gets a bin that can be seen.
        let (low, spread) = if high > low {
            (low, high - low)
        } else {
            let spread = (low.abs() * 0.1).max(0.1);
            (low - spread / 2.0, spread)
        };
        let width = spread / count as f64;
        let mut counts = vec![0_u32; count];
        for v in values {
            let i = (((place(*v) - low) / width).max(0.0) as usize).min(count.saturating_sub(1));
            if let Some(bin) = counts.get_mut(i) {
                *bin += 1;
            }
        }
        let edge = |i: usize| {
            let at = low + width * i as f64;
            if log { at.exp() } else { at }
        };
        Bins { edges: (0..=count).map(edge).collect(), counts }
    }

    /// The histogram as one outline, which works on logarithmic axes as well.
    /// `unit` is what is counted, in the plural.
    pub(super) fn outline(&self, color: &'static str, unit: &str) -> Box<Scatter<f64, u32>> {
        let mut xs: Vec<f64> = self.edges.first().copied().into_iter().collect();
        xs.extend(&self.edges);
        let mut ys = vec![0];
        ys.extend(&self.counts);
        ys.push(0);
        let mut hover = vec![String::new()];
        hover.extend(self.counts.iter().zip(self.edges.windows(2)).map(
            |(count, edge)| match edge {
                [from, to] => format!(
                    "{count} {unit} between {} and {}",
                    wording::significant(*from),
                    wording::significant(*to)
                ),
                _ => String::new(),
            },
        ));
        hover.push(String::new());
        Scatter::new(xs, ys)
            .mode(Mode::Lines)
            .line(Line::new().color(color).width(1.2).shape(LineShape::Hv))
            .fill(Fill::ToZeroY)
            .fill_color(format!("{color}59"))
            .hover_text_array(hover)
            .hover_template("%{hovertext}<extra></extra>")
    }
}

pub(super) fn sorted_finite(values: &[f64]) -> Vec<f64> {
    let mut values: Vec<f64> = values.iter().copied().filter(|v| v.is_finite()).collect();
    values.sort_by(f64::total_cmp);
    values
}

/// The value below which `part` of the sorted values lie.
pub(super) fn quantile(sorted: &[f64], part: f64) -> Option<f64> {
    let i = ((sorted.len().checked_sub(1)? as f64) * part).round() as usize;
    sorted.get(i).copied()
}

/// Whether values that are all above 0 need a logarithmic axis to be seen.
pub(super) fn wide(sorted: &[f64]) -> bool {
    matches!((sorted.first(), sorted.last()), (Some(low), Some(high)) if *low > 0.0 && high / low > 50.0)
}

/// The axis that the sorted values of a small chart are spread over.
pub(super) fn spread_axis(title: &str, sorted: &[f64], log: bool) -> Axis {
    match (sorted.first(), sorted.last()) {
        (Some(low), Some(high)) if log => log_axis(small_axis(title), *low, *high),
        _ => small_axis(title),
    }
}

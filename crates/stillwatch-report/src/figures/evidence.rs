//! A piece of evidence: the campaign among its reference groups.

use plotly::common::{DashType, Marker, Mode};
use plotly::layout::{Axis, HoverMode, RangeMode};
use plotly::{Layout, Scatter};
use stillwatch_exchange::picture::EvidencePicture;

use super::histogram::{Bins, quantile, sorted_finite, spread_axis, wide};
use super::{BLUE, Figure, Tools, VERMILLION, flag, label, small_axis, small_margin, upright};
use crate::wording;

/// Up to so many reference groups are drawn as a dot each, more as a histogram.
const STRIP_MAX: usize = 60;

/// The campaign's value among those of the reference groups.
pub(crate) fn chart(evidence: &EvidencePicture) -> Option<Figure> {
    let references = sorted_finite(&evidence.references);
    if references.is_empty() || !evidence.value.is_finite() {
        return None;
    }
    let mut all = references.clone();
    all.push(evidence.value);
    all.sort_by(f64::total_cmp);
    let log = wide(&all);
    let strip = references.len() <= STRIP_MAX;
    let x_axis = spread_axis(&label(&evidence.measure), &all, log);
    let layout = Layout::new()
        .margin(small_margin(22))
        .show_legend(false)
        .hover_mode(HoverMode::Closest)
        .shapes(vec![upright(evidence.value, VERMILLION, DashType::Solid)])
        .annotations(vec![flag(evidence.value, log, "<b>this group</b>", VERMILLION)])
        .x_axis(x_axis.show_grid(strip));
    let layout = if strip {
        layout.y_axis(Axis::new().visible(false).fixed_range(true).range(vec![0.0, 1.0]))
    } else {
        layout.y_axis(small_axis("groups").range_mode(RangeMode::ToZero).n_ticks(4))
    };
    let mut figure = Figure::new(if strip { 140 } else { 190 }, Tools::None, layout);
    if strip {
        // Dots are spread over the height in a fixed order so that equal ones show.
        let heights: Vec<f64> =
            (0..references.len()).map(|i| 0.2 + 0.6 * ((i * 7) % 11) as f64 / 10.0).collect();
        figure.add(
            Scatter::new(references, heights)
                .mode(Mode::Markers)
                .marker(Marker::new().color(BLUE).size(8).opacity(0.55))
                .hover_template("a reference group: %{x:.4~g}<extra></extra>"),
        );
    } else {
        figure.add(Bins::of(&references, 30, log).outline(BLUE, "reference groups"));
    }
    // An invisible point stretches the axis to the campaign's value; lines don't.
    figure.add(
        Scatter::new(vec![evidence.value], vec![0.5])
            .mode(Mode::Markers)
            .marker(Marker::new().color(VERMILLION).size(9).opacity(if strip { 1.0 } else { 0.0 }))
            .hover_template("this group: %{x:.4~g}<extra></extra>"),
    );
    Some(figure)
}

/// Where the campaign's value stands among the reference groups, in a sentence.
pub(crate) fn standing(evidence: &EvidencePicture) -> Option<String> {
    let references = sorted_finite(&evidence.references);
    let total = references.len();
    if total == 0 || !evidence.value.is_finite() {
        return None;
    }
    let below = references.iter().filter(|r| **r < evidence.value).count();
    let above = references.iter().filter(|r| **r > evidence.value).count();
    if below == 0 && above == 0 {
        return Some(format!(
            "Here {}, the same as {}.",
            wording::significant(evidence.value),
            wording::counted(total as u64, "reference group", "reference groups")
        ));
    }
    let (side, passed) = if below >= above { ("higher", below) } else { ("lower", above) };
    let median = quantile(&references, 0.5).unwrap_or_default();
    let among = match (passed == total, total) {
        (true, 1) => format!("{side} than the one reference group"),
        (true, _) => format!("{side} than all {} reference groups", wording::count(total as u64)),
        (false, _) => format!(
            "{side} than {} of {} reference groups",
            wording::count(passed as u64),
            wording::count(total as u64)
        ),
    };
    Some(format!(
        "Here {}, {among}, whose median is {}.",
        wording::significant(evidence.value),
        wording::significant(median)
    ))
}

//! The crowd: all traffic, and all groups that were judged.

use std::collections::BTreeMap;

use plotly::common::{Fill, Font, Line, LineShape, Marker, MarkerSymbol, Mode, Position};
use plotly::layout::{AxisType, HoverMode, RangeMode};
use plotly::{Layout, Scatter};
use stillwatch_exchange::picture::{CrowdPicture, GroupDot};

use super::steps::Steps;
use super::{
    BLUE, Figure, GREEN, INK, MUTED, ORANGE, PURPLE, SKY, SURFACE, Tools, VERMILLION, axis, label,
    legend_above, log_axis, margin,
};
use crate::wording;

/// The most dots of the crowd that are drawn.
const DOTS_MAX: usize = 20_000;

/// All traffic with the reported part, and below it the reported part as a share.
pub(crate) fn traffic(crowd: &CrowdPicture) -> Option<Figure> {
    let all = Steps::of(&crowd.traffic)?;
    let reported = Steps::of(&crowd.reported_traffic).filter(|r| r.counts.iter().any(|c| *c > 0.0));
    let shares = reported.as_ref().filter(|r| {
        (r.start_us, r.width_us, r.counts.len()) == (all.start_us, all.width_us, all.counts.len())
    });
    let title = format!("per {}", wording::bin_width(all.width_us));
    let x_axis = axis("").type_(AxisType::Date).show_grid(false);
    let mut layout = Layout::new()
        .margin(margin(12))
        .hover_mode(HoverMode::XUnified)
        .show_legend(reported.is_some())
        .legend(legend_above())
        .x_axis(if shares.is_some() { x_axis.anchor("y2") } else { x_axis })
        .y_axis(axis(&title).range_mode(RangeMode::ToZero).domain(if shares.is_some() {
            &[0.38, 1.0]
        } else {
            &[0.0, 1.0]
        }));
    if shares.is_some() {
        layout = layout.y_axis2(
            axis("share")
                .range_mode(RangeMode::ToZero)
                .domain(&[0.0, 0.28])
                .tick_suffix("%")
                .n_ticks(4),
        );
    }
    let height_px = if shares.is_some() { 360 } else { 260 };
    let mut figure = Figure::new(height_px, Tools::ZoomAndSave, layout);
    figure.add(all.area("all traffic", BLUE));
    if let Some(reported) = &reported {
        figure.add(reported.area("by reported accounts", VERMILLION));
    }
    if let Some(reported) = shares {
        let percent: Vec<f64> = reported
            .heights()
            .iter()
            .zip(all.heights())
            .map(|(part, whole)| if whole > 0.0 { (100.0 * part / whole).min(100.0) } else { 0.0 })
            .collect();
        figure.add(
            Scatter::new(reported.edges.clone(), percent)
                .name("their share")
                .show_legend(false)
                .mode(Mode::Lines)
                .line(Line::new().color(VERMILLION).width(1.5).shape(LineShape::Hv))
                .fill(Fill::ToZeroY)
                .fill_color(format!("{VERMILLION}33"))
                .y_axis("y2")
                .hover_template("%{y:.2f} %"),
        );
    }
    Some(figure)
}

/// All judged groups as dots, accounts by score, the reported ones ringed and named.
/// `names` gives a reported group's campaign the name it bears on the page.
/// Returns the figure and how many dots were left out.
pub(crate) fn groups(
    groups: &[GroupDot],
    names: &BTreeMap<&str, String>,
) -> Option<(Figure, usize)> {
    const LOOKS: [(&str, MarkerSymbol); 6] = [
        (BLUE, MarkerSymbol::Circle),
        (GREEN, MarkerSymbol::Square),
        (ORANGE, MarkerSymbol::Diamond),
        (PURPLE, MarkerSymbol::TriangleUp),
        (SKY, MarkerSymbol::TriangleDown),
        (MUTED, MarkerSymbol::Cross),
    ];
    let (reported, crowd): (Vec<_>, Vec<_>) =
        groups.iter().filter(|g| g.score.is_finite()).partition(|g| g.campaign_id.is_some());
    if reported.is_empty() && crowd.is_empty() {
        return None;
    }
    let thinned = |dots: Vec<_>| -> (Vec<&GroupDot>, usize) {
        let step = dots.len().div_ceil(DOTS_MAX).max(1);
        let all = dots.len();
        let kept: Vec<&GroupDot> = dots.into_iter().step_by(step).collect();
        let left_out = all - kept.len();
        (kept, left_out)
    };
    let (crowd, left_out) = thinned(crowd);
    let (mut reported, reported_left_out) = thinned(reported);
    reported.sort_by(|a, b| (a.accounts, &a.campaign_id).cmp(&(b.accounts, &b.campaign_id)));

    let mut strata: BTreeMap<&str, usize> = BTreeMap::new();
    for group in crowd.iter().chain(&reported) {
        *strata.entry(&group.stratum).or_default() += 1;
    }
    let mut strata: Vec<(&str, usize)> = strata.into_iter().collect();
    strata.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
    // The last look is for all strata that are too rare for one of their own.
    let own = if strata.len() > LOOKS.len() { LOOKS.len() - 1 } else { strata.len() };
    let look_of: BTreeMap<&str, usize> =
        strata.iter().enumerate().map(|(i, (name, _))| (*name, i.min(own))).collect();

    let sizes = || crowd.iter().chain(&reported).map(|g| g.accounts.max(1) as f64);
    let (least, most) = (sizes().fold(f64::INFINITY, f64::min), sizes().fold(1.0, f64::max));
    let layout = Layout::new()
        .margin(margin(12))
        .hover_mode(HoverMode::Closest)
        .show_legend(true)
        .legend(legend_above())
        .x_axis(log_axis(axis("accounts in the group"), least, most))
        .y_axis(axis("confirmation score"));
    let mut figure = Figure::new(440, Tools::ZoomAndSave, layout);
    for (i, (color, symbol)) in LOOKS.into_iter().enumerate() {
        let dots: Vec<&&GroupDot> =
            crowd.iter().filter(|g| look_of.get(g.stratum.as_str()) == Some(&i)).collect();
        if dots.is_empty() {
            continue;
        }
        let name = match strata.get(i) {
            Some((name, _)) if i < own => label(name),
            _ => "other".to_owned(),
        };
        figure.add(
            Scatter::new(
                dots.iter().map(|g| g.accounts.max(1)).collect(),
                dots.iter().map(|g| g.score).collect(),
            )
            .name(&name)
            .mode(Mode::Markers)
            .marker(
                Marker::new()
                    .color(color)
                    .symbol(symbol)
                    .size(7)
                    .opacity(0.6)
                    .line(Line::new().width(0.0)),
            )
            .hover_template("%{x:,} accounts<br>score %{y:.2f}"),
        );
    }
    if !reported.is_empty() {
        let name = |g: &&GroupDot| {
            let id = g.campaign_id.as_deref().unwrap_or_default();
            names.get(id).map_or_else(|| label(id), |name| label(name))
        };
        let hover = |g: &&GroupDot| format!("{}<br>linked by {}", name(g), label(&g.stratum));
        // Beyond a dozen the names would cover one another; the number is enough.
        let shown = |g: &&GroupDot| match name(g) {
            long if reported.len() > 12 => long.rsplit(' ').next().unwrap_or_default().to_owned(),
            short => short,
        };
        figure.add(
            Scatter::new(
                reported.iter().map(|g| g.accounts.max(1)).collect(),
                reported.iter().map(|g| g.score).collect(),
            )
            .name("reported")
            .mode(Mode::MarkersText)
            .text_array(reported.iter().map(shown).collect::<Vec<_>>())
            // Neighbours are named above and below by turns, so that names seldom meet.
            .text_position_array(
                (0..reported.len())
                    .map(|i| if i % 2 == 0 { Position::TopCenter } else { Position::BottomCenter })
                    .collect(),
            )
            .text_font(Font::new().size(12).color(INK))
            .hover_text_array(reported.iter().map(hover).collect::<Vec<_>>())
            .hover_template("%{hovertext}<br>%{x:,} accounts<br>score %{y:.2f}<extra></extra>")
            .clip_on_axis(false)
            .marker(
                Marker::new()
                    .color(VERMILLION)
                    .symbol(MarkerSymbol::Circle)
                    .size(11)
                    .line(Line::new().color(SURFACE).width(1.5)),
            ),
        );
    }
    Some((figure, left_out + reported_left_out))
}

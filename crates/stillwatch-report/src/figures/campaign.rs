//! A campaign: its timeline, its graph, its members' hours and volumes.

use plotly::common::{
    Anchor, DashType, Font, HoverInfo, Line, LineShape, Marker, MarkerSymbol, Mode, Position,
};
use plotly::layout::{
    Annotation, Axis, AxisType, HoverMode, Margin, RangeMode, Shape, ShapeLayer, ShapeLine,
    ShapeType,
};
use plotly::{Bar, Layout, Scatter};
use stillwatch_exchange::picture::{CampaignPicture, Graph};
use stillwatch_exchange::time::Time;

use super::histogram::{Bins, quantile, sorted_finite, spread_axis, wide};
use super::steps::Steps;
use super::{
    BLUE, Figure, GREEN, INK, MUTED, ORANGE, PURPLE, SKY, SURFACE, Tools, VERMILLION, axis, flag,
    label, legend_above, margin, small_axis, small_margin, upright,
};
use crate::wording;

/// The most nodes of a group's graph that are drawn.
const NODES_MAX: usize = 1_500;
/// The most edges of it.
const EDGES_MAX: usize = 6_000;

/// The most marks in a timeline.
const MARKS_MAX: usize = 20;

/// A moment in a timeline's list of marks; `number` where it is inside the chart.
pub(crate) struct Mark {
    pub(crate) number: Option<usize>,
    pub(crate) time: Time,
    pub(crate) text: String,
}

/// The marks of a campaign in order of time, the detection among them.
pub(crate) fn marks(campaign: &CampaignPicture) -> Vec<Mark> {
    let mut marks: Vec<(Time, String)> = campaign.marks.clone();
    let detectable = campaign.finding.first_detectable;
    if !marks.iter().any(|(time, _)| *time == detectable) {
        marks.push((detectable, "first detectable".to_owned()));
    }
    marks.sort();
    marks.dedup();
    marks.truncate(MARKS_MAX);
    let inside = Steps::of(&campaign.traffic).map(|s| s.start_us..=s.end_us);
    let mut number = 0;
    marks
        .into_iter()
        .map(|(time, text)| {
            let shown = inside.as_ref().is_some_and(|range| range.contains(&time.0));
            number += usize::from(shown);
            Mark { number: shown.then_some(number), time, text }
        })
        .collect()
}

/// The members' exchanges and of them the harvest, with the numbered marks.
pub(crate) fn timeline(campaign: &CampaignPicture, marks: &[Mark]) -> Option<Figure> {
    let traffic = Steps::of(&campaign.traffic)?;
    let harvest = Steps::of(&campaign.harvest);
    let span = (traffic.end_us - traffic.start_us).max(1) as f64;

    // Numbers closer together than this part of the width would cover one another.
    const APART: f64 = 0.035;
    let mut shapes = Vec::new();
    let mut flags: Vec<(f64, String, usize, usize)> = Vec::new();
    for mark in marks {
        let (Some(number), Some(x)) = (mark.number, wording::stamp(mark.time.0)) else {
            continue;
        };
        shapes.push(
            Shape::new()
                .shape_type(ShapeType::Line)
                .layer(ShapeLayer::Above)
                .x_ref("x")
                .y_ref("paper")
                .x0(x.as_str())
                .x1(x.as_str())
                .y0(0.0)
                .y1(1.0)
                .line(ShapeLine::new().color(INK).width(1.0).dash(DashType::Dot)),
        );
        let place = (mark.time.0 - traffic.start_us) as f64 / span;
        match flags.last_mut() {
            Some((last, _, _, to)) if place - *last < APART => *to = number,
            _ => flags.push((place, x, number, number)),
        }
    }
    let annotations = flags
        .into_iter()
        .map(|(_, x, from, to)| {
            let text = match to - from {
                0 => format!("<b>{from}</b>"),
                1 => format!("<b>{from}, {to}</b>"),
                _ => format!("<b>{from}–{to}</b>"),
            };
            Annotation::new()
                .x_ref("x")
                .y_ref("paper")
                .x(x)
                .y(1.0)
                .y_anchor(Anchor::Bottom)
                .show_arrow(false)
                .text(text)
                .font(Font::new().size(12).color(INK))
        })
        .collect();

    let title = format!("per {}", wording::bin_width(traffic.width_us));
    let layout = Layout::new()
        .margin(margin(24))
        .hover_mode(HoverMode::XUnified)
        .show_legend(harvest.is_some())
        .legend(legend_above().y(1.1))
        .shapes(shapes)
        .annotations(annotations)
        .x_axis(axis("").type_(AxisType::Date).show_grid(false))
        .y_axis(axis(&title).range_mode(RangeMode::ToZero));
    let mut figure = Figure::new(300, Tools::ZoomAndSave, layout);
    figure.add(traffic.area("members' exchanges", BLUE));
    if let Some(harvest) = harvest {
        figure.add(harvest.area("of them harvest", VERMILLION));
    }
    Some(figure)
}

/// The group as a graph, and how many nodes and edges were left out.
pub(crate) fn graph(graph: &Graph) -> Option<(Figure, usize)> {
    const LOOKS: [(&str, MarkerSymbol); 6] = [
        (VERMILLION, MarkerSymbol::Diamond),
        (GREEN, MarkerSymbol::Square),
        (ORANGE, MarkerSymbol::TriangleUp),
        (PURPLE, MarkerSymbol::Pentagon),
        (SKY, MarkerSymbol::Hexagon),
        (MUTED, MarkerSymbol::Cross),
    ];
    let nodes: Vec<_> = graph.nodes.iter().take(NODES_MAX).collect();
    if nodes.is_empty() || !nodes.iter().any(|n| n.x.is_finite() && n.y.is_finite()) {
        return None;
    }
    let mut xs = Vec::new();
    let mut ys = Vec::new();
    let at = |i: u32| {
        usize::try_from(i)
            .ok()
            .and_then(|i| nodes.get(i))
            .filter(|n| n.x.is_finite() && n.y.is_finite())
    };
    for (from, to) in graph.edges.iter().take(EDGES_MAX) {
        if let (Some(from), Some(to)) = (at(*from), at(*to)) {
            xs.extend([Some(from.x), Some(to.x), None]);
            ys.extend([Some(from.y), Some(to.y), None]);
        }
    }
    let hidden = || Axis::new().visible(false).fixed_range(false).auto_margin(false);
    let layout = Layout::new()
        .margin(Margin::new().left(8).right(8).top(8).bottom(8))
        .hover_mode(HoverMode::Closest)
        .show_legend(true)
        .legend(legend_above())
        .x_axis(hidden())
        .y_axis(hidden());
    let mut figure = Figure::new(460, Tools::ZoomAndSave, layout);
    figure.add(
        Scatter::new(xs, ys)
            .mode(Mode::Lines)
            .line(Line::new().color(format!("{MUTED}59")).width(0.8))
            .hover_info(HoverInfo::Skip)
            .show_legend(false),
    );
    let mut kinds: Vec<&str> = Vec::new();
    for node in &nodes {
        if node.kind != "account" && !kinds.contains(&node.kind.as_str()) {
            kinds.push(&node.kind);
        }
    }
    let look_of =
        |kind: &str| kinds.iter().position(|k| *k == kind).map(|i| i.min(LOOKS.len() - 1));
    // The area of a node is in proportion to its size among those of its sort.
    let scale = |account: bool| {
        nodes
            .iter()
            .filter(|n| (n.kind == "account") == account && n.size.is_finite())
            .map(|n| n.size)
            .fold(0.0, f64::max)
    };
    let (largest_account, largest_shared) = (scale(true), scale(false));
    let diameter = |size: f64, largest: f64, least: f64, most: f64| {
        let part =
            if largest > 0.0 && size.is_finite() { (size / largest).clamp(0.0, 1.0) } else { 0.0 };
        (least + (most - least) * part.sqrt()).round() as usize
    };
    let shared_count = nodes.iter().filter(|n| n.kind != "account").count();
    let looks = std::iter::once((None, BLUE, MarkerSymbol::Circle))
        .chain(LOOKS.into_iter().enumerate().map(|(i, (color, symbol))| (Some(i), color, symbol)));
    for (look, color, symbol) in looks {
        let chosen: Vec<_> = nodes
            .iter()
            .filter(|n| n.x.is_finite() && n.y.is_finite())
            .filter(|n| {
                if n.kind == "account" {
                    look.is_none()
                } else {
                    look.is_some() && look_of(&n.kind) == look
                }
            })
            .collect();
        let Some(first) = chosen.first() else {
            continue;
        };
        let account = look.is_none();
        let name = match look {
            None => "accounts".to_owned(),
            Some(i) if i == LOOKS.len() - 1 && kinds.len() > LOOKS.len() => "other".to_owned(),
            Some(_) => label(&first.kind),
        };
        let hover: Vec<String> = chosen
            .iter()
            .map(|n| {
                let size = if n.size.is_finite() && n.size >= 0.0 { n.size as u64 } else { 0 };
                let unit = if account {
                    wording::counted(size, "exchange", "exchanges")
                } else {
                    format!("shared by {}", wording::counted(size, "account", "accounts"))
                };
                format!("{}<br>{unit}", label(&n.label))
            })
            .collect();
        let sizes: Vec<usize> = chosen
            .iter()
            .map(|n| {
                if account {
                    diameter(n.size, largest_account, 5.0, 12.0)
                } else {
                    diameter(n.size, largest_shared, 12.0, 26.0)
                }
            })
            .collect();
        let mut trace = Scatter::new(
            chosen.iter().map(|n| n.x).collect(),
            chosen.iter().map(|n| n.y).collect(),
        )
        .name(&name)
        .mode(Mode::Markers)
        .marker(
            Marker::new()
                .color(color)
                .symbol(symbol)
                .size_array(sizes)
                .opacity(1.0)
                .line(Line::new().color(SURFACE).width(1.0)),
        )
        .hover_text_array(hover)
        .hover_template("%{hovertext}<extra></extra>")
        .clip_on_axis(false);
        if !account && shared_count <= 12 {
            trace = trace
                .mode(Mode::MarkersText)
                .text_array(chosen.iter().map(|n| label(&n.label)).collect::<Vec<_>>())
                .text_position(Position::TopCenter)
                .text_font(Font::new().size(11).color(INK));
        }
        figure.add(trace);
    }
    let left_out = graph.nodes.len().saturating_sub(NODES_MAX);
    Some((figure, left_out))
}

/// Shares by hour of day: 24 finite values of which some are above 0.
fn by_hour(values: &[f64]) -> Option<Vec<f64>> {
    (values.len() == 24 && values.iter().all(|v| v.is_finite()) && values.iter().any(|v| *v > 0.0))
        .then(|| values.iter().map(|v| 100.0 * v).collect())
}

/// Exchanges by hour of day, the members beside the crowd.
pub(crate) fn hours(members: &[f64], crowd: &[f64]) -> Option<Figure> {
    let members = by_hour(members)?;
    let crowd = by_hour(crowd);
    let layout = Layout::new()
        .margin(small_margin(12))
        .hover_mode(HoverMode::XUnified)
        .show_legend(crowd.is_some())
        .legend(legend_above())
        .bar_gap(0.15)
        .x_axis(small_axis("hour of day, UTC").dtick(3.0).show_grid(false))
        .y_axis(small_axis("share of exchanges").tick_suffix("%").range_mode(RangeMode::ToZero));
    let mut figure = Figure::new(270, Tools::None, layout);
    let hours: Vec<u32> = (0..24).collect();
    figure.add(
        Bar::new(hours.clone(), members)
            .name("members")
            .marker(Marker::new().color(VERMILLION).opacity(0.75))
            .hover_template("%{y:.1f} %"),
    );
    if let Some(crowd) = crowd {
        figure.add(
            Scatter::new(hours, crowd)
                .name("crowd")
                .mode(Mode::Lines)
                .line(Line::new().color(BLUE).width(2.5).shape(LineShape::Hvh))
                .hover_template("%{y:.1f} %"),
        );
    }
    Some(figure)
}

/// The hour in which the most was asked, and its share of 0 to 1.
pub(crate) fn busiest_hour(values: &[f64]) -> Option<(usize, f64)> {
    by_hour(values)?
        .into_iter()
        .enumerate()
        .reduce(|best, hour| if hour.1 > best.1 { hour } else { best })
        .map(|(hour, percent)| (hour, percent / 100.0))
}

/// Median and the middle half of the volumes.
pub(crate) fn volume_quartiles(volumes: &[f64]) -> Option<(f64, f64, f64)> {
    let sorted = sorted_finite(volumes);
    Some((quantile(&sorted, 0.25)?, quantile(&sorted, 0.5)?, quantile(&sorted, 0.75)?))
}

/// How many exchanges the members made, as a histogram with the median marked.
pub(crate) fn volumes(volumes: &[f64]) -> Option<Figure> {
    let sorted = sorted_finite(volumes);
    let median = quantile(&sorted, 0.5)?;
    let log = wide(&sorted);
    let bins = Bins::of(&sorted, 30, log);
    let x_axis = spread_axis("exchanges per account", &sorted, log).show_grid(false);
    let layout = Layout::new()
        .margin(small_margin(20))
        .show_legend(false)
        .hover_mode(HoverMode::Closest)
        .shapes(vec![upright(median, INK, DashType::Dot)])
        .annotations(vec![flag(median, log, "median", INK)])
        .x_axis(x_axis)
        .y_axis(small_axis("accounts").range_mode(RangeMode::ToZero));
    let mut figure = Figure::new(270, Tools::None, layout);
    figure.add(bins.outline(VERMILLION, "accounts"));
    Some(figure)
}

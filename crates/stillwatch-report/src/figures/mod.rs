//! The charts: parts of a picture as plotly.js figures in JSON.
//!
//! Colours are those of the light page. The page's style sheet maps each of them to a
//! custom property, so that dark mode and print need no second drawing; a chart that
//! is saved as an image comes out in the light ones. Data colours are Okabe and Ito's,
//! told apart by symbol as well where there are more than two.

pub(crate) mod campaign;
pub(crate) mod crowd;
pub(crate) mod duel;
pub(crate) mod evidence;
mod histogram;
mod steps;

use plotly::common::{Anchor, DashType, Font, Label, Orientation, Title};
use plotly::configuration::{DisplayModeBar, ModeBarButtonName};
use plotly::layout::{
    Annotation, Axis, AxisType, DragMode, ItemSizing, Legend, Margin, Shape, ShapeLayer, ShapeLine,
    ShapeType,
};
use plotly::{Configuration, Layout, Traces};
use serde::Serialize;

pub(crate) use self::steps::series_in_words;
use crate::wording;

const BLUE: &str = "#0072B2";
const VERMILLION: &str = "#D55E00";
const GREEN: &str = "#009E73";
const ORANGE: &str = "#E69F00";
const SKY: &str = "#56B4E9";
const PURPLE: &str = "#CC79A7";
const INK: &str = "#1C2024";
const MUTED: &str = "#5B6570";
const GRID: &str = "#E4E6E2";
const SURFACE: &str = "#FFFFFF";

const FONT: &str = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Liberation Sans', sans-serif";

/// The most characters of a label inside a chart.
const LABEL_CHARS_MAX: usize = 60;

/// A figure for `Plotly.newPlot`.
#[derive(Serialize)]
pub(crate) struct Figure {
    data: Traces,
    layout: Layout,
    config: Configuration,
    #[serde(skip)]
    pub(crate) height_px: usize,
}

/// How much a reader can do with a chart beside hovering.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tools {
    ZoomAndSave,
    None,
}

impl Figure {
    fn new(height_px: usize, tools: Tools, layout: Layout) -> Self {
        let config = Configuration::new().display_logo(false).show_tips(false);
        let config = match tools {
            Tools::ZoomAndSave => {
                config.display_mode_bar(DisplayModeBar::Hover).mode_bar_buttons_to_remove(vec![
                    ModeBarButtonName::Select2d,
                    ModeBarButtonName::Lasso2d,
                    ModeBarButtonName::ZoomIn2d,
                    ModeBarButtonName::ZoomOut2d,
                    ModeBarButtonName::AutoScale2d,
                ])
            }
            Tools::None => config.display_mode_bar(DisplayModeBar::False),
        };
        let layout = layout
            .height(height_px)
            .auto_size(true)
            .font(Font::new().family(FONT).size(12).color(MUTED))
            .paper_background_color(SURFACE)
            .plot_background_color("rgba(0,0,0,0)")
            .drag_mode(match tools {
                Tools::ZoomAndSave => DragMode::Zoom,
                Tools::None => DragMode::False,
            })
            .hover_label(
                Label::new()
                    .background_color(SURFACE)
                    .border_color(GRID)
                    .font(Font::new().family(FONT).size(12).color(INK))
                    .align("left"),
            );
        Figure { data: Traces::new(), layout, config, height_px }
    }

    fn add(&mut self, trace: Box<dyn plotly::Trace>) {
        self.data.push(trace);
    }
}

/// Text from the data as a chart may show it: plotly reads a few HTML tags and
/// entities in labels, so what would be one is written as an entity; control
/// characters go, and what is too long is cut.
fn label(text: &str) -> String {
    let mut safe = String::with_capacity(text.len().min(4 * LABEL_CHARS_MAX));
    for (i, c) in text.chars().enumerate() {
        if i == LABEL_CHARS_MAX {
            safe.push('…');
            break;
        }
        match c {
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '&' => safe.push_str("&amp;"),
            c if c.is_control() => safe.push(' '),
            c => safe.push(c),
        }
    }
    safe
}

fn axis(title: &str) -> Axis {
    let axis = Axis::new()
        .auto_margin(true)
        .zero_line(false)
        .grid_color(GRID)
        .line_color(GRID)
        .tick_color(GRID)
        .tick_font(Font::new().size(11).color(MUTED));
    if title.is_empty() {
        axis
    } else {
        axis.title(Title::with_text(title).font(Font::new().size(12).color(MUTED)))
    }
}

fn margin(top: usize) -> Margin {
    Margin::new().left(48).right(12).top(top).bottom(36)
}

/// An axis of a small chart: not to be zoomed, with fixed margins, because margins that
/// fit themselves make plotly draw twice, and of these charts there are many.
fn small_axis(title: &str) -> Axis {
    axis(title).auto_margin(false).fixed_range(true)
}

fn small_margin(top: usize) -> Margin {
    Margin::new().left(52).right(12).top(top).bottom(46)
}

/// A logarithmic axis over these values, which are above 0: marks at 1, 2 and 5 of each
/// power of ten, or at the powers alone where there are many.
fn log_axis(axis: Axis, low: f64, high: f64) -> Axis {
    // Room for what stands beside the outermost values.
    let room = (0.07 * (high.log10() - low.log10())).max(0.08);
    let (from, to) = (low.log10() - room, high.log10() + room);
    let steps: &[f64] = if to - from > 4.2 { &[1.0] } else { &[1.0, 2.0, 5.0] };
    let mut marks = Vec::new();
    for power in (from.floor() as i32)..=(to.ceil() as i32) {
        marks.extend(steps.iter().map(|step| step * 10_f64.powi(power)));
    }
    marks.retain(|mark| (from..=to).contains(&mark.log10()));
    let texts: Vec<String> = marks.iter().map(|mark| wording::significant(*mark)).collect();
    axis.type_(AxisType::Log).range(vec![from, to]).tick_values(marks).tick_text(texts)
}

fn legend_above() -> Legend {
    Legend::new()
        .orientation(Orientation::Horizontal)
        .item_sizing(ItemSizing::Constant)
        .font(Font::new().size(12).color(INK))
        .x(0.0)
        .x_anchor(Anchor::Left)
        .y(1.02)
        .y_anchor(Anchor::Bottom)
}

/// An upright line at `x` over the whole height; shapes take an axis' own values even
/// where it is logarithmic.
fn upright(x: f64, color: &'static str, dash: DashType) -> Shape {
    Shape::new()
        .shape_type(ShapeType::Line)
        .layer(ShapeLayer::Above)
        .x_ref("x")
        .y_ref("paper")
        .x0(x)
        .x1(x)
        .y0(0.0)
        .y1(1.0)
        .line(ShapeLine::new().color(color).width(2.0).dash(dash))
}

/// A word above an upright line; annotations, unlike shapes, want the logarithm.
fn flag(x: f64, log: bool, text: &str, color: &'static str) -> Annotation {
    Annotation::new()
        .x_ref("x")
        .y_ref("paper")
        .x(if log { x.log10() } else { x })
        .y(1.0)
        .y_anchor(Anchor::Bottom)
        .show_arrow(false)
        .text(text)
        .font(Font::new().size(12).color(color))
}

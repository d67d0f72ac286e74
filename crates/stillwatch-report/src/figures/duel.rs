//! Duels: costs by strategy, what is caught round by round, and plans by cost and capture.

use plotly::common::{DashType, Line, Marker, MarkerSymbol, Mode, Orientation};
use plotly::layout::{AxisType, BarMode, HoverMode, RangeMode};
use plotly::{Bar, Layout, Scatter};
use stillwatch_exchange::duel::{DuelRecord, PlanRecord};

use super::{
    BLUE, Figure, GREEN, INK, MUTED, ORANGE, PURPLE, SKY, Tools, VERMILLION, axis, label,
    legend_above, log_axis, margin,
};

const SYMBOLS: [MarkerSymbol; 3] =
    [MarkerSymbol::Circle, MarkerSymbol::Square, MarkerSymbol::Diamond];
const COLOURS: [&str; 7] = [BLUE, VERMILLION, GREEN, ORANGE, SKY, PURPLE, MUTED];

/// What a thousand usable exchanges cost, strategy by strategy.
pub(crate) fn costs(record: &DuelRecord) -> Option<Figure> {
    if record.strategies.is_empty() {
        return None;
    }
    let layout = Layout::new()
        .margin(margin(12).left(110))
        .bar_mode(BarMode::Group)
        .hover_mode(HoverMode::YUnified)
        .legend(legend_above())
        .x_axis(axis("US dollars for a thousand usable exchanges").range_mode(RangeMode::ToZero))
        .y_axis(axis("").type_(AxisType::Category).auto_range(true));
    let height_px = 90 + 42 * record.strategies.len();
    let mut figure = Figure::new(height_px, Tools::None, layout);
    // From below, so that the first strategy stands at the top.
    let names: Vec<String> = record.strategies.iter().rev().map(|s| label(&s.name)).collect();
    for (name, colour, of) in [
        ("all rounds, defended", VERMILLION, 0),
        ("last plan, defended", ORANGE, 1),
        ("last plan, undefended", SKY, 2),
        ("naive, undefended", BLUE, 3),
    ] {
        let values: Vec<f64> = record
            .strategies
            .iter()
            .rev()
            .map(|s| [s.overall_usd, s.last_defended_usd, s.last_undefended_usd, s.before_usd][of])
            .map(Option::unwrap_or_default)
            .collect();
        figure.add(
            Bar::new(values, names.clone())
                .name(name)
                .orientation(Orientation::Horizontal)
                .marker(Marker::new().color(colour))
                .hover_template("%{x:$.2f}"),
        );
    }
    Some(figure)
}

/// The share of accounts that was caught, by round.
pub(crate) fn rounds(record: &DuelRecord) -> Option<Figure> {
    let most = record.strategies.iter().map(|s| s.caught_by_round.len()).max()?;
    let layout = Layout::new()
        .margin(margin(12))
        .hover_mode(HoverMode::Closest)
        .legend(legend_above())
        .x_axis(axis("round").n_ticks(most.min(13)).range(vec![-0.2, most as f64 - 0.8]))
        .y_axis(axis("accounts caught").tick_suffix("%").range(vec![-3.0, 103.0]));
    let mut figure = Figure::new(440, Tools::ZoomAndSave, layout);
    for (index, strategy) in record.strategies.iter().enumerate() {
        // What has ended stays as it is.
        let last = strategy.caught_by_round.last().copied().unwrap_or_default();
        let percent: Vec<f64> = (0..most)
            .map(|r| 100.0 * strategy.caught_by_round.get(r).copied().unwrap_or(last))
            .collect();
        let colour = COLOURS[index % COLOURS.len()];
        let dash = if index < COLOURS.len() { DashType::Solid } else { DashType::Dash };
        figure.add(
            Scatter::new((0..most).collect(), percent)
                .name(label(&strategy.name))
                .mode(Mode::LinesMarkers)
                .line(Line::new().color(colour).width(2.0).dash(dash))
                .marker(Marker::new().color(colour).size(6).symbol(SYMBOLS[index % 3].clone()))
                .hover_template(format!(
                    "{}: %{{y:.0f}} % in round %{{x}}<extra></extra>",
                    label(&strategy.name)
                )),
        );
    }
    Some(figure)
}

/// Plans as dots: what a thousand cost by how much was caught.
pub(crate) fn plans(record: &DuelRecord) -> Option<Figure> {
    let cost = |plan: &PlanRecord| plan.defended_usd.filter(|usd| *usd > 0.0);
    let costs: Vec<f64> = record.plans.iter().filter_map(cost).collect();
    let low = costs.iter().copied().fold(f64::INFINITY, f64::min);
    let high = costs.iter().copied().fold(0.0, f64::max);
    if costs.is_empty() {
        return None;
    }
    let layout = Layout::new()
        .margin(margin(12))
        .hover_mode(HoverMode::Closest)
        .legend(legend_above())
        .x_axis(log_axis(axis("US dollars for a thousand usable exchanges, defended"), low, high))
        .y_axis(axis("accounts caught").tick_suffix("%").range(vec![-5.0, 105.0]));
    let mut figure = Figure::new(400, Tools::ZoomAndSave, layout);
    for (name, colour, symbol, moves) in [
        ("naive", INK, MarkerSymbol::Diamond, 0..=0),
        ("one move", BLUE, MarkerSymbol::Circle, 1..=1),
        ("several moves", VERMILLION, MarkerSymbol::Square, 2..=usize::MAX),
    ] {
        let is = |p: &&PlanRecord| cost(p).is_some() && moves.contains(&p.moves.len());
        let dots: Vec<&PlanRecord> = record.plans.iter().filter(is).collect();
        let texts: Vec<String> = dots
            .iter()
            .map(|p| p.moves.iter().map(|m| label(m)).collect::<Vec<_>>().join("<br>"))
            .collect();
        figure.add(
            Scatter::new(
                dots.iter().filter_map(|p| cost(p)).collect(),
                dots.iter().map(|p| 100.0 * p.caught).collect(),
            )
            .name(name)
            .mode(Mode::Markers)
            .marker(Marker::new().color(colour).size(9).opacity(0.75).symbol(symbol))
            .hover_text_array(texts)
            .hover_template("%{hovertext}<br>%{x:$.2f}, %{y:.0f} % caught<extra></extra>"),
        );
    }
    Some(figure)
}

//! Turns a [`Picture`] into the one page that an analyst, a manager or a lawyer reads.
//!
//! This crate must stay without I/O, clocks, async runtimes, DataFusion and detection
//! logic: it is given what was found and returns a page as text.
//!
//! The way of a picture through the crate: `wording` turns figures into words,
//! `figures` turns them into charts, `page` puts both into the views that the
//! templates in `templates/` lay out, and `embed` makes what goes into a
//! `<script>` safe to stand there. Text from the data reaches the page by three ways
//! only: through askama's HTML escaping, through `embed`'s JSON escaping, and into a
//! chart's labels through `figures`' own escaping on top of that.

mod duel;
mod embed;
mod figures;
mod page;
mod wording;

use stillwatch_exchange::duel::DuelRecord;
use stillwatch_exchange::picture::Picture;

/// Why no page could be made.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The `plotly` crate hands out its script in another shape than expected.
    #[error(
        "the chart library was not found in what the plotly crate embeds; \
         look at its Plot::offline_js_sources after an update"
    )]
    ChartLibrary,
    /// A chart could not be written as JSON.
    #[error("the chart {chart} could not be written as JSON")]
    Chart { chart: String, source: serde_json::Error },
    /// The page's template refused a value.
    #[error("the report page could not be laid out")]
    Layout(#[from] askama::Error),
}

/// Writes `report.html`: one page that needs nothing beside itself.
///
/// The same picture gives the same bytes. Shares and scores that are not finite are
/// shown as missing. No prompt text is in the page unless `excerpts` holds some.
///
/// Bounds, with what is left out said on the page: 20,000 dots of the crowd (the
/// reported ones are kept), 800 points for a series, 1,500 nodes and 6,000 edges for a
/// group's graph, 12 rows for a list of shares, 20 marks, 200 problems, 50 excerpts
/// of 4,000 characters; the page's size is about 4.7 MB plus some 100 kB for each campaign.
///
/// # Errors
/// The chart library is missing from the `plotly` crate, or a value can't be written;
/// neither depends on what was found.
pub fn render(picture: &Picture) -> Result<String, ReportError> {
    page::render(picture)
}

/// Writes `duel.html`: what came of duels, on one page that needs nothing beside itself.
/// Made as [`render`] makes its page; 25 plans are listed.
///
/// # Errors
/// As [`render`].
pub fn render_duels(record: &DuelRecord) -> Result<String, ReportError> {
    duel::render(record)
}

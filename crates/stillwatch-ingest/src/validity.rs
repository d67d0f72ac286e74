//! Which rows and cells are taken: one rule for all formats.
//!
//! A row of `exchanges` is refused, and counted under the first reason that holds:
//!
//! | reason | when |
//! | --- | --- |
//! | `not_utf8` | a line of JSON is not UTF-8 |
//! | `line_too_long` | a line is longer than [`LINE_BYTES_MAX`] ([`BATCH_LINE_BYTES_MAX`] where a line is a whole OTLP export) |
//! | `truncated_line` | a line of JSON ends before its object does |
//! | `nested_too_deep` | a record of a convention is nested deeper than 127 levels |
//! | `not_json`, `not_an_object` | a line is something else |
//! | `not_an_exchange` | a record of a convention that is no request to a model (a span of a database, say) |
//! | `time_missing`, `time_unreadable`, `time_implausible` | null; not RFC 3339 with an offset; outside the years 2000 to 2099 ([`time::TIME_MIN_US`]) |
//! | `account_id_missing` | null or empty |
//! | `prompt_missing` | neither `prompt` nor `prompt_sketch`; an empty prompt is one |
//!
//! The required columns of `accounts` and `releases` are held to the same rule
//! (`model_missing`, `released_at_implausible`, …).
//!
//! A cell of an optional column that can't be taken becomes null, is counted by
//! column and [`CellReason`](crate::CellReason), and the row stays: numbers outside
//! of [`range`], times outside of the plausible years, values of another kind. Text
//! that is not UTF-8 in a Parquet file (`account_id` too) keeps its good bytes.
//!
//! None of this depends on which columns are asked for, except that cells are only
//! looked at where their column is read.

use stillwatch_exchange::ColumnKind;
use stillwatch_exchange::time;

/// The longest line of a line-by-line format, in bytes, without its newline.
pub const LINE_BYTES_MAX: usize = 8 << 20;
/// The longest line of a format where one line holds many records (OTLP), in bytes.
pub const BATCH_LINE_BYTES_MAX: usize = 64 << 20;
/// The largest JSON file that is one document instead of lines, in bytes, decompressed.
pub const DOCUMENT_BYTES_MAX: usize = 64 << 20;
/// The most tokens that one exchange can be thought to count; the longest context
/// on offer is a tenth of it.
pub const TOKENS_MAX: u32 = 100_000_000;

pub(crate) const NOT_UTF8: &str = "not_utf8";
pub(crate) const LINE_TOO_LONG: &str = "line_too_long";
pub(crate) const TRUNCATED_LINE: &str = "truncated_line";
pub(crate) const NESTED_TOO_DEEP: &str = "nested_too_deep";
pub(crate) const NOT_JSON: &str = "not_json";
pub(crate) const NOT_AN_OBJECT: &str = "not_an_object";
pub(crate) const NOT_AN_EXCHANGE: &str = "not_an_exchange";
pub(crate) const PROMPT_MISSING: &str = "prompt_missing";
pub(crate) const ACCOUNT_ID_DUPLICATE: &str = "account_id_duplicate";
pub(crate) const MODEL_DUPLICATE: &str = "model_duplicate";

/// The reasons for refusing a row over one required column.
pub(crate) struct RequiredReasons {
    pub missing: &'static str,
    pub unreadable: &'static str,
    pub implausible: &'static str,
}

/// The reasons for a required column; every required column of
/// [`stillwatch_exchange::columns`] is listed.
pub(crate) fn required_reasons(column: &str) -> RequiredReasons {
    let (missing, unreadable, implausible) = match column {
        "time" => ("time_missing", "time_unreadable", "time_implausible"),
        "account_id" => ("account_id_missing", "account_id_unreadable", "account_id_implausible"),
        "model" => ("model_missing", "model_unreadable", "model_implausible"),
        "released_at" => {
            ("released_at_missing", "released_at_unreadable", "released_at_implausible")
        }
        _ => ("required_missing", "required_unreadable", "required_implausible"),
    };
    RequiredReasons { missing, unreadable, implausible }
}

/// The smallest and largest value that a number in this column can mean; both are
/// taken. Times: the plausible years.
#[must_use]
pub fn range(column: &str, kind: ColumnKind) -> (f64, f64) {
    match (column, kind) {
        ("usage_input_tokens" | "usage_output_tokens" | "usage_reasoning_tokens", _) => {
            (0.0, f64::from(TOKENS_MAX))
        }
        ("status", _) => (0.0, 999.0),
        (_, ColumnKind::U16) => (0.0, f64::from(u16::MAX)),
        (_, ColumnKind::U32) => (0.0, f64::from(u32::MAX)),
        // A million dollars for one exchange, a temperature of a million: no such thing.
        (_, ColumnKind::F32 | ColumnKind::F64) => (0.0, 1e6),
        _ => (f64::NEG_INFINITY, f64::INFINITY),
    }
}

/// Whether a time in microseconds lies in the plausible years.
pub(crate) fn plausible(time_us: i64) -> bool {
    (time::TIME_MIN_US..time::TIME_MAX_US).contains(&time_us)
}

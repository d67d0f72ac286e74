//! The columns of the three input tables, in the contract's order.
//!
//! One list per table; schemas, readers and writers are all made from it, so that
//! a column is added in one place.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};

/// What a column holds, as far as a reader has to know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnKind {
    /// Microseconds since the epoch, UTC; RFC 3339 in JSON.
    Time,
    Text,
    Bytes,
    Bool,
    U16,
    U32,
    I64,
    F32,
    F64,
}

impl ColumnKind {
    /// The Arrow type that this kind of column has in Stillwatch's own tables.
    #[must_use]
    pub fn data_type(self) -> DataType {
        match self {
            ColumnKind::Time => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            ColumnKind::Text => DataType::Utf8View,
            ColumnKind::Bytes => DataType::BinaryView,
            ColumnKind::Bool => DataType::Boolean,
            ColumnKind::U16 => DataType::UInt16,
            ColumnKind::U32 => DataType::UInt32,
            ColumnKind::I64 => DataType::Int64,
            ColumnKind::F32 => DataType::Float32,
            ColumnKind::F64 => DataType::Float64,
        }
    }
}

/// A column of an input table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    pub name: &'static str,
    pub kind: ColumnKind,
    /// A file without it can't be used. Of `prompt` and `prompt_sketch` one is
    /// enough, so neither is marked.
    pub required: bool,
}

const fn column(name: &'static str, kind: ColumnKind) -> Column {
    Column { name, kind, required: false }
}

const fn required(name: &'static str, kind: ColumnKind) -> Column {
    Column { name, kind, required: true }
}

/// The columns of `exchanges`.
pub const EXCHANGES: &[Column] = &[
    column("exchange_id", ColumnKind::Text),
    required("time", ColumnKind::Time),
    required("account_id", ColumnKind::Text),
    column("organization_id", ColumnKind::Text),
    column("credential_id", ColumnKind::Text),
    column("conversation_id", ColumnKind::Text),
    column("turn", ColumnKind::U16),
    column("provider_name", ColumnKind::Text),
    column("operation_name", ColumnKind::Text),
    column("request_model", ColumnKind::Text),
    column("response_model", ColumnKind::Text),
    column("route", ColumnKind::Text),
    column("system_instructions", ColumnKind::Text),
    column("prompt", ColumnKind::Text),
    column("prompt_sketch", ColumnKind::Bytes),
    column("request_temperature", ColumnKind::F32),
    column("request_top_p", ColumnKind::F32),
    column("request_max_tokens", ColumnKind::U32),
    column("request_choice_count", ColumnKind::U16),
    column("request_seed", ColumnKind::I64),
    column("request_stream", ColumnKind::Bool),
    column("request_top_logprobs", ColumnKind::U16),
    column("request_logit_bias_count", ColumnKind::U16),
    column("request_reasoning", ColumnKind::Text),
    column("request_tool_count", ColumnKind::U16),
    column("usage_input_tokens", ColumnKind::U32),
    column("usage_output_tokens", ColumnKind::U32),
    column("usage_reasoning_tokens", ColumnKind::U32),
    column("response_finish_reason", ColumnKind::Text),
    column("response_digest", ColumnKind::Bytes),
    column("status", ColumnKind::U16),
    column("client_address", ColumnKind::Text),
    column("client_network", ColumnKind::Text),
    column("client_asn", ColumnKind::U32),
    column("client_country", ColumnKind::Text),
    column("tls_fingerprint", ColumnKind::Text),
    column("user_agent", ColumnKind::Text),
    column("cost_usd", ColumnKind::F64),
];

/// The columns of `accounts`.
pub const ACCOUNTS: &[Column] = &[
    required("account_id", ColumnKind::Text),
    column("organization_id", ColumnKind::Text),
    column("created_at", ColumnKind::Time),
    column("closed_at", ColumnKind::Time),
    column("closed_reason", ColumnKind::Text),
    column("payment_fingerprint", ColumnKind::Text),
    column("email_domain", ColumnKind::Text),
    column("verification", ColumnKind::Text),
    column("plan", ColumnKind::Text),
];

/// The columns of `releases`.
pub const RELEASES: &[Column] =
    &[required("model", ColumnKind::Text), required("released_at", ColumnKind::Time)];

/// The Arrow schema of a list of columns; only required columns are non-null.
#[must_use]
pub fn schema(columns: &[Column]) -> SchemaRef {
    Arc::new(Schema::new(
        columns
            .iter()
            .map(|c| Field::new(c.name, c.kind.data_type(), !c.required))
            .collect::<Vec<_>>(),
    ))
}

/// The column of that name, if the table has one.
#[must_use]
pub fn find(columns: &'static [Column], name: &str) -> Option<&'static Column> {
    columns.iter().find(|c| c.name == name)
}

//! The three input tables and the formats they come in.

use std::fmt;
use std::str::FromStr;

use stillwatch_exchange::{Column, columns};

use crate::problems::IngestError;

/// An input table of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Table {
    Exchanges,
    Accounts,
    Releases,
}

impl Table {
    /// Its columns, in the contract's order.
    #[must_use]
    pub fn columns(self) -> &'static [Column] {
        match self {
            Table::Exchanges => columns::EXCHANGES,
            Table::Accounts => columns::ACCOUNTS,
            Table::Releases => columns::RELEASES,
        }
    }

    /// The names of the columns without which no row of it can be taken.
    pub(crate) fn required(self) -> Vec<&'static str> {
        self.columns().iter().filter(|c| c.required).map(|c| c.name).collect()
    }

    /// The text column that filters look at.
    pub(crate) fn key(self) -> &'static str {
        match self {
            Table::Exchanges | Table::Accounts => "account_id",
            Table::Releases => "model",
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Table::Exchanges => "exchanges",
            Table::Accounts => "accounts",
            Table::Releases => "releases",
        })
    }
}

/// What the records of a file look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Format {
    /// The contract's columns as Parquet.
    Parquet,
    /// The contract's columns as JSON, an object a line.
    JsonLines,
    /// OTLP JSON: spans or log records with GenAI attributes.
    OpenTelemetry,
    /// LiteLLM's standard logging payload.
    LiteLlm,
    /// Amazon Bedrock's model invocation log.
    Bedrock,
    /// Pairs of request and response of an OpenAI-style API.
    OpenAi,
    /// Pairs of request and response of the Anthropic Messages API.
    Anthropic,
}

impl Format {
    /// All formats, in the order in which messages list them.
    pub const ALL: &'static [Format] = &[
        Format::Parquet,
        Format::JsonLines,
        Format::OpenTelemetry,
        Format::LiteLlm,
        Format::Bedrock,
        Format::OpenAi,
        Format::Anthropic,
    ];

    /// The name that `--format` takes.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Format::Parquet => "parquet",
            Format::JsonLines => "jsonl",
            Format::OpenTelemetry => "otlp",
            Format::LiteLlm => "litellm",
            Format::Bedrock => "bedrock",
            Format::OpenAi => "openai",
            Format::Anthropic => "anthropic",
        }
    }

    pub(crate) fn names() -> String {
        Format::ALL.iter().map(|f| f.name()).collect::<Vec<_>>().join(", ")
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Format {
    type Err = IngestError;

    fn from_str(name: &str) -> Result<Self, IngestError> {
        Format::ALL
            .iter()
            .find(|f| f.name() == name)
            .copied()
            .ok_or_else(|| IngestError::UnknownFormat { name: name.to_owned() })
    }
}

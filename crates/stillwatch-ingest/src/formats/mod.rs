//! One file per format; the conventions' files all begin with their table of names.
//!
//! `body` reads what the conventions share: chat messages, request and response
//! bodies.

pub(crate) mod anthropic;
pub(crate) mod bedrock;
mod body;
pub(crate) mod jsonl;
pub(crate) mod litellm;
pub(crate) mod openai;
pub(crate) mod otlp;
mod otlp_messages;
pub(crate) mod otlp_received;
mod pair;
pub(crate) mod parquet;
mod stream;
pub(crate) mod thrift;

//! Every source becomes exchanges plus counted problems.
//!
//! [`discover`] finds the files below the paths that a user typed and recognises
//! what they are; a [`Source`] is divided into [`Split`]s that threads read
//! independently; [`Split::read`] gives [`Batch`]es of Arrow rows in the contract's
//! types. Rows that can't be read are counted by the rules of [`validity`], files
//! that can't be read are [`FileProblem`]s, and neither ends a run.
//!
//! An exchange comes from a path to a batch by way of `discovery` (paths to files),
//! `sniff` (what a file is), then for Parquet `formats/parquet` and `coerce` (columns),
//! for all else `records` (bytes to lines), a file of `formats` (line to row) and
//! `rows` (rows to columns). One file per format; each convention's names are mapped
//! in one table at the head of its file.
//!
//! [`received`] divides an OTLP export that was sent instead of read into its exchanges.
//!
//! This crate must stay without detection, DataFusion and network servers.

mod coerce;
mod companions;
mod discovery;
mod formats;
mod problems;
mod read;
mod records;
mod rows;
mod sniff;
mod storage;
mod surrogates;
mod table;
mod text;
pub mod validity;

pub use companions::{Problems, read_accounts, read_releases};
pub use discovery::{Discovery, Options, Source, Split, discover, local_files};
pub use formats::otlp_received::{Delivery, Received, ReceivedExchange, received};
pub use problems::{CellReason, FileProblem, IngestError, RefusedCounts};
pub use read::{AccountFilter, BATCH_ROWS, Batch, Batches, Meter};
pub use table::{Format, Table};

//! Receive: exchanges that OpenTelemetry SDKs and Collectors send, over OTLP/gRPC and
//! OTLP/HTTP (OpenTelemetry Protocol 1.x, «OTLP/gRPC» and «OTLP/HTTP»).
//!
//! An export (`grpc`, `web`) is divided into its exchanges by `stillwatch-ingest`, and
//! handed over through a channel (`intake`) to whoever writes them down, which here is
//! nobody's business. It is answered once they are on a disk. Whatever can't be taken now
//! is answered so that it is sent again; whatever never can is counted and said to the
//! sender.
//!
//! Nothing is encrypted, and senders have to say who they are where a key is set (`access`):
//! the listeners are for a network of one's own, or stand behind a proxy that ends TLS.
//!
//! Must stay without detection, the engine, terminals and the clock.

mod access;
mod grpc;
mod intake;
mod server;
mod web;

pub use access::Key;
pub use intake::Counts;
pub use server::{ReceiveError, Running, Settings, start};

/// What the fuzz targets call.
#[doc(hidden)]
pub mod fuzzing {
    pub use crate::intake::{Encoding, Signal, decoded};
}

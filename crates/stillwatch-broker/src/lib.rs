//! What is said to and read from a NATS server (JetStream): findings in a key-value
//! bucket, exchanges in a stream, and values that several processes change by turns.
//!
//! | module | what |
//! | --- | --- |
//! | `address` | `nats://host:port/NAME`, shown without what proves who one is |
//! | `server` | a connection that comes back by itself, and requests that end |
//! | `bundle` | files that belong together, as chunks that fit into messages |
//! | `bucket` | bundles in a bucket: published as a whole, followed |
//! | `publisher` | the latest bundle is published, however long the server is away |
//! | `reader` | a stream's messages from a known place on, in order and once |
//! | `writer` | messages that are stored once, whatever is killed and whenever |
//! | `through` | the stream through which the shares of a watch speak with each other |
//! | `cell` | a value that is changed only as it was read |
//!
//! Must stay without detection, policies, DataFusion, terminals, and the wall clock: times
//! are those of the server.

mod address;
mod bucket;
mod bundle;
mod cell;
mod publisher;
mod reader;
mod server;
mod through;
mod writer;

pub use address::{Address, AddressError};
pub use bucket::{News, follow, latest, publish};
pub use bundle::{BUNDLE_BYTES_MAX, Bundle, CHUNK_BYTES, Head};
pub use cell::{Cell, Cells, Swap};
pub use publisher::Publisher;
pub use reader::{Message, Part, Reader, StreamPlace};
pub use server::{Access, BrokerError, Server};
pub use through::{Follower, Through, extent, outside};
pub use writer::{Line, Writer};

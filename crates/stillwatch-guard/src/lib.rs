//! The live half of Stillwatch: a gateway before a model API that answers by verdicts,
//! the administration beside it, and the record of every exchange.
//!
//! The life of one request, phase by phase:
//!
//! 1. *Arrive* (`gateway`): hyper has read the head; `api` says which endpoint and
//!    dialect it is, `keys` whose account.
//! 2. *Read* (`asked`): the body of an exchange is read within its limits, and what the
//!    request asks for is taken from it.
//! 3. *Record* (`journal`): the arrival is handed to the kernel before anything is
//!    answered or passed on.
//! 4. *Decide* (`stillwatch-decide`): the verdict, from a table that is only read.
//! 5. *Respond*: refused in the client's own dialect (`refusal`), or edited (`edit`) and
//!    passed on.
//! 6. *Relay* (`relay`): the answer passes as it comes, in as few writes as it allows,
//!    and is measured (`answer`, `sse`), held to its cap (`cut`), thinned (`thin`) or
//!    marked (`bind`) on its way.
//! 7. *Finish* (`underway`): however it ends, the journal learns of it; `seal` makes Parquet of it.
//!
//! Time and randomness are passed in with [`Settings`]. This crate must stay without
//! detection and DataFusion.

mod admin;
mod advise;
mod answer;
mod api;
mod asked;
mod bind;
mod brokers;
mod cut;
mod edit;
mod gateway;
mod grpc;
mod inputs;
mod journal;
mod json;
mod keys;
mod lease;
mod live;
mod metrics;
mod network;
mod outbox;
mod reasoning;
mod refusal;
mod relay;
mod seal;
mod server;
mod settings;
mod sse;
mod state;
mod steady;
mod thin;
mod traces;
mod underway;
mod upstream;

pub use inputs::{InputError, read_credentials, read_findings, read_policy};
pub use keys::{CredentialHash, Credentials, Owner};
pub use server::{Running, start};
pub use settings::{ADMIN_KEY_BYTES_MIN, Broker, GuardError, Settings, Source, TraceSettings};
pub use state::{read_history, records_folder};

/// What the fuzz targets call.
#[doc(hidden)]
pub mod fuzzing {
    pub use crate::answer::{Answer, Measured};
    pub use crate::api::{Dialect, Endpoint};
    pub use crate::asked::Asked;
    pub use crate::bind::{Holder, ReasoningKeys, Strictness, released};
    pub use crate::cut::Cutter;
    pub use crate::edit::{Edit, edited};
    pub use crate::sse::{Events, data};
    pub use crate::thin::Thinner;
}

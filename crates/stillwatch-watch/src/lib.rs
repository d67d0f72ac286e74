//! Watch: the detection of a hunt over a stream that goes on.
//!
//! An exchange comes from a file or a folder that is followed ([`feed`](self)), is seen as
//! a hunt sees it, and is added to its account's piece of its epoch (`deltas`). Now and
//! then all that has come goes into the state together with how far each source has been
//! read (`store`), so that a process that is killed goes on where it was. When the
//! exchanges show that event time has passed the end of a step (`clock`), the pieces of the
//! window's four epochs are put together to profiles, and a hunt looks at them (`watch`, `window`).
//! What can't be read again is written down before it is counted (`spool`,
//! `deliveries`). Several processes that count one stream together are its `share`s, of
//! which one looks.
//!
//! Must stay without the wall clock, randomness that is not passed in, terminals, and the
//! truth of simulated worlds.

mod clock;
mod deliveries;
mod deltas;
mod feed;
mod settings;
mod share;
mod spool;
mod store;
mod watch;
mod window;

pub use deliveries::Deliveries;
pub use settings::{Pace, Share, ShareNumber, WatchError, WatchSettings};
pub use spool::Spool;
pub use store::Counts;
pub use watch::{Host, Inputs, StateSize, Stream, Watched, state_size, watch};

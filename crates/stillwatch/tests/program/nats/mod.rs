//! What goes over a NATS server: the real one where it is found, which `.ci/run` sees to;
//! elsewhere these tests say that they skip.

mod exchanges;
mod limits;
mod server;
mod shares;
pub mod verdicts;

//! Runs the built program as a user would, on small worlds of its own making.

#![allow(clippy::disallowed_methods, reason = "a test may wait for a process to end")]

mod bad_input;
mod bench;
mod duel;
mod findings;
#[cfg(target_os = "linux")]
mod full_disk;
mod guard;
mod https;
mod live;
mod nats;
mod readme;
mod receive;
mod references;
mod rehearse;
mod replay;
mod sameness;
mod setting;
mod tell;
mod watch;
mod worlds;

//! The engine's own functions in SQL: `glance`, `observe` and `profile`.

mod observe;
mod profile;

pub use observe::glances;
pub(crate) use observe::{OBSERVED, glance, observe};
pub(crate) use profile::{Finished, profile};

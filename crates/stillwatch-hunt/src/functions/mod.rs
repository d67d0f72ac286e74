//! The engine's own functions in SQL: `observe` and `profile`.

mod observe;
mod profile;

pub(crate) use observe::{OBSERVED, observe};
pub(crate) use profile::profile;

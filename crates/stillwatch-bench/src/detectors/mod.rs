//! The detectors of other people, one file each.

mod fraudar;
mod infrastructure;
mod isolation_forest;
mod mmd;
mod prada;
mod rate_limit;
mod seat;
mod shapiro;
mod synchrotrap;

#[cfg(test)]
mod made;

use crate::detector::Detector;

/// All of them, in the order of the table.
pub const DETECTORS: &[&dyn Detector] = &[
    &rate_limit::RateLimit,
    &prada::Prada,
    &seat::Seat,
    &mmd::Mmd,
    &isolation_forest::IsolationForest,
    &infrastructure::Infrastructure,
    &synchrotrap::SynchroTrap,
    &fraudar::Fraudar,
];

/// The detector of a name.
#[must_use]
pub fn detector(name: &str) -> Option<&'static dyn Detector> {
    DETECTORS.iter().copied().find(|detector| detector.name() == name)
}

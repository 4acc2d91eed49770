//! A script for the simulator: a whole ring, and what happens to it.

use super::harness::prints;
use crate::sim;

/// Any bytes as a run of the simulator, judged as every run is.
///
/// # Panics
/// When something that must hold does not.
pub fn cluster(data: &[u8]) {
    if let Err(violation) = sim::run_script(data, prints()) {
        let at = violation.at.map(|at| format!(" at {at}"));
        let (property, message) = (violation.property, violation.message);
        panic!("{property}{}: {message}", at.unwrap_or_default());
    }
}

//! The same seed gives the same run, event for event.
//!
//! Broken on purpose: the jitter of redials drawn from the system's clock. Seed 0 with 3 hosts shows
//! it.

use super::must;
use crate::sim::{self, Outcome, Violation};

/// Runs a seed twice.
///
/// # Errors
/// What does not hold, in either run or between them.
pub fn check(seed: u64, hosts: usize) -> Result<Outcome, Box<Violation>> {
    let first = sim::run(seed, hosts)?;
    let second = sim::run(seed, hosts)?;
    let same = must(first == second, || format!("{first:?} and then {second:?}"));
    same.map_err(|message| {
        Box::new(Violation {
            forecast: false,
            seed,
            hosts,
            at: None,
            property: "determinism",
            message,
        })
    })?;
    Ok(first)
}

//! What a node was told and when is all that decides what it does: each node of a run, written down
//! with prompts and without them, does the same when it is told the same again. Writing down changes
//! nothing.
//!
//! Broken on purpose: the recording rounds the time to microseconds. Seed 0 with 3 hosts shows it.

use super::must;
use crate::replay::replay_bytes;
use crate::sim::{self, Outcome, Violation};
use std::path::Path;

/// Runs a seed with every node on tape, and without.
///
/// # Errors
/// What does not hold, in either run or between them, or in a replay.
pub fn check(seed: u64, hosts: usize) -> Result<Outcome, Box<Violation>> {
    let taped = sim::run_taped(seed, hosts)?;
    let plain = sim::run(seed, hosts)?;
    let same = must(taped == plain, || format!("{taped:?} and then {plain:?}"));
    same.map_err(|message| {
        Box::new(Violation {
            forecast: false,
            seed,
            hosts,
            at: None,
            property: "replays",
            message,
        })
    })?;
    Ok(plain)
}

/// One tape.
pub(crate) fn tape(log: &[u8]) -> Result<(), String> {
    let report = replay_bytes(log, Path::new("tape")).map_err(|error| error.to_string())?;
    must(report.cut == 0 && !report.unfinished, || report.to_string())
}

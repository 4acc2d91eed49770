//! What a run comes to.

use super::faults::FaultCounts;
use exo_protocol::Instant;
use std::fmt;
use std::time::Duration;

/// Something that must hold and does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Of the run.
    pub seed: u64,
    /// Of the run.
    pub hosts: usize,
    /// Whether it was one in which nothing strikes and predictions are compared.
    pub forecast: bool,
    /// When, if known.
    pub at: Option<Instant>,
    /// Which file of [`invariants`](crate::invariants) says what must hold.
    pub property: &'static str,
    /// What was seen.
    pub message: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seed, hosts) = (self.seed, self.hosts);
        write!(f, "seed {seed} with {hosts} hosts")?;
        let what = match self.forecast {
            true => "--predictions --trace",
            false => "--trace",
        };
        if let Some(at) = self.at {
            write!(f, ", at {at}")?;
        }
        write!(
            f,
            ": {}: {}\nagain: cargo run --release -p exo-tests --bin sim -- --seed {seed} --seeds 1 \
             --hosts {hosts} {what}",
            self.property, self.message
        )
    }
}

/// What came of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Requests that were answered to the end.
    pub finished: u64,
    /// Requests that failed with a reason.
    pub failed: u64,
    /// Requests that were never started, with a reason.
    pub rejected: u64,
    /// Requests whose host went down.
    pub orphaned: u64,
    /// How often a request got another ring.
    pub recovered: u64,
    /// How often a node took another address of a peer.
    pub moved: u64,
    /// Predictions that were compared with what came.
    pub predicted: u64,
    /// Training jobs that came to their end.
    pub trained: u64,
    /// Training jobs that failed with a reason.
    pub untrained: u64,
    /// Of all training jobs, those that went on from a checkpoint.
    pub resumed: u64,
    /// What struck.
    pub faults: FaultCounts,
    /// Simulated time.
    pub elapsed: Duration,
    /// Things that happened.
    pub steps: u64,
    /// A hash of everything that happened: the same seed gives the same.
    pub trace: u64,
}

impl Outcome {
    /// Adds another run's. The sum of the hashes does not depend on the order.
    pub fn add(&mut self, run: &Self) {
        self.finished += run.finished;
        self.failed += run.failed;
        self.rejected += run.rejected;
        self.orphaned += run.orphaned;
        self.recovered += run.recovered;
        self.moved += run.moved;
        self.predicted += run.predicted;
        self.trained += run.trained;
        self.untrained += run.untrained;
        self.resumed += run.resumed;
        self.faults.add(&run.faults);
        self.elapsed += run.elapsed;
        self.steps += run.steps;
        self.trace = self.trace.wrapping_add(run.trace);
    }
}

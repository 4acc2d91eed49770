//! A whole ring in one thread, from one seed: real nodes, real encoders and decoders, byte pipes
//! with latency and bandwidth, virtual time, and faults at any byte.
//!
//! A run has a noisy phase, in which faults that the seed chose strike while requests come in, and a
//! quiet phase, in which everything must come to rest: every request has ended exactly once, nothing
//! is left anywhere, all nodes see each other again, and a new request is answered. What must hold at
//! every moment is checked at every step (`checks`).

mod checks;
mod engine;
mod faults;
mod host;
mod net;
mod pipe;
mod strikes;
mod world;

pub use faults::{FaultCounts, Faults};
pub use world::{Outcome, World};

/// One run, from its seed to its end.
///
/// # Panics
/// When something that must hold does not; the message names the seed.
#[must_use]
pub fn run(seed: u64, hosts: usize) -> Outcome {
    World::new(seed, hosts).run()
}

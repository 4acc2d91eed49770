//! A whole ring in one thread, from one seed: real nodes, real encoders and decoders, byte pipes
//! with latency and bandwidth, virtual time, and faults at any byte.
//!
//! A run has a noisy phase, in which faults that the seed chose strike while requests come in, and a
//! quiet phase, in which everything must come to rest and work again. What must hold is in
//! [`invariants`](crate::invariants), one property per file.

mod client;
mod drive;
mod engine;
mod faults;
mod fetching;
mod forecast;
mod host;
mod jobs;
mod net;
mod outcome;
mod pipe;
mod queue;
mod script;
mod strikes;
mod tape;
mod trace;
mod wander;
mod watch;
mod ways;
mod world;

pub(crate) use client::{Client, End};
pub use faults::{Fault, FaultCounts, Faults};
pub(crate) use forecast::Forecast;
pub use forecast::forecast;
pub(crate) use host::{File, Host};
pub(crate) use jobs::JobClient;
pub use outcome::{Outcome, Violation};
pub use script::run_script;
pub(crate) use ways::{Place, Ways};
pub(crate) use world::{INJECTED, LAYERS, World};

use std::panic::{AssertUnwindSafe, catch_unwind};

/// One run, from its seed to its end.
///
/// # Errors
/// The first thing that must hold and does not.
pub fn run(seed: u64, hosts: usize) -> Result<Outcome, Box<Violation>> {
    start(seed, hosts, Mode::Quiet)
}

/// The same, and prints all that happens.
///
/// # Errors
/// The first thing that must hold and does not.
pub fn trace(seed: u64, hosts: usize) -> Result<Outcome, Box<Violation>> {
    start(seed, hosts, Mode::Prints)
}

/// The same, with every node written down and replayed.
///
/// # Errors
/// The first thing that must hold and does not.
pub fn run_taped(seed: u64, hosts: usize) -> Result<Outcome, Box<Violation>> {
    start(seed, hosts, Mode::Taped)
}

/// What comes of a run beside its outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Quiet,
    /// All that happens, in words.
    Prints,
    /// Tapes of all nodes, which are replayed.
    Taped,
}

fn start(seed: u64, hosts: usize, mode: Mode) -> Result<Outcome, Box<Violation>> {
    caught(seed, hosts, || World::new(seed, hosts, mode).run())
}

fn caught(
    seed: u64,
    hosts: usize,
    run: impl FnOnce() -> Result<Outcome, Box<Violation>>,
) -> Result<Outcome, Box<Violation>> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().map(ToString::to_string);
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
        Err(Box::new(Violation {
            forecast: false,
            seed,
            hosts,
            at: None,
            property: "nobody_panics",
            message: text.unwrap_or_else(|| String::from("a panic")),
        }))
    })
}

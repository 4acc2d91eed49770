//! The simulator over a few hundred seeds.

use exo_tests::invariants::{determinism, replays};
use exo_tests::sim::{self, Fault, Outcome, Violation};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

/// Seeds of one `cargo test`.
const SEEDS: u64 = 300;

/// Seeds of rings in which nothing strikes, of which is told beforehand how quick they are.
const FORETOLD: u64 = 40;

/// Seeds that are run with every node written down.
const TAPED: u64 = 20;

fn hosts(seed: u64) -> usize {
    2 + usize::try_from(seed % 5).expect("small")
}

/// Runs the first seeds on two threads; a violation says how to see it again.
fn all(seeds: u64, run: fn(u64, usize) -> Result<Outcome, Box<Violation>>) -> Outcome {
    let next = AtomicU64::new(0);
    let part = || {
        let mut sum = Outcome::default();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds {
                return sum;
            }
            match run(seed, hosts(seed)) {
                Ok(outcome) => sum.add(&outcome),
                Err(violation) => panic!("{violation}"),
            }
        }
    };
    thread::scope(|scope| {
        let other = scope.spawn(part);
        let mut sum = part();
        let more = other.join();
        sum.add(&more.unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        sum
    })
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let mut first = None;
    for seed in [11, 12] {
        let outcome = determinism::check(seed, 4).unwrap_or_else(|violation| panic!("{violation}"));
        assert_ne!(first.replace(outcome.trace), Some(outcome.trace));
    }
}

#[test]
fn a_node_that_is_told_the_same_again_does_the_same_again() {
    let total = all(TAPED, replays::check);
    assert!(total.finished > 100 && total.recovered > 20, "{total:?}");
}

#[test]
fn requests_take_as_long_as_was_predicted() {
    let total = all(FORETOLD, |seed, hosts| sim::forecast(seed, hosts, false));
    assert!(total.predicted > 30, "{total:?}");
}

#[test]
fn whatever_strikes_every_invariant_holds() {
    let total = all(SEEDS, sim::run);
    // A simulator in which little happens proves little.
    assert!(total.finished > 2000, "{total:?}");
    assert!(total.recovered > 500, "{total:?}");
    assert!(total.moved > 300, "{total:?}");
    assert!(total.trained > 300 && total.resumed > 20, "{total:?}");
    assert!(total.untrained > 100, "{total:?}");
    for fault in Fault::ALL {
        assert!(
            total.faults.of(fault) > 5,
            "{fault:?} hardly strikes: {}",
            total.faults
        );
    }
}

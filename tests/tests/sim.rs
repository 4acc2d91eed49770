//! The simulator over a few hundred seeds.

use exo_tests::invariants::determinism;
use exo_tests::sim::{self, Fault, Outcome};
use std::thread;

/// Seeds of one `cargo test`.
const SEEDS: u64 = 300;

fn hosts(seed: u64) -> usize {
    2 + usize::try_from(seed % 5).expect("small")
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
fn whatever_strikes_every_invariant_holds() {
    let part = |from: u64| {
        let mut sum = Outcome::default();
        for seed in (from..SEEDS).step_by(2) {
            match sim::run(seed, hosts(seed)) {
                Ok(outcome) => sum.add(&outcome),
                Err(violation) => panic!("{violation}"),
            }
        }
        sum
    };
    let total = thread::scope(|scope| {
        let even = scope.spawn(|| part(0));
        let odd = part(1);
        let mut sum = even
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        sum.add(&odd);
        sum
    });
    // A simulator in which little happens proves little.
    assert!(total.finished > 2000, "{total:?}");
    assert!(total.recovered > 500, "{total:?}");
    for fault in Fault::ALL {
        assert!(
            total.faults.of(fault) > 5,
            "{fault:?} hardly strikes: {}",
            total.faults
        );
    }
}

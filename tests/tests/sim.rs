//! The simulator over a few hundred seeds.

use exo_tests::sim;

#[test]
fn the_same_seed_gives_the_same_trace() {
    let (first, second) = (sim::run(11, 3), sim::run(11, 3));
    assert_eq!(first, second);
    assert_ne!(first.trace, sim::run(12, 3).trace);
}

#[test]
fn whatever_strikes_every_request_ends_and_the_ring_recovers() {
    let mut finished = 0;
    let mut struck = 0;
    for seed in 0..300 {
        let outcome = sim::run(seed, 2 + usize::try_from(seed % 4).expect("small"));
        finished += outcome.finished;
        struck += outcome.faults.crash + outcome.faults.reset + outcome.faults.stall;
    }
    assert!(
        finished > 1000 && struck > 100,
        "{finished} finished, {struck} faults: too quiet"
    );
}

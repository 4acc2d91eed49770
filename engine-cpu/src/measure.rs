//! How quick this engine is on this machine: products like those of a layer, over weights that
//! nobody trained.
//!
//! One position at a time, what counts is how fast weights come from memory, so there are more of
//! them than a processor keeps close; many at a time, how fast they are multiplied. The best of
//! several rounds counts: whatever else runs while a node starts makes some of them slower, none
//! quicker.

use crate::kernels::Format;
use crate::machine::Machine;
use crate::matrix::{Linear, Matrix};
use crate::product::Inputs;
use exo_protocol::topology::Speed;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What most people run: 4 bits and a bit.
const FORMAT: Format = Format::Q4_0;

/// Rows and columns of a matrix.
const WIDTH: usize = 2048;

/// Matrices; 28 MiB in all.
const MATRICES: usize = 12;

/// Positions that enter together where there are many.
const MANY: usize = 64;

/// How long rounds are begun, for each of the two.
const BUDGET: Duration = Duration::from_millis(30);

/// Rounds that are enough.
const ROUNDS: usize = 8;

/// Measures both.
pub(crate) fn speed(machine: &mut Machine) -> Option<Speed> {
    let weights: Vec<Linear> = (0..MATRICES).map_while(|_| made()).collect();
    let bytes = FORMAT.row_bytes(WIDTH) * WIDTH;
    let mut inputs = Inputs::default();
    let mut out = vec![0.0; MANY * WIDTH];
    let mut product = |weights: &Linear, positions: usize| {
        let row = |token: usize, row: &mut [f32]| {
            for (at, x) in row.iter_mut().enumerate() {
                // Some numbers of either sign.
                *x = ((token + at) % 17) as f32 / 8.0 - 1.0;
            }
        };
        inputs.fill(machine, (positions, WIDTH), [weights], row);
        let out = &mut out[..positions * WIDTH];
        inputs.multiply(machine, &[weights], false, out);
    };
    let decode = best(weights.iter(), bytes, |weights| product(weights, 1));
    let prefill = best(weights.iter().take(1), bytes * MANY, |weights| {
        product(weights, MANY);
    });
    Some(Speed {
        decode: decode?,
        prefill: prefill?,
    })
}

/// A matrix of small numbers.
fn made() -> Option<Linear> {
    let mut bytes = vec![0x6b; FORMAT.row_bytes(WIDTH) * WIDTH];
    for block in bytes.chunks_exact_mut(FORMAT.unit_bytes()) {
        if let Some(scale) = block.first_chunk_mut::<2>() {
            // 2^-7 in half precision.
            *scale = [0x00, 0x20];
        }
    }
    let bytes: Arc<[u8]> = bytes.into();
    Matrix::made(FORMAT, (WIDTH, WIDTH), bytes.into()).map(Linear::from)
}

/// The most that is done in a second, over rounds of `step` with each of `each`, which does `amount`.
/// A machine that does not finish a round in time is judged by what it did.
fn best<T>(
    each: impl Iterator<Item = T> + Clone,
    amount: usize,
    mut step: impl FnMut(T),
) -> Option<u64> {
    let begin = Instant::now();
    let mut best = None;
    for _ in 0..ROUNDS {
        let round = Instant::now();
        let mut done = 0_usize;
        for one in each.clone() {
            step(one);
            done += amount;
            if begin.elapsed() > BUDGET {
                let rate = rate(done, round.elapsed());
                return best.max(rate);
            }
        }
        best = best.max(rate(done, round.elapsed()));
    }
    best
}

/// `None` when it was too quick to measure, or there was nothing to do.
fn rate(done: usize, elapsed: Duration) -> Option<u64> {
    let rate = done as f64 / elapsed.as_secs_f64();
    (rate.is_finite() && rate >= 1.0).then_some(rate as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::Kernels;
    use crate::options::Precision;

    #[test]
    fn every_machine_has_a_speed() {
        for kernels in Kernels::available() {
            for (threads, precision) in [(1, Precision::Single), (2, Precision::Mixed)] {
                let mut machine = Machine::new(kernels, threads, precision).expect("threads");
                let speed = speed(&mut machine).expect("it can be measured");
                assert!(speed.decode > 0 && speed.prefill > 0, "{speed:?}");
            }
        }
    }

    #[test]
    fn the_weights_are_what_they_are_said_to_be() {
        let matrix = made().expect("as many bytes as it takes").matrix;
        let mut row = vec![0.0; WIDTH];
        matrix.read_row(WIDTH - 1, &Kernels::SCALAR, &mut row);
        // 0xb and 0x6, less 8.
        assert_eq!((row[0], row[16]), (3.0 / 128.0, -2.0 / 128.0));
    }

    #[test]
    fn the_best_round_counts_and_a_slow_machine_is_not_waited_for() {
        assert_eq!(rate(1000, Duration::from_millis(500)), Some(2000));
        assert_eq!(rate(0, Duration::from_secs(1)), None);
        assert_eq!(rate(1, Duration::ZERO), None);
        let mut steps = 0;
        let slow = |()| {
            steps += 1;
            let begin = Instant::now();
            while begin.elapsed() <= BUDGET {
                std::hint::spin_loop();
            }
        };
        assert!(best([(); 5].into_iter(), 1 << 20, slow).is_some());
        assert_eq!(steps, 1);
    }
}

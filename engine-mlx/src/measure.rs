//! How quick MLX is on this machine: products like those of a layer, over weights that nobody trained.
//!
//! One position at a time, what counts is how fast weights come from memory, so there are more of
//! them than a chip keeps close; many at a time, how fast they are multiplied. The best of several
//! rounds counts: the first one makes kernels ready, and whatever else runs while a node starts makes
//! some slower, none quicker.

use crate::model::linear::Weight;
use crate::tensor::{from_bytes, scalar};
use exo_models::Packing;
use exo_protocol::topology::Speed;
use mlx_rs::error::Result;
use mlx_rs::ops::broadcast_to;
use mlx_rs::transforms::eval;
use mlx_rs::{Array, Dtype};
use std::time::{Duration, Instant};

/// Rows and columns of a matrix.
const WIDTH: i32 = 2048;

/// Positions that enter together where there are many.
const MANY: i32 = 64;

/// How long rounds are begun, for each of the two.
const BUDGET: Duration = Duration::from_millis(30);

/// Rounds that are enough.
const ROUNDS: usize = 8;

/// Measures both, with 4-bit weights on a GPU and plain numbers on a processor: what each keeps.
pub(crate) fn speed(gpu: bool) -> Result<Option<Speed>> {
    let (dtype, count) = if gpu {
        (Dtype::Float16, 16)
    } else {
        (Dtype::Float32, 3)
    };
    let weights = (0..count).map(|_| if gpu { packed(dtype) } else { plain(dtype) });
    let weights = weights.collect::<Result<Vec<Weight>>>()?;
    eval(weights.iter().flat_map(Weight::arrays))?;
    let decode = best(&weights, 1, dtype)?;
    let prefill = best(weights.get(..1).unwrap_or_default(), MANY, dtype)?;
    Ok(decode
        .zip(prefill)
        .map(|(decode, prefill)| Speed { decode, prefill }))
}

/// Bytes of weights times positions that are done in a second, at best.
fn best(weights: &[Weight], positions: i32, dtype: Dtype) -> Result<Option<u64>> {
    let x = broadcast_to(scalar(0.5, dtype)?, &[positions, WIDTH])?.contiguous()?;
    eval([&x])?;
    let bytes: u64 = weights.iter().map(Weight::bytes).sum();
    let done = bytes as f64 * f64::from(positions);
    let begin = Instant::now();
    let mut best = None;
    for _ in 0..ROUNDS {
        let round = Instant::now();
        let products = weights.iter().map(|weight| weight.product(&x));
        eval(&products.collect::<Result<Vec<Array>>>()?)?;
        let rate = done / round.elapsed().as_secs_f64();
        best = best.max((rate.is_finite() && rate >= 1.0).then_some(rate as u64));
        if begin.elapsed() > BUDGET {
            break;
        }
    }
    Ok(best)
}

fn plain(dtype: Dtype) -> Result<Weight> {
    let weight = broadcast_to(scalar(0.01, dtype)?, &[WIDTH, WIDTH])?;
    Ok(Weight::Dense(weight.contiguous()?))
}

/// 4 bits, 64 elements to a scale.
fn packed(dtype: Dtype) -> Result<Weight> {
    let packing = Packing { bits: 4, group: 64 };
    let words = WIDTH * 4 / 32;
    let numbers = vec![0x6b; (WIDTH * words * 4) as usize];
    let scales = broadcast_to(scalar(0.01, dtype)?, &[WIDTH, WIDTH / 64])?.contiguous()?;
    Ok(Weight::Packed {
        numbers: from_bytes(&numbers, &[WIDTH, words], Dtype::Uint32)?,
        biases: scales.negative()?,
        scales,
        packing,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_weights_are_measured() {
        let speed = speed(false).expect("MLX computes").expect("it takes time");
        assert!(speed.decode > 0 && speed.prefill > 0, "{speed:?}");
        // As on a GPU; a processor is slow with it, so one product is enough.
        let weights = [packed(Dtype::Float16).expect("it is packed")];
        let rate = best(&weights, 1, Dtype::Float16).expect("MLX computes");
        assert!(rate.is_some_and(|rate| rate > 0), "{rate:?}");
    }

    #[test]
    fn packed_weights_are_what_they_are_said_to_be() {
        let weight = packed(Dtype::Float32).expect("it is packed");
        let row = weight.rows(&Array::from_slice(&[0], &[1]), Dtype::Float32);
        let row = row.expect("there is a first row");
        let row = row.try_as_slice::<f32>().expect("numbers");
        // 0xb and 0x6, less one.
        assert!((row[0] - 0.10).abs() < 1e-6 && (row[1] - 0.05).abs() < 1e-6);
    }
}

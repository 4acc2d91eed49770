//! Turning queries and keys by their positions.

use crate::tensor::scalar;
use exo_models::{RopeConfig, RopeLayout};
use mlx_rs::Array;
use mlx_rs::error::{Exception, Result};
use mlx_rs::fast::{rope, rope_dynamic};
use mlx_rs::ops::concatenate;

/// What MLX needs of a [`RopeConfig`].
#[derive(Debug)]
pub(crate) struct Rope {
    dims: i32,
    /// MLX's word for pairs of neighbours.
    traditional: bool,
    /// Positions per radian for each pair, `[dims / 2]`.
    periods: Array,
    magnitude: f32,
}

/// The position of the first of the new positions of each row of a batch.
#[derive(Clone, Debug)]
pub(crate) enum Offset {
    /// The same in all rows.
    One(i32),
    /// One for each row, `[B]`.
    Each(Array),
}

impl Rope {
    pub(crate) fn new(config: &RopeConfig) -> Result<Self> {
        let dims = i32::try_from(config.dims)
            .map_err(|_| Exception::custom(format!("{} elements cannot turn", config.dims)))?;
        let periods = config.frequencies().into_iter();
        let periods = Array::from_iter(periods.map(|f| f.recip() as f32), &[dims / 2]);
        Ok(Self {
            dims,
            traditional: config.layout == RopeLayout::Interleaved,
            periods,
            magnitude: config.magnitude(),
        })
    }

    /// The first elements of each head turned: `[B, heads, T, width]` to the same.
    pub(crate) fn turn(&self, x: &Array, offset: &Offset) -> Result<Array> {
        let x = self.stretched(x)?;
        let (dims, traditional, periods) = (self.dims, self.traditional, &self.periods);
        match offset {
            Offset::One(offset) => rope(x, dims, traditional, None, 1.0, *offset, periods),
            Offset::Each(offsets) => {
                rope_dynamic(x, dims, traditional, None, 1.0, offsets, periods)
            }
        }
    }

    /// What turns, multiplied by the magnitude.
    fn stretched(&self, x: &Array) -> Result<Array> {
        if self.magnitude == 1.0 {
            return Ok(x.clone());
        }
        let magnitude = scalar(self.magnitude, x.dtype())?;
        if x.shape().last() == Some(&self.dims) {
            return x.multiply(magnitude);
        }
        let parts = x.split_at_indices(&[self.dims], -1)?;
        match <[Array; 2]>::try_from(parts) {
            Ok([turning, rest]) => concatenate(&[turning.multiply(magnitude)?, rest], -1),
            Err(_) => Err(Exception::custom(
                "a head is narrower than what turns of it",
            )),
        }
    }
}

//! How far the model's prediction is from what came.

use crate::TrainError;
use crate::shard::ShardModel;
use exo_protocol::engine::Targets;
use mlx_rs::error::Result;
use mlx_rs::ops::indexing::take_along_axis;
use mlx_rs::ops::logsumexp_axis;
use mlx_rs::{Array, Dtype};

/// The positions that count, and the token that follows each.
#[derive(Clone, Debug)]
pub(crate) struct Counted {
    /// Places in `[B * T]`.
    positions: Array,
    /// As many ids.
    tokens: Array,
    count: u32,
}

impl Counted {
    /// Checks targets against an example of `batch` rows of `length` positions.
    ///
    /// # Errors
    /// When they do not fit.
    pub(crate) fn new(
        targets: &Targets,
        batch: usize,
        length: usize,
        vocab: usize,
    ) -> std::result::Result<Self, TrainError> {
        let Targets { tokens, counted } = targets;
        let fail = |why: String| Err(TrainError::Input(why));
        if tokens.len() != batch * length || counted.len() != batch {
            return fail(format!(
                "{} targets in {} rows came for an example of [{batch}, {length}]",
                tokens.len(),
                counted.len()
            ));
        }
        let mut places: Vec<u32> = Vec::new();
        for (row, &(from, to)) in counted.iter().enumerate() {
            if from > to || to as usize > length {
                return fail(format!(
                    "positions {from} to {to} are to count in a row of {length}"
                ));
            }
            let row = (row * length) as u32;
            places.extend((from..to).map(|at| row + at));
        }
        let wanted: Option<Vec<u32>> = places
            .iter()
            .map(|&place| tokens.get(place as usize).copied())
            .collect();
        let wanted = wanted.unwrap_or_default();
        if let Some(token) = wanted.iter().find(|token| **token as usize >= vocab) {
            return fail(format!(
                "target {token} is not in the vocabulary of {vocab}"
            ));
        }
        let count = places.len() as u32;
        let array = |values: &[u32]| Array::from_slice(values, &[count as i32]);
        Ok(Self {
            positions: array(&places),
            tokens: array(&wanted),
            count,
        })
    }

    /// How many.
    pub(crate) fn count(&self) -> u32 {
        self.count
    }
}

/// Mean cross entropy in nats over the positions that count, of which there is at least one: of
/// what left the last layer, `[B, T, hidden]`, to a number. Only the logits of those positions are
/// computed.
pub(crate) fn cross_entropy(shard: &ShardModel, x: &Array, counted: &Counted) -> Result<Array> {
    let width = x.shape().last().copied().unwrap_or(0);
    let rows = x.reshape(&[-1, width])?.take_axis(&counted.positions, 0)?;
    let logits = shard.logits(&rows)?.as_dtype(Dtype::Float32)?;
    let wanted =
        take_along_axis(&logits, counted.tokens.expand_dims(-1)?, -1)?.squeeze_axes(&[-1])?;
    logsumexp_axis(&logits, -1, false)?
        .subtract(wanted)?
        .mean(false)
}

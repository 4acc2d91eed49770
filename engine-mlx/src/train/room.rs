//! Memory that learning takes, known before it is taken.

use super::parameters::Parameters;
use crate::MlxError;
use crate::shard::ShardModel;
use exo_protocol::engine::{Optimizer, TrainSetup};

/// What an engine may use.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    /// Bytes in use.
    pub(crate) used: u64,
    /// Bytes allowed, if there is a limit.
    pub(crate) limit: Option<u64>,
}

impl Room {
    /// Refuses what does not fit.
    pub(super) fn check(self, what: &'static str, needed: u64) -> Result<(), MlxError> {
        let Self { used, limit } = self;
        match limit {
            Some(limit) if needed.saturating_add(used) > limit => Err(MlxError::Memory {
                what,
                needed,
                used,
                limit,
            }),
            _ => Ok(()),
        }
    }
}

/// Bytes of single-precision parameters, their new values while they change, and for AdamW twice
/// as much for the moments.
pub(super) fn of_job(shard: &ShardModel, setup: &TrainSetup) -> u64 {
    let each = match setup.optimizer {
        Optimizer::Sgd => 8,
        Optimizer::AdamW { .. } => 24,
    };
    Parameters::count_of(shard, &setup.trainable).saturating_mul(each)
}

/// About the bytes of what an example of `batch` rows leaves in memory while it is computed. To
/// learn, all layers keep what they computed until the gradient has come back: a handful of hidden
/// states, queries, keys and values, the feed-forward part, and each head's scores. Else only one
/// layer does. `compared` positions have logits.
pub(super) fn of_example(
    shard: &ShardModel,
    batch: usize,
    length: usize,
    compared: u32,
    learn: bool,
) -> u64 {
    let config = &shard.config;
    let experts = config.experts.map_or(0, |experts| {
        experts.active * experts.intermediate + experts.shared_intermediate
    });
    let heads = config.heads + 2 * config.kv_heads;
    let position = 8 * config.hidden
        + 3 * heads * config.head_dim
        + 5 * config.intermediate.max(experts)
        + 3 * config.heads * length;
    let layers = if learn { shard.layers.len() } else { 1 };
    let logits = 3 * u64::from(compared) * config.vocab as u64;
    let positions = batch as u64 * length as u64;
    let layers = positions
        .saturating_mul(position as u64)
        .saturating_mul(layers as u64);
    layers.saturating_add(logits).saturating_mul(4)
}

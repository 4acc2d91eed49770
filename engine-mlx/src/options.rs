//! How the engine computes, and how much of the machine it may use.

use crate::checkpoint::Adapter;
use std::path::PathBuf;

/// Choices and limits of an [`MlxEngine`](crate::MlxEngine).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MlxOptions {
    /// Bytes that the weights of all loaded shards and all KV caches may take together; none for
    /// no limit.
    pub memory_limit: Option<u64>,
    /// Most positions of a request; zero for what the model was trained with. Never more than that.
    pub max_context: u32,
    /// What hidden states, keys and values are made of; `None` for what is best on the device.
    pub dtype: Option<ComputeDtype>,
    /// How linear weights are kept.
    pub weights: WeightForm,
    /// Where checkpoints of training jobs are; nowhere if none.
    pub checkpoints: Option<PathBuf>,
    /// What a job learned: added to the model that it was learned on, and to no other.
    pub adapter: Option<Adapter>,
    /// Positions of a long input that go through the layers together; at least one.
    pub chunk: u32,
}

/// What is computed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ComputeDtype {
    /// Single precision: the fastest on a CPU.
    F32,
    /// Half precision.
    F16,
    /// The upper half of single precision.
    Bf16,
}

/// How linear weights are kept in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum WeightForm {
    /// On a CPU as [`WeightForm::Dense`] if that fits into the memory limit, because MLX multiplies
    /// there much faster with single precision than with anything packed; else as
    /// [`WeightForm::Packed`].
    #[default]
    Auto,
    /// Packed weights stay packed, others become what is computed with, if that is not larger.
    Packed,
    /// All weights become what is computed with.
    Dense,
}

impl Default for MlxOptions {
    /// The model's context, no limit on memory, the device's choice of numbers.
    fn default() -> Self {
        Self {
            memory_limit: None,
            max_context: 0,
            dtype: None,
            weights: WeightForm::Auto,
            checkpoints: None,
            adapter: None,
            chunk: 512,
        }
    }
}

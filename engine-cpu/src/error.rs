//! What can go wrong, apart from what an [`EngineFailure`] says.

use exo_models::{Family, ModelError, WeightKind, WeightName};
use exo_protocol::engine::{EngineFailure, FailureKind};

/// Why a shard could not be made ready or computed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CpuError {
    /// The model's files are missing, damaged or unsupported.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The model is of a family that this engine does not compute.
    #[error(
        "{family:?} has {what}, which the cpu engine does not compute: use `--inference-engine mlx`"
    )]
    Family {
        /// The family.
        family: Family,
        /// What it has.
        what: &'static str,
    },
    /// A weight is stored in a way this engine does not multiply with.
    #[error("{weight:?} is stored as {kind}, which does not multiply at its shape")]
    WeightKind {
        /// The weight.
        weight: WeightName,
        /// How it is stored.
        kind: WeightKind,
    },
    /// A weight has another shape than the model's configuration says.
    #[error("{weight:?} should be {expected:?}, but is {found:?} in {bytes} bytes")]
    WeightShape {
        /// The weight.
        weight: WeightName,
        /// Rows and columns by the configuration.
        expected: [usize; 2],
        /// Rows and columns by the file.
        found: [usize; 2],
        /// Bytes in the file.
        bytes: usize,
    },
    /// The caller's idea of the model's depth is not the model's.
    #[error("the shard is of a model with {asked} layers, but {model} has {found}")]
    Layers {
        /// The model.
        model: String,
        /// Layers by the shard.
        asked: u32,
        /// Layers by the model's files.
        found: u32,
    },
    /// The shard names no layer of its model.
    #[error("layers {start}-{end} of {layers} are no layers")]
    Range {
        /// First layer.
        start: u32,
        /// Last layer.
        end: u32,
        /// Layers of the model.
        layers: u32,
    },
    /// Weights and KV caches would pass the limit.
    #[error(
        "{what} needs {needed} bytes, {used} are in use and the limit is {limit}: \
         {} too many", .needed.saturating_add(*.used).saturating_sub(*.limit)
    )]
    Memory {
        /// What asked for it.
        what: &'static str,
        /// Bytes it takes.
        needed: u64,
        /// Bytes in use by other shards and requests.
        used: u64,
        /// Bytes allowed.
        limit: u64,
    },
    /// The system gives no more memory.
    #[error("the system has no memory for a KV cache of {positions} positions")]
    Allocation {
        /// Positions that were to fit.
        positions: usize,
    },
    /// The request would pass the model's context.
    #[error("{positions} positions do not fit in a context of {context}")]
    Context {
        /// Positions after this input.
        positions: u64,
        /// Positions that fit.
        context: u32,
    },
    /// The input is not what the shard takes.
    #[error("{0}")]
    Input(String),
    /// This engine only answers.
    #[error("the cpu engine does not train: use `--inference-engine mlx`")]
    Training,
    /// The system starts no more threads.
    #[error("cannot start {threads} threads: {source}")]
    Threads {
        /// How many were asked for.
        threads: usize,
        /// The system's answer.
        source: std::io::Error,
    },
}

impl From<CpuError> for EngineFailure {
    fn from(error: CpuError) -> Self {
        let kind = match &error {
            CpuError::Model(ModelError::Unknown(_)) => FailureKind::ModelNotFound,
            CpuError::Model(ModelError::Io { source, .. })
                if source.kind() == std::io::ErrorKind::NotFound =>
            {
                FailureKind::ModelNotFound
            }
            CpuError::Model(ModelError::TextTooLong { .. } | ModelError::Grammar(_))
            | CpuError::Input(_) => FailureKind::BadInput,
            CpuError::Model(_)
            | CpuError::WeightKind { .. }
            | CpuError::WeightShape { .. }
            | CpuError::Layers { .. }
            | CpuError::Range { .. } => FailureKind::BadModel,
            CpuError::Memory { .. } | CpuError::Allocation { .. } => FailureKind::OutOfMemory,
            CpuError::Context { .. } => FailureKind::ContextFull,
            CpuError::Training | CpuError::Family { .. } => FailureKind::Unsupported,
            CpuError::Threads { .. } => FailureKind::Internal,
        };
        Self::new(kind, error.to_string())
    }
}

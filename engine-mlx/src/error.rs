//! What can go wrong, apart from what an [`EngineFailure`] says.

mod train;

pub use train::TrainError;

use crate::checkpoint::CheckpointError;
use exo_models::ModelError;
use exo_protocol::engine::{EngineFailure, FailureKind};

/// Why there is no engine, or why a shard could not be made ready or computed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MlxError {
    /// This build has no MLX.
    #[error(
        "this build computes without MLX: on Linux run engine-mlx/setup-linux and build again, \
         or use `--inference-engine cpu`, which runs on every machine"
    )]
    NotBuilt,
    /// The model's files are missing, damaged or unsupported.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// MLX refused or failed.
    #[error("MLX failed while {doing}: {why}")]
    Mlx {
        /// What was being done.
        doing: String,
        /// What MLX said.
        why: String,
    },
    /// A weight's shape and bytes do not fit each other.
    #[error("{weight} should take {expected} bytes as {kind}, but has {found}")]
    WeightBytes {
        /// The weight.
        weight: String,
        /// How it is stored.
        kind: String,
        /// Bytes that its shape asks for.
        expected: usize,
        /// Bytes in the file.
        found: usize,
    },
    /// A weight is stored in a way this engine does not know.
    #[error("{weight} is stored as {kind}, which this engine does not compute with")]
    WeightKind {
        /// The weight.
        weight: String,
        /// How it is stored.
        kind: String,
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
    /// The request would pass the model's context.
    #[error("{positions} positions do not fit in a context of {context}")]
    Context {
        /// Positions after this input.
        positions: u64,
        /// Positions that fit.
        context: u32,
    },
    /// A layer with a window no longer has what the position sees.
    #[error(
        "the request cannot go back to position {position}: layers that see {window} positions \
         have forgotten those before {first}; begin again at 0"
    )]
    Forgotten {
        /// Where the request was to go back to.
        position: usize,
        /// How many positions a position sees.
        window: usize,
        /// The first position that is still there.
        first: usize,
    },
    /// The input is not what the shard takes.
    #[error("{0}")]
    Input(String),
    /// A training job cannot go on.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// This engine does not do that.
    #[error("{0}")]
    Unsupported(String),
}

#[cfg(mlx)]
impl MlxError {
    /// What MLX said while something was `doing`.
    pub(crate) fn mlx(doing: impl Into<String>, why: impl ToString) -> Self {
        Self::Mlx {
            doing: doing.into(),
            why: why.to_string(),
        }
    }
}

impl From<CheckpointError> for MlxError {
    fn from(error: CheckpointError) -> Self {
        Self::Train(error.into())
    }
}

impl From<MlxError> for EngineFailure {
    fn from(error: MlxError) -> Self {
        let kind = match &error {
            MlxError::Model(ModelError::Unknown(_)) => FailureKind::ModelNotFound,
            MlxError::Model(ModelError::Io { source, .. })
                if source.kind() == std::io::ErrorKind::NotFound =>
            {
                FailureKind::ModelNotFound
            }
            MlxError::Model(ModelError::TextTooLong { .. } | ModelError::Grammar(_))
            | MlxError::Input(_)
            | MlxError::Forgotten { .. } => FailureKind::BadInput,
            MlxError::Model(_)
            | MlxError::WeightBytes { .. }
            | MlxError::WeightKind { .. }
            | MlxError::Layers { .. }
            | MlxError::Range { .. } => FailureKind::BadModel,
            MlxError::Memory { .. } => FailureKind::OutOfMemory,
            MlxError::Context { .. } => FailureKind::ContextFull,
            MlxError::NotBuilt | MlxError::Unsupported(_) => FailureKind::Unsupported,
            MlxError::Train(error) => error.kind(),
            MlxError::Mlx { .. } => FailureKind::Internal,
        };
        Self::new(kind, error.to_string())
    }
}

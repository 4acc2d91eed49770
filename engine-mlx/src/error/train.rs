//! Why a shard does not learn.

use crate::checkpoint::CheckpointError;
use exo_protocol::engine::FailureKind;

/// What can go wrong with a training job, apart from MLX.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// What came is not what the job takes now.
    #[error("{0}")]
    Input(String),
    /// What is to be trained, or how, makes no sense.
    #[error("{0}")]
    Setup(String),
    /// This engine does not train that.
    #[error("{0}")]
    Unsupported(String),
    /// The loss or a gradient is no number any more.
    #[error(
        "{what} of step {step} is not a finite number, so nothing was changed: go on from a \
         checkpoint with a smaller --learning-rate"
    )]
    Diverged {
        /// The loss, or a gradient.
        what: &'static str,
        /// The step that was not made.
        step: u32,
    },
    /// A checkpoint cannot be written or used.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
}

impl TrainError {
    /// What kind of failure it is, for programs.
    pub(crate) fn kind(&self) -> FailureKind {
        match self {
            Self::Input(_) | Self::Setup(_) => FailureKind::BadInput,
            Self::Unsupported(_) => FailureKind::Unsupported,
            Self::Diverged { .. } => FailureKind::Internal,
            Self::Checkpoint(error) => match error {
                CheckpointError::Missing { .. } => FailureKind::ModelNotFound,
                CheckpointError::Damaged { .. } | CheckpointError::Other { .. } => {
                    FailureKind::BadModel
                }
                CheckpointError::Name(_) => FailureKind::BadInput,
                CheckpointError::NoFolder => FailureKind::Unsupported,
                CheckpointError::Io { .. } => FailureKind::Internal,
            },
        }
    }
}

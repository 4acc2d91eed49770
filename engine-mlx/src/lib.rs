//! Runs a layer range of a language model with MLX.
//!
//! This crate is a place in the workspace, not yet an engine: it says so to whoever asks, so that
//! `--inference-engine mlx` fails with a reason instead of a missing option.

use exo_protocol::engine::Engine;

/// Whether this build can compute with MLX.
pub const AVAILABLE: bool = false;

/// Why there is no engine.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MlxError {
    /// This build has no MLX.
    #[error(
        "this build computes without MLX: on Linux run engine-mlx/setup-linux and build again, \
         or use `--inference-engine cpu`, which runs on every machine"
    )]
    NotBuilt,
}

/// An MLX engine, where there is one.
///
/// # Errors
/// [`MlxError::NotBuilt`], always: the engine is not part of this version.
pub fn engine() -> Result<Box<dyn Engine>, MlxError> {
    Err(MlxError::NotBuilt)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_mlx_the_error_names_the_engine_that_works() {
        let error = engine().err().map(|error| error.to_string());
        assert!(error.is_some_and(|text| text.contains("--inference-engine cpu")));
        const { assert!(!AVAILABLE) };
    }
}

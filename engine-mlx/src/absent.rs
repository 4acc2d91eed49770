//! The engine of builds without MLX: there is none, and it says so.

use crate::{MlxError, MlxOptions, OpenModel};
use exo_protocol::engine::{Engine, EngineCommand, EngineEvent};
use std::convert::Infallible;

/// Runs layer ranges of models with MLX; this build has none, so there is never a value of it.
#[derive(Debug)]
pub struct MlxEngine(Infallible);

impl MlxEngine {
    /// An engine with nothing loaded, in builds with MLX.
    ///
    /// # Errors
    /// [`MlxError::NotBuilt`], always.
    pub fn new(_options: MlxOptions, _open: OpenModel) -> Result<Self, MlxError> {
        Err(MlxError::NotBuilt)
    }

    /// The logits of the last position that was sampled.
    #[must_use]
    pub fn last_logits(&self) -> Vec<f32> {
        match self.0 {}
    }

    /// Bytes in weights and KV caches.
    #[must_use]
    pub fn memory_used(&self) -> u64 {
        match self.0 {}
    }

    /// What computes: `cpu` or `gpu`.
    #[must_use]
    pub fn device(&self) -> &'static str {
        match self.0 {}
    }
}

impl Engine for MlxEngine {
    fn execute(
        &mut self,
        _command: EngineCommand,
        _progress: &mut dyn FnMut(EngineEvent),
    ) -> EngineEvent {
        match self.0 {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use exo_models::Model;

    #[test]
    fn without_mlx_the_error_names_the_engine_that_works() {
        let open = Box::new(|_: &str| Model::embedded());
        let error = MlxEngine::new(MlxOptions::default(), open).err();
        let text = error.map(|error| error.to_string()).unwrap_or_default();
        assert!(text.contains("--inference-engine cpu"), "{text}");
        const { assert!(!crate::AVAILABLE) };
    }
}

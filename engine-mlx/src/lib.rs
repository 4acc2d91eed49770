//! Runs a layer range of a language model with MLX: on the GPU of Apple Silicon, and on the CPU of
//! Linux once `engine-mlx/setup-linux` has prepared it.
//!
//! [`MlxEngine`] implements [`exo_protocol::engine::Engine`] for every family that `exo_models`
//! describes. It reads the description and never the family, and computes a layer as a function of
//! its parameters, so that answering and learning run the same forward pass.
//!
//! Where MLX is not part of the build the same names are there, and [`MlxEngine::new`] says how to
//! get it.

#![deny(unsafe_code)]

pub mod checkpoint;

mod error;
mod options;

#[cfg(mlx)]
mod batch;
#[cfg(mlx)]
mod cache;
#[cfg(mlx)]
mod engine;
#[cfg(mlx)]
mod ggml;
#[cfg(mlx)]
mod input;
#[cfg(mlx)]
mod measure;
#[cfg(mlx)]
mod model;
#[cfg(mlx)]
mod sampling;
#[cfg(mlx)]
mod shard;
#[cfg(mlx)]
mod tensor;
#[cfg(mlx)]
mod train;
#[cfg(mlx)]
mod weights;

#[cfg(not(mlx))]
mod absent;

#[cfg(not(mlx))]
pub use absent::MlxEngine;
#[cfg(mlx)]
pub use engine::MlxEngine;
pub use error::{MlxError, TrainError};
pub use options::{ComputeDtype, MlxOptions, WeightForm};

use exo_models::{Model, ModelError};

/// The version of mlx-rs that this crate is written for.
pub const MLX_RS: &str = "0.33";

/// Whether this build can compute with MLX.
pub const AVAILABLE: bool = cfg!(mlx);

/// Finds the model that a name on the wire means.
pub type OpenModel = Box<dyn Fn(&str) -> Result<Model, ModelError>>;

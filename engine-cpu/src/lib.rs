//! Runs a layer range of a language model on the CPU, with quantised kernels of its own.
//!
//! [`CpuEngine`] implements [`exo_protocol::engine::Engine`] for everything that an
//! [`exo_models::ModelConfig`] describes: it looks at its fields and never at the family. Weights
//! stay in the layout of their file, mapped into memory; activations are `f32` between layers; keys
//! and values are kept in half precision. [`Precision`] says what that costs, and offers more.
//!
//! A forward pass goes through `pass`, which takes positions in batches, of one request or of
//! several; `attention` and `feed_forward` are the two parts of a layer, `layer` what they load, and
//! `product` and `matrix` what they multiply with. `measure` tells how quick all of that is here.
//!
//! The arithmetic is in [`kernels`], which also says why the same inputs always give the same
//! bits.

#![deny(unsafe_code)]

mod attention;
mod engine;
mod error;
mod feed_forward;
mod input;
pub mod kernels;
mod kv;
mod layer;
mod machine;
mod matrix;
mod measure;
mod options;
mod pass;
mod product;
mod rope;
mod sampling;
mod shard;
mod unchecked;

pub use engine::{CpuEngine, OpenModel};
pub use error::CpuError;
pub use options::{CpuOptions, Precision};
pub use sampling::choose;

//! `exo-node train` and `exo-node eval`: a model learns from examples, over the whole ring.

pub mod batches;
pub mod data;
pub mod encoder;
pub mod order;

pub use batches::{Batch, Batches};
pub use data::{DataError, Dataset, Split};
pub use encoder::{Encoder, Example};

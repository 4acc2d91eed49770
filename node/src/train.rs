//! `exo-node train` and `exo-node eval`: a model learns from examples, over the whole ring.

pub mod batches;
pub mod data;
pub mod encoder;
pub mod evaluate;
pub mod job;
pub mod job_file;
pub mod learn;
pub mod options;
pub mod order;
pub mod recipe;

mod session;

pub use batches::{Batch, Batches};
pub use data::{DataError, Dataset, Split};
pub use encoder::{Encoder, Example};
pub use evaluate::eval;
pub use job::{Job, JobError};
pub use job_file::{JobFile, JobFileError, Reference};
pub use learn::train;
pub use options::{Options, Purpose};
pub use recipe::Recipe;

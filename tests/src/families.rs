//! Every model family on every engine, against numbers that another implementation computed.
//!
//! `tests/families` has the checkpoints and what they must give, and says where those numbers come
//! from. Here is what is asked of an engine about each of them: [`whole`](checks::whole),
//! [cut into shards](checks::split) everywhere, with its prompt
//! [cut and its cache taken back](checks::resumed), and [several at a time](checks::together).

pub mod checks;
mod compare;
pub mod gguf;
mod golden;
mod run;
pub mod smollm2;
mod subject;
pub mod table;
pub mod tensors;

pub use compare::{Deviation, deviation, largest};
pub use golden::{Case, Golden};
pub use run::{Done, Runner, Stage, Step};
pub use subject::{BF16, Kind, Subject};

use std::path::{Path, PathBuf};

/// Where the checkpoints and golden values are.
#[must_use]
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("families")
}

/// A checkpoint: a model folder.
#[must_use]
pub fn checkpoint(name: &str) -> PathBuf {
    folder().join("checkpoints").join(name)
}

//! What drivers of the EXO protocol do in the same way, with threads or with tasks: the engine's thread,
//! the clock, the discovery file, peers behind programs, this machine's addresses, and what sockets
//! are told. Nothing here moves a byte of the protocol, and nothing decides.
//!
//! `exo-runtime-std` and `exo-runtime-smol` are made of it; so may be a driver of your own.

pub mod clock;
pub mod engine;
mod error;
pub mod file;
pub mod interfaces;
mod options;
pub mod program;
pub mod socket;

pub use error::{CommandError, StartError};
pub use options::Options;

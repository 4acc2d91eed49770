//! Bodies of the fuzz targets: each takes any bytes and panics when something that must hold does
//! not. An ordinary test runs them over the corpora, over all past findings and over mutations.
//!
//! [`decode`] and [`roundtrip`] take the bytes as they are. [`connection`] and [`node`] read them as
//! a script: what happens next to a node, byte by byte, so that a small change of the bytes is a
//! small change of its life. To [`cluster`] they are the same for a whole ring in the simulator.

mod cluster;
mod connection;
mod engine;
mod files;
mod frames;
mod harness;
mod http;
mod message;
mod node;
mod plan;
mod scene;
mod source;
mod training;

pub use cluster::cluster;
pub use connection::connection;
pub use files::{discovery, gguf};
pub use frames::{decode, decode_in_pieces, roundtrip};
pub use http::http;
pub use node::node;

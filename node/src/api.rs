//! The HTTP API: one implementation for both runtimes.
//!
//! ```text
//! client ── guard ── private channel ── tiny_http ── routes ── app
//! ```

pub mod backend;
mod chat;
mod dialect;
pub mod error;
mod fields;
pub mod guard;
pub mod http;
mod openai;
mod routes;
mod serve;
pub mod server;
mod views;

//! The HTTP API: one implementation for both runtimes.
//!
//! ```text
//! client ── guard ── private channel ── tiny_http ── routes ── app
//! ```

pub mod backend;
mod chat;
pub mod error;
pub mod guard;
pub mod http;
pub mod openai;
mod routes;
pub mod server;
mod views;

//! The HTTP API: one implementation for both runtimes.
//!
//! ```text
//! client ── guard ── private channel ── tiny_http ── routes ── app
//! ```

pub mod access;
mod anthropic;
pub mod backend;
mod calls;
mod chat;
mod completions;
mod dialect;
mod encode;
pub mod error;
mod fields;
pub mod guard;
mod health;
pub mod http;
pub mod line;
mod live;
pub mod mark;
mod models;
mod offsets;
mod ollama;
mod openai;
mod opening;
mod other;
mod responses;
mod routes;
mod serve;
pub mod server;
pub mod service;
mod views;
mod web;
mod workers;

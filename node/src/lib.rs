//! Runs one language model across the machines you already have.
//!
//! This is the application around the protocol: the command line, the HTTP API, what this machine
//! can do, and the wiring of a runtime, an engine and the models on disk.

pub mod answer;
pub mod api;
pub mod app;
pub mod aside;
pub mod ask;
pub mod bench;
pub mod capabilities;
pub mod cli;
pub mod connect;
pub mod demo;
pub mod dissector;
pub mod doctor;
pub mod downloads;
pub mod engines;
pub mod events;
mod fetcher;
pub mod folder;
pub mod identity;
pub mod library;
pub mod logging;
pub mod metrics;
pub mod models_command;
pub mod notify;
pub mod plan;
pub mod random;
pub mod recording;
pub mod run;
pub mod runtime;
pub mod serve;
pub mod settings;
mod sharing;
pub mod signals;
pub mod speaker;
pub mod stop;
pub mod tailscale;
pub mod terminal;
pub mod traces;
pub mod train;
#[cfg(feature = "tui")]
pub mod tui;
pub mod tunnel;
mod view;
pub mod wake;
pub mod words;

mod start;

pub use start::{Failed, main};

//! The API over HTTP.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on stops")]

mod access;
mod alone;
mod answers;
mod anything;
mod dialects;
mod downloads;
mod forms;
mod live;
mod prompt_scores;
mod seen;
#[path = "../../../models/src/hub/tests/server.rs"]
#[expect(dead_code, reason = "not everything can go wrong here")]
mod server;

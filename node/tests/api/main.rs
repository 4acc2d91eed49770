//! The API over HTTP.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on stops")]

mod alone;
mod answers;

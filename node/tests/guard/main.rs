//! The guard in front of the API.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on stops")]

mod attacked;
mod attacks;
mod crowd;
mod kept;
mod manners;

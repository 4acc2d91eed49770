//! Training jobs.
//!
//! A job has two sides, like a request: its origin (`origin`), which sends examples one at a time
//! and hears what came of each, and its stages (`stage`). `job` is what both remember, `plan` and
//! `setup` what the origin tells the stages. A job never changes its ring: whatever is lost ends it
//! (`ending`), and another one goes on from the newest checkpoint.

mod ending;
mod failure;
mod job;
mod origin;
mod plan;
mod setup;
mod stage;

pub use failure::JobFailure;
pub(super) use job::{Job, JobStage};
pub(super) use plan::JobPlan;

//! Training jobs.
//!
//! A job has two sides, like a request: its origin (`origin`), which sends examples one at a time
//! and hears what came of each (`hear`), and its stages: `stage` takes what comes, `pass` passes on
//! what the engine made of it. `job` is what both remember, `plan` and `setup` what the origin tells
//! the stages. A job never changes its ring: whatever is lost ends it (`ending`), and another one
//! goes on from the newest checkpoint.

mod ending;
mod failure;
mod hear;
mod job;
mod origin;
mod pass;
mod plan;
mod setup;
mod stage;

pub use failure::JobFailure;
#[cfg(test)]
pub(super) use job::Phase;
pub(super) use job::{Job, JobStage};
pub(super) use plan::JobPlan;

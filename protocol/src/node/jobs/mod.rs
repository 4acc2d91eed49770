//! Training jobs.

mod failure;

pub use failure::JobFailure;

use super::Node;
use super::input::{Example, Train};
use super::output::Event;
use crate::id::RequestId;
use alloc::string::String;

impl Node {
    pub(super) fn train(&mut self, train: Train) {
        self.tell(Event::JobFailed {
            job: train.job,
            failure: JobFailure::Unsupported(String::from("this version does not train")),
            saved: None,
        });
    }

    /// No job is ever ready, so all are over.
    pub(super) fn example(&mut self, _: Example) {}

    pub(super) fn save(&mut self, _: &RequestId) {}

    pub(super) fn end_job(&mut self, _: &RequestId) {}
}

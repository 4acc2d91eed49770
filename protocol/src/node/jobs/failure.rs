//! Why a training job came to nothing.

use crate::id::{NodeId, RequestId};
use alloc::format;
use alloc::string::String;

/// Why a training job failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JobFailure {
    /// As many jobs as [`Limits::jobs`](crate::config::Limits::jobs) are under way here.
    #[error("{0} training jobs are under way already; wait for one to end")]
    Busy(usize),
    /// The id was used before.
    #[error("job id {0} was used before")]
    Duplicate(RequestId),
    /// The model has no layer.
    #[error("a model of {0} layers cannot be placed")]
    Layers(u32),
    /// What is to be trained, or how, makes no sense.
    #[error("{0}")]
    Setup(String),
    /// The nodes that train cannot hold the model.
    #[error(
        "the model takes {needed} MiB, the nodes that can train have {left} MiB{without}; only \
         nodes of ours take part whose engine trains"
    )]
    Memory {
        /// What the weights take, MiB.
        needed: u64,
        /// What the nodes have, MiB.
        left: u64,
        /// Which nodes cannot take part and why, with a separator before it; empty if all can.
        without: String,
    },
    /// An example is none.
    #[error("the example cannot be used: {0}")]
    Example(String),
    /// Something was asked while the job was not ready for it.
    #[error("{asked} was asked for while {under_way} was under way; wait for its answer")]
    OutOfTurn {
        /// What was asked for.
        asked: &'static str,
        /// What the job was doing.
        under_way: &'static str,
    },
    /// A stage's node is gone.
    #[error("node {node} left the ring: {reason}")]
    PeerLost {
        /// Who.
        node: NodeId,
        /// Why.
        reason: String,
    },
    /// A stage could not do its part.
    #[error("node {node}: {message}")]
    Stage {
        /// Who.
        node: NodeId,
        /// Its words.
        message: String,
    },
    /// The stages' checkpoints are not of the same step.
    #[error("{first} goes on after {expected} steps, {node} after {got}")]
    Resumed {
        /// The first stage's node.
        first: NodeId,
        /// Steps of its checkpoint.
        expected: u32,
        /// Another stage's node.
        node: NodeId,
        /// Steps of that one's checkpoint.
        got: u32,
    },
    /// One thing took longer than [`Timing::job_step`](crate::config::Timing::job_step).
    #[error("{under_way} did not end within {seconds} s; the ring was {ring}")]
    TimedOut {
        /// What the job was doing.
        under_way: &'static str,
        /// The time it had.
        seconds: u64,
        /// The nodes of its ring.
        ring: String,
    },
    /// This node is stopping.
    #[error("this node is shutting down")]
    Stopping,
    /// This version does not train.
    #[error("{0}")]
    Unsupported(String),
}

impl JobFailure {
    /// What to do about it, in a sentence: `job` is the job's name
    /// ([`TrainSetup::name`](crate::engine::TrainSetup::name)), `saved` as in
    /// [`Event::JobFailed`](super::super::Event::JobFailed).
    #[must_use]
    pub fn advice(&self, job: &str, saved: Option<u32>) -> String {
        match (self, saved) {
            (
                Self::PeerLost { .. }
                | Self::Stage { .. }
                | Self::TimedOut { .. }
                | Self::Resumed { .. }
                | Self::Example(_)
                | Self::OutOfTurn { .. }
                | Self::Stopping,
                Some(saved),
            ) => {
                format!(
                    "go on from the checkpoint of step {saved}: --resume-checkpoint {job}:{saved}"
                )
            }
            (Self::PeerLost { .. } | Self::TimedOut { .. } | Self::Stopping, None) => {
                String::from("nothing was saved yet: begin anew, and save more often")
            }
            _ => String::from("mend what is said here, then begin anew"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_can_be_typed_as_it_is() {
        let advice = JobFailure::Stopping.advice("moon", Some(40));
        assert!(
            advice.ends_with(": --resume-checkpoint moon:40"),
            "{advice}"
        );
        let advice = JobFailure::Stopping.advice("moon", None);
        assert!(advice.contains("begin anew"), "{advice}");
        let setup = JobFailure::Setup(String::from("nothing to learn"));
        assert!(setup.advice("moon", Some(40)).starts_with("mend"));
    }
}

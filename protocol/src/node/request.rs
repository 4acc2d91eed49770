//! Requests under way, as one node sees them.

use super::output::Stage;
use crate::engine::{EngineInput, Sampling};
use crate::id::{NodeId, RequestId};
use crate::shard::Shard;
use crate::time::Instant;
use alloc::collections::{BTreeSet, VecDeque};
use alloc::vec::Vec;

/// A request.
#[derive(Debug)]
pub(super) struct Request {
    /// Who gets the tokens; `None` when a reference node started it, which does not say.
    pub(super) origin: Option<NodeId>,
    /// The stages in order; frozen.
    pub(super) ring: Vec<Stage>,
    /// This node's place in `ring`.
    pub(super) stage: Option<usize>,
    pub(super) sampling: Sampling,
    pub(super) max_tokens: u32,
    /// Positions in this node's KV cache.
    pub(super) position: u32,
    /// Tokens generated, on the last stage and on the origin.
    pub(super) tokens: u32,
    pub(super) step: StepState,
    /// When to give up.
    pub(super) until: Instant,
    /// Present on the origin.
    pub(super) application: Option<Application>,
}

/// What the origin must remember for its application.
#[derive(Debug)]
pub(super) struct Application {
    pub(super) end_tokens: Vec<u32>,
    /// The time that the request was given.
    pub(super) seconds: u64,
}

/// Where this node's stage stands.
#[derive(Debug, PartialEq)]
pub(super) enum StepState {
    /// Nothing to compute.
    Idle,
    /// The shard is being loaded.
    Waiting(EngineInput),
    /// The engine has it.
    Computing,
}

impl Request {
    /// This node's shard.
    pub(super) fn shard(&self) -> Option<&Shard> {
        self.ring.get(self.stage?).map(|stage| &stage.shard)
    }

    /// The stage after this node's, around the ring.
    pub(super) fn next_stage(&self) -> Option<&Stage> {
        let next = self.stage?.checked_add(1)?.checked_rem(self.ring.len())?;
        self.ring.get(next)
    }

    /// Whether `node` computes a stage of it.
    pub(super) fn involves(&self, node: &str) -> bool {
        self.ring.iter().any(|stage| &*stage.node == node)
    }
}

/// The ids of requests that ended, newest last: a late tensor must not revive one.
#[derive(Debug, Default)]
pub(super) struct Ended {
    order: VecDeque<RequestId>,
    set: BTreeSet<RequestId>,
}

impl Ended {
    pub(super) fn insert(&mut self, request: RequestId, limit: usize) {
        if !self.set.insert(request.clone()) {
            return;
        }
        self.order.push_back(request);
        while self.order.len() > limit {
            if let Some(oldest) = self.order.pop_front() {
                self.set.remove(&oldest);
            }
        }
    }

    pub(super) fn contains(&self, request: &str) -> bool {
        self.set.contains(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ended_requests_are_forgotten_oldest_first() {
        let mut ended = Ended::default();
        for id in ["a", "b", "a", "c"] {
            ended.insert(id.into(), 2);
        }
        assert!(!ended.contains("a"));
        assert!(ended.contains("b") && ended.contains("c"));
    }
}

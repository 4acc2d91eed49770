//! A training job, as its origin sees it and as each of its stages does.

use super::JobPlan;
use crate::engine::Targets;
use crate::id::{CallId, ConnectionId, NodeId};
use crate::shard::Shard;
use crate::time::Instant;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// A job from [`Command::Train`](crate::Command::Train) to its last event.
#[derive(Debug)]
pub(in crate::node) struct Job {
    pub(in crate::node) plan: Arc<JobPlan>,
    /// The connection to each stage on another node. It stays the same: with it, all that was on
    /// its way is lost, and the job with it.
    pub(in crate::node) routes: BTreeMap<NodeId, ConnectionId>,
    pub(in crate::node) phase: Phase,
    /// Steps done.
    pub(in crate::node) steps: u32,
    /// How many numbers are trained, over all stages that have told.
    pub(in crate::node) trainable: u64,
    /// The newest checkpoint that all stages have.
    pub(in crate::node) saved: Option<u32>,
    /// When what is under way must have ended.
    pub(in crate::node) until: Instant,
}

/// What a job is at.
#[derive(Debug)]
pub(in crate::node) enum Phase {
    /// Stages make themselves ready; what each has told: numbers trained, and steps done.
    Beginning(Vec<Option<(u64, u32)>>),
    /// It waits for the application.
    Idle,
    /// An example is under way.
    Example { step: u32, learn: bool },
    /// Stages write a checkpoint; the file of each that is done.
    Saving {
        iteration: u32,
        files: Vec<Option<String>>,
    },
}

impl Phase {
    /// For people.
    pub(in crate::node) const fn name(&self) -> &'static str {
        match self {
            Self::Beginning(_) => "the beginning",
            Self::Idle => "nothing",
            Self::Example { .. } => "an example",
            Self::Saving { .. } => "a checkpoint",
        }
    }
}

/// This node's stage of a job.
#[derive(Debug)]
pub(in crate::node) struct JobStage {
    pub(in crate::node) plan: Arc<JobPlan>,
    /// This node's place in the ring.
    pub(in crate::node) stage: usize,
    /// The way to an origin on another node: the connection on which the plan came.
    pub(in crate::node) origin: Option<ConnectionId>,
    /// The way to the stage after, once something went there.
    pub(in crate::node) next: Option<ConnectionId>,
    /// The way to the stage before, once something came from there.
    pub(in crate::node) before: Option<ConnectionId>,
    pub(in crate::node) doing: Doing,
    /// The engine may hold something for it.
    pub(in crate::node) held: bool,
    /// How many numbers of its layers are trained.
    pub(in crate::node) trainable: u64,
    /// Steps that it has learned, those of the resumed checkpoint included.
    pub(in crate::node) steps: u32,
    /// When the engine must have said something.
    pub(in crate::node) until: Instant,
}

/// What a stage is at.
#[derive(Debug)]
pub(in crate::node) enum Doing {
    /// Its layers are being loaded.
    Load,
    /// The engine makes what is trained.
    Begin(CallId),
    /// It waits for the origin or the stage before.
    Nothing,
    /// The engine computes an example.
    Forward {
        call: CallId,
        step: u32,
        learn: bool,
        /// For the stages after this one.
        targets: Option<Targets>,
    },
    /// The stages after this one compute; a gradient of this shape comes back.
    Gradient { step: u32, shape: Vec<usize> },
    /// The engine learns.
    Backward {
        call: CallId,
        step: u32,
        loss: f32,
        positions: u32,
    },
    /// The engine writes a checkpoint.
    Save { call: CallId, iteration: u32 },
}

impl Doing {
    /// What the engine is at.
    pub(in crate::node) fn call(&self) -> Option<CallId> {
        match self {
            Self::Begin(call)
            | Self::Forward { call, .. }
            | Self::Backward { call, .. }
            | Self::Save { call, .. } => Some(*call),
            Self::Load | Self::Nothing | Self::Gradient { .. } => None,
        }
    }

    /// For people.
    pub(in crate::node) const fn name(&self) -> &'static str {
        match self {
            Self::Load => "loading",
            Self::Begin(_) => "beginning",
            Self::Nothing => "waiting",
            Self::Forward { .. } => "computing forwards",
            Self::Gradient { .. } => "waiting for a gradient",
            Self::Backward { .. } => "computing backwards",
            Self::Save { .. } => "saving",
        }
    }
}

impl JobStage {
    pub(in crate::node) fn new(
        plan: Arc<JobPlan>,
        stage: usize,
        origin: Option<ConnectionId>,
    ) -> Self {
        Self {
            plan,
            stage,
            origin,
            next: None,
            before: None,
            doing: Doing::Load,
            held: false,
            trainable: 0,
            steps: 0,
            until: Instant::FAR_FUTURE,
        }
    }

    /// This node's layers.
    pub(in crate::node) fn shard(&self) -> Option<&Shard> {
        self.plan.shard(self.stage)
    }

    /// Whether it has the model's last layer.
    pub(in crate::node) fn is_last(&self) -> bool {
        self.stage + 1 == self.plan.ring.len()
    }

    /// The connections that carry something of it.
    pub(in crate::node) fn routes(&self) -> impl Iterator<Item = ConnectionId> {
        [self.origin, self.next, self.before].into_iter().flatten()
    }
}

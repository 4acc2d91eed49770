//! The contract between the node and whatever computes: plain data there and back, one trait.
//!
//! The node never looks inside a tensor, an engine never hears of a peer. Commands go out as
//! `Output::Compute`, each is answered by exactly one completion that
//! carries its [`CallId`], and the driver runs the engine on one thread of its own: engines may
//! block, and need not be `Send` once built.

mod sampling;
mod scores;
mod training;

pub use sampling::{Sampling, Shaping};
pub use scores::Scores;
pub use training::{
    ExampleInput, Optimizer, Targets, TrainCommand, TrainEvent, TrainSetup, Trainable,
};

use crate::id::{CallId, RequestId};
use crate::shard::Shard;
use crate::tensor::Tensor;
use crate::topology::Speed;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

/// Something the node wants computed.
#[derive(Clone, Debug, PartialEq)]
pub enum EngineCommand {
    /// Make `shard` ready to compute. Answered by [`EngineEvent::Loaded`].
    Load {
        /// Names the completion.
        call: CallId,
        /// The layers.
        shard: Shard,
    },
    /// Give back the memory of `shard`; requests on it have been freed before. Unloading what is
    /// not loaded is fine. Answered by [`EngineEvent::Unloaded`].
    Unload {
        /// Names the completion.
        call: CallId,
        /// The layers.
        shard: Shard,
    },
    /// Run `shard` over new positions of a request. Answered by [`EngineEvent::Forwarded`].
    Forward {
        /// Names the completion.
        call: CallId,
        /// The layers; loaded before.
        shard: Shard,
        /// Whose KV cache to extend. A request starts when `position` is zero.
        request: RequestId,
        /// Positions of the request's KV cache that stay; the input fills those after them. What
        /// is cached beyond is forgotten: a ring that lost a stage goes back to what all of it
        /// knows. An engine refuses a number larger than it has cached.
        position: u32,
        /// What enters the first layer of `shard`.
        input: EngineInput,
        /// How to choose the next token, on the shard with the last layer; ignored elsewhere.
        /// `None` chooses none: more of the prompt follows.
        sampling: Option<Sampling>,
    },
    /// Drop a request's KV cache; freeing an unknown request is fine. Answered by
    /// [`EngineEvent::Freed`].
    Free {
        /// Names the completion.
        call: CallId,
        /// Whose KV cache.
        request: RequestId,
    },
    /// A part of a training job.
    Train(TrainCommand),
}

impl EngineCommand {
    /// The number its completion must carry.
    #[must_use]
    pub fn call(&self) -> CallId {
        match self {
            Self::Load { call, .. }
            | Self::Unload { call, .. }
            | Self::Forward { call, .. }
            | Self::Free { call, .. } => *call,
            Self::Train(command) => command.call(),
        }
    }
}

/// What enters a shard.
#[derive(Clone, Debug, PartialEq)]
pub enum EngineInput {
    /// A prompt still to be tokenized, already in the model's chat format. Only a shard with the
    /// first layer gets one, and only when the prompt came from a node that sends text.
    Text(Arc<str>),
    /// Token ids, for a shard with the first layer.
    Tokens(Vec<u32>),
    /// The hidden state that the stage before sent, shape `[1, T, H]`.
    Hidden(Tensor),
}

/// What an engine says. Everything but [`EngineEvent::Progress`] completes the named call.
#[derive(Clone, Debug, PartialEq)]
pub enum EngineEvent {
    /// A load is under way; any number of these come before its completion.
    Progress {
        /// The load.
        call: CallId,
        /// Bytes done.
        done: u64,
        /// Bytes in all.
        total: u64,
    },
    /// A shard is ready.
    Loaded {
        /// The load.
        call: CallId,
        /// Bytes of weights that it keeps resident or mapped.
        bytes: u64,
        /// What the whole model is, however its layers are cut: the same on every node that has
        /// the same configuration, tensors and formats. Zero when the engine cannot tell.
        fingerprint: u64,
    },
    /// A shard is gone.
    Unloaded {
        /// The unload.
        call: CallId,
    },
    /// New positions are in the KV cache.
    Forwarded {
        /// The forward.
        call: CallId,
        /// What left the last layer of the shard.
        output: EngineOutput,
        /// How many positions were added; equals the input's, and tells them for a text.
        positions: u32,
    },
    /// A request's KV cache is gone.
    Freed {
        /// The free.
        call: CallId,
    },
    /// A part of a training job is done.
    Trained(TrainEvent),
    /// The call failed. What was loaded and cached before it stays.
    Failed {
        /// The call.
        call: CallId,
        /// Why.
        failure: EngineFailure,
    },
}

impl EngineEvent {
    /// The completion of a call that an engine never does.
    #[must_use]
    pub fn unsupported(call: CallId, message: impl Into<String>) -> Self {
        let failure = EngineFailure::new(FailureKind::Unsupported, message);
        Self::Failed { call, failure }
    }

    /// The call it speaks of.
    #[must_use]
    pub fn call(&self) -> CallId {
        match self {
            Self::Progress { call, .. }
            | Self::Loaded { call, .. }
            | Self::Unloaded { call }
            | Self::Forwarded { call, .. }
            | Self::Freed { call }
            | Self::Failed { call, .. } => *call,
            Self::Trained(event) => event.call(),
        }
    }
}

/// What leaves a shard.
#[derive(Clone, Debug, PartialEq)]
pub enum EngineOutput {
    /// The hidden state for the next stage, shape `[1, T, H]`.
    Hidden(Tensor),
    /// The token that the last stage chose after the last position.
    Token {
        /// Its id.
        token: u32,
        /// Whether the model ends its answer with it.
        end: bool,
    },
    /// The same, with how likely it was: where [`Sampling::scores`] wants that.
    Scored {
        /// Its id.
        token: u32,
        /// Whether the model ends its answer with it.
        end: bool,
        /// How likely it was, and which were likeliest.
        scores: Scores,
    },
    /// Nothing: the last stage was not asked to choose.
    Nothing,
}

/// Why an engine could not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineFailure {
    /// What kind of failure, for programs.
    pub kind: FailureKind,
    /// What was expected and what came, for people; one line.
    pub message: String,
}

impl EngineFailure {
    /// A failure of `kind` explained by `message`.
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
        }
    }
}

impl fmt::Display for EngineFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// Kinds of [`EngineFailure`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FailureKind {
    /// No such model on this machine.
    ModelNotFound,
    /// The model's files are damaged, or of a family or format the engine does not know.
    BadModel,
    /// The layers or the KV cache do not fit.
    OutOfMemory,
    /// The prompt is longer than the model's context.
    ContextFull,
    /// The input is not what this shard takes: wrong shape, dtype, position or token id.
    BadInput,
    /// This engine does not do that, with this model or at all.
    Unsupported,
    /// The engine itself is broken.
    Internal,
}

/// Computes. Called on one thread only; may block as long as it needs.
pub trait Engine {
    /// Measures how quick this engine is on this machine, with its own kernels and in no more than a
    /// tenth of a second, or so: before anybody asks for anything, models are placed by it. `None`
    /// when it cannot tell; then the node guesses until it has seen steps. The driver asks once, before
    /// the first command.
    fn measure(&mut self) -> Option<Speed> {
        None
    }

    /// Bytes that it holds right now: weights, KV caches, and what training needs. `None` when it
    /// cannot tell.
    fn memory(&self) -> Option<u64> {
        None
    }

    /// Executes one command and returns its completion (never [`EngineEvent::Progress`]).
    ///
    /// `progress` may be called any number of times with [`EngineEvent::Progress`] before the
    /// completion is returned. Nothing in `command` may make an engine panic: inputs come from
    /// peers.
    fn execute(
        &mut self,
        command: EngineCommand,
        progress: &mut dyn FnMut(EngineEvent),
    ) -> EngineEvent;

    /// Executes commands that wait at the same time, in order, and tells the completion of each as
    /// soon as it is done. An engine that computes several requests' steps faster together than one
    /// after the other does so here; what it tells is the same either way.
    ///
    /// `tell` gets [`EngineEvent::Progress`] too. The driver hands over at most
    /// [`BATCH_LIMIT`] commands at once.
    fn execute_all(&mut self, commands: Vec<EngineCommand>, tell: &mut dyn FnMut(EngineEvent)) {
        for command in commands {
            let done = self.execute(command, tell);
            tell(done);
        }
    }
}

/// The most commands that a driver hands to [`Engine::execute_all`] at once.
pub const BATCH_LIMIT: usize = 64;

//! Training: what an engine is asked besides answering.
//!
//! A *job* trains one shard of a model on each stage of a ring. For every example the stages compute
//! forwards as they do for a prompt, but without a KV cache; the last one compares with the targets;
//! the gradient of each stage's input then goes back to the stage before, and each stage changes the
//! parameters of its own layers. A stage never sees another's parameters, and because they are
//! initialised from the job's seed, the layer and the weight alone, a ring learns the same however
//! the model is cut.

use crate::id::{CallId, RequestId};
use crate::shard::Shard;
use crate::tensor::Tensor;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// A part of a training job, for the engine.
#[derive(Clone, Debug, PartialEq)]
pub enum TrainCommand {
    /// Make a loaded shard ready to learn. Answered by [`TrainEvent::Begun`]. Beginning a job that
    /// is already there begins it anew.
    Begin {
        /// Names the completion.
        call: CallId,
        /// The layers; loaded before.
        shard: Shard,
        /// The job.
        job: RequestId,
        /// What is trained, and how.
        setup: Arc<TrainSetup>,
    },
    /// Compute an example forwards. Answered by [`TrainEvent::Forwarded`], on the shard with the
    /// last layer by [`TrainEvent::Compared`]. To learn, the engine keeps what it needs for the
    /// [`TrainCommand::Backward`] that follows; a new example takes the place of one that was kept.
    Forward {
        /// Names the completion.
        call: CallId,
        /// The job.
        job: RequestId,
        /// Which step of the job, counted from one.
        step: u32,
        /// What enters the first layer of the shard.
        input: ExampleInput,
        /// What is to come out; on the shard with the last layer, and on no other.
        targets: Option<Targets>,
        /// Learn; else only compare.
        learn: bool,
    },
    /// Take the gradient of the loss by what the kept example gave, change the parameters, and give
    /// the gradient by what entered. Never asked of the shard with the last layer, which does it
    /// within its [`TrainCommand::Forward`]. Answered by [`TrainEvent::Learned`].
    Backward {
        /// Names the completion.
        call: CallId,
        /// The job.
        job: RequestId,
        /// The step of the example that was kept.
        step: u32,
        /// The gradient, `[B, T, H]`.
        gradient: Tensor,
    },
    /// Write the parameters of the shard's layers and the optimiser's state to this machine's
    /// checkpoint folder. Answered by [`TrainEvent::Saved`].
    Save {
        /// Names the completion.
        call: CallId,
        /// The job.
        job: RequestId,
        /// The checkpoint's number: steps done.
        iteration: u32,
    },
    /// Forget the job; ending an unknown one is fine. Answered by [`TrainEvent::Ended`].
    End {
        /// Names the completion.
        call: CallId,
        /// The job.
        job: RequestId,
    },
}

impl TrainCommand {
    /// The number its completion must carry.
    #[must_use]
    pub fn call(&self) -> CallId {
        match self {
            Self::Begin { call, .. }
            | Self::Forward { call, .. }
            | Self::Backward { call, .. }
            | Self::Save { call, .. }
            | Self::End { call, .. } => *call,
        }
    }
}

/// The completion of a [`TrainCommand`]; a failed one is `EngineEvent::Failed`.
#[derive(Clone, Debug, PartialEq)]
pub enum TrainEvent {
    /// The shard is ready to learn.
    Begun {
        /// The begin.
        call: CallId,
        /// How many numbers of the shard are changed.
        trainable: u64,
        /// Where it goes on: steps done by the checkpoint that was resumed, else zero.
        iteration: u32,
    },
    /// What left the last layer of the shard.
    Forwarded {
        /// The forward.
        call: CallId,
        /// The hidden state, `[B, T, H]`.
        hidden: Tensor,
    },
    /// What the shard with the last layer found.
    Compared {
        /// The forward.
        call: CallId,
        /// Mean cross entropy over the positions that count, in nats.
        loss: f32,
        /// How many positions counted.
        positions: u32,
        /// The gradient of the loss by what entered, `[B, T, H]`, when it was to learn and has not
        /// the first layer.
        gradient: Option<Tensor>,
    },
    /// The parameters have changed.
    Learned {
        /// The backward.
        call: CallId,
        /// The gradient of the loss by what entered, `[B, T, H]`; `None` on the shard with the
        /// first layer.
        gradient: Option<Tensor>,
    },
    /// The checkpoint is on disk.
    Saved {
        /// The save.
        call: CallId,
        /// The file's name in the job's folder, for people.
        file: String,
    },
    /// The job is gone.
    Ended {
        /// The end.
        call: CallId,
    },
}

impl TrainEvent {
    /// The call it completes.
    #[must_use]
    pub fn call(&self) -> CallId {
        match self {
            Self::Begun { call, .. }
            | Self::Forwarded { call, .. }
            | Self::Compared { call, .. }
            | Self::Learned { call, .. }
            | Self::Saved { call, .. }
            | Self::Ended { call } => *call,
        }
    }
}

/// What enters a shard when it trains.
#[derive(Clone, Debug, PartialEq)]
pub enum ExampleInput {
    /// Token ids `[B, T]`, row after row, for a shard with the first layer.
    Tokens {
        /// `B * T` ids.
        tokens: Vec<u32>,
        /// Sequences, B.
        batch: u32,
    },
    /// The hidden state that the stage before sent, `[B, T, H]`.
    Hidden(Tensor),
}

/// What is to come out of the last layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Targets {
    /// `B * T` ids, row after row: at each position the token that follows it.
    pub tokens: Vec<u32>,
    /// For each sequence which positions count: from the first one of the pair up to, and without,
    /// the second.
    pub counted: Vec<(u32, u32)>,
}

/// What a job trains, and how. The same on every stage.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainSetup {
    /// The name of the job: its folder among the checkpoints. Letters, digits, `-`, `_` and `.`,
    /// not beginning with a dot; at most 64.
    pub name: String,
    /// What changes.
    pub trainable: Trainable,
    /// How it changes.
    pub optimizer: Optimizer,
    /// How far in one step.
    pub learning_rate: f32,
    /// Initialises what is new.
    pub seed: u64,
    /// Go on from the checkpoint of this many steps.
    pub resume: Option<u32>,
}

/// Which parameters change.
#[derive(Clone, Debug, PartialEq)]
pub enum Trainable {
    /// Low-rank adapters beside the linear weights of attention and of the feed-forward part:
    /// `y = x W + scale * (x A) B`. A begins at random, B at zero.
    Lora {
        /// Inner width of A and B.
        rank: u32,
        /// What they are multiplied by.
        scale: f32,
        /// The last layers of the model that get some; zero for all.
        last_layers: u32,
    },
    /// All weights of the last layers of the model; of all layers if zero. Embedding, head and the
    /// last norm stay as they are.
    Full {
        /// How many.
        last_layers: u32,
    },
    /// None: the job only compares. To learn, and to resume, is an error.
    Nothing,
}

/// How a gradient changes a parameter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Optimizer {
    /// `p -= rate * g`.
    Sgd,
    /// AdamW with decoupled weight decay and bias correction; betas 0.9 and 0.999, epsilon 1e-8.
    AdamW {
        /// Each step parameters lose this share, times the rate.
        weight_decay: f32,
    },
}

//! How requests end, and why some do not begin.

use crate::id::{NodeId, RequestId};
use alloc::string::String;

/// Why a generation is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinishReason {
    /// The model ended its answer.
    Stop,
    /// The most tokens allowed were generated.
    Length,
}

/// Why a generation failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// The application cancelled it.
    #[error("cancelled")]
    Cancelled,
    /// A stage's node is gone.
    #[error("node {node} left the ring: {reason}")]
    PeerLost {
        /// Who.
        node: NodeId,
        /// Why.
        reason: String,
    },
    /// A stage could not compute.
    #[error("node {node}: {message}")]
    Stage {
        /// Who.
        node: NodeId,
        /// Its words.
        message: String,
    },
    /// What was asked for is nothing that the model, or any ring with it, could compute.
    #[error("node {node} refuses it: {message}")]
    Refused {
        /// Who.
        node: NodeId,
        /// Its words.
        message: String,
    },
    /// The request's time is over.
    #[error("no answer within {seconds} s; the ring was {ring}")]
    TimedOut {
        /// The time it had.
        seconds: u64,
        /// The nodes of its ring.
        ring: String,
    },
    /// What is left of the ring cannot hold the model.
    #[error(
        "{reason}; the model takes {needed} MiB, the nodes that are left have {left} MiB{nodes}"
    )]
    Memory {
        /// What happened before.
        reason: String,
        /// What the weights take, MiB; with the strategy `auto` KV caches and what is computed on
        /// the way, too.
        needed: u64,
        /// What the nodes have, MiB; with the strategy `auto` without a reserve.
        left: u64,
        /// What each node could hold, where that is known, for people.
        nodes: String,
    },
    /// It was placed anew as often as [`Limits::recoveries`](crate::config::Limits::recoveries)
    /// allows.
    #[error("given up after {recoveries} recoveries; the last reason: {reason}")]
    Unrecoverable {
        /// How often.
        recoveries: u32,
        /// What happened last.
        reason: String,
    },
    /// This node is stopping.
    #[error("this node is shutting down")]
    Stopping,
}

/// Why a request was not started.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Rejection {
    /// As many requests as [`Limits::requests`](crate::config::Limits::requests) are under way.
    #[error("{0} requests are under way already; try again later")]
    Busy(usize),
    /// The id was used before.
    #[error("request id {0} was used before")]
    Duplicate(RequestId),
    /// The prompt has no token.
    #[error("the prompt is empty")]
    EmptyPrompt,
    /// The nodes of the ring cannot hold the model.
    #[error(
        "the model takes {needed} MiB, the nodes of the ring have {left} MiB{nodes}; add nodes"
    )]
    Memory {
        /// What the weights take, MiB; with the strategy `auto` KV caches and what is computed on
        /// the way, too.
        needed: u64,
        /// What the nodes have, MiB; with the strategy `auto` without a reserve.
        left: u64,
        /// What each node could hold, where that is known, for people.
        nodes: String,
    },
    /// The layers that nodes were given ([`Config::pins`](crate::Config::pins)) are no ring.
    #[error("the layers that nodes were given do not do for this model: {0}")]
    Pinned(String),
    /// The last stage cannot be told all of how to choose.
    #[error(
        "{0} chooses the tokens of this ring, and cannot be told of penalties, logit_bias, min_p, \
         logprobs and formats: it, or another node of the ring, is a Python node or of an earlier \
         version; leave them away, or that node out"
    )]
    Sampling(NodeId),
    /// The model has no layer.
    #[error("a model of {0} layers cannot be placed")]
    Layers(u32),
    /// This node is stopping.
    #[error("this node is shutting down")]
    Stopping,
}

//! What costs a peer its connection.

use super::credit::{OverGranted, Overdrawn};
use super::plan::PlanError;
use super::pulse::Unasked;
use super::reassembly::ChunkError;
use crate::id::{NodeId, RequestId};
use crate::wire::extension::error;
use crate::wire::{DecodeError, MessageType};
use alloc::string::String;

/// A peer did what the protocol does not allow. It is told before the connection is closed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Violation {
    #[error("{0:?} came before the connection was extended")]
    NotNegotiated(MessageType),
    #[error("stream {got} was opened, {expected} comes next")]
    StreamOrder { expected: u32, got: u32 },
    #[error("{kind:?} came on stream {stream}, which was never opened")]
    UnknownStream { kind: MessageType, stream: u32 },
    #[error("more than {0} streams are open")]
    Streams(usize),
    #[error(transparent)]
    Chunk(#[from] ChunkError),
    #[error("the message that came in pieces is none: {0}")]
    Malformed(#[from] DecodeError),
    #[error(transparent)]
    Overdrawn(#[from] Overdrawn),
    #[error(transparent)]
    OverGranted(#[from] OverGranted),
    #[error(transparent)]
    Unasked(#[from] Unasked),
    #[error("a {0} reply came that nobody waits for")]
    UnaskedReply(&'static str),
    #[error(transparent)]
    Plan(#[from] PlanError),
    #[error("{node} has no such part in request {request}")]
    Foreign { node: NodeId, request: RequestId },
    #[error("token {index} of request {request} came where {expected} comes next")]
    TokenOrder {
        request: RequestId,
        expected: u32,
        index: u32,
    },
    #[error("{kind} of training job {job} came where it cannot come")]
    JobTurn { kind: &'static str, job: RequestId },
    #[error("another node with the id {0} is connected already")]
    Duplicate(NodeId),
    #[error(
        "its node id {0:?} is not taken: expected 1 to {most} bytes that can be printed; choose another with --node-id",
        most = NodeId::MOST
    )]
    Unfit(String),
    #[error("{what}: {got} came, at most {limit} are taken")]
    TooMany {
        what: &'static str,
        got: usize,
        limit: usize,
    },
    #[error("{0}")]
    Base(String),
}

impl Violation {
    /// A message of a training job that is not due.
    pub(super) fn job_turn(kind: &'static str, job: &RequestId) -> Self {
        let job = job.clone();
        Self::JobTurn { kind, job }
    }

    /// An id that cannot be taken, of which only the beginning is told.
    pub(super) fn unfit(node: &str) -> Self {
        Self::Unfit(node.chars().take(64).collect())
    }

    /// The code under which the peer is told.
    pub(super) fn code(&self) -> u16 {
        match self {
            Self::NotNegotiated(_) => error::NOT_NEGOTIATED,
            Self::StreamOrder { .. } | Self::UnknownStream { .. } => error::STREAM,
            Self::Chunk(_) => error::CHUNK,
            Self::Overdrawn(_) | Self::OverGranted(_) => error::CREDIT,
            Self::Unasked(_) | Self::UnaskedReply(_) => error::UNASKED,
            Self::Plan(_) => error::PLAN,
            Self::Foreign { .. } => error::FOREIGN,
            Self::Duplicate(_) => error::DUPLICATE,
            Self::Streams(_) | Self::TooMany { .. } => error::LIMIT,
            Self::Malformed(_)
            | Self::TokenOrder { .. }
            | Self::JobTurn { .. }
            | Self::Unfit(_)
            | Self::Base(_) => error::PROTOCOL,
        }
    }
}

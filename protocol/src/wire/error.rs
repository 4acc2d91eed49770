//! Why bytes are not messages, and the other way round.

use super::MessageType;
use crate::tensor::TensorError;
use alloc::string::String;

/// What was expected and what came. After one the stream has no known frame boundary any more, so
/// its connection is over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The stream is not this protocol, or lost its frame boundary.
    #[error("expected the magic bytes EXO\\x01 at the start of a frame, got {}", .0.escape_ascii())]
    Magic([u8; 4]),
    /// No message has this number.
    #[error("unknown message type {0:#04x}")]
    UnknownType(u8),
    /// The frame announces more than we take.
    #[error("{kind:?} announces a payload of {length} bytes, the limit is {limit}")]
    PayloadTooLarge {
        /// The message.
        kind: MessageType,
        /// Bytes it announces.
        length: u32,
        /// Bytes it may announce.
        limit: u32,
    },
    /// The JSON in a payload is longer than we take.
    #[error("{kind:?} carries {length} bytes of JSON, the limit is {limit}")]
    JsonTooLarge {
        /// The message.
        kind: MessageType,
        /// Bytes of JSON.
        length: usize,
        /// Bytes of JSON that there may be.
        limit: u32,
    },
    /// The payload ends before the part that its length prefix announces.
    #[error("the payload of {kind:?} ends after {got} bytes, its start announces {expected}")]
    Truncated {
        /// The message.
        kind: MessageType,
        /// Bytes that the length prefix asks for, itself included.
        expected: u64,
        /// Bytes of the payload.
        got: usize,
    },
    /// The JSON is none, or not the object that this message needs.
    #[error("bad JSON in {kind:?}: {reason}")]
    Json {
        /// The message.
        kind: MessageType,
        /// What is wrong and where; quotes little of what came.
        reason: String,
    },
    /// Shape, dtype and bytes do not make a tensor.
    #[error("bad tensor in {kind:?}: {reason}")]
    Tensor {
        /// The message.
        kind: MessageType,
        /// What is wrong.
        reason: TensorError,
    },
}

/// Why a message cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// The frame's 32-bit length cannot say it.
    #[error("{kind:?} takes {length} bytes, a frame holds at most 4294967295")]
    TooLarge {
        /// The message.
        kind: MessageType,
        /// Bytes of its payload.
        length: u64,
    },
}

//! Why bytes are not messages, and the other way round.

use super::{Chunk, MessageType};
use crate::tensor::{DType, TensorError};
use alloc::string::String;
use alloc::vec::Vec;

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
    /// A payload of fixed length has another one.
    #[error("the payload of {kind:?} has {got} bytes, expected exactly {expected}")]
    Length {
        /// The message.
        kind: MessageType,
        /// Bytes that it always has.
        expected: usize,
        /// Bytes that came.
        got: usize,
    },
    /// A payload ends within its fixed part.
    #[error("the payload of {kind:?} has {got} bytes, expected at least {least}")]
    TooShort {
        /// The message.
        kind: MessageType,
        /// Bytes of the fixed part.
        least: usize,
        /// Bytes that came.
        got: usize,
    },
    /// A bit is set that means nothing.
    #[error("{kind:?} has the flags {got:#010b}, expected none but {known:#010b}")]
    Flags {
        /// The message.
        kind: MessageType,
        /// Bits that mean something.
        known: u8,
        /// Bits that are set.
        got: u8,
    },
    /// A text is not UTF-8.
    #[error("expected the {what} of {kind:?} to be UTF-8, it is only for {valid} bytes")]
    Utf8 {
        /// The message.
        kind: MessageType,
        /// Which of its fields.
        what: &'static str,
        /// Bytes that are UTF-8.
        valid: usize,
    },
    /// No element type has this code.
    #[error("{kind:?} has elements of type {code}, expected 0, 1, 2 or 3")]
    ElementCode {
        /// The message.
        kind: MessageType,
        /// What came.
        code: u8,
    },
    /// The token ids of a step are none, or not whole.
    #[error("Step has {got} bytes of token ids, expected a multiple of 4 and at least one id")]
    Tokens {
        /// Bytes that came.
        got: usize,
    },
    /// The hidden state of a step is not a number of whole rows.
    #[error(
        "Step has {got} bytes of {dtype}, expected at least one row of width {width}, all whole"
    )]
    Rows {
        /// The elements.
        dtype: DType,
        /// Elements of a row; at least one is expected.
        width: u32,
        /// Bytes that came.
        got: usize,
    },
    /// A piece is empty, too large, or outside of its whole.
    #[error(
        "Chunk has {length} bytes at {offset} of {total}, expected 1 to {} inside of the whole",
        Chunk::MAX
    )]
    Piece {
        /// Bytes of the whole.
        total: u32,
        /// Where the piece begins.
        offset: u32,
        /// Bytes of the piece.
        length: usize,
    },
    /// An example or a gradient of nothing.
    #[error(
        "{kind:?} announces {batch} sequences of {positions} positions of width {width}, expected \
         none to be zero but the width of token ids"
    )]
    Sizes {
        /// The message.
        kind: MessageType,
        /// Sequences.
        batch: u32,
        /// Positions of each.
        positions: u32,
        /// Elements of a position; zero stands for token ids.
        width: u32,
    },
    /// Positions are to count that are not there.
    #[error("Example counts positions {from} to {to}, expected a range of its {positions}")]
    Counted {
        /// The first position.
        from: u32,
        /// The one after the last.
        to: u32,
        /// Positions of each sequence.
        positions: u32,
    },
}

/// Why a message cannot be written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
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
    /// A tensor is no hidden state, or not in a type in which one may travel.
    #[error(
        "a {dtype} tensor of shape {shape:?} cannot be in a Step, expected float32, float16 or \
         bfloat16 of shape [1, T, H], no dimension zero"
    )]
    Hidden {
        /// Its elements.
        dtype: DType,
        /// Its shape.
        shape: Vec<usize>,
    },
    /// A step brings no token.
    #[error("a Step has no token ids, expected at least one")]
    NoTokens,
    /// A request id is too long.
    #[error("{kind:?} has a request id of {length} bytes, the limit is {limit}")]
    RequestId {
        /// The message.
        kind: MessageType,
        /// Its bytes.
        length: usize,
        /// Bytes that it may have.
        limit: usize,
    },
    /// A piece is empty, too large, or outside of its whole.
    #[error(
        "Chunk has {length} bytes at {offset} of {total}, expected 1 to {} inside of the whole",
        Chunk::MAX
    )]
    Piece {
        /// Bytes of the whole.
        total: u32,
        /// Where the piece begins.
        offset: u32,
        /// Bytes of the piece.
        length: usize,
    },
    /// A tensor is no batch of hidden states of `float32`.
    #[error(
        "a {dtype} tensor of shape {shape:?} cannot be in {kind:?}, expected float32 of shape \
         [B, T, H], no dimension zero"
    )]
    Batch {
        /// The message.
        kind: MessageType,
        /// Its elements.
        dtype: DType,
        /// Its shape.
        shape: Vec<usize>,
    },
    /// The token ids of an example are no rows.
    #[error("Example has {tokens} token ids, expected {batch} rows of at least one, all as long")]
    Rows {
        /// Ids in all.
        tokens: usize,
        /// Sequences.
        batch: u32,
    },
    /// What is to come out does not fit what enters.
    #[error(
        "Example has {targets} targets and {counted} ranges of them, expected one for each of \
         {positions} positions and one for each of {batch} sequences, inside of it"
    )]
    Targets {
        /// Sequences.
        batch: u32,
        /// Positions of each.
        positions: u32,
        /// Targets that are there.
        targets: usize,
        /// Ranges that are there.
        counted: usize,
    },
}

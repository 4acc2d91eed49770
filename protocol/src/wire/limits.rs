//! What a peer may make us hold.

use super::extension::{Part, chunk, file, notice, scored, small};
use super::{Chunk, MessageType};

/// Bounds on what a [`Decoder`](super::Decoder) accepts. Every one is checked against the announced
/// length, before any memory is taken for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecodeLimits {
    /// Payload bytes of messages with a tensor. 256 MiB by default, the limit of the reference's
    /// gRPC ancestor: the hidden state of 8192 positions of width 8192 in `float32`.
    pub frame: u32,
    /// Bytes of the JSON before a tensor, and of health checks. 1 MiB by default: a reference node
    /// sends some hundred, the rest is room for an inference state.
    pub metadata: u32,
    /// Containers around the innermost value of an inference state. 64 by default; the reference
    /// sends four. Beyond 120 it has no effect.
    pub json_depth: u32,
    /// Payload bytes of messages that are JSON alone. 16 MiB by default: a prompt of a million
    /// tokens, in a script that JSON escapes with six bytes per character, or a status.
    pub json: u32,
}

impl Default for DecodeLimits {
    fn default() -> Self {
        Self {
            frame: 256 << 20,
            metadata: 1 << 20,
            json_depth: 64,
            json: 16 << 20,
        }
    }
}

impl DecodeLimits {
    /// The most payload bytes a frame of this type may announce.
    #[must_use]
    pub fn payload(&self, kind: MessageType) -> u32 {
        match kind {
            MessageType::HealthCheckRequest | MessageType::HealthCheckResponse => self.metadata,
            MessageType::SendPromptRequest
            | MessageType::SendPromptResponse
            | MessageType::CollectTopologyRequest
            | MessageType::CollectTopologyResponse
            | MessageType::SendOpaqueStatus
            | MessageType::Topology
            | MessageType::Open
            | MessageType::Begin => self.json,
            MessageType::SendTensorRequest
            | MessageType::SendTensorResponse
            | MessageType::SendExampleRequest
            | MessageType::SendExampleResponse
            | MessageType::SendResult
            | MessageType::Step
            | MessageType::Example
            | MessageType::Gradient => self.frame,
            MessageType::Ping | MessageType::Pong => small::PING as u32,
            MessageType::Token => small::TOKEN as u32,
            MessageType::Scored => scored::MOST as u32,
            MessageType::Close => small::CLOSE as u32,
            MessageType::Credit => small::CREDIT as u32,
            MessageType::Abort => small::ABORT as u32,
            MessageType::Chunk => (chunk::CHUNK + Chunk::MAX) as u32,
            MessageType::Error
            | MessageType::Goodbye
            | MessageType::End
            | MessageType::Failed
            | MessageType::Begun
            | MessageType::Loss
            | MessageType::Save
            | MessageType::Saved
            | MessageType::Want
            | MessageType::Timing => notice::MOST as u32,
            MessageType::Part => (file::PART + Part::MAX) as u32,
        }
    }
}

//! Every message of the base protocol as a value.

use crate::json::Json;
use crate::shard::Shard;
use crate::tensor::Tensor;
use crate::topology::Capabilities;
use alloc::string::String;
use alloc::vec::Vec;
use bytes::Bytes;

/// Message numbers of the base protocol, the fifth byte of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum MessageType {
    /// Asks whether the peer is well; answered by [`MessageType::HealthCheckResponse`].
    HealthCheckRequest = 0x01,
    /// The answer.
    HealthCheckResponse = 0x02,
    /// Starts a generation at the first stage; not answered.
    SendPromptRequest = 0x10,
    /// Numbered by the reference, never produced.
    SendPromptResponse = 0x11,
    /// Hands a tensor to the next stage; answered by [`MessageType::SendTensorResponse`].
    SendTensorRequest = 0x12,
    /// The answer, empty in practice.
    SendTensorResponse = 0x13,
    /// Training; numbered by the reference, never produced.
    SendExampleRequest = 0x14,
    /// Training; numbered by the reference, never produced.
    SendExampleResponse = 0x15,
    /// Tells new tokens of a generation; not answered.
    SendResult = 0x20,
    /// Asks for a node's view; answered by [`MessageType::CollectTopologyResponse`].
    CollectTopologyRequest = 0x30,
    /// The answer.
    CollectTopologyResponse = 0x31,
    /// A JSON document about anything; not answered.
    SendOpaqueStatus = 0x40,
}

impl MessageType {
    /// Every type, in the order of its number.
    pub const ALL: [Self; 12] = [
        Self::HealthCheckRequest,
        Self::HealthCheckResponse,
        Self::SendPromptRequest,
        Self::SendPromptResponse,
        Self::SendTensorRequest,
        Self::SendTensorResponse,
        Self::SendExampleRequest,
        Self::SendExampleResponse,
        Self::SendResult,
        Self::CollectTopologyRequest,
        Self::CollectTopologyResponse,
        Self::SendOpaqueStatus,
    ];

    /// The type with this number.
    #[must_use]
    pub fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|&kind| kind as u8 == byte)
    }
}

/// One message, both directions.
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    /// 0x01. The reference sends no payload and ignores one; ours carries a [`Hello`](super::Hello)
    /// object there.
    HealthCheckRequest {
        /// The payload as it came.
        payload: Bytes,
    },
    /// 0x02.
    HealthCheckResponse {
        /// Whether the peer calls itself well; the reference always does.
        is_healthy: bool,
        /// The value of the extra key `exo`, which only our own nodes write.
        exo: Option<Json>,
    },
    /// 0x10.
    SendPromptRequest(SendPrompt),
    /// 0x11, uninterpreted.
    SendPromptResponse(Bytes),
    /// 0x12.
    SendTensorRequest(SendTensor),
    /// 0x13; `None` is the four zero bytes that every reference node sends.
    SendTensorResponse(Option<Tensor>),
    /// 0x14, uninterpreted.
    SendExampleRequest(Bytes),
    /// 0x15, uninterpreted.
    SendExampleResponse(Bytes),
    /// 0x20.
    SendResult(SendResult),
    /// 0x30.
    CollectTopologyRequest {
        /// Nodes that were asked already; the reference parses and ignores it.
        visited: Vec<String>,
        /// How deep to ask on; the reference parses and ignores it.
        max_depth: i64,
    },
    /// 0x31.
    CollectTopologyResponse(TopologyReply),
    /// 0x40.
    SendOpaqueStatus {
        /// The generation it speaks of, if any.
        request_id: Option<String>,
        /// A JSON document as text; kept as it came.
        status: String,
    },
}

/// A prompt for the first stage.
#[derive(Clone, Debug, PartialEq)]
pub struct SendPrompt {
    /// The receiver's shard in the sender's view.
    pub shard: Shard,
    /// The prompt in the model's chat format.
    pub prompt: String,
    /// Names the generation; `None` lets the receiver choose.
    pub request_id: Option<String>,
    /// An object that travels with the generation, or `None` for null.
    pub inference_state: Option<Json>,
}

/// A tensor for the next stage.
#[derive(Clone, Debug, PartialEq)]
pub struct SendTensor {
    /// The receiver's shard in the sender's view.
    pub shard: Shard,
    /// Hidden states, or token ids for the first stage.
    pub tensor: Tensor,
    /// Names the generation.
    pub request_id: Option<String>,
    /// An object that travels with the generation, or `None` for null.
    pub inference_state: Option<Json>,
}

/// News of a generation.
#[derive(Clone, Debug, PartialEq)]
pub struct SendResult {
    /// The generation; `None` for null, which the reference can write by mistake.
    pub request_id: Option<String>,
    /// New token ids, one in text generation; empty with a tensor.
    pub result: Vec<i64>,
    /// Whether these are the last.
    pub is_finished: bool,
    /// An image, in the length-prefixed form of this message.
    pub tensor: Option<Tensor>,
}

/// A node's view: itself and its direct peers. Order as on the wire.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TopologyReply {
    /// Capabilities by node id.
    pub nodes: Vec<(String, Capabilities)>,
    /// Outgoing edges by node id.
    pub peer_graph: Vec<(String, Vec<WireEdge>)>,
}

/// One edge of [`TopologyReply::peer_graph`]; its source is the key above it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WireEdge {
    /// Where it ends.
    pub to_id: String,
    /// How it was found, such as `MAN`.
    pub description: Option<String>,
}

impl Message {
    /// Its number on the wire.
    #[must_use]
    pub fn message_type(&self) -> MessageType {
        match self {
            Self::HealthCheckRequest { .. } => MessageType::HealthCheckRequest,
            Self::HealthCheckResponse { .. } => MessageType::HealthCheckResponse,
            Self::SendPromptRequest(_) => MessageType::SendPromptRequest,
            Self::SendPromptResponse(_) => MessageType::SendPromptResponse,
            Self::SendTensorRequest(_) => MessageType::SendTensorRequest,
            Self::SendTensorResponse(_) => MessageType::SendTensorResponse,
            Self::SendExampleRequest(_) => MessageType::SendExampleRequest,
            Self::SendExampleResponse(_) => MessageType::SendExampleResponse,
            Self::SendResult(_) => MessageType::SendResult,
            Self::CollectTopologyRequest { .. } => MessageType::CollectTopologyRequest,
            Self::CollectTopologyResponse(_) => MessageType::CollectTopologyResponse,
            Self::SendOpaqueStatus { .. } => MessageType::SendOpaqueStatus,
        }
    }
}

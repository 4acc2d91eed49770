//! Every message as a value.

use super::extension::{
    Begin, Begun, Chunk, Ending, Example, Gradient, Loss, Notice, Open, Part, Save, Saved, Scored,
    Step, Timing, Token, Want,
};
use crate::id::{NodeId, tidy};
use crate::json::Json;
use crate::shard::Shard;
use crate::tensor::Tensor;
use crate::topology::{Capabilities, LinkMetrics};
use alloc::string::String;
use alloc::vec::Vec;
use bytes::Bytes;

/// Message numbers, the fifth byte of a frame. From `0x80` up they belong to the extension.
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
    /// Training; numbered by the reference, never produced. See [`SendExample`](super::SendExample).
    SendExampleRequest = 0x14,
    /// Training; numbered by the reference, never produced. See
    /// [`ExampleReply`](super::ExampleReply).
    SendExampleResponse = 0x15,
    /// Tells new tokens of a generation; not answered.
    SendResult = 0x20,
    /// Asks for a node's view; answered by [`MessageType::CollectTopologyResponse`].
    CollectTopologyRequest = 0x30,
    /// The answer.
    CollectTopologyResponse = 0x31,
    /// A JSON document about anything; not answered.
    SendOpaqueStatus = 0x40,
    /// Asks whether the peer is there; answered by [`MessageType::Pong`].
    Ping = 0x81,
    /// The answer.
    Pong = 0x82,
    /// Why the sender closes the connection now.
    Error = 0x83,
    /// The sender leaves: nothing new is to be placed on it.
    Goodbye = 0x84,
    /// The sender's own entry and edges.
    Topology = 0x85,
    /// Binds a stream to a request and brings its plan.
    Open = 0x86,
    /// Something enters a stage.
    Step = 0x87,
    /// A token of an answer.
    Token = 0x88,
    /// Nothing comes on a stream any more.
    Close = 0x89,
    /// More may be sent.
    Credit = 0x8a,
    /// A request is over for a stage.
    End = 0x8b,
    /// A stage cannot go on with a request.
    Failed = 0x8c,
    /// A piece of a message.
    Chunk = 0x8d,
    /// The rest of a message in pieces will not come.
    Abort = 0x8e,
    /// A training job begins at a stage.
    Begin = 0x8f,
    /// A stage of a training job is ready.
    Begun = 0x90,
    /// An example enters a stage of a training job.
    Example = 0x91,
    /// A gradient goes back to a stage of a training job.
    Gradient = 0x92,
    /// What came of an example.
    Loss = 0x93,
    /// A stage of a training job is to write a checkpoint.
    Save = 0x94,
    /// It is written.
    Saved = 0x95,
    /// A token of an answer, with how likely it was.
    Scored = 0x96,
    /// Asks for a piece of a file.
    Want = 0x97,
    /// A piece of a file, or why there is none.
    Part = 0x98,
    /// What a step cost at a stage; who does not know it misses nothing else.
    Timing = 0xc1,
}

impl MessageType {
    /// Every type, in the order of its number.
    pub const ALL: [Self; 37] = [
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
        Self::Ping,
        Self::Pong,
        Self::Error,
        Self::Goodbye,
        Self::Topology,
        Self::Open,
        Self::Step,
        Self::Token,
        Self::Close,
        Self::Credit,
        Self::End,
        Self::Failed,
        Self::Chunk,
        Self::Abort,
        Self::Begin,
        Self::Begun,
        Self::Example,
        Self::Gradient,
        Self::Loss,
        Self::Save,
        Self::Saved,
        Self::Scored,
        Self::Want,
        Self::Part,
        Self::Timing,
    ];

    /// Numbers of messages that whoever does not know them reads over. Any other unknown number
    /// ends a connection; `0x80` and `0xff` are never assigned.
    pub const SKIPPABLE: core::ops::RangeInclusive<u8> = 0xc0..=0xfe;

    /// Whether it belongs to the extension.
    #[must_use]
    pub fn is_extension(self) -> bool {
        self as u8 >= 0x80
    }

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
    /// 0x81.
    Ping {
        /// Comes back in the answer.
        id: u64,
    },
    /// 0x82.
    Pong {
        /// What was asked.
        id: u64,
    },
    /// 0x83.
    Error(Notice),
    /// 0x84.
    Goodbye(Notice),
    /// 0x85.
    Topology(TopologyReply),
    /// 0x86.
    Open(Open),
    /// 0x87.
    Step(Step),
    /// 0x88.
    Token(Token),
    /// 0x89.
    Close {
        /// Which stream.
        stream: u32,
    },
    /// 0x8a.
    Credit {
        /// Which stream; zero for the whole connection.
        stream: u32,
        /// Bytes more that may be sent.
        bytes: u32,
    },
    /// 0x8b, from the origin to a stage.
    End(Ending),
    /// 0x8c, from a stage to the origin.
    Failed(Ending),
    /// 0x8d.
    Chunk(Chunk),
    /// 0x8e.
    Abort {
        /// Which transfer.
        transfer: u32,
    },
    /// 0x8f, from the origin of a training job to a stage.
    Begin(Begin),
    /// 0x90, from a stage to the origin.
    Begun(Begun),
    /// 0x91.
    Example(Example),
    /// 0x92, from a stage to the one before.
    Gradient(Gradient),
    /// 0x93, from a stage to the origin.
    Loss(Loss),
    /// 0x94, from the origin to a stage.
    Save(Save),
    /// 0x95, from a stage to the origin.
    Saved(Saved),
    /// 0x96, from the last stage to the origin.
    Scored(Scored),
    /// 0x97.
    Want(Want),
    /// 0x98.
    Part(Part),
    /// 0xc1, from a stage to the origin.
    Timing(Timing),
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
    /// How quick it is; never told to a reference node.
    pub metrics: LinkMetrics,
}

impl TopologyReply {
    /// Leaves out nodes that cannot have their id, and makes names such that they can be shown to
    /// people. As it came it is good for those who only look at bytes.
    pub(crate) fn tidy(&mut self) {
        self.nodes.retain(|(id, _)| NodeId::is_fit(id));
        self.peer_graph.retain(|(id, _)| NodeId::is_fit(id));
        let machines = self.nodes.iter_mut();
        machines.for_each(|(_, capabilities)| capabilities.tidy());
        for (_, edges) in &mut self.peer_graph {
            edges.retain(|edge| NodeId::is_fit(&edge.to_id));
            let descriptions = edges
                .iter_mut()
                .filter_map(|edge| edge.description.as_mut());
            descriptions.for_each(tidy);
        }
    }
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
            Self::Ping { .. } => MessageType::Ping,
            Self::Pong { .. } => MessageType::Pong,
            Self::Error(_) => MessageType::Error,
            Self::Goodbye(_) => MessageType::Goodbye,
            Self::Topology(_) => MessageType::Topology,
            Self::Open(_) => MessageType::Open,
            Self::Step(_) => MessageType::Step,
            Self::Token(_) => MessageType::Token,
            Self::Close { .. } => MessageType::Close,
            Self::Credit { .. } => MessageType::Credit,
            Self::End(_) => MessageType::End,
            Self::Failed(_) => MessageType::Failed,
            Self::Chunk(_) => MessageType::Chunk,
            Self::Abort { .. } => MessageType::Abort,
            Self::Begin(_) => MessageType::Begin,
            Self::Begun(_) => MessageType::Begun,
            Self::Example(_) => MessageType::Example,
            Self::Gradient(_) => MessageType::Gradient,
            Self::Loss(_) => MessageType::Loss,
            Self::Save(_) => MessageType::Save,
            Self::Saved(_) => MessageType::Saved,
            Self::Scored(_) => MessageType::Scored,
            Self::Want(_) => MessageType::Want,
            Self::Part(_) => MessageType::Part,
            Self::Timing(_) => MessageType::Timing,
        }
    }
}

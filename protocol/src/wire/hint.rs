//! How large a message will be.

use super::extension::{chunk, file, notice, small, step, timing, train};
use super::{Message, TopologyReply};
use crate::json::Json;
use crate::tensor::Tensor;
use alloc::string::String;

/// Bytes of JSON around the texts of a message.
const AROUND: usize = 160;
/// Bytes of one entry of a topology.
const ENTRY: usize = 128;

impl Message {
    /// About how many bytes its payload has, without writing it: what is JSON is guessed from its
    /// texts. Exact for what has no JSON, and never less than a tensor's bytes.
    #[must_use]
    pub fn payload_hint(&self) -> usize {
        match self {
            Self::HealthCheckRequest { payload: bytes }
            | Self::SendPromptResponse(bytes)
            | Self::SendExampleRequest(bytes)
            | Self::SendExampleResponse(bytes) => bytes.len(),
            Self::HealthCheckResponse { exo, .. } => 24 + state(exo.as_ref()),
            Self::SendPromptRequest(prompt) => {
                AROUND
                    + prompt.shard.model.len()
                    + prompt.prompt.len()
                    + length(prompt.request_id.as_ref())
                    + state(prompt.inference_state.as_ref())
            }
            Self::SendTensorRequest(request) => {
                AROUND
                    + request.shard.model.len()
                    + length(request.request_id.as_ref())
                    + state(request.inference_state.as_ref())
                    + request.tensor.data().len()
            }
            Self::SendTensorResponse(None) => 4,
            Self::SendTensorResponse(Some(tensor)) => described(tensor),
            Self::SendResult(result) => {
                64 + length(result.request_id.as_ref())
                    + 8 * result.result.len()
                    + result.tensor.as_ref().map_or(0, described)
            }
            Self::CollectTopologyRequest { visited, .. } => {
                40 + visited.iter().map(|id| id.len() + 4).sum::<usize>()
            }
            Self::CollectTopologyResponse(reply) | Self::Topology(reply) => topology(reply),
            Self::SendOpaqueStatus { request_id, status } => {
                40 + length(request_id.as_ref()) + status.len()
            }
            Self::Ping { .. } | Self::Pong { .. } => small::PING,
            Self::Error(notice) | Self::Goodbye(notice) => {
                notice::NOTICE + notice::fitting(&notice.text, notice::NOTICE).len()
            }
            Self::Open(open) => step::OPEN + open.plan.len(),
            Self::Step(step) => step.payload_len(),
            Self::Token(_) => small::TOKEN,
            Self::Scored(scored) => scored.payload_len(),
            Self::Timing(timing) => timing::TIMING + timing.request.len(),
            Self::Close { .. } => small::CLOSE,
            Self::Credit { .. } => small::CREDIT,
            Self::End(ending) | Self::Failed(ending) => {
                let before = notice::ENDING + ending.request.len();
                before + notice::fitting(&ending.text, before).len()
            }
            Self::Chunk(chunk) => chunk::CHUNK + chunk.data.len(),
            Self::Abort { .. } => small::ABORT,
            Self::Begin(begin) => begin.plan.len(),
            Self::Begun(begun) => train::BEGUN + begun.job.len(),
            Self::Example(example) => example.payload_len(),
            Self::Gradient(gradient) => gradient.payload_len(),
            Self::Loss(loss) => train::LOSS + loss.job.len(),
            Self::Save(save) => train::SAVE + save.job.len(),
            Self::Want(want) => file::WANT + notice::fitting(&want.name, file::WANT).len(),
            Self::Part(part) => file::PART + part.content.len(),
            Self::Saved(saved) => {
                let before = train::SAVED + saved.job.len();
                before + notice::fitting(&saved.file, before).len()
            }
        }
    }
}

fn length(text: Option<&String>) -> usize {
    text.map_or(4, String::len)
}

fn described(tensor: &Tensor) -> usize {
    48 + tensor.data().len()
}

fn topology(reply: &TopologyReply) -> usize {
    let edges: usize = reply.peer_graph.iter().map(|(_, edges)| edges.len()).sum();
    let engines = reply
        .nodes
        .iter()
        .filter_map(|(_, node)| node.engine.as_ref());
    let told: usize = engines.map(|engine| ENTRY + 8 * engine.formats.len()).sum();
    ENTRY * (reply.nodes.len() + reply.peer_graph.len() + edges) + told + 32
}

fn state(json: Option<&Json>) -> usize {
    match json {
        Some(Json::String(text)) => text.len() + 2,
        Some(Json::Array(items)) => items.iter().map(|item| state(Some(item)) + 2).sum(),
        Some(Json::Object(entries)) => entries
            .iter()
            .map(|(key, value)| key.len() + 6 + state(Some(value)))
            .sum(),
        _ => 4,
    }
}

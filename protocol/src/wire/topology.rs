//! 0x30 COLLECT_TOPOLOGY_REQUEST, 0x31 COLLECT_TOPOLOGY_RESPONSE and 0x85 TOPOLOGY. Told every two
//! seconds at most, so the reply may take the detour over a [`Json`] tree.

use super::record::{self, List, Record, excerpt};
use super::status::maybe_text;
use super::{DecodeError, DecodeLimits, Message, MessageType, TopologyReply, WireEdge};
use crate::json::{Allowance, Json, write_integer, write_string};
use crate::topology::{Capabilities, LinkMetrics};
use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use serde::de::{Error, MapAccess};

#[derive(Default)]
struct Request {
    visited: Option<Vec<String>>,
    max_depth: Option<i64>,
}

impl Record for Request {
    type Value = Message;

    fn field<'de, A: MapAccess<'de>>(
        &mut self,
        key: &str,
        map: &mut A,
        _: &Allowance,
    ) -> Result<bool, A::Error> {
        match key {
            "visited" => self.visited = Some(map.next_value_seed(List::any())?),
            "max_depth" => self.max_depth = Some(map.next_value()?),
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn finish<E: Error>(self) -> Result<Message, E> {
        Ok(Message::CollectTopologyRequest {
            visited: record::need(self.visited, "visited")?,
            max_depth: record::need(self.max_depth, "max_depth")?,
        })
    }
}

pub(super) fn decode_request(
    payload: &[u8],
    limits: &DecodeLimits,
) -> Result<Message, DecodeError> {
    record::read::<Request>(MessageType::CollectTopologyRequest, payload, limits)
}

pub(super) fn encode_request(out: &mut Vec<u8>, visited: &[String], max_depth: i64) {
    out.extend_from_slice(b"{\"visited\": [");
    for (index, id) in visited.iter().enumerate() {
        if index > 0 {
            out.extend_from_slice(b", ");
        }
        write_string(out, id);
    }
    out.extend_from_slice(b"], \"max_depth\": ");
    write_integer(out, max_depth);
    out.push(b'}');
}

/// The reply, which is also what a [`Message::Topology`] tells unasked.
pub(super) fn decode_reply(
    kind: MessageType,
    payload: &[u8],
    limits: &DecodeLimits,
) -> Result<TopologyReply, DecodeError> {
    let depth = usize::try_from(limits.json_depth).unwrap_or(usize::MAX);
    Json::parse(payload, depth)
        .map_err(|error| error.to_string())
        .and_then(|json| reply(&json))
        .map_err(|reason| DecodeError::Json { kind, reason })
}

fn reply(json: &Json) -> Result<TopologyReply, String> {
    let nodes = entries(json, "nodes")?
        .iter()
        .map(|(id, node)| match Capabilities::from_json(node) {
            Ok(capabilities) => Ok((id.clone(), capabilities)),
            Err(error) => Err(format!("in node {}: {error}", excerpt(id))),
        })
        .collect::<Result<_, _>>()?;
    let peer_graph = entries(json, "peer_graph")?
        .iter()
        .map(|(id, edges)| match edges.as_array() {
            Some(edges) => Ok((
                id.clone(),
                edges.iter().map(edge).collect::<Result<_, _>>()?,
            )),
            None => Err(format!(
                "edges of {}: expected a list, got {}",
                excerpt(id),
                edges.kind()
            )),
        })
        .collect::<Result<_, String>>()?;
    Ok(TopologyReply { nodes, peer_graph })
}

fn entries<'a>(json: &'a Json, key: &str) -> Result<&'a [(String, Json)], String> {
    match json.get(key) {
        Some(Json::Object(entries)) => Ok(entries),
        Some(other) => Err(format!("{key}: expected an object, got {}", other.kind())),
        None => Err(format!("key {key:?} is missing")),
    }
}

fn edge(json: &Json) -> Result<WireEdge, String> {
    let to_id = json.get("to_id").and_then(Json::as_str);
    let description = match json.get("description") {
        Some(Json::Null) => Some(None),
        Some(Json::String(text)) => Some(Some(text.clone())),
        _ => None,
    };
    match (to_id, description) {
        (Some(to_id), Some(description)) => Ok(WireEdge {
            to_id: to_id.to_owned(),
            description,
            metrics: LinkMetrics::from_json(json),
        }),
        _ => Err(String::from(
            "an edge needs to_id, a text, and description, a text or null",
        )),
    }
}

pub(super) fn encode_reply(out: &mut Vec<u8>, reply: &TopologyReply) {
    out.extend_from_slice(b"{\"nodes\": {");
    for (index, (id, capabilities)) in reply.nodes.iter().enumerate() {
        if index > 0 {
            out.extend_from_slice(b", ");
        }
        write_string(out, id);
        out.extend_from_slice(b": ");
        capabilities.to_json().write(out);
    }
    out.extend_from_slice(b"}, \"peer_graph\": {");
    for (index, (id, edges)) in reply.peer_graph.iter().enumerate() {
        if index > 0 {
            out.extend_from_slice(b", ");
        }
        write_string(out, id);
        out.extend_from_slice(b": [");
        for (index, edge) in edges.iter().enumerate() {
            if index > 0 {
                out.extend_from_slice(b", ");
            }
            out.extend_from_slice(b"{\"to_id\": ");
            write_string(out, &edge.to_id);
            out.extend_from_slice(b", \"description\": ");
            maybe_text(out, edge.description.as_deref());
            for (key, value) in edge.metrics.entries() {
                out.extend_from_slice(b", ");
                write_string(out, key);
                out.extend_from_slice(b": ");
                value.write(out);
            }
            out.push(b'}');
        }
        out.push(b']');
    }
    out.extend_from_slice(b"}}");
}

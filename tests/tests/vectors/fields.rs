//! Our messages in the notation of the vectors.

use exo_protocol::topology::Capabilities;
use exo_protocol::wire::{Message, MessageType, TopologyReply};
use exo_protocol::{Json, Shard, Tensor};
use serde_json::{Map, Number, Value, json};

/// The type with this number.
pub(crate) fn kind(case: &Value) -> MessageType {
    let number = case["type"].as_u64().expect("a type number");
    let kind = MessageType::from_byte(u8::try_from(number).expect("a byte")).expect("a known type");
    assert_eq!(screaming(kind), case["type_name"].as_str().expect("a name"));
    kind
}

/// `HealthCheckRequest` as `HEALTH_CHECK_REQUEST`.
pub(crate) fn screaming(kind: MessageType) -> String {
    let mut name = String::new();
    for letter in format!("{kind:?}").chars() {
        if letter.is_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_uppercase());
    }
    name
}

/// The logical content of a message.
pub(crate) fn fields(message: &Message) -> Value {
    match message {
        Message::HealthCheckRequest { payload } if payload.is_empty() => json!({}),
        Message::HealthCheckRequest { payload: raw }
        | Message::SendPromptResponse(raw)
        | Message::SendExampleRequest(raw)
        | Message::SendExampleResponse(raw) => json!({ "raw_hex": to_hex(raw) }),
        Message::HealthCheckResponse { is_healthy, .. } => json!({ "is_healthy": is_healthy }),
        Message::SendPromptRequest(prompt) => json!({
            "shard": shard(&prompt.shard),
            "prompt": prompt.prompt,
            "request_id": prompt.request_id,
            "inference_state": state(prompt.inference_state.as_ref()),
        }),
        Message::SendTensorRequest(request) => json!({
            "shard": shard(&request.shard),
            "tensor": tensor(&request.tensor),
            "request_id": request.request_id,
            "inference_state": state(request.inference_state.as_ref()),
        }),
        Message::SendTensorResponse(reply) => json!({ "tensor": reply.as_ref().map(tensor) }),
        Message::SendResult(result) => json!({
            "request_id": result.request_id,
            "result": result.result,
            "is_finished": result.is_finished,
            "tensor": result.tensor.as_ref().map(tensor),
        }),
        Message::CollectTopologyRequest { visited, max_depth } => {
            json!({ "visited": visited, "max_depth": max_depth })
        }
        Message::CollectTopologyResponse(reply) => topology(reply),
        Message::SendOpaqueStatus { request_id, status } => json!({
            "request_id": request_id,
            "status": status,
            "status_json": serde_json::from_str(status).unwrap_or(Value::Null),
        }),
        ours => panic!("{ours:?} is of the extension, which the reference does not speak"),
    }
}

/// A tensor with its bytes in hexadecimal.
pub(crate) fn tensor(tensor: &Tensor) -> Value {
    json!({
        "shape": tensor.shape(),
        "dtype": format!("{}{}", tensor.family().prefix(), tensor.dtype()),
        "data_hex": to_hex(tensor.data()),
    })
}

/// A shard object as on the wire.
pub(crate) fn shard(shard: &Shard) -> Value {
    json!({
        "model_id": shard.model.as_str(),
        "start_layer": shard.start,
        "end_layer": shard.end,
        "n_layers": shard.layers,
    })
}

fn topology(reply: &TopologyReply) -> Value {
    let nodes: Map<String, Value> = reply
        .nodes
        .iter()
        .map(|(id, node)| (id.clone(), plain(&node.to_json())))
        .collect();
    let graph: Map<String, Value> = reply
        .peer_graph
        .iter()
        .map(|(id, edges)| {
            let edges = edges
                .iter()
                .map(|edge| json!({ "to_id": edge.to_id, "description": edge.description }))
                .collect();
            (id.clone(), Value::Array(edges))
        })
        .collect();
    json!({ "nodes": nodes, "peer_graph": graph })
}

fn state(state: Option<&Json>) -> Value {
    state.map_or(Value::Null, plain)
}

/// Our JSON as `serde_json`'s.
pub(crate) fn plain(json: &Json) -> Value {
    match json {
        Json::Null => Value::Null,
        Json::Bool(value) => Value::Bool(*value),
        Json::Int(value) => Value::from(*value),
        Json::Uint(value) => Value::from(*value),
        Json::Float(value) => Number::from_f64(*value).map_or(Value::Null, Value::Number),
        Json::String(text) => Value::from(text.as_str()),
        Json::Array(items) => items.iter().map(plain).collect(),
        Json::Object(entries) => Value::Object(
            entries
                .iter()
                .map(|(key, value)| (key.clone(), plain(value)))
                .collect(),
        ),
    }
}

/// `serde_json`'s JSON as ours.
pub(crate) fn ours(value: &Value) -> Json {
    Json::parse(value.to_string().as_bytes(), 120).expect("JSON")
}

/// Capabilities in the vectors' notation.
pub(crate) fn capabilities(value: &Value) -> Capabilities {
    Capabilities::from_json(&ours(value)).expect("capabilities")
}

/// Bytes in hexadecimal.
pub(crate) fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

//! What every message needs, once more and apart from the codec.

use crate::rules::{Payload, Split, split, tensor};
use exo_protocol::wire::MessageType;
use serde_json::Value;

/// Whether a key that we know stands twice: we look at both values, the reference at the last.
pub(crate) fn twins(text: &str) -> bool {
    [
        "request_id",
        "status",
        "result",
        "is_finished",
        "prompt",
        "shard",
        "tensor",
        "shape",
        "dtype",
    ]
    .iter()
    .chain(&[
        "model_id",
        "start_layer",
        "end_layer",
        "n_layers",
        "visited",
        "max_depth",
    ])
    .any(|key| text.matches(&format!("\"{key}\":")).count() > 1)
}

/// Whether all keys that the message needs are there, with the types that it needs.
pub(crate) fn well_typed(payload: Payload<'_>, value: &Value) -> bool {
    let text = |key: &str| value[key].is_string();
    let maybe_text = |key: &str| value.get(key).is_none_or(|v| v.is_null() || v.is_string());
    let needed_maybe = |key: &str| value.get(key).is_some() && maybe_text(key);
    let shard = || {
        let shard = &value["shard"];
        shard["model_id"].is_string()
            && ["start_layer", "end_layer", "n_layers"].iter().all(|key| {
                shard[key]
                    .as_u64()
                    .is_some_and(|n| u32::try_from(n).is_ok())
            })
    };
    let described = |tensor: Option<&Value>| {
        tensor.is_some_and(|tensor| {
            tensor["dtype"].is_string()
                && tensor["shape"]
                    .as_array()
                    .is_some_and(|shape| shape.iter().all(Value::is_u64))
        })
    };
    let result = || {
        needed_maybe("request_id")
            && value["is_finished"].is_boolean()
            && value["result"]
                .as_array()
                .is_some_and(|list| list.iter().all(Value::is_i64))
    };
    if !value.is_object() {
        return false;
    }
    match payload.kind {
        MessageType::HealthCheckResponse => value["is_healthy"].is_boolean(),
        MessageType::SendPromptRequest => shard() && text("prompt") && maybe_text("request_id"),
        MessageType::SendTensorRequest => {
            shard() && described(value.get("tensor")) && maybe_text("request_id")
        }
        MessageType::SendTensorResponse => described(tensor(payload.kind, value)),
        MessageType::SendResult => match split(payload) {
            Split::Json(_, Some(_)) => result() && described(value.get("tensor")),
            _ => result(),
        },
        MessageType::CollectTopologyRequest => {
            value["max_depth"].is_i64()
                && value["visited"]
                    .as_array()
                    .is_some_and(|list| list.iter().all(Value::is_string))
        }
        MessageType::CollectTopologyResponse => topology(value),
        MessageType::SendOpaqueStatus => text("status") && needed_maybe("request_id"),
        _ => true,
    }
}

fn topology(value: &Value) -> bool {
    let number = |value: &Value| {
        let value = value
            .as_str()
            .map_or(value.as_f64(), |text| text.trim().parse().ok());
        value.is_some_and(f64::is_finite)
    };
    let integer = |value: &Value| {
        let whole = |n: f64| n.fract() == 0.0 && n.abs() < 9.2e18;
        match value.as_str() {
            Some(text) => text.trim().parse().is_ok_and(whole),
            None => value.is_i64() || (value.is_f64() && value.as_f64().is_some_and(whole)),
        }
    };
    let machine = |node: &Value| {
        node["model"].is_string()
            && node["chip"].is_string()
            && integer(&node["memory"])
            && ["fp32", "fp16", "int8"]
                .iter()
                .all(|key| number(&node["flops"][key]))
    };
    let edge = |edge: &Value| {
        let description = edge.get("description");
        edge["to_id"].is_string() && description.is_some_and(|d| d.is_null() || d.is_string())
    };
    let edges = |list: &Value| list.as_array().is_some_and(|list| list.iter().all(edge));
    value["nodes"]
        .as_object()
        .is_some_and(|nodes| nodes.values().all(machine))
        && value["peer_graph"]
            .as_object()
            .is_some_and(|graph| graph.values().all(edges))
}

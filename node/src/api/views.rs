//! What can be looked at: models, the ring, this node.

use super::error::ApiError;
use super::models::ring_json;
use crate::app::App;
use crate::plan;
use exo_protocol::Json;
use exo_protocol::node::{AddressStatus, HopStatus, PeerStatus, Status};
use exo_protocol::topology::EngineInfo;
use serde_json::{Map, Value, json};
use std::time::Duration;

/// How a model would be placed now, for an answer of usual length.
pub(super) fn plan(app: &App, id: Option<&str>) -> Result<Value, ApiError> {
    let speaker = app.library().speaker(id).map_err(|error| {
        ApiError::new(404, "model_not_found", error.to_string()).with_param("model")
    })?;
    let question = plan::question(&speaker, plan::USUAL);
    let placement = app.placement(&question);
    let placement =
        placement.map_err(|error| ApiError::new(503, "insufficient_memory", error.to_string()))?;
    Ok(plan::placement_json(&question, &placement))
}

/// The reference's topology, and under `exo` what only our nodes know.
pub(super) fn topology(app: &App) -> Value {
    let status = app.status();
    let mut value = value(&status.topology.to_json());
    let rings: Map<String, Value> = app
        .events()
        .rings()
        .iter()
        .map(|(model, ring)| (model.to_string(), plan::ring_json(ring)))
        .collect();
    value["exo"] = json!({
        "node_id": app.node().as_str(),
        "peers": status.peers.iter().map(peer_json).collect::<Vec<_>>(),
        "rings": rings,
    });
    value
}

/// What the protocol's crate made, as what is answered here.
pub(super) fn value(json: &Json) -> Value {
    let mut text = Vec::new();
    json.write(&mut text);
    serde_json::from_slice(&text).unwrap_or_else(|_| json!({}))
}

/// This node in numbers.
pub(super) fn status(app: &App) -> Value {
    status_json(&app.status())
}

fn status_json(status: &Status) -> Value {
    let requests: Vec<Value> = status
        .requests
        .iter()
        .map(|request| {
            json!({
                "request_id": request.request.as_str(),
                "origin": request.origin,
                "epoch": request.epoch,
                "ring": plan::ring_json(&request.ring),
                "position": request.position,
                "tokens": request.tokens,
            })
        })
        .collect();
    let shards: Vec<Value> = status
        .shards
        .iter()
        .map(|shard| {
            json!({
                "model": shard.model.as_str(),
                "start": shard.start,
                "end": shard.end,
                "layers": shard.layers,
            })
        })
        .collect();
    let own = status.topology.nodes.get(&status.node);
    let engine = own.and_then(|node| node.engine.as_ref());
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "node_id": status.node.as_str(),
        "incarnation": status.incarnation,
        "engine": engine.map(engine_json),
        "peers": status.peers.iter().map(peer_json).collect::<Vec<_>>(),
        "requests": requests,
        "shards": shards,
        "downloads": status.downloads.iter().map(ring_json).collect::<Vec<_>>(),
        "connections": status.connections,
        "queued": status.queued,
        "calls": status.calls,
        "extended": {
            "connections": status.extended.connections,
            "streams": status.extended.streams,
            "held_bytes": status.extended.held,
        },
        "stopping": status.stopping,
    })
}

fn engine_json(engine: &EngineInfo) -> Value {
    json!({
        "name": engine.name,
        "version": engine.version,
        "dtype": engine.dtype,
        "formats": engine.formats,
    })
}

fn peer_json(peer: &PeerStatus) -> Value {
    json!({
        "node_id": peer.node.as_ref().map(|node| node.as_str()),
        "address": peer.address,
        "up": peer.up,
        "own": peer.own,
        "incarnation": peer.incarnation,
        "leaving": peer.leaving,
        "rtt_ms": peer.rtt.map(milliseconds),
        "goodput_bytes_per_s": peer.goodput,
        "hops": hops_json(&peer.hops),
        "downloads": peer.downloads.iter().map(ring_json).collect::<Vec<_>>(),
        "addresses": peer.addresses.iter().map(address_json).collect::<Vec<_>>(),
    })
}

fn address_json(address: &AddressStatus) -> Value {
    let sources = address.sources.iter().map(ToString::to_string);
    json!({
        "address": address.address,
        "sources": sources.collect::<Vec<_>>(),
        "description": address.description,
        "in_use": address.in_use,
        "verified": address.verified,
        "rtt_ms": address.rtt.map(milliseconds),
        "failures": address.failures,
    })
}

/// Each hand-over to a peer is one token of one request, but for a prompt.
fn hops_json(hops: &HopStatus) -> Value {
    json!({
        "count": hops.count,
        "bytes": hops.bytes,
        "bytes_per_hop": hops.bytes.checked_div(hops.count),
        "p50_ms": milliseconds(hops.p50),
        "p99_ms": milliseconds(hops.p99),
    })
}

fn milliseconds(time: Duration) -> f64 {
    // Microseconds are as fine as anybody reads.
    (time.as_secs_f64() * 1e6).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hops_tell_how_long_and_how_large() {
        let hops = HopStatus {
            count: 4,
            bytes: 4100,
            p50: Duration::from_nanos(1_234_567),
            p99: Duration::from_millis(9),
        };
        let text = r#"{"count":4,"bytes":4100,"bytes_per_hop":1025,"p50_ms":1.235,"p99_ms":9.0}"#;
        assert_eq!(hops_json(&hops).to_string(), text);
        assert_eq!(
            hops_json(&HopStatus::default())["bytes_per_hop"],
            Value::Null
        );
    }
}

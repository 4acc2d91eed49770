//! What was gathered, for programs. Times are milliseconds.

use super::facts::{Air, Dialed, Machine, Peer, Source, Voice};
use super::link::{Trips, stalls};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::Duration;

/// This machine.
pub(super) fn machine(machine: &Machine, air: Option<&Air>) -> Value {
    let nets = machine.nets.as_deref().unwrap_or_default();
    let nets: Vec<Value> = nets
        .iter()
        .map(|net| {
            json!({
                "name": net.name,
                "address": net.address.to_string(),
                "prefix": net.prefix,
                "broadcast": net.broadcast.map(|address| address.to_string()),
            })
        })
        .collect();
    let node = machine.running.as_ref().map(|running| {
        json!({
            "node_id": running.node,
            "version": running.version,
            "peers": running.peers.len(),
        })
    });
    let heard: Vec<Value> = air
        .map_or(&[][..], |air| &air.heard)
        .iter()
        .map(|(from, announced)| {
            json!({
                "node_id": announced.node.as_str(),
                "address": SocketAddr::new(*from, announced.port).to_string(),
                "interface": announced.interface,
                "interface_type": announced.kind,
            })
        })
        .collect();
    json!({"node": node, "interfaces": nets, "heard": heard})
}

/// A peer.
pub(super) fn peer(peer: &Peer) -> Value {
    let source = match peer.source {
        Source::Given => "given",
        Source::File => "file",
        Source::Heard => "heard",
        Source::Known { .. } => "known",
    };
    let dialed: Vec<Value> = peer
        .dialed
        .as_deref()
        .unwrap_or_default()
        .iter()
        .map(|(address, dialed)| {
            let (result, took) = outcome(dialed);
            json!({
                "address": address.to_string(),
                "result": result,
                "connect_ms": took.map(ms),
            })
        })
        .collect();
    let view = peer.view.as_ref();
    let transfers: Vec<Value> = peer
        .transfers
        .iter()
        .map(|transfer| {
            json!({
                "bytes": transfer.bytes,
                "ms": transfer.took.map(ms),
                "bytes_per_second": transfer.rate().map(f64::round),
            })
        })
        .collect();
    json!({
        "source": source,
        "dialed": dialed,
        "speaks": peer.voice.as_ref().map(speaks),
        "node_id": super::judge::ring::id(peer),
        "peers": view.map(|view| &view.peers),
        "round_trip": trips(&peer.trips),
        "round_trip_8k": trips(&peer.hops),
        "goodput": transfers,
        "tunnel_stall": stalls(&peer.trips) || stalls(&peer.hops),
    })
}

fn outcome(dialed: &Dialed) -> (&'static str, Option<Duration>) {
    match dialed {
        Dialed::Connected(took) => ("connected", Some(*took)),
        Dialed::Refused => ("refused", None),
        Dialed::TimedOut => ("timeout", None),
        Dialed::Unreachable => ("unreachable", None),
        Dialed::Forbidden => ("forbidden", None),
        Dialed::Failed(_) => ("failed", None),
    }
}

fn speaks(voice: &Voice) -> &'static str {
    match voice {
        Voice::Own(_) => "exo-node",
        Voice::Reference => "base protocol",
        Voice::Http(_) | Voice::Locked => "http",
        Voice::Ssh => "ssh",
        Voice::Tls => "tls",
        Voice::Silent => "nothing",
        Voice::Closes => "closes",
        Voice::Other(_) => "unknown",
    }
}

fn trips(trips: &Trips) -> Value {
    if trips.count() == 0 {
        return Value::Null;
    }
    json!({
        "count": trips.count(),
        "min_ms": trips.min().map(ms),
        "median_ms": trips.median().map(ms),
        "p95_ms": trips.percentile(95).map(ms),
        "jitter_ms": trips.jitter().map(ms),
        "stalls": trips.stalls(),
    })
}

fn ms(time: Duration) -> f64 {
    // Microseconds are as fine as anybody reads.
    (time.as_secs_f64() * 1e6).round() / 1e3
}

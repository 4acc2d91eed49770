//! What the nodes tell of their ring.

use serde_json::Value;

/// The stages of one model.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Ring {
    pub(super) model: String,
    pub(super) layers: u64,
    pub(super) stages: Vec<Stage>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Stage {
    pub(super) node: String,
    pub(super) start: u64,
    /// Inclusive.
    pub(super) end: u64,
    /// What computes there, if the node has told.
    pub(super) engine: Option<String>,
}

/// What one node handed over to another.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Hop {
    pub(super) from: String,
    pub(super) to: String,
    pub(super) count: u64,
    pub(super) bytes: u64,
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
}

impl Ring {
    /// The ring of the one model that was asked, from `/v1/topology`.
    pub(super) fn read(topology: &Value) -> Option<Self> {
        let (model, stages) = topology["exo"]["rings"].as_object()?.iter().next()?;
        let stages = stages.as_array()?;
        let layers = stages.first()?["layers"].as_u64()?;
        let stages = stages
            .iter()
            .map(|stage| {
                let node = stage["node_id"].as_str()?;
                let engine = topology["nodes"][node]["engine"]["name"].as_str();
                Some(Stage {
                    node: node.to_owned(),
                    engine: engine.map(str::to_owned),
                    start: stage["start"].as_u64()?,
                    end: stage["end"].as_u64()?,
                })
            })
            .collect::<Option<_>>()?;
        Some(Self {
            model: model.clone(),
            layers,
            stages,
        })
    }
}

impl Ring {
    /// Where in the ring a node is; at the end if nowhere.
    pub(super) fn place(&self, node: &str) -> usize {
        self.stages
            .iter()
            .position(|stage| stage.node == node)
            .unwrap_or(self.stages.len())
    }
}

/// How many nodes a node would put into a ring: it knows their memory, and that each of them has
/// found every other. Zero while some have not.
pub(super) fn met(topology: &Value) -> usize {
    let Some(nodes) = topology["nodes"].as_object() else {
        return 0;
    };
    let known = |node: &Value| node["memory"].as_i64().is_some_and(|memory| memory > 0);
    let edge = |from: &str, to: &str| {
        let edges = topology["peer_graph"][from].as_array();
        edges.is_some_and(|edges| edges.iter().any(|edge| edge["to_id"] == to))
    };
    let names = || nodes.keys().map(String::as_str);
    let complete = nodes.values().all(known)
        && names().all(|from| names().all(|to| from == to || edge(from, to)));
    if complete { nodes.len() } else { 0 }
}

/// Whether the ways between all nodes were measured, round trip and goodput, by one end at least.
pub(super) fn measured(topology: &Value) -> bool {
    let Some(nodes) = topology["nodes"].as_object() else {
        return false;
    };
    let told = |from: &str, to: &str, what: &str| {
        let edges = topology["peer_graph"][from].as_array();
        edges.is_some_and(|edges| {
            let mut there = edges.iter().filter(|edge| edge["to_id"] == to);
            there.any(|edge| edge[what].is_u64())
        })
    };
    let names = || nodes.keys().map(String::as_str);
    let known = |a, b, what| a == b || told(a, b, what) || told(b, a, what);
    names().all(|a| names().all(|b| known(a, b, "rtt_us") && known(a, b, "goodput")))
}

/// What a node handed over, from its `/v1/status`.
pub(super) fn hops(from: &str, status: &Value) -> Vec<Hop> {
    let peers = status["peers"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    peers
        .iter()
        .filter_map(|peer| {
            let hops = &peer["hops"];
            Some(Hop {
                from: from.to_owned(),
                to: peer["node_id"].as_str()?.to_owned(),
                count: hops["count"].as_u64().filter(|&count| count > 0)?,
                bytes: hops["bytes"].as_u64()?,
                p50_ms: hops["p50_ms"].as_f64()?,
                p99_ms: hops["p99_ms"].as_f64()?,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn rings_and_hops_are_read() {
        let mut topology = json!({
            "nodes": {"a": {"memory": 1, "engine": {"name": "mlx"}}, "b": {"memory": 1}},
            "peer_graph": {"a": [{"to_id": "b"}], "b": [{"to_id": "a"}]},
            "exo": {
                "peers": [{"node_id": "b", "up": true}, {"node_id": null, "up": false}],
                "rings": {"m": [
                    {"node_id": "b", "start": 0, "end": 3, "layers": 8},
                    {"node_id": "a", "start": 4, "end": 7, "layers": 8},
                ]},
            },
        });
        assert_eq!(met(&topology), 2);
        let ring = Ring::read(&topology).unwrap();
        assert_eq!(
            (ring.model.as_str(), ring.layers, ring.stages.len()),
            ("m", 8, 2)
        );
        assert_eq!(
            ring.stages[1],
            Stage {
                node: "a".into(),
                start: 4,
                end: 7,
                engine: Some("mlx".into()),
            }
        );
        assert!(!measured(&topology), "nobody has told");
        topology["peer_graph"]["b"][0]["rtt_us"] = json!(90);
        assert!(!measured(&topology), "it takes both figures");
        topology["peer_graph"]["a"][0]["goodput"] = json!(1_000_000);
        assert!(measured(&topology), "one end each is enough");
        assert_eq!(Ring::read(&json!({})), None);
        assert_eq!(met(&json!({})), 0);
        topology["nodes"]["b"]["memory"] = json!(0);
        assert_eq!(met(&topology), 0);
        topology["nodes"]["b"]["memory"] = json!(1);
        topology["peer_graph"]["b"] = json!([]);
        assert_eq!(met(&topology), 0);
        let hop = json!({"count": 2, "bytes": 9, "p50_ms": 0.5, "p99_ms": 1.0});
        let none = json!({"count": 0, "bytes": 0, "p50_ms": 0.0, "p99_ms": 0.0});
        let status = json!({"peers": [
            {"node_id": "b", "hops": hop}, {"node_id": "c", "hops": none},
        ]});
        let hops = hops("a", &status);
        assert_eq!(hops.len(), 1);
        assert_eq!((hops[0].to.as_str(), hops[0].bytes), ("b", 9));
    }
}

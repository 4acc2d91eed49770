//! What a node knows of the ring: who is there, how they are linked, and who computes what.

pub mod auto;
mod capabilities;
mod cost;
mod engine;
mod metrics;
mod partition;
pub mod pin;

pub(crate) use capabilities::integer;
pub use capabilities::{Capabilities, CapabilitiesError, Flops};
pub use cost::{ModelCost, StageBytes, budget};
pub use engine::EngineInfo;
pub use metrics::{LinkMetrics, Speed};
pub use partition::{Partition, map_to_shards, ring_memory_weighted};
pub use pin::{Pin, PinError};

use crate::id::NodeId;
use crate::json::Json;
use crate::wire::{TopologyReply, WireEdge};
use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

/// Nodes and the directed edges between them, as one node sees them: itself and its direct peers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Topology {
    /// Every known node.
    pub nodes: BTreeMap<NodeId, Capabilities>,
    /// By source and target: how the source found the target, such as `MAN`. Either end may be
    /// missing from `nodes`; a source without edges is not listed.
    pub edges: BTreeMap<NodeId, BTreeMap<NodeId, Option<String>>>,
    /// How quick the edges are, by source and target, as far as the source told; only edges that
    /// are there.
    pub links: BTreeMap<NodeId, BTreeMap<NodeId, LinkMetrics>>,
    /// Who computes right now, if anybody does.
    pub active: Option<NodeId>,
}

impl Topology {
    /// Adds a node or replaces what is known of it.
    pub fn update_node(&mut self, node: NodeId, capabilities: Capabilities) {
        self.nodes.insert(node, capabilities);
    }

    /// Forgets a node with every edge from and to it.
    pub fn remove_node(&mut self, node: &NodeId) {
        self.nodes.remove(node);
        self.edges.remove(node);
        self.edges.retain(|_, targets| {
            targets.remove(node);
            !targets.is_empty()
        });
        self.links.remove(node);
        self.links.retain(|_, targets| {
            targets.remove(node);
            !targets.is_empty()
        });
        if self.active.as_ref() == Some(node) {
            self.active = None;
        }
    }

    /// Adds an edge. One that is there already keeps its description: the first one wins.
    pub fn add_edge(&mut self, from: NodeId, to: NodeId, description: Option<String>) {
        self.edges
            .entry(from)
            .or_default()
            .entry(to)
            .or_insert(description);
    }

    /// Says how quick an edge is.
    pub fn measure(&mut self, from: NodeId, to: NodeId, metrics: LinkMetrics) {
        if metrics != LinkMetrics::default() {
            self.links.entry(from).or_default().insert(to, metrics);
        }
    }

    /// How quick an edge is, as far as its source told.
    #[must_use]
    pub fn link(&self, from: &NodeId, to: &NodeId) -> LinkMetrics {
        let link = self.links.get(from).and_then(|targets| targets.get(to));
        link.copied().unwrap_or_default()
    }

    /// Takes over what `peer` says of itself: its own entry and the edges that leave it. Whatever
    /// else it says is hearsay and stays out.
    pub fn merge(&mut self, peer: &NodeId, reply: &TopologyReply) {
        for (id, capabilities) in &reply.nodes {
            if **id == **peer {
                self.update_node(peer.clone(), capabilities.clone());
            }
        }
        for (from, edges) in &reply.peer_graph {
            if **from == **peer {
                for edge in edges {
                    let to = NodeId::from(edge.to_id.as_str());
                    self.measure(peer.clone(), to.clone(), edge.metrics);
                    self.add_edge(peer.clone(), to, edge.description.clone());
                }
            }
        }
    }

    /// The view as a peer gets it, in the order of ids.
    #[must_use]
    pub fn to_reply(&self) -> TopologyReply {
        let edge = |from: &NodeId, to: &NodeId, description: &Option<String>| WireEdge {
            to_id: to.to_string(),
            description: description.clone(),
            metrics: self.link(from, to),
        };
        let edges = |from: &NodeId, targets: &BTreeMap<NodeId, Option<String>>| {
            let edges = targets.iter();
            edges
                .map(|(to, description)| edge(from, to, description))
                .collect()
        };
        TopologyReply {
            nodes: self
                .nodes
                .iter()
                .map(|(id, node)| (id.to_string(), node.clone()))
                .collect(),
            peer_graph: self
                .edges
                .iter()
                .map(|(from, targets)| (from.to_string(), edges(from, targets)))
                .collect(),
        }
    }

    /// The view as the HTTP API gives it:
    /// `{"nodes": {id: {…}}, "peer_graph": {id: [{"from_id", "to_id", "description"}]}, "active_node_id"}`,
    /// with `rtt_us`, `loaded_us` and `goodput` at edges for which they are known.
    #[must_use]
    pub fn to_json(&self) -> Json {
        let nodes = self
            .nodes
            .iter()
            .map(|(id, node)| (id.to_string(), node.to_json()));
        let edges = self.edges.iter().map(|(from, targets)| {
            let edges: Vec<Json> = targets
                .iter()
                .map(|(to, description)| {
                    let mut entries = vec![
                        ("from_id", Json::from(from.as_str())),
                        ("to_id", Json::from(to.as_str())),
                        ("description", Json::from(description.clone())),
                    ];
                    entries.extend(self.link(from, to).entries());
                    Json::object(entries)
                })
                .collect();
            (from.to_string(), Json::Array(edges))
        });
        Json::object([
            ("nodes", Json::Object(nodes.collect())),
            ("peer_graph", Json::Object(edges.collect())),
            ("active_node_id", Json::from(self.active.as_deref())),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(memory: i64) -> Capabilities {
        Capabilities {
            memory,
            ..Capabilities::unknown()
        }
    }

    #[test]
    fn a_peer_speaks_only_for_itself() {
        let mut view = Topology::default();
        view.update_node("me".into(), machine(1));
        view.add_edge("p".into(), "q".into(), Some("ours".into()));
        let edge = |to: &str| WireEdge {
            to_id: to.into(),
            description: Some("theirs".into()),
            metrics: LinkMetrics {
                rtt_us: Some(70),
                loaded_us: None,
                goodput: None,
            },
        };
        let reply = TopologyReply {
            nodes: vec![("p".into(), machine(7)), ("me".into(), machine(9))],
            peer_graph: vec![
                ("p".into(), vec![edge("q"), edge("me")]),
                ("q".into(), vec![edge("p")]),
            ],
        };
        view.merge(&"p".into(), &reply);
        assert_eq!(view.nodes.get("me").map(|node| node.memory), Some(1));
        assert_eq!(view.nodes.get("p").map(|node| node.memory), Some(7));
        assert_eq!(view.edges.len(), 1);
        let edges = view.edges.get("p").expect("edges of p");
        assert_eq!(edges.get("q"), Some(&Some("ours".into())));
        assert_eq!(edges.get("me"), Some(&Some("theirs".into())));
        let (p, q, me) = ("p".into(), "q".into(), "me".into());
        assert_eq!(view.link(&p, &me).rtt_us, Some(70));
        assert_eq!(view.link(&q, &p), LinkMetrics::default());
    }

    #[test]
    fn removing_a_node_leaves_no_trace() {
        let mut view = Topology::default();
        view.update_node("a".into(), machine(1));
        view.update_node("b".into(), machine(1));
        view.add_edge("a".into(), "b".into(), None);
        view.add_edge("b".into(), "a".into(), None);
        let quick = LinkMetrics {
            rtt_us: Some(1),
            loaded_us: Some(3),
            goodput: Some(2),
        };
        view.measure("a".into(), "b".into(), quick);
        view.measure("b".into(), "a".into(), quick);
        view.active = Some("a".into());
        view.remove_node(&"a".into());
        let mut left = Topology::default();
        left.update_node("b".into(), machine(1));
        assert_eq!(view, left);
    }

    #[test]
    fn a_reply_rebuilds_the_peers_own_part() {
        let mut view = Topology::default();
        view.update_node("a".into(), machine(3));
        view.add_edge("a".into(), "b".into(), None);
        let metrics = LinkMetrics {
            rtt_us: Some(1),
            loaded_us: Some(3),
            goodput: None,
        };
        view.measure("a".into(), "b".into(), metrics);
        let mut other = Topology::default();
        other.merge(&"a".into(), &view.to_reply());
        assert_eq!(other, view);
    }
}

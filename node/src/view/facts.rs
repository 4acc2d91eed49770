//! What the view is made of, out of what the node knows.

use crate::engines;
use exo_protocol::node::RequestStatus;
use exo_protocol::wire::Download;
use exo_protocol::{Shard, Stage, Status};
use std::collections::BTreeMap;
use std::time::Duration;

/// Everything that may be shown.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Facts {
    /// This node.
    pub(crate) node: String,
    /// All nodes that are known, and peers that nobody knows by name yet.
    pub(crate) nodes: Vec<NodeFacts>,
    /// What is under way.
    pub(crate) requests: Vec<RequestFacts>,
    /// Training jobs under way, for people.
    pub(crate) jobs: Vec<String>,
    /// Rings of earlier requests.
    pub(crate) rings: Vec<RingFacts>,
    /// Layers that this node loads.
    pub(crate) loads: Vec<(String, u64, u64)>,
    /// Downloads under way, with the node that fetches.
    pub(crate) downloads: Vec<(String, Download)>,
    /// Layers that this node has.
    pub(crate) shards: Vec<StageFacts>,
    /// Whether this node's engine computes.
    pub(crate) computing: bool,
}

/// A node.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct NodeFacts {
    /// Its id, or its address while nobody knows that.
    pub(crate) name: String,
    /// Whether it answers.
    pub(crate) up: bool,
    /// Whether it said that it leaves.
    pub(crate) leaving: bool,
    /// In MiB.
    pub(crate) memory: i64,
    /// What computes there.
    pub(crate) engine: Option<String>,
    /// Smoothed round trip.
    pub(crate) rtt: Option<Duration>,
    /// Bytes per second that get there.
    pub(crate) goodput: Option<u64>,
}

/// A request.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct RequestFacts {
    pub(crate) id: String,
    /// Whether it was asked here.
    pub(crate) origin: bool,
    /// How many rings it had before.
    pub(crate) epoch: u32,
    pub(crate) ring: RingFacts,
    /// Tokens of the answer, where known.
    pub(crate) tokens: u32,
    /// Positions in this node's KV cache.
    pub(crate) position: u32,
}

/// A ring.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct RingFacts {
    pub(crate) model: String,
    pub(crate) stages: Vec<StageFacts>,
}

/// A stage, or layers that a node has.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct StageFacts {
    pub(crate) node: String,
    pub(crate) model: String,
    pub(crate) first: u32,
    pub(crate) last: u32,
    pub(crate) layers: u32,
}

impl StageFacts {
    fn of(node: &str, shard: &Shard) -> Self {
        Self {
            node: node.to_owned(),
            model: shard.model.to_string(),
            first: shard.start,
            last: shard.end,
            layers: shard.layers,
        }
    }
}

impl RingFacts {
    fn of(ring: &[Stage]) -> Self {
        let stage = |stage: &Stage| StageFacts::of(&stage.node, &stage.shard);
        let model = ring.first().map(|stage| stage.shard.model.to_string());
        Self {
            model: model.unwrap_or_default(),
            stages: ring.iter().map(stage).collect(),
        }
    }
}

impl Facts {
    /// What the node's status, the rings of earlier requests, and the loads under way come to.
    pub(crate) fn new<'a>(
        status: &Status,
        rings: impl Iterator<Item = &'a [Stage]>,
        loads: Vec<(Shard, u64, u64)>,
    ) -> Self {
        let mut nodes: BTreeMap<String, NodeFacts> = BTreeMap::new();
        for (id, machine) in &status.topology.nodes {
            let node = NodeFacts {
                name: id.to_string(),
                up: *id == status.node,
                memory: machine.memory,
                engine: machine.engine.as_ref().map(engines::words),
                ..NodeFacts::default()
            };
            nodes.insert(id.to_string(), node);
        }
        for peer in &status.peers {
            let name = match &peer.node {
                Some(id) => id.to_string(),
                None => peer.address.clone(),
            };
            let node = nodes.entry(name.clone()).or_default();
            node.name = name;
            node.up |= peer.up;
            node.leaving |= peer.leaving;
            node.rtt = peer.rtt.or(node.rtt);
            node.goodput = peer.goodput.or(node.goodput);
        }
        let request = |request: &RequestStatus| RequestFacts {
            id: request.request.to_string(),
            origin: request.origin,
            epoch: request.epoch,
            ring: RingFacts::of(&request.ring),
            tokens: request.tokens,
            position: request.position,
        };
        let jobs = status.jobs.iter().map(|job| {
            let ring = RingFacts::of(&job.ring);
            let from = if job.origin {
                "from here"
            } else {
                "from a peer"
            };
            format!(
                "training {} {from}: {} steps, {}",
                ring.model, job.steps, job.doing
            )
        });
        let shards = status.shards.iter();
        Self {
            node: status.node.to_string(),
            nodes: nodes.into_values().collect(),
            requests: status.requests.iter().map(request).collect(),
            jobs: jobs.collect(),
            rings: rings.map(RingFacts::of).collect(),
            loads: loads
                .into_iter()
                .map(|(shard, done, total)| (shard.to_string(), done, total))
                .collect(),
            downloads: status
                .downloading()
                .map(|(node, download)| (node.to_string(), download.clone()))
                .collect(),
            shards: shards
                .map(|shard| StageFacts::of(&status.node, shard))
                .collect(),
            computing: status.calls > status.fetches,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use exo_protocol::topology::Capabilities;
    use exo_protocol::{Config, Instant, Node};

    #[test]
    fn a_new_node_knows_itself() {
        let mut machine = Capabilities::unknown();
        machine.memory = 4096;
        let config = Config::new("a".into(), machine);
        let status = Node::new(config, 1, Instant::ZERO).status();
        let shard = Shard {
            model: "m".into(),
            start: 0,
            end: 3,
            layers: 8,
        };
        let ring = [Stage {
            node: "a".into(),
            shard: shard.clone(),
        }];
        let facts = Facts::new(&status, [&ring[..]].into_iter(), vec![(shard, 1, 2)]);
        assert_eq!(facts.node, "a");
        let [node] = &facts.nodes[..] else {
            panic!("{facts:?}")
        };
        assert!(node.up && node.name == "a" && node.memory == 4096);
        assert_eq!(facts.rings[0].model, "m");
        assert_eq!((facts.rings[0].stages[0].last, facts.loads[0].1), (3, 1));
        assert!(!facts.computing && facts.requests.is_empty());
    }
}

//! The topology, and cutting a model into a ring.

use super::Node;
use super::output::{Event, Stage};
use super::peer::Peer;
use crate::id::{ModelId, NodeId};
use crate::topology::{Capabilities, Topology, map_to_shards, ring_memory_weighted};
use alloc::vec;
use alloc::vec::Vec;

impl Node {
    /// This node, its peers that are up, and the edges they told.
    pub(super) fn rebuild_topology(&mut self) {
        let mut topology = Topology::default();
        topology.update_node(self.config.node.clone(), self.config.capabilities.clone());
        for peer in self.peers.values().filter(|peer| peer.up) {
            let Some(node) = peer.node.clone() else {
                continue;
            };
            let capabilities = peer.capabilities().or(peer.configured.as_ref()).cloned();
            topology.update_node(
                node.clone(),
                capabilities.unwrap_or_else(Capabilities::unknown),
            );
            let description = Some(peer.description.clone());
            topology.add_edge(self.config.node.clone(), node.clone(), description);
            if let Some(reply) = &peer.reply {
                topology.merge(&node, reply);
            }
        }
        if topology != self.topology {
            self.topology = topology;
            self.tell(Event::TopologyChanged);
        }
    }

    /// Cuts `layers` layers of `model` over this node and the peers it can rely on.
    ///
    /// The cuts are the reference's (by memory, in its ring order), so that in a full mesh every
    /// node computes the same ring. A peer takes part once it told its memory, and only if it and
    /// every other member know each other: results and tokens must find their way back.
    pub(super) fn ring(&self, model: &ModelId, layers: u32) -> Vec<Stage> {
        let mut members = vec![(self.config.node.clone(), self.config.capabilities.memory)];
        let mut peers: Vec<&Peer> = self
            .peers
            .values()
            .filter(|peer| peer.up && peer.capabilities().is_some())
            .collect();
        peers.sort_by(|a, b| a.node.cmp(&b.node));
        for peer in peers {
            let (Some(node), Some(capabilities)) = (&peer.node, peer.capabilities()) else {
                continue;
            };
            if members
                .iter()
                .all(|(member, _)| self.know_each_other(node, member))
            {
                members.push((node.clone(), capabilities.memory));
            }
        }
        members.truncate(self.config.limits.stages);
        map_to_shards(&ring_memory_weighted(&members), model, layers)
            .into_iter()
            .map(|(node, shard)| Stage { node, shard })
            .collect()
    }

    /// Whether all that are up know each other.
    pub(super) fn is_whole(&self) -> bool {
        let members: Vec<&NodeId> = self.topology.nodes.keys().collect();
        let pairs = |(index, a): (usize, &&NodeId)| {
            let later = members.iter().skip(index + 1);
            later.copied().all(|b| self.know_each_other(a, b))
        };
        members.iter().enumerate().all(pairs)
    }

    fn know_each_other(&self, a: &NodeId, b: &NodeId) -> bool {
        let edge = |from: &NodeId, to: &NodeId| {
            self.topology
                .edges
                .get(from)
                .is_some_and(|edges| edges.contains_key(to))
        };
        a != b && edge(a, b) && edge(b, a)
    }
}

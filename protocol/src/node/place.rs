//! The topology, and cutting a model into a ring.

use super::Node;
use super::output::{Event, Stage};
use super::peer::Peer;
use crate::id::{ModelId, NodeId};
use crate::shard::Shard;
use crate::topology::{Capabilities, ModelCost, Topology, map_to_shards, ring_memory_weighted};
use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;

/// What a ring is wanted for.
pub(super) struct Need<'a> {
    pub(super) model: &'a ModelId,
    pub(super) layers: u32,
    /// Bytes of all weights; zero when unknown.
    pub(super) bytes: u64,
    /// What placement goes by, and how many positions there must be room for; only memory, if
    /// nothing is said.
    pub(super) cost: Option<(&'a ModelCost, u32)>,
    /// Nodes that must not take part.
    pub(super) avoid: &'a BTreeSet<NodeId>,
    /// Only nodes of ours may.
    pub(super) own_only: bool,
    /// The ring that the request had; empty at first.
    pub(super) before: &'a [Stage],
}

/// The nodes that are there cannot hold the model. In MiB.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shortage {
    pub(super) needed: u64,
    pub(super) left: u64,
    /// What each node could hold, where that is known.
    pub(super) nodes: String,
}

impl Shortage {
    fn of_all(needed: u64, left: u64) -> Self {
        Self {
            needed,
            left,
            nodes: String::new(),
        }
    }
}

/// The ring as it was, with a spare node in the place of each that is missing.
fn substitute(need: &Need<'_>, members: &[(NodeId, i64)]) -> Option<Vec<Stage>> {
    if need.before.is_empty() {
        return None;
    }
    let involved = |node: &NodeId| need.before.iter().any(|stage| stage.node == *node);
    let mut spares: Vec<&(NodeId, i64)> =
        members.iter().filter(|(node, _)| !involved(node)).collect();
    // The largest first, and among equals the first by name.
    spares.sort_by_key(|(_, memory)| core::cmp::Reverse(*memory));
    let mut spares = spares.into_iter();
    let mut ring = Vec::with_capacity(need.before.len());
    for stage in need.before {
        if members.iter().any(|(node, _)| *node == stage.node) {
            ring.push(stage.clone());
            continue;
        }
        let layers = u64::from(stage.shard.end.saturating_sub(stage.shard.start)) + 1;
        let share = need.bytes / u64::from(need.layers.max(1)) * layers;
        let (node, memory) = spares.next()?;
        if mib(*memory) < share.div_ceil(1 << 20).max(1) {
            return None;
        }
        ring.push(Stage {
            node: node.clone(),
            shard: stage.shard.clone(),
        });
    }
    Some(ring)
}

/// What the nodes of a ring have, in MiB.
fn memory_of(ring: &[Stage], members: &[(NodeId, i64)]) -> u64 {
    let has = |node: &NodeId| ring.iter().any(|stage| stage.node == *node);
    let memory = members.iter().filter(|(node, _)| has(node));
    memory.fold(0, |sum, (_, memory)| sum.saturating_add(mib(*memory)))
}

/// A memory below zero counts as zero.
fn mib(memory: i64) -> u64 {
    u64::try_from(memory).unwrap_or(0)
}

/// Cuts a model by memory without rounding anything but down to whole layers.
fn cut_exactly<'a>(
    need: &Need<'_>,
    order: impl Iterator<Item = &'a NodeId>,
    members: &[(NodeId, i64)],
) -> Vec<Stage> {
    let of = |node: &NodeId| {
        let member = members.iter().find(|(member, _)| member == node);
        member.map_or(0, |(_, memory)| u128::from(mib(*memory)))
    };
    let total: u128 = members.iter().map(|(node, _)| of(node)).sum();
    let (mut before, mut next) = (0, 0);
    let mut ring = Vec::with_capacity(members.len());
    for node in order {
        before += of(node);
        let share = before * u128::from(need.layers) / total.max(1);
        let end = u32::try_from(share).unwrap_or(need.layers);
        if let Some(shard) = Shard::new(need.model.clone(), next..end, need.layers) {
            ring.push(Stage {
                node: node.clone(),
                shard,
            });
            next = end;
        }
    }
    ring
}

impl Node {
    /// This node, its peers that are up, and the edges they told.
    pub(super) fn rebuild_topology(&mut self) {
        let mut topology = Topology::default();
        let mut machine = self.config.capabilities.clone();
        machine.speed = self.speeds.told().or(machine.speed);
        topology.update_node(self.config.node.clone(), machine);
        for peer in self.peers.values().filter(|peer| peer.up) {
            let Some(node) = peer.node.clone() else {
                continue;
            };
            let capabilities = peer.capabilities().or(peer.configured()).cloned();
            topology.update_node(
                node.clone(),
                capabilities.unwrap_or_else(Capabilities::unknown),
            );
            let description = Some(peer.description().into());
            topology.add_edge(self.config.node.clone(), node.clone(), description);
            topology.measure(self.config.node.clone(), node.clone(), peer.link);
            if let Some(reply) = &peer.reply {
                topology.merge(&node, reply);
            }
        }
        if topology != self.topology {
            self.topology = topology;
            self.tell(Event::TopologyChanged);
            self.push_topology();
            self.retry_waiting();
        }
    }

    /// Cuts a model over this node and the peers it can rely on.
    ///
    /// The cuts are the reference's (by memory, in its ring order), so that in a full mesh every
    /// node computes the same ring. A ring that lost a stage keeps its cuts if another node can
    /// take that stage's place: all others then keep what they have loaded and computed.
    ///
    /// Where all are nodes of ours and the strategy is `auto`, a ring is taken with which a request is
    /// done soonest (`placement.rs`).
    ///
    /// The reference's rounding can leave out a node without whom the others lack the memory. Where
    /// only nodes of ours take part the model is then cut exactly, since the plan says how.
    pub(super) fn place(&self, need: &Need<'_>) -> Result<Vec<Stage>, Shortage> {
        let members = self.members(need);
        let all = members.iter().map(|(_, memory)| mib(*memory));
        let left = all.fold(0, u64::saturating_add);
        let needed = need.bytes.div_ceil(1 << 20);
        if members.is_empty() || left < needed {
            return Err(Shortage::of_all(needed, left));
        }
        let holds = |ring: &Vec<Stage>| memory_of(ring, &members) >= needed;
        let room = |ring: &Vec<Stage>| self.has_room(need, &members, ring);
        if let Some(ring) = substitute(need, &members).filter(holds).filter(room) {
            return Ok(ring);
        }
        let again = !need.before.is_empty();
        if let Some(Ok(ring)) = self.pinned(need).filter(|_| again) {
            return Ok(ring);
        }
        if let Some(quickest) = self.quickest(need, &members) {
            return quickest;
        }
        let partitions = ring_memory_weighted(&members);
        let shards = map_to_shards(&partitions, need.model, need.layers);
        let stage = |(node, shard)| Stage { node, shard };
        let ring: Vec<Stage> = shards.into_iter().map(stage).collect();
        if holds(&ring) {
            return Ok(ring);
        }
        let order = partitions.iter().map(|partition| &partition.node);
        let ring = if members.iter().all(|(node, _)| self.is_own(node)) {
            cut_exactly(need, order, &members)
        } else {
            ring
        };
        if holds(&ring) {
            return Ok(ring);
        }
        let left = memory_of(&ring, &members);
        Err(Shortage::of_all(needed, left))
    }

    /// Who can take part, with their memory in MiB: this node and each peer that told its memory,
    /// as long as all of them know each other: tokens and hidden states must find their way.
    pub(super) fn members(&self, need: &Need<'_>) -> Vec<(NodeId, i64)> {
        let mut members = Vec::new();
        if !need.avoid.contains(&self.config.node) {
            members.push((self.config.node.clone(), self.config.capabilities.memory));
        }
        let mut peers: Vec<&Peer> = self
            .peers
            .values()
            .filter(|peer| peer.up && !peer.leaving && (peer.own || !need.own_only))
            .filter(|peer| peer.capabilities().is_some())
            .collect();
        peers.sort_by(|a, b| a.node.cmp(&b.node));
        for peer in peers {
            let (Some(node), Some(capabilities)) = (&peer.node, peer.capabilities()) else {
                continue;
            };
            let mut known = members.iter().map(|(member, _)| member);
            if !need.avoid.contains(node)
                && self.know_each_other(node, &self.config.node)
                && known
                    .all(|member| *member == self.config.node || self.know_each_other(node, member))
            {
                members.push((node.clone(), capabilities.memory));
            }
        }
        members.truncate(self.config.limits.stages);
        members
    }

    /// The ring that this node computes for the request of a reference node, as that would.
    pub(super) fn reference_ring(&self, model: &ModelId, layers: u32) -> Vec<Stage> {
        let none = BTreeSet::new();
        let need = Need {
            model,
            layers,
            bytes: 0,
            cost: None,
            avoid: &none,
            own_only: false,
            before: &[],
        };
        self.place(&need).unwrap_or_default()
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

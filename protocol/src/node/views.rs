//! What nodes tell each other of who is there. Nodes of ours push it when it changes; reference
//! peers are asked.

use super::Node;
use super::connection::Reply;
use super::output::Event;
use super::peer::{Link, Peer, PeerKey};
use super::serve::NOT_NEVER;
use super::violation::Violation;
use crate::id::{ConnectionId, NodeId};
use crate::topology::{EngineInfo, LinkMetrics};
use crate::wire::{Message, TopologyReply};
use alloc::string::String;
use alloc::vec::Vec;

impl Node {
    /// What this node says of itself: its own entry and the edges that leave it.
    pub(super) fn own_topology(&self) -> TopologyReply {
        let mut reply = self.topology.to_reply();
        let own = |id: &str| id == &*self.config.node;
        reply.nodes.retain(|(id, _)| own(id));
        reply.peer_graph.retain(|(id, _)| own(id));
        reply
    }

    /// Tells the peers of ours what changed about this node.
    pub(super) fn push_topology(&mut self) {
        let own = self.own_topology();
        if self.pushed.as_ref() == Some(&own) {
            return;
        }
        self.pushed = Some(own.clone());
        // On every connection: what comes on two of them has no order.
        let routes: Vec<ConnectionId> = self
            .connections
            .iter()
            .filter(|(_, connection)| connection.extended.is_some())
            .map(|(&id, _)| id)
            .collect();
        for route in routes {
            self.send(route, Message::Topology(own.clone()));
        }
    }

    /// For a peer without an introduction. This node first: that is how the peer learns who it talks
    /// to. Without engines and what was measured: it would not know what that is.
    pub(super) fn topology_reply(&self) -> TopologyReply {
        let mut reply = self.topology.to_reply();
        for (_, node) in &mut reply.nodes {
            node.engine = None;
            node.speed = None;
        }
        let edges = reply.peer_graph.iter_mut();
        for edge in edges.flat_map(|(_, edges)| edges) {
            edge.metrics = LinkMetrics::default();
        }
        let own = |id: &str| id != &*self.config.node;
        reply.nodes.sort_by_key(|(id, _)| own(id));
        reply.peer_graph.sort_by_key(|(id, _)| own(id));
        reply
    }

    /// Asks every peer that is due.
    pub(super) fn collect_topology(&mut self) {
        let now = self.now;
        let due: Vec<_> = self
            .peers
            .iter()
            .filter(|(_, peer)| peer.topology_at <= now)
            .map(|(&key, _)| key)
            .collect();
        let mut visited: Vec<String> = alloc::vec![self.config.node.as_str().into()];
        visited.extend(self.known_peers().map(|node| node.as_str().into()));
        let (timing, whole) = (self.config.timing, self.is_whole());
        for key in due {
            let Some(peer) = self.peers.get_mut(&key) else {
                continue;
            };
            let forming = !whole && now.saturating_since(peer.up_since) < timing.forming_for;
            let every = if forming {
                timing.forming_every
            } else {
                timing.topology_every
            };
            peer.topology_at = now + every.max(NOT_NEVER);
            let (own, Link::Open(connection)) = (peer.own, peer.data) else {
                continue;
            };
            let busy = self
                .connections
                .get(&connection)
                .is_none_or(|c| c.awaits(Reply::Topology) || (!own && c.awaits(Reply::Tensor)));
            if !busy {
                // Three: what the reference writes.
                let request = Message::CollectTopologyRequest {
                    visited: visited.clone(),
                    max_depth: 3,
                };
                self.send(connection, request);
            }
        }
    }

    /// Whether a node is connected as another peer, too: one of the two entries is wrong.
    fn is_elsewhere(&self, key: PeerKey, node: Option<&NodeId>) -> bool {
        let same = |(other, peer): (&PeerKey, &Peer)| {
            *other != key && peer.up && node.is_some() && peer.node.as_ref() == node
        };
        self.peers.iter().any(same)
    }

    fn known_peers(&self) -> impl Iterator<Item = &NodeId> {
        self.peers
            .values()
            .filter(|peer| peer.up)
            .filter_map(|peer| peer.node.as_ref())
    }

    pub(super) fn topology_told(&mut self, id: ConnectionId, reply: TopologyReply) {
        if self.reply_came(id, Reply::Topology).is_none() {
            return;
        }
        let dialed = self
            .connections
            .get(&id)
            .and_then(|connection| connection.peer);
        if let Some(key) = dialed.filter(|key| self.is_trial(Some(*key), id)) {
            return self.trial_told(key, id, &reply);
        }
        self.take_view(id, reply);
    }

    /// A peer's word on itself.
    pub(super) fn take_view(&mut self, id: ConnectionId, mut reply: TopologyReply) {
        let limit = self.config.limits.topology;
        let edges: usize = reply.peer_graph.iter().map(|(_, edges)| edges.len()).sum();
        if reply.nodes.len() > limit || edges > limit {
            let got = reply.nodes.len().max(edges);
            let what = "nodes or edges of a topology";
            self.violated(id, &Violation::TooMany { what, got, limit });
            return;
        }
        // The first entry of a reference peer is its own, and the only place where it says its id.
        let first = reply
            .nodes
            .first()
            .filter(|(node, _)| !NodeId::is_fit(node));
        let unfit = first.map(|(node, _)| Violation::unfit(node));
        if let Some(unfit) = unfit.filter(|_| self.extended(id).is_none()) {
            self.refuse_name(id, &unfit);
            return;
        }
        reply.tidy();
        let now = self.now;
        if let Some(extended) = self.extended(id) {
            extended.view = Some((now, reply.clone()));
        }
        let Some(key) = self.peer_of(id) else { return };
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        if !peer.up {
            return;
        }
        // A reference peer does not introduce itself, but its own entry stands first.
        let listed = |node: &NodeId| reply.nodes.iter().any(|(id, _)| *id == **node);
        if !peer.own
            && !peer.node.as_ref().is_some_and(listed)
            && let Some((first, _)) = reply.nodes.first()
        {
            peer.node = Some(first.as_str().into());
        }
        let (own, node) = (peer.own, peer.node.clone());
        if !own && self.is_elsewhere(key, node.as_ref()) {
            let reason = String::from("this node is connected at another address already");
            self.peer_lost(key, reason);
            return;
        }
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        if peer.reply.as_ref() == Some(&reply) {
            return;
        }
        let before = peer.reply.replace(reply);
        if let Some(node) = node {
            let reply = peer.reply.as_ref();
            let engine = reply.and_then(|reply| engine_of(reply, &node)).cloned();
            let news = engine.filter(|engine| {
                let before = before.as_ref();
                before.and_then(|before| engine_of(before, &node)) != Some(engine)
            });
            if let Some(engine) = news {
                self.tell(Event::PeerEngine { node, engine });
            }
        }
        self.rebuild_topology();
    }

    /// A connection to a peer is gone that may have brought late what the peer said long ago. On
    /// those that are left, its last word comes last: what it is so far counts again.
    pub(super) fn recall_view(&mut self, key: PeerKey) {
        let Some(peer) = self.peers.get(&key).filter(|peer| peer.up && peer.own) else {
            return;
        };
        let dialed = peer.data.connection().filter(|_| peer.dialed_up);
        let left = peer.inbound.iter().copied().chain(dialed);
        let view = |id| self.connections.get(&id)?.extended.as_ref()?.view.as_ref();
        let Some((_, reply)) = left.filter_map(view).max_by_key(|(at, _)| *at).cloned() else {
            return;
        };
        if let Some(peer) = self.peers.get_mut(&key) {
            peer.reply = Some(reply);
        }
        self.rebuild_topology();
    }
}

/// What a node says of its engine.
fn engine_of<'a>(reply: &'a TopologyReply, node: &NodeId) -> Option<&'a EngineInfo> {
    let own = reply.nodes.iter().find(|(id, _)| *id == **node);
    own.and_then(|(_, node)| node.engine.as_ref())
}

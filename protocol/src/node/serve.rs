//! Answering what comes over a connection.

use super::connection::Reply;
use super::peer::{Link, Peer};
use super::{Instant, Node};
use crate::id::{ConnectionId, NodeId};
use crate::wire::{Hello, Message, TopologyReply};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

/// A period of zero would keep [`Node::handle_timeout`] busy for ever.
const NOT_NEVER: Duration = Duration::from_millis(1);

impl Node {
    pub(super) fn received(&mut self, id: ConnectionId, message: Message) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        if connection.closing {
            return;
        }
        connection.stalls_at = None;
        match message {
            Message::HealthCheckRequest { payload } => self.health_asked(id, &payload),
            Message::HealthCheckResponse { is_healthy, exo } => {
                let hello = exo.as_ref().and_then(Hello::from_json);
                self.health_told(id, is_healthy, hello);
            }
            Message::CollectTopologyRequest { .. } => {
                // `visited` and `max_depth` are parsed and ignored, as the reference does: a view
                // is one hop deep.
                let reply = self.topology_reply();
                self.send(id, Message::CollectTopologyResponse(reply));
            }
            Message::CollectTopologyResponse(reply) => self.topology_told(id, reply),
            Message::SendPromptRequest(prompt) => self.prompt_came(prompt),
            Message::SendTensorRequest(tensor) => {
                // At once, before anything is computed: a reference peer waits for it with its
                // whole connection. Empty, since it cannot read any other form.
                self.send(id, Message::SendTensorResponse(None));
                self.remember_family(id, tensor.tensor.family());
                self.tensor_came(id, tensor);
            }
            Message::SendTensorResponse(_) => {
                if let Some(asked) = self.reply_came(id, Reply::Tensor) {
                    self.hop_done(id, asked);
                }
            }
            Message::SendResult(result) => self.result_came(&result),
            Message::SendOpaqueStatus { request_id, status } => {
                self.status_came(request_id.as_deref(), &status);
            }
            // Numbered but never used by the reference; its server reads and forgets them.
            Message::SendPromptResponse(_)
            | Message::SendExampleRequest(_)
            | Message::SendExampleResponse(_) => {}
        }
    }

    fn health_asked(&mut self, id: ConnectionId, payload: &bytes::Bytes) {
        let hello = Hello::from_request_payload(payload);
        // Only who introduced itself gets an introduction: a reference peer gets its own bytes.
        let exo = hello.as_ref().map(|_| self.hello().to_json());
        if let (Some(connection), Some(hello)) = (self.connections.get_mut(&id), hello) {
            connection.claims = Some(hello.node_id.as_str().into());
        }
        self.send(
            id,
            Message::HealthCheckResponse {
                is_healthy: true,
                exo,
            },
        );
    }

    fn health_told(&mut self, id: ConnectionId, is_healthy: bool, hello: Option<Hello>) {
        let Some(asked) = self.reply_came(id, Reply::Health) else {
            return;
        };
        let Some(key) = self
            .connections
            .get(&id)
            .and_then(|connection| connection.peer)
        else {
            return;
        };
        if !is_healthy {
            self.peer_lost(key, String::from("it says that it is not healthy"));
            return;
        }
        if let (Some(connection), Some(hello)) = (self.connections.get_mut(&id), &hello) {
            connection.claims = Some(hello.node_id.as_str().into());
        }
        self.healthy(key, asked, hello);
    }

    /// Matches a reply with the request it answers. A reply that nobody waits for on a connection
    /// that this node opened means that the two sides no longer agree on what is said: it is closed.
    /// On a connection that the peer opened it is ignored, as the reference does.
    fn reply_came(&mut self, id: ConnectionId, reply: Reply) -> Option<Instant> {
        let connection = self.connections.get_mut(&id)?;
        let awaited = connection.replied(reply);
        if awaited.is_none() && connection.peer.is_some() {
            self.refuse(id, format!("a {reply:?} reply came that nobody waits for"));
        }
        Some(awaited?.asked)
    }

    fn hop_done(&mut self, id: ConnectionId, asked: Instant) {
        let key = self
            .connections
            .get(&id)
            .and_then(|connection| connection.peer);
        if let Some(peer) = key.and_then(|key| self.peers.get_mut(&key)) {
            peer.hops.record(self.now.saturating_since(asked));
        }
    }

    fn remember_family(&mut self, id: ConnectionId, family: crate::tensor::DTypeFamily) {
        let Some(connection) = self.connections.get(&id) else {
            return;
        };
        let Some(claims) = connection.claims.clone() else {
            return;
        };
        let known = |peer: &&mut Peer| peer.node.as_ref() == Some(&claims);
        if let Some(peer) = self.peers.values_mut().find(known) {
            peer.family = Some(family);
        }
    }

    // --- topology -------------------------------------------------------------------------------

    /// This node first: that is how a peer without an introduction learns who it talks to.
    fn topology_reply(&self) -> TopologyReply {
        let mut reply = self.topology.to_reply();
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

    fn known_peers(&self) -> impl Iterator<Item = &NodeId> {
        self.peers
            .values()
            .filter(|peer| peer.up)
            .filter_map(|peer| peer.node.as_ref())
    }

    fn topology_told(&mut self, id: ConnectionId, reply: TopologyReply) {
        if self.reply_came(id, Reply::Topology).is_none() {
            return;
        }
        let limit = self.config.limits.topology;
        let edges: usize = reply.peer_graph.iter().map(|(_, edges)| edges.len()).sum();
        if reply.nodes.len() > limit || edges > limit {
            self.refuse(
                id,
                format!("a topology of more than {limit} nodes or edges came"),
            );
            return;
        }
        let key = self
            .connections
            .get(&id)
            .and_then(|connection| connection.peer);
        let Some(peer) = key.and_then(|key| self.peers.get_mut(&key)) else {
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
        if peer.reply.as_ref() == Some(&reply) {
            return;
        }
        peer.reply = Some(reply);
        self.rebuild_topology();
    }
}

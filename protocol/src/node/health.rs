//! Whether a peer is there, and who it is.

use super::links::Dialed;
use super::output::Event;
use super::peer::{Link, PeerKey};
use super::{Instant, Node};
use crate::wire::{Hello, Message};
use alloc::string::String;
use alloc::vec::Vec;

/// The feature of taking a request's ring from its inference state.
const RING: &str = "ring";

impl Node {
    /// How this node introduces itself to its like.
    pub(super) fn hello(&self) -> Hello {
        Hello {
            features: alloc::vec![RING.into()],
            ..Hello::new(&self.config.node)
        }
    }

    /// What tells a node of ours who asks; a reference peer ignores it.
    pub(super) fn health_request(&self) -> Message {
        Message::HealthCheckRequest {
            payload: self.hello().to_request_payload(),
        }
    }

    /// Checks every peer that is due.
    pub(super) fn check_health(&mut self) {
        let now = self.now;
        let due: Vec<PeerKey> = self
            .peers
            .iter()
            .filter(|(_, peer)| peer.health_at <= now)
            .map(|(&key, _)| key)
            .collect();
        for key in due {
            let Some(peer) = self.peers.get_mut(&key) else {
                continue;
            };
            peer.health_at = Instant::FAR_FUTURE;
            // A reference peer computes before it reads on, so it is asked on another connection.
            let link = if peer.own { peer.data } else { peer.probe };
            match link {
                Link::Open(connection) => self.send(connection, self.health_request()),
                Link::Idle(_) if !peer.own => self.dial(Dialed {
                    peer: key,
                    probe: true,
                }),
                Link::Idle(_) | Link::Dialing(..) => {}
            }
        }
    }

    /// A peer answered a health check.
    pub(super) fn healthy(&mut self, key: PeerKey, asked: Instant, hello: Option<Hello>) {
        let now = self.now;
        if hello
            .as_ref()
            .is_some_and(|hello| *hello.node_id == *self.config.node)
        {
            self.is_this_node(key);
            return;
        }
        let name = hello.as_ref().map(|hello| hello.node_id.as_str());
        let elsewhere = name.is_some_and(|name| self.up_elsewhere(key, name));
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        if elsewhere {
            // The same node under two addresses: one is enough.
            let reason = String::from("this node is connected at another address already");
            self.peer_lost(key, reason);
            return;
        }
        peer.own = hello
            .as_ref()
            .is_some_and(|hello| hello.features.iter().any(|f| f == RING));
        if let Some(name) = name {
            peer.node = Some(name.into());
        }
        peer.rtt = Some(now.saturating_since(asked));
        peer.health_at = now + self.config.timing.health_every;
        peer.succeeded();
        if !peer.up {
            peer.up = true;
            peer.up_since = now;
            peer.topology_at = now;
            let node = peer
                .node
                .clone()
                .unwrap_or_else(|| peer.address.as_str().into());
            peer.node = Some(node.clone());
            let address = peer.address.clone();
            self.tell(Event::PeerUp { node, address });
        }
    }

    fn up_elsewhere(&self, key: PeerKey, name: &str) -> bool {
        self.peers
            .iter()
            .any(|(&other, peer)| other != key && peer.up && peer.node.as_deref() == Some(name))
    }

    /// An address leads back here: it is not dialled again.
    fn is_this_node(&mut self, key: PeerKey) {
        self.peer_lost(key, String::from("this address leads back to this node"));
        if let Some(peer) = self.peers.get_mut(&key) {
            peer.data = Link::UNUSED;
        }
    }
}

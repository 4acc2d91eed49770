//! How nodes of ours get to know each other: the hello, and what follows from it.

use super::extended::Extended;
use super::links::Dialed;
use super::output::Event;
use super::peer::{Link, Peer, PeerKey};
use super::violation::Violation;
use super::{Instant, Node};
use crate::id::{ConnectionId, NodeId};
use crate::json::Json;
use crate::wire::extension::goodbye;
use crate::wire::{Hello, Message, Notice};
use alloc::string::String;
use alloc::vec::Vec;

/// Clones that are remembered, so that each is told of once.
const MOST_CLONES: usize = 64;

impl Node {
    /// How this node introduces itself to its like.
    pub(super) fn hello(&self) -> Hello {
        Hello {
            version: Hello::VERSION,
            node_id: self.config.node.as_str().into(),
            incarnation: self.incarnation,
            features: match self.config.trains {
                true => alloc::vec![Hello::TRAIN.into()],
                false => Vec::new(),
            },
            dtypes: self.config.activations.clone(),
            window: self.config.limits.window_bytes,
            stream_window: self.config.limits.stream_window_bytes,
        }
    }

    /// What somebody who is no node is told of this one: the hello, and what computes here.
    pub(super) fn described(&self) -> Json {
        let mut described = self.hello().to_json();
        if let (Json::Object(entries), Some(engine)) =
            (&mut described, &self.config.capabilities.engine)
        {
            entries.push((String::from("engine"), engine.to_json()));
        }
        described
    }

    /// What tells a node of ours who asks; a reference peer ignores it.
    pub(super) fn health_request(&self) -> Message {
        Message::HealthCheckRequest {
            payload: self.hello().to_request_payload(),
        }
    }

    /// The other end of a connection introduced itself: from now on both speak the extension.
    pub(super) fn introduced(&mut self, id: ConnectionId, hello: &Hello) {
        let Some(connection) = self.connections.get(&id) else {
            return;
        };
        if connection.closing || connection.extended.is_some() {
            return;
        }
        let (dialed, remote) = (connection.peer, connection.remote.clone());
        let node = NodeId::from(hello.node_id.as_str());
        if node == self.config.node {
            self.met_itself(id, dialed, hello, remote);
            return;
        }
        if self.is_contested(id, &node, hello.incarnation, &remote) {
            self.violated(id, &Violation::Duplicate(node));
            return;
        }
        let Some(key) = self.peer_for(dialed, &node, &remote) else {
            return;
        };
        let extended = Extended::new(hello, &self.config, self.now);
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.claims = Some(node.clone());
            connection.extended = Some(extended);
            connection.stalls_at = None;
        }
        let now = self.now;
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        peer.own = true;
        peer.leaving = false;
        peer.node = Some(node.clone());
        peer.health_at = Instant::FAR_FUTURE;
        peer.topology_at = Instant::FAR_FUTURE;
        match dialed {
            Some(_) => {
                peer.dialed_up = true;
                peer.succeeded();
            }
            None => peer.inbound.push(id),
        }
        if let Link::Idle(_) = peer.probe {
            peer.probe = Link::UNUSED;
        }
        let came_up = !core::mem::replace(&mut peer.up, true);
        let address = peer.address.clone();
        if came_up {
            peer.up_since = now;
        }
        let before = self.run_of(&node);
        self.remember_run(&node, hello.incarnation);
        if before.is_some_and(|before| before != hello.incarnation) {
            self.forget_sessions_of(&node);
            self.tell(Event::PeerRestarted { node: node.clone() });
        }
        self.adopt_sessions_of(&node);
        self.tell_failures_again(&node);
        if came_up {
            self.tell(Event::PeerUp {
                node: node.clone(),
                address,
            });
        }
        if self.leaving {
            self.send(id, goodbye());
        }
        let before = self.pushed.clone();
        self.rebuild_topology();
        if self.pushed == before {
            self.send(id, Message::Topology(self.own_topology()));
        }
    }

    /// An address leads back to this node, or to another one that has its id.
    fn met_itself(
        &mut self,
        id: ConnectionId,
        dialed: Option<PeerKey>,
        hello: &Hello,
        remote: String,
    ) {
        let node = self.config.node.clone();
        if hello.incarnation != self.incarnation {
            if self.is_news((&node, hello.incarnation)) {
                self.tell(Event::DuplicateNode {
                    node: node.clone(),
                    first: String::new(),
                    second: remote,
                });
            }
            self.violated(id, &Violation::Duplicate(node));
        } else if let Some(key) = dialed {
            self.peer_lost(key, String::from("this address leads back to this node"));
            if let Some(peer) = self.peers.get_mut(&key) {
                peer.data = Link::UNUSED;
            }
        }
    }

    /// Whether another run of `node` is connected. It may be gone without this node knowing: it is
    /// asked at once, and the newcomer, which dials again, gets its place when it does not answer.
    fn is_contested(
        &mut self,
        newcomer: ConnectionId,
        node: &NodeId,
        incarnation: u64,
        remote: &str,
    ) -> bool {
        let mut contested = false;
        let others = self.connections.iter_mut().filter(|(id, connection)| {
            **id != newcomer && !connection.closing && connection.claims.as_ref() == Some(node)
        });
        for (_, connection) in others {
            let Some(extended) = &mut connection.extended else {
                continue;
            };
            if extended.incarnation != incarnation {
                contested = true;
                if extended.challenger.is_none() {
                    let probe = extended.pulse.challenge();
                    extended.challenger = Some((incarnation, remote.into(), probe));
                }
            }
        }
        contested
    }

    /// Which run of a node was met last, wherever it was: it may come back from another address.
    pub(super) fn run_of(&self, node: &NodeId) -> Option<u64> {
        let met = self.met.iter().find(|(met, _)| met == node);
        met.map(|(_, incarnation)| *incarnation)
    }

    fn remember_run(&mut self, node: &NodeId, incarnation: u64) {
        self.met.retain(|(met, _)| met != node);
        if self.met.len() >= self.config.limits.peers {
            self.met.pop_front();
        }
        self.met.push_back((node.clone(), incarnation));
    }

    /// Whether a clone is told of for the first time.
    fn is_news(&mut self, (node, incarnation): (&NodeId, u64)) -> bool {
        let clone = (node.clone(), incarnation);
        if self.clones.contains(&clone) {
            return false;
        }
        if self.clones.len() >= MOST_CLONES {
            self.clones.pop_front();
        }
        self.clones.push_back(clone);
        true
    }

    /// The older run of a contested id is still there: there are two of them.
    pub(super) fn answered_challenge(&mut self, id: ConnectionId, ping: u64) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let first = connection.remote.clone();
        let Some(extended) = &mut connection.extended else {
            return;
        };
        let since = |(_, _, probe): &mut (u64, String, u64)| ping > *probe;
        let Some((incarnation, second, _)) = extended.challenger.take_if(since) else {
            return;
        };
        let node = extended.node.clone();
        if self.is_news((&node, incarnation)) {
            self.tell(Event::DuplicateNode {
                node,
                first,
                second,
            });
        }
    }

    /// The peer that a connection belongs to. A peer that came by itself becomes the one that
    /// discovery names once the two turn out to be the same.
    fn peer_for(
        &mut self,
        dialed: Option<PeerKey>,
        node: &NodeId,
        remote: &str,
    ) -> Option<PeerKey> {
        let known = self
            .peers
            .iter()
            .filter(|(key, peer)| Some(**key) != dialed && peer.own)
            .find(|(_, peer)| peer.node.as_ref() == Some(node) && peer.up)
            .map(|(&key, _)| key);
        let Some(dialed) = dialed else {
            let named = || {
                // One that is up is somebody else: the address in the list is wrong.
                let named = |peer: &&Peer| peer.expected.as_ref() == Some(node) && !peer.up;
                let mut all = self.peers.iter();
                all.find(|(_, peer)| named(peer)).map(|(&key, _)| key)
            };
            return known.or_else(named).or_else(|| {
                let limit = self.config.limits.peers;
                if self.peers.len() >= limit {
                    return None;
                }
                let peer = Peer::unnamed(node.clone(), remote.into(), self.now);
                Some(self.add_peer(peer))
            });
        };
        self.separate(dialed, node);
        let Some(other) = known else {
            return Some(dialed);
        };
        let Some(peer) = self.peers.get_mut(&other) else {
            return Some(dialed);
        };
        if peer.dialed_up {
            // The same node at two addresses: one is enough.
            let reason = String::from("this node is connected at another address already");
            self.peer_lost(dialed, reason);
            return None;
        }
        let inbound = core::mem::take(&mut peer.inbound);
        let (reply, family) = (peer.reply.take(), peer.family);
        let (up_since, leaving) = (peer.up_since, peer.leaving);
        peer.up = false;
        if peer.source.is_none() {
            self.peers.remove(&other);
        }
        let peer = self.peers.get_mut(&dialed)?;
        // Nothing went and nothing came: the same node has another entry.
        peer.inbound = inbound;
        peer.up = true;
        peer.own = true;
        (peer.reply, peer.family) = (reply, family);
        (peer.up_since, peer.leaving) = (up_since, leaving);
        Some(dialed)
    }

    /// The address of a peer that came by itself leads to another node: they are two.
    fn separate(&mut self, dialed: PeerKey, node: &NodeId) {
        let now = self.now;
        let Some(peer) = self.peers.get_mut(&dialed) else {
            return;
        };
        let Some(before) = peer
            .node
            .clone()
            .filter(|before| !peer.inbound.is_empty() && before != node)
        else {
            return;
        };
        let mut other = Peer::unnamed(before, peer.address.clone(), now);
        other.inbound = core::mem::take(&mut peer.inbound);
        (other.up, other.own, other.up_since) = (true, true, peer.up_since);
        other.reply = peer.reply.take();
        (other.family, other.leaving) = (peer.family, peer.leaving);
        (peer.up, peer.own, peer.leaving) = (false, false, false);
        self.add_peer(other);
    }

    /// Probes the peers of ours from whom nothing was heard, and gives up those that are gone.
    pub(super) fn check_pulses(&mut self) {
        let now = self.now;
        let most = self.config.limits.probes;
        let all: Vec<(ConnectionId, core::time::Duration)> = self
            .connections
            .iter()
            .filter_map(|(&id, connection)| {
                let every = self.probe_every(connection)?;
                let due = connection.extended.as_ref()?.pulse.due(every);
                (due <= now).then_some((id, every))
            })
            .collect();
        for (id, every) in all {
            let Some(connection) = self.connections.get_mut(&id) else {
                continue;
            };
            let Some(extended) = &mut connection.extended else {
                continue;
            };
            match extended.pulse.beat(now, every, most) {
                super::pulse::Beat::Ping(ping) => self.send(id, Message::Ping { id: ping }),
                super::pulse::Beat::Dead { probes } => {
                    let reason = alloc::format!("silent after {probes} probes");
                    self.dropped(id, reason);
                }
                super::pulse::Beat::Nothing => {}
            }
        }
    }

    /// Dials the health link of a reference peer.
    pub(super) fn dial_probe(&mut self, peer: PeerKey) {
        self.dial(Dialed { peer, probe: true });
    }
}

/// What a leaving node tells its peers.
pub(super) fn goodbye() -> Message {
    Message::Goodbye(Notice {
        code: goodbye::LEAVING,
        text: String::from("this node is shutting down"),
    })
}

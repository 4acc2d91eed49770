//! How nodes of ours get to know each other: the hello, and what follows from it.

use super::dial::{Dialed, Purpose};
use super::extended::Extended;
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
            features: [
                Some(Hello::SAMPLING),
                self.config.trains.then_some(Hello::TRAIN),
                self.config.shares.then_some(Hello::FILES),
            ]
            .into_iter()
            .flatten()
            .map(Into::into)
            .collect(),
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
        if !NodeId::is_fit(&hello.node_id) {
            let violation = Violation::unfit(&hello.node_id);
            return self.refuse_name(id, &violation);
        }
        let node = NodeId::from(hello.node_id.as_str());
        if node == self.config.node {
            self.met_itself(id, dialed, hello, remote);
            return;
        }
        if self.is_contested(id, &node, hello.incarnation, &remote) {
            self.refuse_clone(id, &node, hello.incarnation);
            return;
        }
        let moving = dialed.filter(|key| self.is_trial(Some(*key), id));
        let key = match (dialed, moving) {
            (_, Some(key)) if self.may_arrive(key, &node, hello.incarnation) => Some(key),
            (_, Some(key)) => return self.trial_failed(key),
            (Some(key), None) => self.owner_of(id, key, &node),
            (None, None) => self.guest(&node, &remote),
        };
        let Some(key) = key else {
            return;
        };
        let extended = Extended::new(hello, &self.config, self.now);
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.claims = Some(node.clone());
            connection.extended = Some(extended);
            connection.stalls_at = None;
        }
        if moving.is_some() {
            self.arrived(key, id);
        }
        let now = self.now;
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        peer.own = true;
        peer.leaving = false;
        peer.told = false;
        peer.node = Some(node.clone());
        peer.health_at = Instant::FAR_FUTURE;
        peer.topology_at = Instant::FAR_FUTURE;
        match dialed {
            Some(_) => {
                peer.dialed_up = true;
                if let Some(entry) = peer.current() {
                    entry.succeeded();
                }
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
        if dialed.is_some() && moving.is_none() {
            self.look_soon(key);
        }
        if self.leaving {
            self.send(id, goodbye());
        }
        let before = self.pushed.clone();
        self.rebuild_topology();
        if self.pushed == before {
            self.send(id, Message::Topology(self.own_topology()));
        }
        if came_up {
            self.tell_newcomer(key);
        }
        // Models are placed by how far peers are away: nobody has to wait for that.
        self.go_on_measuring(id, None);
    }

    /// An address leads back to this node, or to another one that has its id.
    fn met_itself(
        &mut self,
        id: ConnectionId,
        dialed: Option<PeerKey>,
        hello: &Hello,
        remote: String,
    ) {
        if hello.incarnation != self.incarnation {
            self.met_clone_of_itself(hello.incarnation, remote);
            let node = self.config.node.clone();
            self.refuse_clone(id, &node, hello.incarnation);
        } else if let Some(key) = dialed {
            let again = self.now + self.config.timing.measure_most;
            let reason = String::from("this address leads back to this node");
            self.peer_lost(key, reason);
            if let Some(peer) = self.peers.get_mut(&key) {
                if let Some(entry) = peer.current() {
                    entry.again = again;
                }
                peer.schedule();
            }
        }
    }

    /// Another node has the id of this one.
    pub(super) fn met_clone_of_itself(&mut self, incarnation: u64, remote: String) {
        let node = self.config.node.clone();
        if self.is_news((&node, incarnation)) {
            self.tell(Event::DuplicateNode {
                node,
                first: String::new(),
                second: remote,
            });
        }
    }

    /// Closes a connection of a node whose id is taken. Both ends would go on like that for ever:
    /// it is told of once, and dialled less and less often.
    fn refuse_clone(&mut self, id: ConnectionId, node: &NodeId, incarnation: u64) {
        self.is_cloned(id);
        let violation = Violation::Duplicate(node.clone());
        if self.is_first(&alloc::format!("{node} {incarnation}")) {
            self.violated(id, &violation);
        } else {
            self.violated_again(id, &violation);
        }
    }

    /// Closes a connection of a node whose id would garble what people read. It comes again and
    /// again, perhaps with another one each time: its host is told of once.
    pub(super) fn refuse_name(&mut self, id: ConnectionId, violation: &Violation) {
        self.is_cloned(id);
        let remote = self.connections.get(&id).map(|it| it.remote.as_str());
        let remote = remote.unwrap_or_default();
        let host = remote.rsplit_once(':').map_or(remote, |(host, _)| host);
        if self.is_first(&alloc::format!("an unfit id from {host}")) {
            self.violated(id, violation);
        } else {
            self.violated_again(id, violation);
        }
    }

    /// Whoever is at the address that this connection dialled is taken for a clone.
    pub(super) fn is_cloned(&mut self, id: ConnectionId) {
        let dialed = self
            .connections
            .get(&id)
            .and_then(|connection| connection.peer);
        let Some(key) = dialed else { return };
        let entry = match self.is_trial(dialed, id) {
            true => self.trial_entry(key),
            false => self.peers.get_mut(&key).and_then(Peer::current),
        };
        if let Some(entry) = entry {
            entry.refused();
        }
    }

    /// Whether another run of `node` is connected. It may be gone without this node knowing: it is
    /// asked at once, and the newcomer, which dials again, gets its place when it does not answer.
    pub(super) fn is_contested(
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

    /// The peer that a connection belongs to which it opened itself.
    fn guest(&mut self, node: &NodeId, remote: &str) -> Option<PeerKey> {
        self.peer_of_node(node).or_else(|| {
            let room = self.peers.len() < self.config.limits.peers;
            let peer = || Peer::unnamed(Some(node.clone()), remote.into(), self.now);
            let peer = room.then(peer)?;
            Some(self.add_peer(peer))
        })
    }

    /// The peer that a connection belongs to which was dialled for this one. The address may lead
    /// to another node than discovery says; then it is that one's from now on. If that is connected
    /// at another address already, one connection is enough.
    fn owner_of(&mut self, id: ConnectionId, key: PeerKey, node: &NodeId) -> Option<PeerKey> {
        let owner = self.peer_of_node(node);
        let peer = self.peers.get_mut(&key)?;
        if owner == Some(key) || (owner.is_none() && peer.node.is_none()) {
            peer.node = Some(node.clone());
            return Some(key);
        }
        let address = peer.address.clone();
        peer.data = Link::UNUSED;
        let owner = self.relocate(key, &address, node);
        let connected = owner.and_then(|owner| self.peers.get(&owner));
        let Some(owner) = owner.filter(|_| connected.is_some_and(|peer| !peer.dialed_up)) else {
            self.abandon(Link::Open(id));
            return None;
        };
        let peer = self.peers.get_mut(&owner)?;
        let before = core::mem::replace(&mut peer.data, Link::Open(id));
        peer.address = address;
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.peer = Some(owner);
        }
        self.abandon(before);
        Some(owner)
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
        let purpose = Purpose::Probe;
        self.dial(Dialed { peer, purpose });
    }
}

/// What a leaving node tells its peers.
pub(super) fn goodbye() -> Message {
    Message::Goodbye(Notice {
        code: goodbye::LEAVING,
        text: String::from("this node is shutting down"),
    })
}

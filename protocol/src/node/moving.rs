//! Changing the way to a peer while it is in use.
//!
//! What is new goes over the new connection from the moment on at which both ends know of it; what
//! has begun ends where it is. The old connection is closed when nothing goes over it any more, and
//! takes over again if the new one breaks before.

use super::Node;
use super::measure::Goal;
use super::output::Event;
use super::pace::Pace;
use super::peer::{Link, PeerKey};
use crate::id::{ConnectionId, NodeId};
use crate::wire::Message;
use alloc::string::String;

/// A connection of which another one took the place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Retiring {
    pub(super) connection: ConnectionId,
    /// Where it goes.
    pub(super) address: String,
    /// A probe that was sent after the peer knew of the new connection. What the peer sent over
    /// the old one before is here when its answer is.
    fence: u64,
    /// It was answered.
    passed: bool,
}

impl Node {
    /// Whether the way to a peer may be changed now. Streams may be open; what has none cannot
    /// move: training jobs, and rings that speak the base protocol.
    pub(super) fn may_move(&self, key: PeerKey) -> bool {
        let Some(peer) = self.peers.get(&key) else {
            return false;
        };
        let (Some(node), Link::Open(used)) = (&peer.node, peer.data) else {
            return false;
        };
        let quiet = self.connections.get(&used).is_some_and(|connection| {
            let idle = connection.is_idle();
            connection.extended.is_some() || idle
        });
        let plain = self.peers.values().any(|peer| peer.up && !peer.own);
        let plainly = self.clients.values().any(|client| client.plain)
            || self.sessions.values().any(|session| session.is_plain());
        let fixed = if peer.own { plain } else { plainly };
        let leaves = self.leaving || self.stopping || peer.leaving;
        let free = peer.retiring.is_none() && !self.trains_with(node);
        quiet && free && !fixed && !leaves && peer.dialed_up
    }

    /// A node of ours introduced itself where this node wants to move to. Whether it is the peer
    /// that is meant, and it still may be done.
    pub(super) fn may_arrive(&self, key: PeerKey, node: &NodeId, incarnation: u64) -> bool {
        let peer = self.peers.get(&key);
        let same = peer.is_some_and(|peer| peer.own && peer.node.as_ref() == Some(node));
        same && self.run_of(node) == Some(incarnation) && self.may_move(key)
    }

    /// The new connection to a node of ours speaks the extension: it is the way from now on.
    pub(super) fn arrived(&mut self, key: PeerKey, id: ConnectionId) {
        let now = self.now;
        let Some((used, from)) = self.take_over(key, id) else {
            return;
        };
        let Some(extended) = self.extended(used) else {
            return;
        };
        let fence = extended.pulse.fence(now);
        if let Some(peer) = self.peers.get_mut(&key) {
            peer.retiring = Some(Retiring {
                connection: used,
                address: from,
                fence,
                passed: false,
            });
        }
        self.retiring.push(key);
        self.send(used, Message::Ping { id: fence });
    }

    /// A reference node answered where this node wants to move to. It sends nothing over a
    /// connection that it did not open, so the old one has nothing left to bring.
    pub(super) fn moved_plainly(&mut self, key: PeerKey, id: ConnectionId) {
        let own = self.peers.get(&key).is_none_or(|peer| peer.own);
        if own || !self.may_move(key) {
            return self.trial_failed(key);
        }
        if let Some((used, _)) = self.take_over(key, id) {
            self.abandon(Link::Open(used));
            self.rebuild_topology();
        }
    }

    /// The connection of a trial becomes the way to its peer. Gives the one that was, and where it
    /// goes.
    fn take_over(&mut self, key: PeerKey, id: ConnectionId) -> Option<(ConnectionId, String)> {
        let peer = self.peers.get_mut(&key)?;
        let used = peer.data.connection()?;
        let trial = peer.survey.trial.take()?;
        let Goal::Move(reason) = trial.goal else {
            return None;
        };
        peer.data = Link::Open(id);
        let (to, node) = (trial.address, peer.node.clone()?);
        let from = core::mem::replace(&mut peer.address, to.clone());
        peer.pace = Pace::default();
        peer.goodput = Default::default();
        peer.padded = None;
        peer.loaded = None;
        let rtt = peer.entry(&to).and_then(|entry| entry.rtt);
        peer.rtt = rtt.or(peer.rtt);
        if let Some(entry) = peer.current() {
            entry.succeeded();
        }
        self.tell(Event::PeerMoved {
            node,
            from: from.clone(),
            to,
            reason,
        });
        Some((used, from))
    }

    /// A probe was answered: it may be a fence.
    pub(super) fn passed(&mut self, id: ConnectionId, ping: u64) {
        for key in &self.retiring {
            let peer = self.peers.get_mut(key);
            if let Some(retiring) = peer.and_then(|peer| peer.retiring.as_mut())
                && retiring.connection == id
                && ping >= retiring.fence
            {
                retiring.passed = true;
            }
        }
    }

    /// Closes connections that have nothing left to carry.
    pub(super) fn close_retired(&mut self) {
        if self.retiring.is_empty() {
            return;
        }
        let keys = core::mem::take(&mut self.retiring);
        for key in keys {
            if !self.retire_from(key) {
                self.retiring.push(key);
            }
        }
    }

    /// Whether nothing is left to retire.
    fn retire_from(&mut self, key: PeerKey) -> bool {
        let Some(peer) = self.peers.get(&key) else {
            return true;
        };
        let Some(retiring) = peer.retiring.clone() else {
            return true;
        };
        let Some(connection) = self.connections.get(&retiring.connection) else {
            return true;
        };
        let used = connection.extended.as_ref().is_some_and(|extended| {
            extended.streams() > 0 || extended.held() > 0 || self.trains_with(&extended.node)
        });
        if !retiring.passed || used || connection.queued() > 0 {
            return false;
        }
        if let Some(peer) = self.peers.get_mut(&key) {
            peer.retiring = None;
        }
        self.abandon(Link::Open(retiring.connection));
        true
    }

    /// Leaves what goes on at an address beside the connection in use.
    pub(super) fn leave_address(&mut self, key: PeerKey, address: &str, reason: &str) {
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        let trial = peer.survey.trial.as_ref();
        let tried = trial.is_some_and(|trial| trial.address == address);
        let retiring = peer.retiring.as_ref();
        let retiring = retiring.filter(|retiring| retiring.address == address);
        let retiring = retiring.map(|retiring| retiring.connection);
        peer.survey.left.retain(|left| left != address);
        if tried {
            self.trial_failed(key);
        }
        if let Some(connection) = retiring {
            self.dropped(connection, reason.into());
        }
    }

    /// A connection that was to be closed soon is there still: it is the way again.
    pub(super) fn fall_back(&mut self, key: PeerKey) {
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        let Some(retiring) = peer.retiring.take() else {
            return;
        };
        let connection = self.connections.get(&retiring.connection);
        if connection.is_some_and(|connection| connection.extended.is_some()) {
            peer.data = Link::Open(retiring.connection);
            peer.address = retiring.address;
            peer.dialed_up = true;
            self.look_soon(key);
        }
    }
}

//! Keeping connections: dialling, writing, noticing that a peer is gone.

use super::connection::Connection;
use super::dial::Purpose;
use super::downloads::Told;
use super::extended::Extended;
use super::input::{LinkFault, Origin};
use super::output::{Event, Output};
use super::pace::Pace;
use super::peer::{Goodput, Link, Peer, PeerKey};
use super::serve::NOT_NEVER;
use super::violation::Violation;
use super::{Instant, Node};
use crate::id::{ConnectionId, NodeId};
use crate::topology::LinkMetrics;
use crate::wire::{Message, Notice};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::time::Duration;

impl Node {
    pub(super) fn opened(&mut self, id: ConnectionId, origin: Origin, remote: String) {
        let dialed = match origin {
            Origin::Accepted => None,
            Origin::Dialed(dial) => match self.dials.remove(&dial) {
                Some(Some(dialed)) => Some(dialed),
                // Nobody waits for it any more.
                Some(None) | None => {
                    let mut connection = Connection::new(remote, None);
                    connection.closing = true;
                    self.connections.insert(id, connection);
                    self.outputs.push_back(Output::Close { connection: id });
                    return;
                }
            },
        };
        let connection = Connection::new(remote, dialed.map(|dialed| dialed.peer));
        self.connections.insert(id, connection);
        if self.connections.len() > self.config.limits.connections && dialed.is_none() {
            let limit = self.config.limits.connections;
            self.refuse(id, format!("{limit} connections are open already"));
            return;
        }
        let Some(dialed) = dialed else { return };
        if let Some(peer) = self.peers.get_mut(&dialed.peer) {
            if let Some(link) = dialed.link(peer) {
                *link = Link::Open(id);
            }
            if dialed.purpose == Purpose::Trial {
                return self.trial_opened(dialed.peer, id);
            }
            peer.health_at = Instant::FAR_FUTURE;
        }
        // A connect proves nothing (a tunnel accepts whatever is behind it): ask.
        self.send(id, self.health_request());
    }

    pub(super) fn lost(&mut self, id: ConnectionId, fault: &LinkFault) {
        let Some(mut connection) = self.connections.remove(&id) else {
            return;
        };
        if connection.closing {
            return;
        }
        let tells = !self.is_trial(connection.peer, id);
        if let (LinkFault::Malformed(_) | LinkFault::Truncated, true) = (fault, tells) {
            self.tell(Event::ConnectionRefused {
                remote: connection.remote.clone(),
                node: connection.claims.clone(),
                reason: fault.to_string(),
            });
        }
        let extended = connection.extended.take();
        self.gone(id, connection.peer, extended, fault.to_string());
    }

    /// Gives a connection up that brings nothing any more.
    pub(super) fn dropped(&mut self, id: ConnectionId, reason: String) {
        let Some(connection) = self.connections.get(&id) else {
            return;
        };
        let peer = connection.peer;
        let extended = self.close(id);
        self.gone(id, peer, extended, reason);
    }

    /// A connection is no more: what it carried is lost, and its peer too unless there is another.
    fn gone(
        &mut self,
        id: ConnectionId,
        dialed: Option<PeerKey>,
        extended: Option<Extended>,
        reason: String,
    ) {
        if let Some(key) = dialed {
            let Some(peer) = self.peers.get(&key) else {
                return;
            };
            let retiring = peer.retiring.as_ref().map(|retiring| retiring.connection);
            if peer.data == Link::Open(id) || peer.probe == Link::Open(id) {
                self.links_lost(key, extended, reason);
            } else if peer.survey.tries(id) {
                self.trial_failed(key);
            } else if let (true, Some(extended)) = (retiring == Some(id), extended) {
                if let Some(peer) = self.peers.get_mut(&key) {
                    peer.retiring = None;
                }
                self.recall_view(key);
                self.streams_lost(id, &extended, &reason);
            }
            return;
        }
        let Some(extended) = extended else { return };
        let holder = self
            .peers
            .iter()
            .find(|(_, peer)| peer.inbound.contains(&id))
            .map(|(&key, _)| key);
        let Some(key) = holder else { return };
        if let Some(peer) = self.peers.get_mut(&key) {
            peer.inbound.retain(|inbound| *inbound != id);
        }
        self.judge(key);
        let lost = self.peers.get(&key);
        if lost.is_some_and(|peer| peer.up && self.route(peer).is_none()) {
            self.peer_down(key, &reason);
        }
        // What was lost is placed anew by what is known now.
        self.recall_view(key);
        self.streams_lost(id, &extended, &reason);
    }

    /// Closes a connection for what came over it, says so, and tells the peer if it understands.
    pub(super) fn violated(&mut self, id: ConnectionId, violation: &Violation) {
        self.notify(id, violation);
        self.refuse(id, violation.to_string());
    }

    /// The same for what was said before.
    pub(super) fn violated_again(&mut self, id: ConnectionId, violation: &Violation) {
        self.notify(id, violation);
        self.dropped(id, violation.to_string());
    }

    fn notify(&mut self, id: ConnectionId, violation: &Violation) {
        let Some(connection) = self.connections.get(&id) else {
            return;
        };
        if connection.closing {
            return;
        }
        let of_ours = matches!(violation, Violation::Duplicate(_) | Violation::Unfit(_));
        if connection.extended.is_some() || of_ours {
            let notice = Notice {
                code: violation.code(),
                text: violation.to_string(),
            };
            self.send(id, Message::Error(notice));
        }
    }

    /// Closes a connection for what came over it, and says so.
    pub(super) fn refuse(&mut self, id: ConnectionId, reason: String) {
        let Some(connection) = self.connections.get(&id) else {
            return;
        };
        if connection.closing {
            return;
        }
        // What is tried on the side is no trouble.
        if !self.is_trial(connection.peer, id) {
            self.tell(Event::ConnectionRefused {
                remote: connection.remote.clone(),
                node: connection.claims.clone(),
                reason: reason.clone(),
            });
        }
        self.dropped(id, reason);
    }

    /// Whether a connection belongs to a trial of this peer.
    pub(super) fn is_trial(&self, peer: Option<PeerKey>, id: ConnectionId) -> bool {
        let peer = peer.and_then(|key| self.peers.get(&key));
        peer.is_some_and(|peer| peer.survey.tries(id))
    }

    /// Has a connection closed; what the extension knew of it is handed out.
    pub(super) fn close(&mut self, id: ConnectionId) -> Option<Extended> {
        let connection = self.connections.get_mut(&id)?;
        if !connection.closing {
            connection.closing = true;
            self.outputs.push_back(Output::Close { connection: id });
        }
        connection.extended.take()
    }

    pub(super) fn expire_connections(&mut self) {
        let stall = self.config.timing.acknowledge;
        let late: Vec<(ConnectionId, &'static str)> = self
            .connections
            .iter()
            .filter_map(|(&id, connection)| Some((id, connection.overdue(self.now, stall)?)))
            .collect();
        for (id, reason) in late {
            self.refuse(id, reason.into());
        }
    }

    /// A peer cannot be reached where discovery says it is, or not any more.
    pub(super) fn peer_lost(&mut self, key: PeerKey, reason: String) {
        let data = self.peers.get(&key).and_then(|peer| peer.data.connection());
        let extended = data.and_then(|data| self.close(data));
        self.links_lost(key, extended, reason);
    }

    /// The same, when the connection is closed already; `extended` is what it carried.
    fn links_lost(&mut self, key: PeerKey, extended: Option<Extended>, reason: String) {
        let (now, timing) = (self.now, self.config.timing);
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        let (data, links) = (peer.data.connection(), [peer.data, peer.probe]);
        let address = peer.address.clone();
        let hearsay = peer.is_hearsay();
        let mut told = peer.told;
        match peer.current() {
            Some(entry) => {
                entry.failed(now, &timing, &mut self.rng);
                told |= core::mem::replace(&mut entry.told, true);
            }
            // It is not looked for there any more, and that is no trouble.
            None => told = true,
        }
        peer.data = Link::UNUSED;
        peer.probe = Link::UNUSED;
        peer.health_at = Instant::FAR_FUTURE;
        peer.topology_at = Instant::FAR_FUTURE;
        peer.dialed_up = false;
        for link in links {
            self.abandon(link);
        }
        self.end_trial(key);
        self.fall_back(key);
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        let (node, up) = (peer.node.clone(), peer.up);
        let stays = !peer.inbound.is_empty() || peer.dialed_up;
        peer.schedule();
        self.judge(key);
        if up && !stays {
            self.peer_down(key, &reason);
        } else if !up && !told && (!hearsay || self.is_worth_a_word(&address)) {
            self.tell(Event::PeerUnreachable {
                node,
                address: address.clone(),
                reason: reason.clone(),
            });
        }
        if let (Some(extended), Some(data)) = (extended, data) {
            self.recall_view(key);
            self.streams_lost(data, &extended, &reason);
        }
        if let Some(peer) = self.peers.get_mut(&key).filter(|_| hearsay && !stays) {
            // A stranger that does not answer announces itself again if it is one.
            peer.addresses.retain(|entry| entry.address != address);
            peer.schedule();
        }
        self.forget_if_bare(key);
    }

    /// No connection to a peer is left.
    fn peer_down(&mut self, key: PeerKey, reason: &str) {
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        peer.up = false;
        peer.rtt = None;
        peer.loaded = None;
        peer.pace = Pace::default();
        peer.goodput = Goodput::default();
        peer.padded = None;
        peer.link = LinkMetrics::default();
        peer.reply = None;
        peer.downloads = Told::default();
        peer.told = true;
        let node = peer
            .node
            .clone()
            .unwrap_or_else(|| peer.address.as_str().into());
        let address = peer.address.clone();
        self.unlearn(key);
        self.forget_if_bare(key);
        self.tell(Event::PeerDown {
            node: node.clone(),
            address,
            reason: reason.into(),
        });
        self.rebuild_topology();
        self.node_down(&node, reason);
    }

    /// What a reference node was called hangs on what it said; a node of ours is who it said it is.
    fn unlearn(&mut self, key: PeerKey) {
        let Some(peer) = self.peers.get(&key) else {
            return;
        };
        if peer
            .node
            .as_ref()
            .is_some_and(|node| self.run_of(node).is_some())
        {
            return;
        }
        let claimed = peer.claimed().cloned();
        let other = claimed.as_ref().and_then(|node| self.peer_of_node(node));
        let claimed = claimed.filter(|_| other.is_none_or(|other| other == key));
        if let Some(peer) = self.peers.get_mut(&key) {
            peer.node = claimed;
        }
    }

    /// The connection on which to tell `node` something.
    pub(super) fn connection_to(&self, node: &str) -> Option<ConnectionId> {
        let mut all = self.peers.values();
        let peer = all.find(|p| p.up && p.node.as_deref() == Some(node))?;
        self.route(peer)
    }

    /// The connection to a peer: the one that this node dialled, if it is what the peer is.
    pub(super) fn route(&self, peer: &Peer) -> Option<ConnectionId> {
        let dialed = peer.data.connection().filter(|_| peer.dialed_up);
        if !peer.own {
            return dialed;
        }
        let extended = dialed.filter(|id| self.is_extended(*id));
        // Of several of its own it wants the newest: it may be about to close the others.
        extended.or_else(|| peer.inbound.last().copied())
    }

    fn is_extended(&self, id: ConnectionId) -> bool {
        let connection = self.connections.get(&id);
        connection.is_some_and(|connection| connection.extended.is_some())
    }

    /// Finds out whether a peer speaks the extension on any connection that is left.
    fn judge(&mut self, key: PeerKey) {
        let Some(peer) = self.peers.get(&key) else {
            return;
        };
        let dialed = peer.data.connection().filter(|_| peer.dialed_up);
        let own = !peer.inbound.is_empty() || dialed.is_some_and(|id| self.is_extended(id));
        if let Some(peer) = self.peers.get_mut(&key) {
            peer.own = own;
        }
    }

    /// Whether `node` speaks the extension; this node does.
    pub(super) fn is_own(&self, node: &NodeId) -> bool {
        let known = |peer: &&Peer| peer.up && peer.node.as_ref() == Some(node);
        *node == self.config.node || self.peers.values().find(known).is_some_and(|p| p.own)
    }

    /// How long a node of ours may be silent on a connection before it is asked whether it is
    /// there.
    pub(super) fn probe_every(&self, connection: &Connection) -> Option<Duration> {
        let extended = connection.extended.as_ref()?;
        if connection.closing {
            return None;
        }
        let timing = self.config.timing;
        // All connections to a node are watched alike: a hang is noticed on all of them at once.
        let depends = |other: &Connection| {
            other.extended.as_ref().is_some_and(|other| {
                other.node == extended.node && (other.streams() > 0 || other.pulse.is_asking())
            })
        };
        let busy = self.connections.values().any(depends) || self.trains_with(&extended.node);
        Some(
            if busy {
                timing.probe_busy
            } else {
                timing.probe_idle
            }
            .max(NOT_NEVER),
        )
    }
}

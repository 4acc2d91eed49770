//! Keeping connections: dialling, writing, noticing that a peer is gone.

use super::connection::{Connection, Reply};
use super::input::{LinkFault, Origin};
use super::output::{Event, Output};
use super::peer::{Link, PeerKey};
use super::{Instant, Node};
use crate::id::{ConnectionId, DialId, NodeId};
use crate::wire::Message;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// What a dial is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Dialed {
    pub(super) peer: PeerKey,
    pub(super) probe: bool,
}

impl Node {
    /// Dials every peer that is due.
    pub(super) fn redial(&mut self) {
        let now = self.now;
        let due = |link: Link| matches!(link, Link::Idle(at) if at <= now);
        let data = self.peers.iter().filter(|(_, peer)| due(peer.data));
        let probes = self.peers.iter().filter(|(_, peer)| due(peer.probe));
        let all: Vec<Dialed> = data
            .map(|(&peer, _)| Dialed { peer, probe: false })
            .chain(probes.map(|(&peer, _)| Dialed { peer, probe: true }))
            .collect();
        for dialed in all {
            self.dial(dialed);
        }
    }

    pub(super) fn dial(&mut self, dialed: Dialed) {
        let dial = self.next_dial();
        let until = self.now + self.config.timing.dial_timeout;
        let Some(peer) = self.peers.get_mut(&dialed.peer) else {
            return;
        };
        let link = if dialed.probe {
            &mut peer.probe
        } else {
            &mut peer.data
        };
        *link = Link::Dialing(dial, until);
        let address = peer.address.clone();
        self.dials.insert(dial, Some(dialed));
        self.outputs.push_back(Output::Dial { dial, address });
    }

    /// Gives up dials that the driver has not answered in time; a late answer is hung up.
    pub(super) fn expire_dials(&mut self) {
        let now = self.now;
        let late = |link: Link| matches!(link, Link::Dialing(_, until) if until <= now);
        let peers: Vec<PeerKey> = self
            .peers
            .iter()
            .filter(|(_, peer)| late(peer.data) || late(peer.probe))
            .map(|(&key, _)| key)
            .collect();
        for key in peers {
            let seconds = self.config.timing.dial_timeout.as_secs();
            self.peer_lost(key, format!("no connection within {seconds} s"));
        }
    }

    pub(super) fn dial_failed(&mut self, dial: DialId, reason: String) {
        if let Some(Some(dialed)) = self.dials.remove(&dial) {
            self.peer_lost(dialed.peer, reason);
        }
    }

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
            let link = if dialed.probe {
                &mut peer.probe
            } else {
                &mut peer.data
            };
            *link = Link::Open(id);
            // A connect proves nothing (a tunnel accepts whatever is behind it): ask.
            peer.health_at = Instant::FAR_FUTURE;
        }
        self.send(id, self.health_request());
    }

    pub(super) fn lost(&mut self, id: ConnectionId, fault: &LinkFault) {
        let Some(connection) = self.connections.remove(&id) else {
            return;
        };
        if connection.closing {
            return;
        }
        if let LinkFault::Malformed(_) | LinkFault::Truncated = fault {
            self.tell(Event::ConnectionRefused {
                remote: connection.remote.clone(),
                node: connection.claims.clone(),
                reason: fault.to_string(),
            });
        }
        let Some(key) = connection.peer else {
            if let Some(node) = connection.claims {
                self.return_path_lost(&node, fault);
            }
            return;
        };
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        if peer.data == Link::Open(id) || peer.probe == Link::Open(id) {
            self.peer_lost(key, fault.to_string());
        }
    }

    /// The connection is gone over which a node of ours told this one its tokens and tensors: what
    /// was under way is lost, and the node has given up the requests that needed it.
    fn return_path_lost(&mut self, node: &NodeId, fault: &LinkFault) {
        let mut others = self.connections.values();
        if !others.any(|other| other.peer.is_none() && other.claims.as_ref() == Some(node)) {
            self.member_lost(node, &fault.to_string());
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
        let (remote, node) = (connection.remote.clone(), connection.claims.clone());
        let peer = connection.peer;
        self.tell(Event::ConnectionRefused {
            remote,
            node,
            reason: reason.clone(),
        });
        self.close(id);
        if let Some(key) = peer {
            self.peer_lost(key, reason);
        }
    }

    fn close(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        if !connection.closing {
            connection.closing = true;
            self.outputs.push_back(Output::Close { connection: id });
        }
    }

    pub(super) fn progress(&mut self, id: ConnectionId) {
        let stalls_at = self.now + self.config.timing.frame_stall;
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.stalls_at = Some(stalls_at);
        }
    }

    /// Queues a message and hands the driver what its window takes.
    pub(super) fn send(&mut self, id: ConnectionId, message: Message) {
        let limit = self.config.limits.outbox;
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        if connection.closing {
            return;
        }
        if connection.push(message, limit).is_err() {
            self.refuse(id, format!("{limit} messages wait for it already"));
            return;
        }
        self.flush(id);
    }

    fn flush(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        while let Some(message) = connection.next(self.now, self.config.limits.window) {
            self.outputs.push_back(Output::Send {
                connection: id,
                message,
            });
        }
    }

    pub(super) fn sent(&mut self, id: ConnectionId, bytes: usize) {
        let timing = self.config.timing;
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let patience = |reply| match reply {
            Reply::Health | Reply::Topology => timing.health_timeout,
            Reply::Tensor => timing.acknowledge,
        };
        let tensor = connection.sent(self.now, patience) == Some(Reply::Tensor);
        if let Some(peer) = connection.peer.and_then(|key| self.peers.get_mut(&key))
            && tensor
        {
            peer.hops.bytes = peer.hops.bytes.saturating_add(bytes as u64);
        }
        self.flush(id);
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

    /// A peer cannot be reached, or not any more.
    pub(super) fn peer_lost(&mut self, key: PeerKey, reason: String) {
        let (now, timing) = (self.now, self.config.timing);
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        let links = [peer.data, peer.probe];
        let redial = peer.redial_after_failure(now, &timing, &mut self.rng);
        peer.data = Link::Idle(redial);
        peer.probe = Link::UNUSED;
        peer.health_at = Instant::FAR_FUTURE;
        peer.topology_at = Instant::FAR_FUTURE;
        peer.rtt = None;
        peer.reply = None;
        let was_up = core::mem::take(&mut peer.up);
        let told = core::mem::replace(&mut peer.told, true);
        let (node, address) = (peer.node.clone(), peer.address.clone());
        peer.node.clone_from(&peer.expected);
        for link in links {
            match link {
                Link::Open(connection) => self.close(connection),
                Link::Dialing(dial, _) => {
                    if let Some(dialed) = self.dials.get_mut(&dial) {
                        *dialed = None;
                    }
                }
                Link::Idle(_) => {}
            }
        }
        match node {
            Some(node) if was_up => {
                let reason_told = reason.clone();
                self.tell(Event::PeerDown {
                    node: node.clone(),
                    address,
                    reason: reason_told,
                });
                self.rebuild_topology();
                self.member_lost(&node, &reason);
            }
            node if !told => self.tell(Event::PeerUnreachable {
                node,
                address,
                reason,
            }),
            _ => {}
        }
    }

    /// Forgets a peer that discovery names no longer.
    pub(super) fn remove_peer(&mut self, key: PeerKey, reason: &str) {
        self.peer_lost(key, reason.into());
        self.peers.remove(&key);
    }

    /// The connection on which to tell `node` something.
    pub(super) fn connection_to(&self, node: &str) -> Option<ConnectionId> {
        let peer = self
            .peers
            .values()
            .find(|p| p.up && p.node.as_deref() == Some(node))?;
        peer.data.connection()
    }
}

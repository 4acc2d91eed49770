//! The one way in for all discovery: whoever names a peer says so here, and takes it back here.
//!
//! There are two kinds of sources. A list (a file, the command line, the application) counts until
//! another one takes its place. An announcement counts for a while and is renewed by the next; it
//! comes from strangers, and nothing is believed of it but where to knock.

use super::Node;
use super::address::{Address, Name};
use super::output::Event;
use super::peer::{Link, Peer, PeerKey};
use crate::config::COMMAND;
use crate::id::NodeId;
use crate::topology::Capabilities;
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// Who named an address.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Source {
    /// The discovery file.
    Manual,
    /// The command line.
    Direct,
    /// A broadcast.
    Udp,
    /// An announcement over TCP.
    Tcp,
    /// The application, under this label, such as `tailscale`.
    Application(String),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Manual => "manual",
            Self::Direct => "direct",
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::Application(label) => label,
        })
    }
}

/// A peer that the application names ([`Command::Discovered`](super::Command::Discovered)).
#[derive(Clone, Debug, PartialEq)]
pub struct Discovered {
    /// Its id; learned from the peer when absent.
    pub node: Option<NodeId>,
    /// `host:port`, an IPv6 address in brackets.
    pub address: String,
    /// The label of the edge to it.
    pub description: String,
    /// What to assume of the machine until the peer has told.
    pub capabilities: Option<Capabilities>,
}

/// An address at which somebody says that a peer is.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) source: Source,
    /// Its id, if the source knows it.
    pub(super) node: Option<NodeId>,
    /// `host:port`.
    pub(super) address: String,
    /// The label of the edge to it.
    pub(super) description: String,
    /// What to assume of the machine until the peer has told.
    pub(super) capabilities: Option<Capabilities>,
    /// How good the way is, of an announcement; `None` if it is of a list.
    pub(super) priority: Option<i64>,
}

impl Found {
    /// An entry of a list.
    pub(super) fn listed(source: Source, peer: Discovered) -> Self {
        Self {
            source,
            node: peer.node,
            address: peer.address,
            description: peer.description,
            capabilities: peer.capabilities,
            priority: None,
        }
    }
}

impl Node {
    /// A source names an address, for the first time or again. It becomes one of the addresses of
    /// its node; what works is not disturbed by it.
    pub(super) fn found(&mut self, found: Found) {
        if found.node.as_ref() == Some(&self.config.node) {
            return;
        }
        // What is started here is said by whoever started this node, and nobody else.
        if found.address.starts_with(COMMAND) && found.source != Source::Direct {
            return;
        }
        let announced = found.priority.is_some();
        let node = found.node.clone();
        let (address, name) = Name::new(found, self.now);
        let named = node.as_ref().and_then(|node| self.peer_of_node(node));
        let there = self.peer_at(&address);
        let known = |key: &PeerKey| {
            let peer = self.peers.get(key);
            peer.is_some_and(|peer| peer.entry(&address).is_some())
        };
        if let Some(key) = named.filter(known) {
            return self.name(key, &address, name);
        }
        match there {
            // Somebody else is there for certain, or nobody says who.
            Some((key, verified)) if verified || node.is_none() => {
                if announced && node.is_some() {
                    self.look_soon(key);
                } else {
                    self.name(key, &address, name);
                }
            }
            Some((key, _)) if named.is_none() && self.is_nameless(key) => {
                if let Some(peer) = self.peers.get_mut(&key) {
                    peer.node = node;
                }
                self.name(key, &address, name);
            }
            _ => self.add_address(named, node, Address::new(address, name, self.now)),
        }
    }

    fn name(&mut self, key: PeerKey, address: &str, name: Name) {
        let peer = self.peers.get_mut(&key);
        if let Some(entry) = peer.and_then(|peer| peer.entry_mut(address)) {
            entry.name(name);
        }
    }

    fn is_nameless(&self, key: PeerKey) -> bool {
        self.peers.get(&key).is_some_and(|peer| peer.node.is_none())
    }

    /// A new address of a peer that is known, or of a new one.
    fn add_address(&mut self, known: Option<PeerKey>, node: Option<NodeId>, address: Address) {
        let limits = self.config.limits;
        if let Some(key) = known {
            let Some(peer) = self.peers.get_mut(&key) else {
                return;
            };
            if peer.keep(address, limits.addresses) {
                peer.schedule();
                self.look_soon(key);
            }
            return;
        }
        let newcomers = || self.peers.values().filter(|peer| peer.is_hearsay()).count();
        let full = address.is_announced() && newcomers() >= limits.newcomers;
        if self.peers.len() < limits.peers && !full {
            self.add_peer(Peer::new(node, address));
        }
    }

    /// A list of a source takes the place of its last one: what is not in it is named no more.
    pub(super) fn list(&mut self, source: &Source, peers: Vec<Discovered>, reason: &str) {
        let wanted: BTreeSet<(Option<&NodeId>, &str)> = peers
            .iter()
            .map(|peer| (peer.node.as_ref(), peer.address.as_str()))
            .collect();
        let mut bare = Vec::new();
        for (&key, peer) in &mut self.peers {
            for entry in &mut peer.addresses {
                let address = entry.address.as_str();
                entry.names.retain(|name| {
                    name.source != *source || wanted.contains(&(name.node.as_ref(), address))
                });
                if entry.names.is_empty() {
                    bare.push((key, entry.address.clone()));
                }
            }
        }
        for (key, address) in bare {
            self.drop_address(key, &address, reason);
        }
        for peer in peers {
            self.found(Found::listed(source.clone(), peer));
        }
    }

    /// The application has a list of peers.
    pub(super) fn discovered(&mut self, source: String, peers: Vec<Discovered>) {
        let (got, limit) = (peers.len(), self.config.limits.peers);
        if got > limit {
            let reason = format!("{source} names {got} peers, at most {limit} are allowed");
            self.tell(Event::DiscoveryRejected { reason });
            return;
        }
        let reason = format!("{source} does not name it at this address any more");
        self.list(&Source::Application(source), peers, &reason);
    }

    /// Forgets addresses that were not announced for too long, but for those that are in use.
    pub(super) fn forget_silent(&mut self) {
        let (now, timeout) = (self.now, self.config.timing.announce_timeout);
        let mut silent = Vec::new();
        for (&key, peer) in &self.peers {
            for entry in &peer.addresses {
                let late = entry.heard().is_some_and(|heard| heard + timeout <= now);
                if late && !(peer.dialed_up && peer.uses(&entry.address)) {
                    silent.push((key, entry.address.clone()));
                }
            }
        }
        for (key, address) in silent {
            self.drop_address(key, &address, "it announces itself no longer");
        }
    }

    /// Forgets an address of a peer, and the peer if nothing is left of it.
    fn drop_address(&mut self, key: PeerKey, address: &str, reason: &str) {
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        let used = peer.uses(address);
        peer.addresses.retain(|entry| entry.address != address);
        self.leave_address(key, address, reason);
        if used {
            self.peer_lost(key, reason.into());
        }
        if let Some(peer) = self.peers.get_mut(&key) {
            peer.schedule();
        }
        self.forget_if_bare(key);
    }

    /// A peer that nobody names and that is not there is none.
    pub(super) fn forget_if_bare(&mut self, key: PeerKey) {
        let bare = |peer: &Peer| {
            peer.addresses.is_empty() && !peer.up && matches!(peer.data, Link::Idle(_))
        };
        if self.peers.get(&key).is_some_and(bare) {
            self.peers.remove(&key);
        }
    }

    /// An address of a peer turns out to lead to another node. Gives the peer that it belongs to
    /// now, if there is room for it.
    pub(super) fn relocate(
        &mut self,
        from: PeerKey,
        address: &str,
        to: &NodeId,
    ) -> Option<PeerKey> {
        let (limits, now) = (self.config.limits, self.now);
        let peer = self.peers.get_mut(&from)?;
        let at = peer.addresses.iter().position(|a| a.address == address)?;
        let mut entry = peer.addresses.remove(at);
        peer.schedule();
        entry.succeeded();
        entry.again = now;
        self.forget_if_bare(from);
        let Some(key) = self.peer_of_node(to) else {
            let room = self.peers.len() < limits.peers;
            return room.then(|| self.add_peer(Peer::new(Some(to.clone()), entry)));
        };
        let peer = self.peers.get_mut(&key)?;
        match peer.entry_mut(address) {
            Some(known) => {
                entry.names.into_iter().for_each(|name| known.name(name));
                known.succeeded();
            }
            None => {
                peer.keep(entry, limits.addresses);
            }
        }
        peer.schedule();
        self.look_soon(key);
        Some(key)
    }

    pub(super) fn peer_of_node(&self, node: &str) -> Option<PeerKey> {
        let is_it = |(_, peer): &(&PeerKey, &Peer)| peer.node.as_deref() == Some(node);
        self.peers.iter().find(is_it).map(|(&key, _)| key)
    }

    /// Whose address this is, and whether that is certain.
    fn peer_at(&self, address: &str) -> Option<(PeerKey, bool)> {
        let here = |(&key, peer): (&PeerKey, &Peer)| Some((key, peer.entry(address)?.verified));
        let all = self.peers.iter().filter_map(here);
        all.max_by_key(|(_, verified)| *verified)
    }

    pub(super) fn add_peer(&mut self, peer: Peer) -> PeerKey {
        self.last_peer += 1;
        let key = PeerKey(self.last_peer);
        self.peers.insert(key, peer);
        key
    }
}

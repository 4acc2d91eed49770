//! The one way in for all discovery: whoever names a peer says so here, and takes it back here.
//!
//! There are two kinds of sources. A list (a file, the command line, the application) counts until
//! another one takes its place. An announcement counts for a while and is renewed by the next; it
//! comes from strangers, and nothing is believed of it but where to knock.

use super::Node;
use super::output::Event;
use super::peer::{Heard, Peer, PeerKey};
use crate::config::COMMAND;
use crate::id::NodeId;
use crate::topology::Capabilities;
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
    /// A source names an address, for the first time or again.
    pub(super) fn found(&mut self, found: Found) {
        if found.node.as_ref() == Some(&self.config.node) {
            return;
        }
        // What is started here is said by whoever started this node, and nobody else.
        if found.address.starts_with(COMMAND) && found.source != Source::Direct {
            return;
        }
        match found.priority {
            None => self.found_in_list(found),
            Some(priority) => self.found_announced(found, priority),
        }
    }

    fn found_in_list(&mut self, found: Found) {
        let known = self.peers.values_mut().find(|known| {
            known.source.as_ref() == Some(&found.source)
                && known.expected == found.node
                && known.address == found.address
        });
        if let Some(known) = known {
            known.configured = found.capabilities;
            return;
        }
        if self.peers.len() < self.config.limits.peers {
            self.add_peer(Peer::new(found, self.now));
        }
    }

    fn found_announced(&mut self, found: Found, priority: i64) {
        let heard = Some(Heard {
            at: self.now,
            priority,
        });
        let is_it =
            |peer: &Peer| peer.node.as_ref().or(peer.expected.as_ref()) == found.node.as_ref();
        if let Some(known) = self
            .peers
            .values_mut()
            .find(|peer| peer.heard.is_some() && peer.address == found.address && is_it(peer))
        {
            known.heard = heard;
            return;
        }
        // Reached already, or named in a list, which knows better; or there is a better way.
        let settled = |peer: &Peer| {
            is_it(peer)
                && match peer.heard {
                    Some(before) => peer.up || before.priority >= priority,
                    None => true,
                }
        };
        if self.peers.values().any(settled) {
            return;
        }
        for key in self.peers_where(is_it) {
            // That it is not tried any more is no trouble.
            if let Some(peer) = self.peers.get_mut(&key) {
                peer.told = true;
            }
            self.remove_peer(key, "it announced itself at a better address");
        }
        let limits = self.config.limits;
        let newcomers = self.peers.values().filter(|p| p.heard.is_some() && !p.up);
        if newcomers.count() < limits.newcomers && self.peers.len() < limits.peers {
            let mut peer = Peer::new(found, self.now);
            peer.heard = heard;
            self.add_peer(peer);
        }
    }

    /// A list of a source takes the place of its last one: what is not in it is named no more.
    pub(super) fn list(&mut self, source: &Source, peers: Vec<Discovered>, reason: &str) {
        let gone = self.peers_where(|peer| {
            let same = |wanted: &Discovered| {
                peer.expected == wanted.node && peer.address == wanted.address
            };
            peer.source.as_ref() == Some(source) && !peers.iter().any(same)
        });
        for key in gone {
            self.remove_peer(key, reason);
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

    /// Forgets who announced itself, cannot be reached, and was not heard for too long.
    pub(super) fn forget_silent(&mut self) {
        let (now, timeout) = (self.now, self.config.timing.announce_timeout);
        let silent = |peer: &Peer| peer.heard.is_some_and(|heard| heard.at + timeout <= now);
        for key in self.peers_where(|peer| silent(peer) && !peer.up) {
            self.remove_peer(key, "it announces itself no longer");
        }
    }

    fn peers_where(&self, test: impl Fn(&Peer) -> bool) -> Vec<PeerKey> {
        let all = self.peers.iter().filter(|(_, peer)| test(peer));
        all.map(|(&key, _)| key).collect()
    }

    pub(super) fn add_peer(&mut self, peer: Peer) -> PeerKey {
        self.last_peer += 1;
        let key = PeerKey(self.last_peer);
        self.peers.insert(key, peer);
        key
    }
}

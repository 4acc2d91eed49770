//! From what discovery says to the list of peers.

use super::find::{Discovered, Found, Source};
use super::output::{Event, Output};
use super::{Instant, Node};
use crate::config::{COMMAND, DirectPeer};
use crate::discovery::manual::{self, ManualPeer};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use bytes::Bytes;

/// The discovery file.
#[derive(Debug)]
pub(super) struct File {
    /// What was read last, good or bad: the same bytes need no second look.
    pub(super) content: Option<Result<Bytes, String>>,
    /// When to read it again.
    pub(super) read_at: Instant,
}

impl Node {
    pub(super) fn add_direct_peers(&mut self, peers: Vec<DirectPeer>) {
        for peer in peers {
            let description = match peer.address.rsplit_once(':') {
                _ if peer.address.starts_with(COMMAND) => String::from("COMMAND"),
                Some((host, _)) => format!("DIRECT ({host})"),
                None => format!("DIRECT ({})", peer.address),
            };
            let peer = Discovered {
                node: peer.node,
                address: peer.address,
                description,
                capabilities: None,
            };
            self.found(Found::listed(Source::Direct, peer));
        }
    }

    pub(super) fn read_discovery_file(&mut self) {
        // Until the driver answers; it always does.
        self.file.read_at = Instant::FAR_FUTURE;
        self.outputs.push_back(Output::ReadDiscoveryFile);
    }

    pub(super) fn discovery_file(&mut self, content: Result<Bytes, String>) {
        self.file.read_at = self.now + self.config.timing.discovery_every;
        if self.file.content.as_ref() == Some(&content) {
            return;
        }
        self.file.content = Some(content.clone());
        let parsed = content.and_then(|bytes| manual::parse(&bytes).map_err(|e| e.to_string()));
        match parsed {
            Ok(peers) if peers.len() > self.config.limits.peers => {
                let (got, limit) = (peers.len(), self.config.limits.peers);
                let reason = format!("it names {got} peers, at most {limit} are allowed");
                self.tell(Event::DiscoveryRejected { reason });
            }
            Ok(peers) => self.set_manual_peers(peers),
            Err(reason) => self.tell(Event::DiscoveryRejected { reason }),
        }
    }

    fn set_manual_peers(&mut self, peers: Vec<ManualPeer>) {
        let peer = |peer: ManualPeer| Discovered {
            node: Some(peer.id),
            address: peer.address,
            description: "MAN".into(),
            capabilities: peer.capabilities,
        };
        let peers = peers.into_iter().map(peer).collect();
        let reason = "the discovery file does not name it at this address";
        self.list(&Source::Manual, peers, reason);
    }
}

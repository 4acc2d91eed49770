//! Whether a peer that speaks the base protocol alone is there. Those of our own are watched by
//! their pulse.

use super::output::Event;
use super::peer::{Link, PeerKey};
use super::{Instant, Node};
use alloc::string::String;
use alloc::vec::Vec;

impl Node {
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
            // It computes before it reads on, so it is asked on another connection.
            match peer.probe {
                Link::Open(connection) => self.send(connection, self.health_request()),
                Link::Idle(_) => self.dial_probe(key),
                Link::Dialing(..) => {}
            }
        }
    }

    /// A peer answered a health check without introducing itself.
    pub(super) fn healthy(&mut self, key: PeerKey, asked: Instant) {
        let now = self.now;
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        // Its like may have come by itself and introduced itself.
        peer.own = !peer.inbound.is_empty();
        peer.dialed_up = true;
        peer.rtt = Some(now.saturating_since(asked));
        peer.health_at = now + self.config.timing.health_every;
        peer.told = false;
        if let Some(entry) = peer.current() {
            entry.succeeded();
        }
        let came_up = !peer.up;
        if came_up {
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
            self.look_soon(key);
            self.tell_newcomer(key);
        }
        self.note_pace(key, now.saturating_since(asked));
    }

    /// A peer says that it is not well.
    pub(super) fn unhealthy(&mut self, key: PeerKey) {
        self.peer_lost(key, String::from("it says that it is not healthy"));
    }
}

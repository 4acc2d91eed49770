//! Frames and bytes that go to peers and come from them.

use super::Node;
use super::status::Traffic;
use crate::id::ConnectionId;

impl Node {
    /// A frame came.
    pub(super) fn count_received(&mut self, on: ConnectionId, bytes: usize) {
        self.count(on, |traffic| {
            traffic.received_frames = traffic.received_frames.saturating_add(1);
            traffic.received_bytes = traffic.received_bytes.saturating_add(bytes as u64);
        });
    }

    /// A frame was written.
    pub(super) fn count_sent(&mut self, on: ConnectionId, bytes: usize) {
        self.count(on, |traffic| {
            traffic.sent_frames = traffic.sent_frames.saturating_add(1);
            traffic.sent_bytes = traffic.sent_bytes.saturating_add(bytes as u64);
        });
    }

    /// What is said before anybody knows whose connection it is counts for nobody.
    fn count(&mut self, on: ConnectionId, add: impl FnOnce(&mut Traffic)) {
        let Some(connection) = self.connections.get(&on) else {
            return;
        };
        let mut holder = connection.peer.or(connection.holder);
        if holder.is_none() {
            // Looked for once: it is known from then on, also while the connection is closed.
            holder = self.peer_of(on);
            if let Some(connection) = self.connections.get_mut(&on) {
                connection.holder = holder;
            }
        }
        if let Some(peer) = holder.and_then(|key| self.peers.get_mut(&key)) {
            add(&mut peer.traffic);
        }
    }
}

//! Who fetches what: nodes tell each other how far their downloads are.
//!
//! Only for people. The application tells the node as often as it likes, the node its peers now and
//! then, reference nodes included, which do the same. Nothing is decided by it, and what a peer
//! says is forgotten when the peer goes or does not say it again.

use super::Node;
use super::peer::PeerKey;
use crate::id::{ConnectionId, NodeId};
use crate::time::Instant;
use crate::wire::{Download, Message};
use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

/// Downloads that one node tells of, or is remembered to have told of.
const MOST: usize = 32;

/// Between two words on the same download.
const EVERY: Duration = Duration::from_secs(1);

/// A download that goes no further is told of again after so long.
const AGAIN: Duration = Duration::from_secs(10);

/// One that was not told of for so long is forgotten: the reference has no word for one that
/// failed.
const FORGOTTEN: Duration = Duration::from_secs(45);

/// The downloads of this node that are under way.
#[derive(Debug, Default)]
pub(super) struct Downloads(Vec<Own>);

#[derive(Debug)]
struct Own {
    download: Download,
    told: Instant,
    /// It went on since then.
    news: bool,
}

impl Own {
    fn due(&self) -> Instant {
        self.told + if self.news { EVERY } else { AGAIN }
    }
}

impl Downloads {
    /// When one of them is to be told of.
    pub(super) fn due(&self) -> Instant {
        let due = self.0.iter().map(Own::due).min();
        due.unwrap_or(Instant::FAR_FUTURE)
    }

    /// All of them.
    pub(super) fn list(&self) -> Vec<Download> {
        self.0.iter().map(|own| own.download.clone()).collect()
    }
}

/// The downloads of a peer, with when it told of them.
#[derive(Debug, Default)]
pub(super) struct Told(VecDeque<(Instant, Download)>);

impl Told {
    /// The peer said this.
    fn take(&mut self, now: Instant, download: Download) {
        self.0.retain(|(_, known)| known.shard != download.shard);
        if self.0.len() >= MOST {
            let over = self.0.iter().position(|(_, known)| known.is_over());
            self.0.remove(over.unwrap_or(0));
        }
        self.0.push_back((now, download));
    }

    /// What it said, the newest last.
    pub(super) fn list(&self, now: Instant) -> Vec<Download> {
        let holds = |(at, download): &&(Instant, Download)| {
            download.is_over() || now.saturating_since(*at) < FORGOTTEN
        };
        let told = self.0.iter().filter(holds);
        told.map(|(_, download)| download.clone()).collect()
    }
}

impl Node {
    /// The application says how far a download of this node is.
    pub(super) fn downloading(&mut self, download: Download) {
        let own = &mut self.downloads.0;
        let known = own
            .iter()
            .position(|own| own.download.shard == download.shard);
        if download.is_over() {
            known.map(|at| own.remove(at));
        } else if let Some(own) = known.and_then(|at| own.get_mut(at)) {
            own.news |= own.download != download;
            own.download = download;
            return;
        } else if own.len() < MOST {
            own.push(Own {
                download: download.clone(),
                told: self.now,
                news: false,
            });
        } else {
            return;
        }
        self.tell_of(&download, self.told_of());
    }

    /// Tells of what is due.
    pub(super) fn tell_downloads(&mut self) {
        let now = self.now;
        let due = self.downloads.0.iter_mut().filter(|own| own.due() <= now);
        let due = due.map(|own| {
            own.told = now;
            own.news = false;
            own.download.clone()
        });
        for download in due.collect::<Vec<_>>() {
            self.tell_of(&download, self.told_of());
        }
    }

    /// A peer has come up: it hears of all that is under way.
    pub(super) fn tell_newcomer(&mut self, key: PeerKey) {
        let peer = self.peers.get(&key);
        let Some(route) = peer.and_then(|peer| self.route(peer)) else {
            return;
        };
        for download in self.downloads.list() {
            self.tell_of(&download, alloc::vec![route]);
        }
    }

    /// Connections to all peers that are up.
    fn told_of(&self) -> Vec<ConnectionId> {
        let up = self.peers.values().filter(|peer| peer.up);
        up.filter_map(|peer| self.route(peer)).collect()
    }

    fn tell_of(&mut self, download: &Download, routes: Vec<ConnectionId>) {
        if routes.is_empty() {
            return;
        }
        let status = download.to_status(&self.config.node);
        for route in routes {
            self.send(
                route,
                Message::SendOpaqueStatus {
                    request_id: Some(String::new()),
                    status: status.clone(),
                },
            );
        }
    }

    /// A peer told something that is for people. Which of its connections a reference peer uses is
    /// not known, so it is taken at its word who it is.
    pub(super) fn opaque_came(&mut self, from: ConnectionId, status: &str) {
        let Some((node, download)) = Download::from_status(status) else {
            return;
        };
        let sender: Option<NodeId> = self.extended(from).map(|extended| extended.node.clone());
        let own = sender.is_some();
        if sender.is_some_and(|sender| sender != node) {
            return;
        }
        let now = self.now;
        let key = self.peer_of_node(&node);
        let peer = key.and_then(|key| self.peers.get_mut(&key));
        if let Some(peer) = peer.filter(|peer| peer.up && peer.own == own) {
            peer.downloads.take(now, download);
        }
    }
}

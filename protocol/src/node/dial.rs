//! Dialling: whom, where, and for what.

use super::Node;
use super::output::Output;
use super::peer::{Link, Peer, PeerKey};
use crate::id::DialId;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// A dial that is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Dialed {
    pub(super) peer: PeerKey,
    pub(super) purpose: Purpose,
}

/// What a dial is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// The link to the peer.
    Data,
    /// The health link to a reference peer.
    Probe,
    /// An address that is tried on the side.
    Trial,
}

impl Dialed {
    /// The link of its peer that is dialled.
    pub(super) fn link(self, peer: &mut Peer) -> Option<&mut Link> {
        match self.purpose {
            Purpose::Data => Some(&mut peer.data),
            Purpose::Probe => Some(&mut peer.probe),
            Purpose::Trial => peer.survey.trial.as_mut().map(|trial| &mut trial.link),
        }
    }
}

impl Node {
    /// Dials every peer that is due.
    pub(super) fn redial(&mut self) {
        let now = self.now;
        let due = |link: Link| matches!(link, Link::Idle(at) if at <= now);
        let data = self.peers.iter().filter(|(_, peer)| due(peer.data));
        let probes = self.peers.iter().filter(|(_, peer)| due(peer.probe));
        let data = data.map(|(&peer, _)| (peer, Purpose::Data));
        let probes = probes.map(|(&peer, _)| (peer, Purpose::Probe));
        for (peer, purpose) in data.chain(probes).collect::<Vec<_>>() {
            self.dial(Dialed { peer, purpose });
        }
    }

    pub(super) fn dial(&mut self, dialed: Dialed) {
        let (dial, now) = (self.next_dial(), self.now);
        let until = now + self.config.timing.dial_timeout;
        let Some(peer) = self.peers.get_mut(&dialed.peer) else {
            return;
        };
        if dialed.purpose == Purpose::Data {
            let Some(best) = peer.best_due(now).map(|entry| entry.address.clone()) else {
                return peer.schedule();
            };
            peer.address = best;
        }
        let address = match (dialed.purpose, &peer.survey.trial) {
            (Purpose::Trial, Some(trial)) => trial.address.clone(),
            _ => peer.address.clone(),
        };
        if let Some(link) = dialed.link(peer) {
            *link = Link::Dialing(dial, until);
            self.dials.insert(dial, Some(dialed));
            self.outputs.push_back(Output::Dial { dial, address });
        }
    }

    /// Gives up dials that the driver has not answered in time; a late answer is hung up.
    pub(super) fn expire_dials(&mut self) {
        let now = self.now;
        let late = |link: Link| matches!(link, Link::Dialing(_, until) if until <= now);
        let keys: Vec<PeerKey> = self.peers.keys().copied().collect();
        for key in keys {
            let Some(peer) = self.peers.get(&key) else {
                continue;
            };
            if peer.survey.dial_until() <= now {
                self.trial_failed(key);
            } else if late(peer.data) || late(peer.probe) {
                let seconds = self.config.timing.dial_timeout.as_secs();
                self.peer_lost(key, format!("no connection within {seconds} s"));
            }
        }
    }

    pub(super) fn dial_failed(&mut self, dial: DialId, reason: String) {
        match self.dials.remove(&dial) {
            Some(Some(dialed)) if dialed.purpose == Purpose::Trial => {
                self.trial_failed(dialed.peer);
            }
            Some(Some(dialed)) => self.peer_lost(dialed.peer, reason),
            Some(None) | None => {}
        }
    }

    /// Wants nothing more of a link.
    pub(super) fn abandon(&mut self, link: Link) {
        match link {
            Link::Open(connection) => {
                self.close(connection);
            }
            Link::Dialing(dial, _) => {
                if let Some(dialed) = self.dials.get_mut(&dial) {
                    *dialed = None;
                }
            }
            Link::Idle(_) => {}
        }
    }
}

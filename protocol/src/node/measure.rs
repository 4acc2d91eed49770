//! Of several ways to a peer the best: each is tried on the side, now and then, and measured.
//!
//! A trial is a connection of its own that asks who is there and then a few times whether it is
//! well. It is no way to the peer: nothing else goes over it, and whatever comes of it, what works
//! goes on. A peer with one address is never tried, and the longer nothing changes, the less often
//! the others are.

use super::Node;
use super::address::{Address, Way, median};
use super::dial::{Dialed, Purpose};
use super::peer::{Link, Peer, PeerKey};
use crate::id::{ConnectionId, NodeId};
use crate::time::Instant;
use crate::wire::{Hello, Message, TopologyReply};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

/// Round trips of a trial, after a first one that does not count: whatever was asleep is awake.
const TRIPS: usize = 5;

/// From an occasion to the trials, and between trials that wait for their turn.
const SOON: Duration = Duration::from_secs(1);

/// How the addresses of a peer are measured.
#[derive(Debug)]
pub(super) struct Survey {
    /// When the next round begins, or goes on.
    pub(super) at: Instant,
    /// Between this round and the next.
    every: Duration,
    /// To be measured in this round.
    pub(super) left: Vec<String>,
    /// Measured in this round.
    measured: Vec<(String, Duration)>,
    pub(super) trial: Option<Trial>,
}

/// An address that is tried on the side.
#[derive(Debug)]
pub(super) struct Trial {
    pub(super) address: String,
    pub(super) link: Link,
    pub(super) goal: Goal,
    /// Who is there has been found out.
    known: bool,
    trips: Vec<Duration>,
}

/// What a trial is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Goal {
    /// To measure the way.
    Measure,
    /// To become the way, for this reason.
    Move(String),
}

impl Default for Survey {
    fn default() -> Self {
        Self {
            at: Instant::FAR_FUTURE,
            every: Duration::ZERO,
            left: Vec::new(),
            measured: Vec::new(),
            trial: None,
        }
    }
}

impl Survey {
    /// Whether a trial goes on over this connection.
    pub(super) fn tries(&self, id: ConnectionId) -> bool {
        let link = self.trial.as_ref().map(|trial| trial.link);
        link == Some(Link::Open(id))
    }

    /// When the driver must have answered a trial's dial.
    pub(super) fn dial_until(&self) -> Instant {
        match self.trial.as_ref().map(|trial| trial.link) {
            Some(Link::Dialing(_, until)) => until,
            _ => Instant::FAR_FUTURE,
        }
    }
}

impl Node {
    /// An occasion to measure the addresses of a peer, if it has several.
    pub(super) fn look_soon(&mut self, key: PeerKey) {
        let jitter = self.rng.below(500);
        let (now, every) = (self.now, self.config.timing.measure_every);
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        if peer.dialed_up && peer.addresses.len() > 1 {
            let soon = now + SOON + Duration::from_millis(jitter);
            peer.survey.at = peer.survey.at.min(soon);
            peer.survey.every = every;
        }
    }

    /// Begins rounds that are due, and goes on with those that waited for their turn.
    pub(super) fn survey(&mut self) {
        let now = self.now;
        let due = self.peers.iter().filter(|(_, peer)| peer.survey.at <= now);
        for key in due.map(|(&key, _)| key).collect::<Vec<_>>() {
            let Some(peer) = self.peers.get_mut(&key) else {
                continue;
            };
            peer.survey.at = Instant::FAR_FUTURE;
            if !peer.dialed_up || peer.addresses.len() < 2 {
                continue;
            }
            if peer.survey.trial.is_some() {
                peer.survey.at = now + SOON;
                continue;
            }
            if peer.survey.left.is_empty() {
                peer.survey.measured.clear();
                // A command is not started to be measured: it may ask for a password.
                let ready = |entry: &&Address| entry.again <= now && !entry.is_command();
                let ready = peer.addresses.iter().filter(ready);
                peer.survey.left = ready.map(|entry| entry.address.clone()).collect();
            }
            self.next_trial(key);
        }
    }

    /// Tries the next address of a round, or draws the conclusion.
    fn next_trial(&mut self, key: PeerKey) {
        let trials = self
            .peers
            .values()
            .filter(|peer| peer.survey.trial.is_some());
        let busy = trials.count() >= self.config.limits.trials;
        let now = self.now;
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        if busy && !peer.survey.left.is_empty() {
            peer.survey.at = now + SOON;
            return;
        }
        match peer.survey.left.pop() {
            Some(address) => self.start_trial(key, address, Goal::Measure),
            None => self.conclude(key),
        }
    }

    fn start_trial(&mut self, key: PeerKey, address: String, goal: Goal) {
        if let Some(peer) = self.peers.get_mut(&key) {
            peer.survey.trial = Some(Trial {
                address,
                link: Link::UNUSED,
                goal,
                known: false,
                trips: Vec::new(),
            });
            self.dial(Dialed {
                peer: key,
                purpose: Purpose::Trial,
            });
        }
    }

    /// A trial's connection is open.
    pub(super) fn trial_opened(&mut self, key: PeerKey, id: ConnectionId) {
        let trial = self.trial_of(key);
        let moves = trial.is_some_and(|trial| matches!(trial.goal, Goal::Move(_)));
        let message = match moves {
            true => self.health_request(),
            // Whoever is asked so counts nobody as a peer.
            false => Message::HealthCheckRequest {
                payload: Hello::question(),
            },
        };
        self.send(id, message);
    }

    pub(super) fn trial_of(&mut self, key: PeerKey) -> Option<&mut Trial> {
        self.peers.get_mut(&key)?.survey.trial.as_mut()
    }

    /// The answer to a health check of a trial.
    pub(super) fn trial_answered(
        &mut self,
        key: PeerKey,
        id: ConnectionId,
        asked: Instant,
        hello: Option<&Hello>,
    ) {
        let trip = self.now.saturating_since(asked);
        let Some(trial) = self.trial_of(key) else {
            return;
        };
        if let Goal::Move(_) = trial.goal {
            return match hello {
                Some(hello) => self.introduced(id, hello),
                None => self.moved_plainly(key, id),
            };
        }
        if trial.known {
            trial.trips.push(trip);
            return self.ask_again(key, id);
        }
        match hello {
            Some(hello) => self.trial_met(key, id, hello),
            None => {
                // A reference node says who it is in its topology alone.
                let request = Message::CollectTopologyRequest {
                    visited: alloc::vec![self.config.node.as_str().into()],
                    max_depth: 3,
                };
                self.send(id, request);
            }
        }
    }

    /// A node of ours says who it is.
    fn trial_met(&mut self, key: PeerKey, id: ConnectionId, hello: &Hello) {
        let node = NodeId::from(hello.node_id.as_str());
        let Some(peer) = self.peers.get(&key) else {
            return;
        };
        let (own, expected) = (peer.own, peer.node.clone());
        let connection = self.connections.get(&id);
        let remote = connection.map_or_else(String::new, |connection| connection.remote.clone());
        if node == self.config.node {
            if hello.incarnation == self.incarnation {
                return self.trial_leads_here(key);
            }
            self.met_clone_of_itself(hello.incarnation, remote);
        } else if expected.as_ref() != Some(&node) {
            return self.trial_leads_elsewhere(key, &node);
        } else if own && self.run_of(&node) == Some(hello.incarnation) {
            return self.trial_known(key, id);
        } else {
            self.is_contested(id, &node, hello.incarnation, &remote);
        }
        if let Some(entry) = self.trial_entry(key) {
            entry.refused();
        }
        self.trial_failed(key);
    }

    /// A node that did not say who it is told its topology: its own entry stands first.
    pub(super) fn trial_told(&mut self, key: PeerKey, id: ConnectionId, reply: &TopologyReply) {
        let first = reply.nodes.first().filter(|(id, _)| NodeId::is_fit(id));
        let first = first.map(|(id, _)| NodeId::from(id.as_str()));
        let Some(peer) = self.peers.get(&key) else {
            return;
        };
        match first {
            Some(node) if node == self.config.node => self.trial_leads_here(key),
            Some(node) if peer.node.as_ref() != Some(&node) => {
                self.trial_leads_elsewhere(key, &node);
            }
            Some(_) if !peer.own => self.trial_known(key, id),
            _ => self.trial_failed(key),
        }
    }

    pub(super) fn trial_entry(&mut self, key: PeerKey) -> Option<&mut Address> {
        let peer = self.peers.get_mut(&key)?;
        let address = peer.survey.trial.as_ref()?.address.clone();
        peer.entry_mut(&address)
    }

    /// The peer is there.
    fn trial_known(&mut self, key: PeerKey, id: ConnectionId) {
        if let Some(trial) = self.trial_of(key) {
            trial.known = true;
        }
        if let Some(entry) = self.trial_entry(key) {
            entry.succeeded();
            entry.stayed();
        }
        self.ask_again(key, id);
    }

    fn ask_again(&mut self, key: PeerKey, id: ConnectionId) {
        let Some(trial) = self.trial_of(key) else {
            return;
        };
        if trial.trips.len() < TRIPS {
            let payload = bytes::Bytes::new();
            return self.send(id, Message::HealthCheckRequest { payload });
        }
        let (address, trips) = (trial.address.clone(), core::mem::take(&mut trial.trips));
        let rtt = median(trips);
        if let Some(entry) = self.trial_entry(key) {
            entry.rtt = rtt;
        }
        if let (Some(peer), Some(rtt)) = (self.peers.get_mut(&key), rtt) {
            peer.survey.measured.push((address, rtt));
        }
        self.end_trial(key);
        self.next_trial(key);
    }

    fn trial_leads_here(&mut self, key: PeerKey) {
        let again = self.now + self.config.timing.measure_most;
        if let Some(entry) = self.trial_entry(key) {
            (entry.verified, entry.rtt, entry.again) = (false, None, again);
        }
        self.end_trial(key);
        self.next_trial(key);
    }

    fn trial_leads_elsewhere(&mut self, key: PeerKey, node: &NodeId) {
        if let Some(address) = self.end_trial(key) {
            self.relocate(key, &address, node);
        }
        self.next_trial(key);
    }

    /// Nothing came of a trial. What is in use is judged by its own connection alone.
    pub(super) fn trial_failed(&mut self, key: PeerKey) {
        let (now, timing) = (self.now, self.config.timing);
        let Some(address) = self.end_trial(key) else {
            return;
        };
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        let used = peer.uses(&address);
        if let Some(entry) = peer.entry_mut(&address).filter(|_| !used) {
            entry.rtt = None;
            entry.failed(now, &timing, &mut self.rng);
        }
        self.next_trial(key);
    }

    /// Leaves a trial; says where it was.
    pub(super) fn end_trial(&mut self, key: PeerKey) -> Option<String> {
        let trial = self.peers.get_mut(&key)?.survey.trial.take()?;
        self.abandon(trial.link);
        Some(trial.address)
    }

    /// All addresses are measured: the best one is the way from now on.
    fn conclude(&mut self, key: PeerKey) {
        let (timing, now) = (self.config.timing, self.now);
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        let every = peer.survey.every.max(timing.measure_every);
        peer.survey.every = (every * 2).min(timing.measure_most);
        let quarter = u64::try_from(every.as_nanos() / 4).unwrap_or(u64::MAX);
        let jitter = Duration::from_nanos(self.rng.below(quarter.saturating_add(1)));
        peer.survey.at = peer.survey.at.min(now + every + jitter);
        let measured = core::mem::take(&mut peer.survey.measured);
        let way = |peer: &Peer, (address, rtt): &(String, Duration)| {
            let priority = peer.entry(address)?.priority();
            Some((
                address.clone(),
                Way {
                    rtt: *rtt,
                    priority,
                },
            ))
        };
        let ways: Vec<(String, Way)> = measured.iter().filter_map(|m| way(peer, m)).collect();
        let Some((_, used)) = ways.iter().find(|(at, _)| *at == peer.address).cloned() else {
            return;
        };
        let better = ways.into_iter().filter(|(_, way)| way.is_better_than(used));
        let best = better.min_by_key(|(_, way)| (way.rtt, core::cmp::Reverse(way.priority)));
        if let Some((address, way)) = best
            && self.may_move(key)
        {
            let reason = format!("{} there, {} before", millis(way.rtt), millis(used.rtt));
            self.start_trial(key, address, Goal::Move(reason));
        }
    }
}

/// `3.1 ms`.
fn millis(time: Duration) -> String {
    let tenths = (time.as_micros() + 50) / 100;
    format!("{}.{} ms", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_in_words() {
        assert_eq!(millis(Duration::from_micros(3149)), "3.1 ms");
        assert_eq!(millis(Duration::from_micros(60)), "0.1 ms");
        assert_eq!(millis(Duration::ZERO), "0.0 ms");
    }
}

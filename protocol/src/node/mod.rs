//! The node: one door in, one door out.
//!
//! [`Node`] is a struct of small tables (connections, peers, requests, engine calls) that the files
//! beside this one work on. Peers: `discover` turns discovery into peers, `links` keeps connections
//! to them, `health` checks them, `serve` answers them, `place` keeps the topology and cuts models
//! into rings. Requests: `submit` starts them, `join` takes part in those of others, `pipeline`
//! carries them from stage to stage, `compute` talks with the engine, `news` tells how they fare,
//! `ending` ends them.

mod compute;
mod connection;
mod discover;
mod ending;
mod health;
mod input;
mod join;
mod links;
mod news;
mod output;
mod peer;
mod pipeline;
mod place;
mod request;
mod ring;
mod serve;
mod status;
mod submit;
#[cfg(test)]
mod tests;

pub use input::{Command, Input, LinkFault, Origin, Submit};
pub use output::{Event, Failure, FinishReason, Output, Rejection, Stage};
pub use status::{HopStatus, PeerStatus, RequestStatus, Status};

use crate::config::{Config, Discovery};
use crate::id::{CallId, ConnectionId, DialId, RequestId};
use crate::rng::Rng;
use crate::time::Instant;
use crate::topology::Topology;
use alloc::collections::{BTreeMap, VecDeque};
use compute::Desk;
use connection::Connection;
use discover::File;
use links::Dialed;
use peer::{Link, Peer, PeerKey};
use request::{Ended, Request};

/// When the node wants to be woken, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline {
    /// When.
    pub at: Instant,
    /// Why.
    pub timer: Timer,
}

/// The named reasons for a [`Deadline`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Timer {
    /// A connection owes something: a reply, the rest of a frame, room for what is written.
    Connection,
    /// The driver has not answered a dial.
    Dial,
    /// The discovery file is due to be read again.
    Discovery,
    /// A peer is due to be dialled.
    Redial,
    /// A request's time is over.
    Request,
    /// A peer is due for a health check.
    Health,
    /// A peer is due to tell its topology.
    Topology,
}

/// One node of the ring, as a state machine.
///
/// Methods come in three groups: `handle_*` take what happened, `poll_*` give what is to be done,
/// `status` looks without touching. See the crate's documentation for the contract.
#[derive(Debug)]
pub struct Node {
    config: Config,
    now: Instant,
    rng: Rng,
    outputs: VecDeque<Output>,
    connections: BTreeMap<ConnectionId, Connection>,
    /// Dials without an answer; `None` once the node has lost interest.
    dials: BTreeMap<DialId, Option<Dialed>>,
    peers: BTreeMap<PeerKey, Peer>,
    topology: Topology,
    requests: BTreeMap<RequestId, Request>,
    ended: Ended,
    desk: Desk,
    file: File,
    stopping: bool,
    last_dial: u64,
    last_peer: u64,
    last_call: u64,
}

impl Node {
    /// A node that is about to look for its peers. `seed` feeds jitter and generated request ids.
    #[must_use]
    pub fn new(config: Config, seed: u64, now: Instant) -> Self {
        let mut topology = Topology::default();
        topology.update_node(config.node.clone(), config.capabilities.clone());
        let read_at = match &config.discovery {
            Discovery::Manual => now,
            Discovery::None | Discovery::Direct(_) => Instant::FAR_FUTURE,
        };
        let direct = match &config.discovery {
            Discovery::Direct(peers) => peers.clone(),
            Discovery::None | Discovery::Manual => alloc::vec![],
        };
        let mut node = Self {
            config,
            now,
            rng: Rng::new(seed),
            outputs: VecDeque::new(),
            connections: BTreeMap::new(),
            dials: BTreeMap::new(),
            peers: BTreeMap::new(),
            topology,
            requests: BTreeMap::new(),
            ended: Ended::default(),
            desk: Desk::default(),
            file: File {
                content: None,
                read_at,
            },
            stopping: false,
            last_dial: 0,
            last_peer: 0,
            last_call: 0,
        };
        node.add_direct_peers(direct);
        node
    }

    /// Takes one input. Cannot fail: a peer that misbehaves costs its connection, never the node.
    pub fn handle_input(&mut self, now: Instant, input: Input) {
        self.handle_timeout(now);
        match input {
            Input::Opened {
                connection,
                origin,
                remote,
            } => self.opened(connection, origin, remote),
            Input::DialFailed { dial, reason } => self.dial_failed(dial, reason),
            Input::Received {
                connection,
                message,
                bytes: _,
            } => self.received(connection, message),
            Input::Progress { connection } => self.progress(connection),
            Input::Sent { connection, bytes } => self.sent(connection, bytes),
            Input::Lost { connection, fault } => self.lost(connection, &fault),
            Input::DiscoveryFile(content) => self.discovery_file(content),
            Input::Engine(event) => self.engine(event),
            Input::Command(Command::Submit(submit)) => self.submit(submit),
            Input::Command(Command::Cancel { request }) => self.cancel(&request),
            Input::Command(Command::Stop) => self.stop(),
        }
    }

    /// Fires what is due at `now`. Early and repeated calls are harmless.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.now = self.now.max(now);
        while let Some(deadline) = self.poll_timeout() {
            if deadline.at > self.now {
                break;
            }
            match deadline.timer {
                Timer::Connection => self.expire_connections(),
                Timer::Dial => self.expire_dials(),
                Timer::Discovery => self.read_discovery_file(),
                Timer::Redial => self.redial(),
                Timer::Request => self.expire_requests(),
                Timer::Health => self.check_health(),
                Timer::Topology => self.collect_topology(),
            }
        }
    }

    /// The next effect. Drain until `None` before anything else is handed in.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to call [`Node::handle_timeout`] next, and why.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Deadline> {
        let stall = self.config.timing.acknowledge;
        let connections = self
            .connections
            .values()
            .filter_map(|connection| connection.deadline(stall))
            .map(|at| Deadline {
                at,
                timer: Timer::Connection,
            });
        let peers = self.peers.values().flat_map(|peer| {
            let link = |link: Link| match link {
                Link::Idle(at) => Deadline {
                    at,
                    timer: Timer::Redial,
                },
                Link::Dialing(_, at) => Deadline {
                    at,
                    timer: Timer::Dial,
                },
                Link::Open(_) => Deadline {
                    at: Instant::FAR_FUTURE,
                    timer: Timer::Redial,
                },
            };
            [
                link(peer.data),
                link(peer.probe),
                Deadline {
                    at: peer.health_at,
                    timer: Timer::Health,
                },
                Deadline {
                    at: peer.topology_at,
                    timer: Timer::Topology,
                },
            ]
        });
        let requests = self.requests.values().map(|request| Deadline {
            at: request.until,
            timer: Timer::Request,
        });
        let file = Deadline {
            at: self.file.read_at,
            timer: Timer::Discovery,
        };
        connections
            .chain(peers)
            .chain(requests)
            .chain([file])
            .filter(|deadline| deadline.at < Instant::FAR_FUTURE)
            .min_by_key(|deadline| (deadline.at, deadline.timer))
    }

    /// What the node knows and holds.
    #[must_use]
    pub fn status(&self) -> Status {
        let peer = |peer: &Peer| PeerStatus {
            node: peer.node.clone(),
            address: peer.address.clone(),
            up: peer.up,
            own: peer.own,
            rtt: peer.rtt,
            hops: peer.hops.status(),
        };
        let request = |(id, request): (&RequestId, &Request)| RequestStatus {
            request: id.clone(),
            origin: request.application.is_some(),
            ring: request.ring.clone(),
            position: request.position,
            tokens: request.tokens,
        };
        Status {
            node: self.config.node.clone(),
            topology: self.topology.clone(),
            peers: self.peers.values().map(peer).collect(),
            requests: self.requests.iter().map(request).collect(),
            shards: self.desk.loaded(),
            connections: self.connections.len(),
            queued: self.connections.values().map(Connection::queued).sum(),
            calls: self.desk.calls(),
            stopping: self.stopping,
        }
    }

    fn tell(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }

    fn next_dial(&mut self) -> DialId {
        self.last_dial += 1;
        DialId(self.last_dial)
    }

    fn next_call(&mut self) -> CallId {
        self.last_call += 1;
        CallId(self.last_call)
    }
}

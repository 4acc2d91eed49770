//! A snapshot of a node, for its API, for tests and for invariants.

use super::Node;
use super::connection::Connection;
use super::extended::Extended;
use super::find::Source;
use super::output::Stage;
use super::peer::Peer;
use crate::id::{NodeId, RequestId};
use crate::shard::Shard;
use crate::topology::Topology;
use crate::wire::Download;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

/// What a node knows and holds at one moment.
#[derive(Clone, Debug)]
pub struct Status {
    /// The node.
    pub node: NodeId,
    /// Its view of the ring.
    pub topology: Topology,
    /// Its peers, known or only looked for.
    pub peers: Vec<PeerStatus>,
    /// This run of it.
    pub incarnation: u64,
    /// Requests under way that were submitted here or of which it has a stage.
    pub requests: Vec<RequestStatus>,
    /// Training jobs under way that were begun here or of which it has a stage.
    pub jobs: Vec<JobStatus>,
    /// Downloads of its own that are under way.
    pub downloads: Vec<Download>,
    /// Shards that its engine holds.
    pub shards: Vec<Shard>,
    /// Transport connections, both directions.
    pub connections: usize,
    /// Messages waiting in outboxes.
    pub queued: usize,
    /// Engine calls not answered yet.
    pub calls: usize,
    /// Those of them that wait for files that the application brings.
    pub fetches: usize,
    /// What the extension holds on all connections.
    pub extended: ExtendedStatus,
    /// Whether it takes no new requests.
    pub stopping: bool,
}

impl Status {
    /// Whether the ways between all nodes of ours that are up were measured by one end at least,
    /// round trip and goodput, and that end has told.
    #[must_use]
    pub fn is_measured(&self) -> bool {
        let peers = self.peers.iter().filter(|peer| peer.up && peer.own);
        let peers = peers.filter_map(|peer| peer.node.as_ref());
        let nodes: Vec<&NodeId> = peers.chain([&self.node]).collect();
        let known = |a: &NodeId, b: &NodeId| {
            let there = self.topology.link(a, b);
            there.or(self.topology.link(b, a)).is_measured()
        };
        let pairs = |(at, a): (usize, &&NodeId)| {
            let later = nodes.iter().skip(at + 1);
            later.copied().all(|b| known(a, b))
        };
        nodes.iter().enumerate().all(pairs)
    }

    /// All downloads under way that it knows of, with the node that fetches: its own first.
    pub fn downloading(&self) -> impl Iterator<Item = (&NodeId, &Download)> {
        let own = self.downloads.iter().map(|it| (&self.node, it));
        let all = own.chain(self.told_downloads());
        all.filter(|(_, download)| !download.is_over())
    }

    /// All that peers say of their downloads, with the node that fetches.
    pub fn told_downloads(&self) -> impl Iterator<Item = (&NodeId, &Download)> {
        let told = self.peers.iter().filter_map(|peer| {
            let node = peer.node.as_ref()?;
            Some(peer.downloads.iter().map(move |it| (node, it)))
        });
        told.flatten()
    }
}

/// One peer.
#[derive(Clone, Debug)]
pub struct PeerStatus {
    /// Its id, once known.
    pub node: Option<NodeId>,
    /// Where it is dialled.
    pub address: String,
    /// Whether it answers health checks.
    pub up: bool,
    /// Whether it is one of our own nodes, not the reference.
    pub own: bool,
    /// Which run of it, of our own nodes.
    pub incarnation: Option<u64>,
    /// Whether it said that it leaves.
    pub leaving: bool,
    /// Round trip, once it was measured; of a reference peer, that of its last health check.
    pub rtt: Option<Duration>,
    /// Bytes per second that get there, as large messages to it showed; `None` before the first.
    pub goodput: Option<u64>,
    /// Tensors handed to it.
    pub hops: HopStatus,
    /// All that went there and came from there.
    pub traffic: Traffic,
    /// What it says of its downloads, the newest last.
    pub downloads: Vec<Download>,
    /// Where it may be reached, in the order in which they became known. Empty if it came by
    /// itself and nobody names it.
    pub addresses: Vec<AddressStatus>,
}

/// One address of a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressStatus {
    /// `host:port`.
    pub address: String,
    /// Who named it.
    pub sources: Vec<Source>,
    /// What the way there is called, such as `Ethernet (eth0)`.
    pub description: String,
    /// Whether it is where this node dials the peer, or is connected with it.
    pub in_use: bool,
    /// Whether the peer answered there; until then it is only said to be there.
    pub verified: bool,
    /// Median round trip when it was measured last.
    pub rtt: Option<Duration>,
    /// Dials in a row that came to nothing.
    pub failures: u32,
}

/// What the extension holds on all connections of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExtendedStatus {
    /// Connections that speak it.
    pub connections: usize,
    /// Open streams, both directions.
    pub streams: usize,
    /// Bytes of steps that came and are not done with, or come in pieces.
    pub held: u64,
}

/// Frames with a peer, headers included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Frames that were written.
    pub sent_frames: u64,
    /// Their bytes.
    pub sent_bytes: u64,
    /// Frames that came.
    pub received_frames: u64,
    /// Their bytes.
    pub received_bytes: u64,
}

/// How long it takes to reach a peer and hear back while tensors go there: of one of ours, a probe
/// behind the tensor; of a reference peer, the acknowledgement of the tensor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HopStatus {
    /// Tensors handed over.
    pub count: u64,
    /// Bytes of their frames.
    pub bytes: u64,
    /// Median of the last samples.
    pub p50: Duration,
    /// 99th percentile of the last samples.
    pub p99: Duration,
}

/// One request.
#[derive(Clone, Debug)]
pub struct RequestStatus {
    /// Which.
    pub request: RequestId,
    /// Whether it was submitted here.
    pub origin: bool,
    /// How many rings it had before this one.
    pub epoch: u32,
    /// Its ring.
    pub ring: Vec<Stage>,
    /// Positions in this node's KV cache.
    pub position: u32,
    /// Tokens generated so far, where known.
    pub tokens: u32,
}

/// One training job.
#[derive(Clone, Debug)]
pub struct JobStatus {
    /// Which.
    pub job: RequestId,
    /// Whether it was begun here.
    pub origin: bool,
    /// Its ring.
    pub ring: Vec<Stage>,
    /// Steps done, those of the checkpoint that it was resumed from included.
    pub steps: u32,
    /// How many numbers are trained: of all stages at the origin, of its layers at a stage.
    pub trainable: u64,
    /// What it is at, for people.
    pub doing: &'static str,
}

impl Node {
    /// What the node knows and holds.
    #[must_use]
    pub fn status(&self) -> Status {
        let peer = |peer: &Peer| PeerStatus {
            node: peer.node.clone(),
            address: peer.address.clone(),
            up: peer.up,
            own: peer.own,
            incarnation: peer.node.as_ref().and_then(|node| self.run_of(node)),
            leaving: peer.leaving,
            rtt: peer.rtt,
            goodput: peer.goodput.best(),
            hops: peer.hops.status(),
            traffic: peer.traffic,
            downloads: peer.downloads.list(self.now),
            addresses: peer.address_status(),
        };
        Status {
            node: self.config.node.clone(),
            incarnation: self.incarnation,
            topology: self.topology.clone(),
            peers: self.peers.values().map(peer).collect(),
            requests: self.requests(),
            jobs: self.job_status(),
            downloads: self.downloads.list(),
            shards: self.desk.loaded(),
            connections: self.connections.len(),
            queued: self.connections.values().map(Connection::queued).sum(),
            calls: self.desk.calls(),
            fetches: self.desk.fetches(),
            extended: self.extended_status(),
            stopping: self.stopping || self.leaving,
        }
    }

    fn requests(&self) -> Vec<RequestStatus> {
        let position = |id| self.sessions.get(id).map_or(0, |session| session.position);
        let submitted = self.clients.iter().map(|(id, client)| RequestStatus {
            request: id.clone(),
            origin: true,
            epoch: client.epoch,
            ring: client.ring.clone(),
            position: position(id),
            tokens: client.told(),
        });
        let others = self.sessions.iter();
        let others = others.filter(|(id, _)| !self.clients.contains_key(*id));
        let joined = others.map(|(id, session)| RequestStatus {
            request: id.clone(),
            origin: false,
            epoch: session.plan.epoch,
            ring: session.plan.ring.clone(),
            position: session.position,
            tokens: session.chosen,
        });
        submitted.chain(joined).collect()
    }

    fn job_status(&self) -> Vec<JobStatus> {
        let begun = self.jobs.iter().map(|(id, job)| JobStatus {
            job: id.clone(),
            origin: true,
            ring: job.plan.ring.clone(),
            steps: job.steps,
            trainable: job.trainable,
            doing: job.phase.name(),
        });
        let others = self.job_stages.iter();
        let others = others.filter(|(id, _)| !self.jobs.contains_key(*id));
        let joined = others.map(|(id, stage)| JobStatus {
            job: id.clone(),
            origin: false,
            ring: stage.plan.ring.clone(),
            steps: stage.steps,
            trainable: stage.trainable,
            doing: stage.doing.name(),
        });
        begun.chain(joined).collect()
    }

    fn extended_status(&self) -> ExtendedStatus {
        let all = self.connections.values();
        let mut status = ExtendedStatus::default();
        for extended in all.filter_map(|connection| connection.extended.as_ref()) {
            status.connections += 1;
            status.streams += Extended::streams(extended);
            status.held = status.held.saturating_add(extended.held());
        }
        status
    }
}

//! A snapshot of a node, for its API, for tests and for invariants.

use super::output::Stage;
use crate::id::{NodeId, RequestId};
use crate::shard::Shard;
use crate::topology::Topology;
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
    /// Requests under way that it knows of.
    pub requests: Vec<RequestStatus>,
    /// Shards that its engine holds.
    pub shards: Vec<Shard>,
    /// Transport connections, both directions.
    pub connections: usize,
    /// Messages waiting in outboxes.
    pub queued: usize,
    /// Engine calls not answered yet.
    pub calls: usize,
    /// Whether it takes no new requests.
    pub stopping: bool,
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
    /// Round trip of its last health check.
    pub rtt: Option<Duration>,
    /// Tensors handed to it.
    pub hops: HopStatus,
}

/// How long hand-overs took: from giving a tensor to the driver until its acknowledgement came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HopStatus {
    /// Tensors acknowledged.
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
    /// Its ring.
    pub ring: Vec<Stage>,
    /// Positions in this node's KV cache.
    pub position: u32,
    /// Tokens generated so far, where known.
    pub tokens: u32,
}

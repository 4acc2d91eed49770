//! Everything that can be set about a node, every limit with its default and the reason for it.

use crate::id::NodeId;
use crate::tensor::DType;
use crate::topology::{Capabilities, Pin};
use crate::wire::DecodeLimits;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

/// A node's settings. [`Config::new`] has the defaults.
#[derive(Clone, Debug)]
pub struct Config {
    /// This node's name in the ring.
    pub node: NodeId,
    /// This machine, as told to peers; its memory weighs in every placement.
    pub capabilities: Capabilities,
    /// How peers are found.
    pub discovery: Discovery,
    /// Most tokens that any generation may produce, whatever was asked.
    pub max_tokens: u32,
    /// Types in which hidden states may come to this node and leave it, preferred first. Toward a
    /// peer it is the first that both name. `float32` is always among them and, by default, alone:
    /// with less, an answer depends on where the model is cut.
    pub activations: Vec<DType>,
    /// What a frame may claim; the driver hands it to every decoder.
    pub decode: DecodeLimits,
    /// How long things take before somebody gives up.
    pub timing: Timing,
    /// How much of everything there may be.
    pub limits: Limits,
    /// The engine of this node trains: training jobs may be placed here.
    pub trains: bool,
    /// Layers that are not on this machine can be fetched: before the engine loads any, the
    /// application is asked for their files ([`Event::FilesWanted`](crate::Event::FilesWanted)).
    pub fetches: bool,
    /// Files of models are given to peers, and taken from them.
    pub shares: bool,
    /// How long layers stay loaded that nothing uses: for ever with [`Duration::MAX`]. `None` keeps
    /// them until others are loaded.
    pub keep_loaded: Option<Duration>,
    /// How models are cut over nodes of ours. Rings in which a reference node takes part are always
    /// cut as that computes it for itself, by memory.
    pub placement: Strategy,
    /// The layers that nodes are to have, whatever the strategy says; empty for no such wish. Only
    /// models that they tile are taken.
    pub pins: Vec<Pin>,
}

/// How a model is cut over nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strategy {
    /// Over all nodes, by their memory.
    #[default]
    Memory,
    /// Over those nodes with which a typical request is predicted to be done soonest
    /// ([`topology::auto`](crate::topology::auto)). Models of unknown cost are cut by memory.
    Auto,
}

impl Config {
    /// Settings of a node that finds nobody by itself.
    #[must_use]
    pub fn new(node: NodeId, capabilities: Capabilities) -> Self {
        Self {
            node,
            capabilities,
            discovery: Discovery::default(),
            max_tokens: 10_000,
            activations: alloc::vec![DType::F32],
            decode: DecodeLimits::default(),
            timing: Timing::default(),
            limits: Limits::default(),
            trains: false,
            fetches: false,
            shares: false,
            keep_loaded: None,
            placement: Strategy::default(),
            pins: Vec::new(),
        }
    }
}

/// How peers are found; any of these, or none: then the node only answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Discovery {
    /// From a file that the driver reads whenever the node asks
    /// ([`Output::ReadDiscoveryFile`](crate::Output::ReadDiscoveryFile)).
    pub file: bool,
    /// At fixed addresses, for ever.
    pub direct: Vec<DirectPeer>,
    /// By broadcasts: this node announces itself and listens to others.
    pub broadcast: Option<Broadcast>,
    /// By announcements over TCP: this node announces itself and answers others.
    pub tcp: Option<Tcp>,
}

/// Discovery by announcements over TCP, as the reference's `tcp` module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tcp {
    /// Where this node takes connections of the ring.
    pub node_port: u16,
    /// To whom it announces itself, `host:port`.
    pub seeds: Vec<String>,
    /// It tries some machines of its own subnets too.
    pub probe: bool,
    /// The port for announcements on those.
    pub port: u16,
    /// Only these nodes count, unless there are none.
    pub nodes: Vec<NodeId>,
}

/// Discovery by broadcasts, as the reference's `udp` module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broadcast {
    /// Where this node takes connections.
    pub node_port: u16,
    /// The port to which announcements go; who wants to hear them listens there.
    pub target_port: u16,
    /// Only these nodes count, unless there are none.
    pub nodes: Vec<NodeId>,
    /// Only announcements over interfaces of these types count, unless there are none.
    pub kinds: Vec<String>,
}

/// What the address of a peer behind a command begins with. No host has a space in its name, so
/// neither a file nor an announcement can name such an address.
pub const COMMAND: &str = "command ";

/// A peer at a fixed address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectPeer {
    /// `host:port`; or, behind [`COMMAND`], a command that the driver knows, whose input and output
    /// lead to the peer.
    pub address: String,
    /// The id to expect there; learned from the peer when absent.
    pub node: Option<NodeId>,
}

/// Durations. All of them are judged on the driver's clock.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// Between two health checks of a peer (2 s, the reference's period for its whole round).
    pub health_every: Duration,
    /// Unanswered for this long, a health check condemns the peer (5 s, as the reference).
    pub health_timeout: Duration,
    /// Between two looks at a peer's topology (2 s, as the reference).
    pub topology_every: Duration,
    /// The same while a ring is forming, so that a new node takes part at once (100 ms).
    pub forming_every: Duration,
    /// For how long after a peer came up its ring counts as forming, unless all its members know
    /// each other before (10 s).
    pub forming_for: Duration,
    /// From asking the driver to dial until it gave an answer (5 s, as the reference).
    pub dial_timeout: Duration,
    /// A peer behind a command answers for the first time within this long (30 s: the command may
    /// have to log in somewhere, and to start a node there).
    pub command_timeout: Duration,
    /// Longest wait before a command is tried again (30 s: hosts shut out who fails to log in all
    /// the time).
    pub command_redial_max: Duration,
    /// First wait after a failed dial; doubles up to [`Timing::redial_max`].
    pub redial_min: Duration,
    /// Longest wait between dials: a peer that comes back is noticed within it.
    pub redial_max: Duration,
    /// Between two readings of the discovery file (5 s, as the reference).
    pub discovery_every: Duration,
    /// Between two announcements (2.5 s, as the reference).
    pub announce_every: Duration,
    /// A peer that cannot be reached is forgotten when it was not heard for this long (30 s, as the
    /// reference).
    pub announce_timeout: Duration,
    /// Between two announcements to one node over TCP (5 s, as the reference).
    pub ask_every: Duration,
    /// The same to one that cannot be reached: the wait doubles up to this (30 s: whoever comes back
    /// is found within it, unless it announces itself before).
    pub ask_again_max: Duration,
    /// An announcement over TCP and its answer may take this long, the connection included (5 s, as
    /// the reference).
    pub ask_timeout: Duration,
    /// From one round in which the addresses of a peer are measured, if it has several, to the next
    /// (30 s); doubles up to [`Timing::measure_most`] while nothing changes.
    pub measure_every: Duration,
    /// Longest wait between two such rounds (5 min), and before an address that leads to this node
    /// or to a clone of a peer is dialled again.
    pub measure_most: Duration,
    /// A peer that stops in the middle of a frame is cut off after this long without a byte.
    pub frame_stall: Duration,
    /// A tensor must be acknowledged within this long (30 s: a reference peer acknowledges only
    /// after it has computed; our own nodes at once).
    pub acknowledge: Duration,
    /// One stage may take this long over one step. Loading a model counts, and each sign of
    /// progress begins it anew.
    pub stage_timeout: Duration,
    /// A peer of ours from which nothing was heard for this long is asked whether it is there
    /// (2 s).
    pub probe_idle: Duration,
    /// The same while a request depends on it (250 ms: with four probes a hang is noticed in 1.25 s).
    pub probe_busy: Duration,
    /// How long a request that lost a stage waits for peers without whom it cannot be placed (1 s:
    /// a connection that was cut is back by then).
    pub regroup: Duration,
    /// How long a stage keeps what it holds for a request whose origin is gone (5 s).
    pub orphan: Duration,
    /// One thing that a training job does (to begin, an example, a checkpoint) may take this long
    /// over all its stages (600 s: twice what one stage may be silent; to begin loads the model).
    pub job_step: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            health_every: Duration::from_secs(2),
            health_timeout: Duration::from_secs(5),
            topology_every: Duration::from_secs(2),
            forming_every: Duration::from_millis(100),
            forming_for: Duration::from_secs(10),
            dial_timeout: Duration::from_secs(5),
            command_timeout: Duration::from_secs(30),
            command_redial_max: Duration::from_secs(30),
            redial_min: Duration::from_millis(100),
            redial_max: Duration::from_secs(2),
            discovery_every: Duration::from_secs(5),
            announce_every: Duration::from_millis(2500),
            announce_timeout: Duration::from_secs(30),
            ask_every: Duration::from_secs(5),
            ask_again_max: Duration::from_secs(30),
            ask_timeout: Duration::from_secs(5),
            measure_every: Duration::from_secs(30),
            measure_most: Duration::from_secs(300),
            frame_stall: Duration::from_secs(30),
            acknowledge: Duration::from_secs(30),
            stage_timeout: Duration::from_secs(300),
            probe_idle: Duration::from_secs(2),
            probe_busy: Duration::from_millis(250),
            regroup: Duration::from_secs(1),
            orphan: Duration::from_secs(5),
            job_step: Duration::from_secs(600),
        }
    }
}

/// Counts. Whatever a peer can make grow stops at one of them.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Open transport connections, both directions (256: a ring is tens of machines, each with two).
    pub connections: usize,
    /// Peers that discovery may name (1024).
    pub peers: usize,
    /// Announcements that are read in the time between two of our own, over UDP and over TCP (1024: hundreds of nodes with
    /// several interfaces each; a flood costs no more, and who is missed is heard the next time).
    pub announcements: u32,
    /// Peers that announced themselves and have not answered yet (32). Whoever forges announcements
    /// makes a node dial no more than these.
    pub newcomers: usize,
    /// Addresses that are kept of one peer (16: four interfaces, each named in four ways).
    pub addresses: usize,
    /// Addresses of all peers that are tried on the side at the same time (8).
    pub trials: usize,
    /// Messages waiting for one connection before the node gives it up as too slow (1024).
    pub outbox: usize,
    /// Messages of one connection in the driver's hands (8: enough to keep a socket busy, few
    /// enough that a health check does not wait long behind them).
    pub window: usize,
    /// Generations under way (64).
    pub requests: usize,
    /// Commands that the engine has not answered yet, beyond which no stage is begun (512).
    pub calls: usize,
    /// Ended generations that are remembered, so that a late tensor cannot revive one (1024).
    pub ended: usize,
    /// Nodes in one peer's topology reply (4096).
    pub topology: usize,
    /// Stages of one ring (256).
    pub stages: usize,
    /// Probes without an answer, and without anything else heard, after which a peer counts as
    /// gone (4).
    pub probes: u32,
    /// Bytes of steps that one connection may have here before the engine is done with them
    /// (64 MiB). One step may exceed it, alone.
    pub window_bytes: u32,
    /// The same for one request on one connection (8 MiB: a hundred decode steps of the largest
    /// models, or a piece of a prompt that is computed while the next one comes).
    pub stream_window_bytes: u32,
    /// Positions that the first stage computes at once (256): the stages behind it begin with the
    /// first piece of a prompt while it computes the second, and a cancelled prompt ends early.
    pub prefill: u32,
    /// How often in a row one request may be placed anew before a token comes (16).
    pub recoveries: u32,
    /// Training jobs under way that were begun here, and jobs of which this node has a stage (4:
    /// each keeps gradients and the optimiser's state of its layers beside the weights).
    pub jobs: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 256,
            peers: 1024,
            announcements: 1024,
            newcomers: 32,
            addresses: 16,
            trials: 8,
            outbox: 1024,
            window: 8,
            requests: 64,
            calls: 512,
            ended: 1024,
            topology: 4096,
            stages: 256,
            probes: 4,
            window_bytes: 64 << 20,
            stream_window_bytes: 8 << 20,
            prefill: 256,
            recoveries: 16,
            jobs: 4,
        }
    }
}

//! What the node wants done, and what it tells the application.

use super::failure::{Failure, FinishReason, Rejection};
use super::jobs::JobFailure;
use crate::engine::{EngineCommand, Scores};
use crate::id::{AskId, CallId, ConnectionId, DialId, NodeId, RequestId, VisitId};
use crate::shard::Shard;
use crate::topology::EngineInfo;
use crate::wire::Message;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use bytes::Bytes;
use core::net::{Ipv4Addr, SocketAddrV4};
use core::time::Duration;

/// An effect for the driver. Exhaustive on purpose: a new variant must break every driver.
#[derive(Clone, Debug)]
pub enum Output {
    /// Connect to `address` (`host:port`, host a name or an address, IPv6 in brackets).
    Dial {
        /// Names the answer.
        dial: DialId,
        /// Where.
        address: String,
    },
    /// Write a message.
    Send {
        /// Where.
        connection: ConnectionId,
        /// What.
        message: Message,
    },
    /// Close a connection once what was sent before is written, or at once if that would block.
    Close {
        /// Which.
        connection: ConnectionId,
    },
    /// Read the discovery file and answer with [`Input::DiscoveryFile`](super::Input::DiscoveryFile).
    ReadDiscoveryFile,
    /// Find out this machine's addresses and answer with
    /// [`Input::Interfaces`](super::Input::Interfaces).
    ListInterfaces,
    /// Send a datagram from one of this machine's addresses. It may be lost without a word.
    Broadcast {
        /// From which address.
        from: Ipv4Addr,
        /// Where to.
        to: SocketAddrV4,
        /// What.
        payload: Bytes,
    },
    /// Hand in no more datagrams than this, whatever was said before, until it is said anew.
    Listen {
        /// How many.
        datagrams: u32,
    },
    /// Connect to `address`, say this, read one object of JSON and answer with
    /// [`Input::Answered`](super::Input::Answered), all within
    /// [`Timing::ask_timeout`](crate::config::Timing::ask_timeout).
    Ask {
        /// Names the answer.
        ask: AskId,
        /// Where, as in [`Output::Dial`].
        address: String,
        /// What.
        payload: Bytes,
    },
    /// Say this to a visitor ([`Input::Asked`](super::Input::Asked)), if anything, and close.
    Answer {
        /// Which.
        visit: VisitId,
        /// What.
        payload: Option<Bytes>,
    },
    /// Hand a command to the engine.
    Compute(EngineCommand),
    /// Tell the application.
    Event(Event),
}

/// News for the application.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// A request is on its way over `ring`.
    Accepted {
        /// Which.
        request: RequestId,
        /// The stages in order; frozen for this request.
        ring: Vec<Stage>,
    },
    /// A token of the answer. End tokens are not told.
    Token {
        /// Whose.
        request: RequestId,
        /// Counted from zero, without gaps.
        index: u32,
        /// Its id.
        token: u32,
        /// How likely it was, if the request wants to know.
        scores: Option<Arc<Scores>>,
    },
    /// A request is complete.
    Finished {
        /// Which.
        request: RequestId,
        /// Why it stopped.
        reason: FinishReason,
        /// Tokens generated, an end token included.
        tokens: u32,
    },
    /// A request came to nothing, or to no more than the tokens told so far.
    Failed {
        /// Which.
        request: RequestId,
        /// Why.
        failure: Failure,
    },
    /// A request lost a stage and goes on over another ring; its tokens go on where they were.
    Recovering {
        /// Which.
        request: RequestId,
        /// What happened.
        reason: String,
        /// How many rings it had before.
        epoch: u32,
        /// Its new ring.
        ring: Vec<Stage>,
    },
    /// A request was never started.
    Rejected {
        /// Which.
        request: RequestId,
        /// Why.
        rejection: Rejection,
    },
    /// A training job is ready for its first example: every stage has its layers and what it
    /// trains.
    JobReady {
        /// Which.
        job: RequestId,
        /// The stages in order; frozen for this job.
        ring: Vec<Stage>,
        /// How many numbers are trained, over all stages.
        trainable: u64,
        /// Steps done by the checkpoint that was resumed, else zero.
        iteration: u32,
    },
    /// An example went through all stages of a training job; if it was to be learned from, all of
    /// them have changed their parameters. The next one may be sent.
    ExampleDone {
        /// Whose.
        job: RequestId,
        /// Steps done so far, this one included if it was one.
        step: u32,
        /// The loss: with most engines mean cross entropy over the positions that count, in nats.
        loss: f32,
        /// How many positions counted.
        positions: u32,
    },
    /// Every stage of a training job has written its checkpoint.
    JobSaved {
        /// Which.
        job: RequestId,
        /// Steps done by it, which names it.
        iteration: u32,
        /// For each stage in order the name of its file on its machine, for people.
        files: Vec<String>,
    },
    /// A training job ended as [`Command::EndJob`](super::Command::EndJob) wanted.
    JobEnded {
        /// Which.
        job: RequestId,
    },
    /// A training job came to nothing, or to no more than what was told so far.
    JobFailed {
        /// Which.
        job: RequestId,
        /// Why.
        failure: JobFailure,
        /// The newest checkpoint that every stage of this job wrote, or that it was resumed from:
        /// a new job goes on there ([`JobFailure::advice`]).
        saved: Option<u32>,
    },
    /// A peer answered its first health check.
    PeerUp {
        /// Who.
        node: NodeId,
        /// Where.
        address: String,
    },
    /// A peer is gone.
    PeerDown {
        /// Who.
        node: NodeId,
        /// Where it was.
        address: String,
        /// Why.
        reason: String,
    },
    /// A peer cannot be reached; told once for each run of failures.
    PeerUnreachable {
        /// Who, if known.
        node: Option<NodeId>,
        /// Where.
        address: String,
        /// Why.
        reason: String,
    },
    /// A peer is reached over another of its addresses from now on, which is better.
    PeerMoved {
        /// Who.
        node: NodeId,
        /// Where it was reached.
        from: String,
        /// Where it is reached.
        to: String,
        /// Why, with the round trips of both.
        reason: String,
    },
    /// The link to a peer has become clearly slower than it was; told once, until it is quick again.
    LinkSlow {
        /// Who.
        node: NodeId,
        /// Where.
        address: String,
        /// Its round trip now.
        rtt: Duration,
        /// The least that it was, by the same measure.
        before: Duration,
    },
    /// What one step of a traced request ([`Submit::trace`](super::Submit::trace)) cost at one of its
    /// stages. Some may be missing, and they come in no order.
    StepTimed {
        /// Which.
        request: RequestId,
        /// The stage's place in the ring, from zero.
        stage: u32,
        /// Who has it.
        node: NodeId,
        /// Positions before the step.
        position: u32,
        /// How many it added.
        positions: u32,
        /// From when it came until the engine had nothing else to do before it.
        wait: Duration,
        /// What the engine took over it.
        compute: Duration,
        /// From then until the system had taken what goes to the next stage.
        write: Duration,
        /// Round trip to the next stage; zero if it is not known.
        rtt: Duration,
    },
    /// A peer came back as a new process: what it held for requests is lost.
    PeerRestarted {
        /// Who.
        node: NodeId,
    },
    /// A peer of ours told what computes there, for the first time or anew.
    PeerEngine {
        /// Who.
        node: NodeId,
        /// What.
        engine: EngineInfo,
    },
    /// Two running nodes have the same id, as clones of one home do: the second is refused.
    DuplicateNode {
        /// The id.
        node: NodeId,
        /// Where the first is; empty when it is this node.
        first: String,
        /// Where the second is.
        second: String,
    },
    /// A peer says that it will leave.
    PeerLeaving {
        /// Who.
        node: NodeId,
    },
    /// After [`Command::Drain`](super::Command::Drain): nothing depends on this node any more.
    Drained,
    /// Members, capabilities or edges changed.
    TopologyChanged,
    /// A connection was closed for what came over it.
    ConnectionRefused {
        /// The other end's address.
        remote: String,
        /// Who it said it was.
        node: Option<NodeId>,
        /// What was wrong.
        reason: String,
    },
    /// The discovery file cannot be used; the last good list stays in force.
    DiscoveryRejected {
        /// Why.
        reason: String,
    },
    /// Discovery by broadcasts does not do what it should; each trouble is told once.
    BroadcastTrouble {
        /// What.
        reason: String,
    },
    /// Layers are being loaded.
    Loading {
        /// Which.
        shard: Shard,
        /// Bytes done.
        done: u64,
        /// Bytes in all.
        total: u64,
    },
    /// Layers are ready.
    Loaded {
        /// Which.
        shard: Shard,
        /// Bytes of weights.
        bytes: u64,
    },
    /// The engine is about to load layers: the application sees to it that their files are here.
    /// Only with [`Config::fetches`](crate::Config::fetches). Answered by
    /// [`Command::Files`](super::Command::Files), as often as there is news, until the last word.
    FilesWanted {
        /// Names the question.
        call: CallId,
        /// Which.
        shard: Shard,
    },
    /// What the peers said to a [`Command::Want`](super::Command::Want).
    Part {
        /// Which.
        want: u64,
        /// What.
        found: Found,
    },
    /// A peer wants a piece of a file. Only with [`Config::shares`](crate::Config::shares).
    /// Answered by exactly one [`Command::Part`](super::Command::Part).
    PartWanted {
        /// Names the question.
        read: u64,
        /// The hash of the file, or a repository; whatever the peer says.
        name: String,
        /// Where the piece begins.
        from: u64,
        /// Most bytes of it; no more than [`Part::MAX`](crate::wire::Part::MAX).
        length: u32,
    },
    /// Layers that nothing used were given back. Only with
    /// [`Config::keep_loaded`](crate::Config::keep_loaded).
    Unloaded {
        /// Which.
        shard: Shard,
    },
    /// Layers cannot be loaded, or the engine failed for another reason.
    EngineFailed {
        /// Which.
        shard: Shard,
        /// Why.
        reason: String,
    },
}

/// One stage of a request's ring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stage {
    /// Who computes it.
    pub node: NodeId,
    /// Its layers.
    pub shard: Shard,
}

/// Where a piece of a file is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// Nobody has it, or is getting it.
    Nowhere,
    /// At a peer.
    At {
        /// Who.
        node: NodeId,
        /// Bytes of the whole file.
        size: u64,
        /// Some bytes, at least one, from the beginning of the piece.
        content: Bytes,
    },
}

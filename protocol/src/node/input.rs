//! What a driver tells the node.

use super::find::Discovered;
use crate::discovery::interface::Interface;
use crate::engine::{EngineEvent, EngineFailure, Sampling, Targets, TrainSetup};
use crate::id::{AskId, CallId, ConnectionId, DialId, ModelId, NodeId, RequestId, VisitId};
use crate::topology::ModelCost;
use crate::wire::{DecodeError, Download, Message};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use bytes::Bytes;
use core::net::IpAddr;
use core::time::Duration;

/// Something happened. Exhaustive on purpose: a new variant must break every driver.
#[derive(Clone, Debug)]
pub enum Input {
    /// A connection is open; the first word about `connection`.
    Opened {
        /// Its number, chosen by the driver.
        connection: ConnectionId,
        /// Who opened it.
        origin: Origin,
        /// The other end's address, for people.
        remote: String,
    },
    /// A dial came to nothing.
    DialFailed {
        /// The dial.
        dial: DialId,
        /// The system's words.
        reason: String,
    },
    /// A whole message came.
    Received {
        /// Where.
        connection: ConnectionId,
        /// What.
        message: Message,
        /// Bytes of its frame, header included.
        bytes: usize,
    },
    /// Bytes came that do not complete a message yet.
    Progress {
        /// Where.
        connection: ConnectionId,
    },
    /// The system took the oldest [`Output::Send`](super::Output::Send) not yet confirmed.
    Sent {
        /// Where.
        connection: ConnectionId,
        /// Bytes of its frame, header included.
        bytes: usize,
    },
    /// A connection is gone; the last word about `connection`.
    Lost {
        /// Which.
        connection: ConnectionId,
        /// Why.
        fault: LinkFault,
    },
    /// The discovery file's content, or why it could not be read.
    DiscoveryFile(Result<Bytes, String>),
    /// This machine's addresses, or why the system does not tell them.
    Interfaces(Result<Vec<Interface>, String>),
    /// A datagram came to the port for announcements.
    Datagram {
        /// Whence.
        from: IpAddr,
        /// What.
        payload: Bytes,
    },
    /// An [`Output::Ask`](super::Output::Ask) came to its end.
    Answered {
        /// Which.
        ask: AskId,
        /// Who was reached and what it answered, perhaps nothing; or why nobody was.
        answer: Result<(IpAddr, Bytes), String>,
    },
    /// Another node, or whoever connected to the port for announcements over TCP, announces itself.
    /// Answered by exactly one [`Output::Answer`](super::Output::Answer).
    Asked {
        /// The visit, numbered by the driver.
        visit: VisitId,
        /// Whence.
        from: IpAddr,
        /// What it said, as far as it came in time.
        payload: Bytes,
    },
    /// The engine spoke.
    Engine(EngineEvent),
    /// The application wants something.
    Command(Command),
}

/// Who opened a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// This node; the answer to [`Output::Dial`](super::Output::Dial).
    Dialed(DialId),
    /// The other end.
    Accepted,
}

/// Why a connection is gone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkFault {
    /// The peer closed it between two frames.
    #[error("closed by the peer")]
    Closed,
    /// The peer closed it inside a frame.
    #[error("closed by the peer in the middle of a frame")]
    Truncated,
    /// The peer sent what is no message.
    #[error("{0}")]
    Malformed(DecodeError),
    /// The system broke it.
    #[error("{0}")]
    Io(String),
    /// The node asked for it.
    #[error("closed by this node")]
    Local,
}

/// What an application may ask.
#[derive(Clone, Debug)]
pub enum Command {
    /// Generate. Answered by [`Event::Accepted`](super::Event::Accepted) and then exactly one of
    /// `Finished` and `Failed`; or by [`Event::Rejected`](super::Event::Rejected) alone.
    Submit(Submit),
    /// Stop generating. Answered by [`Event::Failed`](super::Event::Failed) with
    /// [`Failure::Cancelled`](super::Failure::Cancelled), unless it had ended already.
    Cancel {
        /// Which.
        request: RequestId,
    },
    /// Begin a training job. Answered by [`Event::JobReady`](super::Event::JobReady), and the job
    /// ends in exactly one of `JobEnded` and `JobFailed`; or by
    /// [`Event::JobFailed`](super::Event::JobFailed) alone.
    Train(Train),
    /// Send an example through the stages of a job, once it is ready and has nothing else to do.
    /// Answered by [`Event::ExampleDone`](super::Event::ExampleDone). Ignored if the job is over.
    Example(Example),
    /// Have every stage of a job write a checkpoint of the steps done so far, once it is ready and
    /// has nothing else to do. Answered by [`Event::JobSaved`](super::Event::JobSaved). Ignored if
    /// the job is over.
    Save {
        /// Which.
        job: RequestId,
    },
    /// End a job, whatever it does; what it learned and did not save is lost. Answered by
    /// [`Event::JobEnded`](super::Event::JobEnded). Ignored if the job is over.
    EndJob {
        /// Which.
        job: RequestId,
    },
    /// Look for these peers too, in the place of those that the same source named before: a
    /// discovery of the application's own. No more than
    /// [`Limits::peers`](crate::config::Limits::peers); a longer list changes nothing and is
    /// answered by [`Event::DiscoveryRejected`](super::Event::DiscoveryRejected).
    Discovered {
        /// Whose list it is, for people too, such as `tailscale`.
        source: String,
        /// All whom it names now.
        peers: Vec<Discovered>,
    },
    /// What became of an [`Event::FilesWanted`](super::Event::FilesWanted); ignored if that is
    /// answered already.
    Files {
        /// Which.
        call: CallId,
        /// What.
        news: FilesNews,
    },
    /// How far a download of this node is, for the peers' people: as often as that changes. It is
    /// told in good time, and again until it is over.
    Downloading(Download),
    /// Ask the peers for a piece of a file. Answered by exactly one
    /// [`Event::Part`](super::Event::Part), unless it is wanted no more.
    Want {
        /// The application's number of it.
        want: u64,
        /// The hash of the file, in hexadecimal digits, or a repository whose files are to be listed.
        name: String,
        /// Where the piece begins.
        from: u64,
        /// Most bytes of it.
        length: u32,
        /// Who is asked first, alone.
        prefer: Option<NodeId>,
    },
    /// A piece is wanted no more.
    Unwant {
        /// Which.
        want: u64,
    },
    /// What a peer sent of a file was wrong: it is not asked for it again.
    Blame {
        /// The file.
        name: String,
        /// The peer.
        node: NodeId,
    },
    /// The answer to an [`Event::PartWanted`](super::Event::PartWanted).
    Part {
        /// Which.
        read: u64,
        /// Bytes of the whole file.
        size: u64,
        /// `HERE`, `COMING` or `ABSENT` of [`part`](crate::wire::extension::part).
        code: u16,
        /// The bytes, as far as they are here.
        content: Bytes,
    },
    /// Give back the layers of a model, those that nothing uses. Each is told of by
    /// [`Event::Unloaded`](super::Event::Unloaded).
    Unload {
        /// Which.
        model: ModelId,
    },
    /// Leave in order: take no new requests, tell the peers to place nothing here, hand over the
    /// stages of theirs, and let the requests that were submitted here come to their end. Training
    /// jobs are ended. Answered by [`Event::Drained`](super::Event::Drained).
    Drain,
    /// Take no new requests, fail the running ones, tell the peers.
    Stop,
}

/// What is known of files that were wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FilesNews {
    /// They are on their way.
    Coming {
        /// Bytes that are here.
        done: u64,
        /// Bytes in all.
        total: u64,
    },
    /// They are here, or the engine had better look itself. The last word.
    Here,
    /// They cannot be had. The last word.
    Missing(EngineFailure),
}

/// A generation to start.
#[derive(Clone, Debug)]
pub struct Submit {
    /// Its name, unique for ever.
    pub request: RequestId,
    /// The model.
    pub model: ModelId,
    /// How many layers the model has.
    pub layers: u32,
    /// Bytes of all its weights; no ring is formed that has less memory. Zero when unknown.
    pub bytes: u64,
    /// What placement goes by; [`ModelCost::default`] when unknown.
    pub cost: ModelCost,
    /// What the model is ([`EngineEvent::Loaded`]); a node that has another one of the same name
    /// refuses to take part. Zero when unknown.
    pub fingerprint: u64,
    /// The prompt in the model's chat format, for a first stage that takes text only.
    pub prompt: Arc<str>,
    /// The same prompt as token ids.
    pub tokens: Vec<u32>,
    /// Tokens with which the model ends its answer.
    pub end_tokens: Vec<u32>,
    /// How the last stage chooses tokens.
    pub sampling: Sampling,
    /// Most tokens to generate; bounded by [`Config::max_tokens`](crate::Config::max_tokens).
    pub max_tokens: u32,
    /// Give up after this long.
    pub timeout: Duration,
    /// Tell what each step costs at each stage ([`Event::StepTimed`](super::Event::StepTimed)).
    pub trace: bool,
}

/// A training job to begin.
#[derive(Clone, Debug)]
pub struct Train {
    /// Its name, unique for ever and among requests too.
    pub job: RequestId,
    /// The model.
    pub model: ModelId,
    /// How many layers the model has.
    pub layers: u32,
    /// Bytes of all its weights; no ring is formed that has less memory. Zero when unknown.
    pub bytes: u64,
    /// What the model is ([`EngineEvent::Loaded`]); a node that has another one of the same name
    /// refuses to take part. Zero when unknown.
    pub fingerprint: u64,
    /// What is trained, and how.
    pub setup: Arc<TrainSetup>,
}

/// An example for a training job.
#[derive(Clone, Debug)]
pub struct Example {
    /// Which job.
    pub job: RequestId,
    /// Sequences, B; at least one.
    pub batch: u32,
    /// `B * T` token ids, row after row, at least one in each row.
    pub tokens: Vec<u32>,
    /// What is to come out: as many ids as there are tokens.
    pub targets: Targets,
    /// Learn from it, which is a step of the job; else only compare.
    pub learn: bool,
}

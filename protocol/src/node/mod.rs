//! The node: one door in, one door out.
//!
//! [`Node`] is a struct of small tables (connections, peers, requests, stages, engine calls) that
//! the files beside this one work on.
//!
//! - A connection: `connection` is what every one has, with its `outbox` that `write` empties;
//!   `extended` is what nodes of ours have in addition: `credit`, messages in pieces
//!   (`reassembly`), keepalive (`pulse`).
//! - Peers: `find` takes in what discovery says, `discover` reads lists, `announce` broadcasts. `peer` is
//!   what is known of one, with all its `address`es; `dial` and `links` keep connections to them,
//!   `measure` finds the best way, `moving` changes to it, `pace` watches it. `introduce` is how nodes of
//!   ours get to know each other, `health` watches reference peers, `serve` answers all of them,
//!   `views` says who is there, `place` cuts models into rings,
//!   `placement` chooses the quickest.
//! - A request has two sides. Its origin (`client`): `origin` starts and ends it, `recover` goes on
//!   when a stage is lost. Its stages (`session`): `open` takes part, `step` computes, `streams`
//!   carries, `ending` ends. `plan` is what both know. `plain` is all of that for rings with a
//!   reference node. `jobs` is training. `compute` talks with the engine, `idle`
//!   gives back what nobody uses, `speeds` measures it, `files` brings and gives files of models,
//!   `downloads` says how far they are, `deadline` when any of this is due, `timing` tells what each step of a request cost, and `traffic` counts frames.

mod address;
mod announce;
mod asking;
mod client;
mod compute;
mod connection;
mod credit;
mod deadline;
mod dial;
mod discover;
mod downloads;
mod ending;
mod extended;
mod failure;
mod files;
mod find;
mod health;
mod idle;
mod input;
mod introduce;
mod jobs;
mod links;
mod measure;
mod moving;
mod open;
mod origin;
mod outbox;
mod output;
mod pace;
mod peer;
mod place;
mod placement;
mod plain;
mod plan;
mod pulse;
mod reassembly;
mod recover;
mod sampling;
mod serve;
mod session;
mod speeds;
mod status;
mod step;
mod streams;
#[cfg(test)]
mod tests;
mod timing;
mod traffic;
mod views;
mod violation;
mod write;

pub use deadline::{Deadline, Timer};
pub use failure::{Failure, FinishReason, Rejection};
pub use find::{Discovered, Source};
pub use input::{Command, Example, FilesNews, Input, LinkFault, Origin, Submit, Train};
pub use jobs::JobFailure;
pub use output::{Event, Found, Output, Stage};
pub use placement::{By, LinkShare, NodeShare, Part, Placement, Question};
pub use status::{
    AddressStatus, ExtendedStatus, HopStatus, JobStatus, PeerStatus, RequestStatus, Status, Traffic,
};

use crate::config::Config;
use crate::id::{CallId, ConnectionId, DialId, ModelId, NodeId, RequestId};
use crate::rng::Rng;
use crate::time::Instant;
use crate::topology::Topology;
use crate::wire::{Hello, TopologyReply};
use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use announce::Announcing;
use asking::Asking;
use client::{Client, Ended};
use compute::Desk;
use connection::Connection;
use dial::Dialed;
use discover::File;
use downloads::Downloads;
use files::Files;
use jobs::{Job, JobStage};
use peer::{Peer, PeerKey};
use session::{Session, Told};
use speeds::Speeds;
use timing::Traced;

/// One node of the ring, as a state machine.
///
/// Methods come in three groups: `handle_*` take what happened, `poll_*` give what is to be done,
/// `status` looks without touching. See the crate's documentation for the contract.
#[derive(Debug)]
pub struct Node {
    config: Config,
    /// Tells this run of the node from every other.
    incarnation: u64,
    now: Instant,
    /// The next one, known after each input.
    deadline: Option<Deadline>,
    rng: Rng,
    outputs: VecDeque<Output>,
    connections: BTreeMap<ConnectionId, Connection>,
    /// Dials without an answer; `None` once the node has lost interest.
    dials: BTreeMap<DialId, Option<Dialed>>,
    peers: BTreeMap<PeerKey, Peer>,
    topology: Topology,
    /// What the peers were told of this node last.
    pushed: Option<TopologyReply>,
    /// Requests that were submitted here.
    clients: BTreeMap<RequestId, Client>,
    /// Stages that this node has in requests.
    sessions: BTreeMap<RequestId, Session>,
    /// Training jobs that were begun here.
    jobs: BTreeMap<RequestId, Job>,
    /// Stages that this node has in training jobs.
    job_stages: BTreeMap<RequestId, JobStage>,
    ended: Ended,
    /// The rings of the last requests of each model, the newest last.
    placed: VecDeque<(ModelId, Vec<Stage>)>,
    desk: Desk,
    speeds: Speeds,
    file: File,
    announcing: Announcing,
    asking: Asking,
    files: Files,
    downloads: Downloads,
    /// Traced requests that were over last.
    traced: VecDeque<Traced>,
    /// The driver was asked for this machine's addresses.
    lists_interfaces: bool,
    /// What origins were told last that this node cannot do.
    told: VecDeque<Told>,
    /// The nodes of ours that were met last, the newest at the end, and which run of each.
    met: VecDeque<(NodeId, u64)>,
    /// Connections with more to send than they may keep.
    full: VecDeque<ConnectionId>,
    /// Peers with a connection of which another one took the place.
    retiring: Vec<PeerKey>,
    /// Nodes that came with an id that was taken, and that were told of.
    clones: VecDeque<(NodeId, u64)>,
    leaving: bool,
    drained: bool,
    stopping: bool,
    last_dial: u64,
    last_peer: u64,
    last_call: u64,
}

impl Node {
    /// A node that is about to look for its peers. `seed` feeds jitter and generated request ids.
    #[must_use]
    pub fn new(mut config: Config, seed: u64, now: Instant) -> Self {
        // As all that peers are told of speeds: rounded.
        let speed = &mut config.capabilities.speed;
        *speed = speed.map(|measured| measured.follow(None));
        let mut topology = Topology::default();
        topology.update_node(config.node.clone(), config.capabilities.clone());
        let when = |wanted| if wanted { now } else { Instant::FAR_FUTURE };
        let read_at = when(config.discovery.file);
        let announcing = Announcing::new(when(config.discovery.broadcast.is_some()));
        let asking = Asking::new(config.discovery.tcp.as_ref(), now);
        let direct = config.discovery.direct.clone();
        let mut rng = Rng::new(seed);
        let mut node = Self {
            config,
            incarnation: rng.next_u64() % Hello::INCARNATIONS,
            now,
            deadline: None,
            rng,
            outputs: VecDeque::new(),
            connections: BTreeMap::new(),
            dials: BTreeMap::new(),
            peers: BTreeMap::new(),
            topology,
            pushed: None,
            clients: BTreeMap::new(),
            sessions: BTreeMap::new(),
            jobs: BTreeMap::new(),
            job_stages: BTreeMap::new(),
            ended: Ended::default(),
            placed: VecDeque::new(),
            desk: Desk::default(),
            speeds: Speeds::default(),
            file: File {
                content: None,
                read_at,
            },
            announcing,
            asking,
            files: Files::default(),
            downloads: Downloads::default(),
            traced: VecDeque::new(),
            lists_interfaces: false,
            told: VecDeque::new(),
            met: VecDeque::new(),
            full: VecDeque::new(),
            retiring: Vec::new(),
            clones: VecDeque::new(),
            leaving: false,
            drained: false,
            stopping: false,
            last_dial: 0,
            last_peer: 0,
            last_call: 0,
        };
        node.add_direct_peers(direct);
        node.deadline = node.next_deadline();
        node
    }

    /// Takes one input. Cannot fail: a peer that misbehaves costs its connection, never the node.
    pub fn handle_input(&mut self, now: Instant, input: Input) {
        self.handle_timeout(now);
        self.take(input);
        self.settle();
        self.deadline = self.next_deadline();
    }

    fn take(&mut self, input: Input) {
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
                bytes,
            } => {
                self.count_received(connection, bytes);
                self.received(connection, message);
            }
            Input::Progress { connection } => self.progress(connection),
            Input::Sent { connection, bytes } => {
                self.count_sent(connection, bytes);
                self.sent(connection, bytes);
            }
            Input::Lost { connection, fault } => self.lost(connection, &fault),
            Input::DiscoveryFile(content) => self.discovery_file(content),
            Input::Interfaces(interfaces) => self.interfaces(interfaces),
            Input::Datagram { from, payload } => self.heard(from, &payload),
            Input::Answered { ask, answer } => self.answered(ask, answer),
            Input::Asked {
                visit,
                from,
                payload,
            } => self.asked(visit, from, &payload),
            Input::Engine(event) => self.engine(event),
            Input::Command(Command::Submit(submit)) => self.submit(submit),
            Input::Command(Command::Cancel { request }) => self.cancel(&request),
            Input::Command(Command::Train(train)) => self.train(train),
            Input::Command(Command::Example(example)) => self.example(example),
            Input::Command(Command::Save { job }) => self.save(&job),
            Input::Command(Command::EndJob { job }) => self.end_job(&job),
            Input::Command(Command::Discovered { source, peers }) => {
                self.discovered(source, peers);
            }
            Input::Command(Command::Files { call, news }) => self.files_came(call, news),
            Input::Command(Command::Unload { model }) => self.unload_model(&model),
            Input::Command(Command::Want {
                want,
                name,
                from,
                length,
                prefer,
            }) => self.want(want, name, from, length, prefer),
            Input::Command(Command::Unwant { want }) => self.unwant(want),
            Input::Command(Command::Blame { name, node }) => self.blame(name, node),
            Input::Command(Command::Part {
                read,
                size,
                code,
                content,
            }) => self.part_read(read, size, code, content),
            Input::Command(Command::Downloading(download)) => self.downloading(download),
            Input::Command(Command::Drain) => self.drain(),
            Input::Command(Command::Stop) => self.stop(),
        }
    }

    /// Fires what is due at `now`. Early and repeated calls are harmless.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.now = self.now.max(now);
        while let Some(deadline) = self.deadline {
            if deadline.at > self.now {
                break;
            }
            match deadline.timer {
                Timer::Connection => self.expire_connections(),
                Timer::Dial => self.expire_dials(),
                Timer::Discovery => self.read_discovery_file(),
                Timer::Announcement => self.look_around(),
                Timer::Ask => self.look_for_targets(),
                Timer::Redial => self.redial(),
                Timer::Request => self.expire_clients(),
                Timer::Stage => self.expire_sessions(),
                Timer::Job => self.expire_jobs(),
                Timer::Health => self.check_health(),
                Timer::Pulse => self.check_pulses(),
                Timer::Topology => self.collect_topology(),
                Timer::Survey => self.survey(),
                Timer::Idle => self.unload_idle(),
                Timer::Files => self.look_after_files(),
                Timer::Downloads => self.tell_downloads(),
            }
            self.settle();
            self.deadline = self.next_deadline();
        }
    }

    /// What must not happen while something else is half done.
    fn settle(&mut self) {
        self.refuse_full();
        self.close_retired();
        // What is told of a job that lost a connection may be too much for another one.
        while self.check_job_routes() {
            self.refuse_full();
        }
    }

    /// The next effect. Drain until `None` before anything else is handed in.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to call [`Node::handle_timeout`] next, and why.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Deadline> {
        self.deadline
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

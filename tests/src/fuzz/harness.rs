//! One node and everything around it: connections, dials, an engine, an application. What the
//! contract of `exo-protocol` promises a driver is judged after every input.

mod promises;

use super::engine::{Engine, Mood};
use super::message::ME;
use super::scene::Scene;
use super::source::Source;
use bytes::Bytes;
use exo_protocol::config::{Broadcast, Config, DirectPeer, Discovery, Tcp};
use exo_protocol::topology::Capabilities;
use exo_protocol::wire::{DecodeLimits, HEADER_LEN, Hello, Message};
use exo_protocol::{
    AskId, Command, ConnectionId, DialId, Input, Instant, LinkFault, Node, Origin, RequestId,
    Timer, VisitId,
};
use promises::Answer;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// Set, it has every input and every effect printed.
const TRACE: &str = "EXO_FUZZ_TRACE";

pub(super) fn prints() -> bool {
    std::env::var_os(TRACE).is_some()
}

#[derive(Debug)]
pub(super) struct Harness {
    pub(super) node: Node,
    pub(super) config: Config,
    pub(super) now: Instant,
    pub(super) engine: Engine,
    pub(super) wires: BTreeMap<ConnectionId, Wire>,
    pub(super) dials: VecDeque<DialId>,
    pub(super) reads_file: bool,
    pub(super) lists_interfaces: bool,
    /// Datagrams that may still come.
    pub(super) datagrams: u32,
    /// Announcements over TCP that were not answered.
    pub(super) asks: VecDeque<AskId>,
    /// Who announced itself and waits for its answer.
    pub(super) visitor: Option<VisitId>,
    last_visit: u64,
    answers: BTreeMap<RequestId, Answer>,
    newest_connection: u64,
    newest_dial: u64,
    drained: bool,
    /// Bytes that came in pieces, and the largest step.
    pieces: u64,
    largest: u64,
    /// Closed connections stay for a while.
    pub(super) lingers: bool,
    /// Whether all is printed that goes in and comes out.
    prints: bool,
}

/// A connection from `Opened` to `Lost`.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) scene: Scene,
    /// Frames that wait for their confirmation.
    in_hand: VecDeque<usize>,
    closing: bool,
    /// The far end said who it is.
    introduced: bool,
}

/// Little room everywhere, so that a short script reaches every limit.
pub(super) fn config(shape: u8) -> Config {
    let machine = Capabilities {
        memory: 1000,
        ..Capabilities::unknown()
    };
    let mut config = Config::new(ME.into(), machine);
    config.trains = true;
    let peer = |address: &str, node: Option<&str>| DirectPeer {
        address: address.into(),
        node: node.map(Into::into),
    };
    config.discovery = match shape & 3 {
        0 | 1 => Discovery {
            direct: vec![peer("a:1", None), peer("b:1", Some("b"))],
            ..Discovery::default()
        },
        2 => Discovery {
            file: true,
            ..Discovery::default()
        },
        _ => Discovery {
            broadcast: Some(Broadcast {
                node_port: 1,
                target_port: 5678,
                nodes: Vec::new(),
                kinds: Vec::new(),
            }),
            tcp: Some(Tcp {
                node_port: 1,
                seeds: vec!["a:5678".into(), "b:5678".into()],
                probe: shape & 4 != 0,
                port: 5678,
                nodes: Vec::new(),
            }),
            ..Discovery::default()
        },
    };
    config.decode = DecodeLimits {
        frame: 64 << 10,
        metadata: 8 << 10,
        json: 16 << 10,
        ..DecodeLimits::default()
    };
    let limits = &mut config.limits;
    limits.connections = 4;
    limits.peers = 6;
    limits.newcomers = 3;
    limits.announcements = 8;
    limits.outbox = 24;
    limits.window = 1 + usize::from(shape >> 2 & 3);
    limits.requests = 3;
    limits.ended = 4;
    limits.topology = 12;
    limits.stages = 4;
    limits.recoveries = 3;
    limits.prefill = 3;
    (limits.window_bytes, limits.stream_window_bytes) = match shape >> 4 & 3 {
        0 => (512, 128),
        1 => (128, 512),
        2 => (1, 1),
        _ => (1 << 20, 1 << 16),
    };
    config
}

impl Harness {
    pub(super) fn new(config: Config) -> Self {
        let mut harness = Self {
            node: Node::new(config.clone(), 1, Instant::ZERO),
            config,
            now: Instant::ZERO,
            engine: Engine::default(),
            wires: BTreeMap::new(),
            dials: VecDeque::new(),
            reads_file: false,
            lists_interfaces: false,
            datagrams: 0,
            asks: VecDeque::new(),
            visitor: None,
            last_visit: 0,
            answers: BTreeMap::new(),
            newest_connection: 0,
            newest_dial: 0,
            drained: false,
            pieces: 0,
            largest: 0,
            lingers: false,
            prints: prints(),
        };
        harness.settle();
        harness
    }

    pub(super) fn input(&mut self, input: Input) {
        if self.prints {
            eprintln!("{} > {input:?}", self.now);
        }
        self.node.handle_input(self.now, input);
        self.settle();
    }

    /// Somebody announces itself over TCP, and has its answer at once.
    pub(super) fn visited(&mut self, host: u8, payload: Bytes) {
        self.last_visit += 1;
        let visit = VisitId(self.last_visit);
        self.visitor = Some(visit);
        self.input(Input::Asked {
            visit,
            from: [10, 0, 0, host % 4].into(),
            payload,
        });
        assert_eq!(self.visitor, None, "it is not answered");
    }

    pub(super) fn wait(&mut self, time: Duration) {
        self.now = self.now + time;
        self.settle();
    }

    /// Waits for the node's next deadline.
    pub(super) fn wait_for_deadline(&mut self) {
        if let Some(deadline) = self.node.poll_timeout() {
            self.now = self.now.max(deadline.at);
        }
        self.settle();
    }

    /// A new connection from `node`, or to it if a dial waits for an answer.
    pub(super) fn open(&mut self, dialed: bool, node: &'static str) -> ConnectionId {
        self.newest_connection += 1;
        let connection = ConnectionId(self.newest_connection);
        let dial = if dialed { self.dials.pop_front() } else { None };
        let wire = Wire {
            scene: Scene::of(node),
            in_hand: VecDeque::new(),
            closing: false,
            introduced: false,
        };
        self.wires.insert(connection, wire);
        self.input(Input::Opened {
            connection,
            origin: dial.map_or(Origin::Accepted, Origin::Dialed),
            remote: node.into(),
        });
        connection
    }

    pub(super) fn lose(&mut self, connection: ConnectionId, fault: LinkFault) {
        if let Some(wire) = self.wires.remove(&connection) {
            let fault = if wire.closing {
                LinkFault::Local
            } else {
                fault
            };
            self.input(Input::Lost { connection, fault });
        }
    }

    /// Connections that the node closed are gone, unless they take their time.
    pub(super) fn hang_up(&mut self) {
        let closing = |(id, wire): (&ConnectionId, &Wire)| wire.closing.then_some(*id);
        let patience = if self.lingers { 3 } else { 0 };
        let all: Vec<ConnectionId> = self.wires.iter().filter_map(closing).collect();
        for connection in all.into_iter().rev().skip(patience) {
            self.lose(connection, LinkFault::Local);
        }
    }

    /// A whole message comes.
    pub(super) fn hear(&mut self, connection: ConnectionId, message: Message) {
        let Some(wire) = self.wires.get_mut(&connection) else {
            return;
        };
        wire.scene.said(&message);
        match &message {
            Message::HealthCheckRequest { payload } => {
                wire.introduced |= Hello::from_request_payload(payload).is_some();
            }
            Message::HealthCheckResponse { exo: Some(exo), .. } => {
                wire.introduced |= Hello::from_json(exo).is_some();
            }
            Message::Chunk(chunk) => {
                self.pieces += chunk.data.len() as u64;
                self.largest = self.largest.max(chunk.total.into());
            }
            Message::Step(step) => self.largest = self.largest.max(step.payload_len() as u64),
            _ => {}
        }
        // Any of these may begin a request, or a ring of one.
        for request in ["r0", "r1", "r2", "r3"] {
            if let Message::Open(_)
            | Message::Chunk(_)
            | Message::SendPromptRequest(_)
            | Message::SendTensorRequest(_) = message
            {
                self.engine.renew(request);
            }
        }
        let bytes = HEADER_LEN;
        self.input(Input::Received {
            connection,
            message,
            bytes,
        });
    }

    /// The far end behaves well.
    pub(super) fn goes_on(&mut self, connection: ConnectionId, source: &mut Source<'_>) {
        let Some(wire) = self.wires.get_mut(&connection) else {
            return;
        };
        for message in wire.scene.goes_on(source) {
            self.hear(connection, message);
        }
    }

    /// The system takes so many frames of a connection.
    pub(super) fn confirm(&mut self, connection: ConnectionId, count: usize) {
        for _ in 0..count {
            let Some(wire) = self.wires.get_mut(&connection) else {
                return;
            };
            let Some(bytes) = wire.in_hand.pop_front() else {
                return;
            };
            self.input(Input::Sent { connection, bytes });
        }
    }

    /// The engine executes so many commands.
    pub(super) fn compute(&mut self, count: usize, mood: Mood) {
        for _ in 0..count {
            let Some(event) = self.engine.execute(mood) else {
                return;
            };
            self.input(Input::Engine(event));
        }
    }

    /// Everything ends: the node stops, the engine finishes, the connections are gone.
    pub(super) fn end(mut self) {
        self.input(Input::Command(Command::Stop));
        for (request, answer) in &self.answers {
            assert!(answer.ended, "{request} has no end");
        }
        let status = self.node.status();
        assert!(status.requests.is_empty(), "{:?}", status.requests);
        assert!(status.jobs.is_empty(), "{:?}", status.jobs);
        while self.engine.queued() > 0 {
            self.compute(1, Mood::Able);
        }
        let status = self.node.status();
        assert_eq!(status.calls, 0, "calls without an answer");
        self.engine.assert_idle();
        if self.pieces == 0 {
            assert_eq!(status.extended.held, 0, "bytes of steps that nobody has");
        }
        while let Some((&connection, _)) = self.wires.first_key_value() {
            self.lose(connection, LinkFault::Closed);
        }
        let status = self.node.status();
        assert_eq!(status.connections, 0);
        assert_eq!(status.queued, 0);
        assert_eq!(
            status.extended,
            exo_protocol::node::ExtendedStatus::default()
        );
        if let Some(deadline) = self.node.poll_timeout() {
            assert!(
                matches!(
                    deadline.timer,
                    Timer::Dial
                        | Timer::Redial
                        | Timer::Discovery
                        | Timer::Announcement
                        | Timer::Ask
                        | Timer::Survey
                        | Timer::Idle
                        | Timer::Files
                        | Timer::Downloads
                ),
                "nothing else is left to wait for: {deadline:?}"
            );
        }
    }
}

/// A discovery file that names some peers.
pub(super) fn discovery_file(shape: u8) -> Result<Bytes, String> {
    match shape & 3 {
        0 => Err(String::from("no such file")),
        1 => Ok(Bytes::from_static(b"{")),
        2 => Ok(Bytes::from_static(
            br#"{"peers": {"a": {"address": "a", "port": 1}}}"#,
        )),
        _ => Ok(Bytes::from_static(
            br#"{"peers": {"b": {"address": "b", "port": 1}, "c": {"address": "c", "port": 2}}}"#,
        )),
    }
}

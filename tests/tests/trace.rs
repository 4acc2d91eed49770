//! The recorded conversation of two reference nodes, replayed against a [`Node`] in the place of
//! either of them: what the node sends must be what the reference node sent, byte for byte.

use bytes::Bytes;
use exo_protocol::dummy::{self, DummyEngine};
use exo_protocol::engine::Engine;
use exo_protocol::id::ConnectionId;
use exo_protocol::topology::{Capabilities, EngineInfo, Flops, Speed};
use exo_protocol::wire::{DecodeLimits, Encoder, Message, MessageType};
use exo_protocol::{Command, Config, Event, Input, Instant, Node, Origin, Output, Submit};
use exo_tests::fuzz::decode_in_pieces;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

/// One recorded frame.
struct Recorded {
    from: String,
    /// Whether its sender opened the connection: then it is a request, else a reply.
    request: bool,
    id: Option<String>,
    bytes: Vec<u8>,
}

fn trace() -> Value {
    let folder = std::env::var("EXO_VECTORS")
        .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/vectors").into());
    let path = std::path::Path::new(&folder).join("trace_dummy_2node.json");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).expect("JSON")
}

/// The frames in the order of their recording, cut out of the recorded streams.
fn frames(trace: &Value) -> Vec<Recorded> {
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let openers: BTreeMap<u64, String> = trace["events"]
        .as_array()
        .expect("a list")
        .iter()
        .filter(|event| event["event"] == "open")
        .map(|event| {
            (
                event["conn"].as_u64().expect("a number"),
                text(&event["from"]),
            )
        })
        .collect();
    let mut streams: BTreeMap<(u64, String), VecDeque<u8>> = BTreeMap::new();
    for chunk in trace["chunks"].as_array().expect("a list") {
        let key = (
            chunk["conn"].as_u64().expect("a number"),
            text(&chunk["from"]),
        );
        let hex = text(&chunk["bytes_hex"]);
        let bytes = (0..hex.len()).step_by(2).map(|at| {
            hex.get(at..at + 2)
                .and_then(|pair| u8::from_str_radix(pair, 16).ok())
                .expect("hex")
        });
        streams.entry(key).or_default().extend(bytes);
    }
    let message = |message: &Value| {
        let connection = message["conn"].as_u64().expect("a number");
        let from = text(&message["from"]);
        let length = 9 + usize::try_from(message["payload_len"].as_u64().expect("a number"))
            .expect("a length");
        let stream = streams
            .get_mut(&(connection, from.clone()))
            .expect("its stream");
        Recorded {
            request: openers.get(&connection) == Some(&from),
            from,
            id: message["fields"]["request_id"].as_str().map(str::to_owned),
            bytes: stream.drain(..length).collect(),
        }
    };
    trace["messages"]
        .as_array()
        .expect("a list")
        .iter()
        .map(message)
        .collect()
}

fn decode(bytes: &[u8]) -> Message {
    let (mut messages, error) = decode_in_pieces(bytes, &DecodeLimits::default(), |length| length);
    assert_eq!(
        (messages.len(), error),
        (1, None),
        "a recorded frame is one message"
    );
    messages.remove(0)
}

fn encode(message: &Message) -> Vec<u8> {
    Encoder::new(message).expect("it encodes").slices().concat()
}

/// A node in the place of one of the two, with the recording in the place of the other.
struct Replay {
    node: Node,
    engine: DummyEngine,
    now: Instant,
    file: String,
    last_connection: u64,
    /// The recorded reply to every topology request.
    topology: Message,
    /// What the node sent, by request and type.
    sent: BTreeMap<(String, MessageType), Vec<Vec<u8>>>,
    /// Its answers to health checks.
    health: BTreeSet<Vec<u8>>,
    acknowledged: usize,
    events: Vec<Event>,
}

const INBOUND: ConnectionId = ConnectionId(1);

impl Replay {
    fn new(own: &str, other: &str, memory: i64, topology: Message) -> Self {
        let capabilities = Capabilities {
            model: "Linux Box (Device: CPU)".into(),
            chip: "Unknown Chip (Device: CPU)".into(),
            memory,
            flops: Flops::default(),
            // The reference must not notice.
            engine: Some(EngineInfo::default()),
            speed: Some(Speed {
                decode: 1,
                prefill: 1,
            }),
        };
        let mut config = Config::new(own.into(), capabilities);
        config.discovery.file = true;
        Self {
            node: Node::new(config, 1, Instant::ZERO),
            engine: DummyEngine::new(),
            now: Instant::ZERO,
            file: format!(r#"{{"peers": {{"{other}": {{"address": "127.0.0.1:1"}}}}}}"#),
            last_connection: INBOUND.0,
            topology,
            sent: BTreeMap::new(),
            health: BTreeSet::new(),
            acknowledged: 0,
            events: vec![],
        }
    }

    fn input(&mut self, input: Input) {
        let mut queue = VecDeque::from([input]);
        while let Some(input) = queue.pop_front() {
            self.node.handle_input(self.now, input);
            while let Some(output) = self.node.poll_output() {
                self.carry_out(output, &mut queue);
            }
        }
    }

    fn carry_out(&mut self, output: Output, queue: &mut VecDeque<Input>) {
        match output {
            Output::Dial { dial, address } => {
                self.last_connection += 1;
                let connection = ConnectionId(self.last_connection);
                let origin = Origin::Dialed(dial);
                queue.push_back(Input::Opened {
                    connection,
                    origin,
                    remote: address,
                });
            }
            Output::Send {
                connection,
                message,
            } => {
                let kind = message.message_type();
                assert!(!kind.is_extension(), "a reference peer is sent {kind:?}");
                let bytes = encode(&message);
                let length = bytes.len();
                queue.push_back(Input::Sent {
                    connection,
                    bytes: length,
                });
                let id = match &message {
                    Message::SendPromptRequest(prompt) => prompt.request_id.clone(),
                    Message::SendTensorRequest(tensor) => tensor.request_id.clone(),
                    Message::SendResult(result) => result.request_id.clone(),
                    _ => None,
                };
                if let Some(id) = id {
                    self.sent.entry((id, kind)).or_default().push(bytes);
                } else if kind == MessageType::HealthCheckResponse {
                    self.health.insert(bytes);
                }
                let reply = match message {
                    // As the reference: it neither reads nor writes an introduction.
                    Message::HealthCheckRequest { .. } => Some(Message::HealthCheckResponse {
                        is_healthy: true,
                        exo: None,
                    }),
                    Message::CollectTopologyRequest { .. } => Some(self.topology.clone()),
                    Message::SendTensorRequest(_) => Some(Message::SendTensorResponse(None)),
                    Message::SendTensorResponse(None) => {
                        assert_eq!(connection, INBOUND);
                        self.acknowledged += 1;
                        None
                    }
                    _ => None,
                };
                if let Some(message) = reply {
                    queue.push_back(Input::Received {
                        connection,
                        message,
                        bytes: 0,
                    });
                }
            }
            Output::Close { connection } => panic!("{connection} closed: {:?}", self.events),
            Output::ListInterfaces
            | Output::Broadcast { .. }
            | Output::Listen { .. }
            | Output::Ask { .. }
            | Output::Answer { .. } => {
                panic!("nobody asked for announcements")
            }
            Output::ReadDiscoveryFile => {
                queue.push_back(Input::DiscoveryFile(Ok(Bytes::from(self.file.clone()))));
            }
            Output::Compute(command) => {
                queue.push_back(Input::Engine(self.engine.execute(command, &mut |_| {})));
            }
            Output::Event(event) => self.events.push(event),
        }
    }

    fn settle(&mut self) {
        while let Some(deadline) = self.node.poll_timeout() {
            if deadline.at > Instant::after_origin(Duration::from_secs(10)) {
                break;
            }
            self.now = self.now.max(deadline.at);
            self.node.handle_timeout(self.now);
            let mut queue = VecDeque::new();
            while let Some(output) = self.node.poll_output() {
                self.carry_out(output, &mut queue);
            }
            while let Some(input) = queue.pop_front() {
                self.input(input);
            }
        }
        let remote = "127.0.0.1:2".into();
        self.input(Input::Opened {
            connection: INBOUND,
            origin: Origin::Accepted,
            remote,
        });
    }

    fn submit(&mut self, id: &str) {
        self.input(Input::Command(Command::Submit(Submit {
            request: id.into(),
            model: dummy::MODEL.into(),
            layers: dummy::LAYERS,
            bytes: 0,
            cost: Default::default(),
            fingerprint: 0,
            prompt: dummy::PROMPT.into(),
            tokens: vec![dummy::PROMPT_TOKEN],
            end_tokens: vec![dummy::END_TOKEN],
            sampling: Default::default(),
            max_tokens: 10_000,
            timeout: Duration::from_secs(900),
            trace: false,
        })));
    }
}

fn replay(own: &str, other: &str) {
    let trace = trace();
    let recorded = frames(&trace);
    let memory = trace["topology_from_http_api"][own]["nodes"][own]["memory"].as_i64();
    let replies = recorded
        .iter()
        .rev()
        .filter(|frame| frame.from == other && !frame.request);
    let topology = replies
        .map(|frame| decode(&frame.bytes))
        .find(|message| message.message_type() == MessageType::CollectTopologyResponse)
        .expect("a recorded topology");
    let mut replay = Replay::new(own, other, memory.expect("a number"), topology);
    replay.settle();

    let mut begun = BTreeSet::new();
    let mut own_requests = BTreeSet::new();
    let mut health = BTreeSet::new();
    let mut expected: BTreeMap<(String, MessageType), Vec<Vec<u8>>> = BTreeMap::new();
    let mut tensors = 0;
    for frame in &recorded {
        let kind = MessageType::from_byte(frame.bytes[4]).expect("a known type");
        if frame.from == own && kind == MessageType::HealthCheckResponse {
            health.insert(frame.bytes.clone());
        }
        if let Some(id) = &frame.id
            && kind != MessageType::SendOpaqueStatus
        {
            // Who spoke first of a request, with anything but a status, started it, unless what it
            // said shows that it was asked to.
            if begun.insert(id.clone()) && frame.from == own {
                own_requests.insert(id.clone());
                replay.submit(id);
            }
            if frame.from == own {
                expected
                    .entry((id.clone(), kind))
                    .or_default()
                    .push(frame.bytes.clone());
            }
        }
        if frame.from == other && frame.request {
            tensors += usize::from(kind == MessageType::SendTensorRequest);
            let message = decode(&frame.bytes);
            let bytes = frame.bytes.len();
            replay.input(Input::Received {
                connection: INBOUND,
                message,
                bytes,
            });
        }
    }

    assert_eq!(begun.len(), 5, "the recording holds five requests");
    assert_eq!(health.len(), 1, "the reference has one answer");
    assert_eq!(replay.health, health, "without an introduction");
    assert!(!own_requests.is_empty());
    // Intended difference: results go to who asked, not to everybody. The reference tells its peer
    // every token of its own requests, which the peer throws away.
    expected
        .retain(|(id, kind), _| !(*kind == MessageType::SendResult && own_requests.contains(id)));
    let keys = |map: &BTreeMap<(String, MessageType), _>| map.keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&replay.sent), keys(&expected), "{:?}", replay.events);
    for (key, frames) in &expected {
        assert_eq!(replay.sent.get(key), Some(frames), "{own}, {key:?}");
    }
    assert_eq!(replay.acknowledged, tensors, "every tensor is acknowledged");
    for id in &own_requests {
        let tokens: Vec<u32> = replay
            .events
            .iter()
            .filter_map(|event| match event {
                Event::Token { request, token, .. } if **request == **id => Some(*token),
                _ => None,
            })
            .collect();
        assert_eq!(tokens, [2, 3, 4, 5, 6, 7, 8, 9, 10]);
    }
    let status = replay.node.status();
    let left: Vec<_> = status
        .requests
        .iter()
        .map(|request| &request.request)
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn in_the_place_of_the_first_stage() {
    replay("node-b", "node-a");
}

#[test]
fn in_the_place_of_the_last_stage() {
    replay("node-a", "node-b");
}

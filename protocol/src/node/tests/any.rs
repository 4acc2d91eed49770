//! Whatever comes, in whatever order: the node does not panic, does not spin, and keeps its limits.

use crate::config::{Config, DirectPeer, Discovery};
use crate::engine::{
    EngineCommand, EngineEvent, EngineFailure, EngineOutput, FailureKind, Sampling, Scores,
};
use crate::id::{CallId, ConnectionId, DialId};
use crate::json::Json;
use crate::node::*;
use crate::shard::Shard;
use crate::tensor::{DType, Tensor};
use crate::topology::Capabilities;
use crate::wire::{
    Chunk, Download, DownloadState, Ending, Hello, Message, Notice, Open, Scored, SendPrompt,
    SendResult, SendTensor, Step as WireStep, StepBody, Timing, Token, TopologyReply, WireEdge,
};
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use bytes::Bytes;
use core::time::Duration;
use proptest::prelude::*;

/// One step of a random life: what happens, and numbers to choose the details by.
type Step = (u8, u64, u64);

struct Life {
    node: Node,
    now: Instant,
    open: Vec<ConnectionId>,
    dials: Vec<DialId>,
    calls: Vec<EngineCommand>,
    last_connection: u64,
}

fn pick<T: Clone>(list: &[T], by: u64) -> Option<T> {
    let index = usize::try_from(by.checked_rem(list.len() as u64)?).ok()?;
    list.get(index).cloned()
}

fn download(by: u64) -> Download {
    let start = u32::try_from(by % 40).unwrap_or(0);
    Download {
        shard: Shard {
            model: "dummy".into(),
            start,
            end: start,
            layers: 40,
        },
        state: match by % 4 {
            0 => DownloadState::Here,
            1 => DownloadState::Failed("x".into()),
            _ => DownloadState::Coming,
        },
        done: by % 9,
        total: 9,
        speed: by % 3,
    }
}

fn message(kind: u64, by: u64) -> Message {
    let id = format!("r{}", by % 4);
    let first = u32::try_from(by % 3).unwrap_or(0) * 2;
    let shard = Shard {
        model: "dummy".into(),
        start: first,
        end: first + 3,
        layers: 8,
    };
    let state = by.is_multiple_of(5).then(|| Json::Object(vec![]));
    let hello = Hello {
        incarnation: by / 9 % 2,
        ..Hello::new(if by.is_multiple_of(4) { "b" } else { "a" })
    };
    let stream = u32::try_from(by % 5).unwrap_or(0);
    let ending = Ending {
        epoch: u32::try_from(by / 7 % 3).unwrap_or(0),
        code: u16::try_from(by % 10).unwrap_or(0),
        request: id.as_str().into(),
        text: "x".into(),
    };
    match kind % 25 {
        0 => Message::HealthCheckRequest {
            payload: hello.to_request_payload(),
        },
        1 => Message::HealthCheckResponse {
            is_healthy: !by.is_multiple_of(5),
            exo: by.is_multiple_of(2).then(|| hello.to_json()),
        },
        2 => Message::SendPromptRequest(SendPrompt {
            shard,
            prompt: "p".into(),
            request_id: (!by.is_multiple_of(6)).then_some(id),
            inference_state: state,
        }),
        3 | 4 => Message::SendTensorRequest(SendTensor {
            shard,
            tensor: Tensor::from_tokens(&[1]),
            request_id: (!by.is_multiple_of(11)).then_some(id),
            inference_state: state,
        }),
        5 => Message::SendTensorResponse(None),
        6 => Message::SendResult(SendResult {
            request_id: Some(id),
            result: vec![i64::try_from(by % 80).unwrap_or(0) - 3],
            is_finished: by.is_multiple_of(3),
            tensor: None,
        }),
        7 => Message::CollectTopologyRequest {
            visited: vec![],
            max_depth: 3,
        },
        8 => Message::CollectTopologyResponse(topology()),
        9 => Message::SendOpaqueStatus {
            request_id: Some(id),
            status: match by % 3 {
                0 => String::from("{"),
                _ => download(by).to_status(&"b".into()),
            },
        },
        10 => Message::Ping { id: by },
        11 => Message::Pong { id: by % 4 },
        12 => Message::Goodbye(Notice {
            code: 0,
            text: String::new(),
        }),
        13 => Message::Topology(topology()),
        14 | 15 => Message::Open(Open {
            stream,
            plan: plan(&id, by).into(),
        }),
        16 | 17 => Message::Step(WireStep {
            stream,
            position: u32::try_from(by / 11 % 3).unwrap_or(0),
            sample: by.is_multiple_of(2),
            body: if by.is_multiple_of(3) {
                StepBody::Tokens(vec![1, 2])
            } else {
                StepBody::Hidden(hidden())
            },
        }),
        18 => Message::Token(Token {
            stream,
            index: u32::try_from(by / 13 % 3).unwrap_or(0),
            token: 5,
            end: by.is_multiple_of(3),
            last: by.is_multiple_of(5),
        }),
        19 if by.is_multiple_of(2) => Message::Scored(Scored {
            token: Token {
                stream,
                index: u32::try_from(by / 13 % 3).unwrap_or(0),
                token: 5,
                end: false,
                last: by.is_multiple_of(5),
            },
            scores: Scores::of(&[1.0, 2.0], 0, 2),
        }),
        19 => Message::Close { stream },
        20 => Message::Credit {
            stream,
            bytes: u32::try_from(by % 100).unwrap_or(0),
        },
        21 => Message::End(ending),
        22 => Message::Failed(ending),
        23 => Message::Timing(Timing {
            request: id.as_str().into(),
            epoch: u32::try_from(by % 2).unwrap_or(0),
            stage: u16::try_from(by / 3 % 3).unwrap_or(0),
            position: 1,
            positions: 1,
            wait: Duration::MAX,
            compute: Duration::ZERO,
            write: Duration::ZERO,
            rtt: Duration::ZERO,
        }),
        _ => Message::Chunk(Chunk {
            transfer: u32::try_from(by % 3).unwrap_or(0),
            kind: 0x87,
            total: 100,
            offset: u32::try_from(by / 17 % 3).unwrap_or(0) * 50,
            data: Bytes::from_static(&[0; 50]),
        }),
    }
}

fn hidden() -> Tensor {
    let data = Bytes::from_static(&[0; 8]);
    Tensor::new(DType::F32, vec![1, 2, 1], data).expect("eight bytes")
}

fn topology() -> TopologyReply {
    let edge = |to: &str| WireEdge {
        to_id: to.into(),
        description: None,
        metrics: Default::default(),
    };
    let machine = Capabilities {
        memory: 1000,
        ..Capabilities::unknown()
    };
    TopologyReply {
        nodes: vec![("a".into(), machine.clone()), ("b".into(), machine)],
        peer_graph: vec![("a".into(), vec![edge("me"), edge("b")])],
    }
}

/// A plan in which this node is often a stage.
fn plan(id: &str, by: u64) -> String {
    let origin = if by.is_multiple_of(3) { "me" } else { "a" };
    let split = 3 + u64::from(by.is_multiple_of(13));
    let (first, last) = if by.is_multiple_of(2) {
        ("me", "a")
    } else {
        ("a", "me")
    };
    let (epoch, keep) = (by / 5 % 3, by / 19 % 2);
    format!(
        r#"{{"request": "{id}", "epoch": {epoch}, "origin": "{origin}", "model": "dummy",
        "layers": 8, "fingerprint": {}, "ring": [["{first}", 0, 3, {keep}], ["{last}", {}, 7, {keep}]],
        "prompt": 2, "sampling": {{"temperature": 0, "top_p": 1, "top_k": 0, "seed": 1}},
        "max_tokens": 4}}"#,
        by / 23 % 2,
        split + 1,
    )
}

impl Life {
    fn new() -> Self {
        let mut config = Config::new(
            "me".into(),
            Capabilities {
                memory: 1000,
                ..Capabilities::unknown()
            },
        );
        let peer = |address: &str| DirectPeer {
            address: address.into(),
            node: None,
        };
        config.discovery = Discovery {
            direct: vec![peer("a:1"), peer("b:1")],
            ..Discovery::default()
        };
        config.limits.connections = 6;
        config.limits.requests = 3;
        config.limits.ended = 5;
        config.limits.outbox = 9;
        config.limits.window = 2;
        Self {
            node: Node::new(config, 1, Instant::ZERO),
            now: Instant::ZERO,
            open: vec![],
            dials: vec![],
            calls: vec![],
            last_connection: 0,
        }
    }

    fn step(&mut self, (what, by, detail): Step) {
        let input = match what {
            0 | 1 => {
                self.last_connection += 1;
                let connection = ConnectionId(self.last_connection);
                let origin = match self.dials.pop() {
                    Some(dial) if what == 0 => Origin::Dialed(dial),
                    dial => {
                        self.dials.extend(dial);
                        Origin::Accepted
                    }
                };
                self.open.push(connection);
                Some(Input::Opened {
                    connection,
                    origin,
                    remote: "far".into(),
                })
            }
            2 => self.dials.pop().map(|dial| Input::DialFailed {
                dial,
                reason: String::from("refused"),
            }),
            3 => pick(&self.open, by).map(|connection| {
                self.open.retain(|open| *open != connection);
                Input::Lost {
                    connection,
                    fault: LinkFault::Closed,
                }
            }),
            4 => pick(&self.open, by).map(|connection| Input::Progress { connection }),
            5 => pick(&self.open, by).map(|connection| Input::Sent {
                connection,
                bytes: 9,
            }),
            6 => {
                let command = pick(&self.calls, by);
                self.calls
                    .retain(|call| Some(call.call()) != command.as_ref().map(|c| c.call()));
                command.map(|command| Input::Engine(answer(&command, detail)))
            }
            // An engine or a driver of somebody's own may be wrong, too.
            7 => Some(Input::Engine(EngineEvent::Freed {
                call: CallId(by % 20),
            })),
            8 => Some(Input::Command(match by % 12 {
                0 if detail.is_multiple_of(2) => Command::Stop,
                0 => Command::Drain,
                1..4 => Command::Cancel {
                    request: format!("r{}", detail % 4).into(),
                },
                4 => Command::Discovered {
                    source: format!("list {}", detail % 2),
                    peers: (0..detail % 3).map(|_| discovered(by / 12)).collect(),
                },
                5 | 6 => Command::Downloading(download(detail)),
                _ => Command::Submit(Submit {
                    request: format!("r{}", detail % 4).into(),
                    model: "dummy".into(),
                    layers: 8,
                    bytes: 0,
                    cost: Default::default(),
                    fingerprint: by / 23 % 2,
                    prompt: "p".into(),
                    tokens: vec![1],
                    end_tokens: vec![69],
                    sampling: Sampling::default(),
                    max_tokens: 4,
                    timeout: Duration::from_secs(20),
                    trace: by.is_multiple_of(2),
                }),
            })),
            9 => {
                self.now = self.now + Duration::from_millis(by % 4000);
                self.node.handle_timeout(self.now);
                None
            }
            10 => Some(Input::DiscoveryFile(Ok(Bytes::from_static(b"{")))),
            _ => pick(&self.open, by).map(|connection| Input::Received {
                connection,
                message: message(detail, by / 3),
                bytes: 9,
            }),
        };
        if let Some(input) = input {
            self.node.handle_input(self.now, input);
        }
        self.drain();
        // What became due at once is fired at once, and nothing stays due.
        self.node.handle_timeout(self.now);
        self.drain();
        self.check();
    }

    fn drain(&mut self) {
        let mut outputs = 0;
        while let Some(output) = self.node.poll_output() {
            outputs += 1;
            assert!(outputs < 1000, "one input has no end of outputs");
            match output {
                Output::Dial { dial, .. } => self.dials.push(dial),
                Output::Compute(command) => self.calls.push(command),
                Output::Close { connection } => {
                    self.open.retain(|open| *open != connection);
                    let fault = LinkFault::Local;
                    self.node
                        .handle_input(self.now, Input::Lost { connection, fault });
                }
                Output::Send { connection, .. } => {
                    assert!(connection.0 <= self.last_connection, "it was opened");
                }
                Output::ReadDiscoveryFile
                | Output::ListInterfaces
                | Output::Broadcast { .. }
                | Output::Listen { .. }
                | Output::Ask { .. }
                | Output::Answer { .. }
                | Output::Event(_) => {}
            }
        }
    }

    fn check(&self) {
        let status = self.node.status();
        assert!(status.connections <= self.open.len());
        assert!(status.requests.len() <= 6, "{:?}", status.requests);
        assert!(
            status.queued <= 9 * status.connections.max(1),
            "{}",
            status.queued
        );
        assert!(status.calls <= self.calls.len());
        if let Some(deadline) = self.node.poll_timeout() {
            assert!(
                deadline.at > self.now,
                "{deadline:?} is due and was not fired"
            );
        }
    }
}

fn discovered(by: u64) -> Discovered {
    let names = [None, Some("a".into()), Some("b".into()), Some("x".into())];
    Discovered {
        node: pick(&names, by).flatten(),
        address: format!("far:{}", by / 4 % 4),
        description: String::from("LIST"),
        capabilities: None,
    }
}

fn answer(command: &EngineCommand, detail: u64) -> EngineEvent {
    let call = command.call();
    if detail.is_multiple_of(7) {
        let failure = EngineFailure::new(FailureKind::Internal, "it smokes");
        return EngineEvent::Failed { call, failure };
    }
    match command {
        EngineCommand::Load { .. } => EngineEvent::Loaded {
            call,
            bytes: 1,
            fingerprint: detail % 3,
        },
        EngineCommand::Unload { .. } => EngineEvent::Unloaded { call },
        EngineCommand::Free { .. } => EngineEvent::Freed { call },
        EngineCommand::Train(_) => EngineEvent::unsupported(call, "it does not train"),
        EngineCommand::Forward { .. } => EngineEvent::Forwarded {
            call,
            output: if detail.is_multiple_of(11) {
                EngineOutput::Nothing
            } else if detail.is_multiple_of(2) {
                EngineOutput::Hidden(hidden())
            } else {
                EngineOutput::Token {
                    token: 5,
                    end: detail.is_multiple_of(5),
                }
            },
            positions: 1,
        },
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn nothing_brings_it_down(steps in prop::collection::vec((0u8..30, any::<u64>(), any::<u64>()), 0..300)) {
        let mut life = Life::new();
        life.drain();
        for step in steps {
            life.step(step);
        }
        // In the end it stops, and nothing is left.
        life.node.handle_input(life.now, Input::Command(Command::Stop));
        life.drain();
        prop_assert!(life.node.status().requests.is_empty());
    }
}

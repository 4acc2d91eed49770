//! A large transfer on a slow link does not keep anything urgent waiting.

use crate::config::Config;
use crate::dummy;
use crate::engine::{EngineCommand, EngineEvent, EngineOutput};
use crate::id::ConnectionId;
use crate::node::*;
use crate::tensor::{DType, Tensor};
use crate::topology::Capabilities;
use crate::wire::{Chunk, Encoder, Hello, Message, Open, Step, StepBody};
use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use bytes::Bytes;
use core::time::Duration;

const CONNECTION: ConnectionId = ConnectionId(1);
const BITS_PER_SECOND: u64 = 10_000_000;
const WIDTH: usize = 65_536;
const ROWS: usize = 256;

fn time_for(bytes: usize) -> Duration {
    Duration::from_nanos(bytes as u64 * 8 * 1_000_000_000 / BITS_PER_SECOND)
}

/// A node whose only peer is this test, over a link that takes one frame after the other.
struct Link {
    node: Node,
    now: Instant,
    /// Frames in the driver's hands, with their lengths.
    handed: VecDeque<(Message, usize)>,
    commands: Vec<EngineCommand>,
}

impl Link {
    fn new() -> Self {
        let machine = Capabilities {
            memory: 1000,
            ..Capabilities::unknown()
        };
        let mut link = Self {
            node: Node::new(Config::new("a".into(), machine), 1, Instant::ZERO),
            now: Instant::ZERO,
            handed: VecDeque::new(),
            commands: vec![],
        };
        link.input(Input::Opened {
            connection: CONNECTION,
            origin: Origin::Accepted,
            remote: String::from("test"),
        });
        link.receive(Message::HealthCheckRequest {
            payload: Hello::new("b").to_request_payload(),
        });
        link
    }

    fn input(&mut self, input: Input) {
        self.node.handle_input(self.now, input);
        while let Some(output) = self.node.poll_output() {
            match output {
                Output::Send { message, .. } => {
                    let length = Encoder::new(&message)
                        .expect("it can be written")
                        .remaining();
                    self.handed.push_back((message, length));
                }
                Output::Compute(command) => self.commands.push(command),
                Output::Close { .. } => panic!("the connection was closed"),
                Output::Dial { .. }
                | Output::ReadDiscoveryFile
                | Output::ListInterfaces
                | Output::Broadcast { .. }
                | Output::Listen { .. }
                | Output::Ask { .. }
                | Output::Answer { .. }
                | Output::Event(_) => {}
            }
        }
    }

    fn receive(&mut self, message: Message) {
        self.input(Input::Received {
            connection: CONNECTION,
            message,
            bytes: 9,
        });
    }

    /// Lets the link take one frame.
    fn carry(&mut self) -> Option<Message> {
        let (message, bytes) = self.handed.pop_front()?;
        self.now = self.now + time_for(bytes);
        self.input(Input::Sent {
            connection: CONNECTION,
            bytes,
        });
        Some(message)
    }
}

#[test]
fn a_health_check_is_answered_within_two_chunk_times_of_a_64_mib_transfer() {
    let mut link = Link::new();
    let plan = br#"{"request": "r", "epoch": 0, "origin": "b", "model": "dummy", "layers": 8,
        "fingerprint": 0, "ring": [["a", 0, 3, 0], ["b", 4, 7, 0]], "prompt": 256,
        "sampling": {"temperature": 0, "top_p": 1, "top_k": 0, "seed": 1}, "max_tokens": 4}"#;
    link.receive(Message::Open(Open {
        stream: 1,
        plan: Bytes::from_static(plan),
    }));
    link.receive(Message::Step(Step {
        stream: 1,
        position: 0,
        sample: true,
        body: StepBody::Tokens(vec![dummy::PROMPT_TOKEN; ROWS]),
    }));
    let body = Bytes::from(vec![7; ROWS * WIDTH * 4]);
    let hidden = Tensor::new(DType::F32, vec![1, ROWS, WIDTH], body).expect("64 MiB");
    let mut answered = 0;
    while answered < link.commands.len() {
        let event = match &link.commands[answered] {
            EngineCommand::Load { call, .. } => EngineEvent::Loaded {
                call: *call,
                bytes: 1,
                fingerprint: 0,
            },
            EngineCommand::Forward { call, .. } => EngineEvent::Forwarded {
                call: *call,
                output: EngineOutput::Hidden(hidden.clone()),
                positions: u32::try_from(ROWS).expect("few"),
            },
            other => panic!("{other:?}"),
        };
        answered += 1;
        link.input(Input::Engine(event));
    }
    let limit = 2 * time_for(Chunk::MAX + 22);
    let (mut pieces, mut asked, mut asked_at, mut answers) = (0, false, Instant::ZERO, 0);
    while let Some(message) = link.carry() {
        match message {
            Message::Chunk(_) => pieces += 1,
            Message::Pong { .. } | Message::HealthCheckResponse { .. } if asked => {
                let waited = link.now - asked_at;
                assert!(waited <= limit, "{waited:?} after {pieces} pieces");
                (asked, answers) = (false, answers + 1);
            }
            _ => {}
        }
        // The peer asks again and again while the pieces go.
        if pieces > 0 && pieces % 7 == 0 && !asked {
            (asked, asked_at) = (true, link.now);
            link.receive(if pieces % 2 == 0 {
                Message::Ping { id: pieces }
            } else {
                Message::HealthCheckRequest {
                    payload: Bytes::new(),
                }
            });
        }
    }
    assert!(pieces > 2048, "{pieces} pieces");
    assert!(answers > 250, "{answers} answers");
}

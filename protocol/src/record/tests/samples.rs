//! One of everything, with a secret wherever something can be said.

use crate::engine::{
    EngineEvent, EngineFailure, EngineOutput, ExampleInput, FailureKind, Optimizer, Sampling,
    Scores, Shaping, Targets, TrainEvent, TrainSetup, Trainable,
};
use crate::id::{CallId, ConnectionId, DialId};
use crate::json::Json;
use crate::node::{Command, Discovered, Example, Input, LinkFault, Origin, Submit, Train};
use crate::shard::Shard;
use crate::tensor::{DType, DTypeFamily, Tensor};
use crate::topology::Capabilities;
use crate::topology::ModelCost;
use crate::wire::{
    self, Chunk, DecodeError, Download, DownloadState, Ending, Message, MessageType, Notice, Open,
    Scored, SendPrompt, SendResult, SendTensor, Step, StepBody, Token,
};
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use bytes::Bytes;
use core::time::Duration;

/// Four bytes that stand nowhere by chance; as a token, as part of a tensor, and as text.
pub(super) const SECRET: [u8; 4] = *b"SECR";
pub(super) const SECRET_TOKEN: u32 = u32::from_le_bytes(SECRET);
pub(super) const END: u32 = 2;

pub(super) fn shard() -> Shard {
    Shard::new("model".into(), 0..4, 8).expect("layers")
}

fn downloading(state: DownloadState) -> Input {
    Input::Command(Command::Downloading(Download {
        shard: shard(),
        state,
        done: 1,
        total: 2,
        speed: 3,
    }))
}

pub(super) fn hidden(rows: usize, dtype: DType) -> Tensor {
    let data = SECRET.repeat(rows * dtype.size()).into();
    Tensor::new(dtype, vec![1, rows, 4], data).expect("the bytes are those of the shape")
}

pub(super) fn secret() -> String {
    String::from_utf8_lossy(&SECRET).into_owned()
}

pub(super) fn messages() -> Vec<Message> {
    let tensor = |tensor| {
        Message::SendTensorRequest(SendTensor {
            shard: shard(),
            tensor,
            request_id: Some("r".into()),
            inference_state: Some(Json::object([
                ("a", Json::from(secret())),
                ("b", Json::from(7)),
            ])),
        })
    };
    let step = |body| {
        Message::Step(Step {
            stream: 1,
            position: 2,
            sample: true,
            body,
        })
    };
    let notice = || Notice {
        code: 3,
        text: "words".into(),
    };
    let ending = || Ending {
        epoch: 1,
        code: 2,
        request: "r".into(),
        text: "words".into(),
    };
    let result = |result, tensor| {
        Message::SendResult(SendResult {
            request_id: None,
            result,
            is_finished: false,
            tensor,
        })
    };
    let said = || Bytes::copy_from_slice(&SECRET);
    vec![
        Message::HealthCheckRequest {
            payload: Bytes::from_static(b"anything"),
        },
        Message::HealthCheckResponse {
            is_healthy: true,
            exo: Some(Json::from(1.5)),
        },
        Message::SendPromptRequest(SendPrompt {
            shard: shard(),
            prompt: format!("{} \u{1f98a}", secret()),
            request_id: None,
            inference_state: Some(Json::Array(vec![Json::from(secret())])),
        }),
        Message::SendPromptResponse(said()),
        tensor(hidden(2, DType::F32)),
        tensor(hidden(1, DType::Bf16).spelled(DTypeFamily::Mlx)),
        tensor(Tensor::from_tokens(&[SECRET_TOKEN, END])),
        Message::SendTensorResponse(None),
        Message::SendTensorResponse(Some(hidden(1, DType::F16))),
        Message::SendExampleRequest(said()),
        Message::SendExampleResponse(said()),
        result(vec![SECRET_TOKEN.into(), END.into(), -1, i64::MAX], None),
        result(vec![], Some(hidden(1, DType::F64))),
        Message::CollectTopologyRequest {
            visited: vec!["a".into()],
            max_depth: 3,
        },
        Message::CollectTopologyResponse(Default::default()),
        Message::SendOpaqueStatus {
            request_id: Some("r".into()),
            status: secret(),
        },
        Message::Ping { id: u64::MAX },
        Message::Pong { id: 1 },
        Message::Error(notice()),
        Message::Goodbye(notice()),
        Message::Topology(Default::default()),
        Message::Open(Open {
            stream: 1,
            plan: Bytes::from_static(b"{}"),
        }),
        step(StepBody::Tokens(vec![SECRET_TOKEN, END])),
        step(StepBody::Hidden(hidden(3, DType::F32))),
        Message::Token(Token {
            stream: 1,
            index: 2,
            token: SECRET_TOKEN,
            end: false,
            last: true,
        }),
        Message::Scored(Scored {
            token: Token {
                stream: 1,
                index: 2,
                token: SECRET_TOKEN,
                end: false,
                last: true,
            },
            scores: Scores {
                chosen: -0.5,
                likeliest: vec![(SECRET_TOKEN, -0.5)],
            },
        }),
        Message::Timing(wire::Timing {
            request: "r".into(),
            epoch: 1,
            stage: 2,
            position: 3,
            positions: 4,
            wait: Duration::from_nanos(5),
            compute: Duration::from_nanos(6),
            write: Duration::from_nanos(7),
            rtt: Duration::from_nanos(8),
        }),
        Message::Close { stream: 1 },
        Message::Credit {
            stream: 0,
            bytes: 1 << 20,
        },
        Message::End(ending()),
        Message::Failed(ending()),
        Message::Chunk(Chunk {
            transfer: 1,
            kind: MessageType::Step as u8,
            total: 100,
            offset: 20,
            data: said(),
        }),
        Message::Abort { transfer: 1 },
        Message::Begin(wire::Begin {
            plan: Bytes::from_static(b"{}"),
        }),
        Message::Begun(wire::Begun {
            job: "j".into(),
            trainable: 7,
            iteration: 1,
        }),
        example(ExampleInput::Tokens {
            tokens: vec![SECRET_TOKEN, END],
            batch: 2,
        }),
        example(ExampleInput::Hidden(batch())),
        Message::Gradient(wire::Gradient {
            job: "j".into(),
            step: 1,
            loss: 0.5,
            positions: 2,
            gradient: batch(),
        }),
        Message::Loss(wire::Loss {
            job: "j".into(),
            step: 1,
            loss: 0.5,
            positions: 2,
        }),
        Message::Save(wire::Save {
            job: "j".into(),
            iteration: 1,
        }),
        Message::Saved(wire::Saved {
            job: "j".into(),
            iteration: 1,
            file: "file".into(),
        }),
        Message::Want(wire::Want {
            want: 1,
            from: 2,
            length: 3,
            name: "me/tiny".into(),
        }),
        Message::Part(wire::Part {
            want: 1,
            size: 3,
            code: 0,
            content: Bytes::from_static(&SECRET),
        }),
    ]
}

fn batch() -> Tensor {
    let data = SECRET.repeat(6).into();
    Tensor::new(DType::F32, vec![2, 1, 3], data).expect("the bytes are those of the shape")
}

fn targets() -> Targets {
    Targets {
        tokens: vec![SECRET_TOKEN, END],
        counted: vec![(0, 1), (1, 1)],
    }
}

fn example(input: ExampleInput) -> Message {
    Message::Example(wire::Example {
        job: "j".into(),
        step: 1,
        learn: true,
        input,
        targets: targets(),
    })
}

/// What a training job is told, by the application and by the engine.
fn training() -> Vec<Input> {
    let call = CallId(4);
    let setup = TrainSetup {
        name: "job".into(),
        trainable: Trainable::Lora {
            rank: 8,
            scale: 2.5,
            last_layers: 0,
        },
        optimizer: Optimizer::AdamW { weight_decay: 0.1 },
        learning_rate: 1e-5,
        seed: u64::MAX,
        resume: Some(3),
    };
    let mut inputs = vec![
        Input::Command(Command::Train(Train {
            job: "j".into(),
            model: "model".into(),
            layers: 8,
            bytes: 1 << 40,
            fingerprint: u64::MAX,
            setup: Arc::new(setup),
        })),
        Input::Command(Command::Example(Example {
            job: "j".into(),
            batch: 2,
            tokens: vec![SECRET_TOKEN, END],
            targets: targets(),
            learn: true,
        })),
        Input::Command(Command::Save { job: "j".into() }),
        Input::Command(Command::EndJob { job: "j".into() }),
        Input::Command(Command::Files {
            call,
            news: crate::node::FilesNews::Coming { done: 1, total: 2 },
        }),
        Input::Command(Command::Files {
            call,
            news: crate::node::FilesNews::Here,
        }),
        Input::Command(Command::Unload { model: "m".into() }),
        Input::Command(Command::Want {
            want: 1,
            name: "me/tiny".into(),
            from: 2,
            length: 3,
            prefer: Some("n".into()),
        }),
        Input::Command(Command::Unwant { want: 1 }),
        Input::Command(Command::Blame {
            name: "me/tiny".into(),
            node: "n".into(),
        }),
        Input::Command(Command::Part {
            read: 1,
            size: 3,
            code: 0,
            content: Bytes::from_static(&SECRET),
        }),
        downloading(DownloadState::Coming),
        downloading(DownloadState::Here),
        downloading(DownloadState::Stopped),
        downloading(DownloadState::Failed("full".into())),
    ];
    let events = [
        TrainEvent::Begun {
            call,
            trainable: 7,
            iteration: 1,
        },
        TrainEvent::Forwarded {
            call,
            hidden: batch(),
        },
        TrainEvent::Compared {
            call,
            loss: 0.5,
            positions: 2,
            gradient: Some(batch()),
        },
        TrainEvent::Learned {
            call,
            gradient: None,
        },
        TrainEvent::Learned {
            call,
            gradient: Some(batch()),
        },
        TrainEvent::Saved {
            call,
            file: "file".into(),
        },
        TrainEvent::Ended { call },
    ];
    inputs.extend(events.map(|event| Input::Engine(EngineEvent::Trained(event))));
    inputs
}

pub(super) fn inputs() -> Vec<Input> {
    let (connection, call) = (ConnectionId(3), CallId(4));
    let forwarded = |output| {
        Input::Engine(EngineEvent::Forwarded {
            call,
            output,
            positions: 2,
        })
    };
    let lost = |fault| Input::Lost { connection, fault };
    let mut inputs = vec![
        Input::Command(Command::Submit(Submit {
            request: "r".into(),
            model: "model".into(),
            layers: 8,
            bytes: 1 << 40,
            cost: ModelCost {
                layers: vec![7, 1 << 40],
                used: 9,
                embedding: 1,
                head: 2,
                tied: true,
                kv: 3,
                hidden: 4,
            },
            fingerprint: u64::MAX,
            prompt: secret().into(),
            tokens: vec![SECRET_TOKEN, 0, END],
            end_tokens: vec![0, END],
            sampling: Sampling {
                temperature: 0.7,
                shaping: Some(Arc::new(Shaping {
                    grammar: Some(secret().into()),
                    forced: vec![SECRET_TOKEN, 0, END],
                    ..Shaping::default()
                })),
                scores: Some(3),
                ..Sampling::default()
            },
            max_tokens: 9,
            timeout: Duration::from_millis(1500),
            trace: true,
        })),
        Input::Command(Command::Cancel {
            request: "r".into(),
        }),
        Input::Command(Command::Discovered {
            source: "tailscale".into(),
            peers: vec![Discovered {
                node: Some("there".into()),
                address: "there:1".into(),
                description: "TS".into(),
                capabilities: Some(Capabilities::unknown()),
            }],
        }),
        Input::Command(Command::Drain),
        Input::Command(Command::Stop),
        Input::Opened {
            connection,
            origin: Origin::Dialed(DialId(1)),
            remote: "there".into(),
        },
        Input::Opened {
            connection,
            origin: Origin::Accepted,
            remote: String::new(),
        },
        Input::DialFailed {
            dial: DialId(9),
            reason: "no".into(),
        },
        Input::Progress { connection },
        Input::Sent {
            connection,
            bytes: 77,
        },
        lost(LinkFault::Closed),
        lost(LinkFault::Truncated),
        lost(LinkFault::Io("reset".into())),
        lost(LinkFault::Local),
        lost(LinkFault::Malformed(DecodeError::Json {
            kind: MessageType::SendPromptRequest,
            reason: secret(),
        })),
        lost(LinkFault::Malformed(DecodeError::Utf8 {
            kind: MessageType::Failed,
            what: "request id",
            valid: 3,
        })),
        Input::DiscoveryFile(Ok(Bytes::from_static(b"{}"))),
        Input::DiscoveryFile(Err("gone".into())),
        forwarded(EngineOutput::Hidden(hidden(2, DType::F32))),
        forwarded(EngineOutput::Nothing),
        forwarded(EngineOutput::Token {
            token: SECRET_TOKEN,
            end: false,
        }),
        forwarded(EngineOutput::Scored {
            token: SECRET_TOKEN,
            end: false,
            scores: Scores {
                chosen: -0.5,
                likeliest: vec![(SECRET_TOKEN, -0.5)],
            },
        }),
        forwarded(EngineOutput::Token {
            token: END,
            end: true,
        }),
        Input::Engine(EngineEvent::Progress {
            call,
            done: 1,
            total: 2,
        }),
        Input::Engine(EngineEvent::Loaded {
            call,
            bytes: 5,
            fingerprint: 6,
        }),
        Input::Engine(EngineEvent::Unloaded { call }),
        Input::Engine(EngineEvent::Freed { call }),
        Input::Engine(EngineEvent::Failed {
            call,
            failure: EngineFailure::new(FailureKind::OutOfMemory, "full"),
        }),
    ];
    inputs.extend(training());
    inputs.extend(messages().into_iter().map(|message| Input::Received {
        connection,
        message,
        bytes: 1234,
    }));
    inputs
}

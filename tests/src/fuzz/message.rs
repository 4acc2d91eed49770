//! Messages of every kind, from bytes.

use super::plan;
use super::scene::{Scene, Stream};
use super::source::Source;
use super::training;
use bytes::Bytes;
use exo_protocol::dummy;
use exo_protocol::engine::Scores;
use exo_protocol::json::Json;
use exo_protocol::tensor::{DType, DTypeFamily, Tensor};
use exo_protocol::topology::Capabilities;
use exo_protocol::wire::{
    Chunk, Ending, Hello, Message, Notice, Open, Scored, SendPrompt, SendResult, SendTensor, Step,
    StepBody, Token, TopologyReply, WireEdge,
};
use exo_protocol::{RequestId, Shard};

/// The node under test.
pub(super) const ME: &str = "me";

/// Everybody that is spoken of.
pub(super) const NODES: [&str; 4] = [ME, "a", "b", "c"];

/// Some request.
pub(super) fn request(source: &mut Source<'_>) -> RequestId {
    RequestId::from(format!("r{}", source.below(4)))
}

/// Some tokens, seldom none.
pub(super) fn tokens(source: &mut Source<'_>) -> Vec<u32> {
    let count = match source.below(16) {
        0..8 => 1,
        8..15 => 2 + source.below(8),
        _ => 0,
    };
    (0..count).map(|_| u32::from(source.below(16))).collect()
}

/// Any message.
pub(super) fn any(source: &mut Source<'_>, scene: &Scene) -> Message {
    match source.below(41) {
        0 => hello(source, scene),
        1 => Message::HealthCheckResponse {
            is_healthy: !source.one_in(8),
            exo: (!source.one_in(4)).then(|| introduction(source, scene).to_json()),
        },
        2 => Message::SendPromptRequest(SendPrompt {
            shard: shard(source),
            prompt: text(source),
            request_id: maybe(source).then(|| request(source).as_str().into()),
            inference_state: state(source),
        }),
        3 => Message::SendTensorRequest(SendTensor {
            shard: shard(source),
            tensor: tensor(source),
            request_id: (!source.one_in(8)).then(|| request(source).as_str().into()),
            inference_state: state(source),
        }),
        4 => Message::SendTensorResponse(source.one_in(4).then(|| tensor(source))),
        5 => Message::SendResult(SendResult {
            request_id: (!source.one_in(8)).then(|| request(source).as_str().into()),
            result: tokens(source)
                .into_iter()
                .map(|t| i64::from(t) - 1)
                .collect(),
            is_finished: source.one_in(3),
            tensor: source.one_in(8).then(|| tensor(source)),
        }),
        6 => Message::CollectTopologyRequest {
            visited: vec![text(source)],
            max_depth: i64::from(source.byte()),
        },
        7 => Message::CollectTopologyResponse(topology(source, scene.node)),
        8 => Message::SendOpaqueStatus {
            request_id: maybe(source).then(|| request(source).as_str().into()),
            status: text(source),
        },
        9 => match source.below(3) {
            0 => Message::SendPromptResponse(body(source)),
            1 => Message::SendExampleRequest(body(source)),
            _ => Message::SendExampleResponse(body(source)),
        },
        10 => Message::Ping {
            id: source.number().into(),
        },
        11 | 12 => Message::Pong {
            id: source.number().into(),
        },
        13 => match source.one_in(4) {
            true => Message::Error(notice(source)),
            false => Message::Goodbye(notice(source)),
        },
        14 | 15 => Message::Topology(topology(source, scene.node)),
        16..20 => Message::Open(Open {
            stream: match source.one_in(8) {
                true => source.number(),
                false => scene.stream.saturating_add(1),
            },
            plan: plan::any(source, scene.node),
        }),
        20..25 => step(source, scene),
        25..27 => match token(source, scene) {
            Message::Token(token) if source.one_in(4) => Message::Scored(Scored {
                token,
                scores: Scores::of(&[0.5, 1.5, f32::NAN], 1, source.byte()),
            }),
            token => token,
        },
        27 => Message::Close {
            stream: known_stream(source, scene),
        },
        28 | 29 => Message::Credit {
            stream: match maybe(source) {
                true => 0,
                false => source.number(),
            },
            bytes: source.number(),
        },
        30 => Message::End(ending(source)),
        31 => Message::Failed(ending(source)),
        32 => chunk(source, scene),
        33 => Message::Abort {
            transfer: match maybe(source) {
                true => scene.transfer,
                false => source.number(),
            },
        },
        _ => training::any(source, scene.node),
    }
}

/// An introduction.
pub(super) fn hello(source: &mut Source<'_>, scene: &Scene) -> Message {
    Message::HealthCheckRequest {
        payload: match source.one_in(8) {
            true => body(source),
            false => introduction(source, scene).to_request_payload(),
        },
    }
}

/// Who speaks, with little room, so that credit runs out at once.
pub(super) fn introduction(source: &mut Source<'_>, scene: &Scene) -> Hello {
    let shape = source.byte();
    let windows = [64, 256, 1 << 20, u32::MAX];
    let window = |bits: u8| windows[usize::from(bits % 4)];
    let mut hello = Hello::new(match shape >> 5 {
        7 => NODES[usize::from(shape % 4)],
        _ => scene.node,
    });
    hello.incarnation = u64::from(shape >> 4 & 1);
    hello.window = window(shape);
    hello.stream_window = window(shape >> 2);
    if shape >> 5 == 1 {
        hello.dtypes.insert(0, DType::F16);
    }
    hello
}

/// What a node says of itself: mostly that it knows everybody.
pub(super) fn topology(source: &mut Source<'_>, node: &str) -> TopologyReply {
    let shape = source.byte();
    let machine = |memory| Capabilities {
        memory,
        ..Capabilities::unknown()
    };
    let memory = match shape >> 6 {
        0 | 1 => 1000,
        2 => 100,
        _ => i64::from(shape & 7) - 4,
    };
    let edge = |to: &&str| WireEdge {
        to_id: (*to).into(),
        description: (shape & 1 == 1).then(|| String::from("MAN")),
        metrics: Default::default(),
    };
    let missing = usize::from(shape >> 2 & 7);
    let others = NODES.iter().filter(|other| **other != node);
    let known = others.enumerate().filter(|(index, _)| *index != missing);
    let mut nodes = vec![(node.into(), machine(memory))];
    if shape >> 6 == 2 {
        nodes.push(("x".into(), machine(1)));
    }
    TopologyReply {
        nodes,
        peer_graph: vec![(node.into(), known.map(|(_, other)| edge(other)).collect())],
    }
}

fn step(source: &mut Source<'_>, scene: &Scene) -> Message {
    let stream = known_stream(source, scene);
    let Stream {
        position: next,
        to_first,
        ..
    } = scene.known(stream);
    Message::Step(Step {
        stream,
        position: match source.below(8) {
            0..6 => next,
            6 => u32::from(source.below(4)),
            _ => source.number(),
        },
        sample: maybe(source),
        body: if to_first != source.one_in(16) {
            let mut tokens = tokens(source);
            if tokens.is_empty() {
                tokens.resize(1 + usize::from(source.byte()), 7);
            }
            StepBody::Tokens(tokens)
        } else {
            StepBody::Hidden(hidden(source))
        },
    })
}

fn known_stream(source: &mut Source<'_>, scene: &Scene) -> u32 {
    match source.below(8) {
        0..5 => scene.stream,
        5 => scene.stream.saturating_sub(1),
        6 => scene.stream.saturating_add(1),
        _ => source.number(),
    }
}

fn token(source: &mut Source<'_>, scene: &Scene) -> Message {
    let stream = known_stream(source, scene);
    let next = scene.known(stream).tokens;
    let flags = source.byte();
    Message::Token(Token {
        stream,
        index: match source.one_in(8) {
            true => source.number(),
            false => next,
        },
        token: source.below(16).into(),
        end: flags & 7 == 7,
        last: flags >> 3 & 7 == 7,
    })
}

fn chunk(source: &mut Source<'_>, scene: &Scene) -> Message {
    let data = match body(source) {
        data if data.is_empty() => Bytes::from_static(&[0]),
        data => data,
    };
    let length = u32::try_from(data.len()).unwrap_or(1);
    let offset = source.number().min(u32::MAX - length);
    let after = source.number();
    Message::Chunk(Chunk {
        transfer: match source.below(4) {
            0 => scene.transfer,
            3 => source.number(),
            _ => scene.next_transfer(),
        },
        kind: source.byte(),
        total: (offset + length).saturating_add(after),
        offset,
        data,
    })
}

fn ending(source: &mut Source<'_>) -> Ending {
    Ending {
        epoch: u32::from(source.below(5)),
        code: source.below(12).into(),
        request: request(source),
        text: text(source),
    }
}

fn notice(source: &mut Source<'_>) -> Notice {
    Notice {
        code: source.byte().into(),
        text: text(source),
    }
}

/// A hidden state `[1, T, H]`, now and then larger than its window.
fn hidden(source: &mut Source<'_>) -> Tensor {
    let shape = source.byte();
    let (rows, width) = match shape >> 5 {
        7 => (1 + usize::from(shape & 31), 64),
        _ => (1 + usize::from(shape & 3), 1 + usize::from(shape >> 2 & 3)),
    };
    let dtype = [DType::F32, DType::F16, DType::Bf16, DType::I32][usize::from(shape >> 4 & 3)];
    filled(dtype, vec![1, rows, width], shape)
}

/// A hidden state of so many positions.
pub(super) fn rows(count: usize) -> Tensor {
    filled(DType::F32, vec![1, count, 2], 0)
}

/// A tensor of the base protocol, of any type and shape.
fn tensor(source: &mut Source<'_>) -> Tensor {
    let shape = source.byte();
    if shape < 128 {
        return Tensor::from_tokens(&tokens(source));
    }
    let dtype = DType::ALL[usize::from(shape) % DType::ALL.len()];
    let dimensions = source.below(5);
    let shape = (0..dimensions).map(|_| source.below(5).into()).collect();
    let family = match maybe(source) {
        true => DTypeFamily::Mlx,
        false => DTypeFamily::Numpy,
    };
    filled(dtype, shape, 0x40).spelled(family)
}

pub(super) fn filled(dtype: DType, shape: Vec<usize>, byte: u8) -> Tensor {
    let bytes = shape.iter().product::<usize>() * dtype.size();
    let made = Tensor::new(dtype, shape, Bytes::from(vec![byte; bytes]));
    made.unwrap_or_else(|error| panic!("the bytes match: {error}"))
}

fn shard(source: &mut Source<'_>) -> Shard {
    let shape = source.byte();
    let (start, end) = match shape & 7 {
        0 | 1 => (0, 7),
        2 => (0, 3),
        3 => (4, 7),
        4 => (0, 4),
        5 => (5, 7),
        6 => (u32::from(shape >> 3), u32::from(shape >> 5)),
        _ => (source.number(), source.number()),
    };
    let layers = if shape == 255 {
        source.number()
    } else {
        dummy::LAYERS
    };
    Shard {
        model: dummy::MODEL.into(),
        start,
        end,
        layers,
    }
}

fn state(source: &mut Source<'_>) -> Option<Json> {
    let number = source.below(8);
    let value = || match number {
        5 => Json::Float(f64::from(number) / 3.0),
        6 => Json::Array(vec![Json::Bool(true), Json::Null]),
        _ => Json::from("\u{1f600}\u{7f}\"\\\n"),
    };
    (number > 3).then(|| Json::object([("k", value())]))
}

fn text(source: &mut Source<'_>) -> String {
    let length = usize::from(source.below(12));
    String::from_utf8_lossy(source.take(length)).into_owned()
}

fn body(source: &mut Source<'_>) -> Bytes {
    Bytes::copy_from_slice(source.bytes())
}

fn maybe(source: &mut Source<'_>) -> bool {
    source.byte() & 1 == 1
}

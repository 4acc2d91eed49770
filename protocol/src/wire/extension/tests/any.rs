//! Messages of every kind of the extension, from a seed.

use crate::engine::{ExampleInput, Scores, Targets};
use crate::rng::Rng;
use crate::tensor::{DType, Tensor};
use crate::topology::Capabilities;
use crate::wire::{
    Begin, Begun, Chunk, Ending, Example, Gradient, Loss, Message, MessageType, Notice, Open, Save,
    Saved, Scored, Step, StepBody, Timing, Token, TopologyReply, WireEdge,
};
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use bytes::Bytes;
use core::time::Duration;

fn below(rng: &mut Rng, bound: u64) -> usize {
    usize::try_from(rng.below(bound)).expect("small")
}

fn u32_of(rng: &mut Rng) -> u32 {
    // Ends of the range as often as all that is between.
    match rng.below(4) {
        0 => 0,
        1 => u32::MAX,
        _ => rng.next_u64() as u32,
    }
}

fn bytes(rng: &mut Rng, length: usize) -> Bytes {
    (0..length).map(|_| rng.next_u64() as u8).collect()
}

fn text(rng: &mut Rng) -> String {
    (0..rng.below(12))
        .map(|_| char::from_u32(rng.below(0x1_0000) as u32).unwrap_or('\u{1f600}'))
        .collect()
}

fn body(rng: &mut Rng) -> StepBody {
    if rng.below(3) == 0 {
        return StepBody::Tokens((0..=rng.below(20)).map(|_| u32_of(rng)).collect());
    }
    let dtype = [DType::F32, DType::F16, DType::Bf16][below(rng, 3)];
    let rows = 1 + below(rng, 4);
    // Seldom beyond the decoder's read-ahead.
    let most = if rng.below(20) == 0 { 20_000 } else { 20 };
    let width = 1 + below(rng, most);
    let data = bytes(rng, rows * width * dtype.size());
    StepBody::Hidden(Tensor::new(dtype, vec![1, rows, width], data).expect("bytes match"))
}

fn reply(rng: &mut Rng) -> TopologyReply {
    let mut capabilities = Capabilities::unknown();
    capabilities.memory = rng.next_u64() as i64;
    let edges = (0..rng.below(3)).map(|_| WireEdge {
        to_id: text(rng),
        description: None,
        metrics: Default::default(),
    });
    let edges: Vec<WireEdge> = edges.collect();
    TopologyReply {
        nodes: vec![(text(rng), capabilities)],
        peer_graph: vec![(text(rng), edges)],
    }
}

fn ending(rng: &mut Rng) -> Ending {
    Ending {
        epoch: u32_of(rng),
        code: rng.next_u64() as u16,
        request: text(rng).into(),
        text: text(rng),
    }
}

fn notice(rng: &mut Rng) -> Notice {
    Notice {
        code: rng.next_u64() as u16,
        text: text(rng),
    }
}

fn chunk(rng: &mut Rng) -> Chunk {
    let length = match rng.below(8) {
        0 => Chunk::MAX,
        1 => 1,
        _ => 1 + below(rng, 50),
    };
    let offset = rng.next_u64() as u32 >> 1;
    let most = u64::from(u32::MAX) - u64::from(offset) - length as u64;
    let after = rng.below(most + 1) as u32;
    Chunk {
        transfer: u32_of(rng),
        kind: rng.next_u64() as u8,
        total: offset + length as u32 + after,
        offset,
        data: bytes(rng, length),
    }
}

fn batch(rng: &mut Rng, batch: usize, rows: usize) -> Tensor {
    let width = 1 + below(rng, 20);
    let data = bytes(rng, batch * rows * width * 4);
    Tensor::new(DType::F32, vec![batch, rows, width], data).expect("bytes match")
}

fn example(rng: &mut Rng) -> Example {
    let (batch_size, rows) = (1 + below(rng, 3), 1 + below(rng, 5));
    let ids = |rng: &mut Rng| (0..batch_size * rows).map(|_| u32_of(rng)).collect();
    let counted = |rng: &mut Rng| {
        let to = below(rng, rows as u64 + 1);
        (below(rng, to as u64 + 1) as u32, to as u32)
    };
    Example {
        job: text(rng).into(),
        step: u32_of(rng),
        learn: rng.below(2) == 0,
        input: match rng.below(2) {
            0 => ExampleInput::Hidden(batch(rng, batch_size, rows)),
            _ => ExampleInput::Tokens {
                tokens: ids(rng),
                batch: batch_size as u32,
            },
        },
        targets: Targets {
            tokens: ids(rng),
            counted: (0..batch_size).map(|_| counted(rng)).collect(),
        },
    }
}

fn training(rng: &mut Rng, kind: MessageType) -> Message {
    let (job, iteration) = (text(rng).into(), u32_of(rng));
    // A number that equals itself.
    let loss = rng.below(1000) as f32 / 7.0;
    match kind {
        MessageType::Begin => {
            let length = below(rng, 60);
            let plan = bytes(rng, length);
            Message::Begin(Begin { plan })
        }
        MessageType::Begun => Message::Begun(Begun {
            job,
            trainable: rng.next_u64(),
            iteration,
        }),
        MessageType::Example => Message::Example(example(rng)),
        MessageType::Gradient => {
            let (sequences, rows) = (1 + below(rng, 3), 1 + below(rng, 5));
            Message::Gradient(Gradient {
                job,
                step: iteration,
                loss,
                positions: u32_of(rng),
                gradient: batch(rng, sequences, rows),
            })
        }
        MessageType::Loss => Message::Loss(Loss {
            job,
            step: iteration,
            loss,
            positions: u32_of(rng),
        }),
        MessageType::Save => Message::Save(Save { job, iteration }),
        MessageType::Saved => Message::Saved(Saved {
            job,
            iteration,
            file: text(rng),
        }),
        other => unreachable!("{other:?} has nothing to do with training"),
    }
}

/// One message of the extension.
pub(crate) fn message(rng: &mut Rng) -> Message {
    let kinds = MessageType::ALL.into_iter().filter(|k| k.is_extension());
    let kinds: Vec<MessageType> = kinds.collect();
    let kind = kinds[below(rng, kinds.len() as u64)];
    let message = match kind {
        MessageType::Ping => Message::Ping { id: rng.next_u64() },
        MessageType::Pong => Message::Pong { id: rng.next_u64() },
        MessageType::Error => Message::Error(notice(rng)),
        MessageType::Goodbye => Message::Goodbye(notice(rng)),
        MessageType::Topology => Message::Topology(reply(rng)),
        MessageType::Open => {
            let length = below(rng, 60);
            Message::Open(Open {
                stream: u32_of(rng),
                plan: bytes(rng, length),
            })
        }
        MessageType::Step => Message::Step(Step {
            stream: u32_of(rng),
            position: u32_of(rng),
            sample: rng.below(2) == 0,
            body: body(rng),
        }),
        MessageType::Token => Message::Token(Token {
            stream: u32_of(rng),
            index: u32_of(rng),
            token: u32_of(rng),
            end: rng.below(2) == 0,
            last: rng.below(2) == 0,
        }),
        MessageType::Scored => Message::Scored(Scored {
            token: Token {
                stream: u32_of(rng),
                index: u32_of(rng),
                token: u32_of(rng),
                end: rng.below(2) == 0,
                last: rng.below(2) == 0,
            },
            scores: Scores {
                chosen: -0.5,
                likeliest: (0..rng.below(21)).map(|_| (u32_of(rng), -1.5)).collect(),
            },
        }),
        MessageType::Timing => {
            let mut time = || Duration::from_nanos(rng.next_u64());
            let (wait, compute, write, rtt) = (time(), time(), time(), time());
            Message::Timing(Timing {
                request: text(rng).into(),
                epoch: u32_of(rng),
                stage: u32_of(rng) as u16,
                position: u32_of(rng),
                positions: u32_of(rng),
                wait,
                compute,
                write,
                rtt,
            })
        }
        MessageType::Close => Message::Close {
            stream: u32_of(rng),
        },
        MessageType::Credit => Message::Credit {
            stream: u32_of(rng),
            bytes: u32_of(rng),
        },
        MessageType::End => Message::End(ending(rng)),
        MessageType::Failed => Message::Failed(ending(rng)),
        MessageType::Chunk => Message::Chunk(chunk(rng)),
        MessageType::Abort => Message::Abort {
            transfer: u32_of(rng),
        },
        MessageType::Begin
        | MessageType::Begun
        | MessageType::Example
        | MessageType::Gradient
        | MessageType::Loss
        | MessageType::Save
        | MessageType::Saved => training(rng, kind),
        MessageType::Want => Message::Want(crate::wire::Want {
            want: rng.next_u64(),
            from: rng.next_u64(),
            length: u32_of(rng),
            name: text(rng),
        }),
        MessageType::Part => {
            let length = below(rng, 60);
            Message::Part(crate::wire::Part {
                want: rng.next_u64(),
                size: rng.next_u64(),
                code: below(rng, 9) as u16,
                content: bytes(rng, length),
            })
        }
        base => unreachable!("{base:?} is not of the extension"),
    };
    assert_eq!(message.message_type(), kind);
    message
}

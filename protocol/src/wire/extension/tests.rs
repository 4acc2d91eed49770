pub(in super::super) mod any;
mod refused;
mod train;

use super::*;
use crate::rng::Rng;
use crate::tensor::DType;
use crate::wire::{
    DecodeError, DecodeLimits, Decoder, Encoder, HEADER_LEN, Message, MessageType, decode_payload,
    encode_parts, encode_payload,
};
use alloc::vec;
use core::iter;

fn decode(kind: MessageType, payload: &[u8]) -> Result<Message, DecodeError> {
    let payload = Bytes::copy_from_slice(payload);
    decode_payload(kind, payload, &DecodeLimits::default())
}

fn hidden(dtype: DType, rows: usize, width: usize) -> Tensor {
    let bytes = rows * width * dtype.size();
    let data: Vec<u8> = (0..bytes).map(|at| at as u8).collect();
    Tensor::new(dtype, vec![1, rows, width], data.into()).expect("bytes match")
}

fn step(body: StepBody) -> Message {
    Message::Step(Step {
        stream: 0x0102_0304,
        position: 0x0506_0708,
        sample: true,
        body,
    })
}

fn ending(request: &str, text: &str) -> Ending {
    Ending {
        epoch: 0x0102_0304,
        code: 0x0506,
        request: request.into(),
        text: text.into(),
    }
}

fn chunk(total: u32, offset: u32, length: usize) -> Message {
    Message::Chunk(Chunk {
        transfer: 0x0102_0304,
        kind: 0x12,
        total,
        offset,
        data: vec![0xab; length].into(),
    })
}

/// Every message with its bytes, as the specification's tables have them.
fn written() -> Vec<(Message, Vec<u8>)> {
    let stream = 0x0102_0304;
    let notice = Notice {
        code: 0x0102,
        text: "né".into(),
    };
    let tokens = StepBody::Tokens(vec![1, 0x0203_0405]);
    let float32 = StepBody::Hidden(hidden(DType::F32, 1, 1));
    let float16 = StepBody::Hidden(hidden(DType::F16, 2, 1));
    let bfloat16 = StepBody::Hidden(hidden(DType::Bf16, 1, 3));
    let token = |end, last| {
        Message::Token(Token {
            stream,
            index: 5,
            token: 0xffff_fffe,
            end,
            last,
        })
    };
    let scored = Message::Scored(Scored {
        token: Token {
            stream,
            index: 5,
            token: 7,
            end: false,
            last: true,
        },
        scores: Scores {
            chosen: -0.5,
            likeliest: vec![(3, -0.25), (7, -0.5)],
        },
    });
    let table: &[(Message, &[u8])] = &[
        (
            scored,
            b"\x01\x02\x03\x04\0\0\0\x05\0\0\0\x07\x02\xbf\0\0\0\0\0\0\x02\
              \0\0\0\x03\0\0\0\x07\0\0\x80\xbe\0\0\0\xbf",
        ),
        (
            Message::Ping {
                id: 0x0102_0304_0506_0708,
            },
            b"\x01\x02\x03\x04\x05\x06\x07\x08",
        ),
        (Message::Pong { id: 1 }, b"\0\0\0\0\0\0\0\x01"),
        (
            Message::Want(Want {
                want: 1,
                from: 2,
                length: 3,
                name: "né".into(),
            }),
            b"\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x02\0\0\0\x03n\xc3\xa9",
        ),
        (
            Message::Part(Part {
                want: 1,
                size: 0x0102,
                code: 0x0304,
                content: Bytes::from_static(b"abc"),
            }),
            b"\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\x01\x02\x03\x04abc",
        ),
        (Message::Error(notice.clone()), b"\x01\x02n\xc3\xa9"),
        (Message::Goodbye(notice), b"\x01\x02n\xc3\xa9"),
        (
            Message::Topology(super::super::TopologyReply::default()),
            br#"{"nodes": {}, "peer_graph": {}}"#,
        ),
        (
            Message::Open(Open {
                stream,
                plan: Bytes::from_static(b"{}"),
            }),
            b"\x01\x02\x03\x04{}",
        ),
        (
            step(tokens),
            b"\x01\x02\x03\x04\x05\x06\x07\x08\x01\0\0\0\0\x01\x02\x03\x04\x05",
        ),
        (
            step(float32),
            b"\x01\x02\x03\x04\x05\x06\x07\x08\x01\x01\0\0\0\x01\0\x01\x02\x03",
        ),
        (
            step(float16),
            b"\x01\x02\x03\x04\x05\x06\x07\x08\x01\x02\0\0\0\x01\0\x01\x02\x03",
        ),
        (
            step(bfloat16),
            b"\x01\x02\x03\x04\x05\x06\x07\x08\x01\x03\0\0\0\x03\0\x01\x02\x03\x04\x05",
        ),
        (
            token(false, false),
            b"\x01\x02\x03\x04\0\0\0\x05\xff\xff\xff\xfe\0",
        ),
        (
            token(true, false),
            b"\x01\x02\x03\x04\0\0\0\x05\xff\xff\xff\xfe\x01",
        ),
        (
            token(false, true),
            b"\x01\x02\x03\x04\0\0\0\x05\xff\xff\xff\xfe\x02",
        ),
        (Message::Close { stream }, b"\x01\x02\x03\x04"),
        (
            Message::Credit { stream, bytes: 6 },
            b"\x01\x02\x03\x04\0\0\0\x06",
        ),
        (
            Message::End(ending("r1", "why")),
            b"\x01\x02\x03\x04\x05\x06\0\x02r1why",
        ),
        (
            Message::Failed(ending("", "")),
            b"\x01\x02\x03\x04\x05\x06\0\0",
        ),
        (
            chunk(0x0102, 0x0100, 2),
            b"\x01\x02\x03\x04\x12\0\0\x01\x02\0\0\x01\0\xab\xab",
        ),
        (Message::Abort { transfer: 7 }, b"\0\0\0\x07"),
        (
            Message::Timing(Timing {
                request: "r1".into(),
                epoch: stream,
                stage: 0x0506,
                position: 7,
                positions: 8,
                wait: Duration::from_nanos(0x0102_0304_0506_0708),
                compute: Duration::from_nanos(9),
                write: Duration::from_nanos(10),
                rtt: Duration::ZERO,
            }),
            b"\x01\x02\x03\x04\x05\x06\0\0\0\x07\0\0\0\x08\x01\x02\x03\x04\x05\x06\x07\x08\
              \0\0\0\0\0\0\0\x09\0\0\0\0\0\0\0\x0a\0\0\0\0\0\0\0\0r1",
        ),
    ];
    let own = |(message, bytes): &(Message, &[u8])| (message.clone(), bytes.to_vec());
    table.iter().map(own).chain(train::written()).collect()
}

#[test]
fn the_bytes_are_those_of_the_tables() {
    let table = written();
    for (message, bytes) in &table {
        let payload = encode_payload(message).expect("well-formed");
        assert_eq!(payload[..], bytes[..], "{message:?}");
        assert_eq!(decode(message.message_type(), bytes).as_ref(), Ok(message));
    }
    for kind in MessageType::ALL.into_iter().filter(|k| k.is_extension()) {
        let there = table
            .iter()
            .any(|(message, _)| message.message_type() == kind);
        assert!(there, "no {kind:?}");
    }
}

#[test]
fn codes_have_distinct_numbers_and_names() {
    for codes in [error::ALL, goodbye::ALL, end::ALL, failed::ALL, part::ALL] {
        assert!(!codes.is_empty());
        for (index, (code, name)) in codes.iter().enumerate() {
            for (other, other_name) in &codes[..index] {
                assert!(
                    code > other && name != other_name,
                    "{name} and {other_name}"
                );
            }
        }
    }
}

#[test]
fn a_decode_hop_costs_little_beyond_its_content() {
    for width in [1, 2048, 8192] {
        let body = StepBody::Hidden(hidden(DType::F32, 1, width));
        let frame = Encoder::new(&step(body)).expect("well-formed").remaining();
        assert_eq!(frame - 4 * width, 23);
    }
    let (token, _) = written()
        .into_iter()
        .find(|(m, _)| matches!(m, Message::Token(_)))
        .expect("one");
    assert_eq!(Encoder::new(&token).expect("small").remaining() - 4, 18);
}

/// Feeds a stream in pieces as `cut` chooses; every message with the length of its frame.
fn through(stream: &[u8], mut cut: impl FnMut() -> usize) -> Vec<(Message, usize)> {
    let mut decoder = Decoder::new(DecodeLimits::default());
    let mut messages = Vec::new();
    let mut rest = stream;
    while !rest.is_empty() {
        let space = decoder.space();
        let n = cut().clamp(1, rest.len()).min(space.len());
        space[..n].copy_from_slice(&rest[..n]);
        rest = &rest[n..];
        decoder.advance(n);
        while let Some(message) = decoder.poll().expect("well-formed") {
            messages.push((message, decoder.last_frame_len()));
        }
    }
    assert!(!decoder.is_mid_frame());
    messages
}

#[test]
fn every_message_survives_the_wire_in_any_cutting() {
    let mut rng = Rng::new(0x0e87_e4d0);
    for _ in 0..40 {
        let sent: Vec<Message> = iter::repeat_with(|| any::message(&mut rng))
            .take(30)
            .collect();
        let mut stream = Vec::new();
        let mut expected = Vec::new();
        for message in sent {
            let frame = Encoder::new(&message)
                .expect("well-formed")
                .slices()
                .concat();
            stream.extend_from_slice(&frame);
            expected.push((message, frame.len()));
        }
        assert_eq!(through(&stream, || usize::MAX), expected);
        assert_eq!(through(&stream, || 1), expected);
        let most = 1 + rng.below(5000);
        assert_eq!(through(&stream, || rng.below(most) as usize), expected);
    }
}

#[test]
fn the_hint_is_exact_where_there_is_no_json() {
    let mut rng = Rng::new(0x0000_4147);
    for _ in 0..3000 {
        let message = any::message(&mut rng);
        let length = encode_payload(&message).expect("well-formed").len();
        let hint = message.payload_hint();
        match message {
            Message::Topology(_) => assert!(hint <= 4 * length, "{hint} for {length}"),
            _ => assert_eq!(hint, length, "{message:?}"),
        }
    }
}

#[test]
fn the_parts_are_the_payload_and_share_what_exists() {
    let mut rng = Rng::new(0x0000_9a47);
    for _ in 0..500 {
        let message = any::message(&mut rng);
        let (head, body) = encode_parts(&message).expect("well-formed");
        let payload = encode_payload(&message).expect("well-formed");
        assert_eq!([&head[..], &body[..]].concat(), payload);
        let shared = match &message {
            Message::Step(Step {
                body: StepBody::Hidden(tensor),
                ..
            }) => tensor.data(),
            Message::Open(open) => &open.plan,
            Message::Chunk(chunk) => &chunk.data,
            _ => continue,
        };
        assert_eq!((body.as_ptr(), body.len()), (shared.as_ptr(), shared.len()));
    }
}

#[test]
fn what_is_read_shares_the_payloads_memory() {
    let open = Message::Open(Open {
        stream: 1,
        plan: Bytes::from_static(b"{}"),
    });
    let step = step(StepBody::Hidden(hidden(DType::F32, 2, 40_000)));
    for (message, fixed) in [(step, 14), (open, 4), (chunk(9, 3, 5), 13)] {
        let payload = encode_payload(&message).expect("well-formed");
        let kind = message.message_type();
        let read = decode_payload(kind, payload.clone(), &DecodeLimits::default());
        let data = match read.expect("well-formed") {
            Message::Step(Step {
                body: StepBody::Hidden(tensor),
                ..
            }) => tensor.data().clone(),
            Message::Open(open) => open.plan,
            Message::Chunk(chunk) => chunk.data,
            other => panic!("{other:?}"),
        };
        assert_eq!(data.as_ptr(), payload[fixed..].as_ptr(), "{kind:?}");
    }
}

/// What a sender of chunks does, and what a receiver does.
#[test]
fn a_payload_in_chunks_is_the_message() {
    let tensor = hidden(DType::F32, 7, 9001);
    for message in [
        step(StepBody::Hidden(tensor)),
        step(StepBody::Tokens((0..20_000).collect())),
        Message::Failed(ending("r", &"x".repeat(40_000))),
    ] {
        let kind = message.message_type();
        let (mut head, mut body) = encode_parts(&message).expect("well-formed");
        let total = head.len() + body.len();
        assert!(total > Chunk::MAX);
        let mut whole = Vec::new();
        while whole.len() < total {
            let from = if head.is_empty() {
                &mut body
            } else {
                &mut head
            };
            let piece = Message::Chunk(Chunk {
                transfer: 1,
                kind: kind as u8,
                total: total as u32,
                offset: whole.len() as u32,
                data: from.split_to(from.len().min(Chunk::MAX)),
            });
            let read = decode(
                MessageType::Chunk,
                &encode_payload(&piece).expect("well-formed"),
            );
            let Ok(Message::Chunk(chunk)) = read else {
                panic!("{read:?}")
            };
            whole.extend_from_slice(&chunk.data);
        }
        let read = decode_payload(kind, whole.into(), &DecodeLimits::default());
        assert_eq!(read, Ok(message));
    }
}

#[test]
fn long_words_are_cut_where_a_character_ends() {
    let most = 64 << 10;
    let text = "é".repeat(most);
    let notice = Message::Error(Notice {
        code: 1,
        text: text.clone(),
    });
    for (message, before) in [
        (notice, 2),
        (Message::End(ending("", &text)), 8),
        (Message::Failed(ending("a", &text)), 9),
    ] {
        let payload = encode_payload(&message).expect("cut");
        assert_eq!(payload.len(), before + (most - before) / 2 * 2);
        assert_eq!(message.payload_hint(), payload.len());
        let read = decode(message.message_type(), &payload).expect("within the limit");
        let (Message::Error(Notice { text: read, .. })
        | Message::End(Ending { text: read, .. })
        | Message::Failed(Ending { text: read, .. })) = read
        else {
            panic!("{read:?}")
        };
        assert!(text.starts_with(&read) && read.len() == payload.len() - before);
    }
}

#[test]
fn frames_begin_with_their_number() {
    for (message, payload) in written() {
        let frame = Encoder::new(&message)
            .expect("well-formed")
            .slices()
            .concat();
        assert_eq!(frame[4], message.message_type() as u8);
        assert_eq!(frame[5..HEADER_LEN], (payload.len() as u32).to_be_bytes());
    }
}

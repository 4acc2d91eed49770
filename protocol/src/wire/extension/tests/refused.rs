//! What is no message of the extension.

use super::*;
use crate::wire::{EncodeError, Header};
use alloc::format;
use alloc::string::ToString;

/// The shortest payload that a message can have, and whether it may have more.
fn shape(kind: MessageType) -> (usize, bool) {
    match kind {
        MessageType::Ping | MessageType::Pong | MessageType::Credit => (8, false),
        MessageType::Token => (13, false),
        MessageType::Scored => (21, true),
        MessageType::Close | MessageType::Abort => (4, false),
        MessageType::Error | MessageType::Goodbye => (2, true),
        MessageType::End | MessageType::Failed => (8, true),
        MessageType::Open => (4, true),
        MessageType::Step => (14, true),
        MessageType::Chunk => (14, true),
        MessageType::Begin => (0, true),
        MessageType::Begun | MessageType::Loss => (12, true),
        MessageType::Save => (4, true),
        MessageType::Timing => (46, true),
        MessageType::Saved => (6, true),
        MessageType::Want => (20, true),
        MessageType::Part => (18, true),
        MessageType::Example => (19, true),
        MessageType::Gradient => (26, true),
        other => unreachable!("{other:?} is JSON or of the base"),
    }
}

#[test]
fn every_truncated_payload_is_refused() {
    for (message, payload) in written() {
        let kind = message.message_type();
        if kind == MessageType::Topology {
            for length in 0..payload.len() {
                assert!(decode(kind, &payload[..length]).is_err());
            }
            continue;
        }
        let (least, more) = shape(kind);
        for length in 0..payload.len() {
            let read = decode(kind, &payload[..length]);
            if length < least {
                let error = read.expect_err("too short").to_string();
                // Of these two all but the last part may be there, which is another error.
                let parts = matches!(kind, MessageType::Step | MessageType::Chunk);
                let told = parts || error.contains(&format!("{length} bytes"));
                assert!(told, "{error}");
            } else if let Ok(read) = read {
                assert!(more, "{kind:?}");
                // A shorter text, or fewer ids; never what was cut.
                assert_ne!(read, message);
            }
        }
        if !more {
            let error = decode(kind, &[&payload[..], &[0]].concat()).expect_err("too long");
            let header = DecodeError::PayloadTooLarge {
                kind,
                length: payload.len() as u32 + 1,
                limit: payload.len() as u32,
            };
            assert_eq!(error, header);
        }
    }
}

#[test]
fn what_a_frame_may_announce() {
    let limits = DecodeLimits {
        frame: 5000,
        json: 600,
        ..DecodeLimits::default()
    };
    for (kind, limit) in [
        (MessageType::Ping, 8),
        (MessageType::Pong, 8),
        (MessageType::Error, 65536),
        (MessageType::Goodbye, 65536),
        (MessageType::Topology, 600),
        (MessageType::Open, 600),
        (MessageType::Step, 5000),
        (MessageType::Token, 13),
        (MessageType::Scored, 181),
        (MessageType::Close, 4),
        (MessageType::Credit, 8),
        (MessageType::End, 65536),
        (MessageType::Failed, 65536),
        (MessageType::Chunk, 32768 + 13),
        (MessageType::Abort, 4),
        (MessageType::Begin, 600),
        (MessageType::Begun, 65536),
        (MessageType::Example, 5000),
        (MessageType::Gradient, 5000),
        (MessageType::Loss, 65536),
        (MessageType::Save, 65536),
        (MessageType::Saved, 65536),
        (MessageType::Want, 65536),
        (MessageType::Part, (1 << 20) + 18),
        (MessageType::Timing, 65536),
    ] {
        assert_eq!(limits.payload(kind), limit, "{kind:?}");
        let payload = vec![0; limit as usize + 1];
        let error = decode_payload(kind, payload.into(), &limits).expect_err("too large");
        let length = limit + 1;
        assert_eq!(
            error,
            DecodeError::PayloadTooLarge {
                kind,
                length,
                limit
            }
        );
    }
}

#[test]
fn scores_that_are_not_as_many_as_they_say_are_refused() {
    let payload = |count: u32, bytes: usize| {
        let mut payload = vec![0; 17];
        payload.extend_from_slice(&count.to_be_bytes());
        payload.resize(payload.len() + bytes, 0);
        payload
    };
    for (count, bytes) in [(0, 0), (1, 8), (20, 160)] {
        assert!(decode(MessageType::Scored, &payload(count, bytes)).is_ok());
    }
    for (count, bytes) in [(0, 8), (1, 0), (1, 7), (2, 8), (21, 160), (u32::MAX, 0)] {
        let read = decode(MessageType::Scored, &payload(count, bytes));
        let expected = 21 + 8 * count.min(20) as usize;
        let (kind, got) = (MessageType::Scored, 21 + bytes);
        let error = DecodeError::Length {
            kind,
            expected,
            got,
        };
        assert_eq!(read, Err(error), "{count} in {bytes} bytes");
    }
}

#[test]
fn unknown_flags_are_refused() {
    for (message, payload) in written() {
        let kind = message.message_type();
        let (at, known) = match kind {
            MessageType::Step => (8, 1),
            MessageType::Token | MessageType::Scored => (12, 3),
            MessageType::Example => (16, 1),
            _ => continue,
        };
        for got in 0..=u8::MAX {
            let mut payload = payload.clone();
            payload[at] = got;
            let read = decode(kind, &payload);
            if got & !known == 0 {
                assert!(read.is_ok(), "{got:#010b}");
            } else {
                assert_eq!(read, Err(DecodeError::Flags { kind, known, got }));
            }
        }
    }
}

fn step_payload(code: u8, width: Option<u32>, bytes: usize) -> Vec<u8> {
    let mut payload = vec![0, 0, 0, 1, 0, 0, 0, 0, 0, code];
    if let Some(width) = width {
        payload.extend_from_slice(&width.to_be_bytes());
    }
    payload.resize(payload.len() + bytes, 0);
    payload
}

#[test]
fn steps_of_other_elements_are_refused() {
    for code in 0..=u8::MAX {
        let read = decode(MessageType::Step, &step_payload(code, Some(1), 4));
        if code <= 5 {
            assert!(read.is_ok(), "{code}: {read:?}");
        } else {
            let kind = MessageType::Step;
            assert_eq!(read, Err(DecodeError::ElementCode { kind, code }));
        }
    }
}

#[test]
fn rows_are_whole_and_at_least_one() {
    for (code, dtype, size) in [
        (1, DType::F32, 4),
        (2, DType::F16, 2),
        (3, DType::Bf16, 2),
        (4, DType::I32, 4),
        (5, DType::U32, 4),
    ] {
        for width in [0, 1, 2, 3, 5, u32::MAX / 4, u32::MAX] {
            for got in 0..64 {
                let read = decode(MessageType::Step, &step_payload(code, Some(width), got));
                let row = width as usize * size;
                if row > 0 && got > 0 && got % row == 0 {
                    let Ok(Message::Step(Step {
                        body: StepBody::Hidden(tensor),
                        ..
                    })) = read
                    else {
                        panic!("{read:?}")
                    };
                    assert_eq!(tensor.shape(), [1, got / row, width as usize]);
                    assert_eq!(tensor.dtype(), dtype);
                } else {
                    assert_eq!(read, Err(DecodeError::Rows { dtype, width, got }));
                }
            }
        }
    }
}

#[test]
fn token_ids_are_whole_and_at_least_one() {
    for got in 0..30 {
        let read = decode(MessageType::Step, &step_payload(0, None, got));
        match read {
            Ok(Message::Step(Step {
                body: StepBody::Tokens(tokens),
                ..
            })) => assert!(got > 0 && tokens.len() * 4 == got, "{got}"),
            other => {
                assert!(got == 0 || got % 4 != 0, "{got}");
                assert_eq!(other, Err(DecodeError::Tokens { got }));
            }
        }
    }
}

#[test]
fn texts_are_utf8_and_an_id_ends_inside() {
    let utf8 = |kind, what, valid| Err(DecodeError::Utf8 { kind, what, valid });
    for kind in [MessageType::Error, MessageType::Goodbye] {
        assert_eq!(decode(kind, b"\0\x01ab\xff"), utf8(kind, "text", 2));
    }
    for kind in [MessageType::End, MessageType::Failed] {
        let id = b"\0\0\0\x01\0\0\0\x03a\xc3\xa9x\xc3";
        assert_eq!(decode(kind, id), utf8(kind, "text", 1));
        let split = b"\0\0\0\x01\0\0\0\x02a\xc3\xa9x";
        assert_eq!(decode(kind, split), utf8(kind, "request id", 1));
        let beyond = b"\0\0\0\x01\0\0\0\x05abcd";
        let error = DecodeError::Truncated {
            kind,
            expected: 13,
            got: 12,
        };
        assert_eq!(decode(kind, beyond), Err(error));
    }
}

#[test]
fn a_piece_lies_inside_of_its_whole() {
    for (total, offset, length, possible) in [
        (1, 0, 1, true),
        (0, 0, 0, false),
        (1, 0, 0, false),
        (1, 1, 0, false),
        (1, 1, 1, false),
        (1, 0, 2, false),
        (5, 3, 2, true),
        (5, 4, 2, false),
        (u32::MAX, u32::MAX - 1, 1, true),
        (u32::MAX, u32::MAX, 1, false),
        (u32::MAX, 0, Chunk::MAX, true),
        (u32::MAX, u32::MAX - 5, Chunk::MAX, false),
        (u32::MAX, 0, Chunk::MAX + 1, false),
    ] {
        let message = chunk(total, offset, length);
        let written = encode_payload(&message);
        if possible {
            let written = written.expect("possible");
            assert_eq!(decode(MessageType::Chunk, &written), Ok(message));
            continue;
        }
        let refused = EncodeError::Piece {
            total,
            offset,
            length,
        };
        assert_eq!(written, Err(refused));
        let mut payload = vec![0, 0, 0, 1, 0x12];
        payload.extend_from_slice(&total.to_be_bytes());
        payload.extend_from_slice(&offset.to_be_bytes());
        payload.resize(13 + length, 0);
        let error = decode(MessageType::Chunk, &payload).expect_err("impossible");
        match error {
            DecodeError::Piece {
                total: t,
                offset: o,
                length: l,
            } => assert_eq!((t, o, l), (total, offset, length)),
            DecodeError::PayloadTooLarge { limit, .. } => {
                assert!(limit == 32781 && length > Chunk::MAX);
            }
            other => panic!("{other}"),
        }
    }
}

#[test]
fn what_no_receiver_takes_is_not_written() {
    let shapes: [&[usize]; 8] = [
        &[],
        &[4],
        &[2, 2],
        &[2, 1, 2],
        &[1, 0, 4],
        &[1, 4, 0],
        &[1, 1, 2, 2],
        &[0, 1, 4],
    ];
    for shape in shapes {
        let bytes = shape.iter().product::<usize>() * 4;
        let tensor = Tensor::new(DType::F32, shape.to_vec(), vec![0; bytes].into());
        let message = step(StepBody::Hidden(tensor.expect("bytes match")));
        let error = EncodeError::Hidden {
            dtype: DType::F32,
            shape: shape.to_vec(),
        };
        assert_eq!(Encoder::new(&message).expect_err("no state"), error);
        assert_eq!(encode_parts(&message), Err(error));
        assert!(message.payload_hint() >= bytes);
    }
    for dtype in DType::ALL {
        let message = step(StepBody::Hidden(hidden(dtype, 1, 2)));
        assert_eq!(Encoder::new(&message).is_ok(), StepBody::takes(dtype));
    }
    let none = step(StepBody::Tokens(vec![]));
    assert_eq!(encode_payload(&none), Err(EncodeError::NoTokens));
    let limit = (64 << 10) - 8;
    for length in [limit, limit + 1, 1 << 17] {
        let message = Message::End(ending(&"i".repeat(length), "text"));
        match encode_payload(&message) {
            Ok(payload) => {
                assert_eq!((length, payload.len()), (limit, 64 << 10));
                assert!(decode(MessageType::End, &payload).is_ok());
            }
            Err(error) => {
                let kind = MessageType::End;
                assert!(length > limit);
                assert_eq!(
                    error,
                    EncodeError::RequestId {
                        kind,
                        length,
                        limit
                    }
                );
            }
        }
    }
}

/// Whatever comes is refused or understood, and what is understood is written as it came.
#[test]
fn mutated_payloads_are_refused_or_say_something_else() {
    let mut rng = Rng::new(0x0bad_5eed);
    let (mut refused, mut taken) = (0, 0);
    for _ in 0..20_000 {
        let message = any::message(&mut rng);
        let kind = message.message_type();
        let mut payload = encode_payload(&message).expect("well-formed").to_vec();
        for _ in 0..=rng.below(3) {
            let at = rng.below(payload.len().min(64) as u64) as usize;
            match rng.below(4) {
                0 => payload.truncate(at),
                1 => payload.insert(at, rng.next_u64() as u8),
                _ if !payload.is_empty() => payload[at] = rng.next_u64() as u8,
                _ => {}
            }
        }
        let Ok(read) = decode(kind, &payload) else {
            refused += 1;
            continue;
        };
        taken += 1;
        assert_eq!(read.message_type(), kind);
        let again = encode_payload(&read).expect("what is read can be written");
        // JSON may be written in many ways, everything else in one.
        if kind != MessageType::Topology {
            assert_eq!(again, payload, "{read:?}");
        }
        // As text, because no number equals itself that is none.
        let twice = decode(kind, &again).expect("it was read before");
        assert_eq!(format!("{twice:?}"), format!("{read:?}"));
    }
    assert!(refused > 1000 && taken > 1000, "{refused} and {taken}");
}

#[test]
fn noise_of_any_length_is_a_message_or_an_error() {
    let mut rng = Rng::new(0x0000_a015);
    for kind in MessageType::ALL.into_iter().filter(|k| k.is_extension()) {
        for _ in 0..2000 {
            let length = rng.below(80);
            let noise: Vec<u8> = (0..length)
                .map(|_| (rng.next_u64() >> rng.below(64)) as u8)
                .collect();
            let header = Header {
                kind,
                length: noise.len() as u32,
            };
            let mut decoder = Decoder::new(DecodeLimits::default());
            let frame = [&header.encode()[..], &noise].concat();
            decoder.space()[..frame.len()].copy_from_slice(&frame);
            decoder.advance(frame.len());
            let lent = decoder.poll();
            let kept = decode(kind, &noise).map(Some);
            assert_eq!(lent, kept, "lent or kept");
        }
    }
}

//! The messages of training jobs.

use super::*;
use crate::wire::EncodeError;

fn batch(shape: &[usize]) -> Tensor {
    let bytes = shape.iter().product::<usize>() * 4;
    let data: Vec<u8> = (0..bytes).map(|at| at as u8).collect();
    Tensor::new(DType::F32, shape.to_vec(), data.into()).expect("bytes match")
}

fn example(input: ExampleInput, targets: &[u32], counted: &[(u32, u32)]) -> Example {
    Example {
        job: "j1".into(),
        step: 0x0102_0304,
        learn: true,
        input,
        targets: Targets {
            tokens: targets.to_vec(),
            counted: counted.to_vec(),
        },
    }
}

fn rows(tokens: &[u32], batch: u32) -> ExampleInput {
    let tokens = tokens.to_vec();
    ExampleInput::Tokens { tokens, batch }
}

fn gradient(tensor: Tensor) -> Message {
    Message::Gradient(Gradient {
        job: "j1".into(),
        step: 0x0102_0304,
        loss: 1.5,
        positions: 7,
        gradient: tensor,
    })
}

/// Every message with its bytes, as the specification's tables have them.
pub(super) fn written() -> Vec<(Message, Vec<u8>)> {
    let job = || RequestId::from("j1");
    let iteration = 0x0102_0304;
    let table: &[(Message, &[u8])] = &[
        (
            Message::Begin(Begin {
                plan: Bytes::from_static(b"{}"),
            }),
            b"{}",
        ),
        (
            Message::Begun(Begun {
                job: job(),
                trainable: 0x0102_0304_0506_0708,
                iteration,
            }),
            b"\x01\x02\x03\x04\x05\x06\x07\x08\x01\x02\x03\x04j1",
        ),
        (
            Message::Example(example(rows(&[5, 6], 2), &[6, 7], &[(0, 1), (1, 1)])),
            b"\x01\x02\x03\x04\0\0\0\x02\0\0\0\x01\0\0\0\0\x01\0\x02j1\
              \0\0\0\x06\0\0\0\x07\0\0\0\0\0\0\0\x01\0\0\0\x01\0\0\0\x01\
              \0\0\0\x05\0\0\0\x06",
        ),
        (
            Message::Example(example(
                ExampleInput::Hidden(batch(&[1, 1, 2])),
                &[9],
                &[(0, 1)],
            )),
            b"\x01\x02\x03\x04\0\0\0\x01\0\0\0\x01\0\0\0\x02\x01\0\x02j1\
              \0\0\0\x09\0\0\0\0\0\0\0\x01\0\x01\x02\x03\x04\x05\x06\x07",
        ),
        (
            gradient(batch(&[1, 2, 1])),
            b"\x01\x02\x03\x04\x3f\xc0\0\0\0\0\0\x07\0\0\0\x01\0\0\0\x02\0\0\0\x01\0\x02j1\
              \0\x01\x02\x03\x04\x05\x06\x07",
        ),
        (
            Message::Loss(Loss {
                job: job(),
                step: iteration,
                loss: -0.5,
                positions: 7,
            }),
            b"\x01\x02\x03\x04\xbf\0\0\0\0\0\0\x07j1",
        ),
        (
            Message::Save(Save {
                job: job(),
                iteration,
            }),
            b"\x01\x02\x03\x04j1",
        ),
        (
            Message::Saved(Saved {
                job: job(),
                iteration,
                file: "né".into(),
            }),
            b"\x01\x02\x03\x04\0\x02j1n\xc3\xa9",
        ),
    ];
    let own = |(message, bytes): &(Message, &[u8])| (message.clone(), bytes.to_vec());
    table.iter().map(own).collect()
}

/// The payload of an example of two positions in one sequence, with these four numbers in it.
fn numbers(batch: u32, positions: u32, width: u32, counted: (u32, u32)) -> Vec<u8> {
    let mut payload = vec![0; 4];
    for size in [batch, positions, width] {
        payload.extend(size.to_be_bytes());
    }
    payload.extend([0, 0, 0]);
    payload.extend([0; 8]);
    payload.extend(counted.0.to_be_bytes());
    payload.extend(counted.1.to_be_bytes());
    payload.extend([0; 8]);
    payload
}

#[test]
fn an_example_has_as_many_bytes_as_its_sizes_say() {
    let kind = MessageType::Example;
    let read = |payload: &[u8]| decode(kind, payload);
    assert!(read(&numbers(1, 2, 0, (0, 2))).is_ok());
    assert!(read(&numbers(1, 2, 1, (2, 2))).is_ok());
    for (batch, positions) in [(0, 2), (1, 0), (0, 0)] {
        let error = DecodeError::Sizes {
            kind,
            batch,
            positions,
            width: 0,
        };
        assert_eq!(read(&numbers(batch, positions, 0, (0, 0))), Err(error));
    }
    for (batch, positions, width) in [
        (2, 2, 0),
        (2, 1, 0),
        (1, 1, 0),
        (1, 2, 2),
        (u32::MAX, u32::MAX, u32::MAX),
        (1 << 31, 1 << 31, 1 << 30),
    ] {
        let read = read(&numbers(batch, positions, width, (0, 0)));
        let sizes = matches!(read, Err(DecodeError::Length { got: 43, .. }));
        assert!(sizes, "{batch} {positions} {width}: {read:?}");
    }
    for (from, to) in [(0, 3), (2, 1), (u32::MAX, u32::MAX)] {
        let error = DecodeError::Counted {
            from,
            to,
            positions: 2,
        };
        assert_eq!(read(&numbers(1, 2, 0, (from, to))), Err(error));
    }
}

#[test]
fn a_gradient_has_as_many_bytes_as_its_sizes_say() {
    let kind = MessageType::Gradient;
    let payload = encode_payload(&gradient(batch(&[2, 1, 3]))).expect("well-formed");
    assert!(decode(kind, &payload).is_ok());
    for at in [12, 16, 20] {
        let mut other = payload.to_vec();
        other[at..at + 4].fill(0);
        let sizes = matches!(decode(kind, &other), Err(DecodeError::Sizes { .. }));
        assert!(sizes, "a zero at {at}");
        other[at] = 1;
        let length = matches!(decode(kind, &other), Err(DecodeError::Length { .. }));
        assert!(length, "2^24 at {at}");
    }
}

#[test]
fn what_cannot_be_read_cannot_be_written() {
    let write = |example: Example| encode_payload(&Message::Example(example)).map(|_| ());
    for (tokens, batch) in [(0, 1), (3, 2), (2, 0), (2, 3)] {
        let example = example(rows(&vec![1; tokens], batch), &[1, 2], &[(0, 1)]);
        assert_eq!(write(example), Err(EncodeError::Rows { tokens, batch }));
    }
    for (targets, counted) in [
        (&[1, 2, 3][..], &[(0, 2)][..]),
        (&[1, 2], &[]),
        (&[1, 2], &[(0, 3)]),
        (&[1, 2], &[(2, 1)]),
    ] {
        let error = EncodeError::Targets {
            batch: 1,
            positions: 2,
            targets: targets.len(),
            counted: counted.len(),
        };
        assert_eq!(
            write(example(rows(&[1, 2], 1), targets, counted)),
            Err(error)
        );
    }
    let half = Tensor::new(DType::F16, vec![1, 1, 1], vec![0; 2].into()).expect("bytes match");
    for tensor in [batch(&[1, 2]), batch(&[1, 0, 2]), half] {
        let error = |kind| EncodeError::Batch {
            kind,
            dtype: tensor.dtype(),
            shape: tensor.shape().to_vec(),
        };
        let hidden = example(ExampleInput::Hidden(tensor.clone()), &[], &[]);
        assert_eq!(write(hidden), Err(error(MessageType::Example)));
        let written = encode_payload(&gradient(tensor.clone()));
        assert_eq!(written, Err(error(MessageType::Gradient)));
    }
    let long = Message::Save(Save {
        job: "j".repeat(65533).into(),
        iteration: 1,
    });
    let error = EncodeError::RequestId {
        kind: MessageType::Save,
        length: 65533,
        limit: 65532,
    };
    assert_eq!(encode_payload(&long), Err(error));
}

#[test]
fn what_is_no_number_arrives() {
    let loss = Message::Loss(Loss {
        job: "j".into(),
        step: 1,
        loss: f32::NAN,
        positions: 0,
    });
    let payload = encode_payload(&loss).expect("well-formed");
    let Ok(Message::Loss(read)) = decode(MessageType::Loss, &payload) else {
        panic!("a loss is a loss");
    };
    assert!(read.loss.is_nan());
}

//! What is written reads back, and what was said is not written.

mod samples;

use super::codec::{Item, Source};
use super::quiet::output;
use super::redact::Redactor;
use crate::engine::{EngineCommand, EngineInput, ExampleInput, Targets, TrainCommand};
use crate::id::{CallId, ConnectionId};
use crate::node::{Command, Event, Failure, Input, JobFailure, Output};
use crate::tensor::{DType, Tensor};
use crate::wire::{Message, MessageType};
use alloc::format;
use alloc::vec;
use alloc::vec::Vec;
use samples::{END, SECRET, SECRET_TOKEN, hidden, inputs, messages, secret, shard};

fn bytes(item: &impl Item) -> Vec<u8> {
    let mut bytes = Vec::new();
    item.put(&mut bytes);
    bytes
}

fn tells(bytes: &[u8]) -> bool {
    let decimal = format!("{SECRET_TOKEN}");
    let forms = [&SECRET[..], &SECRET_TOKEN.to_be_bytes(), decimal.as_bytes()];
    let groups = self::bytes(&SECRET_TOKEN);
    let found = |form: &[u8]| bytes.windows(form.len()).any(|window| window == form);
    forms.into_iter().any(found) || found(&groups)
}

#[test]
fn every_input_reads_back() {
    for input in inputs() {
        let written = bytes(&input);
        let mut from = Source(&written);
        let back = Input::take(&mut from).expect("it was written just now");
        assert!(from.0.is_empty(), "{input:?}");
        assert_eq!(format!("{back:?}"), format!("{input:?}"));
        assert_eq!(bytes(&back), written, "{input:?}");
    }
}

#[test]
fn every_kind_of_message_is_among_them() {
    for kind in MessageType::ALL {
        assert!(
            messages()
                .iter()
                .any(|message| message.message_type() == kind),
            "{kind:?}"
        );
    }
}

#[test]
fn nothing_that_was_said_is_left() {
    let told = inputs()
        .iter()
        .filter(|input| tells(&bytes(*input)))
        .count();
    assert_eq!(told, 30, "as many bring it");
    let mut redactor = Redactor::default();
    for input in inputs() {
        let left = redactor.input(&input);
        assert!(!tells(&bytes(&left)), "{left:?}");
        assert_eq!(bytes(&left), bytes(&redactor.input(&left)), "{input:?}");
    }
}

#[test]
fn lengths_ends_and_what_is_no_token_stay() {
    let mut redactor = Redactor::default();
    let mut left = inputs().into_iter().map(|input| redactor.input(&input));
    let Some(Input::Command(Command::Submit(submit))) = left.next() else {
        panic!("it comes first")
    };
    assert_eq!(&*submit.prompt, "xxxx");
    // Another one of as many digits; 0 and 2 end an answer.
    assert_eq!(submit.tokens, [1_000_000_000, 0, END]);
    let said: Vec<Message> = left
        .filter_map(|input| match input {
            Input::Received { message, .. } => Some(message),
            _ => None,
        })
        .collect();
    assert_eq!(said.len(), messages().len());
    for (left, said) in said.iter().zip(messages()) {
        assert_eq!(left.payload_hint(), said.payload_hint(), "{said:?}");
        match left {
            Message::SendResult(left) if left.tensor.is_none() => {
                assert_eq!(left.result, [1_000_000_000, END.into(), -1, -1]);
            }
            Message::SendTensorRequest(left) if left.tensor.dtype() == DType::I32 => {
                assert_eq!(left.tensor.to_tokens(), Some(vec![1_000_000_000, END]));
            }
            Message::Token(left) => assert_eq!((left.token, left.last), (1_000_000_000, true)),
            _ => {}
        }
    }
}

#[test]
fn numbers_of_any_type_stay_tokens_or_none() {
    for (dtype, element, tokens) in [
        (DType::I8, vec![0xff], None),
        (DType::I64, u64::MAX.to_le_bytes().to_vec(), None),
        (DType::I64, (1u64 << 32).to_le_bytes().to_vec(), None),
        (DType::U64, (1u64 << 63).to_le_bytes().to_vec(), None),
        (DType::U64, 9u64.to_le_bytes().to_vec(), Some(vec![0])),
        (DType::U32, 9u32.to_le_bytes().to_vec(), Some(vec![0])),
        (DType::I16, 9u16.to_le_bytes().to_vec(), Some(vec![0])),
    ] {
        let tensor = Tensor::new(dtype, vec![1, 1], element.into()).expect("one element");
        let input = Input::Received {
            connection: ConnectionId(1),
            message: Message::SendTensorResponse(Some(tensor)),
            bytes: 1,
        };
        let Input::Received {
            message: Message::SendTensorResponse(Some(left)),
            ..
        } = Redactor::default().input(&input)
        else {
            panic!("it stays what it is")
        };
        assert_eq!(left.to_tokens(), tokens, "{dtype}");
    }
}

#[test]
fn what_was_said_does_not_count_in_outputs() {
    let forward = |input| {
        Output::Compute(EngineCommand::Forward {
            call: CallId(1),
            shard: shard(),
            request: "r".into(),
            position: 0,
            input,
            sampling: None,
        })
    };
    let train = |input| {
        Output::Compute(EngineCommand::Train(TrainCommand::Forward {
            call: CallId(1),
            job: "j".into(),
            step: 1,
            input,
            targets: Some(Targets {
                tokens: vec![SECRET_TOKEN],
                counted: vec![(SECRET_TOKEN, SECRET_TOKEN)],
            }),
            learn: true,
        }))
    };
    let mut outputs = vec![
        train(ExampleInput::Tokens {
            tokens: vec![SECRET_TOKEN],
            batch: 1,
        }),
        train(ExampleInput::Hidden(hidden(1, DType::F32))),
        Output::Compute(EngineCommand::Train(TrainCommand::Backward {
            call: CallId(1),
            job: "j".into(),
            step: 1,
            gradient: hidden(1, DType::F32),
        })),
        Output::Event(Event::JobFailed {
            job: "j".into(),
            failure: JobFailure::Stage {
                node: "n".into(),
                message: secret(),
            },
            saved: None,
        }),
        forward(EngineInput::Text(secret().into())),
        forward(EngineInput::Tokens(vec![SECRET_TOKEN])),
        forward(EngineInput::Hidden(hidden(1, DType::F32))),
        Output::Event(Event::Token {
            request: "r".into(),
            index: 0,
            token: SECRET_TOKEN,
            scores: None,
        }),
        Output::Event(Event::Failed {
            request: "r".into(),
            failure: Failure::Stage {
                node: "n".into(),
                message: secret(),
            },
        }),
        Output::Event(Event::PeerDown {
            node: "n".into(),
            address: "a".into(),
            reason: secret(),
        }),
    ];
    outputs.extend(messages().into_iter().map(|message| Output::Send {
        connection: ConnectionId(1),
        message,
    }));
    for each in outputs {
        assert!(!tells(&bytes(&output(&each))), "{each:?}");
    }
}

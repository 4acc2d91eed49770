//! Redaction of messages that come in pieces: each piece is written when it comes, so what was said
//! must be found without the rest of the message.

use super::json::Scanner;
use crate::id::ConnectionId;
use crate::wire::{Chunk, MessageType};
use alloc::collections::BTreeMap;
use bytes::Bytes;

/// Bytes of a piece of a file before its content: `want`, `size` and `code`.
const PART: u32 = 8 + 8 + 2;

/// Messages that have begun to come.
#[derive(Debug, Default)]
pub(super) struct Pieces(BTreeMap<(ConnectionId, u32), Layout>);

/// Of one connection. A peer that has more under way breaks the rules, and its connection ends.
const MOST: usize = 8;

impl Pieces {
    pub(super) fn redact(&mut self, connection: ConnectionId, chunk: &Chunk) -> Chunk {
        let key = (connection, chunk.transfer);
        let mut layout = match self.0.remove(&key) {
            Some(layout) => layout,
            None => Layout::of(chunk.kind, chunk.offset),
        };
        let mut data = chunk.data.to_vec();
        layout.blank(chunk.offset, &mut data);
        let end = u64::from(chunk.offset) + data.len() as u64;
        let under_way = self
            .0
            .range((connection, 0)..=(connection, u32::MAX))
            .count();
        if end < chunk.total.into() && under_way < MOST {
            self.0.insert(key, layout);
        }
        Chunk {
            data: Bytes::from(data),
            ..*chunk
        }
    }

    pub(super) fn abort(&mut self, connection: ConnectionId, transfer: u32) {
        self.0.remove(&(connection, transfer));
    }

    pub(super) fn lost(&mut self, connection: ConnectionId) {
        self.0.retain(|&(of, _), _| of != connection);
    }
}

/// Where in a payload something was said.
#[derive(Debug)]
enum Layout {
    Nowhere,
    Everywhere,
    /// Behind a head of this length.
    Behind(u32),
    /// Behind a head whose length depends on the type of the elements.
    Step {
        tokens: bool,
    },
    /// Behind JSON whose length, at least so far, stands before it.
    Prefixed {
        length: u32,
    },
    /// Behind an id whose length stands at `at`, in two bytes.
    Named {
        at: u32,
        length: u32,
    },
    /// In the texts and numbers under one key.
    Json(Scanner),
    /// As JSON or behind it, by the first byte.
    Result,
}

impl Layout {
    fn of(kind: u8, offset: u32) -> Self {
        match MessageType::from_byte(kind) {
            Some(kind) if !tells(kind) => Self::Nowhere,
            // Its beginning was not seen, or is forgotten.
            _ if offset > 0 => Self::Everywhere,
            Some(MessageType::Step) => Self::Step { tokens: true },
            Some(MessageType::Part) => Self::Behind(PART),
            Some(MessageType::Example) => Self::Named { at: 17, length: 0 },
            Some(MessageType::Gradient) => Self::Named { at: 24, length: 0 },
            Some(MessageType::SendTensorRequest | MessageType::SendTensorResponse) => {
                Self::Prefixed { length: 0 }
            }
            Some(MessageType::SendPromptRequest) => Self::Json(Scanner::new(b"prompt")),
            Some(MessageType::SendOpaqueStatus) => Self::Json(Scanner::new(b"status")),
            Some(MessageType::SendResult) => Self::Result,
            _ => Self::Everywhere,
        }
    }

    fn blank(&mut self, offset: u32, data: &mut [u8]) {
        /// The type of the elements stands at the end of the head of token ids.
        const DTYPE: u32 = 9;
        /// Before a hidden state there is its width too.
        const WIDTH: u32 = 4;
        const PREFIX: u32 = 4;

        if let (Self::Result, Some(first)) = (&*self, data.first()) {
            *self = if matches!(first, b'{' | b' ' | b'\t' | b'\n' | b'\r') {
                Self::Json(Scanner::new(b"result"))
            } else {
                Self::Prefixed { length: 0 }
            };
        }
        let places = (offset..).zip(data.iter());
        let said_from = match self {
            Self::Nowhere => u32::MAX,
            Self::Everywhere | Self::Result => 0,
            Self::Behind(head) => *head,
            Self::Step { tokens } => {
                if let Some((_, dtype)) = places.take(10).find(|&(place, _)| place == DTYPE) {
                    *tokens = *dtype == 0;
                }
                DTYPE + 1 + if *tokens { 0 } else { WIDTH }
            }
            Self::Prefixed { length } => {
                for (_, &byte) in places.take(4).filter(|&(place, _)| place < PREFIX) {
                    *length = *length << 8 | u32::from(byte);
                }
                // The length is not known before all of its bytes are.
                PREFIX.saturating_add(*length)
            }
            Self::Named { at, length } => {
                let ends = *at + 2;
                for (_, &byte) in places.filter(|(place, _)| (*at..ends).contains(place)) {
                    *length = *length << 8 | u32::from(byte);
                }
                ends + *length
            }
            Self::Json(scanner) => return scanner.blank(data),
        };
        let skip = usize::try_from(said_from.saturating_sub(offset)).unwrap_or(usize::MAX);
        for byte in data.iter_mut().skip(skip) {
            *byte = 0;
        }
    }
}

/// Whether messages of this kind bring what somebody said.
pub(super) fn tells(kind: MessageType) -> bool {
    match kind {
        MessageType::SendPromptRequest
        | MessageType::SendPromptResponse
        | MessageType::SendTensorRequest
        | MessageType::SendTensorResponse
        | MessageType::SendExampleRequest
        | MessageType::SendExampleResponse
        | MessageType::SendResult
        | MessageType::SendOpaqueStatus
        | MessageType::Step
        | MessageType::Token
        | MessageType::Scored
        | MessageType::Example
        | MessageType::Gradient
        | MessageType::Part
        | MessageType::Chunk => true,
        MessageType::HealthCheckRequest
        | MessageType::HealthCheckResponse
        | MessageType::CollectTopologyRequest
        | MessageType::CollectTopologyResponse
        | MessageType::Ping
        | MessageType::Pong
        | MessageType::Error
        | MessageType::Goodbye
        | MessageType::Topology
        | MessageType::Open
        | MessageType::Close
        | MessageType::Credit
        | MessageType::End
        | MessageType::Failed
        | MessageType::Abort
        | MessageType::Begin
        | MessageType::Begun
        | MessageType::Loss
        | MessageType::Save
        | MessageType::Saved
        | MessageType::Want
        | MessageType::Timing => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{ExampleInput, Targets};
    use crate::shard::Shard;
    use crate::tensor::{DType, Tensor};
    use crate::wire::{
        DecodeLimits, Example, Gradient, Message, Part, SendPrompt, SendResult, SendTensor, Step,
        StepBody, decode_payload, encode_payload,
    };
    use alloc::vec;
    use alloc::vec::Vec;

    /// What is left of a message that came in pieces of these lengths.
    fn come(message: &Message, lengths: &[usize]) -> Message {
        let kind = message.message_type();
        let payload = encode_payload(message).expect("small");
        let mut pieces = Pieces::default();
        let (mut came, mut lengths) = (Vec::new(), lengths.iter().cycle());
        while came.len() < payload.len() {
            let length = (*lengths.next().expect("for ever")).min(payload.len() - came.len());
            let chunk = Chunk {
                transfer: 1,
                kind: kind as u8,
                total: u32::try_from(payload.len()).expect("small"),
                offset: u32::try_from(came.len()).expect("small"),
                data: payload.slice(came.len()..came.len() + length),
            };
            let redacted = pieces.redact(ConnectionId(1), &chunk);
            assert_eq!(redacted.data.len(), length);
            came.extend_from_slice(&redacted.data);
        }
        assert!(pieces.0.is_empty(), "it is forgotten when it is complete");
        decode_payload(kind, came.into(), &DecodeLimits::default()).expect("still a message")
    }

    fn shard() -> Shard {
        Shard::new("model".into(), 0..4, 8).expect("layers")
    }

    fn batch(byte: u8) -> Tensor {
        Tensor::new(DType::F32, vec![1, 2, 3], vec![byte; 24].into()).expect("24 bytes")
    }

    fn example(byte: u8, token: u32, counted: (u32, u32)) -> Message {
        Message::Example(Example {
            job: "job".into(),
            step: 0x0102_0304,
            learn: true,
            input: ExampleInput::Hidden(batch(byte)),
            targets: Targets {
                tokens: vec![token; 2],
                counted: vec![counted],
            },
        })
    }

    fn gradient(byte: u8) -> Message {
        Message::Gradient(Gradient {
            job: "job".into(),
            step: 0x0102_0304,
            loss: 1.5,
            positions: 2,
            gradient: batch(byte),
        })
    }

    #[test]
    fn however_a_message_is_cut_what_was_said_is_gone_and_the_rest_is_there() {
        let hidden = |byte| {
            let data = vec![byte; 24];
            Tensor::new(DType::F32, vec![1, 2, 3], data.into()).expect("24 bytes")
        };
        let step = |body| {
            Message::Step(Step {
                stream: 0x0102_0304,
                position: 0x0506_0708,
                sample: true,
                body,
            })
        };
        let tensor = |tensor| {
            Message::SendTensorRequest(SendTensor {
                shard: shard(),
                tensor,
                request_id: Some("r".into()),
                inference_state: None,
            })
        };
        let part = |content: &'static [u8]| {
            Message::Part(Part {
                want: 0x0102_0304_0506_0708,
                size: 0x0102_0304_0506_0708,
                code: 0x0102,
                content: Bytes::from_static(content),
            })
        };
        let prompt = |text: &str| {
            Message::SendPromptRequest(SendPrompt {
                shard: shard(),
                prompt: text.into(),
                request_id: Some("prompt".into()),
                inference_state: None,
            })
        };
        let result = |result, image: bool, byte| {
            Message::SendResult(SendResult {
                request_id: Some("7".into()),
                result,
                is_finished: true,
                tensor: image.then(|| hidden(byte)),
            })
        };
        let cases = [
            (
                step(StepBody::Hidden(hidden(7))),
                step(StepBody::Hidden(hidden(0))),
            ),
            (
                step(StepBody::Tokens(vec![1, 2, 3_000_000_000])),
                step(StepBody::Tokens(vec![0, 0, 0])),
            ),
            (tensor(hidden(9)), tensor(hidden(0))),
            (part(b"secret"), part(&[0; 6])),
            (
                Message::SendTensorResponse(Some(hidden(9))),
                Message::SendTensorResponse(Some(hidden(0))),
            ),
            (
                prompt("say \"no\"\n\u{e4} \u{1f98a} \\ \u{7f}"),
                prompt("xxxx\"xx\"\n\u{2000}x\u{10000}x\\x\u{2000}"),
            ),
            (
                result(vec![7, 45, 2_100_000_000], false, 0),
                result(vec![1, 11, 1_111_111_111], false, 0),
            ),
            (result(vec![7], true, 5), result(vec![7], true, 0)),
            (example(7, 7, (1, 2)), example(0, 0, (0, 0))),
            (gradient(7), gradient(0)),
            (
                Message::SendExampleRequest(Bytes::from_static(b"example")),
                Message::SendExampleRequest(Bytes::from_static(&[0; 7])),
            ),
            (
                Message::HealthCheckRequest {
                    payload: Bytes::from_static(b"hello"),
                },
                Message::HealthCheckRequest {
                    payload: Bytes::from_static(b"hello"),
                },
            ),
        ];
        for (said, left) in cases {
            for lengths in [&[1][..], &[2], &[3, 1, 7], &[9, 1], &[10], &[4096]] {
                assert_eq!(come(&said, lengths), left, "{lengths:?}");
            }
        }
    }

    #[test]
    fn a_peer_that_begins_too_much_takes_no_memory_and_tells_nothing() {
        let mut pieces = Pieces::default();
        for transfer in 0..100 {
            let chunk = Chunk {
                transfer,
                kind: MessageType::Step as u8,
                total: 100,
                offset: 50,
                data: Bytes::from_static(b"secret"),
            };
            let left = pieces.redact(ConnectionId(1), &chunk);
            assert_eq!(&left.data[..], [0; 6]);
        }
        assert_eq!(pieces.0.len(), MOST);
        pieces.lost(ConnectionId(2));
        assert_eq!(pieces.0.len(), MOST);
        pieces.abort(ConnectionId(1), 0);
        assert_eq!(pieces.0.len(), MOST - 1);
        pieces.lost(ConnectionId(1));
        assert!(pieces.0.is_empty());
    }
}

//! The table and the codec say the same of every message.

mod reader;
mod told;

use super::*;
use crate::rng::Rng;
use crate::tensor::Tensor;
use crate::wire::extension::tests::any::message as any_of_extension;
use crate::wire::tests::any::any_message;
use crate::wire::{
    DecodeLimits, Encoder, ExampleReply, HEADER_LEN, Message, SendExample, decode_payload,
};
use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;
use proptest::prelude::*;
use reader::Reader;
use told::{of_message, of_tensor};

/// What the table finds in a payload, and how many bytes it leaves over.
fn read(kind: MessageType, payload: &[u8]) -> (Vec<(String, String)>, usize) {
    let mut reader = Reader {
        rest: payload,
        ..Reader::default()
    };
    match kind.layout() {
        Layout::Opaque => reader.rest = &[],
        Layout::Json => {
            let json = String::from_utf8_lossy(payload).into_owned();
            reader.found.push(("json".to_owned(), json));
            reader.rest = &[];
        }
        Layout::Container(keys) => reader.container(keys),
        Layout::JsonOrContainer(keys) if payload.first() != Some(&b'{') => reader.container(keys),
        Layout::JsonOrContainer(_) => {
            let json = reader.text(payload.len());
            reader.found.push(("json".to_owned(), json));
        }
        Layout::Fields(fields) => fields.iter().for_each(|field| reader.field(field)),
    }
    (reader.found, reader.rest.len())
}

fn payload(message: &Message) -> Vec<u8> {
    let frame = Encoder::new(message)
        .expect("well-formed")
        .slices()
        .concat();
    frame[HEADER_LEN..].to_vec()
}

#[test]
fn the_table_finds_what_the_codec_wrote() {
    let mut seen = Vec::new();
    let mut rng = Rng::new(1);
    for _ in 0..3000 {
        let message = any_of_extension(&mut rng);
        let (kind, payload) = (message.message_type(), payload(&message));
        let Some(expected) = of_message(&message) else {
            assert_eq!(kind.layout(), Layout::Json, "{kind:?}");
            continue;
        };
        let (found, left) = read(kind, &payload);
        assert_eq!(left, 0, "{message:?}");
        let found = found.iter().map(|(name, value)| (&**name, value.clone()));
        let found: Vec<_> = found
            .filter(|(name, _)| !name.ends_with("_length"))
            .collect();
        assert_eq!(found, expected, "{message:?}");
        seen.push(kind);
    }
    let mut fields = MessageType::ALL.into_iter();
    let fields = fields
        .by_ref()
        .filter(|kind| matches!(kind.layout(), Layout::Fields(_)));
    for kind in fields {
        assert!(seen.contains(&kind), "{kind:?} was never tried");
    }
}

proptest! {
    #[test]
    fn the_table_leaves_no_byte_of_the_base_protocol_over(message in any_message()) {
        let (kind, payload) = (message.message_type(), payload(&message));
        // What is not interpreted need not be what the table says.
        if !matches!(message, Message::SendExampleRequest(_) | Message::SendExampleResponse(_)) {
            let (found, left) = read(kind, &payload);
            prop_assert_eq!(left, 0);
            let tensor = match &message {
                Message::SendTensorRequest(request) => Some(&request.tensor),
                Message::SendTensorResponse(tensor) => tensor.as_ref(),
                Message::SendResult(result) => result.tensor.as_ref(),
                _ => None,
            };
            let found = found.into_iter().find(|(name, _)| name == "tensor");
            prop_assert_eq!(found.map(|(_, found)| found), tensor.map(of_tensor));
        }
    }
}

#[test]
fn the_containers_of_training_are_as_the_table_says() {
    let token = |count: usize| {
        let data = (0..4 * count).map(|at| at as u8).collect();
        Tensor::new(DType::I32, [1, count].into(), data).expect("bytes match")
    };
    let shard = r#"{"model_id": "m", "start_layer": 0, "end_layer": 3, "n_layers": 8}"#;
    let i32s = |count: usize| format!(r#"{{"shape": [1, {count}], "dtype": "int32"}}"#);
    let (one, two, three) = (i32s(1), i32s(2), i32s(3));
    let json = format!(
        r#"{{"length": {one}, "target": {two}, "train": true, "example": {three}, "shard": {shard}}}"#
    );
    let bodies = [token(3), token(2), token(1)];
    let mut bytes = (json.len() as u32).to_be_bytes().to_vec();
    bytes.extend(json.as_bytes());
    bodies
        .iter()
        .for_each(|tensor| bytes.extend(&tensor.data()[..]));
    let limits = DecodeLimits::default();
    SendExample::read(&bytes.clone().into(), &limits).expect("an example");
    let (found, left) = read(MessageType::SendExampleRequest, &bytes);
    let tensors: Vec<String> = found.into_iter().skip(1).map(|(_, value)| value).collect();
    assert_eq!(tensors, bodies.each_ref().map(of_tensor));
    assert_eq!(left, 0);
    let reply = ExampleReply {
        loss: 0.5,
        grads: Some(token(2)),
    };
    let (found, left) = read(MessageType::SendExampleResponse, &reply.write());
    assert_eq!(found[1].1, of_tensor(&token(2)));
    assert_eq!(left, 0);
}

#[test]
fn flags_and_codes_that_the_table_does_not_know_are_none() {
    let mut rng = Rng::new(2);
    for kind in MessageType::ALL {
        let Layout::Fields(fields) = kind.layout() else {
            continue;
        };
        let flags = fields.iter().find_map(|field| match field.kind {
            Kind::Flags(names) => Some(names),
            _ => None,
        });
        let Some(names) = flags else { continue };
        let known = names.iter().fold(0, |all, (bit, _)| all | bit);
        // Where the flags are is found out by reading.
        let message = (0..)
            .map(|_| any_of_extension(&mut rng))
            .find(|message| message.message_type() == kind);
        let whole = payload(&message.expect("there is one"));
        let at = match kind {
            MessageType::Step => 8,
            MessageType::Token | MessageType::Scored => 12,
            _ => 16,
        };
        for flags in 0..=u8::MAX {
            let mut changed = whole.clone();
            changed[at] = flags;
            let read = decode_payload(kind, changed.into(), &DecodeLimits::default());
            assert_eq!(
                read.is_ok(),
                flags & !known == 0,
                "{kind:?} {flags:#x}: {read:?}"
            );
        }
    }
}

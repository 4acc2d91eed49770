//! A recorded conversation of two reference nodes: every direction of every connection, in the
//! pieces in which it passed.

use crate::common::{hex, items, load, sorted, text};
use crate::fields::{fields, kind};
use crate::frames::{encoded, feed};
use exo_protocol::wire::{DecodeLimits, Decoder};
use std::collections::BTreeMap;

#[test]
fn a_recorded_conversation() {
    let file = load("trace_dummy_2node.json");
    let direction = |entry: &serde_json::Value| {
        (
            entry["conn"].as_u64().expect("a number"),
            text(entry, "from").to_owned(),
        )
    };
    let mut streams = BTreeMap::new();
    for chunk in items(&file["chunks"]) {
        let (decoder, messages, bytes) = streams.entry(direction(chunk)).or_insert_with(|| {
            (
                Decoder::new(DecodeLimits::default()),
                Vec::new(),
                Vec::new(),
            )
        });
        let chunk = hex(text(chunk, "bytes_hex"));
        feed(decoder, &chunk, messages).expect("well-formed");
        bytes.extend(chunk);
    }
    let mut expected: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for message in items(&file["messages"]) {
        expected
            .entry(direction(message))
            .or_default()
            .push(message);
    }
    assert!(streams.keys().eq(expected.keys()));
    for (direction, (decoder, messages, bytes)) in streams {
        let expected = &expected[&direction];
        assert!(!decoder.is_mid_frame());
        assert_eq!(messages.len(), expected.len(), "{direction:?}");
        for (message, expected) in messages.iter().zip(expected) {
            assert_eq!(message.message_type(), kind(expected));
            assert_eq!(sorted(fields(message)), sorted(expected["fields"].clone()));
        }
        let again: Vec<u8> = messages.iter().flat_map(encoded).collect();
        assert_eq!(again, bytes, "{direction:?}");
    }
}

//! Well-formed frames: what we read is what was meant, and written again it is the same bytes.

use crate::common::{Tally, hex, items, load, sorted, text};
use crate::fields::{fields, kind};
use crate::rules::{Payload, TABLE, why_different, why_refused};
use bytes::Bytes;
use exo_protocol::wire::{
    DecodeLimits, Decoder, Download, Encoder, Message, decode_payload, encode_payload,
};
use serde_json::{Value, json};

/// Every message of a stream, and whether it ends inside a frame.
pub(crate) fn decode_all(stream: &[u8]) -> (Vec<Message>, Result<bool, String>) {
    let mut decoder = Decoder::new(DecodeLimits::default());
    let mut messages = Vec::new();
    let outcome = feed(&mut decoder, stream, &mut messages);
    (messages, outcome.map(|()| decoder.is_mid_frame()))
}

/// Feeds all of `bytes`.
pub(crate) fn feed(
    decoder: &mut Decoder,
    mut bytes: &[u8],
    messages: &mut Vec<Message>,
) -> Result<(), String> {
    while !bytes.is_empty() {
        let space = decoder.space();
        let n = space.len().min(bytes.len());
        let (now, later) = bytes.split_at(n);
        space[..n].copy_from_slice(now);
        bytes = later;
        decoder.advance(n);
        while let Some(message) = decoder.poll().map_err(|error| error.to_string())? {
            messages.push(message);
        }
    }
    Ok(())
}

/// A whole frame, as it would be written.
pub(crate) fn encoded(message: &Message) -> Vec<u8> {
    Encoder::new(message)
        .expect("fits a frame")
        .slices()
        .concat()
}

#[test]
fn frames_mean_and_are_the_same() {
    let file = load("frames.json");
    let mut tally = Tally::default();
    for case in items(&file) {
        let name = text(case, "name");
        let (frame, payload) = (hex(text(case, "frame_hex")), hex(text(case, "payload_hex")));
        let kind = kind(case);
        assert_eq!(frame[9..], payload, "{name}");
        let (messages, rest) = decode_all(&frame);
        let content = Payload {
            kind,
            bytes: &payload,
        };
        let [message] = &messages[..] else {
            tally.judge(name, false, why_refused(content), format!("{rest:?}"));
            continue;
        };
        assert_eq!(rest, Ok(false), "{name}");
        assert_eq!(message.message_type(), kind, "{name}");
        let limits = DecodeLimits::default();
        let alone = decode_payload(kind, Bytes::from(payload.clone()), &limits);
        assert_eq!(alone.as_ref(), Ok(message), "{name}: the payload alone");
        assert_eq!(
            encode_payload(message).expect("fits"),
            encoded(message)[9..],
            "{name}"
        );
        let meant = sorted(fields(message)) == sorted(case["fields"].clone());
        let written = encoded(message) == frame;
        tally.judge(
            name,
            meant && written,
            why_different(content),
            format!("fields {meant}, bytes {written}: {message:?}"),
        );
    }
    // Nothing in our own set needs a rule.
    let rare: Vec<&str> = TABLE.iter().map(|(id, _)| *id).collect();
    tally.finish("frames", TABLE, &rare);
}

#[test]
fn the_references_words_on_its_downloads_are_understood() {
    let file = load("frames.json");
    let cases = items(&file).iter();
    let cases = cases.filter(|case| text(case, "name").starts_with("opaque_download_progress"));
    let mut read = 0;
    for case in cases {
        let (name, document) = (text(case, "name"), &case["fields"]["status"]);
        let told = Download::from_status(document.as_str().expect("a text"));
        let (node, download) = told.expect(name);
        let meant = &case["fields"]["status_json"]["progress"];
        assert_eq!(
            *node,
            *text(&case["fields"]["status_json"], "node_id"),
            "{name}"
        );
        let shard = &download.shard;
        let layers = json!({
            "model_id": shard.model.as_str(),
            "start_layer": shard.start,
            "end_layer": shard.end,
            "n_layers": shard.layers,
        });
        assert_eq!(layers, meant["shard"], "{name}");
        let bytes = (&meant["downloaded_bytes"], &meant["total_bytes"]);
        assert_eq!(
            (&json!(download.done), &json!(download.total)),
            bytes,
            "{name}"
        );
        assert_eq!(download.is_over(), meant["status"] == "complete", "{name}");
        // What we write has the reference's keys, in its order, and no others.
        let ours: Value = serde_json::from_str(&download.to_status(&node)).expect("JSON");
        let keys = |value: &Value| -> Vec<String> {
            value
                .as_object()
                .expect("an object")
                .keys()
                .cloned()
                .collect()
        };
        assert_eq!(keys(&ours), keys(&case["fields"]["status_json"]), "{name}");
        assert_eq!(keys(&ours["progress"]), keys(meant), "{name}");
        read += 1;
    }
    assert!(read >= 3, "{read} of them");
}

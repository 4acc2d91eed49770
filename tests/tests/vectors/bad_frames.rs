//! Odd and malformed input, layer by layer up to a payload.

use crate::common::{Tally, hex, items, load, same, sorted, text};
use crate::fields::{fields, kind};
use crate::frames::{decode_all, encoded};
use crate::peers;
use crate::rules::{self, Payload, known, numpy, why_accepted, why_different, why_refused};
use bytes::Bytes;
use exo_protocol::wire::{
    DecodeLimits, HEADER_LEN, Header, Message, MessageType, decode_payload, encode_payload,
};
use serde_json::{Value, json};

/// The cases of one layer.
pub(crate) fn layer(name: &str) -> Vec<Value> {
    items(&load("bad_frames.json"))
        .iter()
        .filter(|case| case["layer"] == name)
        .cloned()
        .collect()
}

/// The input, written out or described.
fn input(case: &Value) -> Vec<u8> {
    if let Some(input) = case["input_hex"].as_str() {
        return hex(input);
    }
    let mut bytes = Vec::new();
    for part in items(&case["input_recipe"]) {
        match part["repeat_hex"].as_str() {
            Some(unit) => {
                let count = usize::try_from(part["count"].as_u64().expect("a count"));
                bytes.extend(hex(unit).repeat(count.expect("a length")));
            }
            None => bytes.extend(hex(text(part, "hex"))),
        }
    }
    bytes
}

fn accepted(outcome: &Value) -> bool {
    match text(outcome, "status") {
        "accepted" | "encoded" => true,
        "error" => false,
        other => panic!("unknown status {other}"),
    }
}

#[test]
fn odd_input_differs_only_by_rule() {
    let mut all = Tally::default();
    for (layer, tally) in [
        ("headers", headers()),
        ("payloads", payloads()),
        ("tensors", tensors()),
        ("servers", peers::servers()),
        ("clients", peers::clients()),
        ("encoders", encoders()),
    ] {
        println!("{layer}: {tally}");
        all.add(tally);
    }
    all.finish("odd input", rules::TABLE, rules::RARE);
}

fn headers() -> Tally {
    let mut tally = Tally::default();
    for case in layer("header") {
        let bytes = input(&case);
        let theirs = accepted(&case["outcome"]).then(|| {
            let decoded = &case["outcome"]["decoded"];
            (decoded["type"].as_u64(), decoded["payload_len"].as_u64())
        });
        let header = <&[u8; HEADER_LEN]>::try_from(&bytes[..])
            .ok()
            .map(Header::decode);
        let ours = header.and_then(Result::ok).map(|header| {
            (
                Some(u64::from(header.kind as u8)),
                Some(u64::from(header.length)),
            )
        });
        tally.judge(
            text(&case, "name"),
            ours == theirs,
            None,
            format!("{ours:?}"),
        );
        // A decoder asks for more, unless the header announces too much.
        if let Some((Some(kind), Some(length @ 1..))) = theirs {
            let kind = MessageType::from_byte(kind as u8).expect("known above");
            let fits = length <= u64::from(DecodeLimits::default().payload(kind));
            let waits = decode_all(&bytes).1.is_ok();
            tally.judge(text(&case, "name"), waits, (!fits).then_some("limit"), "");
        }
    }
    tally
}

fn payloads() -> Tally {
    let mut tally = Tally::default();
    for case in layer("payload") {
        let bytes = input(&case);
        let kind = kind(&case);
        let ours = decode_payload(kind, Bytes::from(bytes.clone()), &DecodeLimits::default());
        judge_payload(
            &mut tally,
            &case,
            Payload {
                kind,
                bytes: &bytes,
            },
            &ours,
        );
    }
    tally
}

fn judge_payload<E: std::fmt::Display>(
    tally: &mut Tally,
    case: &Value,
    payload: Payload<'_>,
    ours: &Result<Message, E>,
) {
    let name = text(case, "name");
    match (ours, accepted(&case["outcome"])) {
        (Err(_), false) => tally.agree(),
        (Err(error), true) => tally.judge(name, false, why_refused(payload), error),
        (Ok(message), false) => {
            tally.judge(name, false, why_accepted(payload), format!("{message:?}"));
        }
        (Ok(message), true) => {
            let decoded = &case["outcome"]["decoded"];
            let equal = means(message, decoded);
            tally.judge(name, equal, why_different(payload), format!("{message:?}"));
        }
    }
}

/// Whether a message says what the reference's decoder of its payload returned.
fn means(message: &Message, decoded: &Value) -> bool {
    let mut ours = fields(message);
    let mut theirs = decoded.clone();
    match message {
        Message::HealthCheckResponse { is_healthy, .. } => return *decoded == *is_healthy,
        Message::SendTensorResponse(None) => return decoded.is_null(),
        _ => {}
    }
    if let Some(data) = decoded.get("tensor_bytes_hex") {
        theirs = decoded["metadata"].clone();
        if matches!(message, Message::SendTensorResponse(_)) && theirs.get("tensor").is_none() {
            theirs = json!({ "tensor": theirs });
        }
        theirs["tensor"]["data_hex"] = data.clone();
    } else if matches!(message, Message::SendResult(_)) {
        theirs["tensor"] = Value::Null;
    }
    let (Some(said), Some(_)) = (ours.as_object_mut(), theirs.as_object_mut()) else {
        return false;
    };
    // Ours alone, not on the wire.
    said.remove("status_json");
    says(&sorted(ours), &sorted(theirs))
}

/// Whether everything that we read stands in what the reference read. It may hold more: keys that
/// nobody knows, and numbers as texts where it has not looked at them yet.
fn says(ours: &Value, theirs: &Value) -> bool {
    match (ours, theirs) {
        (Value::Object(ours), Value::Object(theirs)) => ours.iter().all(|(key, value)| {
            let found = theirs.get(key).unwrap_or(&Value::Null);
            if key == "inference_state" {
                same(value, found)
            } else {
                says(value, found)
            }
        }),
        (Value::Array(ours), Value::Array(theirs)) => {
            ours.len() == theirs.len() && ours.iter().zip(theirs).all(|(a, b)| says(a, b))
        }
        (Value::Number(ours), Value::String(theirs)) => theirs
            .trim()
            .parse::<f64>()
            .is_ok_and(|theirs| ours.as_f64() == Some(theirs)),
        _ => same(ours, theirs),
    }
}

fn tensors() -> Tally {
    let mut tally = Tally::default();
    for case in layer("tensor") {
        let name = text(&case, "name");
        let description = json!({ "shape": case["shape"], "dtype": case["dtype"] }).to_string();
        let mut payload = u32::try_from(description.len())
            .expect("short")
            .to_be_bytes()
            .to_vec();
        payload.extend(description.as_bytes());
        payload.extend(hex(text(&case, "data_hex")));
        let kind = MessageType::SendTensorResponse;
        let content = Payload {
            kind,
            bytes: &payload,
        };
        let ours = decode_payload(kind, Bytes::from(payload.clone()), &DecodeLimits::default());
        let tensor = match &ours {
            Ok(Message::SendTensorResponse(Some(tensor))) => Some(tensor),
            Ok(other) => panic!("{name}: {other:?}"),
            Err(_) => None,
        };
        let dtype = case["dtype"].as_str().unwrap_or_default();
        for (platform, outcome) in case["outcome"].as_object().expect("by platform") {
            let apple = platform == "apple_mlx";
            let accepts = outcome["ok"] == true;
            let equal = match tensor {
                None => !accepts,
                Some(tensor) => {
                    let spelled = format!("{}{}", tensor.family().prefix(), tensor.dtype());
                    accepts
                        && json!(tensor.shape()) == outcome["shape"]
                        && (outcome["dtype"] == *spelled || outcome["dtype"] == *dtype)
                }
            };
            let rule = match (tensor.is_some(), accepts) {
                (false, true) => why_refused(content),
                (true, false) if !apple => (known(dtype) && !numpy(dtype)).then_some("vocabulary"),
                (true, _) if apple => Some("apple"),
                _ => None,
            };
            tally.judge(name, equal, rule, format!("{platform}: {ours:?}"));
        }
    }
    tally
}

fn encoders() -> Tally {
    let mut tally = Tally::default();
    for case in layer("encode") {
        let name = text(&case, "name");
        let outcome = &case["outcome"];
        if !accepted(outcome) {
            // Our messages cannot hold what the reference's encoder refuses.
            tally.explain("untyped", name);
            continue;
        }
        if let Some(frame) = outcome["frame_hex"].as_str() {
            let frame = hex(frame);
            let (messages, end) = decode_all(&frame);
            let again: Vec<u8> = messages.iter().flat_map(encoded).collect();
            let unknown = MessageType::from_byte(frame[4]).is_none();
            let payload = MessageType::from_byte(frame[4]).and_then(|kind| {
                why_refused(Payload {
                    kind,
                    bytes: &frame[HEADER_LEN..],
                })
            });
            let rule = if unknown {
                Some("unknown type")
            } else {
                payload
            };
            tally.judge(name, again == frame, rule, format!("{end:?}"));
            continue;
        }
        let function = text(&case, "function")
            .trim_start_matches("encode_")
            .to_uppercase();
        let kind = MessageType::ALL
            .into_iter()
            .find(|&kind| crate::fields::screaming(kind) == function)
            .unwrap_or_else(|| panic!("{name}: {function}"));
        let payload = hex(text(outcome, "payload_hex"));
        let content = Payload {
            kind,
            bytes: &payload,
        };
        match decode_payload(kind, Bytes::from(payload.clone()), &DecodeLimits::default()) {
            Ok(message) => {
                let again = encode_payload(&message).expect("fits");
                tally.judge(
                    name,
                    again == payload,
                    why_different(content),
                    format!("{again:?}"),
                );
            }
            Err(error) => tally.judge(name, false, why_refused(content), error),
        }
    }
    tally
}

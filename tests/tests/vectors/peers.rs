//! Odd input to whole peers: what comes of it as far as the codec decides.

use crate::bad_frames::layer;
use crate::common::{Tally, hex, items, same, sorted, text};
use crate::fields::{fields, plain, tensor};
use crate::frames::{decode_all, feed};
use crate::rules::{Payload, not_json, why_accepted, why_different, why_refused};
use exo_protocol::topology::Topology;
use exo_protocol::wire::{
    DecodeLimits, Decoder, Encoder, HEADER_LEN, Header, Message, MessageType,
};
use serde_json::{Value, json};

/// Whole frames of a stream by their headers alone, as far as those make sense, and the length that
/// a frame after them announces without holding it.
fn payloads(mut stream: &[u8]) -> (Vec<Payload<'_>>, Option<u32>) {
    let mut found = Vec::new();
    while let Some((header, rest)) = stream.split_first_chunk::<HEADER_LEN>() {
        let Ok(Header { kind, length }) = Header::decode(header) else {
            break;
        };
        let Some((bytes, rest)) = rest.split_at_checked(length as usize) else {
            return (found, Some(length));
        };
        found.push(Payload { kind, bytes });
        stream = rest;
    }
    (found, None)
}

/// What the reference's server would have told its node.
fn call(message: &Message) -> Option<Value> {
    let mut call = fields(message);
    call["call"] = match message {
        Message::SendPromptRequest(_) => "process_prompt",
        Message::SendTensorRequest(_) => "process_tensor",
        Message::SendResult(_) => "on_token",
        Message::SendOpaqueStatus { .. } => "on_opaque_status",
        _ => return None,
    }
    .into();
    let fields = call.as_object_mut()?;
    fields.remove("status_json");
    if let Message::SendResult(result) = message {
        fields.remove("tensor");
        if let Some(image) = &result.tensor {
            fields.insert("result".into(), json!({ "ndarray": tensor(image) }));
        }
    }
    Some(call)
}

/// A call without the elements of its tensors, which either side writes in its own way.
fn without_values(mut call: Value) -> Value {
    for pointer in ["/tensor", "/result/ndarray"] {
        if let Some(tensor) = call.pointer_mut(pointer).and_then(Value::as_object_mut) {
            tensor.remove("values");
            tensor.remove("data_hex");
        }
    }
    call
}

/// The types of the replies that messages cause.
fn replies(messages: &[Message]) -> Vec<MessageType> {
    let reply = |message: &Message| match message {
        Message::HealthCheckRequest { .. } => Some(MessageType::HealthCheckResponse),
        Message::SendTensorRequest(_) => Some(MessageType::SendTensorResponse),
        Message::CollectTopologyRequest { .. } => Some(MessageType::CollectTopologyResponse),
        _ => None,
    };
    messages.iter().filter_map(reply).collect()
}

pub(crate) fn servers() -> Tally {
    let mut tally = Tally::default();
    for case in layer("server") {
        let name = text(&case, "name");
        let outcome = &case["outcome"];
        let mut stream: Vec<u8> = match case["chunks_hex"].as_array() {
            Some(chunks) => chunks
                .iter()
                .flat_map(|c| hex(c.as_str().expect("hex")))
                .collect(),
            None => hex(text(&case, "input_hex")),
        };
        let stays = decode_all(&stream).1 == Ok(false);
        let asks = case["after"] == "health";
        if asks {
            stream.extend(
                Header {
                    kind: MessageType::HealthCheckRequest,
                    length: 0,
                }
                .encode(),
            );
        }
        let (mut messages, end) = decode_all(&stream);
        // The last one asks whether the connection survived; its answer is told apart from others.
        let answers = asks && stays && messages.pop().is_some();
        let calls: Vec<Value> = messages
            .iter()
            .filter_map(call)
            .map(without_values)
            .collect();
        let expected: Vec<Value> = items(&outcome["node_calls"])
            .iter()
            .cloned()
            .map(without_values)
            .collect();
        let (told, _) = decode_all(&hex(text(outcome, "reply_hex")));
        let told: Vec<MessageType> = told.iter().map(Message::message_type).collect();
        let replied = replies(&messages);

        let all = |ours: &[Value], theirs: &[Value]| {
            ours.len() == theirs.len() && ours.iter().zip(theirs).all(|(a, b)| same(a, b))
        };
        let closed = outcome["server_closed_connection"] == true;
        let hung_up = case["after"] == "eof";
        let answered = outcome["following_health_check"] == "answered";
        let equal = all(&calls, &expected)
            && replied == told
            && match &end {
                Err(_) => closed,
                Ok(_) => closed == hung_up && answered == (answers && !hung_up),
            };
        let (frames, announced) = payloads(&stream);
        let prefix = expected.len() >= calls.len()
            && all(&calls, &expected[..calls.len()])
            && told.starts_with(&replied);
        let swallowed = outcome.get("swallowed").is_some();
        let rule = match (&end, frames.get(messages.len())) {
            (Ok(_), _) => frames
                .iter()
                .find_map(|&f| why_accepted(f).or_else(|| why_different(f))),
            // We stop at the first bad frame: what came before it is what they did as well.
            (Err(_), Some(bad)) if swallowed => closes(bad.kind),
            (Err(_), Some(bad)) if prefix => {
                why_refused(*bad).or_else(|| not_json(*bad).then(|| closes(bad.kind)).flatten())
            }
            (Err(_), None) if prefix && announced > Some(1 << 20) => Some("limit"),
            _ => None,
        };
        tally.judge(name, equal, rule, format!("{end:?} {calls:?} {replied:?}"));
    }
    tally
}

pub(crate) fn clients() -> Tally {
    let mut tally = Tally::default();
    for case in layer("client") {
        let name = text(&case, "name");
        let first = &case["outcome"]["first"];
        let Some(expected) = (match text(&case, "operation") {
            "health_check" => Some(MessageType::HealthCheckResponse),
            "send_tensor" => Some(MessageType::SendTensorResponse),
            "collect_topology" => Some(MessageType::CollectTopologyResponse),
            _ => None,
        }) else {
            tally.explain("one way", name);
            continue;
        };
        let reply = items(&case["replies_hex"])
            .first()
            .and_then(Value::as_str)
            .unwrap_or("silence");
        let bytes = match reply.split(' ').next() {
            None | Some("silence" | "close") => Vec::new(),
            Some(bytes) => hex(bytes),
        };
        let mut decoder = Decoder::new(DecodeLimits::default());
        let mut messages = Vec::new();
        let end = feed(&mut decoder, &bytes, &mut messages);
        let ours = messages
            .first()
            .filter(|message| message.message_type() == expected);
        let theirs = first.get("returned").filter(|value| **value != false);
        let payload = payloads(&bytes).0.first().copied();
        let (equal, rule) = match (ours, theirs) {
            (None, None) => (true, None),
            (None, Some(_)) => (false, payload.and_then(why_refused)),
            (Some(message), None) => {
                let bare = matches!(message, Message::SendTensorResponse(Some(_)));
                (
                    *message
                        == Message::HealthCheckResponse {
                            is_healthy: false,
                            exo: None,
                        },
                    bare.then_some("bare reply")
                        .or_else(|| payload.and_then(why_accepted)),
                )
            }
            (Some(message), Some(theirs)) => (returns(message, theirs), None),
        };
        tally.judge(name, equal, rule, format!("{end:?} {ours:?}"));
    }
    tally
}

/// Whether a reply says what the reference's client returned for it.
fn returns(message: &Message, theirs: &Value) -> bool {
    match message {
        Message::HealthCheckResponse { is_healthy, .. } => *theirs == *is_healthy,
        Message::SendTensorResponse(None) => theirs.is_null(),
        Message::SendTensorResponse(Some(_)) => same(
            &without_values(fields(message)),
            &without_values(theirs.clone()),
        ),
        Message::CollectTopologyResponse(reply) => {
            let mut view = Topology::default();
            for (id, _) in &reply.nodes {
                view.merge(&id.as_str().into(), reply);
            }
            for (id, _) in &reply.peer_graph {
                view.merge(&id.as_str().into(), reply);
            }
            same(&sorted(plain(&view.to_json())), &sorted(theirs.clone()))
        }
        other => panic!("no reply: {other:?}"),
    }
}

/// What a malformed payload costs.
fn closes(kind: MessageType) -> Option<&'static str> {
    match kind {
        MessageType::HealthCheckResponse
        | MessageType::SendTensorResponse
        | MessageType::CollectTopologyResponse => Some("unasked reply"),
        _ => Some("closes"),
    }
}

#[test]
fn our_replies_are_the_references() {
    let empty = Encoder::new(&Message::SendTensorResponse(None)).expect("short");
    assert_eq!(empty.slices().concat(), b"EXO\x01\x13\0\0\0\x04\0\0\0\0");
    let health = Message::HealthCheckResponse {
        is_healthy: true,
        exo: None,
    };
    let health = Encoder::new(&health).expect("short").slices().concat();
    assert_eq!(health, b"EXO\x01\x02\0\0\0\x14{\"is_healthy\": true}");
}

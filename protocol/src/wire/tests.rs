pub(super) mod any;

use super::*;
use crate::json::Json;
use crate::tensor::{DType, DTypeFamily, Tensor};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use bytes::Bytes;
use proptest::prelude::*;

const SHARD: &str = r#"{"model_id": "m", "start_layer": 0, "end_layer": 3, "n_layers": 8}"#;

fn decode(kind: MessageType, payload: &[u8]) -> Result<Message, DecodeError> {
    decode_payload(
        kind,
        Bytes::copy_from_slice(payload),
        &DecodeLimits::default(),
    )
}

fn container(json: &str, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(json.len()).expect("short");
    [&length.to_be_bytes(), json.as_bytes(), body].concat()
}

fn reason(kind: MessageType, payload: &[u8]) -> String {
    decode(kind, payload).expect_err("malformed").to_string()
}

#[test]
fn order_space_and_unknown_keys_do_not_matter() {
    let text = format!(
        " \n{{\"x\":[{{}}],\"inference_state\":{{\"b\":1,\"a\":2}},\"prompt\":\"p\",\"shard\":{SHARD}}} "
    );
    let Ok(Message::SendPromptRequest(prompt)) =
        decode(MessageType::SendPromptRequest, text.as_bytes())
    else {
        panic!("{text}")
    };
    assert_eq!(prompt.request_id, None);
    let state = Json::object([("b", Json::from(1)), ("a", Json::from(2))]);
    assert_eq!(prompt.inference_state, Some(state));
    assert_eq!(prompt.shard.range(), 0..4);
}

#[test]
fn the_last_twin_counts() {
    let text = r#"{"request_id": 5, "status": "a", "request_id": "r", "status": "b"}"#;
    assert!(
        decode(MessageType::SendOpaqueStatus, text.as_bytes()).is_err(),
        "the first is typed"
    );
    let text = r#"{"request_id": "q", "status": "a", "request_id": null, "status": "b"}"#;
    let expected = Message::SendOpaqueStatus {
        request_id: None,
        status: "b".into(),
    };
    assert_eq!(
        decode(MessageType::SendOpaqueStatus, text.as_bytes()),
        Ok(expected)
    );
}

#[test]
fn a_tensor_keeps_its_spelling_and_shares_its_memory() {
    let meta = |dtype: &str| {
        format!(r#"{{"shard": {SHARD}, "tensor": {{"shape": [1, 2], "dtype": "{dtype}"}}}}"#)
    };
    for (dtype, family) in [
        ("bfloat16", DTypeFamily::Numpy),
        ("mlx.core.bfloat16", DTypeFamily::Mlx),
    ] {
        let payload = Bytes::from(container(&meta(dtype), &[1, 2, 3, 4]));
        let body = payload.slice(payload.len() - 4..);
        let limits = DecodeLimits::default();
        let message = decode_payload(MessageType::SendTensorRequest, payload, &limits);
        let Ok(Message::SendTensorRequest(request)) = message else {
            panic!("{message:?}")
        };
        assert_eq!(request.tensor.dtype(), DType::Bf16);
        assert_eq!(request.tensor.family(), family);
        assert_eq!(request.tensor.data().as_ptr(), body.as_ptr());
    }
}

#[test]
fn tensors_that_are_none_are_refused() {
    let kind = MessageType::SendTensorRequest;
    let tensor = |tensor: &str| {
        let json = format!(r#"{{"shard": {SHARD}, "tensor": {tensor}}}"#);
        reason(kind, &container(&json, &[0; 4]))
    };
    for (description, expected) in [
        (
            r#"{"shape": [2], "dtype": "int32"}"#,
            "takes 8 bytes, 4 came",
        ),
        (r#"{"shape": [-1], "dtype": "int32"}"#, "integer `-1`"),
        (
            r#"{"shape": [1.0], "dtype": "int32"}"#,
            "floating point `1.0`",
        ),
        (r#"{"shape": ["1"], "dtype": "int32"}"#, "string \"1\""),
        (
            r#"{"shape": "1", "dtype": "int32"}"#,
            "a list of at most 8 items",
        ),
        (
            r#"{"shape": [1,1,1,1,1,1,1,1,1], "dtype": "int32"}"#,
            "more than 8 items",
        ),
        (
            r#"{"shape": [4294967296, 4294967296], "dtype": "int32"}"#,
            "too large",
        ),
        (
            r#"{"shape": [1], "dtype": "float33"}"#,
            "unknown dtype \"float33\"",
        ),
        (r#"{"shape": [1], "dtype": 4}"#, "expected a string"),
        (r#"{"shape": [1]}"#, "key \"dtype\" is missing"),
        (r#"{"dtype": "int32"}"#, "key \"shape\" is missing"),
        ("null", "expected an object"),
    ] {
        let reason = tensor(description);
        assert!(reason.contains(expected), "{description}: {reason}");
    }
    assert!(reason(kind, b"\0\0").contains("announces 4"));
    assert!(reason(kind, b"\0\0\0\x05{}").contains("ends after 6 bytes, its start announces 9"));
    assert!(reason(kind, b"\xff\0\0\0{}").contains("limit is 1048576"));
    assert!(reason(kind, b"\0\0\0\0").contains("EOF"));
}

#[test]
fn both_shapes_of_a_tensor_reply() {
    let kind = MessageType::SendTensorResponse;
    for empty in [&b""[..], b"\xff", b"\0\0\0", b"\0\0\0\0", b"\0\0\0\0junk"] {
        assert_eq!(decode(kind, empty), Ok(Message::SendTensorResponse(None)));
    }
    let tensor = Some(Tensor::from_tokens(&[7]));
    let bare = r#"{"shape": [1, 1], "dtype": "int32"}"#;
    for json in [bare.to_string(), format!(r#"{{"tensor": {bare}}}"#)] {
        let message = decode(kind, &container(&json, &[7, 0, 0, 0]));
        assert_eq!(message, Ok(Message::SendTensorResponse(tensor.clone())));
    }
    let written = encode_payload(&Message::SendTensorResponse(tensor)).expect("small");
    assert_eq!(written, container(bare, &[7, 0, 0, 0]));
}

#[test]
fn both_forms_of_a_result() {
    let kind = MessageType::SendResult;
    let plain = r#"{"request_id": "r", "result": [1, -2], "is_finished": false"#;
    let tokens = SendResult {
        request_id: Some("r".into()),
        result: vec![1, -2],
        is_finished: false,
        tensor: None,
    };
    let text = format!("{plain}}}");
    assert_eq!(
        decode(kind, text.as_bytes()),
        Ok(Message::SendResult(tokens.clone()))
    );
    // A key `tensor` in the plain form means nothing, whatever it holds.
    let text = format!("\n {plain}, \"tensor\": 5}}");
    assert_eq!(
        decode(kind, text.as_bytes()),
        Ok(Message::SendResult(tokens.clone()))
    );
    let image = SendResult {
        tensor: Some(Tensor::from_tokens(&[7])),
        ..tokens
    };
    let json = format!(r#"{plain}, "tensor": {{"shape": [1, 1], "dtype": "int32"}}}}"#);
    let payload = container(&json, &[7, 0, 0, 0]);
    assert_eq!(
        decode(kind, &payload),
        Ok(Message::SendResult(image.clone()))
    );
    assert_eq!(
        encode_payload(&Message::SendResult(image)).expect("small"),
        payload
    );
    assert!(reason(kind, b"").contains("announces 4"));
    assert!(reason(kind, b"[1]").contains("announces"));
    assert!(reason(kind, &container(&format!("{plain}}}"), &[])).contains("\"tensor\" is missing"));
}

#[test]
fn errors_quote_little_of_a_peers_words() {
    let long = "x".repeat(100_000);
    for payload in [
        format!(r#"{{"shard": "{long}", "prompt": ""}}"#),
        format!(r#"{{"shard": {SHARD}, "prompt": {{"{long}": 1}}}}"#),
        format!("{{\"{long}"),
    ] {
        let reason = reason(MessageType::SendPromptRequest, payload.as_bytes());
        assert!(reason.len() < 400, "{reason}");
    }
    let json = format!(r#"{{"tensor": {{"dtype": "{long}", "shape": []}}}}"#);
    let reason = reason(MessageType::SendTensorResponse, &container(&json, b""));
    assert!(reason.len() < 400, "{reason}");
}

#[test]
fn a_deep_state_is_refused_and_a_deep_unknown_key_skipped() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let prompt = |key: &str, depth: usize| {
        let text = format!(
            r#"{{"shard": {SHARD}, "prompt": "", "{key}": {}}}"#,
            nested(depth)
        );
        decode(MessageType::SendPromptRequest, text.as_bytes())
    };
    assert!(prompt("inference_state", 64).is_ok());
    assert!(prompt("inference_state", 65).is_err());
    assert!(prompt("x", 100_000).is_ok());
}

#[test]
fn limits_hold_for_the_json_inside() {
    let limits = DecodeLimits {
        json: 60,
        metadata: 20,
        ..DecodeLimits::default()
    };
    let text = r#"{"request_id": "r", "result": [], "is_finished": true}"#;
    let fits = decode_payload(
        MessageType::SendResult,
        Bytes::from_static(text.as_bytes()),
        &limits,
    );
    assert!(fits.is_ok());
    let more = Bytes::from(format!("{text}{}", " ".repeat(10)));
    assert!(matches!(
        decode_payload(MessageType::SendResult, more, &limits),
        Err(DecodeError::JsonTooLarge { limit: 60, .. })
    ));
    let image = Bytes::from(container(text, &[]));
    assert!(matches!(
        decode_payload(MessageType::SendResult, image, &limits),
        Err(DecodeError::JsonTooLarge { limit: 20, .. })
    ));
}

#[test]
fn topology_errors_name_the_place() {
    let kind = MessageType::CollectTopologyResponse;
    for (payload, expected) in [
        (r#"{"nodes": {}}"#, "key \"peer_graph\" is missing"),
        (
            r#"{"nodes": [], "peer_graph": {}}"#,
            "nodes: expected an object, got a list",
        ),
        (
            r#"{"nodes": {"a": {}}, "peer_graph": {}}"#,
            "in node \"a\": model: expected a text",
        ),
        (
            r#"{"nodes": {}, "peer_graph": {"a": null}}"#,
            "edges of \"a\": expected a list",
        ),
        (
            r#"{"nodes": {}, "peer_graph": {"a": [{"to_id": "b"}]}}"#,
            "an edge needs to_id",
        ),
    ] {
        let reason = reason(kind, payload.as_bytes());
        assert!(reason.contains(expected), "{reason}");
    }
}

#[test]
fn only_our_own_health_answers_carry_more() {
    let plain = Message::HealthCheckResponse {
        is_healthy: true,
        exo: None,
    };
    assert_eq!(
        &encode_payload(&plain).expect("small")[..],
        br#"{"is_healthy": true}"#
    );
    let ours = Message::HealthCheckResponse {
        is_healthy: true,
        exo: Some(Hello::new("a").to_json()),
    };
    let payload = encode_payload(&ours).expect("small");
    assert_eq!(decode(MessageType::HealthCheckResponse, &payload), Ok(ours));
    assert!(
        decode(
            MessageType::HealthCheckResponse,
            br#"{"is_healthy": "yes"}"#
        )
        .is_err()
    );
}

proptest! {
    #[test]
    fn what_is_written_reads_back_the_same(message in any::any_message()) {
        let payload = encode_payload(&message).expect("small");
        let read = decode_payload(message.message_type(), payload.clone(), &DecodeLimits::default());
        prop_assert_eq!(read.as_ref(), Ok(&message));
        let encoder = Encoder::new(&message).expect("small");
        let frame = encoder.slices().concat();
        prop_assert_eq!(&frame[HEADER_LEN..], &payload[..]);
        prop_assert_eq!(Message::message_type(&message) as u8, frame[4]);
    }

    #[test]
    fn any_payload_is_a_message_or_an_error(
        kind in 0..MessageType::ALL.len(), bytes in prop::collection::vec(any::<u8>(), 0..200)
    ) {
        let _ = decode(MessageType::ALL[kind], &bytes);
    }
}

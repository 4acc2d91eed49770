//! Payloads by message type.

use super::header::{HEADER_LEN, Header};
use super::{DecodeError, DecodeLimits, EncodeError, Message, MessageType};
use super::{health, prompt, result, status, tensor, topology};
use alloc::vec::Vec;
use bytes::Bytes;

/// A whole payload, either lent for a moment or to keep.
pub(super) enum Payload<'a> {
    /// In a buffer that will be used again: whoever keeps a part copies it.
    Lent(&'a [u8]),
    /// In memory of its own: parts share it.
    Kept(&'a Bytes),
}

impl Payload<'_> {
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Lent(bytes) => bytes,
            Self::Kept(bytes) => bytes,
        }
    }

    /// Everything from `start` on, to keep.
    pub(super) fn keep_from(&self, start: usize) -> Bytes {
        match self {
            Self::Lent(bytes) => Bytes::copy_from_slice(bytes.get(start..).unwrap_or_default()),
            Self::Kept(bytes) => bytes.slice(start.min(bytes.len())..),
        }
    }
}

pub(super) fn decode(
    kind: MessageType,
    payload: &Payload<'_>,
    limits: &DecodeLimits,
) -> Result<Message, DecodeError> {
    let bytes = payload.bytes();
    match kind {
        MessageType::HealthCheckRequest => Ok(Message::HealthCheckRequest {
            payload: payload.keep_from(0),
        }),
        MessageType::HealthCheckResponse => health::decode(bytes, limits),
        MessageType::SendPromptRequest => prompt::decode(bytes, limits),
        MessageType::SendPromptResponse => Ok(Message::SendPromptResponse(payload.keep_from(0))),
        MessageType::SendTensorRequest => tensor::decode_request(payload, limits),
        MessageType::SendTensorResponse => tensor::decode_response(payload, limits),
        MessageType::SendExampleRequest => Ok(Message::SendExampleRequest(payload.keep_from(0))),
        MessageType::SendExampleResponse => Ok(Message::SendExampleResponse(payload.keep_from(0))),
        MessageType::SendResult => result::decode(payload, limits),
        MessageType::CollectTopologyRequest => topology::decode_request(bytes, limits),
        MessageType::CollectTopologyResponse => topology::decode_response(bytes, limits),
        MessageType::SendOpaqueStatus => status::decode(bytes, limits),
    }
}

/// Whether a frame may announce this much.
pub(super) fn check_length(header: Header, limits: &DecodeLimits) -> Result<(), DecodeError> {
    let Header { kind, length } = header;
    let limit = limits.payload(kind);
    if length > limit {
        return Err(DecodeError::PayloadTooLarge {
            kind,
            length,
            limit,
        });
    }
    Ok(())
}

/// Reads one payload without its frame header. Tensors in the message share `payload`'s memory.
///
/// # Errors
/// As [`Decoder::poll`](super::Decoder::poll), headers aside.
pub fn decode_payload(
    kind: MessageType,
    payload: Bytes,
    limits: &DecodeLimits,
) -> Result<Message, DecodeError> {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    check_length(Header { kind, length }, limits)?;
    decode(kind, &Payload::Kept(&payload), limits)
}

/// Writes one payload without its frame header, as one piece: for tests and tools. Connections use
/// an [`Encoder`](super::Encoder), which does not copy tensors.
///
/// # Errors
/// [`EncodeError::TooLarge`].
pub fn encode_payload(message: &Message) -> Result<Bytes, EncodeError> {
    let (mut head, body) = encode(message)?;
    head.extend_from_slice(&body);
    Ok(Bytes::from(head).slice(HEADER_LEN..))
}

/// A frame in two parts: the header with everything that must be written anew, and the bytes that
/// exist already.
pub(super) fn encode(message: &Message) -> Result<(Vec<u8>, Bytes), EncodeError> {
    // Enough for the metadata of a typical tensor, so that it is written without growing.
    let mut head = Vec::with_capacity(384);
    head.extend_from_slice(&[0; HEADER_LEN]);
    let body = match message {
        Message::HealthCheckRequest { payload: bytes }
        | Message::SendPromptResponse(bytes)
        | Message::SendExampleRequest(bytes)
        | Message::SendExampleResponse(bytes) => bytes.clone(),
        Message::HealthCheckResponse { is_healthy, exo } => {
            health::encode(&mut head, *is_healthy, exo.as_ref());
            Bytes::new()
        }
        Message::SendPromptRequest(prompt) => {
            prompt::encode(&mut head, prompt);
            Bytes::new()
        }
        Message::SendTensorRequest(request) => tensor::encode_request(&mut head, request),
        Message::SendTensorResponse(tensor) => tensor::encode_response(&mut head, tensor.as_ref()),
        Message::SendResult(result) => result::encode(&mut head, result),
        Message::CollectTopologyRequest { visited, max_depth } => {
            topology::encode_request(&mut head, visited, *max_depth);
            Bytes::new()
        }
        Message::CollectTopologyResponse(reply) => {
            topology::encode_response(&mut head, reply);
            Bytes::new()
        }
        Message::SendOpaqueStatus { request_id, status } => {
            status::encode(&mut head, request_id.as_deref(), status);
            Bytes::new()
        }
    };
    let kind = message.message_type();
    let length = (head.len() - HEADER_LEN) as u64 + body.len() as u64;
    let fits = u32::try_from(length).map_err(|_| EncodeError::TooLarge { kind, length })?;
    put(&mut head, 0, &Header { kind, length: fits }.encode());
    Ok((head, body))
}

/// Overwrites what was left free at `at`.
pub(super) fn put(out: &mut [u8], at: usize, bytes: &[u8]) {
    if let Some(place) = out.get_mut(at..at + bytes.len()) {
        place.copy_from_slice(bytes);
    }
}

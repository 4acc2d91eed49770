//! Payloads by message type.

use super::extension::{Begin, chunk, file, notice, scored, small, step, timing, train};
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
        MessageType::CollectTopologyResponse => {
            topology::decode_reply(kind, bytes, limits).map(Message::CollectTopologyResponse)
        }
        MessageType::SendOpaqueStatus => status::decode(bytes, limits),
        MessageType::Ping => small::decode_id(kind, bytes).map(|id| Message::Ping { id }),
        MessageType::Pong => small::decode_id(kind, bytes).map(|id| Message::Pong { id }),
        MessageType::Error => notice::decode_notice(kind, bytes).map(Message::Error),
        MessageType::Goodbye => notice::decode_notice(kind, bytes).map(Message::Goodbye),
        MessageType::Topology => topology::decode_reply(kind, bytes, limits).map(Message::Topology),
        MessageType::Open => step::decode_open(payload),
        MessageType::Step => step::decode_step(payload),
        MessageType::Token => small::decode_token(bytes),
        MessageType::Scored => scored::decode_scored(bytes),
        MessageType::Timing => timing::decode(bytes),
        MessageType::Close => small::decode_close(bytes),
        MessageType::Credit => small::decode_credit(bytes),
        MessageType::End => notice::decode_ending(kind, bytes).map(Message::End),
        MessageType::Failed => notice::decode_ending(kind, bytes).map(Message::Failed),
        MessageType::Chunk => chunk::decode(payload),
        MessageType::Abort => small::decode_abort(bytes),
        MessageType::Begin => Ok(Message::Begin(Begin {
            plan: payload.keep_from(0),
        })),
        MessageType::Begun => train::decode_begun(bytes),
        MessageType::Example => train::decode_example(payload),
        MessageType::Gradient => train::decode_gradient(payload),
        MessageType::Loss => train::decode_loss(bytes),
        MessageType::Save => train::decode_save(bytes),
        MessageType::Saved => train::decode_saved(bytes),
        MessageType::Want => file::decode_want(bytes),
        MessageType::Part => file::decode_part(payload),
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
/// As [`Encoder::new`](super::Encoder::new).
pub fn encode_payload(message: &Message) -> Result<Bytes, EncodeError> {
    let (mut head, body) = encode(message)?;
    head.extend_from_slice(&body);
    Ok(Bytes::from(head).slice(HEADER_LEN..))
}

/// Writes one payload without its frame header, in two pieces that follow each other: what had to
/// be written anew, and the bytes that exist already, such as a tensor's, which are shared. Either
/// may be empty. So a payload can be cut into [`Chunk`](super::Chunk)s without being copied.
///
/// # Errors
/// As [`Encoder::new`](super::Encoder::new).
pub fn encode_parts(message: &Message) -> Result<(Bytes, Bytes), EncodeError> {
    let (head, body) = encode(message)?;
    Ok((Bytes::from(head).slice(HEADER_LEN..), body))
}

/// A frame in two parts: the header with everything that must be written anew, and the bytes that
/// exist already.
pub(super) fn encode(message: &Message) -> Result<(Vec<u8>, Bytes), EncodeError> {
    // Enough for the metadata of a typical tensor, so that it is written without growing.
    let mut head = Vec::with_capacity(if message.message_type().is_extension() {
        64
    } else {
        384
    });
    head.extend_from_slice(&[0; HEADER_LEN]);
    let body = write(message, &mut head)?;
    let kind = message.message_type();
    let length = (head.len() - HEADER_LEN) as u64 + body.len() as u64;
    let fits = u32::try_from(length).map_err(|_| EncodeError::TooLarge { kind, length })?;
    put(&mut head, 0, &Header { kind, length: fits }.encode());
    Ok((head, body))
}

/// Writes what must be written anew behind `head`, and returns what comes after it.
fn write(message: &Message, head: &mut Vec<u8>) -> Result<Bytes, EncodeError> {
    match message {
        Message::HealthCheckRequest { payload: bytes }
        | Message::SendPromptResponse(bytes)
        | Message::SendExampleRequest(bytes)
        | Message::SendExampleResponse(bytes) => return Ok(bytes.clone()),
        Message::HealthCheckResponse { is_healthy, exo } => {
            health::encode(head, *is_healthy, exo.as_ref());
        }
        Message::SendPromptRequest(prompt) => prompt::encode(head, prompt),
        Message::SendTensorRequest(request) => return Ok(tensor::encode_request(head, request)),
        Message::SendTensorResponse(tensor) => {
            return Ok(tensor::encode_response(head, tensor.as_ref()));
        }
        Message::SendResult(result) => return Ok(result::encode(head, result)),
        Message::CollectTopologyRequest { visited, max_depth } => {
            topology::encode_request(head, visited, *max_depth);
        }
        Message::CollectTopologyResponse(reply) | Message::Topology(reply) => {
            topology::encode_reply(head, reply);
        }
        Message::SendOpaqueStatus { request_id, status } => {
            status::encode(head, request_id.as_deref(), status);
        }
        Message::Ping { id } | Message::Pong { id } => head.extend_from_slice(&id.to_be_bytes()),
        Message::Error(notice) | Message::Goodbye(notice) => notice::encode_notice(head, notice),
        Message::Open(open) => return Ok(step::encode_open(head, open)),
        Message::Step(step) => return step::encode_step(head, step),
        Message::Token(token) => small::encode_token(head, token),
        Message::Scored(scored) => scored::encode_scored(head, scored),
        Message::Timing(timing) => timing::encode(head, timing)?,
        Message::Close { stream: number } | Message::Abort { transfer: number } => {
            head.extend_from_slice(&number.to_be_bytes());
        }
        Message::Credit { stream, bytes } => {
            head.extend_from_slice(&stream.to_be_bytes());
            head.extend_from_slice(&bytes.to_be_bytes());
        }
        Message::End(ending) | Message::Failed(ending) => {
            notice::encode_ending(message.message_type(), head, ending)?;
        }
        Message::Chunk(chunk) => return chunk::encode(head, chunk),
        Message::Begin(begin) => return Ok(begin.plan.clone()),
        Message::Begun(begun) => train::encode_begun(head, begun)?,
        Message::Example(example) => return train::encode_example(head, example),
        Message::Gradient(gradient) => return train::encode_gradient(head, gradient),
        Message::Loss(loss) => train::encode_loss(head, loss)?,
        Message::Save(save) => train::encode_save(head, save)?,
        Message::Saved(saved) => train::encode_saved(head, saved)?,
        Message::Want(want) => file::encode_want(head, want),
        Message::Part(part) => return Ok(file::encode_part(head, part)),
    }
    Ok(Bytes::new())
}

/// Overwrites what was left free at `at`.
pub(super) fn put(out: &mut [u8], at: usize, bytes: &[u8]) {
    if let Some(place) = out.get_mut(at..at + bytes.len()) {
        place.copy_from_slice(bytes);
    }
}

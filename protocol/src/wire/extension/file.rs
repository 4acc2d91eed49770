//! 0x97 WANT and 0x98 PART: pieces of files, asked for by the hash of the whole.

use super::super::payload::Payload;
use super::super::{DecodeError, Message, MessageType};
use super::fields::{Fields, text};
use super::notice::fitting;
use super::{Part, Want};
use alloc::borrow::ToOwned;
use alloc::vec::Vec;
use bytes::Bytes;

/// Bytes before the name of WANT.
pub(in super::super) const WANT: usize = 20;
/// Bytes before the content of PART.
pub(in super::super) const PART: usize = 18;

pub(in super::super) fn decode_want(payload: &[u8]) -> Result<Message, DecodeError> {
    const KIND: MessageType = MessageType::Want;
    let mut fields = Fields::at_least(KIND, payload, WANT)?;
    let (want, from, length) = (fields.u64()?, fields.u64()?, fields.u32()?);
    Ok(Message::Want(Want {
        want,
        from,
        length,
        name: text(KIND, "name", fields.rest())?.to_owned(),
    }))
}

pub(in super::super) fn encode_want(out: &mut Vec<u8>, want: &Want) {
    out.extend_from_slice(&want.want.to_be_bytes());
    out.extend_from_slice(&want.from.to_be_bytes());
    out.extend_from_slice(&want.length.to_be_bytes());
    out.extend_from_slice(fitting(&want.name, WANT).as_bytes());
}

pub(in super::super) fn decode_part(payload: &Payload<'_>) -> Result<Message, DecodeError> {
    let mut fields = Fields::at_least(MessageType::Part, payload.bytes(), PART)?;
    Ok(Message::Part(Part {
        want: fields.u64()?,
        size: fields.u64()?,
        code: fields.u16()?,
        content: payload.keep_from(fields.at()),
    }))
}

pub(in super::super) fn encode_part(out: &mut Vec<u8>, part: &Part) -> Bytes {
    out.extend_from_slice(&part.want.to_be_bytes());
    out.extend_from_slice(&part.size.to_be_bytes());
    out.extend_from_slice(&part.code.to_be_bytes());
    part.content.slice(..part.content.len().min(Part::MAX))
}

//! 0x8D CHUNK: a piece of a payload.

use super::super::payload::Payload;
use super::super::{DecodeError, EncodeError, Message, MessageType};
use super::Chunk;
use super::fields::Fields;
use alloc::vec::Vec;
use bytes::Bytes;

/// Bytes before the piece.
pub(in super::super) const CHUNK: usize = 13;

const KIND: MessageType = MessageType::Chunk;

/// Whether so many bytes at `offset` can be a piece of `total`.
fn fits(total: u32, offset: u32, length: usize) -> bool {
    let end = u64::from(offset) + length as u64;
    (1..=Chunk::MAX).contains(&length) && end <= u64::from(total)
}

pub(in super::super) fn decode(payload: &Payload<'_>) -> Result<Message, DecodeError> {
    let mut fields = Fields::at_least(KIND, payload.bytes(), CHUNK)?;
    let (transfer, kind) = (fields.u32()?, fields.u8()?);
    let (total, offset) = (fields.u32()?, fields.u32()?);
    let length = fields.rest().len();
    if !fits(total, offset, length) {
        return Err(DecodeError::Piece {
            total,
            offset,
            length,
        });
    }
    Ok(Message::Chunk(Chunk {
        transfer,
        kind,
        total,
        offset,
        data: payload.keep_from(fields.at()),
    }))
}

pub(in super::super) fn encode(out: &mut Vec<u8>, chunk: &Chunk) -> Result<Bytes, EncodeError> {
    let &Chunk {
        transfer,
        kind,
        total,
        offset,
        ref data,
    } = chunk;
    if !fits(total, offset, data.len()) {
        return Err(EncodeError::Piece {
            total,
            offset,
            length: data.len(),
        });
    }
    out.extend_from_slice(&transfer.to_be_bytes());
    out.push(kind);
    out.extend_from_slice(&total.to_be_bytes());
    out.extend_from_slice(&offset.to_be_bytes());
    Ok(data.clone())
}

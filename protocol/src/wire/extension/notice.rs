//! 0x83 ERROR and 0x84 GOODBYE, 0x8B END and 0x8C FAILED: a code and words for people.

use super::super::{DecodeError, EncodeError, MessageType};
use super::fields::{Fields, text};
use super::{Ending, Notice};
use crate::id::RequestId;
use alloc::borrow::ToOwned;
use alloc::vec::Vec;

/// The most payload bytes of these messages.
pub(in super::super) const MOST: usize = 64 << 10;
/// Bytes before the text of ERROR and GOODBYE.
pub(in super::super) const NOTICE: usize = 2;
/// Bytes before the request id of END and FAILED.
pub(in super::super) const ENDING: usize = 8;

pub(in super::super) fn decode_notice(
    kind: MessageType,
    payload: &[u8],
) -> Result<Notice, DecodeError> {
    let mut fields = Fields::at_least(kind, payload, NOTICE)?;
    Ok(Notice {
        code: fields.u16()?,
        text: text(kind, "text", fields.rest())?.to_owned(),
    })
}

pub(in super::super) fn encode_notice(out: &mut Vec<u8>, notice: &Notice) {
    out.extend_from_slice(&notice.code.to_be_bytes());
    out.extend_from_slice(fitting(&notice.text, NOTICE).as_bytes());
}

pub(in super::super) fn decode_ending(
    kind: MessageType,
    payload: &[u8],
) -> Result<Ending, DecodeError> {
    let mut fields = Fields::at_least(kind, payload, ENDING)?;
    let (epoch, code, length) = (fields.u32()?, fields.u16()?, fields.u16()?);
    let request = fields.bytes(usize::from(length))?;
    Ok(Ending {
        epoch,
        code,
        request: RequestId::from(text(kind, "request id", request)?),
        text: text(kind, "text", fields.rest())?.to_owned(),
    })
}

pub(in super::super) fn encode_ending(
    kind: MessageType,
    out: &mut Vec<u8>,
    ending: &Ending,
) -> Result<(), EncodeError> {
    let id = ending.request.as_bytes();
    let length = u16::try_from(id.len())
        .ok()
        .filter(|_| id.len() <= MOST - ENDING)
        .ok_or(EncodeError::RequestId {
            kind,
            length: id.len(),
            limit: MOST - ENDING,
        })?;
    out.extend_from_slice(&ending.epoch.to_be_bytes());
    out.extend_from_slice(&ending.code.to_be_bytes());
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(id);
    out.extend_from_slice(fitting(&ending.text, ENDING + id.len()).as_bytes());
    Ok(())
}

/// As much of a text as fits behind so many bytes. Better half a sentence than a peer that closes
/// the connection over it.
pub(in super::super) fn fitting(text: &str, before: usize) -> &str {
    let room = MOST.saturating_sub(before);
    text.get(..text.floor_char_boundary(room)).unwrap_or(text)
}

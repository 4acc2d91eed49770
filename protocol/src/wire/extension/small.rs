//! The messages of fixed size: PING, PONG, TOKEN, CLOSE, CREDIT and ABORT.

use super::super::{DecodeError, Message, MessageType};
use super::Token;
use super::fields::Fields;
use alloc::vec::Vec;

/// Payload bytes of PING and PONG.
pub(in super::super) const PING: usize = 8;
/// Payload bytes of TOKEN.
pub(in super::super) const TOKEN: usize = 13;
/// Payload bytes of CLOSE.
pub(in super::super) const CLOSE: usize = 4;
/// Payload bytes of CREDIT.
pub(in super::super) const CREDIT: usize = 8;
/// Payload bytes of ABORT.
pub(in super::super) const ABORT: usize = 4;

/// The model ends its answer with this token.
pub(in super::super) const END: u8 = 1;
/// Nothing comes after this token.
pub(in super::super) const LAST: u8 = 2;

pub(in super::super) fn decode_id(kind: MessageType, payload: &[u8]) -> Result<u64, DecodeError> {
    Fields::exactly(kind, payload, PING)?.u64()
}

pub(in super::super) fn decode_token(payload: &[u8]) -> Result<Message, DecodeError> {
    let mut fields = Fields::exactly(MessageType::Token, payload, TOKEN)?;
    token_fields(&mut fields).map(Message::Token)
}

/// The fields of TOKEN, with which SCORED begins.
pub(super) fn token_fields(fields: &mut Fields<'_>) -> Result<Token, DecodeError> {
    let (stream, index, token) = (fields.u32()?, fields.u32()?, fields.u32()?);
    let flags = fields.flags(END | LAST)?;
    Ok(Token {
        stream,
        index,
        token,
        end: flags & END != 0,
        last: flags & LAST != 0,
    })
}

pub(in super::super) fn encode_token(out: &mut Vec<u8>, token: &Token) {
    for number in [token.stream, token.index, token.token] {
        out.extend_from_slice(&number.to_be_bytes());
    }
    let end = if token.end { END } else { 0 };
    let last = if token.last { LAST } else { 0 };
    out.push(end | last);
}

pub(in super::super) fn decode_close(payload: &[u8]) -> Result<Message, DecodeError> {
    let stream = Fields::exactly(MessageType::Close, payload, CLOSE)?.u32()?;
    Ok(Message::Close { stream })
}

pub(in super::super) fn decode_credit(payload: &[u8]) -> Result<Message, DecodeError> {
    let mut fields = Fields::exactly(MessageType::Credit, payload, CREDIT)?;
    let (stream, bytes) = (fields.u32()?, fields.u32()?);
    Ok(Message::Credit { stream, bytes })
}

pub(in super::super) fn decode_abort(payload: &[u8]) -> Result<Message, DecodeError> {
    let transfer = Fields::exactly(MessageType::Abort, payload, ABORT)?.u32()?;
    Ok(Message::Abort { transfer })
}

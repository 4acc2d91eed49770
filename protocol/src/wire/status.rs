//! 0x40 SEND_OPAQUE_STATUS: `{"request_id": …, "status": "…"}`.

use super::record::{self, Record};
use super::{DecodeError, DecodeLimits, Message, MessageType};
use crate::json::{Allowance, write_string};
use alloc::string::String;
use alloc::vec::Vec;
use serde::de::{Error, MapAccess};

#[derive(Default)]
struct Status {
    request_id: Option<Option<String>>,
    status: Option<String>,
}

impl Record for Status {
    type Value = Message;

    fn field<'de, A: MapAccess<'de>>(
        &mut self,
        key: &str,
        map: &mut A,
        _: &Allowance,
    ) -> Result<bool, A::Error> {
        match key {
            "request_id" => self.request_id = Some(map.next_value()?),
            "status" => self.status = Some(map.next_value()?),
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn finish<E: Error>(self) -> Result<Message, E> {
        Ok(Message::SendOpaqueStatus {
            request_id: record::need(self.request_id, "request_id")?,
            status: record::need(self.status, "status")?,
        })
    }
}

pub(super) fn decode(payload: &[u8], limits: &DecodeLimits) -> Result<Message, DecodeError> {
    record::read::<Status>(MessageType::SendOpaqueStatus, payload, limits)
}

pub(super) fn encode(out: &mut Vec<u8>, request_id: Option<&str>, status: &str) {
    out.extend_from_slice(b"{\"request_id\": ");
    maybe_text(out, request_id);
    out.extend_from_slice(b", \"status\": ");
    write_string(out, status);
    out.push(b'}');
}

/// A text or null.
pub(super) fn maybe_text(out: &mut Vec<u8>, text: Option<&str>) {
    match text {
        Some(text) => write_string(out, text),
        None => out.extend_from_slice(b"null"),
    }
}

//! 0x20 SEND_RESULT: plain JSON, or the container of tensors for an image.

use super::payload::Payload;
use super::record::{self, List, Object, Record};
use super::status::maybe_text;
use super::tensor::{Description, DescriptionRecord, prefixed, split, write_description};
use super::{DecodeError, DecodeLimits, Message, MessageType, SendResult};
use crate::json::{Allowance, Json, write_integer};
use alloc::string::String;
use alloc::vec::Vec;
use bytes::Bytes;
use serde::de::{Error, MapAccess};

const KIND: MessageType = MessageType::SendResult;

#[derive(Default)]
struct Tokens {
    request_id: Option<Option<String>>,
    result: Option<Vec<i64>>,
    is_finished: Option<bool>,
}

impl Record for Tokens {
    type Value = SendResult;

    fn field<'de, A: MapAccess<'de>>(
        &mut self,
        key: &str,
        map: &mut A,
        _: &Allowance,
    ) -> Result<bool, A::Error> {
        match key {
            "request_id" => self.request_id = Some(map.next_value()?),
            "result" => self.result = Some(map.next_value_seed(List::any())?),
            "is_finished" => self.is_finished = Some(map.next_value()?),
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn finish<E: Error>(self) -> Result<SendResult, E> {
        Ok(SendResult {
            request_id: record::need(self.request_id, "request_id")?,
            result: record::need(self.result, "result")?,
            is_finished: record::need(self.is_finished, "is_finished")?,
            tensor: None,
        })
    }
}

#[derive(Default)]
struct Image {
    tokens: Tokens,
    tensor: Option<Description>,
}

impl Record for Image {
    type Value = (SendResult, Description);

    fn field<'de, A: MapAccess<'de>>(
        &mut self,
        key: &str,
        map: &mut A,
        allowance: &Allowance,
    ) -> Result<bool, A::Error> {
        if key == "tensor" {
            let seed = Object::<DescriptionRecord>::new(allowance);
            self.tensor = Some(map.next_value_seed(seed)?);
            return Ok(true);
        }
        self.tokens.field(key, map, allowance)
    }

    fn finish<E: Error>(self) -> Result<Self::Value, E> {
        Ok((self.tokens.finish()?, record::need(self.tensor, "tensor")?))
    }
}

pub(super) fn decode(payload: &Payload<'_>, limits: &DecodeLimits) -> Result<Message, DecodeError> {
    let bytes = payload.bytes();
    // JSON text of an object starts with one of these. As the first byte of a length prefix each
    // stands for 150 MB of metadata or more, far beyond what anybody sends before an image.
    if matches!(bytes.first(), Some(b'{' | b' ' | b'\t' | b'\n' | b'\r')) {
        let length = bytes.len();
        if length as u64 > u64::from(limits.json) {
            return Err(DecodeError::JsonTooLarge {
                kind: KIND,
                length,
                limit: limits.json,
            });
        }
        return record::read::<Tokens>(KIND, bytes, limits).map(Message::SendResult);
    }
    let (json, body) = split(KIND, bytes, limits)?;
    let (mut result, description) = record::read::<Image>(KIND, json, limits)?;
    result.tensor = Some(description.tensor(KIND, payload.keep_from(body))?);
    Ok(Message::SendResult(result))
}

pub(super) fn encode(out: &mut Vec<u8>, result: &SendResult) -> Bytes {
    let Some(tensor) = &result.tensor else {
        write_tokens(out, result);
        out.push(b'}');
        return Bytes::new();
    };
    prefixed(out, |out| {
        write_tokens(out, result);
        out.extend_from_slice(b", \"tensor\": ");
        write_description(out, tensor);
        out.push(b'}');
    });
    tensor.data().clone()
}

fn write_tokens(out: &mut Vec<u8>, result: &SendResult) {
    out.extend_from_slice(b"{\"request_id\": ");
    maybe_text(out, result.request_id.as_deref());
    out.extend_from_slice(b", \"result\": [");
    for (index, &token) in result.result.iter().enumerate() {
        if index > 0 {
            out.extend_from_slice(b", ");
        }
        write_integer(out, token);
    }
    out.extend_from_slice(b"], \"is_finished\": ");
    Json::Bool(result.is_finished).write(out);
}

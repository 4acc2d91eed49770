//! 0x12 SEND_TENSOR_REQUEST and 0x13 SEND_TENSOR_RESPONSE: a big-endian `u32` with the length of
//! the JSON, the JSON, and the tensor's bytes up to the end of the payload.

use super::payload::{Payload, put};
use super::prompt::{ShardRecord, write_request, write_shard};
use super::record::{self, List, Object, Record, Text, excerpt};
use super::{DecodeError, DecodeLimits, Message, MessageType, SendTensor};
use crate::json::{Allowance, Json, write_integer};
use crate::shard::Shard;
use crate::tensor::{DType, DTypeFamily, Tensor};
use alloc::string::String;
use alloc::vec::Vec;
use bytes::Bytes;
use serde::de::{Error, MapAccess};

/// Bytes of the number before the JSON.
const PREFIX: usize = 4;

/// What the JSON says of the bytes behind it: `{"shape": [1, 2], "dtype": "float32"}`.
pub(super) struct Description {
    shape: Vec<usize>,
    dtype: DType,
    family: DTypeFamily,
}

impl Description {
    /// Bytes of the tensor, if there can be so many.
    pub(super) fn size(&self) -> Option<usize> {
        let sizes = self.shape.iter();
        sizes
            .copied()
            .try_fold(self.dtype.size(), usize::checked_mul)
    }

    pub(super) fn tensor(self, kind: MessageType, data: Bytes) -> Result<Tensor, DecodeError> {
        Tensor::new(self.dtype, self.shape, data)
            .map(|tensor| tensor.spelled(self.family))
            .map_err(|reason| DecodeError::Tensor { kind, reason })
    }
}

#[derive(Default)]
pub(super) struct DescriptionRecord {
    shape: Option<Vec<usize>>,
    dtype: Option<(DType, DTypeFamily)>,
}

impl Record for DescriptionRecord {
    type Value = Description;

    fn field<'de, A: MapAccess<'de>>(
        &mut self,
        key: &str,
        map: &mut A,
        _: &Allowance,
    ) -> Result<bool, A::Error> {
        match key {
            "shape" => {
                self.shape = Some(map.next_value_seed(List::up_to(Tensor::MAX_DIMENSIONS))?);
            }
            "dtype" => {
                let Text(name) = map.next_value()?;
                let dtype = DType::parse(&name).ok_or_else(|| {
                    A::Error::custom(format_args!("unknown dtype {}", excerpt(&name)))
                })?;
                self.dtype = Some((dtype, DTypeFamily::of(&name)));
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn finish<E: Error>(self) -> Result<Description, E> {
        let shape = record::need(self.shape, "shape")?;
        let (dtype, family) = record::need(self.dtype, "dtype")?;
        Ok(Description {
            shape,
            dtype,
            family,
        })
    }
}

pub(super) fn write_description(out: &mut Vec<u8>, tensor: &Tensor) {
    out.extend_from_slice(b"{\"shape\": [");
    for (index, &size) in tensor.shape().iter().enumerate() {
        if index > 0 {
            out.extend_from_slice(b", ");
        }
        write_integer(out, size as u64);
    }
    out.extend_from_slice(b"], \"dtype\": \"");
    out.extend_from_slice(tensor.family().prefix().as_bytes());
    out.extend_from_slice(tensor.dtype().name().as_bytes());
    out.extend_from_slice(b"\"}");
}

/// The JSON of a payload with a length prefix, and where the bytes behind it start.
pub(super) fn split<'a>(
    kind: MessageType,
    payload: &'a [u8],
    limits: &DecodeLimits,
) -> Result<(&'a [u8], usize), DecodeError> {
    let got = payload.len();
    let Some((prefix, rest)) = payload.split_first_chunk::<PREFIX>() else {
        return Err(DecodeError::Truncated {
            kind,
            expected: PREFIX as u64,
            got,
        });
    };
    let announced = u32::from_be_bytes(*prefix);
    let length = usize::try_from(announced).unwrap_or(usize::MAX);
    if announced > limits.metadata {
        return Err(DecodeError::JsonTooLarge {
            kind,
            length,
            limit: limits.metadata,
        });
    }
    let Some(json) = rest.get(..length) else {
        let expected = PREFIX as u64 + u64::from(announced);
        return Err(DecodeError::Truncated {
            kind,
            expected,
            got,
        });
    };
    Ok((json, PREFIX + length))
}

/// Writes the JSON with its length before it.
pub(super) fn prefixed(out: &mut Vec<u8>, json: impl FnOnce(&mut Vec<u8>)) {
    let at = out.len();
    out.extend_from_slice(&[0; PREFIX]);
    json(out);
    // JSON beyond 4 GiB does not fit a frame either, which the caller notices.
    let length = u32::try_from(out.len() - at - PREFIX).unwrap_or(u32::MAX);
    put(out, at, &length.to_be_bytes());
}

#[derive(Default)]
struct Request {
    shard: Option<Shard>,
    tensor: Option<Description>,
    request_id: Option<String>,
    inference_state: Option<Json>,
}

impl Record for Request {
    type Value = (Shard, Description, Option<String>, Option<Json>);

    fn field<'de, A: MapAccess<'de>>(
        &mut self,
        key: &str,
        map: &mut A,
        allowance: &Allowance,
    ) -> Result<bool, A::Error> {
        match key {
            "shard" => {
                self.shard = Some(map.next_value_seed(Object::<ShardRecord>::new(allowance))?);
            }
            "tensor" => {
                let seed = Object::<DescriptionRecord>::new(allowance);
                self.tensor = Some(map.next_value_seed(seed)?);
            }
            "request_id" => self.request_id = map.next_value()?,
            "inference_state" => self.inference_state = record::maybe_json(map, allowance)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn finish<E: Error>(self) -> Result<Self::Value, E> {
        let shard = record::need(self.shard, "shard")?;
        let tensor = record::need(self.tensor, "tensor")?;
        Ok((shard, tensor, self.request_id, self.inference_state))
    }
}

pub(super) fn decode_request(
    payload: &Payload<'_>,
    limits: &DecodeLimits,
) -> Result<Message, DecodeError> {
    let kind = MessageType::SendTensorRequest;
    let (json, body) = split(kind, payload.bytes(), limits)?;
    let (shard, description, request_id, inference_state) =
        record::read::<Request>(kind, json, limits)?;
    let tensor = description.tensor(kind, payload.keep_from(body))?;
    Ok(Message::SendTensorRequest(SendTensor {
        shard,
        tensor,
        request_id,
        inference_state,
    }))
}

pub(super) fn encode_request(out: &mut Vec<u8>, request: &SendTensor) -> Bytes {
    prefixed(out, |out| {
        out.extend_from_slice(b"{\"shard\": ");
        write_shard(out, &request.shard);
        out.extend_from_slice(b", \"tensor\": ");
        write_description(out, &request.tensor);
        write_request(
            out,
            request.request_id.as_deref(),
            request.inference_state.as_ref(),
        );
    });
    request.tensor.data().clone()
}

/// The description alone, as the reference writes it, or under the key `tensor`, as it reads it.
#[derive(Default)]
struct Response {
    bare: DescriptionRecord,
    wrapped: Option<Description>,
}

impl Record for Response {
    type Value = Description;

    fn field<'de, A: MapAccess<'de>>(
        &mut self,
        key: &str,
        map: &mut A,
        allowance: &Allowance,
    ) -> Result<bool, A::Error> {
        if key == "tensor" {
            let seed = Object::<DescriptionRecord>::new(allowance);
            self.wrapped = Some(map.next_value_seed(seed)?);
            return Ok(true);
        }
        self.bare.field(key, map, allowance)
    }

    fn finish<E: Error>(self) -> Result<Description, E> {
        match self.wrapped {
            Some(description) => Ok(description),
            None => self.bare.finish(),
        }
    }
}

pub(super) fn decode_response(
    payload: &Payload<'_>,
    limits: &DecodeLimits,
) -> Result<Message, DecodeError> {
    // Anything shorter than the prefix, and a zero there whatever follows, is the empty reply.
    let empty = match payload.bytes().first_chunk::<PREFIX>() {
        Some(prefix) => *prefix == [0; PREFIX],
        None => true,
    };
    if empty {
        return Ok(Message::SendTensorResponse(None));
    }
    let kind = MessageType::SendTensorResponse;
    let (json, body) = split(kind, payload.bytes(), limits)?;
    let description = record::read::<Response>(kind, json, limits)?;
    let tensor = description.tensor(kind, payload.keep_from(body))?;
    Ok(Message::SendTensorResponse(Some(tensor)))
}

pub(super) fn encode_response(out: &mut Vec<u8>, tensor: Option<&Tensor>) -> Bytes {
    let Some(tensor) = tensor else {
        out.extend_from_slice(&[0; PREFIX]);
        return Bytes::new();
    };
    prefixed(out, |out| write_description(out, tensor));
    tensor.data().clone()
}

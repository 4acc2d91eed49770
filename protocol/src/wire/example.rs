//! What 0x14 SEND_EXAMPLE_REQUEST and 0x15 SEND_EXAMPLE_RESPONSE carry, should anybody send one.
//!
//! The reference numbers the two and never wrote them; its ancestor had them over another transport,
//! and this is that in the container of the other messages: the length of the JSON, the JSON, and
//! the bytes of the tensors one after the other. As messages they stay uninterpreted bytes, because
//! a reference node takes any.

use super::prompt::{ShardRecord, write_shard};
use super::record::{self, Object, Record};
use super::tensor::{Description, DescriptionRecord, prefixed, split, write_description};
use super::{DecodeError, DecodeLimits, MessageType};
use crate::json::{Allowance, Json, write_string};
use crate::shard::Shard;
use crate::tensor::Tensor;
use alloc::string::String;
use alloc::vec::Vec;
use bytes::Bytes;
use serde::de::{Error, MapAccess};

/// An example for a stage.
#[derive(Clone, Debug, PartialEq)]
pub struct SendExample {
    /// The receiver's shard in the sender's view.
    pub shard: Shard,
    /// Token ids `[B, T]` for the first stage, a hidden state `[B, T, H]` for others.
    pub example: Tensor,
    /// Token ids `[B, T]` that are to come out.
    pub target: Tensor,
    /// How many positions of each sequence there are, `[B]`.
    pub length: Tensor,
    /// Learn, not only compare.
    pub train: bool,
    /// Names the example.
    pub request_id: Option<String>,
}

/// What came of an example.
#[derive(Clone, Debug, PartialEq)]
pub struct ExampleReply {
    /// The loss; what is no number travels as null.
    pub loss: f32,
    /// The gradient of the loss by what was sent: present when it was to be learned from and the
    /// shard has not the first layer.
    pub grads: Option<Tensor>,
}

/// Takes the bytes of a tensor off what follows the JSON.
fn take(
    kind: MessageType,
    description: Description,
    payload: &Bytes,
    at: &mut usize,
) -> Result<Tensor, DecodeError> {
    let end = description.size().and_then(|size| at.checked_add(size));
    let Some(end) = end.filter(|&end| end <= payload.len()) else {
        return Err(DecodeError::Truncated {
            kind,
            expected: end.map_or(u64::MAX, |end| end as u64),
            got: payload.len(),
        });
    };
    let tensor = description.tensor(kind, payload.slice(*at..end));
    *at = end;
    tensor
}

/// Nothing may follow the last tensor.
fn ends(kind: MessageType, payload: &Bytes, at: usize) -> Result<(), DecodeError> {
    if at == payload.len() {
        return Ok(());
    }
    Err(DecodeError::Length {
        kind,
        expected: at,
        got: payload.len(),
    })
}

#[derive(Default)]
struct Request {
    shard: Option<Shard>,
    tensors: [Option<Description>; 3],
    train: Option<bool>,
    request_id: Option<String>,
}

/// The keys of the tensors, in the order of their bytes.
const TENSORS: [&str; 3] = ["example", "target", "length"];

impl Record for Request {
    type Value = (Shard, [Description; 3], bool, Option<String>);

    fn field<'de, A: MapAccess<'de>>(
        &mut self,
        key: &str,
        map: &mut A,
        allowance: &Allowance,
    ) -> Result<bool, A::Error> {
        let tensor = TENSORS.iter().position(|name| *name == key);
        if let Some(place) = tensor.and_then(|index| self.tensors.get_mut(index)) {
            let seed = Object::<DescriptionRecord>::new(allowance);
            *place = Some(map.next_value_seed(seed)?);
            return Ok(true);
        }
        match key {
            "shard" => {
                self.shard = Some(map.next_value_seed(Object::<ShardRecord>::new(allowance))?);
            }
            "train" => self.train = Some(map.next_value()?),
            "request_id" => self.request_id = map.next_value()?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn finish<E: Error>(self) -> Result<Self::Value, E> {
        let [example, target, length] = self.tensors;
        let tensors = [
            record::need(example, "example")?,
            record::need(target, "target")?,
            record::need(length, "length")?,
        ];
        Ok((
            record::need(self.shard, "shard")?,
            tensors,
            record::need(self.train, "train")?,
            self.request_id,
        ))
    }
}

impl SendExample {
    /// Reads the payload of a SEND_EXAMPLE_REQUEST. Tensors share its memory.
    ///
    /// # Errors
    /// As for the other containers; the bytes must be exactly those of the three tensors.
    pub fn read(payload: &Bytes, limits: &DecodeLimits) -> Result<Self, DecodeError> {
        const KIND: MessageType = MessageType::SendExampleRequest;
        let (json, mut at) = split(KIND, payload, limits)?;
        let (shard, [example, target, length], train, request_id) =
            record::read::<Request>(KIND, json, limits)?;
        let example = take(KIND, example, payload, &mut at)?;
        let target = take(KIND, target, payload, &mut at)?;
        let length = take(KIND, length, payload, &mut at)?;
        ends(KIND, payload, at)?;
        Ok(Self {
            shard,
            example,
            target,
            length,
            train,
            request_id,
        })
    }

    /// The payload.
    #[must_use]
    pub fn write(&self) -> Bytes {
        let mut out = Vec::new();
        let tensors = [&self.example, &self.target, &self.length];
        prefixed(&mut out, |out| {
            out.extend_from_slice(b"{\"shard\": ");
            write_shard(out, &self.shard);
            for (name, tensor) in TENSORS.iter().zip(tensors) {
                out.extend_from_slice(b", ");
                write_string(out, name);
                out.extend_from_slice(b": ");
                write_description(out, tensor);
            }
            out.extend_from_slice(if self.train {
                b", \"train\": true, \"request_id\": "
            } else {
                b", \"train\": false, \"request_id\": "
            });
            match &self.request_id {
                Some(id) => write_string(out, id),
                None => out.extend_from_slice(b"null"),
            }
            out.push(b'}');
        });
        for tensor in tensors {
            out.extend_from_slice(tensor.data());
        }
        Bytes::from(out)
    }
}

#[derive(Default)]
struct Reply {
    loss: Option<Option<f64>>,
    grads: Option<Description>,
}

impl Record for Reply {
    type Value = (f32, Option<Description>);

    fn field<'de, A: MapAccess<'de>>(
        &mut self,
        key: &str,
        map: &mut A,
        allowance: &Allowance,
    ) -> Result<bool, A::Error> {
        match key {
            "loss" => self.loss = Some(map.next_value()?),
            "grads" => {
                let seed = Object::<DescriptionRecord>::new(allowance);
                self.grads = Some(map.next_value_seed(seed)?);
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn finish<E: Error>(self) -> Result<Self::Value, E> {
        let loss = record::need(self.loss, "loss")?.unwrap_or(f64::NAN);
        Ok((loss as f32, self.grads))
    }
}

impl ExampleReply {
    /// Reads the payload of a SEND_EXAMPLE_RESPONSE. The tensor shares its memory.
    ///
    /// # Errors
    /// As for the other containers; the bytes must be exactly those of the tensor.
    pub fn read(payload: &Bytes, limits: &DecodeLimits) -> Result<Self, DecodeError> {
        const KIND: MessageType = MessageType::SendExampleResponse;
        let (json, mut at) = split(KIND, payload, limits)?;
        let (loss, grads) = record::read::<Reply>(KIND, json, limits)?;
        let grads = grads.map(|grads| take(KIND, grads, payload, &mut at));
        let grads = grads.transpose()?;
        ends(KIND, payload, at)?;
        Ok(Self { loss, grads })
    }

    /// The payload.
    #[must_use]
    pub fn write(&self) -> Bytes {
        let mut out = Vec::new();
        prefixed(&mut out, |out| {
            out.extend_from_slice(b"{\"loss\": ");
            Json::Float(self.loss.into()).write(out);
            if let Some(grads) = &self.grads {
                out.extend_from_slice(b", \"grads\": ");
                write_description(out, grads);
            }
            out.push(b'}');
        });
        if let Some(grads) = &self.grads {
            out.extend_from_slice(grads.data());
        }
        Bytes::from(out)
    }
}

#[cfg(test)]
mod tests;

//! 0x10 SEND_PROMPT_REQUEST, and the shard object that it shares with tensors.

use super::record::{self, Object, Record, Text};
use super::status::maybe_text;
use super::{DecodeError, DecodeLimits, Message, MessageType, SendPrompt};
use crate::id::ModelId;
use crate::json::{Allowance, Json, write_integer, write_string};
use crate::shard::Shard;
use alloc::string::String;
use alloc::vec::Vec;
use serde::de::{Error, MapAccess};

/// `{"model_id", "start_layer", "end_layer", "n_layers"}`. Any numbers a `u32` holds pass: the
/// reference itself writes `0, 0, 0`, and whoever uses the shard asks [`Shard::is_empty`].
#[derive(Default)]
pub(super) struct ShardRecord {
    model: Option<ModelId>,
    start: Option<u32>,
    end: Option<u32>,
    layers: Option<u32>,
}

impl Record for ShardRecord {
    type Value = Shard;

    fn field<'de, A: MapAccess<'de>>(
        &mut self,
        key: &str,
        map: &mut A,
        _: &Allowance,
    ) -> Result<bool, A::Error> {
        match key {
            "model_id" => self.model = Some(ModelId::from(&*map.next_value::<Text<'_>>()?.0)),
            "start_layer" => self.start = Some(map.next_value()?),
            "end_layer" => self.end = Some(map.next_value()?),
            "n_layers" => self.layers = Some(map.next_value()?),
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn finish<E: Error>(self) -> Result<Shard, E> {
        Ok(Shard {
            model: record::need(self.model, "model_id")?,
            start: record::need(self.start, "start_layer")?,
            end: record::need(self.end, "end_layer")?,
            layers: record::need(self.layers, "n_layers")?,
        })
    }
}

pub(super) fn write_shard(out: &mut Vec<u8>, shard: &Shard) {
    out.extend_from_slice(b"{\"model_id\": ");
    write_string(out, &shard.model);
    out.extend_from_slice(b", \"start_layer\": ");
    write_integer(out, shard.start);
    out.extend_from_slice(b", \"end_layer\": ");
    write_integer(out, shard.end);
    out.extend_from_slice(b", \"n_layers\": ");
    write_integer(out, shard.layers);
    out.push(b'}');
}

#[derive(Default)]
struct Prompt {
    shard: Option<Shard>,
    prompt: Option<String>,
    request_id: Option<String>,
    inference_state: Option<Json>,
}

impl Record for Prompt {
    type Value = Message;

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
            "prompt" => self.prompt = Some(map.next_value()?),
            "request_id" => self.request_id = map.next_value()?,
            "inference_state" => self.inference_state = record::maybe_json(map, allowance)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn finish<E: Error>(self) -> Result<Message, E> {
        Ok(Message::SendPromptRequest(SendPrompt {
            shard: record::need(self.shard, "shard")?,
            prompt: record::need(self.prompt, "prompt")?,
            request_id: self.request_id,
            inference_state: self.inference_state,
        }))
    }
}

pub(super) fn decode(payload: &[u8], limits: &DecodeLimits) -> Result<Message, DecodeError> {
    record::read::<Prompt>(MessageType::SendPromptRequest, payload, limits)
}

pub(super) fn encode(out: &mut Vec<u8>, prompt: &SendPrompt) {
    out.extend_from_slice(b"{\"shard\": ");
    write_shard(out, &prompt.shard);
    out.extend_from_slice(b", \"prompt\": ");
    write_string(out, &prompt.prompt);
    write_request(
        out,
        prompt.request_id.as_deref(),
        prompt.inference_state.as_ref(),
    );
}

/// The two keys at the end of prompts and tensors.
pub(super) fn write_request(out: &mut Vec<u8>, request_id: Option<&str>, state: Option<&Json>) {
    out.extend_from_slice(b", \"request_id\": ");
    maybe_text(out, request_id);
    out.extend_from_slice(b", \"inference_state\": ");
    state.unwrap_or(&Json::Null).write(out);
    out.push(b'}');
}

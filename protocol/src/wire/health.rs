//! 0x02 HEALTH_CHECK_RESPONSE: `{"is_healthy": true}`, ours with one more key, `exo`.

use super::record::{self, Record};
use super::{DecodeError, DecodeLimits, Message, MessageType};
use crate::json::{Allowance, Json};
use alloc::vec::Vec;
use serde::de::{Error, MapAccess};

#[derive(Default)]
struct Health {
    is_healthy: Option<bool>,
    exo: Option<Json>,
}

impl Record for Health {
    type Value = Message;

    fn field<'de, A: MapAccess<'de>>(
        &mut self,
        key: &str,
        map: &mut A,
        allowance: &Allowance,
    ) -> Result<bool, A::Error> {
        match key {
            "is_healthy" => self.is_healthy = Some(map.next_value()?),
            "exo" => self.exo = record::maybe_json(map, allowance)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn finish<E: Error>(self) -> Result<Message, E> {
        let is_healthy = record::need(self.is_healthy, "is_healthy")?;
        Ok(Message::HealthCheckResponse {
            is_healthy,
            exo: self.exo,
        })
    }
}

pub(super) fn decode(payload: &[u8], limits: &DecodeLimits) -> Result<Message, DecodeError> {
    record::read::<Health>(MessageType::HealthCheckResponse, payload, limits)
}

pub(super) fn encode(out: &mut Vec<u8>, is_healthy: bool, exo: Option<&Json>) {
    out.extend_from_slice(b"{\"is_healthy\": ");
    Json::Bool(is_healthy).write(out);
    if let Some(exo) = exo {
        out.extend_from_slice(b", \"exo\": ");
        exo.write(out);
    }
    out.push(b'}');
}

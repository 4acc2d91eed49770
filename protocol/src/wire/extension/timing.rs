//! 0xC1 TIMING: what a step cost at a stage.

use super::super::{DecodeError, EncodeError, Message, MessageType};
use super::Timing;
use super::fields::{Fields, text};
use super::notice::MOST;
use alloc::vec::Vec;
use core::time::Duration;

/// Bytes before the request id.
pub(in super::super) const TIMING: usize = 46;

const KIND: MessageType = MessageType::Timing;

pub(in super::super) fn decode(payload: &[u8]) -> Result<Message, DecodeError> {
    let mut fields = Fields::at_least(KIND, payload, TIMING)?;
    let (epoch, stage) = (fields.u32()?, fields.u16()?);
    let (position, positions) = (fields.u32()?, fields.u32()?);
    let mut time = || fields.u64().map(Duration::from_nanos);
    let (wait, compute, write, rtt) = (time()?, time()?, time()?, time()?);
    Ok(Message::Timing(Timing {
        request: text(KIND, "request id", fields.rest())?.into(),
        epoch,
        stage,
        position,
        positions,
        wait,
        compute,
        write,
        rtt,
    }))
}

pub(in super::super) fn encode(out: &mut Vec<u8>, timing: &Timing) -> Result<(), EncodeError> {
    let length = TIMING + timing.request.len();
    if length > MOST {
        return Err(EncodeError::TooLarge {
            kind: KIND,
            length: length as u64,
        });
    }
    out.extend_from_slice(&timing.epoch.to_be_bytes());
    out.extend_from_slice(&timing.stage.to_be_bytes());
    out.extend_from_slice(&timing.position.to_be_bytes());
    out.extend_from_slice(&timing.positions.to_be_bytes());
    for time in [timing.wait, timing.compute, timing.write, timing.rtt] {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        out.extend_from_slice(&nanos.to_be_bytes());
    }
    out.extend_from_slice(timing.request.as_bytes());
    Ok(())
}

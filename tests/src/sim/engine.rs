//! An engine that shows where a hidden state has been.
//!
//! Its hidden state has one element for each layer: how many layers had been passed when this one
//! was, counted from one. So the last stage can tell whether every layer was passed exactly once and
//! in order. The token after `p` positions is `1000 + p`, which makes gaps and repetitions visible.

use exo_protocol::engine::{
    EngineCommand, EngineEvent, EngineFailure, EngineInput, EngineOutput, FailureKind,
};
use exo_protocol::{DType, RequestId, Shard, Tensor};
use std::collections::{BTreeMap, BTreeSet};

/// Ends an answer.
pub(crate) const END: u32 = 9;

/// Tokens of a whole answer, the end token left out.
pub(crate) const ANSWER: u32 = 6;

/// The engine of one host.
#[derive(Debug, Default)]
pub(crate) struct TrailEngine {
    pub(crate) loaded: BTreeSet<Shard>,
    pub(crate) positions: BTreeMap<(RequestId, Shard), u32>,
}

/// What the last stage found wrong with a trail.
#[derive(Debug)]
pub(crate) struct BrokenTrail(pub(crate) String);

impl TrailEngine {
    pub(crate) fn execute(&mut self, command: EngineCommand) -> Result<EngineEvent, BrokenTrail> {
        Ok(match command {
            EngineCommand::Load { call, shard } => {
                self.loaded.insert(shard);
                EngineEvent::Loaded { call, bytes: 1 }
            }
            EngineCommand::Unload { call, shard } => {
                self.loaded.remove(&shard);
                self.positions.retain(|(_, of), _| *of != shard);
                EngineEvent::Unloaded { call }
            }
            EngineCommand::Free { call, request } => {
                self.positions.retain(|(of, _), _| *of != request);
                EngineEvent::Freed { call }
            }
            EngineCommand::Forward {
                call,
                shard,
                request,
                position,
                input,
                ..
            } => {
                let (trail, positions) = match input {
                    EngineInput::Text(_) => (vec![0; layers(&shard)], 1),
                    EngineInput::Tokens(tokens) => (
                        vec![0; layers(&shard)],
                        u32::try_from(tokens.len()).unwrap_or(1),
                    ),
                    EngineInput::Hidden(tensor) => unpack(&tensor)?,
                };
                let key = (request, shard.clone());
                let cached = self.positions.get(&key).copied().unwrap_or(0);
                if !self.loaded.contains(&shard) || (position != 0 && position != cached) {
                    let message = format!("{shard} at {position}, cached {cached}");
                    let failure = EngineFailure::new(FailureKind::BadInput, message);
                    return Ok(EngineEvent::Failed { call, failure });
                }
                self.positions.insert(key, position + positions);
                let trail = pass(trail, &shard)?;
                let output = if shard.is_last() {
                    complete(&trail, &shard)?;
                    // The prompt has one token.
                    let generated = position + positions;
                    let end = generated > ANSWER;
                    let token = if end { END } else { 1000 + generated };
                    EngineOutput::Token { token, end }
                } else {
                    EngineOutput::Hidden(pack(&trail, positions))
                };
                EngineEvent::Forwarded {
                    call,
                    output,
                    positions,
                }
            }
        })
    }
}

fn layers(shard: &Shard) -> usize {
    usize::try_from(shard.layers).unwrap_or(0)
}

/// Marks the shard's layers as passed, in order.
fn pass(mut trail: Vec<u32>, shard: &Shard) -> Result<Vec<u32>, BrokenTrail> {
    for layer in shard.range() {
        let before = trail.iter().filter(|mark| **mark > 0).count();
        let index = usize::try_from(layer).unwrap_or(usize::MAX);
        match trail.get_mut(index) {
            Some(mark) if *mark == 0 && before == index => {
                *mark = u32::try_from(before + 1).unwrap_or(0);
            }
            _ => return Err(BrokenTrail(format!("{shard} after {trail:?}"))),
        }
    }
    Ok(trail)
}

fn complete(trail: &[u32], shard: &Shard) -> Result<(), BrokenTrail> {
    let whole = trail.len() == layers(shard) && trail.iter().zip(1..).all(|(mark, at)| *mark == at);
    if whole {
        Ok(())
    } else {
        Err(BrokenTrail(format!("{shard} ends with {trail:?}")))
    }
}

fn pack(trail: &[u32], positions: u32) -> Tensor {
    let row: Vec<u8> = trail.iter().flat_map(|mark| mark.to_le_bytes()).collect();
    let positions = usize::try_from(positions).unwrap_or(1);
    let shape = vec![1, positions, trail.len()];
    Tensor::new(DType::U32, shape, row.repeat(positions).into()).expect("the sizes match")
}

fn unpack(tensor: &Tensor) -> Result<(Vec<u32>, u32), BrokenTrail> {
    let marks = tensor
        .to_tokens()
        .ok_or_else(|| BrokenTrail(format!("{tensor:?}")))?;
    let width = tensor.shape().last().copied().unwrap_or(0);
    let row = marks
        .get(..width)
        .ok_or_else(|| BrokenTrail(format!("{tensor:?}")))?
        .to_vec();
    let positions = tensor
        .shape()
        .get(1)
        .and_then(|&n| u32::try_from(n).ok())
        .unwrap_or(1);
    Ok((row, positions))
}

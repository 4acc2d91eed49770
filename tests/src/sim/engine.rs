//! An engine that shows where a hidden state has been.
//!
//! A row of its hidden state is one position (see `invariants::layers_in_order`). Its numbers stand
//! byte by byte in elements that every activation dtype keeps exactly.

use crate::invariants::layers_in_order::{Cache, Row};
use crate::invariants::tokens_once_in_order::{END, sample};
use bytes::Bytes;
use exo_protocol::dummy::{self, DummyEngine};
use exo_protocol::engine::{
    Engine, EngineCommand, EngineEvent, EngineInput, EngineOutput, Sampling, Scores,
};
use exo_protocol::{CallId, DType, RequestId, Shard, Tensor};
use std::collections::{BTreeMap, BTreeSet};

/// What the model is, mostly.
pub(crate) const FINGERPRINT: u64 = 0x7261_696c;

/// Bytes of a row's numbers, each an element.
const NUMBERS: usize = 20;

/// The engine of one host.
#[derive(Debug)]
pub(crate) struct TrailEngine {
    loaded: BTreeSet<Shard>,
    pub(crate) caches: BTreeMap<(RequestId, Shard), Cache>,
    /// For training jobs, which are about its model.
    pub(crate) dummy: DummyEngine,
    /// Elements of a row.
    width: usize,
    /// What its model is.
    pub(crate) fingerprint: u64,
}

/// The trail of a request is broken.
#[derive(Debug)]
pub(crate) struct Broken {
    pub(crate) call: CallId,
    pub(crate) request: RequestId,
    /// In words.
    pub(crate) what: String,
}

impl TrailEngine {
    pub(crate) fn new(width: usize, fingerprint: u64) -> Self {
        Self {
            loaded: BTreeSet::new(),
            caches: BTreeMap::new(),
            dummy: DummyEngine::new(),
            width: width.max(NUMBERS),
            fingerprint,
        }
    }

    pub(crate) fn execute(&mut self, command: EngineCommand) -> Result<EngineEvent, Broken> {
        Ok(match command {
            EngineCommand::Load { ref shard, .. } | EngineCommand::Unload { ref shard, .. }
                if *shard.model == *dummy::MODEL =>
            {
                self.dummy.execute(command, &mut |_| {})
            }
            EngineCommand::Train(_) => self.dummy.execute(command, &mut |_| {}),
            EngineCommand::Load { call, shard } => {
                self.loaded.insert(shard);
                EngineEvent::Loaded {
                    call,
                    bytes: 1,
                    fingerprint: self.fingerprint,
                }
            }
            EngineCommand::Unload { call, shard } => {
                self.loaded.remove(&shard);
                let kept = self.caches.keys().find(|(_, of)| *of == shard);
                if let Some((request, _)) = kept {
                    return Err(Broken {
                        call,
                        request: request.clone(),
                        what: format!("{shard} is unloaded under it"),
                    });
                }
                EngineEvent::Unloaded { call }
            }
            EngineCommand::Free { call, request } => {
                self.caches.retain(|(of, _), _| *of != request);
                EngineEvent::Freed { call }
            }
            EngineCommand::Forward {
                call,
                shard,
                request,
                position,
                input,
                sampling,
            } => {
                let forwarded = self.forward(&shard, &request, position, &input, sampling);
                let (output, positions) = forwarded.map_err(|what| Broken {
                    call,
                    request,
                    what,
                })?;
                EngineEvent::Forwarded {
                    call,
                    output,
                    positions,
                }
            }
        })
    }

    fn forward(
        &mut self,
        shard: &Shard,
        request: &RequestId,
        position: u32,
        input: &EngineInput,
        sampling: Option<Sampling>,
    ) -> Result<(EngineOutput, u32), String> {
        if !self.loaded.contains(shard) {
            return Err(format!("{shard} is not loaded"));
        }
        let kept = usize::try_from(position).unwrap_or(usize::MAX);
        let key = (request.clone(), shard.clone());
        let cached = self.caches.get(&key).map_or(0, |cache| cache.hashes.len());
        if kept > cached {
            let what = format!("{shard} at position {position}, with {cached} cached");
            return Err(what);
        }
        let cache = self.caches.entry(key).or_default();
        cache.hashes.truncate(kept);
        let mut rows = Vec::new();
        let mut token = |token| {
            let mut row = cache.enter(token);
            cache.pass(shard, &mut row).map(|()| rows.push(row))
        };
        match input {
            EngineInput::Tokens(tokens) => tokens.iter().copied().try_for_each(token)?,
            EngineInput::Text(text) => {
                for word in text.split(' ') {
                    token(word.parse().map_err(|_| format!("{word:?} is no token"))?)?;
                }
            }
            EngineInput::Hidden(tensor) => {
                rows = unpack(tensor).ok_or_else(|| format!("{tensor:?} came"))?;
                for row in &mut rows {
                    cache.pass(shard, row)?;
                }
            }
        }
        let Some(last) = rows.last() else {
            return Err(String::from("a step without positions"));
        };
        let positions = u32::try_from(rows.len()).unwrap_or(u32::MAX);
        let output = match sampling {
            _ if !shard.is_last() => EngineOutput::Hidden(pack(&rows, self.width)),
            Some(sampling) => {
                let token = sample(last.hash, cache.first, &sampling);
                let end = token == END;
                match sampling.scores {
                    Some(_) => EngineOutput::Scored {
                        token,
                        end,
                        scores: scores_of(token),
                    },
                    None => EngineOutput::Token { token, end },
                }
            }
            None => EngineOutput::Nothing,
        };
        Ok((output, positions))
    }
}

/// How likely a token is: a stand-in that names it.
pub(super) fn scores_of(token: u32) -> Scores {
    let score = -(token as f32);
    Scores {
        chosen: score,
        likeliest: vec![(token, score)],
    }
}

/// The token that enters first, where tokens enter.
pub(crate) fn first_token(input: &EngineInput) -> Option<u32> {
    match input {
        EngineInput::Text(text) => text.split(' ').next()?.parse().ok(),
        EngineInput::Tokens(tokens) => tokens.first().copied(),
        EngineInput::Hidden(_) => None,
    }
}

/// How many positions enter.
pub(crate) fn positions(input: &EngineInput) -> u64 {
    match input {
        EngineInput::Text(text) => text.len() as u64 / 5,
        EngineInput::Tokens(tokens) => tokens.len() as u64,
        EngineInput::Hidden(tensor) => tensor.shape().get(1).map_or(0, |rows| *rows as u64),
    }
}

fn pack(rows: &[Row], width: usize) -> Tensor {
    let mut data = vec![0; rows.len() * width * 4];
    for (row, place) in rows.iter().zip(data.chunks_exact_mut(width * 4)) {
        let mut numbers = [0; NUMBERS];
        numbers[..4].copy_from_slice(&row.position.to_le_bytes());
        numbers[4..8].copy_from_slice(&row.token.to_le_bytes());
        numbers[8..16].copy_from_slice(&row.hash.to_le_bytes());
        numbers[16..].copy_from_slice(&row.passed.to_le_bytes());
        for (number, element) in numbers.into_iter().zip(place.chunks_exact_mut(4)) {
            element.copy_from_slice(&f32::from(number).to_le_bytes());
        }
    }
    let shape = vec![1, rows.len(), width];
    Tensor::new(DType::F32, shape, Bytes::from(data)).expect("the sizes match")
}

fn unpack(tensor: &Tensor) -> Option<Vec<Row>> {
    let tensor = tensor.cast(DType::F32)?;
    let &[1, _, width] = tensor.shape() else {
        return None;
    };
    if width < NUMBERS {
        return None;
    }
    let rows = tensor.data().chunks_exact(width * 4);
    rows.map(|row| {
        let mut numbers = [0; NUMBERS];
        for (number, element) in numbers.iter_mut().zip(row.chunks_exact(4)) {
            let element = f32::from_le_bytes(element.try_into().ok()?);
            *number = element as u8;
            if f32::from(*number) != element {
                return None;
            }
        }
        let word = |at: usize| {
            Some(u32::from_le_bytes(
                numbers.get(at..at + 4)?.try_into().ok()?,
            ))
        };
        Some(Row {
            position: word(0)?,
            token: word(4)?,
            hash: u64::from_le_bytes(numbers.get(8..16)?.try_into().ok()?),
            passed: word(16)?,
        })
    })
    .collect()
}

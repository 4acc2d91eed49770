//! An engine that needs no model: it counts. It serves tests and checks of the wiring.
//!
//! Observable behaviour is the reference's: a prompt of any text is the token 1; the stage with the
//! last layer adds one to what enters it; a value above 10 becomes the end token 69. Any prompt is
//! thus answered with the tokens 2 to 10 and 69, over any number of stages.
//!
//! It also trains, which the reference's does not: one number for each layer, so that rings without
//! a model can learn.

mod training;

use crate::engine::{
    Engine, EngineCommand, EngineEvent, EngineFailure, EngineInput, EngineOutput, FailureKind,
    Sampling, Scores,
};
use crate::id::RequestId;
use crate::shard::Shard;
use crate::tensor::Tensor;
use crate::topology::Speed;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::vec;

/// The model's name on the wire.
pub const MODEL: &str = "dummy";
/// Its layers.
pub const LAYERS: u32 = 8;
/// The token with which it ends its answer.
pub const END_TOKEN: u32 = 69;
/// The token that any prompt encodes to.
pub const PROMPT_TOKEN: u32 = 1;
/// What every chat is templated to.
pub const PROMPT: &str = "dummy_tokenized_prompt";
/// The text of any token.
pub const TOKEN_TEXT: &str = "dummy";

/// Above this, the end token is sampled.
const LAST_VALUE: u32 = 10;

/// The engine.
#[derive(Debug, Default)]
pub struct DummyEngine {
    loaded: BTreeSet<Shard>,
    positions: BTreeMap<(Shard, RequestId), u32>,
    trainer: training::Trainer,
    speed: Option<Speed>,
}

impl DummyEngine {
    /// An engine with nothing loaded.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The same, which tells that it is so quick.
    #[must_use]
    pub fn with_speed(speed: Speed) -> Self {
        Self {
            speed: Some(speed),
            ..Self::default()
        }
    }

    /// Training jobs that it holds.
    #[must_use]
    pub fn jobs(&self) -> usize {
        self.trainer.jobs()
    }

    fn forward(
        &mut self,
        shard: Shard,
        request: RequestId,
        position: u32,
        input: &EngineInput,
        sampling: Option<&Sampling>,
    ) -> Result<(EngineOutput, u32), EngineFailure> {
        let bad = |message| EngineFailure::new(FailureKind::BadInput, message);
        if !self.loaded.contains(&shard) {
            return Err(bad(format!("{shard} is not loaded")));
        }
        let cached = self
            .positions
            .get(&(shard.clone(), request.clone()))
            .copied()
            .unwrap_or(0);
        if position > cached {
            return Err(bad(format!(
                "position {position} is beyond the {cached} that are cached"
            )));
        }
        let tokens = match input {
            EngineInput::Text(_) => vec![PROMPT_TOKEN],
            EngineInput::Tokens(tokens) => tokens.clone(),
            EngineInput::Hidden(tensor) => tensor
                .to_tokens()
                .ok_or_else(|| bad(format!("{tensor:?} is not a row of counts")))?,
        };
        let Some(&value) = tokens.last() else {
            return Err(bad(format!("nothing came for {shard}")));
        };
        let positions = u32::try_from(tokens.len())
            .map_err(|_| bad(format!("{} positions at once", tokens.len())))?;
        let reached = position
            .checked_add(positions)
            .ok_or_else(|| EngineFailure::new(FailureKind::ContextFull, "position overflow"))?;
        let last = shard.is_last();
        self.positions.insert((shard, request), reached);
        if !last {
            return Ok((
                EngineOutput::Hidden(Tensor::from_tokens(&tokens)),
                positions,
            ));
        }
        let Some(sampling) = sampling else {
            return Ok((EngineOutput::Nothing, positions));
        };
        let grammar = sampling.shaping.as_ref().map(|shaping| &shaping.grammar);
        if grammar.is_some_and(Option::is_some) {
            let message = "the dummy engine holds answers to no format";
            return Err(EngineFailure::new(FailureKind::BadInput, message));
        }
        let next = value.saturating_add(1);
        let next = if next > LAST_VALUE { END_TOKEN } else { next };
        let shaping = sampling.shaping.as_deref();
        let forced = shaping.and_then(|shaping| sampling.forced(shaping.answer.len()));
        let token = forced.unwrap_or(next);
        let end = token == END_TOKEN;
        if let Some(most) = sampling.scores {
            // It is certain of what it says.
            let scores = Scores {
                chosen: 0.0,
                likeliest: vec![(token, 0.0); usize::from(most.min(1))],
            };
            return Ok((EngineOutput::Scored { token, end, scores }, positions));
        }
        Ok((EngineOutput::Token { token, end }, positions))
    }
}

impl Engine for DummyEngine {
    fn measure(&mut self) -> Option<Speed> {
        self.speed
    }

    fn execute(
        &mut self,
        command: EngineCommand,
        _progress: &mut dyn FnMut(EngineEvent),
    ) -> EngineEvent {
        match command {
            EngineCommand::Load { call, shard } => {
                if &*shard.model == MODEL && shard.layers == LAYERS && !shard.is_empty() {
                    self.loaded.insert(shard);
                    return EngineEvent::Loaded {
                        call,
                        bytes: 0,
                        fingerprint: 0,
                    };
                }
                let message = format!(
                    "the dummy engine has one model, {MODEL} with {LAYERS} layers; asked for {shard}"
                );
                let failure = EngineFailure::new(FailureKind::ModelNotFound, message);
                EngineEvent::Failed { call, failure }
            }
            EngineCommand::Unload { call, shard } => {
                self.positions.retain(|(of, _), _| *of != shard);
                self.loaded.remove(&shard);
                EngineEvent::Unloaded { call }
            }
            EngineCommand::Forward {
                call,
                shard,
                request,
                position,
                input,
                sampling,
            } => match self.forward(shard, request, position, &input, sampling.as_ref()) {
                Ok((output, positions)) => EngineEvent::Forwarded {
                    call,
                    output,
                    positions,
                },
                Err(failure) => EngineEvent::Failed { call, failure },
            },
            EngineCommand::Free { call, request } => {
                self.positions.retain(|(_, of), _| *of != request);
                EngineEvent::Freed { call }
            }
            EngineCommand::Train(command) => {
                let call = command.call();
                match self.trainer.execute(command, &self.loaded) {
                    Ok(event) => EngineEvent::Trained(event),
                    Err(failure) => EngineEvent::Failed { call, failure },
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::CallId;
    use alloc::vec::Vec;

    fn run(shards: &[Shard]) -> Vec<u32> {
        let mut engine = DummyEngine::new();
        let mut silent = |_| {};
        for shard in shards {
            let call = CallId(0);
            let loaded = engine.execute(
                EngineCommand::Load {
                    call,
                    shard: shard.clone(),
                },
                &mut silent,
            );
            assert!(matches!(loaded, EngineEvent::Loaded { .. }));
        }
        let mut tokens = vec![];
        let mut input = EngineInput::Text("anything".into());
        for position in 0.. {
            for shard in shards {
                let command = EngineCommand::Forward {
                    call: CallId(1),
                    shard: shard.clone(),
                    request: "r".into(),
                    position,
                    input: input.clone(),
                    sampling: Some(Sampling::default()),
                };
                match engine.execute(command, &mut silent) {
                    EngineEvent::Forwarded {
                        output: EngineOutput::Hidden(tensor),
                        ..
                    } => {
                        input = EngineInput::Hidden(tensor);
                    }
                    EngineEvent::Forwarded {
                        output: EngineOutput::Token { token, end },
                        ..
                    } => {
                        tokens.push(token);
                        if end {
                            return tokens;
                        }
                        input = EngineInput::Tokens(vec![token]);
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
        tokens
    }

    #[test]
    fn any_split_answers_with_two_to_ten_and_the_end() {
        let shard = |range| Shard::new(MODEL.into(), range, LAYERS).expect("a range of layers");
        let expected = vec![2, 3, 4, 5, 6, 7, 8, 9, 10, 69];
        assert_eq!(run(&[shard(0..8)]), expected);
        assert_eq!(run(&[shard(0..4), shard(4..8)]), expected);
        assert_eq!(run(&[shard(0..1), shard(1..5), shard(5..8)]), expected);
    }

    /// A step of all layers over one request.
    fn step(
        engine: &mut DummyEngine,
        position: u32,
        tokens: &[u32],
        sampling: Option<Sampling>,
    ) -> Result<(EngineOutput, u32), FailureKind> {
        let shard = Shard::new(MODEL.into(), 0..8, LAYERS).expect("a range of layers");
        let load = EngineCommand::Load {
            call: CallId(0),
            shard: shard.clone(),
        };
        engine.execute(load, &mut |_| {});
        let forward = EngineCommand::Forward {
            call: CallId(1),
            shard,
            request: "r".into(),
            position,
            input: EngineInput::Tokens(tokens.to_vec()),
            sampling,
        };
        match engine.execute(forward, &mut |_| {}) {
            EngineEvent::Forwarded {
                output, positions, ..
            } => Ok((output, positions)),
            EngineEvent::Failed { failure, .. } => Err(failure.kind),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_step_may_go_back_but_not_ahead() {
        let engine = &mut DummyEngine::new();
        let greedy = || Some(Sampling::default());
        let token = |token, positions| Ok((EngineOutput::Token { token, end: false }, positions));
        let refused = Err(FailureKind::BadInput);
        assert_eq!(step(engine, 3, &[1], greedy()), refused);
        assert_eq!(step(engine, 0, &[1, 2, 3], greedy()), token(4, 3));
        assert_eq!(step(engine, 4, &[1], greedy()), refused);
        // What was beyond the second position is forgotten with this.
        assert_eq!(step(engine, 1, &[5], greedy()), token(6, 1));
        assert_eq!(step(engine, 3, &[1], greedy()), refused);
        assert_eq!(step(engine, 2, &[6], greedy()), token(7, 1));
        assert_eq!(step(engine, 0, &[1], greedy()), token(2, 1));
        assert_eq!(step(engine, 2, &[1], greedy()), refused);
    }

    #[test]
    fn who_asks_for_no_token_gets_none() {
        let engine = &mut DummyEngine::new();
        let nothing = |positions| Ok((EngineOutput::Nothing, positions));
        assert_eq!(step(engine, 0, &[1, 2], None), nothing(2));
        assert_eq!(step(engine, 2, &[3], None), nothing(1));
    }
}

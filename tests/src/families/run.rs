//! Short commands to an engine.

use super::{Kind, Subject};
use exo_models::{Model, ModelError};
use exo_protocol::engine::{
    EngineCommand, EngineEvent, EngineFailure, EngineInput, EngineOutput, Sampling,
};
use exo_protocol::id::{CallId, ModelId, RequestId};
use exo_protocol::{DType, Shard, Tensor};
use std::ops::Range;

/// A shard that is loaded.
pub type Stage = Shard;

/// An engine with one model.
pub struct Runner {
    kind: Kind,
    engine: Box<dyn Subject>,
    layers: u32,
    calls: u64,
}

impl std::fmt::Debug for Runner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runner")
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

/// What a command came to: a failure of the engine, which says its kind.
pub type Done<T> = Result<T, EngineFailure>;

impl Runner {
    /// An engine with nothing loaded. `layers` is how many the model has, or is said to have.
    #[must_use]
    pub fn new(
        kind: Kind,
        layers: u32,
        open: impl Fn() -> Result<Model, ModelError> + 'static,
    ) -> Self {
        let engine = kind.engine(open);
        Self {
            kind,
            engine,
            layers,
            calls: 0,
        }
    }

    /// Layers of the model.
    #[must_use]
    pub fn layers(&self) -> u32 {
        self.layers
    }

    /// The logits of the last position that was sampled.
    #[must_use]
    pub fn logits(&self) -> Vec<f32> {
        self.engine.last_logits()
    }

    fn call(&mut self) -> CallId {
        self.calls += 1;
        CallId(self.calls)
    }

    fn execute(&mut self, command: EngineCommand) -> EngineEvent {
        let call = command.call();
        let event = self.engine.execute(command, &mut |event| {
            assert!(
                matches!(event, EngineEvent::Progress { .. }),
                "only progress comes early"
            );
        });
        assert_eq!(event.call(), call, "the completion carries the call");
        event
    }

    /// Loads layers.
    ///
    /// # Errors
    /// The engine's failure.
    pub fn load(&mut self, range: Range<u32>) -> Done<Stage> {
        let shard = Shard::new(ModelId::from("model"), range, self.layers).expect("some layers");
        let call = self.call();
        match self.execute(EngineCommand::Load {
            call,
            shard: shard.clone(),
        }) {
            EngineEvent::Loaded { .. } => Ok(shard),
            EngineEvent::Failed { failure, .. } => Err(failure),
            other => panic!("{other:?}"),
        }
    }

    /// Loads the model in pieces that end before each of `cuts` and after the last layer.
    ///
    /// # Errors
    /// The engine's failure.
    pub fn load_cut(&mut self, cuts: &[u32]) -> Done<Vec<Stage>> {
        let ends = cuts.iter().copied().chain([self.layers]);
        let mut start = 0;
        let mut stages = Vec::new();
        for end in ends {
            stages.push(self.load(start..end)?);
            start = end;
        }
        Ok(stages)
    }

    fn forward(
        &mut self,
        step: &Step<'_>,
        input: EngineInput,
        stage: &Stage,
    ) -> Done<EngineOutput> {
        let command = self.command(step, input, stage);
        match self.execute(command) {
            EngineEvent::Forwarded {
                output, positions, ..
            } => {
                assert_eq!(
                    positions as usize,
                    step.tokens.len(),
                    "every position was added"
                );
                Ok(output)
            }
            EngineEvent::Failed { failure, .. } => Err(failure),
            other => panic!("{other:?}"),
        }
    }

    fn command(&mut self, step: &Step<'_>, input: EngineInput, stage: &Stage) -> EngineCommand {
        EngineCommand::Forward {
            call: self.call(),
            shard: stage.clone(),
            request: RequestId::from(step.request),
            position: step.position,
            input,
            sampling: step.sample.then(Sampling::default),
        }
    }

    /// Runs tokens through the stages. Gives the token, if it was to be chosen, and the hidden
    /// state that left each stage but the last.
    ///
    /// # Errors
    /// The engine's failure.
    pub fn step(&mut self, stages: &[Stage], step: &Step<'_>) -> Done<(Option<u32>, Vec<Tensor>)> {
        let mut input = EngineInput::Tokens(step.tokens.to_vec());
        let mut between = Vec::new();
        for stage in stages {
            match self.forward(step, input, stage)? {
                EngineOutput::Hidden(tensor) => {
                    between.push(tensor.clone());
                    input = EngineInput::Hidden(tensor);
                }
                EngineOutput::Token { token, .. } | EngineOutput::Scored { token, .. } => {
                    return Ok((Some(token), between));
                }
                EngineOutput::Nothing => return Ok((None, between)),
            }
        }
        panic!("the last stage gives no hidden state");
    }

    /// One token more for several requests, which the engine is told of together. The model is
    /// loaded whole as `stage`.
    ///
    /// # Errors
    /// The first failure.
    pub fn step_together(&mut self, stage: &Stage, steps: &[Step<'_>]) -> Done<Vec<u32>> {
        let commands: Vec<_> = steps
            .iter()
            .map(|step| {
                let input = EngineInput::Tokens(step.tokens.to_vec());
                self.command(step, input, stage)
            })
            .collect();
        let calls: Vec<_> = commands.iter().map(EngineCommand::call).collect();
        let mut tokens = vec![None; commands.len()];
        self.engine.execute_all(commands, &mut |event| {
            let at = calls.iter().position(|call| *call == event.call());
            let at = at.expect("a completion of one of them");
            let found = match event {
                EngineEvent::Forwarded {
                    output: EngineOutput::Token { token, .. },
                    ..
                } => Ok(token),
                EngineEvent::Failed { failure, .. } => Err(failure),
                other => panic!("{other:?}"),
            };
            assert!(
                tokens[at].replace(found).is_none(),
                "each is completed once"
            );
        });
        let told = tokens
            .into_iter()
            .map(|token| token.expect("each is completed"));
        told.collect()
    }

    /// Forgets a request.
    pub fn free(&mut self, request: &str) {
        let call = self.call();
        let event = self.execute(EngineCommand::Free {
            call,
            request: RequestId::from(request),
        });
        assert!(matches!(event, EngineEvent::Freed { .. }), "{event:?}");
    }
}

/// Tokens that go in.
#[derive(Clone, Copy, Debug)]
pub struct Step<'a> {
    /// Whose.
    pub request: &'a str,
    /// Where they begin.
    pub position: u32,
    /// What they are.
    pub tokens: &'a [u32],
    /// Whether a token is chosen after them.
    pub sample: bool,
}

/// The numbers of a hidden state's last position, whatever it travels as.
pub(crate) fn last_row(tensor: &Tensor) -> Vec<f32> {
    let tensor = tensor.cast(DType::F32).expect("a floating-point tensor");
    let width = *tensor.shape().last().expect("a width");
    let (numbers, _) = tensor.data().as_chunks();
    let row = numbers.len() - width;
    numbers[row..]
        .iter()
        .map(|n| f32::from_le_bytes(*n))
        .collect()
}

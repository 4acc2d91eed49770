//! What the tests of the engine share: the built-in model, and short commands.
//!
//! MLX computes on the thread that asks, so each test has an engine of its own.

#![allow(dead_code, reason = "each test binary uses a part of it")]

pub(crate) mod school;

use exo_engine_mlx::{MlxEngine, MlxOptions};
use exo_models::Model;
use exo_protocol::engine::{
    Engine, EngineCommand, EngineEvent, EngineFailure, EngineInput, EngineOutput, Sampling,
};
use exo_protocol::id::{CallId, ModelId, RequestId};
use exo_protocol::{Shard, Tensor};
use std::ops::Range;

/// An engine to which every name means `model`.
pub(crate) fn engine(model: &Model, options: MlxOptions) -> MlxEngine {
    let model = model.clone();
    MlxEngine::new(options, Box::new(move |_| Ok(model.clone()))).expect("MLX has a device")
}

/// The model that is built in.
pub(crate) fn stories() -> Model {
    Model::embedded().expect("it is built in")
}

/// A shard of a model with `layers` layers.
pub(crate) fn shard(range: Range<u32>, layers: u32) -> Shard {
    Shard::new(ModelId::from("model"), range, layers).expect("a range of layers")
}

pub(crate) fn request(name: &str) -> RequestId {
    RequestId::from(name)
}

pub(crate) fn execute(engine: &mut dyn Engine, command: EngineCommand) -> EngineEvent {
    let call = command.call();
    let event = engine.execute(command, &mut |event| {
        assert!(
            matches!(event, EngineEvent::Progress { .. }),
            "only progress comes early"
        );
    });
    assert_eq!(event.call(), call, "the completion carries the call");
    event
}

/// Loads a shard; returns the bytes of its weights.
pub(crate) fn load(engine: &mut dyn Engine, shard: &Shard) -> Result<u64, EngineFailure> {
    let call = CallId(1);
    let shard = shard.clone();
    match execute(engine, EngineCommand::Load { call, shard }) {
        EngineEvent::Loaded { bytes, .. } => Ok(bytes),
        EngineEvent::Failed { failure, .. } => Err(failure),
        other => panic!("{other:?}"),
    }
}

/// A forward that samples as said.
pub(crate) fn ask(
    shard: &Shard,
    name: &str,
    position: usize,
    input: EngineInput,
    sampling: Option<Sampling>,
) -> EngineCommand {
    EngineCommand::Forward {
        call: CallId(2),
        shard: shard.clone(),
        request: request(name),
        position: u32::try_from(position).expect("a position"),
        input,
        sampling,
    }
}

/// Runs a shard; the last one chooses greedily.
pub(crate) fn forward(
    engine: &mut dyn Engine,
    shard: &Shard,
    name: &str,
    position: usize,
    input: EngineInput,
) -> Result<EngineOutput, EngineFailure> {
    let greedy = Some(Sampling::default());
    match execute(engine, ask(shard, name, position, input, greedy)) {
        EngineEvent::Forwarded { output, .. } => Ok(output),
        EngineEvent::Failed { failure, .. } => Err(failure),
        other => panic!("{other:?}"),
    }
}

pub(crate) fn free(engine: &mut dyn Engine, name: &str) {
    let (call, request) = (CallId(3), request(name));
    execute(engine, EngineCommand::Free { call, request });
}

/// Sends `ids` through the shards, the first of which has the first layer.
pub(crate) fn through(
    engine: &mut dyn Engine,
    shards: &[Shard],
    name: &str,
    position: usize,
    ids: &[u32],
) -> EngineOutput {
    let mut input = tokens(ids);
    for shard in shards {
        match forward(engine, shard, name, position, input).expect("runs") {
            EngineOutput::Hidden(tensor) => input = EngineInput::Hidden(tensor),
            output => return output,
        }
    }
    panic!("no shard has the last layer")
}

/// The tokens that come after `prompt`, chosen greedily one by one.
pub(crate) fn answer(
    engine: &mut dyn Engine,
    shards: &[Shard],
    name: &str,
    prompt: &[u32],
    count: usize,
) -> Vec<u32> {
    let mut answer = vec![token(through(engine, shards, name, 0, prompt))];
    while answer.len() < count {
        let position = prompt.len() + answer.len() - 1;
        let last = &answer[answer.len() - 1..];
        answer.push(token(through(engine, shards, name, position, last)));
    }
    answer
}

pub(crate) fn tokens(ids: &[u32]) -> EngineInput {
    EngineInput::Tokens(ids.to_vec())
}

/// The hidden state in an output.
pub(crate) fn hidden(output: EngineOutput) -> Tensor {
    match output {
        EngineOutput::Hidden(tensor) => tensor,
        other => panic!("{other:?}, not a hidden state"),
    }
}

/// The token in an output.
pub(crate) fn token(output: EngineOutput) -> u32 {
    match output {
        EngineOutput::Token { token, .. } | EngineOutput::Scored { token, .. } => token,
        other => panic!("{other:?}, not a token"),
    }
}

/// The largest difference of two rows of numbers, relative to the largest of them.
pub(crate) fn distance(got: &[f32], wanted: &[f32]) -> f32 {
    assert_eq!(got.len(), wanted.len());
    let scale = wanted.iter().fold(0f32, |most, x| most.max(x.abs()));
    let pairs = got.iter().zip(wanted);
    let most = pairs.fold(0f32, |most, (a, b)| most.max((a - b).abs()));
    // What is not a number is far from everything.
    if got.iter().all(|x| x.is_finite()) {
        most / scale
    } else {
        f32::INFINITY
    }
}

/// A small checkpoint of a family; the workspace's tests say what each must give.
pub(crate) fn checkpoint(name: &str) -> Model {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = root.join("../tests/families/checkpoints").join(name);
    Model::open(&folder).expect("the checkpoint is there")
}

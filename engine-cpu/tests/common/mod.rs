//! What the tests of the engine share: a model too small to be clever, and short commands.

#![allow(dead_code, reason = "each test binary uses a part of it")]

pub(crate) mod pieces;
pub(crate) mod tiny;

use exo_engine_cpu::{CpuEngine, CpuOptions};
use exo_models::Model;
use exo_protocol::engine::{
    Engine, EngineCommand, EngineEvent, EngineFailure, EngineInput, EngineOutput, Sampling,
};
use exo_protocol::id::{CallId, ModelId, RequestId};
use exo_protocol::{Shard, Tensor};
use std::io::Write;
use std::ops::Range;
use std::path::PathBuf;

/// Options with a number of threads.
pub(crate) fn options(threads: usize) -> CpuOptions {
    let mut options = CpuOptions::default();
    options.threads = threads;
    options
}

/// An engine to which every name means `model`.
pub(crate) fn engine(model: &Model, options: CpuOptions) -> CpuEngine {
    let model = model.clone();
    CpuEngine::new(options, Box::new(move |_| Ok(model.clone()))).expect("threads start")
}

/// A shard of a model with `layers` layers.
pub(crate) fn shard(range: Range<u32>, layers: u32) -> Shard {
    Shard::new(ModelId::from("model"), range, layers).expect("a range of layers")
}

pub(crate) fn request(name: &str) -> RequestId {
    RequestId::from(name)
}

pub(crate) fn execute(engine: &mut CpuEngine, command: EngineCommand) -> EngineEvent {
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
pub(crate) fn load(engine: &mut CpuEngine, shard: &Shard) -> Result<u64, EngineFailure> {
    load_told(engine, shard).map(|(bytes, _)| bytes)
}

/// The bytes of the shard's weights, and the model's fingerprint.
pub(crate) fn load_told(
    engine: &mut CpuEngine,
    shard: &Shard,
) -> Result<(u64, u64), EngineFailure> {
    match execute(
        engine,
        EngineCommand::Load {
            call: CallId(1),
            shard: shard.clone(),
        },
    ) {
        EngineEvent::Loaded {
            bytes, fingerprint, ..
        } => Ok((bytes, fingerprint)),
        EngineEvent::Failed { failure, .. } => Err(failure),
        other => panic!("{other:?}"),
    }
}

/// Runs a shard; the last one chooses greedily.
pub(crate) fn forward(
    engine: &mut CpuEngine,
    shard: &Shard,
    name: &str,
    position: u32,
    input: EngineInput,
) -> Result<(EngineOutput, u32), EngineFailure> {
    let greedy = Some(Sampling::default());
    forward_with(engine, shard, name, position, input, greedy)
}

pub(crate) fn forward_with(
    engine: &mut CpuEngine,
    shard: &Shard,
    name: &str,
    position: u32,
    input: EngineInput,
    sampling: Option<Sampling>,
) -> Result<(EngineOutput, u32), EngineFailure> {
    let command = EngineCommand::Forward {
        call: CallId(2),
        shard: shard.clone(),
        request: request(name),
        position,
        input,
        sampling,
    };
    match execute(engine, command) {
        EngineEvent::Forwarded {
            output, positions, ..
        } => Ok((output, positions)),
        EngineEvent::Failed { failure, .. } => Err(failure),
        other => panic!("{other:?}"),
    }
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

/// The real model of `EXO_TEST_MODEL`; says so when there is none.
pub(crate) fn real_model(test: &str) -> Option<Model> {
    match std::env::var_os("EXO_TEST_MODEL").map(PathBuf::from) {
        Some(path) => Some(Model::open(&path).expect("EXO_TEST_MODEL is a model")),
        None => {
            // Not `eprintln!`, which the test harness keeps to itself when a test passes.
            let mut stderr = std::io::stderr();
            let _ = writeln!(
                stderr,
                "SKIPPED {test}: EXO_TEST_MODEL does not name SmolLM2-135M-Instruct.Q4_1.gguf"
            );
            None
        }
    }
}

//! Steps of several requests at once: the same as one after the other.

mod common;

use common::pieces::prompt;
use common::tiny::Tiny;
use common::{engine, load, options, request, shard};
use exo_engine_cpu::CpuEngine;
use exo_protocol::Shard;
use exo_protocol::engine::{
    Engine, EngineCommand, EngineEvent, EngineInput, EngineOutput, FailureKind, Sampling,
};
use exo_protocol::id::CallId;
use proptest::prelude::*;

fn ready(tiny: &Tiny, threads: usize) -> (tempfile::NamedTempFile, CpuEngine, [Shard; 2]) {
    let (file, model) = tiny.write();
    let layers = model.config().layers;
    let mut engine = engine(&model, options(threads));
    let shards = [shard(0..1, layers), shard(1..layers, layers)];
    for shard in &shards {
        load(&mut engine, shard).expect("loads");
    }
    (file, engine, shards)
}

fn step(
    call: u64,
    shard: &Shard,
    name: &str,
    position: usize,
    input: EngineInput,
) -> EngineCommand {
    EngineCommand::Forward {
        call: CallId(call),
        shard: shard.clone(),
        request: request(name),
        position: position as u32,
        input,
        // A choice that hangs on many logits and on the position.
        sampling: Some(Sampling {
            temperature: 1.5,
            seed: call,
            ..Sampling::default()
        }),
    }
}

fn all(engine: &mut CpuEngine, commands: Vec<EngineCommand>) -> Vec<EngineEvent> {
    let mut told = Vec::new();
    engine.execute_all(commands, &mut |event| told.push(event));
    told
}

fn one_by_one(engine: &mut CpuEngine, commands: Vec<EngineCommand>) -> Vec<EngineEvent> {
    let commands = commands.into_iter();
    commands
        .map(|command| common::execute(engine, command))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn the_same_bits_as_one_after_the_other(
        lens in prop::collection::vec(1usize..100, 2..20),
        rounds in prop::collection::vec(prop::collection::vec(1usize..24, 20), 1..4),
        qwen in any::<bool>(),
        threads in 1usize..4,
    ) {
        let tiny = if qwen { Tiny::QWEN } else { Tiny::LLAMA };
        let (_file, mut together, [first, last]) = ready(&tiny, threads);
        let (_other_file, mut alone, _) = ready(&tiny, 1);
        let names: Vec<String> = (0..lens.len()).map(|n| format!("request-{n}")).collect();
        let mut positions = vec![0; lens.len()];
        // First the prompts, then inputs of a few positions each.
        for counts in std::iter::once(&lens).chain(&rounds) {
            let commands = |shard: &Shard, inputs: Vec<EngineInput>| -> Vec<EngineCommand> {
                let each = names.iter().zip(&positions).zip(inputs);
                each.enumerate()
                    .map(|(n, ((name, position), input))| {
                        step(n as u64, shard, name, *position, input)
                    })
                    .collect()
            };
            let texts = (0..lens.len()).map(|n| {
                let ids = prompt(counts[n] + n, tiny.vocab);
                EngineInput::Tokens(ids[n..].to_vec())
            });
            let inputs = commands(&first, texts.collect());
            let got = all(&mut together, inputs.clone());
            let expected = one_by_one(&mut alone, inputs);
            prop_assert_eq!(&got, &expected);
            let states = got.into_iter().map(|event| match event {
                EngineEvent::Forwarded { output: EngineOutput::Hidden(state), .. } => {
                    EngineInput::Hidden(state)
                }
                other => panic!("{other:?}"),
            });
            let inputs = commands(&last, states.collect());
            let got = all(&mut together, inputs.clone());
            let expected = one_by_one(&mut alone, inputs);
            prop_assert_eq!(got, expected);
            let bits = |engine: &CpuEngine| -> Vec<u32> {
                engine.last_logits().iter().map(|logit| logit.to_bits()).collect()
            };
            prop_assert_eq!(bits(&together), bits(&alone));
            positions.iter_mut().zip(counts).for_each(|(at, count)| *at += count);
        }
        prop_assert_eq!(together.memory_used(), alone.memory_used());
    }
}

#[test]
fn each_is_answered_once_and_in_order() {
    let (_file, mut engine, [first, _]) = ready(&Tiny::LLAMA, 1);
    let ids = |ids: &[u32]| EngineInput::Tokens(ids.to_vec());
    let commands = vec![
        step(1, &first, "a", 0, ids(&[1])),
        step(2, &first, "b", 0, ids(&[2])),
        // Goes on where the first one ends.
        step(3, &first, "a", 1, ids(&[3])),
        step(4, &first, "c", 0, ids(&[300])),
        step(5, &first, "b", 1, ids(&[4])),
        EngineCommand::Free {
            call: CallId(6),
            request: request("b"),
        },
        step(7, &first, "b", 2, ids(&[5])),
        step(8, &first, "d", 0, ids(&[1; 100])),
        step(9, &first, "a", 2, ids(&[6])),
    ];
    let told = all(&mut engine, commands.clone());
    let calls: Vec<u64> = told.iter().map(|event| event.call().0).collect();
    assert_eq!(calls, (1..=9).collect::<Vec<_>>());
    for event in &told {
        let failed = match event {
            EngineEvent::Failed { failure, .. } => Some(failure.kind),
            _ => None,
        };
        let bad = [4, 7].contains(&event.call().0);
        assert_eq!(failed, bad.then_some(FailureKind::BadInput), "{event:?}");
    }
    let (_other_file, mut alone, _) = ready(&Tiny::LLAMA, 1);
    assert_eq!(told, one_by_one(&mut alone, commands));
}

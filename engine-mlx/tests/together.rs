//! Steps of several requests that wait at the same time are computed together.
#![cfg(mlx)]

mod common;

use common::{answer, ask, checkpoint, distance, engine, load, shard, stories, through, tokens};
use exo_engine_mlx::{MlxEngine, MlxOptions};
use exo_models::Model;
use exo_protocol::Shard;
use exo_protocol::engine::{
    Engine, EngineCommand, EngineEvent, EngineInput, EngineOutput, FailureKind, Sampling,
};
use exo_protocol::id::CallId;

const NAMES: [&str; 3] = ["a", "b", "c"];

fn ready(model: &Model, shards: &[Shard]) -> MlxEngine {
    let mut engine = engine(model, MlxOptions::default());
    for shard in shards {
        load(&mut engine, shard).expect("loads");
    }
    engine
}

/// What an engine tells of commands that wait at the same time.
fn all(engine: &mut MlxEngine, commands: Vec<EngineCommand>) -> Vec<EngineEvent> {
    let mut told = Vec::new();
    engine.execute_all(commands, &mut |event| told.push(event));
    told
}

/// Greedy steps of one position each, of several requests at once, through two shards.
fn step(engine: &mut MlxEngine, shards: &[Shard; 2], at: &[(usize, u32)]) -> Vec<u32> {
    let greedy = || Some(Sampling::default());
    let first = NAMES
        .iter()
        .zip(at)
        .map(|(name, (position, id))| ask(&shards[0], name, *position, tokens(&[*id]), greedy()));
    let states = all(engine, first.collect());
    assert_eq!(states.len(), at.len());
    let last = states.into_iter().zip(NAMES.iter().zip(at));
    let last = last.map(|(event, (name, (position, _)))| match event {
        EngineEvent::Forwarded {
            output: EngineOutput::Hidden(state),
            positions: 1,
            ..
        } => ask(
            &shards[1],
            name,
            *position,
            EngineInput::Hidden(state),
            greedy(),
        ),
        other => panic!("{other:?}"),
    });
    let chosen = all(engine, last.collect());
    let token = |event| match event {
        EngineEvent::Forwarded {
            output: EngineOutput::Token { token, .. },
            ..
        } => token,
        other => panic!("{other:?}"),
    };
    chosen.into_iter().map(token).collect()
}

#[test]
fn together_they_choose_what_each_would_alone() {
    // One with windows and caps, one with latent attention and experts, one that makes sense.
    for model in [
        stories(),
        checkpoint("gemma2-window"),
        checkpoint("deepseek_v3"),
    ] {
        let layers = model.config().layers;
        let vocab = model.config().vocab as u32;
        let shards = [shard(0..2, layers), shard(2..layers, layers)];
        let mut engine = ready(&model, &shards);
        // Of different lengths, across a window.
        let prompts = [40usize, 3, 17].map(|len| {
            let ids = (0..len as u32).map(|i| (i * i * 7 + i + len as u32) % vocab);
            ids.collect::<Vec<u32>>()
        });
        let alone = prompts
            .each_ref()
            .map(|prompt| answer(&mut engine, &shards, "alone", prompt, 10));
        let mut chosen: Vec<Vec<u32>> = NAMES
            .iter()
            .zip(&prompts)
            .map(|(name, prompt)| answer(&mut engine, &shards, name, prompt, 1))
            .collect();
        while chosen[0].len() < 10 {
            let at: Vec<(usize, u32)> = chosen
                .iter()
                .zip(&prompts)
                .map(|(chosen, prompt)| {
                    let position = prompt.len() + chosen.len() - 1;
                    (position, *chosen.last().expect("one"))
                })
                .collect();
            for (chosen, token) in chosen.iter_mut().zip(step(&mut engine, &shards, &at)) {
                chosen.push(token);
            }
        }
        assert_eq!(chosen, alone);
    }
}

#[test]
fn one_that_is_wrong_does_not_disturb_the_others() {
    let model = stories();
    let layers = model.config().layers;
    let shards = [shard(0..layers, layers)];
    let mut engine = ready(&model, &shards);
    for name in NAMES {
        through(&mut engine, &shards, name, 0, &[1, 2, 3]);
    }
    through(&mut engine, &shards, "c", 3, &[4]);
    let wanted = engine.last_logits();
    let greedy = || Some(Sampling::default());
    let numbered =
        |call, name, position, id| match ask(&shards[0], name, position, tokens(&[id]), greedy()) {
            EngineCommand::Forward {
                shard,
                request,
                position,
                input,
                sampling,
                ..
            } => EngineCommand::Forward {
                call: CallId(call),
                shard,
                request,
                position,
                input,
                sampling,
            },
            other => other,
        };
    let told = all(
        &mut engine,
        vec![
            numbered(11, "a", 3, 4),
            numbered(12, "b", 9, 4),
            numbered(13, "c", 3, 4),
        ],
    );
    let mut calls: Vec<u64> = told.iter().map(|event| event.call().0).collect();
    calls.sort_unstable();
    assert_eq!(calls, [11, 12, 13]);
    for event in told {
        match event {
            EngineEvent::Failed { call, failure } => {
                assert_eq!((call, failure.kind), (CallId(12), FailureKind::BadInput));
            }
            event => assert_ne!(event.call(), CallId(12), "{event:?}"),
        }
    }
    assert!(distance(&engine.last_logits(), &wanted) < 1e-5);
}

#[test]
fn what_waits_is_done_in_order() {
    let model = stories();
    let layers = model.config().layers;
    let shards = [shard(0..layers, layers)];
    let mut engine = ready(&model, &shards);
    let greedy = || Some(Sampling::default());
    // The same request twice, and a prompt between: none of it goes together.
    let told = all(
        &mut engine,
        vec![
            ask(&shards[0], "a", 0, tokens(&[1]), greedy()),
            ask(&shards[0], "a", 1, tokens(&[2]), greedy()),
            ask(&shards[0], "b", 0, tokens(&[1, 2]), greedy()),
            ask(&shards[0], "a", 2, tokens(&[3]), greedy()),
        ],
    );
    let tokens: Vec<&EngineOutput> = told
        .iter()
        .map(|event| match event {
            EngineEvent::Forwarded { output, .. } => output,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(tokens.len(), 4);
    assert_eq!(tokens[1], tokens[2], "both have seen the same");
}

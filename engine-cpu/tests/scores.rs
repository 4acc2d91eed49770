//! How likely tokens are told to be, and answers of a given form.

mod common;

use common::tiny::Tiny;
use common::{engine, forward_with, load, options, shard, tokens};
use exo_engine_cpu::CpuEngine;
use exo_models::Model;
use exo_protocol::engine::{EngineOutput, FailureKind, Sampling, Scores, Shaping};
use exo_protocol::{Shard, engine::EngineFailure};
use std::sync::Arc;

fn whole(model: &Model) -> (CpuEngine, Shard) {
    let mut engine = engine(model, options(1));
    let shard = shard(0..model.config().layers, model.config().layers);
    load(&mut engine, &shard).expect("loads");
    (engine, shard)
}

/// The logarithms of what a softmax makes of logits, the plain way.
fn log_softmax(logits: &[f32]) -> Vec<f64> {
    let best = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits
        .iter()
        .map(|&x| (f64::from(x) - f64::from(best)).exp())
        .sum();
    let all = logits.iter();
    all.map(|&x| f64::from(x) - f64::from(best) - sum.ln())
        .collect()
}

#[test]
fn scores_are_those_of_the_logits() {
    for tiny in [Tiny::LLAMA, Tiny::QWEN] {
        let (_file, model) = tiny.write();
        let (mut engine, shard) = whole(&model);
        for (name, temperature) in [("greedy", 0.0), ("hot", 1.5)] {
            let sampling = Sampling {
                temperature,
                scores: Some(5),
                ..Sampling::default()
            };
            let input = tokens(&[1, 2, 3]);
            let done = forward_with(&mut engine, &shard, name, 0, input, Some(sampling));
            let Ok((EngineOutput::Scored { token, scores, .. }, 3)) = done else {
                panic!("{done:?}")
            };
            let expected = log_softmax(engine.last_logits());
            let near = |score: f32, token: u32| {
                let expected = expected[token as usize];
                assert!(
                    (f64::from(score) - expected).abs() < 1e-5,
                    "{score} {expected}"
                );
            };
            near(scores.chosen, token);
            let Scores { likeliest, .. } = scores;
            assert_eq!(likeliest.len(), 5);
            likeliest
                .iter()
                .for_each(|&(token, score)| near(score, token));
            assert!(likeliest.windows(2).all(|pair| pair[0].1 >= pair[1].1));
            let best = expected.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            near(best as f32, likeliest[0].0);
        }
    }
}

#[test]
fn what_shapes_the_choice_does_not_change_the_scores() {
    let (_file, model) = Tiny::LLAMA.write();
    let (mut engine, shard) = whole(&model);
    let plain = Sampling {
        scores: Some(3),
        ..Sampling::default()
    };
    let mut scores = |name: &str, sampling: Sampling| match forward_with(
        &mut engine,
        &shard,
        name,
        0,
        tokens(&[1, 2]),
        Some(sampling),
    ) {
        Ok((EngineOutput::Scored { token, scores, .. }, _)) => (token, scores),
        other => panic!("{other:?}"),
    };
    let (token, before) = scores("plain", plain.clone());
    let bias = vec![(token, -100.0)];
    let shaping = Some(Arc::new(Shaping {
        bias,
        ..Shaping::default()
    }));
    let (other, after) = scores("biased", Sampling { shaping, ..plain });
    assert_ne!(other, token);
    assert_eq!(after.likeliest, before.likeliest);
    assert_eq!(after.chosen, before.likeliest[1].1);
}

/// What the built-in model says under a grammar, with the answer so far told to it at every step; a
/// stage that was lost after `lost` tokens begins anew from all of them.
fn answer(grammar: &str, temperature: f32, lost: Option<usize>) -> Result<String, EngineFailure> {
    let model = Model::embedded().expect("it is built in");
    let tokenizer = model.tokenizer().expect("it has one");
    let prompt = tokenizer.encode("Once upon a time").expect("a text");
    let (mut engine, shard) = whole(&model);
    let (mut said, mut cached): (Vec<u32>, usize) = (Vec::new(), 0);
    let mut name = "first";
    for _ in 0..200 {
        if lost == Some(said.len()) && name == "first" {
            (name, cached) = ("second", 0);
        }
        let known = [&prompt[..], &said].concat();
        let sampling = Sampling {
            temperature,
            seed: 7,
            shaping: Some(Arc::new(Shaping {
                grammar: Some(grammar.into()),
                answer: said.clone(),
                ..Shaping::default()
            })),
            ..Sampling::default()
        };
        let input = tokens(&known[cached..]);
        let at = cached as u32;
        let done = forward_with(&mut engine, &shard, name, at, input, Some(sampling))?;
        cached = known.len();
        match done.0 {
            EngineOutput::Token { end: true, .. } => break,
            EngineOutput::Token { token, .. } => said.push(token),
            other => panic!("{other:?}"),
        }
    }
    Ok(tokenizer.decode(&said).expect("a text"))
}

#[test]
fn answers_are_of_their_form_to_their_end() {
    let schema = r#"{"type": "object", "properties": {"name": {"type": "string", "maxLength": 8},
        "old": {"type": "boolean"}, "likes": {"enum": ["tea", "cake"]}},
        "required": ["name", "old", "likes"], "additionalProperties": false}"#;
    let grammar = format!(r#"{{"any": [[{{"json": {schema}}}]]}}"#);
    for temperature in [0.0, 1.0, 2.0] {
        let text = answer(&grammar, temperature, None).expect("it answers");
        let keys = ["{\"name\": \"", "\", \"old\": ", ", \"likes\": \""];
        let mut rest = text.trim_start();
        for key in keys {
            rest = rest
                .split_once(key)
                .unwrap_or_else(|| panic!("no {key} in {text}"))
                .1;
        }
        assert!(["tea\"}", "cake\"}"].contains(&rest), "{text}");
        for lost in [0, 1, 5] {
            let again = answer(&grammar, temperature, Some(lost)).expect("it answers");
            assert_eq!(again, text, "a stage that was lost changes nothing");
        }
    }
}

#[test]
fn a_grammar_that_is_none_is_refused() {
    for grammar in [
        "",
        "{}",
        r#"{"any": []}"#,
        r#"{"any": [[{"json": {"type": "x"}}]]}"#,
    ] {
        let failure = answer(grammar, 0.0, None).expect_err("no grammar");
        assert_eq!(failure.kind, FailureKind::BadInput, "{grammar}: {failure}");
    }
}

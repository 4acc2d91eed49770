//! The same text comes out however the model and the prompt are cut, and from whichever engine.
#![cfg(mlx)]

mod common;

use common::{answer, distance, engine, load, shard, stories, through};
use exo_engine_cpu::{CpuEngine, CpuOptions};
use exo_engine_mlx::MlxOptions;

const PROMPT: &str = "Once upon a time, there was a little fox named";

fn prompt() -> Vec<u32> {
    let tokenizer = stories().tokenizer().expect("it is built in");
    tokenizer.encode(PROMPT).expect("a text")
}

#[test]
fn the_text_is_that_of_the_cpu_engine() {
    let model = stories();
    let whole = [shard(0..model.config().layers, model.config().layers)];
    let mut mlx = engine(&model, MlxOptions::default());
    let mut cpu = {
        let model = model.clone();
        CpuEngine::new(CpuOptions::default(), Box::new(move |_| Ok(model.clone())))
            .expect("threads start")
    };
    load(&mut mlx, &whole[0]).expect("loads");
    load(&mut cpu, &whole[0]).expect("loads");
    let prompt = prompt();
    through(&mut mlx, &whole, "logits", 0, &prompt);
    through(&mut cpu, &whole, "logits", 0, &prompt);
    // The cpu engine keeps keys and values in half precision.
    let apart = distance(&mlx.last_logits(), cpu.last_logits());
    assert!(apart < 2e-3, "{apart}");
    let tokenizer = model.tokenizer().expect("built in");
    let text = |ids: Vec<u32>| tokenizer.decode(&ids).expect("tokens");
    let wanted = answer(&mut cpu, &whole, "text", &prompt, 60);
    let got = answer(&mut mlx, &whole, "text", &prompt, 60);
    assert_eq!(text(got), text(wanted));
}

#[test]
fn every_cut_gives_the_same_text() {
    let model = stories();
    let layers = model.config().layers;
    let mut mlx = engine(&model, MlxOptions::default());
    let whole = [shard(0..layers, layers)];
    load(&mut mlx, &whole[0]).expect("loads");
    let prompt = prompt();
    let wanted = answer(&mut mlx, &whole, "whole", &prompt, 12);
    through(&mut mlx, &whole, "logits", 0, &prompt);
    let logits = mlx.last_logits();
    for cut in 1..layers {
        let parts = [shard(0..cut, layers), shard(cut..layers, layers)];
        for part in &parts {
            load(&mut mlx, part).expect("loads");
        }
        assert_eq!(answer(&mut mlx, &parts, "parts", &prompt, 12), wanted);
        through(&mut mlx, &parts, "logits", 0, &prompt);
        assert!(distance(&mlx.last_logits(), &logits) < 1e-5, "{cut}");
    }
}

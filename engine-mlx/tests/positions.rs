//! A request goes back to a position that it has been at, and goes on from there; long inputs go in
//! chunks.
#![cfg(mlx)]

mod common;

use common::{checkpoint, distance, engine, forward, load, shard, stories, through, tokens};
use exo_engine_mlx::{MlxEngine, MlxOptions};
use exo_models::Model;
use exo_protocol::Shard;
use exo_protocol::engine::FailureKind;

fn ids(len: usize, vocab: usize) -> Vec<u32> {
    let ids = (0..len).map(|i| (i * i * 5 + i * 17 + 3) % vocab);
    ids.map(|id| id as u32).collect()
}

fn whole(model: &Model) -> [Shard; 1] {
    [shard(0..model.config().layers, model.config().layers)]
}

/// An engine with the whole model, whose inputs go in chunks of a size.
fn chunked(model: &Model, chunk: u32) -> MlxEngine {
    let mut options = MlxOptions::default();
    options.chunk = chunk;
    let mut engine = engine(model, options);
    load(&mut engine, &whole(model)[0]).expect("loads");
    engine
}

/// The logits after `ids`, which fill the positions after the first `position`.
fn logits(engine: &mut MlxEngine, shards: &[Shard], position: usize, ids: &[u32]) -> Vec<f32> {
    through(engine, shards, "r", position, ids);
    engine.last_logits()
}

#[test]
fn chunks_change_nothing() {
    let model = stories();
    let prompt = ids(100, model.config().vocab);
    let wanted = logits(&mut chunked(&model, 512), &whole(&model), 0, &prompt);
    for chunk in [1, 7, 64, 99, 100] {
        let got = logits(&mut chunked(&model, chunk), &whole(&model), 0, &prompt);
        assert!(distance(&got, &wanted) < 1e-5, "chunks of {chunk}");
    }
}

#[test]
fn going_back_gives_the_same_again() {
    let model = stories();
    let (shards, text) = (whole(&model), ids(60, model.config().vocab));
    let mut engine = chunked(&model, 512);
    let wanted = logits(&mut engine, &shards, 0, &text);
    for back in [59, 40, 1, 0] {
        // What lies beyond is forgotten: something else was there in between.
        logits(&mut engine, &shards, back, &[5, 6, 7]);
        let got = logits(&mut engine, &shards, back, &text[back..]);
        assert!(distance(&got, &wanted) < 1e-5, "back to {back}");
    }
}

#[test]
fn windows_take_no_more_memory_than_they_need() {
    let model = checkpoint("gemma3_text");
    let config = model.config();
    let windows = (0..config.layers).filter_map(|n| config.layer_kind(n).window);
    let window = windows.min().expect("gemma 3 has windows") as usize;
    let (shards, text) = (whole(&model), ids(1500, config.vocab));
    // In one piece nothing is forgotten.
    let wanted = logits(&mut chunked(&model, 2048), &shards, 0, &text);
    let mut engine = chunked(&model, 64);
    let empty = engine.memory_used();
    let got = logits(&mut engine, &shards, 0, &text);
    assert!(distance(&got, &wanted) < 1e-4);
    let full = |config: &exo_models::ModelConfig, layers: usize, positions: usize| {
        (layers * positions * config.kv_heads * config.head_dim * 2 * 4) as u64
    };
    let narrow = config
        .layer_kinds
        .iter()
        .filter(|kind| kind.window.is_some());
    let narrow = narrow.count();
    let most = full(config, narrow, window + 512 + 64 + 512)
        + full(config, config.layers as usize - narrow, 1536);
    assert!(engine.memory_used() - empty <= most);

    // A little back is fine, far back is not, and the beginning is always there.
    let got = logits(&mut engine, &shards, 1400, &text[1400..]);
    assert!(distance(&got, &wanted) < 1e-4);
    let failure = forward(&mut engine, &shards[0], "r", 300, tokens(&text[300..310]));
    let failure = failure.expect_err("its window has passed");
    assert_eq!(failure.kind, FailureKind::BadInput);
    assert!(failure.message.contains("position 300"), "{failure}");
    let got = logits(&mut engine, &shards, 1450, &text[1450..]);
    assert!(distance(&got, &wanted) < 1e-4, "a refusal changes nothing");
    let got = logits(&mut engine, &shards, 0, &text);
    assert!(distance(&got, &wanted) < 1e-4);
}

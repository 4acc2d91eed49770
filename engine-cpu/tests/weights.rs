//! Weights that cannot be right are refused when they are loaded.

mod common;

use common::tiny::{Kind, Tiny};
use common::{engine, load, options, shard};
use exo_protocol::engine::FailureKind;

/// What loading its first two layers says.
fn loaded(tiny: &Tiny) -> Result<u64, String> {
    let (_file, model) = tiny.write();
    let mut engine = engine(&model, options(1));
    let loaded = load(&mut engine, &shard(0..2, model.config().layers));
    assert_eq!(engine.memory_used() > 0, loaded.is_ok());
    loaded.map_err(|failure| {
        assert_eq!(failure.kind, FailureKind::BadModel);
        failure.message
    })
}

#[test]
fn numbers_that_are_none_or_infinite() {
    let tiny = |name, value| Tiny {
        kinds: &[Kind::F32],
        spoiled: Some((name, value)),
        ..Tiny::QWEN
    };
    for name in [
        "blk.1.ffn_norm.weight",
        "blk.0.attn_k.weight",
        "blk.1.attn_v.bias",
    ] {
        loaded(&tiny(name, 0.5)).expect("loads");
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let message = loaded(&tiny(name, value)).expect_err("it is refused");
            for words in [name, ".gguf"] {
                assert!(message.contains(words), "{message} should name {words}");
            }
        }
    }
    // Another node's part of the file is its own matter.
    loaded(&tiny("blk.2.ffn_norm.weight", f32::NAN)).expect("loads");
}

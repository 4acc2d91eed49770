//! Weights that share a tensor in GGUF files.

use crate::{
    FfnPart, LayerWeight, Model, ModelError, WeightKind, WeightName, Weights,
    gguf::Value,
    test_files::{Counted, F32, GgufFile, HEAD_DIM, HEADS, HIDDEN, INTERMEDIATE, KV_HEADS, Q8_0},
};

/// The tiny model under another name, without these tensors of its first layer.
fn tiny(architecture: &str, without: &[&str]) -> GgufFile {
    let mut file = GgufFile::tiny();
    for (key, value) in &mut file.metadata {
        *key = key.replace("llama.", &format!("{architecture}."));
        if key == "general.architecture" {
            *value = Value::String(architecture.to_owned());
        }
    }
    file.tensors.retain(|tensor| {
        let gone = |name: &&str| tensor.name == format!("blk.0.{name}.weight");
        !without.iter().any(gone)
    });
    file
}

/// A tensor of floats that count up, the contiguous dimension first.
fn counted(file: &mut GgufFile, name: &str, dims: &[u64]) {
    let data = Counted::bytes(0, dims.iter().product::<u64>() as usize, 4);
    file.tensor(&format!("blk.0.{name}.weight"), dims, F32, data);
}

fn layer(file: &GgufFile) -> Result<Weights, ModelError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.gguf");
    file.write(&path);
    Model::open(&path)?.weights(0..1)
}

#[track_caller]
fn is_slice(weights: &Weights, weight: LayerWeight, first: u64, rows: u64, cols: u64) {
    let view = weights.get(WeightName::Layer(0, weight)).unwrap();
    let (first, rows, cols) = (first as usize, rows as usize, cols as usize);
    assert_eq!(
        (view.rows, view.cols, view.kind),
        (rows, cols, WeightKind::F32)
    );
    let expected = Counted::bytes(first * cols, rows * cols, 4);
    assert_eq!(*view.data, *expected, "{weight:?}");
}

#[test]
fn fused_weights_are_rows() {
    let (queries, keys) = (HEADS * HEAD_DIM, KV_HEADS * HEAD_DIM);
    let mut file = tiny(
        "phi3",
        &["attn_q", "attn_k", "attn_v", "ffn_gate", "ffn_up"],
    );
    counted(&mut file, "attn_qkv", &[HIDDEN, queries + 2 * keys]);
    counted(&mut file, "ffn_up", &[HIDDEN, 2 * INTERMEDIATE]);
    let weights = layer(&file).unwrap();
    is_slice(&weights, LayerWeight::AttnQ, 0, queries, HIDDEN);
    is_slice(&weights, LayerWeight::AttnK, queries, keys, HIDDEN);
    is_slice(&weights, LayerWeight::AttnV, queries + keys, keys, HIDDEN);
    for (part, first) in [(FfnPart::Gate, 0), (FfnPart::Up, INTERMEDIATE)] {
        is_slice(
            &weights,
            LayerWeight::Ffn(part),
            first,
            INTERMEDIATE,
            HIDDEN,
        );
    }

    // Quantised rows are cut as well as floats.
    let (row, count) = (HIDDEN as usize / 32 * 34, (queries + 2 * keys) as usize);
    let fused = file
        .tensors
        .iter_mut()
        .find(|t| t.name.contains("attn_qkv"))
        .unwrap();
    (fused.kind, fused.data) = (Q8_0, (0..row * count).map(|n| n as u8).collect());
    let expected = fused.data[row * queries as usize..][..row * keys as usize].to_vec();
    let weights = layer(&file).unwrap();
    let view = weights
        .get(WeightName::Layer(0, LayerWeight::AttnK))
        .unwrap();
    assert_eq!((&*view.data, view.kind), (&*expected, WeightKind::Q8_0));

    let mut wrong = tiny("phi3", &["attn_q", "attn_k", "attn_v", "ffn_gate"]);
    counted(&mut wrong, "attn_qkv", &[HIDDEN, queries + 2 * keys]);
    let error = layer(&wrong).unwrap_err().to_string();
    assert!(
        error.contains("blk.0.ffn_up.weight") && error.contains("128 × 32"),
        "{error}"
    );
}

#[test]
fn experts_are_items() {
    let mut file = tiny("qwen3moe", &["ffn_gate", "ffn_up", "ffn_down"]);
    for (name, value) in [
        ("expert_count", 4),
        ("expert_used_count", 2),
        ("expert_feed_forward_length", 32),
    ] {
        file.set(&format!("qwen3moe.{name}"), Value::U32(value));
    }
    counted(&mut file, "ffn_gate_inp", &[HIDDEN, 4]);
    counted(&mut file, "attn_q_norm", &[HEAD_DIM]);
    counted(&mut file, "attn_k_norm", &[HEAD_DIM]);
    counted(&mut file, "ffn_gate_exps", &[HIDDEN, 32, 4]);
    counted(&mut file, "ffn_up_exps", &[HIDDEN, 32, 4]);
    counted(&mut file, "ffn_down_exps", &[32, HIDDEN, 4]);
    let weights = layer(&file).unwrap();
    is_slice(&weights, LayerWeight::Router, 0, 4, HIDDEN);
    for expert in 0..4 {
        for part in FfnPart::ALL {
            let (rows, cols) = match part {
                FfnPart::Gate | FfnPart::Up => (32, HIDDEN),
                FfnPart::Down => (HIDDEN, 32),
            };
            let first = u64::from(expert) * rows;
            is_slice(
                &weights,
                LayerWeight::Expert(expert, part),
                first,
                rows,
                cols,
            );
        }
    }
    file.set("qwen3moe.expert_count", Value::U32(5));
    let error = layer(&file).unwrap_err().to_string();
    assert!(error.contains("blk.0.ffn_gate_inp.weight"), "{error}");
}

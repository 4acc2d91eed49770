//! The real model: SmolLM2-135M, from its GGUF file and from a safetensors folder made of it.

use super::tensors::{self, Entry};
use exo_models::{FfnPart, LayerWeight, Model, WeightKind, WeightName, WeightView};
use half::f16;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

/// A prompt and the oracle's greedy answer to it.
#[derive(Clone, Debug)]
pub struct Text {
    /// The prompt's token ids.
    pub prompt: Vec<u32>,
    /// What was chosen.
    pub tokens: Vec<u32>,
    /// By how much each logit chosen was larger than the next one.
    pub leads: Vec<f32>,
    /// The size of the largest logit after the prompt.
    pub largest: f32,
}

/// The oracle's texts from weights as a `layout` has them: `gguf` or `safetensors`.
///
/// # Panics
/// When the golden data is damaged.
#[must_use]
pub fn texts(layout: &str) -> Vec<Text> {
    let file = std::fs::read(super::folder().join("smollm2.json")).expect("golden data");
    let document: Value = serde_json::from_slice(&file).expect("JSON");
    let ids = |value: &Value| -> Vec<u32> { read(value) };
    let cases = document["cases"].as_array().expect("cases").iter();
    cases
        .map(|case| Text {
            prompt: ids(&case["prompt"]),
            tokens: ids(&case[layout]["tokens"]),
            leads: read(&case[layout]["gaps"]),
            largest: read(&case[layout]["largest"]),
        })
        .collect()
}

fn read<T: serde::de::DeserializeOwned>(value: &Value) -> T {
    serde_json::from_value(value.clone()).expect("golden data")
}

/// The file that `EXO_TEST_MODEL` names; says so when it names none.
#[must_use]
pub fn file(test: &str) -> Option<PathBuf> {
    let found = std::env::var_os("EXO_TEST_MODEL").map(PathBuf::from);
    if found.is_none() {
        // Not `eprintln!`, which the test harness keeps to itself when a test passes.
        let _ = writeln!(
            std::io::stderr(),
            "SKIPPED {test}: EXO_TEST_MODEL does not name SmolLM2-135M-Instruct.Q4_1.gguf"
        );
    }
    found
}

/// Writes the model of a GGUF file as a folder in Hugging Face layout, with what its weights stand
/// for rounded to float16, and no tokenizer.
///
/// # Panics
/// When the file is not SmolLM2 in Q4_1.
pub fn write_folder(gguf: &Path, folder: &Path) {
    let model = Model::open(gguf).expect("a model");
    let config = model.config();
    let weights = model.weights(0..config.layers).expect("weights");
    let mut tensors = BTreeMap::new();
    let mut put = |name: WeightName, hub: String, permuted: bool| {
        let view = weights.get(name).expect("a weight");
        let mut rows = rows(&view);
        if permuted {
            rows = halves(&rows, config.head_dim);
        }
        let data = rows.concat().into_iter().map(f16::from_f32);
        let shape = match view.rows {
            1 => vec![view.cols],
            rows => vec![rows, view.cols],
        };
        let data = data.flat_map(f16::to_le_bytes).collect();
        let dtype = "F16".to_owned();
        tensors.insert(format!("{hub}.weight"), Entry { dtype, shape, data });
    };
    put(
        WeightName::TokenEmbedding,
        "model.embed_tokens".to_owned(),
        false,
    );
    put(WeightName::OutputNorm, "model.norm".to_owned(), false);
    for layer in 0..config.layers {
        for (weight, hub, permuted) in [
            (LayerWeight::AttnNorm, "input_layernorm", false),
            (LayerWeight::AttnQ, "self_attn.q_proj", true),
            (LayerWeight::AttnK, "self_attn.k_proj", true),
            (LayerWeight::AttnV, "self_attn.v_proj", false),
            (LayerWeight::AttnOutput, "self_attn.o_proj", false),
            (LayerWeight::FfnNorm, "post_attention_layernorm", false),
            (LayerWeight::Ffn(FfnPart::Gate), "mlp.gate_proj", false),
            (LayerWeight::Ffn(FfnPart::Up), "mlp.up_proj", false),
            (LayerWeight::Ffn(FfnPart::Down), "mlp.down_proj", false),
        ] {
            let name = WeightName::Layer(layer, weight);
            put(name, format!("model.layers.{layer}.{hub}"), permuted);
        }
    }
    let config = json!({
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": config.hidden,
        "intermediate_size": config.intermediate,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "max_position_embeddings": config.context,
        "rms_norm_eps": config.norm_eps,
        "rope_theta": config.rope.theta,
        "vocab_size": config.vocab,
        "tie_word_embeddings": true,
        "hidden_act": "silu",
        "bos_token_id": 1,
        "eos_token_id": 2,
        "torch_dtype": "float16",
    });
    std::fs::write(folder.join("config.json"), config.to_string()).expect("writes");
    std::fs::write(folder.join("model.safetensors"), tensors::bytes(&tensors)).expect("writes");
}

/// What a weight's rows stand for.
fn rows(view: &WeightView) -> Vec<Vec<f32>> {
    let bytes = view.data.len() / view.rows;
    view.data
        .chunks(bytes)
        .map(|row| numbers(view.kind, row))
        .collect()
}

fn numbers(kind: WeightKind, row: &[u8]) -> Vec<f32> {
    let half = |bytes: &[u8]| f16::from_le_bytes([bytes[0], bytes[1]]).to_f32();
    match kind {
        WeightKind::F32 => {
            let (numbers, _) = row.as_chunks();
            numbers.iter().map(|n| f32::from_le_bytes(*n)).collect()
        }
        WeightKind::Q4_1 => {
            let of = |block: &[u8]| {
                let (scale, least) = (half(block), half(&block[2..]));
                let low = block[4..].iter().map(|byte| byte & 15);
                let high = block[4..].iter().map(|byte| byte >> 4);
                let all = low.chain(high).map(|n| scale * f32::from(n) + least);
                all.collect::<Vec<_>>()
            };
            row.chunks(20).flat_map(of).collect()
        }
        WeightKind::Q8_0 => {
            let of = |block: &[u8]| {
                let scale = half(block);
                let all = block[2..]
                    .iter()
                    .map(|&byte| scale * f32::from(byte.cast_signed()));
                all.collect::<Vec<_>>()
            };
            row.chunks(34).flat_map(of).collect()
        }
        other => panic!("{other} is not in this file"),
    }
}

/// Rows of each head from pairs into halves.
fn halves(rows: &[Vec<f32>], head_dim: usize) -> Vec<Vec<f32>> {
    let from = |n: usize| {
        let (head, within) = (n / head_dim, n % head_dim);
        head * head_dim + within % (head_dim / 2) * 2 + within / (head_dim / 2)
    };
    (0..rows.len()).map(|n| rows[from(n)].clone()).collect()
}

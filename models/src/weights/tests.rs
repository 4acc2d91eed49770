mod gguf;
mod numbers;
mod packed;

use serde_json::{Value as Json, json};

use super::{FfnPart, LayerWeight, WeightName, Weights};
use crate::{
    Model, ModelError, Packing,
    test_files::{Counted, write_counted},
};

/// The first layer of a model, alone: the rest of it is elsewhere.
fn layer(config: &Json, tensors: &[Counted]) -> Result<Weights, ModelError> {
    let folder = tempfile::tempdir().unwrap();
    let mut all: Vec<_> = [("model.embed_tokens.weight", vec![64, 64])]
        .map(|(name, shape)| Counted::new(name, "F16", &shape))
        .into();
    for Counted(name, dtype, shape) in tensors {
        all.retain(|known| known.0 != *name);
        all.push(Counted::new(name, dtype, shape));
    }
    write_counted(folder.path(), config, &all);
    Model::open(folder.path())?.weights(0..1)
}

/// Hidden 64, two heads of 32 with one for keys, feed-forward 128, two layers.
fn config(family: &str, more: &Json) -> Json {
    let mut config = json!({
        "model_type": family,
        "num_hidden_layers": 2,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 32,
        "vocab_size": 64,
        "max_position_embeddings": 128,
        "tie_word_embeddings": true,
    });
    let more = more.as_object().unwrap().clone();
    config.as_object_mut().unwrap().extend(more);
    config
}

fn tensor(rest: &str, dtype: &'static str, shape: &[usize]) -> Counted {
    Counted::new(&format!("model.layers.0.{rest}"), dtype, shape)
}

/// What a Llama's layer has but for its linear weights.
fn norms() -> Vec<Counted> {
    ["input_layernorm.weight", "post_attention_layernorm.weight"]
        .map(|name| tensor(name, "F16", &[64]))
        .into()
}

const LINEAR: [(&str, [usize; 2]); 7] = [
    ("self_attn.q_proj", [64, 64]),
    ("self_attn.k_proj", [32, 64]),
    ("self_attn.v_proj", [32, 64]),
    ("self_attn.o_proj", [64, 64]),
    ("mlp.gate_proj", [128, 64]),
    ("mlp.up_proj", [128, 64]),
    ("mlp.down_proj", [64, 128]),
];

fn packed(module: &str, shape: &[usize], packing: Packing) -> [Counted; 3] {
    let with = |cols: usize| {
        let mut shape = shape.to_vec();
        *shape.last_mut().unwrap() = cols;
        shape
    };
    let cols = *shape.last().unwrap();
    let groups = with(cols / usize::from(packing.group));
    let words = with(cols * usize::from(packing.bits) / 32);
    [
        tensor(&format!("{module}.weight"), "U32", &words),
        tensor(&format!("{module}.scales"), "BF16", &groups),
        tensor(&format!("{module}.biases"), "BF16", &groups),
    ]
}

fn at(weight: LayerWeight) -> WeightName {
    WeightName::Layer(0, weight)
}

#[test]
fn fused_weights_are_rows() {
    let fused = [
        ("self_attn.qkv_proj", [128, 64]),
        ("self_attn.o_proj", [64, 64]),
        ("mlp.gate_up_proj", [256, 64]),
        ("mlp.down_proj", [64, 128]),
    ];
    let mut tensors = norms();
    for (module, shape) in fused {
        tensors.push(tensor(&format!("{module}.weight"), "BF16", &shape));
    }
    let weights = layer(&config("phi3", &json!({})), &tensors).unwrap();
    for (weight, first, rows) in [
        (LayerWeight::AttnQ, 0, 64),
        (LayerWeight::AttnK, 64, 32),
        (LayerWeight::AttnV, 96, 32),
        (LayerWeight::Ffn(FfnPart::Gate), 0, 128),
        (LayerWeight::Ffn(FfnPart::Up), 128, 128),
    ] {
        let view = weights.get(at(weight)).unwrap();
        assert_eq!((view.rows, view.cols), (rows, 64), "{weight:?}");
        assert_eq!(
            *view.data,
            *Counted::bytes(first * 64, rows * 64, 2),
            "{weight:?}"
        );
    }

    // The same packed.
    let packing = Packing { group: 32, bits: 4 };
    let more = json!({"quantization": {"group_size": 32, "bits": 4}});
    let mut tensors = norms();
    for (module, shape) in fused {
        tensors.extend(packed(module, &shape, packing));
    }
    let weights = layer(&config("phi3", &more), &tensors).unwrap();
    let values = weights.get(at(LayerWeight::AttnV)).unwrap();
    assert_eq!(*values.data, *Counted::bytes(96 * 8, 32 * 8, 4));
    let scales = values.scales.unwrap();
    assert_eq!(*scales.scales, *Counted::bytes(96 * 2, 32 * 2, 2));
    assert_eq!(*scales.biases, *Counted::bytes(96 * 2, 32 * 2, 2));

    // A fused tensor of the wrong height.
    let mut tensors = norms();
    tensors.push(tensor("self_attn.qkv_proj.weight", "BF16", &[96, 64]));
    let error = layer(&config("phi3", &json!({})), &tensors)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("should be 128 × 64, but is 96 × 64"),
        "{error}"
    );
}

/// Qwen 3 with four experts, 32 wide.
fn with_experts(experts: &[Counted], more: &Json) -> Result<Weights, ModelError> {
    let mut config = config("qwen3_moe", more);
    let own = json!({
        "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32,
        "decoder_sparse_step": 1, "mlp_only_layers": [], "norm_topk_prob": true,
    });
    config
        .as_object_mut()
        .unwrap()
        .extend(own.as_object().unwrap().clone());
    let mut tensors = norms();
    for (module, shape) in &LINEAR[..4] {
        tensors.push(tensor(&format!("{module}.weight"), "F32", shape));
    }
    tensors.push(tensor("self_attn.q_norm.weight", "F32", &[32]));
    tensors.push(tensor("self_attn.k_norm.weight", "F32", &[32]));
    tensors.push(tensor("mlp.gate.weight", "F32", &[4, 64]));
    let experts = experts
        .iter()
        .map(|t| Counted(t.0.clone(), t.1, t.2.clone()));
    tensors.extend(experts);
    layer(&config, &tensors)
}

const EXPERT: [(&str, FfnPart, [usize; 2]); 3] = [
    ("gate_proj", FfnPart::Gate, [32, 64]),
    ("up_proj", FfnPart::Up, [32, 64]),
    ("down_proj", FfnPart::Down, [64, 32]),
];

#[test]
fn experts_one_by_one_and_stacked() {
    let mut single = Vec::new();
    let mut stacked = Vec::new();
    let mut stacked_packed = Vec::new();
    for (name, _, [rows, cols]) in EXPERT {
        for expert in 0..4 {
            let name = format!("mlp.experts.{expert}.{name}.weight");
            single.push(tensor(&name, "BF16", &[rows, cols]));
        }
        let module = format!("mlp.switch_mlp.{name}");
        stacked.push(tensor(
            &format!("{module}.weight"),
            "BF16",
            &[4, rows, cols],
        ));
        let packing = Packing { group: 32, bits: 8 };
        stacked_packed.extend(packed(&module, &[4, rows, cols], packing));
    }
    let none = json!({});
    let single = with_experts(&single, &none).unwrap();
    let stacked = with_experts(&stacked, &none).unwrap();
    let more = json!({"quantization": {"group_size": 32, "bits": 8}});
    let packed = with_experts(&stacked_packed, &more).unwrap();
    let sizes = single.sizes().unwrap();
    assert_eq!(sizes.experts, 4 * 3 * 32 * 64 * 2);
    assert!(sizes.layers[0] > sizes.experts, "it attends, too");
    assert_eq!(stacked.sizes().unwrap().experts, sizes.experts);
    for (_, part, [rows, cols]) in EXPERT {
        for expert in 0..4 {
            let name = at(LayerWeight::Expert(expert, part));
            let whole = single.get(name).unwrap();
            assert_eq!(*whole.data, *Counted::bytes(0, rows * cols, 2));

            let first = usize::from(expert) * rows * cols;
            let slice = stacked.get(name).unwrap();
            assert_eq!((slice.rows, slice.cols), (rows, cols));
            assert_eq!(*slice.data, *Counted::bytes(first, rows * cols, 2));

            let slice = packed.get(name).unwrap();
            assert_eq!(*slice.data, *Counted::bytes(first / 4, rows * cols / 4, 4));
            let scales = slice.scales.unwrap();
            assert_eq!(
                *scales.scales,
                *Counted::bytes(first / 32, rows * cols / 32, 2)
            );
        }
        let beyond = at(LayerWeight::Expert(4, part));
        assert!(stacked.find(beyond).unwrap().is_none());
    }
    let router = single.get(at(LayerWeight::Router)).unwrap();
    assert_eq!((router.rows, router.cols), (4, 64));

    let wrong = [tensor(
        "mlp.switch_mlp.gate_proj.weight",
        "BF16",
        &[3, 32, 64],
    )];
    let error = with_experts(&wrong, &none).unwrap_err().to_string();
    assert!(
        error.contains("should be 4 × 32 × 64, but is 3 × 32 × 64"),
        "{error}"
    );
}

/// The norms of Gemma: the name of the one before the feed-forward part moved.
#[test]
fn gemma_names_and_those_below_another_model() {
    let names = [
        ("input_layernorm", LayerWeight::AttnNorm),
        ("post_attention_layernorm", LayerWeight::PostAttnNorm),
        ("pre_feedforward_layernorm", LayerWeight::FfnNorm),
        ("post_feedforward_layernorm", LayerWeight::PostFfnNorm),
    ];
    let mut tensors: Vec<_> = LINEAR
        .map(|(module, shape)| tensor(&format!("{module}.weight"), "BF16", &shape))
        .into();
    for (name, _) in names {
        tensors.push(tensor(&format!("{name}.weight"), "BF16", &[64]));
    }
    let activation = json!({"hidden_activation": "gelu_pytorch_tanh"});
    layer(&config("gemma2", &activation), &tensors).unwrap();

    for norm in ["q_norm", "k_norm"] {
        tensors.push(tensor(&format!("self_attn.{norm}.weight"), "BF16", &[32]));
    }
    layer(&config("gemma3_text", &activation), &tensors).unwrap();
    tensors.push(Counted::new("model.embed_tokens.weight", "BF16", &[64, 64]));
    for tensor in &mut tensors {
        tensor.0 = format!("language_model.{}", tensor.0);
    }
    tensors.push(Counted::new("vision_tower.patch.weight", "BF16", &[8]));
    let nested = json!({
        "model_type": "gemma3",
        "vocab_size": 64,
        "text_config": config("gemma3_text", &activation),
    });
    let weights = layer(&nested, &tensors).unwrap();
    for (name, weight) in names {
        assert!(weights.get(at(weight)).is_ok(), "{name}");
    }
    tensors.retain(|tensor| !tensor.0.contains("pre_feedforward"));
    let error = layer(&nested, &tensors).unwrap_err().to_string();
    let expected = "`language_model.model.layers.0.pre_feedforward_layernorm.weight`";
    assert!(error.contains(expected), "{error}");
}

/// Latent attention as its authors publish it, and as newer conversions rearrange it.
#[test]
fn latent_attention_in_one_tensor_only() {
    let sizes = json!({
        "kv_lora_rank": 16, "q_lora_rank": null, "qk_nope_head_dim": 16, "qk_rope_head_dim": 8,
        "v_head_dim": 12,
    });
    let config = config("deepseek_v3", &sizes);
    let mut tensors = norms();
    for (name, shape) in [
        ("self_attn.q_proj", vec![48, 64]),
        ("self_attn.kv_a_proj_with_mqa", vec![24, 64]),
        ("self_attn.kv_a_layernorm", vec![16]),
        ("self_attn.kv_b_proj", vec![56, 16]),
        ("self_attn.o_proj", vec![64, 24]),
    ] {
        tensors.push(tensor(&format!("{name}.weight"), "F16", &shape));
    }
    for (name, shape) in &LINEAR[4..] {
        tensors.push(tensor(&format!("{name}.weight"), "F16", shape));
    }
    let weights = layer(&config, &tensors).unwrap();
    let up = weights.get(at(LayerWeight::AttnKvUp)).unwrap();
    assert_eq!((up.rows, up.cols), (56, 16));

    tensors.retain(|tensor| !tensor.0.contains("kv_b_proj"));
    tensors.push(tensor("self_attn.embed_q.weight", "F16", &[2, 16, 16]));
    let error = layer(&config, &tensors).unwrap_err().to_string();
    assert!(
        error.contains("embed_q") && error.contains("kv_b_proj"),
        "{error}"
    );
}

#[test]
fn the_parts_of_a_model_add_up() {
    let model = Model::embedded().expect("it is built in");
    let layers = model.config().layers;
    let whole = model.weights(0..layers).expect("weights");
    let sizes = whole.sizes().expect("sizes");
    assert_eq!(sizes.layers.len(), layers as usize);
    let sum: u64 = sizes.layers.iter().sum();
    let tied = model.config().tied_embeddings;
    let ends = if tied {
        sizes.head
    } else {
        sizes.head + sizes.embedding
    };
    assert_eq!(sum + ends, whole.bytes());
    for at in 0..layers {
        let part = model.weights(at..at + 1).expect("weights");
        let first = if at == 0 { sizes.embedding } else { 0 };
        let last = if at + 1 == layers { sizes.head } else { 0 };
        let own = sizes.layers[at as usize];
        assert_eq!(part.bytes(), own + first + last, "layer {at}");
        assert_eq!(part.sizes().expect("sizes").layers, [own]);
    }
}

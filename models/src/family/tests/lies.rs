//! Files that say anything: a sound configuration comes of it, or an error that names the file.

use proptest::{prelude::*, sample::Index};
use serde_json::{Value as Json, json};

use super::{gguf, read_with};
use crate::{
    ModelConfig,
    family::{gguf_architectures, model_types},
    gguf::{Array, Value},
    test_files::{GgufFile, any_json},
};

/// What engines take for granted.
fn check(config: &ModelConfig) -> Result<(), TestCaseError> {
    prop_assert_eq!(config.layer_kinds.len(), config.layers as usize);
    prop_assert!(config.layers > 0 && config.hidden > 0 && config.intermediate > 0);
    prop_assert!(config.heads.is_multiple_of(config.kv_heads) && config.head_dim > 0);
    prop_assert!(config.vocab > 0 && config.context > 0);
    let scales = [config.norm_eps, config.score_scale, config.embedding_scale];
    prop_assert!(
        scales.iter().all(|&x| x.is_finite() && x > 0.0),
        "{:?}",
        scales
    );
    for rope in [Some(&config.rope), config.local_rope.as_ref()]
        .into_iter()
        .flatten()
    {
        prop_assert!(rope.dims > 0 && rope.dims.is_multiple_of(2) && rope.dims <= config.head_dim);
        let frequencies = rope.frequencies();
        prop_assert_eq!(frequencies.len(), rope.dims / 2);
        prop_assert!(frequencies.iter().all(|x| x.is_finite()), "{:?}", rope);
        prop_assert!(rope.magnitude().is_finite(), "{:?}", rope);
    }
    if let Some(latent) = config.latent {
        prop_assert_eq!(latent.plain_dim + latent.rope_dim, config.head_dim);
        prop_assert_eq!(
            (latent.rope_dim, config.kv_heads),
            (config.rope.dims, config.heads)
        );
        prop_assert!(latent.kv_rank > 0 && latent.value_dim > 0 && latent.plain_dim > 0);
        prop_assert!(latent.query_rank != Some(0));
    }
    match config.experts {
        None => prop_assert!(config.layer_kinds.iter().all(|kind| !kind.experts)),
        Some(experts) => {
            prop_assert!(experts.count.is_multiple_of(experts.groups) && experts.active > 0);
            prop_assert!((1..=experts.groups).contains(&experts.active_groups));
            let size = experts.count / experts.groups;
            prop_assert!(experts.active <= experts.active_groups * size);
            prop_assert!(experts.intermediate > 0 && experts.scale.is_finite());
            prop_assert!(!experts.group_by_two || experts.groups == 1 || size > 1);
        }
    }
    prop_assert!(config.layer_kinds.iter().all(|kind| kind.window != Some(0)));
    prop_assert!(
        config
            .eos
            .iter()
            .all(|&token| (token as usize) < config.vocab)
    );
    Ok(())
}

/// A model of this type with all fields that any family looks at.
fn everything(model_type: &str) -> Json {
    let gemma = model_type.starts_with("gemma");
    let activation = if gemma { "gelu_pytorch_tanh" } else { "silu" };
    let deepseek_3 = model_type == "deepseek_v3";
    let (method, scoring) = match deepseek_3 {
        true => ("noaux_tc", "sigmoid"),
        false => ("group_limited_greedy", "softmax"),
    };
    let mut config = json!({
        "num_hidden_layers": 6, "hidden_size": 32, "intermediate_size": 64,
        "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 300, "head_dim": 8,
        "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "max_position_embeddings": 128,
        "original_max_position_embeddings": 64, "tie_word_embeddings": true,
        "attention_bias": false, "mlp_bias": false, "hidden_act": activation,
        "hidden_activation": activation, "sliding_window": 16, "sliding_window_pattern": 3,
        "layer_types": vec!["full_attention"; 6], "no_rope_layers": [1, 1, 1, 0, 1, 1],
        "no_rope_layer_interval": 4, "query_pre_attn_scalar": 16, "attn_logit_softcapping": 50.0,
        "final_logit_softcapping": 30.0, "rope_local_base_freq": 10000.0,
    });
    let more = json!({
        "partial_rotary_factor": 1.0, "num_experts": 8, "num_experts_per_tok": 2,
        "moe_intermediate_size": 16, "norm_topk_prob": true, "decoder_sparse_step": 2,
        "mlp_only_layers": [1], "kv_lora_rank": 16, "q_lora_rank": 16, "qk_rope_head_dim": 8,
        "qk_nope_head_dim": 8, "v_head_dim": 8, "n_routed_experts": 8, "n_shared_experts": 1,
        "n_group": 2, "topk_group": 1, "routed_scaling_factor": 2.5, "topk_method": method,
        "scoring_func": scoring, "first_k_dense_replace": 1, "moe_layer_freq": 1,
        "rope_scaling": {"type": "longrope", "rope_type": "longrope", "long_factor": [1, 2, 3, 4],
            "short_factor": [1, 1, 1, 1]},
        "eos_token_id": 2, "bos_token_id": 1,
        "quantization": {"group_size": 32, "bits": 4, "lm_head": false},
    });
    let fields = config.as_object_mut().unwrap();
    fields.extend(more.as_object().unwrap().clone());
    if model_type == "gemma3" {
        config = json!({"text_config": config, "vocab_size": 300});
    }
    config["model_type"] = json!(model_type);
    config
}

/// The same in GGUF.
fn everything_in_gguf(architecture: &str) -> GgufFile {
    let counts = [
        ("block_count", 6),
        ("context_length", 128),
        ("embedding_length", 32),
        ("feed_forward_length", 64),
        ("attention.head_count", 4),
        ("attention.head_count_kv", 2),
        ("attention.key_length", 16),
        ("attention.value_length", 16),
        ("attention.sliding_window", 16),
        ("attention.sliding_window_pattern", 3),
        ("attention.kv_lora_rank", 16),
        ("attention.q_lora_rank", 16),
        ("vocab_size", 300),
        ("leading_dense_block_count", 1),
        ("expert_gating_func", 2),
        ("rope.scaling.original_context_length", 64),
    ];
    let numbers = [
        ("attention.layer_norm_rms_epsilon", 1e-5),
        ("rope.freq_base", 10_000.0),
        ("rope.freq_base_swa", 10_000.0),
        ("rope.scaling.factor", 4.0),
        ("rope.scaling.attn_factor", 1.5),
        ("rope.scaling.yarn_log_multiplier", 0.1),
        ("attn_logit_softcapping", 50.0),
        ("final_logit_softcapping", 30.0),
        ("expert_weights_scale", 2.5),
    ];
    let mut file = gguf::file(architecture, &counts, &numbers, &["blk.0.attn_kv_b.weight"]);
    let experts = ["qwen3moe", "deepseek2"].contains(&architecture);
    for (name, value) in [
        ("expert_count", 8),
        ("expert_used_count", 2),
        ("expert_shared_count", 1),
        ("expert_feed_forward_length", 16),
        ("expert_group_count", 2),
        ("expert_group_used_count", 1),
    ] {
        if experts {
            file.set(&format!("{architecture}.{name}"), Value::U32(value));
        }
    }
    let turned = if architecture == "deepseek2" { 8 } else { 16 };
    file.set(
        &format!("{architecture}.rope.dimension_count"),
        Value::U32(turned),
    );
    let kind = Value::String("yarn".to_owned());
    file.set(&format!("{architecture}.rope.scaling.type"), kind);
    file.set("tokenizer.ggml.eos_token_id", Value::U32(2));
    file
}

fn any_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        (0_u32..300).prop_map(Value::U32),
        any::<u32>().prop_map(Value::U32),
        any::<i32>().prop_map(Value::I32),
        any::<u64>().prop_map(Value::U64),
        any::<f32>().prop_map(Value::F32),
        any::<bool>().prop_map(Value::Bool),
        ".{0,8}".prop_map(Value::String),
        proptest::collection::vec(0_i32..9, 0..7).prop_map(|list| Value::Array(Array::I32(list))),
        proptest::collection::vec(any::<bool>(), 0..7)
            .prop_map(|list| Value::Array(Array::Bool(list))),
    ]
}

/// What the properties begin with is sound, so that they are about the field that was changed.
#[test]
fn everything_is_read() {
    for name in model_types().split(", ") {
        let read = read_with(&everything(name), true);
        check(&read.unwrap_or_else(|error| panic!("{name}: {error}"))).unwrap();
    }
    for name in gguf_architectures().split(", ") {
        let read = gguf::read(&everything_in_gguf(name));
        check(&read.unwrap_or_else(|error| panic!("{name}: {error}"))).unwrap();
    }
}

proptest! {
    #[test]
    fn any_value_in_any_field(family in any::<Index>(), field in any::<Index>(), value in any_json()) {
        let types = model_types();
        let types: Vec<_> = types.split(", ").collect();
        let mut config = everything(types[family.index(types.len())]);
        let nested = config.get("text_config").is_some();
        let section = if nested { &mut config["text_config"] } else { &mut config };
        let object = section.as_object_mut().unwrap();
        let name = object.keys().nth(field.index(object.len())).unwrap().clone();
        object.insert(name, value);
        match read_with(&config, true) {
            Ok(config) => check(&config)?,
            Err(error) => prop_assert!(error.to_string().contains("config.json"), "{}", error),
        }
    }

    #[test]
    fn any_value_under_any_key(family in any::<Index>(), key in any::<Index>(), value in any_value()) {
        let names = gguf_architectures();
        let names: Vec<_> = names.split(", ").collect();
        let mut file = everything_in_gguf(names[family.index(names.len())]);
        let index = key.index(file.metadata.len());
        file.metadata[index].1 = value;
        match gguf::read(&file) {
            Ok(config) => check(&config)?,
            Err(error) => prop_assert!(error.to_string().contains("some.gguf"), "{}", error),
        }
    }
}

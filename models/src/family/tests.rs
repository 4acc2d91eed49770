//! What published models say, in both formats. Numbers are those of their own files.

mod deepseek;
mod gemma;
mod gguf;
mod lies;

use std::fs;

use serde_json::{Value as Json, json};

use crate::{
    Biases, Experts, Family, ModelConfig, ModelError, RopeScaling, Scoring, config::from_folder,
    folder::Folder, test_files::safetensors,
};

/// The configuration of a folder with this config.json, and with an output head if `head`.
fn read_with(config: &Json, head: bool) -> Result<ModelConfig, ModelError> {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    let head = head.then(|| ("lm_head.weight".to_owned(), vec![1, 1]));
    let bytes = safetensors(&Vec::from_iter(head));
    fs::write(folder.path().join("model.safetensors"), bytes).unwrap();
    from_folder(&Folder::Disk(folder.path().to_owned()))
}

fn read(config: &Json) -> ModelConfig {
    read_with(config, true).unwrap()
}

/// The same with some fields changed, and its error.
fn error(config: &Json, field: &str, value: Json) -> String {
    let mut config = config.clone();
    config[field] = value;
    let error = read_with(&config, true).unwrap_err().to_string();
    assert!(error.contains("config.json"), "{error}");
    error
}

fn windows(config: &ModelConfig) -> Vec<Option<u32>> {
    config.layer_kinds.iter().map(|kind| kind.window).collect()
}

/// Of the first layers and the last one, where every `pattern`-th has none.
#[track_caller]
fn every_other_slides(config: &ModelConfig, pattern: usize, window: u32) {
    for (layer, found) in windows(config).into_iter().enumerate() {
        let full = (layer + 1) % pattern == 0;
        assert_eq!(found, (!full).then_some(window), "layer {layer}");
    }
}

#[test]
fn llama_3_2_1b() {
    let published = json!({
        "architectures": ["LlamaForCausalLM"], "attention_bias": false, "attention_dropout": 0.0,
        "bos_token_id": 128000, "eos_token_id": [128001, 128008, 128009], "head_dim": 64,
        "hidden_act": "silu", "hidden_size": 2048, "initializer_range": 0.02,
        "intermediate_size": 8192, "max_position_embeddings": 131072, "mlp_bias": false,
        "model_type": "llama", "num_attention_heads": 32, "num_hidden_layers": 16,
        "num_key_value_heads": 8, "pretraining_tp": 1, "rms_norm_eps": 1e-05,
        "rope_scaling": {"factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0,
            "original_max_position_embeddings": 8192, "rope_type": "llama3"},
        "rope_theta": 500000.0, "tie_word_embeddings": true, "torch_dtype": "bfloat16",
        "transformers_version": "4.45.0.dev0", "use_cache": true, "vocab_size": 128256
    });
    let config = read(&published);
    assert_eq!(config.family, Family::Llama);
    assert_eq!(
        (config.heads, config.kv_heads, config.head_dim),
        (32, 8, 64)
    );
    assert_eq!(config.context, 131_072);
    assert_eq!(windows(&config), [None; 16]);
    assert_eq!(config.score_scale, 0.125);
    assert!(config.tied_embeddings && !config.qk_norm && !config.post_norms);
    assert!(matches!(
        config.rope.scaling,
        RopeScaling::Llama3 {
            factor: 32.0,
            original_context: 8192,
            ..
        }
    ));
    assert_eq!(config.biases, Biases::default());
}

#[test]
fn smollm3_3b() {
    let mut published = json!({
        "architectures": ["SmolLM3ForCausalLM"], "attention_bias": false, "bos_token_id": null,
        "eos_token_id": 128012, "hidden_act": "silu", "hidden_size": 2048,
        "intermediate_size": 11008, "layer_types": vec!["full_attention"; 36],
        "max_position_embeddings": 65536, "max_window_layers": 28, "mlp_bias": false,
        "model_type": "smollm3", "no_rope_layer_interval": 4, "num_attention_heads": 16,
        "num_hidden_layers": 36, "num_key_value_heads": 4, "rms_norm_eps": 1e-06,
        "rope_scaling": null, "rope_theta": 5000000.0, "sliding_window": null,
        "tie_word_embeddings": true, "use_sliding_window": false, "vocab_size": 128256
    });
    let positions = |config: &ModelConfig| -> Vec<bool> {
        config
            .layer_kinds
            .iter()
            .map(|kind| kind.positions)
            .collect()
    };
    let by_interval = positions(&read(&published));
    let expected: Vec<_> = (1..=36).map(|layer| layer % 4 != 0).collect();
    assert_eq!(by_interval, expected);
    let config = read(&published);
    assert!(config.rope_of(0).is_some() && config.rope_of(3).is_none());

    // Its own file has the list besides.
    published["no_rope_layers"] = json!(expected.iter().map(|&p| u8::from(p)).collect::<Vec<_>>());
    assert_eq!(positions(&read(&published)), expected);
    published["no_rope_layers"] = json!(vec![1; 36]);
    assert_eq!(positions(&read(&published)), [true; 36]);
    for wrong in [json!(vec![1; 35]), json!(vec![2; 36]), json!("1")] {
        let error = error(&published, "no_rope_layers", wrong);
        assert!(error.contains("no_rope_layers"), "{error}");
    }
}

#[test]
fn mistral_7b_v0_1() {
    let published = json!({
        "architectures": ["MistralForCausalLM"], "bos_token_id": 1, "eos_token_id": 2,
        "hidden_act": "silu", "hidden_size": 4096, "initializer_range": 0.02,
        "intermediate_size": 14336, "max_position_embeddings": 32768, "model_type": "mistral",
        "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 8,
        "rms_norm_eps": 1e-05, "rope_theta": 10000.0, "sliding_window": 4096,
        "tie_word_embeddings": false, "vocab_size": 32000
    });
    let mut config = published;
    let found = read(&config);
    assert_eq!(
        (windows(&found), found.context),
        (vec![Some(4096); 32], 32_768)
    );
    // Version 0.2 has none.
    config["sliding_window"] = Json::Null;
    assert_eq!(windows(&read(&config)), [None; 32]);
    // Ministral names them layer by layer.
    let types = [
        "sliding_attention",
        "sliding_attention",
        "sliding_attention",
        "full_attention",
    ];
    let types: Vec<_> = types.into_iter().cycle().take(32).collect();
    config["layer_types"] = json!(types);
    config["sliding_window"] = json!(32);
    every_other_slides(&read(&config), 4, 32);
    for wrong in [
        json!(["full_attention"]),
        json!(vec!["chunked_attention"; 32]),
        json!([1]),
    ] {
        let error = error(&config, "layer_types", wrong);
        assert!(error.contains("layer_types"), "{error}");
    }
    let error = error(&config, "sliding_window", Json::Null);
    assert!(error.contains("no `sliding_window`"), "{error}");
}

#[test]
fn qwen2_5_0_5b() {
    let published = json!({
        "architectures": ["Qwen2ForCausalLM"], "bos_token_id": 151643, "eos_token_id": 151645,
        "hidden_act": "silu", "hidden_size": 896, "intermediate_size": 4864,
        "max_position_embeddings": 32768, "max_window_layers": 21, "model_type": "qwen2",
        "num_attention_heads": 14, "num_hidden_layers": 24, "num_key_value_heads": 2,
        "rms_norm_eps": 1e-06, "rope_theta": 1000000.0, "sliding_window": 32768,
        "tie_word_embeddings": true, "use_sliding_window": false, "vocab_size": 151936
    });
    let config = read(&published);
    assert_eq!(config.family, Family::Qwen2);
    assert_eq!((config.head_dim, windows(&config)), (64, vec![None; 24]));
    let expected = Biases {
        qkv: true,
        ..Biases::default()
    };
    assert_eq!(config.biases, expected);

    // As its page says for long texts.
    let mut long = published;
    long["rope_scaling"] = json!({
        "factor": 4.0, "original_max_position_embeddings": 32768, "type": "yarn",
    });
    let RopeScaling::Yarn {
        factor,
        original_context,
        beta_fast,
        beta_slow,
        magnitude,
    } = read(&long).rope.scaling
    else {
        panic!("not YaRN");
    };
    assert_eq!((factor, original_context), (4.0, 32_768));
    assert_eq!((beta_fast, beta_slow), (32.0, 1.0));
    assert_eq!(magnitude, (0.1 * 4_f64.ln() + 1.0) as f32);
}

#[test]
fn qwen3_0_6b() {
    let published = json!({
        "architectures": ["Qwen3ForCausalLM"], "attention_bias": false, "bos_token_id": 151643,
        "eos_token_id": 151645, "head_dim": 128, "hidden_act": "silu", "hidden_size": 1024,
        "intermediate_size": 3072, "max_position_embeddings": 40960, "max_window_layers": 28,
        "model_type": "qwen3", "num_attention_heads": 16, "num_hidden_layers": 28,
        "num_key_value_heads": 8, "rms_norm_eps": 1e-06, "rope_scaling": null,
        "rope_theta": 1000000, "sliding_window": null, "tie_word_embeddings": true,
        "use_sliding_window": false, "vocab_size": 151936
    });
    let config = read(&published);
    assert_eq!(config.family, Family::Qwen3);
    assert!(config.qk_norm && config.tied_embeddings);
    assert_eq!(
        (config.heads * config.head_dim, config.hidden),
        (2048, 1024)
    );
    assert_eq!(config.biases, Biases::default());
}

#[test]
fn qwen3_30b_a3b() {
    let published = json!({
        "architectures": ["Qwen3MoeForCausalLM"], "attention_bias": false, "bos_token_id": 151643,
        "decoder_sparse_step": 1, "eos_token_id": 151645, "head_dim": 128, "hidden_act": "silu",
        "hidden_size": 2048, "intermediate_size": 6144, "max_position_embeddings": 40960,
        "mlp_only_layers": [], "model_type": "qwen3_moe", "moe_intermediate_size": 768,
        "norm_topk_prob": true, "num_attention_heads": 32, "num_experts": 128,
        "num_experts_per_tok": 8, "num_hidden_layers": 48, "num_key_value_heads": 4,
        "output_router_logits": false, "rms_norm_eps": 1e-06, "rope_scaling": null,
        "rope_theta": 1000000.0, "router_aux_loss_coef": 0.001, "sliding_window": null,
        "tie_word_embeddings": false, "vocab_size": 151936
    });
    let config = read(&published);
    let experts = Experts {
        count: 128,
        active: 8,
        intermediate: 768,
        shared_intermediate: 0,
        scoring: Scoring::Softmax,
        choice_bias: false,
        groups: 1,
        active_groups: 1,
        group_by_two: false,
        normalise: true,
        scale: 1.0,
    };
    assert_eq!(config.experts, Some(experts));
    assert!(config.qk_norm && config.layer_kinds.iter().all(|kind| kind.experts));

    let mut sparse = published.clone();
    sparse["decoder_sparse_step"] = json!(2);
    sparse["mlp_only_layers"] = json!([1, 47]);
    let kinds = read(&sparse).layer_kinds;
    let with: Vec<_> = (0..48).filter(|&layer| kinds[layer].experts).collect();
    let expected: Vec<_> = (0..48)
        .filter(|n| n % 2 == 1 && ![1, 47].contains(n))
        .collect();
    assert_eq!(with, expected);

    for (field, wrong) in [
        ("num_experts", json!(5000)),
        ("num_experts_per_tok", json!(129)),
        ("num_experts_per_tok", json!(0)),
        ("moe_intermediate_size", Json::Null),
        ("mlp_only_layers", json!([-1])),
        ("decoder_sparse_step", json!(0)),
    ] {
        let error = error(&published, field, wrong);
        assert!(error.contains(field), "{error}");
    }
}

#[test]
fn phi_3_5_mini() {
    let (long, short) = (vec![1.5; 48], vec![1.0; 48]);
    let published = json!({
        "architectures": ["Phi3ForCausalLM"], "attention_bias": false, "bos_token_id": 1,
        "eos_token_id": 32000, "hidden_act": "silu", "hidden_size": 3072,
        "intermediate_size": 8192, "max_position_embeddings": 131072, "model_type": "phi3",
        "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 32,
        "original_max_position_embeddings": 4096, "rms_norm_eps": 1e-05,
        "rope_scaling": {"long_factor": long, "short_factor": short, "type": "longrope"},
        "rope_theta": 10000.0, "sliding_window": 262144, "tie_word_embeddings": false,
        "vocab_size": 32064
    });
    let config = read(&published);
    assert_eq!((config.head_dim, config.rope.dims), (96, 96));
    assert_eq!(windows(&config), [None; 32]);
    // ln 32 / ln 4096 is 5/12.
    let expected = RopeScaling::LongRope {
        factors: vec![1.5; 48],
        magnitude: (17.0_f64 / 12.0).sqrt() as f32,
    };
    assert_eq!(config.rope.scaling, expected);
    for (wrong, expected) in [
        (
            json!({"type": "longrope", "short_factor": short}),
            "long_factor",
        ),
        (
            json!({"type": "longrope", "long_factor": vec![1.0; 47]}),
            "48 positive numbers",
        ),
        (
            json!({"type": "longrope", "long_factor": vec![0.0; 48]}),
            "48 positive numbers",
        ),
    ] {
        let error = error(&published, "rope_scaling", wrong);
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn phi_4_mini() {
    let published = json!({
        "architectures": ["Phi3ForCausalLM"], "attention_bias": false, "bos_token_id": 199999,
        "eos_token_id": 199999, "full_attn_mod": 1, "hidden_act": "silu", "hidden_size": 3072,
        "intermediate_size": 8192, "interpolate_factor": 1, "lm_head_bias": false,
        "max_position_embeddings": 131072, "mlp_bias": false, "model_type": "phi3",
        "num_attention_heads": 24, "num_hidden_layers": 32, "num_key_value_heads": 8,
        "original_max_position_embeddings": 4096, "partial_rotary_factor": 0.75,
        "rms_norm_eps": 1e-05,
        "rope_scaling": {"long_factor": vec![1.25; 48], "short_factor": vec![1.0; 48],
            "type": "longrope"},
        "rope_theta": 10000.0, "sliding_window": 262144, "tie_word_embeddings": true,
        "vocab_size": 200064
    });
    let config = read_with(&published, false).unwrap();
    assert_eq!((config.head_dim, config.rope.dims), (128, 96));
    assert!(config.tied_embeddings);
    assert_eq!(config.rope.frequencies().len(), 48);
    // In a file of transformers 5.
    let mut newer = published.clone();
    let mut parameters = newer["rope_scaling"].take();
    parameters["rope_type"] = json!("longrope");
    parameters["partial_rotary_factor"] = newer["partial_rotary_factor"].take();
    parameters["original_max_position_embeddings"] = json!(4096);
    parameters["rope_theta"] = newer["rope_theta"].take();
    newer["rope_parameters"] = parameters;
    assert_eq!(read_with(&newer, false).unwrap(), config);
    for wrong in [1.5, 0.001, 0.758] {
        let error = error(&published, "partial_rotary_factor", json!(wrong));
        assert!(error.contains("partial_rotary_factor"), "{error}");
    }
}

use serde_json::{Value as Json, json};

use super::{error, every_other_slides, read, read_with};
use crate::{Activation, Family, RopeScaling};

#[test]
fn gemma_2_2b() {
    let published = json!({
        "architectures": ["Gemma2ForCausalLM"], "attention_bias": false,
        "attn_logit_softcapping": 50.0, "bos_token_id": 2, "cache_implementation": "hybrid",
        "eos_token_id": 1, "final_logit_softcapping": 30.0, "head_dim": 256,
        "hidden_act": "gelu_pytorch_tanh", "hidden_activation": "gelu_pytorch_tanh",
        "hidden_size": 2304, "intermediate_size": 9216, "max_position_embeddings": 8192,
        "model_type": "gemma2", "num_attention_heads": 8, "num_hidden_layers": 26,
        "num_key_value_heads": 4, "pad_token_id": 0, "query_pre_attn_scalar": 256,
        "rms_norm_eps": 1e-06, "rope_theta": 10000.0, "sliding_window": 4096,
        "torch_dtype": "float32", "vocab_size": 256000
    });
    let config = read(&published);
    assert_eq!(config.family, Family::Gemma2);
    assert_eq!(
        (config.score_cap, config.logit_cap),
        (Some(50.0), Some(30.0))
    );
    assert_eq!((config.embedding_scale, config.score_scale), (48.0, 0.0625));
    assert_eq!(config.activation, Activation::GeluTanh);
    assert!(config.post_norms && !config.qk_norm && config.norm_offset == 1.0);
    // Even with an output head in the files.
    assert!(config.tied_embeddings);
    every_other_slides(&config, 2, 4096);
    assert!(config.rope_of(0) == Some(&config.rope) && config.local_rope.is_none());

    let mut large = published.clone();
    large["query_pre_attn_scalar"] = json!(144);
    assert_eq!(read(&large).score_scale, 1.0 / 12.0);
    let error = error(&published, "hidden_activation", json!("silu"));
    assert!(error.contains("hidden_activation"), "{error}");
}

#[test]
fn gemma_3_1b() {
    let published = json!({
        "architectures": ["Gemma3ForCausalLM"], "attention_bias": false,
        "attn_logit_softcapping": null, "bos_token_id": 2, "eos_token_id": [1, 106],
        "final_logit_softcapping": null, "head_dim": 256, "hidden_activation": "gelu_pytorch_tanh",
        "hidden_size": 1152, "intermediate_size": 6912, "max_position_embeddings": 32768,
        "model_type": "gemma3_text", "num_attention_heads": 4, "num_hidden_layers": 26,
        "num_key_value_heads": 1, "query_pre_attn_scalar": 256, "rms_norm_eps": 1e-06,
        "rope_local_base_freq": 10000, "rope_scaling": null, "rope_theta": 1000000,
        "sliding_window": 512, "sliding_window_pattern": 6, "vocab_size": 262144
    });
    let config = read_with(&published, false).unwrap();
    assert_eq!(config.family, Family::Gemma3);
    every_other_slides(&config, 6, 512);
    let theta = |layer| config.rope_of(layer).unwrap().theta;
    assert_eq!((theta(0), theta(5)), (10_000.0, 1_000_000.0));
    // The root of 1152 is 33.94; a bf16 has seven bits after the first.
    assert_eq!((config.embedding_scale, config.score_scale), (34.0, 0.0625));
    assert!(config.qk_norm && config.post_norms && config.norm_offset == 1.0);
    assert_eq!((config.score_cap, config.logit_cap), (None, None));
    assert!(config.tied_embeddings && !read(&published).tied_embeddings);
}

/// Almost everything is left out of this file.
#[test]
fn gemma_3_4b() {
    let published = json!({
        "architectures": ["Gemma3ForConditionalGeneration"], "boi_token_index": 255999,
        "eoi_token_index": 256000, "eos_token_id": [1, 106], "image_token_index": 262144,
        "initializer_range": 0.02, "mm_tokens_per_image": 256, "model_type": "gemma3",
        "text_config": {"hidden_size": 2560, "intermediate_size": 10240,
            "model_type": "gemma3_text", "num_hidden_layers": 34,
            "rope_scaling": {"factor": 8.0, "rope_type": "linear"}, "sliding_window": 1024},
        "torch_dtype": "bfloat16", "vision_config": {"hidden_size": 1152, "image_size": 896}
    });
    let config = read_with(&published, false).unwrap();
    assert_eq!(
        (config.layers, config.hidden, config.vocab),
        (34, 2560, 262_208)
    );
    assert_eq!(
        (config.heads, config.kv_heads, config.head_dim),
        (8, 4, 256)
    );
    assert_eq!(
        (config.context, config.eos.clone()),
        (131_072, vec![1, 106])
    );
    every_other_slides(&config, 6, 1024);
    let scaling = |layer| config.rope_of(layer).unwrap().scaling.clone();
    assert_eq!(scaling(5), RopeScaling::Linear { factor: 8.0 });
    assert_eq!(scaling(4), RopeScaling::None);

    // As transformers 5 writes it.
    let mut newer = published;
    newer["text_config"]["rope_scaling"] = Json::Null;
    newer["text_config"]["rope_parameters"] = json!({
        "full_attention": {"factor": 8.0, "rope_theta": 1e6, "rope_type": "linear"},
        "sliding_attention": {"rope_theta": 1e4, "rope_type": "default"},
    });
    let mut types = vec!["sliding_attention"; 34];
    types
        .iter_mut()
        .skip(5)
        .step_by(6)
        .for_each(|kind| *kind = "full_attention");
    newer["text_config"]["layer_types"] = json!(types);
    assert_eq!(read_with(&newer, false).unwrap(), config);
}

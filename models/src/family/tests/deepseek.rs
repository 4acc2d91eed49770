use serde_json::{Value as Json, json};

use super::{error, read, read_with};
use crate::{Experts, Family, LatentAttention, RopeLayout, Scoring};

pub(super) fn deepseek_v2_lite() -> Json {
    json!({
        "architectures": ["DeepseekV2ForCausalLM"], "attention_bias": false,
        "aux_loss_alpha": 0.001, "bos_token_id": 100000, "eos_token_id": 100001,
        "first_k_dense_replace": 1, "hidden_act": "silu", "hidden_size": 2048,
        "intermediate_size": 10944, "kv_lora_rank": 512, "max_position_embeddings": 163840,
        "model_type": "deepseek_v2", "moe_intermediate_size": 1408, "moe_layer_freq": 1,
        "n_group": 1, "n_routed_experts": 64, "n_shared_experts": 2, "norm_topk_prob": false,
        "num_attention_heads": 16, "num_experts_per_tok": 6, "num_hidden_layers": 27,
        "num_key_value_heads": 16, "q_lora_rank": null, "qk_nope_head_dim": 128,
        "qk_rope_head_dim": 64, "rms_norm_eps": 1e-06,
        "rope_scaling": {"beta_fast": 32, "beta_slow": 1, "factor": 40, "mscale": 0.707,
            "mscale_all_dim": 0.707, "original_max_position_embeddings": 4096, "type": "yarn"},
        "rope_theta": 10000, "routed_scaling_factor": 1.0, "scoring_func": "softmax",
        "seq_aux": true, "tie_word_embeddings": false, "topk_group": 1, "topk_method": "greedy",
        "v_head_dim": 128, "vocab_size": 102400
    })
}

#[test]
fn deepseek_v2_lite_and_its_larger_brother() {
    let config = read(&deepseek_v2_lite());
    let latent = LatentAttention {
        query_rank: None,
        kv_rank: 512,
        plain_dim: 128,
        rope_dim: 64,
        value_dim: 128,
        norm_eps: 1e-6,
    };
    assert_eq!(
        (config.family, config.latent),
        (Family::DeepSeek2, Some(latent))
    );
    assert_eq!((config.head_dim, config.kv_heads), (192, 16));
    assert_eq!(
        (config.rope.dims, config.rope.layout),
        (64, RopeLayout::Interleaved)
    );
    let experts = Experts {
        count: 64,
        active: 6,
        intermediate: 1408,
        shared_intermediate: 2816,
        scoring: Scoring::Softmax,
        choice_bias: false,
        groups: 1,
        active_groups: 1,
        group_by_two: false,
        normalise: false,
        scale: 1.0,
    };
    assert_eq!(config.experts, Some(experts));
    let dense: Vec<_> = (0..27).filter(|&l| !config.layer_kind(l).experts).collect();
    assert_eq!(dense, [0]);
    let magnitude = 0.1 * 0.707 * 40_f64.ln() + 1.0;
    let expected = magnitude * magnitude / 192_f64.sqrt();
    assert!((f64::from(config.score_scale) - expected).abs() < 1e-8);
    assert_eq!(config.rope.magnitude(), 1.0);

    let mut large = deepseek_v2_lite();
    large["topk_method"] = json!("group_limited_greedy");
    for (field, value) in [
        ("n_group", 8),
        ("topk_group", 3),
        ("n_routed_experts", 160),
        ("routed_scaling_factor", 16),
        ("q_lora_rank", 1536),
    ] {
        large[field] = json!(value);
    }
    large["rope_scaling"]["mscale_all_dim"] = json!(0);
    let config = read(&large);
    let experts = config.experts.unwrap();
    assert_eq!(
        (experts.groups, experts.active_groups, experts.scale),
        (8, 3, 16.0)
    );
    assert!(!experts.group_by_two && !experts.normalise);
    assert_eq!(config.latent.unwrap().query_rank, Some(1536));
    assert_eq!(config.score_scale, 192_f32.sqrt().recip());
    assert_eq!(config.rope.magnitude(), magnitude as f32);

    let lite = deepseek_v2_lite();
    for (field, wrong) in [
        ("topk_method", json!("noaux_tc")),
        ("attention_bias", json!(true)),
        ("qk_rope_head_dim", json!(63)),
        ("n_group", json!(7)),
        ("num_experts_per_tok", json!(65)),
        ("kv_lora_rank", json!(0)),
    ] {
        let error = error(&lite, field, wrong);
        assert!(error.contains(field), "{error}");
    }
}

#[test]
fn deepseek_v3() {
    let mut published = deepseek_v2_lite();
    let larger = json!({
        "model_type": "deepseek_v3", "first_k_dense_replace": 3, "hidden_size": 7168,
        "intermediate_size": 18432, "moe_intermediate_size": 2048, "n_group": 8,
        "n_routed_experts": 256, "n_shared_experts": 1, "norm_topk_prob": true,
        "num_attention_heads": 128, "num_experts_per_tok": 8, "num_hidden_layers": 61,
        "num_key_value_heads": 128, "num_nextn_predict_layers": 1, "q_lora_rank": 1536,
        "routed_scaling_factor": 2.5, "scoring_func": "sigmoid", "topk_group": 4,
        "topk_method": "noaux_tc", "vocab_size": 129280, "bos_token_id": 0, "eos_token_id": 1,
        "rms_norm_eps": 1e-05,
    });
    published
        .as_object_mut()
        .unwrap()
        .extend(larger.as_object().unwrap().clone());
    published["rope_scaling"]["mscale"] = json!(1.0);
    published["rope_scaling"]["mscale_all_dim"] = json!(1.0);
    let config = read(&published);
    let experts = Experts {
        count: 256,
        active: 8,
        intermediate: 2048,
        shared_intermediate: 2048,
        scoring: Scoring::Sigmoid,
        choice_bias: true,
        groups: 8,
        active_groups: 4,
        group_by_two: true,
        normalise: true,
        scale: 2.5,
    };
    assert_eq!(
        (config.family, config.experts),
        (Family::DeepSeek3, Some(experts))
    );
    // The norms inside do not follow the others.
    assert_eq!(
        (config.norm_eps, config.latent.unwrap().norm_eps),
        (1e-5, 1e-6)
    );
    assert_eq!(
        config
            .layer_kinds
            .iter()
            .filter(|kind| kind.experts)
            .count(),
        58
    );

    for (field, wrong) in [
        ("topk_method", json!("greedy")),
        ("scoring_func", json!("softmax")),
        (
            "quantization_config",
            json!({"quant_method": "fp8", "fmt": "e4m3"}),
        ),
    ] {
        let error = error(&published, field, wrong);
        assert!(error.contains(field), "{error}");
    }
    let mut alone = published.clone();
    (alone["n_group"], alone["topk_group"]) = (json!(256), json!(256));
    let error = read_with(&alone, true).unwrap_err().to_string();
    assert!(error.contains("groups of two experts"), "{error}");

    published["num_experts_per_tok"] = json!(1);
    assert!(!read(&published).experts.unwrap().normalise);
    published.as_object_mut().unwrap().remove("q_lora_rank");
    assert_eq!(read(&published).latent.unwrap().query_rank, Some(1536));
}

//! Configurations that say something else than the weights, or nothing that could be.

use crate::{CONFIG, FILE, check, float};
use serde_json::{Value, json};

#[test]
fn configurations_that_lie() {
    check(
        "llama",
        4,
        &[
            ("no JSON object", |f| f.config = json!([1, 2]), &[CONFIG]),
            (
                "unknown family",
                |f| f.config["model_type"] = json!("mamba"),
                &[CONFIG, "mamba", "gemma3"],
            ),
            (
                "no family",
                |f| f.config["model_type"] = Value::Null,
                &[CONFIG, "model_type"],
            ),
            (
                "fewer layers",
                |f| f.config["num_hidden_layers"] = json!(3),
                &["4", "3"],
            ),
            (
                "no layers",
                |f| f.config["num_hidden_layers"] = json!(0),
                &[CONFIG, "num_hidden_layers"],
            ),
            (
                "layers without end",
                |f| f.config["num_hidden_layers"] = json!(1u64 << 60),
                &[CONFIG, "num_hidden_layers"],
            ),
            (
                "half a layer",
                |f| f.config["num_hidden_layers"] = json!(3.5),
                &[CONFIG, "num_hidden_layers"],
            ),
            (
                "wider",
                |f| f.config["hidden_size"] = json!(64),
                &[FILE, "64"],
            ),
            (
                "no width",
                |f| f.config["hidden_size"] = json!(-32),
                &[CONFIG, "hidden_size"],
            ),
            (
                "huge width",
                |f| f.config["hidden_size"] = json!(u64::MAX),
                &[CONFIG, "hidden_size"],
            ),
            (
                "more heads",
                |f| f.config["num_attention_heads"] = json!(8),
                &[FILE, "q_proj"],
            ),
            (
                "three heads",
                |f| f.config["num_attention_heads"] = json!(3),
                &[CONFIG, "num_key_value_heads"],
            ),
            (
                "no heads",
                |f| f.config["num_attention_heads"] = json!(0),
                &[CONFIG, "num_attention_heads"],
            ),
            (
                "more KV heads",
                |f| f.config["num_key_value_heads"] = json!(4),
                &[FILE, "k_proj"],
            ),
            (
                "odd heads",
                |f| f.config["head_dim"] = json!(15),
                &[CONFIG, "head_dim"],
            ),
            (
                "other heads",
                |f| f.config["head_dim"] = json!(8),
                &[FILE, "q_proj"],
            ),
            (
                "more words",
                |f| f.config["vocab_size"] = json!(129),
                &[FILE, "128", "129"],
            ),
            (
                "fewer words",
                |f| f.config["vocab_size"] = json!(100),
                &[FILE, "128", "100"],
            ),
            (
                "words as text",
                |f| f.config["vocab_size"] = json!("many"),
                &[CONFIG, "vocab_size"],
            ),
            (
                "wider feed-forward",
                |f| f.config["intermediate_size"] = json!(57),
                &[FILE, "57"],
            ),
            (
                "biases that are none",
                |f| f.config["attention_bias"] = json!(true),
                &["bias"],
            ),
            (
                "no epsilon",
                |f| f.config["rms_norm_eps"] = json!(-1.0),
                &[CONFIG, "rms_norm_eps"],
            ),
            (
                "no base",
                |f| f.config["rope_theta"] = json!(0.0),
                &[CONFIG, "rope_theta"],
            ),
            (
                "unknown scaling",
                |f| f.config["rope_scaling"] = json!({"rope_type": "new"}),
                &[CONFIG, "new"],
            ),
            (
                "scaling by nothing",
                |f| f.config["rope_scaling"]["factor"] = json!(0.0),
                &[CONFIG, "factor"],
            ),
            (
                "scaling without its fields",
                |f| f.config["rope_scaling"] = json!({"type": "linear"}),
                &[CONFIG, "factor"],
            ),
            (
                "no positions",
                |f| f.config["max_position_embeddings"] = json!(0),
                &[CONFIG, "max_position_embeddings"],
            ),
            (
                "end outside",
                |f| f.config["eos_token_id"] = json!(128),
                &[CONFIG, "eos_token_id"],
            ),
            (
                "another activation",
                |f| f.config["hidden_act"] = json!("relu2"),
                &[CONFIG, "relu2"],
            ),
        ],
    );
    check(
        "llama",
        5,
        &[(
            "more layers",
            |f| f.config["num_hidden_layers"] = json!(5),
            &[FILE, "model.layers.4"],
        )],
    );
}

#[test]
fn experts_that_lie() {
    check(
        "qwen3_moe",
        4,
        &[
            (
                "more experts",
                |f| f.config["num_experts"] = json!(7),
                &[FILE, "mlp"],
            ),
            (
                "fewer experts",
                |f| f.config["num_experts"] = json!(5),
                &[FILE, "mlp.gate"],
            ),
            ("no experts", |f| f.config["num_experts"] = json!(0), &[]),
            (
                "more in use than there are",
                |f| f.config["num_experts_per_tok"] = json!(9),
                &[CONFIG, "num_experts_per_tok"],
            ),
            (
                "none in use",
                |f| f.config["num_experts_per_tok"] = json!(0),
                &[CONFIG, "num_experts_per_tok"],
            ),
            (
                "wider experts",
                |f| f.config["moe_intermediate_size"] = json!(32),
                &[FILE, "experts.0"],
            ),
            (
                "experts without end",
                |f| f.config["num_experts"] = json!(1u64 << 40),
                &[CONFIG, "num_experts"],
            ),
            (
                "an expert that is no number",
                |f| {
                    f.tensor("model.layers.3.mlp.experts.4.up_proj.weight", |e| {
                        float(e, 9, f32::NAN)
                    });
                },
                &[FILE, "model.layers.3.mlp.experts.4.up_proj.weight"],
            ),
            (
                "an expert less",
                |f| {
                    f.tensors(|t| {
                        t.remove("model.layers.3.mlp.experts.4.up_proj.weight");
                    })
                },
                &[FILE, "model.layers.3.mlp.experts.4.up_proj.weight"],
            ),
            (
                "dense layers without their weights",
                |f| f.config["mlp_only_layers"] = json!([0]),
                &[FILE, "mlp.gate_proj"],
            ),
        ],
    );
    check(
        "deepseek_v3",
        4,
        &[
            (
                "groups that do not divide",
                |f| f.config["n_group"] = json!(3),
                &[CONFIG, "n_group"],
            ),
            (
                "more groups than there are",
                |f| f.config["topk_group"] = json!(5),
                &[CONFIG, "topk_group"],
            ),
            (
                "another rank",
                |f| f.config["kv_lora_rank"] = json!(25),
                &[FILE, "kv_"],
            ),
            (
                "another way to choose",
                |f| f.config["topk_method"] = json!("best"),
                &[CONFIG, "best"],
            ),
        ],
    );
}

"""The checkpoints: what each one's config.json says, and what is special about its files.

The configurations have the fields, and the spelling, of the hub's: only the numbers are small.
"""

from dataclasses import dataclass, field


@dataclass
class Checkpoint:
    name: str
    config: dict
    # How floats are stored.
    dtype: str = "float32"
    # Bits, group, and packings of single modules: quantised by mlx-lm as mlx-community does it.
    packing: tuple | None = None
    others: dict = field(default_factory=dict)
    # Layers that have a window although mlx-lm leaves it out, and how wide it is.
    windows: tuple | None = None
    # Tensors that are in some of the hub's files and mean nothing.
    extra: dict = field(default_factory=dict)
    # Fields of config.json without which the golden values must be others.
    matters: dict = field(default_factory=dict)


VOCAB = 128


def base(model_type, architecture, /, **more):
    """What all have."""
    return {
        "architectures": [architecture],
        "model_type": model_type,
        "hidden_size": 32,
        "intermediate_size": 56,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-05,
        "vocab_size": VOCAB,
        "initializer_range": 0.02,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "attention_dropout": 0.0,
        "use_cache": True,
        "torch_dtype": "float32",
        "transformers_version": "4.51.0",
    } | more


def llama(**more):
    return base(
        "llama",
        "LlamaForCausalLM",
        **{
            "head_dim": 16,
            "attention_bias": False,
            "mlp_bias": False,
            "hidden_act": "silu",
            "pretraining_tp": 1,
            "rope_scaling": None,
            "rope_theta": 10000.0,
            "tie_word_embeddings": False,
        }
        | more,
    )


def smollm3(**more):
    return base(
        "smollm3",
        "SmolLM3ForCausalLM",
        attention_bias=False,
        mlp_bias=False,
        hidden_act="silu",
        layer_types=["full_attention"] * 4,
        no_rope_layer_interval=4,
        no_rope_layers=[1, 1, 1, 0],
        pretraining_tp=2,
        rope_scaling=None,
        rope_theta=5000000.0,
        sliding_window=None,
        use_sliding_window=False,
        tie_word_embeddings=True,
        **more,
    )


def mistral(**more):
    return base(
        "mistral",
        "MistralForCausalLM",
        **{
            "head_dim": 16,
            "hidden_act": "silu",
            "rope_theta": 1000000.0,
            "sliding_window": None,
            "tie_word_embeddings": False,
        }
        | more,
    )


def qwen2(**more):
    return base(
        "qwen2",
        "Qwen2ForCausalLM",
        **{
            "hidden_act": "silu",
            "max_window_layers": 2,
            "rms_norm_eps": 1e-06,
            "rope_theta": 1000000.0,
            "sliding_window": 8,
            "use_sliding_window": False,
            "tie_word_embeddings": False,
        }
        | more,
    )


def qwen3(**more):
    return base(
        "qwen3",
        "Qwen3ForCausalLM",
        **{
            "head_dim": 16,
            "attention_bias": False,
            "hidden_act": "silu",
            "max_window_layers": 4,
            "rms_norm_eps": 1e-06,
            "rope_scaling": None,
            "rope_theta": 1000000,
            "sliding_window": None,
            "use_sliding_window": False,
            "tie_word_embeddings": True,
        }
        | more,
    )


def gemma2(**more):
    return base(
        "gemma2",
        "Gemma2ForCausalLM",
        **{
            "head_dim": 16,
            "attention_bias": False,
            "attn_logit_softcapping": 10.0,
            "final_logit_softcapping": 30.0,
            "cache_implementation": "hybrid",
            "hidden_act": "gelu_pytorch_tanh",
            "hidden_activation": "gelu_pytorch_tanh",
            "pad_token_id": 0,
            "query_pre_attn_scalar": 24,
            "rms_norm_eps": 1e-06,
            "rope_theta": 10000.0,
            "sliding_window": 1024,
        }
        | more,
    )


def gemma3_text(**more):
    return base(
        "gemma3_text",
        "Gemma3ForCausalLM",
        **{
            # Not a square: its root is rounded where embeddings are multiplied by it.
            "hidden_size": 40,
            "head_dim": 16,
            "num_hidden_layers": 7,
            "attention_bias": False,
            "attn_logit_softcapping": None,
            "final_logit_softcapping": None,
            "cache_implementation": "hybrid",
            "hidden_activation": "gelu_pytorch_tanh",
            "pad_token_id": 0,
            "query_pre_attn_scalar": 20,
            "rms_norm_eps": 1e-06,
            "rope_local_base_freq": 10000,
            "rope_scaling": None,
            "rope_theta": 1000000,
            "sliding_window": 8,
            "sliding_window_pattern": 6,
        }
        | more,
    )


def gemma3():
    text = gemma3_text(
        hidden_size=32,
        model_type="gemma3_text",
        rope_scaling={"factor": 8.0, "rope_type": "linear"},
    )
    for key in ["architectures", "eos_token_id", "bos_token_id", "pad_token_id", "torch_dtype"]:
        text.pop(key)
    return {
        "architectures": ["Gemma3ForConditionalGeneration"],
        "boi_token_index": 100,
        "eoi_token_index": 101,
        "eos_token_id": [1, 106],
        "image_token_index": 102,
        "initializer_range": 0.02,
        "mm_tokens_per_image": 256,
        "model_type": "gemma3",
        "text_config": text,
        "torch_dtype": "bfloat16",
        "transformers_version": "4.50.0.dev0",
        "vision_config": {"hidden_size": 16, "model_type": "siglip_vision_model"},
        "vocab_size": VOCAB,
    }


def phi3(**more):
    return base(
        "phi3",
        "Phi3ForCausalLM",
        **{
            "hidden_size": 64,
            "attention_bias": False,
            "embd_pdrop": 0.0,
            "hidden_act": "silu",
            "original_max_position_embeddings": 2048,
            "pad_token_id": 0,
            "resid_pdrop": 0.0,
            "rope_scaling": None,
            "rope_theta": 10000.0,
            "sliding_window": 2047,
            "tie_word_embeddings": False,
        }
        | more,
    )


def phi4_mini():
    return phi3(
        full_attn_mod=1,
        interpolate_factor=1,
        lm_head_bias=False,
        mlp_bias=False,
        original_max_position_embeddings=32,
        torch_dtype="bfloat16",
        partial_rotary_factor=0.75,
        rope_scaling={
            "long_factor": [1.0, 1.118320672, 1.2, 2.3, 5.5, 9.1],
            "short_factor": [1.0, 1.0, 1.0, 1.05, 1.1, 1.15],
            "type": "longrope",
        },
        sliding_window=262144,
        tie_word_embeddings=True,
    )


def qwen3_moe(**more):
    return base(
        "qwen3_moe",
        "Qwen3MoeForCausalLM",
        **{
            "head_dim": 16,
            "attention_bias": False,
            "decoder_sparse_step": 1,
            "hidden_act": "silu",
            "max_window_layers": 4,
            "mlp_only_layers": [],
            "moe_intermediate_size": 16,
            "norm_topk_prob": True,
            "num_experts": 6,
            "num_experts_per_tok": 3,
            "output_router_logits": False,
            "rms_norm_eps": 1e-06,
            "rope_scaling": None,
            "rope_theta": 1000000.0,
            "router_aux_loss_coef": 0.001,
            "sliding_window": None,
            "use_sliding_window": False,
            "tie_word_embeddings": False,
        }
        | more,
    )


def deepseek_v2(**more):
    return base(
        "deepseek_v2",
        "DeepseekV2ForCausalLM",
        **{
            "attention_bias": False,
            "aux_loss_alpha": 0.001,
            "ep_size": 1,
            "first_k_dense_replace": 1,
            "hidden_act": "silu",
            "kv_lora_rank": 24,
            "moe_intermediate_size": 16,
            "moe_layer_freq": 1,
            "n_group": 1,
            "n_routed_experts": 8,
            "n_shared_experts": 2,
            "norm_topk_prob": False,
            "num_experts_per_tok": 3,
            "num_key_value_heads": 4,
            "q_lora_rank": None,
            "qk_nope_head_dim": 16,
            "qk_rope_head_dim": 8,
            "rms_norm_eps": 1e-06,
            "rope_scaling": {
                "beta_fast": 32,
                "beta_slow": 1,
                "factor": 40,
                "mscale": 0.707,
                "mscale_all_dim": 0.707,
                "original_max_position_embeddings": 64,
                "type": "yarn",
            },
            "rope_theta": 10000,
            "routed_scaling_factor": 1.0,
            "scoring_func": "softmax",
            "seq_aux": True,
            "tie_word_embeddings": False,
            "topk_group": 1,
            "topk_method": "greedy",
            "v_head_dim": 12,
        }
        | more,
    )


def deepseek_v3(**more):
    config = deepseek_v2(
        architectures=["DeepseekV3ForCausalLM"],
        model_type="deepseek_v3",
        n_group=4,
        n_shared_experts=1,
        norm_topk_prob=True,
        num_nextn_predict_layers=1,
        q_lora_rank=20,
        routed_scaling_factor=2.5,
        scoring_func="sigmoid",
        topk_group=2,
        topk_method="noaux_tc",
    )
    config["rope_scaling"] |= {"mscale": 1.0, "mscale_all_dim": 1.0}
    config.pop("aux_loss_alpha"), config.pop("seq_aux")
    return config | more


def packable(make, width=64, **more):
    """Rows that groups of `width` divide."""
    more = {"hidden_size": width, "head_dim": width // 4, "intermediate_size": width} | more
    return make(torch_dtype="bfloat16", **more)


LLAMA3 = {
    "factor": 8.0,
    "high_freq_factor": 4.0,
    "low_freq_factor": 1.0,
    "original_max_position_embeddings": 64,
    "rope_type": "llama3",
}

UNSCALED = {"rope_scaling": None}


def groups(**more):
    """DeepSeek 2 as the large one is: compressed queries, groups of experts."""
    return deepseek_v2(
        n_group=4,
        q_lora_rank=20,
        routed_scaling_factor=4.0,
        topk_group=2,
        topk_method="group_limited_greedy",
        **more,
    )


def yarn_magnitude():
    config = groups(torch_dtype="bfloat16")
    config["rope_scaling"] |= {"mscale": 1.0, "mscale_all_dim": 0.5}
    return config


CHECKPOINTS = [
    Checkpoint(
        "llama",
        llama(rope_scaling=LLAMA3, rope_theta=500000.0, eos_token_id=[2, 5, 7]),
        matters=UNSCALED | {"rms_norm_eps": 1e-6},
    ),
    Checkpoint(
        "llama-bf16",
        llama(rope_scaling=LLAMA3, rope_theta=500000.0, torch_dtype="bfloat16"),
        dtype="bfloat16",
        matters=UNSCALED,
    ),
    Checkpoint(
        "llama-f16",
        llama(torch_dtype="float16", num_key_value_heads=4),
        dtype="float16",
    ),
    Checkpoint(
        "llama-biases",
        llama(attention_bias=True, mlp_bias=True, torch_dtype="bfloat16"),
        dtype="bfloat16",
        # Old files carry what is computed from rope_theta.
        extra={f"model.layers.{n}.self_attn.rotary_emb.inv_freq": (8,) for n in range(4)},
    ),
    Checkpoint(
        "llama-tied-linear",
        llama(rope_scaling={"factor": 4.0, "type": "linear"}, tie_word_embeddings=True, torch_dtype="bfloat16"),
        dtype="bfloat16",
        # Some tied files carry a head all the same; the embedding is meant.
        extra={"lm_head.weight": (VOCAB, 32)},
        matters=UNSCALED,
    ),
    Checkpoint(
        "smollm3",
        smollm3(hidden_size=48, torch_dtype="bfloat16"),
        dtype="bfloat16",
        matters={"no_rope_layers": [1, 1, 1, 1]},
    ),
    Checkpoint("mistral", mistral(torch_dtype="bfloat16"), dtype="bfloat16"),
    Checkpoint(
        "mistral-window",
        mistral(sliding_window=8, rope_theta=10000.0, torch_dtype="bfloat16"),
        dtype="bfloat16",
        windows=((0, 1, 2, 3), 8),
    ),
    Checkpoint("qwen2", qwen2(hidden_size=48)),
    Checkpoint(
        "qwen2-tied",
        qwen2(hidden_size=48, tie_word_embeddings=True, torch_dtype="bfloat16"),
        dtype="bfloat16",
    ),
    Checkpoint("qwen3", qwen3()),
    Checkpoint(
        "qwen3-untied",
        qwen3(tie_word_embeddings=False, torch_dtype="bfloat16", head_dim=24),
        dtype="bfloat16",
    ),
    Checkpoint(
        "gemma2",
        gemma2(),
        matters={
            "attn_logit_softcapping": 50.0,
            "final_logit_softcapping": 50.0,
            "query_pre_attn_scalar": 16,
        },
    ),
    Checkpoint(
        "gemma2-window",
        gemma2(sliding_window=8, torch_dtype="bfloat16"),
        dtype="bfloat16",
        windows=((0, 2), 8),
    ),
    Checkpoint(
        "gemma3_text",
        gemma3_text(torch_dtype="bfloat16"),
        dtype="bfloat16",
        matters={
            "sliding_window": 9,
            "sliding_window_pattern": 7,
            "rope_theta": 10000,
            "rope_local_base_freq": 1000000,
            "query_pre_attn_scalar": 16,
        },
    ),
    Checkpoint("gemma3", gemma3(), dtype="bfloat16"),
    Checkpoint("phi3", phi3(hidden_size=48, torch_dtype="bfloat16"), dtype="bfloat16"),
    Checkpoint(
        "phi3-longrope",
        phi4_mini(),
        dtype="bfloat16",
        matters=UNSCALED | {"max_position_embeddings": 1024},
    ),
    Checkpoint(
        "qwen3_moe",
        qwen3_moe(),
        matters={"norm_topk_prob": False, "num_experts_per_tok": 2},
    ),
    Checkpoint(
        "qwen3_moe-dense-layer",
        qwen3_moe(mlp_only_layers=[2], norm_topk_prob=False, torch_dtype="bfloat16"),
        dtype="bfloat16",
    ),
    Checkpoint("deepseek_v2", deepseek_v2(torch_dtype="bfloat16"), dtype="bfloat16"),
    Checkpoint(
        "deepseek_v2-groups",
        yarn_magnitude(),
        dtype="bfloat16",
        matters={"topk_group": 4, "routed_scaling_factor": 1.0},
    ),
    Checkpoint(
        "deepseek_v3",
        deepseek_v3(torch_dtype="bfloat16"),
        dtype="bfloat16",
        # Predicts one more token in training; the first of its tensors stands for them all.
        extra={"model.layers.61.eh_proj.weight": (32, 64)},
        matters=UNSCALED | {"topk_group": 4, "norm_topk_prob": False},
    ),
    Checkpoint(
        "deepseek_v3-plain-rope",
        deepseek_v3(rope_scaling=None, torch_dtype="bfloat16", q_lora_rank=None),
        dtype="bfloat16",
    ),
    Checkpoint("llama-mlx-2bit-g32", packable(llama), "bfloat16", (2, 32)),
    Checkpoint("llama-mlx-3bit-g64", packable(llama), "bfloat16", (3, 64)),
    Checkpoint(
        "llama-mlx-4bit-g64",
        packable(llama, tie_word_embeddings=True, attention_bias=True),
        "bfloat16",
        (4, 64),
    ),
    Checkpoint("llama-mlx-6bit-g128", packable(llama, 128, num_hidden_layers=2), "float16", (6, 128)),
    Checkpoint("llama-mlx-8bit-g32", packable(llama), "bfloat16", (8, 32)),
    Checkpoint("qwen3-mlx-4bit-g128", packable(qwen3, 128), "bfloat16", (4, 128)),
    Checkpoint(
        "qwen3-mlx-mixed",
        packable(qwen3),
        "float32",
        (4, 64),
        others={
            "model.layers.0.mlp.down_proj": {"group_size": 32, "bits": 8},
            "model.layers.1.self_attn.v_proj": {"group_size": 64, "bits": 6},
            "model.layers.2.self_attn.q_proj": {"group_size": 32, "bits": 3},
            "model.layers.3.mlp.gate_proj": False,
            "model.embed_tokens": {"group_size": 64, "bits": 6},
        },
    ),
    Checkpoint(
        "qwen3_moe-mlx-4bit-g64",
        packable(qwen3_moe, moe_intermediate_size=64),
        "bfloat16",
        (4, 64),
    ),
    Checkpoint(
        "qwen3_moe-mlx-8bit-g32",
        packable(qwen3_moe, moe_intermediate_size=32, num_experts=4, mlp_only_layers=[1]),
        "bfloat16",
        (8, 32),
    ),
]

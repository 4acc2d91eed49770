"""Random weights under the names and in the shapes that the hub's files have.

What they are scaled to: queries and keys so that attention prefers some positions clearly, the
head so that logits have a spread of some units, norms around one and never one, biases that are
seen. A forward pass that leaves any of them out is then far away from the golden values.
"""

import zlib

import numpy as np


class Weights:
    """Tensors by name, drawn in order from one generator that the checkpoint's name seeds."""

    def __init__(self, name, config):
        self.random = np.random.default_rng(zlib.crc32(name.encode()))
        self.config = config
        self.tensors = {}
        self.hidden = config["hidden_size"]
        self.heads = config["num_attention_heads"]
        self.kv_heads = config["num_key_value_heads"]
        self.head_dim = config.get("head_dim") or self.hidden // self.heads

    def matrix(self, name, rows, cols, gain=1.0):
        """Keeps the size of what it is multiplied with, times `gain`."""
        values = self.random.standard_normal((rows, cols)) * (gain / cols**0.5)
        self.tensors[f"{name}.weight"] = values.astype(np.float32)

    def vector(self, name, length, mean=0.0, spread=0.3):
        values = mean + spread * self.random.standard_normal(length)
        self.tensors[name] = values.astype(np.float32)

    def norm(self, name, length=None, mean=1.0):
        self.vector(f"{name}.weight", length or self.hidden, mean=mean)

    def linear(self, name, rows, cols, bias=False, gain=1.0):
        self.matrix(name, rows, cols, gain)
        if bias:
            self.vector(f"{name}.bias", rows)

    def ends(self, prefix="", tied=False, norm_mean=1.0, tied_gain=0.4):
        """Embedding, last norm, and the output head unless it is the embedding."""
        vocab = self.config["vocab_size"]
        gain = tied_gain if tied else 0.05
        self.matrix(f"{prefix}model.embed_tokens", vocab, self.hidden, gain * self.hidden**0.5)
        self.norm(f"{prefix}model.norm", mean=norm_mean)
        if not tied:
            self.matrix(f"{prefix}lm_head", vocab, self.hidden, 3.0)

    def attention(self, layer, qkv_bias=False, output_bias=False, qk_norm=None, gain=1.4):
        """Separate projections. `qk_norm` is the mean of the norms of queries and keys."""
        at = f"{layer}.self_attn"
        queries, keys = self.heads * self.head_dim, self.kv_heads * self.head_dim
        self.linear(f"{at}.q_proj", queries, self.hidden, qkv_bias, gain)
        self.linear(f"{at}.k_proj", keys, self.hidden, qkv_bias, gain)
        self.linear(f"{at}.v_proj", keys, self.hidden, qkv_bias)
        self.linear(f"{at}.o_proj", self.hidden, queries, output_bias)
        if qk_norm is not None:
            self.norm(f"{at}.q_norm", self.head_dim, qk_norm)
            self.norm(f"{at}.k_norm", self.head_dim, qk_norm)

    def latent_attention(self, layer):
        """DeepSeek's: keys and values from one compressed vector."""
        at, config = f"{layer}.self_attn", self.config
        plain, turned = config["qk_nope_head_dim"], config["qk_rope_head_dim"]
        queries = self.heads * (plain + turned)
        if config["q_lora_rank"] is None:
            self.matrix(f"{at}.q_proj", queries, self.hidden, 1.4)
        else:
            self.matrix(f"{at}.q_a_proj", config["q_lora_rank"], self.hidden)
            self.norm(f"{at}.q_a_layernorm", config["q_lora_rank"])
            self.matrix(f"{at}.q_b_proj", queries, config["q_lora_rank"], 1.4)
        rank, values = config["kv_lora_rank"], config["v_head_dim"]
        self.matrix(f"{at}.kv_a_proj_with_mqa", rank + turned, self.hidden, 1.4)
        self.norm(f"{at}.kv_a_layernorm", rank)
        self.matrix(f"{at}.kv_b_proj", self.heads * (plain + values), rank)
        self.matrix(f"{at}.o_proj", self.hidden, self.heads * values)

    def mlp(self, at, intermediate, bias=False):
        self.linear(f"{at}.gate_proj", intermediate, self.hidden, bias, 1.5)
        self.linear(f"{at}.up_proj", intermediate, self.hidden, bias, 1.5)
        self.linear(f"{at}.down_proj", self.hidden, intermediate, bias, 1.5)

    def experts(self, at, count, intermediate):
        for expert in range(count):
            self.mlp(f"{at}.experts.{expert}", intermediate)
        self.matrix(f"{at}.gate", count, self.hidden, 1.5)

    def block_norms(self, layer):
        self.norm(f"{layer}.input_layernorm")
        self.norm(f"{layer}.post_attention_layernorm")


def layers(config, prefix=""):
    return [f"{prefix}model.layers.{n}" for n in range(config["num_hidden_layers"])]


def llama(w):
    """Llama, SmolLM 3, Mistral, Qwen 2, Qwen 3."""
    config, family = w.config, w.config["model_type"]
    bias = config.get("attention_bias", False)
    w.ends(tied=config["tie_word_embeddings"])
    for layer in layers(config):
        w.block_norms(layer)
        w.attention(
            layer,
            qkv_bias=bias or family == "qwen2",
            output_bias=bias,
            qk_norm=1.4 if family == "qwen3" else None,
        )
        w.mlp(f"{layer}.mlp", config["intermediate_size"], config.get("mlp_bias", False))


def gemma(w, prefix=""):
    """Gemma 2 and 3: their norms multiply by one more than their weights."""
    config = w.config
    # They multiply embeddings by the root of their width: small ones, so that layers count, and a
    # last norm that makes logits large enough for a cap.
    w.ends(prefix, tied=True, norm_mean=3.0, tied_gain=0.2)
    for layer in layers(config, prefix):
        for name in [
            "input_layernorm",
            "post_attention_layernorm",
            "pre_feedforward_layernorm",
            "post_feedforward_layernorm",
        ]:
            w.norm(f"{layer}.{name}", mean=0.3)
        if config["model_type"] == "gemma2":
            w.attention(layer, gain=2.0)
        else:
            w.attention(layer, qk_norm=0.6)
        w.mlp(f"{layer}.mlp", config["intermediate_size"])


def phi3(w):
    """Queries, keys and values in one tensor, gate and up in another."""
    config = w.config
    w.ends(tied=config["tie_word_embeddings"])
    for layer in layers(config):
        w.block_norms(layer)
        rows = (w.heads + 2 * w.kv_heads) * w.head_dim
        # longrope multiplies queries and keys besides.
        gain = 0.9 if config["rope_scaling"] else 1.4
        w.matrix(f"{layer}.self_attn.qkv_proj", rows, w.hidden, gain)
        w.matrix(f"{layer}.self_attn.o_proj", w.hidden, w.heads * w.head_dim)
        intermediate = config["intermediate_size"]
        w.matrix(f"{layer}.mlp.gate_up_proj", 2 * intermediate, w.hidden, 1.5)
        w.matrix(f"{layer}.mlp.down_proj", w.hidden, intermediate, 1.5)


def qwen3_moe(w):
    config = w.config
    w.ends(tied=config["tie_word_embeddings"])
    for n, layer in enumerate(layers(config)):
        w.block_norms(layer)
        w.attention(layer, qk_norm=1.4)
        if n in config["mlp_only_layers"]:
            w.mlp(f"{layer}.mlp", config["intermediate_size"])
        else:
            w.experts(f"{layer}.mlp", config["num_experts"], config["moe_intermediate_size"])


def deepseek(w):
    config = w.config
    w.ends(tied=False)
    for n, layer in enumerate(layers(config)):
        w.block_norms(layer)
        w.latent_attention(layer)
        if n < config["first_k_dense_replace"]:
            w.mlp(f"{layer}.mlp", config["intermediate_size"])
            continue
        count, width = config["n_routed_experts"], config["moe_intermediate_size"]
        w.experts(f"{layer}.mlp", count, width)
        w.mlp(f"{layer}.mlp.shared_experts", width * config["n_shared_experts"])
        if config["model_type"] == "deepseek_v3":
            # Positive, so that a masked group's zeros never win over what is left.
            name = f"{layer}.mlp.gate.e_score_correction_bias"
            w.vector(name, count)
            w.tensors[name] = np.abs(w.tensors[name])


FAMILIES = {
    "llama": llama,
    "smollm3": llama,
    "mistral": llama,
    "qwen2": llama,
    "qwen3": llama,
    "gemma2": gemma,
    "gemma3_text": gemma,
    "phi3": phi3,
    "qwen3_moe": qwen3_moe,
    "deepseek_v2": deepseek,
    "deepseek_v3": deepseek,
}


def random_weights(name, config):
    """The tensors of a checkpoint, by the names that the hub has."""
    if config["model_type"] == "gemma3":
        # The one with pictures: its text part lies deeper, in its configuration and its files.
        w = Weights(name, config["text_config"])
        gemma(w, "language_model.")
        w.matrix("vision_tower.vision_model.embeddings.position_embedding", 4, 16)
        w.tensors["multi_modal_projector.mm_input_projection_weight"] = np.ones((16, 8), np.float32)
        return w.tensors
    w = Weights(name, config)
    FAMILIES[config["model_type"]](w)
    return w.tensors

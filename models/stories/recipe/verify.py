"""Checks the exported files against the LlamaForCausalLM of transformers: chat template, token ids, greedy tokens, logits.

    python verify.py
"""
import argparse
import json
import os

import torch
from transformers import AutoTokenizer, LlamaForCausalLM

if __name__ == "__main__":
    ap = argparse.ArgumentParser()
    ap.add_argument("--model", default=os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
    args = ap.parse_args()
    model = LlamaForCausalLM.from_pretrained(args.model, dtype=torch.float32)
    tok = AutoTokenizer.from_pretrained(args.model)
    with open(os.path.join(args.model, "golden.json")) as f:
        golden = json.load(f)
    for p in golden["prompts"]:
        text = tok.apply_chat_template(p["messages"], tokenize=False, add_generation_prompt=True)
        ids = tok(text, add_special_tokens=False).input_ids
        assert text == p["prompt_text"] and ids == p["prompt_tokens"]
        with torch.no_grad():
            out = model(torch.tensor([ids + p["greedy_tokens"]])).logits[0]
        assert out[len(ids) - 1:-1].argmax(-1).tolist() == p["greedy_tokens"]
        worst = max(abs(a - b) for a, b in zip(out[len(ids) - 1, :8].tolist(), p["last_logits_first8"]))
        assert worst < 1e-3, worst
        top = out[len(ids) - 1:-1].topk(2).values
        print(f"ok: {len(ids)} prompt tokens, {len(p['greedy_tokens'])} greedy tokens, logits within {worst:.1e}, "
              f"smallest lead of a greedy token {float((top[:, 0] - top[:, 1]).min()):.3f}")

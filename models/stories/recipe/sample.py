"""Runs the exported model with a forward pass of its own, in plain numpy float32 (nothing shared with model.py).

    python sample.py "Tell me a story about a fox."          greedy
    python sample.py --temperature 0.7 "Who are you?"        sampled
    python sample.py --golden ../golden.json                 reference output for testing other engines
"""
import argparse
import json
import os

import jinja2
import numpy as np
from safetensors.numpy import load_file
from tokenizers import Tokenizer

GOLDEN = [
    [{"role": "user", "content": "Tell me a story about a brave little robot."}],
    [{"role": "user", "content": "Who are you?"}],
    [{"role": "system", "content": "You are a helpful assistant."}, {"role": "user", "content": "Tell me a story about a happy train."}],
]


class Engine:
    def __init__(self, folder):
        with open(os.path.join(folder, "config.json")) as f:
            self.c = json.load(f)
        self.w = {k: v.astype(np.float32) for k, v in load_file(os.path.join(folder, "model.safetensors")).items()}
        self.tok = Tokenizer.from_file(os.path.join(folder, "tokenizer.json"))
        with open(os.path.join(folder, "tokenizer_config.json")) as f:
            self.template = jinja2.Environment(trim_blocks=True, lstrip_blocks=True).from_string(json.load(f)["chat_template"])
        c = self.c
        inv = c["rope_theta"] ** (-np.arange(0, c["head_dim"], 2, dtype=np.float64) / c["head_dim"])
        angle = np.outer(np.arange(c["max_position_embeddings"]), inv)
        self.cos, self.sin = np.cos(angle).astype(np.float32)[:, None], np.sin(angle).astype(np.float32)[:, None]

    def prompt(self, messages):
        text = self.template.render(messages=messages, add_generation_prompt=True)
        return text, self.tok.encode(text, add_special_tokens=False).ids

    def norm(self, x, name):
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + np.float32(self.c["rms_norm_eps"])) * self.w[name]

    def rope(self, x, at):
        a, b = np.split(x, 2, -1)
        cos, sin = self.cos[at:at + len(x)], self.sin[at:at + len(x)]
        return np.concatenate([a * cos - b * sin, b * cos + a * sin], -1)

    def forward(self, ids, cache, at):
        """Logits after every one of ids, which stand at positions at, at + 1, ..."""
        c, w, t = self.c, self.w, len(ids)
        heads, kv, d = c["num_attention_heads"], c["num_key_value_heads"], c["head_dim"]
        x = w["model.embed_tokens.weight"][ids]
        for i in range(c["num_hidden_layers"]):
            p = f"model.layers.{i}."
            y = self.norm(x, p + "input_layernorm.weight")
            q = self.rope((y @ w[p + "self_attn.q_proj.weight"].T).reshape(t, heads, d), at)
            k = self.rope((y @ w[p + "self_attn.k_proj.weight"].T).reshape(t, kv, d), at)
            v = (y @ w[p + "self_attn.v_proj.weight"].T).reshape(t, kv, d)
            if i in cache:
                k, v = np.concatenate([cache[i][0], k]), np.concatenate([cache[i][1], v])
            cache[i] = k, v
            out = np.empty_like(q)
            for h in range(heads):
                g = h // (heads // kv)
                s = q[:, h] @ k[:, g].T / np.float32(np.sqrt(d))
                s[np.arange(len(k))[None] > at + np.arange(t)[:, None]] = -np.inf
                e = np.exp(s - s.max(-1, keepdims=True))
                out[:, h] = e / e.sum(-1, keepdims=True) @ v[:, g]
            x = x + out.reshape(t, -1) @ w[p + "self_attn.o_proj.weight"].T
            y = self.norm(x, p + "post_attention_layernorm.weight")
            gate = y @ w[p + "mlp.gate_proj.weight"].T
            x = x + (gate / (1 + np.exp(-gate)) * (y @ w[p + "mlp.up_proj.weight"].T)) @ w[p + "mlp.down_proj.weight"].T
        return self.norm(x, "model.norm.weight") @ w["model.embed_tokens.weight"].T

    def generate(self, messages, limit=300, temperature=0.0, rng=None, stop=True):
        text, ids = self.prompt(messages)
        cache, out = {}, []
        logits = self.forward(ids, cache, 0)[-1]
        first = logits
        while len(out) < limit and len(ids) + len(out) < self.c["max_position_embeddings"]:
            if temperature > 0:
                e = np.exp((logits - logits.max()) / temperature)
                n = int(rng.choice(len(e), p=e / e.sum()))
            else:
                n = int(logits.argmax())
            if stop and n == self.c["eos_token_id"]:
                break
            out.append(n)
            logits = self.forward([n], cache, len(ids) + len(out) - 1)[-1]
        return text, ids, out, first


if __name__ == "__main__":
    ap = argparse.ArgumentParser()
    ap.add_argument("prompts", nargs="*")
    ap.add_argument("--model", default=os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
    ap.add_argument("--temperature", type=float, default=0.0)
    ap.add_argument("--seed", type=int, default=0)
    ap.add_argument("--golden")
    args = ap.parse_args()
    engine, rng = Engine(args.model), np.random.default_rng(args.seed)
    for q in args.prompts:
        _, _, out, _ = engine.generate([{"role": "user", "content": q}], temperature=args.temperature, rng=rng)
        print(f"> {q}\n{engine.tok.decode(out)}\n")
    if args.golden:
        prompts = []
        for messages in GOLDEN:
            # 48 greedy tokens; a short answer stops with its <|im_end|> as the last token
            text, ids, out, first = engine.generate(messages, limit=48, stop=False)
            if engine.c["eos_token_id"] in out:
                out = out[:out.index(engine.c["eos_token_id"]) + 1]
            prompts.append({
                "messages": messages, "prompt_text": text, "prompt_tokens": ids, "greedy_tokens": out,
                "greedy_text": engine.tok.decode(out, skip_special_tokens=True), "last_logits_first8": [float(x) for x in first[:8]]})
        with open(args.golden, "w") as f:
            json.dump({"prompts": prompts}, f, indent=1)
            f.write("\n")

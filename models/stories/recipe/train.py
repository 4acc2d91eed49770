"""Trains the story model on a CPU (float32 weights, bfloat16 matrix products).

    python train.py --data data.jsonl --tokenizer out/tokenizer.json --minutes 40 --out run.pt

The loss counts only what the assistant says. A row of a batch begins at the start of a chat and goes on with the
chats that follow it, which also teaches the model chats of several turns. The learning rate follows the share of
--minutes that is used up, or of --steps if that is given (use --steps to train the same number of steps elsewhere).
"""
import argparse
import json
import math
import os
import time

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer

from model import Config, Llama


def encode(path, tok, limit):
    """All chats as one stream of ids, the loss mask, and where each chat begins."""
    cache = path + ".npz"
    if os.path.exists(cache) and os.path.getmtime(cache) > os.path.getmtime(path):
        z = np.load(cache)
        return z["ids"], z["mask"], z["starts"]
    s, e = tok.token_to_id("<|im_start|>"), tok.token_to_id("<|im_end|>")
    nl = tok.encode("\n").ids
    ids, mask, starts = [], [], []
    n = 0
    docs = [json.loads(line)["messages"] for _, line in zip(range(limit), open(path))]
    for i in range(0, len(docs), 10_000):
        part = docs[i:i + 10_000]
        flat = [m for d in part for m in d]
        enc = iter(tok.encode_batch([m["role"] + "\n" + m["content"] for m in flat]))
        for d in part:
            starts.append(n)
            for m in d:
                x = next(enc).ids
                head = len(tok.encode(m["role"] + "\n").ids) if m["role"] == "assistant" else 0
                row = [s] + x + [e] + nl
                keep = [0] * len(row)
                if head:  # the answer and its <|im_end|>
                    keep[1 + head:1 + len(x) + 1] = [1] * (len(x) - head + 1)
                ids.append(np.array(row, np.uint16))
                mask.append(np.array(keep, np.uint8))
                n += len(row)
    out = np.concatenate(ids), np.concatenate(mask), np.array(starts, np.int64)
    np.savez(cache, ids=out[0], mask=out[1], starts=out[2])
    return out


def newton_schulz(g):
    """The nearest (semi-)orthogonal matrix, roughly: the update direction of Muon."""
    x = (g / (g.norm() + 1e-7)).bfloat16()
    flip = x.shape[0] > x.shape[1]
    x = x.T if flip else x
    for _ in range(5):
        a = x @ x.T
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return (x.T if flip else x).float()


class Muon(torch.optim.Optimizer):
    """Momentum, orthogonalised (Jordan et al. 2024), for the matrices of the layers."""

    def __init__(self, params, lr, momentum=0.95, weight_decay=0.0):
        super().__init__(params, dict(lr=lr, momentum=momentum, weight_decay=weight_decay))

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for w in group["params"]:
                buf = self.state[w].setdefault("buf", torch.zeros_like(w))
                buf.lerp_(w.grad, 1 - group["momentum"])
                u = newton_schulz(w.grad.lerp(buf, group["momentum"]))
                w.mul_(1 - group["lr"] * group["weight_decay"])
                w.add_(u, alpha=-group["lr"] * max(1.0, w.shape[0] / w.shape[1]) ** 0.5)


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--data", default="data.jsonl")
    ap.add_argument("--docs", type=int, default=10**9)
    ap.add_argument("--tokenizer", default="out/tokenizer.json")
    ap.add_argument("--out", default="run.pt")
    ap.add_argument("--init", help="continue from the weights of an earlier run")
    ap.add_argument("--minutes", type=float, default=40)
    ap.add_argument("--steps", type=int, default=0)
    ap.add_argument("--batch", type=int, default=32)
    ap.add_argument("--length", type=int, default=256)
    ap.add_argument("--long-share", type=float, default=0.0, help="the last part of the run, trained on rows of twice the length")
    ap.add_argument("--lr", type=float, default=2e-3, help="AdamW, for the embedding and the norms")
    ap.add_argument("--muon-lr", type=float, default=2e-2, help="Muon, for the matrices")
    ap.add_argument("--warmup", type=int, default=50)
    ap.add_argument("--threads", type=int, default=1)
    ap.add_argument("--seed", type=int, default=0)
    ap.add_argument("--compile", action="store_true")
    args = ap.parse_args()

    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    rng = np.random.default_rng(args.seed)
    ids, mask, starts = encode(args.data, Tokenizer.from_file(args.tokenizer), args.docs)
    print(f"{len(starts)} chats, {len(ids)} tokens, {mask.sum()} of them answers", flush=True)
    held = starts[-512:]          # the last chats are kept for the validation loss
    starts = starts[:-1024]

    model = Llama(Config())
    if args.init:
        model.load_state_dict(torch.load(args.init))
    print("parameters:", sum(w.numel() for w in model.parameters()), flush=True)
    mats = [w for n, w in model.named_parameters() if w.dim() == 2 and "embed" not in n]
    rest = [w for n, w in model.named_parameters() if not (w.dim() == 2 and "embed" not in n)]
    opts = [Muon(mats, args.muon_lr, weight_decay=0.05), torch.optim.AdamW(rest, args.lr, betas=(0.9, 0.95), weight_decay=0.0, fused=True)]
    for o in opts:
        for g in o.param_groups:
            g["peak"] = g["lr"]

    def loss_of(x, y, m):
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(x)
        loss = F.cross_entropy(logits.float().flatten(0, 1), y.flatten(), reduction="none")
        return (loss * m.flatten()).sum() / m.sum()

    step_loss = torch.compile(loss_of) if args.compile else loss_of

    def rows(begin, length):
        at = begin[:, None] + np.arange(length + 1)
        x = torch.from_numpy(ids[at].astype(np.int64))
        return x[:, :-1], x[:, 1:], torch.from_numpy(mask[at].astype(np.float32))[:, 1:]

    @torch.no_grad()
    def validate():
        return sum(loss_of(*rows(held[i:i + 32], 256)).item() for i in range(0, 128, 32)) / 4

    t0, step, seen, shown = time.time(), 0, 0, []
    order, pos = rng.permutation(starts), 0
    while True:
        done = step / args.steps if args.steps else (time.time() - t0) / 60 / args.minutes
        if done >= 1:
            break
        scale = min(1.0, (step + 1) / args.warmup) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done)))
        for o in opts:
            for g in o.param_groups:
                g["lr"] = g["peak"] * scale
        long = done > 1 - args.long_share
        b, length = (args.batch // 2, args.length * 2) if long else (args.batch, args.length)
        if pos + b > len(order):
            order, pos = rng.permutation(starts), 0
        begin, pos = order[pos:pos + b], pos + b
        loss = step_loss(*rows(begin, length))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for o in opts:
            o.step()
            o.zero_grad()
        step += 1
        seen += b * length
        shown.append(loss.item())
        if step % 50 == 0:
            dt = time.time() - t0
            print(f"step {step} loss {np.mean(shown):.4f} tokens {seen/1e6:.2f}M {seen/dt:.0f} tok/s {dt/60:.1f} min", flush=True)
            shown = []
        if step % 200 == 0:
            print(f"step {step} validation {validate():.4f}", flush=True)
            torch.save(model.state_dict(), args.out)
    print(f"end: step {step} tokens {seen} validation {validate():.4f}", flush=True)
    torch.save(model.state_dict(), args.out)


if __name__ == "__main__":
    main()

"""Makes the checkpoints of this folder and their golden values; README.md says how.

    python make.py              # all
    python make.py llama qwen3  # these
"""

import json
import shutil
import sys
import tempfile
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx_lm.models.base import create_causal_mask
from mlx_lm.models.cache import make_prompt_cache
from mlx_lm.utils import load_model, quantize_model, save_config, save_model

from checkpoints import CHECKPOINTS
from weights import random_weights

HERE = Path(__file__).parent
# Longer than every window, and longer than several windows and one piece of a prefill.
PROMPTS = {"short": 40, "long": 700}
STEPS = 8
# By how much, relative to the largest logit, golden values move when a field that matters is
# changed: well above the tolerance of those who compare with them.
SEEN = 2e-3


class Windowed(nn.Module):
    """A layer that sees only the last positions, with mlx-lm's own mask."""

    use_sliding = False

    def __init__(self, layer, window):
        super().__init__()
        self.layer = layer
        self.window = window

    def __call__(self, x, mask=None, cache=None):
        mask = create_causal_mask(x.shape[1], cache.offset, window_size=self.window)
        return self.layer(x, mask, cache)


def prompt(name, length):
    """Seeded by the name of the checkpoint; no special tokens."""
    random = np.random.default_rng([length, *name.encode()])
    return random.integers(8, 128, length).astype(np.int32)


def prepared(folder, windows, changes=None):
    """mlx-lm's model in float32, with the windows that it leaves out."""
    model, _ = load_model(folder, model_config=changes)
    model.set_dtype(mx.float32)
    if windows:
        layers, window = windows
        for n in layers:
            model.layers[n] = Windowed(model.layers[n], window)
    return model


def run(model, tokens, steps=STEPS):
    """Logits after the prompt and after each greedy token, and those tokens, all with one cache."""
    cache = make_prompt_cache(model)
    inputs, logits, chosen = mx.array(tokens)[None], [], []
    for _ in range(1 + steps):
        out = model(inputs, cache=cache)[0, -1].astype(mx.float32)
        mx.eval(out)
        logits.append(np.array(out))
        chosen.append(int(np.argmax(logits[-1])))
        inputs = mx.array([[chosen[-1]]])
    return np.stack(logits), np.array(chosen, np.int32)


def hidden_states(model, tokens):
    """What leaves each layer at the last position of a prompt."""
    kind = type(getattr(model.layers[0], "layer", model.layers[0]))
    original, seen = kind.__call__, []

    def tapped(self, *arguments, **named):
        out = original(self, *arguments, **named)
        seen.append(out[0, -1])
        return out

    kind.__call__ = tapped
    try:
        mx.eval(model(mx.array(tokens)[None], cache=make_prompt_cache(model)))
    finally:
        kind.__call__ = original
    assert len(seen) == len(model.layers)
    return np.stack([np.array(state) for state in seen])


def write_checkpoint(checkpoint, folder):
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    config = checkpoint.config
    tensors = random_weights(checkpoint.name, config)
    random = np.random.default_rng(1)
    for name, shape in checkpoint.extra.items():
        tensors[name] = random.standard_normal(shape).astype(np.float32)
    dtype = getattr(mx, checkpoint.dtype)
    # The hub keeps this one in full precision, and so does mlx-lm when it casts.
    keep = lambda name: name.endswith("e_score_correction_bias")
    arrays = {
        name: mx.array(values) if keep(name) else mx.array(values).astype(dtype)
        for name, values in sorted(tensors.items())
    }
    with open(folder / "config.json", "w") as file:
        json.dump(config, file, indent=2, sort_keys=True)
        file.write("\n")
    mx.save_safetensors(str(folder / "model.safetensors"), arrays, metadata={"format": "pt"})


def pack(checkpoint, folder):
    """Replaces a checkpoint by its quantised form, as `mlx_lm.convert` writes it."""
    model, config = load_model(folder)
    bits, group = checkpoint.packing
    usual = getattr(model, "quant_predicate", lambda path, module: True)
    predicate = lambda path, module: checkpoint.others.get(path, usual(path, module))
    model, config = quantize_model(model, config, group, bits, quant_predicate=predicate)
    for path, packing in checkpoint.others.items():
        if packing is False:
            # What mlx-lm writes nothing about, and what it reads when others write it.
            config["quantization"][path] = False
    shutil.rmtree(folder)
    save_model(folder, model)
    save_config(config, folder / "config.json")


def differs(a, b):
    return float(np.abs(a - b).max() / np.abs(b).max())


def check_that_it_matters(checkpoint, folder, tokens, golden):
    """Golden values that do not notice a field prove nothing about it."""
    for key, value in checkpoint.matters.items():
        changed, _ = run(prepared(folder, checkpoint.windows, {key: value}), tokens, 0)
        moved = differs(changed[0], golden[0])
        assert moved > SEEN, f"{checkpoint.name}: {key} = {value} moves logits by only {moved:.1e}"
    if checkpoint.windows:
        layers, window = checkpoint.windows
        for other in [(layers, window - 1), (layers, window + 1), (layers[1:], window), None]:
            changed, _ = run(prepared(folder, other), tokens, 0)
            moved = differs(changed[0], golden[0])
            assert moved > SEEN, f"{checkpoint.name}: windows {other} move by only {moved:.1e}"


def make(checkpoint):
    folder = HERE / "checkpoints" / checkpoint.name
    write_checkpoint(checkpoint, folder)
    if checkpoint.packing:
        pack(checkpoint, folder)
    model = prepared(folder, checkpoint.windows)
    golden, notes = {}, []
    for case, length in PROMPTS.items():
        tokens = prompt(checkpoint.name, length)
        logits, chosen = run(model, tokens)
        golden |= {
            f"{case}.prompt": mx.array(tokens),
            f"{case}.logits": mx.array(logits),
            f"{case}.tokens": mx.array(chosen),
            f"{case}.hidden": mx.array(hidden_states(model, tokens)),
        }
        top = np.sort(logits, axis=1)
        notes.append(
            f"{case}: spread {logits.std():.2f}, largest {np.abs(logits).max():.1f}, "
            f"smallest lead {(top[:, -1] - top[:, -2]).min():.3f}"
        )
        if case == "short":
            check_that_it_matters(checkpoint, folder, tokens, logits)
    # MLX multiplies with experts in half precision on a GPU only.
    experts = any("expert" in key for key in checkpoint.config) and not checkpoint.packing
    if checkpoint.dtype != "float32" and not experts:
        # As mlx-lm runs it by default: with the numbers that the file has.
        native, _ = load_model(folder)
        if checkpoint.windows:
            layers, window = checkpoint.windows
            for n in layers:
                native.layers[n] = Windowed(native.layers[n], window)
        logits, _ = run(native, prompt(checkpoint.name, PROMPTS["short"]), 0)
        golden["short.native"] = mx.array(logits)
        notes.append(f"as stored: off by {differs(logits[0], np.array(golden['short.logits'])[0]):.1e}")
    (HERE / "golden").mkdir(exist_ok=True)
    mx.save_safetensors(str(HERE / "golden" / f"{checkpoint.name}.safetensors"), golden)
    size = sum(file.stat().st_size for file in folder.iterdir())
    print(f"{checkpoint.name}: {size // 1024} KiB; " + "; ".join(notes), flush=True)


def main():
    mx.set_default_device(mx.cpu)
    wanted = sys.argv[1:]
    for checkpoint in CHECKPOINTS:
        if not wanted or checkpoint.name in wanted:
            make(checkpoint)


main()

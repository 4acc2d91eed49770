"""Makes folders in Hugging Face layout of a GGUF file of the llama family, for the benchmark.

    python make.py MODEL.gguf FOLDER

writes FOLDER/f32, FOLDER/f16 and FOLDER/4bit: what the weights of the file stand for, rounded to that
type, or quantised by mlx-lm in groups of 64. They have no tokenizer and no token that ends an answer.
"""

import json
import sys
from pathlib import Path

import mlx.core as mx
from mlx_lm.models import llama
from mlx_lm.utils import quantize_model

sys.path.append(str(Path(__file__).parents[2] / "families"))
import smollm2  # noqa: E402


def floats(weights):
    for name, array in weights.items():
        stem, kind = name.rsplit(".", 1)
        if kind in ("scales", "biases"):
            continue
        if f"{stem}.scales" in weights:
            scales, biases = (weights[f"{stem}.{k}"].astype(mx.float32) for k in ("scales", "biases"))
            bits = smollm2.bits(weights, stem)
            array = mx.dequantize(array, scales, biases, group_size=32, bits=bits)
        yield name, array.astype(mx.float32)


def main():
    mx.set_default_device(mx.cpu)
    source, target = Path(sys.argv[1]), Path(sys.argv[2])
    args, weights, metadata = smollm2.load(source)
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": args.hidden_size,
        "num_hidden_layers": args.num_hidden_layers,
        "intermediate_size": args.intermediate_size,
        "num_attention_heads": args.num_attention_heads,
        "num_key_value_heads": args.num_key_value_heads,
        "rms_norm_eps": args.rms_norm_eps,
        "vocab_size": args.vocab_size,
        "rope_theta": args.rope_theta,
        "max_position_embeddings": smollm2.scalar(metadata, "context_length"),
        "tie_word_embeddings": True,
        "hidden_act": "silu",
    }
    weights = dict(floats(weights))
    folders = {"f32": (weights, config)}
    half = {name: array.astype(mx.float16) for name, array in weights.items()}
    folders["f16"] = (half, config)
    model = llama.Model(args)
    model.load_weights(list(half.items()), strict=True)
    model, quantised = quantize_model(model, dict(config), group_size=64, bits=4)
    from mlx.utils import tree_flatten

    folders["4bit"] = (dict(tree_flatten(model.parameters())), quantised)
    for name, (arrays, config) in folders.items():
        folder = target / name
        folder.mkdir(parents=True, exist_ok=True)
        mx.save_safetensors(str(folder / "model.safetensors"), arrays, metadata={"format": "mlx"})
        # Last: a folder with it is whole.
        (folder / "config.json").write_text(json.dumps(config, indent=1))


main()

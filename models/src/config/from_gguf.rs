//! GGUF metadata.

use std::{collections::BTreeSet, path::Path};

use super::{
    Biases, Family, FieldNames, Keys, MAX_DIMENSION, MAX_EXPERTS, MAX_INTERMEDIATE, MAX_VOCAB,
    ModelConfig, RopeLayout, Shape, rope_keys,
};
use crate::{
    ModelError, family,
    gguf::{Gguf, Value},
};

/// Control tokens that end a turn or a text in some family. Files name one end token, but
/// instruction-tuned models may also produce another of these; all of them end a generation.
const END_TOKENS: [&str; 8] = [
    "<|endoftext|>",
    "<|end_of_text|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|im_end|>",
    "<|end|>",
    "<end_of_turn>",
    "</s>",
];
/// The type that `tokenizer.ggml.token_type` gives to control tokens.
const CONTROL: i64 = 3;

/// The configuration of the model in a GGUF file, `bytes` being the whole of it.
pub(crate) fn from_gguf(file: &Path, gguf: &Gguf, bytes: &[u8]) -> Result<ModelConfig, ModelError> {
    let keys = Keys::new(file, gguf, bytes)?;
    let Some(read) = family::gguf(keys.architecture()) else {
        let what = format!("the architecture `{}`", keys.architecture());
        return Err(keys.unsupported(what, family::gguf_architectures()));
    };
    refuse_split(&keys)?;
    let config = ModelConfig {
        eos: eos(&keys)?,
        bos: keys.token("tokenizer.ggml.bos_token_id")?,
        add_bos: add_bos(&keys)?,
        weight_bytes: keys.tensor_bytes(),
        ..read(&keys)?
    };
    if config.experts.is_none() && keys.count_or_zero("expert_count", MAX_EXPERTS)? > 0 {
        let what = format!("experts in the architecture `{}`", keys.architecture());
        return Err(keys.unsupported(what, "dense models of it"));
    }
    config.check(
        file,
        &FieldNames {
            heads: &keys.full("attention.head_count"),
            kv_heads: &keys.full("attention.head_count_kv"),
            head_dim: &keys.full("attention.key_length"),
            rope: &keys.full("rope.scaling"),
            eos: "tokenizer.ggml.eos_token_id",
            bos: "tokenizer.ggml.bos_token_id",
        },
    )?;
    Ok(config)
}

/// A head's width as the file says it, or the hidden state cut evenly; values are as wide, and all
/// of it turns.
pub(crate) fn usual(family: Family, keys: &Keys<'_>) -> Result<Shape, ModelError> {
    let shape = partly_turned(family, keys)?;
    if shape.rope_dims != shape.head_dim {
        let expected = format!("the width of a head, which is {}", shape.head_dim);
        return Err(keys.wrong("rope.dimension_count", expected));
    }
    Ok(shape)
}

/// The same, but a part may turn only.
pub(crate) fn partly_turned(family: Family, keys: &Keys<'_>) -> Result<Shape, ModelError> {
    const TURNED: &str = "rope.dimension_count";
    let head_dim = match keys.count("attention.key_length", MAX_DIMENSION)? {
        Some(width) => width,
        None => {
            let hidden = keys.required_count("embedding_length", MAX_DIMENSION)?;
            let heads = keys.required_count("attention.head_count", MAX_DIMENSION)?;
            if !hidden.is_multiple_of(heads) {
                let expected = format!("a divisor of the embedding length, which is {hidden}");
                return Err(keys.wrong("attention.head_count", expected));
            }
            hidden / heads
        }
    };
    let values = keys.count("attention.value_length", MAX_DIMENSION)?;
    if values.is_some_and(|width| width != head_dim) {
        let expected = format!("the width of a head, which is {head_dim}");
        return Err(keys.wrong("attention.value_length", expected));
    }
    let turned = keys.count(TURNED, MAX_DIMENSION)?;
    if turned.is_some_and(|dims| dims > head_dim || !dims.is_multiple_of(2)) {
        let expected = format!("even, and no more than the width of a head, {head_dim}");
        return Err(keys.wrong(TURNED, expected));
    }
    let rope_dims = turned.unwrap_or(head_dim);
    Ok(Shape {
        rope_dims,
        ..Shape::of_heads(family, head_dim)
    })
}

/// What all families have, under the names that all use.
pub(crate) fn common(
    keys: &Keys<'_>,
    shape: &Shape,
    layout: RopeLayout,
) -> Result<ModelConfig, ModelError> {
    let heads = keys.required_count("attention.head_count", MAX_DIMENSION)?;
    let layers = keys.required_count("block_count", MAX_DIMENSION)? as u32;
    Ok(ModelConfig {
        hidden: keys.required_count("embedding_length", MAX_DIMENSION)?,
        intermediate: keys.required_count("feed_forward_length", MAX_INTERMEDIATE)?,
        heads,
        kv_heads: keys
            .count("attention.head_count_kv", MAX_DIMENSION)?
            .unwrap_or(heads),
        vocab: vocab(keys)?,
        norm_eps: keys.required_number("attention.layer_norm_rms_epsilon")?,
        activation: shape.activation,
        rope: rope_keys::rope(keys, shape.rope_dims, layout)?,
        context: keys.required_count("context_length", u32::MAX.into())? as u32,
        tied_embeddings: !keys.has("output.weight"),
        biases: Biases {
            qkv: keys.has("blk.0.attn_q.bias"),
            attention_output: keys.has("blk.0.attn_output.bias"),
            ffn: keys.has("blk.0.ffn_gate.bias"),
        },
        ..ModelConfig::plain(shape.family, layers, shape.head_dim)
    })
}

/// How many positions layers with a window see; nothing if there are none. Zero is written, too.
pub(crate) fn window(keys: &Keys<'_>) -> Result<Option<u32>, ModelError> {
    let size = keys.count_or_zero("attention.sliding_window", u32::MAX.into())?;
    Ok((size > 0).then_some(size as u32))
}

fn refuse_split(keys: &Keys<'_>) -> Result<(), ModelError> {
    match keys.value("split.count").and_then(Value::as_u64) {
        Some(2..) => Err(keys.unsupported(
            "several files (a split GGUF)",
            "one file: join them with `llama-gguf-split --merge FIRST OUT`",
        )),
        _ => Ok(()),
    }
}

/// The embedding's rows; the vocabulary may be shorter, where the embedding is padded.
fn vocab(keys: &Keys<'_>) -> Result<usize, ModelError> {
    match keys.rows("token_embd.weight") {
        Some(rows) => Ok(rows),
        None => keys.required_count("vocab_size", MAX_VOCAB),
    }
}

fn eos(keys: &Keys<'_>) -> Result<Vec<u32>, ModelError> {
    let mut eos = Vec::new();
    for name in ["eos", "eot", "eom"] {
        eos.extend(keys.token(&format!("tokenizer.ggml.{name}_token_id"))?);
    }
    let texts = keys
        .value("tokenizer.ggml.tokens")
        .and_then(Value::as_strings)
        .unwrap_or_default();
    let types = keys
        .value("tokenizer.ggml.token_type")
        .and_then(Value::as_ints)
        .unwrap_or_default();
    for ((id, text), kind) in (0..).zip(texts).zip(types) {
        if kind == CONTROL && END_TOKENS.contains(&text.as_str()) {
            eos.push(id);
        }
    }
    let mut seen = BTreeSet::new();
    eos.retain(|&token| seen.insert(token));
    Ok(eos)
}

/// Files of Llama 3 and those with a SentencePiece vocabulary may leave it out, and mean yes; other
/// byte-level tokenizers mean no.
fn add_bos(keys: &Keys<'_>) -> Result<bool, ModelError> {
    const KEY: &str = "tokenizer.ggml.add_bos_token";
    match keys.value(KEY) {
        Some(value) => value
            .as_bool()
            .ok_or_else(|| ModelError::field(keys.file(), KEY, "true or false", value)),
        None => {
            let text = |key: &str| keys.value(key).and_then(Value::as_str);
            if text("tokenizer.ggml.model") == Some("llama") {
                return Ok(true);
            }
            let pre = text("tokenizer.ggml.pre");
            Ok(matches!(pre, Some("llama-bpe" | "llama3" | "llama-v3")))
        }
    }
}

#[cfg(test)]
mod tests;

//! GGUF metadata.

use std::path::Path;

use half::f16;

use super::{
    Biases, Family, FieldNames, MAX_DIMENSION, MAX_INTERMEDIATE, MAX_VOCAB, ModelConfig,
    RopeConfig, RopeLayout, RopeScaling,
};
use crate::{
    ModelError,
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
/// Divisors of the rotary frequencies, one per pair: how converters write Llama 3's scaling.
const ROPE_FACTORS: &str = "rope_freqs.weight";

/// The configuration of the model in a GGUF file, `bytes` being the whole of it.
pub(crate) fn from_gguf(file: &Path, gguf: &Gguf, bytes: &[u8]) -> Result<ModelConfig, ModelError> {
    let text = |key: &str| gguf.metadata.get(key).and_then(Value::as_str);
    let architecture =
        text("general.architecture").ok_or_else(|| missing(file, "general.architecture"))?;
    let family = match architecture {
        "llama" => Family::Llama,
        "qwen2" => Family::Qwen2,
        other => {
            let what = format!("the architecture `{other}`");
            return Err(ModelError::unsupported(file, what, "llama, qwen2"));
        }
    };
    let keys = Keys {
        file,
        gguf,
        architecture,
    };
    refuse_variants(&keys)?;

    let hidden = keys.required_count("embedding_length", MAX_DIMENSION)?;
    let heads = keys.required_count("attention.head_count", MAX_DIMENSION)?;
    let head_dim = match keys.count("attention.key_length", MAX_DIMENSION)? {
        Some(width) => width,
        None if hidden.is_multiple_of(heads) => hidden / heads,
        None => {
            let expected = format!("a divisor of the embedding length, which is {hidden}");
            return Err(keys.wrong("attention.head_count", expected));
        }
    };
    for name in ["attention.value_length", "rope.dimension_count"] {
        if keys
            .count(name, MAX_DIMENSION)?
            .is_some_and(|width| width != head_dim)
        {
            return Err(keys.wrong(name, format!("the width of a head, which is {head_dim}")));
        }
    }
    let layers = keys.required_count("block_count", MAX_DIMENSION)? as u32;
    let rope_theta = keys.number("rope.freq_base")?.unwrap_or(10_000.0);
    let has = |name: &str| gguf.tensors.contains_key(name);
    let context = keys.required_count("context_length", u32::MAX.into())? as u32;
    let window = keys.count("attention.sliding_window", u32::MAX.into())?;
    let config = ModelConfig {
        hidden,
        intermediate: keys.required_count("feed_forward_length", MAX_INTERMEDIATE)?,
        heads,
        kv_heads: keys
            .count("attention.head_count_kv", MAX_DIMENSION)?
            .unwrap_or(heads),
        head_dim,
        vocab: vocab(&keys)?,
        norm_eps: keys
            .number("attention.layer_norm_rms_epsilon")?
            .ok_or_else(|| missing(file, &keys.full("attention.layer_norm_rms_epsilon")))?,
        rope: RopeConfig {
            theta: rope_theta,
            dims: head_dim,
            layout: match family {
                // The converter reorders the rows of Q and K for this architecture, Mistral's too.
                Family::Llama => RopeLayout::Interleaved,
                _ => RopeLayout::Half,
            },
            scaling: rope_scaling(&keys, bytes, head_dim, rope_theta)?,
        },
        // As far as the window reaches, sliding attention is full attention.
        context: window.map_or(context, |window| context.min(window as u32)),
        tied_embeddings: !has("output.weight"),
        biases: Biases {
            qkv: has("blk.0.attn_q.bias"),
            ..Biases::default()
        },
        eos: eos(&keys)?,
        bos: keys.token("tokenizer.ggml.bos_token_id")?,
        add_bos: add_bos(&keys)?,
        weight_bytes: gguf
            .tensors
            .values()
            .map(|tensor| tensor.bytes.len() as u64)
            .sum(),
        ..ModelConfig::plain(family, layers, head_dim)
    };
    config.check(
        file,
        &FieldNames {
            heads: &keys.full("attention.head_count"),
            kv_heads: &keys.full("attention.head_count_kv"),
            head_dim: &keys.full("attention.key_length"),
            eos: "tokenizer.ggml.eos_token_id",
            bos: "tokenizer.ggml.bos_token_id",
        },
    )?;
    Ok(config)
}

/// What is announced in the metadata or the tensor list and no engine here implements.
fn refuse_variants(keys: &Keys<'_>) -> Result<(), ModelError> {
    let refuse =
        |what: &str, supported: &str| Err(ModelError::unsupported(keys.file, what, supported));
    let number = |key: &str| {
        keys.gguf
            .metadata
            .get(key)
            .and_then(Value::as_u64)
            .unwrap_or(0)
    };
    if number(&keys.full("expert_count")) > 0 {
        return refuse("a mixture of experts", "dense models");
    }
    if number("split.count") > 1 {
        return refuse(
            "several files (a split GGUF)",
            "one file: join them with `llama-gguf-split --merge FIRST OUT`",
        );
    }
    if keys.gguf.tensors.contains_key("blk.0.attn_output.bias") {
        return refuse("a bias on the attention's output", "biases on Q, K and V");
    }
    Ok(())
}

/// The embedding's rows; the vocabulary may be shorter, where the embedding is padded.
fn vocab(keys: &Keys<'_>) -> Result<usize, ModelError> {
    let embedding = keys.gguf.tensors.get("token_embd.weight");
    if let Some(&rows) = embedding.and_then(|tensor| tensor.dims.get(1)) {
        return Ok(rows);
    }
    keys.required_count("vocab_size", MAX_VOCAB)
}

fn eos(keys: &Keys<'_>) -> Result<Vec<u32>, ModelError> {
    let mut eos = Vec::new();
    for name in ["eos", "eot", "eom"] {
        eos.extend(keys.token(&format!("tokenizer.ggml.{name}_token_id"))?);
    }
    let value = |key: &str| keys.gguf.metadata.get(key);
    let texts = value("tokenizer.ggml.tokens")
        .and_then(Value::as_strings)
        .unwrap_or_default();
    let types = value("tokenizer.ggml.token_type")
        .and_then(Value::as_ints)
        .unwrap_or_default();
    for ((id, text), kind) in (0..).zip(texts).zip(types) {
        if kind == CONTROL && END_TOKENS.contains(&text.as_str()) {
            eos.push(id);
        }
    }
    let mut seen = std::collections::BTreeSet::new();
    eos.retain(|&token| seen.insert(token));
    Ok(eos)
}

/// Files of Llama 3 may leave it out, and mean yes; other byte-level tokenizers mean no.
fn add_bos(keys: &Keys<'_>) -> Result<bool, ModelError> {
    const KEY: &str = "tokenizer.ggml.add_bos_token";
    match keys.gguf.metadata.get(KEY) {
        Some(value) => value
            .as_bool()
            .ok_or_else(|| ModelError::field(keys.file, KEY, "true or false", value)),
        None => {
            let pre = keys
                .gguf
                .metadata
                .get("tokenizer.ggml.pre")
                .and_then(Value::as_str);
            Ok(matches!(pre, Some("llama-bpe" | "llama3" | "llama-v3")))
        }
    }
}

fn rope_scaling(
    keys: &Keys<'_>,
    bytes: &[u8],
    head_dim: usize,
    theta: f32,
) -> Result<RopeScaling, ModelError> {
    let kind = keys
        .gguf
        .metadata
        .get(&keys.full("rope.scaling.type"))
        .and_then(Value::as_str);
    match kind {
        Some("linear") => {
            let factor = keys
                .number("rope.scaling.factor")?
                .ok_or_else(|| missing(keys.file, &keys.full("rope.scaling.factor")))?;
            return Ok(RopeScaling::Linear { factor });
        }
        None | Some("none") => {}
        Some(other) => {
            let what = format!("rope scaling `{other}`");
            return Err(ModelError::unsupported(
                keys.file,
                what,
                "linear, Llama 3's",
            ));
        }
    }
    let Some(tensor) = keys.gguf.tensors.get(ROPE_FACTORS) else {
        return Ok(RopeScaling::None);
    };
    let data = bytes.get(tensor.bytes.clone()).unwrap_or_default();
    let factors: Vec<f32> = match tensor.kind {
        crate::WeightKind::F32 => data
            .as_chunks()
            .0
            .iter()
            .map(|&bytes| f32::from_le_bytes(bytes))
            .collect(),
        crate::WeightKind::F16 => data
            .as_chunks()
            .0
            .iter()
            .map(|&bytes| f16::from_le_bytes(bytes).to_f32())
            .collect(),
        _ => Vec::new(),
    };
    llama3(&factors, head_dim, theta).ok_or_else(|| {
        let what = format!("rotary frequencies (`{ROPE_FACTORS}`) that are not Llama 3's");
        ModelError::unsupported(keys.file, what, "linear scaling, Llama 3's")
    })
}

/// Which of Llama 3's scalings gives these divisors. All published models have the same constants but
/// for the factor, which is the divisor of the longest wavelength; the rest is verified.
fn llama3(factors: &[f32], head_dim: usize, theta: f32) -> Option<RopeScaling> {
    if factors.len() != head_dim / 2 {
        return None;
    }
    let factor = *factors.last()?;
    if factors.iter().all(|&f| f == 1.0) {
        return Some(RopeScaling::None);
    }
    let (low, high, original) = (1.0, 4.0, 8192.0);
    for (index, &found) in factors.iter().enumerate() {
        let frequency = theta.powf(-2.0 * index as f32 / head_dim as f32);
        let wavelength = std::f32::consts::TAU / frequency;
        let expected = if wavelength < original / high {
            1.0
        } else if wavelength > original / low {
            factor
        } else {
            let smooth = (original / wavelength - low) / (high - low);
            1.0 / ((1.0 - smooth) / factor + smooth)
        };
        if (found - expected).abs() > 1e-3 * expected.abs() {
            return None;
        }
    }
    (factor.is_finite() && factor > 0.0).then_some(RopeScaling::Llama3 {
        factor,
        low_freq_factor: low,
        high_freq_factor: high,
        original_context: 8192,
    })
}

fn missing(file: &Path, key: &str) -> ModelError {
    ModelError::MissingField {
        file: file.to_owned(),
        field: key.to_owned(),
    }
}

/// Metadata under the architecture's prefix.
struct Keys<'a> {
    file: &'a Path,
    gguf: &'a Gguf,
    architecture: &'a str,
}

impl Keys<'_> {
    fn full(&self, name: &str) -> String {
        format!("{}.{name}", self.architecture)
    }

    fn wrong(&self, name: &str, expected: impl Into<String>) -> ModelError {
        let key = self.full(name);
        let found = self
            .gguf
            .metadata
            .get(&key)
            .map(Value::to_string)
            .unwrap_or_default();
        ModelError::field(self.file, &key, expected, found)
    }

    /// A positive number, or a list with the same one for each layer (some converters write that).
    fn count(&self, name: &str, limit: u64) -> Result<Option<usize>, ModelError> {
        let Some(value) = self.gguf.metadata.get(&self.full(name)) else {
            return Ok(None);
        };
        let uniform = || {
            let list = value.as_ints()?;
            let (&first, rest) = list.split_first()?;
            rest.iter()
                .all(|&other| other == first)
                .then_some(first)?
                .try_into()
                .ok()
        };
        let count = value
            .as_u64()
            .or_else(uniform)
            .filter(|n| (1..=limit).contains(n));
        match count.and_then(|n| usize::try_from(n).ok()) {
            Some(count) => Ok(Some(count)),
            None => {
                let expected = format!("a whole number from 1 to {limit}, the same for all layers");
                Err(self.wrong(name, expected))
            }
        }
    }

    fn required_count(&self, name: &str, limit: u64) -> Result<usize, ModelError> {
        self.count(name, limit)?
            .ok_or_else(|| missing(self.file, &self.full(name)))
    }

    fn number(&self, name: &str) -> Result<Option<f32>, ModelError> {
        let Some(value) = self.gguf.metadata.get(&self.full(name)) else {
            return Ok(None);
        };
        match value
            .as_f64()
            .map(|x| x as f32)
            .filter(|x| x.is_finite() && *x > 0.0)
        {
            Some(number) => Ok(Some(number)),
            None => Err(self.wrong(name, "a positive number")),
        }
    }

    /// A token under a key that has no architecture in it.
    fn token(&self, key: &str) -> Result<Option<u32>, ModelError> {
        let Some(value) = self.gguf.metadata.get(key) else {
            return Ok(None);
        };
        match value.as_u64().and_then(|n| u32::try_from(n).ok()) {
            Some(token) => Ok(Some(token)),
            None => Err(ModelError::field(self.file, key, "a token's number", value)),
        }
    }
}

#[cfg(test)]
mod tests;

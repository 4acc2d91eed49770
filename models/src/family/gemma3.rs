//! Gemma 3, its text part: norms on queries and keys, five of six layers with a window and a rotary
//! embedding of their own.

use half::bf16;
use serde_json::{Map, Value};

use super::{
    Architecture,
    gemma2::{gguf_score_scale, score_scale},
};
use crate::{
    Activation, Family, ModelConfig, ModelError, RopeConfig, RopeLayout,
    config::{Fields, Keys, MAX_DIMENSION, Shape, from_gguf, from_hf, rope_scaling, unstretched},
};

pub(super) const ARCHITECTURE: Architecture = Architecture {
    hugging_face: &[("gemma3_text", read_text), ("gemma3", read)],
    gguf: &[("gemma3", read_gguf)],
};

/// Every how many layers one sees everything, unless the file says it.
const PATTERN: usize = 6;

/// With images beside the text, which are left alone. These files leave nearly everything out.
fn read(fields: &Fields) -> Result<ModelConfig, ModelError> {
    read_text(&fields.within("text_config")?.with_defaults(&[
        ("num_attention_heads", 8.0),
        ("num_key_value_heads", 4.0),
        ("vocab_size", 262_208.0),
    ]))
}

fn read_text(fields: &Fields) -> Result<ModelConfig, ModelError> {
    let fields = fields.with_defaults(&[
        ("hidden_size", 1152.0),
        ("num_hidden_layers", 26.0),
        ("intermediate_size", 6912.0),
        ("num_attention_heads", 4.0),
        ("num_key_value_heads", 1.0),
        ("head_dim", 256.0),
        ("vocab_size", 262_144.0),
        ("rope_theta", 1_000_000.0),
        ("query_pre_attn_scalar", 256.0),
        ("sliding_window", 512.0),
        // transformers' own; mlx-lm makes nothing of it.
        ("max_position_embeddings", 131_072.0),
    ]);
    let shape = Shape {
        activation: Activation::GeluTanh,
        ..Shape::usual(Family::Gemma3, &fields)?
    };
    let config = from_hf::common(&fields, &shape)?;
    let (rope, local_rope) = ropes(&fields, &config.rope)?;
    let mut config = ModelConfig {
        embedding_scale: embedding_scale(config.hidden),
        norm_offset: 1.0,
        post_norms: true,
        qk_norm: true,
        score_scale: score_scale(&fields, &config)?,
        rope,
        local_rope: Some(local_rope),
        // What the file says about it is not asked.
        tied_embeddings: !fields.has_output_head(),
        ..config
    };
    let pattern = fields.count("sliding_window_pattern", MAX_DIMENSION)?;
    let pattern = pattern.unwrap_or(PATTERN);
    from_hf::windows(&fields, &mut config, |layer| {
        !(layer + 1).is_multiple_of(pattern)
    })?;
    Ok(config)
}

/// The models were trained with the root as a bf16.
fn embedding_scale(hidden: usize) -> f32 {
    bf16::from_f32((hidden as f32).sqrt()).to_f32()
}

/// Of layers that see everything, and of those with a window. In files of transformers 5 each kind
/// has a section of its own.
fn ropes(fields: &Fields, plain: &RopeConfig) -> Result<(RopeConfig, RopeConfig), ModelError> {
    let newer = fields.section("rope_parameters")?;
    let of = |kind: &str| newer.and_then(|newer| newer.get(kind)?.as_object());
    let from = |section: &Map<String, Value>, theta: f32| {
        Ok::<_, ModelError>(RopeConfig {
            scaling: rope_scaling(fields, section, plain.dims)?,
            ..unstretched(
                plain,
                fields.number_in("rope_theta", section)?.unwrap_or(theta),
            )
        })
    };
    let local_theta = fields.number("rope_local_base_freq")?.unwrap_or(10_000.0);
    let global = match of("full_attention") {
        Some(section) => from(section, plain.theta)?,
        None => plain.clone(),
    };
    let local = match of("sliding_attention") {
        Some(section) => from(section, local_theta)?,
        None => unstretched(plain, local_theta),
    };
    Ok((global, local))
}

/// As for Gemma 2, the largest model has a scale of its own.
const LAYERS_OF_27B: u32 = 62;

/// The converter adds the norms' offset to their weights.
fn read_gguf(keys: &Keys<'_>) -> Result<ModelConfig, ModelError> {
    const PATTERN_KEY: &str = "attention.sliding_window_pattern";
    let shape = Shape {
        activation: Activation::GeluTanh,
        ..from_gguf::usual(Family::Gemma3, keys)?
    };
    let config = from_gguf::common(keys, &shape, RopeLayout::Half)?;
    let local_theta = keys.number("rope.freq_base_swa")?.unwrap_or(10_000.0);
    let mut config = ModelConfig {
        embedding_scale: embedding_scale(config.hidden),
        post_norms: true,
        qk_norm: true,
        score_scale: gguf_score_scale(&config, LAYERS_OF_27B),
        logit_cap: keys.number("final_logit_softcapping")?,
        local_rope: Some(unstretched(&config.rope, local_theta)),
        ..config
    };
    let window = from_gguf::window(keys)?;
    let flags = keys.flags(PATTERN_KEY, config.layer_kinds.len())?;
    let pattern = match flags {
        Some(_) => PATTERN,
        None => keys.count(PATTERN_KEY, MAX_DIMENSION)?.unwrap_or(PATTERN),
    };
    for (layer, kind) in config.layer_kinds.iter_mut().enumerate() {
        let slides = match flags.and_then(|flags| flags.get(layer)) {
            Some(&slides) => slides,
            None => !(layer + 1).is_multiple_of(pattern),
        };
        kind.window = window.filter(|_| slides);
    }
    Ok(config)
}

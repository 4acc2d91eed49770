//! Gemma 2: norms on both sides, soft caps, every other layer with a window.

use super::Architecture;
use crate::{
    Activation, Family, ModelConfig, ModelError, RopeLayout,
    config::{Fields, Keys, Shape, from_gguf, from_hf},
};

pub(super) const ARCHITECTURE: Architecture = Architecture {
    hugging_face: &[("gemma2", read)],
    gguf: &[("gemma2", read_gguf)],
};

/// The windows are those of transformers and llama.cpp; mlx-lm has none, which makes no difference
/// to texts that fit one.
fn read(fields: &Fields) -> Result<ModelConfig, ModelError> {
    let fields = fields.with_defaults(&[
        ("head_dim", 256.0),
        ("max_position_embeddings", 8192.0),
        ("query_pre_attn_scalar", 144.0),
        ("attn_logit_softcapping", 50.0),
        ("final_logit_softcapping", 30.0),
        ("sliding_window", 4096.0),
    ]);
    let shape = Shape {
        activation: Activation::GeluTanh,
        ..Shape::usual(Family::Gemma2, &fields)?
    };
    let config = from_hf::common(&fields, &shape)?;
    let mut config = ModelConfig {
        embedding_scale: (config.hidden as f32).sqrt(),
        norm_offset: 1.0,
        post_norms: true,
        score_scale: score_scale(&fields, &config)?,
        score_cap: fields.number("attn_logit_softcapping")?,
        logit_cap: fields.number("final_logit_softcapping")?,
        tied_embeddings: true,
        ..config
    };
    from_hf::windows(&fields, &mut config, |layer| layer.is_multiple_of(2))?;
    Ok(config)
}

/// Gemma scales scores by a number of its own, which only mostly is a head's width.
pub(super) fn score_scale(fields: &Fields, config: &ModelConfig) -> Result<f32, ModelError> {
    let of = fields.number("query_pre_attn_scalar")?;
    Ok(of.map_or(config.score_scale, |width| width.sqrt().recip()))
}

/// The model of 27 billion parameters is the one whose scores are scaled in another way; its files
/// do not say so.
const LAYERS_OF_27B: u32 = 46;

/// The converter adds the norms' offset to their weights.
fn read_gguf(keys: &Keys<'_>) -> Result<ModelConfig, ModelError> {
    let shape = Shape {
        activation: Activation::GeluTanh,
        ..from_gguf::usual(Family::Gemma2, keys)?
    };
    let config = from_gguf::common(keys, &shape, RopeLayout::Half)?;
    let cap = |name: &str, usual: f32| {
        let cap = keys.number(name)?;
        Ok::<_, ModelError>(Some(cap.unwrap_or(usual)))
    };
    let mut config = ModelConfig {
        embedding_scale: (config.hidden as f32).sqrt(),
        post_norms: true,
        score_scale: gguf_score_scale(&config, LAYERS_OF_27B),
        score_cap: cap("attn_logit_softcapping", 50.0)?,
        logit_cap: cap("final_logit_softcapping", 30.0)?,
        ..config
    };
    let window = from_gguf::window(keys)?.unwrap_or(4096);
    for kind in config.layer_kinds.iter_mut().step_by(2) {
        kind.window = Some(window);
    }
    Ok(config)
}

/// By the width of a head, or in the one model with so many layers by the hidden state's share of
/// each head, which is not the same there.
pub(super) fn gguf_score_scale(config: &ModelConfig, layers: u32) -> f32 {
    match config.layers == layers {
        true => (config.hidden as f32 / config.heads as f32).sqrt().recip(),
        false => config.score_scale,
    }
}

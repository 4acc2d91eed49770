//! Gemma 2: norms on both sides, soft caps, every other layer with a window.

use super::Architecture;
use crate::{
    Activation, Family, ModelConfig, ModelError,
    config::{Fields, Shape, common, windows},
};

pub(super) const ARCHITECTURE: Architecture = Architecture {
    hugging_face: &[("gemma2", read)],
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
    let config = common(&fields, &shape)?;
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
    windows(&fields, &mut config, |layer| layer.is_multiple_of(2))?;
    Ok(config)
}

/// Gemma scales scores by a number of its own, which only mostly is a head's width.
pub(super) fn score_scale(fields: &Fields, config: &ModelConfig) -> Result<f32, ModelError> {
    let of = fields.number("query_pre_attn_scalar")?;
    Ok(of.map_or(config.score_scale, |width| width.sqrt().recip()))
}

//! Phi 3, 3.5 and 4: fused weights, factors for long contexts, and a part of each head turned.

use super::Architecture;
use crate::{
    Family, ModelConfig, ModelError, RopeLayout,
    config::{Fields, Keys, Shape, from_gguf, from_hf},
};

pub(super) const ARCHITECTURE: Architecture = Architecture {
    hugging_face: &[("phi3", read)],
    gguf: &[("phi3", read_gguf)],
};

/// All layers see everything, whatever `sliding_window` says: so it is in mlx-lm and in llama.cpp.
fn read(fields: &Fields) -> Result<ModelConfig, ModelError> {
    let fields = fields.with_defaults(&[("max_position_embeddings", 131_072.0)]);
    let head_dim = from_hf::even_head(&fields)?;
    let shape = Shape {
        rope_dims: rope_dims(&fields, head_dim)?,
        ..Shape::of_heads(Family::Phi3, head_dim)
    };
    let config = from_hf::common(&fields, &shape)?;
    if config.biases.qkv || config.biases.ffn {
        return Err(fields.unsupported("biases of linear weights", "Phi 3 without them"));
    }
    // The weights need not decide here: without a word, there is an output head.
    let tied_embeddings = fields.flag("tie_word_embeddings")?.unwrap_or(false);
    Ok(ModelConfig {
        tied_embeddings,
        ..config
    })
}

fn rope_dims(fields: &Fields, head_dim: usize) -> Result<usize, ModelError> {
    const NAME: &str = "partial_rotary_factor";
    let newer = match fields.section("rope_parameters")? {
        Some(section) => fields.number_in(NAME, section)?,
        None => None,
    };
    let part = match newer {
        Some(part) => part,
        None => fields.number(NAME)?.unwrap_or(1.0),
    };
    let dims = (head_dim as f64 * f64::from(part)) as usize;
    if dims == 0 || dims > head_dim || !dims.is_multiple_of(2) {
        let expected = format!("a part of a head of {head_dim} that is even, and some of it");
        return Err(fields.wrong(NAME, expected));
    }
    Ok(dims)
}

fn read_gguf(keys: &Keys<'_>) -> Result<ModelConfig, ModelError> {
    if keys.has("blk.0.attn_qkv.bias") {
        return Err(keys.unsupported("biases of linear weights", "Phi 3 without them"));
    }
    let shape = from_gguf::partly_turned(Family::Phi3, keys)?;
    from_gguf::common(keys, &shape, RopeLayout::Half)
}

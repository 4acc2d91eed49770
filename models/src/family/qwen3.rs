//! Qwen 3: norms on queries and keys instead of biases.

use super::Architecture;
use crate::{
    Family, ModelConfig, ModelError, RopeLayout,
    config::{Fields, Keys, Shape, from_gguf, from_hf},
};

pub(super) const ARCHITECTURE: Architecture = Architecture {
    hugging_face: &[("qwen3", read)],
    gguf: &[("qwen3", read_gguf)],
};

/// Windows as in Qwen 2: there are none.
fn read(fields: &Fields) -> Result<ModelConfig, ModelError> {
    let fields = fields.with_defaults(&[("head_dim", 128.0)]);
    let config = from_hf::common(&fields, &Shape::usual(Family::Qwen3, &fields)?)?;
    Ok(ModelConfig {
        qk_norm: true,
        ..config
    })
}

fn read_gguf(keys: &Keys<'_>) -> Result<ModelConfig, ModelError> {
    let shape = from_gguf::usual(Family::Qwen3, keys)?;
    let config = from_gguf::common(keys, &shape, RopeLayout::Half)?;
    Ok(ModelConfig {
        qk_norm: true,
        ..config
    })
}

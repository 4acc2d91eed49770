//! Qwen 2 and 2.5: Llama with biases on Q, K and V.

use super::Architecture;
use crate::{
    Biases, Family, ModelConfig, ModelError, RopeLayout,
    config::{Fields, Keys, Shape, from_gguf, from_hf},
};

pub(super) const ARCHITECTURE: Architecture = Architecture {
    hugging_face: &[("qwen2", read)],
    gguf: &[("qwen2", read_gguf)],
};

/// All layers see everything, whatever `use_sliding_window` and `max_window_layers` say: mlx-lm does
/// not look at them, llama.cpp neither, and no published model turns the window on.
fn read(fields: &Fields) -> Result<ModelConfig, ModelError> {
    let fields = fields.with_defaults(&[
        ("max_position_embeddings", 32_768.0),
        ("rope_theta", 1_000_000.0),
    ]);
    let config = from_hf::common(&fields, &Shape::usual(Family::Qwen2, &fields)?)?;
    Ok(ModelConfig {
        biases: Biases {
            qkv: true,
            attention_output: false,
            ..config.biases
        },
        ..config
    })
}

fn read_gguf(keys: &Keys<'_>) -> Result<ModelConfig, ModelError> {
    let shape = from_gguf::usual(Family::Qwen2, keys)?;
    from_gguf::common(keys, &shape, RopeLayout::Half)
}

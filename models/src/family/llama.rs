//! Llama 2 and 3, and those who kept its shape: SmolLM, TinyLlama, and many others.

use super::Architecture;
use crate::{
    Family, ModelConfig, ModelError, RopeLayout,
    config::{Fields, Keys, Shape, from_gguf, from_hf},
};

pub(super) const ARCHITECTURE: Architecture = Architecture {
    hugging_face: &[("llama", read), ("smollm", read)],
    gguf: &[("llama", read_gguf)],
};

fn read(fields: &Fields) -> Result<ModelConfig, ModelError> {
    let mut config = from_hf::common(fields, &Shape::usual(Family::Llama, fields)?)?;
    from_hf::windows(fields, &mut config, |_| false)?;
    Ok(config)
}

/// Mistral's files are Llama's too, but for their window. The converter reorders the rows of Q and K.
fn read_gguf(keys: &Keys<'_>) -> Result<ModelConfig, ModelError> {
    let shape = from_gguf::usual(Family::Llama, keys)?;
    let mut config = from_gguf::common(keys, &shape, RopeLayout::Interleaved)?;
    let window = from_gguf::window(keys)?;
    for kind in &mut config.layer_kinds {
        kind.window = window;
    }
    Ok(config)
}

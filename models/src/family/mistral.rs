//! Mistral: Llama with its own head width and, in its first models, a window.

use super::Architecture;
use crate::{
    Family, ModelConfig, ModelError,
    config::{Fields, Shape, from_hf},
};

pub(super) const ARCHITECTURE: Architecture = Architecture {
    hugging_face: &[("mistral", read)],
    // Converters make Llama's files of it.
    gguf: &[],
};

/// A `sliding_window` is for all layers, as in transformers; mlx-lm, which reads these files as
/// Llama's, only looks at it where `layer_types` names layers.
fn read(fields: &Fields) -> Result<ModelConfig, ModelError> {
    let mut config = from_hf::common(fields, &Shape::usual(Family::Mistral, fields)?)?;
    from_hf::windows(fields, &mut config, |_| true)?;
    Ok(config)
}

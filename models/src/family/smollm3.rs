//! SmolLM 3: Llama, but every fourth layer knows no positions.

use super::Architecture;
use crate::{
    Family, ModelConfig, ModelError, RopeLayout,
    config::{Fields, Keys, MAX_DIMENSION, Shape, from_gguf, from_hf},
};

pub(super) const ARCHITECTURE: Architecture = Architecture {
    hugging_face: &[("smollm3", read)],
    gguf: &[("smollm3", read_gguf)],
};

/// Every how many layers one knows no positions, unless the file says it.
const INTERVAL: usize = 4;

fn read(fields: &Fields) -> Result<ModelConfig, ModelError> {
    let mut config = from_hf::common(fields, &Shape::usual(Family::SmolLm3, fields)?)?;
    from_hf::windows(fields, &mut config, |_| false)?;
    let interval = fields.count("no_rope_layer_interval", MAX_DIMENSION)?;
    let interval = interval.unwrap_or(INTERVAL);
    // In spite of its name it has a one for each layer that knows positions.
    let listed = fields.list("no_rope_layers")?;
    let wrong = || {
        let expected = format!("a list of 0 or 1 for each of {} layers", config.layers);
        fields.wrong("no_rope_layers", expected)
    };
    if listed.is_some_and(|list| list.len() != config.layer_kinds.len()) {
        return Err(wrong());
    }
    let mut positions = Vec::new();
    for layer in 0..config.layer_kinds.len() {
        positions.push(match listed.and_then(|list| list.get(layer)) {
            None => !(layer + 1).is_multiple_of(interval),
            Some(value) => match value.as_u64() {
                Some(0) => false,
                Some(1) => true,
                _ => return Err(wrong()),
            },
        });
    }
    for (kind, positions) in config.layer_kinds.iter_mut().zip(positions) {
        kind.positions = positions;
    }
    Ok(config)
}

/// The converter reorders the rows of Q and K, as Llama's; the interval goes without saying.
fn read_gguf(keys: &Keys<'_>) -> Result<ModelConfig, ModelError> {
    let shape = from_gguf::usual(Family::SmolLm3, keys)?;
    let mut config = from_gguf::common(keys, &shape, RopeLayout::Interleaved)?;
    for (layer, kind) in config.layer_kinds.iter_mut().enumerate() {
        kind.positions = !(layer + 1).is_multiple_of(INTERVAL);
    }
    Ok(config)
}

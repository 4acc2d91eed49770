//! Qwen 3: norms on queries and keys instead of biases.

use super::Architecture;
use crate::{
    Family, ModelConfig, ModelError,
    config::{Fields, Shape, common},
};

pub(super) const ARCHITECTURE: Architecture = Architecture {
    hugging_face: &[("qwen3", read)],
};

/// Windows as in Qwen 2: there are none.
fn read(fields: &Fields) -> Result<ModelConfig, ModelError> {
    let fields = fields.with_defaults(&[("head_dim", 128.0)]);
    let config = common(&fields, &Shape::usual(Family::Qwen3, &fields)?)?;
    Ok(ModelConfig {
        qk_norm: true,
        ..config
    })
}

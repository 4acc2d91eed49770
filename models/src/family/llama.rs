//! Llama 2 and 3, and those who kept its shape: SmolLM, TinyLlama, and many others.

use super::Architecture;
use crate::{
    Family, ModelConfig, ModelError,
    config::{Fields, Shape, common, windows},
};

pub(super) const ARCHITECTURE: Architecture = Architecture {
    hugging_face: &[("llama", read), ("smollm", read)],
};

fn read(fields: &Fields) -> Result<ModelConfig, ModelError> {
    let mut config = common(fields, &Shape::usual(Family::Llama, fields)?)?;
    windows(fields, &mut config, |_| false)?;
    Ok(config)
}

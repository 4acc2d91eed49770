//! The families: one small file each, which fills a [`ModelConfig`] from what files say.
//!
//! A new family is such a file, an entry in [`ALL`], a variant of [`Family`](crate::Family), and
//! whatever block of arithmetic is truly new. What mlx-lm 0.31.3 does is the authority for defaults
//! and constants; where a file here does something else, it says why.

mod deepseek;
mod gemma2;
mod gemma3;
mod llama;
mod mistral;
mod phi3;
mod qwen2;
mod qwen3;
mod qwen3_moe;
mod smollm3;

use crate::{
    ModelConfig, ModelError,
    config::{Fields, Keys},
};

/// Fills a configuration from config.json.
pub(crate) type ReadFields = fn(&Fields) -> Result<ModelConfig, ModelError>;

/// Fills a configuration from GGUF metadata.
pub(crate) type ReadKeys = fn(&Keys<'_>) -> Result<ModelConfig, ModelError>;

/// How the files of a family are told, and who reads them.
pub(crate) struct Architecture {
    /// By `model_type` in config.json.
    hugging_face: &'static [(&'static str, ReadFields)],
    /// By `general.architecture` in GGUF.
    gguf: &'static [(&'static str, ReadKeys)],
}

const ALL: [Architecture; 10] = [
    llama::ARCHITECTURE,
    smollm3::ARCHITECTURE,
    mistral::ARCHITECTURE,
    qwen2::ARCHITECTURE,
    qwen3::ARCHITECTURE,
    qwen3_moe::ARCHITECTURE,
    gemma2::ARCHITECTURE,
    gemma3::ARCHITECTURE,
    phi3::ARCHITECTURE,
    deepseek::ARCHITECTURE,
];

/// Who reads config.json files of this `model_type`.
pub(crate) fn hugging_face(model_type: &str) -> Option<ReadFields> {
    let mut known = ALL.iter().flat_map(|family| family.hugging_face);
    known
        .find(|(name, _)| *name == model_type)
        .map(|&(_, read)| read)
}

/// Every `model_type` that is read.
pub(crate) fn model_types() -> String {
    let known = ALL.iter().flat_map(|family| family.hugging_face);
    known.map(|&(name, _)| name).collect::<Vec<_>>().join(", ")
}

/// Who reads GGUF files of this `general.architecture`.
pub(crate) fn gguf(architecture: &str) -> Option<ReadKeys> {
    let mut known = ALL.iter().flat_map(|family| family.gguf);
    known
        .find(|(name, _)| *name == architecture)
        .map(|&(_, read)| read)
}

/// Every `general.architecture` that is read.
pub(crate) fn gguf_architectures() -> String {
    let known = ALL.iter().flat_map(|family| family.gguf);
    known.map(|&(name, _)| name).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests;

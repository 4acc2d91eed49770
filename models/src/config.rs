//! What the forward pass needs to know about a model, whatever file said it.

mod from_gguf;
mod from_hf;

use std::path::Path;

pub(crate) use self::{
    from_gguf::from_gguf,
    from_hf::{declared_dtype, from_folder},
};
use crate::ModelError;

/// The shape and constants of a model.
///
/// Everything here is checked when a model is opened: no dimension is zero, heads divide evenly, end
/// tokens are in the vocabulary. Nothing needs to be checked again by who computes with it.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ModelConfig {
    /// Which architecture.
    pub family: Family,
    /// Transformer layers of the whole model.
    pub layers: u32,
    /// Width of the hidden state.
    pub hidden: usize,
    /// Width of the feed-forward part.
    pub intermediate: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// Width of a head; even.
    pub head_dim: usize,
    /// Rows of the embedding; may exceed the tokenizer's vocabulary by padding.
    pub vocab: usize,
    /// Epsilon of the RMS norms.
    pub norm_eps: f32,
    /// Base of the rotary position embedding.
    pub rope_theta: f32,
    /// How rows of Q and K pair up for it.
    pub rope: RopeLayout,
    /// How its frequencies are stretched.
    pub rope_scaling: RopeScaling,
    /// Most positions.
    pub context: u32,
    /// The output head is the embedding.
    pub tied_embeddings: bool,
    /// Q, K and V have biases.
    pub attention_bias: bool,
    /// Any of these ends a generation.
    pub eos: Vec<u32>,
    /// Begins a text, for models that want it.
    pub bos: Option<u32>,
    /// Texts begin with `bos` even if the caller did not write it.
    pub add_bos: bool,
    /// Bytes of all weights on disk, of the whole model; for planning memory.
    pub weight_bytes: u64,
    /// Linear weights are packed by MLX, which only MLX reads: [`Model::weights`] refuses them.
    ///
    /// [`Model::weights`]: crate::Model::weights
    pub mlx_quantization: Option<MlxQuantization>,
}

/// An architecture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Family {
    /// Llama and those who kept its shape, SmolLM among them.
    Llama,
    /// Mistral: Llama with its own head width.
    Mistral,
    /// Qwen 2 and 2.5: Llama with biases on Q, K and V.
    Qwen2,
}

/// How the rows of Q and K are ordered, which decides what rotates with what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RopeLayout {
    /// Hugging Face: element `i` of a head pairs with `i + head_dim / 2`.
    Half,
    /// The Llama family in GGUF: element `2i` pairs with `2i + 1`.
    Interleaved,
}

/// How the frequencies of the rotary embedding are stretched for long contexts.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[non_exhaustive]
pub enum RopeScaling {
    /// As trained.
    #[default]
    None,
    /// Positions divided by a factor.
    Linear {
        /// The divisor.
        factor: f32,
    },
    /// Llama 3.1: long wavelengths divided by a factor, short ones kept, between them a ramp.
    Llama3 {
        /// The divisor of long wavelengths.
        factor: f32,
        /// Wavelengths above `original_context / low_freq_factor` are long.
        low_freq_factor: f32,
        /// Wavelengths below `original_context / high_freq_factor` are short.
        high_freq_factor: f32,
        /// The context the model was first trained with.
        original_context: u32,
    },
}

/// How MLX packed the linear weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct MlxQuantization {
    /// Elements that share a scale and a bias.
    pub group_size: u32,
    /// Bits per element.
    pub bits: u32,
}

/// The most that any dimension is believed to be. Real ones are far below; the product of two stays
/// within 32 bits, so no sum of shapes overflows anywhere.
const MAX_DIMENSION: u64 = 1 << 15;
/// Vocabularies reach a quarter of a million.
const MAX_VOCAB: u64 = 1 << 24;
/// Feed-forward parts are a few times wider than the hidden state.
const MAX_INTERMEDIATE: u64 = 1 << 20;

/// The names that a file format has for the fields, for the messages of [`ModelConfig::check`].
struct FieldNames<'a> {
    heads: &'a str,
    kv_heads: &'a str,
    head_dim: &'a str,
    eos: &'a str,
    bos: &'a str,
}

impl ModelConfig {
    /// What no single field shows to be wrong.
    fn check(&self, file: &Path, names: &FieldNames<'_>) -> Result<(), ModelError> {
        if !self.heads.is_multiple_of(self.kv_heads) {
            let expected = format!("a divisor of `{}`, which is {}", names.heads, self.heads);
            return Err(ModelError::field(
                file,
                names.kv_heads,
                expected,
                self.kv_heads,
            ));
        }
        if !self.head_dim.is_multiple_of(2) {
            let expected = "even, because rotary positions work on pairs";
            return Err(ModelError::field(
                file,
                names.head_dim,
                expected,
                self.head_dim,
            ));
        }
        let expected = format!("a token below {}", self.vocab);
        let outside = |token: u32| usize::try_from(token).is_ok_and(|token| token >= self.vocab);
        if let Some(&token) = self.eos.iter().find(|&&token| outside(token)) {
            return Err(ModelError::field(file, names.eos, expected, token));
        }
        if let Some(token) = self.bos.filter(|&token| outside(token)) {
            return Err(ModelError::field(file, names.bos, expected, token));
        }
        Ok(())
    }
}

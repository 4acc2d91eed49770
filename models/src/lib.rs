//! What a model is on disk: registry, configs, weights, tokenizer, chat template.
//!
//! A [`Model`] is a folder in Hugging Face layout, a GGUF file, or the small model that is compiled
//! into the binary. Whatever it is, it answers the same questions: what shape it has
//! ([`ModelConfig`]), where the weights of a range of layers lie ([`Weights`]), how text becomes
//! tokens and tokens text ([`Tokenizer`]), and how a conversation becomes text ([`ChatTemplate`]). A
//! [`Catalog`] finds models by name.
//!
//! What a family of models *is* (its norms, windows, rotary positions, experts, where its files keep
//! which weight) is said here once, one small file for each family, and comes out as one
//! [`ModelConfig`] and one set of [`WeightName`]s. Engines read those and never ask for the family:
//! fused and stacked tensors are given as parts, whatever MLX packed comes with its [`Scales`].
//!
//! ```
//! use exo_models::{Catalog, ChatMessage, WeightName};
//!
//! # fn main() -> Result<(), exo_models::ModelError> {
//! let model = Catalog::new(Vec::new()).resolve("stories")?;
//!
//! // The last layers, as a node at the end of a ring loads them.
//! let layers = model.config().layers;
//! let weights = model.weights(layers - 2..layers)?;
//! let norm = weights.get(WeightName::OutputNorm)?;
//! assert_eq!((norm.rows, norm.cols), (1, model.config().hidden));
//!
//! // A prompt, as a node at the beginning gets it.
//! let question = ChatMessage::new("user", "Tell me a story.");
//! let prompt = model.chat_template()?.render(&[question], None, true)?;
//! let tokens = model.tokenizer()?.encode(&prompt)?;
//! # assert!(!tokens.is_empty());
//! # Ok(())
//! # }
//! ```
//!
//! Nothing here knows about peers or engines. Only [`hub`] uses the network, and only when it is
//! told to. Weights are mapped, not read: the operating system brings in what is touched, and may drop it again.
//!
//! Files come from strangers. Everything in them is checked before it is used; what is wrong is a
//! [`ModelError`] that names the file and, where there is one, the field or tensor, and says what was
//! expected. The one `unsafe` block is the mapping itself.
#![deny(unsafe_code)]

mod catalog;
mod chat;
mod config;
pub mod embedded;
mod error;
mod family;
mod fingerprint;
mod folder;
pub mod gguf;
pub mod guide;
pub mod hub;
mod map;
mod model;
mod parts;
mod ranges;
pub mod registry;
mod safetensors;
mod tokenizer;
mod weights;

pub use self::{
    catalog::{Catalog, CatalogEntry},
    chat::{AnswerPiece, CallReader, Calling, ChatMessage, ChatTemplate, ToolCall, ToolFormat},
    config::{
        Activation, Biases, Experts, Family, LatentAttention, LayerKind, MlxQuantization,
        ModelConfig, Packing, RopeConfig, RopeLayout, RopeScaling, Scoring,
    },
    error::{ModelError, UnknownModel},
    map::WeightBytes,
    model::Model,
    tokenizer::{MAX_TEXT, TokenStream, Tokenizer},
    weights::{FfnPart, LayerWeight, Scales, Sizes, WeightKind, WeightName, WeightView, Weights},
};

#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod real_model_tests;
#[cfg(test)]
mod test_files;

//! What the forward pass needs to know about a model, whatever file said it.

mod fields;
pub(crate) mod from_gguf;
pub(crate) mod from_hf;
mod keys;
mod mlx_quantization;
mod rope;
mod rope_fields;
mod rope_keys;

use std::{collections::BTreeMap, path::Path};

pub use self::rope::{RopeConfig, RopeLayout, RopeScaling};
pub(crate) use self::{
    fields::Fields,
    from_gguf::from_gguf,
    from_hf::{Shape, declared_dtype, expert_layers, from_folder, unstretched},
    keys::Keys,
    rope_fields::{scaling as rope_scaling, section as rope_section, yarn_magnitude},
};
use crate::ModelError;

/// The shape and constants of a model: everything in which the supported families differ.
///
/// It is what both engines read. A family is the file that fills it in from what its files say; an
/// engine looks at the fields and never at the family.
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
    /// What each of them is; as many as `layers`.
    pub layer_kinds: Vec<LayerKind>,
    /// Width of the hidden state.
    pub hidden: usize,
    /// Width of the feed-forward part of layers without experts.
    pub intermediate: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// Width of a head of queries and keys; even.
    pub head_dim: usize,
    /// Keys and values are kept compressed; `kv_heads` equals `heads` then, and `head_dim` is the
    /// width of queries and keys, the unturned and the turned part together.
    pub latent: Option<LatentAttention>,
    /// Rows of the embedding; may exceed the tokenizer's vocabulary by padding.
    pub vocab: usize,
    /// What embeddings are multiplied by before the first layer; one for most.
    pub embedding_scale: f32,
    /// Epsilon of the RMS norms.
    pub norm_eps: f32,
    /// What norms add to their weights before they multiply with them: one in Gemma's safetensors.
    pub norm_offset: f32,
    /// What attention and the feed-forward part give is normed before it is added.
    pub post_norms: bool,
    /// Each head of queries and keys is normed before it turns.
    pub qk_norm: bool,
    /// Scores are multiplied by this; `1 / sqrt(head_dim)` for most.
    pub score_scale: f32,
    /// Scores `s` become `cap * tanh(s / cap)`.
    pub score_cap: Option<f32>,
    /// Logits `x` become `cap * tanh(x / cap)`.
    pub logit_cap: Option<f32>,
    /// Between gate and up.
    pub activation: Activation,
    /// How positions turn queries and keys, in layers without `local_rope`.
    pub rope: RopeConfig,
    /// The same for layers with a window, where a family tells them apart.
    pub local_rope: Option<RopeConfig>,
    /// The experts of layers that have some.
    pub experts: Option<Experts>,
    /// Most positions.
    pub context: u32,
    /// The output head is the embedding.
    pub tied_embeddings: bool,
    /// Which linear weights have biases.
    pub biases: Biases,
    /// Any of these ends a generation.
    pub eos: Vec<u32>,
    /// Begins a text, for models that want it.
    pub bos: Option<u32>,
    /// Texts begin with `bos` even if the caller did not write it.
    pub add_bos: bool,
    /// Bytes of all weights on disk, of the whole model; for planning memory.
    pub weight_bytes: u64,
    /// How linear weights are packed, in safetensors that MLX wrote.
    pub mlx_quantization: Option<MlxQuantization>,
}

/// An architecture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Family {
    /// Llama and those who kept its shape, SmolLM among them.
    Llama,
    /// SmolLM 3: Llama with layers that know no positions.
    SmolLm3,
    /// Mistral: Llama with its own head width and, in the first ones, a window.
    Mistral,
    /// Qwen 2 and 2.5: Llama with biases on Q, K and V.
    Qwen2,
    /// Qwen 3: norms on queries and keys.
    Qwen3,
    /// Qwen 3 with experts.
    Qwen3Moe,
    /// Gemma 2: norms on both sides, soft caps, every other layer with a window.
    Gemma2,
    /// Gemma 3, its text part: norms on queries and keys, five of six layers with a window.
    Gemma3,
    /// Phi 3 and 4: fused weights, long factors, a part of each head turned.
    Phi3,
    /// DeepSeek 2: latent attention, experts.
    DeepSeek2,
    /// DeepSeek 3: the same with other gating.
    DeepSeek3,
}

/// What tells the layers of one model apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LayerKind {
    /// How many positions a position sees, itself among them; all before it if `None`.
    pub window: Option<u32>,
    /// Queries and keys turn with their positions.
    pub positions: bool,
    /// The feed-forward part is [`ModelConfig::experts`].
    pub experts: bool,
}

impl LayerKind {
    /// A layer as most are: it sees everything, knows positions, and has no experts.
    pub const PLAIN: Self = Self {
        window: None,
        positions: true,
        experts: false,
    };
}

/// What comes between the gate and up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Activation {
    /// `x * sigmoid(x)`.
    Silu,
    /// GELU by its tanh approximation.
    GeluTanh,
}

/// Which linear weights have biases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Biases {
    /// Queries, keys and values.
    pub qkv: bool,
    /// From the heads back.
    pub attention_output: bool,
    /// Gate, up and down.
    pub ffn: bool,
}

/// Multi-head latent attention: keys and values come from one compressed vector.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LatentAttention {
    /// Width to which the hidden state is compressed for the queries; `None` when they come
    /// directly from it.
    pub query_rank: Option<usize>,
    /// Width to which it is compressed for keys and values.
    pub kv_rank: usize,
    /// Part of each query and key that does not turn.
    pub plain_dim: usize,
    /// Part that turns, after the plain one; all heads share that of the keys. Even.
    pub rope_dim: usize,
    /// Width of a head's values.
    pub value_dim: usize,
    /// Epsilon of the norms of what was compressed, which need not be that of the others.
    pub norm_eps: f32,
}

/// A feed-forward part of which each position uses a few of many.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Experts {
    /// How many there are.
    pub count: usize,
    /// How many each position uses.
    pub active: usize,
    /// Width of each.
    pub intermediate: usize,
    /// Width of what every position uses besides; zero when there is nothing of it.
    pub shared_intermediate: usize,
    /// How scores come from the router's logits.
    pub scoring: Scoring,
    /// The router has a bias that takes part in choosing, and not in weighing.
    pub choice_bias: bool,
    /// Experts come in this many groups of equal size; one for most.
    pub groups: usize,
    /// Only the best groups, this many, are chosen from.
    pub active_groups: usize,
    /// A group is as good as the sum of its two best experts, rather than as its best one.
    pub group_by_two: bool,
    /// The chosen scores are divided by their sum.
    pub normalise: bool,
    /// And multiplied by this.
    pub scale: f32,
}

/// How an expert's score comes from its logit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scoring {
    /// Over all experts.
    Softmax,
    /// Each for itself.
    Sigmoid,
}

/// How MLX packed the linear weights.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct MlxQuantization {
    /// Of the weights that are not named below.
    pub usual: Packing,
    /// Modules with a packing of their own, or with none, by their name in the files, such as
    /// `model.layers.0.mlp.down_proj`.
    pub others: BTreeMap<String, Option<Packing>>,
}

/// MLX's affine quantisation: `value = scale * number + bias`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Packing {
    /// Elements of a row that share a scale and a bias: 32, 64 or 128.
    pub group: u16,
    /// Bits per number: 2, 3, 4, 6 or 8.
    pub bits: u8,
}

impl ModelConfig {
    /// What a layer is; plain for one that is not there.
    #[must_use]
    pub fn layer_kind(&self, layer: u32) -> LayerKind {
        let kind = self.layer_kinds.get(layer as usize);
        kind.copied().unwrap_or(LayerKind::PLAIN)
    }

    /// How positions turn the queries and keys of a layer, if they do.
    #[must_use]
    pub fn rope_of(&self, layer: u32) -> Option<&RopeConfig> {
        let kind = self.layer_kind(layer);
        let local = self.local_rope.as_ref().filter(|_| kind.window.is_some());
        kind.positions.then(|| local.unwrap_or(&self.rope))
    }
}

/// The most that any dimension is believed to be. Real ones are far below; the product of two stays
/// within 32 bits, so no sum of shapes overflows anywhere.
pub(crate) const MAX_DIMENSION: u64 = 1 << 15;
/// Vocabularies reach a quarter of a million.
pub(crate) const MAX_VOCAB: u64 = 1 << 24;
/// Feed-forward parts are a few times wider than the hidden state.
pub(crate) const MAX_INTERMEDIATE: u64 = 1 << 20;
/// Half a thousand is the most that was published.
pub(crate) const MAX_EXPERTS: u64 = 1 << 12;

/// The names that a file format has for the fields, for the messages of [`ModelConfig::check`].
struct FieldNames<'a> {
    heads: &'a str,
    kv_heads: &'a str,
    head_dim: &'a str,
    rope: &'a str,
    eos: &'a str,
    bos: &'a str,
}

impl ModelConfig {
    /// A model without anything special, to be filled in: every dimension but these is zero.
    pub(crate) fn plain(family: Family, layers: u32, head_dim: usize) -> Self {
        Self {
            family,
            layers,
            layer_kinds: vec![LayerKind::PLAIN; layers as usize],
            hidden: 0,
            intermediate: 0,
            heads: 0,
            kv_heads: 0,
            head_dim,
            latent: None,
            vocab: 0,
            embedding_scale: 1.0,
            norm_eps: 1e-6,
            norm_offset: 0.0,
            post_norms: false,
            qk_norm: false,
            score_scale: (head_dim as f32).sqrt().recip(),
            score_cap: None,
            logit_cap: None,
            activation: Activation::Silu,
            rope: RopeConfig {
                theta: 10_000.0,
                dims: head_dim,
                layout: RopeLayout::Half,
                scaling: RopeScaling::None,
            },
            local_rope: None,
            experts: None,
            context: 0,
            tied_embeddings: false,
            biases: Biases::default(),
            eos: Vec::new(),
            bos: None,
            add_bos: false,
            weight_bytes: 0,
            mlx_quantization: None,
        }
    }

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
        for rope in [Some(&self.rope), self.local_rope.as_ref()]
            .into_iter()
            .flatten()
        {
            if rope.dims == 0 || !rope.dims.is_multiple_of(2) || rope.dims > self.head_dim {
                let expected = format!("for an even part of a head of {}", self.head_dim);
                return Err(ModelError::field(file, names.rope, expected, rope.dims));
            }
            let mut numbers = rope.frequencies();
            numbers.extend([rope.magnitude(), self.score_scale].map(f64::from));
            let finite = |&number: &f64| number.is_finite() && number as f32 > 0.0;
            if let Some(wrong) = numbers.iter().find(|number| !finite(number)) {
                let expected = "such that frequencies and scales are positive numbers";
                return Err(ModelError::field(file, names.rope, expected, wrong));
            }
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

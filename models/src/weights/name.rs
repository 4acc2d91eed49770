//! What weights are called, and how large they are.

use std::ops::Range;

use crate::{Experts, LatentAttention, LayerKind, ModelConfig};

/// A weight's name, independent of the file format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum WeightName {
    /// The embedding of each token, `[vocab, hidden]`; also the output head when they are tied.
    TokenEmbedding,
    /// The norm before the output head, `[hidden]`.
    OutputNorm,
    /// The output head, `[vocab, hidden]`; not there when it is tied to the embedding.
    Output,
    /// A weight of one layer, counted from 0 in the whole model.
    Layer(u32, LayerWeight),
}

/// The weights of a layer. [`LayerWeight::of`] says which a layer has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LayerWeight {
    /// The norm before attention, `[hidden]`.
    AttnNorm,
    /// Queries, `[heads × head_dim, hidden]`; see [`RopeLayout`](crate::RopeLayout) for row order.
    /// With latent attention each head's row block is its plain part, then its turned part.
    AttnQ,
    /// Keys, `[kv_heads × head_dim, hidden]`; see [`RopeLayout`](crate::RopeLayout) for row order.
    AttnK,
    /// Values, `[kv_heads × head_dim, hidden]`.
    AttnV,
    /// Bias of the queries, `[heads × head_dim]`.
    AttnQBias,
    /// Bias of the keys, `[kv_heads × head_dim]`.
    AttnKBias,
    /// Bias of the values, `[kv_heads × head_dim]`.
    AttnVBias,
    /// The norm of each head's queries, `[head_dim]`.
    AttnQNorm,
    /// The norm of each head's keys, `[head_dim]`.
    AttnKNorm,
    /// Latent attention: the hidden state compressed for the queries, `[query_rank, hidden]`.
    AttnQDown,
    /// The norm of that, `[query_rank]`.
    AttnQDownNorm,
    /// Queries from that, `[heads × head_dim, query_rank]`; rows as those of `AttnQ`.
    AttnQUp,
    /// Latent attention: the hidden state compressed for keys and values, and the turned part of
    /// the keys, `[kv_rank + rope_dim, hidden]`.
    AttnKvDown,
    /// The norm of the compressed part, `[kv_rank]`.
    AttnKvDownNorm,
    /// Each head's plain part of its keys, then its values: `[heads × (plain_dim + value_dim),
    /// kv_rank]`.
    AttnKvUp,
    /// From the heads back, `[hidden, heads × head_dim]`; with latent attention `[hidden, heads ×
    /// value_dim]`.
    AttnOutput,
    /// Bias of that, `[hidden]`.
    AttnOutputBias,
    /// The norm of what attention gives, `[hidden]`; only with `post_norms`.
    PostAttnNorm,
    /// The norm before the feed-forward part, `[hidden]`.
    FfnNorm,
    /// Gate and up, `[intermediate, hidden]`; down, `[hidden, intermediate]`.
    Ffn(FfnPart),
    /// Their biases: gate and up, `[intermediate]`; down, `[hidden]`.
    FfnBias(FfnPart),
    /// How well each expert fits, `[count, hidden]`.
    Router,
    /// What is added to scores while experts are chosen, `[count]`; only with `choice_bias`.
    RouterBias,
    /// An expert's weights, shaped as those of `Ffn` with the width of an expert. Experts that
    /// lie in one tensor are given one by one.
    Expert(u16, FfnPart),
    /// The weights of what every position uses besides its experts; as those of `Ffn`.
    SharedExpert(FfnPart),
    /// The norm of what the feed-forward part gives, `[hidden]`; only with `post_norms`.
    PostFfnNorm,
}

/// The three weights of a gated feed-forward part: `down(activation(gate(x)) * up(x))`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FfnPart {
    /// What the activation is for.
    Gate,
    /// What it is multiplied with.
    Up,
    /// Back to the hidden state.
    Down,
}

impl FfnPart {
    /// All three.
    pub const ALL: [Self; 3] = [Self::Gate, Self::Up, Self::Down];

    fn shape(self, hidden: usize, intermediate: usize) -> (usize, usize) {
        match self {
            Self::Gate | Self::Up => (intermediate, hidden),
            Self::Down => (hidden, intermediate),
        }
    }
}

impl LayerWeight {
    /// What a layer of this kind has, in the order of the forward pass.
    #[must_use]
    pub fn of(config: &ModelConfig, kind: LayerKind) -> Vec<Self> {
        let mut weights = vec![Self::AttnNorm];
        match config.latent {
            Some(latent) => {
                match latent.query_rank {
                    Some(_) => {
                        weights.extend([Self::AttnQDown, Self::AttnQDownNorm, Self::AttnQUp])
                    }
                    None => weights.push(Self::AttnQ),
                }
                weights.extend([Self::AttnKvDown, Self::AttnKvDownNorm, Self::AttnKvUp]);
            }
            None => weights.extend([Self::AttnQ, Self::AttnK, Self::AttnV]),
        }
        if config.biases.qkv {
            weights.extend([Self::AttnQBias, Self::AttnKBias, Self::AttnVBias]);
        }
        if config.qk_norm {
            weights.extend([Self::AttnQNorm, Self::AttnKNorm]);
        }
        weights.push(Self::AttnOutput);
        if config.biases.attention_output {
            weights.push(Self::AttnOutputBias);
        }
        if config.post_norms {
            weights.push(Self::PostAttnNorm);
        }
        weights.push(Self::FfnNorm);
        match config.experts.filter(|_| kind.experts) {
            Some(experts) => {
                weights.push(Self::Router);
                if experts.choice_bias {
                    weights.push(Self::RouterBias);
                }
                let count = u16::try_from(experts.count).unwrap_or(u16::MAX);
                for part in FfnPart::ALL {
                    weights.extend((0..count).map(|expert| Self::Expert(expert, part)));
                }
                if experts.shared_intermediate > 0 {
                    weights.extend(FfnPart::ALL.map(Self::SharedExpert));
                }
            }
            None => {
                weights.extend(FfnPart::ALL.map(Self::Ffn));
                if config.biases.ffn {
                    weights.extend(FfnPart::ALL.map(Self::FfnBias));
                }
            }
        }
        if config.post_norms {
            weights.push(Self::PostFfnNorm);
        }
        weights
    }

    /// Rows and columns; a vector has one row.
    fn shape(self, config: &ModelConfig) -> (usize, usize) {
        let hidden = config.hidden;
        let queries = config.heads * config.head_dim;
        let keys = config.kv_heads * config.head_dim;
        let latent = config.latent.unwrap_or(LatentAttention {
            query_rank: None,
            kv_rank: 0,
            plain_dim: 0,
            rope_dim: 0,
            value_dim: config.head_dim,
            norm_eps: config.norm_eps,
        });
        let query_rank = latent.query_rank.unwrap_or(hidden);
        let experts = config.experts;
        let width = |of: fn(&Experts) -> usize| experts.as_ref().map_or(0, of);
        match self {
            Self::AttnNorm
            | Self::FfnNorm
            | Self::PostAttnNorm
            | Self::PostFfnNorm
            | Self::AttnOutputBias
            | Self::FfnBias(FfnPart::Down) => (1, hidden),
            Self::AttnQ => (queries, hidden),
            Self::AttnK | Self::AttnV => (keys, hidden),
            Self::AttnQBias => (1, queries),
            Self::AttnKBias | Self::AttnVBias => (1, keys),
            Self::AttnQNorm | Self::AttnKNorm => (1, config.head_dim),
            Self::AttnQDown => (query_rank, hidden),
            Self::AttnQDownNorm => (1, query_rank),
            Self::AttnQUp => (queries, query_rank),
            Self::AttnKvDown => (latent.kv_rank + latent.rope_dim, hidden),
            Self::AttnKvDownNorm => (1, latent.kv_rank),
            Self::AttnKvUp => (
                config.heads * (latent.plain_dim + latent.value_dim),
                latent.kv_rank,
            ),
            Self::AttnOutput => (hidden, config.heads * latent.value_dim),
            Self::Ffn(part) => part.shape(hidden, config.intermediate),
            Self::FfnBias(FfnPart::Gate | FfnPart::Up) => (1, config.intermediate),
            Self::Router => (width(|experts| experts.count), hidden),
            Self::RouterBias => (1, width(|experts| experts.count)),
            Self::Expert(_, part) => part.shape(hidden, width(|experts| experts.intermediate)),
            Self::SharedExpert(part) => {
                part.shape(hidden, width(|experts| experts.shared_intermediate))
            }
        }
    }
}

impl WeightName {
    /// The rows and columns that the configuration implies.
    pub(crate) fn shape(self, config: &ModelConfig) -> (usize, usize) {
        match self {
            Self::TokenEmbedding | Self::Output => (config.vocab, config.hidden),
            Self::OutputNorm => (1, config.hidden),
            Self::Layer(_, weight) => weight.shape(config),
        }
    }

    /// Whether the part of a model with these layers needs the weight. The embedding belongs to the
    /// first layer, and to the last one too when it serves as the output head.
    pub(crate) fn belongs_to(self, range: &Range<u32>, config: &ModelConfig) -> bool {
        let last = range.end == config.layers;
        match self {
            Self::TokenEmbedding => range.start == 0 || (last && config.tied_embeddings),
            Self::OutputNorm => last,
            Self::Output => last && !config.tied_embeddings,
            Self::Layer(layer, weight) => {
                range.contains(&layer)
                    && LayerWeight::of(config, config.layer_kind(layer)).contains(&weight)
            }
        }
    }

    /// Every weight that a part of a model with these layers needs.
    #[must_use]
    pub fn of_range(range: &Range<u32>, config: &ModelConfig) -> Vec<Self> {
        let layers = range.clone().flat_map(|layer| {
            let weights = LayerWeight::of(config, config.layer_kind(layer));
            weights
                .into_iter()
                .map(move |weight| Self::Layer(layer, weight))
        });
        let ends = |names: &[Self]| {
            let names = names.iter().copied();
            names
                .filter(|name| name.belongs_to(range, config))
                .collect::<Vec<_>>()
        };
        ends(&[Self::TokenEmbedding])
            .into_iter()
            .chain(layers)
            .chain(ends(&[Self::OutputNorm, Self::Output]))
            .collect()
    }
}

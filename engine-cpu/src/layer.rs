//! The weights of a layer, and of the output head.

use crate::error::CpuError;
use crate::matrix::{Linear, Matrix};
use exo_models::{FfnPart, LatentAttention, LayerWeight, ModelConfig, WeightName, Weights};

/// The weights of one layer.
#[derive(Debug)]
pub(crate) struct Layer {
    pub(crate) attn_norm: Vec<f32>,
    pub(crate) attention: Attention,
    /// Of what attention gives.
    pub(crate) post_attn_norm: Option<Vec<f32>>,
    pub(crate) ffn_norm: Vec<f32>,
    pub(crate) ffn: FeedForward,
    /// Of what the feed-forward part gives.
    pub(crate) post_ffn_norm: Option<Vec<f32>>,
}

/// Weights of attention, and what each layer does its own way.
#[derive(Debug)]
pub(crate) struct Attention {
    pub(crate) projection: Projection,
    pub(crate) output: Linear,
    /// Positions that a position sees, itself among them.
    pub(crate) window: Option<usize>,
}

/// Where queries, keys and values come from.
#[derive(Debug)]
pub(crate) enum Projection {
    Plain(Plain),
    Latent(Latent),
}

/// Directly from the hidden state.
#[derive(Debug)]
pub(crate) struct Plain {
    /// Queries, keys, values.
    pub(crate) qkv: [Linear; 3],
    /// Of each head of queries, and of keys.
    pub(crate) norms: Option<[Vec<f32>; 2]>,
}

/// Keys and values from one compressed vector, perhaps queries from another.
#[derive(Debug)]
pub(crate) struct Latent {
    /// Where queries are compressed: how, and the norm of that.
    pub(crate) query_down: Option<(Linear, Vec<f32>)>,
    /// From that, or from the hidden state.
    pub(crate) query: Linear,
    /// To the compressed vector, and to the part of the keys that turns.
    pub(crate) kv_down: Linear,
    /// Of the compressed vector.
    pub(crate) kv_norm: Vec<f32>,
    /// Of each head the plain part of its keys, then its values.
    pub(crate) kv_up: Matrix,
}

/// What follows attention.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "there is one in each layer, beside what it points to"
)]
pub(crate) enum FeedForward {
    Dense(Gated),
    Experts(Mixture),
}

/// `down(activation(gate(x)) * up(x))`.
#[derive(Debug)]
pub(crate) struct Gated {
    /// Gate and up, of the same width.
    pub(crate) wide: [Linear; 2],
    pub(crate) down: Linear,
}

/// Of many gated parts each position uses a few.
#[derive(Debug)]
pub(crate) struct Mixture {
    pub(crate) router: Linear,
    /// Added to scores while experts are chosen.
    pub(crate) choice_bias: Option<Vec<f32>>,
    pub(crate) experts: Vec<Gated>,
    pub(crate) shared: Option<Gated>,
}

/// What comes after the last layer.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) norm: Vec<f32>,
    pub(crate) output: Linear,
}

/// Loads the weights of one layer.
struct Loader<'a> {
    weights: &'a Weights,
    config: &'a ModelConfig,
    n: u32,
}

impl Loader<'_> {
    fn vector(&self, weight: LayerWeight, len: usize) -> Result<Vec<f32>, CpuError> {
        Matrix::load_vector(self.weights, WeightName::Layer(self.n, weight), len)
    }

    fn norm(&self, weight: LayerWeight, len: usize) -> Result<Vec<f32>, CpuError> {
        let mut norm = self.vector(weight, len)?;
        add_offset(self.config, &mut norm);
        Ok(norm)
    }

    fn post_norm(&self, weight: LayerWeight) -> Result<Option<Vec<f32>>, CpuError> {
        let wanted = self.config.post_norms;
        let norm = || self.norm(weight, self.config.hidden);
        wanted.then(norm).transpose()
    }

    fn linear(
        &self,
        weight: LayerWeight,
        bias: Option<LayerWeight>,
        shape: (usize, usize),
    ) -> Result<Linear, CpuError> {
        let name = WeightName::Layer(self.n, weight);
        let bias = bias.map(|bias| self.vector(bias, shape.0)).transpose()?;
        let matrix = Matrix::load(self.weights, name, shape)?;
        Ok(Linear { matrix, bias })
    }

    fn attention(&self) -> Result<Attention, CpuError> {
        let config = self.config;
        let (projection, value_dim) = match config.latent {
            None => (Projection::Plain(self.plain()?), config.head_dim),
            Some(latent) => {
                let value_dim = latent.value_dim;
                (Projection::Latent(self.latent(latent)?), value_dim)
            }
        };
        let bias = config.biases.attention_output;
        Ok(Attention {
            projection,
            output: self.linear(
                LayerWeight::AttnOutput,
                bias.then_some(LayerWeight::AttnOutputBias),
                (config.hidden, config.heads * value_dim),
            )?,
            window: config
                .layer_kind(self.n)
                .window
                .map(|window| window.max(1) as usize),
        })
    }

    fn plain(&self) -> Result<Plain, CpuError> {
        let config = self.config;
        let (q, k) = (
            config.heads * config.head_dim,
            config.kv_heads * config.head_dim,
        );
        let project = |weight, bias, rows| {
            let bias = config.biases.qkv.then_some(bias);
            self.linear(weight, bias, (rows, config.hidden))
        };
        let norms = if config.qk_norm {
            Some([
                self.norm(LayerWeight::AttnQNorm, config.head_dim)?,
                self.norm(LayerWeight::AttnKNorm, config.head_dim)?,
            ])
        } else {
            None
        };
        Ok(Plain {
            qkv: [
                project(LayerWeight::AttnQ, LayerWeight::AttnQBias, q)?,
                project(LayerWeight::AttnK, LayerWeight::AttnKBias, k)?,
                project(LayerWeight::AttnV, LayerWeight::AttnVBias, k)?,
            ],
            norms,
        })
    }

    fn latent(&self, latent: LatentAttention) -> Result<Latent, CpuError> {
        let (hidden, heads) = (self.config.hidden, self.config.heads);
        let queries = heads * self.config.head_dim;
        let (query_down, query) = match latent.query_rank {
            None => {
                let query = self.linear(LayerWeight::AttnQ, None, (queries, hidden))?;
                (None, query)
            }
            Some(rank) => {
                let down = self.linear(LayerWeight::AttnQDown, None, (rank, hidden))?;
                let norm = self.norm(LayerWeight::AttnQDownNorm, rank)?;
                let query = self.linear(LayerWeight::AttnQUp, None, (queries, rank))?;
                (Some((down, norm)), query)
            }
        };
        let down = (latent.kv_rank + latent.rope_dim, hidden);
        let up = (
            heads * (latent.plain_dim + latent.value_dim),
            latent.kv_rank,
        );
        Ok(Latent {
            query_down,
            query,
            kv_down: self.linear(LayerWeight::AttnKvDown, None, down)?,
            kv_norm: self.norm(LayerWeight::AttnKvDownNorm, latent.kv_rank)?,
            kv_up: self.linear(LayerWeight::AttnKvUp, None, up)?.matrix,
        })
    }

    fn gated(
        &self,
        weight: impl Fn(FfnPart) -> LayerWeight,
        bias: Option<fn(FfnPart) -> LayerWeight>,
        wide: usize,
    ) -> Result<Gated, CpuError> {
        let hidden = self.config.hidden;
        let part = |part, shape| self.linear(weight(part), bias.map(|bias| bias(part)), shape);
        Ok(Gated {
            wide: [
                part(FfnPart::Gate, (wide, hidden))?,
                part(FfnPart::Up, (wide, hidden))?,
            ],
            down: part(FfnPart::Down, (hidden, wide))?,
        })
    }

    fn feed_forward(&self) -> Result<FeedForward, CpuError> {
        let config = self.config;
        let experts = config.experts.filter(|_| config.layer_kind(self.n).experts);
        let Some(experts) = experts else {
            let bias: Option<fn(_) -> _> = if config.biases.ffn {
                Some(LayerWeight::FfnBias)
            } else {
                None
            };
            let dense = self.gated(LayerWeight::Ffn, bias, config.intermediate)?;
            return Ok(FeedForward::Dense(dense));
        };
        let shape = (experts.count, config.hidden);
        let numbers = 0..u16::try_from(experts.count).unwrap_or(u16::MAX);
        let choice_bias = || self.vector(LayerWeight::RouterBias, experts.count);
        let shared = experts.shared_intermediate;
        let gated_shared = || self.gated(LayerWeight::SharedExpert, None, shared);
        Ok(FeedForward::Experts(Mixture {
            router: self.linear(LayerWeight::Router, None, shape)?,
            choice_bias: experts.choice_bias.then(choice_bias).transpose()?,
            experts: numbers
                .map(|n| {
                    let weight = move |part| LayerWeight::Expert(n, part);
                    self.gated(weight, None, experts.intermediate)
                })
                .collect::<Result<_, _>>()?,
            shared: (shared > 0).then(gated_shared).transpose()?,
        }))
    }
}

impl Layer {
    /// Maps layer `n` of the model.
    pub(crate) fn load(weights: &Weights, config: &ModelConfig, n: u32) -> Result<Self, CpuError> {
        let load = Loader { weights, config, n };
        Ok(Self {
            attn_norm: load.norm(LayerWeight::AttnNorm, config.hidden)?,
            attention: load.attention()?,
            post_attn_norm: load.post_norm(LayerWeight::PostAttnNorm)?,
            ffn_norm: load.norm(LayerWeight::FfnNorm, config.hidden)?,
            ffn: load.feed_forward()?,
            post_ffn_norm: load.post_norm(LayerWeight::PostFfnNorm)?,
        })
    }
}

impl Head {
    /// Maps what comes after the last layer; `embedding` is the output when they are tied.
    pub(crate) fn load(
        weights: &Weights,
        config: &ModelConfig,
        embedding: Option<&Matrix>,
    ) -> Result<Self, CpuError> {
        let table = (config.vocab, config.hidden);
        let output = match (config.tied_embeddings, embedding) {
            (false, _) => Matrix::load(weights, WeightName::Output, table)?,
            (true, Some(embedding)) => embedding.clone(),
            (true, None) => Matrix::load(weights, WeightName::TokenEmbedding, table)?,
        };
        let mut norm = Matrix::load_vector(weights, WeightName::OutputNorm, config.hidden)?;
        add_offset(config, &mut norm);
        Ok(Self {
            norm,
            output: output.into(),
        })
    }
}

/// Norms multiply with their weights and this; adding it once is adding it every time.
fn add_offset(config: &ModelConfig, norm: &mut [f32]) {
    if config.norm_offset != 0.0 {
        norm.iter_mut()
            .for_each(|weight| *weight += config.norm_offset);
    }
}

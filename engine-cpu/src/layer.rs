//! The weights of a layer, and of the output head.

use crate::error::CpuError;
use crate::machine::Part;
use crate::matrix::Matrix;
use exo_models::{FfnPart, LayerWeight, ModelConfig, WeightName, Weights};

/// The weights of one layer.
#[derive(Debug)]
pub(crate) struct Layer {
    pub(crate) attn_norm: Vec<f32>,
    /// Queries, keys, values.
    pub(crate) qkv: [Matrix; 3],
    pub(crate) biases: Option<[Vec<f32>; 3]>,
    pub(crate) attn_output: Matrix,
    pub(crate) ffn_norm: Vec<f32>,
    pub(crate) gate: Matrix,
    pub(crate) up: Matrix,
    pub(crate) down: Matrix,
}

/// What comes after the last layer.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) norm: Vec<f32>,
    pub(crate) output: Matrix,
}

impl Layer {
    /// Maps layer `n` of the model.
    pub(crate) fn load(weights: &Weights, config: &ModelConfig, n: u32) -> Result<Self, CpuError> {
        let (q, k) = (
            config.heads * config.head_dim,
            config.kv_heads * config.head_dim,
        );
        let (hidden, wide) = (config.hidden, config.intermediate);
        let matrix =
            |weight, rows, cols| Matrix::load(weights, WeightName::Layer(n, weight), (rows, cols));
        let vector = |weight, len| Matrix::load_vector(weights, WeightName::Layer(n, weight), len);
        let biases = if config.biases.qkv {
            Some([
                vector(LayerWeight::AttnQBias, q)?,
                vector(LayerWeight::AttnKBias, k)?,
                vector(LayerWeight::AttnVBias, k)?,
            ])
        } else {
            None
        };
        Ok(Self {
            attn_norm: vector(LayerWeight::AttnNorm, hidden)?,
            qkv: [
                matrix(LayerWeight::AttnQ, q, hidden)?,
                matrix(LayerWeight::AttnK, k, hidden)?,
                matrix(LayerWeight::AttnV, k, hidden)?,
            ],
            biases,
            attn_output: matrix(LayerWeight::AttnOutput, hidden, q)?,
            ffn_norm: vector(LayerWeight::FfnNorm, hidden)?,
            gate: matrix(LayerWeight::Ffn(FfnPart::Gate), wide, hidden)?,
            up: matrix(LayerWeight::Ffn(FfnPart::Up), wide, hidden)?,
            down: matrix(LayerWeight::Ffn(FfnPart::Down), hidden, wide)?,
        })
    }

    /// Queries, keys and values side by side.
    pub(crate) fn qkv_parts(&self) -> [Part<'_>; 3] {
        let [q, k, v] = &self.qkv;
        let [qb, kb, vb] = match &self.biases {
            Some([q, k, v]) => [Some(&**q), Some(&**k), Some(&**v)],
            None => [None; 3],
        };
        [
            Part {
                matrix: q,
                bias: qb,
            },
            Part {
                matrix: k,
                bias: kb,
            },
            Part {
                matrix: v,
                bias: vb,
            },
        ]
    }
}

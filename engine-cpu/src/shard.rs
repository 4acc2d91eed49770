//! A range of layers that is ready to compute.

use crate::error::CpuError;
use crate::feed_forward::activation;
use crate::kernels::Kernels;
use crate::kv::KvShape;
use crate::layer::{Head, Layer};
use crate::matrix::Matrix;
use crate::options::Precision;
use crate::rope::Rope;
use exo_models::{ModelConfig, WeightName, Weights};

/// A range of a model's layers with the weights mapped.
#[derive(Debug)]
pub(crate) struct ShardModel {
    pub(crate) config: ModelConfig,
    pub(crate) layers: Vec<Layer>,
    pub(crate) embedding: Option<Matrix>,
    pub(crate) head: Option<Head>,
    /// Every rope that one of the layers turns by.
    pub(crate) ropes: Vec<Rope>,
    /// Which of them each layer turns by, if it knows positions.
    rope_of: Vec<Option<usize>>,
}

impl ShardModel {
    /// Maps what its range of layers needs, and checks its shapes.
    pub(crate) fn load(config: ModelConfig, weights: &Weights) -> Result<Self, CpuError> {
        let range = weights.layers();
        let mut ropes = Vec::new();
        let rope_of = range.clone().map(|n| {
            let rope = Rope::new(config.rope_of(n)?);
            let known = ropes.iter().position(|known| *known == rope);
            Some(known.unwrap_or_else(|| {
                ropes.push(rope);
                ropes.len() - 1
            }))
        });
        let rope_of = rope_of.collect();
        let layers = range
            .clone()
            .map(|n| Layer::load(weights, &config, n))
            .collect::<Result<_, _>>()?;
        let table = (config.vocab, config.hidden);
        let embedding = (range.start == 0)
            .then(|| Matrix::load(weights, WeightName::TokenEmbedding, table))
            .transpose()?;
        let head = (range.end == config.layers)
            .then(|| Head::load(weights, &config, embedding.as_ref()))
            .transpose()?;
        Ok(Self {
            config,
            layers,
            embedding,
            head,
            ropes,
            rope_of,
        })
    }

    pub(crate) fn is_first(&self) -> bool {
        self.embedding.is_some()
    }

    pub(crate) fn is_last(&self) -> bool {
        self.head.is_some()
    }

    /// The number and the angles of the rope that layer `n` of the shard turns by.
    pub(crate) fn rope(&self, n: usize) -> Option<(usize, &Rope)> {
        let number = self.rope_of.get(n).copied().flatten()?;
        Some((number, self.ropes.get(number)?))
    }

    pub(crate) fn kv_shape(&self, precision: Precision) -> KvShape {
        KvShape::of(&self.config, self.layers.len(), precision)
    }

    /// Whether this engine computes such a model.
    pub(crate) fn check(config: &ModelConfig) -> Result<(), CpuError> {
        let family = config.family;
        if activation(&Kernels::SCALAR, config.activation).is_none() {
            let what = "an activation that is new to it";
            return Err(CpuError::Family { family, what });
        }
        Ok(())
    }
}

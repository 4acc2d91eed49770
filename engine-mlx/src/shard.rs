//! A range of layers that is ready to compute.

use crate::MlxError;
use crate::cache::CacheShape;
use crate::model::linear::Weight;
use crate::model::parameters::experts;
use crate::model::rope::Rope;
use crate::model::{LayerParameters, LayerShape, Step};
use crate::tensor::scalar;
use crate::weights::{Form, matrix, stacked, vector};
use exo_models::{
    FfnPart, LayerWeight, Model, ModelConfig, ModelError, RopeConfig, WeightName, WeightView,
    Weights,
};
use mlx_rs::error::Result;
use mlx_rs::fast::rms_norm;
use mlx_rs::ops::tanh;
use mlx_rs::{Array, Dtype};
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

/// A range of a model's layers in memory.
#[derive(Debug)]
pub(crate) struct ShardModel {
    pub(crate) config: Arc<ModelConfig>,
    /// Which layers of the model.
    pub(crate) range: Range<u32>,
    pub(crate) layers: Vec<Layer>,
    /// What hidden states are made of.
    pub(crate) dtype: Dtype,
    embedding: Option<Weight>,
    head: Option<Head>,
}

/// A layer that is ready to compute.
#[derive(Debug)]
pub(crate) struct Layer {
    pub(crate) shape: LayerShape,
    pub(crate) parameters: LayerParameters,
}

/// What makes logits of hidden states.
#[derive(Debug)]
struct Head {
    norm: Array,
    output: Weight,
}

/// The weights of a range, found and measured but not yet read.
pub(crate) struct Found {
    config: Arc<ModelConfig>,
    range: Range<u32>,
    weights: Weights,
    views: Vec<(WeightName, WeightView)>,
}

impl Found {
    /// Finds what `range` of `model` needs.
    pub(crate) fn new(model: &Model, range: Range<u32>) -> std::result::Result<Self, MlxError> {
        let config = Arc::new(model.config().clone());
        let weights = model.weights(range.clone())?;
        let names = WeightName::of_range(&range, &config);
        let views = names
            .into_iter()
            .map(|name| Ok((name, weights.get(name)?)))
            .collect::<std::result::Result<_, ModelError>>()?;
        Ok(Self {
            config,
            range,
            weights,
            views,
        })
    }

    /// How much there is to do, in bytes of the files: each is looked at, then taken over.
    pub(crate) fn work(&self) -> u64 {
        self.weights.bytes().saturating_mul(2)
    }

    /// Bytes in memory, in a form.
    pub(crate) fn bytes(&self, form: Form) -> u64 {
        let views = self.views.iter();
        views
            .map(|(name, view)| form_of(*name, view, form).bytes(view))
            .sum()
    }

    /// Bytes of the smallest KV cache of a request.
    pub(crate) fn smallest_cache(&self, form: Form, chunk: usize) -> u64 {
        CacheShape::new(&self.config, self.range.clone(), form.dtype, chunk).bytes(1)
    }

    /// Half precision as the files have it, for devices that are as quick with it.
    pub(crate) fn half(&self) -> Dtype {
        use exo_models::WeightKind::{Bf16, F32, Packed};
        let kinds = self.views.iter().filter(|(_, view)| view.rows > 1);
        let mut kinds = kinds.map(|(_, view)| match (view.kind, &view.scales) {
            (Packed(_), Some(scales)) => scales.kind,
            (kind, _) => kind,
        });
        match kinds.next() {
            Some(F32) => Dtype::Float32,
            Some(Bf16) => Dtype::Bfloat16,
            _ => Dtype::Float16,
        }
    }

    /// Checks that all numbers are finite and takes them over, one weight at a time; `progress` hears
    /// how much of the [`Found::work`] is done.
    pub(crate) fn load(
        self,
        form: Form,
        progress: &mut dyn FnMut(u64),
    ) -> std::result::Result<ShardModel, MlxError> {
        let mut ropes = Ropes::default();
        let config = &self.config;
        let mut layers = self.range.clone().map(|n| ropes.shape(config, n));
        let mut layers = layers
            .by_ref()
            .map(|shape| {
                let parameters = LayerParameters::default();
                shape.map(|shape| Layer { shape, parameters })
            })
            .collect::<std::result::Result<Vec<_>, _>>()?;
        let (mut embedding, mut norm, mut output) = (None, None, None);
        let mut parts: Vec<Weight> = Vec::new();
        self.weights.check_numbers(progress)?;
        let mut done = self.weights.bytes();
        for (name, view) in self.views {
            let form = form_of(name, &view, form);
            match name {
                WeightName::TokenEmbedding => embedding = Some(matrix(name, &view, form)?),
                WeightName::Output => output = Some(matrix(name, &view, form)?),
                WeightName::OutputNorm => {
                    norm = Some(vector(name, &view, form.dtype, config.norm_offset)?);
                }
                WeightName::Layer(n, weight) => {
                    let at = n.checked_sub(self.range.start).map(|at| at as usize);
                    let layer = at.and_then(|at| layers.get_mut(at));
                    let parameters = &mut layer
                        .ok_or_else(|| MlxError::mlx("loading", format!("{name:?} is no layer")))?
                        .parameters;
                    match weight {
                        LayerWeight::Expert(_, part) => {
                            parts.push(matrix(name, &view, form)?);
                            let count = config.experts.map_or(0, |experts| experts.count);
                            if parts.len() == count {
                                let all = stacked(&std::mem::take(&mut parts));
                                let all = all.map_err(|error| {
                                    MlxError::mlx(format!("loading {name:?}"), error)
                                })?;
                                parameters.set_matrix(experts(part), all);
                            }
                        }
                        weight if is_vector(weight) => {
                            let offset = if is_norm(weight) {
                                config.norm_offset
                            } else {
                                0.0
                            };
                            // It decides between close scores, and those are in single precision.
                            let precise = weight == LayerWeight::RouterBias;
                            let dtype = if precise { Dtype::Float32 } else { form.dtype };
                            let loaded = vector(name, &view, dtype, offset)?;
                            parameters.set_vector(weight, loaded);
                        }
                        weight => parameters.set_matrix(weight, matrix(name, &view, form)?),
                    }
                }
            }
            done += stored(&view);
            progress(done);
        }
        let output = if config.tied_embeddings {
            embedding.clone()
        } else {
            output
        };
        let head = norm.zip(output).map(|(norm, output)| Head { norm, output });
        if self.range.start > 0 {
            embedding = None;
        }
        drop(self.weights);
        Ok(ShardModel {
            config: self.config,
            range: self.range,
            layers,
            dtype: form.dtype,
            embedding,
            head,
        })
    }
}

/// Bytes of a weight in its file.
fn stored(view: &WeightView) -> u64 {
    let scales = view.scales.iter();
    let scales = scales.map(|scales| scales.scales.len() + scales.biases.len());
    view.data.len() as u64 + scales.sum::<usize>() as u64
}

/// What becomes of one weight, given what becomes of most.
fn form_of(name: WeightName, view: &WeightView, form: Form) -> Form {
    let plain = match name {
        WeightName::Layer(_, weight) => {
            // Each step takes this one apart by heads; vectors are never packed.
            weight == LayerWeight::AttnKvUp || is_vector(weight)
        }
        WeightName::OutputNorm => true,
        WeightName::TokenEmbedding | WeightName::Output => view.rows == 1,
    };
    Form {
        packed: form.packed && !plain,
        ..form
    }
}

fn is_norm(weight: LayerWeight) -> bool {
    matches!(
        weight,
        LayerWeight::AttnNorm
            | LayerWeight::AttnQNorm
            | LayerWeight::AttnKNorm
            | LayerWeight::AttnQDownNorm
            | LayerWeight::AttnKvDownNorm
            | LayerWeight::PostAttnNorm
            | LayerWeight::FfnNorm
            | LayerWeight::PostFfnNorm
    )
}

fn is_vector(weight: LayerWeight) -> bool {
    is_norm(weight)
        || matches!(
            weight,
            LayerWeight::AttnQBias
                | LayerWeight::AttnKBias
                | LayerWeight::AttnVBias
                | LayerWeight::AttnOutputBias
                | LayerWeight::FfnBias(FfnPart::Gate | FfnPart::Up | FfnPart::Down)
                | LayerWeight::RouterBias
        )
}

/// The few ways in which a model's layers turn, made once.
#[derive(Default)]
struct Ropes(Vec<(RopeConfig, Rc<Rope>)>);

impl Ropes {
    fn shape(
        &mut self,
        config: &Arc<ModelConfig>,
        n: u32,
    ) -> std::result::Result<LayerShape, MlxError> {
        let rope = config.rope_of(n).map(|rope| self.get(rope)).transpose();
        let rope = rope.map_err(|error| MlxError::mlx("preparing positions", error))?;
        Ok(LayerShape {
            config: config.clone(),
            kind: config.layer_kind(n),
            rope,
        })
    }

    fn get(&mut self, config: &RopeConfig) -> Result<Rc<Rope>> {
        if let Some((_, rope)) = self.0.iter().find(|(known, _)| known == config) {
            return Ok(rope.clone());
        }
        let rope = Rc::new(Rope::new(config)?);
        self.0.push((config.clone(), rope.clone()));
        Ok(rope)
    }
}

impl ShardModel {
    /// Bytes of weights in memory.
    pub(crate) fn bytes(&self) -> u64 {
        let layers = self.layers.iter().map(|layer| layer.parameters.bytes());
        let embedding = self.embedding.iter().map(Weight::bytes);
        let tied = self.config.tied_embeddings && self.embedding.is_some();
        let head = self.head.iter().map(|head| {
            let output = if tied { 0 } else { head.output.bytes() };
            head.norm.nbytes() as u64 + output
        });
        layers.chain(embedding).chain(head).sum()
    }

    pub(crate) fn is_first(&self) -> bool {
        self.embedding.is_some()
    }

    pub(crate) fn is_last(&self) -> bool {
        self.head.is_some()
    }

    /// What its requests' caches are like when `chunk` positions go through it together.
    pub(crate) fn cache_shape(&self, chunk: usize) -> CacheShape {
        CacheShape::new(&self.config, self.range.clone(), self.dtype, chunk)
    }

    /// What enters the first layer: ids `[B, T]` to `[B, T, hidden]`.
    pub(crate) fn embed(&self, ids: &Array) -> Result<Array> {
        let embedding = self
            .embedding
            .as_ref()
            .ok_or_else(|| mlx_rs::error::Exception::custom("the shard has not the first layer"))?;
        let rows = embedding.rows(ids, self.dtype)?;
        if self.config.embedding_scale == 1.0 {
            return Ok(rows);
        }
        rows.multiply(scalar(self.config.embedding_scale, self.dtype)?)
    }

    /// All layers: `[B, T, hidden]` to the same, or, when of the last layer only the last position
    /// is wanted, to `[B, 1, hidden]`.
    pub(crate) fn forward(
        &self,
        mut x: Array,
        step: &mut Step<'_>,
        last_only: bool,
    ) -> Result<Array> {
        for (n, layer) in self.layers.iter().enumerate() {
            if last_only && n + 1 == self.layers.len() {
                step.ask_for_last();
            }
            x = layer.shape.forward(&layer.parameters, n, &x, step)?;
        }
        Ok(x)
    }

    /// Logits, `[.., hidden]` to `[.., vocab]` in what is computed with.
    pub(crate) fn logits(&self, x: &Array) -> Result<Array> {
        let head = self
            .head
            .as_ref()
            .ok_or_else(|| mlx_rs::error::Exception::custom("the shard has not the last layer"))?;
        let normed = rms_norm(x, Some(&head.norm), self.config.norm_eps)?;
        let logits = head.output.product(&normed)?;
        let Some(cap) = self.config.logit_cap else {
            return Ok(logits);
        };
        let cap = scalar(cap, logits.dtype())?;
        tanh(logits.divide(&cap)?)?.multiply(&cap)
    }
}

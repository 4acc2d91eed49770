//! What of a shard learns.

use super::Base;
use super::init::uniform;
use super::name::{ParameterName, Part, adapts};
use crate::model::LayerParameters;
use crate::model::linear::{Adapter, Linear, Weight};
use crate::shard::ShardModel;
use crate::{MlxError, TrainError};
use exo_models::LayerWeight;
use exo_protocol::engine::{TrainSetup, Trainable};
use mlx_rs::error::Result;
use mlx_rs::transforms::eval;
use mlx_rs::{Array, Dtype};

/// Arrays by name, in order of their names.
#[derive(Debug, Default)]
pub(crate) struct Parameters {
    pub(crate) names: Vec<ParameterName>,
    /// In single precision.
    pub(crate) values: Vec<Array>,
    /// What adapters are multiplied by.
    pub(crate) scale: f32,
}

/// The widest adapter: beyond the hidden state of any model.
const MAX_RANK: u32 = 1 << 15;

impl Parameters {
    /// What `setup` wants to learn of a shard, as it is at the beginning of a job.
    ///
    /// # Errors
    /// When the setup makes no sense or this engine does not train that.
    pub(crate) fn new(base: Base<'_>, setup: &TrainSetup) -> std::result::Result<Self, MlxError> {
        let mlx = |error| MlxError::mlx("preparing what learns", error);
        let shard = base.model;
        let mut found = Self::default();
        let last_layers = match setup.trainable {
            Trainable::Lora {
                rank,
                scale,
                last_layers,
            } => {
                if !(1..=MAX_RANK).contains(&rank) {
                    let why = format!("adapters of rank {rank}; expected 1 to {MAX_RANK}");
                    return Err(TrainError::Setup(why).into());
                }
                if !scale.is_finite() {
                    let why = format!("adapters multiplied by {scale}; expected a number");
                    return Err(TrainError::Setup(why).into());
                }
                found.scale = scale;
                last_layers
            }
            Trainable::Full { last_layers } => last_layers,
            Trainable::Nothing => return Ok(found),
        };
        let layers = shard.range.clone().zip(&shard.layers);
        for (n, layer) in layers.filter(|(n, _)| learns(shard.config.layers, last_layers, *n)) {
            match setup.trainable {
                Trainable::Lora { rank, .. } => {
                    for (weight, linear) in layer.parameters.linears() {
                        if adapts(weight) {
                            found
                                .add_adapter(n, weight, linear, rank, setup.seed)
                                .map_err(mlx)?;
                        }
                    }
                }
                _ => {
                    if layer.shape.kind.experts {
                        let why = format!(
                            "layer {n} has experts, which are not trained whole; train adapters \
                             (without --full-layers)"
                        );
                        return Err(TrainError::Unsupported(why).into());
                    }
                    for (weight, linear) in layer.parameters.linears() {
                        found.add(n, weight, Part::Whole, plain(linear).map_err(mlx)?);
                    }
                    for (weight, vector) in layer.parameters.vectors() {
                        let value = vector.as_dtype(Dtype::Float32).map_err(mlx)?;
                        found.add(n, weight, Part::Whole, value);
                    }
                }
            }
        }
        let mut sorted: Vec<_> = found.names.into_iter().zip(found.values).collect();
        sorted.sort_by_key(|(name, _)| *name);
        (found.names, found.values) = sorted.into_iter().unzip();
        eval(&found.values).map_err(mlx)?;
        Ok(found)
    }

    /// How many numbers [`Parameters::new`] gives, before any memory is taken.
    pub(crate) fn count_of(shard: &ShardModel, trainable: &Trainable) -> u64 {
        let (last_layers, rank) = match *trainable {
            Trainable::Lora {
                rank, last_layers, ..
            } => (last_layers, Some(u64::from(rank))),
            Trainable::Full { last_layers } => (last_layers, None),
            Trainable::Nothing => return 0,
        };
        let size = |linear: &Linear| {
            let size = linear.weight.size().unwrap_or_default();
            size.map(|n| u64::from(n.unsigned_abs()))
        };
        let of_layer = |parameters: &LayerParameters| {
            let linears = parameters.linears();
            match rank {
                Some(rank) => linears
                    .filter(|(weight, _)| adapts(*weight))
                    .map(|(_, linear)| rank.saturating_mul(size(linear).iter().sum()))
                    .sum::<u64>(),
                None => {
                    let matrices = linears.map(|(_, linear)| size(linear).iter().product::<u64>());
                    let vectors = parameters.vectors().map(|(_, vector)| vector.size() as u64);
                    matrices.chain(vectors).sum()
                }
            }
        };
        let layers = shard.range.clone().zip(&shard.layers);
        layers
            .filter(|(n, _)| learns(shard.config.layers, last_layers, *n))
            .map(|(_, layer)| of_layer(&layer.parameters))
            .fold(0, u64::saturating_add)
    }

    fn add(&mut self, layer: u32, weight: LayerWeight, part: Part, value: Array) {
        let name = ParameterName {
            layer,
            weight,
            part,
        };
        self.names.push(name);
        self.values.push(value);
    }

    /// A begins at random, even within `1 / sqrt(in)`, and B at zero, as in `mlx_lm.lora`: at first
    /// nothing is added.
    fn add_adapter(
        &mut self,
        layer: u32,
        weight: LayerWeight,
        linear: &Linear,
        rank: u32,
        seed: u64,
    ) -> Result<()> {
        let [out, inner] = linear.weight.size()?;
        let rank = i32::try_from(rank).unwrap_or(i32::MAX);
        let name = ParameterName {
            layer,
            weight,
            part: Part::A,
        };
        let count = inner as usize * rank as usize;
        let values = uniform(seed, name, count, (inner as f32).sqrt().recip());
        self.add(
            layer,
            weight,
            Part::A,
            Array::from_slice(&values, &[inner, rank]),
        );
        self.add(layer, weight, Part::B, Array::zeros::<f32>(&[rank, out])?);
        Ok(())
    }

    /// How many numbers.
    pub(crate) fn count(&self) -> u64 {
        self.values.iter().map(|value| value.size() as u64).sum()
    }

    /// The parameters of all layers of a shard, with `values` in the place of what learns.
    pub(crate) fn placed(
        &self,
        shard: &ShardModel,
        values: &[Array],
    ) -> Result<Vec<LayerParameters>> {
        let layers = shard.layers.iter();
        let mut layers: Vec<_> = layers.map(|layer| layer.parameters.clone()).collect();
        place(shard, &self.names, values, self.scale, &mut layers)?;
        Ok(layers)
    }
}

/// Puts `values` into `layers`, those of `shard`: adapters beside what is there, whole weights in
/// its place.
pub(crate) fn place(
    shard: &ShardModel,
    names: &[ParameterName],
    values: &[Array],
    scale: f32,
    layers: &mut [LayerParameters],
) -> Result<()> {
    let mut first: Option<(ParameterName, &Array)> = None;
    for (name, value) in names.iter().zip(values) {
        let at = name
            .layer
            .checked_sub(shard.range.start)
            .map(|at| at as usize);
        let Some(layer) = at.and_then(|at| layers.get_mut(at)) else {
            continue;
        };
        match name.part {
            Part::A => first = Some((*name, value)),
            Part::B => {
                // Names are in order, so A came just before.
                let own = first
                    .take()
                    .filter(|(a, _)| (a.layer, a.weight) == (name.layer, name.weight));
                if let Some((_, a)) = own {
                    let (a, b) = (a.clone(), value.clone());
                    layer.adapt(name.weight, Adapter { a, b, scale })?;
                }
            }
            Part::Whole => layer.replace(name.weight, value.as_dtype(shard.dtype)?),
        }
    }
    Ok(())
}

/// Whether a layer is among the last ones; zero means all.
pub(crate) fn learns(layers: u32, last_layers: u32, n: u32) -> bool {
    last_layers == 0 || n >= layers.saturating_sub(last_layers)
}

/// A matrix in single precision, with what adapters add to it.
fn plain(linear: &Linear) -> Result<Array> {
    let mut value = linear.weight.dense(Dtype::Float32)?;
    for Adapter { a, b, scale } in &linear.adapters {
        let added = a
            .matmul(b)?
            .transpose()?
            .multiply(Array::from_f32(*scale))?;
        value = value.add(added)?;
    }
    Ok(value)
}

impl Weight {
    /// Rows and columns of a matrix: how many numbers leave it, and how many enter.
    fn size(&self) -> Result<[i32; 2]> {
        let (array, per_column) = match self {
            Self::Dense(array) => (array, 1),
            Self::Packed {
                scales, packing, ..
            } => (scales, i32::from(packing.group)),
        };
        match array.shape() {
            &[rows, columns] => Ok([rows, columns * per_column]),
            shape => Err(mlx_rs::error::Exception::custom(format!(
                "{shape:?} is no matrix"
            ))),
        }
    }
}

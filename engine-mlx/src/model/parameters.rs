//! The parameters of one layer, by name.

use super::linear::{Adapter, Linear, Weight};
use exo_models::{FfnPart, LayerWeight};
use mlx_rs::Array;
use mlx_rs::error::{Exception, Result};
use std::collections::BTreeMap;
use std::fmt;

/// What a layer multiplies and adds: the argument by which the forward pass can be differentiated.
///
/// Cloning copies handles, not numbers. The matrices of a layer's experts are stacked, `[count,
/// out, in]`, under the name of the first expert.
#[derive(Clone, Default)]
pub(crate) struct LayerParameters {
    linears: BTreeMap<LayerWeight, Linear>,
    vectors: BTreeMap<LayerWeight, Array>,
}

impl LayerParameters {
    /// Puts a matrix in its place.
    pub(crate) fn set_matrix(&mut self, name: LayerWeight, weight: Weight) {
        self.linears.insert(name, weight.into());
    }

    /// Puts a norm's weight or a bias in its place. Norms have the model's offset added already.
    pub(crate) fn set_vector(&mut self, name: LayerWeight, vector: Array) {
        self.vectors.insert(name, vector);
    }

    /// Puts an adapter beside a matrix, and beside those that it has.
    ///
    /// # Errors
    /// When the layer has no such matrix.
    pub(crate) fn adapt(&mut self, name: LayerWeight, adapter: Adapter) -> Result<()> {
        let linear = self.linears.get_mut(&name).ok_or_else(|| missing(name))?;
        linear.adapters.push(adapter);
        Ok(())
    }

    /// Puts plain numbers in the place of a matrix, of which nothing stays, or of a vector.
    pub(crate) fn replace(&mut self, name: LayerWeight, value: Array) {
        if self.vectors.contains_key(&name) {
            self.set_vector(name, value);
        } else {
            self.set_matrix(name, Weight::Dense(value));
        }
    }

    /// Every matrix.
    pub(crate) fn linears(&self) -> impl Iterator<Item = (LayerWeight, &Linear)> {
        self.linears.iter().map(|(name, linear)| (*name, linear))
    }

    /// Every norm and bias.
    pub(crate) fn vectors(&self) -> impl Iterator<Item = (LayerWeight, &Array)> {
        self.vectors.iter().map(|(name, vector)| (*name, vector))
    }

    /// A matrix.
    ///
    /// # Errors
    /// When the layer has none of that name.
    pub(crate) fn linear(&self, name: LayerWeight) -> Result<&Linear> {
        self.linears.get(&name).ok_or_else(|| missing(name))
    }

    /// A norm's weight or a bias.
    ///
    /// # Errors
    /// When the layer has none of that name.
    pub(crate) fn vector(&self, name: LayerWeight) -> Result<&Array> {
        self.vectors.get(&name).ok_or_else(|| missing(name))
    }

    /// `x Wᵀ + b`, the bias being that of the matrix, if it has one: `[.., in]` to `[.., out]`.
    pub(crate) fn project(&self, name: LayerWeight, x: &Array) -> Result<Array> {
        let y = self.linear(name)?.forward(x)?;
        match bias_of(name).and_then(|bias| self.vectors.get(&bias)) {
            Some(bias) => y.add(bias),
            None => Ok(y),
        }
    }

    /// Bytes in memory.
    pub(crate) fn bytes(&self) -> u64 {
        let matrices = self.linears.values().map(Linear::bytes);
        let vectors = self.vectors.values().map(|vector| vector.nbytes() as u64);
        matrices.chain(vectors).sum()
    }
}

impl fmt::Debug for LayerParameters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let vectors = self.vectors.iter().map(|(name, v)| (name, v.shape()));
        f.debug_map()
            .entries(&self.linears)
            .entries(vectors)
            .finish()
    }
}

fn missing(name: LayerWeight) -> Exception {
    Exception::custom(format!("the layer has no {name:?}"))
}

/// What is added to the product of a matrix, by name.
fn bias_of(name: LayerWeight) -> Option<LayerWeight> {
    match name {
        LayerWeight::AttnQ => Some(LayerWeight::AttnQBias),
        LayerWeight::AttnK => Some(LayerWeight::AttnKBias),
        LayerWeight::AttnV => Some(LayerWeight::AttnVBias),
        LayerWeight::AttnOutput => Some(LayerWeight::AttnOutputBias),
        LayerWeight::Ffn(part) => Some(LayerWeight::FfnBias(part)),
        _ => None,
    }
}

/// The name under which a layer's experts have one of their matrices.
pub(crate) const fn experts(part: FfnPart) -> LayerWeight {
    LayerWeight::Expert(0, part)
}

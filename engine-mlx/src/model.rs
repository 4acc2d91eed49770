//! The forward pass of a layer, as a function of its parameters.
//!
//! [`LayerShape`] says what a layer is, [`LayerParameters`] with what it computes, [`Step`] what it
//! computes on: new positions of requests with KV caches, or whole sequences without any. Inference
//! passes the parameters it loaded; learning passes the same with some replaced by what it
//! differentiates by.

pub(crate) mod attention;
pub(crate) mod experts;
pub(crate) mod ffn;
pub(crate) mod latent;
pub(crate) mod linear;
pub(crate) mod parameters;
pub(crate) mod rope;
pub(crate) mod step;

pub(crate) use parameters::LayerParameters;
pub(crate) use step::Step;

use exo_models::{LayerKind, LayerWeight, ModelConfig};
use mlx_rs::Array;
use mlx_rs::error::Result;
use mlx_rs::fast::rms_norm;
use mlx_rs::ops::indexing::TryIndexOp;
use rope::Rope;
use std::rc::Rc;
use std::sync::Arc;

/// What a layer computes, apart from its parameters.
#[derive(Clone, Debug)]
pub(crate) struct LayerShape {
    /// The model's description.
    pub(crate) config: Arc<ModelConfig>,
    /// What tells this layer apart.
    pub(crate) kind: LayerKind,
    /// How queries and keys turn; `None` if they do not.
    pub(crate) rope: Option<Rc<Rope>>,
}

impl LayerShape {
    /// The hidden state after the layer: `[B, T, hidden]` to the same, or to `[B, 1, hidden]` if
    /// the step wants the last position only. `n` is the layer's place in the shard, for its cache.
    pub(crate) fn forward(
        &self,
        parameters: &LayerParameters,
        n: usize,
        x: &Array,
        step: &mut Step<'_>,
    ) -> Result<Array> {
        let config = &*self.config;
        let normed = self.norm(parameters, LayerWeight::AttnNorm, x)?;
        let attended = match &config.latent {
            Some(latent) => latent::forward(self, latent, parameters, n, &normed, step)?,
            None => attention::forward(self, parameters, n, &normed, step)?,
        };
        let attended = self.post_norm(parameters, LayerWeight::PostAttnNorm, attended)?;
        let x = step.asked(x)?.add(attended)?;
        let normed = self.norm(parameters, LayerWeight::FfnNorm, &x)?;
        let fed = match config.experts.as_ref().filter(|_| self.kind.experts) {
            Some(experts) => experts::forward(config, experts, parameters, &normed)?,
            None => ffn::forward(config, parameters, LayerWeight::Ffn, &normed)?,
        };
        x.add(self.post_norm(parameters, LayerWeight::PostFfnNorm, fed)?)
    }

    fn norm(&self, parameters: &LayerParameters, name: LayerWeight, x: &Array) -> Result<Array> {
        rms_norm(x, Some(parameters.vector(name)?), self.config.norm_eps)
    }

    /// What a part gives, normed where the model does that.
    fn post_norm(
        &self,
        parameters: &LayerParameters,
        name: LayerWeight,
        x: Array,
    ) -> Result<Array> {
        if self.config.post_norms {
            self.norm(parameters, name, &x)
        } else {
            Ok(x)
        }
    }
}

/// The last position of `[B, T, hidden]`, as `[B, 1, hidden]`.
pub(crate) fn last_position(x: &Array) -> Result<Array> {
    let length = x.shape().get(1).copied().unwrap_or(1);
    x.try_index((.., length - 1.., ..))
}

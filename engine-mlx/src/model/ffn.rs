//! The gated feed-forward part: `down(activation(gate(x)) * up(x))`.

use super::LayerParameters;
use crate::tensor::scalar;
use exo_models::{Activation, FfnPart, LayerWeight, ModelConfig};
use mlx_rs::Array;
use mlx_rs::error::{Exception, Result};
use mlx_rs::ops::{sigmoid, tanh};
use std::f32::consts::FRAC_2_PI;

/// `[.., hidden]` to the same, with the weights that `name` gives for the three parts.
pub(crate) fn forward(
    config: &ModelConfig,
    parameters: &LayerParameters,
    name: impl Fn(FfnPart) -> LayerWeight,
    x: &Array,
) -> Result<Array> {
    let gate = parameters.project(name(FfnPart::Gate), x)?;
    let up = parameters.project(name(FfnPart::Up), x)?;
    let fed = gated(config, &gate, &up)?;
    parameters.project(name(FfnPart::Down), &fed)
}

/// `activation(gate) * up`.
pub(crate) fn gated(config: &ModelConfig, gate: &Array, up: &Array) -> Result<Array> {
    let activated = match config.activation {
        Activation::Silu => gate.multiply(sigmoid(gate)?)?,
        Activation::GeluTanh => gelu(gate)?,
        other => return Err(Exception::custom(format!("{other:?} is not known here"))),
    };
    activated.multiply(up)
}

/// `x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x³)))`.
fn gelu(x: &Array) -> Result<Array> {
    let number = |value| scalar(value, x.dtype());
    let cubic = x.square()?.multiply(x)?.multiply(number(0.044_715)?)?;
    let inner = x.add(cubic)?.multiply(number(FRAC_2_PI.sqrt())?)?;
    let outer = tanh(inner)?.add(number(1.0)?)?;
    x.multiply(number(0.5)?)?.multiply(outer)
}

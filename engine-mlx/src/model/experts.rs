//! A feed-forward part of which each position uses a few of many experts.

use super::attention::leading;
use super::parameters::experts;
use super::{LayerParameters, ffn};
use crate::tensor::scalar;
use exo_models::{Experts, FfnPart, LayerWeight, ModelConfig, Scoring};
use mlx_rs::error::{Exception, Result};
use mlx_rs::ops::indexing::{TryIndexOp, take_along_axis, topk_axis};
use mlx_rs::ops::{argpartition_axis, argsort_axis, broadcast_to, sigmoid, softmax_axis};
use mlx_rs::{Array, Dtype, stop_gradient};

/// From so many on, positions are sorted by their experts, whose weights are then read once.
const SORT_FROM: usize = 64;

/// `[B, T, hidden]` to the same.
pub(crate) fn forward(
    config: &ModelConfig,
    shape: &Experts,
    parameters: &LayerParameters,
    x: &Array,
) -> Result<Array> {
    let (chosen, weights) = choose(shape, parameters, x)?;
    let fed = feed(config, parameters, x, &chosen)?;
    let weighed = fed
        .multiply(weights.expand_dims(-1)?)?
        .sum_axis(-2, false)?;
    let weighed = weighed.as_dtype(x.dtype())?;
    if shape.shared_intermediate == 0 {
        return Ok(weighed);
    }
    weighed.add(ffn::forward(
        config,
        parameters,
        LayerWeight::SharedExpert,
        x,
    )?)
}

/// Which experts each position uses and how much each counts, `[B, T, active]` both.
fn choose(shape: &Experts, parameters: &LayerParameters, x: &Array) -> Result<(Array, Array)> {
    let logits = parameters.project(LayerWeight::Router, x)?;
    let logits = logits.as_dtype(Dtype::Float32)?;
    let scores = match shape.scoring {
        Scoring::Softmax => softmax_axis(&logits, -1, true)?,
        Scoring::Sigmoid => sigmoid(&logits)?,
    };
    let mut choice = scores.clone();
    if shape.choice_bias {
        choice = choice.add(parameters.vector(LayerWeight::RouterBias)?)?;
    }
    if shape.groups > 1 && shape.active_groups < shape.groups {
        choice = best_groups(shape, &choice)?;
    }
    let active = shape.active as i32;
    let chosen = argpartition_axis(choice.negative()?, active - 1, -1)?;
    // A choice has no gradient; what is chosen is weighed by scores, which have one.
    let chosen = stop_gradient(chosen.try_index((.., .., ..active))?)?;
    let mut weights = take_along_axis(&scores, &chosen, -1)?;
    if shape.normalise {
        weights = weights.divide(weights.sum_axis(-1, true)?)?;
    }
    if shape.scale != 1.0 {
        weights = weights.multiply(scalar(shape.scale, Dtype::Float32)?)?;
    }
    Ok((chosen, weights))
}

/// What experts are chosen by, `[B, T, count]`, with those outside of the best groups set to zero.
fn best_groups(shape: &Experts, choice: &Array) -> Result<Array> {
    let [batch, length] = leading(choice)?;
    let groups = shape.groups as i32;
    let grouped = choice.reshape(&[batch, length, groups, -1])?;
    let size = grouped.shape().last().copied().unwrap_or(0);
    let worth = if shape.group_by_two {
        topk_axis(&grouped, 2, -1)?.sum_axis(-1, true)?
    } else {
        grouped.max_axis(-1, true)?
    };
    let left_out = groups - shape.active_groups as i32;
    let worst = argpartition_axis(worth, left_out - 1, -2)?;
    let worst = stop_gradient(worst.try_index((.., .., ..left_out, ..))?)?;
    let worst = broadcast_to(worst, &[batch, length, left_out, size])?;
    let zero = Array::from_f32(0.0);
    grouped
        .put_along_axis(worst, zero, -2)?
        .reshape(&[batch, length, -1])
}

/// What each of the chosen experts gives: `[B, T, active, hidden]`.
fn feed(
    config: &ModelConfig,
    parameters: &LayerParameters,
    x: &Array,
    chosen: &Array,
) -> Result<Array> {
    let &[batch, length, active] = chosen.shape() else {
        return Err(Exception::custom("experts are chosen for each position"));
    };
    let weight = |part| {
        parameters
            .linear(experts(part))
            .map(|linear| &linear.weight)
    };
    let (gate, up) = (weight(FfnPart::Gate)?, weight(FfnPart::Up)?);
    let down = weight(FfnPart::Down)?;
    let through = |x: &Array, chosen: &Array, sorted| {
        let fed = ffn::gated(
            config,
            &gate.gathered(x, chosen, sorted)?,
            &up.gathered(x, chosen, sorted)?,
        )?;
        down.gathered(&fed, chosen, sorted)
    };
    if chosen.size() < SORT_FROM {
        let x = x.reshape(&[batch, length, 1, 1, -1])?;
        return through(&x, chosen, false)?.squeeze_axes(&[-2]);
    }
    let flat = chosen.reshape(&[-1])?;
    let order = argsort_axis(&flat, 0)?;
    let back = argsort_axis(&order, 0)?;
    let positions = order.floor_divide(Array::from_int(active).as_dtype(order.dtype())?)?;
    let rows = x.reshape(&[batch * length, 1, -1])?;
    let rows = rows.take_axis(&positions, 0)?;
    let fed = through(&rows, &flat.take_axis(&order, 0)?, true)?;
    fed.take_axis(&back, 0)?
        .reshape(&[batch, length, active, -1])
}

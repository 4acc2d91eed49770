//! Attention with keys and values of their own, shared by groups of query heads.

use super::step::{Mask, Past};
use super::{LayerParameters, LayerShape, Step};
use crate::tensor::scalar;
use exo_models::{LayerWeight, ModelConfig};
use mlx_rs::Array;
use mlx_rs::error::{Exception, Result};
use mlx_rs::fast::{ScaledDotProductAttentionMask, rms_norm, scaled_dot_product_attention};
use mlx_rs::ops::indexing::TryIndexOp;
use mlx_rs::ops::{concatenate, matmul, select, softmax_axis, tanh};

/// What attention gives, `[B, T, hidden]` to `[B, asked, hidden]`.
pub(crate) fn forward(
    layer: &LayerShape,
    parameters: &LayerParameters,
    n: usize,
    x: &Array,
    step: &mut Step<'_>,
) -> Result<Array> {
    let config = &*layer.config;
    let asked = step.asked(x)?;
    let heads = |name, x: &Array, count| {
        let projected = parameters.project(name, x)?;
        split_heads(&projected, count, config.head_dim)
    };
    let mut queries = heads(LayerWeight::AttnQ, &asked, config.heads)?;
    let mut keys = heads(LayerWeight::AttnK, x, config.kv_heads)?;
    let values = heads(LayerWeight::AttnV, x, config.kv_heads)?;
    if config.qk_norm {
        let norm = |x: &Array, name| rms_norm(x, Some(parameters.vector(name)?), config.norm_eps);
        queries = norm(&queries, LayerWeight::AttnQNorm)?;
        keys = norm(&keys, LayerWeight::AttnKNorm)?;
    }
    if let Some(rope) = &layer.rope {
        queries = rope.turn(&queries, &step.query_offset())?;
        keys = rope.turn(&keys, step.key_offset())?;
    }
    let attended = attend(layer, n, &queries, keys, values, step)?;
    parameters.project(LayerWeight::AttnOutput, &join_heads(&attended)?)
}

/// `[B, T, heads × width]` to `[B, heads, T, width]`.
pub(crate) fn split_heads(x: &Array, heads: usize, width: usize) -> Result<Array> {
    let [batch, length] = leading(x)?;
    x.reshape(&[batch, length, heads as i32, width as i32])?
        .transpose_axes(&[0, 2, 1, 3])
}

/// `[B, heads, T, width]` to `[B, T, heads × width]`.
pub(crate) fn join_heads(x: &Array) -> Result<Array> {
    let &[batch, _, length, _] = x.shape() else {
        return Err(Exception::custom("attention gave no heads"));
    };
    x.transpose_axes(&[0, 2, 1, 3])?
        .reshape(&[batch, length, -1])
}

/// Sequences, and positions of each.
pub(crate) fn leading(x: &Array) -> Result<[i32; 2]> {
    match x.shape() {
        &[batch, length, ..] => Ok([batch, length]),
        shape => Err(Exception::custom(format!(
            "a hidden state has shape [B, T, hidden], not {shape:?}"
        ))),
    }
}

/// New keys and values take their place in the caches; each row's queries look at its own.
fn attend(
    layer: &LayerShape,
    n: usize,
    queries: &Array,
    keys: Array,
    values: Array,
    step: &mut Step<'_>,
) -> Result<Array> {
    let asked = step.queries();
    let rows = rows_of(queries);
    let seen = match step.past() {
        Past::None => None,
        Past::Requests(requests) if rows as usize == requests.len() => {
            let mut seen = Vec::with_capacity(requests.len());
            for (row, request) in (0..).zip(requests.iter_mut()) {
                let keys = row_of(&keys, row)?;
                let values = row_of(&values, row)?;
                seen.push(request.extend(n, &keys, &values, asked)?);
            }
            Some(seen)
        }
        Past::Requests(requests) => {
            let caches = requests.len();
            return Err(Exception::custom(format!(
                "{rows} rows do not belong to {caches} requests"
            )));
        }
    };
    let Some(seen) = seen else {
        return weigh(layer, queries, &keys, &values, step);
    };
    let mut attended = Vec::with_capacity(seen.len());
    for (row, (keys, values)) in (0..).zip(&seen) {
        attended.push(weigh(layer, &row_of(queries, row)?, keys, values, step)?);
    }
    match <[Array; 1]>::try_from(attended) {
        Ok([one]) => Ok(one),
        Err(attended) => concatenate(&attended, 0),
    }
}

fn rows_of(x: &Array) -> i32 {
    x.shape().first().copied().unwrap_or(0)
}

/// A row of a batch, as a batch of one.
pub(crate) fn row_of(x: &Array, row: i32) -> Result<Array> {
    if rows_of(x) == 1 {
        return Ok(x.clone());
    }
    x.try_index((row..row + 1, ..))
}

/// Values weighed by how queries and keys agree: `[B, heads, asked, width]`.
fn weigh(
    layer: &LayerShape,
    queries: &Array,
    keys: &Array,
    values: &Array,
    step: &mut Step<'_>,
) -> Result<Array> {
    let (config, window) = (&*layer.config, layer.kind.window);
    let seen = keys.shape().get(2).copied().unwrap_or(0);
    if let Some(cap) = config.score_cap {
        let mask = step.mask_array(seen, window)?;
        return capped(config, queries, keys, values, mask, cap);
    }
    let mask = match step.mask(seen, window)? {
        Mask::All => None,
        Mask::Causal => Some(ScaledDotProductAttentionMask::Causal),
        Mask::Array(array) => Some(ScaledDotProductAttentionMask::Array(array)),
    };
    scaled_dot_product_attention(queries, keys, values, config.score_scale, mask, None)
}

/// The same with capped scores, which MLX's own kernel does not know.
fn capped(
    config: &ModelConfig,
    queries: &Array,
    keys: &Array,
    values: &Array,
    mask: Option<&Array>,
    cap: f32,
) -> Result<Array> {
    let (&[batch, heads, length, width], &[_, kv_heads, ..]) = (queries.shape(), keys.shape())
    else {
        return Err(Exception::custom("queries and keys have no heads"));
    };
    let dtype = queries.dtype();
    let groups = heads / kv_heads.max(1);
    let queries = queries.multiply(scalar(config.score_scale, dtype)?)?;
    let queries = queries.reshape(&[batch, kv_heads, groups, length, width])?;
    let (keys, values) = (keys.expand_dims(2)?, values.expand_dims(2)?);
    let scores = matmul(queries, keys.swap_axes(-1, -2)?)?;
    let cap = scalar(cap, dtype)?;
    let mut scores = tanh(scores.divide(&cap)?)?.multiply(&cap)?;
    if let Some(mask) = mask {
        scores = select(mask, scores, scalar(f32::NEG_INFINITY, dtype)?)?;
    }
    let weights = softmax_axis(scores, -1, true)?;
    matmul(weights, values)?.reshape(&[batch, heads, length, -1])
}

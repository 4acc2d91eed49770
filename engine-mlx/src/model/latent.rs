//! Multi-head latent attention: keys and values of all heads come from one compressed vector, and
//! the cache has only that and the part of the keys that turns.

use super::attention::{join_heads, leading, row_of, split_heads};
use super::step::Past;
use super::{LayerParameters, LayerShape, Step};
use crate::tensor::scalar;
use exo_models::{LatentAttention, LayerWeight};
use mlx_rs::Array;
use mlx_rs::error::{Exception, Result};
use mlx_rs::fast::{rms_norm, scaled_dot_product_attention};
use mlx_rs::ops::{concatenate, matmul, select};

/// Queries in their two parts, `[B, heads, asked, width]` each.
struct Queries {
    plain: Array,
    turned: Array,
}

/// What attention gives, `[B, T, hidden]` to `[B, asked, hidden]`.
pub(crate) fn forward(
    layer: &LayerShape,
    latent: &LatentAttention,
    parameters: &LayerParameters,
    n: usize,
    x: &Array,
    step: &mut Step<'_>,
) -> Result<Array> {
    let config = &*layer.config;
    let norm = |x: &Array, name| rms_norm(x, Some(parameters.vector(name)?), config.norm_eps);
    let asked = step.asked(x)?;
    let queries = match latent.query_rank {
        None => parameters.project(LayerWeight::AttnQ, &asked)?,
        Some(_) => {
            let down = parameters.project(LayerWeight::AttnQDown, &asked)?;
            let down = norm(&down, LayerWeight::AttnQDownNorm)?;
            parameters.project(LayerWeight::AttnQUp, &down)?
        }
    };
    let queries = split_heads(&queries, config.heads, config.head_dim)?;
    let [plain, turned] = halves(&queries, latent.plain_dim)?;
    let down = parameters.project(LayerWeight::AttnKvDown, x)?;
    let [compressed, shared] = halves(&down, latent.kv_rank)?;
    let compressed = norm(&compressed, LayerWeight::AttnKvDownNorm)?.expand_dims(1)?;
    let shared = split_heads(&shared, 1, latent.rope_dim)?;
    let (turned, shared) = match &layer.rope {
        Some(rope) => (
            rope.turn(&turned, &step.query_offset())?,
            rope.turn(&shared, step.key_offset())?,
        ),
        None => (turned, shared),
    };
    let queries = Queries { plain, turned };
    let attended = attend(
        layer, latent, parameters, n, &queries, compressed, shared, step,
    )?;
    parameters.project(LayerWeight::AttnOutput, &join_heads(&attended)?)
}

/// The first `at` elements of each row, and the rest.
fn halves(x: &Array, at: usize) -> Result<[Array; 2]> {
    let parts = x.split_at_indices(&[at as i32], -1)?;
    <[Array; 2]>::try_from(parts).map_err(|_| Exception::custom("a row does not split in two"))
}

/// New compressed vectors take their place in the caches; each row's queries look at its own.
#[expect(
    clippy::too_many_arguments,
    reason = "what attention takes, and its layer"
)]
fn attend(
    layer: &LayerShape,
    latent: &LatentAttention,
    parameters: &LayerParameters,
    n: usize,
    queries: &Queries,
    compressed: Array,
    shared: Array,
    step: &mut Step<'_>,
) -> Result<Array> {
    let asked = step.queries();
    let seen = match step.past() {
        Past::None => {
            let weights = KvUp::of(layer, latent, parameters, true)?;
            return weights.weigh(layer, queries, &compressed, &shared, step);
        }
        Past::Requests(requests) => {
            let mut seen = Vec::with_capacity(requests.len());
            for (row, request) in (0..).zip(requests.iter_mut()) {
                let (compressed, shared) = (row_of(&compressed, row)?, row_of(&shared, row)?);
                seen.push(request.extend(n, &compressed, &shared, asked)?);
            }
            seen
        }
    };
    // One query is cheaper to compress than all keys to unfold.
    let weights = KvUp::of(layer, latent, parameters, asked > 1)?;
    let mut attended = Vec::with_capacity(seen.len());
    for (row, (compressed, shared)) in (0..).zip(&seen) {
        let queries = Queries {
            plain: row_of(&queries.plain, row)?,
            turned: row_of(&queries.turned, row)?,
        };
        attended.push(weights.weigh(layer, &queries, compressed, shared, step)?);
    }
    match <[Array; 1]>::try_from(attended) {
        Ok([one]) => Ok(one),
        Err(attended) => concatenate(&attended, 0),
    }
}

/// How compressed vectors become keys and values.
enum KvUp<'a> {
    /// By unfolding each.
    Unfold(&'a LayerParameters, usize, usize),
    /// Never: queries are compressed instead, and what comes out is unfolded.
    /// Keys `[heads, plain, rank]` and values `[heads, rank, value]`.
    Absorb(Array, Array),
}

impl<'a> KvUp<'a> {
    fn of(
        layer: &LayerShape,
        latent: &LatentAttention,
        parameters: &'a LayerParameters,
        unfold: bool,
    ) -> Result<Self> {
        let linear = parameters.linear(LayerWeight::AttnKvUp)?;
        let heads = layer.config.heads;
        if unfold || !linear.adapters.is_empty() {
            return Ok(Self::Unfold(parameters, heads, latent.plain_dim));
        }
        let dtype = parameters.vector(LayerWeight::AttnKvDownNorm)?.dtype();
        let width = latent.plain_dim + latent.value_dim;
        let matrix = linear.weight.dense(dtype)?;
        let matrix = matrix.reshape(&[heads as i32, width as i32, latent.kv_rank as i32])?;
        let parts = matrix.split_at_indices(&[latent.plain_dim as i32], 1)?;
        match <[Array; 2]>::try_from(parts) {
            Ok([keys, values]) => Ok(Self::Absorb(keys, values.swap_axes(-1, -2)?)),
            Err(_) => Err(Exception::custom("keys and values do not split")),
        }
    }

    /// Values weighed by how queries and keys agree: `[B, heads, asked, value]`.
    fn weigh(
        &self,
        layer: &LayerShape,
        queries: &Queries,
        compressed: &Array,
        shared: &Array,
        step: &mut Step<'_>,
    ) -> Result<Array> {
        let scale = layer.config.score_scale;
        let turned = queries
            .turned
            .multiply(scalar(scale, queries.turned.dtype())?)?;
        let mut scores = matmul(turned, shared.swap_axes(-1, -2)?)?;
        let seen = shared.shape().get(2).copied().unwrap_or(0);
        if let Some(mask) = step.mask_array(seen, layer.kind.window)? {
            let never = scalar(f32::NEG_INFINITY, scores.dtype())?;
            scores = select(mask, scores, never)?;
        }
        // The turned part is added to the scores of the plain one.
        match self {
            Self::Unfold(parameters, heads, plain_dim) => {
                let [batch, _] = leading(compressed)?;
                let rows = compressed.reshape(&[batch, seen, -1])?;
                let unfolded = parameters.project(LayerWeight::AttnKvUp, &rows)?;
                let width = unfolded.shape().last().map_or(0, |&w| w as usize) / heads;
                let unfolded = split_heads(&unfolded, *heads, width)?;
                let [keys, values] = halves(&unfolded, *plain_dim)?;
                scaled_dot_product_attention(&queries.plain, keys, values, scale, &scores, None)
            }
            Self::Absorb(keys, values) => {
                let compact = matmul(&queries.plain, keys)?;
                let attended = scaled_dot_product_attention(
                    compact, compressed, compressed, scale, &scores, None,
                )?;
                matmul(attended, values)
            }
        }
    }
}

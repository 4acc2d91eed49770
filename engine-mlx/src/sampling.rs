//! Choosing a token from logits, on the device.

use exo_models::guide::Allowed;
use exo_protocol::engine::Sampling;
use mlx_rs::error::{Exception, Result};
use mlx_rs::ops::indexing::{TryIndexOp, argmax_axis};
use mlx_rs::ops::{argsort_axis, is_nan, logical_and, select};
use mlx_rs::{Array, Dtype};

/// `logits`, `[vocab]` in single precision, as [`Sampling::shape`] changes them: on the host, by the
/// rules that all engines share.
pub(crate) fn shaped(
    logits: &Array,
    sampling: &Sampling,
    allowed: Option<&Allowed>,
) -> Result<Array> {
    if sampling.shaping.is_none() {
        return Ok(logits.clone());
    }
    let mut shaped = on_host(logits)?;
    sampling.shape(&mut shaped, |_, _, logits| match allowed {
        Some(allowed) => {
            allowed.apply(logits);
            Ok(())
        }
        None => Err(Exception::custom("nobody said what the grammar allows")),
    })?;
    let size = i32::try_from(shaped.len()).unwrap_or(i32::MAX);
    Ok(Array::from_slice(&shaped, &[size]))
}

/// Logits of single precision as the host sees them.
pub(crate) fn on_host(logits: &Array) -> Result<Vec<f32>> {
    let logits = logits.contiguous()?;
    mlx_rs::transforms::eval([&logits])?;
    let values = logits.try_as_slice::<f32>();
    let values = values.map_err(|error| Exception::custom(error.to_string()))?;
    Ok(values.to_vec())
}

/// The token that `sampling` chooses from `logits`, `[vocab]`, for `position` (of the token that is
/// chosen, the first of the prompt being zero), as an array that is still to be computed.
///
/// Temperature zero takes the likeliest, the lowest id among equals. Otherwise the candidates are
/// ordered by falling logit, then by rising id; the first `top_k` are kept; of those the fewest
/// first ones whose probability reaches `top_p` (at least one); and the first whose cumulative
/// probability exceeds the draw of seed and position is chosen. Logits that are not numbers never
/// win.
pub(crate) fn choose(logits: &Array, sampling: &Sampling, position: u32) -> Result<Array> {
    let never = Array::from_f32(f32::NEG_INFINITY);
    let logits = logits.as_dtype(Dtype::Float32)?;
    let logits = select(is_nan(&logits)?, never, &logits)?;
    let best = argmax_axis(&logits, -1, false)?;
    let temperature = sampling.temperature;
    if temperature.is_nan() || temperature <= 0.0 || sampling.top_k == 1 {
        return Ok(best);
    }
    // Stable: equal ones keep the order of their ids.
    let mut order = argsort_axis(logits.negative()?, -1)?;
    let size = logits.size();
    let kept = match sampling.top_k as usize {
        0 => size,
        k => k.min(size),
    };
    if kept < size {
        order = order.try_index(..kept as i32)?;
    }
    let sorted = logits.take_axis(&order, -1)?;
    // Relative to the best one, so that nothing overflows however small the temperature is.
    let relative = sorted.subtract(sorted.try_index(0)?)?;
    let weights = relative.divide(Array::from_f32(temperature))?.exp()?;
    let reached = weights.cumsum(-1, false, true)?;
    let all = reached.try_index(-1)?;
    // What lies before a candidate decides whether it is kept; the first one has nothing before.
    let before = reached.subtract(&weights)?;
    let top_p = if sampling.top_p > 0.0 {
        sampling.top_p.min(1.0)
    } else {
        0.0
    };
    let first = mlx_rs::ops::arange::<i32, i32>(0, kept as i32, 1)?.eq(Array::from_int(0))?;
    let within = if top_p < 1.0 {
        let within = before.lt(all.multiply(Array::from_f32(top_p))?)?;
        mlx_rs::ops::logical_or(within, first)?
    } else {
        mlx_rs::ops::ones_like(&first)?
    };
    let sum = select(&within, &weights, Array::from_f32(0.0))?.sum(None)?;
    let draw = Array::from_f32(sampling.uniform(position) as f32).multiply(sum)?;
    let chosen = logical_and(reached.gt(draw)?, &within)?;
    // The first that is; none if rounding left a crumb, which belongs to the likeliest.
    let at = argmax_axis(chosen.as_dtype(Dtype::Int32)?, -1, false)?;
    let token = order.take_axis(at, -1)?;
    // Without a best one that is finite there is nothing to weigh.
    let finite = logits.take_axis(&best, -1)?.is_finite()?;
    select(finite, token.as_dtype(Dtype::Uint32)?, best)
}

#[cfg(test)]
mod tests;

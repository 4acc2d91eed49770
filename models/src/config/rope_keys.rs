//! How GGUF files describe rotary positions.

use super::{Keys, RopeConfig, RopeLayout, RopeScaling, rope_fields::long_rope_magnitude};
use crate::ModelError;

/// Divisors of the rotary frequencies, one per pair: how converters write Llama 3's scaling.
const LLAMA_3_FACTORS: &str = "rope_freqs.weight";
/// The same for Phi 3's long contexts.
const LONG_FACTORS: &str = "rope_factors_long.weight";

const TYPE: &str = "rope.scaling.type";
const FACTOR: &str = "rope.scaling.factor";
const ORIGINAL: &str = "rope.scaling.original_context_length";
const ATTENTION: &str = "rope.scaling.attn_factor";
const SUPPORTED: &str = "none, linear, yarn, longrope, and Llama 3's frequencies";

/// Base and scaling.
pub(crate) fn rope(
    keys: &Keys<'_>,
    dims: usize,
    layout: RopeLayout,
) -> Result<RopeConfig, ModelError> {
    let theta = keys.number("rope.freq_base")?.unwrap_or(10_000.0);
    Ok(RopeConfig {
        theta,
        dims,
        layout,
        scaling: scaling(keys, dims, theta)?,
    })
}

fn scaling(keys: &Keys<'_>, dims: usize, theta: f32) -> Result<RopeScaling, ModelError> {
    match keys.text(TYPE)? {
        Some("linear") => Ok(RopeScaling::Linear {
            factor: keys.required_number(FACTOR)?,
        }),
        Some("yarn") => yarn(keys),
        None | Some("none" | "longrope") => from_tensors(keys, dims, theta),
        Some(other) => {
            let what = format!("rope scaling `{other}`");
            Err(keys.unsupported(what, SUPPORTED))
        }
    }
}

/// llama.cpp multiplies with a magnitude that grows with the factor, and with what the file says.
fn yarn(keys: &Keys<'_>) -> Result<RopeScaling, ModelError> {
    let factor = keys.required_number(FACTOR)?;
    let attention = keys.number(ATTENTION)?.unwrap_or(1.0);
    Ok(RopeScaling::Yarn {
        factor,
        original_context: original(keys)?,
        beta_fast: keys.number("rope.scaling.yarn_beta_fast")?.unwrap_or(32.0),
        beta_slow: keys.number("rope.scaling.yarn_beta_slow")?.unwrap_or(1.0),
        magnitude: attention * super::yarn_magnitude(factor, 1.0) as f32,
    })
}

fn original(keys: &Keys<'_>) -> Result<u32, ModelError> {
    let limit = u64::from(u32::MAX);
    match keys.count(ORIGINAL, limit)? {
        Some(original) => Ok(original as u32),
        None => Ok(keys.required_count("context_length", limit)? as u32),
    }
}

fn from_tensors(keys: &Keys<'_>, dims: usize, theta: f32) -> Result<RopeScaling, ModelError> {
    if let Some(factors) = keys.floats(LONG_FACTORS)? {
        if factors.len() != dims / 2 {
            let expected = format!("{} numbers, one for each pair", dims / 2);
            let found = format!("{} numbers", factors.len());
            return Err(ModelError::field(
                keys.file(),
                LONG_FACTORS,
                expected,
                found,
            ));
        }
        let context = keys.required_count("context_length", u32::MAX.into())? as u32;
        let magnitude = match keys.number(ATTENTION)? {
            Some(magnitude) => magnitude,
            None => long_rope_magnitude(context, original(keys)?),
        };
        return Ok(RopeScaling::LongRope { factors, magnitude });
    }
    let Some(factors) = keys.floats(LLAMA_3_FACTORS)? else {
        return Ok(RopeScaling::None);
    };
    llama3(&factors, dims, theta).ok_or_else(|| {
        let what = format!("rotary frequencies (`{LLAMA_3_FACTORS}`) that are not Llama 3's");
        keys.unsupported(what, SUPPORTED)
    })
}

/// Which of Llama 3's scalings gives these divisors. All published models have the same constants but
/// for the factor, which is the divisor of the longest wavelength; the rest is verified.
fn llama3(factors: &[f32], dims: usize, theta: f32) -> Option<RopeScaling> {
    if factors.len() != dims / 2 {
        return None;
    }
    let factor = *factors.last()?;
    if factors.iter().all(|&f| f == 1.0) {
        return Some(RopeScaling::None);
    }
    let (low, high, original) = (1.0, 4.0, 8192.0);
    for (index, &found) in factors.iter().enumerate() {
        let frequency = theta.powf(-2.0 * index as f32 / dims as f32);
        let wavelength = std::f32::consts::TAU / frequency;
        let expected = if wavelength < original / high {
            1.0
        } else if wavelength > original / low {
            factor
        } else {
            let smooth = (original / wavelength - low) / (high - low);
            1.0 / ((1.0 - smooth) / factor + smooth)
        };
        if (found - expected).abs() > 1e-3 * expected.abs() {
            return None;
        }
    }
    Some(RopeScaling::Llama3 {
        factor,
        low_freq_factor: low,
        high_freq_factor: high,
        original_context: 8192,
    })
}

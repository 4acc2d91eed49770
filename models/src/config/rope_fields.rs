//! How config.json describes rotary positions.

use serde_json::{Map, Value};

use super::{Fields, RopeConfig, RopeLayout, RopeScaling};
use crate::ModelError;

const ORIGINAL: &str = "original_max_position_embeddings";
const SUPPORTED: &str = "default, linear, llama3, yarn, longrope";

/// The section that says how positions are stretched, if there is one: `rope_scaling` up to
/// transformers 4, `rope_parameters` (which has the base too) from 5 on.
pub(crate) fn section(fields: &Fields) -> Result<Option<&Map<String, Value>>, ModelError> {
    match fields.section("rope_parameters")? {
        Some(section) => Ok(Some(section)),
        None => fields.section("rope_scaling"),
    }
}

/// Base and scaling of the only rotary embedding that a model has.
pub(crate) fn rope(fields: &Fields, dims: usize) -> Result<RopeConfig, ModelError> {
    let section = section(fields)?;
    let theta = match section {
        Some(section) => fields.number_in("rope_theta", section)?,
        None => None,
    };
    let theta = match theta {
        Some(theta) => theta,
        None => fields.number("rope_theta")?.unwrap_or(10_000.0),
    };
    Ok(RopeConfig {
        theta,
        dims,
        layout: match fields.flag("rope_traditional")? {
            Some(true) => RopeLayout::Interleaved,
            _ => RopeLayout::Half,
        },
        scaling: match section {
            Some(section) => scaling(fields, section, dims)?,
            None => RopeScaling::None,
        },
    })
}

/// What a section says about stretching. Defaults are those of mlx-lm 0.31.3.
pub(crate) fn scaling(
    fields: &Fields,
    section: &Map<String, Value>,
    dims: usize,
) -> Result<RopeScaling, ModelError> {
    let kind = section
        .get("rope_type")
        .or_else(|| section.get("type"))
        .and_then(Value::as_str);
    let number = |name: &str, default: f32| {
        let found = fields.number_in(name, section)?;
        Ok::<_, ModelError>(found.unwrap_or(default))
    };
    let factor = || {
        fields
            .number_in("factor", section)?
            .ok_or_else(|| fields.missing("rope_scaling.factor"))
    };
    let original = |default: u32| {
        let found = fields.count_in(ORIGINAL, section, u32::MAX.into())?;
        Ok::<_, ModelError>(found.map_or(default, |n| n as u32))
    };
    match kind {
        Some("default") => Ok(RopeScaling::None),
        None if section.contains_key("factor") => Err(fields.missing("rope_scaling.rope_type")),
        None => Ok(RopeScaling::None),
        Some("linear") => Ok(RopeScaling::Linear { factor: factor()? }),
        Some("llama3") => {
            let low = number("low_freq_factor", 1.0)?;
            let high = number("high_freq_factor", 4.0)?;
            if low >= high {
                let expected = format!("below `high_freq_factor`, which is {high}");
                let field = "rope_scaling.low_freq_factor";
                return Err(ModelError::field(fields.file(), field, expected, low));
            }
            Ok(RopeScaling::Llama3 {
                factor: factor()?,
                low_freq_factor: low,
                high_freq_factor: high,
                original_context: original(8192)?,
            })
        }
        Some("yarn" | "deepseek_yarn") => {
            let factor = factor()?;
            let part = |name: &str, default: f32| {
                let found = fields.weight_in(name, section)?;
                Ok::<_, ModelError>(yarn_magnitude(factor, found.unwrap_or(default)))
            };
            Ok(RopeScaling::Yarn {
                factor,
                original_context: original(4096)?,
                beta_fast: number("beta_fast", 32.0)?,
                beta_slow: number("beta_slow", 1.0)?,
                magnitude: (part("mscale", 1.0)? / part("mscale_all_dim", 0.0)?) as f32,
            })
        }
        Some("longrope" | "su") => long_rope(fields, section, dims),
        Some(other) => {
            let what = format!("rope scaling `{other}`");
            Err(fields.unsupported(what, SUPPORTED))
        }
    }
}

/// By how much YaRN makes up for the flatter attention of a longer context.
pub(crate) fn yarn_magnitude(factor: f32, mscale: f32) -> f64 {
    if factor <= 1.0 {
        return 1.0;
    }
    0.1 * f64::from(mscale) * f64::from(factor).ln() + 1.0
}

/// What turned elements are multiplied by when `context` positions became of `original` ones.
pub(crate) fn long_rope_magnitude(context: u32, original: u32) -> f32 {
    let factor = f64::from(context) / f64::from(original);
    if factor <= 1.0 || original <= 1 {
        return 1.0;
    }
    (1.0 + factor.ln() / f64::from(original).ln()).sqrt() as f32
}

fn long_rope(
    fields: &Fields,
    section: &Map<String, Value>,
    dims: usize,
) -> Result<RopeScaling, ModelError> {
    let limit = u64::from(u32::MAX);
    let factors = fields
        .numbers_in("long_factor", section, dims / 2)?
        .ok_or_else(|| fields.missing("rope_scaling.long_factor"))?;
    let context = fields.required_count("max_position_embeddings", limit)?;
    // Phi 3 has it beside the section, not in it.
    let original = match fields.count_in(ORIGINAL, section, limit)? {
        Some(original) => original,
        None => fields.count(ORIGINAL, limit)?.unwrap_or(4096),
    };
    Ok(RopeScaling::LongRope {
        factors,
        magnitude: long_rope_magnitude(context as u32, original as u32),
    })
}

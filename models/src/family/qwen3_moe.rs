//! Qwen 3 with experts in some or all layers.

use super::Architecture;
use crate::{
    Experts, Family, ModelConfig, ModelError, Scoring,
    config::{Fields, MAX_DIMENSION, MAX_EXPERTS, MAX_INTERMEDIATE, Shape, common, expert_layers},
};

pub(super) const ARCHITECTURE: Architecture = Architecture {
    hugging_face: &[("qwen3_moe", read)],
};

fn read(fields: &Fields) -> Result<ModelConfig, ModelError> {
    let mut config = common(fields, &Shape::usual(Family::Qwen3Moe, fields)?)?;
    config.qk_norm = true;
    let count = fields.count_or_zero("num_experts", MAX_EXPERTS)?;
    if count == 0 {
        return Ok(config);
    }
    let active = fields.required_count("num_experts_per_tok", count as u64)?;
    let intermediate = fields.required_count("moe_intermediate_size", MAX_INTERMEDIATE)?;
    let normalise = fields.flag("norm_topk_prob")?.unwrap_or(false);
    config.experts = Some(experts(count, active, intermediate, normalise));

    let step = fields.count("decoder_sparse_step", MAX_DIMENSION)?;
    let step = step.unwrap_or(1);
    let mut dense = Vec::new();
    for layer in fields.list("mlp_only_layers")?.unwrap_or_default() {
        match layer.as_u64().and_then(|n| usize::try_from(n).ok()) {
            Some(layer) => dense.push(layer),
            None => return Err(fields.wrong("mlp_only_layers", "a list of layers' numbers")),
        }
    }
    expert_layers(&mut config, |layer| {
        (layer + 1).is_multiple_of(step) && !dense.contains(&layer)
    });
    Ok(config)
}

fn experts(count: usize, active: usize, intermediate: usize, normalise: bool) -> Experts {
    Experts {
        count,
        active,
        intermediate,
        shared_intermediate: 0,
        scoring: Scoring::Softmax,
        choice_bias: false,
        groups: 1,
        active_groups: 1,
        group_by_two: false,
        normalise,
        scale: 1.0,
    }
}

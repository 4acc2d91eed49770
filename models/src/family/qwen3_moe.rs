//! Qwen 3 with experts in some or all layers.

use super::Architecture;
use crate::{
    Experts, Family, ModelConfig, ModelError, RopeLayout, Scoring,
    config::{
        Fields, Keys, MAX_DIMENSION, MAX_EXPERTS, MAX_INTERMEDIATE, Shape, expert_layers,
        from_gguf, from_hf,
    },
};

pub(super) const ARCHITECTURE: Architecture = Architecture {
    hugging_face: &[("qwen3_moe", read)],
    gguf: &[("qwen3moe", read_gguf)],
};

fn read(fields: &Fields) -> Result<ModelConfig, ModelError> {
    let mut config = from_hf::common(fields, &Shape::usual(Family::Qwen3Moe, fields)?)?;
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

/// Which layers have experts goes without saying: those that have a router.
fn read_gguf(keys: &Keys<'_>) -> Result<ModelConfig, ModelError> {
    let shape = from_gguf::usual(Family::Qwen3Moe, keys)?;
    let mut config = from_gguf::common(keys, &shape, RopeLayout::Half)?;
    config.qk_norm = true;
    let count = keys.required_count("expert_count", MAX_EXPERTS)?;
    let active = keys.required_count("expert_used_count", count as u64)?;
    let intermediate = keys.required_count("expert_feed_forward_length", MAX_INTERMEDIATE)?;
    // All published models do it, and llama.cpp does not ask.
    let normalise = true;
    config.experts = Some(experts(count, active, intermediate, normalise));
    expert_layers(&mut config, |layer| {
        keys.has(&format!("blk.{layer}.ffn_gate_inp.weight"))
    });
    Ok(config)
}

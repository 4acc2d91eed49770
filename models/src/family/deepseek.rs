//! DeepSeek 2 and 3: keys and values from one compressed vector, and experts of which some are
//! everybody's.

use super::Architecture;
use crate::{
    Biases, Experts, Family, LatentAttention, ModelConfig, ModelError, RopeLayout, RopeScaling,
    Scoring,
    config::{
        Fields, Keys, MAX_DIMENSION, MAX_EXPERTS, MAX_INTERMEDIATE, Shape, expert_layers,
        from_gguf, from_hf, rope_section, yarn_magnitude,
    },
};

pub(super) const ARCHITECTURE: Architecture = Architecture {
    hugging_face: &[("deepseek_v2", read_2), ("deepseek_v3", read_3)],
    gguf: &[("deepseek2", read_gguf)],
};

/// Of the norms inside of the attention, whatever `rms_norm_eps` is.
const LATENT_EPS: f32 = 1e-6;

/// The routing of DeepSeek 2: best of the best groups by softmax. That `norm_topk_prob` is not
/// looked at is as in mlx-lm, and no published model sets it.
fn read_2(fields: &Fields) -> Result<ModelConfig, ModelError> {
    let grouped = match fields.text("topk_method")? {
        None | Some("greedy" | "gready") => false,
        Some("group_limited_greedy") => true,
        Some(other) => {
            let what = format!("the choice of experts by `{other}` (`topk_method`)");
            return Err(fields.unsupported(what, "greedy, group_limited_greedy"));
        }
    };
    let mut config = read(fields, Family::DeepSeek2)?;
    if let Some(experts) = &mut config.experts
        && !grouped
    {
        (experts.groups, experts.active_groups) = (1, 1);
    }
    Ok(config)
}

/// The routing of DeepSeek 3: sigmoids, and a bias that only takes part in choosing.
fn read_3(fields: &Fields) -> Result<ModelConfig, ModelError> {
    for (field, supported) in [("topk_method", "noaux_tc"), ("scoring_func", "sigmoid")] {
        if let Some(other) = fields.text(field)?.filter(|&name| name != supported) {
            let what = format!("the choice of experts by `{other}` (`{field}`)");
            return Err(fields.unsupported(what, supported));
        }
    }
    let normalise = fields.flag("norm_topk_prob")?.unwrap_or(true);
    let mut config = read(fields, Family::DeepSeek3)?;
    if let Some(experts) = &mut config.experts {
        experts.scoring = Scoring::Sigmoid;
        experts.choice_bias = true;
        experts.group_by_two = true;
        // One alone keeps its score.
        experts.normalise = normalise && experts.active > 1;
        let size = experts.count / experts.groups;
        if experts.groups > 1 && size < 2 {
            return Err(fields.wrong("n_group", "groups of two experts at least"));
        }
    }
    Ok(config)
}

fn read(fields: &Fields, family: Family) -> Result<ModelConfig, ModelError> {
    let fields = fields.with_defaults(&[
        ("kv_lora_rank", 512.0),
        ("qk_rope_head_dim", 64.0),
        ("qk_nope_head_dim", 128.0),
        ("v_head_dim", 128.0),
        ("max_position_embeddings", 2048.0),
    ]);
    let dim = |name| fields.required_count(name, MAX_DIMENSION);
    let latent = LatentAttention {
        query_rank: match fields.count("q_lora_rank", MAX_DIMENSION)? {
            // Null is a word of its own: no compression.
            None if !fields.names("q_lora_rank") => Some(1536),
            rank => rank,
        },
        kv_rank: dim("kv_lora_rank")?,
        plain_dim: dim("qk_nope_head_dim")?,
        rope_dim: dim("qk_rope_head_dim")?,
        value_dim: dim("v_head_dim")?,
        norm_eps: LATENT_EPS,
    };
    let shape = Shape {
        rope_dims: latent.rope_dim,
        ..Shape::of_heads(family, latent.plain_dim + latent.rope_dim)
    };
    check_turned(latent.rope_dim).map_err(|expected| fields.wrong("qk_rope_head_dim", expected))?;
    let config = from_hf::common(&fields, &shape)?;
    if config.biases != Biases::default() {
        let what = "biases of linear weights (`attention_bias`)";
        return Err(fields.unsupported(what, "DeepSeek without them"));
    }
    let mut rope = config.rope.clone();
    rope.layout = RopeLayout::Interleaved;
    let mut config = ModelConfig {
        kv_heads: config.heads,
        latent: Some(latent),
        score_scale: config.score_scale * score_factor(&fields)?,
        rope,
        experts: experts(&fields)?,
        // There is an output head whatever the file says.
        tied_embeddings: false,
        ..config
    };
    let first = fields.count_or_zero("first_k_dense_replace", MAX_DIMENSION)?;
    let step = fields.count("moe_layer_freq", MAX_DIMENSION)?.unwrap_or(1);
    let some = config.experts.is_some();
    expert_layers(&mut config, |layer| {
        some && layer >= first && layer.is_multiple_of(step)
    });
    Ok(config)
}

/// What it should be, if it is not.
fn check_turned(width: usize) -> Result<(), &'static str> {
    match width.is_multiple_of(2) {
        true => Ok(()),
        false => Err("even, because rotary positions work on pairs"),
    }
}

/// A longer context makes attention flatter; DeepSeek makes up for it here rather than in the
/// turned elements.
fn score_factor(fields: &Fields) -> Result<f32, ModelError> {
    let Some(section) = rope_section(fields)? else {
        return Ok(1.0);
    };
    let mscale = fields.weight_in("mscale_all_dim", section)?.unwrap_or(0.0);
    let factor = fields.number_in("factor", section)?.unwrap_or(1.0);
    let magnitude = yarn_magnitude(factor, mscale);
    Ok((magnitude * magnitude) as f32)
}

/// What both have; the routing is DeepSeek 2's.
fn experts(fields: &Fields) -> Result<Option<Experts>, ModelError> {
    let count = fields.count_or_zero("n_routed_experts", MAX_EXPERTS)?;
    if count == 0 {
        return Ok(None);
    }
    let intermediate = fields.required_count("moe_intermediate_size", MAX_INTERMEDIATE)?;
    let shared = fields.count_or_zero("n_shared_experts", MAX_EXPERTS)?;
    let groups = fields.count("n_group", count as u64)?.unwrap_or(1);
    if !count.is_multiple_of(groups) {
        let expected = format!("a divisor of `n_routed_experts`, which is {count}");
        return Err(fields.wrong("n_group", expected));
    }
    let active_groups = fields.count("topk_group", groups as u64)?.unwrap_or(groups);
    // No more than the groups have that are chosen from.
    let most = active_groups * (count / groups);
    Ok(Some(Experts {
        count,
        active: fields.required_count("num_experts_per_tok", most as u64)?,
        intermediate,
        shared_intermediate: intermediate * shared,
        scoring: Scoring::Softmax,
        choice_bias: false,
        groups,
        active_groups,
        group_by_two: false,
        normalise: false,
        scale: fields.number("routed_scaling_factor")?.unwrap_or(1.0),
    }))
}

/// `expert_gating_func` of GGUF files.
const GATING_SOFTMAX: usize = 1;
const GATING_SIGMOID: usize = 2;

/// Files of both, which the gating tells apart.
fn read_gguf(keys: &Keys<'_>) -> Result<ModelConfig, ModelError> {
    let dim = |name| keys.required_count(name, MAX_DIMENSION);
    if !keys.has("blk.0.attn_kv_b.weight") {
        let what = "keys and values apart (`attn_k_b`, `attn_v_b`), as converters since April 2025 \
                    write them";
        let supported = "files with `attn_kv_b`, and the model's Hugging Face folder";
        return Err(keys.unsupported(what, supported));
    }
    let scoring = match keys.count_or_zero("expert_gating_func", GATING_SIGMOID as u64)? {
        GATING_SIGMOID => Scoring::Sigmoid,
        // Older files do not say, and are DeepSeek 2's.
        0 | GATING_SOFTMAX => Scoring::Softmax,
        _ => return Err(keys.wrong("expert_gating_func", "1 (softmax) or 2 (sigmoid)")),
    };
    let family = match scoring {
        Scoring::Softmax => Family::DeepSeek2,
        Scoring::Sigmoid => Family::DeepSeek3,
    };
    let rope_dim = dim("rope.dimension_count")?;
    check_turned(rope_dim).map_err(|expected| keys.wrong("rope.dimension_count", expected))?;
    // The newer name says what the older one did: a head's width before it is compressed.
    let width = |newer, older| match keys.count(newer, MAX_DIMENSION)? {
        Some(width) => Ok(width),
        None => dim(older),
    };
    let head_dim = width("attention.key_length_mla", "attention.key_length")?;
    let Some(plain_dim) = head_dim.checked_sub(rope_dim).filter(|&n| n > 0) else {
        let expected = format!("less than the width of a head, which is {head_dim}");
        return Err(keys.wrong("rope.dimension_count", expected));
    };
    let shape = Shape {
        rope_dims: rope_dim,
        ..Shape::of_heads(family, head_dim)
    };
    let config = from_gguf::common(keys, &shape, RopeLayout::Interleaved)?;
    let latent = LatentAttention {
        query_rank: keys.count("attention.q_lora_rank", MAX_DIMENSION)?,
        kv_rank: dim("attention.kv_lora_rank")?,
        plain_dim,
        rope_dim,
        value_dim: width("attention.value_length_mla", "attention.value_length")?,
        // llama.cpp has one epsilon for all.
        norm_eps: config.norm_eps,
    };
    let (rope, factor) = gguf_rope(keys, &config)?;
    let mut config = ModelConfig {
        kv_heads: config.heads,
        latent: Some(latent),
        score_scale: config.score_scale * factor,
        rope,
        experts: gguf_experts(keys, scoring)?,
        ..config
    };
    let first = keys.count_or_zero("leading_dense_block_count", MAX_DIMENSION)?;
    let some = config.experts.is_some();
    expert_layers(&mut config, |layer| some && layer >= first);
    Ok(config)
}

/// Published models stretch scores and turned elements by the same, so that the scores' scale says
/// it all; files only say a tenth of the exponent.
fn gguf_rope(
    keys: &Keys<'_>,
    config: &ModelConfig,
) -> Result<(crate::RopeConfig, f32), ModelError> {
    let mut rope = config.rope.clone();
    let RopeScaling::Yarn {
        factor, magnitude, ..
    } = &mut rope.scaling
    else {
        return Ok((rope, 1.0));
    };
    *magnitude = 1.0;
    let tenth = keys.number("rope.scaling.yarn_log_multiplier")?;
    let scores = yarn_magnitude(*factor, tenth.unwrap_or(0.0) * 10.0);
    Ok((rope, (scores * scores) as f32))
}

fn gguf_experts(keys: &Keys<'_>, scoring: Scoring) -> Result<Option<Experts>, ModelError> {
    let count = keys.count_or_zero("expert_count", MAX_EXPERTS)?;
    if count == 0 {
        return Ok(None);
    }
    let sigmoid = scoring == Scoring::Sigmoid;
    let intermediate = keys.required_count("expert_feed_forward_length", MAX_INTERMEDIATE)?;
    let shared = keys.count_or_zero("expert_shared_count", MAX_EXPERTS)?;
    let groups = keys.count("expert_group_count", count as u64)?.unwrap_or(1);
    if !count.is_multiple_of(groups) {
        let expected = format!("a divisor of the expert count, which is {count}");
        return Err(keys.wrong("expert_group_count", expected));
    }
    let active_groups = keys.count("expert_group_used_count", groups as u64)?;
    let active_groups = active_groups.unwrap_or(groups);
    let most = active_groups * (count / groups);
    let active = keys.required_count("expert_used_count", most as u64)?;
    let normalise = keys.flag("expert_weights_norm")?.unwrap_or(false);
    Ok(Some(Experts {
        count,
        active,
        intermediate,
        shared_intermediate: intermediate * shared,
        scoring,
        choice_bias: sigmoid,
        groups,
        active_groups,
        group_by_two: sigmoid,
        normalise: normalise && active > 1,
        scale: keys.number("expert_weights_scale")?.unwrap_or(1.0),
    }))
}

//! DeepSeek 2 and 3: keys and values from one compressed vector, and experts of which some are
//! everybody's.

use super::Architecture;
use crate::{
    Biases, Experts, Family, LatentAttention, ModelConfig, ModelError, RopeLayout, Scoring,
    config::{
        Fields, MAX_DIMENSION, MAX_EXPERTS, MAX_INTERMEDIATE, Shape, common, expert_layers,
        rope_section, yarn_magnitude,
    },
};

pub(super) const ARCHITECTURE: Architecture = Architecture {
    hugging_face: &[("deepseek_v2", read_2), ("deepseek_v3", read_3)],
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
    if !latent.rope_dim.is_multiple_of(2) {
        let expected = "even, because rotary positions work on pairs";
        return Err(fields.wrong("qk_rope_head_dim", expected));
    }
    let config = common(&fields, &shape)?;
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

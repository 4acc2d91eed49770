//! Where each format keeps a weight: under which name, and in which rows of a tensor that several
//! weights share. Engines see none of it.

use super::{FfnPart, LayerWeight, WeightName};
use crate::{Family, ModelConfig};

/// A tensor in which a weight may lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// Its name in the files.
    pub(crate) tensor: String,
    /// Its whole shape, the contiguous dimension last. All before that one count as rows.
    pub(crate) shape: Vec<usize>,
    /// The row at which the weight begins.
    pub(crate) first_row: usize,
}

/// Which part of a tensor a weight is.
enum Part {
    /// All of it.
    Whole,
    /// Rows from the first number on, of as many as the second one says.
    Rows(usize, usize),
    /// One of many of the same shape: its number, and how many.
    Item(usize, usize),
}

impl Place {
    fn new(tensor: String, name: WeightName, config: &ModelConfig, part: Part) -> Self {
        let (rows, cols) = name.shape(config);
        let (shape, first_row) = match part {
            Part::Whole if rows == 1 => (vec![cols], 0),
            Part::Whole => (vec![rows, cols], 0),
            Part::Rows(first, all) => (vec![all, cols], first),
            Part::Item(index, count) => (vec![count, rows, cols], index * rows),
        };
        Self {
            tensor,
            shape,
            first_row,
        }
    }
}

impl FfnPart {
    fn name(self) -> &'static str {
        match self {
            Self::Gate => "gate",
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

impl WeightName {
    /// Where safetensors files may have the weight, the likeliest place first; `prefix` is what
    /// comes before all names of the files. Never empty.
    pub(crate) fn hugging_face(self, config: &ModelConfig, prefix: &str) -> Vec<Place> {
        let (layer, weight) = match self {
            Self::Layer(layer, weight) => (layer, weight),
            Self::TokenEmbedding => {
                return self.only(config, format!("{prefix}model.embed_tokens.weight"));
            }
            Self::OutputNorm => return self.only(config, format!("{prefix}model.norm.weight")),
            Self::Output => return self.only(config, format!("{prefix}lm_head.weight")),
        };
        let place = |rest: &str, part: Part| {
            let tensor = format!("{prefix}model.layers.{layer}.{rest}");
            Place::new(tensor, self, config, part)
        };
        let fused = |rest: &str| fused(weight, config).map(|part| place(rest, part));
        let own = match weight {
            LayerWeight::Expert(expert, part) => {
                let (part, count) = (part.name(), config.experts.map_or(0, |all| all.count));
                let own = format!("mlp.experts.{expert}.{part}_proj.weight");
                let all = format!("mlp.switch_mlp.{part}_proj.weight");
                let item = Part::Item(expert.into(), count);
                return vec![place(&own, Part::Whole), place(&all, item)];
            }
            LayerWeight::AttnNorm => "input_layernorm.weight",
            LayerWeight::AttnQ => "self_attn.q_proj.weight",
            LayerWeight::AttnK => "self_attn.k_proj.weight",
            LayerWeight::AttnV => "self_attn.v_proj.weight",
            LayerWeight::AttnQBias => "self_attn.q_proj.bias",
            LayerWeight::AttnKBias => "self_attn.k_proj.bias",
            LayerWeight::AttnVBias => "self_attn.v_proj.bias",
            LayerWeight::AttnQNorm => "self_attn.q_norm.weight",
            LayerWeight::AttnKNorm => "self_attn.k_norm.weight",
            LayerWeight::AttnQDown => "self_attn.q_a_proj.weight",
            LayerWeight::AttnQDownNorm => "self_attn.q_a_layernorm.weight",
            LayerWeight::AttnQUp => "self_attn.q_b_proj.weight",
            LayerWeight::AttnKvDown => "self_attn.kv_a_proj_with_mqa.weight",
            LayerWeight::AttnKvDownNorm => "self_attn.kv_a_layernorm.weight",
            LayerWeight::AttnKvUp => "self_attn.kv_b_proj.weight",
            LayerWeight::AttnOutput => "self_attn.o_proj.weight",
            LayerWeight::AttnOutputBias => "self_attn.o_proj.bias",
            LayerWeight::PostAttnNorm => "post_attention_layernorm.weight",
            // Where attention has a norm behind it, that one has the name.
            LayerWeight::FfnNorm if config.post_norms => "pre_feedforward_layernorm.weight",
            LayerWeight::FfnNorm => "post_attention_layernorm.weight",
            LayerWeight::PostFfnNorm => "post_feedforward_layernorm.weight",
            LayerWeight::Router => "mlp.gate.weight",
            LayerWeight::RouterBias => "mlp.gate.e_score_correction_bias",
            LayerWeight::Ffn(part) => &format!("mlp.{}_proj.weight", part.name()),
            LayerWeight::FfnBias(part) => &format!("mlp.{}_proj.bias", part.name()),
            LayerWeight::SharedExpert(part) => {
                &format!("mlp.shared_experts.{}_proj.weight", part.name())
            }
        };
        let mut places = vec![place(own, Part::Whole)];
        places.extend(match weight {
            LayerWeight::AttnQ | LayerWeight::AttnK | LayerWeight::AttnV => {
                fused("self_attn.qkv_proj.weight")
            }
            LayerWeight::Ffn(_) => fused("mlp.gate_up_proj.weight"),
            _ => None,
        });
        if config.family == Family::Phi3 {
            // Its own files have only the fused ones.
            places.reverse();
        }
        places
    }

    /// Where GGUF files may have the weight, the likeliest place first; never empty.
    pub(crate) fn gguf(self, config: &ModelConfig) -> Vec<Place> {
        let (layer, weight) = match self {
            Self::Layer(layer, weight) => (layer, weight),
            Self::TokenEmbedding => return self.only(config, "token_embd.weight".to_owned()),
            Self::OutputNorm => return self.only(config, "output_norm.weight".to_owned()),
            Self::Output => return self.only(config, "output.weight".to_owned()),
        };
        let place =
            |rest: &str, part: Part| Place::new(format!("blk.{layer}.{rest}"), self, config, part);
        let fused = |rest: &str| fused(weight, config).map(|part| place(rest, part));
        let own = match weight {
            LayerWeight::Expert(expert, part) => {
                let count = config.experts.map_or(0, |all| all.count);
                let tensor = format!("ffn_{}_exps.weight", part.name());
                return vec![place(&tensor, Part::Item(expert.into(), count))];
            }
            LayerWeight::AttnNorm => "attn_norm.weight",
            LayerWeight::AttnQ => "attn_q.weight",
            LayerWeight::AttnK => "attn_k.weight",
            LayerWeight::AttnV => "attn_v.weight",
            LayerWeight::AttnQBias => "attn_q.bias",
            LayerWeight::AttnKBias => "attn_k.bias",
            LayerWeight::AttnVBias => "attn_v.bias",
            LayerWeight::AttnQNorm => "attn_q_norm.weight",
            LayerWeight::AttnKNorm => "attn_k_norm.weight",
            LayerWeight::AttnQDown => "attn_q_a.weight",
            LayerWeight::AttnQDownNorm => "attn_q_a_norm.weight",
            LayerWeight::AttnQUp => "attn_q_b.weight",
            LayerWeight::AttnKvDown => "attn_kv_a_mqa.weight",
            LayerWeight::AttnKvDownNorm => "attn_kv_a_norm.weight",
            LayerWeight::AttnKvUp => "attn_kv_b.weight",
            LayerWeight::AttnOutput => "attn_output.weight",
            LayerWeight::AttnOutputBias => "attn_output.bias",
            LayerWeight::PostAttnNorm => "post_attention_norm.weight",
            LayerWeight::FfnNorm => "ffn_norm.weight",
            LayerWeight::PostFfnNorm => "post_ffw_norm.weight",
            LayerWeight::Router => "ffn_gate_inp.weight",
            LayerWeight::RouterBias => "exp_probs_b.bias",
            LayerWeight::Ffn(FfnPart::Gate | FfnPart::Up) if config.family == Family::Phi3 => {
                return Vec::from_iter(fused("ffn_up.weight"));
            }
            LayerWeight::Ffn(part) => &format!("ffn_{}.weight", part.name()),
            LayerWeight::FfnBias(part) => &format!("ffn_{}.bias", part.name()),
            LayerWeight::SharedExpert(part) => &format!("ffn_{}_shexp.weight", part.name()),
        };
        let mut places = vec![place(own, Part::Whole)];
        if let LayerWeight::AttnQ | LayerWeight::AttnK | LayerWeight::AttnV = weight {
            places.extend(fused("attn_qkv.weight"));
        }
        if config.family == Family::Phi3 {
            places.reverse();
        }
        places
    }

    fn only(self, config: &ModelConfig, tensor: String) -> Vec<Place> {
        vec![Place::new(tensor, self, config, Part::Whole)]
    }
}

/// Which rows of the tensor that holds queries, keys and values, or gate and up, a weight is.
fn fused(weight: LayerWeight, config: &ModelConfig) -> Option<Part> {
    let queries = config.heads * config.head_dim;
    let keys = config.kv_heads * config.head_dim;
    let attention = queries + 2 * keys;
    let (first, all) = match weight {
        LayerWeight::AttnQ => (0, attention),
        LayerWeight::AttnK => (queries, attention),
        LayerWeight::AttnV => (queries + keys, attention),
        LayerWeight::Ffn(FfnPart::Gate) => (0, 2 * config.intermediate),
        LayerWeight::Ffn(FfnPart::Up) => (config.intermediate, 2 * config.intermediate),
        _ => return None,
    };
    Some(Part::Rows(first, all))
}

//! What learned numbers are called in checkpoints.

use exo_models::{FfnPart, LayerWeight};
use std::fmt;

/// One array that learns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ParameterName {
    /// The layer, counted from zero in the whole model.
    pub(crate) layer: u32,
    /// The weight that it is, or belongs to.
    pub(crate) weight: LayerWeight,
    /// Which part of it.
    pub(crate) part: Part,
}

/// What of a weight learns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    /// All of it.
    Whole,
    /// The first matrix of its adapter, `[in, rank]`.
    A,
    /// The second, `[rank, out]`.
    B,
}

impl fmt::Display for ParameterName {
    /// `layers.3.attn_q.lora_a`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = match self.part {
            Part::Whole => "",
            Part::A => ".lora_a",
            Part::B => ".lora_b",
        };
        write!(f, "layers.{}.{}{part}", self.layer, label(self.weight))
    }
}

/// A weight's name in a layer, as llama.cpp calls those that it has.
fn label(weight: LayerWeight) -> String {
    let (name, part) = match weight {
        LayerWeight::AttnNorm => ("attn_norm", None),
        LayerWeight::AttnQ => ("attn_q", None),
        LayerWeight::AttnK => ("attn_k", None),
        LayerWeight::AttnV => ("attn_v", None),
        LayerWeight::AttnQBias => ("attn_q.bias", None),
        LayerWeight::AttnKBias => ("attn_k.bias", None),
        LayerWeight::AttnVBias => ("attn_v.bias", None),
        LayerWeight::AttnQNorm => ("attn_q_norm", None),
        LayerWeight::AttnKNorm => ("attn_k_norm", None),
        LayerWeight::AttnQDown => ("attn_q_a", None),
        LayerWeight::AttnQDownNorm => ("attn_q_a_norm", None),
        LayerWeight::AttnQUp => ("attn_q_b", None),
        LayerWeight::AttnKvDown => ("attn_kv_a_mqa", None),
        LayerWeight::AttnKvDownNorm => ("attn_kv_a_norm", None),
        LayerWeight::AttnKvUp => ("attn_kv_b", None),
        LayerWeight::AttnOutput => ("attn_output", None),
        LayerWeight::AttnOutputBias => ("attn_output.bias", None),
        LayerWeight::PostAttnNorm => ("post_attention_norm", None),
        LayerWeight::FfnNorm => ("ffn_norm", None),
        LayerWeight::Ffn(part) => ("ffn_", Some(part)),
        LayerWeight::FfnBias(FfnPart::Gate) => ("ffn_gate.bias", None),
        LayerWeight::FfnBias(FfnPart::Up) => ("ffn_up.bias", None),
        LayerWeight::FfnBias(FfnPart::Down) => ("ffn_down.bias", None),
        LayerWeight::Router => ("ffn_gate_inp", None),
        LayerWeight::RouterBias => ("ffn_gate_inp.bias", None),
        LayerWeight::SharedExpert(part) => ("ffn_shexp_", Some(part)),
        LayerWeight::Expert(n, part) => return format!("ffn_exp.{n}.{}", suffix(part)),
        LayerWeight::PostFfnNorm => ("post_ffw_norm", None),
    };
    part.map_or_else(|| name.to_owned(), |part| format!("{name}{}", suffix(part)))
}

fn suffix(part: FfnPart) -> &'static str {
    match part {
        FfnPart::Gate => "gate",
        FfnPart::Up => "up",
        FfnPart::Down => "down",
    }
}

/// Whether a matrix gets an adapter: those of attention and of the feed-forward part, without the
/// router and the experts it chooses among.
pub(crate) fn adapts(weight: LayerWeight) -> bool {
    matches!(
        weight,
        LayerWeight::AttnQ
            | LayerWeight::AttnK
            | LayerWeight::AttnV
            | LayerWeight::AttnQDown
            | LayerWeight::AttnQUp
            | LayerWeight::AttnKvDown
            | LayerWeight::AttnKvUp
            | LayerWeight::AttnOutput
            | LayerWeight::Ffn(_)
            | LayerWeight::SharedExpert(_)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn no_two_parameters_have_the_same_name() {
        use LayerWeight as W;
        let mut all = vec![
            W::AttnNorm,
            W::AttnQ,
            W::AttnK,
            W::AttnV,
            W::AttnQBias,
            W::AttnKBias,
            W::AttnVBias,
            W::AttnQNorm,
            W::AttnKNorm,
            W::AttnQDown,
            W::AttnQDownNorm,
            W::AttnQUp,
            W::AttnKvDown,
            W::AttnKvDownNorm,
            W::AttnKvUp,
            W::AttnOutput,
            W::AttnOutputBias,
            W::PostAttnNorm,
            W::FfnNorm,
            W::Router,
            W::RouterBias,
            W::PostFfnNorm,
        ];
        for part in FfnPart::ALL {
            let more = [W::Ffn(part), W::FfnBias(part), W::SharedExpert(part)];
            all.extend(more);
            all.extend([W::Expert(0, part), W::Expert(1, part)]);
        }
        let mut names = BTreeSet::new();
        for &weight in &all {
            for part in [Part::Whole, Part::A, Part::B] {
                let name = ParameterName {
                    layer: 3,
                    weight,
                    part,
                };
                assert!(names.insert(name.to_string()), "{name}");
            }
        }
        let (layer, part) = (3, Part::A);
        let name = ParameterName {
            layer,
            weight: W::Ffn(FfnPart::Up),
            part,
        };
        assert_eq!(name.to_string(), "layers.3.ffn_up.lora_a");
    }
}

//! Checkpoints as GGUF files, converted as llama.cpp's converter does it: other names, rows of queries
//! and keys in another order, norms with their offset added, experts in one tensor.
//!
//! All in single precision, so that golden values hold for them as well. What a file cannot say is
//! folded into weights: Gemma's scale of scores, which GGUF takes from the width of a head.

use super::tensors::{Entry, parse};
use super::{checkpoint, tensors};
use serde_json::Value;
use std::collections::BTreeMap;

/// Checkpoints that are converted. Llama 3's frequencies are not among them: in GGUF files they are
/// recognised by the constants that all published models share, and the checkpoint has its own.
pub const CONVERTIBLE: [&str; 11] = [
    "llama-tied-linear",
    "smollm3",
    "mistral",
    "qwen2",
    "qwen3",
    "gemma2",
    "gemma2-window",
    "gemma3",
    "phi3",
    "phi3-longrope",
    "qwen3_moe",
];

/// A value of the metadata.
#[derive(Clone, Debug, PartialEq)]
pub enum Meta {
    /// Type 4.
    U32(u32),
    /// Type 6.
    F32(f32),
    /// Type 8.
    Text(String),
}

/// A GGUF file in the making.
#[derive(Clone, Debug, PartialEq)]
pub struct Gguf {
    /// By key.
    pub metadata: BTreeMap<String, Meta>,
    /// By name; floats in single precision, outermost dimension first.
    pub tensors: BTreeMap<String, (Vec<usize>, Vec<f32>)>,
    /// What the file says that tensors are stored as, where it is not the truth.
    pub types: BTreeMap<String, u32>,
}

impl Gguf {
    /// The file.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let mut out = b"GGUF".to_vec();
        out.extend(3u32.to_le_bytes());
        out.extend((self.tensors.len() as u64).to_le_bytes());
        out.extend((self.metadata.len() as u64).to_le_bytes());
        for (key, value) in &self.metadata {
            text(&mut out, key);
            match value {
                Meta::U32(number) => {
                    out.extend(4u32.to_le_bytes());
                    out.extend(number.to_le_bytes());
                }
                Meta::F32(number) => {
                    out.extend(6u32.to_le_bytes());
                    out.extend(number.to_le_bytes());
                }
                Meta::Text(words) => {
                    out.extend(8u32.to_le_bytes());
                    text(&mut out, words);
                }
            }
        }
        let mut data = Vec::<u8>::new();
        for (name, (shape, numbers)) in &self.tensors {
            text(&mut out, name);
            out.extend((shape.len() as u32).to_le_bytes());
            for dim in shape.iter().rev() {
                out.extend((*dim as u64).to_le_bytes());
            }
            let kind = self.types.get(name).copied().unwrap_or(0);
            out.extend(kind.to_le_bytes());
            out.extend((data.len() as u64).to_le_bytes());
            data.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
            data.resize(data.len().next_multiple_of(32), 0);
        }
        out.resize(out.len().next_multiple_of(32), 0);
        out.extend(data);
        out
    }
}

fn text(out: &mut Vec<u8>, words: &str) {
    out.extend((words.len() as u64).to_le_bytes());
    out.extend(words.as_bytes());
}

/// A checkpoint as a GGUF file.
///
/// # Panics
/// When there is no such checkpoint, or it is none of [`CONVERTIBLE`].
#[must_use]
pub fn converted(name: &str) -> Gguf {
    assert!(CONVERTIBLE.contains(&name), "{name} is not converted");
    let config = std::fs::read(checkpoint(name).join("config.json")).expect("a config.json");
    let whole: Value = serde_json::from_slice(&config).expect("JSON");
    let config = match &whole["text_config"] {
        Value::Null => &whole,
        text => text,
    };
    let from = From::new(config);
    let bytes = std::fs::read(checkpoint(name).join("model.safetensors")).expect("weights");
    let mut gguf = Gguf {
        metadata: from.metadata(),
        tensors: BTreeMap::new(),
        types: BTreeMap::new(),
    };
    let mut experts = BTreeMap::<String, Vec<f32>>::new();
    for (hub, entry) in parse(&bytes) {
        from.convert(&hub, entry, &mut gguf.tensors, &mut experts);
    }
    from.factors(&mut gguf.tensors);
    for (name, numbers) in experts {
        let count = from.count("num_experts");
        let (hidden, width) = (
            from.count("hidden_size"),
            from.count("moe_intermediate_size"),
        );
        let shape = match name.contains("down") {
            true => vec![count, hidden, width],
            false => vec![count, width, hidden],
        };
        gguf.tensors.insert(name, (shape, numbers));
    }
    gguf
}

/// The model that is converted.
struct From<'a> {
    config: &'a Value,
    family: &'a str,
}

impl<'a> From<'a> {
    fn new(config: &'a Value) -> Self {
        let family = config["model_type"].as_str().expect("a model type");
        Self { config, family }
    }

    fn count(&self, key: &str) -> usize {
        let value = self.config[key].as_u64();
        let value = value.unwrap_or_else(|| panic!("{key} is a number"));
        usize::try_from(value).expect("a small number")
    }

    fn number(&self, key: &str) -> Option<f32> {
        self.config[key].as_f64().map(|number| number as f32)
    }

    fn head_dim(&self) -> usize {
        match self.config["head_dim"] {
            Value::Null => self.count("hidden_size") / self.count("num_attention_heads"),
            _ => self.count("head_dim"),
        }
    }

    fn architecture(&self) -> &'static str {
        match self.family {
            "llama" | "mistral" => "llama",
            "smollm3" => "smollm3",
            "qwen2" => "qwen2",
            "qwen3" => "qwen3",
            "qwen3_moe" => "qwen3moe",
            "gemma2" => "gemma2",
            "gemma3_text" => "gemma3",
            "phi3" => "phi3",
            other => panic!("{other} is not converted"),
        }
    }

    fn is_gemma(&self) -> bool {
        self.family.starts_with("gemma")
    }

    fn metadata(&self) -> BTreeMap<String, Meta> {
        let architecture = self.architecture();
        let mut metadata = BTreeMap::new();
        metadata.insert(
            "general.architecture".to_owned(),
            Meta::Text(architecture.to_owned()),
        );
        metadata.insert("tokenizer.ggml.eos_token_id".to_owned(), Meta::U32(2));
        let mut set = |key: &str, value: Meta| {
            metadata.insert(format!("{architecture}.{key}"), value);
        };
        for (key, from) in [
            ("block_count", "num_hidden_layers"),
            ("context_length", "max_position_embeddings"),
            ("embedding_length", "hidden_size"),
            ("feed_forward_length", "intermediate_size"),
            ("attention.head_count", "num_attention_heads"),
            ("attention.head_count_kv", "num_key_value_heads"),
        ] {
            set(key, Meta::U32(self.count(from) as u32));
        }
        let head_dim = self.head_dim() as u32;
        let turned = self.number("partial_rotary_factor").unwrap_or(1.0) * head_dim as f32;
        set("rope.dimension_count", Meta::U32(turned as u32));
        if self.family != "phi3" {
            set("attention.key_length", Meta::U32(head_dim));
            set("attention.value_length", Meta::U32(head_dim));
        }
        for (key, from) in [
            ("attention.layer_norm_rms_epsilon", "rms_norm_eps"),
            ("rope.freq_base", "rope_theta"),
            ("attn_logit_softcapping", "attn_logit_softcapping"),
            ("final_logit_softcapping", "final_logit_softcapping"),
        ] {
            if let Some(number) = self.number(from) {
                set(key, Meta::F32(number));
            }
        }
        if self.is_gemma() || self.family == "phi3" {
            set(
                "attention.sliding_window",
                Meta::U32(self.count("sliding_window") as u32),
            );
        }
        if self.family == "qwen3_moe" {
            for (key, from) in [
                ("expert_count", "num_experts"),
                ("expert_used_count", "num_experts_per_tok"),
                ("expert_feed_forward_length", "moe_intermediate_size"),
            ] {
                set(key, Meta::U32(self.count(from) as u32));
            }
        }
        let scaling = &self.config["rope_scaling"];
        let kind = scaling["type"].as_str().or(scaling["rope_type"].as_str());
        match kind {
            Some("linear") => {
                set("rope.scaling.type", Meta::Text("linear".to_owned()));
                let factor = scaling["factor"].as_f64().expect("a factor");
                set("rope.scaling.factor", Meta::F32(factor as f32));
            }
            Some("longrope") => {
                let original = self.count("original_max_position_embeddings");
                set(
                    "rope.scaling.original_context_length",
                    Meta::U32(original as u32),
                );
                let times = self.count("max_position_embeddings") as f32 / original as f32;
                let magnitude = (1.0 + times.ln() / (original as f32).ln()).sqrt();
                set("rope.scaling.attn_factor", Meta::F32(magnitude));
            }
            _ => {}
        }
        metadata
    }

    /// Divisors of frequencies, which lie in tensors.
    fn factors(&self, into: &mut BTreeMap<String, (Vec<usize>, Vec<f32>)>) {
        let scaling = &self.config["rope_scaling"];
        let mut put = |name: &str, factors: Vec<f32>| {
            into.insert(name.to_owned(), (vec![factors.len()], factors));
        };
        for (name, key) in [
            ("rope_factors_long.weight", "long_factor"),
            ("rope_factors_short.weight", "short_factor"),
        ] {
            if let Some(factors) = scaling[key].as_array() {
                let factors = factors.iter().map(|f| f.as_f64().expect("a factor") as f32);
                put(name, factors.collect());
            }
        }
    }

    fn convert(
        &self,
        hub: &str,
        entry: Entry,
        into: &mut BTreeMap<String, (Vec<usize>, Vec<f32>)>,
        experts: &mut BTreeMap<String, Vec<f32>>,
    ) {
        let hub = hub.strip_prefix("language_model.").unwrap_or(hub);
        let ignored = ["vision_tower", "multi_modal", "lm_head"];
        let tied = self.is_gemma() || self.config["tie_word_embeddings"] == true;
        if ignored.iter().any(|prefix| hub.starts_with(prefix))
            && (tied || !hub.starts_with("lm_head"))
        {
            return;
        }
        let (stem, kind) = hub.rsplit_once('.').expect("a name and a kind");
        let mut numbers = tensors::floats(&entry);
        let (layer, module) = match stem.strip_prefix("model.layers.") {
            Some(rest) => {
                let (layer, module) = rest.split_once('.').expect("a layer");
                (Some(layer), module)
            }
            None => (None, stem),
        };
        if let Some((_, expert)) = module.split_once("mlp.experts.") {
            // In the order of their numbers, because there are fewer than ten.
            let (_, part) = expert.split_once('.').expect("an expert");
            let part = part.trim_end_matches("_proj");
            let name = format!("blk.{}.ffn_{part}_exps.weight", layer.expect("a layer"));
            experts.entry(name).or_default().extend(numbers);
            return;
        }
        let permuted = ["llama", "mistral", "smollm3"].contains(&self.family);
        match module {
            "self_attn.q_proj" | "self_attn.k_proj" if permuted => {
                numbers = pairs(&numbers, entry.shape[0], self.head_dim());
            }
            _ if self.is_gemma() && module.ends_with("norm") => {
                numbers.iter_mut().for_each(|number| *number += 1.0);
            }
            _ => {}
        }
        let scaled = match self.family {
            "gemma2" => "self_attn.q_proj",
            "gemma3_text" => "self_attn.q_norm",
            _ => "",
        };
        if module == scaled {
            let width = self.number("query_pre_attn_scalar").expect("a scale");
            let by = (self.head_dim() as f32 / width).sqrt();
            numbers.iter_mut().for_each(|number| *number *= by);
        }
        let name = match layer {
            Some(layer) => format!("blk.{layer}.{}.{kind}", self.module(module)),
            None => format!("{}.{kind}", self.module(module)),
        };
        into.insert(name, (entry.shape, numbers));
    }

    /// llama.cpp's name of a part.
    fn module(&self, hub: &str) -> &'static str {
        match hub {
            "model.embed_tokens" => "token_embd",
            "model.norm" => "output_norm",
            "lm_head" => "output",
            "input_layernorm" => "attn_norm",
            "self_attn.q_proj" => "attn_q",
            "self_attn.k_proj" => "attn_k",
            "self_attn.v_proj" => "attn_v",
            "self_attn.qkv_proj" => "attn_qkv",
            "self_attn.o_proj" => "attn_output",
            "self_attn.q_norm" => "attn_q_norm",
            "self_attn.k_norm" => "attn_k_norm",
            "post_attention_layernorm" if self.is_gemma() => "post_attention_norm",
            "post_attention_layernorm" | "pre_feedforward_layernorm" => "ffn_norm",
            "post_feedforward_layernorm" => "post_ffw_norm",
            "mlp.gate" => "ffn_gate_inp",
            "mlp.gate_proj" => "ffn_gate",
            "mlp.up_proj" | "mlp.gate_up_proj" => "ffn_up",
            "mlp.down_proj" => "ffn_down",
            other => panic!("{other} has no name in GGUF"),
        }
    }
}

/// Rows of each head from halves into pairs.
fn pairs(numbers: &[f32], rows: usize, head_dim: usize) -> Vec<f32> {
    let cols = numbers.len() / rows;
    let row = |n: usize| &numbers[n * cols..][..cols];
    let from = |n: usize| {
        let (head, within) = (n / head_dim, n % head_dim);
        head * head_dim + within % 2 * (head_dim / 2) + within / 2
    };
    (0..rows).flat_map(|n| row(from(n)).to_vec()).collect()
}

//! What a model is, in one number that nodes compare before they compute together.
//!
//! The number is the 64-bit FNV-1a hash of a canonical text: the configuration, the size of the
//! vocabulary and the table of tensors, sorted by name. It tells apart what would compute something
//! else: another quantisation, another shape, another rotary base, another end token. It does not
//! look at the weights themselves, which may be hundreds of gigabytes of which a node has only a
//! part: two trainings of the same architecture in the same format look alike.
//!
//! Of the built-in model the text begins and ends so; floats are the bits of an `f32`, names and
//! types have their lengths before them, and `-` stands for nothing:
//!
//! ```text
//! exo-model 1
//! family llama
//! layers 8
//! …
//! eps 3727c5ac
//! …
//! tokens 2048
//! tensor 25:model.embed_tokens.weight 3:F16 2048 192
//! …
//! tensor 17:model.norm.weight 3:F16 192
//! ```
//!
//! What most models do not have (windows, experts, norms in unusual places) has lines after `mlx`, and
//! only in models that have it.
//!
//! Nodes of different versions compare their numbers, so the text must stay as it is. What has to
//! change begins with another first line.

use crate::{
    Activation, Experts, Family, LatentAttention, LayerKind, MlxQuantization, ModelConfig,
    ModelError, RopeLayout, RopeScaling, Scoring,
    config::declared_dtype,
    folder::Folder,
    gguf::{Gguf, Value},
    safetensors::{self, Table},
    tokenizer,
};

const FIRST_LINE: &str = "exo-model 1";

/// Of a GGUF file, whose header has everything.
pub(crate) fn of_gguf(config: &ModelConfig, gguf: &Gguf) -> u64 {
    let tokens = gguf
        .metadata
        .get("tokenizer.ggml.tokens")
        .and_then(Value::as_strings)
        .map(<[String]>::len);
    let mut text = Text::new(config);
    text.line("tokens", maybe(tokens));
    for (name, tensor) in &gguf.tensors {
        text.tensor(name, &tensor.kind.to_string(), &tensor.dims);
    }
    text.hash()
}

/// Of a folder in Hugging Face layout: from what every node has, even one that has only the weight
/// files of its own layers. Those who have an index go by the index.
pub(crate) fn of_folder(config: &ModelConfig, folder: &Folder) -> Result<u64, ModelError> {
    let mut text = Text::new(config);
    text.line("tokens", tokenizer::size(folder)?);
    match safetensors::table(folder)? {
        Table::Headers(tensors) => {
            for (name, (dtype, shape)) in &tensors {
                text.tensor(name, dtype, shape);
            }
        }
        Table::Index { bytes, tensors } => {
            let dtype = declared_dtype(folder)?.unwrap_or_default();
            text.line("bytes", maybe(bytes));
            text.line("dtype", counted(&dtype));
            for name in &tensors {
                text.line("tensor", counted(name));
            }
        }
    }
    Ok(text.hash())
}

/// The canonical text: lines of a word and what it says.
struct Text(String);

impl Text {
    fn new(config: &ModelConfig) -> Self {
        // All fields by name: a new one does not compile until somebody decides about it.
        let ModelConfig {
            family,
            layers,
            hidden,
            intermediate,
            heads,
            kv_heads,
            head_dim,
            vocab,
            norm_eps,
            rope,
            context,
            tied_embeddings,
            biases,
            eos,
            bos,
            add_bos,
            // Where only a part of the files is, only they may have been counted.
            weight_bytes: _,
            mlx_quantization,
            // What most models do not have comes at the end, if they have it.
            layer_kinds: _,
            latent: _,
            embedding_scale: _,
            norm_offset: _,
            post_norms: _,
            qk_norm: _,
            score_scale: _,
            score_cap: _,
            logit_cap: _,
            activation: _,
            local_rope: _,
            experts: _,
        } = config;
        let mut text = Self(format!("{FIRST_LINE}\n"));
        text.line(
            "family",
            match family {
                Family::Llama => "llama",
                Family::Mistral => "mistral",
                Family::Qwen2 => "qwen2",
                Family::SmolLm3 => "smollm3",
                Family::Qwen3 => "qwen3",
                Family::Qwen3Moe => "qwen3_moe",
                Family::Gemma2 => "gemma2",
                Family::Gemma3 => "gemma3",
                Family::Phi3 => "phi3",
                Family::DeepSeek2 => "deepseek_v2",
                Family::DeepSeek3 => "deepseek_v3",
            },
        );
        text.line("layers", layers);
        text.line("hidden", hidden);
        text.line("intermediate", intermediate);
        text.line("heads", format!("{heads} {kv_heads} {head_dim}"));
        text.line("vocab", vocab);
        text.line("eps", bits(*norm_eps));
        text.line("theta", bits(rope.theta));
        text.line("rope", layout(rope.layout));
        text.line("scaling", scaling(&rope.scaling));
        text.line("context", context);
        text.line("tied", tied_embeddings);
        text.line("biases", biases.qkv);
        let mut eos = eos.clone();
        eos.sort_unstable();
        let eos: Vec<String> = eos.iter().map(u32::to_string).collect();
        text.line("eos", eos.join(" "));
        text.line("bos", format!("{} {add_bos}", maybe(*bos)));
        let mlx = mlx_quantization
            .as_ref()
            .map(|MlxQuantization { usual, .. }| format!("{} {}", usual.group, usual.bits));
        text.line("mlx", maybe(mlx));
        text.special(config);
        text
    }

    /// Lines for what tells a model from the plain ones, and no line for what does not.
    fn special(&mut self, config: &ModelConfig) {
        let plain = ModelConfig::plain(config.family, config.layers, config.head_dim);
        for (layer, kind) in config.layer_kinds.iter().enumerate() {
            let LayerKind {
                window,
                positions,
                experts,
            } = *kind;
            if *kind != LayerKind::PLAIN {
                let window = maybe(window);
                self.line("layer", format!("{layer} {window} {positions} {experts}"));
            }
        }
        if config.rope.dims != config.head_dim {
            self.line("turned", config.rope.dims);
        }
        if let Some(latent) = config.latent {
            let LatentAttention {
                query_rank,
                kv_rank,
                plain_dim,
                rope_dim,
                value_dim,
                norm_eps,
            } = latent;
            let (query_rank, norm_eps) = (maybe(query_rank), bits(norm_eps));
            let dims = format!("{query_rank} {kv_rank} {plain_dim} {rope_dim} {value_dim}");
            self.line("latent", format!("{dims} {norm_eps}"));
        }
        for (word, number, usual) in [
            ("embedding", config.embedding_scale, plain.embedding_scale),
            ("offset", config.norm_offset, plain.norm_offset),
            ("scores", config.score_scale, plain.score_scale),
        ] {
            if number.to_bits() != usual.to_bits() {
                self.line(word, bits(number));
            }
        }
        let caps = [
            ("score-cap", config.score_cap),
            ("logit-cap", config.logit_cap),
        ];
        for (word, cap) in caps {
            if let Some(cap) = cap {
                self.line(word, bits(cap));
            }
        }
        for (word, there) in [
            ("post-norms", config.post_norms),
            ("qk-norm", config.qk_norm),
            ("output-bias", config.biases.attention_output),
            ("ffn-bias", config.biases.ffn),
        ] {
            if there {
                self.line(word, there);
            }
        }
        match config.activation {
            Activation::Silu => {}
            Activation::GeluTanh => self.line("activation", "gelu-tanh"),
        }
        if let Some(rope) = &config.local_rope {
            let (theta, scaling) = (bits(rope.theta), scaling(&rope.scaling));
            let (layout, dims) = (layout(rope.layout), rope.dims);
            self.line("local-rope", format!("{theta} {layout} {dims} {scaling}"));
        }
        if let Some(experts) = &config.experts {
            self.line("experts", expert_words(experts));
        }
        let others = config
            .mlx_quantization
            .as_ref()
            .map(|packed| &packed.others);
        for (module, packing) in others.into_iter().flatten() {
            let packing = packing.map(|own| format!("{} {}", own.group, own.bits));
            let (module, packing) = (counted(module), maybe(packing));
            self.line("packed", format!("{module} {packing}"));
        }
    }

    fn line(&mut self, word: &str, value: impl ToString) {
        self.0 += &format!("{word} {}\n", value.to_string());
    }

    /// `shape` in the order of its file.
    fn tensor(&mut self, name: &str, dtype: &str, shape: &[impl ToString]) {
        let shape: Vec<String> = shape.iter().map(ToString::to_string).collect();
        let (name, dtype, shape) = (counted(name), counted(dtype), shape.join(" "));
        self.line("tensor", format!("{name} {dtype} {shape}"));
    }

    /// Never zero, which means that nobody knows.
    fn hash(&self) -> u64 {
        fnv1a(self.0.as_bytes()).max(1)
    }
}

fn layout(layout: RopeLayout) -> &'static str {
    match layout {
        RopeLayout::Half => "half",
        RopeLayout::Interleaved => "interleaved",
    }
}

fn scaling(scaling: &RopeScaling) -> String {
    match scaling {
        RopeScaling::None => "none".to_owned(),
        RopeScaling::Linear { factor } => format!("linear {}", bits(*factor)),
        RopeScaling::Llama3 {
            factor,
            low_freq_factor,
            high_freq_factor,
            original_context,
        } => format!(
            "llama3 {} {} {} {original_context}",
            bits(*factor),
            bits(*low_freq_factor),
            bits(*high_freq_factor)
        ),
        RopeScaling::LongRope { factors, magnitude } => {
            let factors: Vec<String> = factors.iter().map(|&factor| bits(factor)).collect();
            format!("longrope {} {}", bits(*magnitude), factors.join(" "))
        }
        RopeScaling::Yarn {
            factor,
            original_context,
            beta_fast,
            beta_slow,
            magnitude,
        } => format!(
            "yarn {} {original_context} {} {} {}",
            bits(*factor),
            bits(*beta_fast),
            bits(*beta_slow),
            bits(*magnitude)
        ),
    }
}

fn expert_words(experts: &Experts) -> String {
    let Experts {
        count,
        active,
        intermediate,
        shared_intermediate,
        scoring,
        choice_bias,
        groups,
        active_groups,
        group_by_two,
        normalise,
        scale,
    } = experts;
    let scoring = match scoring {
        Scoring::Softmax => "softmax",
        Scoring::Sigmoid => "sigmoid",
    };
    let sizes = format!("{count} {active} {intermediate} {shared_intermediate}");
    let choice = format!("{scoring} {choice_bias} {groups} {active_groups} {group_by_two}");
    format!("{sizes} {choice} {normalise} {}", bits(*scale))
}

/// Bits, because the shortest decimals are a matter of taste.
fn bits(number: f32) -> String {
    format!("{:08x}", number.to_bits())
}

fn maybe(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// A text from a file: it may hold anything, so its length goes before it.
fn counted(text: &str) -> String {
    format!("{}:{text}", text.len())
}

fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests;

//! `config.json` and its neighbours in a folder of Hugging Face layout.

use serde_json::{Map, Value};

use super::{
    Activation, Biases, Family, FieldNames, Fields, LayerKind, MAX_DIMENSION, MAX_INTERMEDIATE,
    MAX_VOCAB, ModelConfig, RopeConfig, mlx_quantization, rope_fields,
};
use crate::{ModelError, family, folder::Folder, safetensors, tokenizer};

const FILE: &str = "config.json";

/// The configuration of the model in a folder.
pub(crate) fn from_folder(folder: &Folder) -> Result<ModelConfig, ModelError> {
    let file = folder.file(FILE);
    let object = folder.json(FILE)?.ok_or_else(|| ModelError::MissingFile {
        file: file.clone(),
        why: "a model's folder has a config.json next to its weights".to_owned(),
    })?;
    let fields = Fields::new(file, object);
    let Some(name) = fields.text("model_type")? else {
        return Err(fields.missing("model_type"));
    };
    let Some(read) = family::hugging_face(name) else {
        let what = format!("the architecture `{name}` (`model_type`)");
        return Err(fields.unsupported(what, family::model_types()));
    };
    refuse_quantisers(&fields)?;

    let weights = safetensors::survey(folder)?;
    let fields = fields.with_output_head(weights.has_output_head);
    // What a model of several kinds of input says about its text may be in a section of its own.
    let text = match fields.section("text_config")? {
        Some(_) => Some(fields.within("text_config")?),
        None => None,
    };
    let bos = text.as_ref().unwrap_or(&fields).tokens("bos_token_id")?;
    let (bos, add_bos) = tokenizer::begin_token(folder, bos.first().copied())?;
    let config = ModelConfig {
        eos: eos(folder, [Some(&fields), text.as_ref()])?,
        bos,
        add_bos,
        weight_bytes: weights.bytes,
        mlx_quantization: mlx_quantization::read(&fields)?,
        ..read(&fields)?
    };
    config.check(
        fields.file(),
        &FieldNames {
            heads: "num_attention_heads",
            kv_heads: "num_key_value_heads",
            head_dim: "head_dim",
            rope: "rope_scaling",
            eos: "eos_token_id",
            bos: "bos_token_id",
        },
    )?;
    Ok(config)
}

/// What the reader of a family knows before anything else is read.
pub(crate) struct Shape {
    pub(crate) family: Family,
    /// Width of queries and keys.
    pub(crate) head_dim: usize,
    /// How much of it turns.
    pub(crate) rope_dims: usize,
    pub(crate) activation: Activation,
}

impl Shape {
    /// A head's width as the file says it, or the hidden state cut evenly; all of it turns.
    pub(crate) fn usual(family: Family, fields: &Fields) -> Result<Self, ModelError> {
        let head_dim = match fields.count("head_dim", MAX_DIMENSION)? {
            Some(width) => width,
            None => even_head(fields)?,
        };
        Ok(Self::of_heads(family, head_dim))
    }

    /// Heads of this width, all of which turns.
    pub(crate) fn of_heads(family: Family, head_dim: usize) -> Self {
        Self {
            family,
            head_dim,
            rope_dims: head_dim,
            activation: Activation::Silu,
        }
    }
}

/// A head's width when the hidden state is cut evenly.
pub(crate) fn even_head(fields: &Fields) -> Result<usize, ModelError> {
    let hidden = fields.required_count("hidden_size", MAX_DIMENSION)?;
    let heads = fields.required_count("num_attention_heads", MAX_DIMENSION)?;
    if !hidden.is_multiple_of(heads) {
        let expected = format!("a divisor of `hidden_size`, which is {hidden}");
        return Err(fields.wrong("num_attention_heads", expected));
    }
    Ok(hidden / heads)
}

/// What all families have, under the names that all use.
pub(crate) fn common(fields: &Fields, shape: &Shape) -> Result<ModelConfig, ModelError> {
    refuse_activation(fields, shape.activation)?;
    if shape.rope_dims == shape.head_dim {
        refuse_partial_rope(fields)?;
    }
    let heads = fields.required_count("num_attention_heads", MAX_DIMENSION)?;
    let layers = fields.required_count("num_hidden_layers", MAX_DIMENSION)? as u32;
    let attention_bias = fields.flag("attention_bias")?.unwrap_or(false);
    Ok(ModelConfig {
        hidden: fields.required_count("hidden_size", MAX_DIMENSION)?,
        intermediate: fields.required_count("intermediate_size", MAX_INTERMEDIATE)?,
        heads,
        kv_heads: fields
            .count("num_key_value_heads", MAX_DIMENSION)?
            .unwrap_or(heads),
        vocab: fields.required_count("vocab_size", MAX_VOCAB)?,
        norm_eps: fields.number("rms_norm_eps")?.unwrap_or(1e-6),
        activation: shape.activation,
        rope: rope_fields::rope(fields, shape.rope_dims)?,
        context: fields.required_count("max_position_embeddings", u32::MAX.into())? as u32,
        // Old files do not say; then the weights do.
        tied_embeddings: fields
            .flag("tie_word_embeddings")?
            .unwrap_or(!fields.has_output_head()),
        biases: Biases {
            qkv: attention_bias,
            attention_output: attention_bias,
            ffn: fields.flag("mlp_bias")?.unwrap_or(false),
        },
        ..ModelConfig::plain(shape.family, layers, shape.head_dim)
    })
}

/// Which layers see a window only, if the file has one: `usual` says it where `layer_types` does not.
pub(crate) fn windows(
    fields: &Fields,
    config: &mut ModelConfig,
    usual: impl Fn(usize) -> bool,
) -> Result<(), ModelError> {
    const SIZE: &str = "sliding_window";
    const TYPES: &str = "layer_types";
    let size = fields.count(SIZE, u32::MAX.into())?;
    let types = fields.list(TYPES)?;
    if types.is_some_and(|types| types.len() != config.layer_kinds.len()) {
        let expected = format!("as many as layers, {}", config.layer_kinds.len());
        return Err(fields.wrong(TYPES, expected));
    }
    for (layer, kind) in config.layer_kinds.iter_mut().enumerate() {
        let named = types.and_then(|types| types.get(layer));
        let slides = match named.map(|name| name.as_str()) {
            None => size.is_some() && usual(layer),
            Some(Some("sliding_attention")) => true,
            Some(Some("full_attention")) => false,
            Some(_) => {
                let expected = "a list of `full_attention` and `sliding_attention`";
                return Err(fields.wrong(TYPES, expected));
            }
        };
        if slides {
            let size = size.ok_or_else(|| fields.missing(SIZE))?;
            kind.window = Some(size as u32);
        }
    }
    Ok(())
}

/// Layers whose feed-forward part is made of experts.
pub(crate) fn expert_layers(config: &mut ModelConfig, has: impl Fn(usize) -> bool) {
    for (layer, kind) in config.layer_kinds.iter_mut().enumerate() {
        *kind = LayerKind {
            experts: has(layer),
            ..*kind
        };
    }
}

/// Weights that a quantiser of another world wrote.
fn refuse_quantisers(fields: &Fields) -> Result<(), ModelError> {
    // MLX writes this section too, but without a method.
    let method = fields
        .section("quantization_config")?
        .and_then(|section| section.get("quant_method"));
    match method {
        Some(method) => {
            let what = format!("weights quantised by {method} (`quantization_config`)");
            let supported = "f32, f16 or bf16 safetensors, those that MLX packed, and GGUF";
            Err(fields.unsupported(what, supported))
        }
        None => Ok(()),
    }
}

fn refuse_activation(fields: &Fields, activation: Activation) -> Result<(), ModelError> {
    let supported = match activation {
        Activation::Silu => "silu",
        Activation::GeluTanh => "gelu_pytorch_tanh",
    };
    // Gemma has both, and the second one is older.
    for field in ["hidden_activation", "hidden_act"] {
        if let Some(name) = fields.text(field)? {
            if name == supported {
                return Ok(());
            }
            let what = format!("the activation `{name}` (`{field}`)");
            return Err(fields.unsupported(what, supported));
        }
    }
    Ok(())
}

fn refuse_partial_rope(fields: &Fields) -> Result<(), ModelError> {
    const NAME: &str = "partial_rotary_factor";
    let newer = match fields.section("rope_parameters")? {
        Some(section) => fields.number_in(NAME, section)?,
        None => None,
    };
    for part in [fields.number(NAME)?, newer].into_iter().flatten() {
        if part != 1.0 {
            let what = format!("positions on {part} of each head (`{NAME}`)");
            return Err(fields.unsupported(what, "1.0"));
        }
    }
    Ok(())
}

/// The end tokens of all files and sections that name some: instruction-tuned models often have the
/// end of a turn in one and the end of text in the other.
fn eos(folder: &Folder, sections: [Option<&Fields>; 2]) -> Result<Vec<u32>, ModelError> {
    const NAME: &str = "eos_token_id";
    const GENERATION: &str = "generation_config.json";
    let generation = folder
        .json(GENERATION)?
        .map(|object| Fields::new(folder.file(GENERATION), object));
    let mut eos = Vec::new();
    for fields in sections.into_iter().flatten().chain(&generation) {
        for token in fields.tokens(NAME)? {
            if !eos.contains(&token) {
                eos.push(token);
            }
        }
    }
    Ok(eos)
}

/// In which type the folder's `config.json` says that the weights are.
pub(crate) fn declared_dtype(folder: &Folder) -> Result<Option<String>, ModelError> {
    let object: Map<String, Value> = folder.json(FILE)?.unwrap_or_default();
    let name = |key| object.get(key).and_then(Value::as_str);
    // The newer name, and the one up to transformers 4.55.
    Ok(name("dtype")
        .or_else(|| name("torch_dtype"))
        .map(str::to_owned))
}

/// A rotary embedding of the same layout and width with another base, not stretched.
pub(crate) fn unstretched(rope: &RopeConfig, theta: f32) -> RopeConfig {
    RopeConfig {
        theta,
        dims: rope.dims,
        layout: rope.layout,
        scaling: super::RopeScaling::None,
    }
}

#[cfg(test)]
mod tests;

//! `config.json` and its neighbours in a folder of Hugging Face layout.

use std::{collections::BTreeMap, path::PathBuf};

use serde_json::{Map, Value};

use super::{
    Biases, Family, FieldNames, MAX_DIMENSION, MAX_INTERMEDIATE, MAX_VOCAB, MlxQuantization,
    ModelConfig, Packing, RopeConfig, RopeLayout, RopeScaling,
};
use crate::{ModelError, folder::Folder, safetensors, tokenizer};

const FILE: &str = "config.json";
const FAMILIES: &str = "llama, mistral, smollm, qwen2";

/// The configuration of the model in a folder.
pub(crate) fn from_folder(folder: &Folder) -> Result<ModelConfig, ModelError> {
    let file = folder.file(FILE);
    let object = folder.json(FILE)?.ok_or_else(|| ModelError::MissingFile {
        file: file.clone(),
        why: "a model's folder has a config.json next to its weights".to_owned(),
    })?;
    let fields = Fields { file, object };
    let family = family(&fields)?;
    refuse_variants(&fields)?;

    let hidden = fields.required_count("hidden_size", MAX_DIMENSION)?;
    let heads = fields.required_count("num_attention_heads", MAX_DIMENSION)?;
    let head_dim = match fields.count("head_dim", MAX_DIMENSION)? {
        Some(width) => width,
        None if hidden.is_multiple_of(heads) => hidden / heads,
        None => {
            let expected = format!("a divisor of `hidden_size`, which is {hidden}");
            return Err(fields.wrong("num_attention_heads", expected));
        }
    };
    let layers = fields.required_count("num_hidden_layers", MAX_DIMENSION)? as u32;
    let (rope_theta, rope_scaling) = rope(&fields)?;
    let weights = safetensors::survey(folder)?;
    let bos = fields.tokens("bos_token_id")?.first().copied();
    let (bos, add_bos) = tokenizer::begin_token(folder, bos)?;
    let config = ModelConfig {
        hidden,
        intermediate: fields.required_count("intermediate_size", MAX_INTERMEDIATE)?,
        heads,
        kv_heads: fields
            .count("num_key_value_heads", MAX_DIMENSION)?
            .unwrap_or(heads),
        head_dim,
        vocab: fields.required_count("vocab_size", MAX_VOCAB)?,
        norm_eps: fields
            .number("rms_norm_eps", &fields.object)?
            .unwrap_or(1e-6),
        rope: RopeConfig {
            theta: rope_theta,
            dims: head_dim,
            layout: RopeLayout::Half,
            scaling: rope_scaling,
        },
        context: context(&fields, family)?,
        // Old files do not say; then the weights do.
        tied_embeddings: fields
            .flag("tie_word_embeddings")?
            .unwrap_or(!weights.has_output_head),
        biases: Biases {
            qkv: family == Family::Qwen2,
            ..Biases::default()
        },
        eos: eos(folder, &fields)?,
        bos,
        add_bos,
        weight_bytes: weights.bytes,
        mlx_quantization: mlx_quantization(&fields)?,
        ..ModelConfig::plain(family, layers, head_dim)
    };
    config.check(
        &fields.file,
        &FieldNames {
            heads: "num_attention_heads",
            kv_heads: "num_key_value_heads",
            head_dim: "head_dim",
            eos: "eos_token_id",
            bos: "bos_token_id",
        },
    )?;
    Ok(config)
}

fn family(fields: &Fields) -> Result<Family, ModelError> {
    match fields.text("model_type")? {
        Some("llama" | "smollm") => Ok(Family::Llama),
        Some("mistral") => Ok(Family::Mistral),
        Some("qwen2") => Ok(Family::Qwen2),
        Some(other) => {
            let what = format!("the architecture `{other}` (`model_type`)");
            Err(ModelError::unsupported(&fields.file, what, FAMILIES))
        }
        None => Err(fields.missing("model_type")),
    }
}

/// Switches that change the arithmetic in ways no engine here implements.
fn refuse_variants(fields: &Fields) -> Result<(), ModelError> {
    if let Some(activation) = fields.text("hidden_act")?.filter(|&name| name != "silu") {
        let what = format!("the activation `{activation}` (`hidden_act`)");
        return Err(ModelError::unsupported(&fields.file, what, "silu"));
    }
    // Llama's switch also puts a bias on the attention's output; Qwen 2 has its biases unasked.
    for switch in ["attention_bias", "mlp_bias"] {
        if fields.flag(switch)? == Some(true) {
            let what = format!("`{switch}`");
            return Err(ModelError::unsupported(
                &fields.file,
                what,
                "models without it",
            ));
        }
    }
    // MLX writes this section too, but without a method.
    let method = fields
        .section("quantization_config")?
        .and_then(|q| q.get("quant_method"));
    if let Some(method) = method {
        let what = format!("weights quantised by {method} (`quantization_config`)");
        let supported = "f32, f16 or bf16 safetensors, and GGUF";
        return Err(ModelError::unsupported(&fields.file, what, supported));
    }
    for object in [Some(&fields.object), fields.section("rope_parameters")?]
        .into_iter()
        .flatten()
    {
        let part = fields.number("partial_rotary_factor", object)?;
        if let Some(part) = part.filter(|&part| part != 1.0) {
            let what = format!("positions on {part} of each head (`partial_rotary_factor`)");
            return Err(ModelError::unsupported(&fields.file, what, "1.0"));
        }
    }
    Ok(())
}

/// Base and scaling: at the top level up to transformers 4, in `rope_parameters` from 5 on.
fn rope(fields: &Fields) -> Result<(f32, RopeScaling), ModelError> {
    let newer = fields.section("rope_parameters")?;
    let scaling = match newer {
        Some(section) => Some(section),
        None => fields.section("rope_scaling")?,
    };
    let theta = match newer {
        Some(section) => fields.number("rope_theta", section)?,
        None => None,
    };
    let theta = match theta {
        Some(theta) => theta,
        None => fields
            .number("rope_theta", &fields.object)?
            .unwrap_or(10_000.0),
    };
    let Some(section) = scaling else {
        return Ok((theta, RopeScaling::None));
    };
    let kind = section
        .get("rope_type")
        .or_else(|| section.get("type"))
        .and_then(Value::as_str);
    let required = |name: &str| {
        fields
            .number(name, section)?
            .ok_or_else(|| fields.missing(&format!("rope_scaling.{name}")))
    };
    let scaling = match kind {
        Some("default") => RopeScaling::None,
        None if section.contains_key("factor") => {
            return Err(fields.missing("rope_scaling.rope_type"));
        }
        None => RopeScaling::None,
        Some("linear") => RopeScaling::Linear {
            factor: required("factor")?,
        },
        Some("llama3") => {
            let (low, high) = (required("low_freq_factor")?, required("high_freq_factor")?);
            if low >= high {
                let expected = format!("below `high_freq_factor`, which is {high}");
                let field = "rope_scaling.low_freq_factor";
                return Err(ModelError::field(&fields.file, field, expected, low));
            }
            let original = "original_max_position_embeddings";
            RopeScaling::Llama3 {
                factor: required("factor")?,
                low_freq_factor: low,
                high_freq_factor: high,
                original_context: fields
                    .count_in(original, section, u32::MAX.into())?
                    .ok_or_else(|| fields.missing(&format!("rope_scaling.{original}")))?
                    as u32,
            }
        }
        Some(other) => {
            let what = format!("rope scaling `{other}`");
            return Err(ModelError::unsupported(
                &fields.file,
                what,
                "linear, llama3",
            ));
        }
    };
    Ok((theta, scaling))
}

/// Attention over a sliding window equals full attention as long as the text fits the window, so
/// that is how far such a model may go here.
fn context(fields: &Fields, family: Family) -> Result<u32, ModelError> {
    let limit = u64::from(u32::MAX);
    let name = "max_position_embeddings";
    let context = fields.required_count(name, limit)? as u32;
    let used = match family {
        Family::Qwen2 => fields.flag("use_sliding_window")?.unwrap_or(false),
        _ => true,
    };
    match fields.count("sliding_window", limit)?.filter(|_| used) {
        Some(window) => Ok(context.min(window as u32)),
        None => Ok(context),
    }
}

/// The end tokens of both files that name some: instruction-tuned models often have the end of a turn
/// in one and the end of text in the other.
fn eos(folder: &Folder, fields: &Fields) -> Result<Vec<u32>, ModelError> {
    const NAME: &str = "eos_token_id";
    const GENERATION: &str = "generation_config.json";
    let mut eos = fields.tokens(NAME)?;
    if let Some(object) = folder.json(GENERATION)? {
        let generation = Fields {
            file: folder.file(GENERATION),
            object,
        };
        for token in generation.tokens(NAME)? {
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

fn mlx_quantization(fields: &Fields) -> Result<Option<MlxQuantization>, ModelError> {
    let Some(section) = fields.section("quantization")? else {
        return Ok(None);
    };
    let required = |name: &str| {
        fields
            .count_in(name, section, 128)?
            .ok_or_else(|| fields.missing(&format!("quantization.{name}")))
    };
    Ok(Some(MlxQuantization {
        usual: Packing {
            group: required("group_size")? as u16,
            bits: required("bits")? as u8,
        },
        others: BTreeMap::new(),
    }))
}

/// A JSON object with the path of its file, for messages. An explicit `null` counts as absent.
struct Fields {
    file: PathBuf,
    object: Map<String, Value>,
}

impl Fields {
    fn get<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
        object.get(name).filter(|value| !value.is_null())
    }

    fn missing(&self, name: &str) -> ModelError {
        ModelError::MissingField {
            file: self.file.clone(),
            field: name.to_owned(),
        }
    }

    fn wrong(&self, name: &str, expected: impl Into<String>) -> ModelError {
        let found = self.object.get(name).unwrap_or(&Value::Null);
        ModelError::field(&self.file, name, expected, found)
    }

    fn count_in(
        &self,
        name: &str,
        object: &Map<String, Value>,
        limit: u64,
    ) -> Result<Option<usize>, ModelError> {
        let Some(value) = Self::get(object, name) else {
            return Ok(None);
        };
        let count = value.as_u64().filter(|&n| (1..=limit).contains(&n));
        match count.and_then(|n| usize::try_from(n).ok()) {
            Some(count) => Ok(Some(count)),
            None => {
                let expected = format!("a whole number from 1 to {limit}");
                Err(ModelError::field(&self.file, name, expected, value))
            }
        }
    }

    fn count(&self, name: &str, limit: u64) -> Result<Option<usize>, ModelError> {
        self.count_in(name, &self.object, limit)
    }

    fn required_count(&self, name: &str, limit: u64) -> Result<usize, ModelError> {
        self.count(name, limit)?.ok_or_else(|| self.missing(name))
    }

    /// All numbers of a model's configuration are positive and finite.
    fn number(&self, name: &str, object: &Map<String, Value>) -> Result<Option<f32>, ModelError> {
        let Some(value) = Self::get(object, name) else {
            return Ok(None);
        };
        match value
            .as_f64()
            .map(|x| x as f32)
            .filter(|x| x.is_finite() && *x > 0.0)
        {
            Some(number) => Ok(Some(number)),
            None => Err(ModelError::field(
                &self.file,
                name,
                "a positive number",
                value,
            )),
        }
    }

    fn flag(&self, name: &str) -> Result<Option<bool>, ModelError> {
        match Self::get(&self.object, name) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(_) => Err(self.wrong(name, "true or false")),
        }
    }

    fn text(&self, name: &str) -> Result<Option<&str>, ModelError> {
        match Self::get(&self.object, name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(self.wrong(name, "a text")),
        }
    }

    fn section(&self, name: &str) -> Result<Option<&Map<String, Value>>, ModelError> {
        match Self::get(&self.object, name) {
            None => Ok(None),
            Some(Value::Object(section)) => Ok(Some(section)),
            Some(_) => Err(self.wrong(name, "an object")),
        }
    }

    /// A token or a list of tokens.
    fn tokens(&self, name: &str) -> Result<Vec<u32>, ModelError> {
        let values = match Self::get(&self.object, name) {
            None => return Ok(Vec::new()),
            Some(Value::Array(list)) => list.as_slice(),
            Some(value) => std::slice::from_ref(value),
        };
        values
            .iter()
            .map(|value| value.as_u64().and_then(|n| u32::try_from(n).ok()))
            .collect::<Option<_>>()
            .ok_or_else(|| self.wrong(name, "a token's number, or a list of them"))
    }
}

#[cfg(test)]
mod tests;

//! Understanding a chat request.

use super::messages::messages;
use super::tools::tools;
use crate::api::error::ApiError;
use crate::api::fields::{Fields, body, wrong};
use crate::ask::{Ask, Format, Input};
use exo_protocol::engine::{Scores, Shaping};
use serde_json::{Map, Value, json};

/// A request for a chat completion.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in crate::api) struct ChatRequest {
    /// What is asked.
    pub(in crate::api) ask: Ask,
    /// Whether the answer is to come in chunks.
    pub(in crate::api) stream: bool,
    /// Whether a last chunk is to tell the usage.
    pub(in crate::api) include_usage: bool,
    /// Whether the reply has to say how it was served: the request asks for it.
    pub(in crate::api) tier: bool,
}

/// As many stop texts as OpenAI allows.
pub(in crate::api) const STOPS: usize = 4;

/// More choices than this would only wait for each other.
pub(in crate::api) const CHOICES: u32 = 16;

impl ChatRequest {
    /// Reads a request's body.
    ///
    /// # Errors
    /// 400, naming the field, for anything that is not as it should be, and for features that
    /// would change the answer but are not here.
    pub(in crate::api) fn parse(bytes: &[u8]) -> Result<Self, ApiError> {
        let object = body(bytes)?;
        let fields = Fields::new(&object);
        refuse_unsupported(&fields)?;
        hints(&fields)?;
        let stream = fields.boolean("stream")?.unwrap_or(false);
        let ask = Ask {
            model: fields.text("model")?,
            input: Input::Chat {
                messages: messages(&fields)?,
                tools: tools(&fields)?,
            },
            choices: choices(&fields)?,
            max_tokens: max_tokens(&fields)?,
            temperature: fields.number("temperature", 0.0..=2.0)?,
            top_p: fields.number("top_p", 0.0..=1.0)?,
            top_k: fields.top_k("top_k")?,
            shaping: shaping(&fields)?,
            seed: fields.seed("seed")?,
            stop: fields.stops("stop", STOPS)?,
            format: format(&fields)?,
            scores: scores(&fields)?,
            echo: false,
            goes_on: false,
            thoughtless: thoughtless(&fields)?,
        };
        Ok(Self {
            ask,
            stream,
            include_usage: include_usage(&fields, stream)?,
            tier: tier(&fields)?,
        })
    }
}

/// Whether the model shall not think before it answers. How much else it does is no choice here.
fn thoughtless(fields: &Fields<'_>) -> Result<bool, ApiError> {
    match fields.text("reasoning_effort")?.as_deref() {
        None => Ok(false),
        Some("none") => Ok(true),
        Some(_) => {
            let why = "only none is known here; leave it away";
            Err(fields.unsupported("reasoning_effort", why))
        }
    }
}

/// Saying no is better than an answer that is not what was asked for.
fn refuse_unsupported(fields: &Fields<'_>) -> Result<(), ApiError> {
    if let Some(modalities) = fields.list("modalities")?
        && modalities.iter().any(|modality| modality != "text")
    {
        return Err(fields.unsupported("modalities", "the only modality here is text"));
    }
    if fields.boolean("store")? == Some(true) {
        return Err(fields.unsupported("store", "nothing is stored here"));
    }
    fields.refuse("audio", "answers have no sound here")?;
    fields.refuse("functions", "was replaced by tools")?;
    fields.refuse("function_call", "was replaced by tool_choice")?;
    fields.refuse("web_search_options", "nothing is searched here")?;
    fields.refuse("moderation", "nothing is moderated here")?;
    if fields.text("verbosity")?.is_some_and(|v| v != "medium") {
        return Err(fields.unsupported("verbosity", "only medium is known here"));
    }
    Ok(())
}

/// Fields that change nothing of an answer are only held to their types.
fn hints(fields: &Fields<'_>) -> Result<(), ApiError> {
    caching(fields)?;
    metadata(fields)?;
    if let Some(prediction) = fields.object("prediction")? {
        let prediction = Fields::at(prediction, "prediction.");
        if prediction.wanted("type")? != "content" {
            return Err(prediction.unsupported("type", "only content is known here"));
        }
        if !matches!(
            prediction.get("content"),
            Some(Value::String(_) | Value::Array(_))
        ) {
            let content = prediction.get("content").unwrap_or(&Value::Null);
            let wanted = "a text or a list of parts";
            return Err(wrong("prediction.content", wanted, content));
        }
    }
    Ok(())
}

/// Who asks, and what of the prompt is to be kept: hints, too.
pub(in crate::api) fn caching(fields: &Fields<'_>) -> Result<(), ApiError> {
    for name in [
        "user",
        "safety_identifier",
        "prompt_cache_key",
        "prompt_cache_retention",
    ] {
        fields.text(name)?;
    }
    if let Some(options) = fields.object("prompt_cache_options")? {
        let options = Fields::at(options, "prompt_cache_options.");
        options.text("mode")?;
        options.text("ttl")?;
    }
    Ok(())
}

/// Up to 16 short texts by name.
pub(in crate::api) fn metadata(fields: &Fields<'_>) -> Result<Map<String, Value>, ApiError> {
    let Some(object) = fields.object("metadata")? else {
        return Ok(Map::new());
    };
    let long = |text: &str, most: usize| text.chars().count() > most;
    for (key, value) in object {
        let name = format!("metadata.{key}");
        let Value::String(text) = value else {
            return Err(wrong(&name, "a text", value));
        };
        if long(key, 64) || long(text, 512) {
            let message = "metadata: names have at most 64 characters, and texts 512";
            return Err(ApiError::field("metadata", message));
        }
    }
    if object.len() > 16 {
        let message = format!("metadata may hold at most 16 texts, not {}", object.len());
        return Err(ApiError::field("metadata", message));
    }
    Ok(object.clone())
}

pub(in crate::api) fn choices(fields: &Fields<'_>) -> Result<Option<usize>, ApiError> {
    let Some(count) = fields.count("n", 1)? else {
        return Ok(None);
    };
    if count > CHOICES {
        let message = format!("n must be at most {CHOICES} here, not {count}");
        return Err(ApiError::field("n", message));
    }
    Ok(usize::try_from(count).ok())
}

pub(in crate::api) fn include_usage(fields: &Fields<'_>, stream: bool) -> Result<bool, ApiError> {
    let Some(options) = fields.object("stream_options")? else {
        return Ok(false);
    };
    if !stream {
        let message = "stream_options is only allowed with stream: true";
        return Err(ApiError::field("stream_options", message));
    }
    let options = Fields::at(options, "stream_options.");
    if options.boolean("include_obfuscation")? == Some(true) {
        return Err(options.unsupported("include_obfuscation", "nothing is padded here"));
    }
    Ok(options.boolean("include_usage")?.unwrap_or(false))
}

/// `response_format`: the schema that it means.
fn format(fields: &Fields<'_>) -> Result<Option<Format>, ApiError> {
    let field = "response_format";
    let Some(format) = fields.object(field)? else {
        return Ok(None);
    };
    let format = Fields::at(format, "response_format.");
    match format.wanted("type")?.as_str() {
        "text" => Ok(None),
        "json_object" => Ok(Some(Format::object(field))),
        "json_schema" => {
            let Some(schema) = format.object("json_schema")? else {
                let name = format.name("json_schema");
                return Err(wrong(&name, "an object", &Value::Null));
            };
            let schema = json_schema(&Fields::at(schema, "response_format.json_schema."))?;
            Ok(Some(Format { field, schema }))
        }
        _ => {
            let why = "text, json_object and json_schema are known here";
            Err(fields.unsupported(field, why))
        }
    }
}

/// A named schema; one that says nothing takes any object.
pub(in crate::api) fn json_schema(fields: &Fields<'_>) -> Result<Value, ApiError> {
    fields.wanted("name")?;
    fields.text("description")?;
    // With or without: a schema that is here is held.
    fields.boolean("strict")?;
    let schema = fields.object("schema")?;
    Ok(schema.map_or_else(
        || json!({"type": "object"}),
        |schema| Value::Object(schema.clone()),
    ))
}

/// `logprobs` and `top_logprobs`.
fn scores(fields: &Fields<'_>) -> Result<Option<u8>, ApiError> {
    let wanted = fields.boolean("logprobs")?.unwrap_or(false);
    let most = likeliest(fields, "top_logprobs")?;
    if most.is_some() && !wanted {
        let message = "top_logprobs is only allowed with logprobs: true";
        return Err(ApiError::field("top_logprobs", message));
    }
    Ok(wanted.then(|| most.unwrap_or(0)))
}

/// How many of the likeliest tokens are wanted.
pub(in crate::api) fn likeliest(
    fields: &Fields<'_>,
    name: &'static str,
) -> Result<Option<u8>, ApiError> {
    let Some(most) = fields.count(name, 0)? else {
        return Ok(None);
    };
    let fits = u8::try_from(most).ok();
    let fits = fits.filter(|&most| usize::from(most) <= Scores::MOST);
    fits.map(Some).ok_or_else(|| {
        let message = format!("{name} must be at most {}, not {most}", Scores::MOST);
        ApiError::field(name, message)
    })
}

/// OpenAI's penalties and biases, and what many other servers have besides.
pub(in crate::api) fn shaping(fields: &Fields<'_>) -> Result<Shaping, ApiError> {
    let number = |name, range, usual| Ok(fields.number(name, range)?.unwrap_or(usual));
    let usual = Shaping::default();
    Ok(Shaping {
        min_p: number("min_p", 0.0..=1.0, usual.min_p)?,
        repetition: number("repetition_penalty", 0.1..=10.0, usual.repetition)?,
        frequency: number("frequency_penalty", -2.0..=2.0, usual.frequency)?,
        presence: number("presence_penalty", -2.0..=2.0, usual.presence)?,
        bias: bias(fields)?,
        ..usual
    })
}

fn bias(fields: &Fields<'_>) -> Result<Vec<(u32, f32)>, ApiError> {
    let Some(object) = fields.object("logit_bias")? else {
        return Ok(Vec::new());
    };
    if object.len() > Shaping::BIASES {
        let most = Shaping::BIASES;
        let message = format!(
            "logit_bias may hold at most {most} tokens, not {}",
            object.len()
        );
        return Err(ApiError::field("logit_bias", message));
    }
    let biases = Fields::at(object, "logit_bias.");
    let pair = |key: &String| {
        let Ok(token) = key.parse() else {
            let message = format!("logit_bias.{key}: the keys must be numbers of tokens");
            return Err(ApiError::field(format!("logit_bias.{key}"), message));
        };
        Ok((token, biases.number(key, -100.0..=100.0)?.unwrap_or(0.0)))
    };
    object.keys().map(pair).collect()
}

/// `max_tokens` is the earlier name.
fn max_tokens(fields: &Fields<'_>) -> Result<Option<u32>, ApiError> {
    let earlier = fields.count("max_tokens", 1)?;
    Ok(fields.count("max_completion_tokens", 1)?.or(earlier))
}

fn tier(fields: &Fields<'_>) -> Result<bool, ApiError> {
    match fields.text("service_tier")?.as_deref() {
        None => Ok(false),
        Some("auto" | "default") => Ok(true),
        Some(_) => Err(fields.unsupported("service_tier", "there is one tier here, default")),
    }
}

#[cfg(test)]
mod tests;

//! Understanding a chat request.

use crate::api::error::ApiError;
use serde_json::{Map, Value};

/// A request for a chat completion.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ChatRequest {
    /// The model, if one is named.
    pub model: Option<String>,
    /// The conversation.
    pub messages: Vec<Message>,
    /// Tools for the chat template.
    pub tools: Option<Value>,
    /// Whether the answer is to come in chunks.
    pub stream: bool,
    /// Whether a last chunk is to tell the usage.
    pub include_usage: bool,
    /// Most tokens to generate.
    pub max_tokens: Option<u32>,
    /// See `Sampling`.
    pub temperature: Option<f32>,
    /// See `Sampling`.
    pub top_p: Option<f32>,
    /// See `Sampling`.
    pub top_k: Option<u32>,
    /// See `Sampling`.
    pub seed: Option<u64>,
    /// Texts at which the answer ends.
    pub stop: Vec<String>,
}

/// One message of a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// `system`, `user`, `assistant`, …
    pub role: String,
    /// The text.
    pub content: String,
}

/// OpenAI allows four; nobody needs more than this.
const STOPS: usize = 16;

impl ChatRequest {
    /// Reads a request's body.
    ///
    /// # Errors
    /// 400, naming the field, for anything that is not as it should be, and for features that
    /// would change the answer but are not here.
    pub fn parse(body: &[u8]) -> Result<Self, ApiError> {
        let value: Value = serde_json::from_slice(body).map_err(|error| {
            ApiError::new(
                400,
                "invalid_json",
                format!("the body is not JSON: {error}"),
            )
        })?;
        let Value::Object(object) = value else {
            let message = format!("the body must be an object, not {}", kind(&value));
            return Err(ApiError::new(400, "invalid_json", message));
        };
        let fields = Fields(&object);
        refuse_unsupported(&fields)?;
        let stream = fields.boolean("stream")?.unwrap_or(false);
        Ok(Self {
            model: fields.text("model")?,
            messages: messages(&fields)?,
            tools: fields
                .list("tools")?
                .map(|tools| Value::Array(tools.clone())),
            stream,
            include_usage: include_usage(&fields)?,
            max_tokens: max_tokens(&fields)?,
            temperature: fields.number("temperature", 0.0..=2.0)?,
            top_p: fields.number("top_p", 0.0..=1.0)?,
            top_k: top_k(&fields)?,
            seed: seed(&fields)?,
            stop: stop(&fields)?,
        })
    }
}

/// Saying no is better than an answer that is not what was asked for.
fn refuse_unsupported(fields: &Fields<'_>) -> Result<(), ApiError> {
    let refuse =
        |name: &str, what: &str| Err(ApiError::field(name, format!("{what} not supported here")));
    if fields.integer("n")?.is_some_and(|n| n != 1) {
        return refuse("n", "more or fewer than one choice are");
    }
    if fields.boolean("logprobs")? == Some(true) {
        return refuse("logprobs", "logprobs are");
    }
    for name in ["frequency_penalty", "presence_penalty"] {
        if fields
            .number(name, -2.0..=2.0)?
            .is_some_and(|penalty| penalty != 0.0)
        {
            return refuse(name, "penalties are");
        }
    }
    if let Some(format) = fields.object("response_format")?
        && Fields(format)
            .text("type")?
            .is_some_and(|kind| kind != "text")
    {
        return refuse("response_format", "formats other than text are");
    }
    if fields
        .object("logit_bias")?
        .is_some_and(|bias| !bias.is_empty())
    {
        return refuse("logit_bias", "biases are");
    }
    Ok(())
}

fn messages(fields: &Fields<'_>) -> Result<Vec<Message>, ApiError> {
    let list = fields.list("messages")?;
    let list = list.filter(|list| !list.is_empty()).ok_or_else(|| {
        ApiError::field(
            "messages",
            "messages must be a list of at least one message",
        )
    })?;
    list.iter()
        .enumerate()
        .map(|(at, value)| message(at, value))
        .collect()
}

fn message(at: usize, value: &Value) -> Result<Message, ApiError> {
    let place = format!("messages[{at}]");
    let Value::Object(object) = value else {
        return Err(wrong(&place, "an object", value));
    };
    let role = match object.get("role") {
        Some(Value::String(role)) if !role.is_empty() => role.clone(),
        other => {
            return Err(wrong(
                &format!("{place}.role"),
                "a text",
                other.unwrap_or(&Value::Null),
            ));
        }
    };
    let place = format!("{place}.content");
    let content = match object.get("content").unwrap_or(&Value::Null) {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts
            .iter()
            .enumerate()
            .map(|(at, part)| text_part(&format!("{place}[{at}]"), part))
            .collect::<Result<Vec<_>, _>>()?
            .join("\n"),
        // An assistant that only called tools said nothing.
        Value::Null if role == "assistant" => String::new(),
        other => return Err(wrong(&place, "a text or a list of parts", other)),
    };
    // OpenAI's later name for the same thing; chat templates know the earlier one.
    let role = if role == "developer" {
        "system".to_owned()
    } else {
        role
    };
    Ok(Message { role, content })
}

fn text_part<'a>(place: &str, part: &'a Value) -> Result<&'a str, ApiError> {
    match (
        part.get("type").and_then(Value::as_str),
        part.get("text").and_then(Value::as_str),
    ) {
        (Some("text"), Some(text)) => Ok(text),
        (Some("image_url" | "image" | "input_audio" | "file"), _) => Err(ApiError::field(
            place,
            format!("{place}: only text parts are supported here"),
        )),
        _ => Err(ApiError::field(
            place,
            format!("{place} must be a part of type text with a text"),
        )),
    }
}

fn include_usage(fields: &Fields<'_>) -> Result<bool, ApiError> {
    let Some(options) = fields.object("stream_options")? else {
        return Ok(false);
    };
    match options.get("include_usage") {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Bool(include)) => Ok(*include),
        Some(other) => Err(wrong(
            "stream_options.include_usage",
            "true or false",
            other,
        )),
    }
}

fn max_tokens(fields: &Fields<'_>) -> Result<Option<u32>, ApiError> {
    for name in ["max_completion_tokens", "max_tokens"] {
        if let Some(count) = fields.integer(name)? {
            if count < 1 {
                return Err(ApiError::field(name, format!("{name} must be at least 1")));
            }
            return Ok(Some(u32::try_from(count).unwrap_or(u32::MAX)));
        }
    }
    Ok(None)
}

/// -1 means all tokens for many clients, as zero does for ours.
fn top_k(fields: &Fields<'_>) -> Result<Option<u32>, ApiError> {
    match fields.integer("top_k")? {
        None => Ok(None),
        Some(-1) => Ok(Some(0)),
        Some(count) if count < -1 => Err(ApiError::field("top_k", "top_k must not be negative")),
        Some(count) => Ok(Some(u32::try_from(count).unwrap_or(u32::MAX))),
    }
}

/// Any integer of 64 bits is a seed.
fn seed(fields: &Fields<'_>) -> Result<Option<u64>, ApiError> {
    if let Some(seed) = fields.get("seed").and_then(Value::as_u64) {
        return Ok(Some(seed));
    }
    Ok(fields.integer("seed")?.map(i64::cast_unsigned))
}

fn stop(fields: &Fields<'_>) -> Result<Vec<String>, ApiError> {
    let stops = match fields.get("stop") {
        None => Vec::new(),
        Some(Value::String(stop)) => vec![stop.clone()],
        Some(Value::Array(stops)) => stops
            .iter()
            .map(|stop| {
                stop.as_str()
                    .map(str::to_owned)
                    .ok_or_else(|| wrong("stop", "a text or a list of texts", stop))
            })
            .collect::<Result<_, _>>()?,
        Some(other) => return Err(wrong("stop", "a text or a list of texts", other)),
    };
    if stops.len() > STOPS {
        return Err(ApiError::field(
            "stop",
            format!("stop may hold at most {STOPS} texts"),
        ));
    }
    if stops.iter().any(String::is_empty) {
        return Err(ApiError::field("stop", "a stop text must not be empty"));
    }
    Ok(stops)
}

/// An object's fields; `null` is the same as nothing.
struct Fields<'a>(&'a Map<String, Value>);

impl<'a> Fields<'a> {
    fn get(&self, name: &str) -> Option<&'a Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    fn text(&self, name: &str) -> Result<Option<String>, ApiError> {
        self.get(name)
            .map(|value| match value {
                Value::String(text) => Ok(text.clone()),
                other => Err(wrong(name, "a text", other)),
            })
            .transpose()
    }

    fn boolean(&self, name: &str) -> Result<Option<bool>, ApiError> {
        self.get(name)
            .map(|value| {
                value
                    .as_bool()
                    .ok_or_else(|| wrong(name, "true or false", value))
            })
            .transpose()
    }

    fn integer(&self, name: &str) -> Result<Option<i64>, ApiError> {
        self.get(name)
            .map(|value| {
                value
                    .as_i64()
                    .ok_or_else(|| wrong(name, "an integer", value))
            })
            .transpose()
    }

    fn number(
        &self,
        name: &str,
        range: std::ops::RangeInclusive<f64>,
    ) -> Result<Option<f32>, ApiError> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        let number = value
            .as_f64()
            .ok_or_else(|| wrong(name, "a number", value))?;
        if !range.contains(&number) {
            let message = format!("{name} must be from {} to {}", range.start(), range.end());
            return Err(ApiError::field(name, message));
        }
        Ok(Some(number as f32))
    }

    fn list(&self, name: &str) -> Result<Option<&'a Vec<Value>>, ApiError> {
        self.get(name)
            .map(|value| value.as_array().ok_or_else(|| wrong(name, "a list", value)))
            .transpose()
    }

    fn object(&self, name: &str) -> Result<Option<&'a Map<String, Value>>, ApiError> {
        self.get(name)
            .map(|value| {
                value
                    .as_object()
                    .ok_or_else(|| wrong(name, "an object", value))
            })
            .transpose()
    }
}

fn wrong(name: &str, wanted: &str, value: &Value) -> ApiError {
    ApiError::field(
        name,
        format!("{name} must be {wanted}, not {}", kind(value)),
    )
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a truth value",
        Value::Number(number) if number.is_f64() => "a fraction",
        Value::Number(_) => "an integer",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests;

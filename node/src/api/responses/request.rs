//! Understanding a request.

use super::items::messages;
use super::reply::ResponseReply;
use crate::api::error::ApiError;
use crate::api::fields::{Fields, body, wrong};
use crate::api::openai::{caching, json_schema, likeliest, metadata, shaping, tools};
use crate::api::serve::Wish;
use crate::ask::{Ask, Format, Input, Tools};
use serde_json::{Map, Value, json};

/// `temperature`: what is used when the request says nothing.
pub(super) fn parse(bytes: &[u8], temperature: f32) -> Result<Wish<ResponseReply>, ApiError> {
    let object = body(bytes)?;
    let fields = Fields::new(&object);
    refuse_unsupported(&fields)?;
    let list = tool_list(&fields)?;
    let tools = read_tools(&fields, &list)?;
    let (format, told_format) = format(&fields)?;
    let scored = scored(&fields)?;
    let most = likeliest(&fields, "top_logprobs")?;
    let ask = Ask {
        model: fields.text("model")?,
        input: Input::Chat {
            messages: messages(&fields)?,
            tools,
        },
        max_tokens: fields.count("max_output_tokens", 1)?,
        temperature: fields.number("temperature", 0.0..=2.0)?,
        top_p: fields.number("top_p", 0.0..=1.0)?,
        top_k: fields.top_k("top_k")?,
        shaping: shaping(&fields)?,
        seed: fields.seed("seed")?,
        format,
        scores: scored.then(|| most.unwrap_or(0)),
        thoughtless: thoughtless(&fields)?,
        ..Ask::default()
    };
    let metadata = metadata(&fields)?;
    // What the reply repeats.
    let settings = json!({
        "instructions": fields.text("instructions")?,
        "tools": list,
        "tool_choice": fields.get("tool_choice").cloned().unwrap_or(json!("auto")),
        "truncation": "disabled",
        "parallel_tool_calls": fields.boolean("parallel_tool_calls")?.unwrap_or(true),
        "text": {"format": told_format, "verbosity": "medium"},
        "top_p": ask.top_p.unwrap_or(1.0),
        "presence_penalty": ask.shaping.presence,
        "frequency_penalty": ask.shaping.frequency,
        "top_logprobs": most.unwrap_or(0),
        "temperature": ask.temperature.unwrap_or(temperature),
        "reasoning": ask.thoughtless.then(|| json!({"effort": "none", "summary": null})),
        "max_output_tokens": ask.max_tokens,
        "max_tool_calls": fields.count("max_tool_calls", 1)?,
        "store": false,
        "background": false,
        "service_tier": "default",
        "metadata": metadata,
        "safety_identifier": fields.text("safety_identifier")?,
        "prompt_cache_key": fields.text("prompt_cache_key")?,
    });
    Ok(Wish {
        stream: fields.boolean("stream")?.unwrap_or(false),
        dialect: ResponseReply::new(settings, scored),
        ask,
    })
}

/// Whether the model shall not think before it answers.
fn thoughtless(fields: &Fields<'_>) -> Result<bool, ApiError> {
    let Some(reasoning) = fields.object("reasoning")? else {
        return Ok(false);
    };
    let effort = Fields::at(reasoning, "reasoning.").text("effort")?;
    // Anything else was refused.
    Ok(effort.is_some())
}

/// Saying no is better than an answer that is not what was asked for.
fn refuse_unsupported(fields: &Fields<'_>) -> Result<(), ApiError> {
    fields.refuse(
        "previous_response_id",
        "nothing is stored here; send the whole conversation as input",
    )?;
    fields.refuse("conversation", "nothing is stored here; send it as input")?;
    fields.refuse("prompt", "no prompts are stored here")?;
    fields.refuse("moderation", "nothing is moderated here")?;
    fields.refuse("context_management", "conversations are never cut here")?;
    for (name, why) in [
        ("store", "nothing is stored here"),
        ("background", "answers come while the client waits"),
    ] {
        if fields.boolean(name)? == Some(true) {
            return Err(fields.unsupported(name, why));
        }
    }
    if fields
        .text("truncation")?
        .is_some_and(|kind| kind != "disabled")
    {
        return Err(fields.unsupported("truncation", "conversations are never cut here"));
    }
    if let Some(reasoning) = fields.object("reasoning")? {
        let reasoning = Fields::at(reasoning, "reasoning.");
        for name in ["effort", "summary", "generate_summary"] {
            if reasoning.text(name)?.is_some_and(|value| value != "none") {
                return Err(reasoning.unsupported(name, "the models here have no such choice"));
            }
        }
    }
    if let Some(tier) = fields.text("service_tier")?
        && !["auto", "default"].contains(&tier.as_str())
    {
        return Err(fields.unsupported("service_tier", "there is one tier here, default"));
    }
    if let Some(options) = fields.object("stream_options")? {
        let options = Fields::at(options, "stream_options.");
        if options.boolean("include_obfuscation")? == Some(true) {
            return Err(options.unsupported("include_obfuscation", "nothing is padded here"));
        }
    }
    caching(fields)
}

/// `include`: whether scores are wanted.
fn scored(fields: &Fields<'_>) -> Result<bool, ApiError> {
    let mut scored = false;
    for value in fields.list("include")?.into_iter().flatten() {
        match value.as_str() {
            Some("message.output_text.logprobs") => scored = true,
            // Nothing is thought here that could be told.
            Some("reasoning.encrypted_content") => {}
            Some(other) => {
                let why = format!("{other} is not told here");
                return Err(fields.unsupported("include", &why));
            }
            None => return Err(wrong("include", "a list of texts", value)),
        }
    }
    Ok(scored)
}

/// `text.format`: the schema that it means, and how the reply repeats it.
fn format(fields: &Fields<'_>) -> Result<(Option<Format>, Value), ApiError> {
    let plain = (None, json!({"type": "text"}));
    let Some(text) = fields.object("text")? else {
        return Ok(plain);
    };
    let text = Fields::at(text, "text.");
    if text.text("verbosity")?.is_some_and(|how| how != "medium") {
        return Err(text.unsupported("verbosity", "only medium is known here"));
    }
    let Some(object) = text.object("format")? else {
        return Ok(plain);
    };
    let format = Fields::at(object, "text.format.");
    match format.wanted("type")?.as_str() {
        "text" => Ok(plain),
        "json_object" => {
            let any = Format::object("text.format");
            Ok((Some(any), json!({"type": "json_object"})))
        }
        "json_schema" => {
            let schema = json_schema(&format)?;
            let told = json!({
                "type": "json_schema",
                "name": format.text("name")?,
                "description": format.text("description")?,
                "schema": schema,
                "strict": true,
            });
            let field = "text.format";
            Ok((Some(Format { field, schema }), told))
        }
        _ => Err(format.unsupported("type", "text, json_object and json_schema are known here")),
    }
}

/// `tools`, with all their keys.
fn tool_list(fields: &Fields<'_>) -> Result<Vec<Value>, ApiError> {
    let list = fields.list("tools")?.map_or(&[][..], Vec::as_slice);
    let tool = |(at, value): (usize, &Value)| {
        let place = format!("tools[{at}]");
        let Value::Object(object) = value else {
            return Err(wrong(&place, "an object", value));
        };
        let dotted = format!("{place}.");
        let tool = Fields::at(object, &dotted);
        if tool.wanted("type")? != "function" {
            return Err(tool.unsupported("type", "only functions can be called here"));
        }
        Ok(json!({
            "type": "function",
            "name": tool.wanted("name")?,
            "description": tool.text("description")?,
            "parameters": tool.object("parameters")?,
            "strict": tool.boolean("strict")?.unwrap_or(false),
        }))
    };
    list.iter().enumerate().map(tool).collect()
}

/// The tools as chat completions have them, which chat templates know.
fn read_tools(fields: &Fields<'_>, list: &[Value]) -> Result<Option<Tools>, ApiError> {
    let tool = |tool: &Value| {
        let mut function = tool.as_object().cloned().unwrap_or_default();
        function.remove("type");
        function.retain(|_, value| !value.is_null());
        json!({"type": "function", "function": function})
    };
    let mut same = Map::new();
    same.insert("tools".to_owned(), list.iter().map(tool).collect());
    if let Some(parallel) = fields.boolean("parallel_tool_calls")? {
        same.insert("parallel_tool_calls".to_owned(), parallel.into());
    }
    if let Some(choice) = fields.get("tool_choice") {
        let choice = match choice.get("name") {
            Some(name) => json!({"type": choice["type"], "function": {"name": name}}),
            None => choice.clone(),
        };
        same.insert("tool_choice".to_owned(), choice);
    }
    tools(&Fields::new(&same))
}

#[cfg(test)]
mod tests;

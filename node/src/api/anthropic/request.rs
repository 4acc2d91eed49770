//! Understanding a request.

use super::reply::MessageReply;
use crate::api::error::ApiError;
use crate::api::fields::{Fields, body, wrong};
use crate::api::serve::Wish;
use crate::ask::{Ask, Format, Input, Tools};
use exo_models::ChatMessage;
use serde_json::{Map, Value, json};

/// More stop texts than this only cost time.
const STOPS: usize = 16;

/// A question whose tokens are to be counted: how it would be answered is left away.
pub(super) fn parse_question(bytes: &[u8]) -> Result<Ask, ApiError> {
    question(&Fields::new(&body(bytes)?))
}

fn question(fields: &Fields<'_>) -> Result<Ask, ApiError> {
    Ok(Ask {
        model: fields.text("model")?,
        input: Input::Chat {
            messages: messages(fields)?,
            tools: tools(fields)?,
        },
        goes_on: true,
        ..Ask::default()
    })
}

pub(super) fn parse(bytes: &[u8]) -> Result<Wish<MessageReply>, ApiError> {
    let object = body(bytes)?;
    let fields = Fields::new(&object);
    let thinking = fields.object("thinking")?;
    if let Some(thinking) = thinking
        && Fields::at(thinking, "thinking.").wanted("type")? != "disabled"
    {
        return Err(fields.unsupported("thinking", "is not told apart here"));
    }
    if fields
        .list("mcp_servers")?
        .is_some_and(|list| !list.is_empty())
    {
        return Err(fields.unsupported("mcp_servers", "only tools of the client are known here"));
    }
    fields.refuse("container", "nothing is run here")?;
    fields.object("metadata")?;
    fields.text("service_tier")?;
    let max_tokens = fields.count("max_tokens", 1)?;
    let max_tokens = max_tokens.ok_or_else(|| wrong("max_tokens", "an integer", &Value::Null))?;
    let ask = Ask {
        max_tokens: Some(max_tokens),
        temperature: fields.number("temperature", 0.0..=1.0)?,
        top_p: fields.number("top_p", 0.0..=1.0)?,
        top_k: fields.top_k("top_k")?,
        stop: fields.stops("stop_sequences", STOPS)?,
        format: format(&fields)?,
        thoughtless: thinking.is_some(),
        ..question(&fields)?
    };
    check_beginning(&ask)?;
    Ok(Wish {
        ask,
        stream: fields.boolean("stream")?.unwrap_or(false),
        dialect: MessageReply::new(),
    })
}

/// An answer may begin with what the last message says. Anthropic's refuses what cannot be gone on
/// with, and so do we.
fn check_beginning(ask: &Ask) -> Result<(), ApiError> {
    let Input::Chat { messages, tools } = &ask.input else {
        return Ok(());
    };
    let Some(last) = messages.last().filter(|last| last.role == "assistant") else {
        return Ok(());
    };
    let forced = tools.as_ref().is_some_and(|tools| tools.forced.is_some());
    let why = if ask.format.is_some() || forced {
        "a format, or a tool that is to be called, leaves no choice how the answer begins"
    } else if last.content.ends_with(char::is_whitespace) {
        "the assistant's last message must not end with white space"
    } else {
        return Ok(());
    };
    Err(ApiError::field("messages", format!("messages: {why}")))
}

/// The schema that the answer is held to: `output_config.format`, or `output_format` by its first
/// name.
fn format(fields: &Fields<'_>) -> Result<Option<Format>, ApiError> {
    if let Some(config) = fields.object("output_config")? {
        let config = Fields::at(config, "output_config.");
        // The highest is what is usual.
        if config
            .text("effort")?
            .is_some_and(|effort| effort != "high")
        {
            return Err(config.unsupported("effort", "the models here have no such choice"));
        }
        if let Some(format) = config.object("format")? {
            let schema = schema(&Fields::at(format, "output_config.format."))?;
            let field = "output_config.format";
            return Ok(Some(Format { field, schema }));
        }
    }
    let field = "output_format";
    let Some(format) = fields.object(field)? else {
        return Ok(None);
    };
    let schema = schema(&Fields::at(format, "output_format."))?;
    Ok(Some(Format { field, schema }))
}

fn schema(format: &Fields<'_>) -> Result<Value, ApiError> {
    if format.wanted("type")? != "json_schema" {
        return Err(format.unsupported("type", "only json_schema is known here"));
    }
    let schema = format.object("schema")?;
    let schema = schema.ok_or_else(|| wrong(&format.name("schema"), "an object", &Value::Null))?;
    Ok(Value::Object(schema.clone()))
}

fn messages(fields: &Fields<'_>) -> Result<Vec<ChatMessage>, ApiError> {
    let mut out = Vec::new();
    match fields.get("system") {
        None => {}
        Some(Value::String(text)) => out.push(ChatMessage::new("system", text.as_str())),
        Some(Value::Array(blocks)) => {
            let mut texts = Vec::new();
            for (at, block) in blocks.iter().enumerate() {
                texts.push(text_block(&format!("system[{at}]"), block)?);
            }
            out.push(ChatMessage::new("system", texts.join("\n")));
        }
        Some(other) => return Err(wrong("system", "a text or a list of blocks", other)),
    }
    let list = fields.list("messages")?.filter(|list| !list.is_empty());
    let list = list.ok_or_else(|| {
        let message = "messages must be a list of at least one message";
        ApiError::field("messages", message)
    })?;
    for (at, value) in list.iter().enumerate() {
        let place = format!("messages[{at}]");
        let Value::Object(object) = value else {
            return Err(wrong(&place, "an object", value));
        };
        message(&format!("{place}."), object, &mut out)?;
    }
    Ok(out)
}

fn message(
    place: &str,
    object: &Map<String, Value>,
    out: &mut Vec<ChatMessage>,
) -> Result<(), ApiError> {
    let fields = Fields::at(object, place);
    let role = fields.wanted("role")?;
    if !["user", "assistant"].contains(&role.as_str()) {
        let name = fields.name("role");
        let message = format!("{name} must be user or assistant");
        return Err(ApiError::field(name, message));
    }
    let name = fields.name("content");
    let blocks = match fields.get("content") {
        Some(Value::String(text)) => {
            out.push(ChatMessage::new(role, text.as_str()));
            return Ok(());
        }
        Some(Value::Array(blocks)) => blocks,
        other => {
            let value = other.unwrap_or(&Value::Null);
            return Err(wrong(&name, "a text or a list of blocks", value));
        }
    };
    let mut said = ChatMessage::new(role.as_str(), "");
    let mut texts = Vec::new();
    for (at, value) in blocks.iter().enumerate() {
        let place = format!("{name}[{at}]");
        match value.get("type").and_then(Value::as_str) {
            Some("tool_use") if role == "assistant" => {
                said.tool_calls.push(tool_use(&place, value)?);
            }
            Some("tool_result") if role == "user" => out.push(tool_result(&place, value)?),
            _ => texts.push(text_block(&place, value)?),
        }
    }
    said.content = texts.join("\n");
    if !said.content.is_empty() || !said.tool_calls.is_empty() {
        out.push(said);
    }
    Ok(())
}

fn text_block<'a>(place: &str, block: &'a Value) -> Result<&'a str, ApiError> {
    let text = |name| block.get(name).and_then(Value::as_str);
    match (text("type"), text("text")) {
        (Some("text"), Some(text)) => Ok(text),
        (Some("text") | None, _) => Err(ApiError::field(
            place,
            format!("{place} must be a block of type text with a text"),
        )),
        (Some(kind), _) => {
            let message = format!("{place}: blocks of type {kind} are not understood here");
            Err(ApiError::unsupported(place, message))
        }
    }
}

fn object<'a>(place: &str, value: &'a Value) -> Result<&'a Map<String, Value>, ApiError> {
    value
        .as_object()
        .ok_or_else(|| wrong(place, "an object", value))
}

fn tool_use(place: &str, block: &Value) -> Result<Value, ApiError> {
    let dotted = format!("{place}.");
    let fields = Fields::at(object(place, block)?, &dotted);
    let input = fields.object("input")?.cloned().unwrap_or_default();
    let function = json!({"name": fields.wanted("name")?, "arguments": input});
    Ok(json!({"id": fields.wanted("id")?, "type": "function", "function": function}))
}

fn tool_result(place: &str, block: &Value) -> Result<ChatMessage, ApiError> {
    let dotted = format!("{place}.");
    let fields = Fields::at(object(place, block)?, &dotted);
    fields.boolean("is_error")?;
    let name = fields.name("content");
    let content = match fields.get("content") {
        None => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(blocks)) => {
            let blocks = blocks.iter().enumerate();
            let texts = blocks.map(|(at, block)| text_block(&format!("{name}[{at}]"), block));
            texts.collect::<Result<Vec<_>, _>>()?.join("\n")
        }
        Some(other) => return Err(wrong(&name, "a text or a list of blocks", other)),
    };
    Ok(ChatMessage {
        tool_call_id: Some(fields.wanted("tool_use_id")?),
        ..ChatMessage::new("tool", content)
    })
}

/// Tools as chat templates know them: in OpenAI's shape.
fn tools(fields: &Fields<'_>) -> Result<Option<Tools>, ApiError> {
    let list = fields.list("tools")?.map_or(&[][..], Vec::as_slice);
    let (mut names, mut tools, mut strict) = (Vec::new(), Vec::new(), Vec::new());
    for (at, value) in list.iter().enumerate() {
        let place = format!("tools[{at}]");
        let dotted = format!("{place}.");
        let tool = Fields::at(object(&place, value)?, &dotted);
        if tool.text("type")?.is_some_and(|kind| kind != "custom") {
            return Err(tool.unsupported("type", "only tools of the client are known here"));
        }
        let name = tool.wanted("name")?;
        if tool.boolean("strict")? == Some(true) {
            strict.push(name.clone());
        }
        let description = tool.text("description")?.unwrap_or_default();
        let schema = tool.object("input_schema")?.cloned().unwrap_or_default();
        let function = json!({"name": name, "description": description, "parameters": schema});
        tools.push(json!({"type": "function", "function": function}));
        names.push(name);
    }
    let mut parallel = true;
    let mut forced = None;
    if let Some(choice) = fields.object("tool_choice")? {
        let choice = Fields::at(choice, "tool_choice.");
        parallel = choice.boolean("disable_parallel_tool_use")? != Some(true);
        match choice.wanted("type")?.as_str() {
            "auto" => {}
            "none" => return Ok(None),
            "any" => forced = Some(names.first().filter(|_| names.len() == 1).cloned()),
            "tool" => forced = Some(Some(choice.wanted("name")?)),
            _ => {
                let message = "tool_choice.type must be auto, any, tool, or none";
                return Err(ApiError::field("tool_choice.type", message));
            }
        }
    }
    let missing = match &forced {
        Some(Some(name)) => !names.contains(name),
        Some(None) => names.is_empty(),
        None => false,
    };
    if missing {
        let message = "tool_choice asks for a tool that is not among the tools";
        return Err(ApiError::field("tool_choice", message));
    }
    Ok((!tools.is_empty()).then_some(Tools {
        list: Value::Array(tools),
        names,
        forced,
        parallel,
        strict,
    }))
}

#[cfg(test)]
mod tests;

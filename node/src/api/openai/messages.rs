//! The messages of a conversation.

use crate::api::error::ApiError;
use crate::api::fields::{Fields, wrong};
use exo_models::ChatMessage;
use serde_json::{Map, Value, json};

/// The roles of OpenAI's specification. `developer` is its later name for `system`, and chat
/// templates know the earlier one; `function` came before `tool`.
const ROLES: [&str; 6] = [
    "developer",
    "system",
    "user",
    "assistant",
    "tool",
    "function",
];

/// The conversation in the field `messages`.
pub(in crate::api) fn messages(fields: &Fields<'_>) -> Result<Vec<ChatMessage>, ApiError> {
    let list = fields.list("messages")?.filter(|list| !list.is_empty());
    let list = list.ok_or_else(|| {
        ApiError::field(
            "messages",
            "messages must be a list of at least one message",
        )
    })?;
    list.iter()
        .enumerate()
        .map(|(at, value)| message(&format!("messages[{at}]"), value))
        .collect()
}

/// One message, at `place` in the request.
fn message(place: &str, value: &Value) -> Result<ChatMessage, ApiError> {
    let Value::Object(object) = value else {
        return Err(wrong(place, "an object", value));
    };
    let place = format!("{place}.");
    let fields = Fields::at(object, &place);
    let role = fields.wanted("role")?;
    if !ROLES.contains(&role.as_str()) {
        let message = format!(
            "{} must be one of: {}",
            fields.name("role"),
            ROLES.join(", ")
        );
        return Err(ApiError::field(fields.name("role"), message));
    }
    fields.refuse("function_call", "was replaced by tool_calls")?;
    if role == "assistant" {
        fields.refuse("audio", "answers have no sound here")?;
    }
    let tool_calls = if role == "assistant" {
        tool_calls(&fields)?
    } else {
        Vec::new()
    };
    let tool_call_id = fields.text("tool_call_id")?;
    if role == "tool" && tool_call_id.is_none() {
        return Err(wrong(&fields.name("tool_call_id"), "a text", &Value::Null));
    }
    let role = match role.as_str() {
        "developer" => "system".to_owned(),
        "function" => "tool".to_owned(),
        _ => role,
    };
    Ok(ChatMessage {
        content: content(&fields, &role)?,
        name: fields.text("name")?,
        tool_calls,
        tool_call_id,
        role,
    })
}

fn content(fields: &Fields<'_>, role: &str) -> Result<String, ApiError> {
    let place = fields.name("content");
    match fields.get("content") {
        Some(Value::String(text)) => Ok(text.clone()),
        Some(Value::Array(parts)) => {
            let parts = parts.iter().enumerate();
            let parts = parts.map(|(at, part)| text_part(&format!("{place}[{at}]"), part, role));
            Ok(parts.collect::<Result<Vec<_>, _>>()?.join("\n"))
        }
        // An assistant that only called tools, or refused, said nothing else.
        None if role == "assistant" => Ok(fields.text("refusal")?.unwrap_or_default()),
        other => {
            let value = other.unwrap_or(&Value::Null);
            Err(wrong(&place, "a text or a list of parts", value))
        }
    }
}

fn text_part<'a>(place: &str, part: &'a Value, role: &str) -> Result<&'a str, ApiError> {
    let text = |name| part.get(name).and_then(Value::as_str);
    match (text("type"), text("text"), text("refusal")) {
        (Some("text"), Some(text), _) => Ok(text),
        (Some("refusal"), _, Some(text)) if role == "assistant" => Ok(text),
        (Some(kind @ ("image_url" | "image" | "input_audio" | "file")), _, _) => {
            let message =
                format!("{place}: only parts of type text are understood here, not {kind}");
            Err(ApiError::unsupported(place, message))
        }
        _ => Err(ApiError::field(
            place,
            format!("{place} must be a part of type text with a text"),
        )),
    }
}

/// Calls as chat templates know them: with their arguments as an object where they are one.
fn tool_calls(fields: &Fields<'_>) -> Result<Vec<Value>, ApiError> {
    let list = fields.list("tool_calls")?.map_or(&[][..], Vec::as_slice);
    let calls = list.iter().enumerate();
    calls
        .map(|(at, call)| tool_call(&format!("{}[{at}]", fields.name("tool_calls")), call))
        .collect()
}

fn tool_call(place: &str, call: &Value) -> Result<Value, ApiError> {
    let object = |place: &str, value: &Value| -> Result<Map<String, Value>, ApiError> {
        match value {
            Value::Object(object) => Ok(object.clone()),
            other => Err(wrong(place, "an object", other)),
        }
    };
    let call = object(place, call)?;
    let dotted = format!("{place}.");
    let fields = Fields::at(&call, &dotted);
    if let Some(kind) = fields.text("type")?.filter(|kind| kind != "function") {
        let message = format!("{place}.type must be function, not {kind}");
        return Err(ApiError::unsupported(format!("{place}.type"), message));
    }
    let id = fields.wanted("id")?;
    let place = format!("{place}.function");
    let function = object(&place, call.get("function").unwrap_or(&Value::Null))?;
    let dotted = format!("{place}.");
    let fields = Fields::at(&function, &dotted);
    let name = fields.wanted("name")?;
    let arguments = match fields.get("arguments") {
        None => json!({}),
        // Some clients send them as they are.
        Some(Value::Object(arguments)) => Value::Object(arguments.clone()),
        Some(Value::String(text)) => match serde_json::from_str(text) {
            Ok(Value::Object(arguments)) => Value::Object(arguments),
            _ => Value::String(text.clone()),
        },
        Some(other) => return Err(wrong(&fields.name("arguments"), "a text of JSON", other)),
    };
    let function = json!({"name": name, "arguments": arguments});
    Ok(json!({"id": id, "type": "function", "function": function}))
}

//! The items of a conversation, as messages for chat templates.

use crate::api::error::ApiError;
use crate::api::fields::{Fields, wrong};
use exo_models::ChatMessage;
use serde_json::{Map, Value, json};

/// `instructions` and `input`.
pub(super) fn messages(fields: &Fields<'_>) -> Result<Vec<ChatMessage>, ApiError> {
    let mut out = Vec::new();
    if let Some(text) = fields.text("instructions")? {
        out.push(ChatMessage::new("system", text));
    }
    match fields.get("input") {
        Some(Value::String(text)) => out.push(ChatMessage::new("user", text.as_str())),
        Some(Value::Array(items)) if !items.is_empty() => {
            for (at, value) in items.iter().enumerate() {
                let place = format!("input[{at}]");
                let Value::Object(object) = value else {
                    return Err(wrong(&place, "an object", value));
                };
                item(&format!("{place}."), object, &mut out)?;
            }
        }
        Some(Value::Array(_)) => {
            let message = "input must be a text, or a list of at least one item";
            return Err(ApiError::field("input", message));
        }
        other => {
            let value = other.unwrap_or(&Value::Null);
            return Err(wrong("input", "a text or a list of items", value));
        }
    }
    if out.iter().all(|message| message.role == "system") {
        let message = "input must hold something that is to be answered";
        return Err(ApiError::field("input", message));
    }
    Ok(out)
}

fn item(
    place: &str,
    object: &Map<String, Value>,
    out: &mut Vec<ChatMessage>,
) -> Result<(), ApiError> {
    let fields = Fields::at(object, place);
    match fields.text("type")?.as_deref() {
        None | Some("message") => out.push(message(&fields)?),
        Some("function_call") => {
            let arguments = fields.wanted("arguments")?;
            let arguments = match serde_json::from_str(&arguments) {
                Ok(Value::Object(object)) => Value::Object(object),
                _ => Value::String(arguments),
            };
            let function = json!({"name": fields.wanted("name")?, "arguments": arguments});
            let call = json!({
                "id": fields.wanted("call_id")?, "type": "function", "function": function,
            });
            // Calls that were made together are one message.
            match out.last_mut() {
                Some(last) if last.role == "assistant" => last.tool_calls.push(call),
                _ => out.push(ChatMessage {
                    tool_calls: vec![call],
                    ..ChatMessage::new("assistant", "")
                }),
            }
        }
        Some("function_call_output") => out.push(ChatMessage {
            tool_call_id: Some(fields.wanted("call_id")?),
            ..ChatMessage::new("tool", content(&fields, "output")?)
        }),
        // What a model thought before is nothing that it says.
        Some("reasoning") => {}
        Some(kind) => {
            let why = match kind {
                "item_reference" => "nothing is stored here that could be referred to",
                _ => "items of this type are not understood here",
            };
            return Err(fields.unsupported("type", why));
        }
    }
    Ok(())
}

fn message(fields: &Fields<'_>) -> Result<ChatMessage, ApiError> {
    let role = fields.wanted("role")?;
    let role = match role.as_str() {
        "developer" | "system" => "system",
        "user" => "user",
        "assistant" => "assistant",
        _ => {
            let name = fields.name("role");
            let message = format!("{name} must be user, assistant, system, or developer");
            return Err(ApiError::field(name, message));
        }
    };
    Ok(ChatMessage::new(role, content(fields, "content")?))
}

/// A text, or parts of text.
fn content(fields: &Fields<'_>, field: &str) -> Result<String, ApiError> {
    let place = fields.name(field);
    let parts = match fields.get(field) {
        Some(Value::String(text)) => return Ok(text.clone()),
        Some(Value::Array(parts)) => parts,
        other => {
            let value = other.unwrap_or(&Value::Null);
            return Err(wrong(&place, "a text or a list of parts", value));
        }
    };
    let mut texts = Vec::new();
    for (at, part) in parts.iter().enumerate() {
        let place = format!("{place}[{at}]");
        let text = |name| part.get(name).and_then(Value::as_str);
        match (text("type"), text("text"), text("refusal")) {
            (Some("input_text" | "output_text" | "text"), Some(text), _)
            | (Some("refusal"), _, Some(text)) => texts.push(text),
            (Some(kind @ ("input_image" | "input_file" | "input_audio" | "input_video")), _, _) => {
                let message = format!("{place}: only text is understood here, not {kind}");
                return Err(ApiError::unsupported(place, message));
            }
            _ => {
                let message = format!("{place} must be a part of type input_text with a text");
                return Err(ApiError::field(place, message));
            }
        }
    }
    Ok(texts.join("\n"))
}

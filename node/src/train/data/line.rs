//! What one line says.

use exo_models::ChatMessage;
use serde_json::{Map, Value};

/// An example as its file has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// A text to be continued.
    Text(String),
    /// A conversation.
    Chat {
        /// Who said what.
        messages: Vec<ChatMessage>,
        /// Tools for the chat template.
        tools: Option<Value>,
    },
}

impl Line {
    /// Reads a line. Where it fits several formats, `prompt` with `completion` goes before
    /// `messages`, and that before `text`, as in `mlx_lm.lora`.
    ///
    /// # Errors
    /// What was expected and what came.
    pub fn parse(line: &[u8]) -> Result<Self, String> {
        let value: Value = serde_json::from_slice(line.trim_ascii())
            .map_err(|error| format!("expected a JSON object: {}", in_line(&error)))?;
        let Value::Object(mut object) = value else {
            return Err(format!("expected a JSON object, found {}", kind(&value)));
        };
        let tools = object.remove("tools").filter(|tools| !tools.is_null());
        if object.contains_key("prompt") && object.contains_key("completion") {
            let mut message = |field: &str, role: &str| {
                let content = text(field, object.remove(field))?;
                Ok::<_, String>(ChatMessage::new(role, content))
            };
            let messages = vec![
                message("prompt", "user")?,
                message("completion", "assistant")?,
            ];
            return Ok(Self::Chat { messages, tools });
        }
        if let Some(messages) = object.remove("messages") {
            let messages = conversation(messages)?;
            return Ok(Self::Chat { messages, tools });
        }
        match object.remove("text") {
            Some(value) => text("text", Some(value)).map(Self::Text),
            None => Err(format!(
                "expected \"text\", or \"prompt\" and \"completion\", or \"messages\"; found {}",
                keys(&object)
            )),
        }
    }
}

fn conversation(messages: Value) -> Result<Vec<ChatMessage>, String> {
    let Value::Array(messages) = messages else {
        let found = kind(&messages);
        return Err(format!("\"messages\" should be an array, found {found}"));
    };
    if messages.is_empty() {
        return Err("\"messages\" should not be empty".to_owned());
    }
    let message = |(index, message)| {
        let at = |field: &str| format!("messages[{index}].{field}");
        let Value::Object(mut message) = message else {
            let found = kind(&message);
            return Err(format!(
                "messages[{index}] should be an object, found {found}"
            ));
        };
        Ok(ChatMessage::new(
            text(&at("role"), message.remove("role"))?,
            text(&at("content"), message.remove("content"))?,
        ))
    };
    messages.into_iter().enumerate().map(message).collect()
}

fn text(field: &str, value: Option<Value>) -> Result<String, String> {
    match value {
        Some(Value::String(text)) => Ok(text),
        Some(other) => {
            let found = kind(&other);
            Err(format!("{field:?} should be a string, found {found}"))
        }
        None => Err(format!("{field:?} is missing")),
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// A few names: enough to see what the file is.
fn keys(object: &Map<String, Value>) -> String {
    if object.is_empty() {
        return "an empty object".to_owned();
    }
    let names: Vec<String> = object
        .keys()
        .take(8)
        .map(|key| format!("{key:?}"))
        .collect();
    names.join(", ")
}

/// The parser counts lines of its own, which would be taken for lines of the file.
fn in_line(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let why = text.split(" at line ").next().unwrap_or(&text);
    format!("{why} at column {}", error.column())
}

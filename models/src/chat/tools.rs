//! Functions that a model calls: how its answers say so, and how it is told of them.
//!
//! Models were taught different formats; which one, their chat templates show:
//!
//! | | what the model writes |
//! | --- | --- |
//! | Hermes, Qwen | `<tool_call>{"name": …, "arguments": {…}}</tool_call>`, any number of them |
//! | Mistral | `[TOOL_CALLS][{"name": …, "arguments": {…}}, …]` |
//! | Llama 3 | `<\|python_tag\|>{"name": …, "parameters": {…}}`, more behind `;` |
//! | others | one JSON object of these, or a list, perhaps in a code fence |
//!
//! The markers of Mistral and Llama are special tokens, of which no text remains.

mod reader;

use serde_json::{Value, json};

use crate::guide::{Free, Grammar, Part};

pub use self::reader::{CallReader, Piece, ToolCall};
use super::ChatMessage;

/// How a model's answers call functions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ToolFormat {
    /// Between tags.
    Hermes,
    /// A list.
    Mistral,
    /// Objects with `parameters`.
    Llama,
    /// The template knows tools, but no format of these.
    Json,
    /// The template knows no tools: they are explained in the system message.
    #[default]
    Explained,
}

/// How free a model is to call functions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Calling<'a> {
    /// It calls this one: its answer has [begun](ToolFormat::beginning) so.
    Named(&'a str),
    /// It calls one: its answer has begun so.
    Any,
    /// It may call some, or say something.
    Free,
}

pub(super) const OPEN: &str = "<tool_call>";
pub(super) const CLOSE: &str = "</tool_call>";
pub(super) const MISTRAL: &str = "[TOOL_CALLS]";
pub(super) const LLAMA: &str = "<|python_tag|>";

impl ToolFormat {
    /// The format that the source of a template shows.
    #[must_use]
    pub(super) fn of(template: &str) -> Self {
        if !template.contains("tools") {
            Self::Explained
        } else if template.contains(OPEN) {
            Self::Hermes
        } else if template.contains(MISTRAL) {
            Self::Mistral
        } else if template.contains(LLAMA) || template.contains("ipython") {
            Self::Llama
        } else {
            Self::Json
        }
    }

    /// How an answer begins that calls `name`, or any function if there is none: with this as its
    /// beginning a model has to go on with a call.
    #[must_use]
    pub fn beginning(self, name: Option<&str>) -> String {
        let (before, key, after) = match self {
            Self::Hermes => ("<tool_call>\n", "arguments", ""),
            Self::Mistral => ("[TOOL_CALLS][", "arguments", ""),
            Self::Llama => ("", "parameters", ""),
            Self::Json | Self::Explained => ("", "arguments", ""),
        };
        match name {
            Some(name) => {
                let name = Value::from(name);
                format!("{before}{{\"name\": {name}, \"{key}\": {after}")
            }
            None => format!("{before}{{\"name\": \""),
        }
    }

    /// What an answer has to be that calls one of `functions`, each with the schema of its arguments.
    #[must_use]
    pub fn grammar(self, functions: &[(String, Value)], calling: Calling<'_>) -> Grammar {
        let close = match self {
            Self::Hermes => "}\n</tool_call>",
            Self::Mistral => "}]",
            Self::Llama | Self::Json | Self::Explained => "}",
        };
        let call = |(name, schema): &(String, Value)| {
            let whole = self.beginning(Some(name));
            let begun = match calling {
                Calling::Named(name) => self.beginning(Some(name)),
                Calling::Any => self.beginning(None),
                // The tag is the mark; the text of a special token is never seen.
                Calling::Free => match self {
                    Self::Hermes => OPEN.to_owned(),
                    Self::Mistral => format!("{MISTRAL}["),
                    _ => String::new(),
                },
            };
            let rest = whole.strip_prefix(&begun).unwrap_or(&whole).to_owned();
            let arguments = Part::Json {
                json: schema.clone(),
            };
            vec![Part::Text(rest), arguments, Part::Text(close.to_owned())]
        };
        let wanted = |(name, _): &&(String, Value)| match calling {
            Calling::Named(named) => name == named,
            Calling::Any | Calling::Free => true,
        };
        Grammar {
            any: functions.iter().filter(wanted).map(call).collect(),
            free: match (calling, self) {
                (Calling::Free, Self::Hermes) => Free::Mark(OPEN.to_owned()),
                (Calling::Free, _) => Free::Instead,
                _ => Free::None,
            },
        }
    }

    /// The conversation for a template that knows no tools: they, the calls, and what came of
    /// them are told in words.
    #[must_use]
    pub fn explain(messages: &[ChatMessage], tools: &Value) -> Vec<ChatMessage> {
        let functions = tools.as_array().map_or(&[][..], Vec::as_slice).iter();
        let functions: Vec<String> = functions
            .map(|tool| tool.get("function").unwrap_or(tool).to_string())
            .collect();
        let words = format!(
            "You can call these functions:\n{}\nTo call one, answer with nothing but JSON: \
             {{\"name\": the function's name, \"arguments\": {{its arguments}}}}",
            functions.join("\n")
        );
        let mut told = Vec::with_capacity(messages.len() + 1);
        let mut messages = messages.iter();
        match messages.as_slice().first() {
            Some(system) if system.role == "system" => {
                let content = format!("{}\n\n{words}", system.content);
                told.push(ChatMessage::new("system", content));
                messages.next();
            }
            _ => told.push(ChatMessage::new("system", words)),
        }
        told.extend(messages.map(Self::in_words));
        told
    }

    fn in_words(message: &ChatMessage) -> ChatMessage {
        if message.role == "tool" {
            let name = message.name.as_deref().unwrap_or("the function");
            let content = format!("The result of {name}: {}", message.content);
            return ChatMessage::new("user", content);
        }
        if message.tool_calls.is_empty() {
            return message.clone();
        }
        let calls = message.tool_calls.iter().map(|call| {
            let function = call.get("function").unwrap_or(call);
            let field = |name| function.get(name).cloned().unwrap_or_default();
            json!({"name": field("name"), "arguments": field("arguments")}).to_string()
        });
        let said = (!message.content.is_empty()).then(|| message.content.clone());
        let content: Vec<String> = said.into_iter().chain(calls).collect();
        ChatMessage::new(message.role.clone(), content.join("\n"))
    }
}

#[cfg(test)]
mod tests;

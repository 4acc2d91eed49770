//! From a conversation to the text that a model was trained to continue.

mod json;
mod source;
mod time;
mod tools;

use std::{path::PathBuf, sync::Arc};

use minijinja::{
    Environment, Error, ErrorKind, Value, context, syntax::SyntaxConfig, value::Serde,
};
use serde::{Deserialize, Serialize};

pub(crate) use self::source::{from_folder, from_gguf};
pub use self::tools::{CallReader, Calling, Piece as AnswerPiece, ToolCall, ToolFormat};
use crate::ModelError;

/// What a template may spend on one conversation, in minijinja's units: an instruction, or 64 bytes of
/// text. Enough for conversations of megabytes, and bounds what a hostile template can do to a few
/// hundred megabytes and some seconds.
const FUEL: u64 = 4_000_000;

/// One message of a conversation.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChatMessage {
    /// `system`, `user`, `assistant`, `tool`, or what else the model's template knows.
    pub role: String,
    /// What was said.
    #[serde(default)]
    pub content: String,
    /// Who said it, where several have the same role; the function's name for a `tool`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Functions that an assistant called, each as templates know it:
    /// `{"id": …, "type": "function", "function": {"name": …, "arguments": {…}}}`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<serde_json::Value>,
    /// The call that a `tool` answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_call_id: Option<String>,
}

impl ChatMessage {
    /// `role` said `content`.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self {
            role: role.into(),
            content: content.into(),
            ..Self::default()
        }
    }
}

/// A model's chat template: Jinja as `transformers` runs it.
///
/// A model may come with a template for conversations with tools besides the usual one; it is taken
/// when there are tools. A model without any template gets ChatML if its vocabulary has
/// `<|im_start|>`. If not, it was never taught to converse, and is given the messages' texts with an
/// empty line between them, to continue.
///
/// `strftime_now` tells the time in UTC. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ChatTemplate {
    environment: Arc<Environment<'static>>,
    has_tool_use: bool,
    tool_format: ToolFormat,
    bos: String,
    eos: String,
    file: PathBuf,
    /// Whether the model thinks before it answers, if somebody said so.
    thinks: Option<bool>,
}

/// The names under which the environment keeps the two templates.
const DEFAULT: &str = "default";
const TOOL_USE: &str = "tool_use";

const CHATML: &str = "{% for message in messages %}\
    {{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}\
    {% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

const PLAIN: &str = "{{ messages | map(attribute='content') | join('\n\n') }}";

/// The parts of a template, wherever they were found.
struct Parts {
    default: String,
    tool_use: Option<String>,
    bos: Option<String>,
    eos: Option<String>,
    file: PathBuf,
}

impl ChatTemplate {
    fn new(parts: Parts) -> Result<Self, ModelError> {
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder()
            .trim_blocks(true)
            .lstrip_blocks(true)
            .build();
        let file = parts.file;
        let failed = |error: Error| failure(&file, &error);
        environment.set_syntax(syntax.map_err(failed)?);
        environment.set_fuel(Some(FUEL));
        environment
            .set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_filter("tojson", json::tojson);
        environment.add_function("strftime_now", |format: &str| time::strftime_now(format));
        environment.add_function("raise_exception", raise_exception);
        let has_tool_use = parts.tool_use.is_some();
        let source = parts.tool_use.as_deref().unwrap_or(&parts.default);
        let tool_format = ToolFormat::of(source);
        environment
            .add_template_owned(DEFAULT, parts.default)
            .map_err(failed)?;
        if let Some(source) = parts.tool_use {
            environment
                .add_template_owned(TOOL_USE, source)
                .map_err(failed)?;
        }
        Ok(Self {
            environment: Arc::new(environment),
            has_tool_use,
            tool_format,
            bos: parts.bos.unwrap_or_default(),
            eos: parts.eos.unwrap_or_default(),
            file,
            thinks: None,
        })
    }

    /// The same for answers without thoughts before them, where the template knows of
    /// `enable_thinking`, as Qwen 3's does.
    #[must_use]
    pub fn without_thoughts(&self) -> Self {
        Self {
            thinks: Some(false),
            ..self.clone()
        }
    }

    /// How the model calls functions.
    #[must_use]
    pub fn tool_format(&self) -> ToolFormat {
        self.tool_format
    }

    /// The text of a conversation; with `add_generation_prompt` up to where the answer begins.
    ///
    /// A template that refuses the conversation gives [`ModelError::Refused`].
    pub fn render(
        &self,
        messages: &[ChatMessage],
        tools: Option<&serde_json::Value>,
        add_generation_prompt: bool,
    ) -> Result<String, ModelError> {
        let name = if self.has_tool_use && tools.is_some() {
            TOOL_USE
        } else {
            DEFAULT
        };
        let tools = tools.map_or(Value::from(()), |tools| Value::from(Serde(tools)));
        let context = context! {
            messages => Value::from(Serde(messages)),
            tools => tools,
            documents => Value::from(()),
            add_generation_prompt => add_generation_prompt,
            bos_token => &self.bos,
            eos_token => &self.eos,
            enable_thinking => self.thinks.map_or(Value::UNDEFINED, Value::from),
        };
        self.environment
            .get_template(name)
            .and_then(|template| template.render(context))
            .map_err(|error| failure(&self.file, &error))
    }
}

/// Marks what a template said through `raise_exception`.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Refusal(String);

fn raise_exception(message: String) -> Result<String, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, message.clone()).with_source(Refusal(message)))
}

fn failure(file: &std::path::Path, error: &Error) -> ModelError {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(cause) = source {
        if let Some(Refusal(message)) = cause.downcast_ref() {
            return ModelError::Refused {
                message: message.clone(),
            };
        }
        source = cause.source();
    }
    ModelError::Template {
        file: file.to_owned(),
        why: error.to_string(),
    }
}

#[cfg(test)]
mod tests;

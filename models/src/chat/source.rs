//! Where a model keeps its chat template.

use std::{path::Path, sync::Arc};

use serde::Deserialize;

use super::{CHATML, ChatTemplate, PLAIN, Parts};
use crate::{
    ModelError, Tokenizer,
    folder::Folder,
    gguf::{Gguf, Value},
    tokenizer::TokenText,
};

const CONFIG: &str = "tokenizer_config.json";
const JINJA: &str = "chat_template.jinja";
const JSON: &str = "chat_template.json";
/// A vocabulary with this token was taught ChatML.
const CHATML_MARK: &str = "<|im_start|>";

#[derive(Deserialize, Default)]
struct Config {
    chat_template: Option<Templates>,
    bos_token: Option<TokenText>,
    eos_token: Option<TokenText>,
}

/// One template, or several with names.
#[derive(Deserialize)]
#[serde(untagged)]
enum Templates {
    One(String),
    Named(Vec<Named>),
}

#[derive(Deserialize)]
struct Named {
    name: String,
    template: String,
}

#[derive(Deserialize)]
struct JsonFile {
    chat_template: Templates,
}

/// The template in a model's folder: a file of its own goes before the tokenizer's configuration, as
/// in `transformers`. `tokenizer` is called only when there is no template.
pub(crate) fn from_folder(
    folder: &Folder,
    tokenizer: impl FnOnce() -> Result<Arc<Tokenizer>, ModelError>,
) -> Result<ChatTemplate, ModelError> {
    let config: Config = folder.json(CONFIG)?.unwrap_or_default();
    let (name, templates) = if let Some(text) = folder.text(JINJA)? {
        (JINJA, Some(Templates::One(text)))
    } else if let Some(file) = folder.json::<JsonFile>(JSON)? {
        (JSON, Some(file.chat_template))
    } else {
        (CONFIG, config.chat_template)
    };
    let file = folder.file(name);
    let (default, tool_use) = match templates {
        Some(Templates::One(template)) => (template, None),
        Some(Templates::Named(list)) => choose(&file, list)?,
        None if tokenizer()?.token(CHATML_MARK).is_some() => (CHATML.to_owned(), None),
        None => (PLAIN.to_owned(), None),
    };
    ChatTemplate::new(Parts {
        default,
        tool_use,
        bos: config.bos_token.map(TokenText::into_text),
        eos: config.eos_token.map(TokenText::into_text),
        file,
    })
}

/// Of several templates, the usual one and the one for tools.
fn choose(file: &Path, list: Vec<Named>) -> Result<(String, Option<String>), ModelError> {
    let (mut default, mut tool_use) = (None, None);
    for Named { name, template } in list {
        match name.as_str() {
            super::DEFAULT => default = Some(template),
            super::TOOL_USE => tool_use = Some(template),
            _ => {}
        }
    }
    let default = default.ok_or_else(|| {
        let expected = "templates with one named `default` among them";
        ModelError::field(file, "chat_template", expected, "a list without it")
    })?;
    Ok((default, tool_use))
}

/// The template in a GGUF file's metadata.
pub(crate) fn from_gguf(file: &Path, gguf: &Gguf) -> Result<ChatTemplate, ModelError> {
    let text = |key: &str| {
        gguf.metadata
            .get(key)
            .and_then(Value::as_str)
            .map(str::to_owned)
    };
    let tokens = gguf
        .metadata
        .get("tokenizer.ggml.tokens")
        .and_then(Value::as_strings)
        .unwrap_or_default();
    let token = |key: &str| {
        let id = gguf.metadata.get(key).and_then(Value::as_u64)?;
        tokens.get(usize::try_from(id).ok()?).cloned()
    };
    let default = text("tokenizer.chat_template").unwrap_or_else(|| {
        let chatml = tokens.iter().any(|token| token == CHATML_MARK);
        if chatml { CHATML } else { PLAIN }.to_owned()
    });
    ChatTemplate::new(Parts {
        default,
        tool_use: text("tokenizer.chat_template.tool_use"),
        bos: token("tokenizer.ggml.bos_token_id"),
        eos: token("tokenizer.ggml.eos_token_id"),
        file: file.to_owned(),
    })
}

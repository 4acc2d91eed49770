//! `/v1/chat/token/encode`: the prompt of a conversation, and its tokens.

use super::error::ApiError;
use super::fields::{Fields, body};
use super::http::Reply;
use super::openai::{messages, tools};
use super::serve::refusal;
use crate::app::App;
use crate::ask::{Ask, Input};
use serde_json::json;

pub(super) fn handle(app: &App, bytes: &[u8]) -> Result<Reply, ApiError> {
    let object = body(bytes)?;
    let fields = Fields::new(&object);
    let ask = Ask {
        model: fields.text("model")?,
        input: Input::Chat {
            messages: messages(&fields)?,
            tools: tools(&fields)?,
        },
        ..Ask::default()
    };
    let (prompt, tokens) = app
        .encode(&ask)
        .map_err(|error| refusal(&error, "messages"))?;
    let value = json!({
        "length": prompt.chars().count(),
        "num_tokens": tokens.len(),
        "encoded_tokens": tokens,
        "encoded_prompt": prompt,
    });
    Ok(Reply::json(200, &value))
}

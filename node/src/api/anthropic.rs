//! `/v1/messages`, as Anthropic's API has it.

mod reply;
mod request;

use super::error::ApiError;
use super::http::{Reply, Request, Responder};
use super::serve::{refusal, serve};
use crate::app::App;
use serde_json::{Value, json};

/// Answers one request.
pub(super) fn handle(app: &App, request: &Request, responder: Responder) {
    let wish = request::parse(&request.body);
    serve(app, request, responder, wish, refuse);
}

/// How many tokens a question has.
pub(super) fn count(app: &App, bytes: &[u8]) -> Result<Reply, ApiError> {
    let ask = request::parse_question(bytes)?;
    let counted = app.encode(&ask);
    let (_, tokens) = counted.map_err(|error| refusal(&error, "messages"))?;
    Ok(Reply::json(200, &json!({"input_tokens": tokens.len()})))
}

fn error(error: &ApiError) -> Value {
    let kind = match error.status {
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        503 => "overloaded_error",
        504 => "timeout_error",
        400..500 => "invalid_request_error",
        _ => "api_error",
    };
    json!({"type": "error", "error": {"type": kind, "message": error.message}})
}

/// An error in this API's words.
pub(super) fn refuse(refused: &ApiError) -> Reply {
    refused.reply_with(&error(refused))
}

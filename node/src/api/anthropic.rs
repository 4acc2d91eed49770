//! `/v1/messages`, as Anthropic's API has it.

mod reply;
mod request;

use super::error::ApiError;
use super::http::{Reply, Request, Responder};
use super::serve::serve;
use crate::app::App;
use serde_json::{Value, json};

/// Answers one request.
pub(super) fn handle(app: &App, request: &Request, responder: Responder) {
    let wish = request::parse(&request.body);
    serve(app, request, responder, wish, refuse);
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

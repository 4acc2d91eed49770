//! `/api/chat`, `/api/generate`, and `/api/tags`, as Ollama's API has them.

mod reply;
mod request;

use super::error::ApiError;
use super::http::{Reply, Request, Responder};
use super::serve::serve;
use crate::app::App;
use serde_json::{Value, json};

pub(super) use request::Kind;

/// Answers one request.
pub(super) fn handle(app: &App, request: &Request, responder: Responder, kind: Kind) {
    let wish = request::parse(&request.body, kind);
    serve(app, request, responder, wish, refuse);
}

/// The models that can be served.
pub(super) fn tags(app: &App) -> Value {
    let models = app.library().list();
    let models = models.iter().map(|model| {
        json!({
            "name": model.id,
            "model": model.id,
            "size": model.bytes,
            "details": {},
        })
    });
    json!({"models": models.collect::<Vec<_>>()})
}

/// An error in this API's words.
pub(super) fn refuse(error: &ApiError) -> Reply {
    error.reply_with(&json!({"error": error.message}))
}

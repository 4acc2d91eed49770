//! `/api/chat`, `/api/generate`, and `/api/tags`, as Ollama's API has them.

mod reply;
mod request;

use super::error::ApiError;
use super::http::{Reply, Request, Responder};
use super::serve::serve;
use crate::app::App;
use crate::library::Listed;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::time::UNIX_EPOCH;

pub(super) use reply::rfc3339;
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
        let modified = modified(model);
        let mut value = json!({
            "name": model.id,
            "model": model.id,
            "size": model.bytes,
            "digest": digest(model),
            "details": {},
        });
        if let Some(modified) = modified {
            value["modified_at"] = json!(rfc3339(modified));
        }
        value
    });
    json!({"models": models.collect::<Vec<_>>()})
}

/// When a model's file or folder was changed last, in seconds since 1970.
fn modified(model: &Listed) -> Option<u64> {
    let modified = model.path.as_ref()?.metadata().ok()?.modified().ok()?;
    Some(modified.duration_since(UNIX_EPOCH).ok()?.as_secs())
}

/// Ollama's programs take twelve letters of it for an id, without looking how many there are. It is
/// another one when the model is, but no hash of its files, which may be gigabytes.
pub(super) fn digest(model: &Listed) -> String {
    let (id, bytes) = (&model.id, model.bytes);
    let known = format!("{id}\n{bytes}\n{}", modified(model).unwrap_or_default());
    Sha256::digest(known.as_bytes())
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// An error in this API's words.
pub(super) fn refuse(error: &ApiError) -> Reply {
    error.reply_with(&json!({"error": error.message}))
}

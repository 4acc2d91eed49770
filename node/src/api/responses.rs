//! `/v1/responses`, as far as it needs no memory: every request brings its whole conversation.

mod items;
mod reply;
mod request;

use super::error::ApiError;
use super::http::{Request, Responder};
use super::serve::serve;
use crate::app::App;

/// Answers one request.
pub(super) fn handle(app: &App, request: &Request, responder: Responder) {
    let wish = request::parse(&request.body, app.answering().default_temp);
    serve(app, request, responder, wish, ApiError::to_reply);
}

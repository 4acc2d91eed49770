//! `/v1/chat/completions`.

use super::error::ApiError;
use super::http::{Request, Responder};
use super::openai::{ChatReply, ChatRequest};
use super::serve::{Wish, serve};
use crate::app::App;

/// Answers one chat request.
pub(super) fn handle(app: &App, request: &Request, responder: Responder) {
    let wish = ChatRequest::parse(&request.body).map(|chat| Wish {
        dialect: ChatReply::new(chat.include_usage, chat.tier, chat.ask.scores.is_some()),
        ask: chat.ask,
        stream: chat.stream,
    });
    serve(app, request, responder, wish, ApiError::to_reply);
}

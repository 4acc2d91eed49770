//! OpenAI's chat completions: requests and replies.

mod messages;
mod reply;
mod request;

pub(super) use reply::ChatReply;
pub(super) use request::ChatRequest;

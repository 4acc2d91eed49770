//! OpenAI's chat completions: requests and replies.

mod messages;
mod reply;
mod request;
mod tools;

pub(super) use messages::messages;

pub(super) use reply::{ChatReply, FINGERPRINT, last_events, logprob, scored};
pub(super) use request::{
    ChatRequest, STOPS, caching, choices, include_usage, json_schema, likeliest, metadata, shaping,
};
pub(super) use tools::tools;

//! OpenAI's shapes: chat requests in, completions and chunks out.

mod reply;
mod request;

pub use reply::{Envelope, Usage};
pub use request::{ChatRequest, Message};

//! What goes wrong for a client, in OpenAI's words.

use super::http::Reply;
use serde_json::{Value, json};
use std::time::Duration;

/// An error as a client sees it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// The HTTP status.
    pub status: u16,
    /// One line for people.
    pub message: String,
    /// The field of the request that is to blame.
    pub param: Option<String>,
    /// The kind of error, for programs.
    pub code: Option<&'static str>,
    /// Seconds after which to ask again, where that is known.
    pub retry: Option<u64>,
}

impl ApiError {
    /// An error of the server or the ring.
    #[must_use]
    pub fn new(status: u16, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
            param: None,
            code: Some(code),
            retry: None,
        }
    }

    /// A mistake in the request's field `param`.
    #[must_use]
    pub fn field(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            status: 400,
            message: message.into(),
            param: Some(param.into()),
            code: None,
            retry: None,
        }
    }

    /// Something that the request's field `param` asks for and that is not to be had here.
    #[must_use]
    pub fn unsupported(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            code: Some("unsupported_parameter"),
            ..Self::field(param, message)
        }
    }

    /// With the field that is to blame.
    #[must_use]
    pub fn with_param(mut self, param: &str) -> Self {
        self.param = Some(param.to_owned());
        self
    }

    /// With the time after which it is worth while to ask again.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry = Some(wait.as_secs().max(1));
        self
    }

    /// The error object, also sent inside a stream.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let kind = if self.status < 500 {
            "invalid_request_error"
        } else {
            "server_error"
        };
        json!({"error": {
            "message": self.message,
            "type": kind,
            "param": self.param,
            "code": self.code,
        }})
    }

    /// The whole reply.
    #[must_use]
    pub fn to_reply(&self) -> Reply {
        self.reply_with(&self.to_json())
    }

    /// The whole reply, with a body in the words of another API.
    #[must_use]
    pub(super) fn reply_with(&self, body: &Value) -> Reply {
        let reply = Reply::json(self.status, body);
        if matches!(self.status, 429 | 503) {
            reply.with_header("Retry-After", self.retry.unwrap_or(1).to_string())
        } else {
            reply
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_have_openais_shape() {
        assert_eq!(
            ApiError::field("temperature", "too hot")
                .to_json()
                .to_string(),
            r#"{"error":{"message":"too hot","type":"invalid_request_error","param":"temperature","code":null}}"#
        );
        assert_eq!(
            ApiError::new(502, "peer_lost", "gone")
                .to_json()
                .to_string(),
            r#"{"error":{"message":"gone","type":"server_error","param":null,"code":"peer_lost"}}"#
        );
    }
}

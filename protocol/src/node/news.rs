//! What nodes tell each other of a request: its tokens, its end, its failure.

use super::Node;
use super::output::Failure;
use crate::id::{NodeId, RequestId};
use crate::json::Json;
use crate::wire::{Message, SendResult};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

/// The `type` of a status document about a request between our own nodes. The reference looks at
/// the types it knows and passes over this one.
const STATUS_TYPE: &str = "exo_request";

/// What a status document says of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// A stage could not go on.
    Failed,
    /// The origin wants no more.
    Cancelled,
}

impl News {
    const fn name(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

impl Node {
    /// Tokens, or the end.
    pub(super) fn result_came(&mut self, result: &SendResult) {
        let Some(id) = result.request_id.as_deref().map(RequestId::from) else {
            return;
        };
        let Some(request) = self.requests.get(&id) else {
            return;
        };
        if request.application.is_none() {
            if result.is_finished {
                self.end(&id);
            }
            return;
        }
        let count = result.result.len();
        for (index, &token) in result.result.iter().enumerate() {
            let Ok(token) = u32::try_from(token) else {
                self.fail_here(&id, format!("{token} came where a token id belongs"));
                return;
            };
            self.token(&id, token, result.is_finished && index + 1 == count);
        }
        if count == 0 && result.is_finished {
            self.fail_here(&id, String::from("the ring stopped without saying why"));
        }
    }

    /// A status document: only those about requests, from our own nodes, concern this one.
    pub(super) fn status_came(&mut self, request: Option<&str>, status: &str) {
        let Some(id) = request.map(RequestId::from) else {
            return;
        };
        let Some(known) = self.requests.get(&id) else {
            return;
        };
        let depth = usize::try_from(self.config.decode.json_depth).unwrap_or(usize::MAX);
        let Ok(document) = Json::parse(status.as_bytes(), depth) else {
            return;
        };
        let text = |key| document.get(key).and_then(Json::as_str);
        if text("type") != Some(STATUS_TYPE) {
            return;
        }
        let is_origin = known.application.is_some();
        match text("event") {
            Some(event) if event == News::Failed.name() && is_origin => {
                let node = NodeId::from(text("node_id").unwrap_or("?"));
                let message = String::from(text("reason").unwrap_or("it did not say why"));
                self.fail(&id, Failure::Stage { node, message });
            }
            Some(event) if event == News::Cancelled.name() && !is_origin => self.end(&id),
            Some(event) if event == News::Failed.name() => self.end(&id),
            _ => {}
        }
    }

    /// A status document about a request.
    pub(super) fn news(&self, id: &RequestId, news: News, failure: &Failure) -> Message {
        // The stage that failed is named beside its words, not in them.
        let reason = match failure {
            Failure::Stage { node, message } if *node == self.config.node => message.clone(),
            other => other.to_string(),
        };
        let field = |key: &str, value: &str| (String::from(key), Json::String(value.into()));
        let document = Json::Object(vec![
            field("type", STATUS_TYPE),
            field("node_id", &self.config.node),
            field("event", news.name()),
            field("reason", &reason),
        ]);
        let mut status = Vec::new();
        document.write(&mut status);
        Message::SendOpaqueStatus {
            request_id: Some(id.as_str().into()),
            status: String::from_utf8_lossy(&status).into_owned(),
        }
    }
}

/// New tokens of a request, or its end.
pub(super) fn result(id: &RequestId, tokens: Vec<i64>, is_finished: bool) -> Message {
    Message::SendResult(SendResult {
        request_id: Some(id.as_str().into()),
        result: tokens,
        is_finished,
        tensor: None,
    })
}

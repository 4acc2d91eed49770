//! Responses, whole and as events.

use crate::answer::TokenScore;
use crate::api::dialect::{Call, Dialect, Ending, Info, Part, Usage, Whole};
use crate::api::error::ApiError;
use crate::api::openai::scored;
use crate::random;
use exo_protocol::FinishReason;
use serde_json::{Value, json};
use std::time::{SystemTime, UNIX_EPOCH};

/// How responses are written: text and calls are items one after the other, and every event has a
/// number.
pub(in crate::api) struct ResponseReply {
    id: String,
    /// What the request asked for, which every response repeats.
    settings: Value,
    /// Whether scores are told.
    scored: bool,
    created: u64,
    model: String,
    events: u64,
    /// The message that is being written.
    message: Option<Message>,
    /// The items that are complete.
    items: Vec<Value>,
    /// Scores that wait for their text.
    scores: Vec<Value>,
    reason: FinishReason,
}

/// A message on its way.
struct Message {
    id: String,
    text: String,
    scores: Vec<Value>,
}

impl ResponseReply {
    /// A response with an id of its own.
    pub(super) fn new(settings: Value, scored: bool) -> Self {
        Self {
            id: format!("resp_{}", random::uuid()),
            settings,
            scored,
            created: 0,
            model: String::new(),
            events: 0,
            message: None,
            items: Vec::new(),
            scores: Vec::new(),
            reason: FinishReason::Stop,
        }
    }

    fn begun(&mut self, info: &Info) {
        self.created = info.created;
        self.model.clone_from(&info.model);
    }

    /// The whole object; without `usage` it is not complete.
    fn response(&self, status: &str, usage: Option<Usage>, error: Option<&ApiError>) -> Value {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let completed = (status == "completed").then(|| now.unwrap_or_default().as_secs());
        let reason = (status == "incomplete").then(|| json!({"reason": "max_output_tokens"}));
        let mut value = json!({
            "id": self.id,
            "object": "response",
            "created_at": self.created,
            "completed_at": completed,
            "status": status,
            "incomplete_details": reason,
            "model": self.model,
            "previous_response_id": null,
            "output": self.items,
            "error": error.map(|error| {
                json!({"code": error.code.unwrap_or("server_error"), "message": error.message})
            }),
            "usage": usage.map(|usage| {
                json!({
                    "input_tokens": usage.prompt,
                    "input_tokens_details": {"cached_tokens": 0},
                    "output_tokens": usage.completion,
                    "output_tokens_details": {"reasoning_tokens": 0},
                    "total_tokens": usage.prompt.saturating_add(usage.completion),
                })
            }),
        });
        if let (Value::Object(all), Value::Object(settings)) = (&mut value, &self.settings) {
            all.extend(settings.clone());
        }
        value
    }

    /// An event, which bears its type twice.
    fn event(&mut self, kind: &str, mut value: Value) -> String {
        value["type"] = json!(kind);
        value["sequence_number"] = json!(self.events);
        self.events += 1;
        format!("event: {kind}\ndata: {value}\n\n")
    }

    fn status(&self) -> &'static str {
        match self.reason {
            FinishReason::Stop => "completed",
            FinishReason::Length => "incomplete",
        }
    }

    /// Begins a message, unless one is being written.
    fn open(&mut self) -> String {
        if self.message.is_some() {
            return String::new();
        }
        let id = format!("msg_{}", random::uuid());
        let index = self.items.len();
        let item = json!({
            "id": id, "type": "message", "status": "in_progress", "role": "assistant",
            "content": [],
        });
        let out = self.event(
            "response.output_item.added",
            json!({"output_index": index, "item": item}),
        );
        let part = json!({
            "item_id": id, "output_index": index, "content_index": 0, "part": text_part("", &[]),
        });
        self.message = Some(Message {
            id,
            text: String::new(),
            scores: Vec::new(),
        });
        out + &self.event("response.content_part.added", part)
    }

    /// Ends the message that is being written, if one is.
    fn close(&mut self, status: &str) -> String {
        let Some(message) = self.message.take() else {
            return String::new();
        };
        let index = self.items.len();
        let place = json!({"item_id": message.id, "output_index": index, "content_index": 0});
        let mut done = place.clone();
        done["text"] = json!(message.text);
        done["logprobs"] = json!(message.scores);
        let mut out = self.event("response.output_text.done", done);
        let part = text_part(&message.text, &message.scores);
        let mut done = place;
        done["part"] = part.clone();
        out += &self.event("response.content_part.done", done);
        let item = json!({
            "id": message.id, "type": "message", "status": status, "role": "assistant",
            "content": [part],
        });
        self.items.push(item.clone());
        let done = json!({"output_index": index, "item": item});
        out + &self.event("response.output_item.done", done)
    }

    fn call(&mut self, call: &Call) -> String {
        let mut out = self.close("completed");
        let index = self.items.len();
        let item = function_call(call);
        let mut begun = item.clone();
        begun["arguments"] = json!("");
        begun["status"] = json!("in_progress");
        let added = json!({"output_index": index, "item": begun});
        out += &self.event("response.output_item.added", added);
        let place = json!({"item_id": item["id"], "output_index": index});
        let mut delta = place.clone();
        delta["delta"] = json!(call.arguments);
        out += &self.event("response.function_call_arguments.delta", delta);
        let mut done = place;
        done["arguments"] = json!(call.arguments);
        done["name"] = json!(call.name);
        out += &self.event("response.function_call_arguments.done", done);
        self.items.push(item.clone());
        let done = json!({"output_index": index, "item": item});
        out + &self.event("response.output_item.done", done)
    }
}

fn text_part(text: &str, scores: &[Value]) -> Value {
    json!({"type": "output_text", "text": text, "annotations": [], "logprobs": scores})
}

fn function_call(call: &Call) -> Value {
    json!({
        "id": format!("fc_{}", random::uuid()),
        "type": "function_call",
        "status": "completed",
        "call_id": call.id,
        "name": call.name,
        "arguments": call.arguments,
    })
}

impl Dialect for ResponseReply {
    fn asked_in(&self) -> &'static str {
        "input"
    }

    fn begin(&mut self, info: &Info) -> String {
        self.begun(info);
        let response = json!({"response": self.response("in_progress", None, None)});
        let created = self.event("response.created", response.clone());
        created + &self.event("response.in_progress", response)
    }

    fn scores(&mut self, _: usize, scores: &[TokenScore]) {
        self.scores.extend(scores.iter().map(scored));
    }

    fn part(&mut self, _: &Info, _: usize, part: &Part) -> String {
        let text = match part {
            Part::Text(text) => text,
            Part::Call(call) => return self.call(call),
        };
        let out = self.open();
        let scores = std::mem::take(&mut self.scores);
        let index = self.items.len();
        let Some(message) = &mut self.message else {
            return out;
        };
        message.text.push_str(text);
        message.scores.extend(scores.iter().cloned());
        let delta = json!({
            "item_id": message.id, "output_index": index, "content_index": 0, "delta": text,
            "logprobs": scores,
        });
        out + &self.event("response.output_text.delta", delta)
    }

    fn finish(&mut self, _: &Info, _: usize, ending: &Ending) -> String {
        self.reason = ending.reason;
        let mut out = String::new();
        if self.items.is_empty() {
            out = self.open();
        }
        out + &self.close(self.status())
    }

    fn end(&mut self, _: &Info, usage: Usage) -> String {
        let status = self.status();
        let response = json!({"response": self.response(status, Some(usage), None)});
        self.event(&format!("response.{status}"), response)
    }

    fn fail(&mut self, error: &ApiError) -> String {
        let response = json!({"response": self.response("failed", None, Some(error))});
        self.event("response.failed", response)
    }

    fn whole(&mut self, info: &Info, choices: &[Whole], usage: Usage) -> Value {
        self.begun(info);
        let Some(whole) = choices.first() else {
            return Value::Null;
        };
        self.reason = whole.ending.reason;
        if !whole.text.is_empty() || whole.calls.is_empty() {
            let scores: Vec<Value> = match self.scored {
                true => whole.scores.iter().map(scored).collect(),
                false => Vec::new(),
            };
            self.items.push(json!({
                "id": format!("msg_{}", random::uuid()),
                "type": "message",
                "status": self.status(),
                "role": "assistant",
                "content": [text_part(&whole.text, &scores)],
            }));
        }
        self.items.extend(whole.calls.iter().map(function_call));
        self.response(self.status(), Some(usage), None)
    }
}

#[cfg(test)]
mod tests;

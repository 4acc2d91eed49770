//! Messages, whole and as events.

use crate::api::dialect::{Call, Dialect, Ending, Info, Part, Usage, Whole};
use crate::api::error::ApiError;
use crate::api::http::Reply;
use crate::random;
use exo_protocol::FinishReason;
use serde_json::{Value, json};

/// How messages are written: text and calls are blocks one after the other.
pub(in crate::api) struct MessageReply {
    id: String,
    /// The number of the next block.
    next: usize,
    /// A block of text is open.
    text: bool,
    tokens: u32,
}

impl MessageReply {
    pub(super) fn new() -> Self {
        Self {
            id: format!("msg_{}", random::uuid()),
            next: 0,
            text: false,
            tokens: 0,
        }
    }

    fn message(&self, info: &Info, content: Value, ending: Option<&Ending>) -> Value {
        json!({
            "id": self.id,
            "type": "message",
            "role": "assistant",
            "model": info.model,
            "content": content,
            "stop_reason": ending.map(reason),
            "stop_sequence": ending.and_then(|ending| ending.stop.as_deref()),
            "stop_details": null,
            "container": null,
            // Clients that were generated from the specification want every key.
            "usage": {
                "input_tokens": info.prompt_tokens,
                "output_tokens": ending.map_or(0, |ending| ending.tokens),
                "cache_creation": null,
                "cache_creation_input_tokens": null,
                "cache_read_input_tokens": null,
                "inference_geo": null,
                "output_tokens_details": null,
                "server_tool_use": null,
                "service_tier": "standard",
            },
        })
    }

    fn open(&mut self, block: Value) -> String {
        let index = self.next;
        event(json!({"type": "content_block_start", "index": index, "content_block": block}))
    }

    fn delta(&self, delta: Value) -> String {
        event(json!({"type": "content_block_delta", "index": self.next, "delta": delta}))
    }

    fn close(&mut self) -> String {
        let index = self.next;
        self.next += 1;
        event(json!({"type": "content_block_stop", "index": index}))
    }

    fn close_text(&mut self) -> String {
        match std::mem::take(&mut self.text) {
            true => self.close(),
            false => String::new(),
        }
    }
}

/// An event bears its type twice.
fn event(value: Value) -> String {
    let kind = value["type"].as_str().unwrap_or_default();
    format!("event: {kind}\ndata: {value}\n\n")
}

fn reason(ending: &Ending) -> &'static str {
    match ending.reason {
        FinishReason::Length => "max_tokens",
        FinishReason::Stop if ending.called => "tool_use",
        FinishReason::Stop if ending.stop.is_some() => "stop_sequence",
        FinishReason::Stop => "end_turn",
    }
}

fn tool_use(call: &Call, input: Value) -> Value {
    json!({
        "type": "tool_use",
        "id": call.id,
        "name": call.name,
        "input": input,
        "caller": {"type": "direct"},
    })
}

impl Dialect for MessageReply {
    fn keep_alive(&self) -> &'static str {
        "event: ping\ndata: {\"type\":\"ping\"}\n\n"
    }

    fn begin(&mut self, info: &Info) -> String {
        let message = self.message(info, json!([]), None);
        event(json!({"type": "message_start", "message": message}))
    }

    fn part(&mut self, _: &Info, _: usize, part: &Part) -> String {
        match part {
            Part::Text(text) => {
                let mut out = String::new();
                if !self.text {
                    self.text = true;
                    out = self.open(json!({"type": "text", "text": "", "citations": null}));
                }
                out + &self.delta(json!({"type": "text_delta", "text": text}))
            }
            Part::Call(call) => {
                let mut out = self.close_text() + &self.open(tool_use(call, json!({})));
                out += &self
                    .delta(json!({"type": "input_json_delta", "partial_json": call.arguments}));
                out + &self.close()
            }
        }
    }

    fn finish(&mut self, _: &Info, _: usize, ending: &Ending) -> String {
        self.tokens = ending.tokens;
        let delta = json!({"stop_reason": reason(ending), "stop_sequence": ending.stop});
        let usage = json!({"output_tokens": ending.tokens});
        self.close_text() + &event(json!({"type": "message_delta", "delta": delta, "usage": usage}))
    }

    fn end(&mut self, _: &Info, _: Usage) -> String {
        event(json!({"type": "message_stop"}))
    }

    fn fail(&mut self, error: &ApiError) -> String {
        event(super::error(error))
    }

    fn whole(&mut self, info: &Info, choices: &[Whole], _: Usage) -> Value {
        let Some(whole) = choices.first() else {
            return Value::Null;
        };
        let mut content = Vec::new();
        if !whole.text.is_empty() || whole.calls.is_empty() {
            content.push(json!({"type": "text", "text": whole.text, "citations": null}));
        }
        content.extend(whole.calls.iter().map(|call| {
            let input = serde_json::from_str(&call.arguments).unwrap_or_else(|_| json!({}));
            tool_use(call, input)
        }));
        self.message(info, Value::Array(content), Some(&whole.ending))
    }

    fn refuse(&self, error: &ApiError) -> Reply {
        super::refuse(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info() -> Info {
        Info {
            created: 7,
            model: "m".into(),
            choices: 1,
            echo: String::new(),
            prompt_tokens: 3,
        }
    }

    fn ending() -> Ending {
        Ending {
            reason: FinishReason::Stop,
            tokens: 2,
            stop: None,
            called: true,
        }
    }

    fn call() -> Call {
        Call {
            index: 0,
            id: "t".into(),
            name: "add".into(),
            arguments: r#"{"a":1}"#.into(),
        }
    }

    #[test]
    fn a_stream_is_blocks_one_after_the_other() {
        let mut reply = MessageReply::new();
        let mut out = reply.begin(&info());
        for part in [
            Part::Text("a".into()),
            Part::Text("b".into()),
            Part::Call(call()),
        ] {
            out += &reply.part(&info(), 0, &part);
        }
        out += &reply.finish(&info(), 0, &ending());
        out += &reply.end(&info(), Usage::default());
        let kinds: Vec<&str> = out
            .split("\n\n")
            .filter_map(|event| event.strip_prefix("event: ")?.split('\n').next())
            .collect();
        assert_eq!(
            kinds,
            [
                "message_start",
                "content_block_start",
                "content_block_delta",
                "content_block_delta",
                "content_block_stop",
                "content_block_start",
                "content_block_delta",
                "content_block_stop",
                "message_delta",
                "message_stop",
            ]
        );
        assert!(out.contains(r#""stop_reason":"tool_use""#), "{out}");
        assert!(out.contains(r#""index":1,"content_block":{"type":"tool_use""#));
    }

    #[test]
    fn a_whole_message_has_its_blocks() {
        let whole = Whole {
            text: "a".into(),
            calls: vec![call()],
            ending: ending(),
            scores: vec![],
        };
        let value = MessageReply::new().whole(&info(), &[whole], Usage::default());
        let tool = tool_use(&call(), json!({"a": 1}));
        let blocks = json!([{"type": "text", "text": "a", "citations": null}, tool]);
        assert_eq!(value["content"], blocks);
        let usage = &value["usage"];
        assert_eq!(
            (&usage["input_tokens"], &usage["output_tokens"]),
            (&json!(3), &json!(2))
        );
        assert_eq!(value["stop_reason"], "tool_use");
    }
}

//! Completions and chunks.

use crate::random;
use serde_json::{Value, json};
use std::time::{SystemTime, UNIX_EPOCH};

/// How many tokens an answer took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt: usize,
    /// Tokens generated.
    pub completion: usize,
}

impl Usage {
    fn to_json(self) -> Value {
        json!({
            "prompt_tokens": self.prompt,
            "completion_tokens": self.completion,
            "total_tokens": self.prompt.saturating_add(self.completion),
        })
    }
}

/// What all parts of one answer have in common.
#[derive(Clone, Debug)]
pub struct Envelope {
    id: String,
    created: u64,
    model: String,
}

impl Envelope {
    /// An answer of `model` that begins at this moment.
    #[must_use]
    pub fn new(model: String) -> Self {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Self {
            id: format!("chatcmpl-{}", random::uuid()),
            created: since.as_secs(),
            model,
        }
    }

    /// The whole answer.
    #[must_use]
    pub fn completion(&self, content: &str, finish_reason: &str, usage: Usage) -> Value {
        let choice = json!({
            "index": 0,
            "message": {"role": "assistant", "content": content},
            "logprobs": null,
            "finish_reason": finish_reason,
        });
        let mut value = self.wrap("chat.completion", json!([choice]));
        value["usage"] = usage.to_json();
        value
    }

    /// The first chunk: who speaks.
    #[must_use]
    pub fn role_chunk(&self) -> Value {
        self.chunk(json!({"role": "assistant", "content": ""}), None)
    }

    /// Some more text.
    #[must_use]
    pub fn text_chunk(&self, text: &str) -> Value {
        self.chunk(json!({"content": text}), None)
    }

    /// The last chunk: why the answer ended.
    #[must_use]
    pub fn finish_chunk(&self, finish_reason: &str) -> Value {
        self.chunk(json!({}), Some(finish_reason))
    }

    /// The chunk after the last one, for who asked for it.
    #[must_use]
    pub fn usage_chunk(&self, usage: Usage) -> Value {
        let mut value = self.wrap("chat.completion.chunk", json!([]));
        value["usage"] = usage.to_json();
        value
    }

    fn chunk(&self, delta: Value, finish_reason: Option<&str>) -> Value {
        let choice =
            json!({"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish_reason});
        self.wrap("chat.completion.chunk", json!([choice]))
    }

    fn wrap(&self, object: &str, choices: Value) -> Value {
        json!({
            "id": self.id,
            "object": object,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": concat!("exo-node_", env!("CARGO_PKG_VERSION")),
            "choices": choices,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_have_openais_shape() {
        let envelope = Envelope {
            id: "chatcmpl-1".into(),
            created: 7,
            model: "m".into(),
        };
        let usage = Usage {
            prompt: 1,
            completion: 10,
        };
        let head = r#"{"id":"chatcmpl-1","object":"chat.completion"#;
        let rest = concat!(
            r#","created":7,"model":"m","system_fingerprint":"exo-node_"#,
            env!("CARGO_PKG_VERSION"),
            r#"","choices":["#
        );
        let told = r#""usage":{"prompt_tokens":1,"completion_tokens":10,"total_tokens":11}}"#;
        assert_eq!(
            envelope.completion("hi", "stop", usage).to_string(),
            format!(
                r#"{head}"{rest}{{"index":0,"message":{{"role":"assistant","content":"hi"}},"logprobs":null,"finish_reason":"stop"}}],{told}"#
            )
        );
        assert_eq!(
            envelope.role_chunk().to_string(),
            format!(
                r#"{head}.chunk"{rest}{{"index":0,"delta":{{"role":"assistant","content":""}},"logprobs":null,"finish_reason":null}}]}}"#
            )
        );
        assert_eq!(
            envelope.text_chunk("a")["choices"][0]["delta"]["content"],
            "a"
        );
        let finish = envelope.finish_chunk("length");
        assert_eq!(finish["choices"][0]["finish_reason"], "length");
        assert_eq!(finish["choices"][0]["delta"], json!({}));
        let last = envelope.usage_chunk(usage).to_string();
        assert_eq!(last, format!(r#"{head}.chunk"{rest}],{told}"#));
    }
}

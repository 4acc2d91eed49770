//! Completions and chunks.

use crate::answer::TokenScore;
use crate::api::dialect::{Call, Dialect, Ending, Info, Part, Usage, Whole, sse};
use crate::api::error::ApiError;
use crate::random;
use serde_json::{Value, json};

/// How chat completions are written.
#[derive(Clone, Debug)]
pub(in crate::api) struct ChatReply {
    id: String,
    include_usage: bool,
    tier: bool,
    /// Whether scores are told, and those of each choice that wait for their text.
    scored: Option<Vec<Vec<TokenScore>>>,
}

/// Which build of which program answered.
pub(in crate::api) const FINGERPRINT: &str = concat!("exo-node_", env!("CARGO_PKG_VERSION"));

impl ChatReply {
    /// A reply with an id of its own. `include_usage`: a last chunk tells the usage. `tier`: the
    /// reply says how it was served.
    #[must_use]
    pub(in crate::api) fn new(include_usage: bool, tier: bool, scored: bool) -> Self {
        Self {
            id: format!("chatcmpl-{}", random::uuid()),
            include_usage,
            tier,
            scored: scored.then(Vec::new),
        }
    }

    /// The scores that wait for some text of a choice.
    fn waiting(&mut self, choice: usize) -> Value {
        let waiting = self.scored.as_mut().and_then(|all| all.get_mut(choice));
        match waiting.map(std::mem::take) {
            Some(scores) if !scores.is_empty() => logprobs(&scores),
            _ => Value::Null,
        }
    }

    fn chunk(&mut self, info: &Info, choice: usize, delta: Value, finish: Option<&str>) -> String {
        let texts = delta.get("content").is_some_and(|text| text != "");
        let scores = match texts || finish.is_some() {
            true => self.waiting(choice),
            false => Value::Null,
        };
        let choice = json!({
            "index": choice, "delta": delta, "logprobs": scores, "finish_reason": finish,
        });
        let mut value = self.wrap(info, "chat.completion.chunk", json!([choice]));
        if self.include_usage {
            value["usage"] = Value::Null;
        }
        sse(&value)
    }

    fn wrap(&self, info: &Info, object: &str, choices: Value) -> Value {
        let mut value = json!({
            "id": self.id,
            "object": object,
            "created": info.created,
            "model": info.model,
            "system_fingerprint": FINGERPRINT,
            "choices": choices,
        });
        if self.tier {
            value["service_tier"] = json!("default");
        }
        value
    }
}

impl Dialect for ChatReply {
    /// Who speaks.
    fn begin(&mut self, info: &Info) -> String {
        let role = json!({"role": "assistant", "content": "", "refusal": null});
        (0..info.choices)
            .map(|choice| self.chunk(info, choice, role.clone(), None))
            .collect()
    }

    fn scores(&mut self, choice: usize, scores: &[TokenScore]) {
        if let Some(all) = &mut self.scored {
            if all.len() <= choice {
                all.resize(choice + 1, Vec::new());
            }
            if let Some(waiting) = all.get_mut(choice) {
                waiting.extend_from_slice(scores);
            }
        }
    }

    fn part(&mut self, info: &Info, choice: usize, part: &Part) -> String {
        match part {
            Part::Text(text) => self.chunk(info, choice, json!({"content": text}), None),
            Part::Call(call) => {
                let mut value = call.to_json();
                value["index"] = json!(call.index);
                self.chunk(info, choice, json!({"tool_calls": [value]}), None)
            }
        }
    }

    fn finish(&mut self, info: &Info, choice: usize, ending: &Ending) -> String {
        self.chunk(info, choice, json!({}), Some(ending.word()))
    }

    fn end(&mut self, info: &Info, usage: Usage) -> String {
        let wrap = || self.wrap(info, "chat.completion.chunk", json!([]));
        last_events(self.include_usage.then(wrap), usage)
    }

    fn fail(&mut self, error: &ApiError) -> String {
        sse(&error.to_json())
    }

    fn whole(&mut self, info: &Info, choices: &[Whole], usage: Usage) -> Value {
        let choice = |(index, whole): (usize, &Whole)| {
            let mut message = json!({
                "role": "assistant",
                "content": whole.text,
                "refusal": null,
                "annotations": [],
            });
            if !whole.calls.is_empty() {
                if whole.text.is_empty() {
                    message["content"] = Value::Null;
                }
                message["tool_calls"] = whole.calls.iter().map(Call::to_json).collect();
            }
            json!({
                "index": index,
                "message": message,
                "logprobs": match self.scored {
                    Some(_) => logprobs(&whole.scores),
                    None => Value::Null,
                },
                "finish_reason": whole.ending.word(),
            })
        };
        let choices = choices.iter().enumerate().map(choice).collect();
        let mut value = self.wrap(info, "chat.completion", choices);
        value["usage"] = usage.to_json();
        value
    }
}

/// OpenAI's shape of scores.
fn logprobs(scores: &[TokenScore]) -> Value {
    json!({"content": scores.iter().map(scored).collect::<Vec<_>>(), "refusal": null})
}

/// OpenAI's shape of a token's scores.
pub(in crate::api) fn scored(token: &TokenScore) -> Value {
    let alone = |token: &TokenScore| {
        json!({
            "token": token.text, "logprob": logprob(token.score), "bytes": token.bytes,
        })
    };
    let mut value = alone(token);
    value["top_logprobs"] = token.likeliest.iter().map(alone).collect();
    value
}

/// What is as good as impossible has a number too.
pub(in crate::api) fn logprob(score: f32) -> f32 {
    score.max(-9999.0)
}

/// The last events of a stream: what it took, if `chunk` is there to say it, and the end.
pub(in crate::api) fn last_events(chunk: Option<Value>, usage: Usage) -> String {
    let mut out = String::new();
    if let Some(mut value) = chunk {
        value["usage"] = usage.to_json();
        out = sse(&value);
    }
    out + "data: [DONE]\n\n"
}

#[cfg(test)]
mod tests;

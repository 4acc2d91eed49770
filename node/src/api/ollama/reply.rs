//! Answers: one JSON object for each line.

use super::Kind;
use crate::api::dialect::{Call, Dialect, Ending, Info, Part, Usage, Whole};
use crate::api::error::ApiError;
use crate::api::http::Reply;
use exo_protocol::FinishReason;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// How Ollama's answers are written.
pub(in crate::api) struct OllamaReply {
    kind: Kind,
    begun: Instant,
    reason: &'static str,
    /// Nothing was asked but that the model is there.
    load: bool,
    /// Until the first token, and in all.
    took: Option<(Duration, Duration)>,
}

impl OllamaReply {
    pub(super) fn new(kind: Kind) -> Self {
        Self {
            kind,
            begun: Instant::now(),
            reason: "stop",
            load: false,
            took: None,
        }
    }

    /// What is told of a model that was only loaded.
    pub(super) fn of_load(kind: Kind) -> Self {
        Self {
            load: true,
            ..Self::new(kind)
        }
    }

    fn object(&self, info: &Info, text: &str, calls: &[Call]) -> Value {
        let mut value = json!({
            "model": info.model,
            "created_at": rfc3339(info.created),
            "done": false,
        });
        match self.kind {
            Kind::Chat => {
                let mut message = json!({"role": "assistant", "content": text});
                if !calls.is_empty() {
                    message["tool_calls"] = calls.iter().map(call).collect();
                }
                value["message"] = message;
            }
            Kind::Generate => value["response"] = json!(text),
        }
        value
    }

    fn done(&self, mut value: Value, usage: Usage) -> Value {
        value["done"] = json!(true);
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let all = self.begun.elapsed();
        value["done_reason"] = json!(if self.load { "load" } else { self.reason });
        value["total_duration"] = json!(nanos(all));
        if self.load {
            value["load_duration"] = json!(nanos(all));
            return value;
        }
        value["prompt_eval_count"] = json!(usage.prompt);
        value["eval_count"] = json!(usage.completion);
        // Clients tell the speed by these.
        if let Some((first, answer)) = self.took {
            value["load_duration"] = json!(nanos(all.saturating_sub(answer)));
            value["prompt_eval_duration"] = json!(nanos(first));
            value["eval_duration"] = json!(nanos(answer.saturating_sub(first)));
        }
        value
    }

    fn remember(&mut self, ending: &Ending) {
        self.reason = match ending.reason {
            FinishReason::Stop => "stop",
            FinishReason::Length => "length",
        };
    }
}

/// Arguments are an object here, and no text.
fn call(call: &Call) -> Value {
    let arguments = serde_json::from_str(&call.arguments).unwrap_or_else(|_| json!({}));
    json!({"function": {"name": call.name, "arguments": arguments}})
}

fn line(value: &Value) -> String {
    format!("{value}\n")
}

impl Dialect for OllamaReply {
    fn content_type(&self) -> &'static str {
        "application/x-ndjson"
    }

    /// An empty line is no object, and many readers would take it for one: silence is allowed.
    fn keep_alive(&self) -> &'static str {
        ""
    }

    fn begin(&mut self, _: &Info) -> String {
        String::new()
    }

    fn part(&mut self, info: &Info, _: usize, part: &Part) -> String {
        if self.load {
            return String::new();
        }
        line(&match part {
            Part::Text(text) => self.object(info, text, &[]),
            Part::Call(call) => self.object(info, "", std::slice::from_ref(call)),
        })
    }

    fn finish(&mut self, _: &Info, _: usize, ending: &Ending) -> String {
        self.remember(ending);
        String::new()
    }

    fn timed(&mut self, first: Option<Duration>, all: Duration) {
        self.took = Some((first.unwrap_or(all), all));
    }

    fn end(&mut self, info: &Info, usage: Usage) -> String {
        line(&self.done(self.object(info, "", &[]), usage))
    }

    fn fail(&mut self, error: &ApiError) -> String {
        line(&json!({"error": error.message}))
    }

    fn whole(&mut self, info: &Info, choices: &[Whole], usage: Usage) -> Value {
        let Some(whole) = choices.first() else {
            return Value::Null;
        };
        if self.load {
            return self.done(self.object(info, "", &[]), usage);
        }
        self.remember(&whole.ending);
        self.done(self.object(info, &whole.text, &whole.calls), usage)
    }

    fn refuse(&self, error: &ApiError) -> Reply {
        super::refuse(error)
    }
}

/// Seconds since 1970 as `2026-11-28T20:00:00Z`.
pub(in crate::api) fn rfc3339(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Civil from days, in eras of 400 years that begin on the first of March.
    let shifted = days + 719_468;
    let (era, day) = (shifted / 146_097, shifted % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let date = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{date:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_dates() {
        for (seconds, date) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_795_896_245, "2026-11-28T20:04:05Z"),
        ] {
            assert_eq!(rfc3339(seconds), date);
        }
    }

    #[test]
    fn lines_have_ollamas_shape() {
        let info = Info {
            created: 0,
            model: "m".into(),
            choices: 1,
            echo: String::new(),
            prompt_tokens: 1,
        };
        let mut reply = OllamaReply::new(Kind::Generate);
        let text = reply.part(&info, 0, &Part::Text("a".into()));
        let head = r#"{"model":"m","created_at":"1970-01-01T00:00:00Z","done":"#;
        assert_eq!(text, format!("{head}false,\"response\":\"a\"}}\n"));
        let usage = Usage {
            prompt: 1,
            completion: 2,
        };
        let end = reply.end(&info, usage);
        assert!(
            end.starts_with(&format!("{head}true,\"response\":\"\"")),
            "{end}"
        );
        assert!(end.contains(r#""done_reason":"stop""#) && end.contains(r#""eval_count":2"#));
    }
}
